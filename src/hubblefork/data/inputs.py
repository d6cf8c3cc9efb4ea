"""What of the given paths holds images, what holds labels, and what is neither.

A folder in Kaggle's layout holds `images_*` archives (or folders) and `*solutions*` tables; its
other files, benchmark submissions among them, are left alone. Any other folder is a folder of
images, perhaps with one table of labels in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hubblefork.data.archives import is_image
from hubblefork.data.labels import TABLE_SUFFIXES
from hubblefork.errors import CatalogueError, ImageError

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")


@dataclass(frozen=True)
class Inputs:
    """Absolute paths: `sources` of images, `tables` of labels, `ignored` files; each once."""

    sources: tuple[Path, ...]
    tables: tuple[Path, ...]
    ignored: tuple[Path, ...] = ()


def find_inputs(paths: Sequence[Path], labels: Sequence[Path] = ()) -> Inputs:
    """Sort the given archives, folders and tables into images and labels.

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
