"""Catalogues: one row per galaxy, `galaxy_id` its only key; CSV, Parquet, FITS and VOTable.

In memory a catalogue is a `pyarrow.Table` whose fractions stand in columns named as the answers
of the decision tree; null means that nobody was asked. `galaxy_id` is int64 or string, never a
float and never squeezed.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from hubblefork.errors import CatalogueError, did_you_mean
from hubblefork.io import replacing
from hubblefork.zoo import DecisionTree

FORMATS = (".parquet", ".csv", ".fits", ".vot")
ID = "galaxy_id"
IDS = (ID, "GalaxyID")
IMAGES = "images"
"""The key of the metadata that holds the SHA-256 of the SHA-256s of all images."""


def read_catalogue(path: Path, only: Collection[str] | None = None) -> pa.Table:
    """Read a catalogue, its format chosen by the suffix; with `only`, the ids and those columns that it has.

    Of Parquet and CSV nothing else is ever in memory. Raises CatalogueError.
    """
    readers = {".parquet": _read_parquet, ".csv": _read_csv, ".fits": _read_fits, ".vot": _read_vot}
    read = readers[_format(path)]
    with _reading(path):
        table = read(path, only)
    return _checked_ids(_checked_names(table, path), path)


def read_head(path: Path) -> pa.Table:
    """Read a catalogue's columns and metadata without a row, of Parquet at once. Raises CatalogueError."""
    if _format(path) != ".parquet":
        return read_catalogue(path).slice(length=0)
    with _reading(path):
        return pa.parquet.read_schema(path).empty_table()


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    if not path.exists():
        raise CatalogueError(f"{path}: there is no such catalogue")
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, TypeError, LookupError) as error:
        raise CatalogueError(f"{path}: not a readable {path.suffix} table: {error}") from error


def _chosen(names: Sequence[str], only: Collection[str] | None) -> list[str]:
    """Return the names of the ids and of `only` these columns; None for all."""
    return [name for name in names if only is None or name in (*IDS, *only)]


def write_catalogue(table: pa.Table, path: Path) -> None:
    """Write a catalogue whole or not at all, its format chosen by the suffix.

    CSV keeps no metadata; FITS and VOTable hold missing text as empty text, and no missing
    truth values. Raises CatalogueError for what the format cannot hold, DiskError.
    """
    writers = {".parquet": _write_parquet, ".csv": _write_csv, ".fits": _write_fits, ".vot": _write_vot}
    write = writers[_format(path)]
    try:
        with replacing(path) as temporary:
            write(table, temporary)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise _cannot_hold(path, error) from error


def _cannot_hold(path: Path, error: Exception) -> CatalogueError:
    return CatalogueError(f"{path}: a {path.suffix} table cannot hold this catalogue: {error}")


def write_pieces(pieces: Iterator[pa.Table], path: Path) -> None:
    """Write a catalogue that comes in pieces of the same columns, at least one; as `write_catalogue`.

    As Parquet and CSV no more than a piece is in memory at any time. Raises as `write_catalogue` does.
    """
    writers = {".parquet": pa.parquet.ParquetWriter, ".csv": pa.csv.CSVWriter}
    if _format(path) not in writers:
        write_catalogue(pa.concat_tables(pieces), path)
        return
    first = next(pieces)
    try:
        with replacing(path) as temporary, writers[_format(path)](temporary, first.schema) as writer:
            for piece in chain([first], pieces):
                writer.write_table(piece)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise _cannot_hold(path, error) from error


def check_format(path: Path) -> None:
    """Raise CatalogueError unless the suffix names a format that can be written."""
    _format(path)


def fractions(table: pa.Table, tree: DecisionTree) -> NDArray[np.float64]:
    """Return the fractions as an array (galaxy, answer) in the tree's order; NaN where null.

    The columns may be named as the answers or as the source names them (Class1.1 …).
    Raises CatalogueError that lists every missing column, or names the first value that is no number.
    """
    return np.stack(list(fractions_by_answer(table, tree, tree.columns).values()), axis=1)


