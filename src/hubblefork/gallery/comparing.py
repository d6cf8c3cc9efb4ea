"""Two catalogues, or predictions and volunteers: where they disagree most, per answer."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from hubblefork.errors import CatalogueError
from hubblefork.gallery.browse import Chosen
from hubblefork.gallery.gallery import Gallery, Shown
from hubblefork.gallery.pages import page
from hubblefork.gallery.selection import Selection

router = APIRouter(tags=["catalogue"])


@router.get("/compare.json")
def comparison(gallery: Shown, selection: Chosen) -> dict[str, Any]:
    """The differences of a selection per answer, largest root mean square first."""
    return {"of": gallery.title, "beside": gallery.store.beside, "answers": _answers(gallery, selection)}


@router.get("/compare", response_class=HTMLResponse, include_in_schema=False)
def compare(request: Request, gallery: Shown, selection: Chosen) -> HTMLResponse:
    """The same as a page; each answer leads to the galaxies that differ most."""
    return page(request, "compare.html.j2", answers=_answers(gallery, selection))


def _answers(gallery: Gallery, selection: Selection) -> list[dict[str, Any]]:
    if not gallery.store.quantities.beside:
        raise CatalogueError(
            "nothing stands beside this catalogue: begin the gallery with --compare or --labels"
        )
    return gallery.store.differences(selection)
