"""Files that are whole or absent, TOML and JSON, progress, work in threads, amounts with units ("2h")."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import lzma
import os
import re
import struct
import tarfile
import tomllib
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

from hubblefork.errors import BusyError, DiskError, HubbleforkError, RecipeError, did_you_mean

REFUSALS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG),
}
UNREADABLE = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, OSError, RuntimeError, ValueError, LookupError, OverflowError, MemoryError),
)
"""What readers raise of bytes that they cannot read."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends well.

    The temporary keeps the suffix of `path`, since writers choose the format by it. When the
    block fails the temporary is removed and `path` is as it was. Raises DiskError when the
    disk refuses (full, read-only, no permission); errors of other files pass as they are.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    except OSError as error:
        refusal = _refusal(error, temporary)
        if refusal is None:
            raise
        raise disk_error(path, refusal) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def clear_partial(*paths: Path) -> None:
    """Remove what killed processes left of these files, which nobody else may be writing."""
    for path in paths:
        left = re.compile(rf"\.{re.escape(path.stem)}\.\d+\.partial{re.escape(path.suffix)}")
        for entry in path.parent.glob(".*.partial*"):
            if left.fullmatch(entry.name):
                entry.unlink(missing_ok=True)


def _refusal(error: OSError, temporary: Path) -> OSError | None:
    """Return the disk's refusal of our file, also where a writer raised an error of its own on top of it."""
    for cause in (error, error.__context__):
        if isinstance(cause, OSError) and cause.errno in REFUSALS:
            ours = cause.filename is None or Path(cause.filename) in (temporary, *temporary.parents)
            return cause if ours else None
    return None


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all. Raises DiskError."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def relative(path: Path, folder: Path) -> str:
    """Return a path as it is seen from a folder, so that both can be moved together."""
    return os.path.relpath(path.resolve(), folder.resolve())


def placed(place: str, now: Path, then: str) -> Path:
    """Return what lay at `place` as seen from a folder that was `then` and is `now`.

    What lies there now goes before what lay there then; an absolute path stays.
    """
    folders = [now, *([Path(then)] if then else [])]
    places = [Path(os.path.normpath(folder / place)) for folder in folders]
    with suppress(OSError):  # a name that is too long
        return next((path for path in places if path.exists()), places[-1])
    return places[-1]


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file; it is read again when its size or its time has changed."""
    status = path.stat()
    return _digest_of(path, status.st_size, status.st_mtime_ns, status.st_ino)


@lru_cache(maxsize=64)
def _digest_of(path: Path, *version: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Fields(dict[str, Any]):
    """A table of a file that was read; a field that it lacks raises `error`, which names file and remedy."""

    def __init__(
        self, entries: Mapping[str, Any], path: Path, error: type[HubbleforkError], remedy: str
    ) -> None:
        super().__init__(
            {
                name: Fields(value, path, error, remedy) if isinstance(value, dict) else value
                for name, value in entries.items()
            }
        )
        self.path, self.error, self.remedy = path, error, remedy

    def __missing__(self, name: str) -> Any:
        raise self.error(f'{self.path}: the field "{name}" is missing; {self.remedy}')

    def check(self, kinds: Mapping[str, type | tuple[type, ...]]) -> None:
        """Raise `error` for a field that is there and of another type."""
        for name, kind in kinds.items():
            if name in self and (
                not isinstance(self[name], kind) or (kind is not bool and self[name] is True)
            ):
                raise self.error(
                    f"{self.path}: {name} = {str(self[name])[:60]!r} is of a wrong type; {self.remedy}"
                )


def read_toml(path: Path, error: type[HubbleforkError], remedy: str) -> Fields:
    """Read a TOML file. Raises `error` that names the file, what is wrong and the remedy."""
    return _read_fields(path, tomllib.loads, error, remedy)


def read_json(path: Path, error: type[HubbleforkError], remedy: str) -> Fields:
    """Read a JSON file of one object, without NaN and infinities. Raises `error` as `read_toml` does."""
    return _read_fields(path, partial(json.loads, parse_constant=_refuse_constant), error, remedy)


def _read_fields(
    path: Path, parse: Callable[[str], Any], error: type[HubbleforkError], remedy: str
) -> Fields:
    try:
        entries = parse(path.read_text(encoding="utf-8"))
        if not isinstance(entries, dict):
            raise ValueError(f"it holds a {type(entries).__name__}, not a table of fields")
        return Fields(entries, path, error, remedy)
    except (OSError, ValueError, RecursionError) as fault:
        raise error(f"{path} cannot be read: {fault}; {remedy}") from fault


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


@dataclass(frozen=True)
class Packaged:
    """The TOML files of one kind that come with the package: those in the `folder` of the module `package`.

    Messages call one of them `what`, and are of the class `error`. `other` is what may be given instead of
    a name; without it a path may not.
    """

    package: str
    folder: str
    what: str
    error: type[HubbleforkError]
    other: str = "the path of a .toml file"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all, sorted."""
        files = resources.files(self.package).joinpath(self.folder).iterdir()
        return tuple(sorted(Path(file.name).stem for file in files if file.name.endswith(".toml")))

    def text(self, name: str) -> str:
        """Return the text of the one with this name, or of a .toml file. Raises `error`."""
        if self.other and name.endswith(".toml"):
            try:
                return Path(name).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise self.error(f"{name}: the {self.what} cannot be read: {error}") from error
        if name not in self.names:
            raise self.error(
                f'there is no {self.what} "{name}"{did_you_mean(name, self.names)}; '
                f"there are {', '.join(self.names)}{self.other and f'; or give {self.other}'}"
            )
        return resources.files(self.package).joinpath(self.folder, f"{name}.toml").read_text(encoding="utf-8")


