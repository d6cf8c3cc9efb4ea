"""Images that a table holds or names: Parquet with the bytes of images, and lists of files.

A column of images is named as in `IMAGE_COLUMNS` and holds the bytes of JPEG, PNG or FITS, or structs {bytes,
path} as the datasets of Hugging Face do. A list of files has a column named as in `PATH_COLUMNS`: paths
relative to the list, or URLs. Ids are in the first column of `ID_COLUMNS` that is there; else an image is
named by its path, or by the number of its row, from 0. Positions and radii are in the columns that
`tables.columns` knows. Names may be in upper or lower case, but for those of images.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from hubblefork.errors import ImageError
from hubblefork.images.archives import OpenFile, beside, is_url, read_place, version_of
from hubblefork.images.members import (
    LARGEST_MEMBER,
    UNREAD,
    Entry,
    MemberError,
    Members,
    Names,
    Place,
    Source,
)
from hubblefork.io import UNREADABLE
from hubblefork.tables.columns import IDS, PUBLISHED_IDS, TARGETS, column_named, ids_of, targets_in
from hubblefork.tables.names import Target, Targets, off_the_sky, printable

PARQUET_START = b"PAR1"
LIST_SUFFIXES = (".csv", ".tsv")
SEPARATORS = (",", ";", "\t", "|")
ID_COLUMNS = tuple(dict.fromkeys(("id_str", *IDS, *PUBLISHED_IDS, "id")))
IMAGE_COLUMNS = ("image", "jpg", "jpeg", "png", "img", "bytes")
PATH_COLUMNS = ("path", "file", "filename", "url")
TARGET_COLUMNS = frozenset(chain(*TARGETS.values()))
LIST_COLUMNS = frozenset(map(str.casefold, (*PATH_COLUMNS, *ID_COLUMNS, *TARGET_COLUMNS)))
TOGETHER, KEPT = 16, 96 * 2**20
"""Images that are read together; the row groups, in bytes, of which the last one read is kept."""
LIST_BATCH = 2**16

Row = tuple[str | None, float | None, float | None, float | None]


def is_table_of_images(path: Path) -> bool:
    """Say whether a table holds images or is a list of their files, and no table of labels.

    A list has no columns but paths, ids and positions, since a table of labels may name files too.
    """
    try:
        with path.open("rb") as handle:
            if handle.read(4) != PARQUET_START:
                return path.name.lower().endswith(LIST_SUFFIXES) and _is_list(_read_csv(handle).schema.names)
        schema = pa.parquet.read_schema(path)
    except UNREADABLE:
        return False
    return _image_column(schema) is not None or _is_list(schema.names)


def _is_list(names: Sequence[str]) -> bool:
    return first_of(names, PATH_COLUMNS) is not None and LIST_COLUMNS.issuperset(map(str.casefold, names))


def rows_source(
    file: OpenFile,
    rows: Iterable[Row],
    entries: Callable[[], Iterable[Entry | MemberError]],
    version_of_row: Sequence[str] = (),
) -> Source:
    """Return images that stand in rows: of each its name and what its `Target` holds, or None.

    Of rows with one name the first counts, also where it is refused.
    """
    versions, refused = dict[str, str](), set[str]()
    targets: Targets = {}
    defects: list[MemberError] = []
    for number, (name, ra, dec, r90) in enumerate(rows):
        if not name:
            why = "it is empty, or a floating-point number whose digits are lost"
            fault = f"row {number}", "row without an id", why, "give it an id or leave it out"
        elif name in versions or name in refused:
            fault = name, "name stands twice", f"row {number}", "the first row counts"
        elif off := off_the_sky(ra, dec):
            refused.add(name)
            fault = name, *off
        else:
            versions[name] = version_of_row[number] if version_of_row else file.version
            if (ra, dec, r90) != (None, None, None):
                targets[name] = Target(ra, dec, r90)
            continue
        defects.append(MemberError(file.place, *fault))
    return Source(file.place, tuple(defects), (), versions, entries, printable(file.key), targets)


@dataclass(frozen=True)
class HeldRows:
    """Rows of a table that is held: the ids of images in the column `identifier`, and columns of targets."""

    file: OpenFile
    table: pa.Table
    identifier: str

    def names(self) -> Names:
        """Yield some ids at a time."""
        for start, batch in _numbered(self.table.to_batches(LIST_BATCH)):
            yield _texts(batch.column(self.identifier)), range(start, start + len(batch))

    def rows(self, numbers: Sequence[int] | None) -> pa.Table:
        """Return the rows of some numbers."""
        return self.table if numbers is None else pa.concat_tables(self.table.slice(n, 1) for n in numbers)

    def described(self, rows: pa.Table) -> Iterator[Row]:
        """Return of each row the id and what its `Target` holds, or None."""
        for batch in rows.to_batches(LIST_BATCH):
            yield from _rows(_texts(batch.column(self.identifier)), batch)


# Parquet


@contextmanager
def _reading(place: Place) -> Iterator[None]:
    try:
        yield
    except UNREADABLE as error:
        raise ImageError(
            f"{place}: not a readable Parquet file: {error}; was it cut short? Fetch or copy it again"
        ) from error


def open_parquet(file: OpenFile) -> Members:
    """Return the images of an open Parquet file, or of the files that it lists. Raises ImageError."""
    with _reading(file.place):
        table = pa.parquet.ParquetFile(file.handle, pre_buffer=False, buffer_size=2**20)
        names, image = table.schema_arrow.names, _image_column(table.schema_arrow)
        if image is None:
            return _of_list(file, table.read([name for name in names if name.casefold() in LIST_COLUMNS]))
        kind = table.schema_arrow.field(image).type
        has_paths = pa.types.is_struct(kind) and kind.get_field_index("path") >= 0
        identifier = first_of(names, ID_COLUMNS) or (f"{image}.path" if has_paths else None)
        where = [name for name in names if name.casefold() in TARGET_COLUMNS]
        return _OfBytes(file, table, image, identifier, where)


@dataclass(frozen=True)
class _OfBytes:
    """Rows of a Parquet file of images, named by the column `identifier`; `where` are columns of targets.

    Of numbered rows the row group that was read last is kept, if it is small.
    """

    file: OpenFile
    table: Any
    image: str
    identifier: str | None
    where: Sequence[str]

    def names(self) -> Names:
        with _reading(self.file.place):
            for start, batch in self._some(None, LIST_BATCH, []):
                yield list(_names(batch, self.identifier, start)), range(start, start + len(batch))

    def listed(self, numbers: Sequence[int] | None = None) -> Source:
        with _reading(self.file.place):
            rows = (
                row
                for start, batch in self._some(numbers, LIST_BATCH, self.where)
                for row in _rows(_names(batch, self.identifier, start), batch)
            )
            return rows_source(self.file, rows, partial(self._entries, numbers))

    def _entries(self, numbers: Sequence[int] | None) -> Iterator[Entry]:
        for start, batch in self._some(numbers, TOGETHER, [self.image]):
            cells = batch.column(self.image)
            cells = cells.field("bytes") if pa.types.is_struct(cells.type) else cells
            for row, name in enumerate(_names(batch, self.identifier, start)):
                if name:
                    read = partial(_cell, self.file.place, name, cells, row)
                    yield Entry(name, 0, self.file.version, read)

    def _some(
        self, numbers: Sequence[int] | None, size: int, columns: Sequence[str]
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Return rows and the number of the first: so many together, or the numbered ones singly."""
        if numbers is not None:
            return ((row, self._row(row)) for row in numbers)
        return _numbered(self.table.iter_batches(size, columns=self._columns(columns), use_threads=False))

    def _columns(self, more: Sequence[str]) -> list[str]:
        return [*more, *([self.identifier] if self.identifier else [])]

    def _row(self, row: int) -> pa.RecordBatch:
        group = int(np.searchsorted(self._starts, row, "right")) - 1
        row -= int(self._starts[group])
        if self.table.metadata.row_group(group).total_byte_size <= KEPT:
            return self._last(group).slice(row, 1).to_batches()[0]
        columns = self._columns([self.image, *self.where])
        for batch in self.table.iter_batches(TOGETHER, [group], columns, use_threads=False):
            if row < len(batch):
                return batch.slice(row, 1)
            row -= len(batch)
        raise ImageError(f"{self.file.place}: it has fewer rows than it says; fetch or copy it again")

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        groups = range(self.table.metadata.num_row_groups)
        return np.cumsum([0, *(self.table.metadata.row_group(group).num_rows for group in groups)])

    @cached_property
    def _last(self) -> Any:
        columns = self._columns([self.image, *self.where])
        return lru_cache(1)(partial(self.table.read_row_group, columns=columns, use_threads=False))


