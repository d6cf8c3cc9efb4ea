"""The door to images: archives, folders, tables, file lists, arrays, single files; on disk or at a URL.

    with open_index([Path("tiles.tar"), Path("list.csv")]) as index:
        source, name = index.find("587722981741363294")

An index finds images by the ids of their galaxies without listing their sources. Of each the hash of its
galaxy's id is held, and the number by which the reader of its format finds it (`members.Members`). What is
found is listed then, by the rules of every source: what is refused there is not found here.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from os.path import commonpath
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hubblefork.data.archives import (
    FolderMembers,
    OpenFile,
    TarMembers,
    ZipMembers,
    file_entry,
    is_url,
    opened,
    opened_zip,
    read_file,
    version_of,
)
from hubblefork.data.arrays import HDF5_START, is_zarr, open_hdf5, open_zarr
from hubblefork.data.cutouts import band_of, brought_together, is_fits
from hubblefork.data.members import (
    FITS_SUFFIXES,
    HEAD,
    LARGEST_MEMBER,
    SUFFIXES,
    UNREADABLE,
    Entry,
    Few,
    Members,
    Place,
    Source,
    galaxy_id_of,
    held,
    indexed,
    is_named_image,
    picture_kind,
    printable,
)
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
        entries = [Entry("0", 0, "", partial(held, images))]
    elif images.dtype == np.uint8 and images.shape[3:] == (3,):
        entries = [Entry(str(row), 0, "", partial(held, image)) for row, image in enumerate(images)]
    else:
        raise ImageError(
            f"an array of {images.dtype} with the shape {images.shape} holds no images: "
            "give uint8 with the shape (galaxy, y, x, 3), red, green and blue from 0 to 255"
        )
    return Source(Path("memory"), (), (), {entry.name: "" for entry in entries}, lambda: entries)


def is_image_file(path: Path) -> bool:
    """Say whether a path, there or not, is an image by its name or its first bytes."""
    if is_named_image(path.name):
        return not path.is_dir()
    return path.is_file() and bool(picture_kind(read_file(path, HEAD)))


# Found by id


@dataclass(frozen=True)
class ImageIndex:
    """Which members of which sources are images of a galaxy; for one thread at a time.

    Members are sorted by the `hashes` of their galaxies' ids, then by `source` and `number`, all (member,).
    `files` is the pattern of names where each band is a file of its own.
    """

    sources: Sequence[Members]
    files: str
    hashes: NDArray[np.int64]
    source: NDArray[np.uint32]
    number: NDArray[np.int64]

    def find(self, galaxy_id: str) -> tuple[Source, str] | None:
        """Return the first image of a galaxy: a source with few others, and its name there; None without."""
        start, end = (np.searchsorted(self.hashes, hash(galaxy_id), side) for side in ("left", "right"))
        members = zip(self.source[start:end].tolist(), self.number[start:end].tolist(), strict=True)
        for source, there in groupby(members, lambda member: member[0]):
            listed = self.sources[source].listed([number for _, number in there])
            listed = brought_together(listed, self.files) if self.files else listed
            for name in listed.versions:
                if printable(galaxy_id_of(name)) == galaxy_id:
                    return listed, name
        return None


@contextmanager
def open_index(
    places: Sequence[Place], files: str = "", only: Iterable[pa.Array] | None = None
) -> Iterator[ImageIndex]:
    """Open the images at some paths and URLs to find them by id, of a galaxy the first.

    `files` is as for `open_source`, which see for what is raised. No image is found of galaxies whose ids are
    not in the pieces of `only`, if they are given.
    """
    with ExitStack() as stack:
        single = [place for place in places if isinstance(place, Path) and is_image_file(place)]
        sources: list[Members] = [Few(open_files(single))] if single else []
        sources += [members_of(place, stack) for place in places if place not in single]
        parts = [_members(members, files) for members in sources]
        hashes, number = (_joined(part[column] for part in parts) for column in (0, 1))
        source = np.repeat(np.arange(len(sources), dtype=np.uint32), [len(part[0]) for part in parts])
        order = np.argsort(hashes, kind="stable")
        if only is not None:
            order = order[_among(hashes[order], np.sort(_joined(_hashes(ids.to_pylist()) for ids in only)))]
        yield ImageIndex(sources, files, hashes[order], source[order], number[order])


def _members(members: Members, files: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the hash and the number of each member of a source."""
    hashes, numbers = list[NDArray[np.int64]](), list[NDArray[np.int64]]()
    for names, some in members.names():
        named = [name or "" for name in names]
        hashes.append(_hashes(_ids([band_of(name, files)[0] for name in named] if files else named)))
        numbers.append(np.asarray(some, np.int64))
    return _joined(hashes), _joined(numbers)


def _joined(parts: Iterable[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate([np.empty(0, np.int64), *parts])


def _among(hashes: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Say which of sorted hashes are among others, sorted too, shape (member,)."""
    return np.searchsorted(wanted, hashes, "right") > np.searchsorted(wanted, hashes)


def _ids(names: Sequence[str]) -> Sequence[str]:
    """Return the ids of galaxies by names; most are ids themselves, and that is seen of many at once."""
    text = "".join(names)
    if text.isascii() and not any(sign in text for sign in "./\\"):
        return names
    return [printable(galaxy_id_of(name)) for name in names]


def _hashes(ids: Sequence[str]) -> NDArray[np.int64]:
    return np.fromiter(map(hash, ids), np.int64, len(ids))
