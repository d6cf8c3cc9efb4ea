"""What predictions look like in memory: a table of galaxies, and one galaxy that draws its tree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import pyarrow as pa
from astropy import units
from astropy.table import Table, TableAttribute
from numpy.typing import NDArray

from hubblefork.data.catalogue import ID, metadata_of
from hubblefork.data.formats import astropy_table
from hubblefork.zoo import DecisionTree, Question, reach

FEWEST = 0.05
BAR = 20


@dataclass(frozen=True)
class Galaxy:
    """One galaxy and its joint vote fractions, shape (answer,), in the order of the tree's columns.

    `low` and `high` are the ends of the intervals with this `coverage`; None without intervals.
    """

    galaxy_id: str
    tree: DecisionTree
    fractions: NDArray[np.float32]
    low: NDArray | None = None
    high: NDArray | None = None
    coverage: float = 0.9

    def __getitem__(self, answer: str) -> float:
        """Return the fraction of an answer, by our name or Kaggle's. Raises UnknownAnswer."""
        return float(self.fractions[self.tree.column(answer)])

    def as_dict(self) -> dict[str, float]:
        """Return the fractions by the names of their answers."""
        return dict(zip(self.tree.columns, self.fractions.tolist(), strict=True))

    def __str__(self) -> str:
        intervals = "" if self.low is None else f", with intervals that hold {self.coverage:.0%} of galaxies"
        return "\n".join([f"{self.galaxy_id}: predicted vote fractions{intervals}", *self._lines()])

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"

    def _lines(self) -> Iterator[str]:
        """Draw the questions that at least a twentieth of the volunteers are asked, each once."""
        asked, drawn = reach(self.tree, self.fractions[None])[0], set[str]()
        for question in self.tree.questions:
            if question.root:
                yield from self._drawn(question, asked, drawn, depth=0)
        count, left = len(self.tree.questions), len(self.tree.questions) - len(drawn)
        if left:
            yield f"Left out: {left} of {count} questions, asked of fewer than {FEWEST:.0%}"

    def _drawn(self, question: Question, asked: NDArray, drawn: set[str], *, depth: int) -> Iterator[str]:
        number = self.tree.questions.index(question)
        if question.name in drawn or asked[number] < FEWEST:
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


class GalaxyTable(Table):
    """Predicted galaxies, one a row: `galaxy_id`, a column of joint fractions for each answer, intervals.

    `rejects` are name and reason of what was left out; `remark` says why there are no intervals.
    """

    tree: Any = TableAttribute()
    rejects: Any = TableAttribute(default=())
    remark: Any = TableAttribute(default="")

    def galaxies(self) -> Iterator[Galaxy]:
        """Return the rows as galaxies that draw their tree."""
        columns = list(self.tree.columns)
        coverage = float(self.meta.get("interval_coverage", 0.9))
        for row in self:
            fractions = np.array([row[name] for name in columns])
            low, high = (
                np.array([row[name + end] for name in columns]) if columns[0] + end in self.colnames else None
                for end in ("_low", "_high")
            )
            yield Galaxy(str(row[ID]), self.tree, fractions, low, high, coverage)

    def __str__(self) -> str:
        return str(next(self.galaxies())) if self._is_one() else super().__str__()

    def _repr_html_(self) -> str:
        return next(self.galaxies())._repr_html_() if self._is_one() else super()._repr_html_()

    def _is_one(self) -> bool:
        return len(self) == 1 and self.tree is not None and set(self.tree.columns) <= set(self.colnames)


def galaxy_table(catalogue: pa.Table, tree: DecisionTree) -> GalaxyTable:
    """Return a catalogue as a GalaxyTable: units and descriptions on the columns, its metadata in `meta`."""
    result = GalaxyTable(astropy_table(catalogue), copy=False)
    result.meta.update(metadata_of(catalogue))
    result.tree = tree
    for question in tree.questions:
        for answer in question.answers:
            for end, what in (("", ""), ("_low", "lower end: "), ("_high", "upper end: ")):
                if answer.name + end in result.colnames:
                    column = result[answer.name + end]
                    column.unit = units.dimensionless_unscaled
                    column.description = f"{what}{question.text} {answer.text or answer.name}"
    return result
