"""What share of a sample shows something, with an interval: the merger fraction, or any answer's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from astropy.stats import binom_conf_interval
from numpy.typing import NDArray

from hubblefork.errors import CatalogueError, did_you_mean
from hubblefork.zoo import DecisionTree

MERGER = "merger"
THRESHOLD = 0.3
INTERVALS = ("wilson", "jeffreys", "flat", "wald")
INTERVAL = "wilson"
LEVEL = 0.95


@dataclass(frozen=True)
class Fraction:
    """`count` of `total` galaxies have a joint fraction of `answer` of at least `threshold`.

    `low` and `high` bound the binomial interval of that name at confidence `level`: what the number
    of galaxies leaves open, not what a wrong prediction does. `missing` galaxies have no fraction
    and are in neither number. Raises CatalogueError for numbers that contradict each other.
    """

    count: int
    total: int
    value: float
    low: float
    high: float
    level: float
    interval: str
    threshold: float
    answer: str
    missing: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.count <= self.total or self.total == 0 or self.missing < 0:
            raise CatalogueError(f"{self.count} of {self.total} galaxies, {self.missing} missing: impossible")
        if not 0 <= self.low <= self.value <= self.high <= 1:
            raise CatalogueError(f"{self.low} to {self.high} around {self.value} is no interval in [0, 1]")


def fraction_above(
    tree: DecisionTree,
    joint: NDArray,
    *,
    answer: str = MERGER,
    threshold: float = THRESHOLD,
    interval: str = INTERVAL,
    level: float = LEVEL,
) -> Fraction:
    """Return the share of galaxies whose joint fraction of an answer is at least a threshold.

    `joint` has shape (galaxy, answer). Rows where that answer is NaN are left out and counted.
    Raises UnknownAnswer, and CatalogueError for a threshold outside (0, 1] or no galaxies.
    """
    if not 0 < threshold <= 1:
        raise CatalogueError(f"a threshold of {threshold}: it must be above 0 and at most 1")
    values = joint[:, tree.column(answer)]
    known = values[~np.isnan(values)]
    if not len(known):
        raise CatalogueError(
            f'no fraction of "{answer}": none of the {len(values)} galaxies has a value for it; '
            "give galaxies with predictions or labels"
        )
    count = int(np.count_nonzero(known >= threshold))
    low, high = binomial_interval(count, len(known), interval=interval, level=level)
    return Fraction(
        count=count,
        total=len(known),
        value=count / len(known),
        low=low,
        high=high,
        level=level,
        interval=interval,
        threshold=threshold,
        answer=answer,
        missing=len(values) - len(known),
    )


def binomial_interval(
    count: int, total: int, *, interval: str = INTERVAL, level: float = LEVEL
) -> tuple[float, float]:
    """Return the bounds of a binomial proportion: astropy's "wilson", "jeffreys", "flat" or "wald".

    Clipped to [0, 1]. Raises CatalogueError for another name, a level outside (0, 1) or no galaxies.
    """
    if interval not in INTERVALS:
        raise CatalogueError(
            f'there is no interval "{interval}"{did_you_mean(interval, INTERVALS)}; '
            f"known are {', '.join(INTERVALS)}"
        )
    if not 0 < level < 1 or not 0 <= count <= total or total == 0:
        raise CatalogueError(
            f"an interval of level {level} for {count} of {total} galaxies: "
            "the level lies between 0 and 1, and there is at least one galaxy"
        )
    low, high = np.clip(binom_conf_interval(count, total, confidence_level=level, interval=interval), 0, 1)
    return min(float(low), count / total), max(float(high), count / total)
