"""Stamps to batches: one uint8 tensor on the device where it fits, the memory map where it does not.

No worker processes: a batch is one gather and, for training, one resampling, both on the device.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SHARE_OF_DEVICE = 0.5

View = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class LabelledStamps:
    """Stamps of a set of galaxies with their labels.

    `pixels` (any galaxy, y, x, band) uint8, of which `rows` are this set's; `labels` (galaxy, answer) on
    the device, NaN where nobody was asked.
    """

    pixels: Tensor
    rows: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Return the stamps and labels of some galaxies of the set, on the device of the labels."""
        stamps = self.pixels[self.rows[chosen].to(self.pixels.device)]
        return stamps.to(self.labels.device, non_blocking=True), self.labels[chosen.to(self.labels.device)]


def place(pixels: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Put stamps on the device when they take at most half of its free memory; else keep the memory map.

    On a CPU the memory map itself is the tensor: the system's page cache holds what is used.
    """
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        mapped = torch.from_numpy(pixels)
    if device.type == "cuda" and pixels.nbytes > SHARE_OF_DEVICE * torch.cuda.mem_get_info(device)[0]:
        return mapped
    return mapped if device.type == "cpu" else mapped.to(device)


@dataclass(frozen=True)
class ShuffledBatches:
    """One epoch of training batches: views and labels of galaxies in random order.

    `steps` batches drawn from as many shuffles of the set as it takes (0: one shuffle, the last
    batch short). The order and the views depend on `seed` and `epoch` alone, so that a resumed
    run sees what an uninterrupted one would have seen.
    """

    stamps: LabelledStamps
    view: View
    batch_size: int
    steps: int
    seed: int
    epoch: int

    def __len__(self) -> int:
        return self.steps or -(-len(self.stamps) // self.batch_size)

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
        for chosen in torch.cat(shuffles)[: self.galaxies].split(self.batch_size):
            stamps, labels = self.stamps.batch(chosen)
            yield self.view(stamps, moves), labels


@dataclass(frozen=True)
class OrderedBatches:
    """All galaxies of a set once, in order: views and labels."""

    stamps: LabelledStamps
    view: Callable[[Tensor], Tensor]
    batch_size: int

    def __len__(self) -> int:
        return -(-len(self.stamps) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for chosen in torch.arange(len(self.stamps)).split(self.batch_size):
            stamps, labels = self.stamps.batch(chosen)
            yield self.view(stamps), labels


def _mixed(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> 1)
