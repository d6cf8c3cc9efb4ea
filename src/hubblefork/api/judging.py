"""A run on galaxies outside its training set, and what is calibrated on them."""

from __future__ import annotations

from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from hubblefork.api.intervals import beside
from hubblefork.data.folders import DataFolder, RunFolder, evaluate_command
from hubblefork.data.judged import check_weights
from hubblefork.data.split import TEST, VALIDATION, Split
from hubblefork.data.trained import weights_file
from hubblefork.errors import CatalogueError, RunError
from hubblefork.io import Progress, alone_in, digest_of, silent
from hubblefork.prediction.runs import predict_part
from hubblefork.stats.detection import Confusions, confusions_of
from hubblefork.stats.estimators import Unavailable
from hubblefork.stats.evaluation import calibrate, write_evaluation
from hubblefork.stats.evaluation import evaluate as evaluate_predictions
from hubblefork.tables.catalogue import read_catalogue

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
    folder.notes()  # refuses what is no run before anything is written
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


def confusions_beside(run: Path, *, views: int, predicted: str = "") -> Confusions:
    """Read the completeness and false-positive rate beside a run's weights; raises as `intervals_of` does.

    `predicted` is the SHA-256 of the weights that predicted a catalogue, empty where it is not said; others
    are refused.
    """
    confusions = beside(run, Confusions, RunFolder.confusions, views)
    check_weights(run, confusions.weights, predicted, evaluate_command(run, views))
    origin = f"{confusions.origin} of {run}, by the numbers beside its weights (for galaxies alike)"
    return replace(confusions, origin=origin)
