"""Recalibrated counts against scikit-learn's own classes, and without bias on galaxies alike."""

import numpy as np
import pytest
from sklearn.preprocessing import QuantileTransformer

from hubblefork.errors import CatalogueError
from hubblefork.stats.detection import _grouped, fitted_chance, isotonic, mapped_threshold, quantile
from hubblefork.stats.estimators import counted

THRESHOLD = 0.3


def shrunken(galaxies, rng):
    """Votes, and predictions that are their means given what a network sees: less extreme."""
    seen = rng.beta(0.3, 6, galaxies)
    votes = np.clip(seen + rng.normal(0, 0.12, galaxies), 0, 1)
    return seen, votes


def test_the_isotonic_value_is_scikit_learns():
    rng = np.random.default_rng(0)
    (score, _), (known, votes) = shrunken(800, rng), shrunken(500, rng)
    known[:20] = known[20:40]  # ties with other truths
    truth = votes >= THRESHOLD
    expected = fitted_chance(known, truth).predict(score).mean()
    found = isotonic(score, known, truth, rng=rng, resamples=20)
    assert found.value == pytest.approx(expected, abs=1e-12)
    assert found.low <= found.value <= found.high


def test_quantile_mapping_is_scikit_learns_transformers():
    rng = np.random.default_rng(1)
    (score, _), (known, votes) = shrunken(4000, rng), shrunken(4000, rng)
    ranks = QuantileTransformer(n_quantiles=4000).fit(known[:, None]).transform(score[:, None])
    mapped = QuantileTransformer(n_quantiles=4000).fit(votes[:, None]).inverse_transform(ranks)
    found = quantile(score, known, votes >= THRESHOLD, rng=rng, resamples=10)
    assert found.value == pytest.approx(np.mean(mapped >= THRESHOLD), abs=2 / 4000)


def test_as_many_calibration_galaxies_reach_the_mapped_threshold_as_are_true():
    rng = np.random.default_rng(2)
    score, truth = rng.random(300), rng.random(300) < 0.1
    assert np.count_nonzero(score >= mapped_threshold(score, truth)) == truth.sum()


def test_recalibrated_counts_are_unbiased_where_the_count_is_not():
    """120 pairs of calibration and sample; the uncorrected count must fail the same test."""
    rng = np.random.default_rng(3)
    expected = np.mean(shrunken(400_000, rng)[1] >= THRESHOLD)
    found = {"isotonic": [], "quantile": [], "count": []}
    for _ in range(120):
        (score, _), (known, votes) = shrunken(1000, rng), shrunken(1000, rng)
        for name, method in (("isotonic", isotonic), ("quantile", quantile)):
            found[name].append(method(score, known, votes >= THRESHOLD, rng=rng, resamples=1).value)
        found["count"].append(counted(score >= THRESHOLD).value)
    for name, values in found.items():
        away = abs(np.mean(values) - expected) / (np.std(values) / np.sqrt(len(values)))
        assert (away > 5) == (name == "count"), name


def test_the_bootstrap_covers():
    rng = np.random.default_rng(4)
    expected = np.mean(shrunken(400_000, rng)[1] >= THRESHOLD)
    inside = 0
    for _ in range(100):
        (score, _), (known, votes) = shrunken(400, rng), shrunken(400, rng)
        one = isotonic(score, known, votes >= THRESHOLD, rng=rng, level=0.68, resamples=40)
        inside += one.low <= expected <= one.high
    assert abs(inside / 100 - 0.68) < 3 * np.sqrt(0.68 * 0.32 / 100)


@pytest.mark.parametrize("weighted", [False, True])
def test_groups_are_drawn_as_their_galaxies_would_be(weighted):
    """The sum over each group, many times: galaxies taken one by one have the same mean and scatter."""
    rng = np.random.default_rng(6)
    score, known = rng.random(300), rng.random(4)
    weights = rng.choice([0.0, 0.5, 2.0], 300) if weighted else None
    groups = _grouped(score, known, weights)
    drawn = np.array([groups.drawn(rng) for _ in range(4000)])
    each = np.ones(300) if weights is None else weights
    place = np.searchsorted(np.sort(known), score, side="right")
    for number in range(5):
        taken = each[place == number] * rng.standard_exponential((4000, np.count_nonzero(place == number)))
        assert groups.mean[number] == pytest.approx(
            np.average(score[place == number], weights=each[place == number])
        )
        assert drawn[:, number].mean() == pytest.approx(taken.sum(axis=1).mean(), rel=0.02)
        assert drawn[:, number].std() == pytest.approx(taken.sum(axis=1).std(), rel=0.05)


def test_a_score_on_a_calibration_galaxys_own_reaches_the_mapped_threshold():
    known = np.array([0.1, 0.2, 0.3, 0.4])
    found = quantile(
        np.array([0.3, 0.3, 0.29, 0.9]), known, known >= 0.3, rng=np.random.default_rng(0), resamples=1
    )
    assert found.value == 0.75


@pytest.mark.parametrize("method", [isotonic, quantile])
def test_weights_count_galaxies_several_times(method):
    rng = np.random.default_rng(5)
    (score, _), (known, votes) = shrunken(50, rng), shrunken(400, rng)
    weights = rng.integers(0, 4, 50).astype(float)
    truth = votes >= THRESHOLD
    weighted = method(score, known, truth, rng=rng, weights=weights, resamples=5)
    repeated = method(np.repeat(score, weights.astype(int)), known, truth, rng=rng, resamples=5)
    assert weighted.value == pytest.approx(repeated.value)


@pytest.mark.parametrize("method", [isotonic, quantile])
def test_nothing_to_calibrate_on(method):
    with pytest.raises(CatalogueError, match="0 true ones among 5"):
        method(np.ones(3), np.linspace(0, 1, 5), np.zeros(5, bool), rng=np.random.default_rng(0))
