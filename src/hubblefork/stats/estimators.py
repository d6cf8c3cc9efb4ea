"""Fractions of a sample of galaxies without a correction, their intervals, and the names of all estimators.

Equations and sources: docs/merger-fraction.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from hubblefork.errors import CatalogueError
from hubblefork.zoo import DecisionTree

DEFAULT, UNCORRECTED = "corrected", "count"
LABELS = {
    "corrected": "corrected count",
    "bayesian": "corrected, Bayesian",
    "rogan_gladen": "corrected, normal interval",
    "isotonic": "recalibrated, isotonic",
    "quantile": "recalibrated, quantile mapping",
    "count": "count, Wilson",
    "count_jeffreys": "count, Jeffreys",
    "sum": "sum of fractions",
}
"""What tables and figures call each estimator, in their order."""
MERGER = "merger"
THRESHOLD = 0.3
Interval = Literal["wilson", "jeffreys"]
INTERVAL: Interval = "wilson"
LEVEL = 0.95


@dataclass(frozen=True)
class Count:
    """`count` of `total` galaxies have a joint fraction of `answer` of at least `threshold`.

    `low` and `high` are the binomial interval of that name at confidence `level`, which knows nothing of
    wrong predictions. `missing` galaxies have no fraction and are in neither number. Raises CatalogueError
    for numbers that contradict each other.
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
        Estimate(self.value, self.low, self.high, self.level, "count")


@dataclass(frozen=True)
class Estimate:
    """The fraction of one estimator: `low` to `high` is its interval at confidence `level`.

    `method` names value and interval, `note` what to mind, as that a value was clipped. Raises CatalogueError
    for an interval that does not hold its value or leaves [0, 1].
    """

    value: float
    low: float
    high: float
    level: float
    method: str
    note: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.value <= self.high <= 1 or not 0 < self.level < 1:
            raise CatalogueError(
                f"{self.method}: {self.low} to {self.high} around {self.value} at level {self.level} "
                "is no interval in [0, 1]"
            )


@dataclass(frozen=True)
class Unavailable:
    """An estimate that is unavailable: why, and what to do about it."""

    reason: str
    remedy: str


def count_above(
    tree: DecisionTree,
    joint: NDArray,
    *,
    answer: str = MERGER,
    threshold: float = THRESHOLD,
) -> Count:
    """Return the share of galaxies whose joint fraction of an answer is at least a threshold.

    `joint` has shape (galaxy, answer). Rows where that answer is NaN are left out and counted.
    Raises UnknownAnswer, and CatalogueError for a threshold outside (0, 1] or no galaxies.
    """
    if not 0 < threshold <= 1:
        raise CatalogueError(f"a threshold of {threshold}: it must be above 0 and at most 1")
    values = joint[:, tree.column(answer)]
    present = values[~np.isnan(values)]
    if not len(present):
        raise CatalogueError(
            f'no fraction of "{answer}": none of the {len(values)} galaxies has a value for it; '
            "give galaxies with predictions or labels"
        )
    count, total = int(np.count_nonzero(present >= threshold)), len(present)
    low, high = binomial_interval(count, total)
    missing = len(values) - total
    return Count(count, total, count / total, low, high, LEVEL, INTERVAL, threshold, answer, missing)


def binomial_interval(
    count: float, total: float, *, interval: Interval = INTERVAL, level: float = LEVEL
) -> tuple[float, float]:
    """Return the "wilson" or "jeffreys" bounds of a binomial proportion, within [0, 1].

    Brown, Cai & DasGupta 2001, Stat. Sci. 16, 101. Neither number needs to be whole. Raises CatalogueError
    for a level outside (0, 1) or no galaxies.
    """
    if not 0 < level < 1 or not 0 <= count <= total or total == 0:
        raise CatalogueError(
            f"an interval of level {level} for {count} of {total} galaxies: "
            "the level lies between 0 and 1, and there is at least one galaxy"
        )
    share, z = count / total, float(stats.norm.ppf((1 + level) / 2))
    if interval == "jeffreys":
        return _around(share, *stats.beta.interval(level, count + 0.5, total - count + 0.5))
    centre = (count + z**2 / 2) / (total + z**2)
    half = z / (total + z**2) * np.sqrt(share * (1 - share) * total + z**2 / 4)
    return _around(share, centre - half, centre + half)


def _around(value: float, low: float, high: float) -> tuple[float, float]:
    """Return an interval within [0, 1] that holds its value."""
    return max(0.0, min(float(low), value)), min(1.0, max(float(high), value))


