"""Files to read, on disk or at any URL that fsspec knows: https://, s3://, gs:// …

A file at a URL is read by ranges. What has to be read from its beginning (a tar), and all of a server that
knows no ranges, is copied to a temporary file, which is removed when the source is closed.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from hubblefork.data.archives import READ_AHEAD, version_of
from hubblefork.data.members import Place
from hubblefork.errors import ExtraMissing, ImageError, extras

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
VERSIONS = ("ETag", "etag", "LastModified", "last_modified", "mtime", "updated", "md5Hash")


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
