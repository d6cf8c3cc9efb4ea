"""What a recipe decides about a network, and the fully connected layers that end one."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Free:
    """What an architecture leaves open.

    `width`: channels of its first convolutions, the others in proportion (0: its own); `dropout`: the share
    dropped where the architecture drops (of an encoder: its features); `tail_depth` hidden layers of
    `tail_width` with ReLU and `tail_dropout` between the features and the scores; `drop_path`: the chance
    that a galaxy passes a residual block of an encoder by (stochastic depth, Huang et al. 2016,
    arXiv:1603.09382).
    """

    width: int = 0
    dropout: float = 0.0
    tail_depth: int = 0
    tail_width: int = 512
    tail_dropout: float = 0.0
    drop_path: float = 0.0


def tail(features: int, outputs: int, free: Free) -> list[nn.Module]:
    """Build the fully connected layers from (galaxy, features) to scores (galaxy, outputs)."""
    layers: list[nn.Module] = []
    for _ in range(free.tail_depth):
        layers += [nn.Linear(features, free.tail_width), nn.ReLU(), nn.Dropout(free.tail_dropout)]
        features = free.tail_width
    return [*layers, nn.Linear(features, outputs)]
