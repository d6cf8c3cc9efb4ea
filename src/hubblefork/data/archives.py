"""Images straight out of zip and tar archives and folders: nothing unpacked, nothing held.

A name is only ever a key: no path is built from it, so a member named `../../x.jpg` reaches nothing. Every
member is an image, or one of `defects` and `left_out` with the reason; only the files that operating systems
leave behind (`__MACOSX`, `._x`, `.DS_Store`, `Thumbs.db`) are passed over in silence.
"""

from __future__ import annotations

import lzma
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from os.path import commonpath
from pathlib import Path
from posixpath import splitext
from stat import S_ISREG
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hubblefork.errors import ImageError, did_you_mean

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
TABLE_SUFFIXES = (".csv", ".parquet", ".zip", ".tsv", ".csv.gz", ".csv.bz2", ".csv.xz", ".csv.zst")
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".png"})
OTHER_SUFFIXES = frozenset({".tif", ".tiff", ".webp", ".gif", ".bmp", ".fits", ".fit"})
SUFFIXES = ", ".join(sorted(IMAGE_SUFFIXES))
HEAD, JPEG_START, PNG_START = 16, b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
SYSTEM_FILES, SYSTEM_FOLDER = frozenset({".ds_store", "thumbs.db", "desktop.ini"}), "__MACOSX"
LARGEST_MEMBER, READ_AHEAD = 64 * 2**20, 128 * 2**10
ENCRYPTED, UTF8_NAMES = 0x1, 0x800
UNREADABLE = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, OSError, RuntimeError, ValueError, LookupError, OverflowError, MemoryError),
)
REPLACE = "replace it with a whole copy or leave it out"

ImageData = bytes | NDArray[np.uint8]


class Entry(NamedTuple):
    """A member: name, size in bytes, a `version` that changes with it, and what reads so many bytes."""

    name: str
    size: int
    version: str
    read: Callable[[int], ImageData]


class MemberError(ImageError):
    """One member of a source that cannot be used: a `reason` in a few words and the `value` found.

    An empty `member` means the source itself, of which the other members remain usable.
    """

    def __init__(self, source: Path, member: str, reason: str, value: str, remedy: str = REPLACE) -> None:
        self.source, self.member, self.reason = source, printable(member), reason
        self.galaxy_id, self.value = printable(galaxy_id_of(member)), printable(value)
        where = f"{source}: {self.member}" if member else f"{source}"
        super().__init__(f"{where}: {reason}: {self.value}; {remedy}")


@dataclass(frozen=True)
class Source:
    """The images of an archive, a folder, files or an array, one after the other; for one thread at a time.

    `defects` are images that cannot be used and damage of the source itself: where a truncated tar ends,
    which name stands twice (its first member counts). `left_out` are the files that are no images. `versions`
    maps the names of the images to a text that changes when the image does. `key` tells sources apart, and an
    archive from one that replaced it.
    """

    path: Path
    defects: tuple[MemberError, ...]
    left_out: tuple[MemberError, ...]
    versions: dict[str, str]
    _entries: Callable[[], Iterable[Entry | MemberError]]
    key: str = ""

    def names(self) -> list[str]:
        """Return the names of the image members, each once, in archive order (a folder: sorted)."""
        return list(self.versions)

    def stream(self, names: Collection[str] | None = None) -> Iterator[tuple[str, ImageData | MemberError]]:
        """Yield the bytes of the named members (default: all) in archive order.

        A member that cannot be read yields the MemberError that says so. Raises ImageError for names that are
        not there.
        """
        left = set(self.versions) if names is None else self._checked(names)
        why = "it is no longer there"
        try:
            for entry in self._entries() if left else ():
                if isinstance(entry, Entry) and entry.name in left:
                    left.remove(entry.name)
                    yield entry.name, _attempt(self.path, entry)
                if not left:
                    return
        except UNREADABLE as error:
            why = str(error)
        for name in self.versions:
            if name in left:
                yield name, MemberError(self.path, name, "cannot be read", why)

    def _checked(self, names: Collection[str]) -> set[str]:
        absent = sorted(set(names).difference(self.versions))
        if absent:
            near = did_you_mean(absent[0], self.versions) if len(self.versions) < 1000 else ""
            raise ImageError(
                f'{self.path}: {len(absent)} images are not in it, the first "{absent[0]}"{near}; '
                "was the archive or folder changed since `hubblefork ingest`? Ingest it again"
            )
        return set(names)


