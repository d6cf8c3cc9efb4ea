"""The results of a study: its finished trainings, all judged on the same galaxies."""

from __future__ import annotations

import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import tomli_w
from numpy.typing import NDArray

from hubblefork.api.judging import evaluate_baselines
from hubblefork.data.folders import VIEWING, DataFolder, RunFolder
from hubblefork.data.split import Split
from hubblefork.data.stamps import prepare
from hubblefork.errors import RunError
from hubblefork.io import Progress, digest_of, silent, write_text
from hubblefork.network.batches import labelled_rows
from hubblefork.network.recipe import Recipe
from hubblefork.network.weights import read_recipe
from hubblefork.prediction.loop import predict_rows
from hubblefork.prediction.predictor import Predictor
from hubblefork.prediction.runtimes import open_network
from hubblefork.stats import metrics
from hubblefork.studies.study import Key, Study, Training, labelled_catalogue
from hubblefork.tables.catalogue import (
    ID,
    fractions,
    galaxy_ids,
    read_catalogue,
    rows_of,
    with_fractions,
    write_catalogue,
)
from hubblefork.zoo import DecisionTree

TIMED, TIMED_BATCHES = 128, 3


@dataclass(frozen=True)
class Galaxies:
    """The galaxies of a data folder, and its split."""

    data: Path
    tree: DecisionTree
    table: pa.Table
    split: Split

    @classmethod
    def read(cls, data: Path) -> Galaxies:
        """Read a data folder. Raises CatalogueError, also where no galaxy has a label."""
        folder = DataFolder(data)
        return cls(data, folder.tree(), labelled_catalogue(folder), folder.split())

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
        """The vote fractions of the judged galaxies, (galaxy, answer)."""
        return fractions(self.table.take(self.rows[self.part]), self.tree)


@dataclass(frozen=True)
class Member:
    """A trained network of a study, with its predictions of the judged galaxies.

    `notes` and `epochs` are those of the run; `predicted` maps a number of views to joint fractions (galaxy,
    answer), `terms` to their squared errors; `speed` is in galaxies a second, with one view each.
    """

    training: Training
    run: RunFolder
    notes: Mapping[str, Any]
    epochs: Sequence[Mapping[str, float]]
    predicted: Mapping[int, NDArray]
    terms: Mapping[int, metrics.Terms]
    speed: float

    def rmse(self, views: int = 1) -> float:
        """Return the RMSE on the judged galaxies with so many views."""
        return self.terms[views].only_value("the RMSE")

    @property
    def recipe(self) -> Recipe:
        """The recipe that it was trained by."""
        return read_recipe(self.run.path)

    @property
    def best_epoch(self) -> int:
        """The epoch whose weights were kept."""
        return int(self.notes["best_epoch"])

    @property
    def validation_rmse(self) -> float:
        """The validation RMSE of the weights that were kept, after centring where the recipe has it."""
        if "centred_rmse" in self.notes:
            return float(self.notes["centred_rmse"])
        return next(row["validation_rmse"] for row in self.epochs if int(row["epoch"]) == self.best_epoch)

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
class Results:
    """What a study has so far: its members by recipe and share, and the folders of missing trainings."""

    study: Study
    galaxies: Galaxies
    members: Mapping[Key, Sequence[Member]]
    missing: Sequence[str]
    baselines: Mapping[str, Any]

    @property
    def views(self) -> list[int]:
        """The numbers of views at prediction: one, and the study's."""
        return sorted({1, self.study.views})

    @cached_property
    def compared(self) -> dict[str, Sequence[Member]]:
        """The seeds of each recipe trained on all galaxies; the lowest error with most views first."""
        whole = {name: seeds for (name, share), seeds in self.members.items() if share == 1 and seeds}
        return dict(sorted(whole.items(), key=lambda item: self.mean_rmse(item[1])))

    def mean_rmse(self, seeds: Sequence[Member]) -> float:
        """Return the mean RMSE of some members with the study's views."""
        return float(np.mean([member.rmse(self.study.views) for member in seeds]))

    @property
    def mean_vote(self) -> float:
        """The RMSE of the baseline that predicts the mean vote for every galaxy."""
        return float(self.baselines["baselines"]["mean_vote"]["rmse"]["value"])


