"""What published catalogues say in our columns, and ours in theirs; `tables.layouts` knows the names.

A table in one of the layouts becomes one in our columns: joint fractions and, where it has them, vote counts
or concentrations. Catalogues go from one format to another: a folder of shards, Parquet, CSV, FITS, VOTable,
and to HATS.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hubblefork.errors import CatalogueError, did_you_mean, extras
from hubblefork.io import Progress, silent
from hubblefork.tables.catalogue import (
    ID,
    Catalogue,
    Pieces,
    fractions,
    head_of,
    id_column,
    metadata_of,
    open_catalogue,
    pieces_of,
    with_fractions,
    with_votes,
    write_pieces,
)
from hubblefork.tables.checks import unnamed
from hubblefork.tables.columns import LARGEST, SENTINELS, column_named, numbers, with_id
from hubblefork.tables.formats import WRITTEN, noted_tree
from hubblefork.tables.layouts import COUNT, DEBIASED, JOINT, Found, Layout, found_of
from hubblefork.tables.layouts import tree_of as tree_of_names
from hubblefork.tables.names import POSITION
from hubblefork.tables.shards import QUESTIONS, ROWS, SIDES, TREE, CatalogueFolder, shard_table
from hubblefork.zoo import DecisionTree, VoteCounts, reach, read_tree, to_conditional, to_joint
from hubblefork.zoo.votes import ROUNDED, summing_to_one

ASKED = 0.5
"""Friendly columns are empty where fewer were asked."""
HATS = ".hats"
COLUMNS = ("joint", "conditional", "friendly", "advanced", "kaggle")


def tree_of(table: pa.Table) -> DecisionTree:
    """Return the tree that a catalogue holds or names, or of its run or its columns; else Galaxy Zoo 2's.

    Raises CatalogueError for another tree whose run is not there, and for columns of two trees.
    """
    metadata = metadata_of(table)
    if not {TREE, QUESTIONS} & metadata.keys() and (known := tree_of_names(table.column_names)):
        return known
    if tree := noted_tree(metadata):
        return tree
    name, run = metadata[TREE], Path(metadata.get("run", ""))
    if "run" not in metadata or read_tree(run).name != name:
        raise CatalogueError(
            f'the catalogue is of the tree "{name}", which its run should hold; {run} does not: predict anew'
        )
    return read_tree(run)


# Theirs to ours


def in_our_columns(
    table: pa.Table, tree: DecisionTree, wanted: str = "", *, found: Found | None = None
) -> tuple[pa.Table, tuple[str, ...]]:
    """Return a published table with our columns added, and what was read; one with ours as it is.

    Added are joint fractions, vote counts and concentrations where it has them, and `galaxy_id` where two
    columns together name the galaxies. `wanted` is the layout (`tables.layouts.found_in`), or the first;
    `found` is known of a table that was read in part. Debiased columns of layouts go. Counts without any
    total and joint fractions may have the same names: they are counts where all are whole numbers and one is
    above 1. Raises CatalogueError for columns that are nearly a layout's, and for values
    that are no numbers.
    """
    table = with_id(table)
    found = found or found_of(table.column_names, tree, wanted)
    if found is None:
        return table, ()
    if found.quantity == COUNT and not any(_counted(table, layout) for layout in found.read):
        joint = tuple(replace(layout, name=JOINT, quantity=JOINT) for layout in found.read)
        found = replace(found, read=joint)
    names, own = table.column_names, (found.tree.columns, found.tree.source_columns)
    spelled = [tuple(column_named(names, name) for name in columns) for columns in own]
    if found.quantity == JOINT and found.read[0].columns in spelled:
        return table, ()
    if found.quantity != COUNT and len(found.read) > 1:
        raise CatalogueError(f'"{wanted}" adds fractions: only counts can be added')
    layout, notes = found.read[0], list[str]()
    if found.quantity == COUNT:
        votes, notes = _votes(table, found.read)
        ours = with_votes(with_fractions(table, votes.joint(found.tree), found.tree), votes, found.tree)
    else:
        values = _values(table, layout.columns)
        if found.quantity != JOINT:
            within = np.inf if found.quantity == DEBIASED else ROUNDED
            values = to_joint(found.tree, summing_to_one(found.tree, values, within))
        ours = with_fractions(table, np.hstack([values, *_concentrations(table, layout)]), found.tree)
    layouts = (*found.read, *found.others)
    debiased = {name for each in layouts if each.quantity == DEBIASED for name in each.columns}
    return ours.drop_columns(sorted(debiased.intersection(ours.column_names))), (str(found), *notes)


def _counted(table: pa.Table, layout: Layout) -> bool:
    """Say whether a layout of counts has counts: with totals, or whole numbers of which one is above 1."""
    if not layout.totals or any(_total_of(table, names) for names in layout.totals):
        return True
    values = np.stack([numbers(table.column(name))[0] for name in layout.columns])
    above = (values > 1) & ~np.isin(values, SENTINELS)
    return bool(above.any() and (np.isnan(values) | (values == np.trunc(values))).all())


def _total_of(table: pa.Table, names: Sequence[str]) -> str | None:
    """Return the column of a question's total; None where there is none."""
    return next((there for name in names if (there := column_named(table.column_names, name))), None)


