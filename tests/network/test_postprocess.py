"""Centring: an offset learned from selected galaxies goes. Folding: the same fractions, no normalisations."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from hubblefork.api.judging import evaluate
from hubblefork.cli.tables import trained_text
from hubblefork.data.folders import RunFolder
from hubblefork.data.split import TRAIN, Split, read_split, write_split
from hubblefork.data.stamps import prepare
from hubblefork.network.batches import labelled_rows
from hubblefork.network.model import VoteFractions
from hubblefork.network.postprocess import centre, folded
from hubblefork.network.predictor import TorchNetwork
from hubblefork.network.recipe import load_recipe
from hubblefork.network.training import train
from hubblefork.network.weights import load_weights
from hubblefork.prediction.predictor import Predictor
from hubblefork.tables.catalogue import fractions, read_catalogue, write_catalogue
from hubblefork.zoo import load_tree

from .conftest import write_data_folder

SIDE = 32


@pytest.fixture
def network(quick, tree):
    torch.manual_seed(2)
    return VoteFractions(replace(quick, head="tree"), tree).eval()


def moved(network, tree, galaxies):
    """Centre a network on galaxies whose votes are of a first score 0.2 higher; how far it went."""
    scores = torch.randn(galaxies, len(tree.columns))
    before = network.features[-1].bias.detach().clone()
    further = torch.zeros(len(tree.columns))
    further[0] = 0.2
    labels = network.head(scores + further)
    labels[::2, tree.slices[5]] = torch.nan
    centre(network, scores, labels)
    by = network.features[-1].bias.detach() - before
    rest = (network.head(scores + by) - labels).abs().nan_to_num()
    return float(by[0] - by[1:3].mean()), float(rest.max())


def test_the_last_layer_moves_to_where_the_labels_are(network, tree):
    by, rest = moved(network, tree, 4000)
    assert abs(by - 0.2) < 0.01
    assert rest < 0.004


def test_few_galaxies_move_it_little(network, tree):
    assert 0 < moved(network, tree, 4)[0] < 0.1


@pytest.fixture
def selected(tree, tmp_path):
    """Every second galaxy unlisted, as if selected: nobody says "smooth" of these."""
    data = write_data_folder(tmp_path / "data", tree)
    table = read_catalogue(data / "catalogue.parquet")
    first = tree.columns[0]
    votes = table[first].to_numpy(zero_copy_only=False).copy()
    votes[1::2] *= 0.2
    place = table.column_names.index(first)
    table = table.set_column(place, table.schema.field(place), [votes])
    write_catalogue(table, data / "catalogue.parquet")
    listed = frozenset(str(galaxy) for galaxy in table["galaxy_id"].to_pylist()[::2])
    write_split(Split(salt="tests", test=20, validation=20, judge_on=listed), data)
    return data


def residual(run, data, tree):
    """Return the mean of prediction minus votes for "smooth", of listed training galaxies; their number."""
    table, split = read_catalogue(data / "catalogue.parquet"), read_split(data)
    weights = load_weights(run)
    rows = labelled_rows(table, tree, split)[TRAIN]
    rows = rows[rows % 2 == 0]
    found = Predictor(TorchNetwork(weights, device="cpu"))(prepare(data, weights.recipe.stamps)[rows])
    return float(np.mean(found[:, 0] - fractions(table, tree)[rows, 0])), len(rows)


def validation_rmse(run):
    """Judge a run's weights as they are kept."""
    return evaluate(run, "validation", device="cpu")["rmse"]["value"]


def test_a_training_ends_with_it(selected, tree, quick, tmp_path):
    plain = train(selected, replace(quick, head="tree"), tmp_path / "plain", device="cpu")
    centred = train(
        selected, replace(quick, head="tree", fit_offsets=True), tmp_path / "centred", device="cpu"
    )
    before, galaxies = residual(plain, selected, tree)
    after, _ = residual(centred, selected, tree)
    assert abs(after) < 0.4 * abs(before)
    assert RunFolder(centred).notes()["centred_on"] == galaxies
    assert RunFolder(centred).notes()["centred_rmse"] == pytest.approx(validation_rmse(centred), rel=1e-3)
    assert RunFolder(plain).notes()["best"]["validation_rmse"] == pytest.approx(
        validation_rmse(plain), rel=1e-3
    )
    assert "centred_rmse" not in RunFolder(plain).notes()
    assert ", centred 0." in trained_text(centred)
    assert "centred" not in trained_text(plain).removeprefix(str(plain))
    assert load_weights(centred).epoch == load_weights(plain).epoch


def test_without_a_list_nothing_is_done(data, quick, tmp_path):
    plain = train(data, quick, tmp_path / "plain", device="cpu")
    centred = train(data, replace(quick, fit_offsets=True), tmp_path / "centred", device="cpu")
    assert "centred_on" not in RunFolder(centred).notes()
    one, other = (load_weights(run).network.state_dict() for run in (plain, centred))
    assert all(torch.equal(one[name], other[name]) for name in one)


def with_statistics(network):
    """Give every normalisation statistics and weights as if it had learned something."""
    torch.manual_seed(3)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for values in (layer.running_mean, layer.bias.data):
                values.normal_(0, 0.2)
            for values in (layer.running_var, layer.weight.data):
                values.uniform_(0.5, 1.5)
    return network.eval()


def normalisations(network):
    return [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]


def spoil(network):
    """Make every normalisation that still computes return NaN."""
    for layer in normalisations(network):
        layer.running_mean.fill_(torch.nan)
    return network


@torch.no_grad()
def test_an_encoder_needs_no_normalisation_any_more():
    recipe = load_recipe("fork", [f"input_size={SIDE}", "stamp_size=48"])
    network = with_statistics(VoteFractions(recipe, load_tree()))
    views = torch.rand(4, 3, SIDE, SIDE)
    before = network(views)
    without = spoil(folded(network, SIDE))
    assert len(normalisations(without)) > 40
    torch.testing.assert_close(without(views), before, rtol=0, atol=1e-5)
    torch.testing.assert_close(network(views), before)


class Branching(nn.Module):
    """A convolution whose maps are normalised and used as they are."""

    def __init__(self):
        super().__init__()
        self.convolution, self.normalisation = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, views):
        maps = self.convolution(views)
        return maps + self.normalisation(maps)


@torch.no_grad()
def test_a_convolution_that_is_used_twice_stays_as_it_is():
    network = with_statistics(Branching())
    assert folded(network, SIDE) is network


@torch.no_grad()
def test_a_normalisation_after_something_else_goes_on():
    network = with_statistics(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)))
    views = torch.rand(2, 3, SIDE, SIDE)
    without = folded(network, SIDE)
    torch.testing.assert_close(without(views), network(views))
    assert torch.isnan(spoil(without)(views)).all()