@dataclass(frozen=True)
class Sums:
    """What estimates need of a sample of galaxies: sums, so that those of two parts of it add up.

    `galaxies`, of which `counted` count; `moments`: the sums of the weights, of their squares, of those of
    galaxies that count, of weights times score and of weights times its square (the score is the predicted
    fraction; NaN without). `groups` (3, group): sums of weights, of their squares, and of weights times
    score, of the galaxies between neighbouring scores of calibration galaxies.
    """

    galaxies: int
    counted: int
    moments: NDArray[np.float64]
    groups: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        counts: NDArray,
        score: NDArray | None = None,
        weights: NDArray | None = None,
        known: NDArray | None = None,
    ) -> Sums:
        """Sum over galaxies: `counts` is true where one counts, `score` and `weights` (galaxy,) are optional.

        `known` are the scores of the calibration galaxies. Raises CatalogueError for weights that are
        negative, missing or infinite, and for arrays of different lengths.
        """
        lengths = {len(part) for part in (counts, score, weights) if part is not None}
        if len(lengths) > 1:
            raise CatalogueError(f"a sample of {sorted(lengths)} galaxies: its columns differ in length")
        weight = np.ones(len(counts)) if weights is None else weights
        if not np.isfinite(weight).all() or (weight < 0).any():
            raise _wrong_weights(len(weight))
        scored = np.full(len(counts), np.nan) if score is None else score
        parts = weight, weight**2, weight * counts, weight * scored, weight * scored**2
        edges = np.unique([] if known is None else known)
        places = np.searchsorted(edges, scored, side="right")
        sums = [np.bincount(places, part, len(edges) + 1) for part in (weight, weight**2, weight * scored)]
        moments = np.array([part.sum() for part in parts])
        return cls(len(counts), int(np.count_nonzero(counts)), moments, np.stack(sums))

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.galaxies + other.galaxies,
            self.counted + other.counted,
            self.moments + other.moments,
            self.groups + other.groups,
        )

    @property
    def scored(self) -> bool:
        """Whether the galaxies have a predicted fraction."""
        return not np.isnan(self.moments[3])

    @property
    def size(self) -> float:
        """How many galaxies of equal weight say as much: (Σw)² / Σw² (Kish 1965).

        Raises CatalogueError for no galaxies, or weights that are all 0.
        """
        if not self.galaxies:
            raise CatalogueError("no galaxies are left to count; give a catalogue or a selection with some")
        weight, squares = self.moments[:2]
        if not weight:
            raise _wrong_weights(self.galaxies)
        return float(weight**2 / squares)

    @property
    def count(self) -> float:
        """The number of galaxies that count; with weights their share times `size` (Korn & Graubard 1998).

        Surv. Methodol. 24, 193.
        """
        return float(self.moments[2] * (self.size / self.moments[0]))


def _wrong_weights(number: int) -> CatalogueError:
    return CatalogueError(
        f"{number} weights: each must be a finite number, none below 0, and one at least above 0"
    )


def counted(sums: Sums, *, interval: Interval = INTERVAL, level: float = LEVEL) -> Estimate:
    """Return the share of galaxies that count, with a binomial interval: nothing is corrected.

    With weights it is that for the effective number of galaxies. Raises CatalogueError for no galaxies, and
    for weights that are all 0.
    """
    total = sums.size
    weighted = sums.moments[1] != sums.galaxies
    bounds = binomial_interval(sums.count, total, interval=interval, level=level)
    note = f"weighted; effective number of galaxies {total:.1f}" if weighted else ""
    method = f"share above the threshold, {interval} interval"
    return Estimate(sums.count / total, *bounds, level, method, note)


def summed(sums: Sums, *, level: float = LEVEL) -> Estimate:
    """Return the mean of the joint fractions, with a normal interval from their scatter.

    It estimates the mean share of votes, which is another quantity than the share of galaxies above a
    threshold. Raises CatalogueError for no galaxies or weights that are all 0.
    """
    size, weight = sums.size, sums.moments[0]
    value, square = (sums.moments[3:] / weight).tolist()
    scatter = max(square - value**2, 0) / max(size - 1, 1)
    half = float(stats.norm.ppf((1 + level) / 2) * np.sqrt(scatter))
    bounds = _around(value, value - half, value + half)
    return Estimate(value, *bounds, level, "mean of the fractions", "mean share of votes: another quantity")
