"""Recovery of a known fraction: what a poor network counts is corrected, a blind one is said to be blind."""

import numpy as np
import pytest

from hubblefork.errors import CatalogueError
from hubblefork.studies.injection import Pools, Scenario, halved, recovered, run_scenario, summary


@pytest.fixture(scope="module")
def poor():
    """A network that finds three of four true ones."""
    rng = np.random.default_rng(0)
    return Pools(rng.uniform(0.2, 0.6, 800), rng.uniform(0, 0.302, 4000))


def scenario(pools, fraction=None):
    return Scenario("test, poor", pools, fraction, survey_galaxies=1500, calibration_galaxies=800)


def test_draws_have_the_fraction_put_in(poor):
    score, truth = poor.drawn(40_000, 0.08, np.random.default_rng(1))
    assert truth.mean() == pytest.approx(0.08, abs=0.005)
    assert np.isin(score[truth], poor.true).all() and np.isin(score[~truth], poor.others).all()
    with pytest.raises(CatalogueError, match="one is empty"):
        Pools(np.zeros(0), np.ones(3))


def test_the_default_covers_and_is_unbiased_the_count_is_neither(poor):
    """Calibrated on a sky with fewer true ones: what is drawn towards that fraction must fail too."""
    found = recovered(scenario(poor, 0.06), 0.2, 60, seed=0)
    told = {name: summary(0.2, columns) for name, columns in found.items()}
    assert abs(told["corrected"]["bias"]) < 3 * told["corrected"]["bias_error"]
    assert told["count"]["bias"] < -10 * told["count"]["bias_error"]
    assert told["isotonic"]["bias"] < -5 * told["isotonic"]["bias_error"]
    for level, key in ((0.68, "coverage_68%"), (0.95, "coverage_95%")):
        error = np.sqrt(level * (1 - level) / 60)
        assert abs(told["corrected"][key] - level) < 3 * error
        assert told["count"][key] < level - 5 * error


def test_on_the_same_sky_recalibration_is_unbiased(poor):
    found = recovered(scenario(poor), 0.1, 40, seed=1)
    for name in ("isotonic", "quantile"):
        told = summary(0.1, found[name])
        assert abs(told["bias"]) < 3 * told["bias_error"], name


def test_halves_of_the_same_galaxies_agree_but_for_the_count(poor):
    score, truth = poor.drawn(3000, 0.15, np.random.default_rng(4))
    apart = halved(score, truth, threshold=0.3, splits=30)
    for name in ("corrected", "isotonic", "quantile"):
        assert abs(apart[name][0]) < 0.006, name
    assert apart["count"][0] < -0.025


def test_what_could_not_be_had_is_counted():
    blind = Pools(np.full(10, 0.1), np.full(10, 0.1))
    found = recovered(scenario(blind), 0.05, 3, seed=0)
    assert summary(0.05, found["corrected"]) == {"fraction": 0.05, "realisations": 0, "of": 3}
    assert summary(0.05, found["count"])["realisations"] == 3


def test_finished_fractions_are_not_done_again(poor, tmp_path):
    first = run_scenario(scenario(poor), tmp_path, realisations=2, fractions=(0.05, 0.1))
    files = sorted(tmp_path.iterdir())
    assert len(files) == 2
    before = [path.stat().st_mtime_ns for path in files]
    files[0].write_text(files[0].read_text().replace('"of": 2', '"of": 7'))
    again = run_scenario(scenario(poor), tmp_path, realisations=2, fractions=(0.05, 0.1))
    assert again["count"][0]["of"] == 7 and again["count"][1] == first["count"][1]
    assert files[1].stat().st_mtime_ns == before[1]
    other = Pools(poor.true, poor.others[1:])
    run_scenario(scenario(other), tmp_path, realisations=2, fractions=(0.05,))
    assert len(list(tmp_path.iterdir())) == 3
