"""Losses on joint fractions. A missing label (NaN) is silence: it counts neither way."""

from __future__ import annotations

import torch
from torch import Tensor, distributed


def squared_error(predicted: Tensor, volunteers: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum of squared differences over the known labels, and their number.

    Both arguments have shape (galaxy, answer); NaN in `volunteers` is masked.
    """
    known = ~torch.isnan(volunteers)
    difference = torch.where(known, predicted.float() - torch.nan_to_num(volunteers), 0.0)
    return difference.square().sum(), known.sum()


def masked_rmse(predicted: Tensor, volunteers: Tensor) -> Tensor:
    """Return the root mean squared error over the known labels: Kaggle's measure, as a loss.

    With Adam its gradient has the direction of the mean squared error's. The floor under the root keeps
    the gradient finite where prediction and label agree exactly. Several processes that share a batch all get
    the loss of the whole batch, and the mean of their gradients is its gradient.
    """
    total, known = squared_error(predicted, volunteers)
    if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
        return over_processes(total, known)
    return (total / known).clamp_min(1e-12).sqrt()


def over_processes(total: Tensor, known: Tensor) -> Tensor:
    """Return the RMSE of a batch of which each process has the sum of squares and the number of a part.

    Its value is that of the whole batch. Its gradient by a process's own sum is that of the whole times the
    number of processes, since their gradients are averaged afterwards.
    """
    whole = torch.stack([total.detach(), known.to(total.dtype)])
    distributed.all_reduce(whole)
    rmse = (whole[0] / whole[1]).clamp_min(1e-12).sqrt()
    slope = distributed.get_world_size() / (2 * rmse * whole[1])
    return rmse + slope * (total - total.detach())
