"""Fractions corrected by calibration galaxies: galaxies with labels that the network did not train on.

A count is corrected by two rates. *Completeness* (true-positive rate) is the share of the true galaxies that
are counted. The *false-positive rate* is the share of the other galaxies that are counted; it is not the
contamination of the sample, which is 1 − purity. Both are taken to be the same in the sample.

A network that minimises squared error predicts means, so its fractions are less extreme than votes and a
threshold on them undercounts. Two recalibrations: the chance that a galaxy is true at each predicted fraction
(isotonic), and the predicted fraction that as many galaxies reach as are true (quantile mapping). Both take
the calibration galaxies for a fair sample of the galaxies to be counted, which the corrections do not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, field
from functools import lru_cache
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, PlainSerializer
from pydantic import dataclasses as pydantic
from scipy import stats
from scipy.optimize import isotonic_regression
from scipy.stats import qmc
from sklearn.isotonic import IsotonicRegression

from hubblefork.data.folders import VIEWING
from hubblefork.data.judged import JudgedGalaxies
from hubblefork.errors import CatalogueError
from hubblefork.stats.conformal import EXACT, Calibrated
from hubblefork.stats.estimators import LEVEL, Estimate, Sums, Unavailable
from hubblefork.stats.query import Criterion
from hubblefork.zoo import DecisionTree

GRID = 800
RATES = 256
PRIOR = 0.5
RESAMPLES = 500
THRESHOLDS = tuple(round(0.1 * step, 1) for step in range(1, 10))


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
    check(count, total, measured)
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
    check(count, total, measured)
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
    check(count, total, measured)
    angle = np.linspace(0, np.pi / 2, GRID)
    grid = np.sin(angle) ** 2  # Jeffreys' prior of f is flat in this angle
    rates = qmc.Sobol(2, scramble=False).random(RATES) + 0.5 / RATES
    kinds = (measured.true_positives, measured.positives), (measured.false_positives, measured.negatives)
    complete, false = (
        stats.beta.ppf(chances, count + PRIOR, total - count + PRIOR)
        for chances, (count, total) in zip(rates.T, kinds, strict=True)
    )
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


def _variance(share: Any, size: Any) -> Any:
    return share * (1 - share) / size


def check(count: float, total: float, measured: Confusion) -> None:
    """Raise CatalogueError for a count that is impossible, or that cannot be corrected by these rates."""
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


Numbers = Annotated[
    Confusion,
    BeforeValidator(lambda numbers: numbers if isinstance(numbers, Confusion) else Confusion(*numbers)),
    PlainSerializer(lambda confusion: list(astuple(confusion))),
]
"""A confusion that is a list of its four numbers in JSON."""


@pydantic.dataclass(frozen=True, config=EXACT)
class Confusions(Calibrated):
    """The `Confusion` of each answer at each of `THRESHOLDS`, kept beside the weights that they are of.

    They correct a count where the calibration galaxies are not at hand. Raises CatalogueError for impossible
    numbers.
    """

    views: int = field(kw_only=True)
    answers: Mapping[str, tuple[Numbers, ...]]
    what: ClassVar[str] = "completeness"

    def __post_init__(self) -> None:
        for name, confusions in self.answers.items():
            if len(confusions) != len(THRESHOLDS):
                raise CatalogueError(f"{name} has {len(confusions)} thresholds, not {len(THRESHOLDS)}")

    def calibration(self, counted: Criterion, true: Criterion) -> Calibration | Unavailable:
        """Return calibration galaxies with these numbers, without their fractions; or why there are none."""
        confusions = self.answers.get(counted.answer or "")
        if confusions is None or counted != true or counted.threshold not in THRESHOLDS:
            answer, threshold = counted.above
            at_least = "--threshold in tenths"
            if answer in self.answers and counted == true and threshold in THRESHOLDS:
                at_least = f'"{answer} >= {threshold}", which is corrected (votes may equal {threshold})'
            return Unavailable(
                f"beside the weights are numbers of one answer from a threshold on, {THRESHOLDS[0]} to "
                f"{THRESHOLDS[-1]} in tenths, alike for predictions and votes, not of {counted.text} for "
                f"{true.text}",
                f"{at_least}, or labelled galaxies (--calibrate-on … --labels …)",
            )
        measured = confusions[THRESHOLDS.index(counted.threshold)]
        missed = measured.positives - measured.true_positives
        rejected = measured.negatives - measured.false_positives
        numbers = measured.true_positives, missed, measured.false_positives, rejected
        counts = np.repeat([True, False, True, False], numbers)
        truth = np.repeat([True, True, False, False], numbers)
        return Calibration(counts, truth, origin=self.origin)


def confusions_of(
    judged: JudgedGalaxies, tree: DecisionTree, *, weights: str, views: int, origin: str
) -> Confusions:
    """Count calibration galaxies, of each answer those that have a fraction of it; none of a number."""
    answers, columns = {}, () if tree.number else tree.columns
    for name, predicted, votes in zip(columns, judged.predicted.T, judged.volunteers.T, strict=False):
        present = ~np.isnan(predicted) & ~np.isnan(votes)
        sides = predicted[present], votes[present]
        answers[name] = tuple(confusion(*(side >= threshold for side in sides)) for threshold in THRESHOLDS)
    return Confusions(answers, weights=weights, views=views, viewing=VIEWING, origin=origin)


def fitted_chance(score: NDArray, truth: NDArray) -> IsotonicRegression:
    """Fit the chance that a galaxy is a true one, rising with its predicted fraction (both (galaxy,)).

    scikit-learn's isotonic regression (Zadrozny & Elkan 2002, KDD, 694). `.predict(score)` gives the chance.
    """
    return IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(score, truth)


def mapped_threshold(score: NDArray, truth: NDArray) -> float:
    """Return the predicted fraction that as many calibration galaxies reach as are true ones.

    Quantile mapping: the threshold on votes, moved to where it stands in the distribution of predictions.
    """
    true = np.count_nonzero(truth)
    return float(np.sort(score)[-true]) if true else np.inf


def isotonic(sums: Sums, known_score: NDArray, truth: NDArray, **options: Any) -> Estimate:
    """Return the mean over the sample of the fitted chance that a galaxy is a true one.

    `known_score` and `truth` (galaxy,) are those of the calibration galaxies, at whose scores the sample was
    summed up. The interval is a bootstrap over both (percentiles); its `options` are `rng`,
    `level` and `resamples`. Raises CatalogueError without galaxies or without true calibration galaxies.
    """
    order = np.lexsort((~truth, known_score))  # true ones first: a tie is pooled
    known, true = known_score[order], truth[order].astype(float)
    groups = _grouped(sums, known)

    def corrected(times: NDArray, known_times: NDArray) -> float:
        drawn = known_times > 0
        chance = isotonic_regression(true[drawn], weights=known_times[drawn]).x
        return float(np.interp(groups.mean, known[drawn], chance) @ times / times.sum())

    method = "isotonic regression of truth on prediction, bootstrap interval"
    return _bootstrap(corrected, groups, truth, method, **options)


def quantile(sums: Sums, known_score: NDArray, truth: NDArray, **options: Any) -> Estimate:
    """Return the share of the sample at or above `mapped_threshold`; else as `isotonic`."""
    groups = _grouped(sums, known_score)

    def corrected(times: NDArray, known_times: NDArray) -> float:
        drawn = np.repeat(np.arange(len(known_times)), known_times.astype(int))
        threshold = mapped_threshold(known_score[drawn], truth[drawn])
        return float(times[groups.low >= threshold].sum() / times.sum())

    method = "threshold moved by quantile mapping, bootstrap interval"
    return _bootstrap(corrected, groups, truth, method, **options)


RECALIBRATIONS = {"isotonic": isotonic, "quantile": quantile}


@dataclass(frozen=True)
class _Groups:
    """The galaxies of a sample between neighbouring calibration galaxies, by predicted fraction.

    Within a group a fitted chance is a straight line and a threshold cuts nothing, so that a hundred million
    galaxies are resampled as fast as a hundred: lowest possible and mean score, sum of weights and of their
    squares, each (group,).
    """

    low: NDArray[np.float64]
    mean: NDArray[np.float64]
    weight: NDArray[np.float64]
    squares: NDArray[np.float64]

    def drawn(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draw sums of weights by the Bayesian bootstrap (Rubin 1981, Ann. Stat. 9, 130).

        Each galaxy is taken an exponential number of times; the sum over a group is a gamma variate, exactly
        where the group's weights are alike.
        """
        scale = self.squares / self.weight
        return scale * rng.standard_gamma(self.weight / scale)


