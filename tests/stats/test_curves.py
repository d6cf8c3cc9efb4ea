"""Learning curves: the law is found again, held to what can be, and as uncertain as its points."""

import numpy as np
import pytest

from hubblefork.errors import CatalogueError
from hubblefork.stats.curves import PowerLaw, fit_power_law, learning_curve
from hubblefork.stats.metrics import error_terms, in_total

SIZES = np.array([1250, 2500, 5000, 10_000])


@pytest.mark.parametrize(
    ("floor", "gain", "exponent"), [(0.08, 0.02, 0.5), (0.0, 0.1, 0.2), (0.07, 0.03, 0.9)]
)
def test_an_exact_law_is_found_again(floor, gain, exponent):
    truth = PowerLaw(floor, gain, exponent, scale=10_000)
    found = fit_power_law(SIZES, truth.at(SIZES))
    assert found.at(55_420) == pytest.approx(truth.at(55_420), abs=2e-5)
    assert (found.floor, found.gain, found.exponent) == pytest.approx((floor, gain, exponent), abs=2e-3)


@pytest.mark.parametrize("seed", range(5))
def test_no_other_allowed_law_is_nearer(seed):
    errors = 0.09 + 0.03 * (SIZES / 10_000) ** -0.4 + np.random.default_rng(seed).normal(0, 0.002, 4)
    found = fit_power_law(SIZES, errors)
    floors, gains, exponents = np.meshgrid(
        np.linspace(0, 0.13, 120), np.linspace(0, 0.13, 120), np.linspace(0.01, 1, 60), indexing="ij"
    )
    laws = floors[..., None] + gains[..., None] * (SIZES / 10_000) ** -exponents[..., None]
    nearest = np.min(np.sum((laws - errors) ** 2, axis=-1))
    assert np.sum((found.at(SIZES) - errors) ** 2) <= nearest + 1e-9


def test_the_law_is_held_to_what_can_be():
    steep = fit_power_law(SIZES, 0.1 + 0.01 * (SIZES / 10_000) ** -2.0)
    assert steep.exponent == pytest.approx(1.0, abs=1e-4)
    rising = fit_power_law(SIZES, np.array([0.10, 0.11, 0.12, 0.13]))
    assert rising.at(SIZES) == pytest.approx([0.115] * 4, abs=1e-4)
    logarithmic = fit_power_law(SIZES, 0.12 - 0.02 * np.log(SIZES / 10_000))
    assert logarithmic.floor >= 0 and logarithmic.at(1e12) >= 0


def test_two_sizes_are_too_few():
    with pytest.raises(CatalogueError, match="of 2 sizes: it takes 3"):
        fit_power_law(np.array([1, 2, 2]), np.array([0.2, 0.1, 0.1]))


def curve(*, seeds, spread, resamples=300, seed=0):
    """A curve of networks whose errors are normal around a law, `spread` apart from seed to seed."""
    rng = np.random.default_rng(seed)
    truth = PowerLaw(0.08, 0.02, 0.5, scale=10_000)
    votes = rng.random((400, 5))
    errors = [
        [
            in_total(
                error_terms(votes + rng.normal(0, truth.at(size) + rng.normal(0, spread), votes.shape), votes)
            )
            for _ in range(seeds)
        ]
        for size in SIZES
    ]
    return learning_curve(SIZES.tolist(), errors, rng=rng, resamples=resamples), truth


def test_a_curve_has_the_mean_and_spread_of_its_seeds():
    found, truth = curve(seeds=3, spread=0.001)
    assert found.rmse == pytest.approx(truth.at(SIZES), abs=0.004)
    assert found.seeds.tolist() == [3] * 4
    assert np.isnan(curve(seeds=1, spread=0.001)[0].sd).all()


def test_the_interval_holds_the_truth_as_often_as_it_says_and_is_wider_beyond_the_points():
    inside = 0
    for seed in range(24):
        found, truth = curve(seeds=3, spread=0.001, resamples=60, seed=seed)
        low, high = found.interval_95(55_420)
        inside += low <= truth.at(55_420) <= high
        assert high - low > np.diff(found.interval_95(5000), axis=0)[0]
    assert inside >= 19


def test_seeds_that_differ_widen_the_interval():
    widths = [np.diff(curve(seeds=3, spread=spread)[0].interval_95(55_420), axis=0) for spread in (0, 0.005)]
    assert widths[1] > widths[0]


def test_no_floor_is_the_most_that_can_be_gained():
    found, _ = curve(seeds=2, spread=0.001)
    assert found.through_zero.floor == 0
    assert found.through_zero.at(55_420) < found.law.at(55_420) + 1e-6
