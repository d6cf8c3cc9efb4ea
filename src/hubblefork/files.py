"""Files that are either whole or absent: written beside their place, then renamed into it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hubblefork.errors import DiskError

REFUSALS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG),
}


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


def disk_error(path: Path, error: OSError) -> DiskError:
    """Turn the system's refusal to write `path` into a DiskError that says what to do."""
    return DiskError(
        f"{path}: could not be written: {error.strerror or error}. Nothing was left half-written; "
        "free some space or choose another folder, then run the same command again."
    )
