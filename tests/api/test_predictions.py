"""Galaxies classified at once: one file, many, folders and archives; what cannot be read is said."""

import io
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.csv
import pytest
from PIL import Image
from tests.network.conftest import blob
from typer.testing import CliRunner

import hubblefork
from hubblefork.api.fractions import calibration_galaxies
from hubblefork.api.galaxy import Galaxy
from hubblefork.api.predictions import classify_all, predict
from hubblefork.cli import app
from hubblefork.data.folders import named_by_views
from hubblefork.data.trained import EMBEDDED
from hubblefork.errors import CatalogueError, ImageError, RunError, UnknownAnswer
from hubblefork.network.weights import load_weights
from hubblefork.stats.conformal import fit_intervals
from hubblefork.stats.estimators import Unavailable
from hubblefork.tables.catalogue import fractions, read_catalogue
from hubblefork.zoo import load_tree, to_joint


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, roundness in ((7, 0.9), (8, 0.1)):
        (folder / f"{number}.jpg").write_bytes(blob(roundness))
    return folder


def test_one_file_is_classified_by_one_call(trained, pictures):
    round_one = hubblefork.classify(pictures / "7.jpg", trained, device="cpu")
    flat_one = hubblefork.classify(str(pictures / "8.jpg"), trained, device="cpu")
    assert round_one.galaxy_id == "7"
    assert round_one["smooth"] > 0.6 > 0.5 > flat_one["smooth"]
    assert round_one["Class1.1"] == round_one["smooth"] == round_one.as_dict()["smooth"]
    assert len(round_one.as_dict()) == 37
    with pytest.raises(UnknownAnswer):
        round_one["smoth"]


def test_a_file_that_is_no_image_is_said(trained, tmp_path):
    (tmp_path / "letter.jpg").write_text("Dear colleague")
    with pytest.raises(ImageError, match=r"letter\.jpg: neither a JPEG nor a PNG"):
        hubblefork.classify(tmp_path / "letter.jpg", trained, device="cpu")
    with pytest.raises(ImageError, match=r"absent\.jpg: there is no such file"):
        hubblefork.classify(tmp_path / "absent.jpg", trained, device="cpu")


def test_files_folders_and_archives_are_classified_as_predict_does(trained, pictures, data, tree, tmp_path):
    found = classify_all([data / "images.zip", pictures / "7.jpg", pictures], trained, views=2, device="cpu")
    assert [galaxy.galaxy_id for galaxy in found.galaxies[:3]] == ["7", "1000", "1001"]
    assert len(found.galaxies) == 1 + 240 + 1 and [name for name, _ in found.rejects] == ["7.jpg"]
    predict(trained, data / "images.zip", out=tmp_path / "p.parquet", views=2, device="cpu")
    values = np.stack([galaxy.fractions for galaxy in found.galaxies[1:241]])
    np.testing.assert_allclose(values, fractions(read_catalogue(tmp_path / "p.parquet"), tree), atol=0.01)


def test_one_bad_file_does_not_stop_the_others(trained, pictures, tmp_path):
    (pictures / "bad.jpg").write_bytes(blob(0.5)[:300])
    result = CliRunner().invoke(
        app, ["classify", str(pictures), "--run", str(trained), "--out", str(tmp_path / "votes.csv")]
    )
    assert result.exit_code == 0
    assert "2 galaxies, 1 files left out, see" in result.output
    assert "bad.jpg" in result.output
    table = pyarrow.csv.read_csv(tmp_path / "votes.csv")
    assert table.column_names == ["GalaxyID", *load_tree().source_columns]
    assert table.column("GalaxyID").to_pylist() == [7, 8]


