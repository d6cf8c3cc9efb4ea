"""What lies beside a run's weights, checked to belong to them: intervals and detection rates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa

from hubblefork.data.catalogue import with_metadata
from hubblefork.data.folders import VIEWING, evaluate_command, named_by_views
from hubblefork.errors import RunError
from hubblefork.network.weights import EMBEDDED, digest_of, weights_file
from hubblefork.stats.conformal import INTERVALS, Intervals, read_intervals
from hubblefork.stats.detection import COMPLETENESS, Confusions, read_confusions

T = TypeVar("T", Intervals, Confusions)


def intervals_of(run: Path, *, views: int = 1, others: Sequence[Path] = ()) -> Intervals:
    """Read the intervals beside a run's weights (a run folder, or the .safetensors file).

    Raises RunError where there are none, and where they are of other weights, of another number of views
    of each galaxy or of an earlier way to look at it, or wanted for a mean over several runs.
    """
    if others:
        raise RunError(f"intervals are calibrated for one run, and {1 + len(others)} predict together")
    return _belonging(read_intervals, INTERVALS, run, views)


def confusions_beside(run: Path, *, views: int) -> Confusions:
    """Read the completeness and false-positive rate beside a run's weights; raises as `intervals_of` does."""
    found = _belonging(read_confusions, COMPLETENESS, run, views)
    return replace(
        found, origin=f"{found.origin} of {run}, by the numbers beside its weights (for galaxies alike)"
    )


def _belonging(read: Callable[[Path], T], name: str, run: Path, views: int) -> T:
    weights = weights_file(run)
    path = weights.parent / named_by_views(name, views)
    evaluate = evaluate_command(path.parent, views)
    if not path.exists() and weights == EMBEDDED:
        raise RunError("the weights that come along are calibrated for --views 1 and --views 16")
    if not path.exists():
        raise RunError(f"{path.parent}: there is no {path.name}; `{evaluate}` makes it")
    found = read(path)
    if found.weights != digest_of(weights):
        raise RunError(f"{path} is of other weights than {run}; `{evaluate}` makes it anew")
    if found.viewing != VIEWING:
        raise RunError(
            f"{path} was made by an earlier hubblefork, which looked at galaxies otherwise; "
            f"`{evaluate}` makes it anew"
        )
    if found.views != views:
        raise RunError(f"{path} is for --views {found.views}, not {views}; `{evaluate}` makes it anew")
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
