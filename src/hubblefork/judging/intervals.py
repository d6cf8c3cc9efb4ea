"""Intervals beside predictions: those of a run, checked to belong to it, as columns of a catalogue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from hubblefork.errors import RunError
from hubblefork.network.runs import digest_of, weights_file
from hubblefork.science.intervals import INTERVALS, Intervals, read_intervals
from hubblefork.sky.catalogue import with_metadata
from hubblefork.sky.split import VIEWING, evaluate_command


def intervals_of(run: Path, *, views: int = 1, others: Sequence[Path] = ()) -> Intervals:
    """Read the intervals beside a run's weights (a run folder, or the .safetensors file).

    Raises RunError where there are none, and where they are of other weights, of another number of views
    of each galaxy or of an earlier way to look at it, or wanted for a mean over several runs.
    """
    folder = weights_file(run).parent
    evaluate = evaluate_command(folder, views)
    if others:
        raise RunError(f"intervals are calibrated for one run, and {1 + len(others)} predict together")
    if not (folder / INTERVALS).exists():
        raise RunError(f"{folder}: there is no {INTERVALS}; `{evaluate}` makes it")
    found = read_intervals(folder / INTERVALS)
    if found.weights != digest_of(weights_file(run)):
        raise RunError(f"{folder / INTERVALS} is of other weights than {run}; `{evaluate}` makes it anew")
    if found.viewing != VIEWING:
        raise RunError(
            f"{folder / INTERVALS} was made by an earlier hubblefork, which looked at galaxies otherwise; "
            f"`{evaluate}` makes it anew"
        )
    if found.views != views:
        raise RunError(
            f"{folder / INTERVALS} is for --views {found.views}, not {views}: predict with as many, "
            f"or `{evaluate}` makes it anew"
        )
    return found


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