def _attempt(path: Path, entry: Entry, most: int = -1) -> ImageData | MemberError:
    """Return so many bytes of a member, all by default, or the error that says why it cannot be read."""
    try:
        return entry.read(most)
    except UNREADABLE as error:
        return MemberError(path, entry.name, "cannot be read", str(error) or type(error).__name__)


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """Open a zip, a tar (plain or compressed), a folder or one image; which, its content says.

    Raises ImageError when it is none of them, or cannot be listed. A truncated tar is usable up
    to the cut, which is one of its `defects`; a truncated zip has lost its list of members.
    """
    if printable(str(path)) != str(path):
        raise ImageError(f"{path}: its name is not valid UTF-8; rename it")
    if path.is_dir():
        yield _indexed(path, partial(_folder_entries, path))
        return
    head = _head(path)
    if head.startswith(b"PK"):
        with path.open("rb", buffering=READ_AHEAD) as handle, _opened_zip(path, handle) as archive:
            yield _indexed(path, partial(_zip_entries, path, archive))
    elif head.startswith((JPEG_START, PNG_START)):
        yield open_files([path])
    else:
        _check_tar(path)
        yield _indexed(path, partial(_tar_entries, path))


def open_files(paths: Sequence[Path]) -> Source:
    """Return image files as one source, named by their file names. Raises ImageError where one is missing."""
    missing = [str(path) for path in paths if not path.is_file()]
    if missing or not paths:
        raise ImageError(f"{', '.join(missing) or 'no image'}: there is no such file; give {SUFFIXES} files")
    folder = Path(commonpath([path.resolve().parent for path in paths]))
    key = "\n".join(f"{path.resolve()} {version_of(path)}" for path in paths)
    return _indexed(folder, lambda: (_file_entry(path, path.name) for path in paths), key)


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


# Which members are galaxies, and what their ids are


def galaxy_id_of(name: str) -> str:
    """Return the id that a member's name carries: the text of the file's name without the ending of an image.

    "images_training_rev1/100008.jpg" is "100008" and so is "images\\\\100008.jpg" in a zip from Windows;
    "J0945+11.2" has no such ending and stays.
    """
    base = _parts(name)[-1]
    stem, suffix = splitext(base)
    return stem if suffix.lower() in IMAGE_SUFFIXES | OTHER_SUFFIXES else base


def is_image(name: str) -> bool:
    """Say whether a member has the name of an image; files of the system and hidden ones are none."""
    return _is_named_image(name) and not _is_of_system(name) and not _is_hidden(name)


def is_image_file(path: Path) -> bool:
    """Say whether a path, there or not, is an image by its name or its first bytes."""
    if _is_named_image(path.name):
        return not path.is_dir()
    return path.is_file() and _head(path).startswith((JPEG_START, PNG_START))


