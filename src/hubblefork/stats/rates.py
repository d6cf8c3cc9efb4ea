"""From a merger fraction to a merger rate: how long a merger can be seen decides.

R = f / ⟨T_obs⟩ mergers a galaxy and Gyr, Γ = n f / ⟨T_obs⟩ mergers a volume and Gyr (Lotz et al. 2011,
ApJ 742, 103). ⟨T_obs⟩ depends on how mergers are recognised, and none has been calibrated for volunteers'
votes: a rate from votes carries that as its largest uncertainty. Units are astropy's; uncertainties are
propagated by drawing fraction, time and density.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy import units
from numpy.typing import NDArray
from scipy.stats import truncnorm

from hubblefork.errors import CatalogueError, did_you_mean
from hubblefork.stats.estimators import LEVEL

DRAWS = 20_000
UNCALIBRATED = (
    "No ⟨T_obs⟩ has been calibrated for volunteers' votes: any value is borrowed from another way of "
    "recognising mergers, and the rate is as uncertain as that loan."
)
SHAPES = {"uniform": "LOW,HIGH", "normal": "MEAN,SD", "lognormal": "MEDIAN,DEX"}
NUMBER = r"\d+(?:\.\d*)?(?:[eE][+-]?\d+)?"


@dataclass(frozen=True)
class Time:
    """⟨T_obs⟩ in Gyr: "uniform" (low, high), "normal" (mean, sd) or "lognormal" (median, dex).

    `source` cites a published one. Raises CatalogueError for a shape or numbers that make no time.
    """

    shape: str
    first: float
    second: float
    source: str = ""

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise CatalogueError(
                f'there is no distribution "{self.shape}"{did_you_mean(self.shape, SHAPES)}; '
                f"known are {', '.join(SHAPES)}"
            )
        least = self.first if self.shape == "uniform" else 0
        if not (0 < self.first < np.inf and least <= self.second < np.inf):
            raise CatalogueError(
                f"a time of {self.shape}:{self.first},{self.second} Gyr: times are above 0, ranges rise, "
                "scatters are not negative"
            )

    def draws(self, number: int, *, rng: np.random.Generator) -> units.Quantity:
        """Draw times, shape (number,); a normal distribution is cut off at 0."""
        if self.shape == "uniform":
            values = rng.uniform(self.first, self.second, number)
        elif self.shape == "lognormal":
            values = self.first * 10 ** rng.normal(0, self.second, number)
        else:
            values = self.first + np.zeros(number)
            if self.second:
                law = truncnorm(-self.first / self.second, np.inf, self.first, self.second)
                values = law.rvs(number, random_state=rng)
        return values * units.Gyr


LOTZ = "Lotz et al. 2010, MNRAS 404, 575 (arXiv:0912.1590), used by Lotz et al. 2011, ApJ 742, 103"
PUBLISHED: dict[str, Time] = {
    "lotz-gm20": Time("uniform", 0.2, 0.4, f"G–M20, mass ratios 1:1 to 9:1; {LOTZ}"),
    "lotz-asymmetry": Time("uniform", 0.2, 0.4, f"asymmetry, major mergers (1:1 to 4:1); {LOTZ}"),
}
"""⟨T_obs⟩ by name. Asymmetry lasts longer in gas-rich mergers, from some 0.3 Gyr at a gas fraction of 20%
to 1 Gyr and more at 50% (Lotz et al. 2010b, arXiv:0912.1593), and under 0.06 Gyr in minor ones."""
ALLOWED = (
    f"give Gyr (0.3), a range (0.2-0.4), {', '.join(f'{shape}:{sides}' for shape, sides in SHAPES.items())}, "
    f"or one of {', '.join(PUBLISHED)}"
)


@dataclass(frozen=True)
class Rate:
    """A rate with its interval at confidence `level`: three quantities of the same unit."""

    value: units.Quantity
    low: units.Quantity
    high: units.Quantity
    level: float

    def as_json(self) -> dict[str, Any]:
        """Return the numbers and their unit."""
        interval = [self.low.value, self.high.value]
        unit = str(self.value.unit)
        return {"value": self.value.value, "interval": interval, "level": self.level, "unit": unit}


def parse_time(text: str) -> Time:
    """Read ⟨T_obs⟩: "0.3", "0.2-0.4" (uniform), "normal:0.3,0.05", "lognormal:0.3,0.2", or a published name.

    A unit of time may follow a value or range ("300 Myr"); without one it is Gyr. Raises CatalogueError.
    """
    words = text.strip()
    if words in PUBLISHED:
        return PUBLISHED[words]
    shape, colon, numbers = words.partition(":")
    if colon:
        pair = re.fullmatch(rf"\s*({NUMBER})\s*,\s*({NUMBER})\s*", numbers)
        if shape not in SHAPES or not pair:
            near = did_you_mean(shape, SHAPES)
            raise CatalogueError(f'"{text}" is no distribution of times{near}; {ALLOWED}')
        return Time(shape, float(pair[1]), float(pair[2]))
    match = re.fullmatch(rf"({NUMBER})(?:\s*[-–]\s*({NUMBER}))?\s*([A-Za-z]*)", words)
    if not match:
        raise CatalogueError(f'"{text}" is no time{did_you_mean(words, PUBLISHED)}; {ALLOWED}')
    try:
        scale = float(units.Unit(match[3] or "Gyr").to(units.Gyr))
    except (ValueError, units.UnitConversionError) as error:
        raise CatalogueError(f'"{text}": {match[3]} is no unit of time; give Gyr or Myr') from error
    first = float(match[1]) * scale
    return Time("uniform", first, float(match[2]) * scale if match[2] else first)


def parse_density(text: str | units.Quantity) -> units.Quantity:
    """Read a number density of galaxies with its unit, as "1.2e-2 Mpc-3". Raises CatalogueError."""
    try:
        density = units.Quantity(text).to(units.Mpc**-3)
    except (TypeError, ValueError) as error:
        raise CatalogueError(f'"{text}" is no number density: {error}; for example "1.2e-2 Mpc-3"') from error
    if not 0 < density.value < np.inf:
        raise CatalogueError(f'"{text}" is no number density: it must be above 0')
    return density


def rates_of(
    fractions: NDArray,
    t_obs: str | float | Time,
    density: str | units.Quantity = "",
    *,
    rng: np.random.Generator,
    level: float = LEVEL,
) -> dict[str, Rate]:
    """Return rates from draws of the fraction, shape (draw,).

    "per_galaxy" is R = f / ⟨T_obs⟩ in 1/Gyr; with a number density "per_volume" is Γ = n f / ⟨T_obs⟩ in
    1/(Mpc³ Gyr).
    """
    time = t_obs if isinstance(t_obs, Time) else parse_time(str(t_obs))
    per_galaxy = fractions / time.draws(len(fractions), rng=rng)
    rates = {"per_galaxy": _rate(per_galaxy, level, 1 / units.Gyr)}
    if str(density):
        per_volume = parse_density(density) * fractions / time.draws(len(fractions), rng=rng)
        rates["per_volume"] = _rate(per_volume, level, units.Mpc**-3 / units.Gyr)
    return rates


def _rate(draws: units.Quantity, level: float, unit: units.UnitBase) -> Rate:
    low, value, high = np.quantile(draws.to(unit), [(1 - level) / 2, 0.5, (1 + level) / 2])
    return Rate(value, low, high, level)
