"""Catalogues: one row per galaxy, `galaxy_id` its only key; CSV, Parquet, FITS and VOTable.

In memory a catalogue is a `pyarrow.Table` whose fractions stand in columns named as the answers
of the decision tree; null means that nobody was asked. `galaxy_id` is int64 or string, never a
float and never squeezed. `tables.columns` has the rules of ids and fractions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from hubblefork.errors import CatalogueError
from hubblefork.io import placed, relative, replacing
from hubblefork.tables.columns import (
    ID,
    columns_of_answers,
    fraction_remedy,
    id_name,
    ids_of,
    no_fraction,
    numbers,
    with_id,
    without,
)
from hubblefork.tables.formats import PIECEWISE, WHOLE, WRITTEN, arrow_table, read_rows
from hubblefork.tables.names import POSITION, Target, printable
from hubblefork.tables.shards import FOLDER, CatalogueFolder, is_catalogue_folder, notes_of, run_seen_from
from hubblefork.tables.text import Rows
from hubblefork.zoo import DecisionTree, VoteCounts

SKY = ("pixel_scale", "target_x", "target_y", "petro_r90")
"""The columns of a catalogue that say what is known of the sky of its images."""
TAKEN = {
    *(ID, "source", "member", "width", "height", "centre_red", "centre_green", "centre_blue"),
    *(*SKY, *POSITION),
}
ENDS = ("low", "high", "conditional", "count", "debiased", "reach", "concentration", "total_votes")
"""How columns end that a catalogue has beside those of answers and for questions."""
SOURCE = "source"
IMAGES = "images"
"""The key of the metadata that holds the SHA-256 of the SHA-256s of all images."""


def read_catalogue(
    path: Path, only: Collection[str] | None = None, *, missing: Collection[float] = ()
) -> pa.Table:
    """Read a catalogue in any format that `tables.formats` reads; its ids as 64-bit integers, or as text.

    With `only`, the ids and those columns that it has; of Parquet and text nothing else is ever in memory.
    The numbers `missing` stand for missing values. Raises CatalogueError.
    """
    rows = read_rows(path, only)
    if rows.ragged:
        line, cells = rows.ragged[0]
        more = f"; so it is in {len(rows.ragged)} lines" if len(rows.ragged) > 1 else ""
        raise CatalogueError(f"{path}: line {line}: {len(cells)} cells under {len(rows.names)} columns{more}")
    with naming(path):
        return _placed(without(_with_ids(rows), missing), path)


def catalogue_of(table: Any) -> pa.Table:
    """Return a table in memory, of astropy, pandas or pyarrow, as `read_catalogue` returns one of a file."""
    rows = arrow_table(table)
    return _with_ids(Rows(rows, range(1, len(rows) + 1)))


@contextmanager
def naming(path: Path | None) -> Iterator[None]:
    """Add the name of a file, if there is one, to a CatalogueError that lacks it."""
    try:
        yield
    except CatalogueError as error:
        if path is None or str(error).startswith(str(path)):
            raise
        raise CatalogueError(f"{path}: {error}") from error


def read_head(path: Path) -> pa.Table:
    """Read a catalogue's columns and metadata without a row, of Parquet at once. Raises CatalogueError."""
    if is_catalogue_folder(path):
        return _placed(CatalogueFolder(path).head(), path)
    try:
        return _placed(pa.parquet.read_schema(path).empty_table(), path)
    except (pa.ArrowException, OSError):
        return read_catalogue(path).slice(length=0)


@dataclass(frozen=True)
class Pieces:
    """A catalogue in a folder that is read a piece at a time, as often as needed, so that it is never held.

    The numbers `missing` stand for missing values. Ids are not looked at; `hubblefork catalogue check` does.
    """

    path: Path
    missing: Collection[float] = ()

    @cached_property
    def head(self) -> pa.Table:
        """The columns and the metadata, without a row. Raises CatalogueError."""
        return read_head(self.path)

    def read(self, only: Collection[str] | None = None) -> Iterator[pa.Table]:
        """Yield the ids and those columns, at most some hundred thousand galaxies at a time."""
        for piece in CatalogueFolder(self.path).batches(only):
            yield without(piece.replace_schema_metadata(self.head.schema.metadata), self.missing)


