"""What is predicted so far lies beside the catalogue to be, until it is whole.

    OUT.parts/origin            which networks predict, and how
    OUT.parts/<source>.values   float32 (image, answer), in the order of the source
    OUT.parts/<source>.sides    int32 (image,): the shorter side of the image in pixels
    OUT.parts/<source>.done     uint64 (image,): a digest of name, size and time of a predicted image, else 0

An image that was replaced since has another digest and is predicted again, as is one that failed.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
from numpy.typing import NDArray

from hubblefork.data.archives import Source, galaxy_id_of
from hubblefork.data.catalogue import (
    ID,
    id_column,
    metadata_of,
    read_head,
    with_fractions,
    write_pieces,
)
from hubblefork.data.inputs import rejects_file
from hubblefork.errors import CatalogueError
from hubblefork.io import alone_in, disk_error, replacing, write_text
from hubblefork.zoo import DecisionTree

PIECE = 2**17
ORIGIN, OURS = "origin", "hubblefork predict"
OUR_FILES = re.compile(r"origin|[0-9a-f]{16}\.(values|sides|done)|\.origin\.\d+\.partial")


REJECTS_HEADER = b'"member","reason"'

Reject = tuple[str, str]


@dataclass
class PartOfSource:
    """The predicted images of one archive, folder or array: `done` (image,) says which of its `names`."""

    path: Path
    names: pa.Array
    marks: NDArray[np.uint64]
    width: int

    def __post_init__(self) -> None:
        self.rows = {name: row for row, name in enumerate(self.names.to_pylist())}
        before = np.zeros(len(self.marks), np.uint64)
        if self._file("done").exists():
            stored = np.fromfile(self._file("done"), np.uint64)
            before[: len(stored)] = stored[: len(before)]
        self.done = before == self.marks

    def left(self) -> list[str]:
        """Return the images that are not predicted yet, in the order of the source."""
        return self.names.filter(pa.array(~self.done)).to_pylist()

    def add(self, names: Sequence[str], values: NDArray[np.float32], sides: NDArray[np.int32]) -> None:
        """Keep the values (image, answer) of some images, and their sides (image,). Raises DiskError."""
        rows = [self.rows[name] for name in names]
        self._write("sides", rows, sides)
        self._write("values", rows, values)
        self._write("done", rows, self.marks[rows])
        self.done[rows] = True

    def values(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return the values of the predicted images among some rows."""
        if not self.done[start:stop].any():
            return np.empty((0, self.width), np.float32)
        count, offset = (stop - start) * self.width, start * self.width * 4
        values = np.fromfile(self._file("values"), np.float32, count, offset=offset)
        return values.reshape(-1, self.width)[self.done[start:stop]]

    def sides(self) -> NDArray[np.int32]:
        """Return the shorter sides of the predicted images in pixels."""
        if not self.done.any():
            return np.empty(0, np.int32)
        return np.fromfile(self._file("sides"), np.int32)[self.done]

    def _file(self, kind: str) -> Path:
        return self.path.with_suffix(f".{kind}")

    def _write(self, kind: str, rows: Sequence[int], entries: NDArray) -> None:
        """Bring entries to the disk, each at the place of its row. Raises DiskError."""
        path = self._file(kind)
        try:
            with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as handle:
                handle.truncate(len(self.marks) * entries[:1].nbytes)
                for row, entry in zip(rows, entries, strict=True):
                    handle.seek(row * entry.nbytes)
                    handle.write(entry.tobytes())
                handle.flush()
                os.fsync(handle.fileno())
        except OSError as error:
            raise disk_error(path, error) from error


