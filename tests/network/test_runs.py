"""Weights: what travels with them, and what is refused."""

import pickle

import pytest
import torch
from safetensors.torch import save_file

from hubblefork.errors import RunError
from hubblefork.network import runs
from hubblefork.network.model import VoteFractions
from hubblefork.network.recipe import override


def test_weights_survive_writing(tree, quick, tmp_path):
    network = VoteFractions(quick, tree).eval()
    runs.write_weights(tmp_path, network, quick, tree, epoch=7)
    read = runs.load_weights(tmp_path)
    views = torch.rand(3, 3, 32, 32)
    assert torch.equal(read.network(views), network(views))
    assert (read.recipe, read.epoch, read.tree) == (quick, 7, tree)


def test_a_pickle_is_never_loaded(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(pickle.dumps({"features.0.weight": [0.0]}))
    with pytest.raises(RunError, match="not a safetensors file"):
        runs.load_weights(path)


def test_weights_of_somebody_else_are_refused(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "weights.safetensors")
    with pytest.raises(RunError, match="names no recipe and tree"):
        runs.load_weights(tmp_path)


def test_weights_that_do_not_fit_their_recipe_are_refused(tree, quick, tmp_path):
    runs.write_weights(
        tmp_path,
        VoteFractions(quick, tree),
        override(quick, ["stamp_size=40", "input_size=40"]),
        tree,
        epoch=0,
    )
    with pytest.raises(RunError, match="do not fit the network of their recipe"):
        runs.load_weights(tmp_path)


def test_a_folder_without_a_run_says_what_to_do(tmp_path):
    with pytest.raises(RunError, match="train a recipe first"):
        runs.load_weights(tmp_path)
    with pytest.raises(RunError, match="not the folder of a run"):
        runs.read_notes(tmp_path)
