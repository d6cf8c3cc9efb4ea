"""Catalogues from one format to another: a folder of shards, Parquet, CSV, FITS, VOTable, and to HATS."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pyarrow as pa

from hubblefork.data.catalogue import (
    ID,
    Catalogue,
    Pieces,
    fractions,
    head_of,
    id_column,
    open_catalogue,
    pieces_of,
    with_fractions,
    write_pieces,
)
from hubblefork.data.formats import WRITERS
from hubblefork.data.members import POSITION
from hubblefork.data.published import tree_of
from hubblefork.data.shards import ROWS, SIDES, CatalogueFolder, shard_table
from hubblefork.errors import CatalogueError, extras
from hubblefork.io import Progress, silent
from hubblefork.zoo import DecisionTree

HATS = ".hats"


def convert(
    source: Path, target: Path, *, tree: DecisionTree | None = None, progress: Progress = silent
) -> None:
    """Write a catalogue in the format that the suffix of `target` names; without one, a folder of shards.

    `tree` is that of a table which does not say its own; else Galaxy Zoo 2's. A folder of shards is not held
    as a whole, unless FITS or VOTable are made of it. Raises CatalogueError for a target that is there, a
    table that is no catalogue and what a format cannot hold; ExtraMissing without `hats-import`; DiskError.
    """
    suffix = target.suffix.lower()
    if suffix not in (*WRITERS, HATS, ""):
        known = ", ".join((*WRITERS, HATS))
        raise CatalogueError(f'{target}: a catalogue ends in {known} or nothing, not in "{target.suffix}"')
    if target.exists() and (target.is_file() or any(target.iterdir())):
        raise CatalogueError(f"{target} is there already: choose another name, or move it away")
    catalogue = open_catalogue(source, None)
    if suffix in WRITERS:
        write_pieces(_with_plain_ids(catalogue), target)
    elif suffix == HATS:
        _write_hats(catalogue, target)
    else:
        _write_folder(catalogue, target, tree or tree_of(head_of(catalogue)), progress)


def _with_plain_ids(catalogue: Catalogue) -> Iterator[pa.Table]:
    """Yield a catalogue in pieces whose ids are integers where all of them are."""
    ids = (id_column(piece.column(ID)).type for piece in pieces_of(catalogue, []))
    kind = pa.int64() if all(map(pa.types.is_integer, ids)) else pa.string()
    pieces = pieces_of(catalogue, None)
    for piece in chain([next(pieces, head_of(catalogue))], pieces):
        yield piece.set_column(0, ID, piece.column(ID).cast(kind))


def _write_folder(catalogue: Catalogue, target: Path, tree: DecisionTree, progress: Progress) -> None:
    folder = CatalogueFolder(target)
    with progress("converting", None) as advance:
        pieces = (
            piece.slice(start, ROWS)
            for piece in pieces_of(catalogue, None)
            for start in range(0, len(piece), ROWS)
        )
        for number, piece in enumerate(pieces):
            notes = dict(piece.schema.metadata or {})
            notes.pop(SIDES.encode(), None)  # they are those of all shards
            others = [name for name in piece.column_names if name not in tree.source_columns]
            whole = with_fractions(piece.select(others), fractions(piece, tree).astype("float32"), tree)
            folder.write_shard(f"{number:05}", shard_table(whole.replace_schema_metadata(notes), tree))
            advance(len(piece))
    folder.finish()


def _write_hats(catalogue: Catalogue, target: Path) -> None:
    """Write a HATS catalogue, HEALPix by HEALPix, with `hats-import` in this process."""
    _check_positions(catalogue, target)
    with extras(f"{target}: HATS"):
        from dask.distributed import Client
        from hats_import.catalog import run_import
        from hats_import.catalog.arguments import ImportArguments
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
        if isinstance(catalogue, Pieces):
            files = CatalogueFolder(catalogue.path).shards()
        else:
            files = [Path(folder) / "catalogue.parquet"]
            write_pieces(iter([catalogue]), files[0])
        arguments = ImportArguments(
            input_file_list=[str(path) for path in files],
            file_reader="parquet",
            output_path=folder,
            output_artifact_name=target.stem,
            progress_bar=False,
        )
        with Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None) as client:
            run_import.run(arguments, client)
        (Path(folder) / target.stem).rename(target)


def _check_positions(catalogue: Catalogue, target: Path) -> None:
    """Raise CatalogueError where galaxies have no position."""
    names = head_of(catalogue).column_names
    if missing := [name for name in POSITION if name not in names]:
        raise CatalogueError(f"{target}: HATS sorts galaxies by position: the catalogue has no {missing[0]}")
    counts = (piece.column(name).null_count for piece in pieces_of(catalogue, POSITION) for name in POSITION)
    without = sum(counts) // len(POSITION)
    if without:
        raise CatalogueError(f"{target}: HATS sorts galaxies by position: {without} galaxies have none")
