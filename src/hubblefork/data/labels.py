"""Label tables: which fractions volunteers gave to which galaxy.

A table is a CSV, a zip of one CSV, or Parquet, with `galaxy_id` (or `GalaxyID`) and every answer
of the tree under its own name or the source's (Class1.1 …). An empty cell is a question nobody was
asked: it stays missing. Rows that cannot be trusted are refused one by one; a table without all
its columns is refused as a whole.
"""

from __future__ import annotations

import csv
import math
import re
import zipfile
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from io import TextIOWrapper
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from hubblefork.data.archives import TABLE_SUFFIXES, UNREADABLE, galaxy_id_of, open_source
from hubblefork.data.catalogue import ID, fractions, read_catalogue
from hubblefork.data.inputs import Reject, find_inputs
from hubblefork.errors import CatalogueError, did_you_mean
from hubblefork.zoo import DecisionTree, plain_columns, violations

ID_NAMES = (ID, "GalaxyID")
TAKEN = {ID, "source", "member", "width", "height", "centre_red", "centre_green", "centre_blue"}
FEWEST = 20
LONGEST_LINE = 2**20
ROUNDING = 1e-6
TRUTH = {"true": 1.0, "false": 0.0}
FLOAT_ID = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+|[+-]?\d+\.0*")


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


class _Row(NamedTuple):
    origin: Origin
    galaxy_id: str
    cells: Sequence[str | float | None]


def read_labels(tables: Iterable[Path], tree: DecisionTree) -> Labels:
    """Read label tables into one set of labels.

    Ids are kept as the text they are written in, never through a float. Refused with reason and
    value are rows with text in a number, without an id or with one that went through a float, and
    rows that break the tree. Of rows with one id that agree wherever both are filled, the first
    is kept, completed by the others; when they contradict each other all are refused. Raises
    CatalogueError for a table that cannot be read or lacks columns.
    """
    gathered = _Gathered(tree)
    for row in chain.from_iterable(_rows(path, tree) for path in tables):
        gathered.add(row)
    return gathered.labels()


class _Gathered:
    """Rows as they come, in plain arrays; then sifted."""

    def __init__(self, tree: DecisionTree) -> None:
        self.tree = tree
        self.ids: list[str] = []
        self.origins: list[Origin] = []
        self.values = array("d")
        self.rejects: list[Reject] = []

    def add(self, row: _Row | Reject) -> None:
        if isinstance(row, _Row):
            numbers = _numbers(row, self.tree)
            if not isinstance(numbers, Reject):
                self.ids.append(row.galaxy_id)
                self.origins.append(row.origin)
                self.values.extend(numbers)
                return
            row = numbers
        self.rejects.append(row)

    def labels(self) -> Labels:
        self.joint = np.array(self.values).reshape(-1, len(self.tree.columns))
        self.kept = np.ones(len(self.ids), dtype=bool)
        self._refuse_broken()
        if self._unite_repeated():
            self._refuse_broken()
        rows = np.flatnonzero(self.kept).tolist()
        row_of = {self.ids[row]: place for place, row in enumerate(rows)}
        return Labels(row_of, self.joint[rows], [self.origins[row] for row in rows], self.rejects)

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
            self._refuse(
                row, "galaxy_id repeated", f"same labels as at {_place(self.origins[first])}, kept once"
            )


def _spread(values: NDArray) -> float:
    """Return the largest difference within a column, missing values aside."""
    low = np.where(np.isnan(values), np.inf, values).min(axis=0)
    high = np.where(np.isnan(values), -np.inf, values).max(axis=0)
    return float((high - low).max(initial=0))


def _place(origin: Origin) -> str:
    return f"line {origin.line} of {origin.table.name}"


def _reject(origin: Origin, galaxy_id: str, reason: str, value: str) -> Reject:
    return Reject(str(origin.table), origin.member, galaxy_id, reason, f"line {origin.line}: {value}")