def printable(name: str) -> str:
    """Return a name as UTF-8 can write it: bytes that are none (surrogates) as escapes."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _parts(name: str) -> list[str]:
    return re.split(r"[/\\]", name)


def _is_named_image(name: str) -> bool:
    return splitext(name)[1].lower() in IMAGE_SUFFIXES


def _is_of_system(name: str) -> bool:
    *folders, base = _parts(name)
    return SYSTEM_FOLDER in folders or base.startswith("._") or base.lower() in (*SYSTEM_FILES, "")


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") and part.strip(".") for part in _parts(name))


def _indexed(path: Path, entries: Callable[[], Iterable[Entry | MemberError]], key: str = "") -> Source:
    """List a source: each member is an image, a defect or left out."""
    versions: dict[str, str] = {}
    defects: list[MemberError] = []
    left_out: list[MemberError] = []
    try:
        for entry in entries():
            if isinstance(entry, MemberError):
                (left_out if entry.member else defects).append(entry)
            elif _is_of_system(entry.name):
                continue
            elif other := _other_than_image(path, entry):
                left_out.append(other)
            elif refusal := _refusal(entry.name, entry.size):
                defects.append(MemberError(path, entry.name, *refusal))
            elif entry.name in versions:
                twice = "name stands twice", entry.name, "the first member counts"
                defects.append(MemberError(path, entry.name, *twice))
            else:
                versions[entry.name] = entry.version
    except UNREADABLE as error:
        defects.append(MemberError(path, "", "archive is damaged", f"{error} after {len(versions)} images"))
    key = key or f"{path.resolve()} {'' if path.is_dir() else version_of(path)}"
    return Source(path, tuple(defects), tuple(left_out), versions, entries, printable(key))


def _other_than_image(path: Path, entry: Entry) -> MemberError | None:
    """Return why a member is no image by its name nor by its first bytes; None where it is one."""
    name = entry.name
    if _is_hidden(name):
        return MemberError(path, name, "hidden file", name, "rename it if it is a galaxy")
    if _is_named_image(name):
        return None
    if name.lower().endswith(ARCHIVE_SUFFIXES):
        return MemberError(path, name, "archive within it", name, "unpack it or name it by itself")
    head = _attempt(path, entry, HEAD)
    if isinstance(head, MemberError):
        return head
    if bytes(head).startswith((JPEG_START, PNG_START)):
        return None
    begins = f"begins with {bytes(head)!r}"
    return MemberError(path, name, "neither a JPEG nor a PNG", begins, "convert it or leave it out")


def _refusal(name: str, size: int) -> tuple[str, str] | None:
    """Return reason and value when an image must not be read, else None."""
    parts = _parts(name)
    if ".." in parts or (len(parts) > 1 and re.fullmatch(r"([A-Za-z]:)?", parts[0])):
        return "name points outside the archive", name
    if printable(name) != name:
        return "name is not valid UTF-8", name
    if size > LARGEST_MEMBER:
        return "larger than allowed", f"{size} bytes; at most {LARGEST_MEMBER} are"
    return None


# Zips


def _head(path: Path) -> bytes:
    try:
        path.stat()
        return _read_file(path, HEAD)
    except OSError as error:
        raise ImageError(
            f"{path}: cannot be opened: {error.strerror or error}; "
            "give a .zip, .tar or .tar.gz of images, or a folder"
        ) from error


def _opened_zip(path: Path, handle: BinaryIO) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(handle)
    except UNREADABLE as error:
        raise ImageError(
            f"{path}: a damaged zip: its list of members, which stands at its end, cannot be read ({error}); "
            "was it cut short? Fetch or copy it again"
        ) from error


def _zip_entries(path: Path, archive: zipfile.ZipFile) -> Iterator[Entry | MemberError]:
    before = min((info.header_offset for info in archive.infolist()), default=0)
    if before:
        value = f"{before} bytes before the first member, perhaps another zip"
        yield MemberError(path, "", "not all of it is listed", value, "give the zips one by one")
    for info in archive.infolist():
        if not info.is_dir():
            version = f"{info.file_size} {info.CRC:08x}"
            yield Entry(_zip_name(info), info.file_size, version, partial(_read_zip, archive, info))


def _zip_name(info: zipfile.ZipInfo) -> str:
    """Return a member's name. Many programs write UTF-8 without the mark that says so."""
    if info.flag_bits & UTF8_NAMES:
        return info.filename
    return info.filename.encode("cp437").decode("utf-8", "surrogateescape")


def _read_zip(archive: zipfile.ZipFile, info: zipfile.ZipInfo, most: int) -> bytes:
    if info.flag_bits & ENCRYPTED:
        raise zipfile.BadZipFile("it is encrypted")
    with archive.open(info) as handle:
        return handle.read(most)