@dataclass
class Parts:
    """All that is predicted of one catalogue so far."""

    folder: Path
    sources: list[PartOfSource] = field(default_factory=list)

    def of(self, source: Source, width: int) -> PartOfSource:
        """Return what is predicted of a source that is open, `width` values an image; it is the only one."""
        for former in self.sources:
            former.rows.clear()
        path = self.folder / hashlib.sha256(source.key.encode()).hexdigest()[:16]
        marks = np.array([_mark(name, version) for name, version in source.versions.items()], np.uint64)
        part = PartOfSource(path, pa.array(source.names(), pa.string()), marks, width)
        self.sources.append(part)
        return part

    def whole(self) -> Whole:
        """Return all that was predicted; of the images with one id the first is kept."""
        empty = pa.array([], pa.string())
        members = pa.chunked_array(
            [empty, *(part.names.filter(pa.array(part.done)) for part in self.sources)]
        )
        ids = _ids(members)
        kept = _first_of_each(ids)
        return Whole(self.sources, ids, kept, _repeated(ids, members, kept))

    def check_ours(self) -> None:
        """Raise CatalogueError where the folder holds a file that hubblefork did not write."""
        foreign = [path.name for path in self.folder.iterdir() if not OUR_FILES.fullmatch(path.name)]
        if (self.folder / ORIGIN).exists() and not self._origin().startswith(OURS):
            foreign.append(ORIGIN)
        if foreign:
            raise CatalogueError(
                f"{self.folder}: parts of the prediction would lie there, and hubblefork did not write "
                f"{min(foreign)}; move the folder or choose another name for the output"
            )

    def begin(self, how: str) -> None:
        """Go on with a prediction made in the same way, or begin anew. Raises DiskError."""
        if self._origin() != f"{OURS} {how}":
            for path in self.folder.iterdir():
                path.unlink()
            write_text(self.folder / ORIGIN, f"{OURS} {how}")

    def _origin(self) -> str:
        path = self.folder / ORIGIN
        return path.read_text("utf-8", "replace") if path.is_file() else ""

    def remove(self) -> None:
        """Remove them: the catalogue is written, or there is nothing to go on with."""
        for path in self.folder.iterdir():
            if OUR_FILES.fullmatch(path.name):
                path.unlink()
        with suppress(OSError):
            self.folder.rmdir()


@contextmanager
def alone_with(out: Path, how: Sequence[str] = ()) -> Iterator[Parts]:
    """Hold an output for this process; yield what is predicted of it so far in the same way.

    The parts are removed when the block ends well, and where they hold nothing to go on with. Raises
    BusyError when another process writes the output, CatalogueError where a folder of its user is in the
    way, DiskError.
    """
    parts = Parts(out.with_name(f"{out.name}.parts"))
    with alone_in(parts.folder, f"writing {out}"):
        parts.check_ours()
        try:
            parts.begin(" ".join(how))
            yield parts
        except BaseException:
            if not any(parts.folder.glob("*.done")):
                parts.remove()
            raise
        parts.remove()


@dataclass(frozen=True)
class Whole:
    """All parts of a prediction: the ids of the predicted images, which of them are kept, what is not."""

    sources: list[PartOfSource]
    ids: pa.ChunkedArray
    kept: NDArray[np.bool_]
    repeated: list[tuple[str, str]]

    def __len__(self) -> int:
        """Return how many galaxies there are."""
        return int(np.count_nonzero(self.kept))

    def sides(self) -> NDArray[np.int32]:
        """Return the shorter side of each image in pixels."""
        return np.concatenate([part.sides() for part in self.sources])[self.kept]

    def tables(self, tree: DecisionTree) -> Iterator[pa.Table]:
        """Yield ids and joint fractions, at most some hundred thousand galaxies at a time."""
        first = 0
        for part in self.sources:
            for start in range(0, len(part.marks), PIECE):
                values = part.values(start, start + PIECE)
                kept = self.kept[first : first + len(values)]
                ids = self.ids.slice(first, len(values)).filter(pa.array(kept))
                first += len(values)
                if len(ids):
                    yield with_fractions(pa.table({ID: ids}), values[kept], tree)


