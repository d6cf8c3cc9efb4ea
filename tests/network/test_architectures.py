"""The networks: their shapes, parameters and options; networks from a file of the user."""

import copy

import pytest
import timm
import torch
from torch import nn
from typer.testing import CliRunner

from hubblefork.cli import app
from hubblefork.errors import DownloadError, RecipeError
from hubblefork.network.architectures import ARCHITECTURES, NetworkOptions, build
from hubblefork.network.architectures.encoder import Encoder, fetch_encoder, run_networks
from hubblefork.network.architectures.views import Corners, Maxout
from hubblefork.network.model import count_by_recipe, count_parameters
from hubblefork.network.recipe import load_recipe, recipe_names

SMALL = NetworkOptions(width=4, hidden_layers=1, hidden_units=8)


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipes_network_ends_with_the_linear_layer_of_the_scores(tree, name):
    recipe = load_recipe(name)
    with torch.device("meta"):
        network = build(recipe.architecture, input_size=recipe.input_size, outputs=37, options=recipe.options)
    assert isinstance(network, nn.Sequential)
    assert isinstance(network[-1], nn.Linear)
    assert network[-1].out_features == 37


def published(name):
    """The convolutions and normalisations of torchvision's network: convolutions there have a bias."""
    theirs = timm.create_model(name, num_classes=0).features
    biases = sum(layer.out_channels for layer in theirs if isinstance(layer, nn.Conv2d))
    return sum(p.numel() for p in theirs.parameters()) - biases


@pytest.mark.parametrize("name", ["vgg11", "vgg16"])
def test_the_vggs_have_the_published_convolutions_and_dense_layers(tree, name):
    counted = count_by_recipe(load_recipe(name), tree).learned
    dense = (512 * 2 * 2 * 4096 + 4096) + (4096 * 4096 + 4096) + (4096 * 37 + 37)
    assert counted == published(f"{name}_bn") + dense


def test_vgg7_has_seven_blocks():
    network = build("vgg7", input_size=64, outputs=37, options=NetworkOptions(dropout=0.1))
    kinds = [type(layer).__name__ for layer in network]
    assert kinds.count("Conv2d") == 14
    assert kinds.count("Dropout") == 7
    assert [network(torch.rand(2, 3, 64, 64)).shape] == [(2, 37)]


def test_views_has_the_winners_parameters(tree):
    assert count_by_recipe(load_recipe("views"), tree).learned == pytest.approx(42e6, rel=0.02)


def test_the_16_views_are_the_winners():
    """The centre in every view's lower right; unturned views cut pixels, mirrored ones mirrored pixels."""
    galaxy = torch.rand(1, 3, 99, 99)
    corners = Corners(99)
    views = corners(galaxy).unflatten(0, (1, 16))[0]
    whole = galaxy[0, :, 15:84, 15:84]
    assert views.shape == (16, 3, 45, 45)
    torch.testing.assert_close(views[0], whole[:, :45, :45], atol=1e-5, rtol=0)
    for quarter in range(4):
        turned = torch.rot90(whole, quarter, dims=(1, 2))[:, :45, :45]
        torch.testing.assert_close(views[quarter], turned, atol=1e-4, rtol=0)
        mirrored = torch.rot90(whole.flip(2), quarter, dims=(1, 2))[:, :45, :45]
        torch.testing.assert_close(views[4 + quarter], mirrored, atol=1e-4, rtol=0)


def test_every_view_sees_the_centre_and_nothing_beyond_the_input():
    spot = torch.zeros(1, 3, 99, 99)
    spot[..., 49, 49] = 1
    seen = Corners(99)(spot).sum(dim=1).flatten(1).argmax(dim=1)
    assert [divmod(int(place), 45) for place in seen] == [(34, 34)] * 16
    assert Corners(99)(torch.ones(1, 3, 99, 99)).min() > 0.999


def test_a_galaxys_views_stand_together_and_galaxies_do_not_mix():
    network = build("views", input_size=99, outputs=37, options=NetworkOptions(width=4)).eval()
    galaxies = torch.rand(3, 3, 99, 99)
    together, alone = network(galaxies), torch.cat([network(galaxy[None]) for galaxy in galaxies])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_maxout_takes_the_larger_of_pairs():
    assert Maxout()(torch.tensor([[1.0, 5.0, -2.0, -3.0]])).tolist() == [[5.0, -2.0]]


@pytest.mark.parametrize(("name", "size"), [("vgg7", 15), ("vgg16", 8), ("views", 73)])
def test_too_small_an_input_is_refused(name, size):
    with pytest.raises(RecipeError, match=f"input_size = {size}, at least"):
        build(name, input_size=size, outputs=37)


