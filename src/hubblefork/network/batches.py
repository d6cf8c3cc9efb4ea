"""Stamps to batches: one uint8 tensor on the device where it fits, a stream from the disk where it does not.

No worker processes: a batch is one gather and, for training, one resampling, both on the device. The order
of the galaxies is sent there once an epoch, so that no step waits for the host, nor the host for a step.
"""

from __future__ import annotations

import mmap
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

SHARE_OF_DEVICE = 0.5

Draw = Callable[[int, torch.Generator], Tensor]
View = Callable[[Tensor, Tensor], Tensor]


def no_moves(galaxies: int, generator: torch.Generator) -> Tensor:
    """Draw nothing for each galaxy."""
    return torch.empty(galaxies, 0, device=generator.device)


@dataclass(frozen=True)
class Share:
    """Which galaxies of each batch this process takes: every `processes`-th, from `number` on."""

    number: int = 0
    processes: int = 1

    def of(self, batch: Tensor) -> Tensor:
        """Return this process's part of a batch."""
        return batch[self.number :: self.processes]


@dataclass(frozen=True)
class Streamed:
    """Stamps that stay on the disk, (galaxy, y, x, band) uint8: only a batch of them is in memory."""

    pixels: np.memmap

    @property
    def device(self) -> torch.device:
        """Where a batch is read to."""
        return torch.device("cpu")

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Read some stamps and let go of the pages of the file."""
        chosen = torch.from_numpy(np.asarray(self.pixels[rows.numpy()]))
        mapped = getattr(self.pixels, "_mmap", None)
        if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)
        return chosen


@dataclass(frozen=True)
class LabelledStamps:
    """Stamps of a set of galaxies with their labels.

    `pixels` (any galaxy, y, x, band) uint8, of which `rows`, where the pixels are, are this set's; `labels`
    (galaxy, answer) on the device, NaN where nobody was asked.
    """

    pixels: Tensor | Streamed
    rows: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Return the stamps and labels of some galaxies of the set, on the device of the labels.

        `chosen` are numbers in the set, where the pixels are.
        """
        stamps, where = self.pixels[self.rows[chosen]], self.labels.device
        return stamps.to(where, non_blocking=True), self.labels[chosen.to(where, non_blocking=True)]


def place(pixels: np.memmap, device: torch.device, memory: int | None = None) -> Tensor | Streamed:
    """Put stamps on the device when they take at most `memory` bytes; else stream them from the disk.

    Without a budget: half of a CUDA device's free memory. A CPU then uses the memory map as its tensor: the
    system's page cache holds what is used, and takes it back when memory is short.
    """
    if memory is None and device.type == "cuda":
        memory = int(SHARE_OF_DEVICE * torch.cuda.mem_get_info(device)[0])
    if memory is not None and pixels.nbytes > memory:
        return Streamed(pixels)
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        mapped = torch.from_numpy(pixels)
    return mapped if device.type == "cpu" else mapped.to(device)


@dataclass(frozen=True)
class ShuffledBatches:
    """One epoch of training batches: views and labels of galaxies in random order.

    `steps` batches drawn from as many shuffles of the set as it takes (0: one shuffle, the last batch short,
    or joined to the one before where it has no galaxy for each process). `draw` draws how the galaxies of a
    batch are moved, `view` moves them. Order and moves depend on `seed` and `epoch` alone, so that a resumed
    run sees what an uninterrupted one would have seen, and processes that share a batch what one would.
    """

    stamps: LabelledStamps
    view: View
    batch_size: int
    steps: int
    seed: int
    epoch: int
    draw: Draw = no_moves
    share: Share = Share()

    def __len__(self) -> int:
        return self.steps or len(self._sizes())

    @property
    def galaxies(self) -> int:
        """How many galaxies the epoch shows, repetitions counted."""
        return self.steps * self.batch_size or len(self.stamps)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.Generator().manual_seed(_mixed(self.seed, self.epoch))
        moves = torch.Generator(self.stamps.labels.device).manual_seed(_mixed(self.seed, self.epoch))
        shuffles = [
            torch.randperm(len(self.stamps), generator=order)
            for _ in range(-(-self.galaxies // len(self.stamps)))
        ]
        numbers = torch.cat(shuffles)[: self.galaxies].to(self.stamps.pixels.device)
        for chosen in numbers.split(self._sizes()):
            drawn = self.share.of(self.draw(len(chosen), moves))
            stamps, labels = self.stamps.batch(self.share.of(chosen))
            yield self.view(stamps, drawn), labels

    def _sizes(self) -> list[int]:
        whole, rest = divmod(self.galaxies, self.batch_size)
        sizes = [self.batch_size] * whole
        if rest >= self.share.processes or not sizes:
            return [*sizes, rest] if rest else sizes
        return [*sizes[:-1], sizes[-1] + rest]


@dataclass(frozen=True)
class OrderedBatches:
    """All galaxies of a set once, in order, shared between the processes: views and labels."""

    stamps: LabelledStamps
    view: Callable[[Tensor], Tensor]
    batch_size: int
    share: Share = Share()

    def __len__(self) -> int:
        return -(-len(self._rows()) // self.batch_size)

    def _rows(self) -> Tensor:
        return self.share.of(torch.arange(len(self.stamps), device=self.stamps.pixels.device))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for chosen in self._rows().split(self.batch_size):
            stamps, labels = self.stamps.batch(chosen)
            yield self.view(stamps), labels


def _mixed(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> 1)
