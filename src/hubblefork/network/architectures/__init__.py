"""The networks, one family in a file, and the table of their names.

A network is an nn.Sequential. Input: views (galaxy, 3, input_size, input_size), floats in [0, 1]. Output:
scores (galaxy, outputs). The last layer is linear; its input are the features of a galaxy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial

from torch import nn

from hubblefork.errors import RecipeError, did_you_mean
from hubblefork.network.architectures.encoder import NetworkOptions, encoder_network
from hubblefork.network.architectures.lab import lab_cnn, lab_resnet50, lab_resnet50_dense
from hubblefork.network.architectures.vgg import COLUMN_A, COLUMN_D, SEVEN, vgg
from hubblefork.network.architectures.views import views

__all__ = ["ARCHITECTURES", "ENCODER", "NetworkOptions", "build", "checked_architecture", "option_errors"]

ENCODER = "encoder:"
AS_PUBLISHED = {
    "lab-cnn": lab_cnn,
    "lab-resnet50": lab_resnet50,
    "lab-resnet50-dense": lab_resnet50_dense,
}
WITH_OPTIONS: dict[str, Callable[[int, int, NetworkOptions], nn.Sequential]] = {
    "vgg7": partial(vgg, SEVEN, 32),
    "vgg11": partial(vgg, COLUMN_A, 64),
    "vgg16": partial(vgg, COLUMN_D, 64),
    "views": views,
}
ARCHITECTURES = (*AS_PUBLISHED, *WITH_OPTIONS)
FIXED = {  # the options that a network does not have; those as published have none
    "views": ("hidden_layers", "hidden_units", "hidden_dropout", "drop_path"),
    **dict.fromkeys(("vgg7", "vgg11", "vgg16"), ("drop_path",)),
    ENCODER: ("width",),
}


def build(
    architecture: str, *, input_size: int, outputs: int, options: NetworkOptions | None = None
) -> nn.Sequential:
    """Build a network by its name, or with an encoder of timm as `encoder:NAME`.

    Raises RecipeError for an unknown name, an input size that the network does not take, and an option that
    it does not have.
    """
    options = options or NetworkOptions()
    try:
        problems = option_errors(checked_architecture(architecture), options, adapters=False)
    except ValueError as error:
        raise RecipeError(str(error)) from error
    if problems:
        raise RecipeError("; ".join(problems))
    if architecture.startswith(ENCODER):
        return encoder_network(architecture.removeprefix(ENCODER), input_size, outputs, options)
    if architecture in AS_PUBLISHED:
        return AS_PUBLISHED[architecture](input_size, outputs)
    return WITH_OPTIONS[architecture](input_size, outputs, options)


def checked_architecture(name: str) -> str:
    """Return the name of an architecture. Raises ValueError for a name of none."""
    if name in ARCHITECTURES or name.startswith(ENCODER):
        return name
    names = f"{', '.join(ARCHITECTURES)}, and {ENCODER}NAME for an encoder of timm"
    raise ValueError(
        f'there is no architecture "{name}"{did_you_mean(name, ARCHITECTURES)}; there are {names}'
    )


def option_errors(architecture: str, options: NetworkOptions, *, adapters: bool) -> list[str]:
    """Return what is wrong with the options of an architecture: an empty list when nothing is."""
    given, default = asdict(options), asdict(NetworkOptions())
    fixed = FIXED.get(ENCODER if architecture.startswith(ENCODER) else architecture, tuple(default))
    problems = [
        f"{key} = {given[key]}, but {architecture} does not have this option: it stays {default[key]}"
        for key in fixed
        if given[key] != default[key]
    ]
    if adapters and architecture in (*WITH_OPTIONS, "lab-cnn"):
        problems.append(f"adapter_rank: {architecture} has no encoder for adapters; {ENCODER}NAME has")
    return problems
