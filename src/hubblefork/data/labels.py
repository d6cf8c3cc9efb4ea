"""Label tables: which fractions volunteers gave to which galaxy.

A table has `galaxy_id` (or `GalaxyID`) and every answer of the tree under its own name or the source's
(Class1.1 …), in any format that `tables.formats` reads; or a column named as each question, whose cells name
the one answer that was given. A missing value is a question nobody was asked. Rows that cannot be trusted are
refused by themselves; a table without all its columns, or whose numbers mean something else than fractions,
is refused as a whole. Of a person's own labels, what can be learned is found out first.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hubblefork.errors import CatalogueError, did_you_mean
from hubblefork.images.sources import image_names
from hubblefork.tables.catalogue import check_names, naming, votes_of
from hubblefork.tables.columns import (
    ID,
    PER_CENT,
    SENTINELS,
    apart_remedy,
    classes_in,
    column_named,
    columns_of_answers,
    fraction_remedy,
    id_columns,
    id_name,
    ids_of,
    is_apart,
    no_fraction,
    numbers,
    targets_in,
    without,
)
from hubblefork.tables.formats import read_rows
from hubblefork.tables.names import Targets, galaxy_id_of
from hubblefork.tables.published import in_our_columns
from hubblefork.tables.rejects import Reject
from hubblefork.tables.text import Rows
from hubblefork.zoo import (
    DecisionTree,
    Number,
    VoteCounts,
    classes,
    number_column,
    plain_columns,
    to_joint,
    violations,
)

Values = tuple[NDArray[np.float64], Mapping[int, list[str]]]
"""Joint fractions (row, answer), and what is wrong with the cells of which rows."""
ROUNDING = 1e-6
REPEATED = "galaxy_id repeated"
FEWEST, MOST_CLASSES = 20, 100
NARROW = 1e-4
"""The least spread of a number, in units of its mean: single precision keeps three digits of it."""


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

    `layout` says which of several layouts of a table is read (`tables.layouts.found_in`).

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
        rows_of = defaultdict(list)
        for row in np.flatnonzero(self.kept).tolist():
            rows_of[self.ids[row]].append(row)
        repeated = [together for together in rows_of.values() if len(together) > 1]
        for together in repeated:
            self._unite(together)
        if repeated:
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

    def _unite(self, rows: list[int]) -> None:
        values, first = self.joint[rows], rows[0]
        if np.ma.masked_invalid(values).ptp(axis=0).filled(0).max(initial=0) > ROUNDING:
            lines = ", ".join(_place(self.origins[row]) for row in rows)
            for row in rows:
                self._refuse(row, "rows of one galaxy_id contradict each other", f"they stand at {lines}")
            return
        for row in rows[1:]:
            self.joint[first] = np.where(np.isnan(self.joint[first]), self.joint[row], self.joint[first])
            self._refuse(row, REPEATED, f"same labels as at {_place(self.origins[first])}, kept once")


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


# A person's own labels


def tree_of_columns(
    labels: Path, columns: Sequence[str] = (), *, missing: Collection[float] = ()
) -> DecisionTree:
    """Return the tree of a table's plain columns: the chosen ones, or all but the id.

    The numbers `missing` stand for missing values.
    Raises CatalogueError, with all complaints at once, for columns that are not there, hold anything but
    numbers from 0 to 1 (true and false count as such) or the same for every galaxy.
    """
    table = without(read_rows(labels).table, missing)
    ids = id_columns(table.column_names)
    wanted = list(columns) or [name for name in table.column_names if name not in ids]
    found = {name: _complaint(table, name) for name in wanted}
    complaints = [complaint for complaint in found.values() if complaint]
    if complaints or not wanted:
        good = [name for name, complaint in found.items() if not complaint]
        remedy = f": --columns {','.join(good)} takes the others" if good and not columns else ""
        raise CatalogueError(
            f"{labels}: {'; '.join(complaints) or 'it has no column of labels'}. "
            f"What can be learned are columns of numbers from 0 to 1, empty where nobody said{remedy}"
        )
    return check_names(plain_columns(wanted))


def tree_of_classes(labels: Path, column: str, *, missing: Collection[float] = ()) -> DecisionTree:
    """Return the tree of the classes in a column of a table: texts or integers, in their order.

    The numbers `missing` stand for missing values. Raises CatalogueError for a column that is not there, or
    of other values, of one class or of more than a hundred.
    """
    with naming(labels):
        cells, _ = _column_and_ids(labels, column, missing)
        values = classes_in(cells).drop_null().unique().to_pylist()
        for value in values:
            if re.fullmatch(r"-?\d*\.\d+(e-?\d+)?", value):
                remedy = f"classes are texts or integers; --number {column} learns a number"
                raise CatalogueError(f"{column} is {value}: {remedy}")
        if not 1 < len(values) <= MOST_CLASSES:
            raise CatalogueError(f"{column} has {len(values)} classes; from 2 to {MOST_CLASSES} are learned")
        folded = defaultdict(list)
        for value in sorted(values):
            folded[value.casefold()].append(f'"{value}"')
        for spelled in folded.values():
            if len(spelled) > 1:
                names = " and ".join(spelled)
                raise CatalogueError(f"{column} has the classes {names}: one in two spellings? Keep one")
    whole = all(value.lstrip("-").isdecimal() for value in values)
    return check_names(classes(column, sorted(values, key=int) if whole else sorted(values)))


def tree_of_number(
    labels: Path, column: str, unit: str = "", *, missing: Collection[float] = ()
) -> DecisionTree:
    """Return the tree of a column of a table that holds a number, with its unit, mean and width.

    The numbers `missing` stand for missing values. Raises CatalogueError for a column that is not there,
    holds anything else, the same everywhere, or values too close for single precision; and for a unit that
    astropy does not know.
    """
    with naming(labels):
        cells, ids = _column_and_ids(labels, column, missing)
        values, bad = numbers(cells)
        for row in np.flatnonzero(bad | np.isinf(values))[:1].tolist():
            what = f"{column} is {cells[row].as_py()!r} for {ID} {ids[row]}"
            raise CatalogueError(f"{what}, which is no finite number")
        for value in values[np.isin(values, SENTINELS)][:1].tolist():
            if is_apart(value, values):
                raise CatalogueError(f"{column} is {value:g}; {apart_remedy(value)}")
        present = values[~np.isnan(values)]
        if len(np.unique(present)) < 2:
            raise CatalogueError(f"{column} says the same of every galaxy: there is nothing to learn")
        mean, width = float(present.mean()), float(present.std())
        if width < NARROW * abs(mean):
            raise CatalogueError(
                f"{column} is {mean:g} give or take {width:.2g}, too close for single precision: "
                f"subtract {mean:.6g} from it"
            )
    return check_names(number_column(column, Number(mean, width, _unit(unit))))


def _column_and_ids(
    labels: Path, name: str, missing: Collection[float]
) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    table = without(read_rows(labels).table, missing)
    column = column_named(table.column_names, name)
    if column is None:
        raise CatalogueError(f'there is no column "{name}"{did_you_mean(name, table.column_names)}')
    return table.column(column), table.column(id_name(table.column_names))


def _unit(text: str) -> str:
    """Return a unit as it is written in FITS and VOTable. Raises CatalogueError for none of astropy's."""
    from astropy.units import Unit

    try:
        return str(Unit(text))
    except (ValueError, TypeError) as error:
        raise CatalogueError(
            f'--unit "{text}" is no unit that astropy knows: dex, mag, km/s, arcsec; leave it out for none'
        ) from error