def _mark(name: str, version: str) -> int:
    """Return a number, never 0, that changes with an image's name, size and time."""
    digest = hashlib.blake2b(f"{name}\0{version}".encode("utf-8", "surrogateescape"), digest_size=8)
    return int.from_bytes(digest.digest(), "little") | 1


def _ids(members: pa.ChunkedArray) -> pa.ChunkedArray:
    chunks = ([galaxy_id_of(name) for name in chunk.to_pylist()] for chunk in members.chunks)
    return id_column(pa.chunked_array([pa.array(chunk, pa.string()) for chunk in chunks], pa.string()))


def _first_of_each(ids: pa.ChunkedArray) -> NDArray[np.bool_]:
    rows = pa.table({"id": ids, "row": np.arange(len(ids))})
    first = rows.group_by("id").aggregate([("row", "min")]).column("row_min")
    kept = np.zeros(len(ids), dtype=bool)
    kept[first.to_numpy()] = True
    return kept


def _repeated(
    ids: pa.ChunkedArray, members: pa.ChunkedArray, kept: NDArray[np.bool_]
) -> list[tuple[str, str]]:
    """Return the images whose id an earlier one has, with the reason that names it."""
    others = pa.array(~kept)
    again = ids.filter(others)
    firsts = pa.compute.and_(pa.compute.is_in(ids, pa.compute.unique(again)), pa.array(kept))
    first = dict(zip(ids.filter(firsts).to_pylist(), members.filter(firsts).to_pylist(), strict=True))
    pairs = zip(again.to_pylist(), members.filter(others).to_pylist(), strict=True)
    return [(name, repeated_id(galaxy_id, first[galaxy_id])) for galaxy_id, name in pairs]


def repeated_id(galaxy_id: str | int, kept: str) -> str:
    """Return the reason why an image is left out: an earlier one has its id."""
    return f"galaxy_id {galaxy_id} stands more than once; kept is {kept}"


# The output


@dataclass(frozen=True)
class Predicted:
    """A written catalogue: where it is, its number of galaxies, name and reason of unreadable images.

    `remarks` say what is to be known of the others.
    """

    path: Path
    galaxies: int
    rejects: list[Reject] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def check_replaceable(out: Path, expected: pa.Table) -> None:
    """Raise CatalogueError where a catalogue or its rejects would replace a file that is not of such a call.

    A catalogue of the same call has the columns and, but for the version, the metadata of `expected`.
    """
    remedy = "choose another name, or replace it with --overwrite (overwrite=True)"
    if out.exists():
        try:
            written = read_head(out)
        except CatalogueError as error:
            raise CatalogueError(
                f"{out}: this file is there and no catalogue of predictions; {remedy}"
            ) from error
        ours, theirs = ({**metadata_of(table), "version": ""} for table in (expected, written))
        columns = written.column_names[1:] == expected.column_names[1:]
        if not columns or any(theirs.get(key, "") != ours[key] for key in ours):
            raise CatalogueError(
                f"{out}: this file is there, and not known to be from the same images, network and settings; "
                f"{remedy}"
            )
    path = rejects_file(out)
    if path.exists() and not path.read_bytes().startswith(REJECTS_HEADER):
        raise CatalogueError(f"{path}: this file is there and not of hubblefork; {remedy}")


def write_predicted(tables: Iterator[pa.Table], made: Predicted) -> Predicted:
    """Write a catalogue that comes in pieces, and what was left out beside it. Raises DiskError."""
    write_pieces(tables, made.path)
    _write_rejects(made.path, made.rejects)
    return made


def _write_rejects(out: Path, rejects: Sequence[Reject]) -> None:
    """Write name and reason of what was left out of a catalogue. Raises DiskError."""
    path = rejects_file(out)
    if rejects:
        members, reasons = zip(*rejects, strict=True)
        with replacing(path) as temporary:
            pa.csv.write_csv(pa.table({"member": list(members), "reason": list(reasons)}), temporary)
    else:
        path.unlink(missing_ok=True)