Catalogue: TypeAlias = pa.Table | Pieces


def head_of(catalogue: Catalogue) -> pa.Table:
    """Return a table with the columns and the metadata of a catalogue; it need not have its rows."""
    return catalogue.head if isinstance(catalogue, Pieces) else catalogue


def pieces_of(catalogue: Catalogue, only: Collection[str] | None) -> Iterator[pa.Table]:
    """Yield a catalogue in pieces with its ids and those columns (None: all); a table is one, as it is."""
    return catalogue.read(only) if isinstance(catalogue, Pieces) else iter([catalogue])


def is_catalogue(path: Path) -> bool:
    """Whether a path is that of a table or of a catalogue in shards, and not a folder of another kind."""
    return path.is_file() or is_catalogue_folder(path)


def open_catalogue(path: Path, only: Collection[str] | None, *, missing: Collection[float] = ()) -> Catalogue:
    """Return a folder in pieces, another catalogue with its ids and those columns. Raises CatalogueError."""
    return Pieces(path, missing) if is_catalogue_folder(path) else read_catalogue(path, only, missing=missing)


def portable(table: pa.Table, path: Path) -> pa.Table:
    """Return a catalogue to write to `path` whose run and sources of images are named as seen from there.

    `read_catalogue` finds them again where both were moved together, and where only one was.
    """
    folder = path.parent
    notes = run_seen_from(metadata_of(table), folder)
    if SOURCE in table.column_names:
        table = _with_sources(table, lambda source: relative(Path(source), folder))
        notes |= {FOLDER: str(folder.resolve())}
    return with_metadata(table, notes) if notes else table


def _placed(table: pa.Table, path: Path) -> pa.Table:
    """Return a catalogue that was read from `path` with its run and its sources where they are now."""
    metadata, folder = metadata_of(table), path if path.is_dir() else path.parent
    if FOLDER not in metadata:
        return table
    then = metadata.pop(FOLDER)
    if SOURCE in table.column_names:
        table = _with_sources(table, lambda source: str(placed(source, folder, then)))
    if "run" in metadata:
        metadata["run"] = str(placed(metadata["run"], folder, then))
    return table.replace_schema_metadata(metadata)


def _with_sources(table: pa.Table, moved: Callable[[str], str]) -> pa.Table:
    sources = table.column(SOURCE).to_pylist()
    place = {source: source and moved(source) for source in dict.fromkeys(sources)}
    column = pa.array([place[source] for source in sources], pa.string())
    return table.set_column(table.column_names.index(SOURCE), SOURCE, column)


def _with_ids(rows: Rows) -> pa.Table:
    """Return a table with its column of ids named and checked. Raises CatalogueError that names rows."""
    table = with_id(rows.table)
    name = id_name(table.column_names)
    place = table.column_names.index(name)
    ids, faults = table.column(place), dict[int, tuple[str, str]]()
    if not pa.types.is_int64(ids.type) or ids.null_count:
        texts, faults = ids_of(ids)
        ids = texts if faults else id_column(texts)
    if faults:
        first = min(faults)
        reason, value = faults[first]
        more = f"; so have {len(faults)} rows" if len(faults) > 1 else ""
        raise CatalogueError(f"{rows.place(first)}: {reason} ({value}){more}")
    repeated = _repeated_id(ids)
    if repeated is not None:
        places = [
            rows.place(row) for row in np.flatnonzero(pa.compute.equal(ids, repeated).to_numpy()).tolist()
        ]
        raise CatalogueError(
            f"{ID} {repeated} stands more than once, in {', '.join(places[:3])}"
            f"{' …' * (len(places) > 3)}; each galaxy has one row"
        )
    return table.set_column(place, ID, ids)


