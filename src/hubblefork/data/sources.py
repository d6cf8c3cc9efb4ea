"""The door to images: archives, folders, tables, file lists, arrays, single files; on disk or at a URL."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from os.path import commonpath
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hubblefork.data.archives import (
    FolderMembers,
    TarMembers,
    ZipMembers,
    file_entry,
    opened_zip,
    read_file,
    version_of,
)
from hubblefork.data.arrays import HDF5_START, is_zarr, open_hdf5, open_zarr
from hubblefork.data.cutouts import brought_together, is_fits
from hubblefork.data.members import (
    FITS_SUFFIXES,
    HEAD,
    LARGEST_MEMBER,
    SUFFIXES,
    UNREADABLE,
    Entry,
    Few,
    ImageData,
    Members,
    Place,
    Source,
    indexed,
    is_named_image,
    picture_kind,
    printable,
)
from hubblefork.data.remote import OpenFile, is_url, opened
from hubblefork.data.tables_of_images import LIST_SUFFIXES, PARQUET_START, open_list, open_parquet
from hubblefork.errors import ImageError

GIVE = (
    "give images, or a .zip, .tar or .tar.gz of images, or a folder of them; a Parquet file of images, "
    "a CSV of their paths, or an HDF5 or Zarr array"
)


@contextmanager
def open_source(place: Place, files: str = "") -> Iterator[Source]:
    """Open images at a path or a URL; which kind of source they are in, their content says.

    `files` is the pattern of names where each band is a file of its own (`cutouts.Reading`).

    A zip, a tar (plain or compressed), a folder, one image, a Parquet file with a column of images, a CSV or
    Parquet list of files, an HDF5 or Zarr array. A URL (https://, s3://, gs:// …) is read by ranges; of a tar
    there, a temporary copy is made for as long as it is open. Raises ImageError when it is none of them, or
    cannot be listed, ExtraMissing. A truncated tar is usable up to the cut, which is one of its `defects`; a
    truncated zip has lost its list of members.
    """
    with ExitStack() as stack:
        source = members_of(place, stack).listed()
        yield brought_together(source, files) if files else source


def members_of(place: Place, stack: ExitStack) -> Members:
    """Open images as `open_source`, which see, until `stack` is closed; none is looked at yet."""
    if printable(str(place)) != str(place):
        raise ImageError(f"{place}: its name is not valid UTF-8; rename it")
    if is_zarr(place):
        return open_zarr(place)
    if not is_url(place) and Path(place).is_dir():
        path = Path(place)
        return FolderMembers(path, f"{path.resolve()} ")
    return _of_file(stack.enter_context(opened(place)), stack)


def _of_file(file: OpenFile, stack: ExitStack) -> Members:
    head = file.handle.read(HEAD)
    file.handle.seek(0)
    if head.startswith(b"PK"):
        archive = stack.enter_context(opened_zip(file.place, file.handle))
        return ZipMembers(file.place, file.key, archive)
    if head.startswith(PARQUET_START):
        return open_parquet(file)
    if head.startswith(HDF5_START):
        return open_hdf5(file, stack)
    name = str(file.place).rpartition("/")[2]
    if picture_kind(head) or is_fits(head) or name.lower().endswith(FITS_SUFFIXES):
        if isinstance(file.place, Path):
            return Few(open_files([file.place]))
        entry = Entry(name, 0, file.version, partial(_read_handle, file))
        return Few(indexed(file.place, lambda: [entry], file.key))
    return open_list(file) if name.lower().endswith(LIST_SUFFIXES) else _of_tar(file, stack)


def _of_tar(file: OpenFile, stack: ExitStack) -> Members:
    path = file.local()
    try:
        archive = stack.enter_context(tarfile.open(path))  # noqa: SIM115
    except UNREADABLE as error:
        raise ImageError(
            f"{file.place}: neither a JPEG nor a PNG, neither a zip nor a tar archive nor a folder; {GIVE}; "
            "if it should be an archive, fetch or copy it again"
        ) from error
    return TarMembers(file.place, file.key, path, archive)


def _read_handle(file: OpenFile, most: int) -> bytes:
    file.handle.seek(0)
    return file.handle.read(most if most >= 0 else LARGEST_MEMBER + 1)


def open_files(paths: Sequence[Path]) -> Source:
    """Return image files as one source, named by their file names. Raises ImageError where one is missing."""
    missing = [str(path) for path in paths if not path.is_file()]
    if missing or not paths:
        raise ImageError(f"{', '.join(missing) or 'no image'}: there is no such file; give {SUFFIXES} files")
    folder = Path(commonpath([path.resolve().parent for path in paths]))
    key = "\n".join(f"{path.resolve()} {version_of(path)}" for path in paths)
    return indexed(folder, lambda: (file_entry(path, path.name) for path in paths), key)


def open_memory(images: bytes | NDArray[np.uint8]) -> Source:
    """Return an encoded image, or an array uint8 (galaxy, y, x, 3), as a source with the names "0", "1", …

    Raises ImageError for another array.
    """
    if isinstance(images, bytes):
        entries = [Entry("0", 0, "", partial(_in_memory, images))]
    elif images.dtype == np.uint8 and images.shape[3:] == (3,):
        entries = [Entry(str(row), 0, "", partial(_in_memory, image)) for row, image in enumerate(images)]
    else:
        raise ImageError(
            f"an array of {images.dtype} with the shape {images.shape} holds no images: "
            "give uint8 with the shape (galaxy, y, x, 3), red, green and blue from 0 to 255"
        )
    return Source(Path("memory"), (), (), {entry.name: "" for entry in entries}, lambda: entries)


def _in_memory(image: ImageData, most: int) -> ImageData:
    return image


def is_image_file(path: Path) -> bool:
    """Say whether a path, there or not, is an image by its name or its first bytes."""
    if is_named_image(path.name):
        return not path.is_dir()
    return path.is_file() and bool(picture_kind(read_file(path, HEAD)))
