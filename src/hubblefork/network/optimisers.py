"""The optimisers and the learning rates that go by the step.

The plateau's schedule is a callback of the training, since it waits for the validation; these are known
beforehand, are part of the checkpoint, and so go on exactly after an interruption.
"""

from __future__ import annotations

import math
from typing import Any

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from hubblefork.network.recipe import Recipe

Optimisation = Optimizer | dict[str, Any]
ONE_CYCLE_START, ONE_CYCLE_END, ONE_CYCLE_RISE = 1 / 25, 1e-4, 0.3


def optimisation(network: nn.Module, recipe: Recipe, steps: int) -> Optimisation:
    """Return the optimiser of a network's trained parameters, with its schedule when that goes by the step.

    `steps` is the whole training's. In Lightning's form.
    """
    optimiser = _optimiser(network, recipe)
    if recipe.schedule == "plateau":
        return optimiser
    rise = recipe.warmup_epochs / recipe.epochs

    def factor(step: int) -> float:
        return schedule_factor(recipe.schedule, (step + 0.5) / steps, rise)

    return {
        "optimizer": optimiser,
        "lr_scheduler": {"scheduler": LambdaLR(optimiser, factor), "interval": "step"},
    }


def schedule_factor(schedule: str, done: float, rise: float) -> float:
    """Return what the learning rate is multiplied by when a share `done` of the training is over.

    "cosine" (Loshchilov & Hutter 2016, arXiv:1608.03983, without restarts) rises linearly for the share
    `rise`, then falls to zero. "one-cycle" (Smith & Topin 2017, arXiv:1708.07120, with cosines as fastai has
    them) rises from 1/25 for the share `rise`, 0.3 where it is 0, then falls to 1/10,000.
    """
    done = min(done, 1.0)
    if schedule == "cosine":
        return done / rise if done < rise else _between(1.0, 0.0, (done - rise) / (1 - rise))
    rise = rise or ONE_CYCLE_RISE
    if done < rise:
        return _between(ONE_CYCLE_START, 1.0, done / rise)
    return _between(1.0, ONE_CYCLE_END, (done - rise) / (1 - rise))


def _between(begin: float, end: float, share: float) -> float:
    """Return the value on a half cosine from one to the other."""
    return end + (begin - end) * (1 + math.cos(math.pi * share)) / 2


def _optimiser(network: nn.Module, recipe: Recipe) -> Optimizer:
    groups = _groups(network, recipe.weight_decay)
    if recipe.optimiser == "muon":
        return _muon(groups, recipe.learning_rate)
    if recipe.optimiser == "sgd":
        return SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.momentum > 0)
    return {"adam": Adam, "adamw": AdamW}[recipe.optimiser](groups, lr=recipe.learning_rate, weight_decay=0)


def _muon(groups: list[dict[str, Any]], learning_rate: float) -> Optimizer:
    """Return Muon (Jordan 2024, kellerjordan.github.io/posts/muon) of the hidden layers' matrices.

    Its steps have the size of AdamW's (Liu et al. 2025, arXiv:2502.16982, eq. 4), so that rates carry over.
    AdamW steps all else: biases, normalisations, filters of one band each, and the last layer.
    """
    from timm.optim.muon import Muon  # seconds to import

    *hidden, _last = [weight for group in groups for weight in group["params"] if weight.ndim > 1]
    theirs = {id(weight) for weight in hidden if not (weight.ndim == 4 and weight.shape[1] == 1)}
    split = []
    for group in groups:
        for fallback in (False, True):
            chosen = [weight for weight in group["params"] if (id(weight) not in theirs) == fallback]
            if chosen:
                split.append({**group, "params": chosen, "use_fallback": fallback})
    return Muon(split, lr=learning_rate, betas=(0.9, 0.999))


def _groups(network: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Return the trained parameters; with a decay, biases and normalisations apart, which do not decay."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if not decay:
        return [{"params": trained}]
    weights = [parameter for parameter in trained if parameter.ndim > 1]
    others = [parameter for parameter in trained if parameter.ndim <= 1]
    return [{"params": weights, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
