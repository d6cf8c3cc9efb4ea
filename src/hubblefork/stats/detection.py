"""Completeness and false-positive rate of a count of galaxies, and the count corrected by them.

Both rates are measured on calibration galaxies: galaxies with labels that the network did not train on.
*Completeness* (true-positive rate) is the share of the true galaxies that are counted. The *false-positive
rate* is the share of the other galaxies that are counted; it is not the contamination of the sample, which is
1 − purity. The corrections take both rates to be the same in the sample as in the calibration galaxies.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.stats import qmc

from hubblefork.data.folders import VIEWING, JudgedGalaxies
from hubblefork.errors import CatalogueError, RunError
from hubblefork.io import write_text
from hubblefork.stats.estimators import LEVEL, Estimate, Unavailable
from hubblefork.stats.query import Criterion
from hubblefork.zoo import DecisionTree

GRID = 800
RATES = 256
PRIOR = 0.5


@dataclass(frozen=True)
class Confusion:
    """Numbers of calibration galaxies: true ones, those of them counted; other ones, those of them counted.

    Raises CatalogueError when more galaxies are counted than there are.
    """

    positives: int
    true_positives: int
    negatives: int
    false_positives: int

    def __post_init__(self) -> None:
        if not (0 <= self.true_positives <= self.positives and 0 <= self.false_positives <= self.negatives):
            raise CatalogueError(f"{self}: more galaxies are counted than there are")

    @property
    def completeness(self) -> float:
        """The share of the true galaxies that are counted; NaN where there are none."""
        return self.true_positives / self.positives if self.positives else float("nan")

    @property
    def false_positive_rate(self) -> float:
        """The share of the other galaxies that are counted; NaN where there are none."""
        return self.false_positives / self.negatives if self.negatives else float("nan")

    @property
    def purity(self) -> float:
        """The share of the counted galaxies that are true (1 − contamination); NaN where none is counted.

        It depends on how common true galaxies are, so that it holds for the calibration galaxies only.
        """
        counted = self.true_positives + self.false_positives
        return self.true_positives / counted if counted else float("nan")

    @property
    def smoothed(self) -> tuple[float, float]:
        """Both rates with one counted and one uncounted galaxy added to each kind."""
        return (self.true_positives + 1) / (self.positives + 2), (self.false_positives + 1) / (
            self.negatives + 2
        )

    @property
    def separates(self) -> bool:
        """Whether true galaxies are counted more often than others; no correction is possible otherwise."""
        complete, false = self.smoothed
        both = bool(self.positives and self.negatives)
        return both and self.completeness > self.false_positive_rate and complete > false


def confusion(counts: NDArray, truth: NDArray) -> Confusion:
    """Return the numbers of a count on calibration galaxies; both arrays are true or false, (galaxy,)."""
    counts, truth = counts.astype(bool), truth.astype(bool)
    parts = truth, counts & truth, ~truth, counts & ~truth
    return Confusion(*(int(np.count_nonzero(part)) for part in parts))


def rogan_gladen(count: float, total: float, measured: Confusion, *, level: float = LEVEL) -> Estimate:
    """Return (f − FPR) / (TPR − FPR), clipped to [0, 1], with a normal interval.

    Rogan & Gladen 1978, Am. J. Epidemiol. 107, 71: the estimate, and its variance by the delta method,
    the calibration sample's own share in it included (their equation for estimated sensitivity and
    specificity). `count` of `total` galaxies of the sample are counted; neither needs to be whole.
    Raises CatalogueError where `measured` does not separate true galaxies from others.
    """
    _check(count, total, measured)
    share, gain = count / total, measured.completeness - measured.false_positive_rate
    value = (share - measured.false_positive_rate) / gain
    variance = (
        _variance(share, total)
        + value**2 * _variance(measured.completeness, measured.positives)
        + (1 - value) ** 2 * _variance(measured.false_positive_rate, measured.negatives)
    ) / gain**2
    half = float(stats.norm.ppf((1 + level) / 2) * np.sqrt(variance))
    low, clipped, high = (float(np.clip(v, 0, 1)) for v in (value - half, value, value + half))
    note = f"clipped from {value:.4f} to {clipped:g}" if clipped != value else ""
    method = "(count − FPR) / (completeness − FPR), normal interval"
    return Estimate(clipped, low, high, level, method, note)


def lang_reiczigel(count: float, total: float, measured: Confusion, *, level: float = LEVEL) -> Estimate:
    """Return Rogan and Gladen's estimate with the interval of Lang & Reiczigel 2014.

    Prev. Vet. Med. 113, 13: as Agresti and Coull do for one proportion, z² galaxies are added to the
    sample, and two to each of the calibration samples, half of them counted; the centre is shifted by
    2 z² [f TPR (1 − TPR)/n₁ − (1 − f) FPR (1 − FPR)/n₀]. Raises as `rogan_gladen` does.
    """
    plain = rogan_gladen(count, total, measured, level=level)
    z = stats.norm.ppf((1 + level) / 2)
    low, high = _bounds(count, total, measured, np.array([-z, z]))
    low, high = min(float(low), plain.value), max(float(high), plain.value)
    method = "Rogan and Gladen's estimate, interval of Lang and Reiczigel 2014"
    return Estimate(plain.value, low, high, level, method, plain.note)


def lang_reiczigel_draws(
    count: float, total: float, measured: Confusion, number: int, *, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Draw fractions, shape (number,), whose quantiles are the bounds of `lang_reiczigel` at every level.

    The confidence distribution that belongs to the intervals (Xie & Singh 2013, Int. Stat. Rev. 81, 3).
    Raises as `rogan_gladen` does.
    """
    _check(count, total, measured)
    return _bounds(count, total, measured, rng.normal(size=number))


