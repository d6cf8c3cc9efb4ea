"""Centring: a network that learned from selected galaxies is fitted to what volunteers say of all.

Where some training galaxies were selected by their votes, a network expects such galaxies. In a logistic
model such a selection changes the offsets of the scores and nothing else (Prentice & Pyke 1979,
doi:10.1093/biomet/66.3.403; King & Zeng 2001, doi:10.1093/oxfordjournals.pan.a004868, section 4.1), so
offsets are what is fitted anew, to those training galaxies that nobody selected. It is a recalibration in
the large (Cox 1958, doi:10.1093/biomet/45.3-4.562) that needs no galaxy which chooses or judges.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from hubblefork.network import runs
from hubblefork.network.batches import GalaxyData
from hubblefork.network.device import autocast, precision_of
from hubblefork.network.heads import squared_error
from hubblefork.network.model import VoteFractions

RESIDUAL, EXPECTED, ITERATIONS = 0.12, 0.1, 200


def centre_weights(out: Path, galaxies: GalaxyData) -> dict[str, float]:
    """Centre the weights of a run on its training galaxies that are listed as selected by nobody.

    Returns notes for `run.toml`: `centred_on`, the number of these galaxies, and `centred_rmse`, the
    validation RMSE of the weights as they are now; without a list nothing is done and nothing noted.
    """
    batches = galaxies.unselected_batches()
    if not len(batches):
        return {}
    weights, where = runs.load_weights(out), galaxies.hardware.where
    network, precision = weights.network.to(where), precision_of(weights.recipe.precision, where).name
    with torch.no_grad(), autocast(where, precision):
        scores, labels = zip(*[(network.scores(views), known) for views, known in batches], strict=True)
    centre(network, torch.cat(scores), torch.cat(labels))
    with torch.no_grad(), autocast(where, precision):
        judged = [squared_error(network(views), known) for views, known in galaxies.validation_batches()]
    runs.write_weights(out, network, weights.recipe, weights.tree, epoch=weights.epoch)
    errors, known = (float(sum(terms)) for terms in zip(*judged, strict=True))
    return {"centred_on": sum(map(len, labels)), "centred_rmse": math.sqrt(errors / known)}


def centre(network: VoteFractions, scores: Tensor, labels: Tensor) -> None:
    """Add to the biases of the last layer what makes fractions of its scores fit labels best, in place.

    `scores` and `labels` have shape (galaxy, answer), NaN an unknown label. The squared error is least, with
    a penalty as for residuals of 0.12 and offsets of 0.1: few galaxies move little.
    """
    last = network.features[-1]
    assert isinstance(last, nn.Linear)
    offsets = torch.zeros_like(last.bias, requires_grad=True)
    optimiser = torch.optim.LBFGS([offsets], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        error, _ = squared_error(network.head(scores + offsets), labels)
        loss = error + (RESIDUAL / EXPECTED) ** 2 * offsets.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    with torch.no_grad():
        last.bias.add_(offsets)