def test_files_of_one_name_in_two_folders_are_each_left_out_by_name(trained, pictures, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "bad.jpg").write_bytes(b"no image")
    (pictures / "notes.txt").write_text("seen on Tuesday")
    out, sources = tmp_path / "votes.csv", [tmp_path / "a", tmp_path / "b", pictures, pictures / "7.jpg"]
    result = CliRunner().invoke(
        app, ["classify", *map(str, sources), "--run", str(trained), "--views", "2", "--out", str(out)]
    )
    assert "2 galaxies, 4 files left out, see" in result.output
    rejects = pyarrow.csv.read_csv(tmp_path / "votes.csv.rejects.csv").to_pydict()
    assert rejects["member"] == ["bad.jpg", "bad.jpg", "notes.txt", "7.jpg"]
    assert rejects["reason"][3] == "galaxy_id 7 stands more than once; kept is 7.jpg"
    assert pyarrow.csv.read_csv(out).column("GalaxyID").to_pylist() == [7, 8]
    (pictures / "8.jpg").unlink()
    assert hubblefork.classify(pictures, trained, views=2).galaxy_id == "7"


def test_nothing_readable_is_no_success(trained, tmp_path):
    (tmp_path / "bad.jpg").write_text("no image")
    result = CliRunner().invoke(app, ["classify", str(tmp_path / "bad.jpg"), "--run", str(trained)])
    assert result.exit_code == 1
    out = tmp_path / "votes.csv"
    result = CliRunner().invoke(
        app, ["classify", str(tmp_path / "bad.jpg"), "--run", str(trained), "--out", str(out)]
    )
    assert isinstance(result.exception, ImageError) and "none of its 1 images" in str(result.exception)
    assert not out.exists()


def test_nothing_to_classify_is_said(trained, tmp_path):
    (tmp_path / "1.tif").write_bytes(b"SIMPLE  =")
    with pytest.raises(ImageError, match=r"there are no images in it.*1\.tif"):
        hubblefork.classify(tmp_path, trained)
    with pytest.raises(ImageError, match="there are no images in it"):
        classify_all(np.empty((0, 64, 64, 3), np.uint8), trained)


def test_no_call_is_taken_for_another(trained, pictures, tmp_path):
    files = [pictures / "7.jpg", pictures / "8.jpg"]
    pixels = [np.asarray(Image.open(path)) for path in files]
    for images in ((path for path in files), pixels, [path.read_bytes() for path in files], None):
        with pytest.raises(ImageError, match="give a path, a list of paths"):
            hubblefork.predict(trained, images)
    assert all(len(hubblefork.predict(trained, images)) == 2 for images in (np.stack(pixels), {*files}))
    for out in (None, tmp_path / "a.parquet"):
        with pytest.raises(TypeError, match="intervals"):
            hubblefork.predict(trained, files, out=out, intervals=0.9)
        (pictures / "9.jpg").write_bytes(b"")
        with pytest.raises(ImageError, match=r"none of its 1 images could be read.*empty file"):
            hubblefork.predict(trained, pictures / "9.jpg", out=out)
    with pytest.raises(RunError, match=r"views = 2\.0: 1, or an even number"):
        hubblefork.predict(trained, files, views=2.0)
    with pytest.raises(CatalogueError, match=r"no intervals of coverage 0\.9; these have"):
        hubblefork.predict("fork", files, interval="0.9")
    with pytest.raises(RunError, match=r'frok: there are no weights \(did you mean "fork"\?\)'):
        hubblefork.predict("frok", files)
    with pytest.raises(ImageError, match="2 galaxies where one is classified"):
        hubblefork.classify(files, trained, views=1)
    alone, together = (hubblefork.predict(trained, files, others=others) for others in ((), str(trained)))
    assert together.meta["weights"] == f"{alone.meta['weights']} {alone.meta['weights']}"


def test_what_classify_wrote_is_not_written_over_by_another_call(trained, pictures, tmp_path):
    out = tmp_path / "votes.parquet"
    call = ["classify", str(pictures), "--run", str(trained), "--views", "1", "--out", str(out)]
    assert CliRunner().invoke(app, call).exit_code == CliRunner().invoke(app, call).exit_code == 0
    result = CliRunner().invoke(app, [*call, "--views", "2"])
    assert isinstance(result.exception, CatalogueError)
    assert CliRunner().invoke(app, [*call, "--views", "2", "--overwrite"]).exit_code == 0


