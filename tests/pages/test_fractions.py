"""Figures of fractions hold the numbers they are drawn from, also where an estimator is missing."""

import numpy as np
import pyarrow as pa
import pytest
from astropy import units
from scipy import stats

from hubblefork.errors import CatalogueError
from hubblefork.pages import fractions as figures
from hubblefork.pages.fractions import (
    bias_of_estimators,
    coverage_of_intervals,
    degraded_surveys,
    fraction_against_threshold,
)
from hubblefork.stats.detection import Calibration
from hubblefork.stats.estimators import Unavailable
from hubblefork.stats.prevalence import fraction, sweep
from hubblefork.stats.rates import Rate
from hubblefork.studies.injection import Pools, Scenario, recovered, summary
from hubblefork.tables.catalogue import with_fractions

NONE = Unavailable("no calibration galaxies: none were given", "give some")


@pytest.fixture(scope="module")
def catalogue(tree, predicted):
    return with_fractions(pa.table({"galaxy_id": np.arange(len(predicted))}), predicted, tree)


@pytest.fixture(scope="module")
def found(tree, catalogue):
    return fraction(catalogue, "merger >= 0.1", tree=tree)


@pytest.fixture(scope="module")
def recovery():
    rng = np.random.default_rng(1)
    pools = Pools(rng.uniform(0.2, 0.6, 100), rng.uniform(0, 0.3, 300))
    scenario = Scenario("test", pools, None, survey_galaxies=200, calibration_galaxies=150)
    columns = {share: recovered(scenario, share, 3, seed=0) for share in (0.05, 0.2)}
    names = columns[0.05]
    return {name: [summary(share, columns[share][name]) for share in columns] for name in names}


def test_side_by_side_shows_what_is_missing(found):
    figure, numbers = figures.estimators_side_by_side({"votes": found, "again": found}, truths={"votes": 0.2})
    panel = figure.axes[0]
    words = [text.get_text() for text in panel.texts]
    assert words.count("not available") == 5
    assert panel.get_legend() is None  # it covered the lowest estimator; the caption names the line
    assert numbers["samples"]["votes"]["estimators"]["corrected"]["value"] is None
    assert numbers["samples"]["votes"]["default"]["estimator"] == "count"
    assert [label.get_text() for label in panel.get_yticklabels()] == [
        figures.LABELS[name] for name in found.estimates
    ]


def test_the_sweep_ends_where_nobody_is_left(tree, catalogue, predicted):
    swept = sweep(catalogue, tree, "merger", NONE, rng=np.random.default_rng(0), thresholds=(0.05, 0.99))
    figure, numbers = figures.estimates_against_threshold(swept, marked=0.3, votes=predicted[:, 30])
    drawn = {line.get_label(): line for line in figure.axes[0].lines}
    values = drawn[figures.LABELS["count"]].get_ydata()
    share = np.mean(predicted[:, tree.column("merger")] >= 0.05)
    assert values[0] == pytest.approx(share) and np.isnan(values[1])
    assert numbers["thresholds"] == [0.05, 0.99]


def test_bins_and_published_fractions(found):
    _, numbers = figures.fraction_in_bins({(0.0, 0.1): found, (0.1, 0.2): None}, name="redshift")
    assert numbers["bins"][1] == {"low": 0.1, "high": 0.2}
    assert numbers["bins"][0]["default"]["value"] == pytest.approx(found.value)
    figure, numbers = figures.beside_published(found)
    assert len(numbers["fractions"]) == 2 + len(figures.PUBLISHED)
    assert "merger fraction" in figure.axes[0].get_xlabel()
    sides = [number / (units.Gpc**3 * units.Gyr) for number in (1e6, 5e5, 2e6)]
    figure, numbers = figures.beside_published(found, rate=Rate(*sides, level=0.95))
    assert [row["value"] for row in numbers["rates"]] == pytest.approx([1e-3, 1.2e-3, 3.5e-4])
    assert len(figure.axes) == 2


def test_regression_to_the_mean_counts_both_sides():
    rng = np.random.default_rng(2)
    votes = rng.random(200)
    score = 0.5 * votes
    known = Calibration(score >= 0.3, votes >= 0.3, score)
    _, numbers = figures.regression_to_the_mean(known, votes, threshold=0.3)
    assert numbers["curves"]["volunteers"][30] == pytest.approx(np.mean(votes >= 0.3))
    assert numbers["curves"]["predicted"][30] == pytest.approx(np.mean(score >= 0.3))
    assert numbers["chance"][0] == 0 and numbers["chance"][-1] == 1


def test_bias_and_coverage_of_every_scenario(recovery):
    for draw in (bias_of_estimators, coverage_of_intervals):
        figure, numbers = draw({"one": recovery, "two": recovery})
        assert set(numbers) == {"one", "two"}
        assert len(figure.axes) == (2 if draw is bias_of_estimators else 4)
    assert numbers["one"]["count"][1]["fraction"] == 0.2


def test_a_warned_survey_is_marked():
    rng = np.random.default_rng(3)
    estimate = {"value": 0.1, "low": 0.08, "high": 0.12}
    sky = {"true": 0.1, "count": estimate, "corrected": estimate, "shifted": False}
    scores = {"held out": rng.random(50), "fine": rng.random(50), "noisy": rng.random(50) + 1}
    skies = {"fine": sky, "noisy": {**sky, "shifted": True}}
    figure, numbers = degraded_surveys(skies, scores, held_out="held out")
    rows = {line.get_marker(): list(line.get_ydata()) for line in figure.axes[0].lines}
    assert (rows["o"], rows["s"]) == ([0, 1], [2])
    assert numbers["scores"]["noisy"]["p50"] == pytest.approx(np.median(scores["noisy"]), rel=1e-5)


def test_counts_and_intervals_at_every_threshold(tree, votes, predicted):
    _, numbers = fraction_against_threshold(tree, {"votes": votes, "predicted": predicted})
    for name, values in {"votes": votes, "predicted": predicted}.items():
        known = values[:, tree.column("merger")]
        known, found = known[~np.isnan(known)], numbers["samples"][name]
        assert found["total"] == len(known)
        for k in range(0, len(found["threshold"]), 7):
            count = int((known >= found["threshold"][k]).sum())
            expected = stats.binomtest(count, len(known)).proportion_ci(method="wilson")
            assert found["count"][k] == count
            assert found["low"][k] == pytest.approx(expected.low, abs=1e-6)
            assert found["high"][k] == pytest.approx(expected.high, abs=1e-6)


def test_a_curve_ends_where_nobody_is_left(tree, votes):
    figure, numbers = fraction_against_threshold(tree, {"votes": votes})
    drawn = next(line for line in figure.axes[0].lines if line.get_label().startswith("votes"))
    counts = np.array(numbers["samples"]["votes"]["count"])
    assert (counts == 0).any()
    np.testing.assert_array_equal(np.isnan(drawn.get_ydata()), counts == 0)


def test_a_sample_without_values_is_refused(tree, votes):
    with pytest.raises(CatalogueError, match="merger"):
        fraction_against_threshold(tree, {"votes": np.full_like(votes, np.nan)})
