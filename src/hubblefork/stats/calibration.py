"""The count on recalibrated predictions: by what predicted fractions meant on calibration galaxies.

A network that minimises squared error predicts means, so its fractions are less extreme than votes
(regression to the mean) and a threshold on them undercounts. Two remedies, both fitted on labelled galaxies
that the network did not train on: the chance that a galaxy is true at each predicted fraction (isotonic), and
the predicted fraction that as many galaxies reach as are true (quantile mapping). Both take the calibration
galaxies for a fair sample of the galaxies to be counted, which the corrections of `detection` do not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from sklearn.isotonic import IsotonicRegression

from hubblefork.errors import CatalogueError
from hubblefork.stats.estimators import LEVEL, Estimate

RESAMPLES = 500


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


def isotonic(
    score: NDArray, known_score: NDArray, truth: NDArray, *, weights: NDArray | None = None, **options: Any
) -> Estimate:
    """Return the mean over the sample of the fitted chance that a galaxy is a true one.

    `score` are predicted fractions (galaxy,), with `weights` if any; `known_score` and `truth` are those of
    the calibration galaxies. The interval is a bootstrap over both (percentiles); its `options` are `rng`,
    `level` and `resamples`. Raises CatalogueError without galaxies or without true calibration galaxies.
    """
    order = np.lexsort((~truth, known_score))  # true ones first: a tie is pooled
    known, true = known_score[order], truth[order].astype(float)
    groups = _grouped(score, known, weights)

    def corrected(times: NDArray, known_times: NDArray) -> float:
        drawn = known_times > 0
        chance = isotonic_regression(true[drawn], weights=known_times[drawn]).x
        return float(np.interp(groups.mean, known[drawn], chance) @ times / times.sum())

    method = "isotonic regression of truth on prediction, bootstrap interval"
    return _bootstrap(corrected, groups, truth, method, **options)


def quantile(
    score: NDArray, known_score: NDArray, truth: NDArray, *, weights: NDArray | None = None, **options: Any
) -> Estimate:
    """Return the share of the sample at or above `mapped_threshold`; else as `isotonic`."""
    groups = _grouped(score, known_score, weights)

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


def _grouped(score: NDArray, known: NDArray, weights: NDArray | None) -> _Groups:
    edges = np.concatenate([[-np.inf], np.unique(known), [np.inf]])

    def summed(values: NDArray | None) -> NDArray[np.float64]:
        return np.histogram(score, edges, weights=values)[0].astype(float)

    weight = summed(weights)
    squares = weight if weights is None else summed(weights**2)
    there = weight > 0
    total = summed(score if weights is None else weights * score)
    return _Groups(edges[:-1][there], total[there] / weight[there], weight[there], squares[there])


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
            "calibration galaxies: a calibration needs at least one of each"
        )
    value = corrected(groups.weight, np.ones(len(truth)))
    drawn = [corrected(groups.drawn(rng), _times(len(truth), rng)) for _ in range(resamples)]
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]).tolist()
    note = "given a fair calibration sample"
    return Estimate(value, min(low, value), max(high, value), level, method, note)


def _times(galaxies: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return how many times each galaxy is drawn when as many are drawn as there are."""
    return np.bincount(rng.integers(galaxies, size=galaxies), minlength=galaxies).astype(float)
