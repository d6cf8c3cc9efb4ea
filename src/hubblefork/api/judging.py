"""A run on galaxies outside its training set, and what is calibrated on them: intervals, completeness."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from hubblefork.data.catalogue import read_catalogue, with_metadata
from hubblefork.data.folders import DataFolder, RunFolder
from hubblefork.data.split import TEST, VALIDATION, Split
from hubblefork.errors import CatalogueError, RunError
from hubblefork.io import Progress, silent
from hubblefork.network.predict import predict_part
from hubblefork.network.weights import EMBEDDED, digest_of, weights_file
from hubblefork.stats.calibrated import Calibrated
from hubblefork.stats.conformal import Intervals
from hubblefork.stats.detection import Confusions, confusions_of
from hubblefork.stats.estimators import Unavailable
from hubblefork.stats.evaluation import calibrate, write_evaluation
from hubblefork.stats.evaluation import evaluate as evaluate_predictions
from hubblefork.stats.evaluation import evaluate_baselines as evaluate_baseline_predictions

T = TypeVar("T", bound=Calibrated)
SAME_GALAXIES = Unavailable(
    "the galaxies that are judged are those that the intervals were calibrated on",
    "hubblefork split DATA --test 20, and train on it",
)


def evaluate(
    run: str | PathLike[str], part: str = "", *, views: int = 1, device: str = "", progress: Progress = silent
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
    folder = RunFolder(run)
    split, tree = folder.split(), folder.tree()
    part = _part(folder.path, split, part)
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
    result |= {"views": views, "predictions": str(paths[part].relative_to(folder.path))}
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
    return evaluate_baseline_predictions(data.tree(), volunteers, split, part, rng=rng)


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


def confusions_beside(run: Path, *, views: int) -> Confusions:
    """Read the completeness and false-positive rate beside a run's weights; raises as `intervals_of` does."""
    confusions = _beside(run, Confusions, RunFolder.confusions, views)
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