def _repeated_id(ids: pa.ChunkedArray) -> str | int | None:
    """Return an id that stands more than once; by sorting, in a tenth of the memory of counting values."""
    if pa.types.is_int64(ids.type):
        ordered = np.sort(ids.to_numpy())
        twice = ordered[:-1][ordered[1:] == ordered[:-1]]
        return int(twice[0]) if len(twice) else None
    texts = ids.cast(pa.large_string()).sort()
    again = texts[:-1].filter(pa.compute.equal(texts[1:], texts[:-1]))
    return again[0].as_py() if len(again) else None


def check_format(path: Path) -> str:
    """Return the suffix of a format that can be written. Raises CatalogueError for another."""
    if path.suffix.lower() not in WRITTEN:
        raise CatalogueError(f'{path}: a catalogue ends in {", ".join(WRITTEN)}, not "{path.suffix}"')
    return path.suffix.lower()


def write_catalogue(table: pa.Table, path: Path) -> None:
    """Write a catalogue whole or not at all, its format chosen by the suffix.

    CSV keeps no metadata; FITS and VOTable hold missing text as empty text, and no missing
    truth values. Raises CatalogueError for what the format cannot hold, DiskError.
    """
    write_pieces(iter([table]), path)


def write_pieces(pieces: Iterator[pa.Table], path: Path) -> None:
    """Write a catalogue that comes in pieces of the same columns, at least one; as `write_catalogue`.

    As Parquet and CSV no more than a piece is in memory at any time. Raises as `write_catalogue` does.
    """
    kind = check_format(path)
    pieces = (portable(piece, path) for piece in pieces)
    try:
        with replacing(path) as temporary:
            if kind in WHOLE:
                WHOLE[kind](pa.concat_tables(pieces), temporary)
                return
            first = next(pieces)
            with PIECEWISE[kind](temporary, first.schema) as writer:
                for piece in chain([first], pieces):
                    writer.write_table(piece)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise CatalogueError(f"{path}: a {path.suffix} table cannot hold this catalogue: {error}") from error


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
    names = columns_of_answers(table.column_names, tree, answers)
    any_number = tree.number is not None
    pairs = zip(answers, names, strict=True)
    return {answer: fractions_in(table, name, any_number=any_number) for answer, name in pairs}


def fractions_in(table: pa.Table, name: str, *, any_number: bool = False) -> NDArray[np.float64]:
    """Return a column of fractions, or of `any_number` that is finite, (galaxy,), NaN where null.

    Raises CatalogueError for other values.
    """
    values, bad = numbers(table.column(name))
    if bad.all() and len(bad) and not pa.types.is_string(table.schema.field(name).type):
        raise CatalogueError(f"{name} holds {table.schema.field(name).type}, not numbers")
    outside = np.isinf(values) if any_number else no_fraction(values)
    for row in np.flatnonzero(bad | outside)[:1].tolist():
        where = (
            f"{ID} {table.column(ID)[row]} (row {row + 1})" if ID in table.column_names else f"row {row + 1}"
        )
        if bad[row]:
            raise CatalogueError(
                f"{where}: {name} is {table.column(name)[row].as_py()!r}, which is no number"
            )
        remedy = "a number is finite" if any_number else fraction_remedy(values[row], values)
        raise CatalogueError(f"{where}: {name} is {values[row]:.9g}; {remedy}")
    return values if any_number else np.clip(values, 0, 1)


def check_names(tree: DecisionTree) -> DecisionTree:
    """Return a tree. Raises CatalogueError where an answer is named as a column that a catalogue has."""
    names = (*tree.columns, *(question.name for question in tree.questions))
    if taken := sorted({*TAKEN, *(f"{name}_{end}" for name in names for end in ENDS)} & {*tree.columns}):
        raise CatalogueError(
            f"{tree.name}: {', '.join(taken)}: a catalogue has columns of these names; rename them"
        )
    return tree


def columns_of(tree: DecisionTree, answers: Collection[str]) -> list[str]:
    """Return the names that the columns of some answers may have in a catalogue."""
    pairs = zip(tree.columns, tree.source_columns, strict=True)
    return [name for pair in pairs if pair[0] in answers for name in pair]


