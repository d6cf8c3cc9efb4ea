"""Augmentation: rotation, reflection, shift and zoom of a whole batch, on the device of the batch.

The view of the network is resampled once from the stamp, which has more sky than the view needs: corners are
not black.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from hubblefork.data.trained import even_moves

TILT = 360 / 32


@dataclass(frozen=True)
class Augmentation:
    """The ranges of random changes: ± `rotation` degrees, ± `shift` stamp pixels, `zoom` from 1/zoom to zoom.

    `flip` is the probability of a reflection; the other probabilities say how often each change is made.
    Changes are drawn independently: the zoom log-uniform, the others uniform.
    """

    rotation: float = 0.0
    flip: float = 0.0
    shift: float = 0.0
    zoom: float = 1.0
    rotation_probability: float = 1.0
    shift_probability: float = 1.0
    zoom_probability: float = 1.0

    @property
    def first_angle(self) -> float:
        """The rotation of a galaxy at prediction: `TILT` degrees if training rotated every galaxy, else 0.

        A rotated galaxy is resampled, and therefore smoother than its stamp (docs/log.md).
        """
        return TILT if self.rotation >= TILT and self.rotation_probability == 1 else 0.0


def central_views(stamps: Tensor, size: int) -> Tensor:
    """Cut the central `size` pixels: (galaxy, y, x, 3) uint8 to (galaxy, 3, size, size) floats in [0, 1].

    The result has channels-last strides.
    """
    start = (stamps.shape[1] - size) // 2
    central = stamps[:, start : start + size, start : start + size]
    return central.permute(0, 3, 1, 2).float().div_(255)


def still_views(stamps: Tensor, size: int, by: Augmentation) -> Tensor:
    """Cut the centre of each stamp, rotated by `by.first_angle`; shapes as `central_views`."""
    return next(even_views(stamps, size, 1, by))


def even_views(stamps: Tensor, size: int, views: int, by: Augmentation) -> Iterator[Tensor]:
    """Yield so many views of all galaxies by `data.trained.even_moves`; shapes as `central_views`.

    If the views change, predictions change: increase `data.folders.VIEWING`.
    """
    if views == 1 and not by.first_angle:
        yield central_views(stamps, size)
        return
    moves = torch.from_numpy(even_moves(views, stamps.shape[1], size, by.first_angle)).float()
    for move in moves.to(stamps.device):
        yield moved_views(stamps, size, move.unsqueeze(0))


def moved_views(stamps: Tensor, size: int, moves: Tensor) -> Tensor:
    """Cut views of `size` pixels by affine maps, (galaxy, 2, 3) or one for all; shapes as `central_views`.

    Bilinear; beyond its edge a stamp is mirrored.
    """
    grid = affine_grid(moves, [len(moves), 3, size, size], align_corners=False)
    grid = grid.expand(stamps.shape[0], -1, -1, -1)
    whole = stamps.permute(0, 3, 1, 2).float().div_(255)
    views = grid_sample(whole, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return views.contiguous(memory_format=torch.channels_last)


def random_moves(
    galaxies: int, stamp: int, size: int, by: Augmentation, generator: torch.Generator
) -> Tensor:
    """Draw affine maps (galaxy, 2, 3) from views of `size` pixels to stamps of `stamp` pixels."""

    def uniform(chance: float = 1.0) -> Tensor:
        drawn = 2 * torch.rand(galaxies, generator=generator, device=generator.device) - 1
        return drawn if chance == 1 else torch.where(uniform() < 2 * chance - 1, drawn, 0.0)

    angle = uniform(by.rotation_probability) * math.radians(by.rotation)
    scale = torch.exp(uniform(by.zoom_probability) * math.log(by.zoom)) * size / stamp
    mirror = torch.where(uniform() < 2 * by.flip - 1, -1.0, 1.0)
    moved = (
        torch.where(uniform() < 2 * by.shift_probability - 1, 1.0, 0.0) if by.shift_probability < 1 else 1.0
    )
    shift = torch.stack([uniform() * moved, uniform() * moved], dim=1) * 2 * by.shift / stamp
    return torch.cat([_turned(angle, mirror, scale), shift.unsqueeze(2)], dim=2)


def _turned(angle: Tensor, mirror: Tensor, scale: Tensor) -> Tensor:
    """Return matrices (n, 2, 2) that rotate, mirror and scale."""
    cos, sin = scale * torch.cos(angle), scale * torch.sin(angle)
    return torch.stack([mirror * cos, -sin, mirror * sin, cos], dim=1).view(-1, 2, 2)
