"""Prediction without batch normalisations: each is folded into the convolution before it.

A normalisation whose statistics stand still is a scale and an offset for each channel, and so is part of the
convolution's weights and bias (Jacob et al. 2018, arXiv:1712.05877, section 3.2): a pass over the maps less.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_weights

EQUAL = 1e-4

Network = TypeVar("Network", bound=nn.Module)
Pairs = list[tuple[nn.Conv2d, nn.BatchNorm2d]]


@torch.no_grad()
def folded(network: Network, input_size: int) -> Network:
    """Return a copy of a network in evaluation mode, normalisations that follow a convolution folded into it.

    A network whose fractions of noise this would change by more than 1e-4 in single precision is returned as
    it is: one of its convolutions is used without its normalisation too.
    """
    noise = torch.rand(2, 3, input_size, input_size, generator=torch.Generator().manual_seed(0))
    noise = noise.to(next(network.parameters()).device)
    changed, before = copy.deepcopy(network), network(noise)
    for convolution, normalisation in _pairs(changed, noise):
        _fold(convolution, normalisation)
    return changed if torch.allclose(changed(noise), before, rtol=0, atol=EQUAL) else network


def _pairs(network: nn.Module, views: Tensor) -> Pairs:
    """Return each convolution whose maps a normalisation is given, with it, seen by running the network."""
    made: list[tuple[nn.Conv2d, Tensor]] = []
    pairs: Pairs = []

    def note(layer: nn.Conv2d, _: tuple[Tensor, ...], maps: Tensor) -> None:
        made.append((layer, maps))

    def match(layer: nn.BatchNorm2d, given: tuple[Tensor, ...]) -> None:
        pairs.extend((convolution, layer) for convolution, maps in made if maps is given[0])

    hooks = [m.register_forward_hook(note) for m in network.modules() if isinstance(m, nn.Conv2d)]
    hooks += [m.register_forward_pre_hook(match) for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    network(views)
    for hook in hooks:
        hook.remove()
    return pairs


def _fold(convolution: nn.Conv2d, normalisation: nn.BatchNorm2d) -> None:
    """Give a convolution the weights of both; the normalisation only activates, as timm's do after it."""
    norm = normalisation
    assert norm.running_mean is not None and norm.running_var is not None
    convolution.weight, convolution.bias = fuse_conv_bn_weights(
        convolution.weight,
        convolution.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
    )
    norm.forward = getattr(norm, "act", nn.Identity()).forward  # type: ignore[method-assign]