def with_fractions(table: pa.Table, values: NDArray, tree: DecisionTree) -> pa.Table:
    """Return the table with fractions (galaxy, answer) as the tree's columns; NaN becomes null.

    Where the concentration of each question follows the answers, it becomes `<question>_concentration`.
    Values are kept as precise as they come: a network's in single precision, volunteers' in double.
    """
    names = tree.columns if values.shape[1] == len(tree.columns) else (*tree.columns, *concentrations(tree))
    table = table.drop_columns([name for name in names if name in table.column_names])
    for name, column in zip(names, values.T, strict=True):
        table = table.append_column(name, pa.array(column, mask=np.isnan(column)))
    return table


def with_positions(table: pa.Table, targets: Sequence[Target]) -> pa.Table:
    """Return the table with the positions of its galaxies as `ra` and `dec`; null where unknown."""
    for axis, name in enumerate(POSITION):
        table = table.append_column(name, pa.array([target[axis] for target in targets], pa.float64()))
    return table


def concentrations(tree: DecisionTree) -> list[str]:
    """Return the names of the columns of concentrations, one for each question."""
    return [f"{question.name}_concentration" for question in tree.questions]


def with_votes(table: pa.Table, votes: VoteCounts, tree: DecisionTree) -> pa.Table:
    """Return the table with vote counts: `<answer>_count`, `<question>_total_votes`."""
    for name, column in zip(_names_of_votes(tree), np.hstack([votes.given, votes.asked]).T, strict=True):
        table = table.append_column(name, pa.array(column, pa.int32()))
    return table


def votes_of(table: pa.Table, tree: DecisionTree) -> VoteCounts | None:
    """Return the vote counts of a catalogue; None where it has fractions only. Raises CatalogueError."""
    names = _names_of_votes(tree)
    if not set(names) & set(table.column_names):
        return None
    missing = [name for name in names if name not in table.column_names]
    if missing:
        raise CatalogueError(f"{len(missing)} of the columns of vote counts are missing: {missing[0]}, …")
    counts = np.stack([table.column(name).fill_null(0).to_numpy() for name in names], axis=1)
    return VoteCounts(*np.split(counts.astype(np.int64), [len(tree.columns)], axis=1))


def _names_of_votes(tree: DecisionTree) -> list[str]:
    questions = [f"{question.name}_total_votes" for question in tree.questions]
    return [*(f"{name}_count" for name in tree.columns), *questions]


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


def rows_of(ids: NDArray, others: NDArray | pa.ChunkedArray) -> NDArray[np.int64]:
    """Return where each id stands among others, shape (galaxy,); -1 where it does not.

    The one rule of ids: integers and text meet where the text is the integer as it is written, so 7 is "7"
    but not "007". Raises CatalogueError for ids that are neither integers nor text.
    """
    left, right = _as_ids(ids), _as_ids(others)
    if left.type != right.type:
        left, right = left.cast(pa.string()), right.cast(pa.string())
    rows = pa.compute.index_in(left, value_set=right).fill_null(-1)
    return rows.to_numpy(zero_copy_only=False).astype(np.int64)


def _as_ids(ids: NDArray | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Return ids as 64-bit integers or as text."""
    if isinstance(ids, pa.ChunkedArray):
        return ids
    kind = np.asarray(ids).dtype.kind
    if kind in "iu":
        return pa.array(ids, pa.int64())
    if kind in "OUS" or not len(ids):
        return pa.array([str(value) for value in ids], pa.string())
    raise CatalogueError(f"{ID} is {np.asarray(ids).dtype}: galaxies are joined by 64-bit integers or text")


def ids_among(catalogue: Catalogue, ids: NDArray) -> NDArray[np.bool_]:
    """Say of each of some ids whether a catalogue has it, by the rule of `rows_of`; shape (galaxy,)."""
    found = np.zeros(len(ids), dtype=bool)
    for piece in pieces_of(catalogue, []):
        found |= rows_of(ids, piece.column(ID)) >= 0
    return found


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
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}
    entries = {key: printable(text) for key, text in texts.items()}
    return table.replace_schema_metadata({**metadata_of(table), **entries})


def metadata_of(table: pa.Table) -> dict[str, str]:
    """Return the schema metadata as text."""
    return notes_of(table.schema)
