"""The whole job, from a mock sky to a merger fraction, as `hubblefork demo` runs it."""

import csv

import pytest

from hubblefork.api import skies as demo
from hubblefork.data.folders import RunFolder
from hubblefork.tables.catalogue import read_catalogue

QUICK = ("steps_per_epoch=0", "batch_size=32", "epochs=3")


@pytest.fixture(scope="module")
def told(tmp_path_factory, quickly):
    folder = tmp_path_factory.mktemp("story")
    return folder, demo.run_demo(folder, galaxies=120, seed=3, settings=QUICK)


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
    assert len(catalogue) == 120 + 30


@pytest.mark.slow
def test_the_demo_as_it_is_learns_clearly_more_than_the_mean_vote(tmp_path):
    summary = demo.run_demo(tmp_path, galaxies=1600, seed=0)
    mean_vote = summary.evaluation["baselines"]["mean_vote"]
    assert summary.evaluation["rmse"]["value"] < 0.8 * mean_vote["rmse"]["value"]
    assert mean_vote["behind"]["p_value"] < 0.01


def test_the_run_is_finished_and_judged_against_every_baseline(told):
    folder, summary = told
    assert RunFolder(folder / "runs" / "lab-cnn").notes()["finished"]
    baselines = {"all_zeros", "all_ones", "mean_vote", "central_pixel", "kaggle_central_pixel"}
    assert set(summary.evaluation["baselines"]) == baselines
    assert 0 < summary.evaluation["baselines"]["mean_vote"]["rmse"]["value"] < 0.2


def test_the_summary_says_what_matters(told):
    _, summary = told
    text = str(summary)
    assert f"{summary.evaluation['rmse']['value']:.4f}" in text
    assert f"true mergers {summary.true_fraction:.4f}" in text
    assert summary.predicted.total == summary.voted.total == 30


def test_told_again_it_is_the_same_story(told):
    folder, summary = told
    weights = (folder / "runs" / "lab-cnn" / "weights.safetensors").stat().st_mtime_ns
    again = demo.run_demo(folder, galaxies=120, seed=3, settings=QUICK)
    assert str(again) == str(summary)
    assert (folder / "runs" / "lab-cnn" / "weights.safetensors").stat().st_mtime_ns == weights
