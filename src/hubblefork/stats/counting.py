"""Which galaxies of a catalogue count, a piece of it at a time: pieces in, sums out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hubblefork.data.catalogue import (
    Catalogue,
    columns_of,
    fractions_by_answer,
    fractions_in,
    head_of,
    pieces_of,
)
from hubblefork.stats.detection import Calibration
from hubblefork.stats.estimators import Sums, Unavailable
from hubblefork.stats.query import Bins, Criterion, Joint, numbers_of, parse_query
from hubblefork.stats.samples import well_asked
from hubblefork.zoo import DecisionTree

SUFFIX = "_debiased"


@dataclass(frozen=True)
class Counting:
    """How galaxies are counted: which are in the sample, which count, with which weights, in which bins."""

    tree: DecisionTree
    criterion: Criterion
    truth: Criterion
    clean: bool
    weights: str
    bins: Bins | None

    def sums(
        self, catalogue: Catalogue, calibrations: Sequence[Calibration | Unavailable]
    ) -> tuple[list[Sums], list[int]]:
        """Return the sums of all galaxies and of each bin, and how many galaxies are left out of them."""
        known = [getattr(calibration, "score", None) for calibration in calibrations]
        sums, lost = [Sums.of(np.zeros(0, bool), known=one) for one in known], [0] * len(known)
        others = [name for name in (self.weights, self.bins and self.bins.column) if name]
        how: Any = {"truth": self.truth, "clean": self.clean, "others": others}
        columns = columns_to_read(head_of(catalogue), self.tree, self.criterion, **how)
        for piece in pieces_of(catalogue, columns):
            joint = _joint(piece, self.tree, self.answers, self.clean)
            keep = usable(self.tree, joint, self.criterion, self.clean)
            holds, score = self.criterion.holds(joint), self.criterion.score(joint)
            factors = numbers_of(piece, self.weights) if self.weights else None
            for number, within in enumerate(self._within(piece)):
                here = within & keep
                scored, weighted = (None if part is None else part[here] for part in (score, factors))
                sums[number] += Sums.of(holds[here], scored, weighted, known[number])
                lost[number] += int(np.count_nonzero(within & ~keep))
        return sums, lost

    @property
    def answers(self) -> set[str]:
        """The answers that either criterion uses."""
        return {*self.criterion.answers, *self.truth.answers}

    def notes(self, head: pa.Table) -> tuple[str, ...]:
        """Say which columns are used instead of the fractions, if any."""
        debiased = _debiased(head, self.answers)
        return (f"debiased fractions are used: {', '.join(debiased.values())}",) if debiased else ()

    def _within(self, piece: pa.Table) -> Iterator[NDArray[np.bool_]]:
        """Yield which galaxies are in the sample, and then which are in each bin."""
        yield np.ones(len(piece), dtype=bool)
        if self.bins is not None:
            place = self.bins.place(numbers_of(piece, self.bins.column))
            yield from (place == number for number in range(len(self.bins.edges) - 1))


def columns_to_read(
    head: pa.Table,
    tree: DecisionTree,
    query: str | Criterion,
    *,
    truth: str | Criterion | None = None,
    clean: bool = False,
    others: Sequence[str] = (),
) -> set[str]:
    """Return the columns of a catalogue that `fraction` needs for a query, and `others` (weights, bins).

    `head` has all columns of the catalogue and need have no rows. Raises UnknownAnswer, and
    CatalogueError for a missing column, with the nearest name.
    """
    criteria = [parse_query(text, tree) for text in (query, query if truth is None else truth)]
    answers = {name for criterion in criteria for name in criterion.answers}
    needed = _needed(tree, answers, clean)
    fractions_by_answer(head, tree, needed)
    for name in others:
        numbers_of(head, name)
    return {*columns_of(tree, needed), *(name + SUFFIX for name in answers), *others}


def usable(tree: DecisionTree, joint: Joint, criterion: Criterion, clean: bool) -> NDArray[np.bool_]:
    """Say which galaxies have the fractions that are needed and, if `clean`, were well asked: (galaxy,)."""
    keep = criterion.known(joint)
    if clean:
        array = np.stack([joint[name] for name in tree.columns], axis=1)
        for number in sorted({tree.question_of[tree.column(name)] for name in criterion.answers}):
            keep &= well_asked(tree, array, tree.questions[number].name)
    return keep


def _needed(tree: DecisionTree, answers: set[str], clean: bool) -> tuple[str, ...]:
    """Return the answers whose fractions decide: all where galaxies must be asked often enough."""
    return tree.columns if clean else tuple(name for name in tree.columns if name in answers)


def _joint(table: pa.Table, tree: DecisionTree, answers: set[str], clean: bool) -> Joint:
    """Return the fractions that are needed, debiased where the table has all those of the criteria."""
    joint = fractions_by_answer(table, tree, _needed(tree, answers, clean))
    return joint | {name: fractions_in(table, column) for name, column in _debiased(table, answers).items()}


def _debiased(table: pa.Table, answers: set[str]) -> dict[str, str]:
    """Return the columns of debiased fractions by answer, where the table has those of all answers."""
    debiased = {name: name + SUFFIX for name in sorted(answers)}
    return debiased if set(debiased.values()) <= set(table.column_names) else {}
