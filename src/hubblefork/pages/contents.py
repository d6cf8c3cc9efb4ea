"""What a run's page is made of: the files of the run and of its data, each there or said to be missing."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hubblefork.data.catalogue import ID, fractions, galaxy_ids, read_catalogue, with_fractions
from hubblefork.data.folders import JudgedGalaxies, RunFolder, joined
from hubblefork.data.images import StampSpec
from hubblefork.data.split import TEST, TRAIN, VALIDATION
from hubblefork.errors import HubbleforkError
from hubblefork.pages.page import Missing

FAULTS = (HubbleforkError, pa.ArrowException, OSError, ValueError, LookupError, TypeError)


@dataclass(frozen=True)
class Contents:
    """The files of a run, read when they are asked for; each is `Missing` where it cannot be read.

    `predictions` is a catalogue of other images. Raises RunError where `run` is not the folder of a run.
    """

    run: RunFolder
    predictions: Path | None = None

    def __post_init__(self) -> None:
        self.run.notes()

    @cached_property
    def notes(self) -> dict[str, Any]:
        """The entries of `run.toml`."""
        return self.run.notes()

    @cached_property
    def tree(self) -> Any:
        """The decision tree of the run."""
        return self.run.tree()

    @cached_property
    def recipe(self) -> Any:
        """The recipe's entries."""
        return self._read(self.run.recipe_file, lambda: tomllib.loads(self.run.recipe_text()), self._train)

    @cached_property
    def metrics(self) -> Any:
        """The rows of `metrics.csv`, one an epoch."""
        return self._read(self.run.metrics_file, self._metrics, self._train)

    @cached_property
    def split(self) -> Any:
        """The split of the run."""
        return self._read(self.run.path / "split.toml", self.run.split, self._train)

    @cached_property
    def evaluation(self) -> Any:
        """What `evaluation.json` holds."""
        evaluate = self.run.evaluate_command()
        return self._read(self.run.evaluation_file, self.run.evaluation, evaluate)

    @cached_property
    def catalogue(self) -> Any:
        """The catalogue of the data, with the columns of the tree."""
        data = self.run.data

        def read() -> pa.Table:
            table = data.catalogue()
            fractions(table, self.tree)
            return table

        return self._read(data.catalogue_file, read, data.ingest_command)

    @cached_property
    def votes(self) -> NDArray[np.float64]:
        """The votes of the catalogue (galaxy, answer)."""
        return fractions(self.catalogue, self.tree)

    @cached_property
    def rejects(self) -> Any:
        """What ingest refused."""
        data = self.run.data
        return self._read(data.rejects_file, data.rejects, data.ingest_command)

    @cached_property
    def stamps(self) -> Any:
        """The stamps that the network saw, uint8 (galaxy, y, x, band)."""
        if isinstance(self.recipe, Missing):
            what = "Without a recipe it is not known which stamps the network saw."
            return Missing(what, self.recipe.remedy)
        crop, size = self.recipe.get("crop"), self.recipe.get("stamp_size")
        try:
            return self.run.data.stamps(StampSpec(crop, size)).pixels
        except FAULTS as error:
            return Missing(f"No galaxies are shown: {error}", self.run.evaluate_command())

    @cached_property
    def part(self) -> str:
        """The part that was evaluated."""
        if not isinstance(self.evaluation, Missing):
            return self.evaluation["part"]
        return TEST if self.run.predictions(TEST).exists() else VALIDATION

    @cached_property
    def judged(self) -> Any:
        """The predicted galaxies of the part that have labels."""
        path = self.run.predictions(self.part)
        if not isinstance(self.evaluation, Missing) and "predictions" in self.evaluation:
            path = self.run.path / self.evaluation["predictions"]
        galaxies = self._joined(path, self.run.evaluate_command())
        if isinstance(galaxies, Missing):
            return galaxies
        if not galaxies.labelled().any():
            what = "None of the judged galaxies has labels in the catalogue of the data."
            return Missing(what, "hubblefork ingest … --labels …")
        return galaxies.chosen(galaxies.labelled())

    @cached_property
    def given(self) -> Any:
        """The galaxies of the catalogue `predictions`; None where none is given."""
        if self.predictions is None:
            return None
        return self._joined(
            self.predictions, f"hubblefork predict {self.run} IMAGES --out {self.predictions}"
        )

    def rows_of_part(self, part: str) -> NDArray[np.intp]:
        """Return the rows of the labelled galaxies of a part in the catalogue."""
        parts = self.split.assign(galaxy_ids(self.catalogue).tolist())
        return np.flatnonzero(~np.isnan(self.votes).all(axis=1) & (parts == part))

    @cached_property
    def training_rows(self) -> NDArray[np.intp]:
        """The rows of the labelled training galaxies in the catalogue."""
        return self.rows_of_part(TRAIN)

    @property
    def _train(self) -> str:
        return f"hubblefork train {self.run.data} --recipe … --out {self.run}"

    def _metrics(self) -> list[dict[str, float]]:
        rows = self.run.metrics()
        if not rows:
            raise ValueError("no epoch has ended yet")
        return rows

    def _joined(self, path: Path, remedy: str) -> JudgedGalaxies | Missing:
        labels = self.catalogue
        if isinstance(labels, Missing):
            nobody = np.empty((0, len(self.tree.columns)))
            labels = with_fractions(pa.table({ID: pa.array([], pa.string())}), nobody, self.tree)

        def read() -> JudgedGalaxies:
            return joined(read_catalogue(path), labels, self.tree, str(path), unlabelled=True)

        return self._read(path, read, remedy)

    @staticmethod
    def _read(path: Path, read: Callable[[], Any], remedy: str) -> Any:
        if not path.exists():
            return Missing(f"{path} is not there.", remedy)
        try:
            return read()
        except FAULTS as error:
            return Missing(f"{path} cannot be read: {error}", remedy)