def disk_error(path: Path, error: OSError) -> DiskError:
    """Turn the system's refusal to write `path` into a DiskError that says what to do."""
    return DiskError(
        f"{path}: could not be written: {error.strerror or error}. Nothing was left half-written; "
        "free some space or choose another folder, then run the same command again."
    )


@contextmanager
def alone_in(folder: Path, work: str) -> Iterator[None]:
    """Make a folder and hold it for this process; the system lets go of it however the process ends.

    `work` completes "another process is …". A file system without locks holds nothing. Raises BusyError when
    another process holds the folder, DiskError when it cannot be made.
    """
    try:
        handle = _held(folder, work)
    except OSError as error:
        raise disk_error(folder, error) from error
    try:
        yield
    finally:
        os.close(handle)


def _held(folder: Path, work: str) -> int:
    """Return the handle of a locked folder; begin again if its former holder removed it meanwhile."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(handle)
            raise BusyError(
                f"{folder}: another process is {work}; wait until it is done, then run the same command again"
            ) from error
        except OSError:
            return handle
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), folder.stat()):
                return handle
        os.close(handle)


Advance = Callable[[int], None]


class Progress(Protocol):
    """Opens one bar: `with progress("stamps", total=100, done=20) as advance: advance(1)`."""

    def __call__(self, what: str, total: int | None, done: int = 0) -> AbstractContextManager[Advance]:
        """Open a bar named `what` over `total` steps (None: unknown), `done` of them done before."""
        ...


@contextmanager
def silent(what: str, total: int | None, done: int = 0) -> Iterator[Advance]:
    """Show nothing."""
    yield lambda steps: None


# Threads

A = TypeVar("A")
T = TypeVar("T")
AHEAD = 3


def grouped(items: Iterable[A], together: int) -> Iterator[list[A]]:
    """Yield lists of so many items, the last one shorter."""
    left = iter(items)
    return iter(lambda: list(islice(left, together)), [])


def in_threads(items: Iterable[A], work: Callable[[A], T], threads: int | None = None) -> Iterator[T]:
    """Yield the results of `work` in the order of items; for each of `threads` some items are ahead."""
    threads = threads or cores()
    pool, waiting = ThreadPoolExecutor(threads), deque[Future[T]]()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= threads * AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# Amounts

SECONDS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def seconds(text: str) -> float:
    """Return how many seconds "90s", "10min", "1h 30min" or "2d" are. Raises RecipeError."""
    parts = re.findall(r"(\d+(?:\.\d*)?)\s*(s|min|m|h|d)(?![a-z])", text)
    rest = re.sub(r"(\d+(?:\.\d*)?)\s*(s|min|m|h|d)(?![a-z])", "", text).strip()
    total = sum(float(number) * SECONDS[unit] for number, unit in parts)
    if rest or not total > 0:
        raise RecipeError(f'"{text}" is no time above 0: write it as 90s, 10min, 2h or 1h30min')
    return total


def bytes_of(text: str) -> int:
    """Return how many bytes "500MB", "1.5 GB" or "2GiB" are. Raises RecipeError."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([kKmMgG]?i?[bB])\s*", text)
    if not found or not float(found[1]) > 0:
        raise RecipeError(f'"{text}" is no amount of memory above 0: write it as 500MB, 2GB or 2GiB')
    return int(float(found[1]) * BYTES[found[2].upper()])


def duration(value: float) -> str:
    """Return seconds for reading: "1 h 5 min", "2 min 30 s", "4.2 s"."""
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{value:.1f} s"
