"""Catalogues: one row per galaxy, `galaxy_id` its only key; CSV, Parquet, FITS and VOTable.

In memory a catalogue is a `pyarrow.Table` whose fractions stand in columns named as the answers
of the decision tree; null means that nobody was asked. `galaxy_id` is int64 or string, never a
float and never squeezed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from hubblefork.errors import CatalogueError, did_you_mean
from hubblefork.files import replacing
from hubblefork.zoo import DecisionTree

FORMATS = (".parquet", ".csv", ".fits", ".vot")
ID = "galaxy_id"


def read_catalogue(path: Path) -> pa.Table:
    """Read a catalogue, its format chosen by the suffix. Raises CatalogueError."""
    if not path.exists():
        raise CatalogueError(f"{path}: there is no such catalogue")
    reader = {".parquet": _read_parquet, ".csv": _read_csv, ".fits": _read_astropy, ".vot": _read_astropy}
    try:
        table = reader[_format(path)](path)
    except (pa.ArrowInvalid, OSError, ValueError) as error:
        raise CatalogueError(f"{path}: not a readable {path.suffix} table: {error}") from error
    return _checked_ids(table, path)


def write_catalogue(table: pa.Table, path: Path) -> None:
    """Write a catalogue whole or not at all, its format chosen by the suffix. Raises CatalogueError, DiskError."""
    writer = {".parquet": _write_parquet, ".csv": _write_csv, ".fits": _write_fits, ".vot": _write_vot}
    with replacing(path) as temporary:
        writer[_format(path)](table, temporary)


def check_format(path: Path) -> None:
    """Raise CatalogueError unless the suffix names a format that can be written."""
    _format(path)


def fractions(table: pa.Table, tree: DecisionTree) -> NDArray[np.float64]:
    """Return the fractions as an array (galaxy, answer) in the tree's order; NaN where null.

    The columns may be named as the answers or as the source names them (Class1.1 …).
    Raises CatalogueError that lists every missing column.
    """
    names = tree.columns if tree.columns[0] in table.column_names else tree.source_columns
    missing = [name for name in names if name not in table.column_names]
    if missing:
        near = did_you_mean(missing[0], table.column_names)
        raise CatalogueError(
            f"{len(missing)} of the {len(names)} columns of {tree.name} are missing: {', '.join(missing)}{near}"
        )
    columns = [table.column(name).cast(pa.float64()).to_numpy() for name in names]
    return np.stack(columns, axis=1) if len(table) else np.empty((0, len(names)))


def with_fractions(table: pa.Table, values: NDArray, tree: DecisionTree) -> pa.Table:
    """Return the table with fractions (galaxy, answer) appended as the tree's columns; NaN becomes null."""
    for name, column in zip(tree.columns, np.asarray(values, dtype=np.float64).T, strict=True):
        table = table.append_column(name, pa.array(column, mask=np.isnan(column)))
    return table


def galaxy_ids(table: pa.Table) -> NDArray:
    """Return the ids as an array of int64 or of str objects."""
    return table.column(ID).to_numpy(zero_copy_only=False)


