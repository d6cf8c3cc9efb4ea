"""Intervals of predicted fractions that hold the volunteers' fraction at a stated coverage.

Split conformal prediction (Vovk, Gammerman & Shafer 2005, "Algorithmic Learning in a Random World"; Lei
et al. 2018, JASA 113, 1094): the distances of votes from predictions on calibration galaxies, which the
network did not train on, bound the distances of similar galaxies. Three refinements (measured in
docs/uncertainty.md):

- Residuals are divided by a learned scale (Papadopoulos et al. 2002, ECML, 345).
- Quantiles are taken within categories of the predicted value (Vovk et al. 2003, "Mondrian confidence
  machine"), so that the coverage also holds among the galaxies with the highest predictions.
- Lower and upper residuals have quantiles of their own (Romano, Patterson & Candès 2019, NeurIPS 32). Many
  galaxies share the fractions 0 and 1: an interval that reaches one of them misses no galaxy on that side.

Credible intervals come from concentrations. A network with these predicts, for each question, a Dirichlet
distribution of the conditional fractions: mean m and concentration κ, parameters m κ (Walmsley et al. 2022,
MNRAS 509, 3966, section 4). The fraction of one answer is then Beta(m κ, (1 - m) κ), and so are the answers
of a question to which several may be given.

Arrays have shape (galaxy, answer) in the order of the tree's columns, concentrations (galaxy, question); NaN
among the votes means that nobody was asked, and such pairs are left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import ConfigDict, PlainSerializer, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from hubblefork.data.folders import VIEWING, evaluate_command
from hubblefork.errors import CatalogueError, RunError
from hubblefork.io import write_text
from hubblefork.tables.catalogue import concentrations, fractions
from hubblefork.zoo import DecisionTree, to_conditional, to_joint
from hubblefork.zoo.votes import answering, votes_of_volunteers

COVERAGES = (0.68, 0.9, 0.95)
LEAST = 50
SHARES = (0.1, 0.2, 0.2)
SMALLEST_SCALE = 1e-6
DRAWS = 400
TOGETHER = 256
TINY = 1e-9

EXACT = ConfigDict(extra="forbid")


@dataclass(frozen=True, kw_only=True, config=EXACT)
class Calibrated:
    """Numbers of the `weights` with that SHA-256, predicting from so many `views` of each galaxy.

    `viewing` is the manner of these views, `origin` names the calibration galaxies.
    """

    weights: str = ""
    views: int = 1
    viewing: str = "1"
    origin: str = ""
    what: ClassVar[str]
    needs: ClassVar[str] = ""

    def to_json(self) -> str:
        """Return all fields as JSON; infinite numbers are text, as "-inf"."""
        return TypeAdapter(type(self)).dump_json(self, indent=1).decode() + "\n"

    def write(self, path: Path) -> None:
        """Write the file beside the weights, whole or not at all. Raises DiskError."""
        write_text(path, self.to_json())

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `write` wrote. Raises RunError that names the remedy."""
        try:
            return TypeAdapter(cls).validate_json(path.read_bytes())
        except (OSError, ValueError, TypeError, CatalogueError) as error:
            raise RunError(
                f"{path}: no readable {cls.what}: {_reason(error)}; "
                f"`{evaluate_command(path.parent)}` makes them"
            ) from error

    @classmethod
    def read_for(cls, path: Path, weights: str, views: int, run: Path) -> Self:
        """Read a file for the weights of a run, by their SHA-256, and so many views of each galaxy.

        Raises RunError where there is none, and where it is of others or of an earlier way to look at them.
        """
        remedy = f"`{evaluate_command(path.parent, views)}` makes it"
        if not path.exists():
            raise RunError(f"{path.parent}: there is no {path.name}; {remedy}{cls.needs}")
        result = cls.read(path)
        if result.weights != weights:
            raise RunError(f"{path} is of other weights than {run}; {remedy} anew")
        if result.viewing != VIEWING:
            raise RunError(
                f"{path} was made by an earlier hubblefork, which looked at galaxies otherwise; {remedy} anew"
            )
        if result.views != views:
            raise RunError(f"{path} is for --views {result.views}, not {views}; {remedy} anew")
        return result


