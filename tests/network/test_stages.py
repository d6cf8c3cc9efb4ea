"""What is trained: the head, some stages or all, and how fast; the rest stays as it was."""

import pytest
import timm
import torch
from lightning.pytorch.callbacks import Callback
from timm.optim import param_groups_layer_decay

from hubblefork.data.folders import RunFolder
from hubblefork.errors import RecipeError
from hubblefork.network.model import VoteFractions
from hubblefork.network.recipe import load_recipe, override
from hubblefork.network.stages import stages_of
from hubblefork.network.training import optimisation, train
from hubblefork.network.weights import load_weights, save_weights

from .conftest import QUICK

VIT = ["pretrained=", "crop=224", "stamp_size=224", "input_size=224"]


@pytest.mark.parametrize(
    ("name", "settings", "stages"),
    [
        ("lab-cnn", [], 3),
        ("vgg7", [], 14),
        ("views", [], 4),
        ("lab-resnet50", [], 5),
        ("fork", [], 8),
        ("encoder:convnext_atto", ["pretrained=", "hidden_layers=0"], 5),
        ("encoder:vit_tiny_patch16_224", VIT, 13),
    ],
)
def test_every_parameter_is_of_one_stage(tree, name, settings, stages):
    with torch.device("meta"):
        network = VoteFractions(load_recipe(name, settings), tree)
    *before, head = stages_of(network)
    assert len(before) == stages
    assert any(parameter is network.features[-1].weight for parameter in head)
    order = [id(parameter) for stage in before for parameter in stage] + [id(p) for p in head]
    assert sorted(order) == sorted(map(id, network.parameters()))
    assert all(any(parameter.ndim > 1 for parameter in stage) for stage in before)


def test_the_rates_of_an_encoder_fall_block_by_block_as_timms(tree):
    recipe = load_recipe("encoder:resnet10t", ["pretrained=", "hidden_layers=0", "layer_decay=0.5"])
    network = VoteFractions(recipe, tree)
    groups = optimisation(network, recipe, 9).param_groups
    rate = {
        id(parameter): group["lr"] / recipe.learning_rate for group in groups for parameter in group["params"]
    }
    whole = timm.create_model("resnet10t", num_classes=37)
    theirs = param_groups_layer_decay(whole, layer_decay=0.5)
    scale = {id(parameter): group["lr_scale"] for group in theirs for parameter in group["params"]}
    for name, parameter in network.features[0].network.named_parameters():
        assert rate[id(parameter)] == scale[id(whole.get_parameter(name))], name
    assert rate[id(network.features[-1].weight)] == scale[id(whole.fc.weight)] == 1


def test_the_head_learns_fastest(tree):
    recipe = load_recipe("lab-cnn", ["layer_decay=0.5", "learning_rate=0.08", "weight_decay=0.1"])
    groups = optimisation(VoteFractions(recipe, tree), recipe, 9).param_groups
    rates = {tuple(p.shape): group["lr"] for group in groups for p in group["params"]}
    assert (rates[37, 64], rates[128, 64, 6, 6], rates[64, 32, 3, 3]) == (0.08, 0.04, 0.02)
    assert rates[32, 3, 3, 3] == rates[32,] == 0.01
    assert [group["lr"] for group in groups][::2] == [0.08, 0.04, 0.02, 0.01]
    assert {group["weight_decay"] for group in groups if group["params"][0].ndim == 1} == {0}


@pytest.fixture(scope="module")
def start(tree, tmp_path_factory):
    """Weights of a small ResNet, which has batch normalisation in every stage."""
    recipe = load_recipe("encoder:resnet10t", [*QUICK, "pretrained=", "hidden_layers=0", "batch_size=64"])
    path = tmp_path_factory.mktemp("start") / "start.safetensors"
    torch.manual_seed(0)
    save_weights(path, VoteFractions(recipe, tree).state_dict(), recipe, tree, epoch=0)
    return path


class Recorder(Callback):
    """Remembers all tensors after each epoch."""

    def __init__(self):
        self.epochs = []

    def on_validation_end(self, trainer, module):
        state = module.network.state_dict()
        self.epochs.append({name: tensor.clone() for name, tensor in state.items()})


