"""Samples of galaxies: prototypes of an answer, those that were well asked, correlations, comparisons.

Domain shift: what the network makes of a galaxy just before its answers, its features, is compared with the
training galaxies. The score of a galaxy is its distance to its k-th nearest training galaxy (Sun et al. 2022,
ICML, arXiv:2204.06507), large where the network has seen nothing alike. A survey is held against galaxies of
the training survey that were not trained on, by a two-sample Kolmogorov–Smirnov test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import nsmallest
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import find_peaks
from scipy.stats import ks_2samp
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from hubblefork.errors import CatalogueError, TreeError
from hubblefork.stats.metrics import holm
from hubblefork.zoo import DecisionTree, to_conditional

CLEAN_FRACTION = 0.8


WELL_ASKED: dict[str, tuple[str, float, float] | None] = {
    "smooth_or_features": None,
    "edge_on": ("features_or_disk", 0.227, 0.430),
    "bar": ("not_edge_on", 0.519, 0.715),
    "spiral_pattern": ("not_edge_on", 0.519, 0.715),
    "bulge_prominence": ("not_edge_on", 0.519, 0.715),
    "odd": None,
    "roundness": ("smooth", 0.263, 0.469),
    "odd_feature": ("something_odd", 0.223, 0.420),
    "edge_on_bulge": ("edge_on_disk", 0.326, 0.602),
    "arms_winding": ("spiral", 0.402, 0.619),
    "arms_number": ("spiral", 0.402, 0.619),
}
"""The answer that leads to a question, and the vote fraction it must exceed for 10 and for 20 votes.

