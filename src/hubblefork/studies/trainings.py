"""The trainings of a study: each a recipe with its folder, run one after the other, none twice."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hubblefork.data.split import read_split
from hubblefork.io import Progress, silent
from hubblefork.network.recipe import Recipe
from hubblefork.network.training import train


@dataclass(frozen=True)
class Training:
    """One training: its folder below those of all, its recipe, and what it begins with.

    `pretrained`: whether it begins with given weights where there are any. `share`: the share of the training
    galaxies that it has.
    """

    folder: str
    recipe: Recipe
    pretrained: bool = False
    share: float = 1.0


def train_all(
    trainings: Sequence[Training],
    data: Path,
    runs: Path,
    *,
    weights: Path | None = None,
    device: str = "",
    progress: Progress = silent,
) -> None:
    """Train what is not trained yet. Raises RunError where a folder holds a run of other settings."""
    split = read_split(data)
    for training in trainings:
        train(
            data,
            training.recipe,
            runs / training.folder,
            weights=weights if training.pretrained else None,
            device=device,
            split=replace(split, train_share=training.share),
            progress=progress,
        )
        gc.collect()  # a trainer and its network refer to each other: a ResNet's worth of memory each
