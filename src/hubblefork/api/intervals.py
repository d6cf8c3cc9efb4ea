"""The intervals of a run's predictions: conformal ones, which lie beside its weights, or credible ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hubblefork.data.folders import RunFolder
from hubblefork.data.trained import Trained, is_packaged, weights_file
from hubblefork.errors import RunError
from hubblefork.io import digest_of
from hubblefork.prediction.runtimes import open_network
from hubblefork.stats.conformal import Calibrated, Intervals, credible_bounds
from hubblefork.tables.catalogue import with_metadata

T = TypeVar("T", bound=Calibrated)
Bounds = Callable[[pa.Table], tuple[NDArray[np.float64], NDArray[np.float64]]]


def intervals_of(run: Path, *, views: int = 1, others: Sequence[Path] = ()) -> Intervals:
    """Read the intervals beside a run's weights (a run folder, or the .safetensors file).

    Raises RunError where there are none, and where they are of other weights, of another number of views
    of each galaxy or of an earlier way to look at it, or wanted for a mean over several runs.
    """
    if others:
        raise RunError(f"intervals are calibrated for one run, and {1 + len(others)} predict together")
    return beside(run, Intervals, RunFolder.intervals, views)


def beside(run: Path, kind: type[T], place: Callable[[RunFolder, int], Path], views: int) -> T:
    """Read what is calibrated for a run's weights and so many views; raises as `intervals_of` does."""
    weights = weights_file(run)
    path = place(RunFolder(weights.parent), views)
    if not path.exists() and is_packaged(weights):
        raise RunError("the weights that come along are calibrated for --views 1 and --views 16")
    return kind.read_for(path, digest_of(weights), views, run)


def adding_bounds(
    run: Path,
    coverage: float,
    *,
    views: int = 1,
    others: Sequence[Path] = (),
    trained: Callable[[], Trained] | None = None,
) -> Callable[[pa.Table], pa.Table]:
    """Return what adds `<answer>_low` and `<answer>_high` to a catalogue of the run's predictions.

    The intervals are conformal where they were calibrated; else a network with concentrations has credible
    ones; `trained` returns what is known of it where it is open already. Raises as `intervals_of` does, and
    CatalogueError for a coverage that there is not.
    """
    try:
        intervals = intervals_of(run, views=views, others=others)
    except RunError:
        if others:
            raise
        network = trained() if trained else open_network(run).trained
        tree = network.tree
        if network.outputs == len(tree.columns):
            raise
        how = "credible: of the fraction itself, by the network's Dirichlet distributions"
        return partial(_with_bounds, partial(credible_bounds, tree, coverage), tree.columns, coverage, how)
    intervals.check(coverage)

    def bounds(table: pa.Table) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        predicted = [table.column(name).cast(pa.float64()).to_numpy() for name in intervals.answers]
        return intervals.bounds(np.stack(predicted, axis=1), coverage)

    how = f"conformal, calibrated on {intervals.origin} of {run}"
    return partial(_with_bounds, bounds, tuple(intervals.answers), coverage, how)


def _with_bounds(
    bounds: Bounds, answers: Sequence[str], coverage: float, how: str, table: pa.Table
) -> pa.Table:
    low, high = (bound.astype(np.float32) for bound in bounds(table))
    for column, name in enumerate(answers):
        table = table.append_column(f"{name}_low", pa.array(low[:, column]))
        table = table.append_column(f"{name}_high", pa.array(high[:, column]))
    return with_metadata(table, {"interval_coverage": f"{coverage:g}", "intervals": how})
