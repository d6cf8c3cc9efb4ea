"""Catalogues as DuckDB reads them: Parquet in our columns, where it lies or written from another form."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet

from hubblefork.data.catalogue import (
    ID,
    fractions,
    naming,
    read_catalogue,
    read_head,
    with_fractions,
    write_pieces,
)
from hubblefork.data.columns import id_name, with_id
from hubblefork.data.layouts import COUNT, Found, found_of
from hubblefork.data.published import in_our_columns, tree_of
from hubblefork.data.shards import CatalogueFolder, is_catalogue_folder
from hubblefork.errors import CatalogueError
from hubblefork.zoo import DecisionTree

LARGEST, PIECE = 4 * 10**9, 100_000
"""Bytes of a catalogue that has to be read whole; rows of another that are read together."""


class Opened(NamedTuple):
    """A catalogue of `tree`: columns and metadata without a row, its files, its layout if it is published."""

    tree: DecisionTree
    head: pa.Table
    files: list[Path]
    layout: str = ""


def opened(path: Path, folder: Path, tree: DecisionTree | None = None) -> Opened:
    """Open a catalogue of a tree, by default its own; one in other columns or formats is written to `folder`.

    Raises CatalogueError for one that cannot be read or is too large to be written anew, DiskError.
    """
    head = read_head(path)
    tree = tree or tree_of(head)
    if is_catalogue_folder(path):
        return Opened(tree, head, CatalogueFolder(path).shards())
    found = None if set(tree.columns).issubset(head.column_names) else found_of(head.column_names, tree)
    is_parquet = path.suffix.lower() == ".parquet"
    if is_parquet and found is None and ID in head.column_names:
        return Opened(tree, head, [path])
    written = folder / f"{path.stem}.parquet"
    with naming(path):
        if is_parquet and found and (found.quantity != COUNT or all(each.totals for each in found.read)):
            pieces = _pieces(path, tree, found)
        else:
            _check_size(path, head)
            pieces = iter([_ours(read_catalogue(path), tree, found)])
        write_pieces(pieces, written)
    return Opened(tree, read_head(written), [written], str(found or ""))


def _pieces(path: Path, tree: DecisionTree, found: Found) -> Iterator[pa.Table]:
    """Yield a published catalogue in our columns, some rows at a time; its ids as they are."""
    with pa.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(PIECE, use_threads=False):
            table = with_id(pa.Table.from_batches([batch]))
            place = table.column_names.index(id_name(table.column_names))
            ids = table.column(place)
            kind = pa.int64() if pa.types.is_integer(ids.type) else pa.string()
            yield _ours(table.set_column(place, ID, ids.cast(kind)), tree, found)


def _ours(table: pa.Table, tree: DecisionTree, found: Found | None) -> pa.Table:
    """Return a catalogue with a column for each answer, whichever way it has them."""
    table, _ = in_our_columns(table, tree, found=found)
    if found is None or set(tree.columns).issubset(table.column_names):
        return table
    return with_fractions(table, fractions(table, tree), tree)


def _check_size(path: Path, head: pa.Table) -> None:
    """Raise CatalogueError for a catalogue that is too large to be read whole."""
    size = path.stat().st_size
    if path.suffix.lower() == ".parquet":
        size = 8 * pa.parquet.read_metadata(path).num_rows * len(head.column_names)
    if size > LARGEST:
        raise CatalogueError(
            f"{path}: it would be read whole, {size / 1e9:.0f} GB, and at most {LARGEST / 1e9:.0f} are: "
            "save it as Parquet"
        )
