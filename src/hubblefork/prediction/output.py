"""Predict images into a catalogue of any size: one file, or a folder of shards.

Finished chunks of a file lie in `OUT.parts` until it is whole; those of a folder are its shards. Called again
after an interruption, `predict` goes on with what is missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Unpack

import pyarrow as pa
import pyarrow.parquet

from hubblefork.errors import CatalogueError
from hubblefork.images.sources import check_apart
from hubblefork.io import Progress, alone_in, clear_partial, silent
from hubblefork.prediction.chunks import (
    MEMBER,
    Chunk,
    ChunkOfResults,
    chunks_of,
    drop_repeated,
    is_done,
    predict_chunks,
    sides_of_all,
)
from hubblefork.prediction.cluster import Task, predict_on_ray
from hubblefork.prediction.loop import (
    VIEWING,
    Images,
    Reject,
    digest_in_memory,
    image_sets,
    none_readable,
    origin_of,
    places_of,
    scale_of,
    signed,
)
from hubblefork.prediction.predictor import Predictor, Showing
from hubblefork.prediction.runtimes import open_network
from hubblefork.tables.catalogue import (
    ID,
    check_format,
    id_column,
    metadata_of,
    read_head,
    with_metadata,
    write_pieces,
)
from hubblefork.tables.names import POSITION
from hubblefork.tables.published import spelled_as
from hubblefork.tables.rejects import rejects_file
from hubblefork.tables.shards import (
    WHOLE,
    CatalogueFolder,
    Share,
    is_catalogue_folder,
    shard_table,
    write_refused,
)
from hubblefork.zoo import DecisionTree

PIECE = 2**17
CHUNK, SHARD, SHARD_OF_CLUSTER, FEWEST = 1024, 16384, 2048, 64
"""Galaxies in a chunk of a file, of a folder and of one that a cluster writes, where each has one view; and
the fewest with many views."""
ENGINES = ("", "ray")
WITHOUT_INTERVALS = ("kaggle", "friendly", "conditional")
REJECTS_HEADER = b'"member","reason"'
TOLD_APART = ("weights", "tree", "stamps", "views", "viewing", "field", "interval_coverage", "sources")
"""The metadata by which catalogues of different calls are told apart."""


@dataclass(frozen=True)
class Predicted:
    """A written catalogue: where it is, its number of galaxies, name and reason of unreadable images.

    `remarks` say what is to be known of the others.
    """

    path: Path
    galaxies: int
    rejects: list[Reject] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Call:
    """What is predicted, by what, and what is written of it.

    `adding` is given the catalogue, a piece at a time, and returns it with more columns; `columns` says how
    these are spelled (`tables.published.COLUMNS`).
    """

    predictor: Predictor
    runs: Sequence[Path]
    images: Images
    columns: str
    adding: Callable[[pa.Table], pa.Table] | None
    progress: Progress = silent

    @property
    def tree(self) -> DecisionTree:
        """The tree that is answered."""
        return self.predictor.tree

    @property
    def how(self) -> str:
        """A text that differs where predictions would."""
        weights = (network.trained.digest for network in self.predictor.networks)
        how = [*weights, self.predictor.views, VIEWING, self.predictor.field, digest_in_memory(self.images)]
        how += [str(self.predictor.reading)] if str(self.predictor.reading) else []
        return " ".join(map(str, how))

    def size(self, most: int) -> int:
        """Return the number of images in a chunk: fewer where each has several views."""
        return max(min(FEWEST, most), most // self.predictor.views)

    def finished(self, table: pa.Table, sides: Counter[int]) -> pa.Table:
        """Return ids and fractions as they are written."""
        table = signed(table, self.predictor, self.runs)
        table = with_metadata(table, {"sources": origin_of(self.images), **scale_of(self.predictor, sides)})
        return spelled_as(self.adding(table) if self.adding else table, self.tree, self.columns)

    def shard(self, results: ChunkOfResults, chunk: Chunk) -> pa.Table:
        """Return the shard of a chunk of a folder."""
        table = results.table(chunk, self.tree, self.predictor.width).drop_columns([MEMBER])
        return shard_table(self.finished(table, Counter()), self.tree)


def predict(
    run: Path,
    images: Images,
    out: Path,
    *,
    others: Sequence[Path] = (),
    columns: str = "joint",
    adding: Callable[[pa.Table], pa.Table] | None = None,
    overwrite: bool = False,
    share: Share = WHOLE,
    engine: str = "",
    address: str = "",
    device: str = "",
    runtime: str = "",
    progress: Progress = silent,
    **how: Unpack[Showing],
) -> Predicted:
    """Predict images (as in `loop.predictions`) into a catalogue; an interrupted prediction goes on.

    `run` is a run folder or a .safetensors file; with `others` their mean is predicted, `how` is that of
    `predictor.Showing`. The format follows the suffix of `out` (.parquet, .csv, .fits,
    .vot); without one a folder is written as docs/catalogue.md describes. Of it `share` (3, 64) predicts the
    third of 64 shares, and with the `engine` "ray" the workers of a cluster write it. `columns` says how
    they are spelled (`tables.published.COLUMNS`). `adding` is given the catalogue, a piece at a
    time, and returns it with more columns. Of images with one id the first is kept. Images that cannot be
    read are listed in `<out>.rejects.csv`. Raises BusyError while another process writes `out`,
    CatalogueError where it is there and not from such a call, unless `overwrite`; RunError, ImageError,
    DiskError.
    """
    is_folder = not out.suffix or is_catalogue_folder(out)
    if not is_folder:
        check_format(out)
    check_apart(out, places_of(images), inside=False)
    if adding and columns in WITHOUT_INTERVALS:
        raise CatalogueError(f"--columns {columns} has none for intervals: ask for one or the other")
    if columns != "joint" and is_folder:
        raise CatalogueError(f"{out}: --columns {columns} are written to one file: name a .csv file")
    if share != WHOLE and not is_folder:
        raise CatalogueError(f"{out}: shares are written to one folder: leave out {out.suffix}")
    if engine not in ENGINES or (engine and not is_folder):
        raise CatalogueError(f'{out}: --engine is "ray" or left out, and writes a folder: name one')
    runs = [run, *others]

    def opening() -> Call:
        networks = [open_network(place, device=device, runtime=runtime) for place in runs]
        return Call(Predictor(*networks, **how), runs, images, columns, adding)

    call = replace(opening(), progress=progress)
    if not is_folder:
        return _into_file(call, out, overwrite)
    cluster = partial(predict_on_ray, call, opening, CatalogueFolder(out), address=address)
    return _into_folder(call, out, share, overwrite, cluster if engine else None)


def _predict_what_is_left(
    call: Call,
    folder: CatalogueFolder,
    size: int,
    share: Share,
    shard: Callable[[ChunkOfResults, Chunk], pa.Table],
    cluster: Callable[[list[Task]], None] | None = None,
) -> list[str]:
    """Predict the chunks of a share that are not there; return the names of all its chunks.

    A share has every so-many-th source, or every so-many-th chunk where there are fewer sources than shares.
    """
    (share_number, of), tasks, names, counter = share, list[Task](), list[str](), count()
    sources = image_sets(call.predictor, call.images, progress=call.progress)
    by_source = len(sources) >= of
    for number, closed in enumerate(sources):
        if by_source and number % of != share_number - 1:
            continue
        with closed as source:
            chunks = chunks_of(source, size, call.how)
            mine = [chunk for chunk in chunks if by_source or next(counter) % of == share_number - 1]
            left = [chunk for chunk in mine if not is_done(folder, chunk)]
            if left:
                folder.manifest_file(share).unlink(missing_ok=True)
            if cluster is None:
                predict_chunks(source, left, folder, shard)
            tasks += [Task(number, chunk) for chunk in left]
            names += [chunk.name for chunk in mine]
    if cluster is not None and tasks:
        cluster(tasks)
    return names


# A folder


def _into_folder(
    call: Call, out: Path, share: Share, overwrite: bool, cluster: Callable[[list[Task]], None] | None
) -> Predicted:
    folder, number = CatalogueFolder(out), f"_share-{share[0]}-of-{share[1]}"
    with alone_in(out if share == WHOLE else out / number, f"writing {out}"):
        try:
            _check_folder(call, folder, overwrite)
            size = call.size(SHARD if cluster is None else SHARD_OF_CLUSTER)
            names = _predict_what_is_left(call, folder, size, share, call.shard, cluster)
            return _finish(call, folder, share, names)
        finally:
            with suppress(OSError):
                (out / number).rmdir()


def _finish(call: Call, folder: CatalogueFolder, share: Share, names: list[str]) -> Predicted:
    """Write the manifest of a share whose shards are all there."""
    if share == WHOLE:
        for path in set(folder.shards()) - set(map(folder.shard_file, names)):
            folder.remove(path)
    finished = folder.manifest_file(share).exists()
    galaxies = sum(map(folder.galaxies, names)) if finished else drop_repeated(folder, names)[0]
    rejects = [reject for name in names for reject in folder.rejects(name)]
    if not galaxies and share == WHOLE:
        folder.clear()
        raise none_readable(call.images, rejects)
    remarks = call.predictor.remarks(sides_of_all(folder, names))
    if not finished:
        folder.finish(share, {"scale": " ".join(remarks)} if remarks else {}, names)
    return Predicted(folder.path, galaxies, rejects, remarks)


def _check_folder(call: Call, folder: CatalogueFolder, overwrite: bool) -> None:
    """Raise CatalogueError where a folder holds something else than a catalogue of the same call."""
    if not is_catalogue_folder(folder.path):
        if foreign := [path.name for path in folder.path.iterdir() if not path.name.startswith(("_", "."))]:
            raise CatalogueError(
                f"{folder.path}: this folder is no catalogue: it holds {min(foreign)}; choose another name"
            )
        return
    empty = call.shard(ChunkOfResults(), Chunk("", [], ""))
    ours = metadata_of(empty)
    for path in folder.shards()[:1]:
        there = folder.read_shard(path)
        same = there.schema.names == empty.column_names
        if same and all(there.notes.get(key, "") == ours.get(key, "") for key in TOLD_APART):
            continue
        if not overwrite:
            raise CatalogueError(
                f"{folder.path}: this catalogue is there, and not known to be from the same images, network "
                "and settings; choose another name, or replace it with --overwrite (overwrite=True)"
            )
        folder.clear()


# A file


def _into_file(call: Call, out: Path, overwrite: bool) -> Predicted:
    shard = partial(ChunkOfResults.table, tree=call.tree, width=call.predictor.width)
    with alone_with(out) as parts:
        if not overwrite:
            empty = shard(ChunkOfResults(), Chunk("", [], "")).drop_columns([MEMBER])
            _check_replaceable(out, call.finished(empty.replace_schema_metadata(None), Counter()))
        names = _predict_what_is_left(call, parts, call.size(CHUNK), WHOLE, shard)
        galaxies, integers = drop_repeated(parts, names)
        rejects = [reject for name in names for reject in parts.rejects(name)]
        if not galaxies:
            parts.clear()
            raise none_readable(call.images, rejects)
        sides = sides_of_all(parts, names)
        places = (pa.parquet.read_table(parts.shard_file(name), columns=[*POSITION]) for name in names)
        known = any(column.null_count < len(column) for table in places for column in table.columns)
        pieces = _pieces(parts, names, integers, [MEMBER] if known else [MEMBER, *POSITION])
        write_pieces((call.finished(piece, sides) for piece in pieces), out)
        write_refused(rejects_file(out), rejects)
        return Predicted(out, galaxies, rejects, call.predictor.remarks(sides))


def _pieces(
    parts: CatalogueFolder, names: Sequence[str], integers: bool, left_out: list[str]
) -> Iterator[pa.Table]:
    """Yield some shards without the columns that are `left_out`, some hundred thousand galaxies at a time."""
    waiting: list[pa.Table] = []
    for last, name in enumerate(names, start=1 - len(names)):
        table = pa.parquet.read_table(parts.shard_file(name)).drop_columns(left_out)
        ids = id_column(table.column(ID)) if integers else table.column(ID)
        waiting.append(table.set_column(0, ID, ids).replace_schema_metadata(None))
        if sum(map(len, waiting)) >= PIECE or not last:
            yield pa.concat_tables(waiting).combine_chunks()
            waiting = []


@contextmanager
def alone_with(out: Path) -> Iterator[CatalogueFolder]:
    """Hold an output for this process; yield the folder of what is predicted of it so far.

    The folder is removed when the block ends well, and where it holds nothing to go on with. Raises
    BusyError when another process writes the output, CatalogueError where a folder of its user is in the
    way, DiskError.
    """
    parts = CatalogueFolder(out.with_name(f"{out.name}.parts"))
    with alone_in(parts.path, f"writing {out}"):
        if foreign := parts.foreign():
            raise CatalogueError(
                f"{parts.path}: parts of the prediction would lie there, and hubblefork did not write "
                f"{min(foreign)}; move the folder or choose another name for the output"
            )
        clear_partial(out, rejects_file(out))
        done = False
        try:
            yield parts
            done = True
        finally:
            if done or not parts.shards():
                parts.clear()
                with suppress(OSError):
                    parts.path.rmdir()


def _check_replaceable(out: Path, expected: pa.Table) -> None:
    """Raise CatalogueError where a catalogue or its rejects would replace a file that is not of such a call.

    A catalogue of the same call has the columns, with positions or without, and, but for the versions, the
    metadata of `expected`.
    """
    remedy = "choose another name, or replace it with --overwrite (overwrite=True)"
    if out.exists():
        try:
            written = read_head(out)
        except CatalogueError as error:
            raise CatalogueError(
                f"{out}: this file is there and no catalogue of predictions; {remedy}"
            ) from error
        ours, theirs = ({**metadata_of(table), "version": "", "runtime": ""} for table in (expected, written))
        here, there = (
            [name for name in table.column_names[1:] if name not in POSITION] for table in (expected, written)
        )
        if here != there or any(theirs.get(key, "") != ours[key] for key in ours):
            raise CatalogueError(
                f"{out}: this file is there, and not known to be from the same images, network and settings; "
                f"{remedy}"
            )
    path = rejects_file(out)
    if path.exists() and not path.read_bytes().startswith(REJECTS_HEADER):
        raise CatalogueError(f"{path}: this file is there and not of hubblefork; {remedy}")