def matched(left: pa.Table, right: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Return the rows of both tables whose `galaxy_id` stands in both, in the order of the left.

    Raises CatalogueError when the ids are of different kinds or none match.
    """
    kinds = left.schema.field(ID).type, right.schema.field(ID).type
    if kinds[0] != kinds[1]:
        raise CatalogueError(f"{ID} is {kinds[0]} in one catalogue and {kinds[1]} in the other: they cannot be joined")
    place = {galaxy_id: row for row, galaxy_id in enumerate(galaxy_ids(right).tolist())}
    pairs = [(row, place[i]) for row, i in enumerate(galaxy_ids(left).tolist()) if i in place]
    if not pairs:
        raise CatalogueError(f"the two catalogues ({len(left)} and {len(right)} galaxies) have no {ID} in common")
    rows_left, rows_right = zip(*pairs, strict=True)
    return left.take(list(rows_left)), right.take(list(rows_right))


def with_metadata(table: pa.Table, metadata: Mapping[str, Any]) -> pa.Table:
    """Return the table with entries added to its schema metadata (kept by Parquet and FITS)."""
    entries = {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}
    return table.replace_schema_metadata({**metadata_of(table), **entries})


def metadata_of(table: pa.Table) -> dict[str, str]:
    """Return the schema metadata as text."""
    return {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}


def _format(path: Path) -> str:
    if path.suffix.lower() not in FORMATS:
        raise CatalogueError(f'{path}: a catalogue ends in {", ".join(FORMATS)}, not "{path.suffix}"')
    return path.suffix.lower()


def _checked_ids(table: pa.Table, path: Path) -> pa.Table:
    if ID not in table.column_names and "GalaxyID" in table.column_names:
        table = table.rename_columns([ID if name == "GalaxyID" else name for name in table.column_names])
    if ID not in table.column_names:
        near = did_you_mean(ID, table.column_names)
        raise CatalogueError(f'{path}: there is no column "{ID}" (nor "GalaxyID"){near}')
    kind = table.schema.field(ID).type
    if pa.types.is_integer(kind):
        kind = pa.int64()
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        kind = pa.string()
    else:
        raise CatalogueError(f"{path}: {ID} holds {kind}; allowed are 64-bit integers and text")
    column = table.column(ID)
    if column.null_count:
        raise CatalogueError(f"{path}: {column.null_count} rows have no {ID}")
    table = table.set_column(table.column_names.index(ID), ID, column.cast(kind))
    repeated = _first_repeated(galaxy_ids(table).tolist())
    if repeated is not None:
        raise CatalogueError(f"{path}: {ID} {repeated} stands more than once; each galaxy has one row")
    return table


def _first_repeated(ids: list) -> Any:
    seen: set = set()
    for galaxy_id in ids:
        if galaxy_id in seen:
            return galaxy_id
        seen.add(galaxy_id)
    return None


def _read_parquet(path: Path) -> pa.Table:
    return pa.parquet.read_table(path)


def _read_csv(path: Path) -> pa.Table:
    return pa.csv.read_csv(path)


def _read_astropy(path: Path) -> pa.Table:
    from astropy.table import Table

    table = Table.read(path)
    table.convert_bytestring_to_unicode()
    columns = {name: _arrow_column(np.ma.asarray(table[name])) for name in table.colnames}
    metadata = {key.lower(): str(value) for key, value in table.meta.items() if isinstance(value, str | int | float)}
    return pa.table(columns).replace_schema_metadata(metadata)


def _arrow_column(column: np.ma.MaskedArray) -> pa.Array:
    missing = np.ma.getmaskarray(column)
    values = column.data
    if values.dtype.kind in "OUS":
        return pa.array([None if gone else str(v) for v, gone in zip(values, missing, strict=True)], pa.string())
    if values.dtype.kind == "f":
        missing = missing | np.isnan(values)
    return pa.array(values.astype(values.dtype.newbyteorder("=")), mask=missing)


def _write_parquet(table: pa.Table, path: Path) -> None:
    pa.parquet.write_table(table, path)


def _write_csv(table: pa.Table, path: Path) -> None:
    pa.csv.write_csv(table, path)


def _write_fits(table: pa.Table, path: Path) -> None:
    _astropy_table(table).write(path, format="fits", overwrite=True)


def _write_vot(table: pa.Table, path: Path) -> None:
    _astropy_table(table).write(path, format="votable", overwrite=True)


def _astropy_table(table: pa.Table) -> Any:
    from astropy.table import MaskedColumn, Table

    columns = {}
    for name in table.column_names:
        column = table.column(name)
        missing = column.is_null().to_numpy()
        values = column.to_numpy()
        if values.dtype == object:
            values = np.array(["" if value is None else value for value in values], dtype=str)
        columns[name] = MaskedColumn(values, mask=missing) if missing.any() else values
    return Table(columns, meta=metadata_of(table))