def _grouped(sums: Sums, known: NDArray) -> _Groups:
    lows = np.concatenate([[-np.inf], np.unique(known)])
    if sums.groups.shape[1] != len(lows):
        raise CatalogueError("the sample was summed up at the scores of other calibration galaxies")
    there = sums.groups[0] > 0
    weight, squares, total = sums.groups[:, there]
    return _Groups(lows[there], total / weight, weight, squares)


def _bootstrap(
    corrected: Callable[[NDArray, NDArray], float],
    groups: _Groups,
    truth: NDArray,
    method: str,
    *,
    rng: np.random.Generator,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Return the corrected fraction with the interval of resampled galaxies.

    `corrected` takes the weight of each group of the sample, and how many times each calibration galaxy is
    drawn.
    """
    if not len(groups.weight) or not truth.any():
        raise CatalogueError(
            f"{groups.weight.sum():g} galaxies, {np.count_nonzero(truth)} true ones among {len(truth)} "
            "calibration galaxies: a recalibration needs at least one of each"
        )
    value = corrected(groups.weight, np.ones(len(truth)))
    galaxies, fractions = len(truth), []
    for _ in range(resamples):
        weight = groups.drawn(rng)
        times = np.bincount(rng.integers(galaxies, size=galaxies), minlength=galaxies)
        fractions.append(corrected(weight, times.astype(float)))
    low, high = np.quantile(fractions, [(1 - level) / 2, (1 + level) / 2]).tolist()
    note = "given a fair calibration sample"
    return Estimate(value, min(low, value), max(high, value), level, method, note)
