"""Weights: what travels with them, what is refused, where a network starts from."""

import hashlib
import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import hubblefork
from embed import drawn, spiral
from hubblefork.api.intervals import intervals_of
from hubblefork.data.folders import RunFolder
from hubblefork.data.labels import read_labels
from hubblefork.data.split import Split, read_ids
from hubblefork.data.trained import EMBEDDED, PACKAGED, weights_file
from hubblefork.errors import DownloadError, RecipeError, RunError
from hubblefork.images.decoder import stream
from hubblefork.images.sources import open_source
from hubblefork.network import weights
from hubblefork.network.architectures.encoder import Encoder
from hubblefork.network.model import VoteFractions
from hubblefork.network.recipe import load_recipe, override
from hubblefork.network.training import train
from hubblefork.network.weights import (
    load_start,
    load_weights,
    save_weights,
    write_weights,
)
from hubblefork.prediction.runtimes import open_network
from hubblefork.tables.names import galaxy_id_of

QUICK = ["batch_size=8", "steps_per_epoch=1", "epochs=1"]


def test_weights_survive_writing(tree, quick, tmp_path):
    network = VoteFractions(quick, tree).eval()
    write_weights(tmp_path, network, quick, tree, epoch=7)
    read = load_weights(tmp_path)
    views = torch.rand(3, 3, 32, 32)
    assert torch.equal(read.network(views), network(views))
    assert (read.recipe, read.epoch, read.tree) == (quick, 7, tree)
    other = tmp_path / "other"
    other.touch()
    assert (tmp_path / "weights.safetensors").stat().st_mode == other.stat().st_mode


