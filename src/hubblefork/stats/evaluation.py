"""A catalogue of predictions judged by volunteers' votes: everything that `evaluation.json` holds."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
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
from hubblefork.stats.metrics import Terms
from hubblefork.zoo import DecisionTree

NO_INTERVALS = Unavailable("no intervals were fitted", "fit them on galaxies that are not judged")
TOLERANCE = 0.02
HIGH = 0.9
RARE = ("ring", "lens_or_arc", "merger")


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

    `predicted` has joint fractions, `volunteers` votes and, for two baselines, the colours of the centres.
    Judged are the galaxies of `part` that are in both and have votes; baselines are fitted to all training
    galaxies with votes, and one that cannot be fitted is left out. A number without galaxies is None. Keys:

    - `tree`, `part`, `galaxies`, `training_galaxies`, `resamples`
    - `not_predicted`: galaxies of the part that have votes and no prediction
    - `rmse`, `agreement` (None for plain columns): `value`, `interval_68`, `interval_95`, `galaxies`
    - `answers`: for each its `rmse`, `calibration_error` with what chance alone gives, and `binary` (a
      `metrics.Binary`) where all votes are 0 or 1
    - `questions`: for each its `rmse`, and `agreement` among galaxies that reach it with `asked_at_least`
    - `constraint_violation`: see `metrics.constraint_violation`
    - `intervals`: the result of `coverage_of`, or `reason` and `remedy` where there are none
    - `mergers`: `estimators.Count` of `predicted` and `volunteers` of the same galaxies, or None
    - `baselines`: for each `rmse`, `agreement`, and `behind`: its RMSE minus that of the predictions

    Raises CatalogueError for a part without labelled predictions or predictions that are missing.
    """
    judged, train = _parts(tree, volunteers, split, part)
    answered, asked = matched(predicted, judged)
    joint, votes = fractions_of(answered, tree), fractions_of(asked, tree)
    draws = metrics.draw(len(joint), rng=rng, resamples=resamples)
    cheap = _baselines(tree, asked, train, seed=int(rng.integers(2**31)))
    return {
        "tree": tree.name,
        "part": part,
        "galaxies": len(joint),
        "training_galaxies": len(train),
        "not_predicted": len(judged) - len(asked),
        "resamples": resamples,
        **_totals(tree, joint, votes, draws),
        "answers": _answers(tree, joint, votes, draws),
        "asked_at_least": metrics.ASKED,
        "questions": _questions(tree, joint, votes, draws),
        "constraint_violation": metrics.constraint_violation(tree, joint),
        "intervals": asdict(intervals)
        if isinstance(intervals, Unavailable)
        else coverage_of(tree, intervals, joint, votes, draws),
        "mergers": _mergers(tree, joint, votes, answer=answer, threshold=threshold),
        "baselines": {
            name: _totals(tree, values, votes, draws) | {"behind": _behind(values, joint, votes, draws)}
            for name, values in cheap.items()
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
    judged, train = _parts(tree, volunteers, split, part)
    votes = fractions_of(judged, tree)
    draws = metrics.draw(len(votes), rng=rng, resamples=resamples)
    cheap = _baselines(tree, judged, train, seed=int(rng.integers(2**31)))
    return {
        "tree": tree.name,
        "part": part,
        "galaxies": len(votes),
        "training_galaxies": len(train),
        "resamples": resamples,
        "baselines": {name: _totals(tree, values, votes, draws) for name, values in cheap.items()},
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
    """Fit intervals to the predictions of one part of a split; Unavailable where it has too few galaxies."""
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


def _totals(tree: DecisionTree, joint: NDArray, votes: NDArray, draws: NDArray) -> dict[str, Any]:
    agreement = None if tree.is_plain else _estimate(metrics.agreement_terms(joint, votes), draws)
    return {"rmse": _estimate(_errors(joint, votes), draws), "agreement": agreement}


def _errors(joint: NDArray, votes: NDArray) -> Terms:
    return metrics.in_total(metrics.error_terms(joint, votes))


def _behind(baseline: NDArray, joint: NDArray, votes: NDArray, draws: NDArray) -> dict[str, Any]:
    return metrics.plain(metrics.compare(_errors(baseline, votes), _errors(joint, votes), draws))


def _estimate(terms: Terms, draws: NDArray) -> dict[str, Any] | None:
    return metrics.estimates_as_json(terms, draws)[0]


def _answers(tree: DecisionTree, joint: NDArray, votes: NDArray, draws: NDArray) -> dict[str, Any]:
    errors = metrics.estimates_as_json(metrics.error_terms(joint, votes), draws)
    entries: dict[str, dict[str, Any]] = {}
    for name, error, predicted, own in zip(tree.columns, errors, joint.T, votes.T, strict=True):
        bins = metrics.reliability_of(predicted, own)
        calibration = {"value": bins.error, "by_chance": bins.error_by_chance}
        entries[name] = {"rmse": error, "calibration_error": calibration}
        if metrics.is_binary(own):
            entries[name]["binary"] = asdict(metrics.binary(predicted, own, draws))
    return entries


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


def _baselines(tree: DecisionTree, judged: pa.Table, train: pa.Table, *, seed: int) -> dict[str, NDArray]:
    votes, own = (fractions_of(table, tree) for table in (judged, train))
    colours, own_colours = (baselines.centre_colours(table) for table in (judged, train))
    predicted = {"all_zeros": np.zeros(votes.shape), "all_ones": np.ones(votes.shape)}
    if len(train):
        predicted["mean_vote"] = baselines.mean_vote(own, len(votes))
    if len(train) and own_colours is not None and colours is not None:
        predicted["kaggle_central_pixel"] = baselines.kaggle_central_pixel(own_colours, own, colours)
        predicted["central_pixel"] = baselines.central_pixel(own_colours, own, colours, seed=seed)
    known = ~np.isnan(votes)
    return {name: values for name, values in predicted.items() if not np.isnan(values[known]).any()}


def coverage_of(
    tree: DecisionTree, intervals: Intervals, predicted: NDArray, volunteers: NDArray, draws: NDArray
) -> dict[str, Any]:
    """Judge intervals at each of their coverages, on galaxies that they were not fitted to.

    Arrays have shape (galaxy, answer), `draws` are as from `metrics.draw`. The result can be written as JSON.
    Its keys: `origin` and `galaxies` of the calibration, the `tolerance`, and `coverages`, a list with one
    entry for each, which has

    - `stated`, and `found` over all galaxies and answers with bootstrap intervals
    - `found_top`: among the tenth of the galaxies with the highest predictions of each answer
    - `found_wide`: among the intervals that are more than a single number, 0 or 1
    - `found_voted`: among the tenth with the highest volunteers' fractions, for which nothing is promised
    - `width`: the mean width; `single`: the share of intervals that are a single number
    - `answers`: for each answer `found`, `found_top`, `width`, `single`
    - `within`, `below`, `above`: how many answers are found within 0.02 of what is stated, and how many on
      either side; `within_by_chance`: how many would be on average if the stated coverage held exactly
    """
    return {
        "origin": intervals.origin,
        "galaxies": intervals.galaxies,
        "tolerance": TOLERANCE,
        "coverages": [
            _coverage(tree, intervals, coverage, predicted, volunteers, draws)
            for coverage in intervals.coverages
        ],
    }


def within_by_chance(stated: float, calibration: int, judged: int, tolerance: float = TOLERANCE) -> float:
    """Return the chance that the coverage found is within a tolerance of the stated one, if that is right.

    Given `calibration` galaxies, the true coverage of intervals between two of their scores follows a beta
    distribution (Vovk 2012, "Conditional validity of inductive conformal predictors"), so that the number of
    `judged` galaxies inside is beta-binomial.
    """
    inside = math.ceil(round(stated * (calibration + 1), 9))
    number = np.arange(judged + 1)
    near = np.abs(number / judged - stated) <= tolerance + 1e-9
    return float(betabinom.pmf(number[near], judged, inside, calibration + 1 - inside).sum())


def _coverage(
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
    chosen = {
        "found": known,
        "found_top": known & _highest(predicted, known),
        "found_wide": known & (low < high),
        "found_voted": known & _highest(volunteers, known),
    }
    terms = {key: Terms((inside & own).astype(float), own.astype(float)) for key, own in chosen.items()}
    shares = {key: metrics.estimates_as_json(terms[key], draws) for key in ("found", "found_top")}
    answers = {
        name: {
            **{key: values[column] for key, values in shares.items()},
            **_widths(low[:, column], high[:, column], known[:, column]),
        }
        for column, name in enumerate(tree.columns)
    }
    return {
        "stated": stated,
        **{key: _estimate(metrics.in_total(own), draws) for key, own in terms.items()},
        **_widths(low, high, known),
        **_counts(terms["found"], stated, intervals),
        "answers": answers,
    }


def _widths(low: NDArray, high: NDArray, known: NDArray) -> dict[str, float | None]:
    sides = {"width": high - low, "single": high == low}
    return {key: float(values[known].mean()) if known.any() else None for key, values in sides.items()}


def _counts(terms: Terms, stated: float, intervals: Intervals) -> dict[str, Any]:
    judged = terms.galaxies()
    off = terms.values()[judged > 0] - stated
    calibrated = np.array([answer.galaxies for answer in intervals.answers.values()])
    pairs = zip(calibrated[judged > 0].tolist(), judged[judged > 0].tolist(), strict=True)
    return {
        "within": int(np.count_nonzero(np.abs(off) <= TOLERANCE)),
        "below": int(np.count_nonzero(off < -TOLERANCE)),
        "above": int(np.count_nonzero(off > TOLERANCE)),
        "within_by_chance": sum(within_by_chance(stated, *pair) for pair in pairs),
    }


def _highest(values: NDArray, known: NDArray) -> NDArray[np.bool_]:
    """Return which galaxies have the highest tenth of the values of each answer that are known."""
    highest = np.zeros(values.shape, dtype=bool)
    for column, own in enumerate(known.T):
        if own.any():
            highest[:, column] = values[:, column] >= np.quantile(values[own, column], HIGH)
    return highest