def _numbers(row: _Row, tree: DecisionTree) -> list[float] | Reject:
    fault = _id_fault(row.galaxy_id)
    if fault:
        return _reject(row.origin, row.galaxy_id, fault, f'"{row.galaxy_id}"')
    try:
        return [_number(cell) for cell in row.cells]
    except ValueError:
        texts = [
            f'{column} is "{cell}"'
            for column, cell in zip(tree.columns, row.cells, strict=True)
            if _is_text(cell)
        ]
        return _reject(row.origin, row.galaxy_id, "text in a number", "; ".join(texts))


def _id_fault(galaxy_id: str) -> str:
    if not galaxy_id:
        return "no galaxy_id"
    return "galaxy_id is a floating-point number: digits are lost" if FLOAT_ID.fullmatch(galaxy_id) else ""


def _number(cell: str | float | None) -> float:
    """Return a cell as a number; true and false, as many programs write a yes and a no, are 1 and 0."""
    if isinstance(cell, str):
        cell = TRUTH.get(cell.strip().lower(), cell)
    return math.nan if cell is None or cell == "" else float(cell)


def _is_text(cell: str | float | None) -> bool:
    try:
        _number(cell)
    except ValueError:
        return True
    return False


def _rows(path: Path, tree: DecisionTree) -> Iterator[_Row | Reject]:
    if not path.is_file():
        raise CatalogueError(f"{path}: there is no such label table; allowed are {', '.join(TABLE_SUFFIXES)}")
    readers = {".csv": _csv_rows, ".zip": _zip_rows, ".parquet": _parquet_rows}
    if path.suffix.lower() not in readers:
        raise CatalogueError(f'{path}: a label table ends in {", ".join(readers)}, not "{path.suffix}"')
    try:
        yield from readers[path.suffix.lower()](path, tree)
    except (*UNREADABLE, csv.Error, pa.ArrowException) as error:
        raise CatalogueError(
            f"{path}: the label table cannot be read: {error}; replace it with a whole copy"
        ) from error


def _csv_rows(path: Path, tree: DecisionTree) -> Iterator[_Row | Reject]:
    with path.open(encoding="utf-8-sig", newline="") as handle:
        yield from _text_rows(handle, path, "", tree)


def _zip_rows(path: Path, tree: DecisionTree) -> Iterator[_Row | Reject]:
    with zipfile.ZipFile(path) as archive:
        names = [
            name for name in archive.namelist() if name.lower().endswith(".csv") and "__MACOSX" not in name
        ]
        if len(names) != 1:
            raise CatalogueError(
                f"{path}: a zipped label table holds one .csv, this one {len(names)}: {names}"
            )
        with (
            archive.open(names[0]) as handle,
            TextIOWrapper(handle, encoding="utf-8-sig", newline="") as text,
        ):
            yield from _text_rows(text, path, names[0], tree)


def _text_rows(handle: Any, path: Path, member: str, tree: DecisionTree) -> Iterator[_Row | Reject]:
    reader = csv.reader(iter(partial(handle.readline, LONGEST_LINE), ""))
    header = [name.strip() for name in next(reader, [])]
    id_column, *columns = _places(header, path, tree)
    pick = itemgetter(id_column, *columns)
    for cells in reader:
        origin = Origin(path, member, reader.line_num)
        if len(cells) == len(header):
            galaxy_id, *values = pick(cells)
            yield _Row(origin, galaxy_id.strip(), values)
        elif cells:
            galaxy_id = cells[id_column].strip() if id_column < len(cells) else ""
            counts = f"{len(cells)} cells under {len(header)} columns"
            yield _reject(origin, galaxy_id, "wrong number of cells", counts)


def _parquet_rows(path: Path, tree: DecisionTree) -> Iterator[_Row]:
    table = pa.parquet.ParquetFile(path)
    schema = table.schema_arrow
    places = _places(schema.names, path, tree)
    names = [schema.names[place] for place in places]
    _check_types(schema, names, path)
    line = 0
    for batch in table.iter_batches(columns=names, batch_size=4096):
        for galaxy_id, *cells in zip(*(batch.column(name).to_pylist() for name in names), strict=True):
            line += 1
            yield _Row(Origin(path, "", line), "" if galaxy_id is None else str(galaxy_id).strip(), cells)


