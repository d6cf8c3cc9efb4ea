"""Work in threads, in order, with little in memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

A = TypeVar("A")
T = TypeVar("T")
AHEAD = 3


def grouped(items: Iterable[A], together: int) -> Iterator[list[A]]:
    """Yield lists of so many items, the last one shorter."""
    left = iter(items)
    return iter(lambda: list(islice(left, together)), [])


def in_threads(items: Iterable[A], work: Callable[[A], T], threads: int | None = None) -> Iterator[T]:
    """Yield the results of `work` in the order of items; for each of `threads` some items are ahead."""
    threads = threads or cores()
    pool, waiting = ThreadPoolExecutor(threads), deque[Future[T]]()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= threads * AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