def changed(before, after):
    """Return which of timm's stages have changed in any tensor, statistics as well."""
    names = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    parts = {name.removeprefix("features.0.network.").split(".")[0] for name in names}
    return {
        part if part.startswith("layer") else "stem" if part in ("conv1", "bn1") else "head" for part in parts
    }


def trained_states(data, start, out, *settings):
    recipe, recorder = override(load_weights(start).recipe, ["epochs=2", *settings]), Recorder()
    train(data, recipe, out, weights=start, device="cpu", callbacks=[recorder])
    before = load_weights(start).network.state_dict()
    return [changed(*pair) for pair in zip([before, *recorder.epochs], recorder.epochs, strict=False)]


EVERYTHING = {"stem", "layer1", "layer2", "layer3", "layer4", "head"}


@pytest.mark.parametrize(
    ("settings", "first", "second"),
    [
        (["unfreeze=head"], {"head"}, {"head"}),
        (["unfreeze=2", "ema_decay=0.5"], {"layer3", "layer4", "head"}, {"layer3", "layer4", "head"}),
        (["frozen_epochs=1", "optimiser=sgd"], {"head"}, EVERYTHING),
        (["frozen_epochs=1", "unfreeze=1", "optimiser=muon"], {"head"}, {"layer4", "head"}),
    ],
)
def test_what_is_not_trained_stays_statistics_and_all(data, start, tmp_path, settings, first, second):
    assert trained_states(data, start, tmp_path / "run", *settings) == [first, second]


def test_the_share_that_is_trained_is_noted(data, start, tmp_path):
    trained_states(data, start, tmp_path / "run", "unfreeze=head", "epochs=1")
    assert RunFolder(tmp_path / "run").notes()["parameters"]["trained_share"] < 0.01


class Stop(Exception):
    pass


def test_an_interrupted_warm_up_goes_on(data, start, tmp_path, monkeypatch):
    def rows(run):
        return [(row["train_rmse"], row["validation_rmse"]) for row in RunFolder(run).metrics()]

    def killed(run, lines):
        write(run, lines)
        if len(lines) == 2:
            raise Stop

    recipe = override(load_weights(start).recipe, ["epochs=3", "frozen_epochs=1", "precision=32"])
    whole = train(data, recipe, tmp_path / "whole", weights=start, device="cpu")
    write = RunFolder.write_metrics
    monkeypatch.setattr(RunFolder, "write_metrics", killed)
    with pytest.raises(Stop):
        train(data, recipe, tmp_path / "run", weights=start, device="cpu")
    monkeypatch.setattr(RunFolder, "write_metrics", write)
    assert rows(train(data, recipe, tmp_path / "run", weights=start, device="cpu")) == rows(whole)


def test_settings_that_train_nothing_useful_are_refused(data, start, quick, tmp_path):
    with pytest.raises(RecipeError, match='unfreeze = "top": all, head, or how many stages'):
        override(quick, ["unfreeze=top"])
    with pytest.raises(RecipeError, match="frozen_epochs = 3, below epochs = 3"):
        override(quick, ["frozen_epochs=3"])
    with pytest.raises(RecipeError, match="with unfreeze = head all are"):
        override(quick, ["frozen_epochs=1", "unfreeze=head"])
    with pytest.raises(RecipeError, match="adapter_rank freezes the encoder"):
        load_recipe("resnet50-lora", ["unfreeze=2"])
    with pytest.raises(RecipeError, match=r"layer_decay = 1\.1"):
        override(quick, ["layer_decay=1.1"])
    with pytest.raises(RecipeError, match="has 3 stages before its head; at most 3, or all"):
        train(data, override(quick, ["unfreeze=4"]), tmp_path / "run", device="cpu")
    with pytest.raises(RecipeError, match="begins with random weights, which would stay so: give --weights"):
        train(data, override(quick, ["unfreeze=1"]), tmp_path / "run", device="cpu")
    assert not (tmp_path / "run" / "run.toml").exists()
