"""The ONNX file gives PyTorch's fractions, for any number of cutouts, and says what it is."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import hubblefork
from hubblefork.data.trained import EMBEDDED
from hubblefork.errors import RunError, StampError
from hubblefork.images.decoder import StampSpec, resample, taps
from hubblefork.images.field import Field
from hubblefork.network import export as room
from hubblefork.network.export import CutoutsToFractions, export, is_exported, write_network
from hubblefork.network.model import VoteFractions
from hubblefork.network.predictor import TorchNetwork
from hubblefork.network.recipe import load_recipe
from hubblefork.network.weights import load_weights, write_weights
from hubblefork.prediction.loop import predictions
from hubblefork.prediction.predictor import Predictor

onnxruntime = pytest.importorskip("onnxruntime")
SIDE = 71
SMALLER = {"fork": ["architecture=encoder:test_efficientnet", "pretrained="], "views": ["width=4"]}


@pytest.fixture(scope="module")
def run(tmp_path_factory, tree):
    """A folder with the weights of a network that was never trained."""
    return untrained(tmp_path_factory.mktemp("export"), tree)


def untrained(folder, tree, *settings):
    recipe = load_recipe("lab-cnn", ["crop=64", "stamp_size=34", "input_size=30", "head=tree", *settings])
    torch.manual_seed(0)
    write_weights(folder, VoteFractions(recipe, tree), recipe, tree, epoch=0)
    return folder


@pytest.fixture(scope="module")
def exported(run):
    out = run / "network.onnx"
    assert export(run, out, side=SIDE) < 1e-5
    return onnxruntime.InferenceSession(out)


def cutouts(galaxies, seed=1):
    return np.random.default_rng(seed).integers(0, 256, (galaxies, SIDE, SIDE, 3)).astype(np.uint8)


@pytest.mark.parametrize("galaxies", [1, 3, 5])
def test_any_number_of_galaxies_obeys_the_tree(exported, tree, galaxies):
    (fractions,) = exported.run(None, {"cutouts": cutouts(galaxies)})
    assert fractions.shape == (galaxies, 37)
    assert np.allclose(fractions[:, tree.slices[0]].sum(axis=1), 1, atol=1e-5)


def test_cutouts_are_resampled_as_stamps_are(run):
    spec = StampSpec(64, 34)
    axis = taps(SIDE, spec.crop, spec.size, 1)
    model = CutoutsToFractions(load_weights(run), SIDE)
    seen = []
    model.network.register_forward_hook(lambda _, views, __: seen.append(views[0]))
    images = cutouts(2)
    model.eval()(torch.from_numpy(images))
    stamps = np.stack([resample(image, axis, axis) for image in images])[:, 2:32, 2:32]
    views = seen[0].permute(0, 2, 3, 1).numpy() * 255
    assert np.abs(views - stamps).max() <= 1
    assert (np.abs(views - stamps) > 0.01).mean() < 1e-3


def test_the_file_says_what_it_is(exported, run, tree):
    said = exported.get_modelmeta().custom_metadata_map
    assert json.loads(said["answers"]) == list(tree.columns)
    assert said["weights_sha256"] == load_weights(run).digest


def test_a_network_that_was_turned_is_shown_what_predict_shows_it(tree, tmp_path):
    run = untrained(tmp_path, tree, "rotation=180.0")
    assert export(run, tmp_path / "turned.onnx", side=SIDE) < 1e-5
    images, axis = cutouts(5), taps(SIDE, 64, 34, 1)
    session = onnxruntime.InferenceSession(tmp_path / "turned.onnx")
    (fractions,) = session.run(None, {"cutouts": images})
    for galaxies in (1, 3):
        (fewer,) = session.run(None, {"cutouts": images[:galaxies]})
        np.testing.assert_allclose(fewer, fractions[:galaxies], atol=1e-6)
    stamps = np.stack([resample(image, axis, axis) for image in images])
    weights = load_weights(run)
    single = replace(weights, recipe=replace(weights.recipe, precision="32"))
    unturned = replace(single, recipe=replace(single.recipe, rotation=0.0))
    near, far = (
        np.abs(fractions - Predictor(TorchNetwork(shown, device="cpu"))(stamps)).max()
        for shown in (single, unturned)
    )
    assert near < min(1e-3, 0.1 * far)


def test_only_an_exported_file_is_replaced(exported, run, tmp_path):
    for name in ("notes.onnx", "weights.safetensors"):
        (tmp_path / name).write_bytes(b"mine")
        with pytest.raises(RunError, match="this file is there"):
            hubblefork.export(run, tmp_path / name, side=SIDE)
        assert (tmp_path / name).read_bytes() == b"mine"
    (tmp_path / "again.onnx").write_bytes((run / "network.onnx").read_bytes())
    assert is_exported(tmp_path / "again.onnx") and not is_exported(tmp_path / "notes.onnx")
    with pytest.raises(StampError):
        hubblefork.export(run, tmp_path / "again.onnx", side=8)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "again.onnx",
        "notes.onnx",
        "weights.safetensors",
    ]


def test_a_file_that_strays_is_not_written(run, monkeypatch):
    monkeypatch.setattr(room, "TOLERANCE", -1)
    before = sorted(run.iterdir())
    with pytest.raises(RunError, match="not written"):
        write_network(run)
    assert sorted(run.iterdir()) == before


def test_cutouts_smaller_than_the_crop_are_refused(run, tmp_path):
    with pytest.raises(StampError, match="50 × 50, the crop is 64 × 64; say with --field"):
        export(run, tmp_path / "small.onnx", side=50)


def test_cutouts_of_another_pixel_scale(tree, tmp_path):
    weights = load_weights(untrained(tmp_path, tree, "precision=32"))
    weights = replace(weights, image_side=80)
    network = TorchNetwork(weights, device="cpu")
    model = CutoutsToFractions(weights, 100, Field(0.9, 80)).eval()
    images = np.random.default_rng(1).integers(0, 256, (3, 100, 100, 3)).astype(np.uint8)
    with torch.inference_mode():
        fractions = model(torch.from_numpy(images)).numpy()
    near, far = (
        np.abs(next(predictions(Predictor(network, field=field), images)).fractions - fractions)
        for field in (0.9, None)
    )
    assert near.max() < 0.1 * far.max()


def test_any_number_of_cutouts_of_a_transformer(tree, tmp_path):
    settings = [
        "architecture=encoder:test_vit",
        "pretrained=",
        "crop=64",
        "stamp_size=64",
        "input_size=64",
    ]
    recipe = load_recipe("resnet50", settings)
    torch.manual_seed(0)
    write_weights(tmp_path, VoteFractions(recipe, tree), recipe, tree, epoch=0)
    assert export(tmp_path, tmp_path / "any.onnx", side=SIDE) < 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "any.onnx")
    assert session.get_inputs()[0].shape == ["galaxy", SIDE, SIDE, 3]
    for galaxies in (1, 2, 7):
        assert session.run(None, {"cutouts": cutouts(galaxies)})[0].shape == (galaxies, 37)


@pytest.mark.parametrize("source", ["embedded", *SMALLER])
def test_any_number_of_cutouts_of_networks_that_turn_galaxies(source, tree, tmp_path):
    run = EMBEDDED if source == "embedded" else smaller_run(tmp_path, tree, source)
    side = load_weights(run).recipe.crop
    assert export(run, tmp_path / "any.onnx", side=side) < 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "any.onnx")
    assert session.get_inputs()[0].shape == ["galaxy", side, side, 3]
    model = CutoutsToFractions(load_weights(run), side).eval()
    images = np.random.default_rng(2).integers(0, 256, (5, side, side, 3)).astype(np.uint8)
    for galaxies in (1, 3, 5):
        (fractions,) = session.run(None, {"cutouts": images[:galaxies]})
        with torch.inference_mode():
            expected = model(torch.from_numpy(images[:galaxies])).numpy()
        np.testing.assert_allclose(fractions, expected, atol=1e-4)


def smaller_run(folder, tree, name):
    recipe = load_recipe(name, ["crop=80", "stamp_size=80", "input_size=76", *SMALLER[name]])
    torch.manual_seed(0)
    write_weights(folder, VoteFractions(recipe, tree), recipe, tree, epoch=0)
    return folder
