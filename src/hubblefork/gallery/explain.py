"""Why a galaxy has its fractions: endpoints of where the network looked, and of its views."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response

from hubblefork.api.predictions import VIEWS
from hubblefork.gallery.attention import overlay
from hubblefork.gallery.gallery import Shown

router = APIRouter(tags=["why"])


@router.get("/api/occlusion/{galaxy_id:path}")
def losses(gallery: Shown, galaxy_id: str) -> dict[str, Any]:
    """What each fraction of a galaxy loses when a part of its image is covered: (y, x, answer)."""
    found = gallery.looks.occluded(galaxy_id)[0]
    answers = list(gallery.looks.predictor.tree.columns)
    return {"answers": answers, "fractions": found.fractions.tolist(), "losses": found.losses.tolist()}


@router.get("/occlusion/{galaxy_id:path}", response_class=Response)
def occluded(
    gallery: Shown,
    galaxy_id: str,
    answer: Annotated[str, Query(max_length=200)],
    share: Annotated[float, Query(ge=0.1, le=1)] = 1.0,
) -> Response:
    """Where the network looked for an answer: a transparent PNG to lie over the image of the same share."""
    column = gallery.looks.predictor.tree.column(answer)
    found, side = gallery.looks.occluded(galaxy_id)
    return Response(overlay(found, column, share * side), media_type="image/png")


@router.get("/api/views/{galaxy_id:path}")
def views(gallery: Shown, galaxy_id: str) -> dict[str, Any]:
    """The fractions of a galaxy by each of sixteen turned and mirrored views: (view, answer)."""
    answers = list(gallery.looks.predictor.tree.columns)
    return {"answers": answers, "fractions": gallery.looks.views(galaxy_id)[0].tolist()}


@router.get("/view/{number}/{galaxy_id:path}", response_class=Response)
def view(gallery: Shown, number: Annotated[int, Path(ge=0, lt=VIEWS)], galaxy_id: str) -> Response:
    """One of the views of a galaxy, as a JPEG."""
    return Response(gallery.looks.views(galaxy_id)[1][number], media_type="image/jpeg")
