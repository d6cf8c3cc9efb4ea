"""Images straight out of zip and tar archives and folders: nothing unpacked, nothing held.

    with open_source(Path("images_training_rev1.zip")) as source:
        for name, data in source.stream():
            ...

A name is only ever a key: no path is built from it, so a member named `../../x.jpg` reaches nothing.
"""

from __future__ import annotations

import lzma
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from functools import partial
from os.path import commonpath
from pathlib import Path, PurePosixPath
from posixpath import basename, splitext
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from hubblefork.errors import CatalogueError, ImageError, did_you_mean

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
TABLE_SUFFIXES = (".csv", ".parquet", ".zip")
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
SUFFIXES = ", ".join(sorted(IMAGE_SUFFIXES))
LARGEST_MEMBER = 64 * 2**20
READ_AHEAD = 128 * 2**10
UNREADABLE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
)
REPLACE = "replace it with a whole copy or leave it out"

ImageData = bytes | NDArray[np.uint8]
Entry = tuple[str, int, Callable[[], ImageData]]


class MemberError(ImageError):
    """One member of a source that cannot be used: a `reason` in a few words and the `value` found.

    An empty `member` means the source itself, of which the other members remain usable.
    """

    def __init__(self, source: Path, member: str, reason: str, value: str, remedy: str = REPLACE) -> None:
        self.source, self.member, self.reason, self.value = (
            source,
            printable(member),
            reason,
            printable(value),
        )
        where = f"{source}: {self.member}" if member else f"{source}"
        super().__init__(f"{where}: {reason}: {self.value}; {remedy}")


@dataclass(frozen=True)
class Source:
    """The images of an archive, a folder, files or an array, one after the other; for one thread at a time.

    `defects` says what is wrong with the source beyond its members: where a truncated tar ends,
    which name stands twice (its first member counts). `key` tells an archive or folder from others.
    """

    path: Path
    defects: tuple[MemberError, ...]
    _names: tuple[str, ...]
    _entries: Callable[[], Iterable[Entry]]
    key: str = ""

    def names(self) -> list[str]:
        """Return the names of the image members, each once, in archive order (a folder: sorted)."""
        return list(self._names)

    def stream(self, names: Collection[str] | None = None) -> Iterator[tuple[str, ImageData | MemberError]]:
        """Yield the bytes of the named members (default: all) in archive order.

        A member that cannot be read, is larger than `LARGEST_MEMBER` or has a name that points
        outside yields the MemberError that says so. Raises ImageError for names that are not there.
        """
        wanted = set(self._names) if names is None else self._known(names)
        for name, size, read in self._entries() if wanted else ():
            if name in wanted:
                wanted.remove(name)
                yield name, self._attempt(name, size, read)
            if not wanted:
                return

    def _known(self, names: Collection[str]) -> set[str]:
        absent = sorted(set(names).difference(self._names))
        if absent:
            near = did_you_mean(absent[0], self._names) if len(self._names) < 1000 else ""
            raise ImageError(
                f'{self.path}: {len(absent)} images are not in it, the first "{absent[0]}"{near}; '
                "was the archive or folder changed since `hubblefork ingest`? Ingest it again"
            )
        return set(names)

    def _attempt(self, name: str, size: int, read: Callable[[], ImageData]) -> ImageData | MemberError:
        refusal = _refusal(name, size)
        if refusal:
            return MemberError(self.path, name, *refusal)
        try:
            return read()
        except UNREADABLE as error:
            return MemberError(self.path, name, "cannot be read", str(error) or type(error).__name__)


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """Open a zip, a tar (plain or compressed) or a folder; which, its content says and not its suffix.

    Raises ImageError when it is none of them, or cannot be listed. A truncated tar is usable up
    to the cut, which is one of its `defects`; a truncated zip has lost its list of members.
    """
    if path.is_dir():
        yield _indexed(path, partial(_folder_entries, path))
    elif _starts_as_zip(path):
        with path.open("rb", buffering=READ_AHEAD) as handle, _opened_zip(path, handle) as archive:
            yield _indexed(path, partial(_zip_entries, archive))
    else:
        _check_tar(path)
        yield _indexed(path, partial(_tar_entries, path))


def open_files(paths: Sequence[Path]) -> Source:
    """Return image files as one source, named by their file names. Raises ImageError where one is missing."""
    missing = [str(path) for path in paths if not path.is_file()]
    if missing or not paths:
        raise ImageError(f"{', '.join(missing) or 'no image'}: there is no such file; give {SUFFIXES} files")
    folder = Path(commonpath([path.resolve().parent for path in paths]))
    return _indexed(folder, partial(_file_entries, paths), key="\n".join(map(_key, paths)))


def open_memory(images: bytes | NDArray[np.uint8]) -> Source:
    """Return an encoded image, or an array uint8 (galaxy, y, x, 3), as a source with the names "0", "1", …

    Raises ImageError for another array.
    """
    if isinstance(images, bytes):
        entries: list[Entry] = [("0", len(images), lambda: images)]
    elif images.dtype == np.uint8 and images.shape[3:] == (3,):
        entries = [(str(row), 0, partial(images.__getitem__, row)) for row in range(len(images))]
    else:
        raise ImageError(
            f"an array of {images.dtype} with the shape {images.shape} holds no images: "
            "give uint8 with the shape (galaxy, y, x, 3), red, green and blue from 0 to 255"
        )
    return Source(Path("memory"), (), tuple(name for name, _, _ in entries), lambda: entries)


