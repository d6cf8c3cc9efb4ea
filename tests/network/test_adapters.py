"""Adapters: nothing changes at the start, only they learn, alone they are small, merged they are the same."""

import builtins

import pytest
import torch
from safetensors.torch import load_file

from hubblefork.data.folders import RunFolder
from hubblefork.errors import RecipeError, RunError
from hubblefork.network import adapters
from hubblefork.network.model import VoteFractions, count_parameters
from hubblefork.network.predictor import TorchNetwork
from hubblefork.network.recipe import load_recipe
from hubblefork.network.training import train
from hubblefork.network.weights import load_weights, merge, write_weights
from hubblefork.prediction.predictor import Predictor

SETTINGS = [
    "architecture=encoder:resnet10t",
    "pretrained=",
    "crop=64",
    "stamp_size=32",
    "input_size=32",
    "hidden_units=8",
]
QUICK = [*SETTINGS, "batch_size=8", "steps_per_epoch=3", "epochs=2"]


@pytest.fixture(scope="module")
def adapted(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("adapters") / "run"
    return train(data, load_recipe("resnet50-lora", [*QUICK, "adapter_rank=4"]), out, device="cpu")


def test_they_begin_as_nothing(tree):
    torch.manual_seed(0)
    plain = VoteFractions(load_recipe("resnet50-lora", [*SETTINGS, "adapter_rank=0"]), tree).eval()
    views = torch.rand(2, 3, 32, 32)
    before = plain(views)
    adapters.add_adapters(plain, 4)
    torch.testing.assert_close(plain.eval()(views), before)


def test_only_they_and_the_tail_are_trained(tree):
    network = VoteFractions(load_recipe("resnet50-lora", [*SETTINGS, "adapter_rank=4"]), tree)
    trained = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    assert all("lora_" in name or name.startswith(("features.1", "features.4")) for name in trained)
    convolutions = [m for m in adapters.encoder_of(network).network.modules() if hasattr(m, "lora_A")]
    assert len(convolutions) == 14
    counts = count_parameters(network)
    assert counts.frozen == sum(
        tensor.numel() for name, tensor in network.named_parameters() if name not in trained
    )
    assert counts.trained_share == pytest.approx(1 - counts.frozen / counts.learned)


def test_the_base_stays_and_its_statistics_follow(adapted, tree):
    recipe = load_recipe("resnet50-lora", [*QUICK, "adapter_rank=4"])
    weights = load_weights(adapted)
    base = load_file(adapted / "base.safetensors")
    frozen = adapters.frozen_names(VoteFractions(recipe, tree))
    assert set(base) == frozen
    own = dict(weights.network.named_parameters())
    assert all(torch.equal(own[name], tensor) for name, tensor in base.items())
    moved = [t for n, t in weights.network.state_dict().items() if n.endswith("running_mean")]
    assert all(tensor.abs().max() > 0 for tensor in moved)


def test_the_run_says_what_share_was_trained(adapted):
    share = RunFolder(adapted).notes()["parameters"]["trained_share"]
    assert 0 < share < 0.1


def test_alone_they_are_small(adapted):
    alone, base = ((adapted / name).stat().st_size for name in ("weights.safetensors", "base.safetensors"))
    assert alone < 0.1 * base


def test_merged_they_predict_the_same_without_peft(tree, tmp_path, monkeypatch):
    recipe = load_recipe("resnet50-lora", [*SETTINGS, "adapter_rank=4", "precision=32"])
    network = VoteFractions(recipe, tree)
    for name, tensor in network.state_dict().items():
        if "lora_B" in name:
            tensor.normal_(0, 0.1, generator=torch.Generator().manual_seed(len(name)))
    write_weights(tmp_path, network, recipe, tree, epoch=3)
    merged = merge(tmp_path, tmp_path / "merged.safetensors")
    stamps = (torch.rand(5, 32, 32, 3) * 255).to(torch.uint8).numpy()
    expected = Predictor(TorchNetwork(load_weights(tmp_path), device="cpu"))(stamps)
    monkeypatch.setattr(adapters, "_peft", lambda: pytest.fail("PEFT is not needed"))
    found = load_weights(merged)
    assert (found.recipe.adapter_rank, found.epoch) == (0, 3)
    assert abs(Predictor(TorchNetwork(found, device="cpu"))(stamps) - expected).max() < 1e-4


def test_adapters_without_their_base_are_refused(adapted, tmp_path):
    alone = tmp_path / "weights.safetensors"
    alone.write_bytes((adapted / "weights.safetensors").read_bytes())
    with pytest.raises(RunError, match=r"adapters alone; .*base\.safetensors"):
        load_weights(alone)
    (tmp_path / "base.safetensors").write_bytes(b"other")
    with pytest.raises(RunError, match="not the weights beside which"):
        load_weights(alone)


def test_a_run_without_adapters_has_nothing_to_merge(quick, tree, tmp_path):
    write_weights(tmp_path, VoteFractions(quick, tree), quick, tree, epoch=0)
    with pytest.raises(RunError, match="there are no adapters to merge"):
        merge(tmp_path, tmp_path / "merged.safetensors")


def test_without_peft_the_command_to_install_it_is_named(tree, monkeypatch):
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name == "peft":
            raise ModuleNotFoundError("no peft", name="peft")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(RecipeError, match=r"pip install 'hubblefork\[lora\]'"):
        VoteFractions(load_recipe("resnet50-lora", [*SETTINGS, "adapter_rank=4"]), tree)
