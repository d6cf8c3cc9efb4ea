"""Optimisers and schedules: PyTorch's own, and the same after an interruption."""

from dataclasses import replace

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from timm.optim.muon import Muon
from torch import nn

from hubblefork.data.folders import RunFolder
from hubblefork.network.recipe import load_recipe
from hubblefork.network.training import optimisation, schedule_factor, train

STEPS = 40


def network():
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))


def recipe(*settings):
    return load_recipe("lab-cnn", ["epochs=10", *settings])


@pytest.mark.parametrize(
    ("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)]
)
def test_the_optimiser_is_the_recipes(name, kind):
    found = optimisation(network(), recipe(f"optimiser={name}", "learning_rate=0.02"), STEPS)
    assert type(found) is kind
    assert found.param_groups[0]["lr"] == 0.02


def test_sgd_has_nesterovs_momentum():
    group = optimisation(network(), recipe("optimiser=sgd", "momentum=0.8"), STEPS).param_groups[0]
    assert (group["nesterov"], group["momentum"]) == (True, 0.8)


def test_biases_and_normalisations_do_not_decay():
    groups = optimisation(network(), recipe("optimiser=adamw", "weight_decay=0.1"), STEPS).param_groups
    shapes = {group["weight_decay"]: [tuple(p.shape) for p in group["params"]] for group in groups}
    assert shapes == {0.1: [(3, 4), (2, 3)], 0.0: [(3,), (3,), (3,), (2,)]}


def test_muon_is_for_the_matrices_of_hidden_layers():
    given = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 5, groups=4), *network())
    found = optimisation(given, recipe("optimiser=muon", "weight_decay=0.1", "learning_rate=0.02"), STEPS)
    assert type(found) is Muon
    assert all(group["lr"] == 0.02 for group in found.param_groups)
    shapes = {
        (group["use_fallback"], group["weight_decay"]): [tuple(p.shape) for p in group["params"]]
        for group in found.param_groups
    }
    assert shapes == {
        (False, 0.1): [(4, 3, 3, 3), (3, 4)],
        (True, 0.1): [(4, 1, 5, 5), (2, 3)],
        (True, 0.0): [(4,), (4,), (3,), (3,), (3,), (2,)],
    }


def test_a_step_of_muon_is_orthogonal_and_as_large_as_adamws():
    given = nn.Sequential(nn.Linear(16, 8, bias=False), nn.Linear(8, 2))
    found = optimisation(given, recipe("optimiser=muon", "learning_rate=0.01"), STEPS)
    before = given[0].weight.detach().clone()
    given(torch.randn(32, 16, generator=torch.Generator().manual_seed(0))).square().sum().backward()
    found.step()
    step = (given[0].weight.detach() - before) / 0.01
    singular = torch.linalg.svdvals(step)[:2] / (0.2 * 16**0.5)
    assert singular == pytest.approx(torch.ones(2), abs=0.35)


def test_what_is_frozen_is_not_optimised():
    given = network()
    given[0].requires_grad_(False)
    (group,) = optimisation(given, recipe(), STEPS).param_groups
    assert len(group["params"]) == 4


def test_cosine_is_pytorchs():
    optimiser = torch.optim.SGD(network().parameters(), lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=STEPS)
    for step in range(STEPS):
        assert schedule_factor("cosine", step / STEPS, 0.0) == pytest.approx(optimiser.param_groups[0]["lr"])
        optimiser.step()
        theirs.step()


def test_one_cycle_is_pytorchs():
    """Theirs counts its turning points one step earlier, so the comparison is in shares of the training."""
    optimiser = torch.optim.SGD(network().parameters(), lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, 1.0, total_steps=1001, pct_start=0.3, div_factor=25, final_div_factor=400
    )
    for step in range(1000):
        ours = schedule_factor("one-cycle", step / 1000, 0.0)
        assert ours == pytest.approx(optimiser.param_groups[0]["lr"], abs=6e-3)
        optimiser.step()
        theirs.step()


def test_the_warm_up_rises_in_a_line_and_its_length_is_the_recipes():
    found = optimisation(network(), recipe("schedule=cosine", "warmup_epochs=2", "learning_rate=1"), STEPS)
    schedule = found["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(STEPS):
        rates.append(schedule.get_last_lr()[0])
        found["optimizer"].step()
        schedule.step()
    assert rates[:8] == pytest.approx([(step + 0.5) / 8 for step in range(8)])
    assert max(rates) == pytest.approx(1, abs=0.01)
    assert rates[-1] < 0.01


class Stop(Callback):
    """Breaks a training off when its third epoch begins."""

    def on_train_epoch_start(self, trainer, _):
        if trainer.current_epoch == 2:
            raise ConnectionAbortedError


@pytest.mark.parametrize(
    "settings",
    [
        ["schedule=cosine", "warmup_epochs=1", "optimiser=muon"],
        ["schedule=one-cycle", "optimiser=sgd", "weight_decay=0.01"],
    ],
)
def test_a_schedule_goes_on_exactly_where_it_was(data, quick, tmp_path, settings):
    kept = ["epochs=4", "steps_per_epoch=2", "batch_size=8"]
    wanted = replace(load_recipe("lab-cnn", [*settings, *kept]), **{k: getattr(quick, k) for k in SIZES})
    with pytest.raises(ConnectionAbortedError):
        train(data, wanted, tmp_path / "broken", device="cpu", callbacks=[Stop()])
    broken, whole = (train(data, wanted, tmp_path / name, device="cpu") for name in ("broken", "whole"))
    one, other = ([row["learning_rate"] for row in RunFolder(run).metrics()] for run in (broken, whole))
    assert one == other
    rise = wanted.warmup_epochs / 4
    expected = [
        schedule_factor(wanted.schedule, (2 * e + 2.5) / 8, rise) * wanted.learning_rate for e in range(4)
    ]
    assert one == pytest.approx(expected)


SIZES = ("crop", "stamp_size", "input_size")