def _check_types(schema: pa.Schema, names: list[str], path: Path) -> None:
    id_type = schema.field(names[0]).type
    if not (pa.types.is_integer(id_type) or pa.types.is_string(id_type) or pa.types.is_large_string(id_type)):
        raise CatalogueError(
            f"{path}: {names[0]} holds {id_type}; allowed are integers and text: a float loses digits"
        )
    numbers = (pa.types.is_floating, pa.types.is_integer, pa.types.is_decimal)
    numeric = (*numbers, pa.types.is_boolean, pa.types.is_null)
    wrong = [n for n in names[1:] if not any(is_kind(schema.field(n).type) for is_kind in numeric)]
    if wrong:
        raise CatalogueError(
            f"{path}: {wrong[0]} holds {schema.field(wrong[0]).type}; allowed are numbers between 0 and 1"
        )


def _places(header: list[str], path: Path, tree: DecisionTree) -> list[int]:
    """Return where the id and the answers stand in the header. Raises CatalogueError for what is missing."""
    wanted = [ID_NAMES, *((answer.name, answer.column) for answer in tree.answers)]
    found = [next((name for name in names if name in header), None) for names in wanted]
    ours = sum(name in header for name in tree.columns) > sum(name in header for name in tree.source_columns)
    missing = [names[0 if ours else 1] for names, name in zip(wanted, found, strict=True) if name is None]
    if missing:
        listed = ", ".join(name + did_you_mean(name, header) for name in missing)
        raise CatalogueError(
            f"{path}: {len(missing)} columns are missing: {listed}. "
            f"A label table has {' or '.join(ID_NAMES)} and all {len(tree.columns)} answers of {tree.name}; "
            "cells may be empty, columns may not be absent"
        )
    names = [name for name in found if name is not None]
    twice = [name for name in names if header.count(name) > 1]
    if twice:
        raise CatalogueError(f"{path}: the column {twice[0]} stands {header.count(twice[0])} times; keep one")
    return [header.index(name) for name in names]


# A person's own labels


def check_names(tree: DecisionTree) -> None:
    """Raise CatalogueError for answers that are named as columns that a catalogue has anyway."""
    taken = sorted(TAKEN.intersection(tree.columns))
    if taken:
        raise CatalogueError(
            f"{tree.name}: {', '.join(taken)}: a catalogue has columns of these names; rename them"
        )


def tree_of_columns(labels: Path, columns: Sequence[str] = ()) -> DecisionTree:
    """Return the tree of a table's plain columns: the chosen ones, or all but the id.

    Raises CatalogueError, with all complaints at once, for columns that are not there, hold anything but
    numbers from 0 to 1 (true and false count as such) or the same for every galaxy.
    """
    table = read_catalogue(labels)
    wanted = list(columns) or [name for name in table.column_names if name != ID]
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
    if name not in table.column_names:
        return f'there is no column "{name}"{did_you_mean(name, table.column_names)}'
    try:
        values = fractions(table, plain_columns([name]))[:, 0]
    except CatalogueError as error:
        return str(error)
    outside = np.flatnonzero((values < 0) | (values > 1))
    if len(outside):
        first = f"{values[outside[0]]:g} for {ID} {table.column(ID)[int(outside[0])]}"
        return f"{name} is outside [0, 1] for {len(outside)} galaxies, the first {first}"
    if len(np.unique(values[~np.isnan(values)])) < 2:
        return f"{name} says the same of every galaxy: there is nothing to learn"
    return ""


def check_labels(cutouts: Path, labels: Path, tree: DecisionTree) -> None:
    """Check that labels and images are enough to learn from, before anything is decoded.

    Raises CatalogueError, with all complaints at once, for fewer than 20 galaxies with labels that fit the
    tree, and fewer than 20 of them with an image; ImageError where no images are.
    """
    found = read_labels([labels], tree)
    known = {galaxy_id for galaxy_id, row in found.row_of.items() if not np.isnan(found.joint[row]).all()}
    names = list(chain.from_iterable(map(_names, find_inputs([cutouts], [labels]).sources)))
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


def _names(source: Path) -> list[str]:
    with open_source(source) as images:
        return images.names()
