"""What the page is told from: each network's run, judged on the same galaxies; tuning; folds; baselines."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubblefork.api.judging import evaluate_baselines
from hubblefork.data.catalogue import fractions, labelled, matched, read_catalogue
from hubblefork.data.folders import RunFolder
from hubblefork.data.split import read_split
from hubblefork.io import Progress, silent
from hubblefork.network.recipe import Recipe
from hubblefork.network.tuning import TuningResult, read_tuning
from hubblefork.network.weights import read_recipe
from hubblefork.report.blocks import Missing
from hubblefork.stats.evaluation import read_evaluation
from hubblefork.studies.soft_target.plan import FOLDS, TUNED, TUNING, Plan
from hubblefork.studies.study import predicting_speed
from hubblefork.zoo import load_tree


@dataclass(frozen=True)
class Network:
    """A trained network: its recipe, notes and epochs, and how it was judged.

    `predicted` and `votes` are (galaxy, answer) of the judged galaxies; `speed` is in galaxies predicted a
    second, `file_bytes` what its weights take on the disk.
    """

    name: str
    recipe: Recipe
    notes: dict[str, Any]
    rows: list[dict[str, float]]
    evaluation: dict[str, Any]
    predicted: NDArray
    votes: NDArray
    speed: float
    file_bytes: int

    @property
    def best_epoch(self) -> int:
        """The epoch whose weights were kept."""
        return int(self.notes["best_epoch"])

    @property
    def rmse(self) -> float:
        """The RMSE on the judged galaxies."""
        return float(self.evaluation["rmse"]["value"])

    @property
    def sd(self) -> float:
        """The standard deviation of the RMSE that the number of galaxies leaves: half its 68% interval."""
        low, high = self.evaluation["rmse"]["interval_68"]
        return (high - low) / 2

    @property
    def parameters(self) -> int:
        """How many parameters it has."""
        return int(self.notes["parameters"]["learned"])

    @property
    def seconds(self) -> NDArray[np.float64]:
        """The seconds of training at the end of each epoch, (epoch,)."""
        return np.cumsum([row["seconds"] for row in self.rows])

    @property
    def seconds_to_best(self) -> float:
        """The seconds of training to the epoch that was kept."""
        return float(self.seconds[[int(row["epoch"]) for row in self.rows].index(self.best_epoch)])


@dataclass(frozen=True)
class Study:
    """Everything the page is told from."""

    data: Path
    plan: Plan
    part: str
    networks: dict[str, Network | Missing]
    baselines: dict[str, Any]
    tuned: TuningResult | Missing
    folds: dict[str, Any] | Missing

    @property
    def trained(self) -> dict[str, Network]:
        """The networks that are there."""
        return {name: one for name, one in self.networks.items() if isinstance(one, Network)}


def read_study(data: Path, out: Path, plan: Plan, *, device: str = "", progress: Progress = silent) -> Study:
    """Read what there is."""
    part = read_split(data).judges[-1]
    names = (*plan.recipes, TUNED)
    with progress("reading", len(names)) as advance:
        networks = {}
        for name in names:
            networks[name] = _network(name, out / "runs" / name, part, device)
            advance(1)
    folds = out / FOLDS / "crossval.json"
    return Study(
        data=data,
        plan=plan,
        part=part,
        networks=networks,
        baselines=evaluate_baselines(data),
        tuned=_read_tuned(plan, out / TUNING),
        folds=json.loads(folds.read_text(encoding="utf-8")) if folds.exists() else _missing(FOLDS),
    )


def _network(name: str, run: Path, part: str, device: str) -> Network | Missing:
    if not (run / "evaluation.json").exists() or not RunFolder(run).is_finished():
        return _missing(name)
    notes, tree = RunFolder(run).notes(), load_tree()
    table = read_catalogue(Path(notes["data"]) / "catalogue.parquet")
    predicted, volunteers = matched(
        read_catalogue(run / "predictions" / f"{part}.parquet"), table.filter(labelled(table, tree))
    )
    return Network(
        name=name,
        recipe=read_recipe(run),
        notes=notes,
        rows=RunFolder(run).metrics(),
        evaluation=read_evaluation(run / "evaluation.json"),
        predicted=fractions(predicted, tree),
        votes=fractions(volunteers, tree),
        speed=predicting_speed(run, Path(notes["data"]), run / "speed.toml", device=device),
        file_bytes=(run / "weights.safetensors").stat().st_size,
    )


def _read_tuned(plan: Plan, folder: Path) -> TuningResult | Missing:
    return read_tuning(plan.tuned_from, folder) if (folder / "study.db").exists() else _missing(TUNING)


def _missing(name: str) -> Missing:
    return Missing(f"{name} is not done yet.", "the same command without --only-report does it")
