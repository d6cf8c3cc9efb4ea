"""How well fractions are predicted: RMSE, agreement, broken constraints, and how sure we are of them.

Arrays have shape (galaxy, answer) in the order of `tree.columns` and hold joint fractions. NaN among
the volunteers' votes means that nobody was asked: it is masked, never counted as zero. A
prediction must be a number wherever the volunteers' is one.

Every metric here is a ratio of two sums over galaxies, so it is kept as `Terms`: what each galaxy
adds to either sum. The bootstrap (Efron 1979, Ann. Statist. 7, 1) draws galaxies, not fractions, and
two metrics computed with the same draws are paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubblefork.errors import CatalogueError
from hubblefork.zoo import DecisionTree, reach

RESAMPLES = 1000
ASKED = 0.5
CHUNK = 100


@dataclass(frozen=True)
class Terms:
    """What each galaxy adds to a metric, both of shape (galaxy, column): Σ numerator / Σ denominator.

    With `root` the metric is the square root of that ratio. A denominator of 0 says that the
    galaxy has nothing to say. Raises CatalogueError when the shapes differ or a number is missing.
    """

    numerator: NDArray[np.float64]
    denominator: NDArray[np.float64]
    root: bool = False

    def __post_init__(self) -> None:
        if self.numerator.shape != self.denominator.shape or self.numerator.ndim != 2:
            raise CatalogueError(
                f"terms of shapes {self.numerator.shape} and {self.denominator.shape}: "
                "both must be (galaxy, column)"
            )
        if np.isnan(self.numerator).any() or np.isnan(self.denominator).any():
            raise CatalogueError("terms of a metric hold NaN; give a missing galaxy a denominator of 0")

    def merged(self, groups: NDArray) -> Terms:
        """Return the terms of groups of columns; `groups` of 0 and 1 has shape (column, group)."""
        return Terms(self.numerator @ groups, self.denominator @ groups, root=self.root)

    def values(self) -> NDArray[np.float64]:
        """Return the metric of each column; NaN for one without any galaxy."""
        return _ratio(self.numerator.sum(axis=0), self.denominator.sum(axis=0), root=self.root)

    def galaxies(self) -> NDArray[np.int64]:
        """Return how many galaxies have a say in each column."""
        return np.count_nonzero(self.denominator, axis=0)

    def only_value(self, what: str) -> float:
        """Return the metric of the single column. Raises CatalogueError when no galaxy has a say."""
        if not self.denominator.any():
            raise CatalogueError(
                f"{what} of {len(self.denominator)} galaxies: none has the fractions that it needs; "
                "give galaxies with labels and predictions"
            )
        return float(self.values()[0])


@dataclass(frozen=True)
class Metric:
    """A metric with its central 68% and 95% bootstrap intervals, and the number of galaxies behind it."""

    value: float
    interval_68: tuple[float, float]
    interval_95: tuple[float, float]
    galaxies: int


@dataclass(frozen=True)
class Comparison:
    """How much larger one metric is than another of the same galaxies; `p_value` is two-sided."""

    difference: float
    interval_68: tuple[float, float]
    interval_95: tuple[float, float]
    p_value: float


def error_terms(predicted: NDArray, votes: NDArray) -> Terms:
    """Return the squared errors of each answer as terms of a root mean square, shape (galaxy, answer).

    Raises CatalogueError when shapes differ or a prediction is missing where volunteers voted.
    """
    known = _checked(predicted, votes)
    return Terms(np.where(known, np.subtract(predicted, votes) ** 2, 0.0), known.astype(float), root=True)


def rmse(predicted: NDArray, votes: NDArray) -> float:
    """Return the root mean square error over all galaxies × answers: Kaggle's measure, masked.

    Raises CatalogueError when no fraction is known, or for predictions that are missing.
    """
    return in_total(error_terms(predicted, votes)).only_value("the RMSE")


def rmse_per_answer(predicted: NDArray, votes: NDArray) -> NDArray[np.float64]:
    """Return the RMSE of each answer, shape (answer,); NaN for an answer without any label."""
    return error_terms(predicted, votes).values()


def rmse_per_question(tree: DecisionTree, predicted: NDArray, votes: NDArray) -> NDArray[np.float64]:
    """Return the RMSE over galaxies × answers of each question, shape (question,); NaN without any label."""
    return per_question(tree, error_terms(predicted, votes)).values()


def in_total(terms: Terms) -> Terms:
    """Return the terms of all columns together, shape (galaxy, 1)."""
    return terms.merged(np.ones((terms.numerator.shape[1], 1)))


def per_question(tree: DecisionTree, terms: Terms) -> Terms:
    """Return the terms of each question out of those of each answer, shape (galaxy, question)."""
    return terms.merged(np.eye(len(tree.questions))[list(tree.question_of)])


def agreement_terms(predicted: NDArray, votes: NDArray) -> Terms:
    """Return who agrees on the highest of all answers, shape (galaxy, 1); only complete galaxies count.

    That is Keras's categorical accuracy, its rule for ties included: the first of equal answers is
    the highest. Raises CatalogueError as `error_terms` does.
    """
    complete = _checked(predicted, votes).all(axis=1, keepdims=True)
    hits = np.argmax(predicted, axis=1) == np.argmax(votes, axis=1)
    return Terms(complete * hits[:, None].astype(float), complete.astype(float))


def agreement(predicted: NDArray, votes: NDArray) -> float:
    """Return the share of galaxies whose highest predicted answer is the volunteers' highest.

    Highest over all answers of the tree. Galaxies with a missing label are left out. Raises
    CatalogueError when none remains.
    """
    return agreement_terms(predicted, votes).only_value("the agreement")


def agreement_terms_per_question(
    tree: DecisionTree, predicted: NDArray, votes: NDArray, *, asked: float = ASKED
) -> Terms:
    """Return who agrees on the highest answer within each question, shape (galaxy, question).

    A galaxy counts where the volunteers' reach of the question is at least `asked` and all answers
    of it are known; for a question with one answer none does. Raises CatalogueError as `error_terms` does.
    """
    known = _checked(predicted, votes)
    reached = np.nan_to_num(reach(tree, votes), nan=0.0) >= asked
    counts = reached & np.stack([known[:, answers].all(axis=1) for answers in tree.slices], axis=1)
    counts &= [len(question.answers) > 1 for question in tree.questions]
    hits = [np.argmax(predicted[:, a], axis=1) == np.argmax(votes[:, a], axis=1) for a in tree.slices]
    return Terms((counts & np.stack(hits, axis=1)).astype(float), counts.astype(float))


def agreement_per_question(
    tree: DecisionTree, predicted: NDArray, votes: NDArray, *, asked: float = ASKED
) -> NDArray[np.float64]:
    """Return the agreement within each question, shape (question,), among galaxies asked it; NaN for none."""
    return agreement_terms_per_question(tree, predicted, votes, asked=asked).values()


def constraint_violation(tree: DecisionTree, predicted: NDArray) -> float:
    """Return by how much predictions break the tree's constraints, on average over galaxies × questions.

    0 for predictions that obey the tree; see `constraint_terms`. Raises CatalogueError when there is
    no question with all its predictions.
    """
    return in_total(constraint_terms(tree, predicted)).only_value("the constraint violation")


def constraint_terms(tree: DecisionTree, predicted: NDArray) -> Terms:
    """Return by how much predictions break each question's constraints, shape (galaxy, question).

    A question is broken by |Σ its answers - its reach|, both predicted (one with a single answer only by
    more than its reach), plus what its answers lie outside [0, 1]. Questions with missing predictions are
    left out.
    """
    outside = np.abs(predicted - np.clip(predicted, 0, 1))
    sums = np.stack([predicted[:, answers].sum(axis=1) for answers in tree.slices], axis=1)
    beyond = np.stack([outside[:, answers].sum(axis=1) for answers in tree.slices], axis=1)
    excess, alone = sums - reach(tree, predicted), [len(question.answers) == 1 for question in tree.questions]
    broken = np.where(alone, np.maximum(excess, 0), np.abs(excess)) + beyond
    known = ~np.isnan(broken)
    return Terms(np.where(known, broken, 0.0), known.astype(float))


def averaged(terms: Sequence[Terms]) -> Terms:
    """Return the mean of the terms of several predictions of the same galaxies, galaxy by galaxy."""
    numerator = np.mean([one.numerator for one in terms], axis=0)
    return Terms(numerator, np.mean([one.denominator for one in terms], axis=0), root=terms[0].root)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number: with those at most α, any is wrong with at most α.

    Holm 1979 (Scand. J. Statist. 6, 65): the smallest of m times m, the next times m - 1, none below the one
    before, at most 1.
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(order), 0, -1)
    corrected = np.minimum(1.0, np.maximum.accumulate(factors * np.asarray(p_values)[order]))
    return corrected[np.argsort(order, kind="stable")].tolist()


def draw(galaxies: int, *, rng: np.random.Generator, resamples: int = RESAMPLES) -> NDArray[np.uint8]:
    """Draw bootstrap samples of galaxies: how often each one is in each, shape (resample, galaxy).

    Raises CatalogueError for no galaxies.
    """
    if galaxies < 1 or resamples < 1:
        raise CatalogueError(f"{resamples} bootstrap samples of {galaxies} galaxies: both must be at least 1")
    draws = np.empty((resamples, galaxies), dtype=np.uint8)
    for row in draws:
        row[:] = np.bincount(rng.integers(galaxies, size=galaxies), minlength=galaxies)
    return draws


def estimates(terms: Terms, draws: NDArray) -> tuple[Metric | None, ...]:
    """Return each column's metric with percentile intervals; None for a column without any galaxy.

    Draws that hold no galaxy with a say in a column are left out of its interval.
    """
    replicates = replicate(terms, draws)
    return tuple(
        None if count == 0 else Metric(float(value), *intervals(column), galaxies=int(count))
        for value, column, count in zip(terms.values(), replicates.T, terms.galaxies(), strict=True)
    )


def estimates_as_json(terms: Terms, draws: NDArray) -> list[dict[str, Any] | None]:
    """Return `estimates` in the shape of a JSON file."""
    return [plain(one) if one else None for one in estimates(terms, draws)]


def plain(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass in the shape of a JSON file."""
    return {key: list(entry) if isinstance(entry, tuple) else entry for key, entry in asdict(value).items()}


