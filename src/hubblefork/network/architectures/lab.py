"""The lab report's own convolutional network (its table 2)."""

from __future__ import annotations

from torch import nn

from hubblefork.errors import RecipeError


def lab_cnn(input_size: int, outputs: int) -> nn.Sequential:
    """Build the network of table 2: (galaxy, 3, input_size, input_size) in, (galaxy, outputs) scores out.

    1,652,453 parameters at 64 pixels and 37 outputs as the report counts them (with the 64 statistics
    of the batch normalisation). Convolutions have valid padding. The two hidden dense layers have a
    ReLU: the table lists none, as it lists none for the dense layers of table 5, of which the
    text says that they have. Batch normalisation and the initial weights are Keras's defaults,
    since the report says nothing else. Raises RecipeError for an input too small for the layers.
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
    network.apply(_as_keras_starts)
    return network


def _as_keras_starts(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
