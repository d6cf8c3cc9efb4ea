"""An array on disk, filled row by row in any order; killed at any moment, it goes on where it stopped.

    folder/stamps.partial.npy    the array being filled, at its full length from the beginning
    folder/stamps.partial.toml   how it is made, and which rows are safely on the disk
    folder/stamps.npy, .toml     the finished array and how it was made

Rows are on the disk before the journal says so. The description is written before the array takes
its final name, so an array under its final name is whole and described.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import tomllib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from hubblefork.errors import DiskError, StampError
from hubblefork.io import REFUSALS, disk_error, write_text

PIXELS, DESCRIPTION = "stamps.npy", "stamps.toml"
PARTIAL, JOURNAL = "stamps.partial.npy", "stamps.partial.toml"
TOGETHER = 32

How = dict[str, Any]


@dataclass
class Filling:
    """An unfinished uint8 array: which rows are `done`, and those put since the last checkpoint (`fresh`).

    Rows are brought to the disk in the background, so that nothing waits for a slow one.
    """

    folder: Path
    how: How
    done: NDArray[np.bool_]
    handle: BinaryIO
    offset: int
    background: ThreadPoolExecutor
    fresh: list[int] = field(default_factory=list)
    unwritten: list[NDArray[np.uint8]] = field(default_factory=list)
    saving: Future[int] | None = None

    def put(self, row: int, values: NDArray[np.uint8]) -> None:
        """Take one row; those that follow one another are written together."""
        if self.unwritten and (row != self.fresh[-1] + 1 or len(self.unwritten) == TOGETHER):
            self._write()
        self.fresh.append(row)
        self.unwritten.append(values)

    def _write(self) -> None:
        rows, self.unwritten = self.unwritten, []
        length = sum(row.nbytes for row in rows)
        start = self.offset + (self.fresh[-1] + 1 - len(rows)) * rows[0].nbytes
        if os.pwritev(self.handle.fileno(), [row.data for row in rows], start) != length:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def checkpoint(self) -> int:
        """Begin to bring the rows put so far to the disk; return how many of earlier ones became safe."""
        if self.unwritten:
            self._write()
        safe = self.saving.result() if self.saving else 0
        self.saving = self.background.submit(self._save, self.fresh)
        self.fresh = []
        return safe

    def settle(self) -> int:
        """Bring all rows put so far to the disk; return how many have become safe."""
        return self.checkpoint() + self.checkpoint()

    def _save(self, rows: list[int]) -> int:
        if rows:
            os.fsync(self.handle.fileno())
            self.done[rows] = True
            _write_journal(self.folder, self.how, self.done)
        return len(rows)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Make the folder and hold it for this process; the system lets go of it however the process ends.

    Raises StampError when another process holds it, DiskError when the disk refuses anything in the block.
    """
    with _refusals_told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
        try:
            _lock(folder, handle)
            yield
        finally:
            os.close(handle)


@contextmanager
def filling(folder: Path, how: How) -> Iterator[Filling]:
    """Fill the array of a folder: from where it stopped when it was made the same way, else from the start.

    When the block ends well, all rows settled, the array takes its final name. Raises DiskError when
    the disk is too full for the whole array, before the first row is made. To be called within `alone_in`.
    """
    done = _done_before(folder, how)
    if done is None:
        done = _start(folder, how)
    with (folder / PARTIAL).open("rb+", buffering=0) as handle, ThreadPoolExecutor(1) as background:
        yield Filling(folder, how, done, handle, len(_header(how)), background)
    _finish(folder, how)


def is_finished(folder: Path) -> bool:
    """Say whether a folder holds a finished array."""
    return (folder / PIXELS).exists() and (folder / DESCRIPTION).exists()


def read_how(folder: Path) -> How:
    """Return how the finished array was made. Raises StampError when its description is damaged."""
    try:
        return _read_toml(folder / DESCRIPTION)
    except ValueError as error:
        raise StampError(
            f"{folder / DESCRIPTION}: does not say how stamps were made: {error}; "
            f"delete the folder {folder}, then run the same command again"
        ) from error


def open_array(folder: Path) -> np.memmap:
    """Return the finished array, memory-mapped for reading. Raises StampError when it is damaged."""
    path, shape = folder / PIXELS, read_how(folder).get("shape")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise _damaged(path, str(error)) from error
    if array.dtype != np.uint8 or list(array.shape) != shape:
        raise _damaged(path, f"it holds {array.dtype} {list(array.shape)}, {DESCRIPTION} says uint8 {shape}")
    return array


def _damaged(path: Path, what: str) -> StampError:
    return StampError(
        f"{path}: damaged: {what}; delete the folder {path.parent}, then run the same command again"
    )


def _done_before(folder: Path, how: How) -> NDArray[np.bool_] | None:
    """Return which rows are done; None when there is nothing to go on with."""
    try:
        journal = _read_toml(folder / JOURNAL)
        whole = (folder / PARTIAL).stat().st_size == _bytes(how)
    except (FileNotFoundError, ValueError):
        return None
    ranges = journal.pop("done", None)
    if ranges is None or journal != how or not whole:
        return None
    done = np.zeros(how["shape"][0], dtype=bool)
    for start, stop in ranges:
        done[start:stop] = True
    return done


def _start(folder: Path, how: How) -> NDArray[np.bool_]:
    """Remove what was there, lay out the whole file, so that a full disk shows now, and open its journal."""
    for name in (DESCRIPTION, PIXELS, JOURNAL, PARTIAL):
        (folder / name).unlink(missing_ok=True)
    path = folder / PARTIAL
    try:
        with path.open("wb") as handle:
            handle.write(_header(how))
            handle.flush()
            _allocate(handle.fileno(), _bytes(how))
    except OSError as error:
        path.unlink(missing_ok=True)
        free = shutil.disk_usage(folder).free
        raise DiskError(
            f"{path}: {_bytes(how)} bytes are needed and could not be had, {free} are free: "
            f"{error.strerror or error}. Nothing was left behind; free some space or choose another folder, "
            "then run the same command again."
        ) from error
    done = np.zeros(how["shape"][0], dtype=bool)
    _write_journal(folder, how, done)
    return done


def _allocate(descriptor: int, length: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, length)
    else:
        os.ftruncate(descriptor, length)


def _finish(folder: Path, how: How) -> None:
    write_text(folder / DESCRIPTION, _toml(how))
    (folder / PARTIAL).replace(folder / PIXELS)
    (folder / JOURNAL).unlink()


def _write_journal(folder: Path, how: How, done: NDArray[np.bool_]) -> None:
    edges = np.flatnonzero(np.diff(done, prepend=False, append=False))
    write_text(folder / JOURNAL, _toml({**how, "done": edges.reshape(-1, 2).tolist()}))


def _read_toml(path: Path) -> How:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def _toml(entries: How) -> str:
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in entries.items())


def _header(how: How) -> bytes:
    written = BytesIO()
    described = {"descr": "|u1", "fortran_order": False, "shape": tuple(how["shape"])}
    np.lib.format.write_array_header_1_0(written, described)
    return written.getvalue()


def _bytes(how: How) -> int:
    return len(_header(how)) + int(np.prod(how["shape"]))


@contextmanager
def _refusals_told(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in REFUSALS:
            raise disk_error(folder / PIXELS, error) from error
        raise


def _lock(folder: Path, handle: int) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StampError(
            f"{folder}: another process is making these stamps; wait until it is done, "
            "then run the same command again"
        ) from error
