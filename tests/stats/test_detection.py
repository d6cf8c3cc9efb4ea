"""Corrected counts against closed forms, an integral done another way, and simulations."""

import numpy as np
import pytest
from scipy import integrate, stats

from hubblefork.errors import CatalogueError
from hubblefork.stats.detection import (
    Confusion,
    bayesian,
    confusion,
    lang_reiczigel,
    lang_reiczigel_draws,
    posterior,
    rogan_gladen,
)
from hubblefork.stats.estimators import counted

GOOD = Confusion(positives=60, true_positives=45, negatives=940, false_positives=19)
PERFECT = Confusion(positives=10**7, true_positives=10**7, negatives=10**7, false_positives=0)


def test_confusion_counts_the_four_kinds():
    counts = np.array([True, True, False, False, True])
    truth = np.array([True, False, True, False, True])
    found = confusion(counts, truth)
    assert found == Confusion(positives=3, true_positives=2, negatives=2, false_positives=1)
    assert (found.completeness, found.false_positive_rate) == (2 / 3, 0.5)
    with pytest.raises(CatalogueError):
        Confusion(positives=3, true_positives=4, negatives=2, false_positives=1)


def test_rogan_gladen_inverts_the_expected_count():
    for fraction in (0, 0.03, 0.5, 1):
        expected = fraction * GOOD.completeness + (1 - fraction) * GOOD.false_positive_rate
        assert rogan_gladen(1000 * expected, 1000, GOOD).value == pytest.approx(fraction, abs=1e-12)


def test_rogan_gladen_without_errors_is_the_count():
    found = rogan_gladen(30, 1000, PERFECT, level=0.95)
    assert found.value == pytest.approx(0.03)
    half = 1.959964 * np.sqrt(0.03 * 0.97 / 1000)
    assert (found.low, found.high) == pytest.approx((0.03 - half, 0.03 + half), abs=1e-6)


def test_the_variance_is_that_of_the_simulated_estimate():
    rng, fraction = np.random.default_rng(0), 0.2
    chance = fraction * 0.75 + (1 - fraction) * 0.02
    found = rng.binomial(600, 0.75, 4000) / 600
    mistaken = rng.binomial(2000, 0.02, 4000) / 2000
    share = rng.binomial(3000, chance, 4000) / 3000
    simulated = np.std((share - mistaken) / (found - mistaken))
    one = rogan_gladen(3000 * chance, 3000, Confusion(600, 450, 2000, 40), level=0.6826895)
    assert (one.high - one.low) / 2 == pytest.approx(simulated, rel=0.05)


def test_what_is_clipped_is_said():
    found = rogan_gladen(0, 1000, GOOD)
    assert (found.value, found.low) == (0, 0)
    assert "clipped from -0.0277 to 0" in found.note
    assert lang_reiczigel(0, 1000, GOOD).note == found.note
    assert rogan_gladen(50, 1000, GOOD).note == ""


def test_lang_reiczigel_without_errors_is_agresti_and_coull():
    """With both rates known exactly only the added galaxies of the sample are left."""
    z = stats.norm.ppf(0.975)
    size, share = 1000 + z**2, (30 + z**2 / 2) / (1000 + z**2)
    half = z * np.sqrt(share * (1 - share) / size)
    found = lang_reiczigel(30, 1000, PERFECT)
    assert (found.low, found.high) == pytest.approx((share - half, share + half), abs=1e-5)


@pytest.mark.parametrize(("count", "level"), [(52, 0.95), (200, 0.68), (20, 0.99)])
def test_lang_reiczigel_is_the_papers_in_sensitivity_and_specificity(count, level):
    """Written as in the paper: sensitivity, specificity and apparent prevalence, each adjusted."""
    z = stats.norm.ppf((1 + level) / 2)
    n, n_se, n_sp = 1000 + z**2, GOOD.positives + 2, GOOD.negatives + 2
    apparent = (count + z**2 / 2) / n
    se, sp = (GOOD.true_positives + 1) / n_se, (GOOD.negatives - GOOD.false_positives + 1) / n_sp
    youden = se + sp - 1
    prevalence = (apparent + sp - 1) / youden
    error = np.sqrt(
        apparent * (1 - apparent) / n
        + se * (1 - se) / n_se * prevalence**2
        + sp * (1 - sp) / n_sp * (1 - prevalence) ** 2
    )
    shift = 2 * z**2 * (prevalence * se * (1 - se) / n_se - (1 - prevalence) * sp * (1 - sp) / n_sp)
    expected = prevalence + shift + z * np.array([-1, 1]) * error / youden
    found = lang_reiczigel(count, 1000, GOOD, level=level)
    np.testing.assert_allclose((found.low, found.high), np.clip(expected, 0, 1), rtol=1e-12)


