"""A trained network that PyTorch computes: on a GPU, or where it has not been written as ONNX."""

from __future__ import annotations

import threading

import numpy as np
import torch
from numpy.typing import NDArray

from hubblefork.network.augment import even_views
from hubblefork.network.device import autocast, device_of, keep_freed_memory, precision_of
from hubblefork.network.postprocess import folded
from hubblefork.network.weights import Weights

BATCH = 64
BATCH_ON_GPU = 512


class TorchNetwork:
    """A network on a device, one call at a time; a `prediction.runtimes.Network`."""

    def __init__(self, weights: Weights, *, device: str = "", features: bool = False) -> None:
        keep_freed_memory()
        self.trained, self.recipe, self.features = weights.trained, weights.recipe, features
        self.device = device_of(device)
        self.precision = precision_of(self.recipe.precision, self.device).name
        self.network = folded(weights.network.to(self.device).eval(), self.recipe.input_size)
        self.together = BATCH if self.device.type == "cpu" else BATCH_ON_GPU
        self.runtime = f"PyTorch {torch.__version__}, {self.device}, {self.precision}"
        self.lock = threading.Lock()

    def __call__(self, stamps: NDArray[np.uint8], views: int) -> NDArray[np.float32]:
        """Return the mean over views of what stamps (galaxy, y, x, 3) get: (galaxy, answer or feature)."""
        return self.each(stamps, views).mean(axis=1)

    @torch.inference_mode()
    def each(self, stamps: NDArray[np.uint8], views: int) -> NDArray[np.float32]:
        """Return what each view gets: (galaxy, view, answer or feature)."""
        network = self.network.features[:-1] if self.features else self.network
        with self.lock, autocast(self.device, self.precision):
            pixels = torch.from_numpy(np.ascontiguousarray(stamps)).to(self.device)
            shown = even_views(pixels, self.recipe.input_size, views, self.recipe.augmentation)
            values = torch.stack([network(view).float() for view in shown], dim=1)
        each: NDArray[np.float32] = values.cpu().numpy()
        return each
