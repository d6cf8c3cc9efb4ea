"""Which of some paths hold images, and which labels; the list of what was refused of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.csv

from hubblefork.data.archives import is_url
from hubblefork.data.arrays import is_zarr
from hubblefork.data.members import ARCHIVE_SUFFIXES, TABLE_SUFFIXES, MemberError, Place, is_image
from hubblefork.data.sources import open_source
from hubblefork.data.tables_of_images import is_table_of_images
from hubblefork.errors import CatalogueError, ImageError

SOLUTIONS = "solutions"
T = TypeVar("T")
BENCHMARKS = ("benchmark", "submission")


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
    sources = _each_once(source for each in inputs for source in each.sources)
    if not sources:
        raise ImageError(
            f"no images among {', '.join(map(str, paths))}; give an archive or a folder of images"
        )
    tables = _each_once(
        [*(table for each in inputs for table in each.tables), *(path.resolve() for path in labels)]
    )
    ignored = _each_once(path for each in inputs for path in each.ignored)
    return Inputs(sources, tables, tuple(path for path in ignored if path not in tables))


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
    for entry in sorted(entries, key=Path.is_dir):
        stems.setdefault(_stem(entry.name), entry)
    return tuple(sorted(stems.values()))


def _stem(name: str) -> str:
    """Return a name without the ending of an archive or table: images_2024.01.tar.gz is images_2024.01."""
    endings = [ending for ending in (*ARCHIVE_SUFFIXES, *TABLE_SUFFIXES) if name.lower().endswith(ending)]
    return name[: -len(max(endings, key=len))] if endings else name


def _each_once(paths: Iterable[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(paths))


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


REJECT_COLUMNS = pa.schema([(field.name, pa.string()) for field in fields(Reject)])


def rejects_table(rejects: Sequence[Reject]) -> pa.Table:
    """Return the rows as a table, every value as text."""
    return pa.Table.from_pylist([asdict(reject) for reject in rejects], REJECT_COLUMNS)


def write_rejects(rejects: Sequence[Reject], path: Path) -> None:
    """Write the rows as CSV with a header, every value as text."""
    pa.csv.write_csv(rejects_table(rejects), path)


def rejects_file(out: Path) -> Path:
    """Return the file beside a catalogue that names what was left out of it."""
    return out.with_name(f"{out.name}.rejects.csv")


def read_rejects(path: Path) -> list[Reject]:
    """Read the rows that `write_rejects` wrote."""
    names = [field.name for field in fields(Reject)]
    options = pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))
    parsing = pa.csv.ParseOptions(newlines_in_values=True)
    table = pa.csv.read_csv(path, convert_options=options, parse_options=parsing)
    return [Reject(**row) for row in table.to_pylist()]
