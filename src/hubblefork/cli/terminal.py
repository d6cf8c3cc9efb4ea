"""Progress bars in the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import TimeRemainingColumn as RemainingColumn

from hubblefork.io import Advance

quiet = False
"""No bars: the option -q."""


@contextmanager
def bar(what: str, total: int | None, done: int = 0) -> Iterator[Advance]:
    """Show one bar on standard error: a `hubblefork.io.Progress`."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        RemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as bars:
        task = bars.add_task(what, total=total, completed=done)
        yield lambda steps: bars.advance(task, steps)
