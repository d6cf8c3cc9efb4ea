"""Starting weights: a file that fits, a file that does not, the hub reached and not, a resumed run."""

import pytest
import timm
import torch
from safetensors.torch import save_file

from hubblefork.errors import RunError
from hubblefork.network import pretrained, runs
from hubblefork.network.architectures.encoder import Encoder
from hubblefork.network.model import VoteFractions
from hubblefork.network.recipe import load_recipe
from hubblefork.network.training import train

QUICK = ["batch_size=8", "steps_per_epoch=1", "epochs=1"]


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
    said = pretrained.start(network, "", published)
    expected = timm.create_model("resnet50", num_classes=0)
    expected.load_state_dict({k: v for k, v in pretrained._read(published).items() if k[:3] != "fc."})
    assert torch.equal(first_convolution(network), expected.conv1.weight)
    assert said.startswith("model.safetensors (SHA-256 ")


def test_the_hub_is_asked_for_what_the_recipe_names(network, published, monkeypatch):
    asked = []
    monkeypatch.setattr(pretrained, "fetch", lambda name: asked.append(name) or published)
    said = pretrained.start(network, "resnet50.tv_in1k")
    assert asked == ["resnet50.tv_in1k"]
    assert said.startswith("resnet50.tv_in1k of timm (SHA-256 ")


def test_a_hub_out_of_reach_leaves_random_weights_and_says_so(network, monkeypatch):
    def unreachable(name):
        raise ConnectionError("no route")

    before = first_convolution(network).clone()
    monkeypatch.setattr(pretrained, "fetch", unreachable)
    said = pretrained.start(network, "resnet50.tv_in1k")
    assert torch.equal(first_convolution(network), before)
    assert said == "random weights: resnet50.tv_in1k could not be reached (ConnectionError)"


def test_weights_of_another_network_are_refused(network, tmp_path):
    save_file(timm.create_model("resnet18").state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(RunError, match=r"other\.safetensors: no weights of resnet50: .*conv3.* is missing"):
        pretrained.start(network, "", tmp_path / "other.safetensors")


def test_a_file_that_is_no_safetensors_is_refused(network, tmp_path):
    torch.save({"weights": torch.zeros(1)}, tmp_path / "pickled.pt")
    with pytest.raises(RunError, match="not a safetensors file"):
        pretrained.start(network, "", tmp_path / "pickled.pt")


def test_a_network_without_an_encoder_takes_no_weights(tree, published):
    with pytest.raises(RunError, match="has no encoder"):
        pretrained.start(VoteFractions(load_recipe("lab-cnn"), tree), "", published)


def test_a_run_notes_where_it_started(data, published, tmp_path):
    recipe = load_recipe("lab-resnet50", ["crop=64", *QUICK])
    out = train(data, recipe, tmp_path / "run", weights=published, device="cpu")
    assert runs.read_notes(out)["start"].startswith("model.safetensors")


def test_bands_are_scaled_as_the_weights_expect():
    encoder = Encoder("resnet50")
    seen = []
    encoder.network.conv1.register_forward_hook(lambda _, views, __: seen.append(views[0]))
    encoder.eval()(torch.full((1, 3, 64, 64), 0.5))
    expected = (0.5 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    assert torch.allclose(seen[0][0, :, 0, 0], expected, atol=1e-6)