def _reason(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return f"{type(error).__name__}: {error}"
    return "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()[:3])


Bound = Annotated[float, PlainSerializer(lambda value: str(value) if math.isinf(value) else value)]
"""JSON has no infinite numbers: they are written as "inf" and "-inf"."""


@dataclass(frozen=True, config=EXACT)
class AnswerIntervals:
    """The intervals of one answer, from so many calibration galaxies.

    The scale at a predicted fraction p with a spread s is √(v₀ + v₁ p(1−p) + v₂ s²), `variance` being v. A
    galaxy's category is the number of `edges` below its p. `low` and `high` (coverage, category) bound the
    volunteers' fraction minus p in units of the scale; infinite where the interval goes to 0 or to 1.
    Raises CatalogueError for numbers that contradict each other.
    """

    galaxies: int
    variance: tuple[float, float, float]
    edges: tuple[float, ...]
    low: tuple[tuple[Bound, ...], ...]
    high: tuple[tuple[Bound, ...], ...]

    def __post_init__(self) -> None:
        low, high = np.array(self.low), np.array(self.high)
        categories = len(self.edges) + 1
        if low.ndim != 2 or low.shape != high.shape or low.shape[1] != categories:
            raise CatalogueError(
                f"bounds of the shapes {low.shape} and {high.shape} for {categories} categories"
            )
        if np.any(np.isnan(low)) or not np.all(low <= high) or not np.all(np.diff(self.edges) > 0):
            raise CatalogueError("lower bounds above upper ones, or edges of categories that do not rise")
        if len(self.variance) != 3 or not all(0 <= part < math.inf for part in self.variance):
            raise CatalogueError(f"the variance has parts {self.variance}: three are needed, none negative")

    def of(
        self, predicted: NDArray, spread: NDArray, level: int, *, bounded: bool
    ) -> tuple[NDArray, NDArray]:
        """Return the bounds at one of the coverages, by its number, and in [0, 1] if so; all (galaxy,)."""
        category = np.searchsorted(self.edges, predicted)
        scale = _scale(predicted, spread, self.variance)
        sides = (np.array(side[level])[category] * scale for side in (self.low, self.high))
        low, high = (predicted + side for side in sides)
        return (np.clip(low, 0.0, 1.0), np.clip(high, 0.0, 1.0)) if bounded else (low, high)


@dataclass(frozen=True, config=EXACT)
class Intervals(Calibrated):
    """The intervals of every answer of a tree at some coverages; with `spread` for predictions with a spread.

    `bounded` are those of fractions, in [0, 1], not those of a number.
    Raises CatalogueError for coverages that do not rise in (0, 1).
    """

    tree: str
    coverages: tuple[float, ...]
    galaxies: int
    answers: Mapping[str, AnswerIntervals]
    spread: bool = False
    bounded: bool = True
    what: ClassVar[str] = "intervals"
    needs: ClassVar[str] = f", from at least {LEAST} labelled validation galaxies"

    def __post_init__(self) -> None:
        _check_coverages(self.coverages)
        for name, answer in self.answers.items():
            if len(answer.low) != len(self.coverages):
                raise CatalogueError(
                    f"{name} has bounds for {len(answer.low)} of {len(self.coverages)} coverages"
                )

    def bounds(
        self, predicted: NDArray, coverage: float, *, spread: NDArray | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the lower and the upper bound of each fraction or number, both (galaxy, answer).

        Raises CatalogueError for a coverage that these intervals do not have, predictions of other answers or
        that are no numbers, and a spread that is missing or has no use here.
        """
        self.check(coverage)
        spread = _checked(predicted, spread, answers=len(self.answers), needed=self.spread)
        level, columns = self.coverages.index(coverage), zip(predicted.T, spread.T, strict=True)
        answers = zip(self.answers.values(), columns, strict=True)
        sides = [answer.of(*column, level, bounded=self.bounded) for answer, column in answers]
        low, high = (np.stack(side, axis=1) for side in zip(*sides, strict=True))
        return low, high

    def check(self, coverage: float) -> None:
        """Raise CatalogueError for a coverage that these intervals do not have."""
        if coverage not in self.coverages:
            coverages = ", ".join(f"{one:g}" for one in self.coverages)
            raise CatalogueError(f"no intervals of coverage {coverage}; these have {coverages}")


def fit_intervals(
    tree: str,
    answers: Sequence[str],
    predicted: NDArray,
    volunteers: NDArray,
    *,
    spread: NDArray | None = None,
    coverages: Sequence[float] = COVERAGES,
    origin: str = "",
    weights: str = "",
    views: int = 1,
    bounded: bool = True,
) -> Intervals:
    """Fit intervals to calibration galaxies, arrays all of shape (galaxy, answer), fractions if `bounded`.

    `spread` is the standard deviation of several predictions of a galaxy (over views, or over networks). An
    answer with votes of fewer than 50 galaxies takes the intervals of all answers together. Raises
    CatalogueError for fewer than 50 galaxies, or predictions that are no numbers.
    """
    known = ~np.isnan(volunteers)
    galaxies = int(np.count_nonzero(known.any(axis=1)))
    if galaxies < LEAST:
        raise CatalogueError(
            f"{galaxies} labelled galaxies to calibrate intervals on: at least {LEAST} are needed; "
            "split with a larger validation part"
        )
    _check_coverages(coverages)
    has_spread = spread is not None
    spread = _checked(predicted, spread, answers=len(answers), needed=has_spread)
    columns = np.stack([predicted, spread, volunteers])
    fitted = {}
    for column, name in enumerate(answers):
        own = known[:, column]
        enough = np.count_nonzero(own) >= LEAST
        chosen = columns[:, own, column] if enough else columns[:, known]
        fitted[name] = _fitted(chosen, coverages, bounded=bounded)
    made: dict[str, Any] = {"origin": origin, "weights": weights, "views": views, "viewing": VIEWING}
    return Intervals(tree, tuple(coverages), galaxies, fitted, spread=has_spread, bounded=bounded, **made)


def score_bounds(scores: NDArray, coverage: float) -> tuple[float, float]:
    """Return the bounds that hold the score of one more galaxy with at least that probability.

    `scores` of calibration galaxies, shape (galaxy,), may be infinite. One more galaxy like these n lies
    between the i-th and the (i + m)-th score with probability m / (n + 1): m is the least that suffices, i
    leaves half of the rest below. Nothing lies beyond an infinite bound: the other side has all the rest.
    """
    galaxies = len(scores)
    inside = math.ceil(round(coverage * (galaxies + 1), 9))
    if inside > galaxies:
        return -math.inf, math.inf
    ordered = np.concatenate([[-np.inf], np.sort(scores), [np.inf]])
    first = math.floor(round((1 - coverage) / 2 * (galaxies + 1), 9))
    if ordered[first] == -np.inf:
        first = 0
    elif ordered[first + inside] == np.inf:
        first = galaxies + 1 - inside
    return float(ordered[first]), float(ordered[first + inside])


def _fitted(columns: NDArray, coverages: Sequence[float], *, bounded: bool) -> AnswerIntervals:
    """Fit one answer; `columns` are predicted, spread and volunteers' fraction, shape (3, galaxy)."""
    from scipy.optimize import nnls  # a third of a second that reading intervals does not need

    predicted, spread, volunteers = columns
    residual = volunteers - predicted
    variance, _ = nnls(_features(predicted, spread), residual**2)
    scores = residual / _scale(predicted, spread, variance)
    if bounded:
        scores[volunteers <= 0], scores[volunteers >= 1] = -np.inf, np.inf
    edges = _edges(predicted)
    category = np.searchsorted(edges, predicted)
    parts = [scores[category == number] for number in range(len(edges) + 1)]
    sides = np.array([[score_bounds(part, coverage) for part in parts] for coverage in coverages])
    low = np.minimum.accumulate(sides[..., 0])  # a wider coverage is nowhere narrower
    high = np.maximum.accumulate(sides[..., 1])
    return AnswerIntervals(len(predicted), *(part.tolist() for part in (variance, edges, low, high)))


def _edges(predicted: NDArray) -> NDArray[np.float64]:
    """Return where the categories meet: the top tenth, two fifths below it, the rest.

    Each but the last has one galaxy fewer than a multiple of 50: then `score_bounds` rounds up no coverage of
    an even number of per cent.
    """
    ordered, edges, above = np.sort(predicted)[::-1], [], 0
    for part in SHARES:
        above += LEAST * max(1, round(part * len(ordered) / LEAST)) - 1
        if len(ordered) - above < LEAST:
            break
        edges.append((ordered[above - 1] + ordered[above]) / 2)
    return np.unique(edges)


def _features(predicted: NDArray, spread: NDArray) -> NDArray[np.float64]:
    inside = np.clip(predicted, 0, 1)
    return np.stack([np.ones_like(inside), inside * (1 - inside), spread**2], axis=-1)


def _scale(predicted: NDArray, spread: NDArray, variance: Sequence[float] | NDArray) -> NDArray[np.float64]:
    return np.maximum(np.sqrt(_features(predicted, spread) @ np.asarray(variance)), SMALLEST_SCALE)


def _check_coverages(coverages: Sequence[float]) -> None:
    inside = all(0 < coverage < 1 for coverage in coverages)
    if not len(coverages) or not inside or not np.all(np.diff(coverages) > 0):
        raise CatalogueError(
            f"coverages of {tuple(coverages)}: each lies between 0 and 1 and above the one before"
        )


def _checked(
    predicted: NDArray, spread: NDArray | None, *, answers: int, needed: bool
) -> NDArray[np.float64]:
    """Return the spread, 0 where there is none. Raises CatalogueError for arrays that do not fit."""
    if predicted.ndim != 2 or predicted.shape[1] != answers or not np.isfinite(predicted).all():
        raise CatalogueError(
            f"predictions of shape {predicted.shape} for {answers} answers: allowed are finite numbers of "
            f"shape (galaxy, {answers})"
        )
    if needed and spread is None:
        raise CatalogueError("these intervals are for predictions with a spread, and there is none")
    if not needed and spread is not None:
        raise CatalogueError("these intervals are for predictions without a spread")
    if spread is None:
        return np.zeros(predicted.shape)
    if spread.shape != predicted.shape or not np.all((spread >= 0) & (spread < np.inf)):
        raise CatalogueError(
            f"a spread of shape {spread.shape}: it is as large as the predictions and not negative"
        )
    return spread


# By concentrations


def concentrations_of(table: pa.Table, tree: DecisionTree) -> NDArray[np.float64] | None:
    """Return the concentrations of a catalogue (galaxy, question); None where it has none."""
    names = concentrations(tree)
    if not set(names) <= set(table.column_names):
        return None
    return np.stack([table.column(name).cast(pa.float64()).to_numpy() for name in names], axis=1)


def credible_bounds(
    tree: DecisionTree, coverage: float, table: pa.Table
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return `joint_bounds` of the fractions of a catalogue. Raises CatalogueError without concentrations."""
    concentration = concentrations_of(table, tree)
    if concentration is None:
        raise CatalogueError(f"the catalogue has no concentrations ({concentrations(tree)[0]}, …)")
    return joint_bounds(tree, fractions(table, tree), concentration, coverage)


def joint_bounds(
    tree: DecisionTree,
    joint: NDArray,
    concentration: NDArray,
    coverage: float,
    *,
    volunteers: NDArray | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends of the central interval of each joint fraction, from 400 draws of each galaxy.

    Of the fraction itself, as infinitely many volunteers would give it; or, with `volunteers` (galaxy,
    question) who answer the roots, as so many would measure it. Raises CatalogueError for a coverage outside
    (0, 1).
    """
    if not 0 < coverage < 1:
        raise CatalogueError(f"a coverage of {coverage:g}: it lies between 0 and 1")
    rng, ends = np.random.default_rng(0), ((1 - coverage) / 2, (1 + coverage) / 2)
    mean = to_conditional(tree, joint)
    parts = []
    for start in range(0, len(joint), TOGETHER):
        rows = slice(start, start + TOGETHER)
        shares = _drawn(tree, mean[rows], concentration[rows], rng)
        if volunteers is None:
            drawn = to_joint(tree, shares)
        else:
            each = np.tile(volunteers[rows], (DRAWS, 1))
            drawn = votes_of_volunteers(tree, answering(tree, shares), each, rng).joint(tree)
        drawn = drawn.reshape(DRAWS, -1, len(tree.columns))
        parts.append(np.nanquantile(drawn, ends, axis=0))
    low, high = np.concatenate(parts, axis=1) if parts else np.empty((2, 0, len(tree.columns)))
    return low, high


def _drawn(
    tree: DecisionTree, mean: NDArray, concentration: NDArray, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return draws of the conditional fractions, (draw × galaxy, answer), galaxies of one draw together."""
    shares = np.empty((DRAWS, *mean.shape))
    for number, (question, answers) in enumerate(zip(tree.questions, tree.slices, strict=True)):
        inside = np.clip(np.nan_to_num(mean[:, answers], nan=0.5), TINY, 1 - TINY)
        alpha, other = (share * concentration[:, [number]] for share in (inside, 1 - inside))
        if question.exclusive:
            gammas = rng.standard_gamma(np.broadcast_to(alpha, (DRAWS, *alpha.shape))) + TINY
            shares[:, :, answers] = gammas / gammas.sum(axis=2, keepdims=True)
        else:
            shares[:, :, answers] = rng.beta(alpha, other, (DRAWS, *alpha.shape))
    return shares.reshape(-1, mean.shape[1])
