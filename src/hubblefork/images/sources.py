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
import pyarrow.csv
from numpy.typing import NDArray

from hubblefork.errors import CatalogueError, ImageError
from hubblefork.images.archives import (
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
from hubblefork.images.arrays import HDF5_START, is_zarr, open_hdf5, open_zarr
from hubblefork.images.cutouts import band_of, brought_together, is_fits
from hubblefork.images.members import (
    ARCHIVE_SUFFIXES,
    HEAD,
    LARGEST_MEMBER,
    TABLE_SUFFIXES,
    Entry,
    Few,
    MemberError,
    Members,
    Place,
    Source,
    held,
    indexed,
    picture_kind,
)
from hubblefork.images.tables_of_images import (
    LIST_SUFFIXES,
    PARQUET_START,
    is_table_of_images,
    open_list,
    open_parquet,
)
from hubblefork.io import UNREADABLE
from hubblefork.tables.names import FITS_SUFFIXES, SUFFIXES, galaxy_id_of, is_image, is_named_image, printable
from hubblefork.tables.rejects import Reject

SOLUTIONS = "solutions"
BENCHMARKS = ("benchmark", "submission")
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


# Images and labels among some paths


@dataclass(frozen=True)
class Inputs:
    """Absolute paths: `sources` of images, `tables` of labels, `ignored` files; each once."""

    sources: tuple[Place, ...]
    tables: tuple[Path, ...]
    ignored: tuple[Path, ...] = ()


def find_inputs(paths: Sequence[Place], labels: Sequence[Path] = ()) -> Inputs:
    """Sort the given archives, folders and tables into images and labels.

    The images of a folder are its archives and folders named `images_*`, as Kaggle names them; else its other
    archives, and the image files in it. Its labels are its `*solutions*` tables; else the one other table in
    it that is no benchmark or submission. What is neither is ignored.

    A table that holds images, or a list of their files, is a source; so is a URL.

    `labels` are taken as they are, and then stand in for that other table. Raises ImageError for a path that
    is not there or when there are no images, CatalogueError where several tables may hold the labels.
    """
    inputs = [_of_place(path, bool(labels)) for path in paths]
    sources = tuple(dict.fromkeys(source for each in inputs for source in each.sources))
    if not sources:
        raise ImageError(
            f"no images among {', '.join(map(str, paths))}; give an archive or a folder of images"
        )
    tables = dict.fromkeys(table for each in inputs for table in each.tables)
    tables |= dict.fromkeys(path.resolve() for path in labels)
    ignored = dict.fromkeys(path for each in inputs for path in each.ignored if path not in tables)
    return Inputs(sources, tuple(tables), tuple(ignored))


def _of_place(place: Place, has_labels: bool) -> Inputs:
    if is_url(place):
        return Inputs((place,), ())
    path = Path(place).resolve()
    if not path.exists():
        raise ImageError(f"{path}: there is no such archive or folder; give a zip, tar, tar.gz or a folder")
    if is_zarr(path):
        return Inputs((path,), ())
    if path.is_file():
        return Inputs((), (path,)) if _is_table(path) else Inputs((path,), ())
    return _of_folder(path, sorted(path.iterdir()), has_labels)


def _of_folder(path: Path, entries: list[Path], has_labels: bool) -> Inputs:
    tables = [entry for entry in entries if _is_table(entry)]
    archives = [entry for entry in entries if entry not in tables and _is_archive(entry)]
    named = [entry for entry in entries if entry.name.startswith("images_")]
    sources = _one_of_each_stem(entry for entry in named if entry.is_dir() or entry in archives)
    if not sources:
        loose = not archives or any(is_image(str(entry.relative_to(path))) for entry in path.rglob("*"))
        sources = (*_one_of_each_stem(archives), *([path] if loose else []))
    chosen = _tables(path, tables, has_labels)
    beside = [entry for entry in entries if entry not in (*sources, *chosen)]
    return Inputs(sources, chosen, () if path in sources else tuple(beside))


def _tables(path: Path, tables: list[Path], has_labels: bool) -> tuple[Path, ...]:
    solutions = _one_of_each_stem(table for table in tables if SOLUTIONS in table.name)
    if solutions or has_labels:
        return solutions
    others = _one_of_each_stem(
        table for table in tables if not any(word in table.name.lower() for word in BENCHMARKS)
    )
    if len(others) > 1:
        names = ", ".join(table.name for table in others)
        raise CatalogueError(f"{path}: which of these tables holds the labels: {names}? Say it with --labels")
    return others


def _is_archive(entry: Path) -> bool:
    return entry.is_file() and entry.name.lower().endswith(ARCHIVE_SUFFIXES)


def _is_table(entry: Path) -> bool:
    """Say whether a file is a table of labels by its name; a zip is one when it holds a CSV and no image."""
    if not entry.is_file() or not entry.name.lower().endswith(TABLE_SUFFIXES):
        return False
    if not _is_archive(entry):
        return not is_table_of_images(entry)
    if entry.name.startswith("images"):
        return False
    try:
        with open_source(entry) as source:
            members = [other.member for other in source.left_out]
            return not source.names() and any(name.lower().endswith(".csv") for name in members)
    except ImageError:
        return SOLUTIONS in entry.name


def _one_of_each_stem(entries: Iterable[Path]) -> tuple[Path, ...]:
    """Keep one of the forms in which a thing lies there: x.csv before x.zip, x.zip before the folder x."""
    stems: dict[str, Path] = {}
    for entry in sorted(entries, key=Path.is_dir):  # images_2024.01.tar.gz has the stem images_2024.01
        endings = [end for end in (*ARCHIVE_SUFFIXES, *TABLE_SUFFIXES) if entry.name.lower().endswith(end)]
        longest = max(map(len, endings), default=0)
        stems.setdefault(entry.name[: len(entry.name) - longest], entry)
    return tuple(sorted(stems.values()))


def check_apart(out: Path, places: Iterable[Place], *, inside: bool = True) -> None:
    """Raise ImageError where `out` is one of the folders among some places, or lies `inside` one."""
    here = out.resolve()
    for place in places:
        folder = None if is_url(place) else Path(place).resolve()
        if folder in (here, *(here.parents if inside else ())) and folder.is_dir():
            where = "is" if folder == here else "is in"
            raise ImageError(
                f"{out}: this folder {where} the folder of the images, {place}: what is written there would "
                "be read as input the next time; choose a folder elsewhere (--out)"
            )


def image_names(cutouts: Path, labels: Path) -> list[str]:
    """Return the names of the images that lie beside a table of labels. Raises ImageError."""
    names = []
    for path in find_inputs([cutouts], [labels]).sources:
        with open_source(path) as source:
            names += source.names()
    return names


# What was refused


def reject_of(error: MemberError, galaxy_id: str = "") -> Reject:
    """Return the row for an image or archive that could not be used."""
    return Reject(str(error.source), error.member, galaxy_id, error.reason, error.value)
