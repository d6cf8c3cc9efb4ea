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

from hubblefork.data.split import SPLITS, TRAIN, Split
from hubblefork.errors import CatalogueError
from hubblefork.io import write_text
from hubblefork.stats import baselines, metrics
from hubblefork.stats.conformal import COVERAGES, Intervals, concentrations_of, fit_intervals, joint_bounds
from hubblefork.stats.estimators import MERGER, THRESHOLD, Unavailable, count_above
from hubblefork.stats.metrics import Terms
from hubblefork.tables.catalogue import fractions as fractions_of
from hubblefork.tables.catalogue import galaxy_ids, labelled, matched, votes_of
from hubblefork.zoo import DecisionTree, VoteCounts, to_conditional

NO_INTERVALS = Unavailable("no intervals were fitted", "fit them on galaxies that are not judged")
TOLERANCE = 0.02
HIGH = 0.9
VOTES = 20
RARE = ("ring", "lens_or_arc", "merger")


def evaluate(
    tree: DecisionTree,
    predicted: pa.Table | None,
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

    - `tree`, `part`, `galaxies`, `training_galaxies`, `resamples`; `unit`, that of a number and of its errors
    - `not_predicted`: galaxies of the part that have votes and no prediction
    - `rmse`, `agreement` (None for plain columns): `value`, `interval_68`, `interval_95`, `galaxies`
    - `answers`: for each its `rmse`, `calibration_error` with what chance alone gives, and `binary` (a
      `metrics.Binary`) where all votes are 0 or 1
    - `questions`: for each its `rmse`, and `agreement` among galaxies that reach it with `asked_at_least`;
      where each galaxy has one answer also the `log_loss` and the `classes`, a `metrics.OneClass` each
    - `constraint_violation`: see `metrics.constraint_violation`
    - `intervals`: the result of `coverage_of`, or `reason` and `remedy` where there are none
    - `well_voted`, `posterior`: see `Judge.votes_counted`, where the volunteers' table has vote counts
    - `mergers`: `estimators.Count` of `predicted` and `volunteers` of the same galaxies, or None
    - `baselines`: for each `rmse`, `agreement`, and `behind`: its RMSE minus that of the predictions

    Raises CatalogueError for a part without labelled predictions or predictions that are missing.
    """
    judged, train = _parts(tree, volunteers, split, part)
    answered, asked = matched(predicted, judged) if predicted is not None else (None, judged)
    votes = fractions_of(asked, tree)
    draws = metrics.draw(len(votes), rng=rng, resamples=resamples)
    judge = Judge(tree, votes, draws)
    simple = _baselines(tree, asked, train, seed=int(rng.integers(2**31)))
    result: dict[str, Any] = {
        "tree": tree.name,
        **({"unit": tree.number.unit} if tree.number else {}),
        "part": part,
        "galaxies": len(votes),
        "training_galaxies": len(train),
        "resamples": resamples,
        "baselines": {name: judge.totals(values) for name, values in simple.items()},
    }
    if answered is None:
        return result
    joint = fractions_of(answered, tree)
    for name, values in simple.items():
        result["baselines"][name]["behind"] = judge.behind(values, joint)
    return result | {
        "not_predicted": len(judged) - len(asked),
        **judge.totals(joint),
        "answers": judge.answers(joint),
        "asked_at_least": metrics.ASKED,
        "questions": judge.questions(joint),
        "constraint_violation": metrics.constraint_violation(tree, joint),
        "intervals": judge.intervals(joint, intervals),
        **judge.votes_counted(joint, concentrations_of(answered, tree), votes_of(asked, tree)),
        "mergers": _mergers(tree, joint, votes, answer=answer, threshold=threshold),
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
        made: dict[str, Any] = {"origin": origin, "weights": weights, "views": views}
        return fit_intervals(tree.name, tree.columns, *sides, bounded=not tree.number, **made)
    except CatalogueError as error:
        return Unavailable(str(error), "hubblefork split DATA --validation 20 gives them more galaxies")


def write_evaluation(evaluation: dict[str, Any], path: Path) -> None:
    """Write the result of `evaluate` as JSON, whole or not at all. Raises DiskError."""
    write_text(path, json.dumps(evaluation, indent=2, allow_nan=False) + "\n")


def _parts(tree: DecisionTree, volunteers: pa.Table, split: Split, part: str) -> tuple[pa.Table, pa.Table]:
    if part not in SPLITS:
        raise CatalogueError(f'there is no part "{part}" of a split; known are {", ".join(SPLITS)}')
    with_votes = volunteers.filter(labelled(volunteers, tree))
    parts = split.assign(galaxy_ids(with_votes).tolist())
    judged = with_votes.filter(parts == part)
    if not len(judged):
        raise CatalogueError(
            f"the {part} part of the split has no labelled galaxies ({len(with_votes)} of {len(volunteers)} "
            "galaxies have labels); judge another part or split otherwise"
        )
    return judged, with_votes.filter(parts == TRAIN)


@dataclass(frozen=True)
class Judge:
    """The `votes` of judged galaxies (galaxy, answer) and bootstrap samples of them, as from `metrics.draw`.

    Each method takes predictions or terms of these galaxies and returns what can be written as JSON.
    """

    tree: DecisionTree
    votes: NDArray[np.float64]
    draws: NDArray[np.uint8]

    def estimates(self, terms: Terms) -> list[dict[str, Any] | None]:
        """Return each column's metric with its intervals; None for a column without any galaxy."""
        columns = metrics.estimates(terms, self.draws)
        return [None if metric is None else asdict(metric) for metric in columns]

    def totals(self, joint: NDArray) -> dict[str, Any]:
        """Return RMSE and agreement over all answers; no agreement for plain columns."""
        agreement = None
        if not self.tree.is_plain:
            agreement = self.estimates(metrics.agreement_terms(joint, self.votes))[0]
        return {"rmse": self.estimates(self._errors(joint))[0], "agreement": agreement}

    def _errors(self, joint: NDArray) -> Terms:
        return metrics.in_total(metrics.error_terms(joint, self.votes))

    def behind(self, baseline: NDArray, joint: NDArray) -> dict[str, Any]:
        """Return how much larger the RMSE of a baseline is than that of the predictions."""
        return asdict(metrics.compare(self._errors(baseline), self._errors(joint), self.draws))

    def answers(self, joint: NDArray) -> dict[str, Any]:
        """Return RMSE and calibration error of each answer, and more where all votes are 0 or 1."""
        errors = self.estimates(metrics.error_terms(joint, self.votes))
        entries: dict[str, dict[str, Any]] = {}
        columns = zip(self.tree.columns, errors, joint.T, self.votes.T, strict=True)
        for name, error, predicted, votes in columns:
            bins = metrics.reliability_of(predicted, votes)
            calibration = {"value": bins.error, "by_chance": bins.error_by_chance}
            entries[name] = {"rmse": error, "calibration_error": calibration}
            if metrics.is_binary(votes):
                entries[name]["binary"] = asdict(metrics.binary(predicted, votes, self.draws))
        return entries

    def questions(self, joint: NDArray) -> dict[str, Any]:
        """Return RMSE and agreement within each question, and more where its answers are classes."""
        terms = metrics.per_question(self.tree, metrics.error_terms(joint, self.votes))
        agreement = metrics.agreement_terms_per_question(self.tree, joint, self.votes)
        names = [question.name for question in self.tree.questions]
        columns = zip(names, self.estimates(terms), self.estimates(agreement), strict=True)
        entries: dict[str, dict[str, Any]] = {
            name: {"rmse": error, "agreement": agreed} for name, error, agreed in columns
        }
        for question, answers in zip(self.tree.questions, self.tree.slices, strict=True):
            if question.exclusive and metrics.are_classes(votes := self.votes[:, answers]):
                loss, classes = metrics.judged_classes(joint[:, answers], votes, self.draws)
                own = [one and asdict(one) for one in classes]
                by_name = dict(zip(self.tree.columns[answers], own, strict=True))
                entries[question.name] |= {"log_loss": loss and asdict(loss), "classes": by_name}
        return entries

    def intervals(self, joint: NDArray, intervals: Intervals | Unavailable) -> dict[str, Any]:
        """Judge intervals at each of their coverages, on galaxies that they were not fitted to.

        Keys: `origin` and `galaxies` of the calibration, the `tolerance`, and `coverages`, a list with one
        entry for each, which has

        - `stated`, and `found` over all galaxies and answers with bootstrap intervals
        - `found_top`: among the tenth of the galaxies with the highest predictions of each answer
        - `found_wide`: among the intervals that are more than a single number, 0 or 1
        - `found_voted`: among the tenth with the highest volunteers' fractions, for which nothing is promised
        - `width`: the mean width; `single`: the share of intervals that are a single number
        - `answers`: for each answer `found`, `found_top`, `width`, `single`
        - `within`, `below`, `above`: how many answers are found within 0.02 of what is stated, and how many
          on either side; `within_by_chance`: how many would be on average if the stated coverage held exactly
        """
        if isinstance(intervals, Unavailable):
            return asdict(intervals)
        return {
            "origin": intervals.origin,
            "galaxies": intervals.galaxies,
            "tolerance": TOLERANCE,
            "coverages": [
                self._coverage(joint, *intervals.bounds(joint, stated), stated, intervals)
                for stated in intervals.coverages
            ],
        }

    def votes_counted(
        self, joint: NDArray, concentration: NDArray | None, counts: VoteCounts | None
    ) -> dict[str, Any]:
        """Judge what needs vote counts; nothing without these.

        Keys: `well_voted`, the RMSE of conditional fractions among questions with at least 20 votes, as of GZ
        Evo (Walmsley et al. 2022, arXiv:2206.11927); and with concentrations `posterior`, as `intervals`, of
        the fractions that so many volunteers as voted would measure.
        """
        if counts is None:
            return {}
        enough = counts.asked[:, list(self.tree.question_of)] >= VOTES
        sides = (
            np.where(enough, to_conditional(self.tree, values), np.nan) for values in (joint, self.votes)
        )
        predicted, given = sides
        predicted = np.where(np.isnan(given), 0, predicted)
        well_voted: dict[str, Any] = {
            "votes": VOTES,
            "labels": int(np.count_nonzero(~np.isnan(given))),
            "rmse": None,
        }
        if well_voted["labels"]:
            well_voted["rmse"] = self.estimates(metrics.in_total(metrics.error_terms(predicted, given)))[0]
        result: dict[str, Any] = {"well_voted": well_voted}
        if concentration is None:
            return result
        bounds = {
            stated: joint_bounds(self.tree, joint, concentration, stated, volunteers=counts.asked)
            for stated in COVERAGES
        }
        coverages = [self._coverage(joint, *sides, stated) for stated, sides in bounds.items()]
        return result | {"posterior": {"tolerance": TOLERANCE, "coverages": coverages}}

    def _coverage(
        self, joint: NDArray, low: NDArray, high: NDArray, stated: float, intervals: Intervals | None = None
    ) -> dict[str, Any]:
        voted = ~np.isnan(self.votes)
        inside = (low <= self.votes) & (self.votes <= high)
        samples = {
            "found": voted,
            "found_top": voted & _highest(joint, voted),
            "found_wide": voted & (low < high),
            "found_voted": voted & _highest(self.votes, voted),
        }
        terms = {key: Terms((inside & own).astype(float), own.astype(float)) for key, own in samples.items()}
        shares = {key: self.estimates(terms[key]) for key in ("found", "found_top")}
        answers = {
            name: {
                **{key: values[column] for key, values in shares.items()},
                **_widths(low[:, column], high[:, column], voted[:, column]),
            }
            for column, name in enumerate(self.tree.columns)
        }
        return {
            "stated": stated,
            **{key: self.estimates(metrics.in_total(own))[0] for key, own in terms.items()},
            **_widths(low, high, voted),
            **_counts(terms["found"], stated, intervals),
            "answers": answers,
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
        side: asdict(count_above(tree, values, answer=answer, threshold=threshold))
        for side, values in sides.items()
    }


def _baselines(tree: DecisionTree, judged: pa.Table, train: pa.Table, *, seed: int) -> dict[str, NDArray]:
    votes, own = (fractions_of(table, tree) for table in (judged, train))
    colours, own_colours = (baselines.centre_colours(table) for table in (judged, train))
    ends = {"all_zeros": np.zeros(votes.shape), "all_ones": np.ones(votes.shape)}
    predicted = {} if tree.number else ends
    if len(train):
        predicted["mean_vote"] = baselines.mean_vote(own, len(votes))
    if len(train) and own_colours is not None and colours is not None:
        predicted["kaggle_central_pixel"] = baselines.kaggle_central_pixel(own_colours, own, colours)
        predicted["central_pixel"] = baselines.central_pixel(own_colours, own, colours, seed=seed)
    known = ~np.isnan(votes)
    return {name: values for name, values in predicted.items() if not np.isnan(values[known]).any()}


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


def _widths(low: NDArray, high: NDArray, known: NDArray) -> dict[str, float | None]:
    sides = {"width": high - low, "single": high == low}
    return {key: float(values[known].mean()) if known.any() else None for key, values in sides.items()}


def _counts(terms: Terms, stated: float, intervals: Intervals | None) -> dict[str, Any]:
    judged = terms.galaxies()
    off = terms.values()[judged > 0] - stated
    counts: dict[str, Any] = {
        "within": int(np.count_nonzero(np.abs(off) <= TOLERANCE)),
        "below": int(np.count_nonzero(off < -TOLERANCE)),
        "above": int(np.count_nonzero(off > TOLERANCE)),
    }
    if intervals is not None:
        calibrated = np.array([answer.galaxies for answer in intervals.answers.values()])
        pairs = zip(calibrated[judged > 0].tolist(), judged[judged > 0].tolist(), strict=True)
        counts["within_by_chance"] = sum(within_by_chance(stated, *pair) for pair in pairs)
    return counts


def _highest(values: NDArray, known: NDArray) -> NDArray[np.bool_]:
    """Return which galaxies have the highest tenth of the values of each answer that are known."""
    highest = np.zeros(values.shape, dtype=bool)
    for column, own in enumerate(known.T):
        if own.any():
            highest[:, column] = values[:, column] >= np.quantile(values[own, column], HIGH)
    return highest