Willett et al. 2013, MNRAS 435, 2835, table 3. Each value is on the answer just before the question;
the questions further up have cuts of their own. None: the question is put to every galaxy."""


def prototypes(values: NDArray, ids: Sequence[Any] | NDArray, column: int, count: int) -> NDArray[np.int64]:
    """Return the rows of the galaxies with the largest value in a column, the largest first.

    `values` has shape (galaxy, answer), `ids` (galaxy,). Equal values come in the order of their ids.
    A galaxy whose value is NaN is never chosen, so there may be fewer than `count`.
    Raises CatalogueError when count is below 1 or the lengths differ.
    """
    if len(values) != len(ids) or count < 1:
        raise CatalogueError(
            f"{count} prototypes of {len(values)} galaxies with {len(ids)} ids: "
            "ask for at least one, and give one id a galaxy"
        )
    known = np.flatnonzero(~np.isnan(values[:, column]))
    chosen = nsmallest(count, known.tolist(), key=lambda row: (-values[row, column], ids[row]))
    return np.array(chosen, dtype=np.int64)


def cuts(tree: DecisionTree, question: str, *, votes: int = 20) -> dict[str, float]:
    """Return the vote fraction that each answer on the way to a question must exceed.

    `cuts(tree, "bar")` is {"features_or_disk": 0.43, "not_edge_on": 0.715}. Raises UnknownAnswer,
    TreeError for a tree without published cuts, CatalogueError for other votes than 10 or 20.
    """
    tree.question(question)
    if question not in WELL_ASKED:
        raise TreeError(f'no cuts are published for "{question}" of {tree.name}, only for galaxy_zoo_2')
    cut = WELL_ASKED[question]
    if cut is None:
        return {}
    if votes not in (10, 20):
        raise CatalogueError(f"cuts are published for at least 10 or 20 votes on a question, not {votes}")
    answer, *minima = cut
    before = tree.questions[tree.question_of[tree.column(answer)]].name
    return {**cuts(tree, before, votes=votes), answer: minima[votes == 20]}


def well_asked(tree: DecisionTree, joint: NDArray, question: str, *, votes: int = 20) -> NDArray[np.bool_]:
    """Return which galaxies were asked a question often enough to trust the answers, shape (galaxy,).

    `joint` fractions have shape (galaxy, answer); the cuts are on conditional fractions. A missing
    fraction is no yes. Raises as `cuts` does.
    """
    conditional = to_conditional(tree, joint)
    passed = np.ones(len(joint), dtype=bool)
    for answer, minimum in cuts(tree, question, votes=votes).items():
        passed &= conditional[:, tree.column(answer)] > minimum
    return passed


def clean(
    tree: DecisionTree, joint: NDArray, answer: str, *, votes: int = 20, fraction: float = CLEAN_FRACTION
) -> NDArray[np.bool_]:
    """Return the clean sample of an answer: well asked, and a vote fraction above 0.8, shape (galaxy,).

    Willett et al. 2013: their flag is set on debiased fractions (Kaggle's are) and also
    asks for the number of votes itself, which fractions alone do not tell. Raises as `cuts` does.
    """
    column = tree.column(answer)
    question = tree.questions[tree.question_of[column]].name
    return well_asked(tree, joint, question, votes=votes) & (
        to_conditional(tree, joint)[:, column] > fraction
    )


@dataclass(frozen=True)
class Correlations:
    """`rho` and the number of `galaxies` behind each of its elements, both (answer, answer)."""

    rho: NDArray[np.float64]
    galaxies: NDArray[np.int64]


def correlations(values: NDArray) -> Correlations:
    """Return the correlation of every pair of columns of (galaxy, answer).

    The lab report's equations 1 to 3: ρ_ij = (⟨ij⟩ - ⟨i⟩⟨j⟩) / (σ_i σ_j), σ_i² = ⟨i²⟩ - ⟨i⟩². All means of a
    pair are over the galaxies in which both are known, so that a missing label counts neither way. NaN
    where fewer than two galaxies have both, or one of the two does not vary among them.
    """
    known = (~np.isnan(values)).astype(float)
    centres = np.where(known > 0, values, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    filled = np.where(known > 0, values - centres, 0.0)  # keeps digits, and changes no correlation
    galaxies = known.T @ known
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (filled.T @ known) / galaxies
        variance = (filled**2).T @ known / galaxies - mean**2
        covariance = filled.T @ filled / galaxies - mean * mean.T
        varies = (variance > 1e-12) & (variance.T > 1e-12)
        rho = np.where(varies, covariance / np.sqrt(variance * variance.T), np.nan)
    return Correlations(np.clip(rho, -1.0, 1.0), galaxies.astype(np.int64))


LEVEL = 0.05
BINS = 25
PROMINENCE = 0.01


@dataclass(frozen=True)
class Difference:
    """A two-sample Kolmogorov-Smirnov test: the largest distance of the two cumulative distributions.

    `p_value` is that of this test by itself, `corrected` Holm's over all answers that were looked at;
    `galaxies` are how many there are of either sample.
    """

    distance: float
    p_value: float
    corrected: float
    galaxies: tuple[int, int]

    @property
    def significant(self) -> bool:
        """Whether the corrected p-value is below 0.05."""
        return self.corrected < LEVEL


def compare_distributions(first: NDArray, second: NDArray) -> tuple[Difference | None, ...]:
    """Test for every answer whether two samples, both (galaxy, answer), have one distribution.

    SciPy's two-sample Kolmogorov-Smirnov test with the asymptotic p-value, corrected for all answers at
    once by `holm`. Fractions are tied (many are exactly 0), which makes the test conservative. Missing
    labels are left out; None for an answer of which one sample has none.
    """
    pairs = [(a[~np.isnan(a)], b[~np.isnan(b)]) for a, b in zip(first.T, second.T, strict=True)]
    tests = [ks_2samp(a, b, method="asymp") if len(a) and len(b) else None for a, b in pairs]
    corrected = iter(holm([float(test.pvalue) for test in tests if test is not None]))
    return tuple(
        None
        if test is None
        else Difference(float(test.statistic), float(test.pvalue), next(corrected), (len(a), len(b)))
        for test, (a, b) in zip(tests, pairs, strict=True)
    )


def peaks(values: NDArray, *, bins: int = BINS, prominence: float = PROMINENCE) -> int:
    """Return how many peaks the histogram of values in [0, 1] has.

    A peak rises above the lower of the valleys beside it by at least that share of all values; the
    ends count as valleys of height 0. NaN is left out; 0 for no values.
    """
    known = values[~np.isnan(values)]
    if not len(known):
        return 0
    shares = np.histogram(known, bins, (0, 1))[0] / len(known)
    return len(find_peaks(np.pad(shares, 1), prominence=prominence)[0])


NEIGHBOURS = 10
CHANCE = 1e-3


@dataclass(frozen=True)
class Familiar:
    """The training galaxies' features, standardised; `distances` says how far others are from them."""

    scaler: StandardScaler
    neighbours: NearestNeighbors

    def distances(self, features: NDArray) -> NDArray[np.float64]:
        """Return the distance of each galaxy to its k-th nearest training galaxy, shape (galaxy,).

        `features` has shape (galaxy, feature). Divided by the root of the number of features.
        """
        with threadpool_limits(1):
            distances, _ = self.neighbours.kneighbors(self.scaler.transform(features))
        return distances[:, -1] / np.sqrt(features.shape[1])


@dataclass(frozen=True)
class Comparison:
    """Scores of a survey beside those of held-out galaxies of the training survey.

    `distance` is the largest difference of the two distributions (Kolmogorov–Smirnov), `p_value` the chance
    of one as large without a shift, `beyond` the share of the survey's galaxies above the 95th percentile of
    the held-out ones (0.05 without a shift). `shifted` when the chance is under `chance`.
    """

    distance: float
    p_value: float
    beyond: float
    galaxies: int
    held_out: int
    chance: float = CHANCE

    @property
    def shifted(self) -> bool:
        """Whether the survey is unlike the training survey."""
        return self.p_value < self.chance


def familiar(features: NDArray, *, neighbours: int = NEIGHBOURS) -> Familiar:
    """Learn which features are familiar from training galaxies, shape (galaxy, feature).

    Features that no training galaxy has (constant ones) keep their scale. Raises CatalogueError for fewer
    galaxies than neighbours.
    """
    if len(features) < neighbours:
        raise CatalogueError(
            f"{len(features)} training galaxies: the distance to the {neighbours}th nearest needs more"
        )
    scaler = StandardScaler().fit(features)
    return Familiar(scaler, NearestNeighbors(n_neighbors=neighbours).fit(scaler.transform(features)))


def compare(survey: NDArray, held_out: NDArray, *, chance: float = CHANCE) -> Comparison:
    """Compare the scores of a survey with those of held-out galaxies, both (galaxy,).

    Raises CatalogueError when either is empty.
    """
    if not len(survey) or not len(held_out):
        raise CatalogueError(f"{len(survey)} galaxies against {len(held_out)}: give at least one of each")
    test = ks_2samp(survey, held_out)
    beyond = float(np.mean(survey > np.quantile(held_out, 0.95)))
    return Comparison(float(test.statistic), float(test.pvalue), beyond, len(survey), len(held_out), chance)
