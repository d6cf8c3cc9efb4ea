"""The network that won Kaggle's Galaxy Challenge in 2014: one stack of convolutions looks at 16 views.

Dieleman, Willett & Dambre 2015 (doi:10.1093/mnras/stv632, section 5) and the winner's published program
(github.com/benanne/kaggle-galaxies). A galaxy as it is, turned by 45°, and both mirrored; of each of the four
the four overlapping corners, turned so that the centre of the galaxy is always in the same corner. What
the convolutions make of the 16 views stands side by side before the dense layers.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample

from hubblefork.errors import RecipeError
from hubblefork.network.architectures.encoder import NetworkOptions

WIDTH, HIDDEN = 32, 2048
PART, WHOLE = 45, 69
POOL, VIEWS = 2, 16


class Corners(nn.Module):
    """Cuts the 16 views: (galaxy, 3, y, x) to (galaxy × 16, 3, side, side), the views of a galaxy together.

    Whole images of `whole` pixels must stay inside after a turn by 45°; parts are `side` pixels.
    """

    grid: Tensor

    def __init__(self, input_size: int) -> None:
        super().__init__()
        self.whole = _whole(input_size)
        self.side = round(self.whole * PART / WHOLE)
        self.register_buffer("grid", _grid(input_size, self.whole, self.side), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the views, by one bilinear resampling."""
        grid = self.grid.expand(images.shape[0], -1, -1, -1)
        cut = grid_sample(images, grid.to(images.dtype), mode="bilinear", align_corners=False)
        views = cut.unflatten(2, (VIEWS, self.side)).transpose(1, 2)
        return views.flatten(0, 1)


class UntiedBias(nn.Module):
    """A bias of its own for every channel and place of a map."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.full((channels, side, side), 0.1))

    def forward(self, maps: Tensor) -> Tensor:
        """Return the maps with their biases added, in the precision of the maps."""
        return maps + self.bias.to(maps.dtype)


class Maxout(nn.Module):
    """The larger one of each pair of features: (galaxy, 2 × feature) to (galaxy, feature)."""

    def forward(self, features: Tensor) -> Tensor:
        """Return the larger ones (Goodfellow et al. 2013)."""
        return features.unflatten(1, (-1, POOL)).amax(dim=2)


def views(input_size: int, outputs: int, options: NetworkOptions) -> nn.Sequential:
    """Build the winner's largest network: (galaxy, 3, input_size, input_size) in, scores out.

    42 million parameters at 99 pixels. `options.width` is 32 by default, the dense layers in proportion
    to it. As published but for the initial weights (He's here); the input is as large as turning by
    45° needs. Raises RecipeError for a fully connected tail, since it has its own, or too small an input.
    """
    corners = Corners(input_size)
    width = options.width or WIDTH
    hidden = HIDDEN * width // WIDTH
    layers: list[nn.Module] = [corners]
    side, channels = corners.side, 3
    for multiple, kernel, pooled in ((1, 6, True), (2, 5, True), (4, 3, False), (4, 3, True)):
        side -= kernel - 1
        _check_side(side, input_size)
        layers += [_convolution(channels, multiple * width, kernel), UntiedBias(multiple * width, side)]
        channels = multiple * width
        if pooled:
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
            side = -(-side // 2)
        layers.append(nn.ReLU())
    layers += [
        nn.Sequential(nn.Unflatten(0, (-1, VIEWS)), nn.Flatten()),  # the features of all views side by side
        *_dense(VIEWS * channels * side**2, hidden, options),
        *_dense(hidden, hidden, options),
    ]
    scores = nn.Linear(hidden, outputs)
    nn.init.constant_(scores.bias, 0.1)
    return nn.Sequential(*layers, nn.Dropout(options.dropout), scores)


def _dense(features: int, hidden: int, options: NetworkOptions) -> list[nn.Module]:
    return [nn.Dropout(options.dropout), nn.Linear(features, POOL * hidden), Maxout()]


def _convolution(inputs: int, channels: int, kernel: int) -> nn.Conv2d:
    convolution = nn.Conv2d(inputs, channels, kernel, bias=False)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    return convolution


def _check_side(side: int, input_size: int) -> None:
    if side < 2:
        raise RecipeError(
            f"views: input_size = {input_size}, at least 74 for its convolutions to fit; 99 is the winner's"
        )


def _whole(input_size: int) -> int:
    """Return the largest side that stays inside when turned and whose pixels are pixels of the input."""
    side = int(input_size / math.sqrt(2))
    return side - (input_size - side) % 2


def _grid(input_size: int, whole: int, side: int) -> Tensor:
    """Return where the 16 views look, (1, 16 × side, side, 2), in the coordinates of grid_sample."""
    places = torch.arange(side) - (whole - 1) / 2  # of the corner at the top left, from the centre
    y, x = torch.meshgrid(places, places, indexing="ij")
    grids = []
    for degrees in (0, 45):
        for mirror in (1, -1):
            for quarter in range(4):
                angle = math.radians(degrees + 90 * quarter)
                cos, sin = math.cos(angle), math.sin(angle)
                grids.append(torch.stack([mirror * (cos * x - sin * y), sin * x + cos * y], dim=-1))
    return (torch.cat(grids) * 2 / input_size).unsqueeze(0)
