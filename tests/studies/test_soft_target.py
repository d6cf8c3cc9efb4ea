"""The soft-target study: its verdict follows from numbers, its plan from the budget, its page from runs."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from hubblefork.cli import app
from hubblefork.errors import CatalogueError, RecipeError
from hubblefork.studies.results import total_terms
from hubblefork.studies.soft_target import judge_claim, run_soft_target, tuned_from
from hubblefork.studies.study import check_addresses, load_study, settings_of

NETWORKS = ("vgg11", "vgg16", "resnet50", "resnet50-lora", "vgg7")


VOTES = np.random.default_rng(0).random((300, 37))


def terms(error, seed=1):
    """Squared errors of a network whose errors are normal with a standard deviation."""
    return total_terms(VOTES + np.random.default_rng(seed).normal(0, error, VOTES.shape), VOTES)


def verdict(mean_vote=0.16, seed=1, **larger):
    networks = {"vgg7": terms(0.1)} | {name: terms(error, seed) for name, error in larger.items()}
    parameters = {name: 6_000_000 + 1_000_000 * place for place, name in enumerate(networks)}
    return judge_claim(networks, parameters, mean_vote=mean_vote, resamples=200)


def test_the_claim_holds_when_every_larger_network_is_clearly_worse():
    result = verdict(vgg11=0.12, vgg16=0.13)
    assert (result.word, result.worse) == ("holds", ["vgg11", "vgg16"])
    assert result.behind["vgg16"].difference == pytest.approx(0.03, abs=0.002)
    assert result.rank_correlation == pytest.approx(1.0)


def test_it_does_not_when_one_is_clearly_better():
    result = verdict(vgg11=0.12, resnet50=0.08)
    assert (result.word, result.better) == ("does not hold", ["resnet50"])


def test_it_is_undecided_when_chance_can_explain_it():
    result = verdict(vgg11=0.12, vgg16=0.1, seed=9)
    assert (result.word, result.worse, result.open) == ("is undecided", ["vgg11"], ["vgg16"])


def test_nothing_is_decided_before_anything_is_learned():
    result = verdict(mean_vote=0.09, vgg11=0.12, vgg16=0.13)
    assert (result.word, result.above) == ("is undecided", ["vgg7", "vgg11", "vgg16"])
    assert verdict(mean_vote=0.125, vgg11=0.12, vgg16=0.13).above == ["vgg16"]


def test_a_smaller_network_is_not_what_the_claim_is_about():
    networks = {"vgg7": terms(0.1), "vgg7-tuned": terms(0.01)}
    result = judge_claim(networks, {"vgg7": 6_000_000, "vgg7-tuned": 5_000_000}, mean_vote=0.16)
    assert (result.word, result.behind) == ("is undecided", {})


def recipes_of(study):
    return {name: seeds[0].recipe for (name, _), seeds in study.trainings(1000).items()}


def test_the_budget_is_divided_without_rest_and_every_network_has_the_same():
    study = load_study("soft_target", budget=7200)
    assert sum(study.parts.values()) == pytest.approx(1)
    assert sum(study.seconds.values()) == pytest.approx(7200)
    assert {recipe.max_minutes for recipe in recipes_of(study).values()} == {study.seconds["vgg7"] / 60}
    assert (tuned_from(study).max_minutes, tuned_from(study).epochs) == (0, 6)
    with pytest.raises(RecipeError, match="a budget of -1 s: above 0"):
        recipes_of(load_study("soft_target", budget=-1))


def test_settings_go_to_all_or_to_one():
    settings = ["steps_per_epoch=3", "vgg16:batch_size=8", "tuning:epochs=2"]
    study = load_study("soft_target", budget=60, settings=settings)
    recipes = recipes_of(study)
    assert tuple(recipes) == NETWORKS
    assert {recipe.steps_per_epoch for recipe in recipes.values()} == {3}
    assert [name for name in NETWORKS if recipes[name].batch_size == 8] == ["vgg16"]
    assert tuned_from(study).epochs == 2
    assert settings_of("a", ["a:x=1", "x=0", "b:x=2"]) == ["x=0", "x=1"]
    with pytest.raises(RecipeError, match='no "vgg7-tuned"'):
        recipes_of(load_study("soft_target", settings=["vgg7-tuned:epochs=2"]))


def test_settings_of_strangers_are_refused_all_at_once():
    with pytest.raises(RecipeError, match=r'no "vgg77" \(did you mean "vgg7"\?\), no "xx"'):
        check_addresses(["vgg77:epochs=1", "xx:epochs=1", "epochs=1"], NETWORKS)


def test_without_data_it_says_what_it_needs(tmp_path):
    with pytest.raises(CatalogueError, match=r"--data data/.*or --quick"):
        run_soft_target(None, tmp_path)


TINY = [
    *(
        "epochs=1",
        "steps_per_epoch=1",
        "batch_size=8",
        "crop=212",
        "stamp_size=40",
        "input_size=32",
        "hidden_units=8",
    ),
    *(f"{name}:width=2" for name in ("vgg11", "vgg16", "vgg7")),
    *(f"{name}:architecture=encoder:resnet10t" for name in ("resnet50", "resnet50-lora")),
]


def study():
    changes = {"budget": 100.0, "trials": 1, "folds": 2, "galaxies": 60, "device": "cpu"}
    return load_study("soft_target", quick=True, settings=TINY, **changes)


@pytest.fixture(scope="module")
def place(tmp_path_factory, quickly):
    out = tmp_path_factory.mktemp("soft-target")
    run_soft_target(None, out, study=study(), command=["hubblefork", "study", "soft-target"])
    return out


def test_the_whole_study_runs_and_its_page_has_every_network(place):
    numbers = json.loads((place / "report" / "numbers.json").read_text())
    table = numbers["sections"]["summary"]["networks"]
    assert set(table) >= {*NETWORKS, "vgg7-tuned", "mean_vote", "central_pixel", "all_zeros", "all_ones"}
    assert 0 < table["resnet50-lora"]["trained_share"] < 0.2
    assert all(table[name]["predicting_galaxies_per_second"] > 0 for name in NETWORKS)
    assert numbers["verdict"] in ("holds", "does not hold", "is undecided")
    page = (place / "report" / "index.html").read_text()
    assert f"here this {numbers['verdict']}" in page
    assert (place / "report" / "error-against-cost.pdf").exists()
    assert len(numbers["sections"]["folds"]["folds"]["rmse"]["folds"]) == 2


def test_called_again_it_trains_nothing(place, monkeypatch):
    monkeypatch.setattr("hubblefork.network.training._trainer", lambda *_: pytest.fail("it trains"))
    run_soft_target(None, place, study=study())


def test_a_tuning_without_a_finished_trial_asks_for_more_time(place, tmp_path):
    out = shutil.copytree(place, tmp_path / "study")
    (out / "tuning" / "best.toml").unlink()
    shutil.rmtree(out / "runs" / "vgg7-tuned")
    text = run_soft_target(place / "data", out, study=replace(study(), only_report=True)).read_text()
    assert "vgg7-tuned: no trial was trained to the end in 12.0 s." in text
    assert "vgg7-tuned is not done yet" not in text and "the same command goes on" not in text


def test_what_is_missing_is_said(place, tmp_path):
    words = ["--data", str(place / "data"), "--out", str(tmp_path), "--quick", "--only-report"]
    words += ["--record", str(tmp_path / "record")]
    done = CliRunner().invoke(app, ["study", "soft-target", *words], catch_exceptions=False)
    assert done.exit_code == 0
    text = (tmp_path / "report" / "index.html").read_text()
    for name in (*NETWORKS, "vgg7-tuned", "folds", "tuning"):
        assert f"{name} is not done yet." in text
    assert (tmp_path / "record" / "numbers.json").exists()
