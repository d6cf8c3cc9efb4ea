"""What `run.toml`, `metrics.csv` and `evaluation.json` have to hold for the page of a run.

People edit these files, and programs end while they write them. `checked` says in one line what is wrong.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, NonNegativeInt, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from hubblefork.zoo import DecisionTree

Interval = Annotated[list[float], Field(min_length=2, max_length=2)]
LONGEST = 60  # letters of a value in a message


class Record(BaseModel, strict=True, allow_inf_nan=False):
    """Numbers are finite and of their type; entries that the page does not show are not looked at."""


class Measure(Record):
    """A metric with its bootstrap interval, over a number of galaxies."""

    value: float
    interval_95: Interval
    galaxies: NonNegativeInt


class Difference(Record):
    """A baseline's RMSE minus that of the network."""

    difference: float
    interval_95: Interval


class Baseline(Record):
    """A prediction without a network."""

    rmse: Measure
    agreement: Measure | None
    behind: Difference


class Part(Record):
    """The numbers of an answer, or of a question."""

    rmse: Measure | None
    agreement: Measure | None = None


class AnswerCoverage(Record):
    """How often the intervals of an answer hold the volunteers' fraction."""

    found: Measure | None
    single: float | None


class Coverage(Record):
    """The same over all answers, at one stated coverage."""

    stated: float
    found: Measure
    found_top: Measure
    found_wide: Measure | None
    found_voted: Measure
    width: float | None
    within: NonNegativeInt
    within_by_chance: float
    answers: dict[str, AnswerCoverage]


class JudgedIntervals(Record):
    """How often intervals hold the volunteers' fraction."""

    origin: str
    tolerance: float
    coverages: Annotated[list[Coverage], Field(min_length=1)]


class NoIntervals(Record):
    """Why intervals were not judged."""

    reason: str
    remedy: str


class Evaluation(Record):
    """`evaluation.json`: see `stats.evaluation.evaluate`."""

    part: Literal["validation", "test"]
    galaxies: NonNegativeInt
    training_galaxies: NonNegativeInt
    not_predicted: NonNegativeInt
    resamples: NonNegativeInt
    views: Annotated[int, Field(ge=1)] = 1
    predictions: str = ""
    rmse: Measure
    agreement: Measure | None
    baselines: dict[str, Baseline]
    answers: dict[str, Part]
    questions: dict[str, Part]
    asked_at_least: float
    constraint_violation: float | None
    intervals: JudgedIntervals | NoIntervals | None = None


class Epoch(Record):
    """A row of `metrics.csv`; there is no agreement where galaxies have no highest answer."""

    epoch: Annotated[float, Field(ge=0)]
    train_rmse: float
    validation_rmse: float
    train_agreement: Annotated[float, Field(allow_inf_nan=True)]
    validation_agreement: Annotated[float, Field(allow_inf_nan=True)]
    learning_rate: float
    seconds: float
    galaxies_per_second: float


class Notes(Record):
    """`run.toml`; an entry that is not there is not shown."""

    finished: bool = False
    data: str = ""
    recipe: str = "–"
    seed: int | str = "–"
    changed: list[str] = []
    start: str = ""
    best_epoch: int | None = None
    centred_on: int | None = None
    centred_rmse: float | None = None
    galaxies: dict[str, int] = {}
    parameters: dict[str, float] = {}
    device: dict[str, str | int] = {}
    versions: dict[str, str] = {}


def checked(record: Any, value: Any) -> Any:
    """Return `value` as the record (a `Record` or a list of one) reads it; ValueError with one line."""
    try:
        return TypeAdapter(record).validate_python(value)
    except ValidationError as error:
        raise ValueError(_said(error.errors()[0])) from error


def check_metrics(rows: Any) -> None:
    """Raise ValueError, with one line, for what are no rows of `metrics.csv`, or none at all."""
    if not rows:
        raise ValueError("no epoch has ended yet")
    checked(list[Epoch], rows)


def check_evaluation(value: Any, tree: DecisionTree) -> None:
    """Raise ValueError, with one line, for what is no evaluation of predictions with this tree."""
    evaluation: Evaluation = checked(Evaluation, value)
    _check_names("answers", evaluation.answers, tree.columns)
    if not tree.is_plain:
        _check_names("questions", evaluation.questions, [question.name for question in tree.questions])
    if isinstance(evaluation.intervals, JudgedIntervals):
        for coverage in evaluation.intervals.coverages:
            _check_names("intervals.coverages.answers", coverage.answers, tree.columns)


def _check_names(what: str, names: Collection[str], expected: Collection[str]) -> None:
    if set(names) != set(expected):
        odd = min(set(names) ^ set(expected))
        problem = f'"{odd}" is not in the tree' if odd in names else f"no {odd}"
        raise ValueError(f"{what}: {problem}")


def _said(error: ErrorDetails) -> str:
    place = ".".join(str(name) for name in error["loc"])
    value = "" if error["type"] == "missing" else f", not {str(error['input'])[:LONGEST]!r}"
    return f"{place or 'the whole'}: {error['msg']}{value}"
