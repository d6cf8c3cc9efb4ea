"""The endpoints by which people mark galaxies: stars, tags, answers to the questions of the tree."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from hubblefork.errors import CatalogueError
from hubblefork.gallery.downloads import attached, table_file
from hubblefork.gallery.gallery import Shown
from hubblefork.gallery.marks import LONGEST, Mark

router = APIRouter(tags=["marks"])


class Person(BaseModel):
    """Who marks."""

    person: str = Field(description="the name of who marks", max_length=LONGEST["person"])


class Said(Person):
    """What a person says of a galaxy."""

    galaxy_id: str = Field(max_length=LONGEST["galaxy_id"])
    kind: str = Field(description="star, tag or answer")
    value: str = Field("", description="the tag, or the name of the answer", max_length=200)
    holds: bool = Field(True, description="false takes a star or a tag away, and says no to a checkbox")


@router.get("/api/tree")
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


@router.post("/api/marks")
def say(gallery: Shown, said: Said) -> Mark:
    """Note what a person says of a galaxy; it is on the disk when this is answered."""
    if gallery.store.galaxy(said.galaxy_id) is None:
        raise CatalogueError(f'the catalogue has no galaxy "{said.galaxy_id}"')
    return gallery.marks.say(said.person, said.galaxy_id, said.kind, said.value, holds=said.holds)


@router.post("/api/marks/undo")
def undo(gallery: Shown, who: Person) -> Mark | None:
    """Undo the last mark of a person, and return it; null where there is none."""
    return gallery.marks.undo(who.person)


@router.get("/api/marks")
def marks(gallery: Shown, of: Annotated[list[str], Query(max_length=300)]) -> list[Mark]:
    """What people said of some galaxies."""
    return gallery.marks.of(of)


@router.get("/api/marks/summary")
def summary(gallery: Shown) -> dict[str, Any]:
    """All tags and all who marked, each with the number of galaxies, and how many have a star."""
    marks = gallery.marks
    return {"tags": marks.tags(), "people": marks.people(), "starred": len(marks.galaxies(starred=True))}


@router.get("/download/labels.{kind}")
def labels(gallery: Shown, kind: str) -> StreamingResponse:
    """All answers as a table of labels, for `hubblefork finetune` and `ingest`: csv, parquet or vot."""
    return attached(table_file(iter([gallery.marks.votes()]), kind), f"{gallery.stem}-labels.{kind}")
