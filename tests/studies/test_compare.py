"""The comparison of networks: what is planned, who wins, what is taken from elsewhere, what the page says."""

import html
import json
import re
import shutil
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from hubblefork.api.judging import evaluate
from hubblefork.cli import app
from hubblefork.errors import RecipeError, RunError
from hubblefork.network.recipe import load_recipe
from hubblefork.network.weights import read_recipe
from hubblefork.prediction.runs import predict_part
from hubblefork.stats.metrics import error_terms, in_total, rmse
from hubblefork.studies.compare import judge_networks, run_compare
from hubblefork.studies.study import load_study, parse_shares
from hubblefork.tables.catalogue import fractions, matched, read_catalogue


def planned(galaxies=1000, **changes):
    """The trainings of a comparison, those on all galaxies first."""
    trainings = load_study("compare", **changes).trainings(galaxies)
    return [training for seeds in trainings.values() for training in seeds]


def test_every_recipe_has_its_seeds_and_every_curve_its_shares():
    trainings = planned(
        recipes=["lab-cnn", "fork"],
        seeds=["2", "fork:1"],
        settings=["steps_per_epoch=5", "fork:epochs=3"],
        defaults=["epochs=9", "fork:steps_per_epoch=7"],
        curves=["lab-cnn"],
        shares="1,1/4",
    )
    folders = ["lab-cnn/seed-0", "lab-cnn/seed-1", "fork/seed-0"]
    assert [training.folder for training in trainings[:3]] == folders
    assert [training.folder for training in trainings[3:]] == [f"lab-cnn/share-0.25/seed-{k}" for k in (0, 1)]
    assert [training.recipe.seed for training in trainings] == [0, 1, 0, 0, 1]
    assert [training.share for training in trainings] == [1, 1, 1, 0.25, 0.25]
    recipes = [training.recipe for training in trainings[1:3]]
    assert [(recipe.epochs, recipe.steps_per_epoch) for recipe in recipes] == [(9, 5), (3, 5)]


def test_a_share_has_its_square_root_of_the_steps():
    settings = ["steps_per_epoch=0", "batch_size=64"]
    trainings = planned(recipes=["lab-cnn"], seeds=["1"], settings=settings, curves=["lab-cnn"])
    steps = {training.share: training.recipe.steps_per_epoch for training in trainings}
    assert steps == {1.0: 0, 0.125: 6, 0.25: 8, 0.5: 12}


def test_quick_defaults_are_added_and_settings_win():
    (training,) = planned(quick=True, recipes=["vgg7"], seeds=["1"], settings=["epochs=5"])
    assert (training.recipe.epochs, training.recipe.steps_per_epoch) == (5, 8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ensembles": ["lab-cmm"]}, '"lab-cmm" .did you mean "lab-cnn"'),
        ({"curves": ["vgg7"]}, '"vgg7": not among the recipes compared'),
        ({"seeds": ["0"]}, 'seeds "0" of lab-cnn: how many, at least 1'),
        ({"seeds": ["3", "vgg7:1"]}, 'trains no "vgg7"'),
        ({"settings": ["vgg7:epochs=1"]}, 'trains no "vgg7"'),
        ({"recipes": ["lab-cnn", "lab-cnn"]}, "each is compared once"),
        ({"curves": ["fork"], "shares": "1/0"}, "above 0 and at most 1"),
    ],
)
def test_what_cannot_be_planned_is_said(changes, message):
    with pytest.raises(RecipeError, match=message):
        planned(**{"recipes": ["lab-cnn", "fork"], **changes})


def test_shares_are_fractions_or_decimals():
    assert parse_shares("1, 1/8,0.5,1/2") == (0.125, 0.5, 1.0)


VOTES = np.random.default_rng(0).random((300, 37))


def terms(error, *, seeds=2, like=None):
    """Errors of a few seeds; `like` another network's where they are to go together."""
    found = []
    for seed in range(seeds):
        wrong = np.random.default_rng(seed if like is None else like + seed).normal(0, error, VOTES.shape)
        found.append(in_total(error_terms(VOTES + wrong, VOTES)))
    return found


