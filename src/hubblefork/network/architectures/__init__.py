"""The networks, one family a file, and the table of their names."""

from __future__ import annotations

from torch import nn

from hubblefork.errors import RecipeError, did_you_mean
from hubblefork.network.architectures.lab import lab_cnn, lab_resnet50, lab_resnet50_dense

ARCHITECTURES = {
    "lab-cnn": lab_cnn,
    "lab-resnet50": lab_resnet50,
    "lab-resnet50-dense": lab_resnet50_dense,
}


def build(architecture: str, *, input_size: int, outputs: int) -> nn.Sequential:
    """Build a network: (galaxy, 3, input_size, input_size) floats in [0, 1] in, (galaxy, outputs) scores out.

    Its last layer is the linear one that makes the scores. Raises RecipeError for an unknown name.
    """
    if architecture not in ARCHITECTURES:
        near = did_you_mean(architecture, ARCHITECTURES)
        raise RecipeError(
            f'there is no architecture "{architecture}"{near}; known are {", ".join(ARCHITECTURES)}'
        )
    return ARCHITECTURES[architecture](input_size, outputs)
