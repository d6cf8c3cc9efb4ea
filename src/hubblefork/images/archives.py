"""Files on disk or at any URL that fsspec knows; zips, tars and folders, member by member: nothing unpacked.

A file at a URL (https://, s3://, gs:// …) is read by ranges. What has to be read from its beginning (a tar),
and all of a server that knows no ranges, is copied to a temporary file, which is removed when the source is
closed.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache, cached_property, partial
from itertools import islice
from pathlib import Path
from stat import S_ISREG
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

import pyarrow as pa

from hubblefork.errors import ExtraMissing, ImageError, extras
from hubblefork.images.members import UNREAD, Entry, MemberError, Names, Place, Source, beside_image, indexed
from hubblefork.io import UNREADABLE
from hubblefork.tables.names import is_hidden

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
VERSIONS = ("ETag", "etag", "LastModified", "last_modified", "mtime", "updated", "md5Hash")
READ_AHEAD = 128 * 2**10
NAMES = 2**14
"""So many names are looked at together."""
ENCRYPTED, UTF8_NAMES = 0x1, 0x800


@dataclass(frozen=True)
class _Box(ABC):
    """Members that are listed by the rules of archives and folders (`members.indexed`)."""

    path: Any
    key: str

    def names(self) -> Names:
        """Yield them as `Members` says, as far as they can be read."""
        told = self._told()
        while some := list(islice(told, NAMES)):
            yield [beside_image(name) for name, _ in some], [number for _, number in some]

    def listed(self, numbers: Sequence[int] | None = None) -> Source:
        """Return some as a source, or all."""
        return indexed(self.path, partial(self._entries, numbers), self.key)

    @abstractmethod
    def _told(self) -> Iterator[tuple[str, int]]: ...

    @abstractmethod
    def _entries(self, numbers: Sequence[int] | None) -> Iterator[Entry | MemberError]: ...


# Zips


def opened_zip(path: Place, handle: BinaryIO) -> zipfile.ZipFile:
    """Open a zip. Raises ImageError where its list of members is damaged."""
    try:
        return zipfile.ZipFile(handle)
    except UNREADABLE as error:
        raise ImageError(
            f"{path}: a damaged zip: its list of members, which stands at its end, cannot be read ({error}); "
            "was it cut short? Fetch or copy it again"
        ) from error


@dataclass(frozen=True)
class ZipMembers(_Box):
    """The members of an open zip, numbered in the order of its list."""

    archive: zipfile.ZipFile

    def _told(self) -> Iterator[tuple[str, int]]:
        return ((_zip_name(info), number) for number, info in enumerate(self.archive.infolist()))

    def _entries(self, numbers: Sequence[int] | None) -> Iterator[Entry | MemberError]:
        infos = self.archive.infolist()
        before = min((info.header_offset for info in infos), default=0) if numbers is None else 0
        if before:
            value = f"{before} bytes before the first member, perhaps another zip"
            yield MemberError(self.path, "", "not all of it is listed", value, "give the zips one by one")
        for info in infos if numbers is None else (infos[number] for number in numbers):
            if not info.is_dir():
                version = f"{info.file_size} {info.CRC:08x}"
                read = partial(_read_zip, self.archive, info)
                yield Entry(_zip_name(info), info.file_size, version, read)


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


@dataclass(frozen=True)
class TarMembers(_Box):
    """The members of a tar, numbered by the byte at which each begins; `archive` is for those of numbers.

    To list all is to walk through the `file` from its beginning, and no list is kept. Tars that stand one
    after the other in a file are one (`cat a.tar b.tar`).
    """

    file: Path
    archive: tarfile.TarFile

    def _told(self) -> Iterator[tuple[str, int]]:
        with suppress(*UNREADABLE):
            for found in self._walked():
                if not isinstance(found, MemberError):
                    yield found[1].name, found[1].offset

    def _entries(self, numbers: Sequence[int] | None) -> Iterator[Entry | MemberError]:
        for found in self._walked() if numbers is None else map(self._at, numbers):
            if isinstance(found, MemberError):
                yield found
            elif not found[1].isdir():
                version = f"{found[1].size} {found[1].mtime}"
                yield Entry(found[1].name, found[1].size, version, partial(_read_tar, *found))

    def _at(self, place: int) -> tuple[tarfile.TarFile, tarfile.TarInfo]:
        assert self.archive.fileobj is not None
        self.archive.fileobj.seek(place)
        return self.archive, tarfile.TarInfo.fromtarfile(self.archive)

    def _walked(self) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo] | MemberError]:
        """Yield the members, each readable until the next is asked for, and what is damaged."""
        with tarfile.open(self.file) as first:
            part: tarfile.TarFile | None = first
            while part is not None:
                while (info := part.next()) is not None:
                    yield part, info
                    part.members.clear()  # type: ignore[attr-defined]
                part, damage = _following_tar(first.fileobj, part.offset)
                if damage:
                    yield MemberError(self.path, "", "archive is damaged", damage)


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


@dataclass(frozen=True)
class FolderMembers(_Box):
    """The files of a folder, numbered in the order of their names, which are kept once asked for."""

    @cached_property
    def _kept(self) -> pa.Array:
        names = (name for name in _walked(self.path) if isinstance(name, str))
        return pa.array(map(os.fsencode, names), pa.large_binary())

    def _name(self, number: int) -> str:
        return os.fsdecode(self._kept[number].as_py())

    def _told(self) -> Iterator[tuple[str, int]]:
        return ((self._name(number), number) for number in range(len(self._kept)))

    def _entries(self, numbers: Sequence[int] | None) -> Iterator[Entry | MemberError]:
        for name in _walked(self.path) if numbers is None else map(self._name, numbers):
            yield name if isinstance(name, MemberError) else file_entry(self.path / name, name)


def _walked(path: Path) -> Iterator[str | MemberError]:
    """Yield the files of a folder by name, in order; linked folders are entered, each folder once."""
    entered: set[tuple[int, int]] = set()
    waiting = [iter([("", True)])]
    while waiting:
        name, is_folder = next(waiting[-1], ("", False))
        folder = path / name
        if not (name or is_folder):
            waiting.pop()
        elif not is_folder:
            yield name
        elif is_hidden(folder.name) and name:
            yield MemberError(path, name, "hidden folder", name, "rename it if it holds galaxies")
        else:
            try:
                before, status = f"{name}/" if name else "", folder.stat()
                with os.scandir(folder) as files:
                    kinds = ((file.name, Path(file) if file.is_symlink() else file) for file in files)
                    within = sorted((before + name, kind.is_dir()) for name, kind in kinds)
            except OSError as error:
                yield MemberError(path, name, UNREAD, str(error.strerror), "")
                continue
            if (status.st_dev, status.st_ino) in entered:
                yield MemberError(
                    path, name, "link to a folder that is read already", str(folder.resolve()), ""
                )
                continue
            entered.add((status.st_dev, status.st_ino))
            waiting.append(iter(within))


def file_entry(path: Path, name: str) -> Entry:
    """Return a file on disk as an entry of that name."""
    version = version_of(path)
    return Entry(name, int(version.partition(" ")[0] or 0), version, partial(read_file, path))


def version_of(path: Path) -> str:
    """Return size and time of a file as a text; an empty one of what is none."""
    try:
        status = path.stat()
    except OSError:
        return ""
    return f"{status.st_size} {status.st_mtime_ns}" if S_ISREG(status.st_mode) else ""


def read_file(path: Path, most: int) -> bytes:
    """Return so many bytes of a file, all where -1. Raises OSError."""
    if not path.is_file():
        raise OSError("a broken link or a device, not a file")
    with path.open("rb") as handle:
        return handle.read(most)


# Open files


@dataclass(frozen=True)
class OpenFile:
    """An open file: its `place`, a `version` that changes with it, a `key` of both.

    `local` returns a file on disk with the same bytes: itself, or a copy that is removed with it.
    """

    place: Place
    version: str
    key: str
    handle: BinaryIO
    local: Callable[[], Path]


def is_url(place: Place) -> bool:
    """Say whether a place is a URL, and no path."""
    return isinstance(place, str) and URL.match(place) is not None


def place_of(place: Any) -> Place:
    """Return a URL as it is, and anything else as a Path, which would make `https:/` of `https://`."""
    return place if is_url(place) else Path(place)


def beside(place: Place, name: str) -> Place:
    """Return where a file lies that a list at `place` names: an absolute path or URL, or relative to it."""
    if is_url(name):
        return name
    return f"{str(place).rpartition('/')[0]}/{name}" if is_url(place) else Path(place).parent / name


@contextmanager
def opened(place: Place) -> Iterator[OpenFile]:
    """Open a file on disk or at a URL. Raises ImageError where there is none, ExtraMissing."""
    with ExitStack() as stack:
        try:
            file = _opened_url(str(place), stack) if is_url(place) else _opened_path(Path(place), stack)
        except (ExtraMissing, ImageError):
            raise
        except Exception as error:  # each of fsspec's file systems has errors of its own
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise ImageError(
                f"{place}: cannot be opened: {why}; give a .zip, .tar or .tar.gz of images, or a folder"
            ) from error
        yield file


def _opened_path(path: Path, stack: ExitStack) -> OpenFile:
    path.stat()
    if not path.is_file():
        raise OSError("a broken link or a device, not a file")
    handle = stack.enter_context(path.open("rb", buffering=READ_AHEAD))
    version = version_of(path)
    return OpenFile(path, version, f"{path.resolve()} {version}", handle, lambda: path)


def _opened_url(url: str, stack: ExitStack) -> OpenFile:
    with extras(url):
        import fsspec

        try:
            system, path = fsspec.core.url_to_fs(url)
        except ImportError as error:
            raise ExtraMissing(f"{url}: {error}: pip install 'hubblefork[remote]'") from error
    told = system.info(path)
    version = " ".join(str(told[key]) for key in ("size", *VERSIONS) if told.get(key) is not None)
    handle = stack.enter_context(system.open(path, "rb"))

    @cache
    def local() -> Path:
        copy = Path(stack.enter_context(TemporaryDirectory())) / "copy"
        try:
            system.get_file(path, str(copy))
        except Exception as error:  # as in `opened`
            raise ImageError(f"{url}: cannot be copied to a temporary file: {error}") from error
        return copy

    if not _knows_ranges(handle):
        return OpenFile(url, version, f"{url} {version}", stack.enter_context(local().open("rb")), local)
    ranges = io.BufferedReader(_Ranges(handle), READ_AHEAD)
    return OpenFile(url, version, f"{url} {version}", ranges, local)


def _knows_ranges(handle: Any) -> bool:
    """Say whether the end of a file is readable by itself; fsspec raises a ValueError where it is not."""
    if not handle.seekable():
        return False
    try:
        handle.seek(max(handle.size - 1, 0))
        handle.read(1)
    except ValueError:
        return False
    handle.seek(0)
    return True


class _Ranges(io.RawIOBase):
    """A file of fsspec whose errors, whatever the file system's library calls them, are OSErrors."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.handle.tell()

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.handle.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        try:
            data = self.handle.read(len(buffer))
        except Exception as error:  # as in `opened`
            raise OSError(str(error) or type(error).__name__) from error
        buffer[: len(data)] = data
        return len(data)


def read_place(place: Place, most: int) -> bytes:
    """Return so many bytes of a file on disk or at a URL. Raises ImageError."""
    with opened(place) as file:
        return file.handle.read(most)