# Tars


def _check_tar(path: Path) -> None:
    try:
        tarfile.open(path).close()
    except UNREADABLE as error:
        raise ImageError(
            f"{path}: neither a JPEG nor a PNG, neither a zip nor a tar archive nor a folder; "
            "give images, or a .zip, .tar or .tar.gz of images, or a folder of them; "
            "if it should be an archive, fetch or copy it again"
        ) from error


def _tar_entries(path: Path) -> Iterator[Entry | MemberError]:
    """Walk a tar from its beginning, keeping no list; an entry is readable until the next is asked for.

    Tars that stand one after the other in a file are one (`cat a.tar b.tar`).
    """
    with tarfile.open(path) as first:
        archive: tarfile.TarFile | None = first
        while archive is not None:
            while (info := archive.next()) is not None:
                if not info.isdir():
                    version = f"{info.size} {info.mtime}"
                    yield Entry(info.name, info.size, version, partial(_read_tar, archive, info))
                archive.members.clear()  # type: ignore[attr-defined]
            archive, damage = _following_tar(first.fileobj, archive.offset)
            if damage:
                yield MemberError(path, "", "archive is damaged", damage)


def _following_tar(handle: Any, end: int) -> tuple[tarfile.TarFile | None, str]:
    """Return the tar that begins after the `end` of another in a file, if one does, and what is damaged.

    The library stops quietly at anything, so that between the two nothing but zeros may stand.
    """
    handle.seek(end)
    place, damaged = end, -1
    while (block := handle.read(tarfile.BLOCKSIZE)) and not _is_header(block):
        if damaged < 0 and block.strip(b"\0"):
            damaged = place
        place += len(block)
    damaged = end if place == end else damaged
    handle.seek(place)
    archive = tarfile.TarFile(fileobj=handle) if block else None
    rest = f" and goes on at byte {place}" if block else ""
    return archive, f"it breaks off at byte {damaged}{rest}" if damaged >= 0 else ""


def _is_header(block: bytes) -> bool:
    try:
        return bool(tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape"))
    except tarfile.HeaderError:
        return False


def _read_tar(archive: tarfile.TarFile, info: tarfile.TarInfo, most: int) -> bytes:
    handle = archive.extractfile(info) if info.isreg() else None
    if handle is None:
        raise tarfile.ReadError("a link or a device, not a file")
    return handle.read(most)


# Folders and files


def _folder_entries(path: Path) -> Iterator[Entry | MemberError]:
    """Walk a folder in the order of names; linked folders are entered, each folder once."""
    entered: set[tuple[int, int]] = set()
    waiting = [path]
    while waiting:
        file = waiting.pop()
        name = file.relative_to(path).as_posix()
        if not file.is_dir():
            yield _file_entry(file, name)
        elif file != path and _is_hidden(file.name):
            yield MemberError(path, name, "hidden folder", name, "rename it if it holds galaxies")
        else:
            try:
                status, files = file.stat(), sorted(file.iterdir(), reverse=True)
            except OSError as error:
                yield MemberError(path, name, "cannot be read", str(error.strerror), "")
                continue
            if (status.st_dev, status.st_ino) in entered:
                yield MemberError(
                    path, name, "link to a folder that is read already", str(file.resolve()), ""
                )
                continue
            entered.add((status.st_dev, status.st_ino))
            waiting.extend(files)


def _file_entry(path: Path, name: str) -> Entry:
    version = version_of(path)
    return Entry(name, int(version.partition(" ")[0] or 0), version, partial(_read_file, path))


def version_of(path: Path) -> str:
    """Return size and time of a file as a text; an empty one of what is none."""
    try:
        status = path.stat()
    except OSError:
        return ""
    return f"{status.st_size} {status.st_mtime_ns}" if S_ISREG(status.st_mode) else ""


def _read_file(path: Path, most: int) -> bytes:
    if not path.is_file():
        raise OSError("a broken link or a device, not a file")
    with path.open("rb") as handle:
        return handle.read(most)
