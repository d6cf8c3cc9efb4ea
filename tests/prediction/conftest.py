"""A run that has learned nothing."""

import pytest
from tests.network.conftest import QUICK

from hubblefork.network.recipe import load_recipe
from hubblefork.network.training import train


@pytest.fixture(scope="session")
def untrained(data, tmp_path_factory):
    """A run of one step."""
    recipe = load_recipe("lab-cnn", [*QUICK, "epochs=1", "steps_per_epoch=1", "seed=4"])
    return train(data, recipe, tmp_path_factory.mktemp("untrained") / "run", device="cpu")
