"""What tests share: the tree, a place for real data when a machine has it."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

from hubblefork.zoo import DecisionTree, load_tree

# Threads of OpenMP spin while they wait for each other: on a busy machine two take many times as long as one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
settings.register_profile("busy machines are slow", deadline=None)
settings.load_profile("busy machines are slow")


@pytest.fixture(scope="session")
def tree() -> DecisionTree:
    return load_tree("galaxy_zoo_2")


@pytest.fixture(scope="session")
def kaggle() -> Path:
    """The folder of real Galaxy Zoo files in Kaggle's layout; the test is skipped without it."""
    beside = Path(__file__).parents[2] / "shared" / "data" / "kaggle"
    folder = Path(os.environ.get("HUBBLEFORK_KAGGLE", beside))
    if not (folder / "images_training_rev1.zip").exists():
        pytest.skip(f"no real Galaxy Zoo files in {folder}; set HUBBLEFORK_KAGGLE to a folder of them")
    return folder
