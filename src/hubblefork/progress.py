"""How long work tells how far it is: a protocol, and the silence that is its default.

The library never prints. Functions that work for long take a `Progress`; the command line
hands them bars, a test hands them a list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int], None]


class Progress(Protocol):
    """Opens one bar: `with progress("stamps", total=100, done=20) as advance: advance(1)`."""

    def __call__(self, what: str, total: int | None, done: int = 0) -> AbstractContextManager[Advance]:
        """Open a bar named `what` over `total` steps (None: unknown), `done` of them done before."""
        ...


@contextmanager
def silent(what: str, total: int | None, done: int = 0) -> Iterator[Advance]:
    """Show nothing."""
    yield lambda steps: None
