"""What the gallery shows: a catalogue, the images of its galaxies, corrected fractions of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Request

import hubblefork as hf
from hubblefork.api.predictions import write_predictions
from hubblefork.api.skies import mock_sky
from hubblefork.errors import HubbleforkError
from hubblefork.gallery.likeness import Likeness
from hubblefork.gallery.marks import Marks
from hubblefork.gallery.pictures import Looks, Pictures
from hubblefork.gallery.store import Store
from hubblefork.images.cutouts import READING, Reading
from hubblefork.images.members import Place
from hubblefork.io import Progress, silent
from hubblefork.stats.estimators import UNCORRECTED, Unavailable

GALAXIES = 300
"""Of the mock sky."""


@dataclass
class Gallery:
    """What the pages show: a catalogue, the images of its galaxies, and the network that predicts others."""

    store: Store
    pictures: Pictures
    model: Place = "fork"
    title: str = ""
    fraction: Any = field(init=False)
    looks: Looks = field(init=False)
    likeness: Likeness = field(init=False)
    sent: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.fraction = lru_cache(maxsize=256)(self._fraction)
        self.looks = Looks(self.model, self.pictures)
        seen = self.folder / "features"
        self.likeness = Likeness(self.store, self.pictures, self.model, seen, lambda: self.marks)

    @property
    def stem(self) -> str:
        """The name of the catalogue in the names of files."""
        return Path(self.title).stem or "catalogue"

    @property
    def folder(self) -> Path:
        """The folder beside the catalogue, for what is kept of it."""
        return self.store.path.with_name(f"{self.store.path.name}.gallery")

    @cached_property
    def marks(self) -> Marks:
        """What people said of the galaxies. Raises CatalogueError, DiskError."""
        return Marks(self.folder / "marks.sqlite", self.store.tree)

    @cached_property
    def questions(self) -> list[dict[str, Any]]:
        """The tree as the filters show it: each question once, below the answer that first leads to it."""
        tree, placed = self.store.tree, set[str]()

        def shown(name: str) -> dict[str, Any]:
            placed.add(name)
            question = tree.question(name)
            answers = []
            for answer in question.answers:
                below = [shown(following) for following in answer.leads_to if following not in placed]
                answers.append({"name": answer.name, "text": answer.text or answer.name, "below": below})
            return {"name": name, "text": question.text or name, "root": question.root, "answers": answers}

        return [shown(question.name) for question in tree.questions if question.root]

    def _fraction(self, query: str) -> dict[str, Any]:
        """Return the corrected fraction of the galaxies that a query describes; or why there is none."""
        try:
            found = hf.fraction(self.store.path, query)
        except HubbleforkError as error:
            return {"reason": str(error)}
        calibration = found.calibration
        return {
            "value": found.value,
            "low": found.low,
            "high": found.high,
            "level": found.level,
            "estimator": found.estimator,
            "corrected": found.estimator != UNCORRECTED,
            "reason": calibration.reason if isinstance(calibration, Unavailable) else "",
        }


def open_gallery(
    catalogue: Path,
    images: Sequence[Place],
    *,
    labels: Path | None = None,
    compare: Path | None = None,
    model: Place = "fork",
    reading: Reading = Reading(),
) -> Gallery:
    """Return the gallery of a catalogue, whose images are read as stated, or as it says itself.

    Beside it stand the votes of `labels`, or the catalogue `compare`.
    Raises CatalogueError, ImageError.
    """
    store = Store(catalogue, labels, compare)
    if reading == Reading():
        reading = Reading.noted(store.metadata.get(READING, ""))
    return Gallery(store, Pictures(images, store.ids(), reading), model, catalogue.name)


def example(folder: Path, progress: Progress = silent) -> tuple[Path, str]:
    """Return a catalogue that `fork` predicted of a mock sky, and its images: for who has no catalogue yet.

    Made once in that folder.
    Raises ExtraMissing without the extra `mock`, DiskError.
    """
    catalogue, images = folder / "predictions.parquet", folder / "sky" / "images_training_rev1.zip"
    if not catalogue.exists():
        mock_sky(folder / "sky", GALAXIES, progress=progress)
        write_predictions("fork", [images], catalogue, interval=0.9, overwrite=True, progress=progress)
    return catalogue, str(images)


def _of_request(request: Request) -> Gallery:
    gallery: Gallery = request.app.state.gallery
    return gallery


Shown = Annotated[Gallery, Depends(_of_request)]
"""The gallery that an endpoint is of."""
