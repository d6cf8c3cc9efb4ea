"""The networks, one family in a file, and the table of their names.

A network is an nn.Sequential. Input: views (galaxy, 3, input_size, input_size), floats in [0, 1]. Output:
scores (galaxy, outputs). The last layer is linear; its input are the features of a galaxy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial

from torch import Tensor, nn

from hubblefork.errors import RecipeError, did_you_mean
from hubblefork.images.decoder import BANDS
from hubblefork.network.architectures.encoder import Encoder, NetworkOptions, encoder_network
from hubblefork.network.architectures.lab import lab_cnn, lab_resnet50, lab_resnet50_dense
from hubblefork.network.architectures.vgg import COLUMN_A, COLUMN_D, SEVEN, vgg
from hubblefork.network.architectures.views import views

__all__ = [
    *("ARCHITECTURES", "ENCODER", "NetworkOptions", "bands_of", "build", "checked_architecture"),
    *("option_errors", "summed_over_bands"),
]

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
    architecture: str,
    *,
    input_size: int,
    outputs: int,
    options: NetworkOptions | None = None,
    bands: int = 3,
) -> nn.Sequential:
    """Build a network by its name, or with an encoder of timm as `encoder:NAME`.

    With one band the filters of its first convolution are summed over three: a grey image has the scores that
    it has as three equal bands, nearly so where an encoder shifts each band by another mean. Raises
    RecipeError for an unknown name, an input size that the network does not take, and an option that it does
    not have.
    """
    options = options or NetworkOptions()
    try:
        problems = option_errors(checked_architecture(architecture), options, adapters=False)
    except ValueError as error:
        raise RecipeError(str(error)) from error
    if problems:
        raise RecipeError("; ".join(problems))
    if architecture.startswith(ENCODER):
        network = encoder_network(architecture.removeprefix(ENCODER), input_size, outputs, options)
    elif architecture in AS_PUBLISHED:
        network = AS_PUBLISHED[architecture](input_size, outputs)
    else:
        network = WITH_OPTIONS[architecture](input_size, outputs, options)
    if bands == 1:
        _take_one_band(network)
    return network


def _take_one_band(network: nn.Sequential) -> None:
    first = _first_convolution(network)
    if first is None or first.in_channels != BANDS:
        raise RecipeError("bands = 1, but this network does not begin with a convolution of three bands")
    encoders = [module for module in network.modules() if isinstance(module, Encoder)]
    scale = encoders[0].band_scale if encoders else None
    first.weight = nn.Parameter(summed_over_bands(first.weight.detach(), scale))
    first.in_channels = 1
    for encoder in encoders:
        encoder.mean, encoder.std = (value.mean(1, keepdim=True) for value in (encoder.mean, encoder.std))


def summed_over_bands(filters: Tensor, scale: Tensor | None) -> Tensor:
    """Return filters (channel, 3, y, x) for one band; `scale` is how an encoder scales each band."""
    return (filters if scale is None else filters * scale).sum(dim=1, keepdim=True)


def bands_of(network: nn.Module) -> int:
    """Return how many bands the first convolution of a network takes."""
    first = _first_convolution(network)
    return BANDS if first is None else first.in_channels


def _first_convolution(network: nn.Module) -> nn.Conv2d | None:
    return next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)


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
