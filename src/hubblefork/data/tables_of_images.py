"""Images that a table holds or names: Parquet with the bytes of images, and lists of files.

A column of images is named as in `IMAGE_COLUMNS` and holds the bytes of JPEG, PNG or FITS, or structs {bytes,
path} as the datasets of Hugging Face do. A list of files has a column named as in `PATH_COLUMNS`: paths
relative to the list, or URLs. Ids are in the first column of `ID_COLUMNS` that is there; else an image is
named by its path, or by the number of its row, from 0. `ra` and `dec` are degrees; `petro_r90`, the
Petrosian radius R90, is arcsec.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import count
from math import isnan
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from hubblefork.data.archives import version_of
from hubblefork.data.members import (
    LARGEST_MEMBER,
    UNREAD,
    UNREADABLE,
    Entry,
    MemberError,
    Place,
    Source,
    Target,
    Targets,
    off_the_sky,
    printable,
)
from hubblefork.data.remote import OpenFile, beside, is_url, read_place
from hubblefork.errors import ImageError

PARQUET_START = b"PAR1"
LIST_SUFFIXES = (".csv", ".tsv")
ID_COLUMNS = ("id_str", "galaxy_id", "iauname", "object_id", "id")
IMAGE_COLUMNS = ("image", "jpg", "jpeg", "png", "img", "bytes")
PATH_COLUMNS = ("path", "file", "filename", "url")
LIST_COLUMNS = frozenset({*PATH_COLUMNS, *ID_COLUMNS, *Target._fields})
TOGETHER = 16
LIST_BATCH = 2**16

Row = tuple[str | None, float | None, float | None, float | None]


def is_table_of_images(path: Path) -> bool:
    """Say whether a table holds images or is a list of their files, and no table of labels.

    A list has no columns but paths, ids and positions, since a table of labels may name files too.
    """
    try:
        with path.open("rb") as handle:
            if handle.read(4) != PARQUET_START:
                return path.name.lower().endswith(LIST_SUFFIXES) and _is_list(
                    _read_csv(path, handle).schema.names
                )
        schema = pa.parquet.read_schema(path)
    except UNREADABLE:
        return False
    return _image_column(schema) is not None or _is_list(schema.names)


def _is_list(names: Sequence[str]) -> bool:
    return _first(names, PATH_COLUMNS) is not None and LIST_COLUMNS.issuperset(names)


def rows_source(
    file: OpenFile, rows: Iterable[Row], entries: Callable[[], Iterable[Entry | MemberError]]
) -> Source:
    """Return images that stand in rows: of each its name and what its `Target` holds, or None."""
    versions: dict[str, str] = {}
    targets: Targets = {}
    defects: list[MemberError] = []
    for number, (name, ra, dec, r90) in enumerate(rows):
        if not name:
            fault = f"row {number}", "row without an id", "it is empty", "give it an id or leave it out"
        elif name in versions:
            fault = name, "name stands twice", f"row {number}", "the first row counts"
        elif off := off_the_sky(ra, dec):
            fault = name, *off
        else:
            versions[name] = file.version
            if (ra, dec, r90) != (None, None, None):
                targets[name] = Target(ra, dec, r90)
            continue
        defects.append(MemberError(file.place, *fault))
    return Source(file.place, tuple(defects), (), versions, entries, printable(file.key), targets)


# Parquet


def open_parquet(file: OpenFile) -> Source:
    """Return the images of an open Parquet file, or of the files that it lists. Raises ImageError."""
    try:
        table = pa.parquet.ParquetFile(file.handle, pre_buffer=False, buffer_size=2**20)
        image = _image_column(table.schema_arrow)
        if image is None:
            columns = LIST_COLUMNS.intersection(table.schema_arrow.names)
            return _listed(file, table.read(list(columns)))
        return _of_bytes(file, table, image)
    except UNREADABLE as error:
        raise ImageError(
            f"{file.place}: not a readable Parquet file: {error}; was it cut short? Fetch or copy it again"
        ) from error


def _of_bytes(file: OpenFile, table: Any, image: str) -> Source:
    kind = table.schema_arrow.field(image).type
    path = f"{image}.path" if pa.types.is_struct(kind) and kind.get_field_index("path") >= 0 else None
    identifier = _first(table.schema_arrow.names, ID_COLUMNS) or path
    named = [identifier] if identifier else []
    where = [name for name in Target._fields if name in table.schema_arrow.names]
    batches = partial(table.iter_batches, use_threads=False)

    def rows() -> Iterator[Row]:
        if not named and not where:
            yield from ((str(row), None, None, None) for row in range(table.metadata.num_rows))
            return
        start = 0
        for batch in batches(LIST_BATCH, columns=[*named, *where]):
            yield from zip(_names(batch, identifier, start), *_targets(batch), strict=True)
            start += len(batch)

    def entries() -> Iterator[Entry]:
        start = 0
        for batch in batches(TOGETHER, columns=[*{*named, image} - {path}]):
            cells = batch.column(image)
            cells = cells.field("bytes") if pa.types.is_struct(kind) else cells
            for row, name in enumerate(_names(batch, identifier, start)):
                if name:
                    yield Entry(name, 0, file.version, partial(_cell, file.place, name, cells, row))
            start += len(batch)

    return rows_source(file, rows(), entries)


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
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


# Lists of files


def open_list(file: OpenFile) -> Source:
    """Return the images that an open CSV or TSV names. Raises ImageError."""
    try:
        with _read_csv(file.place, file.handle) as table:
            return _listed(file, table.read_all())
    except UNREADABLE as error:
        raise ImageError(f"{file.place}: not a readable list of files: {error}") from error


def _read_csv(place: Place, handle: Any) -> Any:
    handle.seek(0)
    texts = dict.fromkeys((*PATH_COLUMNS, *ID_COLUMNS), pa.string())
    types = {**texts, **dict.fromkeys(Target._fields, pa.float64())}
    options = pa.csv.ConvertOptions(column_types=types, strings_can_be_null=True)
    parsing = pa.csv.ParseOptions(delimiter="\t" if str(place).lower().endswith(".tsv") else ",")
    return pa.csv.open_csv(handle, parse_options=parsing, convert_options=options)


def _listed(file: OpenFile, table: pa.Table) -> Source:
    """Return the files that a table names; those on disk that are not there are defects."""
    path = _first(table.column_names, PATH_COLUMNS)
    if path is None:
        raise ImageError(
            f"{file.place}: a table without images: it has no column {', '.join(PATH_COLUMNS)}, and none of "
            f"bytes ({', '.join(IMAGE_COLUMNS)}); name the images themselves"
        )
    identifier = _first(table.column_names, ID_COLUMNS) or path
    files = [beside(file.place, name) if name else None for name in _texts(table.column(path))]
    names = list(_names(table, identifier, 0))
    found = rows_source(file, zip(names, *_targets(table), strict=True), list)
    kept: dict[str, tuple[Place, str]] = {}
    defects = list(found.defects)
    for name, place in zip(names, files, strict=True):
        if name in found.versions and name not in kept:
            kept[name] = place or "", _version(file, place)
    for name in [name for name, (_, version) in kept.items() if not version]:
        place, _ = kept.pop(name)
        defects.append(MemberError(file.place, name, "no such file", str(place), "mend the list"))

    def entries() -> Iterator[Entry]:
        for name, (place, version) in kept.items():
            yield Entry(name, 0, version, partial(_read_listed, file.place, name, place))

    versions = {name: version for name, (_, version) in kept.items()}
    targets = {name: target for name, target in found.targets.items() if name in kept}
    return Source(file.place, tuple(defects), (), versions, entries, found.key, targets)


def _version(file: OpenFile, place: Place | None) -> str:
    if place is None:
        return ""
    return file.version if is_url(place) else version_of(Path(place))


def _read_listed(source: Place, name: str, place: Place, most: int) -> bytes:
    try:
        data = read_place(place, most if most >= 0 else LARGEST_MEMBER + 1)
    except ImageError as error:
        raise MemberError(source, name, UNREAD, str(error)) from error
    if len(data) > LARGEST_MEMBER:
        raise MemberError(source, name, "larger than allowed", f"at most {LARGEST_MEMBER} bytes are")
    return data


# Columns


def _first(names: Iterable[str], wanted: Sequence[str]) -> str | None:
    there = set(names)
    return next((name for name in wanted if name in there), None)


def _names(table: Any, identifier: str | None, start: int) -> Iterator[str | None]:
    """Yield the names of a table's rows; a row is named by its number where the image has no path."""
    if identifier is None:
        return map(str, range(start, start + len(table)))
    column, _, path = identifier.partition(".")
    if path not in ("path",):
        return iter(_texts(table.column(identifier)))
    paths = table.column(column).field(path).to_pylist()
    return (name or str(row) for row, name in zip(count(start), paths))


def _texts(column: Any) -> list[str | None]:
    return column.cast(pa.string()).to_pylist()


def _targets(table: Any) -> Iterator[list[float | None]]:
    """Yield the columns of targets; None where unknown."""
    names = table.schema.names
    for name in Target._fields:
        values = table.column(name).cast(pa.float64()).to_pylist() if name in names else [None] * len(table)
        yield [None if value is None or isnan(value) else value for value in values]
