"""Label tables: which fractions volunteers gave to which galaxy.

A table has `galaxy_id` (or `GalaxyID`) and every answer of the tree under its own name or the source's
(Class1.1 …), in any format that `data.formats` reads. A missing value is a question nobody was asked. Rows
that cannot be trusted are refused by themselves; a table without all its columns, or whose numbers mean
something else than fractions, is refused as a whole.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hubblefork.data.catalogue import naming
from hubblefork.data.columns import (
    ID,
    PER_CENT,
    SENTINELS,
    columns_of_answers,
    fraction_remedy,
    id_name,
    ids_of,
    is_id,
    no_fraction,
    numbers,
    without,
)
from hubblefork.data.formats import read_rows
from hubblefork.data.inputs import Reject, find_inputs
from hubblefork.data.members import galaxy_id_of
from hubblefork.data.sources import open_source
from hubblefork.data.text import Rows
from hubblefork.errors import CatalogueError, did_you_mean
from hubblefork.zoo import DecisionTree, plain_columns, violations

TAKEN = {ID, "source", "member", "width", "height", "centre_red", "centre_green", "centre_blue"}
FEWEST = 20
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
    rows that were refused.
    """

    row_of: dict[str, int]
    joint: NDArray[np.float64]
    origins: list[Origin]
    rejects: list[Reject]


def read_labels(tables: Iterable[Path], tree: DecisionTree, *, missing: Collection[float] = ()) -> Labels:
    """Read label tables into one set of labels; the numbers `missing` stand for missing values.

    Refused with reason and value are rows with text in a number, without an id or with one that lost digits
    in a float, of another length than the header, and rows that break the tree. Of rows with one id that
    agree wherever both are filled, the first is kept, completed by the others; when they contradict each
    other all are refused. Raises CatalogueError for a table that cannot be read, lacks columns, or holds per
    cent or numbers that usually stand for a missing value.
    """
    gathered = _Gathered(tree)
    for path in tables:
        gathered.add(path, missing)
    return gathered.labels()


class _Gathered:
    """Rows as they come; then sifted."""

    def __init__(self, tree: DecisionTree) -> None:
        self.tree = tree
        self.ids: list[str] = []
        self.origins: list[Origin] = []
        self.values = [np.empty((0, len(tree.columns)))]
        self.rejects: list[Reject] = []

    def add(self, path: Path, missing: Collection[float]) -> None:
        """Take the rows of a table in whose cells can be read, refuse the others. Raises CatalogueError."""
        rows = read_rows(path)
        with naming(path):
            ids, faults, values = _cells(rows, self.tree, missing)
        origins = [Origin(path, rows.member, line) for line in rows.lines]
        good = [row for row in range(len(ids)) if row not in faults]
        self.ids += [str(ids[row]) for row in good]
        self.origins += [origins[row] for row in good]
        self.values.append(values[good])
        refused = {
            rows.lines[row]: _reject(origins[row], ids[row] or "", *fault) for row, fault in faults.items()
        }
        for line, cells in rows.ragged:
            galaxy_id = cells[place] if (place := rows.names.index(id_name(rows.names))) < len(cells) else ""
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
        return Labels(
            row_of, np.clip(self.joint[rows], 0, 1), [self.origins[row] for row in rows], self.rejects
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
    names = columns_of_answers(rows.table.column_names, tree, tree.columns)
    table = without(
        rows.table.select(list(dict.fromkeys([id_name(rows.table.column_names), *names]))), missing
    )
    ids, id_faults = ids_of(table.column(0))
    texts, values = defaultdict(list), np.empty((len(table), len(names)))
    for place, (answer, name) in enumerate(zip(tree.columns, names, strict=True)):
        values[:, place], bad = numbers(table.column(name))
        for row in np.flatnonzero(bad).tolist():
            texts[row].append(f'{answer} is "{table.column(name)[row].as_py()}"')
    faults = {row: ("text in a number", "; ".join(complaints)) for row, complaints in texts.items()}
    _check_meaning(rows, values, tree.columns)
    return ids.to_pylist(), {**faults, **id_faults}, values


def _check_meaning(rows: Rows, values: NDArray, columns: Sequence[str]) -> None:
    """Raise CatalogueError for a table in per cent, or with numbers that stand for missing values."""
    per_cent = no_fraction(values) & (values > 0) & (values <= PER_CENT)
    most = per_cent.any(axis=1).sum() > (~np.isnan(values)).any(axis=1).sum() / 2
    strange = per_cent if most else np.isin(values, SENTINELS)
    for row, place in zip(*np.nonzero(strange), strict=True):
        value, what = float(values[row, place]), rows.place(int(row))
        raise CatalogueError(f"{what}: {columns[place]} is {value:g}; {fraction_remedy(value, values)}")


# A person's own labels


def check_names(tree: DecisionTree) -> None:
    """Raise CatalogueError for answers that are named as columns that a catalogue has anyway."""
    taken = sorted(TAKEN.intersection(tree.columns))
    if taken:
        raise CatalogueError(
            f"{tree.name}: {', '.join(taken)}: a catalogue has columns of these names; rename them"
        )


def tree_of_columns(
    labels: Path, columns: Sequence[str] = (), *, missing: Collection[float] = ()
) -> DecisionTree:
    """Return the tree of a table's plain columns: the chosen ones, or all but the id.

    The numbers `missing` stand for missing values.
    Raises CatalogueError, with all complaints at once, for columns that are not there, hold anything but
    numbers from 0 to 1 (true and false count as such) or the same for every galaxy.
    """
    table = without(read_rows(labels).table, missing)
    wanted = list(columns) or [name for name in table.column_names if not is_id(name)]
    found = {name: _complaint(table, name) for name in wanted}
    complaints = [complaint for complaint in found.values() if complaint]
    if complaints or not wanted:
        good = [name for name, complaint in found.items() if not complaint]
        remedy = f": --columns {','.join(good)} takes the others" if good and not columns else ""
        raise CatalogueError(
            f"{labels}: {'; '.join(complaints) or 'it has no column of labels'}. "
            f"What can be learned are columns of numbers from 0 to 1, empty where nobody said{remedy}"
        )
    tree = plain_columns(wanted)
    check_names(tree)
    return tree


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
        return f"{name} is {table.column(column)[row].as_py()!r} for {ID} {ids[row]}, which is no number"
    outside = np.flatnonzero(no_fraction(values))
    for row in outside[:1].tolist():
        first = f"{values[row]:g} for {ID} {ids[row]}; {fraction_remedy(values[row], values)}"
        return f"{name} is outside [0, 1] for {len(outside)} galaxies, the first {first}"
    if len(np.unique(values[~np.isnan(values)])) < 2:
        return f"{name} says the same of every galaxy: there is nothing to learn"
    return ""


def check_labels(cutouts: Path, labels: Path, tree: DecisionTree, *, missing: Collection[float] = ()) -> None:
    """Check that labels and images are enough to learn from, before anything is decoded.

    Raises CatalogueError, with all complaints at once, for fewer than 20 galaxies with labels that fit the
    tree, and fewer than 20 of them with an image; ImageError where no images are.
    """
    found = read_labels([labels], tree, missing=missing)
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


def image_names(cutouts: Path, labels: Path) -> list[str]:
    """Return the names of the images that lie beside a table of labels. Raises ImageError."""
    names = []
    for path in find_inputs([cutouts], [labels]).sources:
        with open_source(path) as source:
            names += source.names()
    return names
