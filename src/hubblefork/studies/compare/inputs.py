"""What the page is told from: each network's run, wherever it was trained, judged here on the same galaxies.

OUT/judged/<digest of the weights>/<part>-<views>-<VIEWING>.parquet holds predictions, speed.toml what
they took.
Nothing is written into a run of somebody else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hubblefork.api.judging import evaluate_baselines
from hubblefork.data.catalogue import (
    ID,
    fractions,
    galaxy_ids,
    read_catalogue,
    with_fractions,
    write_catalogue,
)
from hubblefork.data.folders import VIEWING, RunFolder
from hubblefork.data.split import Split, read_split
from hubblefork.errors import RunError
from hubblefork.io import Progress, silent
from hubblefork.network.batches import labelled_rows
from hubblefork.network.predict import Predictor, predict_rows
from hubblefork.network.recipe import Recipe
from hubblefork.network.weights import digest_of, load_weights, read_recipe
from hubblefork.stats import metrics
from hubblefork.studies.compare.plan import Plan
from hubblefork.studies.study import Training, predicting_speed
from hubblefork.zoo import DecisionTree, read_tree


@dataclass(frozen=True)
class Sky:
    """The galaxies of a data folder, and its split."""

    data: Path
    tree: DecisionTree
    table: pa.Table
    split: Split

    @cached_property
    def rows(self) -> dict[str, NDArray[np.intp]]:
        """The rows of the labelled galaxies of each part."""
        return labelled_rows(self.table, self.tree, self.split)

    @property
    def part(self) -> str:
        """The part for the final numbers."""
        return self.split.judges[-1]

    @cached_property
    def votes(self) -> NDArray[np.float64]:
        """What volunteers said of the judged galaxies, (galaxy, answer)."""
        return fractions(self.table.take(self.rows[self.part]), self.tree)

    def of_share(self, share: float) -> Sky:
        """Return the same galaxies with so many of the training ones."""
        return replace(self, split=replace(self.split, train_share=share))


def read_sky(data: Path) -> Sky:
    """Read the galaxies of a data folder. Raises CatalogueError."""
    return Sky(data, read_tree(data), read_catalogue(data / "catalogue.parquet"), read_split(data))


@dataclass(frozen=True)
class Network:
    """A trained network: where its run lies, its notes and epochs, what it predicts, how fast.

    `predicted` maps a number of views to joint fractions (galaxy, answer) of the judged galaxies, `terms` to
    the squared errors of it; `speed` is in galaxies a second, one view each.
    """

    training: Training
    run: Path
    notes: Mapping[str, Any]
    rows: Sequence[Mapping[str, float]]
    predicted: Mapping[int, NDArray]
    terms: Mapping[int, metrics.Terms]
    speed: float

    def rmse(self, views: int) -> float:
        """The RMSE on the judged galaxies with so many views."""
        return self.terms[views].only_value("the RMSE")

    @property
    def validation_rmse(self) -> float:
        """The validation RMSE of the weights that were kept, after centring where the recipe has it."""
        if "centred_rmse" in self.notes:
            return float(self.notes["centred_rmse"])
        kept = int(self.notes["best_epoch"])
        return next(row["validation_rmse"] for row in self.rows if int(row["epoch"]) == kept)

    @property
    def parameters(self) -> int:
        """How many parameters it has."""
        return int(self.notes["parameters"]["learned"])

    @property
    def seconds(self) -> float:
        """The seconds of its whole training."""
        return float(self.notes["training_seconds"])

    @property
    def device(self) -> str:
        """What it was trained on: "cpu × 2" is two threads."""
        device = self.notes["device"]
        return f"{device['kind']} × {device['threads']}" if device["kind"] == "cpu" else str(device["kind"])


@dataclass(frozen=True)
class Study:
    """Everything the page is told from: `networks` by recipe and share; `missing` trainings by folder."""

    sky: Sky
    plan: Plan
    views: tuple[int, ...]
    networks: dict[tuple[str, float], list[Network]]
    missing: list[str]
    baselines: dict[str, Any]

    @property
    def compared(self) -> dict[str, list[Network]]:
        """The seeds of each recipe that has any, trained on all galaxies; the lowest error first."""
        there = {name: seeds for (name, share), seeds in self.networks.items() if share == 1 and seeds}
        views = self.views[-1]
        return dict(sorted(there.items(), key=lambda item: np.mean([one.rmse(views) for one in item[1]])))


def find_runs(trainings: Sequence[Training], sky: Sky, folders: Sequence[Path]) -> dict[str, Path]:
    """Return finished runs below some folders that are the very trainings wanted, by the trainings' folders.

    The same recipe, seed, tree, split and numbers of galaxies; the precision may differ, and whether it was
    compiled: they say how the same thing is computed. Where several are alike the first is taken. Raises
    RunError for a folder that is not there.
    """
    for folder in folders:
        if not folder.is_dir():
            raise RunError(f"{folder}: there is no such folder of runs")
    places = [path.parent for folder in folders for path in sorted(folder.rglob("run.toml"))]
    finished = [(run, read_recipe(run)) for run in places if RunFolder(run).is_finished()]
    found: dict[str, Path] = {}
    for training in trainings:
        wanted, here = _computed_alike(training.recipe), sky.of_share(training.share)
        same = (run for run, recipe in finished if _computed_alike(recipe) == wanted)
        run = next((run for run in same if _has_galaxies_of(run, here)), None)
        if run is not None:
            found[training.folder] = run
    return found


def _computed_alike(recipe: Recipe) -> Recipe:
    return replace(recipe, description="", precision="auto", compile=False)


def _has_galaxies_of(run: Path, sky: Sky) -> bool:
    counts = {part: len(rows) for part, rows in sky.rows.items()}
    same = read_tree(run) == sky.tree and read_split(run) == sky.split
    return same and RunFolder(run).notes().get("galaxies") == counts


def read_study(
    sky: Sky,
    out: Path,
    plan: Plan,
    *,
    found: Mapping[str, Path],
    views: Sequence[int],
    device: str = "",
    progress: Progress = silent,
) -> Study:
    """Read what there is, predicting what was not predicted yet."""
    networks: dict[tuple[str, float], list[Network]] = {key: [] for key in plan.trainings}
    missing = []
    for key, trainings in plan.trainings.items():
        for training in trainings:
            run = found.get(training.folder, out / "runs" / training.folder)
            if RunFolder(run).is_finished():
                judge = _Judge(sky, out / "judged", tuple(views), device, progress)
                networks[key].append(judge.network(training, run))
            else:
                missing.append(training.folder)
    return Study(sky, plan, tuple(views), networks, missing, evaluate_baselines(sky.data))


@dataclass(frozen=True)
class _Judge:
    """What it takes to judge a run."""

    sky: Sky
    folder: Path
    views: tuple[int, ...]
    device: str
    progress: Progress

    def network(self, training: Training, run: Path) -> Network:
        folder = self.folder / digest_of(run / "weights.safetensors")[:16]
        predicted = {views: self.predictions(run, folder, views) for views in self.views}
        return Network(
            training=training,
            run=run,
            notes=RunFolder(run).notes(),
            rows=RunFolder(run).metrics(),
            predicted=predicted,
            terms={
                views: metrics.in_total(metrics.error_terms(values, self.sky.votes))
                for views, values in predicted.items()
            },
            speed=predicting_speed(run, self.sky.data, folder / "speed.toml", device=self.device),
        )

    def predictions(self, run: Path, folder: Path, views: int) -> NDArray:
        """Return joint fractions of the judged galaxies, from the file where it has the same galaxies."""
        path = folder / f"{self.sky.part}-{views}-{VIEWING}.parquet"
        rows = self.sky.rows[self.sky.part]
        ids = self.sky.table.select([ID]).take(rows)
        if path.exists():
            table = read_catalogue(path)
            if np.array_equal(galaxy_ids(table), galaxy_ids(ids)):
                return fractions(table, self.sky.tree)
        weights = load_weights(run)
        predictor = Predictor(weights, device=self.device, views=views)
        what = f"predicting with {weights.recipe.name}"
        values = predict_rows(predictor, self.sky.data, rows, what, self.progress)
        write_catalogue(with_fractions(ids, values, self.sky.tree), path)
        return values.astype(float)