def _complaint(table: pa.Table, name: str) -> str:
    """Say why a column cannot be learned; nothing when it can."""
    try:
        (column,) = columns_of_answers(table.column_names, plain_columns([name]), [name])
    except CatalogueError as error:
        if "stands" in str(error):
            return str(error)
        return f'there is no column "{name}"{did_you_mean(name, table.column_names)}'
    values, bad = numbers(table.column(column))
    ids = table.column(id_name(table.column_names))
    for row in np.flatnonzero(bad)[:1].tolist():
        what = f"{name} is {table.column(column)[row].as_py()!r} for {ID} {ids[row]}, which is no number"
        return f"{what}; if it is a class: --classes {name}"
    outside = np.flatnonzero(no_fraction(values))
    for row in outside[:1].tolist():
        first = f"{values[row]:g} for {ID} {ids[row]}; {fraction_remedy(values[row], values)}"
        others = f"; --number {name} learns any number"
        return f"{name} is outside [0, 1] for {len(outside)} galaxies, the first {first}{others}"
    if len(np.unique(values[~np.isnan(values)])) < 2:
        return f"{name} says the same of every galaxy: there is nothing to learn"
    return ""


def check_labels(
    cutouts: Path, labels: Path, tree: DecisionTree, *, missing: Collection[float] = (), layout: str = ""
) -> tuple[str, ...]:
    """Check that labels and images are enough to learn from, before anything is decoded; say what was read.

    Raises CatalogueError, with all complaints at once, for fewer than 20 galaxies with labels that fit the
    tree, and fewer than 20 of them with an image; ImageError where no images are.
    """
    found = read_labels([labels], tree, missing=missing, layout=layout)
    known = {galaxy_id for galaxy_id, row in found.row_of.items() if not np.isnan(found.joint[row]).all()}
    names = image_names(cutouts, labels)
    shown = known.intersection(map(galaxy_id_of, names))
    complaints = []
    if len(known) < FEWEST:
        complaints.append(
            f"{labels}: {len(known)} galaxies have labels that fit {tree.name}; at least {FEWEST} are needed"
        )
    if found.rejects:
        reasons = Counter(reject.reason for reject in found.rejects).items()
        counts = ", ".join(f"{count} × {reason}" for reason, count in reasons)
        complaints.append(f"refused rows: {counts}, the first: {found.rejects[0]}")
    if known and len(shown) < FEWEST:
        example = f"images are named as {names[0]}, labels as {min(known)}" if names else "it has no images"
        complaints.append(
            f"{cutouts}: {len(shown)} of {len(known)} labelled galaxies have an image ({example})"
        )
    if min(len(known), len(shown)) < FEWEST:
        raise CatalogueError("; ".join(complaints))
    return found.notes
