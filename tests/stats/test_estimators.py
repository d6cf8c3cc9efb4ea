"""Fractions and their intervals against closed forms and simulation."""

from dataclasses import replace

import numpy as np
import pytest
from astropy.stats import binom_conf_interval
from scipy.stats import beta, binom, binomtest, norm

from hubblefork.errors import CatalogueError, UnknownAnswer
from hubblefork.stats.estimators import (
    Estimate,
    Sums,
    binomial_interval,
    count_above,
    counted,
    summed,
)


@pytest.fixture
def joint(tree):
    values = np.zeros((10, len(tree.columns)))
    values[:, tree.column("merger")] = [0.1, 0.3, 0.29999, 0.9, np.nan, 0, 0, 0.31, np.nan, 0.2]
    return values


def test_counts_at_least_the_threshold_and_leaves_out_the_missing(tree, joint):
    found = count_above(tree, joint)
    assert (found.count, found.total, found.missing, found.value) == (3, 8, 2, 3 / 8)
    assert (found.answer, found.threshold, found.interval, found.level) == ("merger", 0.3, "wilson", 0.95)


def test_any_answer_by_either_name(tree, joint):
    assert count_above(tree, joint, answer="Class8.6").count == 3
    assert count_above(tree, joint, answer="spiral").count == 0
    with pytest.raises(UnknownAnswer, match='did you mean "merger"'):
        count_above(tree, joint, answer="mergers")


@pytest.mark.parametrize(("count", "total"), [(0, 20), (1, 20), (31, 950), (20, 20)])
@pytest.mark.parametrize("level", [0.68, 0.95])
def test_wilson_is_the_closed_form(count, total, level):
    z, p = norm.ppf((1 + level) / 2), count / total
    centre = (p + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * np.sqrt(p * (1 - p) / total + z**2 / (4 * total**2))
    np.testing.assert_allclose(
        binomial_interval(count, total, level=level), (centre - half, centre + half), atol=1e-12
    )
    other = binomtest(count, total).proportion_ci(level, method="wilson")
    np.testing.assert_allclose(binomial_interval(count, total, level=level), other, atol=1e-12)


def test_jeffreys_is_of_beta_quantiles():
    expected = beta.ppf([0.025, 0.975], 31.5, 950 - 31 + 0.5)
    np.testing.assert_allclose(binomial_interval(31, 950, interval="jeffreys", level=0.95), expected)


@pytest.mark.parametrize("interval", ["wilson", "jeffreys"])
def test_every_interval_holds_its_value_within_0_and_1(interval):
    for total in range(1, 60):
        for count in {0, total // 3, total}:
            low, high = binomial_interval(count, total, interval=interval)
            assert 0 <= low <= count / total <= high <= 1


def test_wilson_covers():
    """Exact coverage for 1% of 200 galaxies, summed over all outcomes."""
    counts = np.arange(201)
    chance = binom.pmf(counts, 200, 0.01)
    bounds = np.array([binomial_interval(int(c), 200, level=0.95) for c in counts])
    covered = chance[(bounds[:, 0] <= 0.01) & (bounds[:, 1] >= 0.01)].sum()
    assert covered == pytest.approx(0.95, abs=0.025)


def test_what_is_no_fraction(tree, joint):
    with pytest.raises(CatalogueError, match="none of the 0 galaxies"):
        count_above(tree, joint[:0])
    with pytest.raises(CatalogueError, match="none of the 2 galaxies"):
        count_above(tree, joint[[4, 8]])
    for threshold in (0, -0.1, 1.1, np.nan, 30):
        with pytest.raises(CatalogueError, match="above 0 and at most 1"):
            count_above(tree, joint, threshold=threshold)
    for level in (0, 1, 95):
        with pytest.raises(CatalogueError, match="level lies between 0 and 1"):
            binomial_interval(3, 8, level=level)


def test_numbers_that_contradict_each_other(tree, joint):
    found = count_above(tree, joint)
    for wrong in ({"count": 9}, {"total": 0, "count": 0}, {"missing": -1}, {"low": 0.5}, {"high": 1.2}):
        with pytest.raises(CatalogueError):
            replace(found, **wrong)


@pytest.mark.parametrize(("count", "total"), [(0, 20), (3, 200), (20, 20)])
@pytest.mark.parametrize("interval", ["wilson", "jeffreys"])
def test_the_intervals_of_whole_numbers_are_astropys(count, total, interval):
    expected = binom_conf_interval(count, total, confidence_level=0.9, interval=interval)
    found = binomial_interval(count, total, interval=interval, level=0.9)
    np.testing.assert_allclose(found, np.clip(expected, 0, 1), atol=1e-12)


def test_equal_weights_change_nothing():
    counts = np.arange(50) < 7
    plain, weighted = counted(Sums.of(counts)), counted(Sums.of(counts, weights=np.full(50, 3.5)))
    assert (plain.value, plain.low, plain.high) == pytest.approx(
        (weighted.value, weighted.low, weighted.high)
    )
    assert "effective number of galaxies 50.0" in weighted.note


def test_unequal_weights_say_less():
    weights = np.array([1.0] * 90 + [9.0] * 10)
    assert Sums.of(weights > 0, weights=weights).size == pytest.approx(180**2 / 900)
    counts = np.arange(100) % 5 == 0
    sums = Sums.of(counts, weights=weights)
    found = counted(sums, interval="jeffreys")
    assert found.value == pytest.approx((18 + 2 * 9) / 180)
    assert found.high - found.low > counted(Sums.of(counts)).high - counted(Sums.of(counts)).low
    for wrong in ([1, -1], [0, 0], [1, np.nan]):
        with pytest.raises(CatalogueError, match="finite number"):
            counted(Sums.of(np.ones(2, bool), weights=np.array(wrong, dtype=float)))


def test_the_weighted_interval_covers_as_the_effective_size_says():
    """Galaxies with weights of 1 and 6, independent of what they are."""
    rng, inside = np.random.default_rng(6), 0
    weights = np.where(np.arange(600) % 3 == 0, 6.0, 1.0)
    for _ in range(300):
        found = counted(Sums.of(rng.random(600) < 0.1, weights=weights), level=0.68)
        inside += found.low <= 0.1 <= found.high
    assert abs(inside / 300 - 0.68) < 3 * np.sqrt(0.68 * 0.32 / 300)


def test_the_sum_is_a_mean_with_its_standard_error():
    score = np.random.default_rng(7).random(400)
    found = summed(Sums.of(score >= 0.3, score), level=0.95)
    half = norm.ppf(0.975) * np.std(score, ddof=1) / np.sqrt(400)
    assert (found.low, found.value, found.high) == pytest.approx(
        (score.mean() - half, score.mean(), score.mean() + half)
    )
    doubled = summed(Sums.of(score[:200] >= 0.3, score[:200], np.full(200, 2.0)))
    assert doubled.value == pytest.approx(score[:200].mean())
    assert "another quantity" in found.note


def test_an_estimate_holds_its_value():
    with pytest.raises(CatalogueError, match="no interval"):
        Estimate(0.5, 0.6, 0.7, 0.95, "count")
    for nothing in (counted, summed):
        with pytest.raises(CatalogueError, match="no galaxies"):
            nothing(Sums.of(np.zeros(0)))
