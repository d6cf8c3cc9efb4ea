"""One predicted galaxy, which draws its tree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubblefork.tables.columns import ID
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
        what = "predicted" if self.tree.number else "predicted vote fractions"
        return "\n".join([f"{self.galaxy_id}: {what}{intervals}", *self._lines()])

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
            if question.number:
                yield f"{label:<38} {self._number(answer.name, '.4g')} {question.number.unit}".rstrip()
                continue
            yield f"{label:<38} {self._number(answer.name)} {'█' * round(BAR * self[answer.name])}".rstrip()
        for name in dict.fromkeys(name for answer in question.answers for name in answer.leads_to):
            following = self.tree.question(name)
            if not following.root:
                yield from self._drawn(following, asked, drawn, depth=depth + 1)

    def _number(self, answer: str, digits: str = "4.2f") -> str:
        column = self.tree.column(answer)
        text = f"{self.fractions[column]:{digits}}"
        if self.low is None or self.high is None:
            return text
        return f"{text}  {self.low[column]:{digits}}–{self.high[column]:{digits}} "


def galaxies_of(table: Any, tree: DecisionTree, coverage: float) -> Iterator[Galaxy]:
    """Yield the rows of a catalogue, a table of pyarrow or astropy, as galaxies."""
    names = table.colnames if hasattr(table, "colnames") else table.column_names
    ends = [end for end in ("", "_low", "_high") if tree.columns[0] + end in names]
    columns = {
        end: np.stack([np.asarray(table[name + end]) for name in tree.columns], axis=1) for end in ends
    }
    for row, galaxy_id in enumerate(np.asarray(table[ID]).tolist()):
        low, high = (columns[end][row] if end in columns else None for end in ("_low", "_high"))
        yield Galaxy(str(galaxy_id), tree, columns[""][row], low, high, coverage)
