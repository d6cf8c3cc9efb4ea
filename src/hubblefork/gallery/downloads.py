"""A selection leaves the gallery: as a table piece by piece, as a contact sheet for a paper, or by SAMP.

SAMP of the IVOA tells other programs on this machine, TOPCAT and Aladin first, the address of a VOTable; who
takes it reads the table from there.
"""

from __future__ import annotations

import secrets
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import RawIOBase
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import Annotated, Any, NamedTuple
from urllib.parse import quote

import pyarrow as pa
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse
from numpy.typing import NDArray

from hubblefork import __version__
from hubblefork.errors import CatalogueError, ImageError, SampError
from hubblefork.gallery.browse import Chosen, Gain, Name, Share, shown_of
from hubblefork.gallery.gallery import Gallery, Shown
from hubblefork.gallery.selection import Order, Selection
from hubblefork.pages.sheets import image_sheet
from hubblefork.pages.style import pdf
from hubblefork.tables.catalogue import write_pieces
from hubblefork.tables.formats import PIECEWISE

TYPES = {
    "csv": "text/csv; charset=utf-8; header=present",
    "parquet": "application/vnd.apache.parquet",
    "vot": "application/x-votable+xml",
}
"""The formats of tables by their suffixes, with their media types."""
MOST_OF_VOTABLE = 50_000
MOST_OF_SHEET = 300
COLUMNS, ROWS = 6, 6
LOAD = "table.load.votable"
SECRET = "/samp/"
"""Where addresses are secrets themselves, so that programs without the token can follow them."""
PRINTED = 256
SENT = 20
DRAWING = Lock()
"""matplotlib's settings are those of all threads."""

router = APIRouter(tags=["downloads"])


@router.get("/download/galaxies.{kind}")
def galaxies(gallery: Shown, selection: Chosen, kind: str, sort: Name = "") -> StreamingResponse:
    """A selection with all columns of the catalogue: csv, parquet or vot."""
    return attached(_table(gallery, selection, Order.parse(sort), kind), f"{gallery.stem}-selection.{kind}")


@router.get("/download/labels.{kind}")
def labels(gallery: Shown, kind: str) -> StreamingResponse:
    """All answers as a table of labels, for `hubblefork finetune` and `ingest`: csv, parquet or vot."""
    return attached(table_file(iter([gallery.marks.votes()]), kind), f"{gallery.stem}-labels.{kind}")


@router.get("/download/sheet.pdf", response_class=Response)
def sheet(
    gallery: Shown,
    selection: Chosen,
    sort: Name = "",
    of: Name = "",
    first: Annotated[int, Query(ge=1, le=MOST_OF_SHEET)] = 36,
    share: Share = 1.0,
    gain: Gain = 1.0,
) -> Response:
    """The images of the first galaxies of a selection as a PDF, each over its id and the quantity `of`.

    By default that is what they are sorted or filtered by. Galaxies without an image are left out.
    """
    order, words = Order.parse(sort), gallery.store.tree.words
    shown = shown_of(selection, order, of)[:1]
    pictured = []
    for galaxy in gallery.store.page(selection, order, offset=0, limit=first, shown=shown):
        try:
            image = gallery.pictures.square(galaxy["galaxy_id"], size=PRINTED, share=share, gain=gain)
        except ImageError:
            continue
        known = [(name.rpartition(".")[2], galaxy[name]) for name in shown if galaxy[name] is not None]
        notes = [f"{words.get(name, name.replace('_', ' '))} {value:.2f}" for name, value in known]
        pictured.append(Pictured(galaxy["galaxy_id"], image, "".join(notes)))
    headers = _headers(f"{gallery.stem}-sheet.pdf")
    return Response(contact_sheet(pictured), media_type="application/pdf", headers=headers)


@router.post("/api/samp")
def samp(request: Request, gallery: Shown, selection: Chosen, sort: Name = "") -> dict[str, Any]:
    """Send a selection to TOPCAT, Aladin and whoever takes tables on the machine of the gallery."""
    if gallery.store.count(selection) > MOST_OF_VOTABLE:
        raise CatalogueError(f"at most {MOST_OF_VOTABLE:,} galaxies are sent: choose fewer")
    name = secrets.token_urlsafe(32)
    gallery.sent[name] = selection, Order.parse(sort)
    while len(gallery.sent) > SENT:
        del gallery.sent[next(iter(gallery.sent))]
    host, port = request.scope["server"]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}{SECRET}{name}.vot"
    return {"received_by": send_table(url, name, f"{gallery.stem}, a selection")}


@router.get(SECRET + "{name}.vot", include_in_schema=False)
def sent(gallery: Shown, name: str) -> StreamingResponse:
    """A selection that was sent by SAMP."""
    if name not in gallery.sent:
        raise ImageError("there is no such table: send it again")
    selection, order = gallery.sent[name]
    return attached(_table(gallery, selection, order, "vot"), f"{gallery.stem}-selection.vot")


def attached(parts: Iterable[bytes], name: str) -> StreamingResponse:
    """Return a file to keep under a name."""
    return StreamingResponse(parts, media_type=TYPES[name.rpartition(".")[2]], headers=_headers(name))


def _headers(name: str) -> dict[str, str]:
    return {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name)}"}


def _table(gallery: Gallery, selection: Selection, order: Order, kind: str) -> Iterable[bytes]:
    return table_file(gallery.store.pieces(selection, order), kind)


# Files


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
    with PIECEWISE[f".{kind}"](sink, first.schema) as writer:
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
        return iter([path.read_bytes()])


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


# SAMP


def send_table(url: str, table_id: str, name: str) -> list[str]:
    """Tell every program that takes tables where a VOTable is; return the names of these programs.

    `url` is an address on this machine, `table_id` tells the table from others, `name` is shown to people.
    Raises SampError where no hub runs, or no program in it takes tables.
    """
    with _hub() as client:
        takers = [_name(client, taker) for taker in client.get_subscribed_clients(LOAD)]
        if not takers:
            raise SampError(
                "no program takes tables by SAMP: start TOPCAT or Aladin, and send the table again"
            )
        parameters = {"url": url, "table-id": table_id, "name": name}
        client.notify_all({"samp.mtype": LOAD, "samp.params": parameters})
        return sorted(takers)


@contextmanager
def _hub() -> Iterator[Any]:
    """Give a client of the running hub. Raises SampError without one, or where it does not answer."""
    from astropy.utils.exceptions import AstropyDeprecationWarning

    with warnings.catch_warnings(action="ignore", category=AstropyDeprecationWarning):  # pyvo.samp is newer
        from astropy import samp

    description = {"samp.name": "hubblefork", "samp.description.text": "the gallery of a catalogue"}
    client = samp.SAMPIntegratedClient(
        metadata=description | {"hubblefork.version": __version__}, callable=False
    )
    with samp.conf.set_temp("use_internet", False):
        try:
            client.connect()
            try:
                yield client
            finally:
                client.disconnect()
        except (samp.SAMPHubError, samp.SAMPProxyError, OSError) as error:
            raise SampError(
                f"no SAMP hub answers ({error}): start TOPCAT or Aladin on the machine of the gallery, "
                "and send the table again"
            ) from error


def _name(client: Any, taker: str) -> str:
    return str(client.get_metadata(taker).get("samp.name", taker))
