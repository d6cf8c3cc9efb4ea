"""Networks of one band: a grey image has the scores that it has as three equal bands."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hubblefork.data.stamps import prepare
from hubblefork.data.trained import Trained
from hubblefork.errors import RecipeError
from hubblefork.images.decoder import StampSpec, stamp
from hubblefork.network.architectures import bands_of, build
from hubblefork.network.export import export, write_network
from hubblefork.network.model import VoteFractions
from hubblefork.network.predictor import TorchNetwork
from hubblefork.network.recipe import Recipe, override, parse_recipe, recipe_text
from hubblefork.network.training import train
from hubblefork.network.weights import copy_layers, load_start, load_weights, save_weights
from hubblefork.prediction.loop import predict_rows, predictions
from hubblefork.prediction.predictor import Predictor
from hubblefork.prediction.runtimes import OnnxRuntime
from hubblefork.zoo import DecisionTree

ENCODER = "encoder:tf_efficientnet_lite0"


@pytest.mark.parametrize(
    ("architecture", "size"), [("lab-cnn", 32), ("vgg7", 16), ("views", 80), (ENCODER, 32)]
)
def test_a_grey_image_has_the_scores_of_three_equal_bands(architecture: str, size: int) -> None:
    networks = []
    for bands in (3, 1):
        torch.manual_seed(2)
        networks.append(build(architecture, input_size=size, outputs=5, bands=bands).eval())
    grey = torch.rand(2, 1, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        three, one = networks[0](grey.expand(-1, 3, -1, -1).contiguous()), networks[1](grey)
    assert three.std() > 1e-4 and list(map(bands_of, networks)) == [3, 1]
    torch.testing.assert_close(one, three, rtol=1e-4, atol=1e-5)


def test_a_stamp_of_one_band_is_the_mean_of_three() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    three = stamp(pixels, StampSpec(20, 20))
    one = stamp(pixels, StampSpec(20, 20, bands=1))
    np.testing.assert_array_equal(one[:, :, 0], np.floor(three.mean(axis=2) + 0.5))
    grey = np.repeat(pixels[:, :, :1], 3, axis=2)
    np.testing.assert_array_equal(stamp(grey, StampSpec(20, 20, bands=1)), pixels[:, :, :1])


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.network.conftest import QUICK

    from hubblefork.network.recipe import load_recipe

    recipe = load_recipe("lab-cnn", [*QUICK, "epochs=1", "bands=1", "precision=32"])
    return train(data, recipe, tmp_path_factory.mktemp("grey") / "run", device="cpu")


def test_a_run_of_one_band_is_trained_written_and_predicted_by_every_runtime(run: Path, data: Path) -> None:
    weights = load_weights(run)
    assert weights.recipe.stamps == weights.trained.stamps == StampSpec(64, 32, bands=1)
    pixels = prepare(data, weights.recipe.stamps)
    assert pixels.shape[1:] == (32, 32, 1) and pixels.std() > 10
    torch_network = TorchNetwork(weights, device="cpu")
    onnx = OnnxRuntime(write_network(run))
    assert onnx.trained == Trained.from_metadata(weights.trained.as_metadata(), run)
    expected = torch_network(pixels[:5], 2)
    np.testing.assert_allclose(onnx(pixels[:5], 2), expected, atol=1e-5)
    shown = np.array([stamp(image, StampSpec(64, 64)) for image in _images(data)[:5]])
    (batch,) = predictions(Predictor(onnx), shown)
    rows = predict_rows(Predictor(onnx), data, np.arange(5), "")
    np.testing.assert_allclose(batch.fractions, rows, atol=2e-3)


def test_one_band_is_trained_in_other_light(data: Path, tmp_path: Path) -> None:
    from tests.network.conftest import QUICK

    from hubblefork.network.recipe import load_recipe

    light = ["blur=2", "brightness=1.5", "noise=0.05"]
    recipe = load_recipe("lab-cnn", [*QUICK, "epochs=1", "bands=1", "precision=32", *light])
    assert load_weights(train(data, recipe, tmp_path / "run", device="cpu")).recipe == recipe


def _images(data: Path) -> list[bytes]:
    import zipfile

    with zipfile.ZipFile(data / "images.zip") as archive:
        return [archive.read(name) for name in sorted(archive.namelist())]


def test_other_programs_give_a_network_of_one_band_cutouts_of_three(run: Path, tmp_path: Path) -> None:
    assert export(run, tmp_path / "grey.onnx", side=64) < 1e-4


def test_a_network_of_one_band_begins_with_the_layers_of_one_of_three(
    trained: Path, tree: DecisionTree
) -> None:
    weights = load_weights(trained)
    network = VoteFractions(replace(weights.recipe, bands=1), tree)
    assert copy_layers(network.eval(), weights)
    grey = torch.rand(3, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(network(grey), weights.network(grey.expand(-1, 3, -1, -1)))


def test_an_encoder_of_one_band_begins_with_published_weights_of_three(
    tree: DecisionTree, quick: Recipe, tmp_path: Path
) -> None:
    from safetensors.torch import save_file

    recipe = override(quick, [f"architecture={ENCODER}"])
    three = VoteFractions(recipe, tree).eval()
    encoder = three.features[0]
    save_file(
        {name: value.contiguous() for name, value in encoder.network.state_dict().items()}, tmp_path / "p"
    )
    one = VoteFractions(replace(recipe, bands=1), tree).eval()
    load_start(one, "", tmp_path / "p")
    grey = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        features = encoder(grey.expand(-1, 3, -1, -1))
        torch.testing.assert_close(one.features[0](grey), features, rtol=1e-4, atol=1e-5)


def test_bands_stand_in_recipes_and_weights(quick: Recipe, tree: DecisionTree, tmp_path: Path) -> None:
    recipe = override(quick, ["bands=1"])
    assert parse_recipe(recipe_text(recipe), origin="").bands == 1
    save_weights(tmp_path / "w.safetensors", VoteFractions(recipe, tree).state_dict(), recipe, tree, epoch=1)
    assert load_weights(tmp_path / "w.safetensors").trained.stamps.bands == 1
    with pytest.raises(RecipeError, match=r"bands = 2"):
        override(quick, ["bands=2"])
