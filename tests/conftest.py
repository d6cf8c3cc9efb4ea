"""What tests share: the tree, coarse figures, a small run, a place for real data when a machine has it."""

import gc
import os
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import settings

from hubblefork.zoo import DecisionTree, load_tree

# Threads of OpenMP spin while they wait for each other: on a busy machine two take many times as long as one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
settings.register_profile("busy machines are slow", deadline=None)
settings.load_profile("busy machines are slow")


def pytest_collection_finish():
    """Seldom look for garbage among what stays: each time takes a third of a second."""
    gc.freeze()
    gc.set_threshold(700, 10, 100)


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


@contextmanager
def coarse():
    """Coarse pictures and no PDFs: what figures show, and how they are written, is tested with them."""
    from hubblefork.pages import page
    from hubblefork.pages.style import png

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "png", lambda figure, **_: png(figure, dpi=15))
        patch.setattr(page, "pdf", lambda figure, **_: b"%PDF-")
        yield


@pytest.fixture(scope="module")
def quickly():
    with coarse():
        yield


@pytest.fixture(scope="session")
def data(tmp_path_factory, tree) -> Path:
    """Small galaxies that can be learned in seconds."""
    from tests.network.conftest import write_data_folder

    return write_data_folder(tmp_path_factory.mktemp("network") / "data", tree)


@pytest.fixture
def quick():
    """The recipe of a training of a second on them."""
    from tests.network.conftest import QUICK

    from hubblefork.network.recipe import load_recipe

    return load_recipe("lab-cnn", QUICK)


@pytest.fixture(scope="session")
def trained(data, tmp_path_factory) -> Path:
    """A run that has learned what is to be learned."""
    from tests.network.conftest import QUICK

    from hubblefork.network.recipe import load_recipe
    from hubblefork.network.training import train

    recipe = load_recipe("lab-cnn", [*QUICK, "epochs=30", "batch_size=8"])
    return train(data, recipe, tmp_path_factory.mktemp("network") / "run", device="cpu")
