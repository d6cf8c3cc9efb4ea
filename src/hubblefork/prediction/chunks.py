"""Predictions of many images, kept chunk by chunk: whatever stops them, what is finished stays.

A chunk is some consecutive images of a source. It becomes one shard of a `tables.shards.CatalogueFolder`,
with a digest of names and versions of its images in its metadata. The next call predicts the chunks that are
not there, those whose images have changed, and those with images that could not be read.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet
from numpy.typing import NDArray

from hubblefork.errors import CatalogueError
from hubblefork.prediction.loop import Batch, ImageSet, Reject, repeated_id
from hubblefork.tables.catalogue import ID, id_column, with_fractions, with_metadata, with_positions
from hubblefork.tables.names import Target, Targets
from hubblefork.tables.shards import MARKS, SIDES, CatalogueFolder, sides_of
from hubblefork.zoo import DecisionTree

MEMBER = "member"


@dataclass(frozen=True)
class Chunk:
    """Consecutive images of a source: the name of its shard, their names, a digest of names and versions.

    `rejects` is what the source holds beside images, listed with its first chunk. `targets` are their
    galaxies by name, where known.
    """

    name: str
    images: list[str]
    marks: str
    rejects: list[Reject] = field(default_factory=list)
    targets: Targets = field(default_factory=dict)


@dataclass
class ChunkOfResults:
    """What is predicted of a chunk so far."""

    fractions: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    sides: Counter[int] = field(default_factory=Counter)
    rejects: list[Reject] = field(default_factory=list)
    unread: int = 0

    def __len__(self) -> int:
        return len(self.ids) + len(self.rejects)

    def table(self, chunk: Chunk, tree: DecisionTree, width: int) -> pa.Table:
        """Return ids, names of images and the `width` values of each in the order of the chunk."""
        names = [name for name in chunk.images if name in self.ids]
        values = [self.fractions[name] for name in names]
        table = pa.table({ID: pa.array([self.ids[name] for name in names], pa.string())})
        table = table.append_column(MEMBER, pa.array(names, pa.string()))
        table = with_positions(table, [chunk.targets.get(name, Target()) for name in names])
        rows = np.stack(values) if values else np.empty((0, width), np.float32)
        marks = "" if self.unread else chunk.marks
        notes = {MARKS: marks, SIDES: json.dumps(self.sides)}
        return with_metadata(with_fractions(table, rows, tree), notes)


def chunks_of(source: ImageSet, size: int, how: str) -> list[Chunk]:
    """Return the chunks of a source, at most `size` images each. `how` says how they are predicted."""
    key, names = _digest([source.key]), list(source.versions)
    return [
        Chunk(
            f"{key}-{start:09}",
            images,
            _digest([how, *images, *map(source.versions.__getitem__, images)]),
            [] if start else source.rejects,
            {name: source.targets[name] for name in images if name in source.targets},
        )
        for start in range(0, len(names), size)
        for images in [names[start : start + size]]
    ]


def _digest(texts: Iterable[str]) -> str:
    text = "\0".join(texts).encode("utf-8", "surrogateescape")
    return hashlib.blake2b(text, digest_size=8).hexdigest()


def is_done(folder: CatalogueFolder, chunk: Chunk) -> bool:
    """Say whether a chunk is predicted, from the same images in the same way."""
    path = folder.shard_file(chunk.name)
    try:
        return path.exists() and folder.read_shard(path).notes.get(MARKS) == chunk.marks
    except CatalogueError:  # not a shard: it is predicted anew
        return False


def predict_chunks(
    source: ImageSet,
    chunks: Sequence[Chunk],
    folder: CatalogueFolder,
    shard: Callable[[ChunkOfResults, Chunk], pa.Table],
) -> None:
    """Predict chunks of a source; write the shard of each once all its images are there. Raises DiskError."""
    chunk_of = {name: chunk for chunk in chunks for name in chunk.images}
    results = {chunk.name: ChunkOfResults() for chunk in chunks}
    for batch in source.predict(list(chunk_of)):
        for name in _noted(batch, lambda name: results[chunk_of[name].name]):
            chunk = chunk_of[name]
            if len(results[chunk.name]) == len(chunk.images):
                whole = results.pop(chunk.name)
                folder.write_shard(chunk.name, shard(whole, chunk), [*chunk.rejects, *whole.rejects])


def _noted(batch: Batch, results_of: Callable[[str], ChunkOfResults]) -> Iterator[str]:
    """Note the results of a batch where they belong by the names of its images; yield each name."""
    columns = zip(batch.names, batch.ids, batch.sides, batch.fractions, strict=True)
    for name, galaxy_id, side, values in columns:
        results = results_of(name)
        results.ids[name], results.fractions[name] = galaxy_id, values
        results.sides[side] += 1
        yield name
    for name, reason in batch.rejects:
        results = results_of(name)
        results.rejects.append((name, reason))
        results.unread += name in batch.unread
        yield name


def sides_of_all(folder: CatalogueFolder, names: Sequence[str]) -> Counter[int]:
    """Count the images of some shards by their shorter side in pixels."""
    paths = map(folder.shard_file, names)
    return sum((sides_of(folder.read_shard(path).notes, path) for path in paths), Counter())


def drop_repeated(folder: CatalogueFolder, names: Sequence[str]) -> tuple[int, bool]:
    """Leave out of some shards the galaxies whose id stands before, and list them among the rejects.

    Of each id eight bytes are in memory. Returns the number of galaxies, and whether all ids are integers.
    """
    hashes, integers = [np.empty(0, np.int64)], True
    for name in names:
        ids = pa.parquet.read_table(folder.shard_file(name), columns=[ID]).column(ID)
        integers = integers and pa.types.is_integer(id_column(ids).type)
        hashes.append(np.fromiter(map(hash, ids.to_pylist()), np.int64, len(ids)))
    every = np.sort(np.concatenate(hashes))
    twice, dropped = set(every[1:][every[1:] == every[:-1]].tolist()), 0
    kept: dict[str, str] = {}
    for name in names if twice else ():
        dropped += _drop(folder, name, twice, kept)
    return len(every) - dropped, integers


def _drop(folder: CatalogueFolder, name: str, twice: set[int], kept: dict[str, str]) -> int:
    """Leave out of a shard the ids that are `kept` already, with their images; note those of `twice`."""
    table = pa.parquet.read_table(folder.shard_file(name))
    members = table.column(MEMBER if MEMBER in table.column_names else ID).to_pylist()
    stays, rejects = np.ones(len(table), dtype=bool), list[Reject]()
    for row, (galaxy_id, member) in enumerate(zip(table.column(ID).to_pylist(), members, strict=True)):
        if galaxy_id in kept:
            stays[row] = False
            rejects.append((member, repeated_id(galaxy_id, kept[galaxy_id])))
        elif hash(galaxy_id) in twice:
            kept[galaxy_id] = member
    if rejects:
        folder.write_shard(name, table.filter(pa.array(stays)), [*folder.rejects(name), *rejects])
    return len(rejects)