def test_the_best_beats_what_is_clearly_worse():
    networks = {"a": terms(0.1), "b": terms(0.11, like=10), "c": terms(0.15, like=20)}
    verdict = judge_networks(networks, {"a": 0.1, "b": 0.11, "c": 0.15}, resamples=2000)
    assert (verdict.best, verdict.beaten, verdict.open, verdict.better) == ("a", ["b", "c"], [], [])
    assert verdict.differences["c"].difference == pytest.approx(0.05, abs=0.002)
    assert verdict.p_holm["b"] == pytest.approx(2 * 2 / 2001)


def test_a_difference_that_may_be_chance_is_open():
    networks = {"a": terms(0.1), "b": terms(0.1, like=10), "c": terms(0.15, like=20)}
    verdict = judge_networks(networks, {"a": 0.1, "b": 0.11, "c": 0.15}, resamples=500)
    assert (verdict.best, verdict.beaten, verdict.open) == ("a", ["c"], ["b"])
    alone = judge_networks({"a": networks["a"]}, {"a": 0.1})
    assert (alone.best, dict(alone.differences)) == ("a", {})


def test_the_best_is_chosen_by_galaxies_that_do_not_judge():
    networks = {"a": terms(0.12), "b": terms(0.1, like=10)}
    verdict = judge_networks(networks, {"a": 0.09, "b": 0.1}, resamples=500)
    assert (verdict.best, verdict.beaten, verdict.better) == ("a", [], ["b"])


TINY = [
    *("epochs=1", "steps_per_epoch=2", "batch_size=8", "crop=212", "stamp_size=40", "input_size=32"),
    *("vgg7:width=2", "vgg7:hidden_units=8"),
]


def study(**changes):
    """Two networks on a small mock sky, one of them with an ensemble, the other with a learning curve."""
    small = {
        "recipes": ["lab-cnn", "vgg7"],
        "seeds": ["2", "vgg7:1"],
        "settings": TINY,
        "ensembles": ["lab-cnn"],
        "curves": ["vgg7"],
        "shares": "1/4,1/2,1",
    }
    return load_study("compare", quick=True, views=2, galaxies=60, device="cpu", **{**small, **changes})


@pytest.fixture(scope="module")
def place(tmp_path_factory, quickly):
    out = tmp_path_factory.mktemp("compare")
    run_compare(None, out, study=study(), command=["hubblefork", "study", "compare"])
    return out


def numbers_of(out):
    return json.loads((out / "report" / "numbers.json").read_text())


def judged(path, place, tree):
    """Predictions and votes of the labelled galaxies of a catalogue of predictions."""
    volunteers = read_catalogue(place / "data" / "catalogue.parquet")
    predicted, volunteers = matched(read_catalogue(path), volunteers)
    votes = fractions(volunteers, tree)
    known = ~np.isnan(votes).all(axis=1)
    return fractions(predicted, tree)[known], votes[known]


def test_the_table_has_what_evaluate_finds(place, tmp_path, tree):
    numbers = numbers_of(place)
    table = numbers["sections"]["summary"]["networks"]
    assert set(table) >= {"lab-cnn", "vgg7", "lab-cnn ensemble", "mean vote", "central pixel (Kaggle)"}
    seen = {1: [], 2: []}
    for seed in (0, 1):
        run = tmp_path / f"seed-{seed}"
        shutil.copytree(place / "runs" / "lab-cnn" / f"seed-{seed}", run)
        found = evaluate(run, device="cpu")
        assert table["lab-cnn"]["rmse"]["1"][seed] == pytest.approx(found["rmse"]["value"], rel=1e-5)
        for views in seen:
            predicted, votes = judged(predict_part(run, "test", views=views, device="cpu"), place, tree)
            seen[views].append(predicted)
    for views, both in seen.items():
        assert table["lab-cnn"]["rmse"][str(views)][1] == pytest.approx(rmse(both[1], votes), rel=1e-5)
        together = rmse(np.mean(both, axis=0), votes)
        assert table["lab-cnn ensemble"]["rmse"][str(views)] == pytest.approx(together, rel=1e-5)
    assert numbers["galaxies"] == len(votes) == found["galaxies"]


