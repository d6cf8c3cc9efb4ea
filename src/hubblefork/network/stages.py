"""The stages of a network, from the input to the head, and which of them training leaves as they are."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from hubblefork.errors import RecipeError
from hubblefork.network.architectures.encoder import Encoder
from hubblefork.network.model import layers_of
from hubblefork.network.recipe import ALL, HEAD


def stages_of(network: nn.Module, *, coarse: bool = True) -> list[list[nn.Parameter]]:
    """Return the parameters of each stage, the input's first, the head's last.

    The head are the fully connected layers after the encoder or the convolutions. A stage of an encoder is
    what timm puts into one `coarse` group (a stage of a ResNet, a block of a transformer), or else into a
    fine one (a block of either). In other networks it is a convolution. What normalises a stage belongs to
    it.
    """
    stages: list[list[nn.Parameter]] = []
    for layer in takewhile(lambda layer: not isinstance(layer, nn.Linear), layers_of(network)):
        for own, begins in _groups_of(layer, coarse):
            if begins or not stages:
                stages.append([])
            stages[-1] += own
    body = {parameter for stage in stages for parameter in stage}
    return [*stages, [parameter for parameter in network.parameters() if parameter not in body]]


def _groups_of(layer: nn.Module, coarse: bool) -> Iterator[tuple[list[nn.Parameter], bool]]:
    """Yield groups of a layer's parameters, and whether a stage begins with them."""
    if not isinstance(layer, Encoder) or not hasattr(layer.network, "group_matcher"):
        for module in layer.modules():
            if own := list(module.parameters(recurse=False)):
                yield own, isinstance(module, nn.Conv2d | nn.Linear)
        return
    from timm.models import group_parameters  # takes seconds to import

    network: Any = layer.network
    for names in group_parameters(network, network.group_matcher(coarse=coarse)).values():
        own = [network.get_parameter(name) for name in names]
        yield own, any(parameter.ndim > 1 for parameter in own)


def frozen_by(network: nn.Module, unfreeze: str) -> set[nn.Parameter]:
    """Return the parameters that are not trained: none for "all", all but the head for "head".

    A number is that of the stages before the head that are trained with it. Raises RecipeError for more
    stages than the network has.
    """
    stages = stages_of(network)
    trained = {ALL: len(stages), HEAD: 1}.get(unfreeze) or 1 + int(unfreeze)
    if trained > len(stages):
        raise RecipeError(
            f"unfreeze = {unfreeze}: this network has {len(stages) - 1} stages before its head; "
            f"at most {len(stages) - 1}, or {ALL}"
        )
    return {parameter for stage in stages[:-trained] for parameter in stage}


def freeze(network: nn.Module, frozen: set[nn.Parameter], *, batch_norm: bool = False) -> None:
    """Keep parameters as they are, and what consists of them alone in evaluation mode; train the rest.

    So the statistics of their batch normalisations stay too, and they drop nothing. With `batch_norm` those
    of all stay.
    """
    network.train()
    for module in network.modules():
        own = list(module.parameters())
        if (own and frozen.issuperset(own)) or (batch_norm and isinstance(module, _BatchNorm)):
            module.eval()
