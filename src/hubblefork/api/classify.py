"""Galaxies classified at once: images in, the vote fractions of each out, nothing kept on the disk.

Without a run the weights that come with hubblefork classify, `hubblefork/network/weights/fork.safetensors`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hubblefork.api.beside import intervals_of
from hubblefork.data.catalogue import ID, id_column, with_fractions, write_catalogue
from hubblefork.errors import CatalogueError, ImageError, RunError
from hubblefork.io import Progress, silent
from hubblefork.network.predict import Predictor, kaggle_names, predictions
from hubblefork.network.weights import EMBEDDED, Weights, load_weights
from hubblefork.stats.conformal import Intervals
from hubblefork.zoo import DecisionTree, Question, reach

VIEWS = 16
ASKED_LEAST = 0.05
BAR = 20
COVERAGE = 0.9


@dataclass(frozen=True)
class Galaxy:
    """One galaxy and its joint vote fractions, (answer,) in the order of the tree's columns.

    `low` and `high` are the ends of the intervals that hold the volunteers' fraction of nine galaxies in ten,
    where the run has been calibrated for so many views.
    """

    galaxy_id: str
    tree: DecisionTree
    fractions: NDArray[np.float32]
    low: NDArray | None = None
    high: NDArray | None = None

    def __getitem__(self, answer: str) -> float:
        """Return the fraction of an answer, named as here or as Kaggle does. Raises UnknownAnswer."""
        return float(self.fractions[self.tree.column(answer)])

    def as_dict(self) -> dict[str, float]:
        """Return the fractions by the names of their answers."""
        return dict(zip(self.tree.columns, self.fractions.tolist(), strict=True))

    def __str__(self) -> str:
        promise = "" if self.low is None else f", and what holds {COVERAGE:.0%} of galaxies like it"
        return "\n".join([f"{self.galaxy_id}: fractions of the volunteers{promise}", *self._lines()])

    def _lines(self) -> Iterator[str]:
        """Draw the questions that at least a twentieth of the volunteers would be asked, each once."""
        asked, drawn = reach(self.tree, self.fractions[None])[0], set[str]()
        for question in self.tree.questions:
            if question.root:
                yield from self._drawn(question, asked, drawn, depth=0)
        left = len(self.tree.questions) - len(drawn)
        if left:
            of = len(self.tree.questions)
            yield f"Left out: {left} of {of} questions, asked of fewer than {ASKED_LEAST:.0%}"

    def _drawn(self, question: Question, asked: NDArray, drawn: set[str], *, depth: int) -> Iterator[str]:
        number = self.tree.questions.index(question)
        if question.name in drawn or asked[number] < ASKED_LEAST:
            return
        drawn.add(question.name)
        yield f"{'  ' * depth}{question.text}"
        for answer in question.answers:
            label = f"{'  ' * depth}  {answer.name}"
            yield f"{label:<38} {self._number(answer.name)} {'█' * round(BAR * self[answer.name])}".rstrip()
        for name in dict.fromkeys(answer.leads_to for answer in question.answers):
            following = self.tree.question(name) if name else None
            if following is not None and not following.root:
                yield from self._drawn(following, asked, drawn, depth=depth + 1)

    def _number(self, answer: str) -> str:
        column = self.tree.column(answer)
        text = f"{self.fractions[column]:4.2f}"
        if self.low is None or self.high is None:
            return text
        return f"{text}  {self.low[column]:4.2f}–{self.high[column]:4.2f} "


@dataclass(frozen=True)
class Classified:
    """The galaxies of some images, and the images that could not be read with the reason for each.

    `remark` says why the galaxies have no intervals; it is empty where they have.
    """

    galaxies: list[Galaxy]
    rejects: list[tuple[str, str]]
    remark: str = ""


def classify(images: Path | str, *, run: Path | None = None, views: int = VIEWS, device: str = "") -> Galaxy:
    """Return the vote fractions of the galaxy in one image file; `print` draws them.

    `run` is a run folder or a .safetensors file instead of the weights that come along; `views` are averaged,
    as in prediction. Raises ImageError for a file that is no image, RunError.
    """
    found = classify_all([Path(images)], run=run, views=views, device=device)
    if found.rejects:
        raise ImageError(found.rejects[0][1])
    return found.galaxies[0]


def classify_all(
    places: Sequence[Path],
    *,
    run: Path | None = None,
    views: int = VIEWS,
    device: str = "",
    progress: Progress = silent,
) -> Classified:
    """Classify all images of some files, folders and archives. Raises ImageError, RunError."""
    weights = _loaded(run or EMBEDDED)
    predictor = Predictor(weights, device=device, views=views)
    intervals, remark = _intervals(run or EMBEDDED, views)
    galaxies, rejects = [], []
    for batch in predictions(predictor, places, what="classifying", progress=progress):
        rejects += batch.rejects
        if batch.ids:
            galaxies += _galaxies(batch.ids, batch.fractions, weights.tree, intervals)
    return Classified(galaxies, rejects, remark)


def write_classified(found: Classified, out: Path) -> None:
    """Write a catalogue with Kaggle's columns (GalaxyID, Class1.1 …), its format by the suffix.

    Raises CatalogueError for an unknown suffix or nothing to write, DiskError.
    """
    if not found.galaxies:
        raise CatalogueError(
            f"{out}: none of the {len(found.rejects)} images could be read: nothing to write"
        )
    tree = found.galaxies[0].tree
    ids = id_column([galaxy.galaxy_id for galaxy in found.galaxies])
    values = np.stack([galaxy.fractions for galaxy in found.galaxies])
    write_catalogue(kaggle_names(with_fractions(pa.table({ID: ids}), values, tree), tree), out)


@lru_cache(maxsize=2)
def _loaded(place: Path) -> Weights:
    return load_weights(place)


def _intervals(place: Path, views: int) -> tuple[Intervals | None, str]:
    """Return the intervals beside the weights, or None and why there are none for so many views."""
    try:
        return intervals_of(place, views=views), ""
    except RunError as error:
        return None, f"no intervals: {error}"


def _galaxies(
    ids: Sequence[str], values: NDArray[np.float32], tree: DecisionTree, intervals: Intervals | None
) -> list[Galaxy]:
    low, high = intervals.bounds(values, COVERAGE) if intervals else (repeat(None), repeat(None))
    rows = zip(ids, values, low, high, strict=False)
    return [Galaxy(galaxy_id, tree, row, *bounds) for galaxy_id, row, *bounds in rows]
