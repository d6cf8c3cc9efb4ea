"""Chunks predicted by the workers of a Ray cluster: tasks read images, actors compute and write shards.

A worker that is lost is replaced, and what it had not finished is done again; a shard is whole or absent.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hubblefork.errors import ImageError, extras
from hubblefork.io import grouped, in_threads
from hubblefork.prediction.chunks import Chunk, predict_chunks
from hubblefork.prediction.loop import Batch, ImageSet, Prepared, computed, data_folder, opened, prepared
from hubblefork.tables.shards import CatalogueFolder

TOGETHER = 256
"""Images that a task decodes in one piece."""


@dataclass
class Task:
    """A chunk with the number of its source, its images once they are stamps, and whether it is written."""

    source: int
    chunk: Chunk
    images: Prepared | None = None


def predict_on_ray(
    call: Any,
    opening: Callable[[], Any],
    folder: CatalogueFolder,
    tasks: Sequence[Task],
    *,
    address: str,
) -> None:
    """Predict chunks and write their shards.

    `opening` makes in a worker what `call` is here: an `output.Call`. `address` is that of a running
    cluster, "auto" for the one of this computer, empty to start one here. Raises ExtraMissing, and what the
    first failing chunk raises.
    """
    with extras("--engine ray"):
        import ray
    if data_folder(call.images):
        raise ImageError("a data folder is predicted without Ray: leave out --engine, or name its images")
    here = Path.cwd()  # paths are those of the command
    shown = call.predictor
    how = partial(prepared, shown.stamps, shown.field, shown.reading)
    read = partial(_read, here=here, images=call.images, files=shown.reading.files, how=how)
    logging.disable(logging.WARNING)  # its plans and actors, at each call
    try:
        ray.init(address=address or None, log_to_driver=False, ignore_reinit_error=True)
        ray.data.DataContext.get_current().enable_progress_bars = False
        cpus, gpus = (int(ray.cluster_resources().get(kind, 0)) for kind in ("CPU", "GPU"))
        workers = min(len(tasks), gpus or max(1, cpus))
        on = {"num_gpus": 1} if gpus else {"num_cpus": 1}
        stamps = ray.data.from_items([{"task": task} for task in tasks], override_num_blocks=len(tasks))
        written = stamps.map(read, num_cpus=1).map(
            _Writer, fn_constructor_args=(opening, folder.path, here), concurrency=workers, **on
        )
        with call.progress("predicting by Ray", sum(len(task.chunk.images) for task in tasks)) as advance:
            for row in written.iter_rows():
                advance(row["images"])
    finally:
        logging.disable(logging.NOTSET)


def _read(
    row: dict[str, Task], *, here: Path, images: Any, files: str, how: Callable[..., Prepared]
) -> dict[str, Task]:
    """Return the images of a chunk as stamps."""
    os.chdir(here)
    task = row["task"]
    with opened(images, files)[task.source] as source:
        groups = grouped(source.stream(task.chunk.images), TOGETHER)
        parts = list(in_threads(groups, partial(how, source.path, source.targets), threads=1))
    whole = Prepared(
        [name for part in parts for name in part.names],
        [side for part in parts for side in part.sides],
        np.concatenate([part.stamps for part in parts]),
        [reject for part in parts for reject in part.rejects],
        [name for part in parts for name in part.unread],
    )
    return {"task": replace(task, images=whole)}


class _Writer:
    """An actor that computes chunks and writes their shards."""

    def __init__(self, opening: Callable[[], Any], folder: Path, here: Path) -> None:
        os.chdir(here)
        self.call, self.folder = opening(), CatalogueFolder(folder)

    def __call__(self, row: dict[str, Task]) -> dict[str, int]:
        """Write the shard of a task; return the number of its images."""
        chunk, images = row["task"].chunk, row["task"].images
        assert images is not None
        stamps = ImageSet("", {}, [], lambda _: self._batches(images))
        predict_chunks(stamps, [chunk], self.folder, self.call.shard)
        return {"images": len(chunk.images)}

    def _batches(self, images: Prepared) -> Iterator[Batch]:
        predictor = self.call.predictor
        for start in range(0, len(images.names), predictor.galaxies):
            part = slice(start, start + predictor.galaxies)
            yield computed(
                predictor, Prepared(images.names[part], images.sides[part], images.stamps[part], [], [])
            )
        yield computed(predictor, images._replace(names=[], sides=[]))
