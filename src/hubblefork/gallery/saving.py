"""The endpoints by which a selection leaves the gallery: as a file, or by SAMP to another program."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse

from hubblefork.errors import CatalogueError, ImageError
from hubblefork.gallery.browse import Chosen, Gain, Name
from hubblefork.gallery.downloads import (
    MOST_OF_SHEET,
    MOST_OF_VOTABLE,
    TYPES,
    Pictured,
    contact_sheet,
    table_file,
)
from hubblefork.gallery.gallery import Gallery, Shown
from hubblefork.gallery.guard import SECRET
from hubblefork.gallery.samp import send_table
from hubblefork.gallery.selection import RANDOM, Order, Selection

PRINTED = 256
SENT = 20

router = APIRouter(tags=["downloads"])


@router.get("/download/galaxies.{kind}")
def galaxies(gallery: Shown, selection: Chosen, kind: str, sort: Name = "") -> StreamingResponse:
    """A selection with all columns of the catalogue: csv, parquet or vot."""
    return attached(_table(gallery, selection, Order.parse(sort), kind), f"{gallery.stem}-selection.{kind}")


@router.get("/download/sheet.pdf", response_class=Response)
def sheet(
    gallery: Shown,
    selection: Chosen,
    sort: Name = "",
    of: Name = "",
    first: Annotated[int, Query(ge=1, le=MOST_OF_SHEET)] = 36,
    share: Annotated[float, Query(ge=0.1, le=1)] = 1.0,
    gain: Gain = 1.0,
) -> Response:
    """The images of the first galaxies of a selection as a PDF, each over its id and the quantity `of`.

    By default that is what they are sorted or filtered by. Galaxies without an image are left out.
    """
    order = Order.parse(sort)
    candidates = [of, order.quantity, *(part.quantity for part in selection.ranges)]
    noted = next((name for name in candidates if name and name != RANDOM), "")
    shown = [noted] if noted else []
    pictured = []
    for galaxy in gallery.store.page(selection, order, offset=0, limit=first, shown=shown):
        try:
            image = gallery.pictures.square(galaxy["galaxy_id"], size=PRINTED, share=share, gain=gain)
        except ImageError:
            continue
        value = galaxy.get(noted)
        note = "" if value is None else f"{noted.rpartition('.')[2].replace('_', ' ')} {value:.2f}"
        pictured.append(Pictured(galaxy["galaxy_id"], image, note))
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