def compare(first: Terms, second: Terms, draws: NDArray) -> Comparison:
    """Compare one metric of two predictions on the same galaxies by a paired bootstrap.

    The difference is first - second. The p-value is twice the smaller share of draws on either side
    of 0, each share with one draw added (Davison & Hinkley 1997, chapter 4), at most 1.
    Raises CatalogueError when there is nothing to compare.
    """
    difference = first.only_value("the comparison") - second.only_value("the comparison")
    replicates = (replicate(first, draws) - replicate(second, draws))[:, 0]
    replicates = replicates[~np.isnan(replicates)]
    tail = min(np.count_nonzero(replicates <= 0), np.count_nonzero(replicates >= 0))
    p_value = min(1.0, float(2 * (tail + 1) / (len(replicates) + 1)))
    return Comparison(difference, *intervals(replicates), p_value=p_value)


def replicate(terms: Terms, draws: NDArray) -> NDArray[np.float64]:
    """Return the metric of every draw, shape (resample, column); NaN where a draw has nobody with a say."""
    galaxies = len(terms.numerator)
    if draws.shape[1] != galaxies:
        raise CatalogueError(f"draws of {draws.shape[1]} galaxies do not fit a metric of {galaxies} galaxies")
    chunks = [draws[start : start + CHUNK].astype(float) for start in range(0, len(draws), CHUNK)]
    ratios = [_ratio(c @ terms.numerator, c @ terms.denominator, root=terms.root) for c in chunks]
    return np.concatenate(ratios)


