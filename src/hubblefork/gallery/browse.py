"""The pages on which a catalogue is browsed and galaxies are marked, and the endpoints behind them."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from functools import cache
from importlib import resources
from typing import Annotated, Any

import jinja2
from fastapi import APIRouter, Depends, Path, Query, Request, UploadFile
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from markupsafe import Markup
from pydantic import BaseModel, Field

import hubblefork as hf
from hubblefork.api.predictions import VIEWS
from hubblefork.errors import CatalogueError, HubbleforkError, ImageError
from hubblefork.gallery.gallery import Gallery, Shown
from hubblefork.gallery.marks import LONGEST, Mark
from hubblefork.gallery.pictures import overlay
from hubblefork.gallery.selection import RANDOM, Order, Selection, selection_of
from hubblefork.gallery.walk import BAR, LINE, PAD, UNIT, WIDTH, Walk, walk_of
from hubblefork.images.members import Place

PAGE, LARGEST_PAGE = 60, 240
MOST_IMAGES = 64
SHOWN = 4
MOST_NEAR = 240

router = APIRouter()


def chosen(
    gallery: Shown,
    f: Annotated[list[str] | None, Query(description="ranges, spiral:0.6:1", max_length=64)] = None,
    within: Annotated[
        list[str] | None, Query(alias="in", description="polygons, x:y:0,0,1,0,1,1", max_length=8)
    ] = None,
    q: Annotated[str, Query(description="an expression, spiral > 0.5 & barred > 0.3", max_length=1000)] = "",
    named: Annotated[str, Query(description="a part of the id", max_length=200)] = "",
    tag: Annotated[str, Query(description="a tag that somebody gave", max_length=60)] = "",
    starred: Annotated[bool, Query(description="only galaxies with a star")] = False,
    by: Annotated[str, Query(description="only what this person marked", max_length=60)] = "",
) -> Selection:
    """Return the galaxies that the parameters of an address describe. Raises CatalogueError."""
    selection = selection_of({"f": f or [], "in": within or [], "q": [q], "named": [named]})
    if not (tag or starred or by):
        return selection
    ids = gallery.marks.galaxies(tag=tag or None, starred=starred, person=by or None)
    return replace(selection, ids=tuple(ids))


Chosen = Annotated[Selection, Depends(chosen)]
Name = Annotated[str, Query(max_length=200)]
Gain = Annotated[float, Query(ge=0.05, le=20)]
Share = Annotated[float, Query(ge=0.1, le=1)]
Count = Annotated[int, Query(ge=1, le=MOST_NEAR)]


@router.get("/plotly.js", include_in_schema=False)
def plotly() -> FileResponse:
    """Plotly's script, from the package that is installed."""
    script = resources.files("plotly").joinpath("package_data", "plotly.min.js")
    return FileResponse(str(script), media_type="text/javascript", headers={"Cache-Control": "max-age=86400"})


@router.get("/", response_class=HTMLResponse, include_in_schema=False)
def wall(request: Request, gallery: Shown) -> HTMLResponse:
    """The galaxies as a wall of images with filters by the tree."""
    return page(request, "wall.html.j2", questions=gallery.questions)


@router.get("/api/galaxies", tags=["catalogue"])
def galaxies(
    gallery: Shown,
    selection: Chosen,
    sort: Name = "",
    offset: Annotated[int, Query(ge=0, le=10**10)] = 0,
    limit: Annotated[int, Query(ge=1, le=LARGEST_PAGE)] = PAGE,
) -> dict[str, Any]:
    """Galaxies of a selection, a page of them in an order: how many there are, ids, shown quantities."""
    store, order = gallery.store, Order.parse(sort)
    shown = shown_of(selection, order)
    listed = store.page(selection, order, offset=offset, limit=limit, shown=shown)
    return {"total": store.total, "selected": store.count(selection), "shown": shown, "galaxies": listed}


@router.get("/api/histograms", tags=["catalogue"])
def histograms(
    gallery: Shown, selection: Chosen, of: Annotated[list[str], Query(max_length=24)]
) -> list[dict[str, Any]]:
    """Counts of some quantities in bins: in all galaxies, and in a selection."""
    return [gallery.store.histogram(quantity, selection) for quantity in of]


@router.get("/api/density", tags=["catalogue"])
def density(gallery: Shown, selection: Chosen, x: Name, y: Name) -> dict[str, Any]:
    """Counts of a selection on a grid of two quantities."""
    return gallery.store.density(x, y, selection)


@router.get("/api/fraction", tags=["catalogue"])
def fraction(gallery: Shown, selection: Chosen) -> dict[str, Any]:
    """The fraction of galaxies that a selection describes, corrected, with its interval; or why not."""
    query = selection.criterion(gallery.store.quantities)
    if not query:
        return {"reason": "a corrected fraction needs conditions on fractions of all volunteers only"}
    return gallery.fraction(query)


