"""Networks of the timm library, without their heads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Encoder(nn.Module):
    """A network of timm: views (galaxy, 3, y, x) in [0, 1] in, feature maps (galaxy, feature, y', x') out.

    Bands are shifted and scaled as the network's published weights expect. `name` is timm's, `classifier` its
    name of the layer that is left out here.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str) -> None:
        super().__init__()
        import timm  # seconds to import, and most recipes need none of it

        self.name = name
        network: Any = timm.create_model(name, num_classes=0, global_pool="")
        self.network = network
        self.classifier = network.pretrained_cfg["classifier"]
        for key in ("mean", "std"):
            self.register_buffer(
                key, torch.tensor(network.pretrained_cfg[key]).view(1, 3, 1, 1), persistent=False
            )

    def forward(self, views: Tensor) -> Tensor:
        """Return the feature maps of views."""
        return self.network((views - self.mean) / self.std)

    @property
    def redundant_biases(self) -> int:
        """How many biases Keras gives a ResNet's convolutions although a normalisation follows each."""
        if not self.name.startswith("resnet"):
            return 0
        convolutions = (layer for layer in self.network.modules() if isinstance(layer, nn.Conv2d))
        return sum(layer.out_channels for layer in convolutions if layer.bias is None)
