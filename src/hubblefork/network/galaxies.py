"""The galaxies of a training: which of them, where their stamps lie, the batches that are made of them."""

from __future__ import annotations

from pathlib import Path

import lightning
import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from hubblefork.data.catalogue import fractions, galaxy_ids, labelled, read_catalogue
from hubblefork.data.split import SPLITS, TRAIN, VALIDATION, Split
from hubblefork.data.stamps import prepare
from hubblefork.errors import CatalogueError
from hubblefork.network.augment import central_views, moved_views, random_moves, still_views
from hubblefork.network.batches import (
    LabelledStamps,
    OrderedBatches,
    Share,
    ShuffledBatches,
    Streamed,
    no_moves,
    place,
)
from hubblefork.network.device import Machine
from hubblefork.network.recipe import Recipe
from hubblefork.zoo import DecisionTree


class GalaxyData(lightning.LightningDataModule):
    """The labelled galaxies of a data folder, split, with their stamps on the device.

    Raises CatalogueError when a part to train or to choose on is empty.
    """

    def __init__(
        self,
        data: Path,
        recipe: Recipe,
        tree: DecisionTree,
        *,
        split: Split,
        machine: Machine,
    ) -> None:
        super().__init__()
        self.data, self.recipe, self.split, self.machine = data, recipe, split, machine
        catalogue = read_catalogue(data / "catalogue.parquet")
        self.ids = galaxy_ids(catalogue).astype(str)
        self.rows = labelled_rows(catalogue, tree, split)
        self.labels = fractions(catalogue, tree).astype(np.float32)
        self.parts: dict[str, LabelledStamps] = {}
        for part in (TRAIN, VALIDATION):
            if not len(self.rows[part]):
                raise CatalogueError(f"{data}: no labelled galaxy is in the {part} part of {split}")

    def setup(self, stage: str) -> None:
        """Put stamps and labels where this process trains."""
        where = self.trainer.strategy.root_device if self.trainer else self.machine.where
        pixels = place(prepare(self.data, self.recipe.stamps).pixels, where, self.machine.memory)
        self.parts = {part: self._labelled(pixels, rows, where) for part, rows in self.rows.items()}

    def _labelled(
        self, pixels: Tensor | Streamed, rows: NDArray[np.intp], where: torch.device
    ) -> LabelledStamps:
        return LabelledStamps(
            pixels, torch.from_numpy(rows).to(pixels.device), torch.from_numpy(self.labels[rows]).to(where)
        )

    @property
    def steps(self) -> int:
        """The number of batches in an epoch."""
        return self.recipe.steps_per_epoch or max(1, -(-len(self.rows[TRAIN]) // self.recipe.batch_size))

    @property
    def share(self) -> Share:
        """Which galaxies of a batch are this process's."""
        return Share(self.trainer.global_rank, self.trainer.world_size) if self.trainer else Share()

    def train_dataloader(self) -> ShuffledBatches:
        """Return the batches of the current epoch."""
        recipe, size = self.recipe, self.recipe.input_size

        def draw(galaxies: int, generator: torch.Generator) -> Tensor:
            return random_moves(galaxies, recipe.stamp_size, size, recipe.augmentation, generator)

        def view(stamps: Tensor, moves: Tensor) -> Tensor:
            return moved_views(stamps, size, moves) if recipe.augments else central_views(stamps, size)

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
        """Return the validation galaxies in order, this process's share of each batch."""
        return self._in_order(self.parts[VALIDATION], self.share)

    def validation_batches(self) -> OrderedBatches:
        """Return the validation galaxies in order, all of them."""
        return self._in_order(self.parts[VALIDATION], Share())

    def unselected_batches(self) -> OrderedBatches:
        """Return the training galaxies that the split's `judge_on` lists, in order; without a list none."""
        train, rows = self.parts[TRAIN], self.rows[TRAIN]
        listed = np.isin(self.ids[rows], list(self.split.judge_on or ()))
        return self._in_order(self._labelled(train.pixels, rows[listed], train.labels.device), Share())

    def _in_order(self, stamps: LabelledStamps, share: Share) -> OrderedBatches:
        size, augmentation = self.recipe.input_size, self.recipe.augmentation
        return OrderedBatches(
            stamps, lambda stamps: still_views(stamps, size, augmentation), self.recipe.batch_size, share
        )


def labelled_rows(catalogue: pa.Table, tree: DecisionTree, split: Split) -> dict[str, NDArray[np.intp]]:
    """Return for each part of the split the rows that have any label at all."""
    parts, known = split.assign(galaxy_ids(catalogue).tolist()), labelled(catalogue, tree)
    return {part: np.flatnonzero(known & (parts == part)) for part in SPLITS}
