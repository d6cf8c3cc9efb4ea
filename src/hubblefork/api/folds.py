"""Cross validation: every galaxy that may be judged is judged once, by a network that did not see it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from hubblefork.api.judging import evaluate
from hubblefork.data.catalogue import (
    fractions,
    labelled,
    matched,
    read_catalogue,
    with_metadata,
    write_catalogue,
)
from hubblefork.data.folders import RunFolder
from hubblefork.data.split import Fold, read_split
from hubblefork.errors import RunError
from hubblefork.io import Progress, silent, write_text
from hubblefork.network.device import Hardware
from hubblefork.network.recipe import Recipe
from hubblefork.network.training import train
from hubblefork.stats.evaluation import read_evaluation
from hubblefork.stats.metrics import rmse
from hubblefork.zoo import read_tree

SALT = "folds"


def crossval(
    data: Path,
    recipe: Recipe,
    out: Path,
    *,
    folds: int = 5,
    salt: str = SALT,
    weights: Path | None = None,
    hardware: Hardware | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train a recipe once for each fold and judge it on that fold; return what `crossval.json` holds.

    Which fold a galaxy is in is a hash of its id with `salt`. The data folder's own test galaxies are left
    out altogether, galaxies that are not on its `judge_on` list only train, and its validation galaxies,
    but for those of the fold, choose the weights. Each fold is a run folder `fold-<k>`; called again it
    goes on where it stopped. Writes `out_of_fold.parquet`, the labelled galaxies of all folds with the fold
    each is in. Raises as `train` does, RunError for a folder of other folds.
    """
    split = read_split(data)
    parts = [replace(split, fold=Fold(salt, folds, number)) for number in range(folds)]
    _check_same_folds(out, folds)
    for number, part in enumerate(parts):
        run = out / f"fold-{number}"
        train(data, recipe, run, weights=weights, hardware=hardware, split=part, progress=progress)
        if not (run / "evaluation.json").exists():
            evaluate(run, device=hardware.device if hardware else "", progress=progress)
    judged = [out / f"fold-{number}" for number in range(folds)]
    table = _out_of_fold(data, judged)
    write_catalogue(with_metadata(table, {"recipe": recipe.name, "salt": salt}), out / "out_of_fold.parquet")
    found = {"recipe": recipe.name, "folds": folds, "salt": salt, **_summary(judged, table, data)}
    write_text(out / "crossval.json", json.dumps(found, indent=2, allow_nan=False) + "\n")
    return found


def _check_same_folds(out: Path, folds: int) -> None:
    others = [path for path in out.glob("fold-*") if int(path.name.removeprefix("fold-")) >= folds]
    if others:
        raise RunError(
            f"{out} holds {len(others)} folds more than --folds {folds}; "
            "choose another --out, or remove the folder"
        )


def _out_of_fold(data: Path, judged: Sequence[Path]) -> pa.Table:
    """Return the predictions of the labelled galaxies, each by the run that did not see it."""
    tables = []
    for number, run in enumerate(judged):
        table = read_catalogue(run / "predictions" / "test.parquet").replace_schema_metadata(None)
        tables.append(table.append_column("fold", pa.array(np.full(len(table), number, np.int32))))
    catalogue = read_catalogue(data / "catalogue.parquet")
    known = catalogue.filter(labelled(catalogue, read_tree(data)))
    return matched(pa.concat_tables(tables), known)[0]


def _summary(judged: Sequence[Path], table: pa.Table, data: Path) -> dict[str, Any]:
    tree, found = read_tree(data), [read_evaluation(run / "evaluation.json") for run in judged]
    notes = [RunFolder(run).notes() for run in judged]
    predicted, volunteers = matched(table, read_catalogue(data / "catalogue.parquet"))
    return {
        "galaxies": len(table),
        "rmse": _spread([one["rmse"]["value"] for one in found]),
        "agreement": _spread([one["agreement"]["value"] for one in found if one["agreement"]]),
        "mean_vote": _spread([one["baselines"]["mean_vote"]["rmse"]["value"] for one in found]),
        "out_of_fold_rmse": rmse(fractions(predicted, tree), fractions(volunteers, tree)),
        "training_galaxies": [one["training_galaxies"] for one in found],
        "judged_galaxies": [one["galaxies"] for one in found],
        "epochs": [one["epochs"] for one in notes],
        "galaxies_per_second": float(np.median([one["galaxies_per_second"] for one in notes])),
    }


def _spread(values: Sequence[float]) -> dict[str, Any]:
    """Return mean and standard deviation (of the sample) of the folds' values, and these."""
    if not values:
        return {}
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": float(np.mean(values)), "sd": spread, "folds": list(values)}
