"""How well a yes or no is predicted: for columns in which all that is known is 0 or 1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hubblefork.stats.metrics import Estimate, Terms, estimates, intervals

THRESHOLD = 0.5


@dataclass(frozen=True)
class Binary:
    """What is known of a yes or no: `yes` of `galaxies` have it.

    `auc` is the chance that one that has it is predicted higher than one that has not (the area under the ROC
    curve). At `threshold`: `completeness`, the share that is counted of those that have it, and `purity`,
    the share that has it of those counted, None where none is counted.
    """

    yes: int
    galaxies: int
    threshold: float
    auc: Estimate
    completeness: Estimate
    purity: Estimate | None


def is_binary(votes: NDArray) -> bool:
    """Whether all that is known of votes (galaxy,) is 0 or 1, both of them."""
    return set(np.unique(votes[~np.isnan(votes)]).tolist()) == {0.0, 1.0}


def binary(predicted: NDArray, votes: NDArray, draws: NDArray) -> Binary:
    """Judge predictions of a yes or no, both of shape (galaxy,); `draws` as of `metrics.draw`.

    Unknown votes (NaN) are left out. The votes must be binary (`is_binary`).
    """
    known = ~np.isnan(votes)
    yes, counted = known & (votes == 1), known & (predicted >= THRESHOLD)
    shares = Terms(
        np.stack([yes & counted, yes & counted], axis=1).astype(float),
        np.stack([yes, counted], axis=1).astype(float),
    )
    completeness, purity = estimates(shares, draws)
    assert completeness is not None
    auc = _auc(predicted[known], yes[known], draws[:, known])
    return Binary(int(yes.sum()), int(known.sum()), THRESHOLD, auc, completeness, purity)


def _auc(predicted: NDArray, yes: NDArray[np.bool_], draws: NDArray) -> Estimate:
    """Return the AUC, as Mann and Whitney count it, with intervals from the draws that hold both kinds."""
    replicates = _mann_whitney(predicted, yes, draws)
    value = _mann_whitney(predicted, yes, np.ones((1, len(yes))))
    return Estimate(float(value[0]), *intervals(replicates), galaxies=len(yes))


def _mann_whitney(predicted: NDArray, yes: NDArray[np.bool_], times: NDArray) -> NDArray[np.float64]:
    """Return the share of pairs in the right order, a tie a half; each galaxy counts so many `times`.

    `times` is (resample, galaxy), the result (resample,), NaN where there is no pair.
    """
    order = np.argsort(predicted)
    starts = np.unique(predicted[order], return_index=True)[1]
    times = times[:, order].astype(float)
    with_it, without = (np.add.reduceat(times * kind, starts, axis=1) for kind in (yes[order], ~yes[order]))
    below = np.cumsum(without, axis=1) - without / 2
    pairs = with_it.sum(axis=1) * without.sum(axis=1)
    right = (with_it * below).sum(axis=1)
    return np.divide(right, pairs, out=np.full(len(times), np.nan), where=pairs > 0)
