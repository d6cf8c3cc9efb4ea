"""Batches of labelled stamps: a uint8 tensor on the device if it fits, else a stream from the disk.

There are no worker processes: a batch is one gather and, for training, one resampling, both on the device.
The order of the galaxies is sent to the device once an epoch, so that no step waits for the host.
"""

from __future__ import annotations

import mmap
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import lightning
import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from hubblefork.data.folders import DataFolder
from hubblefork.data.split import SPLITS, TRAIN, VALIDATION, Split
from hubblefork.data.stamps import prepare
from hubblefork.errors import CatalogueError
from hubblefork.network.augment import (
    central_views,
    moved_views,
    random_light,
    random_moves,
    relit,
    still_views,
)
from hubblefork.network.device import Hardware
from hubblefork.network.recipe import Recipe
from hubblefork.tables.catalogue import fractions, galaxy_ids, labelled, votes_of
from hubblefork.zoo import DecisionTree

SHARE_OF_DEVICE = 0.5

Draw = Callable[[int, torch.Generator], tuple[Tensor, ...]]
View = Callable[..., Tensor]


def no_moves(galaxies: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Return no random numbers."""
    return ()


@dataclass(frozen=True)
class Share:
    """The part of each batch that a process takes: every `processes`-th galaxy, beginning with `number`."""

    number: int = 0
    processes: int = 1

    def of(self, batch: Tensor) -> Tensor:
        """Return this process's part of a batch."""
        return batch[self.number :: self.processes]


@dataclass(frozen=True)
class Streamed:
    """Stamps that stay on the disk, (galaxy, y, x, band) uint8: only one batch is in memory."""

    pixels: np.memmap
    device = torch.device("cpu")

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Read some stamps and release the pages of the file."""
        stamps = torch.from_numpy(np.asarray(self.pixels[rows.numpy()]))
        mapped = getattr(self.pixels, "_mmap", None)
        if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)
        return stamps


@dataclass(frozen=True)
class LabelledStamps:
    """A set of galaxies: the `rows` of `pixels` (any galaxy, y, x, band) uint8, with their labels.

    `rows` are on the device of the pixels; `labels` (galaxy, answer), NaN where nobody was asked, on the
    training device; vote counts may follow (`labels_of`).
    """

    pixels: Tensor | Streamed
    rows: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Return stamps and labels of the galaxies with these numbers in the set, on the training device."""
        stamps, device = self.pixels[self.rows[numbers]], self.labels.device
        return stamps.to(device, non_blocking=True), self.labels[numbers.to(device, non_blocking=True)]


def place(pixels: np.memmap, device: torch.device, memory: int | None = None) -> Tensor | Streamed:
    """Put stamps on the device if they take at most `memory` bytes; else stream them from the disk.

    The default limit is half of a CUDA device's free memory. On a CPU the memory map itself is the tensor:
    the operating system keeps in memory what is used.
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

    The set is shuffled as often as `steps` batches need (0: once; a last batch with fewer galaxies than
    processes is joined to the batch before). `draw` makes the random numbers of a batch and `view` applies
    them. Both depend on `seed` and `epoch` alone: a resumed run sees the same batches, and so do processes
    that share them.
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
        """The number of galaxies in the epoch, repetitions included."""
        return self.steps * self.batch_size or len(self.stamps)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        entropy = np.random.SeedSequence([self.seed, self.epoch]).generate_state(1, np.uint64)[0]
        seed = int(entropy >> np.uint64(1))
        order = torch.Generator().manual_seed(seed)
        moves = torch.Generator(self.stamps.labels.device).manual_seed(seed)
        shuffles = -(-self.galaxies // len(self.stamps))
        numbers = torch.cat([torch.randperm(len(self.stamps), generator=order) for _ in range(shuffles)])
        for chosen in numbers[: self.galaxies].to(self.stamps.pixels.device).split(self._sizes()):
            drawn = [self.share.of(numbers) for numbers in self.draw(len(chosen), moves)]
            stamps, labels = self.stamps.batch(self.share.of(chosen))
            yield self.view(stamps, *drawn), labels

    def _sizes(self) -> list[int]:
        whole, rest = divmod(self.galaxies, self.batch_size)
        sizes = [self.batch_size] * whole
        if rest >= self.share.processes or not sizes:
            return [*sizes, rest] if rest else sizes
        return [*sizes[:-1], sizes[-1] + rest]


@dataclass(frozen=True)
class OrderedBatches:
    """All galaxies of a set once, in order: views and labels, this process's share of them."""

    stamps: LabelledStamps
    view: Callable[[Tensor], Tensor]
    batch_size: int
    share: Share = Share()

    def __len__(self) -> int:
        return -(-len(self._numbers()) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for numbers in self._numbers().split(self.batch_size):
            stamps, labels = self.stamps.batch(numbers)
            yield self.view(stamps), labels

    def _numbers(self) -> Tensor:
        return self.share.of(torch.arange(len(self.stamps), device=self.stamps.pixels.device))


class GalaxyData(lightning.LightningDataModule):
    """The labelled galaxies of a data folder, split, with their stamps on the device.

    Raises CatalogueError if there is no galaxy for training or for validation.
    """

    def __init__(
        self, data: Path, recipe: Recipe, tree: DecisionTree, *, split: Split, hardware: Hardware
    ) -> None:
        super().__init__()
        self.data, self.recipe, self.tree, self.split, self.hardware = data, recipe, tree, split, hardware
        catalogue = DataFolder(data).catalogue()
        self.ids = galaxy_ids(catalogue).astype(str)
        self.rows = labelled_rows(catalogue, tree, split)
        self.labels = labels_of(catalogue, tree, votes=recipe.loss == "votes")
        self.parts: dict[str, LabelledStamps] = {}
        check_parts(data, self.rows, split)

    def setup(self, stage: str) -> None:
        """Put stamps and labels on the device of this process."""
        device = self.trainer.strategy.root_device if self.trainer else self.hardware.where
        pixels = place(prepare(self.data, self.recipe.stamps), device, self.hardware.memory)
        self.parts = {part: self._labelled(pixels, rows, device) for part, rows in self.rows.items()}

    def _labelled(
        self, pixels: Tensor | Streamed, rows: NDArray[np.intp], device: torch.device
    ) -> LabelledStamps:
        labels = torch.from_numpy(self.labels[rows]).to(device)
        return LabelledStamps(pixels, torch.from_numpy(rows).to(pixels.device), labels)

    @property
    def steps(self) -> int:
        """The number of batches in an epoch."""
        return self.recipe.steps_per_epoch or max(1, -(-len(self.rows[TRAIN]) // self.recipe.batch_size))

    @property
    def share(self) -> Share:
        """The share of a batch that this process takes."""
        return Share(self.trainer.global_rank, self.trainer.world_size) if self.trainer else Share()

    def train_dataloader(self) -> ShuffledBatches:
        """Return the batches of the current epoch."""
        recipe, size, by = self.recipe, self.recipe.input_size, self.recipe.augmentation

        def draw(galaxies: int, generator: torch.Generator) -> tuple[Tensor, ...]:
            moves = random_moves(galaxies, recipe.stamp_size, size, by, generator)
            light = random_light(galaxies, size, by, generator, recipe.bands) if by.relights else ()
            return moves, *light

        def view(stamps: Tensor, moves: Tensor | None = None, *light: Tensor) -> Tensor:
            views = central_views(stamps, size) if moves is None else moved_views(stamps, size, moves)
            return relit(views, by, *light) if light else views

        return ShuffledBatches(
            self.parts[TRAIN],
            view,
            recipe.batch_size,
            recipe.steps_per_epoch,
            recipe.seed,
            epoch=self.trainer.current_epoch if self.trainer else 0,
            draw=draw if recipe.augments else no_moves,
            share=self.share,
        )

    def val_dataloader(self) -> OrderedBatches:
        """Return this process's share of the validation galaxies, in order."""
        return self._in_order(self.parts[VALIDATION], self.share)

    def validation_batches(self) -> OrderedBatches:
        """Return all validation galaxies, in order."""
        return self._in_order(self.parts[VALIDATION], Share())

    def unselected_batches(self) -> OrderedBatches:
        """Return the training galaxies of the split's `judge_on` list, in order; without a list none."""
        train, rows = self.parts[TRAIN], self.rows[TRAIN]
        listed = np.isin(self.ids[rows], list(self.split.judge_on or ()))
        return self._in_order(self._labelled(train.pixels, rows[listed], train.labels.device), Share())

    def _in_order(self, stamps: LabelledStamps, share: Share) -> OrderedBatches:
        view = partial(still_views, size=self.recipe.input_size, by=self.recipe.augmentation)
        return OrderedBatches(stamps, view, self.recipe.batch_size, share)


def labels_of(catalogue: pa.Table, tree: DecisionTree, *, votes: bool) -> NDArray[np.float32]:
    """Return the joint fractions (galaxy, answer); with `votes` those of the counts, followed by these.

    The counts have the shape (galaxy, answer + question): see `heads.vote_loss`. Raises CatalogueError where
    there are none.
    """
    counts = votes_of(catalogue, tree) if votes else None
    if votes and counts is None:
        raise CatalogueError(
            "loss = votes learns from vote counts, and the catalogue has fractions only: ingest a table with "
            "counts, or choose --set loss=rmse"
        )
    if counts is None:
        return fractions(catalogue, tree).astype(np.float32)
    return np.hstack([fractions(catalogue, tree), counts.given, counts.asked]).astype(np.float32)


def check_parts(data: Path, rows: Mapping[str, NDArray[np.intp]], split: Split) -> None:
    """Raise CatalogueError where no galaxy is left to train on, or to validate by."""
    for part in (TRAIN, VALIDATION):
        if not len(rows[part]):
            raise CatalogueError(
                f"{data}: no labelled galaxy is in the {part} part of {split}; give that part more per cent"
            )


def labelled_rows(catalogue: pa.Table, tree: DecisionTree, split: Split) -> dict[str, NDArray[np.intp]]:
    """Return the rows of the galaxies with at least one label, for each part of the split."""
    parts, has_labels = split.assign(galaxy_ids(catalogue).tolist()), labelled(catalogue, tree)
    return {part: np.flatnonzero(has_labels & (parts == part)) for part in SPLITS}
