"""The loss against its formula, with and without silence."""

import numpy as np
import pytest
import torch
from torch import distributed

from hubblefork.network.heads import masked_rmse, rmse_over_processes, squared_error


def pair(rows=50):
    rng = np.random.default_rng(0)
    return rng.random((rows, 37), dtype=np.float32), rng.random((rows, 37), dtype=np.float32)


def test_without_missing_labels_it_is_the_root_mean_square():
    predicted, volunteers = pair()
    expected = np.sqrt(np.mean((predicted - volunteers) ** 2))
    assert masked_rmse(torch.from_numpy(predicted), torch.from_numpy(volunteers)).item() == pytest.approx(
        expected
    )


def test_missing_labels_count_neither_way():
    predicted, volunteers = pair()
    volunteers[:, 5:13] = np.nan
    expected = np.sqrt(np.nanmean((predicted - volunteers) ** 2))
    assert masked_rmse(torch.from_numpy(predicted), torch.from_numpy(volunteers)).item() == pytest.approx(
        expected
    )
    assert squared_error(torch.from_numpy(predicted), torch.from_numpy(volunteers))[1] == 50 * 29


def test_missing_labels_pull_no_gradient():
    predicted, volunteers = (torch.from_numpy(side) for side in pair())
    volunteers[:, :3] = torch.nan
    predicted.requires_grad_()
    masked_rmse(predicted, volunteers).backward()
    assert (predicted.grad[:, :3] == 0).all()
    assert (predicted.grad[:, 3:] != 0).all()


def test_a_perfect_prediction_has_a_finite_gradient():
    predicted = torch.rand(3, 37).requires_grad_()
    masked_rmse(predicted, predicted.detach().clone()).backward()
    assert torch.isfinite(predicted.grad).all()


def test_nothing_known_is_no_number():
    assert not torch.isfinite(masked_rmse(torch.rand(3, 37), torch.full((3, 37), torch.nan)))


@pytest.fixture
def alone():
    """A group of processes with one member."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def test_the_loss_over_processes_is_the_loss_and_so_is_its_gradient(alone):
    predicted = torch.rand(4, 37, generator=torch.Generator().manual_seed(3), requires_grad=True)
    volunteers = torch.rand(4, 37, generator=torch.Generator().manual_seed(4))
    volunteers[0, :5] = torch.nan
    (expected,) = torch.autograd.grad(masked_rmse(predicted, volunteers), predicted)
    found = rmse_over_processes(*squared_error(predicted, volunteers))
    assert float(found.detach()) == pytest.approx(float(masked_rmse(predicted, volunteers).detach()))
    torch.testing.assert_close(torch.autograd.grad(found, predicted)[0], expected)