def _bounds(count: float, total: float, measured: Confusion, z: NDArray) -> NDArray[np.float64]:
    """Return the lower (z < 0) and upper bounds of Lang and Reiczigel's intervals, clipped to [0, 1]."""
    size, share = total + z**2, (count + z**2 / 2) / (total + z**2)
    complete, false = measured.smoothed
    spread = _variance(complete, measured.positives + 2), _variance(false, measured.negatives + 2)
    value = (share - false) / (complete - false)
    error = np.sqrt(_variance(share, size) + value**2 * spread[0] + (1 - value) ** 2 * spread[1])
    centre = value + 2 * z**2 * (value * spread[0] - (1 - value) * spread[1])
    return np.clip(centre + z * error / (complete - false), 0, 1)


@lru_cache(maxsize=16)
def posterior(count: float, total: float, measured: Confusion) -> tuple[NDArray, NDArray]:
    """Return fractions, and the posterior chances that the true fraction lies below them, both (point,).

    The model of Lambrides et al. 2021 for one classifier: f ~ Beta(½, ½), each of the `total` galaxies is
    counted with the chance f TPR + (1 − f) FPR, and TPR and FPR have their posteriors from the calibration
    galaxies, from Jeffreys' prior too. TPR and FPR are integrated out by 256 points of a Sobol sequence.
    Raises CatalogueError where `measured` does not separate true galaxies from others.
    """
    _check(count, total, measured)
    angle = np.linspace(0, np.pi / 2, GRID)
    grid = np.sin(angle) ** 2  # Jeffreys' prior of f is flat in this angle
    rates = qmc.Sobol(2, scramble=False).random(RATES) + 0.5 / RATES
    complete = _jeffreys_quantiles(rates[:, 0], measured.true_positives, measured.positives)
    false = _jeffreys_quantiles(rates[:, 1], measured.false_positives, measured.negatives)
    chance = np.clip(np.outer(grid, complete) + np.outer(1 - grid, false), 1e-300, 1 - 1e-16)
    power = count * np.log(chance) + (total - count) * np.log1p(-chance)
    weight = np.exp(power - power.max()).mean(axis=1)
    below = np.concatenate([[0.0], np.cumsum((weight[1:] + weight[:-1]) / 2)])
    return grid, below / below[-1]


def bayesian(count: float, total: float, measured: Confusion, *, level: float = LEVEL) -> Estimate:
    """Return the median of `posterior` with its equal-tailed credible interval. Raises as it does."""
    grid, below = posterior(count, total, measured)
    low, value, high = np.interp([(1 - level) / 2, 0.5, (1 + level) / 2], below, grid).tolist()
    method = "posterior median and equal-tailed credible interval, Lambrides et al. 2021"
    return Estimate(value, low, high, level, method)


CORRECTIONS = {"corrected": lang_reiczigel, "bayesian": bayesian, "rogan_gladen": rogan_gladen}


def _jeffreys_quantiles(chance: NDArray, count: int, total: int) -> NDArray[np.float64]:
    return stats.beta.ppf(chance, count + PRIOR, total - count + PRIOR)


def _variance(share: Any, size: Any) -> Any:
    return share * (1 - share) / size


