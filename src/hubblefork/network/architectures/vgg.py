"""Networks of stacked 3×3 convolutions, each with batch normalisation and ReLU, and max pooling.

VGG-11 and VGG-16 are columns A and D of table 1 of Simonyan & Zisserman 2014 (arXiv:1409.1556), with the
batch normalisation that came after them. `vgg7` is ours after a description that leaves the numbers open:
seven blocks in that manner, with dropout after each. At 64 pixels their maps end with 2 × 2.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from hubblefork.errors import RecipeError
from hubblefork.network.architectures.encoder import NetworkOptions, output_layers

Blocks = Sequence[Sequence[float]]  # the channels of each block's convolutions, in units of the first width

COLUMN_A: Blocks = ((1,), (2,), (4, 4), (8, 8), (8, 8))
COLUMN_D: Blocks = ((1, 1), (2, 2), (4, 4, 4), (8, 8, 8), (8, 8, 8))
SEVEN: Blocks = ((1, 1), (2, 2), (4, 4), (4, 4), (8, 8), (8, 8), (16, 16))


def vgg11(input_size: int, outputs: int, options: NetworkOptions) -> nn.Sequential:
    """Build VGG-11 with batch normalisation; `options.width` is 64 by itself. Raises RecipeError."""
    return _vgg(COLUMN_A, 64, input_size, outputs, options)


def vgg16(input_size: int, outputs: int, options: NetworkOptions) -> nn.Sequential:
    """Build VGG-16 with batch normalisation; `options.width` is 64 by itself. Raises RecipeError."""
    return _vgg(COLUMN_D, 64, input_size, outputs, options)


def vgg7(input_size: int, outputs: int, options: NetworkOptions) -> nn.Sequential:
    """Build seven blocks of two convolutions; `options.width` is 32 by itself. Raises RecipeError."""
    return _vgg(SEVEN, 32, input_size, outputs, options)


def _vgg(blocks: Blocks, width: int, input_size: int, outputs: int, options: NetworkOptions) -> nn.Sequential:
    if input_size < 16:
        raise RecipeError(
            f"VGG networks: input_size = {input_size}, at least 16 for their pooling to leave a map"
        )
    layers: list[nn.Module] = []
    side, channels = input_size, 3
    for block in blocks:
        for multiple in block:
            inputs, channels = channels, max(1, round(multiple * (options.width or width)))
            layers += _convolution(inputs, channels)
        if side >= 4:
            layers.append(nn.MaxPool2d(2))
            side //= 2
        layers.append(nn.Dropout(options.dropout))
    return nn.Sequential(*layers, nn.Flatten(), *output_layers(channels * side**2, outputs, options))


def _convolution(inputs: int, channels: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return [convolution, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
