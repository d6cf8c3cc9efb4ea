"""Callbacks: the time limit; no step waits for the device."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from hubblefork.data.folders import RunFolder
from hubblefork.network import callbacks
from hubblefork.network.callbacks import Deadline
from hubblefork.network.device import wait_for
from hubblefork.network.training import train


def run_epochs(deadline, monkeypatch, lengths):
    """Return how many epochs of the given lengths, in seconds, are begun."""
    clock = [0.0]
    monkeypatch.setattr(callbacks.time, "perf_counter", lambda: clock[0])
    trainer = SimpleNamespace(should_stop=False, strategy=SimpleNamespace(broadcast=lambda value: value))
    begun = 0
    for length in lengths:
        if trainer.should_stop:
            break
        begun += 1
        deadline.on_train_epoch_start(trainer, None)
        clock[0] += length
        deadline.on_validation_end(trainer, None)
        clock[0] += 1000  # what is between epochs does not count
    return begun


def test_the_epoch_that_would_be_too_late_is_not_begun(quick, monkeypatch):
    limit = replace(quick, max_minutes=1)
    assert run_epochs(Deadline(limit), monkeypatch, [20] * 9) == 3
    assert run_epochs(Deadline(limit), monkeypatch, [20.1] * 9) == 2
    assert run_epochs(Deadline(limit), monkeypatch, [90] * 9) == 1
    assert run_epochs(Deadline(quick), monkeypatch, [90] * 9) == 9


def test_the_time_before_an_interruption_counts(quick, monkeypatch):
    first, second = Deadline(replace(quick, max_minutes=1)), Deadline(replace(quick, max_minutes=1))
    run_epochs(first, monkeypatch, [10, 10])
    second.load_state_dict(first.state_dict())
    assert run_epochs(second, monkeypatch, [10] * 9) == 4


def test_a_training_in_no_time_has_one_epoch_and_is_finished(data, quick, tmp_path):
    run = train(
        data,
        replace(quick, max_minutes=1e-6, steps_per_epoch=1, batch_size=8),
        tmp_path / "run",
        device="cpu",
    )
    assert RunFolder(run).notes()["epochs"] == 1
    assert RunFolder(run).is_finished()


@pytest.mark.parametrize("minutes", [-1.0, float("nan")])
def test_no_such_time(quick, minutes):
    from hubblefork.errors import RecipeError

    with pytest.raises(RecipeError, match="max_minutes = "):
        replace(quick, max_minutes=minutes)


class Questions(TorchDispatchMode):
    """Counts the tensors whose value the host asks for: `item`, `tolist`, `bool`, `nonzero`."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        asked = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
        self.count += function in asked
        return function(*arguments, **(named or {}))


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_no_step_asks_the_device(data, quick, tmp_path, average):
    """PyTorch's Adam on a CPU counts its steps in tensors there; SGD does not."""
    recipe = replace(quick, epochs=1, optimiser="sgd", ema_decay=average, rotation=90.0, flip=0.5)
    asked = {}
    for steps in (2, 6):
        with Questions() as questions:
            train(data, replace(recipe, steps_per_epoch=steps), tmp_path / f"{steps}", device="cpu")
        asked[steps] = questions.count
    assert asked[2] == asked[6] > 0


def test_the_clock_of_an_epoch_waits_for_the_last_step(data, quick, tmp_path, monkeypatch):
    waited = []
    monkeypatch.setattr(callbacks, "wait_for", waited.append)
    train(data, replace(quick, epochs=2, steps_per_epoch=2), tmp_path / "run", device="cpu")
    assert waited == [torch.device("cpu")] * 2


def test_only_a_device_beside_the_host_is_waited_for(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.accelerator, "synchronize", waited.append)
    for kind in ("cpu", "cuda", "mps"):
        wait_for(torch.device(kind))
    assert waited == [torch.device("cuda"), torch.device("mps")]
