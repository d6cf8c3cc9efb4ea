"""How well fractions are predicted: RMSE, agreement, broken constraints, reliability; bootstrap intervals.

Arrays have shape (galaxy, answer) in the order of `tree.columns` and hold joint fractions. NaN among the
volunteers' votes means that nobody was asked: it is left out, never counted as zero. A prediction must be a
finite number wherever there is a vote.

Every metric is a ratio of two sums over galaxies and is kept as `Terms`: what each galaxy adds to either sum.
The bootstrap (Efron 1979, Ann. Statist. 7, 1) draws galaxies; metrics with the same draws are paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hubblefork.errors import CatalogueError
from hubblefork.zoo import DecisionTree, excesses, reach

RESAMPLES = 1000
ASKED = 0.5
CHUNK = 100
YES = 0.5
BINS = 10
LEAST = 1e-7  # of a fraction in a logarithm, near the resolution of single precision


@dataclass(frozen=True)
class Terms:
    """What each galaxy adds to a metric, both of shape (galaxy, column): Σ numerator / Σ denominator.

    With `root` the metric is the square root of that ratio. A galaxy with a denominator of 0 does not count.
    Raises CatalogueError when the shapes differ or a number is missing.
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
        """Return how many galaxies count in each column."""
        return np.count_nonzero(self.denominator, axis=0)

    def only_value(self, what: str) -> float:
        """Return the metric of the single column. Raises CatalogueError when no galaxy counts."""
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
    interval_68: list[float]
    interval_95: list[float]
    galaxies: int


@dataclass(frozen=True)
class Comparison:
    """How much larger one metric is than another of the same galaxies; `p_value` is two-sided."""

    difference: float
    interval_68: list[float]
    interval_95: list[float]
    p_value: float


@dataclass(frozen=True)
class Binary:
    """A yes or no, judged: `yes` of `galaxies` have it.

    `auc`: the area under the ROC curve. At `threshold`, `completeness` is the share of those with it that are
    counted; `purity` is the share of the counted that have it, None where none is counted.
    """

    yes: int
    galaxies: int
    threshold: float
    auc: Metric
    completeness: Metric
    purity: Metric | None


@dataclass(frozen=True)
class OneClass:
    """A class, judged: the share of its galaxies whose highest fraction it has, and their log-loss."""

    accuracy: Metric
    log_loss: Metric


@dataclass(frozen=True)
class Reliability:
    """Bins of the predicted fraction of one answer, arrays of shape (bin,), rising.

    `predicted` and `volunteers` are the mean fractions of the `galaxies` in a bin, `standard_error` is that
    of the volunteers' mean; NaN for a single galaxy.
    """

    galaxies: NDArray[np.int64]
    predicted: NDArray[np.float64]
    volunteers: NDArray[np.float64]
    standard_error: NDArray[np.float64]

    @property
    def error(self) -> float | None:
        """The expected calibration error (Naeini et al. 2015, AAAI, 2901): the mean distance of the means."""
        return self._mean(np.abs(self.predicted - self.volunteers))

    @property
    def error_by_chance(self) -> float | None:
        """What that error is on average where the means are the same: E|N(0, σ)| = σ √(2/π)."""
        return self._mean(np.nan_to_num(self.standard_error) * np.sqrt(2 / np.pi))

    def _mean(self, values: NDArray) -> float | None:
        return float(np.average(values, weights=self.galaxies)) if len(values) else None


def error_terms(predicted: NDArray, votes: NDArray) -> Terms:
    """Return the squared errors of each answer as terms of a root mean square, shape (galaxy, answer).

    Raises CatalogueError when shapes differ or a prediction is missing where volunteers voted.
    """
    known = _checked(predicted, votes)
    return Terms(np.where(known, np.subtract(predicted, votes) ** 2, 0.0), known.astype(float), root=True)


def rmse(predicted: NDArray, votes: NDArray) -> float:
    """Return the root mean square error over all galaxies × answers with votes: Kaggle's measure.

    Raises CatalogueError when there are no votes, or for predictions that are missing.
    """
    return in_total(error_terms(predicted, votes)).only_value("the RMSE")


def rmse_per_answer(predicted: NDArray, votes: NDArray) -> NDArray[np.float64]:
    """Return the RMSE of each answer, shape (answer,); NaN for an answer without any votes."""
    return error_terms(predicted, votes).values()


def in_total(terms: Terms) -> Terms:
    """Return the terms of all columns together, shape (galaxy, 1)."""
    return terms.merged(np.ones((terms.numerator.shape[1], 1)))


def per_question(tree: DecisionTree, terms: Terms) -> Terms:
    """Return the terms of each question out of those of each answer, shape (galaxy, question)."""
    return terms.merged(np.eye(len(tree.questions))[list(tree.question_of)])