@pytest.mark.parametrize(("name", "size"), [("vgg7", 16), ("vgg7", 45), ("vgg11", 33), ("views", 74)])
def test_other_sizes_are_taken(name, size):
    options = NetworkOptions(width=4) if name == "views" else SMALL
    assert build(name, input_size=size, outputs=37, options=options).eval()(
        torch.rand(1, 3, size, size)
    ).shape == (
        1,
        37,
    )


def test_what_a_network_does_not_leave_open_is_refused():
    with pytest.raises(
        RecipeError, match="hidden_layers = 1, but lab-cnn does not have this option: it stays 0"
    ):
        load_recipe("lab-cnn", ["hidden_layers=1"])
    with pytest.raises(RecipeError, match="width = 4, but encoder:resnet10t does not have this option"):
        build("encoder:resnet10t", input_size=64, outputs=37, options=NetworkOptions(width=4))
    with pytest.raises(RecipeError, match="adapter_rank: vgg7 has no encoder"):
        load_recipe("vgg7", ["adapter_rank=2"])


def test_an_encoder_of_timm_is_a_recipe_by_its_name(tree):
    recipe = load_recipe("encoder:resnet10t", ["hidden_units=16"])
    assert (recipe.name, recipe.pretrained) == ("encoder:resnet10t", "resnet10t")
    network = build(recipe.architecture, input_size=64, outputs=37, options=recipe.options)
    assert network(torch.rand(2, 3, 64, 64)).shape == (2, 37)
    assert [type(layer).__name__ for layer in network] == ["Encoder", "Linear", "ReLU", "Dropout", "Linear"]
    theirs = sum(p.numel() for p in timm.create_model("resnet10t", num_classes=0).parameters())
    assert count_parameters(network).learned == theirs + 512 * 16 + 16 + 16 * 37 + 37


def test_an_encoder_drops_features_and_passes_blocks_by():
    options = NetworkOptions(dropout=0.3, drop_path=0.2)
    network = build("encoder:mobilenetv2_035", input_size=64, outputs=37, options=options)
    assert [type(layer).__name__ for layer in network] == ["Encoder", "Dropout", "Linear"]
    chances = [layer.drop_prob for layer in network.modules() if type(layer).__name__ == "DropPath"]
    assert network[1].p == 0.3
    assert chances == sorted(chances) and 0.1 < chances[-1] <= 0.2
    with pytest.raises(RecipeError, match=r"encoder ghostnet_050: .*drop_path_rate.*leave out drop_path"):
        build("encoder:ghostnet_050", input_size=64, outputs=37, options=options)
    with pytest.raises(RecipeError, match=r"drop_path = 0\.1, but vgg7 does not have this option"):
        load_recipe("vgg7", ["drop_path=0.1"])


def test_a_transformer_takes_the_size_of_the_stamps():
    network = build("encoder:vit_tiny_patch16_224", input_size=64, outputs=37, options=SMALL_TAIL).eval()
    assert network(torch.rand(1, 3, 64, 64)).shape == (1, 37)


SMALL_TAIL = NetworkOptions(hidden_units=8)


def test_grouped_convolutions_train_in_single_precision_on_a_cpu(tree):
    layer = next(m for m in Encoder("mobilenetv2_035").modules() if getattr(m, "groups", 1) > 1)
    twin = copy.deepcopy(layer)
    torch.nn.init.zeros_(twin.weight)
    maps = torch.rand(2, layer.in_channels, 9, 9).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found, of_twin = layer(maps), twin(maps)
        with torch.no_grad():
            judged = layer(maps)
    stride, padding = layer.stride, layer.padding
    expected = torch.nn.functional.conv2d(maps.float(), layer.weight, None, stride, padding, 1, layer.groups)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, expected.bfloat16())
    assert not of_twin.any()
    assert not torch.equal(judged, found)
    torch.testing.assert_close(judged.float(), expected, rtol=0.02, atol=0.01)


def test_an_unknown_encoder_names_the_nearest():
    with pytest.raises(RecipeError, match=r'timm has no encoder "resnet51" \(did you mean "resnet5'):
        Encoder("resnet51")


def test_a_hub_out_of_reach_says_what_to_do(monkeypatch):
    def unreachable(*args, **kwargs):
        raise ConnectionError("no route")

    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", unreachable)
    said = r"this encoder's config\.json .*no route.*check mwalmsley/zoobot-encoder-convnext_nano at"
    with pytest.raises(DownloadError, match=said):
        fetch_encoder("hf_hub:mwalmsley/zoobot-encoder-convnext_nano")
    with pytest.raises(RecipeError, match="hf_hub:a/b/c: no name of the Hugging Face hub"):
        fetch_encoder("hf_hub:a/b/c")


