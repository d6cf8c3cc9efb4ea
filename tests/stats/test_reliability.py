"""Bins of reliability against numpy's and scipy's own, and an error that chance explains or does not."""

import numpy as np
import pytest
from scipy import stats

from hubblefork.stats.metrics import reliability_of


def test_bins_hold_as_many_galaxies_each_and_their_means():
    rng = np.random.default_rng(0)
    predicted, volunteers = rng.random(205), rng.random(205)
    volunteers[::41] = np.nan
    known = ~np.isnan(volunteers)
    x, y = predicted[known], volunteers[known]
    edges = np.quantile(x, np.linspace(0, 1, 11))
    found = reliability_of(predicted, volunteers)
    assert found.galaxies.tolist() == [20] * 10
    for statistic, measured in (("mean", found.volunteers), (stats.sem, found.standard_error)):
        np.testing.assert_allclose(measured, stats.binned_statistic(x, y, statistic, bins=edges).statistic)
    np.testing.assert_allclose(found.predicted, stats.binned_statistic(x, x, "mean", bins=edges).statistic)


def test_the_error_is_the_mean_distance_and_chance_explains_it_where_all_is_well():
    rng = np.random.default_rng(1)
    predicted = rng.beta(0.5, 3, 40_000).reshape(40, 1000)
    right = rng.binomial(10, predicted) / 10
    found = [reliability_of(*sides) for sides in zip(predicted, right, strict=True)]
    by_chance = np.mean([one.error_by_chance for one in found])
    assert np.mean([one.error for one in found]) == pytest.approx(by_chance, rel=0.1)
    shifted = [reliability_of(x, y + 0.1) for x, y in zip(predicted, right, strict=True)]
    assert np.mean([one.error for one in shifted]) == pytest.approx(0.1, abs=0.001)


def test_few_galaxies_and_none():
    found = reliability_of(np.array([0.2, 0.4]), np.array([0.3, 0.3]))
    assert found.galaxies.tolist() == [1, 1]
    assert found.error == pytest.approx(0.1)
    assert found.error_by_chance == 0
    none = reliability_of(np.array([0.2]), np.array([np.nan]))
    assert (none.error, none.error_by_chance, len(none.galaxies)) == (None, None, 0)