def fractions_by_answer(
    table: pa.Table, tree: DecisionTree, answers: Sequence[str]
) -> dict[str, NDArray[np.float64]]:
    """Return the fractions (galaxy,) of some answers of the tree; else as `fractions`, raising alike."""
    present, sources = set(table.column_names), dict(zip(tree.columns, tree.source_columns, strict=True))
    own, source = list(answers), [sources[answer] for answer in answers]
    names = max(own, source, key=lambda known: len(present.intersection(known)))
    missing = [name for name in names if name not in present]
    if missing:
        listed = ", ".join(name + did_you_mean(name, present - set(names)) for name in missing)
        raise CatalogueError(
            f"{len(missing)} of the {len(names)} columns of {tree.name} are missing: {listed}"
        )
    return {answer: _numbers(table, name) for answer, name in zip(answers, names, strict=True)}


def columns_of(tree: DecisionTree, answers: Collection[str]) -> list[str]:
    """Return the names that the columns of some answers may have in a catalogue."""
    pairs = zip(tree.columns, tree.source_columns, strict=True)
    return [name for pair in pairs if pair[0] in answers for name in pair]


def _numbers(table: pa.Table, name: str) -> NDArray[np.float64]:
    try:
        return table.column(name).cast(pa.float64()).to_numpy()
    except pa.ArrowException as error:
        for row, value in enumerate(table.column(name).to_pylist()):
            if not _is_number(value):
                where = f"{ID} {table.column(ID)[row]}" if ID in table.column_names else f"row {row + 1}"
                raise CatalogueError(f"{where}: {name} is {value!r}, which is no number") from error
        raise CatalogueError(f"{name} holds {table.schema.field(name).type}, not numbers") from error


def _is_number(value: Any) -> bool:
    try:
        return value is None or isinstance(float(value), float)
    except (TypeError, ValueError):
        return False


def with_fractions(table: pa.Table, values: NDArray, tree: DecisionTree) -> pa.Table:
    """Return the table with fractions (galaxy, answer) as the tree's columns; NaN becomes null.

    They are kept as precise as they come: a network's in single precision, volunteers' in double.
    """
    table = table.drop_columns([name for name in tree.columns if name in table.column_names])
    for name, column in zip(tree.columns, values.T, strict=True):
        table = table.append_column(name, pa.array(column, mask=np.isnan(column)))
    return table


def labelled(table: pa.Table, tree: DecisionTree) -> NDArray[np.bool_]:
    """Say of each galaxy whether it has any fraction at all, shape (galaxy,). Raises CatalogueError."""
    return np.any(~np.isnan(fractions(table, tree)), axis=1)


def galaxy_ids(table: pa.Table) -> NDArray:
    """Return the ids as an array of int64 or of str objects."""
    return table.column(ID).to_numpy(zero_copy_only=False)


