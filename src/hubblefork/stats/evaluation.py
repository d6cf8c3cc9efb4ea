"""A catalogue of predictions judged by volunteers' votes: everything that `evaluation.json` holds."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.stats import betabinom

from hubblefork.data.catalogue import fractions as fractions_of
from hubblefork.data.catalogue import galaxy_ids, labelled, matched
from hubblefork.data.split import SPLITS, TRAIN, Split
from hubblefork.errors import CatalogueError, RunError
from hubblefork.io import write_text
from hubblefork.stats import baselines, metrics
from hubblefork.stats.conformal import Intervals, fit_intervals
from hubblefork.stats.estimators import MERGER, THRESHOLD, Unavailable, count_above
from hubblefork.stats.metrics import Terms, binary, estimates_as_json, in_total, is_binary, reliability_of
from hubblefork.zoo import DecisionTree


@dataclass(frozen=True)
class Labelled:
    """Labelled galaxies: votes (galaxy, answer) and, where known, colours of the centres (galaxy, 3)."""

    votes: NDArray
    colours: NDArray | None


NO_INTERVALS = Unavailable("no intervals were fitted", "fit them on galaxies that are not judged")


def evaluate(
    tree: DecisionTree,
    predicted: pa.Table,
    volunteers: pa.Table,
    split: Split,
    part: str,
    *,
    rng: np.random.Generator,
    resamples: int = metrics.RESAMPLES,
    answer: str = MERGER,
    threshold: float = THRESHOLD,
    intervals: Intervals | Unavailable = NO_INTERVALS,
) -> dict[str, Any]:
    """Judge predictions on one part of a split by the volunteers' votes; the result can be written as JSON.

    `predicted` has joint fractions, `volunteers` the labels and, for two of the baselines, the
    colours of the centres. Judged are the galaxies of `part` that are in both and have a label.
    Baselines are fitted to all labelled training galaxies of `split`; one that cannot be fitted is left
    out. What nobody was asked is None. The keys:

    - `tree`, `part`, `galaxies`, `training_galaxies`, `resamples`
    - `not_predicted`: galaxies of the part that have a label and no prediction
    - `rmse`, `agreement`: `value`, `interval_68`, `interval_95`, `galaxies`
    - `answers`: for each answer its `rmse`, its `calibration_error` with what chance alone would give, and
      `binary` (a `metrics.Binary`) where all votes are 0 or 1
    - `questions`: for each its `rmse` and its `agreement` among galaxies that reach it with at least
      `asked_at_least`
    - `constraint_violation`: see `metrics.constraint_violation`
    - `intervals`: what `coverage_of` finds, or `reason` and `remedy` where there are none
    - `mergers`: `predicted` and `volunteers`, the `estimators.Count` of the same galaxies; only of a tree
      that has the answer. `agreement` is None for plain columns: there is nothing to choose from
    - `baselines`: for each its `rmse`, its `agreement`, and `behind`: its RMSE minus that of the
      predictions, `difference`, intervals and `p_value` of a paired bootstrap

    Raises CatalogueError for a part without labelled predictions or predictions that are missing.
    """
    judged_table, train_table = _parts(tree, volunteers, split, part)
    answered, asked = matched(predicted, judged_table)
    joint, judged, train = fractions_of(answered, tree), _labelled(tree, asked), _labelled(tree, train_table)
    draws = metrics.draw(len(joint), rng=rng, resamples=resamples)
    cheap = _baselines(judged, train, seed=int(rng.integers(2**31)))
    return {
        "tree": tree.name,
        "part": part,
        "galaxies": len(joint),
        "training_galaxies": len(train.votes),
        "not_predicted": len(judged_table) - len(asked),
        "resamples": resamples,
        **_totals(tree, joint, judged.votes, draws),
        "answers": _answers(tree, joint, judged.votes, draws),
        "asked_at_least": metrics.ASKED,
        "questions": _questions(tree, joint, judged.votes, draws),
        "constraint_violation": metrics.constraint_violation(tree, joint),
        "intervals": _coverage(tree, intervals, joint, judged.votes, draws),
        "mergers": _mergers(tree, joint, judged.votes, answer=answer, threshold=threshold),
        "baselines": {
            name: _baseline(tree, values, joint, judged.votes, draws) for name, values in cheap.items()
        },
    }


def evaluate_baselines(
    tree: DecisionTree,
    volunteers: pa.Table,
    split: Split,
    part: str,
    *,
    rng: np.random.Generator,
    resamples: int = metrics.RESAMPLES,
) -> dict[str, Any]:
    """Judge the baselines alone on one part of a split: what a network has to beat.

    The keys are those of `evaluate` that need no predictions; `baselines` has no `behind`. Raises
    CatalogueError for a part without labelled galaxies.
    """
    judged_table, train_table = _parts(tree, volunteers, split, part)
    judged, train = _labelled(tree, judged_table), _labelled(tree, train_table)
    draws = metrics.draw(len(judged.votes), rng=rng, resamples=resamples)
    cheap = _baselines(judged, train, seed=int(rng.integers(2**31)))
    return {
        "tree": tree.name,
        "part": part,
        "galaxies": len(judged.votes),
        "training_galaxies": len(train.votes),
        "resamples": resamples,
        "baselines": {name: _totals(tree, values, judged.votes, draws) for name, values in cheap.items()},
    }


def calibrate(
    tree: DecisionTree,
    predicted: pa.Table,
    volunteers: pa.Table,
    split: Split,
    part: str,
    *,
    weights: str = "",
    views: int = 1,
) -> Intervals | Unavailable:
    """Fit intervals to the predictions of one part of a split; say why not where it has too few galaxies."""
    try:
        answered, asked = matched(predicted, _parts(tree, volunteers, split, part)[0])
        sides = fractions_of(answered, tree), fractions_of(asked, tree)
        origin = f"{len(asked)} {part} galaxies"
        return fit_intervals(tree.name, tree.columns, *sides, origin=origin, weights=weights, views=views)
    except CatalogueError as error:
        return Unavailable(str(error), "hubblefork split DATA --validation 20 gives them more galaxies")


def write_evaluation(evaluation: dict[str, Any], path: Path) -> None:
    """Write the result of `evaluate` as JSON, whole or not at all. Raises DiskError."""
    write_text(path, json.dumps(evaluation, indent=2, allow_nan=False) + "\n")


def read_evaluation(path: Path) -> dict[str, Any]:
    """Read what `write_evaluation` wrote. Raises RunError."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: no readable evaluation: {error}; run `hubblefork evaluate` first") from error