def test_the_drawing_shows_what_was_asked_and_leaves_out_what_was_not():
    tree = load_tree()
    conditional = np.zeros((1, 37))
    for answers in tree.slices:
        conditional[0, answers.start] = 1
    text = str(Galaxy("x", tree, to_joint(tree, conditional)[0]))
    assert re.search(r"^  smooth +1\.00 █{20}$", text, re.MULTILINE)
    assert "How rounded is it?" in text and "edge-on" not in text
    assert text.count("Is there anything odd?") == 1
    assert "Left out: 7 of 11 questions, asked of fewer than 5%" in text
    assert len(galaxy_lines(text)) == 4 + 4 + 3 + 8


def test_calibrated_runs_give_intervals_for_their_number_of_views(trained, pictures, tmp_path):
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    predicted = np.random.default_rng(0).random((60, 37))
    intervals = fit_intervals(
        load_tree().name,
        load_tree().columns,
        predicted,
        np.clip(predicted + 0.1, 0, 1),
        weights=load_weights(run).digest,
        views=2,
    )
    intervals.write(run / named_by_views("intervals.json", 2))
    galaxy = hubblefork.classify(pictures / "7.jpg", run, views=2, device="cpu")
    low, high = intervals.bounds(galaxy.fractions[None], 0.9)
    np.testing.assert_allclose([galaxy.low, galaxy.high], [low[0], high[0]], atol=1e-6)
    assert f"{galaxy['smooth']:.2f}  {low[0, 0]:.2f}–{high[0, 0]:.2f}" in str(galaxy)
    assert hubblefork.classify(pictures / "7.jpg", run, views=4, device="cpu").low is None


def test_why_there_are_no_intervals_is_said(trained, pictures, tmp_path):
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    (run / "intervals.json").write_text("{broken")
    result = CliRunner().invoke(app, ["classify", str(pictures / "7.jpg"), "--run", str(run), "--views", "1"])
    assert result.exit_code == 0
    assert "smooth" in result.stdout
    assert f"no intervals: {run / 'intervals.json'}: no readable intervals" in result.stderr
    result = CliRunner().invoke(app, ["classify", str(pictures / "7.jpg"), "--views", "2"])
    assert "the weights that come along are calibrated for --views 1 and --views 16" in result.stderr


def galaxy_lines(text):
    return text.splitlines()[1:-1]


def test_a_catalogue_of_another_scale_is_not_corrected_by_galaxies_of_trainings(trained, tmp_path):
    pixels = np.asarray(Image.open(io.BytesIO(blob(0.3))).resize((128, 128)))
    table = predict(trained, pixels[None], device="cpu")
    assert "1 of 1 images have another size than the 64 pixels" in table.remark
    predict(trained, [_saved(pixels, tmp_path / "1.png")], out=tmp_path / "p.parquet", device="cpu")
    catalogue = read_catalogue(tmp_path / "p.parquet")
    judged = calibration_galaxies(catalogue, load_tree(), None, None)
    assert isinstance(judged, Unavailable) and "those of the run have the scale of training" in judged.reason
    known = predict(trained, pixels[None], field=1, device="cpu")
    assert not known.remark and known.meta["field"] == "1" and "scale" not in known.meta


def _saved(pixels, path):
    Image.fromarray(pixels).save(path)
    return path


def test_weights_that_were_replaced_are_read_again(trained, tmp_path):
    place = tmp_path / "weights.safetensors"
    shutil.copy(trained / "weights.safetensors", place)
    before = hubblefork.load(place).weights
    assert hubblefork.load(place).weights is before
    assert hubblefork.load(place).network(few=True).trained.digest == before.digest
    shutil.copy(EMBEDDED, place)
    assert hubblefork.load(place).weights.digest != before.digest
    assert hubblefork.load(place).network(few=True).trained.digest != before.digest
