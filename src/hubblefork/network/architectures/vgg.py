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


def vgg(blocks: Blocks, width: int, input_size: int, outputs: int, options: NetworkOptions) -> nn.Sequential:
    """Build the `blocks`: (galaxy, 3, input_size, input_size) in, (galaxy, outputs) scores out.

    The first block has `options.width` channels, or `width` where that is 0. Raises RecipeError for an input
    that is too small.
    """
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
