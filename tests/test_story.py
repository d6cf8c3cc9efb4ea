"""The whole job, from a mock sky to a merger fraction, as `hubblefork demo` runs it."""

import csv

import pytest

from hubblefork import demo
from hubblefork.network import runs
from hubblefork.sky.catalogue import read_catalogue


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    folder = tmp_path_factory.mktemp("story")
    return folder, demo.run_demo(folder, galaxies=240, seed=3)


def test_every_stage_leaves_its_files(told):
    folder, _ = told
    for name in (
        "sky/images_training_rev1.zip",
        "sky/training_solutions_rev1.zip",
        "sky/images_test_rev1.zip",
        "sky/truth.parquet",
        "data/catalogue.parquet",
        "data/rejects.csv",
        "data/split.toml",
        "data/stamps/crop212-size64/stamps.npy",
        "runs/lab-cnn/recipe.toml",
        "runs/lab-cnn/run.toml",
        "runs/lab-cnn/metrics.csv",
        "runs/lab-cnn/weights.safetensors",
        "runs/lab-cnn/predictions/test.parquet",
        "runs/lab-cnn/predictions/validation.parquet",
        "runs/lab-cnn/evaluation.json",
        "runs/lab-cnn/report/index.html",
        "predictions.parquet",
    ):
        assert (folder / name).stat().st_size > 0, name


def test_nothing_of_a_good_sky_is_refused(told):
    folder, _ = told
    with (folder / "data" / "rejects.csv").open() as file:
        assert list(csv.DictReader(file)) == []
    catalogue = read_catalogue(folder / "data" / "catalogue.parquet")
    assert len(catalogue) == 240 + 60


def test_the_network_learned_something(told):
    folder, summary = told
    assert summary.evaluation["rmse"]["value"] < summary.evaluation["baselines"]["mean_vote"]["rmse"]["value"]
    assert runs.read_notes(folder / "runs" / "lab-cnn")["finished"]


def test_the_summary_says_what_matters(told):
    _, summary = told
    text = str(summary)
    assert f"{summary.evaluation['rmse']['value']:.4f}" in text
    assert f"true mergers {summary.true_fraction:.4f}" in text
    assert summary.predicted.total == summary.voted.total == 60


def test_told_again_it_is_the_same_story(told):
    folder, summary = told
    weights = (folder / "runs" / "lab-cnn" / "weights.safetensors").stat().st_mtime_ns
    again = demo.run_demo(folder, galaxies=240, seed=3)
    assert str(again) == str(summary)
    assert (folder / "runs" / "lab-cnn" / "weights.safetensors").stat().st_mtime_ns == weights
