"""Augmentation of a whole batch on its device: rotation, reflection, shift, zoom; blur, light, colour, noise.

The view of the network is resampled once from the stamp, which has more sky than the view needs: corners are
not black.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, conv2d, grid_sample, pad

from hubblefork.data.trained import even_moves

TILT = 360 / 32
LIGHT = ("blur", "brightness", "colour", "grey", "noise")


@dataclass(frozen=True)
class Augmentation:
    """The ranges of random changes: ± `rotation` degrees, ± `shift` stamp pixels, `zoom` from 1/zoom to zoom.

    `flip` is the probability of a reflection; the other probabilities say how often each change is made.
    Changes are drawn independently: the zoom log-uniform, the others uniform.

    With `light_probability` the light of a view is changed, as another survey would show the galaxy: by a
    Gaussian of up to σ = `blur` view pixels; by factors from 1/`brightness` to `brightness` for all bands and
    from 1/`colour` to `colour` for each (log-uniform); by the mean of the bands in all of them, with the
    probability `grey`; and by normal noise of up to σ = `noise` of white.
    """

    rotation: float = 0.0
    flip: float = 0.0
    shift: float = 0.0
    zoom: float = 1.0
    rotation_probability: float = 1.0
    shift_probability: float = 1.0
    zoom_probability: float = 1.0
    light_probability: float = 1.0
    blur: float = 0.0
    brightness: float = 1.0
    colour: float = 1.0
    grey: float = 0.0
    noise: float = 0.0

    @property
    def relights(self) -> bool:
        """Whether the light of any view is changed."""
        return self.light_probability > 0 and bool(self.light)

    @property
    def light(self) -> dict[str, float]:
        """The changes of the light that are set, by name."""
        return {
            name: getattr(self, name) for name in LIGHT if getattr(self, name) != getattr(Augmentation, name)
        }

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


def random_light(
    galaxies: int, size: int, by: Augmentation, generator: torch.Generator, bands: int = 3
) -> tuple[Tensor, Tensor]:
    """Draw changes of the light of views of `size` pixels: what `relit` takes.

    These are (galaxy, 3 + bands), σ of the blur, factors of the bands, grey (1) or not (0), σ of the noise,
    and the noise itself of unit variance (galaxy, bands, size, size).
    """

    def drawn(columns: int = 1) -> Tensor:
        return torch.rand(galaxies, columns, generator=generator, device=generator.device)

    changed = (drawn() < by.light_probability).float()
    factors = (2 * drawn() - 1) * math.log(by.brightness) + (2 * drawn(bands) - 1) * math.log(by.colour)
    sigma, grey, deviation = drawn() * by.blur, drawn() < by.grey, drawn() * by.noise
    light = [sigma * changed, (factors * changed).exp(), grey * changed, deviation * changed]
    noise = torch.randn(galaxies, bands, size, size, generator=generator, device=generator.device)
    return torch.cat(light, dim=1), noise


def relit(views: Tensor, by: Augmentation, light: Tensor, noise: Tensor) -> Tensor:
    """Change the light of views (galaxy, band, y, x) by what `random_light` drew; values stay in [0, 1]."""
    sigma, factors, grey, deviation = light.split([1, views.shape[1], 1, 1], dim=1)
    shown = _blurred(views, sigma, math.ceil(3 * by.blur)) * factors[:, :, None, None]
    shown = torch.lerp(shown, shown.mean(dim=1, keepdim=True), grey[:, :, None, None])
    shown = torch.addcmul(shown, noise, deviation[:, :, None, None]).clamp_(0, 1)
    return shown.contiguous(memory_format=torch.channels_last)


def _blurred(views: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Convolve each galaxy with a Gaussian of its own σ (galaxy, 1), in pixels; edges are mirrored."""
    galaxies, bands, height, width = views.shape
    places = torch.arange(-radius, radius + 1, device=views.device)
    kernels = torch.softmax(-(places**2) / (2 * sigma.clamp(min=1e-3) ** 2), dim=1)
    kernels = kernels.repeat_interleave(bands, dim=0)[:, None, None]
    flat, groups = views.reshape(1, galaxies * bands, height, width), galaxies * bands
    across = conv2d(pad(flat, (radius, radius, 0, 0), mode="reflect"), kernels, groups=groups)
    down = conv2d(pad(across, (0, 0, radius, radius), mode="reflect"), kernels.mT, groups=groups)
    return down.view(views.shape)
