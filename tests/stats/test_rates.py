"""Rates: units, numbers that can be done by hand, and what is no time."""

import numpy as np
import pytest
from astropy import units

from hubblefork.errors import CatalogueError
from hubblefork.stats.rates import PUBLISHED, Time, parse_density, parse_time, rates_of


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("0.3", Time("uniform", 0.3, 0.3)),
        ("300 Myr", Time("uniform", 0.3, 0.3)),
        ("0.2-0.4", Time("uniform", 0.2, 0.4)),
        ("0.2 – 0.4 Gyr", Time("uniform", 0.2, 0.4)),
        ("2e-1-4e-1", Time("uniform", 0.2, 0.4)),
        ("normal:0.3,0.05", Time("normal", 0.3, 0.05)),
        ("lognormal:0.3,0.2", Time("lognormal", 0.3, 0.2)),
        ("lotz-gm20", PUBLISHED["lotz-gm20"]),
    ],
)
def test_times_are_read(text, time):
    found = parse_time(text)
    assert (found.shape, found.source) == (time.shape, time.source)
    assert (found.first, found.second) == pytest.approx((time.first, time.second))


@pytest.mark.parametrize(
    "text", ["", "soon", "-0.3", "0", "0.4-0.2", "0.3 km", "normal:0.3", "cauchy:0.3,0.1", "nan", "lotz-gm2"]
)
def test_what_is_no_time(text):
    with pytest.raises(CatalogueError):
        parse_time(text)


def test_a_known_fraction_and_time_give_the_quotient(rng):
    rate = rates_of(np.full(50, 0.03), "0.3", rng=rng)["per_galaxy"]
    assert rate.value.to_value(1 / units.Gyr) == pytest.approx(0.1)
    assert rate.low == rate.high == rate.value
    volume = rates_of(np.full(50, 0.03), "300 Myr", "1e-2 Mpc-3", rng=rng)["per_volume"]
    assert volume.value.to_value(1 / (units.Gpc**3 * units.Gyr)) == pytest.approx(1e6)


def test_a_range_of_times_is_propagated(rng):
    """1/T of a uniform T: the quantiles of the rate are those of the time, turned round."""
    rate = rates_of(np.full(200_000, 0.03), "0.2-0.4", rng=rng, level=0.9)["per_galaxy"]
    expected = 0.03 / np.array([0.39, 0.3, 0.21])
    got = [quantity.value for quantity in (rate.low, rate.value, rate.high)]
    np.testing.assert_allclose(got, expected, rtol=3e-3)


def test_scatter_of_times(rng):
    draws = parse_time("lognormal:0.3,0.2").draws(100_000, rng=rng).to_value(units.Gyr)
    assert np.median(draws) == pytest.approx(0.3, rel=0.01)
    assert np.std(np.log10(draws)) == pytest.approx(0.2, rel=0.02)
    broad = parse_time("normal:0.3,0.5").draws(10_000, rng=rng).to_value(units.Gyr)
    assert (broad > 0).all()
    assert (parse_time("normal:0.3,0").draws(3, rng=rng).to_value(units.Gyr) == 0.3).all()


def test_the_same_seed_the_same_rate():
    first, again = (
        rates_of(np.linspace(0, 0.1, 500), "lotz-asymmetry", rng=np.random.default_rng(4)) for _ in range(2)
    )
    assert first == again


def test_densities_have_units():
    assert parse_density("10 Gpc-3").to_value(units.Mpc**-3) == pytest.approx(1e-8)
    for text in ("0.01", "0.01 Mpc", "-1 Mpc-3", "many"):
        with pytest.raises(CatalogueError, match="no number density"):
            parse_density(text)
