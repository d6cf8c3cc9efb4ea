"""The lab report's three networks (its tables 2, 3 and 5).

timm's ResNet-50 differs from Keras's: the stride of a block is in its 3×3 convolution, not in the first 1×1;
convolutions before a normalisation have no bias (Keras: 26,560); the statistics of a normalisation change by
0.1 a step, not 0.01; the last normalisation of a block starts at zero.
"""

from __future__ import annotations

from torch import nn

from hubblefork.errors import RecipeError
from hubblefork.network.architectures.encoder import Encoder


def lab_cnn(input_size: int, outputs: int) -> nn.Sequential:
    """Build the network of table 2: (galaxy, 3, input_size, input_size) in, (galaxy, outputs) scores out.

    1,652,453 parameters at 64 pixels and 37 outputs as the report counts them (with 64 statistics of the
    batch normalisation). The two hidden dense layers have a ReLU: the table lists none, but it also lists
    none for the dense layers of table 5, which have one in the text. Batch normalisation and initial weights
    are Keras's defaults. Raises RecipeError for an input that is too small.
    """
    if input_size < 30:
        raise RecipeError(f"lab-cnn: input_size = {input_size}, at least 30 for its convolutions to fit")
    side = ((input_size - 2) // 2 - 2) // 2 - 5
    network = nn.Sequential(
        nn.Conv2d(3, 32, 3),
        nn.BatchNorm2d(32, eps=1e-3, momentum=0.01),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.2),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.2),
        nn.Conv2d(64, 128, 6),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Flatten(),
        nn.Linear(128 * side * side, 128),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(128, 64),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(64, outputs),
    )
    network.apply(_initialise_as_keras)
    return network


def lab_resnet50(input_size: int, outputs: int) -> nn.Sequential:
    """Build the network of table 3: ResNet-50, its feature maps flattened into one dense layer.

    23,890,853 parameters at 64 pixels and 37 outputs in the report's way of counting.
    """
    return nn.Sequential(Encoder("resnet50"), nn.Flatten(), _dense(_features(input_size), outputs))


def lab_resnet50_dense(input_size: int, outputs: int) -> nn.Sequential:
    """Build the network of table 5: ResNet-50 and dense layers of 200 and 100 with ReLU and dropout.

    25,250,149 parameters at 64 pixels and 37 outputs in the report's way of counting.
    """
    return nn.Sequential(
        Encoder("resnet50"),
        nn.Flatten(),
        _dense(_features(input_size), 200),
        nn.ReLU(),
        nn.Dropout(0.2),
        _dense(200, 100),
        nn.ReLU(),
        nn.Dropout(0.2),
        _dense(100, outputs),
    )


def _features(input_size: int) -> int:
    return 2048 * (-(-input_size // 32)) ** 2


def _dense(features: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(features, outputs)
    _initialise_as_keras(layer)
    return layer


def _initialise_as_keras(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