def test_draws_have_the_intervals_as_quantiles():
    drawn = lang_reiczigel_draws(200, 1000, GOOD, 40_000, rng=np.random.default_rng(5))
    for level in (0.68, 0.95):
        found = lang_reiczigel(200, 1000, GOOD, level=level)
        expected = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
        np.testing.assert_allclose((found.low, found.high), expected, atol=0.003)


def test_the_posterior_without_errors_is_that_of_jeffreys():
    grid, below = posterior(30, 1000, PERFECT)
    expected = stats.beta.ppf([0.025, 0.5, 0.975], 30.5, 970.5)
    np.testing.assert_allclose(np.interp([0.025, 0.5, 0.975], below, grid), expected, rtol=3e-3)


def test_the_posterior_is_the_integral_done_another_way():
    """A Monte Carlo integral over completeness and false-positive rate, quadrature over the fraction."""
    count, total = 52, 1000
    rng = np.random.default_rng(1)
    complete = rng.beta(45.5, 15.5, 1500)
    false = rng.beta(19.5, 921.5, 1500)
    grid = np.linspace(1e-6, 0.2, 1001)
    chance = grid[:, None] * complete + (1 - grid[:, None]) * false
    density = stats.binom.pmf(count, total, chance).mean(axis=1) * stats.beta.pdf(grid, 0.5, 0.5)
    below = integrate.cumulative_trapezoid(density, grid, initial=0)
    expected = np.interp([0.025, 0.5, 0.975], below / below[-1], grid)
    fractions, chances = posterior(count, total, GOOD)
    found = np.interp([0.025, 0.5, 0.975], chances, fractions)
    np.testing.assert_allclose(found, expected, rtol=0.02, atol=2e-4)


def test_bayesian_is_the_posteriors_median_and_tails():
    found, (grid, below) = bayesian(52, 1000, GOOD, level=0.9), posterior(52, 1000, GOOD)
    expected = np.interp([0.05, 0.5, 0.95], below, grid)
    assert (found.low, found.value, found.high) == pytest.approx(expected)
    drawn = np.interp(np.random.default_rng(2).random(20000), below, grid)
    assert np.mean(drawn < found.low) == pytest.approx(0.05, abs=0.01)


def test_the_corrected_interval_covers_and_that_of_the_count_does_not():
    """200 surveys of 2,000 galaxies, a fifth of them true; each with calibration galaxies of its own."""
    rng, fraction, surveys = np.random.default_rng(3), 0.2, 200
    inside = {"bayesian": 0, "rogan_gladen": 0, "count": 0}
    for _ in range(surveys):
        measured = Confusion(80, int(rng.binomial(80, 0.77)), 1300, int(rng.binomial(1300, 0.003)))
        count = int(rng.binomial(2000, fraction * 0.77 + (1 - fraction) * 0.003))
        plain = counted(np.arange(2000) < count, level=0.68)
        for name, one in (
            ("bayesian", bayesian(count, 2000, measured, level=0.68)),
            ("rogan_gladen", rogan_gladen(count, 2000, measured, level=0.68)),
            ("count", plain),
        ):
            inside[name] += one.low <= fraction <= one.high
    error = np.sqrt(0.68 * 0.32 / surveys)
    assert abs(inside["bayesian"] / surveys - 0.68) < 3 * error
    assert abs(inside["rogan_gladen"] / surveys - 0.68) < 3 * error
    assert inside["count"] / surveys < 0.1


@pytest.mark.parametrize("method", [rogan_gladen, lang_reiczigel, bayesian])
def test_what_cannot_be_corrected(method):
    for blind in (Confusion(0, 0, 900, 3), Confusion(10, 0, 900, 3), Confusion(10, 1, 0, 0)):
        with pytest.raises(CatalogueError, match="cannot be corrected"):
            method(5, 100, blind)
    with pytest.raises(CatalogueError, match="not more count"):
        method(101, 100, GOOD)