def test_the_page_has_verdict_differences_curves_and_trainings(place):
    numbers = numbers_of(place)
    page = html.unescape((place / "report" / "index.html").read_text())
    for verdict in numbers["verdicts"].values():
        assert f"{verdict['best']} is the best network by the validation RMSE" in page
        assert verdict["beaten"] + verdict["open"] + verdict["better"]
    assert len(numbers["sections"]["differences"]["differences"]) == 2
    points = numbers["sections"]["learning-curves"]["points"]["vgg7"]
    trained = numbers["sections"]["trainings"]["trainings"]
    assert points["galaxies"] == sorted(points["galaxies"])
    assert trained["vgg7/share-0.25/seed-0"]["training_galaxies"] == points["galaxies"][0]
    table = numbers["sections"]["summary"]["networks"]
    assert points["rmse"][-1] == pytest.approx(table["vgg7"]["rmse"]["2"][0])
    assert "extrapolation" in page and "No better than the mean vote: " in page
    assert (place / "report" / "learning-curves.pdf").exists()


def test_called_again_it_neither_trains_nor_predicts(place, monkeypatch):
    monkeypatch.setattr("hubblefork.network.training._trainer", lambda *_: pytest.fail("it trains"))
    monkeypatch.setattr("hubblefork.studies.results.predict_rows", lambda *_: pytest.fail("it predicts"))
    before = numbers_of(place)["sections"]["summary"]
    run_compare(None, place, study=study())
    assert numbers_of(place)["sections"]["summary"] == before


def test_finished_runs_of_elsewhere_are_taken_as_they_are(place, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(place / "runs", elsewhere)
    text = (elsewhere / "lab-cnn" / "seed-0" / "run.toml").read_text()
    other, lines = re.subn(r"(?m)^(data|folder) = .*$", r'\1 = "/on/another/machine"', text)
    assert lines == 2
    (elsewhere / "lab-cnn" / "seed-0" / "run.toml").write_text(other)
    before = sorted(path for path in elsewhere.rglob("*"))
    run_compare(place / "data", tmp_path / "out", study=study(runs=[elsewhere], only_report=True))
    table = numbers_of(tmp_path / "out")["sections"]["summary"]["networks"]
    expected = numbers_of(place)["sections"]["summary"]["networks"]
    assert table["lab-cnn"]["rmse"] == expected["lab-cnn"]["rmse"]
    assert table["lab-cnn ensemble"]["rmse"] == expected["lab-cnn ensemble"]["rmse"]
    assert sorted(path for path in elsewhere.rglob("*")) == before


def test_runs_of_another_kind_are_not_taken_and_what_is_missing_is_said(place, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(place / "runs" / "lab-cnn", elsewhere)
    recipe = elsewhere / "seed-0" / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("batch_size = 8", "batch_size = 9"))
    unfinished = elsewhere / "seed-1" / "run.toml"
    unfinished.write_text(unfinished.read_text().replace("finished = true", "finished = false"))
    words = [
        "study",
        "compare",
        "--data",
        str(place / "data"),
        "--out",
        str(tmp_path / "out"),
        "--only-report",
    ]
    words += ["--recipe", "lab-cnn", "--seeds", "2", "--runs", str(elsewhere), "--ensemble", "lab-cnn"]
    words += ["--curves", "lab-cnn", "--record", str(tmp_path / "record")]
    for setting in TINY[:6]:
        words += ["--set", setting]
    monkeypatch.setattr(sys, "argv", ["hubblefork", *words])
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0
    page = (tmp_path / "out" / "report" / "index.html").read_text()
    again = re.findall("<pre>(hubblefork study compare .*?)</pre>", page)[0]
    assert "--curves lab-cnn" in again and "--only-report" not in again
    assert "Not trained yet: lab-cnn/seed-0, lab-cnn/seed-1, lab-cnn/share-0.125/seed-0, " in page
    assert "too few for a curve" in page
    assert (tmp_path / "record" / "numbers.json").exists()


def test_the_precision_of_a_run_may_be_another(place, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(place / "runs" / "vgg7" / "seed-0", elsewhere)
    recipe = elsewhere / "recipe.toml"
    recipe.write_text(recipe.read_text().replace('precision = "auto"', 'precision = "bf16"'))
    assert read_recipe(elsewhere) != load_recipe("vgg7", TINY[:6])
    run_compare(place / "data", tmp_path / "out", study=study(runs=[elsewhere], only_report=True))
    assert "vgg7" in numbers_of(tmp_path / "out")["sections"]["summary"]["networks"]


def test_before_anything_is_trained_it_says_what_cannot_be_done(place, tmp_path):
    with pytest.raises(RunError, match="no such folder of runs"):
        run_compare(place / "data", tmp_path, study=study(runs=[tmp_path / "nowhere"]))
