"""What a run's page is made of: the files of the run and of its data, each there or said to be missing."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hubblefork.data.folders import DataFolder, RunFolder
from hubblefork.data.judged import JudgedGalaxies, joined
from hubblefork.data.split import TEST, TRAIN, VALIDATION, Split
from hubblefork.errors import HubbleforkError, RunError
from hubblefork.images.decoder import BANDS, StampSpec
from hubblefork.io import digest_of
from hubblefork.pages.page import Missing
from hubblefork.pages.records import Notes, check_evaluation, check_metrics, checked
from hubblefork.stats.baselines import centre_colours
from hubblefork.tables.catalogue import ID, fractions, galaxy_ids, read_catalogue, with_fractions
from hubblefork.tables.rejects import Reject

T = TypeVar("T")
FAULTS = (HubbleforkError, pa.ArrowException, OSError, ValueError, LookupError, TypeError, RecursionError)


class Contents:
    """The files of a run, read when they are asked for; each raises Missing where it cannot be read.

    `predictions` is a catalogue of other images. Raises RunError where `run` is not the folder of a run, or
    its `run.toml` has an entry of another type; TreeError.
    """

    def __init__(self, run: RunFolder, predictions: Path | None = None) -> None:
        self.run, self.predictions = run, predictions
        self.entries, self.tree = run.notes(), run.tree()
        try:
            self.notes: Notes = checked(Notes, self.entries)
        except ValueError as error:
            raise RunError(f"{run}/run.toml: {error}; mend the entry or remove it") from error
        self._train = f"hubblefork train DATA --recipe … --out {run}"

    def optional(self, name: str) -> Any:
        """Return one of the properties, None where it is missing."""
        try:
            return getattr(self, name)
        except Missing:
            return None

    @cached_property
    def data(self) -> DataFolder:
        """The data folder of the run."""
        try:
            return self.run.data
        except RunError as error:
            raise Missing(str(error), self._train) from error

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """The recipe's entries."""
        return _read(self.run.recipe_file, lambda: tomllib.loads(self.run.recipe_text()), self._train)

    @cached_property
    def metrics(self) -> list[dict[str, float]]:
        """The rows of `metrics.csv`, one an epoch."""
        return _read(self.run.metrics_file, self.run.metrics, self._train, check_metrics)

    @cached_property
    def split(self) -> Split:
        """The split of the run."""
        return _read(self.run.path / "split.toml", self.run.split, self._train)

    @cached_property
    def evaluation(self) -> dict[str, Any]:
        """What `evaluation.json` holds."""
        check, command = partial(check_evaluation, tree=self.tree), self.run.evaluate_command()
        found: dict[str, Any] = _read(self.run.evaluation_file, self.run.evaluation, command, check)
        self._check_weights(found.get("weights", ""))
        return found

    @cached_property
    def intervals(self) -> dict[str, Any]:
        """What the evaluation says of the coverage of the intervals."""
        intervals = (self.optional("evaluation") or {}).get("intervals")
        if intervals is None:
            what = "Whether intervals hold what they state is not evaluated yet."
            raise Missing(what, self.run.evaluate_command())
        if "reason" in intervals:
            raise Missing(f"Intervals are not evaluated: {intervals['reason']}.", intervals["remedy"])
        return intervals

    @cached_property
    def catalogue(self) -> pa.Table:
        """The catalogue of the data, with the columns of the tree."""
        data, check = self.data, partial(fractions, tree=self.tree)
        return _read(data.catalogue_file, data.catalogue, data.ingest_command, check)

    @cached_property
    def sources(self) -> Counter[str]:
        """The sources of the catalogue's images, with how many each has."""
        catalogue = self.optional("catalogue")
        if catalogue is None or "source" not in catalogue.column_names:
            return Counter()
        return Counter(map(str, catalogue.column("source").to_pylist()))

    @cached_property
    def colours(self) -> NDArray[np.float64] | None:
        """The colours of the images' centres, (galaxy, band); None where the catalogue has none."""
        data, catalogue = self.data, self.catalogue
        return _read(data.catalogue_file, lambda: centre_colours(catalogue), data.ingest_command)

    @cached_property
    def votes(self) -> NDArray[np.float64]:
        """The votes of the catalogue (galaxy, answer)."""
        return fractions(self.catalogue, self.tree)

    @cached_property
    def rejects(self) -> list[Reject]:
        """What ingest refused."""
        data = self.data
        return _read(data.rejects_file, data.rejects, data.ingest_command)

    @cached_property
    def stamps(self) -> NDArray[np.uint8]:
        """The stamps that the network saw, uint8 (galaxy, y, x, 3), grey ones too."""
        recipe = self.optional("recipe")
        if recipe is None:
            raise Missing("Without a recipe nobody can tell which stamps the network used.", self._train)
        try:
            spec = StampSpec(recipe.get("crop"), recipe.get("stamp_size"), recipe.get("bands", BANDS))
            pixels = self.data.stamps(spec)
            return np.broadcast_to(pixels, (*pixels.shape[:3], BANDS))
        except FAULTS as error:
            raise Missing(f"No galaxies are shown: {error}", self.run.evaluate_command()) from error

    @cached_property
    def part(self) -> str:
        """The part that was evaluated."""
        other = TEST if self.run.predictions(TEST).exists() else VALIDATION
        return (self.optional("evaluation") or {}).get("part", other)

    @cached_property
    def judged(self) -> JudgedGalaxies:
        """The predicted galaxies of the part that have labels."""
        path = self.run.predictions(self.part)
        if named := (self.optional("evaluation") or {}).get("predictions"):
            path = self.run.path / named
        galaxies = self._joined(path, self.run.evaluate_command())
        self._check_weights(galaxies.weights)
        if not galaxies.labelled().any():
            what = "None of the judged galaxies has labels in the catalogue of the data."
            raise Missing(what, "hubblefork ingest … --labels …")
        return galaxies.chosen(galaxies.labelled())

    @cached_property
    def given(self) -> JudgedGalaxies:
        """The galaxies of the catalogue `predictions`."""
        if self.predictions is None:
            remedy = f"hubblefork predict {self.run} IMAGES --out predictions.parquet"
            how = f"{remedy}, then hubblefork report {self.run} --predictions predictions.parquet"
            raise Missing("No catalogue of other images was given to this report.", how)
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

    def _check_weights(self, judged: str) -> None:
        """Raise Missing where galaxies were judged by other weights; an empty digest leaves it unsaid."""
        weights = self.run.weights
        if judged and weights.exists() and judged != digest_of(weights):
            what = "The run was evaluated with other weights than those that its folder has now."
            raise Missing(what, self.run.evaluate_command())

    def _joined(self, path: Path, remedy: str) -> JudgedGalaxies:
        labels = self.optional("catalogue")
        if labels is None:
            nobody = np.empty((0, len(self.tree.columns)))
            labels = with_fractions(pa.table({ID: pa.array([], pa.string())}), nobody, self.tree)

        tree, name = self.tree, str(path)
        return _read(path, lambda: joined(read_catalogue(path), labels, tree, name, unlabelled=True), remedy)


def _read(
    path: Path, read: Callable[[], T], remedy: str, check: Callable[[T], object] = lambda found: None
) -> T:
    """Return what is read and checked. Raises Missing where the file is not there or has a fault."""
    if not path.exists():
        raise Missing(f"{path} is not there.", remedy)
    try:
        found = read()
        check(found)
        return found
    except FAULTS as error:
        raise Missing(f"{path} cannot be read: {error}", remedy) from error
