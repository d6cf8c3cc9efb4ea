"""The endpoints of similar galaxies: whether the network has looked at all images, and what lies near."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, UploadFile

from hubblefork.gallery.gallery import Shown

MOST = 240

router = APIRouter(tags=["similar"])
Count = Annotated[int, Query(ge=1, le=MOST)]


@router.get("/api/features")
def state(gallery: Shown) -> dict[str, Any]:
    """Whether the network has looked at all images: "absent", "working" (on what, how far) or "there"."""
    likeness = gallery.likeness
    doing = likeness.doing if likeness.state == "working" else {}
    return {"state": likeness.state, "fault": likeness.fault, **doing}


@router.post("/api/features")
def begin(gallery: Shown) -> dict[str, Any]:
    """Let the network look at all images, in the background."""
    gallery.likeness.begin()
    return state(gallery)


@router.get("/api/near/{galaxy_id:path}")
def near(gallery: Shown, galaxy_id: str, count: Count = 12) -> list[dict[str, Any]]:
    """The galaxies that look most like one, with their likeness (1 is the same), the most alike first."""
    likeness = gallery.likeness
    row = likeness.row(galaxy_id)
    return likeness.near(likeness.seen.vector(row), count, but=row)


@router.post("/api/near")
def near_image(gallery: Shown, image: UploadFile, count: Count = 12) -> list[dict[str, Any]]:
    """The galaxies that look most like an image (JPEG, PNG, FITS)."""
    return gallery.likeness.near_image(image.file.read(), count)