def _values(table: pa.Table, names: Sequence[str]) -> NDArray[np.float64]:
    columns = []
    for name in names:
        values, bad = numbers(table.column(name))
        for row in np.flatnonzero(bad)[:1].tolist():
            raise CatalogueError(
                f"row {row + 1}: {name} is {table.column(name)[row].as_py()!r}, which is no number"
            )
        columns.append(values)
    return np.stack(columns, axis=1)


def _votes(table: pa.Table, layouts: Sequence[Layout]) -> tuple[VoteCounts, list[str]]:
    """Return the counts and totals of some layouts together, and what is to be known of them."""
    given, asked, notes = list[NDArray[np.int64]](), list[NDArray[np.int64]](), list[str]()
    for layout in layouts:
        counts, totals = _whole_numbers(table, layout.columns), []
        for number, answers in enumerate(layout.tree.slices):
            total, left_out = _total(table, layout, number, counts[:, answers].sum(axis=1))
            totals.append(total)
            if left_out:
                are = "is no answer" if len(left_out) == 1 else "are no answers"
                notes.append(f"{', '.join(left_out)} {are} of {layout.tree.name}: these votes are left out")
        given.append(counts)
        asked.append(np.stack(totals, axis=1))
    return VoteCounts(np.sum(given, axis=0), np.sum(asked, axis=0)), notes


def _total(
    table: pa.Table, layout: Layout, number: int, counts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], list[str]]:
    """Return how many answered a question, (galaxy,), and the columns of answers that the tree lacks.

    It is the total without the votes for these; the sum of the `counts` where there is no total. Raises
    CatalogueError where that is no total.
    """
    question, names = layout.tree.questions[number], layout.totals[number] if layout.totals else ()
    total = _total_of(table, names)
    if not question.exclusive and total is None:
        answers = "several answers" if question.multiple else "the other answer or none"
        needed = " or ".join(names) or "a total"
        raise CatalogueError(
            f"{needed} is missing: how many were asked {question.name}; "
            f"they may give {answers}, so that counts do not say it"
        )
    left_out = list(_answers_left_out(table, layout, number)) if question.exclusive else []
    if total is None:
        return counts, left_out
    lost = sum(_whole_numbers(table, [name])[:, 0] for name in left_out)
    return _whole_numbers(table, [total])[:, 0] - lost, left_out


def _answers_left_out(table: pa.Table, layout: Layout, number: int) -> Iterator[str]:
    """Yield the columns of votes for answers of a question that the tree does not have."""
    answers, totals = layout.tree.slices[number], layout.totals[number] if layout.totals else ()
    known = {name.casefold() for name in (*layout.columns[answers], *totals)}
    stem = layout.columns[answers.start].rpartition("_")[0].casefold()
    for name in table.column_names:
        question = name.casefold().rpartition("_")[0]
        if totals and question == stem and name.casefold() not in known:
            values, bad = numbers(table.column(name))
            values = values[~np.isnan(values)]
            if not bad.any() and (values > 0).any() and not _no_count(values).any():
                yield name


def _whole_numbers(table: pa.Table, names: Sequence[str]) -> NDArray[np.int64]:
    """Return columns of counts (galaxy, column); an empty one is 0. Raises CatalogueError for no count."""
    values = np.nan_to_num(_values(table, names), posinf=np.inf)
    for row, column in zip(*np.nonzero(_no_count(values)), strict=True):
        raise CatalogueError(
            f"row {row + 1}: {names[column]} is {values[row, column]:g}; a count is a whole number from 0"
        )
    return values.astype(np.int64)


def _no_count(values: NDArray) -> NDArray[np.bool_]:
    return (values < 0) | (values >= LARGEST) | (values != np.trunc(values))


def _concentrations(table: pa.Table, layout: Layout) -> list[NDArray[np.float64]]:
    """Return the concentrations (galaxy, question), the sums of Dirichlet parameters, where they are there.

    Raises CatalogueError for parameters that are not above 0.
    """
    names = [column_named(table.column_names, name) for name in layout.dirichlet]
    columns = [name for name in names if name]
    slices, exclusive = layout.tree.slices, all(question.exclusive for question in layout.tree.questions)
    if not columns or len(columns) < len(names) or not exclusive:
        return []
    values = _values(table, columns)
    for row, column in zip(*np.nonzero(values <= 0), strict=True):
        raise CatalogueError(
            f"row {row + 1}: {columns[column]} is {values[row, column]:g}; "
            "a parameter of a Dirichlet distribution is above 0"
        )
    return [np.stack([values[:, answers].sum(axis=1) for answers in slices], axis=1)]


