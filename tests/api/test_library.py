"""The library as its users call it: the names, one block of calls, and what comes back."""

import doctest
import io
import subprocess
import sys
import zipfile
from contextlib import chdir
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from PIL import Image

import hubblefork as hf
from hubblefork.errors import CatalogueError, ImageError, RecipeError

BRIEFLY = {"epochs": 1, "steps_per_epoch": 2, "batch_size": 16}


@pytest.fixture(scope="module")
def sky(tmp_path_factory):
    return hf.mock_sky(tmp_path_factory.mktemp("library") / "sky", galaxies=60, seed=2, processes=1)


def test_public_names_are_sorted_and_there():
    assert hf.__all__ == sorted(hf.__all__)
    assert set(hf.__all__) <= set(dir(hf))
    for name in hf.__all__:
        assert getattr(hf, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'clasify'"):
        _ = hf.clasify


def test_the_import_loads_nothing_heavy():
    code = "import sys, hubblefork as hf; dir(hf); print({'torch', 'numpy', 'astropy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_labels_of_two_kinds_are_refused(tmp_path):
    two_kinds, alone = {"classes": "type", "number": "mass"}, {"classes": "type", "unit": "dex"}
    for how in (two_kinds, {"columns": ["ring"], "tree": "gz_rings"}, alone):
        with pytest.raises(RecipeError, match=r"give (one of them|both)"):
            hf.finetune("fork", tmp_path, tmp_path / "labels.csv", tmp_path / "run", **how)
    (tmp_path / "labels.csv").write_text("galaxy_id,bar\n1,0\n2,1\n")
    with pytest.raises(CatalogueError, match='there is no column "ring"'):
        hf.finetune("fork", tmp_path, tmp_path / "labels.csv", tmp_path / "run", columns="ring")


@pytest.mark.usefixtures("quickly")
def test_the_library_from_images_to_a_fraction(sky, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = hf.ingest(str(sky), out="data/", split=hf.Split("library", test=30, validation=30))
    run = hf.train(data, "lab-cnn", out="runs/a", **BRIEFLY)
    assert hf.evaluate(run)["galaxies"] > 5
    catalogue = hf.predict(run, sky / "images_test_rev1.zip", out="catalogue.parquet")
    assert isinstance(catalogue, Table) and len(catalogue) == 15
    assert catalogue.meta["run"] == "runs/a" and catalogue["merger"].description.endswith("merger")
    again = hf.predict(hf.load(run), str(sky / "images_test_rev1.zip"))
    np.testing.assert_allclose(again["smooth"], catalogue["smooth"], atol=2e-3)  # a catalogue's may be bf16
    assert (Path("runs/a") / "weights.onnx").exists()
    merger = hf.fraction("catalogue.parquet", "merger >= 0.3")
    assert merger.low <= merger.value <= merger.high
    assert hf.fraction(catalogue, "merger >= 0.3").value == merger.value
    assert merger.rate("0.2-0.4").value.unit == "1 / Gyr" and "count" in merger.table["estimator"]
    assert hf.report(run).name == "index.html"


@pytest.fixture(scope="module")
def galaxy(sky):
    with zipfile.ZipFile(sky / "images_test_rev1.zip") as archive:
        name = archive.namelist()[0]
        pixels = np.asarray(Image.open(io.BytesIO(archive.read(name))))
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return pixels, file.getvalue()


def test_one_image_has_the_same_fractions_in_every_form(galaxy, tmp_path):
    pixels, png = galaxy
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "7.png").write_bytes(png)
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.writestr("images/7.png", png)
    file = tmp_path / "folder" / "7.png"
    forms = [file, str(file), [file], tmp_path / "folder", tmp_path / "images.zip", png, pixels[None]]
    tables = [hf.predict("fork", form, device="cpu") for form in forms]
    for table in tables:
        values = [table[name][0] for name in table.tree.columns]
        np.testing.assert_array_equal(values, [tables[0][name][0] for name in table.tree.columns])
    assert [table["galaxy_id"][0] for table in tables[:5]] == [7] * 5


def test_a_table_of_one_galaxy_draws_its_tree(galaxy):
    table = hf.predict("fork", galaxy[0][None], interval=0.9, device="cpu")
    assert "Is the galaxy simply smooth" in str(table) and "<pre>" in table._repr_html_()
    assert str(hf.classify(galaxy[1], views=1, device="cpu")).splitlines()[2:] == str(table).splitlines()[2:]
    two = hf.predict("fork", np.stack([galaxy[0]] * 2), device="cpu")
    assert "<table" in two._repr_html_() and "galaxy_id" in str(two)


def test_what_is_no_image_is_named(tmp_path):
    with pytest.raises(ImageError, match=r"float64 with the shape \(2, 64, 64\) .*: give uint8"):
        hf.predict("fork", np.zeros((2, 64, 64)))
    with pytest.raises(CatalogueError, match="there is no such table"):
        hf.fraction(tmp_path / "none.parquet")


@pytest.fixture(scope="module")
def prepared(sky, tmp_path_factory):
    """A folder with the names of the docstrings in it."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "sky").symlink_to(sky)
    with chdir(folder):
        hf.train(hf.ingest("sky/", out="data/"), "lab-cnn", out="runs/a", **BRIEFLY)
        hf.predict("runs/a", "sky/images_test_rev1.zip", out="predictions.parquet")
    return folder


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize("module", ["api.predictions", "api.training", "api.skies", "api.fractions"])
def test_the_examples_of_the_docstrings_run(module, prepared, monkeypatch):
    monkeypatch.chdir(prepared)
    examples = {"hf": hf, "np": np}
    assert doctest.testmod(import_module(f"hubblefork.{module}"), extraglobs=examples).failed == 0
