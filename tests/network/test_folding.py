"""Normalisations folded into convolutions: the same fractions, and none of the normalisations' work."""

import torch
from torch import nn

from hubblefork.network.folding import folded
from hubblefork.network.model import VoteFractions
from hubblefork.network.recipe import load_recipe
from hubblefork.zoo import load_tree

SIDE = 32


def trained(network):
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
    network = trained(VoteFractions(recipe, load_tree()))
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
    network = trained(Branching())
    assert folded(network, SIDE) is network


@torch.no_grad()
def test_a_normalisation_after_something_else_goes_on():
    network = trained(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)))
    views = torch.rand(2, 3, SIDE, SIDE)
    without = folded(network, SIDE)
    torch.testing.assert_close(without(views), network(views))
    assert torch.isnan(spoil(without)(views)).all()