def agreement_terms(predicted: NDArray, votes: NDArray) -> Terms:
    """Return who agrees on the highest of all answers, shape (galaxy, 1); only complete galaxies count.

    That is Keras's categorical accuracy; of equal answers the first is the highest. Raises CatalogueError as
    `error_terms` does.
    """
    complete = _checked(predicted, votes).all(axis=1, keepdims=True)
    hits = np.argmax(predicted, axis=1) == np.argmax(votes, axis=1)
    return Terms(complete * hits[:, None].astype(float), complete.astype(float))


def agreement(predicted: NDArray, votes: NDArray) -> float:
    """Return the share of galaxies whose highest predicted answer of all is the volunteers' highest.

    Galaxies with a missing vote are left out. Raises CatalogueError when none remains.
    """
    return agreement_terms(predicted, votes).only_value("the agreement")


def agreement_terms_per_question(
    tree: DecisionTree, predicted: NDArray, votes: NDArray, *, asked: float = ASKED
) -> Terms:
    """Return who agrees on the highest answer within each question, shape (galaxy, question).

    A galaxy counts where the volunteers' reach of the question is at least `asked` and all its answers have
    votes; only questions with exclusive answers count. Raises CatalogueError as `error_terms` does.
    """
    known = _checked(predicted, votes)
    reached = np.nan_to_num(reach(tree, votes), nan=0.0) >= asked
    counts = reached & np.stack([known[:, answers].all(axis=1) for answers in tree.slices], axis=1)
    counts &= [question.exclusive for question in tree.questions]
    hits = [np.argmax(predicted[:, a], axis=1) == np.argmax(votes[:, a], axis=1) for a in tree.slices]
    return Terms((counts & np.stack(hits, axis=1)).astype(float), counts.astype(float))


def constraint_terms(tree: DecisionTree, predicted: NDArray) -> Terms:
    """Return by how much predictions break each question's constraints, shape (galaxy, question).

    A question is broken by its excess over its reach (`zoo.excesses`), both predicted, plus what its answers
    lie outside [0, 1]. Questions with missing predictions are left out.
    """
    outside = np.zeros(predicted.shape) if tree.number else np.abs(predicted - np.clip(predicted, 0, 1))
    beyond = np.stack([outside[:, answers].sum(axis=1) for answers in tree.slices], axis=1)
    broken = np.abs(excesses(tree, predicted)) + beyond
    known = ~np.isnan(broken)
    return Terms(np.where(known, broken, 0.0), known.astype(float))


def constraint_violation(tree: DecisionTree, predicted: NDArray) -> float:
    """Return by how much predictions break the tree's constraints, the mean over galaxies × questions.

    Raises CatalogueError when no question has all its predictions.
    """
    return in_total(constraint_terms(tree, predicted)).only_value("the constraint violation")


def averaged(terms: Sequence[Terms]) -> Terms:
    """Return the mean of the terms of several predictions of the same galaxies, galaxy by galaxy."""
    numerator = np.mean([one.numerator for one in terms], axis=0)
    return Terms(numerator, np.mean([one.denominator for one in terms], axis=0), root=terms[0].root)


def is_binary(votes: NDArray) -> bool:
    """Whether all votes (galaxy,) are 0 or 1, and both occur."""
    return set(np.unique(votes[~np.isnan(votes)]).tolist()) == {0.0, 1.0}


def binary(predicted: NDArray, votes: NDArray, draws: NDArray) -> Binary:
    """Judge predictions of a yes or no, both of shape (galaxy,); `draws` as of `draw`.

    Missing votes (NaN) are left out. The others must be 0 or 1 (`is_binary`).
    """
    known = ~np.isnan(votes)
    yes, counted = known & (votes == 1), known & (predicted >= YES)
    both = (yes & counted).astype(float)
    shares = Terms(np.stack([both, both], axis=1), np.stack([yes, counted], axis=1).astype(float))
    completeness, purity = estimates(shares, draws)
    assert completeness is not None
    sides = predicted[known], yes[known]
    value = _mann_whitney(*sides, np.ones((1, len(sides[0]))))
    replicates = _mann_whitney(*sides, draws[:, known])
    auc = Metric(float(value[0]), *intervals(replicates), galaxies=len(sides[0]))
    return Binary(int(yes.sum()), int(known.sum()), YES, auc, completeness, purity)


def _mann_whitney(predicted: NDArray, yes: NDArray[np.bool_], times: NDArray) -> NDArray[np.float64]:
    """Return the share of pairs in the right order (the AUC), a tie a half, shape (resample,).

    Each galaxy counts so many `times` (resample, galaxy). NaN where there is no pair.
    """
    order = np.argsort(predicted)
    starts = np.unique(predicted[order], return_index=True)[1]
    times = times[:, order].astype(float)
    with_it, without = (np.add.reduceat(times * kind, starts, axis=1) for kind in (yes[order], ~yes[order]))
    below = np.cumsum(without, axis=1) - without / 2
    pairs = with_it.sum(axis=1) * without.sum(axis=1)
    return _ratio((with_it * below).sum(axis=1), pairs)


