"""Distilling: the teachers' part of a label, and whose labels stay as the volunteers gave them."""

import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from hubblefork.cli import app
from hubblefork.errors import CatalogueError, RunError
from hubblefork.network import runs
from hubblefork.network.distilling import distil
from hubblefork.network.predict import Predictor
from hubblefork.network.training import train
from hubblefork.sky.catalogue import fractions, galaxy_ids, read_catalogue
from hubblefork.sky.split import Split, read_split, write_split
from hubblefork.stamps.preprocess import prepare


@pytest.fixture(scope="module")
def parts(data):
    return read_split(data).assign(galaxy_ids(read_catalogue(data / "catalogue.parquet")).tolist())


@pytest.fixture
def votes(data, tree):
    return fractions(read_catalogue(data / "catalogue.parquet"), tree)


def test_labels_are_mixed_where_known_and_completed_where_not(
    data, trained, parts, votes, tree, tmp_path, quick
):
    found = distil(data, [trained], tmp_path / "out", weight=0.25, views=2)
    after = fractions(read_catalogue(tmp_path / "out" / "catalogue.parquet"), tree)
    member = runs.load_weights(trained)
    taught = Predictor(member, device="cpu", views=2)(prepare(data, member.recipe.stamps).pixels)
    train_rows = parts == "train"
    expected = np.where(np.isnan(votes), taught, 0.75 * votes + 0.25 * taught)
    np.testing.assert_allclose(after[train_rows], expected[train_rows], atol=1e-5)
    np.testing.assert_array_equal(after[~train_rows], votes[~train_rows])
    unknown = np.isnan(votes[train_rows])
    assert found.unlabelled == unknown.all(axis=1).sum() > 0
    assert found.completed == (unknown.any(axis=1) & ~unknown.all(axis=1)).sum() > 0
    assert found.mixed + found.unlabelled == train_rows.sum()
    again = train(tmp_path / "out", quick, tmp_path / "run", device="cpu")
    assert runs.read_notes(again)["galaxies"]["train"] == train_rows.sum()


def test_several_teachers_are_averaged(data, trained, parts, tree, tmp_path, quick):
    other = train(data, quick, tmp_path / "other", device="cpu")
    taught = {}
    for name, teachers in {"one": [trained], "other": [other], "both": [trained, other]}.items():
        distil(data, teachers, tmp_path / name / "data", weight=1.0, views=1)
        taught[name] = fractions(read_catalogue(tmp_path / name / "data" / "catalogue.parquet"), tree)
    rows = parts == "train"
    assert np.abs(taught["one"] - taught["other"])[rows].max() > 0.05
    mean = (taught["one"] + taught["other"]) / 2
    np.testing.assert_allclose(taught["both"][rows], mean[rows], atol=1e-5)


@pytest.mark.parametrize("weight", [0.0, 1.1, float("nan")])
def test_a_weight_is_a_share(data, trained, tmp_path, weight):
    with pytest.raises(RunError, match="above 0 and at most 1"):
        distil(data, [trained], tmp_path / "out", weight=weight)


def test_a_teacher_of_another_split_may_know_who_judges(data, trained, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(trained, other)
    write_split(Split(salt="tests", test=10, validation=20), other)
    with pytest.raises(RunError, match="judged on"):
        distil(data, [trained, other], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_of_weights_has_no_split(data, trained, tmp_path):
    with pytest.raises(RunError, match="split must be known"):
        distil(data, [trained / "weights.safetensors"], tmp_path / "out")


def test_other_data_are_not_overwritten(data, trained, tmp_path):
    out = tmp_path / "out"
    distil(data, [trained], out, views=1)
    before = (out / "catalogue.parquet").read_bytes()
    assert distil(data, [trained], out, views=1).mixed > 0
    with pytest.raises(CatalogueError, match="other data"):
        distil(data, [trained], out, views=2)
    assert (out / "catalogue.parquet").read_bytes() == before


def test_the_verb_says_what_it_did(data, trained, tmp_path):
    shown = CliRunner().invoke(
        app, ["distil", str(data), str(trained), "--out", str(tmp_path / "out"), "--views", "1"]
    )
    assert shown.exit_code == 0, shown.output
    assert "training galaxies mixed" in shown.output
    assert (tmp_path / "out" / "split.toml").exists()
