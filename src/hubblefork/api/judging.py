"""A run on galaxies outside its training set, what is calibrated on them, and cross validation."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from hubblefork.data.catalogue import (
    fractions,
    labelled,
    matched,
    read_catalogue,
    with_metadata,
    write_catalogue,
)
from hubblefork.data.folders import DataFolder, RunFolder, evaluate_command
from hubblefork.data.judged import check_weights
from hubblefork.data.split import TEST, VALIDATION, Fold, Split, read_split
from hubblefork.errors import CatalogueError, RunError
from hubblefork.io import Progress, alone_in, digest_of, silent, write_text
from hubblefork.network.device import Hardware
from hubblefork.network.predict import predict_part
from hubblefork.network.recipe import Recipe
from hubblefork.network.training import train
from hubblefork.network.weights import EMBEDDED, weights_file
from hubblefork.stats.conformal import Calibrated, Intervals
from hubblefork.stats.detection import Confusions, confusions_of
from hubblefork.stats.estimators import Unavailable
from hubblefork.stats.evaluation import calibrate, write_evaluation
from hubblefork.stats.evaluation import evaluate as evaluate_predictions
from hubblefork.stats.metrics import rmse
from hubblefork.zoo import read_tree

T = TypeVar("T", bound=Calibrated)
FOLDS = "folds"
"""The salt of cross validation."""
SAME_GALAXIES = Unavailable(
    "the galaxies that are judged are those that the intervals were calibrated on",
    "hubblefork split DATA --test 20, and train on it",
)


def evaluate(
    run: str | PathLike[str],
    part: str = "",
    *,
    data: str | PathLike[str] | None = None,
    views: int = 1,
    device: str = "",
    progress: Progress = silent,
) -> dict[str, Any]:
    """Judge a run on one part of its split; return what `evaluation.json` holds.

    Writes that file, `predictions/validation.parquet` and `predictions/test.parquet`, `intervals.json`:
    intervals for `predict`, calibrated on the validation galaxies and judged on the test galaxies, and
    `completeness.json`: what `mergers` corrects by where the weights are at hand and these galaxies are not.
    For several `views` the last four are named by them (`predictions/test-16-views.parquet`).

    `part` is "test" or "validation"; empty takes test, or validation when the split has no test
    galaxies (validation chose the weights, so its numbers flatter). Raises CatalogueError for
    another part or an empty one, RunError for a folder that holds no run, BusyError if another
    process evaluates it. `data` says where the run's data folder is now, if it was moved alone.
    """
    folder = RunFolder(run)
    if data is not None:
        folder.find_data(DataFolder(data))
    part = _part(folder.path, folder.split(), part)
    weights_file(folder.path)
    with alone_in(folder.predictions(part).parent, "evaluating this run"):
        return _evaluate(folder, part, views, device, progress)


def _evaluate(folder: RunFolder, part: str, views: int, device: str, progress: Progress) -> dict[str, Any]:
    split, tree = folder.split(), folder.tree()
    paths = {
        name: predict_part(folder.path, name, views=views, device=device, progress=progress)
        for name in split.judges
    }
    volunteers, weights = folder.data.catalogue(), digest_of(weights_file(folder.path))
    calibrating = read_catalogue(paths[VALIDATION])
    intervals = calibrate(tree, calibrating, volunteers, split, VALIDATION, weights=weights, views=views)
    if isinstance(intervals, Unavailable):
        folder.intervals(views).unlink(missing_ok=True)  # earlier ones
    else:
        intervals.write(folder.intervals(views))
    judged, origin = folder.judged(tree=tree, views=views), f"{' and '.join(split.judges)} galaxies"
    confusions = confusions_of(judged, tree, weights=weights, views=views, origin=origin)
    confusions.write(folder.confusions(views))
    judging = intervals if part == TEST or isinstance(intervals, Unavailable) else SAME_GALAXIES
    predicted, rng = read_catalogue(paths[part]), np.random.default_rng(0)
    result = evaluate_predictions(tree, predicted, volunteers, split, part, rng=rng, intervals=judging)
    result |= {"weights": weights, "views": views, "predictions": str(paths[part].relative_to(folder.path))}
    write_evaluation(result, folder.evaluation_file)
    return result


def evaluate_baselines(place: str | PathLike[str], part: str = "") -> dict[str, Any]:
    """Judge the baselines alone, for the split of a data folder or of a run.

    `part` as for `evaluate`. Raises CatalogueError, RunError for a folder that is neither.
    """
    run, data = RunFolder(place), DataFolder(place)
    if not data.exists() and not run.exists():
        raise RunError(
            f"{place} is neither a data folder (catalogue.parquet) nor a run (run.toml): "
            "make one with `hubblefork ingest` or `hubblefork train`"
        )
    volunteers, split = (data if data.exists() else run.data).catalogue(), data.split()
    part, rng = _part(data.path, split, part), np.random.default_rng(0)
    return evaluate_predictions(data.tree(), None, volunteers, split, part, rng=rng)


def _part(place: Path, split: Split, part: str) -> str:
    part = part or split.judges[-1]
    if part not in split.judges:
        raise CatalogueError(
            f'{place}: "{part}" is no part that can be judged on; '
            f"the split {split} has {', '.join(split.judges)}"
        )
    return part


def intervals_of(run: Path, *, views: int = 1, others: Sequence[Path] = ()) -> Intervals:
    """Read the intervals beside a run's weights (a run folder, or the .safetensors file).

    Raises RunError where there are none, and where they are of other weights, of another number of views
    of each galaxy or of an earlier way to look at it, or wanted for a mean over several runs.
    """
    if others:
        raise RunError(f"intervals are calibrated for one run, and {1 + len(others)} predict together")
    return _beside(run, Intervals, RunFolder.intervals, views)


def confusions_beside(run: Path, *, views: int, predicted: str = "") -> Confusions:
    """Read the completeness and false-positive rate beside a run's weights; raises as `intervals_of` does.

    `predicted` is the SHA-256 of the weights that predicted a catalogue, empty where it is not said; others
    are refused.
    """
    confusions = _beside(run, Confusions, RunFolder.confusions, views)
    check_weights(run, confusions.weights, predicted, evaluate_command(run, views))
    origin = f"{confusions.origin} of {run}, by the numbers beside its weights (for galaxies alike)"
    return replace(confusions, origin=origin)


def _beside(run: Path, kind: type[T], place: Callable[[RunFolder, int], Path], views: int) -> T:
    weights = weights_file(run)
    path = place(RunFolder(weights.parent), views)
    if not path.exists() and weights == EMBEDDED:
        raise RunError("the weights that come along are calibrated for --views 1 and --views 16")
    return kind.read_for(path, digest_of(weights), views, run)


def adding_bounds(
    run: Path, coverage: float, *, views: int = 1, others: Sequence[Path] = ()
) -> Callable[[pa.Table], pa.Table]:
    """Return what adds `<answer>_low` and `<answer>_high` to a catalogue of the run's predictions.

    Raises as `intervals_of` does, and CatalogueError for a coverage that the intervals do not have.
    """
    intervals = intervals_of(run, views=views, others=others)
    intervals.check(coverage)

    def add(table: pa.Table) -> pa.Table:
        predicted = [table.column(name).cast(pa.float64()).to_numpy() for name in intervals.answers]
        bounds = intervals.bounds(np.stack(predicted, axis=1), coverage)
        low, high = (bound.astype(np.float32) for bound in bounds)
        for column, name in enumerate(intervals.answers):
            table = table.append_column(f"{name}_low", pa.array(low[:, column]))
            table = table.append_column(f"{name}_high", pa.array(high[:, column]))
        how = f"conformal, calibrated on {intervals.origin} of {run}"
        return with_metadata(table, {"interval_coverage": f"{coverage:g}", "intervals": how})

    return add


def crossval(
    data: Path,
    recipe: Recipe,
    out: Path,
    *,
    folds: int = 5,
    salt: str = FOLDS,
    weights: Path | None = None,
    hardware: Hardware | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train a recipe once for each fold and judge it on that fold; return what `crossval.json` holds.

    Which fold a galaxy is in is a hash of its id with `salt`. The data folder's own test galaxies are left
    out altogether, galaxies that are not on its `judge_on` list only train, and its validation galaxies,
    but for those of the fold, choose the weights. Each fold is a run folder `fold-<k>`; called again it
    goes on where it stopped. Writes `out_of_fold.parquet`, the labelled galaxies of all folds with the fold
    each is in. Raises as `train` does, RunError for fewer than 2 folds and for a folder of other folds.
    """
    if folds < 2:
        raise RunError(f"{folds} folds: cross validation needs at least 2")
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
    tree, runs = read_tree(data), [RunFolder(run) for run in judged]
    found, notes = [run.evaluation() for run in runs], [run.notes() for run in runs]
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