def _parts(tree: DecisionTree, volunteers: pa.Table, split: Split, part: str) -> tuple[pa.Table, pa.Table]:
    if part not in SPLITS:
        raise CatalogueError(f'there is no part "{part}" of a split; known are {", ".join(SPLITS)}')
    known = volunteers.filter(labelled(volunteers, tree))
    parts = split.assign(galaxy_ids(known).tolist())
    judged = known.filter(parts == part)
    if not len(judged):
        raise CatalogueError(
            f"the {part} part of the split has no labelled galaxies ({len(known)} of {len(volunteers)} "
            "galaxies have labels); judge another part or split otherwise"
        )
    return judged, known.filter(parts == TRAIN)


def _labelled(tree: DecisionTree, table: pa.Table) -> Labelled:
    return Labelled(fractions_of(table, tree), baselines.centre_colours(table))


def _totals(tree: DecisionTree, joint: NDArray, votes: NDArray, draws: NDArray) -> dict[str, Any]:
    agreement = None if tree.is_plain else _estimate(metrics.agreement_terms(joint, votes), draws)
    return {"rmse": _estimate(_squared(joint, votes), draws), "agreement": agreement}


def _squared(joint: NDArray, votes: NDArray) -> metrics.Terms:
    return metrics.in_total(metrics.error_terms(joint, votes))


def _answers(tree: DecisionTree, joint: NDArray, votes: NDArray, draws: NDArray) -> dict[str, Any]:
    errors = metrics.estimates_as_json(metrics.error_terms(joint, votes), draws)
    binned = [reliability_of(*sides) for sides in zip(joint.T, votes.T, strict=True)]
    found: dict[str, dict[str, Any]] = {
        name: {"rmse": error, "calibration_error": {"value": bins.error, "by_chance": bins.error_by_chance}}
        for name, error, bins in zip(tree.columns, errors, binned, strict=True)
    }
    for name, predicted, known in zip(tree.columns, joint.T, votes.T, strict=True):
        if is_binary(known):
            found[name]["binary"] = asdict(binary(predicted, known, draws))
    return found


def _coverage(
    tree: DecisionTree, intervals: Intervals | Unavailable, joint: NDArray, votes: NDArray, draws: NDArray
) -> dict[str, Any]:
    if isinstance(intervals, Unavailable):
        return asdict(intervals)
    return coverage_of(tree, intervals, joint, votes, draws)


def _questions(tree: DecisionTree, joint: NDArray, votes: NDArray, draws: NDArray) -> dict[str, Any]:
    errors = metrics.estimates_as_json(metrics.per_question(tree, metrics.error_terms(joint, votes)), draws)
    agreements = metrics.estimates_as_json(metrics.agreement_terms_per_question(tree, joint, votes), draws)
    return {
        question.name: {"rmse": error, "agreement": agreement}
        for question, error, agreement in zip(tree.questions, errors, agreements, strict=True)
    }


def _mergers(
    tree: DecisionTree, joint: NDArray, votes: NDArray, *, answer: str, threshold: float
) -> dict[str, Any] | None:
    if answer == MERGER and answer not in tree.columns:
        return None
    known = ~np.isnan(votes[:, tree.column(answer)])
    if not known.any():
        return None
    sides = {"predicted": np.where(known[:, None], joint, np.nan), "volunteers": votes}
    return {
        side: metrics.plain(count_above(tree, values, answer=answer, threshold=threshold))
        for side, values in sides.items()
    }


def _baselines(judged: Labelled, train: Labelled, *, seed: int) -> dict[str, NDArray]:
    shape = judged.votes.shape
    found = {"all_zeros": baselines.all_zeros(*shape), "all_ones": baselines.all_ones(*shape)}
    if len(train.votes):
        found["mean_vote"] = baselines.mean_vote(train.votes, len(judged.votes))
    if len(train.votes) and train.colours is not None and judged.colours is not None:
        sides = train.colours, train.votes, judged.colours
        found["kaggle_central_pixel"] = baselines.kaggle_central_pixel(*sides)
        found["central_pixel"] = baselines.central_pixel(*sides, seed=seed)
    known = ~np.isnan(judged.votes)
    return {name: values for name, values in found.items() if not np.isnan(values[known]).any()}


def _baseline(
    tree: DecisionTree, values: NDArray, joint: NDArray, votes: NDArray, draws: NDArray
) -> dict[str, Any]:
    behind = metrics.compare(_squared(values, votes), _squared(joint, votes), draws)
    return {**_totals(tree, values, votes, draws), "behind": metrics.plain(behind)}


def _estimate(terms: metrics.Terms, draws: NDArray) -> dict[str, Any] | None:
    return metrics.estimates_as_json(terms, draws)[0]


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
