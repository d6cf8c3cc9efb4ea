"""Files that are either whole or absent: written beside their place, then renamed into it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hubblefork.errors import DiskError

REFUSALS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends well.

    The temporary keeps the suffix of `path`, since writers choose the format by it. When the
    block fails the temporary is removed and `path` is as it was. Raises DiskError when the
    disk refuses (full, read-only, no permission).
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.errno in REFUSALS:
            raise disk_error(path, error) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


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
