"""The soft-target study: its verdict follows from numbers, its plan from the budget, its page from runs."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from hubblefork.cli import app
from hubblefork.errors import CatalogueError, RecipeError
from hubblefork.studies.soft_target import Ways, run_soft_target
from hubblefork.studies.soft_target.page import judge_claim
from hubblefork.studies.soft_target.plan import NETWORKS, SHARES, make_plan
from hubblefork.studies.study import check_addresses, settings_of


def network(parameters, error, seed=0, galaxies=300):
    """A network whose errors are normal, with a given standard deviation."""
    rng = np.random.default_rng(seed)
    votes = rng.random((galaxies, 37))
    wrong = np.random.default_rng(seed + 1).normal(0, error, votes.shape)
    found = SimpleNamespace(parameters=parameters, votes=votes, predicted=votes + wrong)
    found.rmse = float(np.sqrt(np.mean(wrong**2)))
    return found


def verdict(mean_vote=0.16, **larger):
    others = {name: network(10_000_000 + k, error) for k, (name, error) in enumerate(larger.items())}
    return judge_claim({"vgg7": network(6_000_000, 0.1), **others}, mean_vote=mean_vote, resamples=200)


def test_the_claim_holds_when_every_larger_network_is_clearly_worse():
    found = verdict(vgg11=0.12, vgg16=0.13)
    assert found.word == "holds"
    assert found.behind["vgg16"].difference == pytest.approx(0.03, abs=0.002)
    assert found.rank_correlation == pytest.approx(1.0)


def test_it_does_not_when_one_is_clearly_better():
    found = verdict(vgg11=0.12, resnet50=0.08)
    assert found.word == "does not hold"
    assert "resnet50 did better than vgg7 by more than chance" in found.text


def test_it_is_undecided_when_chance_can_explain_it():
    larger = {"vgg11": network(10_000_000, 0.12), "vgg16": network(11_000_000, 0.1, seed=5)}
    larger["vgg16"].votes = larger["vgg11"].votes
    larger["vgg16"].predicted = larger["vgg11"].votes + np.random.default_rng(9).normal(0, 0.1, (300, 37))
    found = judge_claim({"vgg7": network(6_000_000, 0.1), **larger}, mean_vote=0.16, resamples=200)
    assert found.word == "is undecided"
    assert "Not to be told from vgg7 by these galaxies: vgg16" in found.text


def test_nothing_is_decided_before_anything_is_learned():
    found = verdict(mean_vote=0.09, vgg11=0.12, vgg16=0.13)
    assert found.word == "is undecided"
    assert "vgg7, vgg11 and vgg16 had not come below the mean vote" in found.text
    assert "vgg16 had not come" in verdict(mean_vote=0.125, vgg11=0.12, vgg16=0.13).text


def test_a_smaller_network_is_not_what_the_claim_is_about():
    networks = {"vgg7": network(6_000_000, 0.1), "vgg7-tuned": network(5_000_000, 0.01)}
    found = judge_claim(networks, mean_vote=0.16)
    assert found.word == "is undecided"
    assert found.behind == {}


def test_the_budget_is_divided_without_rest_and_every_network_has_the_same():
    plan = make_plan(budget=7200, trials=20, folds=5)
    assert sum(SHARES.values()) == pytest.approx(1)
    assert sum(plan.seconds.values()) == pytest.approx(7200)
    assert {recipe.max_minutes for recipe in plan.recipes.values()} == {plan.seconds["vgg7"] / 60}
    assert plan.tuned_from.max_minutes == 0
    assert plan.of_fold(plan.recipes["vgg7"]).max_minutes == pytest.approx(0.1 * 7200 / 5 / 60)


def test_settings_go_to_all_or_to_one():
    plan = make_plan(
        budget=60, trials=1, folds=2, settings=["steps_per_epoch=3", "vgg16:batch_size=8", "tuning:epochs=2"]
    )
    assert {recipe.steps_per_epoch for recipe in plan.recipes.values()} == {3}
    assert [name for name in NETWORKS if plan.recipes[name].batch_size == 8] == ["vgg16"]
    assert plan.tuned_from.epochs == 2
    assert settings_of("a", ["a:x=1", "x=0", "b:x=2"]) == ["x=0", "x=1"]


def test_settings_of_strangers_are_refused_all_at_once():
    with pytest.raises(RecipeError, match=r'no "vgg77" \(did you mean "vgg7"\?\), no "xx"'):
        check_addresses(["vgg77:epochs=1", "xx:epochs=1", "epochs=1"], NETWORKS)


def test_without_data_it_says_what_it_needs(tmp_path):
    with pytest.raises(CatalogueError, match=r"--data data/.*or --quick"):
        run_soft_target(None, tmp_path, ways=Ways())


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


@pytest.fixture(scope="module")
def ways():
    return Ways(budget=100.0, settings=TINY, trials=1, folds=2, quick=True, galaxies=60, device="cpu")


@pytest.fixture(scope="module")
def place(tmp_path_factory, ways):
    out = tmp_path_factory.mktemp("soft-target")
    run_soft_target(None, out, ways=ways, command=["hubblefork", "study", "soft-target"])
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


def test_called_again_it_trains_nothing(place, ways, monkeypatch):
    monkeypatch.setattr("hubblefork.network.training._trainer", lambda *_: pytest.fail("it trains"))
    run_soft_target(None, place, ways=ways)


def test_what_is_missing_is_said(place, tmp_path):
    words = ["--data", str(place / "data"), "--out", str(tmp_path), "--quick", "--only-report"]
    words += ["--record", str(tmp_path / "record")]
    done = CliRunner().invoke(app, ["study", "soft-target", *words], catch_exceptions=False)
    assert done.exit_code == 0
    text = (tmp_path / "report" / "index.html").read_text()
    for name in (*NETWORKS, "vgg7-tuned", "folds", "tuning"):
        assert f"{name} is not done yet." in text
    assert (tmp_path / "record" / "numbers.json").exists()
