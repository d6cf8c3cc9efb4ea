"""The networks are those of the lab report's tables 2, 3 and 5, layer by layer."""

import pytest
import torch

from hubblefork.errors import RecipeError
from hubblefork.network.architectures import build
from hubblefork.network.model import VoteFractions, count_parameters, summarise
from hubblefork.network.recipe import load_recipe

TABLE_2 = [
    ("Conv2d", (62, 62, 32), 896),
    ("BatchNorm2d", (62, 62, 32), 128),
    ("ReLU", (62, 62, 32), 0),
    ("MaxPool2d", (31, 31, 32), 0),
    ("Dropout", (31, 31, 32), 0),
    ("Conv2d", (29, 29, 64), 18496),
    ("ReLU", (29, 29, 64), 0),
    ("MaxPool2d", (14, 14, 64), 0),
    ("Dropout", (14, 14, 64), 0),
    ("Conv2d", (9, 9, 128), 295040),
    ("ReLU", (9, 9, 128), 0),
    ("Dropout", (9, 9, 128), 0),
    ("Flatten", (10368,), 0),
    ("Linear", (128,), 1327232),
    ("ReLU", (128,), 0),
    ("Dropout", (128,), 0),
    ("Linear", (64,), 8256),
    ("ReLU", (64,), 0),
    ("Dropout", (64,), 0),
    ("Linear", (37,), 2405),
]


def test_lab_cnn_has_the_layers_of_table_2():
    layers = summarise(build("lab-cnn", input_size=64, outputs=37), 64)
    assert [(layer.kind, layer.output_shape, layer.parameters.keras) for layer in layers] == TABLE_2


def test_lab_cnn_has_the_parameters_of_the_report(tree):
    parameters = count_parameters(VoteFractions(load_recipe("lab-cnn"), tree))
    assert parameters.keras == 1_652_453
    assert parameters.statistics == 64
    assert parameters.learned == 1_652_389


TABLE_3 = [("resnet50", (2, 2, 2048), 23_587_712), ("Flatten", (8192,), 0), ("Linear", (37,), 303_141)]
TABLE_5 = [
    ("resnet50", (2, 2, 2048), 23_587_712),
    ("Flatten", (8192,), 0),
    ("Linear", (200,), 1_638_600),
    ("ReLU", (200,), 0),
    ("Dropout", (200,), 0),
    ("Linear", (100,), 20_100),
    ("ReLU", (100,), 0),
    ("Dropout", (100,), 0),
    ("Linear", (37,), 3_737),
]


@pytest.mark.parametrize(
    ("recipe", "table", "total"),
    [("lab-resnet50", TABLE_3, 23_890_853), ("lab-resnet50-reweighted", TABLE_5, 25_250_149)],
)
def test_the_resnets_have_the_layers_and_parameters_of_tables_3_and_5(tree, recipe, table, total):
    network = VoteFractions(load_recipe(recipe), tree)
    layers = summarise(network.features, 64)
    assert [(layer.kind, layer.output_shape, layer.parameters.keras) for layer in layers] == table
    parameters = count_parameters(network)
    assert parameters.keras == total
    assert (parameters.statistics, parameters.redundant) == (53_120, 26_560)


@pytest.mark.parametrize("recipe", ["lab-resnet50", "lab-resnet50-reweighted"])
def test_the_resnets_take_other_sizes(tree, recipe):
    network = VoteFractions(load_recipe(recipe, ["input_size=33"]), tree).eval()
    assert network(torch.zeros(2, 3, 33, 33)).shape == (2, 37)


def test_a_summary_leaves_the_network_as_it_was():
    network = build("lab-cnn", input_size=64, outputs=37).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    summarise(network, 64)
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("size", [30, 45, 69, 128])
def test_lab_cnn_takes_other_sizes(size):
    assert build("lab-cnn", input_size=size, outputs=37)(torch.zeros(2, 3, size, size)).shape == (2, 37)


def test_an_input_too_small_is_refused():
    with pytest.raises(RecipeError, match="input_size = 29, at least 30"):
        build("lab-cnn", input_size=29, outputs=37)


def test_an_unknown_architecture_names_the_nearest():
    with pytest.raises(RecipeError, match=r'no architecture "lab_cnn" \(did you mean "lab-cnn"\?\)'):
        build("lab_cnn", input_size=64, outputs=37)