def find_runs(study: Study, trainings: Sequence[Training], galaxies: Galaxies) -> dict[str, RunFolder]:
    """Return finished runs below the study's `runs` that are trainings of the study, by their folders.

    Recipe, seed, tree, split and numbers of galaxies must be the same; the precision may differ, and whether
    the network was compiled. Of several the first is taken. Raises RunError for a folder that is not there.
    """
    for folder in study.runs:
        if not folder.is_dir():
            raise RunError(f"{folder}: there is no such folder of runs")
    places = [path.parent for folder in study.runs for path in sorted(folder.rglob("run.toml"))]
    finished = [(RunFolder(path), read_recipe(path)) for path in places if RunFolder(path).is_finished()]
    result: dict[str, RunFolder] = {}
    for training in trainings:
        recipe, split = _computed_alike(training.recipe), replace(galaxies.split, train_share=training.share)
        counts = {part: len(rows) for part, rows in replace(galaxies, split=split).rows.items()}
        for run, other in finished:
            same = _computed_alike(other) == recipe and run.notes().get("galaxies") == counts
            if same and run.tree() == galaxies.tree and run.split() == split:
                result.setdefault(training.folder, run)
    return result


def _computed_alike(recipe: Recipe) -> Recipe:
    return replace(recipe, description="", precision="auto", compile=False)


def read_results(
    study: Study,
    galaxies: Galaxies,
    trainings: Mapping[Key, Sequence[Training]],
    out: Path,
    *,
    elsewhere: Mapping[str, RunFolder] | None = None,
    progress: Progress = silent,
) -> Results:
    """Read the finished trainings; predict the judged galaxies where they are not predicted yet.

    `elsewhere` are runs of `find_runs`; nothing is written into them.
    """
    members: dict[Key, list[Member]] = {key: [] for key in trainings}
    missing = []
    for key, seeds in trainings.items():
        for training in seeds:
            run = (elsewhere or {}).get(training.folder, RunFolder(out / "runs" / training.folder))
            if run.is_finished() and (not study.evaluate or run.is_evaluated()):
                members[key].append(_member(study, galaxies, training, run, out / "judged", progress))
            else:
                missing.append(training.folder)
    return Results(study, galaxies, members, missing, evaluate_baselines(galaxies.data))


def _member(
    study: Study, galaxies: Galaxies, training: Training, run: RunFolder, judged: Path, progress: Progress
) -> Member:
    folder = run.path if study.evaluate else judged / digest_of(run.weights)[:16]
    predicted = {}
    for views in sorted({1, study.views}):
        path = folder / f"{galaxies.part}-{views}-{VIEWING}.parquet"
        path = run.predictions(galaxies.part, views) if study.evaluate else path
        predicted[views] = _predicted(galaxies, run, path, views, study.device, progress)
    return Member(
        training=training,
        run=run,
        notes=run.notes(),
        epochs=run.metrics(),
        predicted=predicted,
        terms={views: total_terms(values, galaxies.votes) for views, values in predicted.items()},
        speed=predicting_speed(run.path, galaxies.data, folder / "speed.toml", device=study.device),
    )


def total_terms(predicted: NDArray, votes: NDArray) -> metrics.Terms:
    """Return the squared errors of all answers together, (galaxy, 1), from fractions (galaxy, answer)."""
    return metrics.in_total(metrics.error_terms(predicted, votes))


def _predicted(
    galaxies: Galaxies, run: RunFolder, path: Path, views: int, device: str, progress: Progress
) -> NDArray:
    """Return joint fractions of the judged galaxies, from the file where it has them all."""
    rows = galaxies.rows[galaxies.part]
    ids = galaxies.table.select([ID]).take(rows)
    if path.exists():
        table = read_catalogue(path)
        places = rows_of(galaxy_ids(ids), galaxy_ids(table))
        if (places >= 0).all():
            return fractions(table, galaxies.tree)[places]
    network = open_network(run.path, device=device)
    predictor, what = Predictor(network, views=views), f"predicting with {network.trained.recipe}"
    values = predict_rows(predictor, galaxies.data, rows, what, progress)
    write_catalogue(with_fractions(ids, values, galaxies.tree), path)
    return values.astype(float)


def predicting_speed(run: Path, data: Path, path: Path, *, device: str = "") -> float:
    """Return how many galaxies a second a run predicts once it is loaded, with one view each.

    The first call times it on stamps of a data folder and writes `path`; later calls read it.
    """
    if not path.exists():
        predictor = Predictor(open_network(run, device=device))
        pixels = np.array(prepare(data, read_recipe(run).stamps)[:TIMED])
        predictor(pixels)
        start = time.perf_counter()
        for _ in range(TIMED_BATCHES):
            predictor(pixels)
        speed = TIMED_BATCHES * len(pixels) / (time.perf_counter() - start)
        write_text(path, tomli_w.dumps({"galaxies_per_second": speed, "batch": len(pixels)}))
    return float(tomllib.loads(path.read_text(encoding="utf-8"))["galaxies_per_second"])