def _check(count: float, total: float, measured: Confusion) -> None:
    if not 0 <= count <= total or not total:
        raise CatalogueError(f"{count} of {total} galaxies: there is at least one, and not more count")
    if not measured.separates:
        raise CatalogueError(
            f"of {measured.positives} true calibration galaxies {measured.true_positives} are counted, of "
            f"{measured.negatives} others {measured.false_positives}: a count that does not separate them "
            "cannot be corrected"
        )


@dataclass(frozen=True)
class Calibration:
    """Labelled galaxies that the network did not train on: which count by prediction, which are true ones.

    `score` is the predicted fraction or None, as in `Sample`; `origin` says where they are from.
    """

    counts: NDArray[np.bool_]
    truth: NDArray[np.bool_]
    score: NDArray[np.float64] | None = None
    origin: str = ""

    def confusion(self) -> Confusion:
        """Return completeness and false-positive rate as numbers of galaxies."""
        return confusion(self.counts, self.truth)

    def chosen(self, which: NDArray) -> Calibration:
        """Return some of the galaxies."""
        score = None if self.score is None else self.score[which]
        return Calibration(self.counts[which], self.truth[which], score, self.origin)


COMPLETENESS = "completeness.json"
THRESHOLDS = tuple(round(0.1 * step, 1) for step in range(1, 10))


@dataclass(frozen=True)
class Confusions:
    """The `Confusion` of each answer at each of `THRESHOLDS`, kept beside the weights that they are of.

    They correct a count where the calibration galaxies are not at hand. `weights` is the SHA-256 of the
    weights that predicted, from so many `views` of each galaxy, in the manner of `viewing`; `origin` names
    the galaxies. Raises CatalogueError for impossible numbers.
    """

    weights: str
    views: int
    viewing: str
    origin: str
    answers: Mapping[str, tuple[Confusion, ...]]

    def __post_init__(self) -> None:
        for name, confusions in self.answers.items():
            if len(confusions) != len(THRESHOLDS):
                raise CatalogueError(f"{name} has {len(confusions)} thresholds, not {len(THRESHOLDS)}")

    def calibration(self, counted: Criterion, true: Criterion) -> Calibration | Unavailable:
        """Return calibration galaxies with these numbers, without their fractions; or why there are none."""
        confusions = self.answers.get(counted.answer or "")
        if confusions is None or counted != true or counted.threshold not in THRESHOLDS:
            return Unavailable(
                f"beside the weights are numbers of one answer at {THRESHOLDS[0]} to {THRESHOLDS[-1]} in "
                f"tenths, alike for predictions and votes, not of {counted.text} for {true.text}",
                "--threshold in tenths, or labelled galaxies (--calibrate-on … --labels …)",
            )
        one = confusions[THRESHOLDS.index(counted.threshold)]
        missed, rejected = one.positives - one.true_positives, one.negatives - one.false_positives
        each = one.true_positives, missed, one.false_positives, rejected
        counts, truth = (np.repeat(which, each) for which in ([True, False] * 2, [True, True, False, False]))
        return Calibration(counts, truth, origin=self.origin)


def confusions_of(
    judged: JudgedGalaxies, tree: DecisionTree, *, weights: str, views: int, origin: str
) -> Confusions:
    """Count calibration galaxies, of each answer those that have a fraction of it."""
    answers = {}
    for name, predicted, votes in zip(tree.columns, judged.predicted.T, judged.volunteers.T, strict=True):
        known = ~np.isnan(predicted) & ~np.isnan(votes)
        sides = predicted[known], votes[known]
        answers[name] = tuple(confusion(*(side >= threshold for side in sides)) for threshold in THRESHOLDS)
    return Confusions(weights, views, VIEWING, origin, answers)


def write_confusions(confusions: Confusions, path: Path) -> None:
    """Write them whole or not at all; a `Confusion` is a list of its four numbers. Raises DiskError."""
    entries = asdict(confusions)
    for name, own in entries["answers"].items():
        entries["answers"][name] = [list(one.values()) for one in own]
    write_text(path, json.dumps(entries) + "\n")


def read_confusions(path: Path) -> Confusions:
    """Read what `write_confusions` wrote. Raises RunError that names the remedy."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        answers = {
            name: tuple(Confusion(*map(int, one)) for one in found)
            for name, found in entries.pop("answers").items()
        }
        return Confusions(answers=answers, **entries)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, CatalogueError) as error:
        raise RunError(
            f"{path}: no readable completeness: {type(error).__name__}: {error}; "
            f"`hubblefork evaluate {path.parent}` makes it"
        ) from error