def id_column(ids: Sequence[str] | pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Return ids that are text as 64-bit integers if all are written as integers are; else as they are.

    7 is an integer, "007" is not: it is another galaxy.
    """
    column = ids if isinstance(ids, pa.Array | pa.ChunkedArray) else pa.array(ids, pa.string())
    try:
        integers = column.cast(pa.int64())
    except pa.ArrowInvalid:
        return column
    return integers if integers.cast(pa.string()).equals(column) else column


def rows_of(ids: NDArray, others: NDArray) -> NDArray[np.int64]:
    """Return where each id stands among others, shape (galaxy,); -1 where it does not.

    The one rule of ids: integers and text meet where the text is the integer as it is written, so 7 is "7"
    but not "007". Raises CatalogueError for ids that are neither integers nor text.
    """
    left, right = _as_ids(ids), _as_ids(others)
    if left.type != right.type:
        left, right = left.cast(pa.string()), right.cast(pa.string())
    rows = pa.compute.index_in(left, value_set=right).fill_null(-1)
    return rows.to_numpy(zero_copy_only=False).astype(np.int64)


def _as_ids(ids: NDArray) -> pa.Array:
    """Return ids as 64-bit integers or as text."""
    kind = np.asarray(ids).dtype.kind
    if kind in "iu":
        return pa.array(ids, pa.int64())
    if kind in "OUS" or not len(ids):
        return pa.array([str(value) for value in ids], pa.string())
    raise CatalogueError(f"{ID} is {np.asarray(ids).dtype}: galaxies are joined by 64-bit integers or text")


def ids_among(table: pa.Table, ids: NDArray) -> NDArray[np.bool_]:
    """Say of each of some ids whether a catalogue has it, by the rule of `rows_of`; shape (galaxy,)."""
    return rows_of(ids, galaxy_ids(table)) >= 0


def matched(left: pa.Table, right: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Return the rows of both tables whose `galaxy_id` stands in both, in the order of the left.

    Ids meet by the rule of `rows_of`. Raises CatalogueError when none match.
    """
    rows = rows_of(galaxy_ids(left), galaxy_ids(right))
    if not (rows >= 0).any():
        kinds = [table.schema.field(ID).type for table in (left, right)]
        raise CatalogueError(
            f"the two catalogues ({len(left)} galaxies with {kinds[0]} ids, {len(right)} with {kinds[1]}) "
            f"have no {ID} in common"
        )
    return left.filter(pa.array(rows >= 0)), right.take(rows[rows >= 0])


def with_metadata(table: pa.Table, metadata: Mapping[str, Any]) -> pa.Table:
    """Return the table with entries added to its schema metadata (kept by all formats but CSV)."""
    entries = {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}
    return table.replace_schema_metadata({**metadata_of(table), **entries})


def metadata_of(table: pa.Table) -> dict[str, str]:
    """Return the schema metadata as text."""
    return {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}


def _format(path: Path) -> str:
    if path.suffix.lower() not in FORMATS:
        raise CatalogueError(f'{path}: a catalogue ends in {", ".join(FORMATS)}, not "{path.suffix}"')
    return path.suffix.lower()


def _checked_names(table: pa.Table, path: Path) -> pa.Table:
    repeated = _first_repeated(table.column_names)
    if repeated is not None:
        raise CatalogueError(f'{path}: the column "{repeated}" stands more than once')
    return table


def _checked_ids(table: pa.Table, path: Path) -> pa.Table:
    if ID not in table.column_names and "GalaxyID" in table.column_names:
        table = table.rename_columns([ID if name == "GalaxyID" else name for name in table.column_names])
    if ID not in table.column_names:
        near = did_you_mean(ID, table.column_names)
        raise CatalogueError(f'{path}: there is no column "{ID}" (nor "GalaxyID"){near}')
    column = table.column(ID)
    if column.null_count:
        raise CatalogueError(f"{path}: {column.null_count} rows have no {ID}")
    table = table.set_column(table.column_names.index(ID), ID, _whole_ids(column, path))
    repeated = _repeated_id(table.column(ID))
    if repeated is not None:
        raise CatalogueError(f"{path}: {ID} {repeated} stands more than once; each galaxy has one row")
    return table


def _repeated_id(ids: pa.ChunkedArray) -> Any:
    """Return an id that stands more than once; by sorting, in a tenth of the memory of counting values."""
    if pa.types.is_integer(ids.type):
        ordered = np.sort(ids.to_numpy())
        twice = ordered[:-1][ordered[1:] == ordered[:-1]]
        return twice[0] if len(twice) else None
    texts = ids.cast(pa.large_string()).sort()
    again = texts[:-1].filter(pa.compute.equal(texts[1:], texts[:-1]))
    return again[0].as_py() if len(again) else None


def _whole_ids(column: pa.ChunkedArray, path: Path) -> pa.ChunkedArray:
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return column.cast(pa.string())
    if not pa.types.is_integer(column.type):
        raise CatalogueError(f"{path}: {ID} holds {column.type}; allowed are 64-bit integers and text")
    try:
        return column.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise CatalogueError(f"{path}: {ID} does not fit 64 bits ({error}); store it as text") from error


def _first_repeated(values: list) -> Any:
    seen: set = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None


def _read_parquet(path: Path, only: Collection[str] | None) -> pa.Table:
    with pa.parquet.ParquetFile(path) as file:
        return file.read(_chosen(file.schema_arrow.names, only))


def _write_parquet(table: pa.Table, path: Path) -> None:
    pa.parquet.write_table(table, path)


def _read_csv(path: Path, only: Collection[str] | None) -> pa.Table:
    """Read a CSV; ids as text, made integers only where that changes none of them (007 stays 007)."""
    with pa.csv.open_csv(path) as head:
        wanted = _chosen(head.schema.names, only)
    convert = pa.csv.ConvertOptions(
        include_columns=wanted,
        column_types=dict.fromkeys(IDS, pa.string()),
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    table = pa.csv.read_csv(path, convert_options=convert)
    for place, name in enumerate(table.column_names):
        if name in IDS:
            table = table.set_column(place, name, id_column(table.column(place)))
    return table


def _write_csv(table: pa.Table, path: Path) -> None:
    pa.csv.write_csv(table, path)


def _read_fits(path: Path, only: Collection[str] | None) -> pa.Table:
    from astropy.table import Table

    table = arrow_table(Table.read(path, format="fits"))
    return table.select(_chosen(table.column_names, only))


def _write_fits(table: pa.Table, path: Path) -> None:
    """Write a FITS table. Headers hold ASCII only: other characters of the metadata are escaped."""
    fits = astropy_table(table)
    fits.convert_unicode_to_bytestring()
    for key, value in metadata_of(table).items():
        fits.meta[key] = value.encode("ascii", "backslashreplace").decode()
    try:
        fits.write(path, format="fits", overwrite=True)
    except OSError as error:
        if error.errno is None:  # numpy reports a disk that took only a part without saying why
            raise OSError(errno.ENOSPC, str(error)) from error
        raise


def _read_vot(path: Path, only: Collection[str] | None) -> pa.Table:
    from astropy.io import votable

    document = votable.parse(path)
    table = document.get_first_table().to_table()
    table.meta = {info.name: info.value for info in document.infos}
    found = arrow_table(table)
    return found.select(_chosen(found.column_names, only))


def _write_vot(table: pa.Table, path: Path) -> None:
    from astropy.io import votable
    from astropy.io.votable.tree import Info

    document = votable.from_table(astropy_table(table))
    document.infos.extend(Info(name=key, value=value) for key, value in metadata_of(table).items())
    document.to_xml(str(path))


def arrow_table(table: Any) -> pa.Table:
    """Return a table of astropy as a catalogue."""
    table.convert_bytestring_to_unicode()
    columns = {name: _arrow_column(np.ma.asarray(table[name])) for name in table.colnames}
    plain = {
        key.lower(): str(value) for key, value in table.meta.items() if isinstance(value, str | int | float)
    }
    return pa.table(columns).replace_schema_metadata(plain)


def _arrow_column(column: np.ma.MaskedArray) -> pa.Array:
    missing = np.ma.getmaskarray(column)
    values = np.ma.getdata(column, subok=False)
    if values.dtype.kind in "OUS":
        texts = [None if gone else str(text) or None for text, gone in zip(values, missing, strict=True)]
        return pa.array(texts, pa.string())
    return pa.array(values.astype(values.dtype.newbyteorder("=")), mask=missing)


def astropy_table(table: pa.Table) -> Any:
    """Return a catalogue as a table of astropy, without its metadata."""
    from astropy.table import Table

    return Table({name: _astropy_column(table.column(name)) for name in table.column_names})


def _astropy_column(column: pa.ChunkedArray) -> Any:
    """Return a column for FITS and VOTable, where a missing integer is a number set apart."""
    from astropy.table import MaskedColumn

    missing = column.is_null().to_numpy()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return np.array(column.fill_null("").to_pylist(), dtype=str)
    if missing.any() and pa.types.is_boolean(column.type):
        raise TypeError("a truth value is missing")
    if missing.any() and pa.types.is_integer(column.type):
        values = column.cast(pa.int64()).fill_null(0).to_numpy()
        return MaskedColumn(values, mask=missing, fill_value=np.iinfo(np.int64).min)
    values = column.fill_null(pa.scalar(0).cast(column.type)).to_numpy()
    return MaskedColumn(values, mask=missing) if missing.any() else values