def _file_entries(paths: Sequence[Path]) -> Iterator[Entry]:
    for path in paths:
        yield path.name, path.stat().st_size, partial(_read_file, path)


def is_image(name: str) -> bool:
    """Say whether a member's name is that of an image; Mac OS's shadow files (`__MACOSX`, `._x`) are none."""
    return (
        splitext(name)[1].lower() in IMAGE_SUFFIXES
        and "__MACOSX" not in name.split("/")
        and not basename(name).startswith("._")
    )


def galaxy_id_of(name: str) -> str:
    """Return the id that a member's name carries: "images_training_rev1/100008.jpg" is "100008"."""
    return PurePosixPath(name).stem


def printable(name: str) -> str:
    """Return a name as UTF-8 can write it: bytes that are none (surrogates) as escapes."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _key(path: Path) -> str:
    return f"{path.resolve()} {path.stat().st_size}"


def _indexed(path: Path, entries: Callable[[], Iterable[Entry]], key: str = "") -> Source:
    names: dict[str, None] = {}
    defects = []
    try:
        for name, _size, _read in entries():
            if name in names:
                defects.append(MemberError(path, name, "name stands twice", name, "the first member counts"))
            elif is_image(name):
                names[name] = None
    except UNREADABLE as error:
        defects.append(MemberError(path, "", "archive is damaged", f"{error} after {len(names)} images"))
    return Source(path, tuple(defects), tuple(names), entries, key or _key(path))


def _refusal(name: str, size: int) -> tuple[str, str] | None:
    """Return reason and value when a member must not be read, else None."""
    parts = re.split(r"[/\\]", name)
    if not parts[0] or parts[0][1:2] == ":" or ".." in parts:
        return "name points outside the archive", name
    if printable(name) != name:
        return "name is not valid UTF-8", printable(name)
    if size > LARGEST_MEMBER:
        return "larger than allowed", f"{size} bytes; at most {LARGEST_MEMBER} are"
    return None


def _starts_as_zip(path: Path) -> bool:
    try:
        with path.open("rb") as handle:
            return handle.read(2) == b"PK"
    except OSError as error:
        raise ImageError(
            f"{path}: cannot be opened: {error.strerror}; give a .zip, .tar or .tar.gz of images, or a folder"
        ) from error


def _opened_zip(path: Path, handle: BinaryIO) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(handle)
    except UNREADABLE as error:
        raise ImageError(
            f"{path}: a damaged zip: its list of members, which stands at its end, cannot be read ({error}); "
            "it was probably cut short: fetch or copy it again"
        ) from error


def _zip_entries(archive: zipfile.ZipFile) -> Iterator[Entry]:
    for info in archive.infolist():
        if not info.is_dir():
            yield info.filename, info.file_size, partial(archive.read, info)


def _check_tar(path: Path) -> None:
    try:
        with tarfile.open(path):
            pass
    except UNREADABLE as error:
        raise ImageError(
            f"{path}: neither a zip nor a tar archive nor a folder; "
            "give a .zip, .tar or .tar.gz of images, or a folder of them; "
            "if it should be an archive, fetch or copy it again"
        ) from error


def _tar_entries(path: Path) -> Iterator[Entry]:
    """Walk a tar from its beginning, keeping no list; an entry is readable until the next is asked for."""
    with tarfile.open(path) as archive:
        while (info := archive.next()) is not None:
            if not info.isdir():
                yield info.name, info.size, partial(_read_tar, archive, info)
            archive.members.clear()  # type: ignore[attr-defined]
        _check_tar_end(archive)


def _check_tar_end(archive: tarfile.TarFile) -> None:
    """Raise ReadError unless the zeros stand here that end a tar: the library stops quietly at anything."""
    handle = archive.fileobj
    assert handle is not None
    handle.seek(archive.offset)
    if handle.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError(f"the archive breaks off at byte {archive.offset}")


def _read_tar(archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    handle = archive.extractfile(info) if info.isreg() else None
    if handle is None:
        raise tarfile.ReadError("a link or a device, not a file")
    return handle.read()


def _folder_entries(path: Path) -> Iterator[Entry]:
    for file in sorted(path.rglob("*")):
        if not file.is_dir():
            size = file.stat().st_size if file.is_file() else 0
            yield file.relative_to(path).as_posix(), size, partial(_read_file, file)


def _read_file(path: Path) -> bytes:
    if not path.is_file():
        raise OSError("a broken link or a device, not a file")
    return path.read_bytes()


# What was refused


@dataclass(frozen=True)
class Reject:
    """One refused image, label row or archive: where it stood, a `reason` in a few words, the `value` found.

    `member` is the name within an archive or folder, empty for the file itself; `galaxy_id` is
    empty where there is none.
    """

    source: str
    member: str
    galaxy_id: str
    reason: str
    value: str

    def __str__(self) -> str:
        where = f"{self.source}: {self.member}" if self.member else self.source
        return f"{where}: {self.reason}: {self.value}"


def reject_of(error: MemberError, galaxy_id: str = "") -> Reject:
    """Return the row for an image or archive that could not be used."""
    return Reject(str(error.source), error.member, galaxy_id, error.reason, error.value)


def write_rejects(rejects: Sequence[Reject], path: Path) -> None:
    """Write the rows as CSV with a header, every value as text."""
    names = [field.name for field in fields(Reject)]
    columns = zip(*map(astuple, rejects), strict=True) if rejects else [()] * len(names)
    pa.csv.write_csv(pa.table([pa.array(column, pa.string()) for column in columns], names), path)


def read_rejects(path: Path) -> list[Reject]:
    """Read the rows that `write_rejects` wrote."""
    names = [field.name for field in fields(Reject)]
    options = pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))
    parsing = pa.csv.ParseOptions(newlines_in_values=True)
    table = pa.csv.read_csv(path, convert_options=options, parse_options=parsing)
    return [Reject(**row) for row in table.to_pylist()]


# Which of some paths hold images, and which labels


@dataclass(frozen=True)
class Inputs:
    """Absolute paths: `sources` of images, `tables` of labels, `ignored` files; each once."""

    sources: tuple[Path, ...]
    tables: tuple[Path, ...]
    ignored: tuple[Path, ...] = ()


def find_inputs(paths: Sequence[Path], labels: Sequence[Path] = ()) -> Inputs:
    """Sort the given archives, folders and tables into images and labels.

    A folder in Kaggle's layout holds `images_*` archives (or folders) and `*solutions*` tables; its other
    files, benchmark submissions among them, are left alone. Any other folder is one of images, perhaps with
    one table of labels in it.

    `labels` are taken as they are, and then stand in for a table lying in a folder of images.
    Raises ImageError for a path that is not there or when there are no images, CatalogueError
    where several tables lie in a folder of images.
    """
    found = [_find(path.resolve(), bool(labels)) for path in paths]
    sources = _each_once(source for one in found for source in one.sources)
    if not sources:
        raise ImageError(
            f"no images among {', '.join(map(str, paths))}; give an archive or a folder of images"
        )
    tables = _each_once(
        [*(table for one in found for table in one.tables), *(path.resolve() for path in labels)]
    )
    ignored = _each_once(path for one in found for path in one.ignored)
    return Inputs(sources, tables, tuple(path for path in ignored if path not in tables))


def _find(path: Path, has_labels: bool) -> Inputs:
    if not path.exists():
        raise ImageError(f"{path}: there is no such archive or folder; give a zip, tar, tar.gz or a folder")
    if path.is_file():
        return Inputs((), (path,)) if _is_solution(path) or _is_plain_table(path) else Inputs((path,), ())
    entries = sorted(path.iterdir())
    sources = [entry for entry in entries if _is_images(entry)]
    if sources:
        return _in_kaggle_layout(entries, sources)
    return _folder_of_images(path, entries, has_labels)


def _in_kaggle_layout(entries: list[Path], sources: list[Path]) -> Inputs:
    chosen_sources = _one_of_each_stem(sources)
    chosen_tables = _one_of_each_stem(entry for entry in entries if _is_solution(entry))
    chosen = {*chosen_sources, *chosen_tables}
    return Inputs(chosen_sources, chosen_tables, tuple(entry for entry in entries if entry not in chosen))


def _folder_of_images(path: Path, entries: list[Path], has_labels: bool) -> Inputs:
    others = tuple(entry for entry in entries if entry.is_file() and not is_image(entry.name))
    tables = () if has_labels else _one_of_each_stem(entry for entry in others if _is_plain_table(entry))
    if len(tables) > 1:
        names = ", ".join(table.name for table in tables)
        raise CatalogueError(f"{path}: which of these tables holds the labels: {names}? Say it with --labels")
    return Inputs((path,), tables, tuple(entry for entry in others if entry not in tables))


def _is_images(entry: Path) -> bool:
    return entry.name.startswith("images_") and (entry.is_dir() or entry.name.endswith(ARCHIVE_SUFFIXES))


def _is_solution(entry: Path) -> bool:
    return entry.is_file() and "solutions" in entry.name and entry.suffix in TABLE_SUFFIXES


def _is_plain_table(entry: Path) -> bool:
    return entry.is_file() and entry.suffix.lower() in (".csv", ".parquet")


def _one_of_each_stem(entries: Iterable[Path]) -> tuple[Path, ...]:
    """Keep one of the forms in which a thing lies there: x.csv before x.zip, x.zip before the folder x."""
    stems: dict[str, Path] = {}
    for entry in sorted(entries, key=Path.is_dir):
        stems.setdefault(entry.name.partition(".")[0], entry)
    return tuple(sorted(stems.values()))


def _each_once(paths: Iterable[Path]) -> tuple[Path, ...]:
    return tuple(dict.fromkeys(paths))