@router.get("/stamp/{galaxy_id:path}", tags=["images"], response_class=Response)
def picture(
    gallery: Shown,
    galaxy_id: str,
    size: Annotated[int, Query(ge=16, le=1024)] = 160,
    share: Share = 1.0,
    gain: Gain = 1.0,
) -> Response:
    """The central share of a galaxy's image, as a JPEG of so many pixels a side; fluxes times gain."""
    made = gallery.pictures.jpeg(galaxy_id, size=size, share=share, gain=gain)
    return Response(made, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})


@router.get("/galaxy/{galaxy_id:path}", tags=["catalogue"])
def galaxy(request: Request, gallery: Shown, galaxy_id: str) -> Response:
    """One galaxy: a page, or all its columns where the address ends in `.json`."""
    found = gallery.store.galaxy(galaxy_id)
    if found is None and galaxy_id.endswith(".json"):
        found = gallery.store.galaxy(galaxy_id.removesuffix(".json"))
        if found is not None:
            return JSONResponse({name: value for name, value in found.items() if not name.startswith("#")})
    if found is None:
        return page(request, "missing.html.j2", 404, galaxy_id=galaxy_id)
    walked = drawn(walk_of(gallery.store.tree, found))
    return page(request, "galaxy.html.j2", galaxy=found, links=sky_links(found), walk=walked)


@router.post("/api/classify", tags=["classify"])
def classify(gallery: Shown, images: list[UploadFile]) -> list[dict[str, Any]]:
    """Vote fractions of images (JPEG, PNG, FITS), in their order, with 90% intervals where there are some."""
    if len(images) > MOST_IMAGES:
        raise ImageError(f"{len(images)} images at once; at most {MOST_IMAGES} are classified")
    return [classified(upload, gallery.model) for upload in images]


def classified(upload: UploadFile, model: Place) -> dict[str, Any]:
    """Return the fractions of one uploaded image with their intervals, or why there are none."""
    name = upload.filename or "image"
    try:
        galaxy = hf.classify(upload.file.read(), model)
    except HubbleforkError as error:
        return {"name": name, "error": str(error)}
    ends = {} if galaxy.low is None else {"low": galaxy.low.tolist(), "high": galaxy.high.tolist()}
    return {
        "name": name,
        "answers": list(galaxy.tree.columns),
        "fractions": galaxy.fractions.tolist(),
        **ends,
    }


# What stands beside, what looks alike, why


@router.get("/compare.json", tags=["catalogue"])
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


@router.get("/api/features", tags=["similar"])
def state(gallery: Shown) -> dict[str, Any]:
    """Whether the network has looked at all images: "absent", "working" (on what, how far) or "there"."""
    likeness = gallery.likeness
    doing = likeness.doing if likeness.state == "working" else {}
    return {"state": likeness.state, "fault": likeness.fault, **doing}


@router.post("/api/features", tags=["similar"])
def begin(gallery: Shown) -> dict[str, Any]:
    """Let the network look at all images, in the background."""
    gallery.likeness.begin()
    return state(gallery)


@router.get("/api/near/{galaxy_id:path}", tags=["similar"])
def near(gallery: Shown, galaxy_id: str, count: Count = 12) -> list[dict[str, Any]]:
    """The galaxies that look most like one, with their likeness (1 is the same), the most alike first."""
    likeness = gallery.likeness
    row = likeness.row(galaxy_id)
    return likeness.near(likeness.seen.vector(row), count, but=row)


@router.post("/api/near", tags=["similar"])
def near_image(gallery: Shown, image: UploadFile, count: Count = 12) -> list[dict[str, Any]]:
    """The galaxies that look most like an image (JPEG, PNG, FITS)."""
    return gallery.likeness.near_image(image.file.read(), count)


@router.get("/api/occlusion/{galaxy_id:path}", tags=["why"])
def losses(gallery: Shown, galaxy_id: str) -> dict[str, Any]:
    """What each fraction of a galaxy loses when a part of its image is covered: (y, x, answer)."""
    found = gallery.looks.occluded(galaxy_id)[0]
    answers = list(gallery.looks.predictor.tree.columns)
    return {"answers": answers, "fractions": found.fractions.tolist(), "losses": found.losses.tolist()}


@router.get("/occlusion/{galaxy_id:path}", tags=["why"], response_class=Response)
def occluded(
    gallery: Shown,
    galaxy_id: str,
    answer: Annotated[str, Query(max_length=200)],
    share: Share = 1.0,
) -> Response:
    """Where the network looked for an answer: a transparent PNG to lie over the image of the same share."""
    column = gallery.looks.predictor.tree.column(answer)
    found, side = gallery.looks.occluded(galaxy_id)
    return Response(overlay(found, column, share * side), media_type="image/png")