def test_a_pickle_is_never_loaded(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(pickle.dumps({"features.0.weight": [0.0]}))
    with pytest.raises(RunError, match="not a safetensors file"):
        load_weights(path)


def test_weights_of_somebody_else_are_refused(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "weights.safetensors")
    with pytest.raises(RunError, match="names no recipe and tree"):
        load_weights(tmp_path)


def test_weights_that_do_not_fit_their_recipe_are_refused(tree, quick, tmp_path):
    write_weights(
        tmp_path,
        VoteFractions(quick, tree),
        override(quick, ["stamp_size=40", "input_size=40"]),
        tree,
        epoch=0,
    )
    with pytest.raises(RunError, match="do not fit the network of their recipe"):
        load_weights(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(tree, quick, tmp_path, value):
    network = VoteFractions(quick, tree)
    with torch.no_grad():
        network.features[-1].bias[3] = value
    write_weights(tmp_path, network, quick, tree, epoch=0)
    with pytest.raises(RunError, match=r"1 of its tensors hold NaN or infinity, the first is features"):
        load_weights(tmp_path)


@pytest.mark.parametrize("epoch", [None, "", "-1", "1.5", "²", "9" * 5000])
def test_a_header_with_another_epoch_is_refused(tree, quick, tmp_path, epoch):
    write_weights(tmp_path, VoteFractions(quick, tree), quick, tree, epoch=0)
    path = tmp_path / "weights.safetensors"
    with safe_open(path, framework="pt") as file:
        header = {key: value for key, value in file.metadata().items() if key != "epoch"}
    save_file(load_file(path), path, metadata={**header, **({} if epoch is None else {"epoch": epoch})})
    with pytest.raises(RunError, match="which is no number of an epoch"):
        load_weights(path)


def test_a_header_that_asks_for_all_memory_is_refused(tree, quick, tmp_path):
    header = override(quick, ["architecture=vgg7", "hidden_layers=2", "hidden_units=2000000000"])
    save_weights(tmp_path / "large.safetensors", {}, header, tree, epoch=0)
    with pytest.raises(RunError, match=r"do not fit the network of their recipe: .*allocate"):
        load_weights(tmp_path / "large.safetensors")


def test_a_folder_without_a_run_says_what_to_do(tmp_path):
    with pytest.raises(RunError, match="train a recipe first"):
        load_weights(tmp_path)
    with pytest.raises(RunError, match="not the folder of a run"):
        RunFolder(tmp_path).notes()


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A file as timm publishes them, classifier and all; its weights are random."""
    torch.manual_seed(7)
    path = tmp_path_factory.mktemp("hub") / "model.safetensors"
    save_file(timm.create_model("resnet50").state_dict(), path)
    return path


@pytest.fixture
def network(tree):
    torch.manual_seed(0)
    return VoteFractions(load_recipe("lab-resnet50"), tree)


def first_convolution(network):
    return network.features[0].network.conv1.weight


def test_a_file_is_where_the_encoder_starts(network, published):
    said = load_start(network, "", published)
    expected = timm.create_model("resnet50", num_classes=0)
    expected.load_state_dict({k: v for k, v in load_file(published).items() if k[:3] != "fc."})
    assert torch.equal(first_convolution(network), expected.conv1.weight)
    assert said.startswith("model.safetensors (SHA-256 ")


def test_the_hub_is_asked_for_what_the_recipe_names(network, published, monkeypatch):
    asked = []
    monkeypatch.setattr(weights, "fetch_published", lambda name: asked.append(name) or published)
    said = load_start(network, "resnet50.tv_in1k")
    assert asked == ["resnet50.tv_in1k"]
    assert said.startswith("resnet50.tv_in1k of timm (SHA-256 ")


def test_random_weights_do_not_stand_in_for_published_ones(network, data, tmp_path, monkeypatch):
    def unreachable(name):
        raise ConnectionError("no route")

    monkeypatch.setattr(weights, "fetch_published", unreachable)
    with pytest.raises(DownloadError, match=r"resnet10t .*reached \(Conn.*: --set pretrained="):
        train(data, load_recipe("encoder:resnet10t", QUICK), tmp_path / "run", device="cpu")
    assert not (tmp_path / "run" / "run.toml").exists()
    assert load_start(network, "") == "random weights"


class CalledOut(Exception):
    pass


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("hf_hub:some/body", r"not on this computer.*: hf download some/body config\.json"),
        ("hf_hub:some/body@../../refs", "not on this computer"),
        ("hf_hub:a/b/c", "Repo id must be"),
        ("hf-hub:evil/model", 'timm has no encoder "hf-hub:evil/model"'),
        ("local-dir:/tmp", 'timm has no encoder "local-dir:/tmp"'),
        ("https://example.org/model", "timm has no encoder"),
        ("resnet10t.from_afar", "Invalid pretrained tag"),
    ],
)
def test_a_name_in_weights_never_calls_the_hub(tree, tmp_path, monkeypatch, name, complaint):
    def call(*_, **__):
        raise CalledOut

    recipe = load_recipe("encoder:resnet10t", ["crop=64", "stamp_size=64", "input_size=64", *QUICK])
    write_weights(tmp_path, VoteFractions(recipe, tree), recipe, tree, epoch=0)
    tensors = load_file(tmp_path / "weights.safetensors")
    header = replace(recipe, architecture=f"encoder:{name}", pretrained=name)
    save_weights(tmp_path / "received.safetensors", tensors, header, tree, epoch=0)
    monkeypatch.setattr("socket.socket.connect", call)
    monkeypatch.setattr("socket.getaddrinfo", call)
    with pytest.raises(RecipeError, match=complaint):
        load_weights(tmp_path / "received.safetensors")


def test_weights_of_another_network_are_refused(network, tmp_path):
    save_file(timm.create_model("resnet18").state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(RunError, match=r"other\.safetensors: no weights of resnet50: .*conv3.* is missing"):
        load_start(network, "", tmp_path / "other.safetensors")


def test_a_start_that_is_no_numbers_is_refused(network, published, tmp_path):
    tensors = load_file(published)
    tensors["conv1.weight"][0, 0, 0, 0] = float("nan")
    save_file(tensors, tmp_path / "broken.safetensors")
    with pytest.raises(RunError, match=r"broken\.safetensors: .*conv1\.weight holds NaN or infinity"):
        load_start(network, "", tmp_path / "broken.safetensors")


def test_a_file_that_is_no_safetensors_is_refused(network, tmp_path):
    torch.save({"weights": torch.zeros(1)}, tmp_path / "pickled.pt")
    with pytest.raises(RunError, match="not a safetensors file"):
        load_start(network, "", tmp_path / "pickled.pt")


def test_a_network_without_an_encoder_takes_no_weights(tree, published):
    with pytest.raises(RunError, match="has no encoder"):
        load_start(VoteFractions(load_recipe("lab-cnn"), tree), "", published)


def test_a_run_notes_where_it_started(data, published, tmp_path):
    recipe = load_recipe("lab-resnet50", ["crop=64", *QUICK])
    out = train(data, recipe, tmp_path / "run", weights=published, device="cpu")
    assert RunFolder(out).notes()["start"].startswith("model.safetensors")


def test_bands_are_scaled_as_the_weights_expect():
    encoder = Encoder("resnet50")
    seen = []
    encoder.network.conv1.register_forward_hook(lambda _, views, __: seen.append(views[0]))
    encoder.eval()(torch.full((1, 3, 64, 64), 0.5))
    expected = (0.5 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    assert torch.allclose(seen[0][0, :, 0, 0], expected, atol=1e-6)


# The weights in the package


MEGABYTES_60 = 60e6


@pytest.fixture(scope="module", params=["fork", "fork-fast"])
def packaged(request):
    return weights_file(Path(request.param))


@pytest.fixture(scope="module")
def card(packaged):
    return json.loads(packaged.with_name("card.json").read_text(encoding="utf-8"))


def test_all_weights_of_the_package_are_small():
    assert sum(file.stat().st_size for file in PACKAGED.rglob("*.*")) <= MEGABYTES_60


def test_a_packaged_network_is_what_another_begins_with(tree):
    network = VoteFractions(load_recipe("fork-fast"), tree)
    assert load_start(network, "", Path("fork")).startswith("weights.safetensors ")
    for name, tensor in load_weights(EMBEDDED).network.state_dict().items():
        assert torch.equal(network.state_dict()[name], tensor), name


def test_the_card_is_of_these_weights(card, packaged):
    assert card["sha256"] == hashlib.sha256(packaged.read_bytes()).hexdigest()
    assert card["recipe"] == load_weights(packaged).recipe.name == packaged.parent.name


def test_a_drawn_galaxy_has_the_fractions_it_had(card, packaged):
    np.testing.assert_allclose(drawn(packaged), card["drawn_galaxy"], atol=1e-4)


def test_the_first_command_needs_no_run(tmp_path):
    Image.fromarray(spiral()).save(tmp_path / "spiral.png")
    galaxy = hubblefork.classify(tmp_path / "spiral.png", device="cpu")
    assert galaxy["features_or_disk"] > 0.5
    assert galaxy["spiral"] > 0.4
    assert "spiral" in str(galaxy)


def test_they_have_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fork = Path("fork")
    assert weights_file(fork) == EMBEDDED
    assert intervals_of(fork, views=16).weights == load_weights(fork).digest
    fork.mkdir()
    with pytest.raises(RunError, match="fork: there are no weights"):
        weights_file(fork)


def test_the_test_galaxies_have_the_error_of_the_card(card, packaged, kaggle, tree):
    split = Split(
        salt="kaggle-split-1", test=30, validation=15, judge_on=read_ids(kaggle / "unselected_ids.txt")
    )
    labels = read_labels([kaggle / "training_solutions_rev1.zip"], tree)
    archive = kaggle / "images_training_rev1.zip"
    with open_source(archive) as source:
        names = source.names()
    parts = split.assign([int(galaxy_id_of(name)) for name in names])
    chosen = [name for name, part in zip(names, parts, strict=True) if part == "test"]
    network = open_network(packaged, device="cpu")
    stamps = dict(stream(archive, network.trained.stamps, names=chosen))
    found = network(np.stack([stamps[name] for name in chosen]), 1)
    difference = found - labels.joint[[labels.row_of[galaxy_id_of(name)] for name in chosen]]
    assert len(chosen) == card["test_galaxies"]
    assert np.sqrt(np.mean(difference**2)) == pytest.approx(card["test_rmse"]["1"], abs=1e-4)
