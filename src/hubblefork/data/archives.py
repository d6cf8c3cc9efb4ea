"""Zips, tars, folders and files, member by member: nothing unpacked, nothing held."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from stat import S_ISREG
from typing import Any, BinaryIO

from hubblefork.data.members import UNREAD, UNREADABLE, Entry, MemberError, Place, is_hidden
from hubblefork.errors import ImageError

READ_AHEAD = 128 * 2**10
ENCRYPTED, UTF8_NAMES = 0x1, 0x800


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


def zip_entries(path: Place, archive: zipfile.ZipFile) -> Iterator[Entry | MemberError]:
    """Walk the members of a zip in the order of its list."""
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


def tar_entries(path: Place, file: Path) -> Iterator[Entry | MemberError]:
    """Walk a tar from its beginning, keeping no list; an entry is readable until the next is asked for.

    Tars that stand one after the other in a file are one (`cat a.tar b.tar`).
    """
    with tarfile.open(file) as first:
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


def folder_entries(path: Path) -> Iterator[Entry | MemberError]:
    """Walk a folder in the order of names; linked folders are entered, each folder once."""
    entered: set[tuple[int, int]] = set()
    waiting = [path]
    while waiting:
        file = waiting.pop()
        name = file.relative_to(path).as_posix()
        if not file.is_dir():
            yield file_entry(file, name)
        elif file != path and is_hidden(file.name):
            yield MemberError(path, name, "hidden folder", name, "rename it if it holds galaxies")
        else:
            try:
                status, files = file.stat(), sorted(file.iterdir(), reverse=True)
            except OSError as error:
                yield MemberError(path, name, UNREAD, str(error.strerror), "")
                continue
            if (status.st_dev, status.st_ino) in entered:
                yield MemberError(
                    path, name, "link to a folder that is read already", str(file.resolve()), ""
                )
                continue
            entered.add((status.st_dev, status.st_ino))
            waiting.extend(files)


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
