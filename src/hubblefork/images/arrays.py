"""Images as arrays in HDF5 and Zarr: uint8 (galaxy, y, x, 3) or (galaxy, 3, y, x).

They are named by `id` beside them, else by the numbers of their rows, from 0; `ra` and `dec` are degrees,
`petro_r90` is arcsec. All have the length of the array of images. A few images are read at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hubblefork.errors import ImageError, extras
from hubblefork.images.archives import OpenFile, is_url
from hubblefork.images.members import LARGEST_MEMBER, Entry, Members, Place, Source, held
from hubblefork.images.tables_of_images import ID_COLUMNS, TARGET_COLUMNS, HeldRows, first_of, rows_source
from hubblefork.io import UNREADABLE

HDF5_START = b"\x89HDF\r\n\x1a\n"
ZARR_FILES = ("zarr.json", ".zgroup", ".zarray")
IMAGE_ARRAYS = ("images", "image")
AT_A_TIME = 16 * 2**20


def is_zarr(place: Place) -> bool:
    """Say whether a place is a Zarr array or group: on disk by its files, at a URL by its name."""
    if is_url(place):
        return str(place).rstrip("/").lower().endswith(".zarr")
    return any((Path(place) / name).is_file() for name in ZARR_FILES)


def open_hdf5(file: OpenFile, stack: ExitStack) -> Members:
    """Return the images of an open HDF5 file. Raises ImageError, ExtraMissing."""
    with extras(f"{file.place}"):
        import h5py
    try:
        root = stack.enter_context(h5py.File(file.handle, "r"))
        arrays = {name: root[name] for name in root if isinstance(root[name], h5py.Dataset)}
        return _of_arrays(file, arrays)
    except UNREADABLE as error:
        raise _unreadable(file.place, error) from error


def open_zarr(place: Place) -> Members:
    """Return the images of a Zarr array or group. Raises ImageError, ExtraMissing."""
    with extras(f"{place}"):
        import zarr
    try:
        root = zarr.open(str(place), mode="r")
        arrays = {"images": root} if isinstance(root, zarr.Array) else dict(root.arrays())
        for name, array in arrays.items():
            if "pickle" in str(array.metadata):
                raise ImageError(f"{place}: {name} is stored as pickle, which may hold code; store it anew")
        version = " ".join(str(array.metadata.to_dict()) for array in arrays.values())
        if not is_url(place):
            newest = max((path.stat().st_mtime_ns for path in Path(place).rglob("*")), default=0)
            version = str(newest)
        return _of_arrays(OpenFile(place, version, f"{place} {version}", None, Path), arrays)  # type: ignore[arg-type]
    except ImageError:
        raise
    except (*UNREADABLE, TypeError) as error:
        raise _unreadable(place, error) from error


def _unreadable(place: Place, error: Exception) -> ImageError:
    return ImageError(f"{place}: its arrays cannot be read: {error}; fetch or copy it again")


def _of_arrays(file: OpenFile, arrays: dict[str, Any]) -> Members:
    name = _images(file.place, arrays)
    images = arrays[name]
    galaxies = images.shape[0]
    identifier = first_of(arrays, ID_COLUMNS)
    known = [name for name in arrays if name.casefold() in TARGET_COLUMNS]
    for other in ([identifier] if identifier else []) + known:
        if arrays[other].shape != (galaxies,):
            raise ImageError(
                f"{file.place}: {other} has the shape {arrays[other].shape}, of {galaxies} images "
                f"in {name}: each image needs one value"
            )
    ids = map(str, range(galaxies)) if identifier is None else _texts(file.place, arrays[identifier])
    columns = {ID_COLUMNS[0]: pa.array(ids, pa.string())} | {
        key: pa.array(np.asarray(arrays[key], np.float64)) for key in known
    }
    return _Arrays(file, pa.table(columns), ID_COLUMNS[0], images)


@dataclass(frozen=True)
class _Arrays(HeldRows):
    """Rows of an array of `images`."""

    images: Any

    def listed(self, numbers: Sequence[int] | None = None) -> Source:
        """Return the images."""
        return rows_source(self.file, self.described(self.rows(numbers)), partial(self._entries, numbers))

    def _entries(self, numbers: Sequence[int] | None) -> Iterator[Entry]:
        for start, block in _blocks(self.images, numbers):
            names = self.table.column(self.identifier).slice(start, len(block)).to_pylist()
            for name, image in zip(names, block, strict=True):
                yield Entry(name, 0, self.file.version, partial(held, image))


def _images(place: Place, arrays: dict[str, Any]) -> str:
    """Return the name of the array of images. Raises ImageError where there is none, or more than one."""
    named = [name for name in IMAGE_ARRAYS if name in arrays and _holds_images(arrays[name])]
    found = named[:1] or [name for name, array in arrays.items() if _holds_images(array)]
    if len(found) == 1:
        return found[0]
    there = ", ".join(f"{name} {array.dtype} {array.shape}" for name, array in arrays.items()) or "none"
    raise ImageError(
        f"{place}: {len(found)} arrays of images where one is allowed; its arrays: {there}. Images are uint8 "
        f"(galaxy, y, x, 3) or (galaxy, 3, y, x) of at most {LARGEST_MEMBER} bytes each, named images"
    )


def _holds_images(array: Any) -> bool:
    shape = array.shape
    return (
        array.dtype == np.uint8
        and len(shape) == 4
        and 3 in (shape[3], shape[1])
        and 0 < shape[1] * shape[2] * shape[3] <= LARGEST_MEMBER
    )


def _blocks(images: Any, numbers: Sequence[int] | None) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield the first row and the pixels (galaxy, y, x, 3) of images: some together, numbered ones singly."""
    size = int(np.prod(images.shape[1:]))
    most = max(AT_A_TIME // size, 1)
    chunk = images.chunks[0] if images.chunks else most
    step = max(most // chunk, 1) * chunk if chunk <= most else most
    starts, step = (range(0, images.shape[0], step), step) if numbers is None else (numbers, 1)
    for start in starts:
        block = np.asarray(images[start : start + step])
        yield start, block if block.shape[3] == 3 else block.transpose(0, 2, 3, 1)


def _texts(place: Place, array: Any) -> list[str]:
    """Return ids, which are integers or texts. Raises ImageError."""
    values = np.asarray(array[:])
    if values.dtype.kind not in "iuSUOT":
        raise ImageError(f"{place}: ids are {values.dtype}: integers or texts are allowed")
    return [value.decode("utf-8") if isinstance(value, bytes) else str(value) for value in values.tolist()]
