"""A selection of galaxies as a file: a table piece by piece, or a contact sheet of images for a paper."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from io import RawIOBase
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from hubblefork.data.catalogue import write_pieces
from hubblefork.errors import CatalogueError
from hubblefork.pages.sheets import image_sheet
from hubblefork.pages.style import pdf

TYPES = {
    "csv": "text/csv; charset=utf-8; header=present",
    "parquet": "application/vnd.apache.parquet",
    "vot": "application/x-votable+xml",
}
"""The formats of tables by their suffixes, with their media types."""
MOST_OF_VOTABLE = 50_000
MOST_OF_SHEET = 300
COLUMNS, ROWS = 6, 6
BLOCK = 2**18
DRAWING = Lock()
"""matplotlib's settings are those of all threads."""


def table_file(pieces: Iterator[pa.Table], kind: str) -> Iterator[bytes]:
    """Yield the bytes of a table that comes in pieces of the same columns, at least one.

    As CSV and Parquet no more than a piece is in memory. Raises CatalogueError, before the first bytes, for a
    format that is none of `TYPES` and for what a VOTable cannot hold.
    """
    if kind not in TYPES:
        raise CatalogueError(f'a table is downloaded as {", ".join(TYPES)}, not as "{kind[:20]}"')
    return _votable(pieces) if kind == "vot" else _streamed(pieces, kind)


def _streamed(pieces: Iterator[pa.Table], kind: str) -> Iterator[bytes]:
    first, sink = next(pieces), _Sink()
    with {"csv": pa.csv.CSVWriter, "parquet": pa.parquet.ParquetWriter}[kind](sink, first.schema) as writer:
        for piece in chain([first], pieces):
            writer.write_table(piece)
            yield sink.taken()
    yield sink.taken()


class _Sink(RawIOBase):
    """A file that is read away while it is written; its place counts all bytes."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._place = 0

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        self._place += len(self._parts[-1])
        return len(self._parts[-1])

    def tell(self) -> int:
        return self._place

    def writable(self) -> bool:
        return True

    def taken(self) -> bytes:
        """Return what was written since it was last asked."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


def _votable(pieces: Iterator[pa.Table]) -> Iterator[bytes]:
    """Return the bytes of a VOTable, whose writer holds the whole table."""
    held, galaxies = [], 0
    for piece in pieces:
        held.append(piece)
        galaxies += len(piece)
        if galaxies > MOST_OF_VOTABLE:
            raise CatalogueError(
                f"a VOTable has at most {MOST_OF_VOTABLE:,} galaxies here: choose fewer, or take Parquet"
            )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "selection.vot"
        write_pieces(iter(held), path)
        file = path.open("rb")
    return _blocks(file)


def _blocks(file: Any) -> Iterator[bytes]:
    with file:
        while block := file.read(BLOCK):
            yield block


class Pictured(NamedTuple):
    """A galaxy of a contact sheet: its id, its image, uint8 (y, x, 3), and what stands below."""

    galaxy_id: str
    image: NDArray
    note: str


def contact_sheet(galaxies: Iterable[Pictured]) -> bytes:
    """Return a PDF of images, six times six a page as wide as a journal's, each over its id and its note.

    Raises CatalogueError for no galaxy and for more than 300.
    """
    shown = list(galaxies)
    if not 0 < len(shown) <= MOST_OF_SHEET:
        raise CatalogueError(
            f"a contact sheet has 1 to {MOST_OF_SHEET} galaxies with an image, not {len(shown)}: "
            "choose others"
        )
    pages = [shown[start : start + COLUMNS * ROWS] for start in range(0, len(shown), COLUMNS * ROWS)]
    with DRAWING:
        return pdf(*map(_page, pages))


def _page(shown: Sequence[Pictured]) -> Any:
    ids, images, notes = zip(*shown, strict=True)
    return image_sheet(images, ids, notes=notes if any(notes) else None, columns=COLUMNS)[0]
