"""Networks of FITS cutouts: the stretch of training is part of the weights, and prediction uses it."""

import io

import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits
from PIL import Image
from tests.network.conftest import QUICK

import hubblefork as hf
from hubblefork.data.stamps import open_stamps
from hubblefork.errors import ImageError, RunError
from hubblefork.images.surveys import load_survey
from hubblefork.network.recipe import load_recipe
from hubblefork.network.weights import load_weights

SURVEY = load_survey("legacy")


def cutout(roundness, seed):
    rng, (y, x) = np.random.default_rng(seed), np.mgrid[:64, :64] - 31.5
    light = np.exp(-(x**2 + (y / (0.3 + 0.7 * roundness)) ** 2) / 200)
    units = [
        fits.ImageHDU((light + rng.normal(0, 0.01, light.shape)).astype(np.float32), name=b) for b in "grz"
    ]
    file = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), *units]).writeto(file)
    return file.getvalue()


@pytest.fixture(scope="module")
def cutouts(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("fluxes") / "cutouts", np.random.default_rng(3)
    folder.mkdir()
    roundness = rng.random(60)
    for number, value in enumerate(roundness):
        (folder / f"{number}.fits").write_bytes(cutout(value, number))
    labels = pa.table({"galaxy_id": np.arange(60), "round": roundness})
    pa.csv.write_csv(labels, folder.parent / "labels.csv")
    return folder


@pytest.fixture(scope="module")
def run(cutouts, data, tmp_path_factory):
    start = hf.train(
        data, load_recipe("lab-cnn", QUICK), tmp_path_factory.mktemp("start") / "run", device="cpu"
    )
    out = tmp_path_factory.mktemp("run") / "run"
    settings = ["epochs=2", "patience=5"]
    return hf.finetune(start, cutouts, cutouts.parent / "labels.csv", out, survey="legacy", settings=settings)


def test_the_stretch_of_training_is_part_of_the_weights_and_of_the_onnx_file(run):
    assert load_weights(run.path).display == SURVEY.display
    assert hf.load(run.path).network(runtime="onnxruntime").trained.display == SURVEY.display


def test_prediction_stretches_as_training_did(run, cutouts):
    by_file = hf.predict(run.path, cutouts)
    stamps = open_stamps(run.data.path, load_weights(run.path).recipe.stamps)
    network = hf.load(run.path).network(runtime="onnxruntime")
    expected = network(np.asarray(stamps), 1)[:, 0]
    by_id = dict(zip(np.asarray(by_file["galaxy_id"]).tolist(), by_file["round"], strict=True))
    ids = run.data.catalogue(only=[])["galaxy_id"].to_pylist()
    np.testing.assert_allclose([by_id[number] for number in ids], expected, atol=1e-5)


def test_pictures_and_another_survey_are_refused(run, cutouts, data, tmp_path):
    Image.fromarray(np.full((64, 64, 3), 80, np.uint8)).save(tmp_path / "a.jpg")
    with pytest.raises(ImageError, match=r"a\.jpg: no FITS cutout: somebody has stretched it already"):
        hf.predict(run.path, tmp_path / "a.jpg")
    with pytest.raises(
        ImageError, match=r"its images are read as pictures, and the network was trained on legacy-"
    ):
        hf.predict(run.path, data)
    with pytest.raises(
        RunError, match=r"was trained on legacy-[0-9a-f]{8}, and sdss-[0-9a-f]{8} is asked for"
    ):
        hf.predict(run.path, cutouts, survey="sdss")