@router.get("/api/views/{galaxy_id:path}", tags=["why"])
def views(gallery: Shown, galaxy_id: str) -> dict[str, Any]:
    """The fractions of a galaxy by each of sixteen turned and mirrored views: (view, answer)."""
    answers = list(gallery.looks.predictor.tree.columns)
    return {"answers": answers, "fractions": gallery.looks.views(galaxy_id)[0].tolist()}


@router.get("/view/{number}/{galaxy_id:path}", tags=["why"], response_class=Response)
def view(gallery: Shown, number: Annotated[int, Path(ge=0, lt=VIEWS)], galaxy_id: str) -> Response:
    """One of the views of a galaxy, as a JPEG."""
    return Response(gallery.looks.views(galaxy_id)[1][number], media_type="image/jpeg")


# What pages are made of


def shown_of(selection: Selection, order: Order, first: str = "") -> list[str]:
    """Return the quantities that stand under an image: a first one, what is sorted and filtered by."""
    names = [first, order.quantity, *(part.quantity for part in selection.ranges)]
    return [name for name in dict.fromkeys(names) if name and name != RANDOM][:SHOWN]


def sky_links(galaxy: dict[str, Any]) -> dict[str, str]:
    """Return addresses of public viewers that show the sky at a galaxy; none without its position."""
    ra, dec = galaxy.get("ra"), galaxy.get("dec")
    if ra is None or dec is None:
        return {}
    return {name: address.format(ra=ra, dec=dec) for name, address in _viewers().items()}


@cache
def _viewers() -> dict[str, str]:
    text = resources.files("hubblefork.gallery").joinpath("viewers.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


@cache
def templates() -> jinja2.Environment:
    """Return the templates."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("hubblefork.gallery"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


def page(request: Request, name: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a page of the gallery that a request is of."""
    gallery = request.app.state.gallery
    shared = {"gallery": gallery, "tree": gallery.store.tree, "total": gallery.store.total}
    shared["quantities"] = gallery.store.quantities
    return HTMLResponse(templates().get_template(name).render(**shared, **values), status)


def drawn(made: Walk) -> Markup:
    """Return a walk as SVG; its colours are those of the page."""
    template = templates().get_template("walk.svg.j2")
    return Markup(template.render(walk=made, unit=UNIT, line=LINE, pad=PAD, bar=BAR, card_width=WIDTH))


# Marks


class Person(BaseModel):
    """Who marks."""

    person: str = Field(description="the name of who marks", max_length=LONGEST["person"])


class Said(Person):
    """What a person says of a galaxy."""

    galaxy_id: str = Field(max_length=LONGEST["galaxy_id"])
    kind: str = Field(description="star, tag or answer")
    value: str = Field("", description="the tag, or the name of the answer", max_length=200)
    holds: bool = Field(True, description="false takes a star or a tag away, and says no to a checkbox")


@router.get("/api/tree", tags=["marks"])
def tree(gallery: Shown) -> dict[str, Any]:
    """The questions of the catalogue's tree in the order of asking, with their answers."""
    asked = gallery.store.tree
    return {
        "name": asked.name,
        "questions": [
            {
                "name": question.name,
                "text": question.text or question.name,
                "root": question.root,
                "exclusive": question.exclusive,
                "answers": [
                    {"name": a.name, "text": a.text or a.name, "leads_to": list(a.leads_to)}
                    for a in question.answers
                ],
            }
            for question in asked.questions
        ],
    }


@router.post("/api/marks", tags=["marks"])
def say(gallery: Shown, said: Said) -> Mark:
    """Note what a person says of a galaxy; it is on the disk when this is answered."""
    if gallery.store.galaxy(said.galaxy_id) is None:
        raise CatalogueError(f'the catalogue has no galaxy "{said.galaxy_id}"')
    return gallery.marks.say(said.person, said.galaxy_id, said.kind, said.value, holds=said.holds)


@router.post("/api/marks/undo", tags=["marks"])
def undo(gallery: Shown, who: Person) -> Mark | None:
    """Undo the last mark of a person, and return it; null where there is none."""
    return gallery.marks.undo(who.person)


@router.get("/api/marks", tags=["marks"])
def marks(gallery: Shown, of: Annotated[list[str], Query(max_length=300)]) -> list[Mark]:
    """What people said of some galaxies."""
    return gallery.marks.of(of)


@router.get("/api/marks/summary", tags=["marks"])
def summary(gallery: Shown) -> dict[str, Any]:
    """All tags and all who marked, each with the number of galaxies, and how many have a star."""
    marks = gallery.marks
    return {"tags": marks.tags(), "people": marks.people(), "starred": len(marks.galaxies(starred=True))}
