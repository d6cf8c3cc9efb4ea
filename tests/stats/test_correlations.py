import numpy as np
import pytest
from scipy.stats import pearsonr

from hubblefork.stats.samples import correlations


@pytest.fixture
def values():
    rng = np.random.default_rng(4)
    return rng.random((80, 5)) @ rng.random((5, 6))


def test_without_gaps_it_is_the_correlation_matrix(values):
    found = correlations(values)
    assert found.rho == pytest.approx(np.corrcoef(values.T))
    assert (found.galaxies == 80).all()


def test_a_missing_label_is_left_out_of_its_pairs_only(values):
    values[:30, 1] = np.nan
    values[20:45, 2] = np.nan
    found = correlations(values)
    for i in range(6):
        for j in range(6):
            both = ~np.isnan(values[:, i]) & ~np.isnan(values[:, j])
            assert found.rho[i, j] == pytest.approx(pearsonr(values[both, i], values[both, j])[0])
            assert found.galaxies[i, j] == both.sum()
    assert found.galaxies[1, 2] == 35


def test_far_from_zero_digits_are_kept(values):
    assert correlations(values + 1e6).rho == pytest.approx(np.corrcoef(values.T), abs=1e-4)


def test_answers_that_exclude_each_other_anticorrelate():
    yes = np.random.default_rng(0).random(50)
    assert correlations(np.stack([yes, 1 - yes], axis=1)).rho[0, 1] == pytest.approx(-1)


def test_what_does_not_vary_or_was_never_asked_has_none(values):
    values[:, 0] = 0.3
    values[:, 1] = np.nan
    rho = correlations(values).rho
    assert np.isnan(rho[0]).all() and np.isnan(rho[1]).all() and np.isnan(rho[:, 1]).all()
    assert np.isfinite(rho[2:, 2:]).all()


def test_what_does_not_vary_where_the_other_is_known_has_none(values):
    values[:40, 0] = 0.3
    values[40:, 1] = np.nan
    assert np.isnan(correlations(values).rho[0, 1])
    assert np.isfinite(correlations(values).rho[0, 2])
