"""Precision and compiling: what is asked for where the device has it, else single and eager, and said."""

import platform
from dataclasses import replace

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from hubblefork.cli import app
from hubblefork.data.folders import RunFolder
from hubblefork.errors import RecipeError, RunError
from hubblefork.network import device as devices
from hubblefork.network.device import compiled, enough_memory, precision_of
from hubblefork.network.recipe import load_recipe
from hubblefork.network.training import train

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "cpu:3", "meta", "xla", "cuda mps"])
def test_a_device_that_is_not_there_is_named_with_those_that_are(name):
    with pytest.raises(RunError, match=f'no device "{name}" here: .* have .*cpu; without --device'):
        devices.Hardware(name)


@pytest.mark.parametrize(
    "command",
    [
        "predict RUN {data} --out {out}.csv",
        "classify {data}/images.zip --run RUN",
        "evaluate RUN",
        "evaluate RUN --shift {data}/images.zip --out {out}.csv",
        "train {data} --recipe lab-cnn --out {out}",
        "train {data} --recipe lab-cnn --folds 2 --out {out}",
        "tune {data} --recipe lab-cnn --out {out}",
        "finetune RUN {data}/images.zip {data}/catalogue.parquet --out {out}",
    ],
)
def test_no_command_does_anything_on_a_device_that_is_not_there(trained, data, tmp_path, command):
    out = tmp_path / "out"
    words = [str(trained) if word == "RUN" else word.format(data=data, out=out) for word in command.split()]
    done = CliRunner().invoke(app, [*words, "--device", "gpu"])
    assert isinstance(done.exception, RunError), done.output
    assert str(done.exception).startswith('there is no device "gpu" here')
    assert not list(tmp_path.iterdir())


def test_the_fastest_device_is_taken(monkeypatch):
    assert devices.device_of("CPU") == devices.device_of("cpu:0") == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices.device_of() == torch.device("cuda")
    assert devices.device_of("cuda:1") == torch.device("cuda:1")


@pytest.mark.parametrize(("count", "nodes"), [(0, 1), (1, 0), (-1, 1)])
def test_there_is_at_least_one_device(count, nodes):
    with pytest.raises(RunError, match=f"{count} devices on {nodes} nodes: at least 1 of each"):
        devices.Hardware(devices=count, nodes=nodes)


@pytest.mark.parametrize(("device", "count"), [("cuda", 3), ("cuda:1", 2)])
def test_more_devices_than_there_are_are_refused(monkeypatch, device, count):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices.Hardware("cuda", devices=2).processes == 2
    with pytest.raises(RunError, match=f'{count} devices "{device}" on each node, but there are [12]'):
        devices.Hardware(device, devices=count)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("no memory"),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 10 bytes"),
    ],
)
def test_a_lack_of_memory_is_said_with_the_remedy(error):
    with (
        pytest.raises(RecipeError, match=r"not enough memory \(.*\): lower batch_size"),
        enough_memory(),
    ):
        raise error
    with pytest.raises(RuntimeError, match="another"), enough_memory():
        raise RuntimeError("another")


def test_a_network_larger_than_memory_is_refused_before_stamps_are_made(data, quick, tmp_path):
    large = replace(quick, architecture="vgg7", hidden_layers=2, hidden_units=2_000_000_000)
    with pytest.raises(RecipeError, match="not enough memory"):
        train(data, large, tmp_path / "run", device="cpu")
    assert not list((tmp_path / "run").iterdir())


@pytest.fixture(params=[True, False])
def able(request, monkeypatch):
    """A CPU with instructions for bf16, and one without."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": request.param})
    return request.param


def test_bf16_is_taken_where_it_is_not_emulated(able):
    found = precision_of("bf16", CPU)
    assert found.name == ("bf16-mixed" if able else "32-true")
    assert bool(found.remark) is not able
    assert precision_of("auto", CPU).name == found.name
    assert not precision_of("auto", CPU).remark


def test_fp16_on_a_cpu_is_single_and_said():
    found = precision_of("fp16", CPU)
    assert found.name == "32-true"
    assert found.remark == "precision: 32 instead of fp16, which this cpu device only emulates"
    assert precision_of("fp16", torch.device("cuda")).name == "16-mixed"


def test_single_is_single():
    assert precision_of("32", torch.device("cuda")) == devices.Precision("32-true")


def test_a_network_that_cannot_be_compiled_is_left_as_it_was_and_it_is_said(monkeypatch):
    network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2 * 14 * 14, 1))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    def missing(*args, **kwargs):
        raise RuntimeError("no C++ compiler was found\nand more")

    monkeypatch.setattr(nn.Module, "compile", missing)
    said = compiled(network, 16, CPU)
    assert said == "compile: not compiled, RuntimeError: no C++ compiler was found"
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_a_run_says_what_it_fell_back_to(data, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "hubblefork.network.training.compiled", lambda *_: "compile: not compiled, for a test"
    )
    sizes = ["crop=64", "stamp_size=32", "input_size=32", "batch_size=8", "steps_per_epoch=1", "epochs=1"]
    recipe = load_recipe("lab-cnn", [*sizes, "precision=fp16", "compile=true"])
    notes = RunFolder(train(data, recipe, tmp_path / "run", device="cpu")).notes()
    assert notes["remarks"][0] == "compile: not compiled, for a test"
    assert notes["remarks"][1].startswith("precision: 32 instead of fp16")
    assert notes["device"]["precision"] == "32-true"
    assert "precision: 'fp16', not 'auto'" in notes["changed"]


@pytest.mark.slow
@pytest.mark.skipif(platform.system() == "Windows", reason="PyTorch compiles for CPUs with a C++ compiler")
def test_a_compiled_network_is_the_same_network():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2 * 14 * 14, 1)
    ).eval()
    views = torch.rand(4, 3, 16, 16)
    expected, names = network(views), list(network.state_dict())
    said = compiled(network, 16, CPU)
    assert said == "" or said.startswith("compile: not compiled")
    torch.testing.assert_close(network(views), expected, atol=1e-5, rtol=1e-4)
    assert list(network.state_dict()) == names
