"""Completeness and contamination as numbers, kept beside the weights they are of.

Whoever has a run's weights without its galaxies can correct a count by them: any answer at a threshold in
tenths. Estimators that need the galaxies themselves cannot be had so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hubblefork.data.split import VIEWING
from hubblefork.errors import CatalogueError, RunError
from hubblefork.io import write_text
from hubblefork.stats.completeness import Confusion, confusion
from hubblefork.stats.estimators import Calibration
from hubblefork.stats.fractions import Unavailable
from hubblefork.stats.held_out import HeldOut
from hubblefork.stats.where import Criterion
from hubblefork.zoo import DecisionTree

COMPLETENESS = "completeness.json"
THRESHOLDS = tuple(round(0.1 * step, 1) for step in range(1, 10))


@dataclass(frozen=True)
class Confusions:
    """What counts at each of `THRESHOLDS` do on calibration galaxies, by answer: `Confusion`s as numbers.

    `weights` is the SHA-256 of the weights that predicted, from so many `views` of each galaxy, in the manner
    of `viewing`; `origin` says which galaxies these were. Raises CatalogueError for impossible numbers.
    """

    weights: str
    views: int
    viewing: str
    origin: str
    answers: Mapping[str, tuple[Confusion, ...]]

    def __post_init__(self) -> None:
        for name, found in self.answers.items():
            if len(found) != len(THRESHOLDS):
                raise CatalogueError(f"{name} has {len(found)} thresholds, not {len(THRESHOLDS)}")

    def calibration(self, counted: Criterion, true: Criterion) -> Calibration | Unavailable:
        """Return the galaxies that the numbers stand for, without their fractions; or why there are none."""
        found = self.answers.get(counted.answer or "")
        if found is None or counted != true or counted.threshold not in THRESHOLDS:
            return Unavailable(
                f"beside the weights are numbers of one answer at {THRESHOLDS[0]} to {THRESHOLDS[-1]} in "
                f"tenths, alike for predictions and votes, not of {counted.text} for {true.text}",
                "--threshold in tenths, or labelled galaxies (--calibrate-on … --labels …)",
            )
        one = found[THRESHOLDS.index(counted.threshold)]
        each = (one.found, one.true - one.found, one.mistaken, one.others - one.mistaken)
        counts, truth = (np.repeat(which, each) for which in ([True, False] * 2, [True, True, False, False]))
        return Calibration(counts, truth, origin=self.origin)


def confusions_of(
    held_out: HeldOut, tree: DecisionTree, *, weights: str, views: int, origin: str
) -> Confusions:
    """Count calibration galaxies, of each answer those that have a fraction of it."""
    found = {
        name: _at_thresholds(held_out.predicted[:, column], held_out.volunteers[:, column])
        for column, name in enumerate(tree.columns)
    }
    return Confusions(weights, views, VIEWING, origin, found)


def write_confusions(confusions: Confusions, path: Path) -> None:
    """Write them beside the weights that they belong to, whole or not at all. Raises DiskError."""
    answers = {
        name: [list(asdict(one).values()) for one in found] for name, found in confusions.answers.items()
    }
    write_text(path, json.dumps({**asdict(confusions), "answers": answers}) + "\n")


def read_confusions(path: Path) -> Confusions:
    """Read what `write_confusions` wrote. Raises RunError that names the remedy."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        answers = {
            name: tuple(Confusion(*map(int, one)) for one in found)
            for name, found in entries.pop("answers").items()
        }
        return Confusions(answers=answers, **entries)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, CatalogueError) as error:
        raise RunError(
            f"{path}: no readable completeness: {type(error).__name__}: {error}; "
            f"`hubblefork evaluate {path.parent}` makes it"
        ) from error


def _at_thresholds(predicted: NDArray, volunteers: NDArray) -> tuple[Confusion, ...]:
    known = ~np.isnan(predicted) & ~np.isnan(volunteers)
    return tuple(confusion(predicted[known] >= one, volunteers[known] >= one) for one in THRESHOLDS)