def _cell(place: Place, name: str, cells: pa.Array, row: int, most: int) -> bytes:
    data = cells[row].as_buffer() if cells[row].is_valid else None
    if data is None:
        raise MemberError(place, name, "row without an image", "it is empty", "leave it out")
    if data.size > LARGEST_MEMBER:
        raise MemberError(
            place, name, "larger than allowed", f"{data.size} bytes; at most {LARGEST_MEMBER} are"
        )
    return data.to_pybytes()


def _image_column(schema: pa.Schema) -> str | None:
    """Return the first column of the bytes of images."""
    images = (name for name in IMAGE_COLUMNS if schema.get_field_index(name) >= 0)
    return next((name for name in images if _holds_bytes(schema.field(name).type)), None)


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _holds_bytes(kind.field("bytes").type)
    return kind in (pa.binary(), pa.large_binary(), pa.binary_view())


# Lists of files


def open_list(file: OpenFile) -> Members:
    """Return the images that an open CSV or TSV names. Raises ImageError."""
    try:
        with _read_csv(file.handle) as table:
            return _of_list(file, table.read_all())
    except UNREADABLE as error:
        raise ImageError(
            f"{file.place}: not a readable list of files: {error}; mend it, and save it as UTF-8"
        ) from error


def _read_csv(handle: Any) -> Any:
    """Open a list as texts; its separator is the one that stands most often in its first line."""
    handle.seek(0)
    head = handle.readline(LIST_BATCH).decode("latin-1")
    parsing = pa.csv.ParseOptions(delimiter=max(SEPARATORS, key=head.count), newlines_in_values=True)
    handle.seek(0)
    names = pa.csv.open_csv(handle, parse_options=parsing).schema.names
    handle.seek(0)
    types = dict.fromkeys(names, pa.string())
    options = pa.csv.ConvertOptions(column_types=types, strings_can_be_null=True)
    return pa.csv.open_csv(handle, parse_options=parsing, convert_options=options)


