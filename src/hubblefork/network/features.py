"""What a network makes of a galaxy just before its answers: the inputs of its last layer, as an array."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hubblefork.data.archives import galaxy_id_of, open_source
from hubblefork.data.catalogue import galaxy_ids
from hubblefork.data.stamps import stream
from hubblefork.errors import ImageError
from hubblefork.io import Progress, silent
from hubblefork.network import runs
from hubblefork.network.predict import BATCH, Predictor, in_batches, stamps_of_part


def features_of_part(
    run: Path, part: str, *, device: str = "", progress: Progress = silent
) -> tuple[NDArray, NDArray[np.float32]]:
    """Return ids (galaxy,) and features (galaxy, feature) of one part of a run's own split and data.

    Raises RunError, and CatalogueError when the part is empty.
    """
    weights = runs.load_weights(run)
    ids, rows, pixels = stamps_of_part(run, part, weights, progress=progress)
    return galaxy_ids(ids), in_batches(_Watched(weights, device), pixels, rows, f"features, {part}", progress)


def features_of_images(
    run: Path, source: Path, *, device: str = "", progress: Progress = silent
) -> tuple[NDArray, NDArray[np.float32]]:
    """Return ids (galaxy,), as text, and features (galaxy, feature) of an archive or a folder of images.

    Images that cannot be read are left out. Raises RunError, ImageError.
    """
    weights = runs.load_weights(run)
    watched, ids, found = _Watched(weights, device), [], []
    with open_source(source) as images:
        names = images.names()
    stamps = stream(source, weights.recipe.stamps, names=names)
    with progress("features", len(names)) as advance:
        while members := list(islice(stamps, BATCH)):
            good = [(name, stamp) for name, stamp in members if not isinstance(stamp, ImageError)]
            if good:
                ids += [galaxy_id_of(name) for name, _ in good]
                found.append(watched(np.stack([stamp for _, stamp in good])))
            advance(len(members))
    if not ids:
        raise ImageError(f"{source}: none of its {len(names)} images could be read")
    return np.array(ids, dtype=object), np.concatenate(found)


class _Watched:
    """A predictor whose last layer is listened to."""

    def __init__(self, weights: runs.Weights, device: str) -> None:
        self.predict = Predictor(weights, device=device)
        self.heard: list[NDArray[np.float32]] = []
        [(network, _)] = self.predict.members
        network.features[-1].register_forward_pre_hook(self._hear)

    def _hear(self, _: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        self.heard.append(inputs[0].float().cpu().numpy())

    def __call__(self, stamps: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.heard.clear()
        self.predict(stamps)
        return np.concatenate(self.heard)
