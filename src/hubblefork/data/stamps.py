"""The stamps of a catalogue: one memory-mapped file, filled in any order; killed at any moment, it goes on.

    stamps = prepare(Path("data"), StampSpec(crop=212, size=64))
    stamps[5]                                           # uint8 (y, x, band), in the order of the catalogue

    folder/stamps.partial.npy    the array being filled, at its full length from the beginning
    folder/stamps.partial.toml   how it is made, and which rows are safely on the disk
    folder/stamps.npy, .toml     the finished array and how it was made

Rows are on the disk before the journal says so. The description is written before the array takes its final
name, so an array under its final name is whole and described.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tomllib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hubblefork.errors import CatalogueError, DiskError, ImageError, StampError
from hubblefork.images.archives import version_of
from hubblefork.images.cutouts import READING, Reading
from hubblefork.images.decoder import stream
from hubblefork.images.field import PIXEL, Sky, StampSpec, crop_of
from hubblefork.images.members import ImageFault
from hubblefork.images.sources import open_source
from hubblefork.io import REFUSALS, Progress, alone_in, disk_error, silent, write_text
from hubblefork.tables.catalogue import IMAGES, SKY, metadata_of, read_catalogue

CHECKPOINT_BYTES = 32 * 2**20
CATALOGUE = "catalogue.parquet"
PIXELS, DESCRIPTION = "stamps.npy", "stamps.toml"
PARTIAL, JOURNAL = "stamps.partial.npy", "stamps.partial.toml"
IDENTITY = ("galaxy_id", "member", "width", "height", "centre_red", "centre_green", "centre_blue")
METHOD = "JPEG decoded at half scale where crop >= 2 * size; central square; antialiased bicubic in float32"
LIBRARIES = ("simplejpeg", "pillow", "scipy", "numpy")

How = dict[str, Any]


def stamps_folder(data: Path, spec: StampSpec) -> Path:
    """Return where a data folder keeps the stamps of a spec."""
    return data / "stamps" / str(spec)


def prepare(
    data: Path, spec: StampSpec, *, threads: int | None = None, progress: Progress = silent
) -> np.memmap:
    """Make the stamps of a data folder's catalogue, in its order, or open them when they are there.

    They are uint8 (galaxy, y, x, band), memory-mapped.

    Interrupted in any way, the next call goes on where it stopped and ends with the same bytes.
    When the catalogue has changed since (ids, members, images), or an archive or image file (size, time),
    they are made anew.
    Raises ImageError for an image that gives no stamp (none is skipped), StampError for a folder
    of stamps made another way, BusyError for one that another process fills, CatalogueError, DiskError.
    """
    galaxies = _read_galaxies(data / CATALOGUE)
    spec = replace(spec, pixel_scale=_reading(galaxies).pixel_scale)
    folder, how = stamps_folder(data, spec), _how(galaxies, spec)
    if not _is_ready(folder, how):
        _check_sources(galaxies, data / CATALOGUE)
        _check_crop(galaxies, spec)
        with alone_in(folder, "making these stamps"):
            if not _is_ready(folder, how):  # another process may have finished them meanwhile
                with filling(folder, how) as unfinished:
                    _fill(unfinished, galaxies, spec, threads, progress)
    return open_stamps(data, spec)


def open_stamps(data: Path, spec: StampSpec) -> np.memmap:
    """Open the finished stamps of a data folder. Raises StampError when they are not there or do not fit."""
    folder = stamps_folder(data, spec)
    if not _is_finished(folder):
        raise StampError(
            f"{folder}: there are no finished stamps; `hubblefork train` and `hubblefork evaluate` make them"
        )
    path, shape = folder / PIXELS, _description(folder, spec).get("shape")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise _damaged(path, str(error)) from error
    if array.dtype != np.uint8 or list(array.shape) != shape:
        raise _damaged(path, f"it holds {array.dtype} {list(array.shape)}, {DESCRIPTION} says uint8 {shape}")
    return array


def _read_galaxies(path: Path) -> pa.Table:
    columns = ("source", *IDENTITY)
    try:
        galaxies = read_catalogue(path, (*columns, *SKY))
    except CatalogueError as error:
        raise CatalogueError(f"{error}; run `hubblefork ingest`") from error
    missing = [name for name in columns if name not in galaxies.column_names]
    if missing:
        raise CatalogueError(
            f"{path}: not a catalogue of images: it has no column {', '.join(missing)}; "
            "run `hubblefork ingest`"
        )
    return galaxies


def _how(galaxies: pa.Table, spec: StampSpec) -> How:
    """Return all that decides the bytes of `stamps.npy`; `sources` is "" where one is not there."""
    reading = _reading(galaxies)
    return {
        **_way(spec),
        **({READING: str(reading)} if str(reading) else {}),
        "shape": [len(galaxies), spec.size, spec.size, spec.bands],
        "catalogue": _digest(galaxies),
        "sources": _state_of_sources(galaxies, reading.files),
        "versions": ", ".join(f"{name} {version(name)}" for name in LIBRARIES),
    }


def _reading(galaxies: pa.Table) -> Reading:
    return Reading.noted(metadata_of(galaxies).get(READING, ""))


def _way(spec: StampSpec) -> How:
    return {"crop": spec.crop, "size": spec.size, "method": METHOD}


def _digest(galaxies: pa.Table) -> str:
    digest = hashlib.sha256(metadata_of(galaxies).get(IMAGES, "").encode())
    for name in (*IDENTITY, *_known(galaxies)):
        digest.update("\n".join(map(str, galaxies.column(name).to_pylist())).encode() + b"\0")
    return digest.hexdigest()


def _state_of_sources(galaxies: pa.Table, bands_apart: str) -> str:
    """Return a text that changes when an archive, or an image file of a folder, is replaced.

    `bands_apart` is the pattern of names where each band is a file of its own.
    """
    states = []
    for source, members in _by_source(galaxies).items():
        path = Path(source)
        if not path.exists():
            return ""
        if bands_apart and path.is_dir():
            with open_source(path, bands_apart) as together:
                states += [together.versions.get(member, "") for member in members]
            continue
        states += [
            version_of(file) for file in ([path / member for member in members] if path.is_dir() else [path])
        ]
    return hashlib.sha256("\n".join(states).encode()).hexdigest()


def _is_ready(folder: Path, how: How) -> bool:
    """Say whether finished stamps of this very catalogue and of its images as they are now are there.

    Images that are not there are not asked. Raises StampError for stamps made another way.
    """
    if not _is_finished(folder):
        return False
    made = _description(folder, StampSpec(how["crop"], how["size"], how["shape"][3]))
    if made.get("sources") and how["sources"] and made["sources"] != how["sources"]:
        return False
    return all(made.get(key) == how.get(key) for key in ("shape", "catalogue", READING))


def _description(folder: Path, spec: StampSpec) -> How:
    """Return how finished stamps were made. Raises StampError when it is unreadable or another way."""
    try:
        made = _read_toml(folder / DESCRIPTION)
    except ValueError as error:
        raise _damaged(folder / DESCRIPTION, f"it does not say how stamps were made: {error}") from error
    differing = [
        f"{key} is {made.get(key)!r}, not {asked!r}"
        for key, asked in _way(spec).items()
        if made.get(key) != asked
    ]
    if differing:
        raise StampError(
            f"{folder}: these stamps were made another way: {'; '.join(differing)}; "
            "move or delete the folder, then run the same command again"
        )
    return made


def _check_sources(galaxies: pa.Table, path: Path) -> None:
    missing = [source for source in _by_source(galaxies) if not Path(source).exists()]
    if missing:
        raise ImageError(
            f"{missing[0]}: there is no such archive or folder, and {path} has images of it; "
            "put it back, or run `hubblefork ingest` again"
        )


def _known(galaxies: pa.Table) -> list[str]:
    """Return the columns that say what is known of the sky of images."""
    return [name for name in SKY if name in galaxies.column_names]


def _skies(galaxies: pa.Table) -> list[Sky]:
    known = galaxies.select(_known(galaxies))
    return [Sky(**row) for row in known.to_pylist()] if known.column_names else [Sky()] * len(galaxies)


def _check_crop(galaxies: pa.Table, spec: StampSpec) -> None:
    """Raise ImageError where images do not show what a stamp does, StampError for a crop of another kind."""
    field, faults = _reading(galaxies).field, dict[int, ImageFault]()
    if field and spec.extent[1] != PIXEL:
        raise StampError(
            f"crop = {spec.crop}, and the images were ingested with --side {field.side:g}: each shows "
            "another part of the sky; state the crop in pixels of that side, or ingest without it"
        )
    sides = (galaxies.column(name).to_pylist() for name in ("height", "width"))
    for row, (height, width, sky) in enumerate(zip(*sides, _skies(galaxies), strict=True)):
        try:
            crop_of(height, width, spec, field, sky)
        except ImageFault as fault:
            faults[row] = fault
    if faults:
        row = min(faults)
        first = galaxies.slice(row, 1).to_pylist()[0]
        raise ImageError(
            f"{first['source']}: {first['member']}: {faults[row].reason}: {faults[row].value}; so it is with "
            f"{len(faults)} of {len(galaxies)} images; choose another crop, or leave them out: "
            f"`hubblefork ingest … --crop '{spec.crop}'`"
        )


def _fill(
    unfinished: Filling, galaxies: pa.Table, spec: StampSpec, threads: int | None, progress: Progress
) -> None:
    done = unfinished.done
    often = -(-CHECKPOINT_BYTES // (spec.size**2 * spec.bands))
    with progress("stamps", len(done), int(done.sum())) as advance:
        reading, skies = _reading(galaxies), _skies(galaxies)
        for source, rows in _by_source(galaxies, done).items():
            known = {name: skies[row] for name, row in rows.items()}
            how: How = {"names": rows, "threads": threads, "reading": reading, "skies": known}
            images = stream(Path(source), spec, **how)
            for name, pixels in images:
                if isinstance(pixels, ImageError):
                    raise ImageError(
                        f"{pixels}. It was whole when it was ingested: run `hubblefork ingest` again"
                    ) from pixels
                unfinished.put(rows[name], pixels)
                if len(unfinished.fresh) >= often:
                    advance(unfinished.checkpoint())
        advance(unfinished.settle())


def _by_source(galaxies: pa.Table, done: NDArray[np.bool_] | None = None) -> dict[str, dict[str, int]]:
    """Return the rows (default: all; else those not done yet) by source and member."""
    rows = range(len(galaxies)) if done is None else np.flatnonzero(~done).tolist()
    sources, members = (galaxies.column(name).to_pylist() for name in ("source", "member"))
    places: dict[str, dict[str, int]] = {}
    for row in rows:
        places.setdefault(sources[row], {})[members[row]] = row
    return places


# The array on disk


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
    saving: Future[int] | None = None

    def put(self, row: int, values: NDArray[np.uint8]) -> None:
        """Write one row."""
        self.fresh.append(row)
        start = self.offset + row * values.nbytes
        if os.pwrite(self.handle.fileno(), values.data, start) != values.nbytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def checkpoint(self) -> int:
        """Begin to bring the rows put so far to the disk; return how many of earlier ones became safe."""
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
def filling(folder: Path, how: How) -> Iterator[Filling]:
    """Fill the array of a folder: from where it stopped when it was made the same way, else from the start.

    When the block ends well, all rows settled, the array takes its final name. Raises DiskError when
    the disk is too full for the whole array, before the first row is made, and where it refuses later. To be
    called within `alone_in`.
    """
    try:
        done = _done_before(folder, how)
        if done is None:
            done = _start(folder, how)
        with (folder / PARTIAL).open("rb+", buffering=0) as handle, ThreadPoolExecutor(1) as background:
            yield Filling(folder, how, done, handle, len(_header(how)), background)
        _finish(folder, how)
    except OSError as error:
        if error.errno in REFUSALS:
            raise disk_error(folder / PIXELS, error) from error
        raise


def _is_finished(folder: Path) -> bool:
    return (folder / PIXELS).exists() and (folder / DESCRIPTION).exists()


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
            allocate = getattr(
                os, "posix_fallocate", lambda descriptor, _, size: os.ftruncate(descriptor, size)
            )
            allocate(handle.fileno(), 0, _bytes(how))
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
