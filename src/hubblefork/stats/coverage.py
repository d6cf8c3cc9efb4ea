"""How often intervals hold the volunteers' fraction on galaxies that they were not fitted to."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import betabinom

from hubblefork.stats.intervals import Intervals
from hubblefork.stats.metrics import Terms, estimates_as_json, in_total
from hubblefork.zoo import DecisionTree

TOLERANCE = 0.02
HIGH = 0.9
RARE = ("ring", "lens_or_arc", "merger")


def coverage_of(
    tree: DecisionTree, intervals: Intervals, predicted: NDArray, volunteers: NDArray, draws: NDArray
) -> dict[str, Any]:
    """Judge intervals at each of their coverages; arrays (galaxy, answer), `draws` as from `metrics.draw`.

    The result can be written as JSON. Its keys: `origin` and `galaxies` of the calibration, the `tolerance`,
    and `coverages`, a list with one entry for each, which has

    - `stated`, and `found` over all galaxies and answers with bootstrap intervals
    - `found_top`: among the tenth of the galaxies with the highest predictions of each answer
    - `found_wide`: among the intervals that are more than a single number, 0 or 1
    - `found_voted`: among the tenth with the highest volunteers' fractions, of which nothing is promised
    - `width`: the mean width; `single`: the share of intervals that are a single number
    - `answers`: for each answer `found`, `found_top`, `width`, `single`
    - `within`, `below`, `above`: how many answers are found within 0.02 of what is stated, and how many on
      either side; `within_by_chance`: how many would be on average if the promise held exactly
    """
    return {
        "origin": intervals.origin,
        "galaxies": intervals.galaxies,
        "tolerance": TOLERANCE,
        "coverages": [
            _judged(tree, intervals, coverage, predicted, volunteers, draws)
            for coverage in intervals.coverages
        ],
    }


def within_by_chance(stated: float, calibration: int, judged: int, tolerance: float = TOLERANCE) -> float:
    """Return the chance that the coverage found is within a tolerance of the one stated, if all is right.

    Given `calibration` galaxies, the true coverage of intervals between two of their scores follows a beta
    distribution (Vovk 2012, "Conditional validity of inductive conformal predictors"), so that the number of
    `judged` galaxies inside is beta-binomial.
    """
    inside = math.ceil(round(stated * (calibration + 1), 9))
    number = np.arange(judged + 1)
    near = np.abs(number / judged - stated) <= tolerance + 1e-9
    return float(betabinom.pmf(number[near], judged, inside, calibration + 1 - inside).sum())


def _judged(
    tree: DecisionTree,
    intervals: Intervals,
    stated: float,
    predicted: NDArray,
    volunteers: NDArray,
    draws: NDArray,
) -> dict[str, Any]:
    known = ~np.isnan(volunteers)
    low, high = intervals.bounds(predicted, stated)
    inside = (low <= volunteers) & (volunteers <= high)
    every = _terms(inside, known)
    top, voted = (_terms(inside, known & _highest(values, known)) for values in (predicted, volunteers))
    wide = _terms(inside, known & (low < high))
    answers = {
        name: {
            "found": found,
            "found_top": found_top,
            "width": _mean((high - low)[:, column], known[:, column]),
            "single": _mean((high == low)[:, column], known[:, column]),
        }
        for column, (name, found, found_top) in enumerate(
            zip(tree.columns, estimates_as_json(every, draws), estimates_as_json(top, draws), strict=True)
        )
    }
    return {
        "stated": stated,
        "found": estimates_as_json(in_total(every), draws)[0],
        "found_top": estimates_as_json(in_total(top), draws)[0],
        "found_wide": estimates_as_json(in_total(wide), draws)[0],
        "found_voted": estimates_as_json(in_total(voted), draws)[0],
        "width": _mean(high - low, known),
        "single": _mean(high == low, known),
        **_counts(every, stated, intervals),
        "answers": answers,
    }


def _counts(every: Terms, stated: float, intervals: Intervals) -> dict[str, Any]:
    judged = every.galaxies()
    off = every.values()[judged > 0] - stated
    calibrated = np.array([answer.galaxies for answer in intervals.answers.values()])
    pairs = zip(calibrated[judged > 0].tolist(), judged[judged > 0].tolist(), strict=True)
    return {
        "within": int(np.count_nonzero(np.abs(off) <= TOLERANCE)),
        "below": int(np.count_nonzero(off < -TOLERANCE)),
        "above": int(np.count_nonzero(off > TOLERANCE)),
        "within_by_chance": sum(within_by_chance(stated, *pair) for pair in pairs),
    }


def _terms(inside: NDArray, chosen: NDArray) -> Terms:
    return Terms((inside & chosen).astype(float), chosen.astype(float))


def _highest(values: NDArray, known: NDArray) -> NDArray[np.bool_]:
    """Return which galaxies have the highest tenth of the values of each answer that are known."""
    highest = np.zeros(values.shape, dtype=bool)
    for column, own in enumerate(known.T):
        if own.any():
            highest[:, column] = values[:, column] >= np.quantile(values[own, column], HIGH)
    return highest


def _mean(values: NDArray, known: NDArray) -> float | None:
    return float(values[known].mean()) if known.any() else None
