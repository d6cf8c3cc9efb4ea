"""What happens to a network after its training: its scores are centred, its normalisations folded.

Centring: where some training galaxies were selected by their votes, a network expects such galaxies. In a
logistic model such a selection changes the offsets of the scores and nothing else (Prentice & Pyke 1979,
doi:10.1093/biomet/66.3.403; King & Zeng 2001, doi:10.1093/oxfordjournals.pan.a004868, section 4.1), so
offsets are what is fitted anew, to those training galaxies that nobody selected. It is a recalibration in
the large (Cox 1958, doi:10.1093/biomet/45.3-4.562) that needs no validation or test galaxy.

Folding: a batch normalisation whose statistics are fixed is a scale and an offset for each channel, and so is
part of the weights and bias of the convolution before it (Jacob et al. 2018, arXiv:1712.05877, section 3.2).
Prediction without it is a pass over the maps less.
"""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from hubblefork.network.architectures import bands_of
from hubblefork.network.device import autocast, precision_of
from hubblefork.network.heads import squared_error
from hubblefork.network.model import VoteFractions
from hubblefork.network.weights import load_weights, write_weights

if TYPE_CHECKING:
    from hubblefork.network.batches import GalaxyData  # with Lightning: seconds that prediction does not need

RESIDUAL, EXPECTED_OFFSET, ITERATIONS = 0.12, 0.1, 200
FOLDING_TOLERANCE = 1e-4

Network = TypeVar("Network", bound=nn.Module)


def centre_weights(out: Path, galaxies: GalaxyData) -> dict[str, float]:
    """Centre the weights of a run on its training galaxies that are listed as selected by nobody.

    Returns notes for `run.toml`: `centred_on`, the number of these galaxies, and `centred_rmse`, the
    validation RMSE of the weights as they are now; without a list nothing is done and nothing noted.
    """
    batches = galaxies.unselected_batches()
    if not len(batches):
        return {}
    weights, device = load_weights(out), galaxies.hardware.where
    network, precision = weights.network.to(device), precision_of(weights.recipe.precision, device).name
    with torch.no_grad(), autocast(device, precision):
        scores, labels = zip(*[(network.scores(views), truth) for views, truth in batches], strict=True)
    answers = len(weights.tree.columns)
    centre(network, torch.cat(scores), torch.cat(labels)[:, :answers])
    with torch.no_grad(), autocast(device, precision):
        errors = [
            squared_error(network(views)[:, :answers], truth[:, :answers])
            for views, truth in galaxies.validation_batches()
        ]
    write_weights(out, network, weights.recipe, weights.tree, epoch=weights.epoch)
    total, count = (float(sum(terms)) for terms in zip(*errors, strict=True))
    return {"centred_on": sum(map(len, labels)), "centred_rmse": math.sqrt(total / count)}


def centre(network: VoteFractions, scores: Tensor, labels: Tensor) -> None:
    """Add to the biases of the last layer what makes fractions of its scores fit labels best, in place.

    `scores` (galaxy, output) and `labels` (galaxy, answer), NaN an unknown label. The squared error is least,
    with a penalty as for residuals of 0.12 and offsets of 0.1: few galaxies change little.
    """
    last = network.features[-1]
    assert isinstance(last, nn.Linear)
    offsets = torch.zeros_like(last.bias, requires_grad=True)
    optimiser = torch.optim.LBFGS([offsets], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        error, _ = squared_error(network.head(scores + offsets)[:, : labels.shape[1]], labels)
        loss = error + (RESIDUAL / EXPECTED_OFFSET) ** 2 * offsets.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    with torch.no_grad():
        last.bias.add_(offsets)


@torch.no_grad()
def folded(network: Network, input_size: int) -> Network:
    """Return a copy of a network in evaluation mode, normalisations that follow a convolution folded into it.

    A network whose fractions of noise this would change by more than 1e-4 in single precision is returned as
    it is: one of its convolutions is used without its normalisation too.
    """
    noise = torch.rand(
        2, bands_of(network), input_size, input_size, generator=torch.Generator().manual_seed(0)
    )
    noise = noise.to(next(network.parameters()).device)
    changed, before = copy.deepcopy(network), network(noise)
    for convolution, normalisation in _pairs(changed, noise):
        _fold(convolution, normalisation)
    difference = (changed(noise) - before).abs() / before.abs().clamp_min(1)
    return changed if bool((difference <= FOLDING_TOLERANCE).all()) else network


def _pairs(network: nn.Module, views: Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Run a network; return each convolution with the normalisation that is given its maps."""
    outputs: list[tuple[nn.Conv2d, Tensor]] = []
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def note(layer: nn.Conv2d, _: tuple[Tensor, ...], maps: Tensor) -> None:
        outputs.append((layer, maps))

    def match(layer: nn.BatchNorm2d, inputs: tuple[Tensor, ...]) -> None:
        pairs.extend((convolution, layer) for convolution, maps in outputs if maps is inputs[0])

    hooks = [m.register_forward_hook(note) for m in network.modules() if isinstance(m, nn.Conv2d)]
    hooks += [m.register_forward_pre_hook(match) for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    network(views)
    for hook in hooks:
        hook.remove()
    return pairs


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Give a convolution the weights of both; the normalisation only activates, as timm's do after it."""
    fused = fuse_conv_bn_eval(convolution, norm)
    convolution.weight, convolution.bias = fused.weight, fused.bias
    norm.forward = getattr(norm, "act", nn.Identity()).forward  # type: ignore[method-assign]