def test_an_encoder_of_the_hub_is_built_from_its_cache(tmp_path, monkeypatch):
    snapshot = tmp_path / "models--some--body" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(
        '{"architecture": "resnet10t", "pretrained_cfg": {"num_classes": 9}}'
    )
    (tmp_path / "models--some--body" / "refs").mkdir()
    (tmp_path / "models--some--body" / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    fetch_encoder("hf_hub:some/body")
    network = build("encoder:hf_hub:some/body", input_size=64, outputs=37).eval()
    assert network(torch.rand(2, 3, 64, 64)).shape == (2, 37)


FAMILIES = [  # a small member of each kind: a wider head, a size fixed when built, a size that may change
    *("mobilenetv3_small_050", "lcnet_050", "ghostnet_050", "efficientvit_b0", "hgnetv2_b0", "vgg11"),
    *("mobilenetv4_conv_small_035", "levit_128s", "pit_ti_224", "maxvit_rmlp_pico_rw_256", "mixer_s32_224"),
    *("swin_tiny_patch4_window7_224", "deit_tiny_patch16_224", "convnext_atto", "beit_base_patch16_224"),
]


@pytest.mark.parametrize("name", FAMILIES)
def test_encoders_of_every_kind_give_one_vector_a_galaxy(name):
    with torch.device("meta"):
        network = build(f"encoder:{name}", input_size=64, outputs=37, options=NetworkOptions()).eval()
        assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 37)


NOT_AT_64 = {
    "byoanet",
    "deepseek_vit",
    "efficientformer",
    "inception_resnet_v2",
    "inception_v3",
    "inception_v4",
}


@pytest.mark.slow
@pytest.mark.parametrize("family", timm.list_modules())
def test_every_family_of_timm_is_built_or_named(family):
    names = timm.list_models(module=family)
    if not names:
        pytest.skip(f"{family} registers no model")
    with torch.device("meta"):
        for name in {min(names, key=len), min(names)}:
            try:
                network = build(f"encoder:{name}", input_size=64, outputs=37, options=NetworkOptions()).eval()
            except RecipeError as error:
                assert family in NOT_AT_64, error
                assert f"encoder {name} takes no views of 64 × 64 pixels (" in str(error)
            else:
                assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 37)


def test_an_encoder_of_another_size_names_its_own():
    with pytest.raises(RecipeError, match=r"takes no views of 64 × 64 .*its own size is 224"):
        build("encoder:efficientformer_l1", input_size=64, outputs=37, options=NetworkOptions())


def test_names_that_are_none_list_all(tree):
    with pytest.raises(RecipeError) as caught:
        load_recipe("lab-cnn", ["architecture=vg7", "optimiser=adamm", "hidden_dropout=1", "momentum=-1"])
    message = str(caught.value)
    for complaint in (
        '"vg7" (did you mean "vgg7"?)',
        "optimiser = 'adamm'",
        "hidden_dropout = 1 ",
        "momentum = -1 ",
    ):
        assert complaint in message
    assert all(name in message for name in ARCHITECTURES)


FILE = """
from timm.models import register_model
from torch import nn


class Mean(nn.Module):
    num_features = 3

    def forward(self, views):
        return views.mean((2, 3))


@register_model
def {name}(pretrained=False, **_):
    return Mean()
"""


def test_a_file_registers_an_encoder(tmp_path):
    views = torch.rand(2, 3, 32, 32)
    with pytest.raises(RecipeError, match="One of your own: hubblefork --networks"):
        build("encoder:mean_of_a_file", input_size=32, outputs=37)
    (tmp_path / "nets.py").write_text(FILE.format(name="mean_of_a_file"))
    run_networks(tmp_path / "nets.py")
    network = build("encoder:mean_of_a_file", input_size=32, outputs=37)
    assert network(views).shape == (len(views), 37)
    assert (network[0](views) == views.mean((2, 3))).all()  # neither shifted nor scaled


def test_the_command_line_runs_it(tmp_path, monkeypatch):
    (tmp_path / "nets.py").write_text(FILE.format(name="mean_by_option") + "print('was run')")
    done = CliRunner().invoke(app, ["--networks", str(tmp_path / "nets.py"), "info"], catch_exceptions=False)
    assert "was run" in done.output
    assert build("encoder:mean_by_option", input_size=32, outputs=37)
    monkeypatch.setenv("HUBBLEFORK_NETWORKS", str(tmp_path / "nets.py"))
    assert "was run" in CliRunner().invoke(app, ["info"], catch_exceptions=False).output


def test_a_file_that_fails_says_where(tmp_path):
    (tmp_path / "bad.py").write_text("import math\n\nmath.sqrt(-1)\n")
    with pytest.raises(RecipeError, match=r"bad\.py, line 3: ValueError: "):
        run_networks(tmp_path / "bad.py")
    with pytest.raises(RecipeError, match=r"nope\.py: there is no Python file"):
        run_networks(tmp_path / "nope.py")
