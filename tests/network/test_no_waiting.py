"""The host runs ahead of the device: no step of a training asks it for a number."""

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from hubblefork.network import callbacks
from hubblefork.network.device import wait_for
from hubblefork.network.training import train


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
