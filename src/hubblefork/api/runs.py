"""A run judged: its predictions on galaxies it did not train on, against the volunteers and the baselines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hubblefork.data.catalogue import read_catalogue
from hubblefork.data.folders import RunFolder, named_by_views
from hubblefork.data.split import TEST, VALIDATION, Split, read_split
from hubblefork.errors import CatalogueError, RunError
from hubblefork.io import Progress, silent
from hubblefork.network.predict import predict_part
from hubblefork.network.weights import digest_of, weights_file
from hubblefork.stats.conformal import INTERVALS, Intervals, write_intervals
from hubblefork.stats.detection import COMPLETENESS, confusions_of, write_confusions
from hubblefork.stats.estimators import Unavailable
from hubblefork.stats.evaluation import calibrate, evaluate, evaluate_baselines, write_evaluation
from hubblefork.zoo import read_tree

SAME_GALAXIES = Unavailable(
    "the galaxies that are judged are those that the intervals were calibrated on",
    "hubblefork split DATA --test 20, and train on it",
)


def evaluate_run(
    run: Path, part: str = "", *, views: int = 1, device: str = "", progress: Progress = silent
) -> dict[str, Any]:
    """Judge a run on one part of its split; return what `evaluation.json` holds.

    Writes that file, `predictions/validation.parquet` and `predictions/test.parquet`, `intervals.json`:
    intervals for `predict`, calibrated on the validation galaxies and judged on the test galaxies, and
    `completeness.json`: what `mergers` corrects by where the weights are at hand and these galaxies are not.
    For several `views` the last four are named by them (`predictions/test-16-views.parquet`).

    `part` is "test" or "validation"; empty takes test, or validation when the split has no test
    galaxies (validation chose the weights, so its numbers flatter). Raises CatalogueError for
    another part or an empty one, RunError for a folder that holds no run.
    """
    split = read_split(run)
    part = _part(run, split, part)
    paths = {
        name: predict_part(run, name, views=views, device=device, progress=progress) for name in split.judges
    }
    volunteers = read_catalogue(Path(RunFolder(run).notes()["data"]) / "catalogue.parquet")
    rng, tree = np.random.default_rng(0), read_tree(run)
    weights = digest_of(weights_file(run))
    calibrating = read_catalogue(paths[VALIDATION])
    intervals = calibrate(tree, calibrating, volunteers, split, VALIDATION, weights=weights, views=views)
    _keep(intervals, run / named_by_views(INTERVALS, views))
    held_out, origin = RunFolder(run).judged(tree=tree, views=views), f"{' and '.join(split.judges)} galaxies"
    known = confusions_of(held_out, tree, weights=weights, views=views, origin=origin)
    write_confusions(known, run / named_by_views(COMPLETENESS, views))
    judged = intervals if part == TEST or isinstance(intervals, Unavailable) else SAME_GALAXIES
    predicted = read_catalogue(paths[part])
    found = evaluate(tree, predicted, volunteers, split, part, rng=rng, intervals=judged)
    found |= {"views": views, "predictions": str(paths[part].relative_to(run))}
    write_evaluation(found, run / "evaluation.json")
    return found


def _keep(intervals: Intervals | Unavailable, path: Path) -> None:
    """Write the intervals of a run; where there are none, leave no earlier ones."""
    if isinstance(intervals, Unavailable):
        path.unlink(missing_ok=True)
    else:
        write_intervals(intervals, path)


def baselines_of(place: Path, part: str = "") -> dict[str, Any]:
    """Judge the baselines alone, for the split of a data folder or of a run.

    `part` as for `evaluate_run`. Raises CatalogueError, RunError for a folder that is neither.
    """
    data = place if (place / "catalogue.parquet").exists() else _data_of(place)
    split = read_split(place)
    volunteers, rng = read_catalogue(data / "catalogue.parquet"), np.random.default_rng(0)
    return evaluate_baselines(read_tree(place), volunteers, split, _part(place, split, part), rng=rng)


def _data_of(place: Path) -> Path:
    if not (place / "run.toml").exists():
        raise RunError(
            f"{place} is neither a data folder (catalogue.parquet) nor a run (run.toml): "
            "make one with `hubblefork ingest` or `hubblefork train`"
        )
    return Path(RunFolder(place).notes()["data"])


def _part(place: Path, split: Split, part: str) -> str:
    part = part or split.judges[-1]
    if part not in split.judges:
        raise CatalogueError(
            f'{place}: "{part}" is no part that can be judged on; '
            f"the split {split} has {', '.join(split.judges)}"
        )
    return part
