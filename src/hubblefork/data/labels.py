"""Label tables: which fractions volunteers gave to which galaxy.

A table has `galaxy_id` (or `GalaxyID`) and every answer of the tree under its own name or the source's
(Class1.1 …), in any format that `data.formats` reads; or a column named as each question, whose cells name
the one answer that was given. A missing value is a question nobody was asked. Rows
that cannot be trusted are refused by themselves; a table without all its columns, or whose numbers mean
something else than fractions, is refused as a whole.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hubblefork.data.catalogue import naming, votes_of
from hubblefork.data.columns import (
    PER_CENT,
    SENTINELS,
    apart_remedy,
    classes_in,
    column_named,
    columns_of_answers,
    fraction_remedy,
    id_name,
    ids_of,
    is_apart,
    no_fraction,
    numbers,
    targets_in,
    without,
)
from hubblefork.data.formats import read_rows
from hubblefork.data.inputs import Reject
from hubblefork.data.members import Targets
from hubblefork.data.published import in_our_columns
from hubblefork.data.text import Rows
from hubblefork.errors import CatalogueError, did_you_mean
from hubblefork.zoo import (
    DecisionTree,
    VoteCounts,
    to_joint,
    violations,
)

Values = tuple[NDArray[np.float64], Mapping[int, list[str]]]
"""Joint fractions (row, answer), and what is wrong with the cells of which rows."""
ROUNDING = 1e-6
REPEATED = "galaxy_id repeated"


class Origin(NamedTuple):
    """Where a row of labels stood: the table, the CSV within it when it is a zip, the line (from 1)."""

    table: Path
    member: str
    line: int


@dataclass(frozen=True)
class Labels:
    """Joint fractions by galaxy: `joint[row_of[galaxy_id]]`, NaN where nobody was asked.

    `origins` has one entry for each row of `joint`, shape (galaxy, answer); `rejects` are the
    rows that were refused. `votes` are the counts, of no votes where a table has none, None where none has;
    `notes` say which published layouts were read, and what else is there; `targets` are galaxies by id.
    """

    row_of: dict[str, int]
    joint: NDArray[np.float64]
    origins: list[Origin]
    rejects: list[Reject]
    votes: VoteCounts | None = None
    notes: tuple[str, ...] = ()
    targets: Targets = field(default_factory=dict)


def read_labels(
    tables: Iterable[Path], tree: DecisionTree, *, missing: Collection[float] = (), layout: str = ""
) -> Labels:
    """Read label tables into one set of labels; the numbers `missing` stand for missing values.

    `layout` says which of several layouts of a table is read (`data.layouts.found_in`).

    Refused with reason and value are rows with text in a number, without an id or with one that lost digits
    in a float, of another length than the header, and rows that break the tree. Of rows with one id that
    agree wherever both are filled, the first is kept, completed by the others; when they contradict each
    other all are refused. Raises CatalogueError for a table that cannot be read, lacks columns, or holds per
    cent or numbers that usually stand for a missing value.
    """
    gathered = _Gathered(tree, layout)
    for path in tables:
        gathered.add(path, missing)
    return gathered.labels()


class _Gathered:
    """Rows as they come; then sifted."""

    def __init__(self, tree: DecisionTree, layout: str) -> None:
        self.tree, self.layout = tree, layout
        self.ids: list[str] = []
        self.origins: list[Origin] = []
        self.values = [np.empty((0, len(tree.columns)))]
        self.rejects: list[Reject] = []
        self.counts = [np.empty((0, len(tree.columns) + len(tree.questions)), np.int64)]
        self.has_votes = False
        self.notes: dict[str, None] = {}
        self.targets: Targets = {}

    def add(self, path: Path, missing: Collection[float]) -> None:
        """Take the rows of a table in whose cells can be read, refuse the others. Raises CatalogueError."""
        rows = read_rows(path)
        with naming(path):
            table = without(rows.table, missing)
            targets = targets_in(table)
            table, notes = in_our_columns(table, self.tree, self.layout)
            rows = replace(rows, table=table)
            ids, faults, values = _cells(rows, self.tree, missing)
            votes = votes_of(table, self.tree)
        origins = [Origin(path, rows.member, line) for line in rows.lines]
        good = [row for row in range(len(ids)) if row not in faults]
        self.ids += [str(ids[row]) for row in good]
        self.targets = {str(ids[row]): targets[row] for row in good if targets} | self.targets
        self.origins += [origins[row] for row in good]
        self.values.append(values[good])
        given = np.zeros((len(values), self.counts[0].shape[1]), np.int64)
        if votes is not None:
            given, self.has_votes = np.hstack([votes.given, votes.asked]), True
        self.counts.append(given[good])
        self.notes |= dict.fromkeys(notes)
        refused = {
            rows.lines[row]: _reject(origins[row], ids[row] or "", *fault) for row, fault in faults.items()
        }
        name = id_name(table.column_names)
        for line, cells in rows.ragged:
            galaxy_id = dict(zip(rows.names, cells, strict=False)).get(name, "")
            counts = f"{len(cells)} cells under {len(rows.names)} columns"
            origin = Origin(path, rows.member, line)
            refused[line] = _reject(origin, galaxy_id.strip(), "wrong number of cells", counts)
        self.rejects += [refused[line] for line in sorted(refused)]

    def labels(self) -> Labels:
        self.joint = np.concatenate(self.values)
        self.kept = np.ones(len(self.ids), dtype=bool)
        self._refuse_broken()
        if self._unite_repeated():
            self._refuse_broken()
        rows = np.flatnonzero(self.kept).tolist()
        row_of = {self.ids[row]: place for place, row in enumerate(rows)}
        counts = np.split(np.concatenate(self.counts)[rows], [len(self.tree.columns)], axis=1)
        return Labels(
            row_of,
            self.joint[rows] if self.tree.number else np.clip(self.joint[rows], 0, 1),
            [self.origins[row] for row in rows],
            self.rejects,
            VoteCounts(*counts) if self.has_votes else None,
            tuple(self.notes),
            self.targets,
        )

    def _refuse(self, row: int, reason: str, value: str) -> None:
        self.kept[row] = False
        self.rejects.append(_reject(self.origins[row], self.ids[row], reason, value))

    def _refuse_broken(self) -> None:
        broken = defaultdict(list)
        for violation in violations(self.tree, self.joint):
            if self.kept[violation.row]:
                broken[violation.row].append(f"{violation.constraint}: off by {violation.excess:+.4g}")
        for row, complaints in broken.items():
            self._refuse(row, "breaks the decision tree", "; ".join(complaints))

    def _unite_repeated(self) -> bool:
        rows_of = defaultdict(list)
        for row in np.flatnonzero(self.kept).tolist():
            rows_of[self.ids[row]].append(row)
        repeated = [rows for rows in rows_of.values() if len(rows) > 1]
        for rows in repeated:
            self._unite(rows)
        return bool(repeated)

    def _unite(self, rows: list[int]) -> None:
        values, first = self.joint[rows], rows[0]
        if _spread(values) > ROUNDING:
            lines = ", ".join(_place(self.origins[row]) for row in rows)
            for row in rows:
                self._refuse(row, "rows of one galaxy_id contradict each other", f"they stand at {lines}")
            return
        for row in rows[1:]:
            self.joint[first] = np.where(np.isnan(self.joint[first]), self.joint[row], self.joint[first])
            self._refuse(row, REPEATED, f"same labels as at {_place(self.origins[first])}, kept once")


def _spread(values: NDArray) -> float:
    """Return the largest difference within a column, missing values aside."""
    low = np.where(np.isnan(values), np.inf, values).min(axis=0)
    high = np.where(np.isnan(values), -np.inf, values).max(axis=0)
    return float((high - low).max(initial=0))


def _place(origin: Origin) -> str:
    return f"line {origin.line} of {origin.table.name}"


def _reject(origin: Origin, galaxy_id: str, reason: str, value: str) -> Reject:
    return Reject(str(origin.table), origin.member, galaxy_id, reason, f"line {origin.line}: {value}")


def _cells(
    rows: Rows, tree: DecisionTree, missing: Collection[float]
) -> tuple[list[str | None], dict[int, tuple[str, str]], NDArray[np.float64]]:
    """Return the ids of a table, what is wrong with which rows, and all values (row, answer).

    Raises CatalogueError for columns that are not there, and numbers that mean something else.
    """
    there = rows.table.column_names
    asked = [column_named(there, question.name) for question in tree.questions if question.exclusive]
    given = [name for name in asked if name] if len(asked) == len(tree.questions) else []
    if len(given) < len(tree.questions) or any(column_named(there, name) for name in tree.columns):
        given = []
    names = given or columns_of_answers(there, tree, tree.columns)
    table = without(rows.table.select(list(dict.fromkeys([id_name(there), *names]))), missing)
    ids, id_faults = ids_of(table.column(0))
    read = _given_answers if given else _numbers
    values, texts = read(table, names, tree)
    reason = "no answer of the tree" if given else "text in a number"
    faults = {row: (reason, "; ".join(complaints)) for row, complaints in texts.items()}
    if tree.number:
        faults |= _check_number(rows, values[:, 0], tree.columns[0])
    else:
        _check_meaning(rows, values, tree.columns)
    return ids.to_pylist(), {**faults, **id_faults}, values


def _numbers(table: pa.Table, names: Sequence[str], tree: DecisionTree) -> Values:
    texts, values = defaultdict(list), np.empty((len(table), len(names)))
    for place, (answer, name) in enumerate(zip(tree.columns, names, strict=True)):
        values[:, place], bad = numbers(table.column(name))
        for row in np.flatnonzero(bad).tolist():
            texts[row].append(f'{answer} is "{table.column(name)[row].as_py()}"')
    return values, texts


def _given_answers(table: pa.Table, names: Sequence[str], tree: DecisionTree) -> Values:
    """Return joint fractions of the one answer that was given to each question: 1, and 0 for the others."""
    texts, conditional = defaultdict(list), np.empty((len(table), len(tree.columns)))
    for name, question, answers in zip(names, tree.questions, tree.slices, strict=True):
        cells = np.array(classes_in(table.column(name)).to_pylist(), object)
        spelled = [(answer.name, answer.column) for answer in question.answers]
        chosen = np.stack([np.isin(cells, pair) for pair in spelled], axis=1).astype(float)
        missing = np.array([cell is None for cell in cells], bool)
        chosen[missing] = np.nan
        conditional[:, answers] = chosen
        for row in np.flatnonzero(~missing & (chosen.sum(axis=1) == 0)).tolist():
            near = did_you_mean(cells[row], [answer.column for answer in question.answers])
            texts[row].append(f'{name} is "{cells[row]}"{near}')
    return to_joint(tree, conditional), texts


def _check_number(rows: Rows, values: NDArray, name: str) -> dict[int, tuple[str, str]]:
    """Return what is wrong with which rows. Raises CatalogueError for numbers that mean a missing value."""
    for row in np.flatnonzero(np.isin(values, SENTINELS)).tolist():
        if is_apart(values[row], values):
            raise CatalogueError(f"{rows.place(row)}: {name} is {values[row]:g}; {apart_remedy(values[row])}")
    infinite = np.flatnonzero(np.isinf(values)).tolist()
    return {row: ("an infinite number", f"{name} is {values[row]}") for row in infinite}


def _check_meaning(rows: Rows, values: NDArray, columns: Sequence[str]) -> None:
    """Raise CatalogueError for a table in per cent, or with numbers that stand for missing values."""
    per_cent = no_fraction(values) & (values > 0) & (values <= PER_CENT)
    most = per_cent.any(axis=1).sum() > (~np.isnan(values)).any(axis=1).sum() / 2
    strange = per_cent if most else np.isin(values, SENTINELS)
    for row, place in zip(*np.nonzero(strange), strict=True):
        value, what = float(values[row, place]), rows.place(int(row))
        raise CatalogueError(f"{what}: {columns[place]} is {value:g}; {fraction_remedy(value, values)}")