def _checked(predicted: NDArray, votes: NDArray) -> NDArray[np.bool_]:
    if predicted.shape != votes.shape or predicted.ndim != 2:
        raise CatalogueError(
            f"predictions of shape {predicted.shape} and votes of shape {votes.shape}: "
            "both must be (galaxy, answer), galaxy by galaxy"
        )
    known = ~np.isnan(votes)
    bad = np.argwhere(known & ~np.isfinite(predicted))
    if len(bad):
        row, column = bad[0]
        raise CatalogueError(
            f"{len(bad)} predictions are no finite numbers where volunteers voted; the first is "
            f"{predicted[row, column]} (row {row}, answer {column}): predict these galaxies again"
        )
    return known


def _ratio(numerator: NDArray, denominator: NDArray, *, root: bool) -> NDArray[np.float64]:
    ratio = np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)
    return np.sqrt(ratio) if root else ratio


def intervals(replicates: NDArray) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the central 68% and 95% intervals of bootstrap replicates, NaN left out."""
    low_95, low_68, high_68, high_95 = np.nanquantile(replicates, [0.025, 0.16, 0.84, 0.975]).tolist()
    return (low_68, high_68), (low_95, high_95)


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
    auc: Metric
    completeness: Metric
    purity: Metric | None


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


def _auc(predicted: NDArray, yes: NDArray[np.bool_], draws: NDArray) -> Metric:
    """Return the AUC, as Mann and Whitney count it, with intervals from the draws that hold both kinds."""
    replicates = _mann_whitney(predicted, yes, draws)
    value = _mann_whitney(predicted, yes, np.ones((1, len(yes))))
    return Metric(float(value[0]), *intervals(replicates), galaxies=len(yes))


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


BINS = 10


@dataclass(frozen=True)
class Reliability:
    """Bins of the predicted fraction of one answer, all of shape (bin,), rising.

    `galaxies` are in a bin, `predicted` and `volunteers` are their mean fractions, `standard_error` is that
    of the volunteers' mean; NaN for a single galaxy.
    """

    galaxies: NDArray[np.int64]
    predicted: NDArray[np.float64]
    volunteers: NDArray[np.float64]
    standard_error: NDArray[np.float64]

    @property
    def error(self) -> float | None:
        """The expected calibration error: the mean distance of the bins' means, weighted by galaxies."""
        return self._mean(np.abs(self.predicted - self.volunteers))

    @property
    def error_by_chance(self) -> float | None:
        """What that error would be on average where the means are the same: E|N(0, σ)| = σ √(2/π)."""
        return self._mean(np.nan_to_num(self.standard_error) * np.sqrt(2 / np.pi))

    def _mean(self, values: NDArray) -> float | None:
        return float(np.average(values, weights=self.galaxies)) if len(values) else None


def reliability_of(predicted: NDArray, volunteers: NDArray, bins: int = BINS) -> Reliability:
    """Bin the galaxies of one answer by their predicted fraction, both arrays (galaxy,).

    A galaxy without a volunteers' fraction is left out; without any left there are no bins.
    """
    known = np.flatnonzero(~np.isnan(volunteers))
    ordered = known[np.argsort(predicted[known], kind="stable")]
    parts = [part for part in np.array_split(ordered, bins) if len(part)]
    return Reliability(
        np.array([len(part) for part in parts], dtype=np.int64),
        np.array([predicted[part].mean() for part in parts]),
        np.array([volunteers[part].mean() for part in parts]),
        np.array([_standard_error(volunteers[part]) for part in parts]),
    )


def _standard_error(values: NDArray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.nan