def _of_list(file: OpenFile, table: pa.Table) -> Members:
    """Return the rows of a list of files, numbered; only files whose rows are listed are looked for."""
    path = first_of(table.column_names, PATH_COLUMNS)
    if path is None:
        raise ImageError(
            f"{file.place}: a table without images: it has no column {', '.join(PATH_COLUMNS)}, and none of "
            f"bytes ({', '.join(IMAGE_COLUMNS)}), but {', '.join(table.column_names)[:200]}; "
            "name the images themselves"
        )
    names = [name for name in table.column_names if name.casefold() in LIST_COLUMNS]
    return _OfFiles(file, table.select(names), first_of(names, ID_COLUMNS) or path, path)


@dataclass(frozen=True)
class _OfFiles(HeldRows):
    """Rows of a list of files, whose paths are in the column `path`."""

    path: str

    def listed(self, numbers: Sequence[int] | None = None) -> Source:
        """Return the files; those on disk that are not there are defects."""
        file, rows = self.file, self.rows(numbers)
        places = [beside(file.place, name) if name else "" for name in _texts(rows.column(self.path))]
        versions = [file.version if is_url(place) else version_of(Path(place)) for place in places]

        def entries() -> Iterator[Entry]:
            for name in found.versions:
                yield Entry(name, 0, "", partial(_read_listed, file.place, name, place_of[name]))

        found = rows_source(file, self.described(rows), entries, versions)
        ids = _texts(rows.column(self.identifier))
        place_of = dict(reversed([*zip(ids, places, strict=True)]))
        there = {name: version for name, version in found.versions.items() if version}
        missing = [
            MemberError(file.place, name, "no such file", str(place_of[name]), "mend the list")
            for name in found.versions
            if name not in there
        ]
        targets = {name: target for name, target in found.targets.items() if name in there}
        return replace(found, defects=(*found.defects, *missing), versions=there, targets=targets)


def _read_listed(source: Place, name: str, place: Place, most: int) -> bytes:
    try:
        data = read_place(place, most if most >= 0 else LARGEST_MEMBER + 1)
    except ImageError as error:
        raise MemberError(source, name, UNREAD, str(error)) from error
    if len(data) > LARGEST_MEMBER:
        raise MemberError(source, name, "larger than allowed", f"at most {LARGEST_MEMBER} bytes are")
    return data


# Columns


def _numbered(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield batches of rows with the number of the first row of each."""
    start = 0
    for batch in batches:
        yield start, batch
        start += len(batch)


def first_of(names: Collection[str], wanted: Sequence[str]) -> str | None:
    """Return the first of the wanted columns that is there, as it is spelled there."""
    return next((there for name in wanted if (there := column_named(names, name))), None)


def _names(table: Any, identifier: str | None, start: int) -> Iterator[str | None]:
    """Yield the names of a table's rows; a row is named by its number where the image has no path."""
    if identifier is None:
        return map(str, range(start, start + len(table)))
    column, _, path = identifier.partition(".")
    if not path:
        return iter(_texts(table.column(identifier)))
    paths = table.column(column).field(path).to_pylist()
    return (name or str(row) for row, name in zip(count(start), paths))


def _texts(column: Any) -> list[str | None]:
    """Return the cells as text; None where one is missing, or a number whose digits a float has lost."""
    texts = ids_of(pa.chunked_array([column]))[0] if pa.types.is_floating(column.type) else column
    return texts.cast(pa.string()).to_pylist()


def _rows(names: Iterable[str | None], batch: pa.RecordBatch) -> Iterator[Row]:
    targets = targets_in(pa.Table.from_batches([batch])) or [Target()] * len(batch)
    return ((name, *target) for name, target in zip(names, targets, strict=True))