def are_classes(votes: NDArray) -> bool:
    """Whether each galaxy is of one of at least two classes: votes (galaxy, class) are 0 but for a 1."""
    known = votes[~np.isnan(votes).any(axis=1)]
    return bool(
        np.isin(known, (0, 1)).all() and (known.sum(axis=1) <= 1).all() and known.any(axis=0).sum() > 1
    )


def judged_classes(
    predicted: NDArray, votes: NDArray, draws: NDArray
) -> tuple[Metric | None, list[OneClass | None]]:
    """Return the log-loss over all galaxies, and each class judged; None for a class without any galaxy.

    `predicted` are joint fractions and `votes` classes (see `are_classes`) of one question, both (galaxy,
    class). The log-loss is the mean of −ln of the share that the true class has of the question's fractions.
    """
    asked = np.nan_to_num(votes)
    share = predicted / predicted.sum(axis=1, keepdims=True).clip(LEAST)
    losses = Terms(-asked * np.log(share.clip(LEAST)), asked)
    highest = np.arange(votes.shape[1]) == predicted.argmax(axis=1)[:, None]
    accuracies = estimates(Terms(asked * highest, asked), draws)
    pairs = zip(accuracies, estimates(losses, draws), strict=True)
    single = [OneClass(right, loss) if right and loss else None for right, loss in pairs]
    return estimates(in_total(losses), draws)[0], single


def reliability_of(predicted: NDArray, volunteers: NDArray, bins: int = BINS) -> Reliability:
    """Return the mean votes in bins of the predicted fraction of one answer, both arrays (galaxy,).

    A reliability diagram (Murphy & Winkler 1977, J. R. Stat. Soc. C 26, 41) with as many galaxies in every
    bin, since most fractions are near 0. Galaxies without votes are left out; if none remains, so are bins.
    """
    known = np.flatnonzero(~np.isnan(volunteers))
    ordered = known[np.argsort(predicted[known], kind="stable")]
    parts = [part for part in np.array_split(ordered, bins) if len(part)]
    sizes = np.array([len(part) for part in parts], dtype=np.int64)
    spread = [volunteers[part].std(ddof=1) if len(part) > 1 else np.nan for part in parts]
    mean, votes = (np.array([values[part].mean() for part in parts]) for values in (predicted, volunteers))
    return Reliability(sizes, mean, votes, np.array(spread) / np.sqrt(sizes))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number: the chance of any false alarm at level α is at most α.

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

    Draws in which no galaxy counts for a column are left out of its interval.
    """
    replicates = replicate(terms, draws)
    return tuple(
        None if count == 0 else Metric(float(value), *intervals(column), galaxies=int(count))
        for value, column, count in zip(terms.values(), replicates.T, terms.galaxies(), strict=True)
    )


def compare(first: Terms, second: Terms, draws: NDArray) -> Comparison:
    """Compare one metric of two predictions on the same galaxies by a paired bootstrap: first - second.

    The p-value is twice the smaller share of draws on either side of 0, each with one draw added (Davison &
    Hinkley 1997, chapter 4), at most 1. Raises CatalogueError when there is nothing to compare.
    """
    difference = first.only_value("the comparison") - second.only_value("the comparison")
    replicates = (replicate(first, draws) - replicate(second, draws))[:, 0]
    replicates = replicates[~np.isnan(replicates)]
    tail = min(np.count_nonzero(replicates <= 0), np.count_nonzero(replicates >= 0))
    p_value = min(1.0, float(2 * (tail + 1) / (len(replicates) + 1)))
    return Comparison(difference, *intervals(replicates), p_value=p_value)


def replicate(terms: Terms, draws: NDArray) -> NDArray[np.float64]:
    """Return the metric of every draw, shape (resample, column); NaN where no drawn galaxy counts."""
    galaxies = len(terms.numerator)
    if draws.shape[1] != galaxies:
        raise CatalogueError(f"draws of {draws.shape[1]} galaxies do not fit a metric of {galaxies} galaxies")
    chunks = [draws[start : start + CHUNK].astype(float) for start in range(0, len(draws), CHUNK)]
    ratios = [_ratio(c @ terms.numerator, c @ terms.denominator, root=terms.root) for c in chunks]
    return np.concatenate(ratios)


def intervals(replicates: NDArray) -> tuple[list[float], list[float]]:
    """Return the central 68% and 95% intervals of bootstrap replicates, NaN left out."""
    low_95, low_68, high_68, high_95 = np.nanquantile(replicates, [0.025, 0.16, 0.84, 0.975]).tolist()
    return [low_68, high_68], [low_95, high_95]


def _checked(predicted: NDArray, votes: NDArray) -> NDArray[np.bool_]:
    """Return where there are votes. Raises CatalogueError where a prediction is missing there."""
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


def _ratio(numerator: NDArray, denominator: NDArray, *, root: bool = False) -> NDArray[np.float64]:
    ratio = np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)
    return np.sqrt(ratio) if root else ratio