# Ours to theirs


def spelled_as(table: pa.Table, tree: DecisionTree, columns: str) -> pa.Table:
    """Return a catalogue of predictions in another spelling: one of `COLUMNS`.

    "friendly" are conditional fractions, null where fewer than half are asked; "advanced" has them all, the
    share that is asked, and the ends of the intervals if there are any; "kaggle" and "joint" are joint
    fractions. Ids and positions stay. Raises CatalogueError for another name. Source of the names:
    zoobot/shared/load_predictions.py (mwalmsley/zoobot), which writes such tables.
    """
    if columns not in COLUMNS:
        near = did_you_mean(columns, COLUMNS)
        raise CatalogueError(f'there are no columns "{columns}"{near}: {", ".join(COLUMNS)}')
    if columns == "joint":
        return table
    kept = [name for name in (ID, "ra", "dec") if name in table.column_names]
    metadata = {**metadata_of(table), "quantity": "joint_fraction" if columns == "kaggle" else "fraction"}
    if columns == "kaggle":
        renamed = table.select([ID, *tree.columns]).rename_columns(["GalaxyID", *tree.source_columns])
        return renamed.replace_schema_metadata(metadata)
    joint = fractions(table, tree)
    asked = reach(tree, joint)[:, list(tree.question_of)]
    shares = to_conditional(tree, joint)
    if columns == "friendly":
        shares = np.where(asked < ASKED, np.nan, shares)
    end = {"conditional": "_conditional"}.get(columns, "_fraction")
    spelled = tree.columns if columns == "conditional" else tree.source_columns
    written = {f"{name}{end}": column for name, column in zip(spelled, shares.T, strict=True)}
    if columns == "advanced":
        written |= _advanced(table, tree, asked)
    result = table.select(kept)
    for name, column in written.items():
        result = result.append_column(name, pa.array(column.astype(np.float32), mask=np.isnan(column)))
    return result.replace_schema_metadata(metadata)


def _advanced(table: pa.Table, tree: DecisionTree, asked: NDArray) -> dict[str, NDArray]:
    """Return the ends of conditional intervals, and for each answer the share who are asked its question."""
    written: dict[str, NDArray] = {}
    for ours, theirs in (("low", "lower"), ("high", "upper")):
        names = [f"{name}_{ours}" for name in tree.columns]
        if set(names) <= set(table.column_names):
            coverage = f"{100 * float(metadata_of(table)['interval_coverage']):g}"
            ends = np.stack([table.column(name).cast(pa.float64()).to_numpy() for name in names], axis=1)
            ends = np.clip(np.divide(ends, asked, out=np.full(ends.shape, np.nan), where=asked > 0), 0, 1)
            spelled = [f"{name}_{coverage}pc-{theirs}" for name in tree.source_columns]
            written |= dict(zip(spelled, ends.T, strict=True))
    spelled = [f"{name}_proportion-asked" for name in tree.source_columns]
    return written | dict(zip(spelled, asked.T, strict=True))


# From one format to another


def convert(
    source: Path, target: Path, *, tree: DecisionTree | None = None, progress: Progress = silent
) -> tuple[str, ...]:
    """Write a catalogue in the format that the suffix of `target` names; without one, a folder of shards.

    Returns what is to be known of it: that a table without metadata, as a CSV, has intervals.

    `tree` is that of a table which does not say its own; else Galaxy Zoo 2's. A folder of shards is not held
    as a whole, unless FITS or VOTable are made of it. Raises CatalogueError for a target that is there, a
    table that is no catalogue and what a format cannot hold; ExtraMissing without `hats-import`; DiskError.
    """
    suffix = target.suffix.lower()
    if suffix not in (*WRITTEN, HATS, ""):
        known = ", ".join((*WRITTEN, HATS))
        raise CatalogueError(f'{target}: a catalogue ends in {known} or nothing, not in "{target.suffix}"')
    if target.exists() and (target.is_file() or any(target.iterdir())):
        raise CatalogueError(f"{target} is there already: choose another name, or move it away")
    catalogue = open_catalogue(source, None)
    if suffix in WRITTEN:
        write_pieces(_with_plain_ids(catalogue), target)
    elif suffix == HATS:
        _write_hats(catalogue, target)
    else:
        _write_folder(catalogue, target, tree or tree_of(head_of(catalogue)), progress)
    head = head_of(catalogue)
    return tuple(f"{source}: {text}" for text in unnamed(head.column_names, metadata_of(head)))


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
    names = head_of(catalogue).column_names
    if missing := [name for name in POSITION if name not in names]:
        raise CatalogueError(f"{target}: HATS sorts galaxies by position: the catalogue has no {missing[0]}")
    counts = (piece.column(name).null_count for piece in pieces_of(catalogue, POSITION) for name in POSITION)
    if without := sum(counts) // len(POSITION):
        raise CatalogueError(f"{target}: HATS sorts galaxies by position: {without} galaxies have none")
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
