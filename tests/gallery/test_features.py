"""The features of a catalogue's images, made once and gone on with."""

import numpy as np
import pytest
from tests.images.image_boxes import box, pictures

from hubblefork.data.trained import Trained
from hubblefork.errors import CatalogueError
from hubblefork.gallery import features
from hubblefork.gallery.features import build, features_of, is_built, read_features
from hubblefork.images.decoder import StampSpec
from hubblefork.prediction.loop import predictions
from hubblefork.prediction.predictor import Predictor


class Pixels:
    """A network whose features are the pixels of a stamp."""

    together, runtime, galaxies = 8, "NumPy", 0

    def __init__(self, tree):
        self.trained = Trained("pixels", tree, StampSpec(20, 8), 8, 0.0, "fp32", 0, "digest")

    def __call__(self, stamps, views):
        Pixels.galaxies += len(stamps)
        return stamps.reshape(len(stamps), -1) / np.float32(255)


@pytest.fixture(scope="module")
def predictor(tree):
    return Predictor(Pixels(tree))


@pytest.fixture(scope="module")
def members():
    return pictures(range(1000, 1200))


@pytest.fixture(scope="module")
def images(members, tmp_path_factory):
    return box(tmp_path_factory.mktemp("features") / "images.zip", members)


@pytest.fixture(scope="module")
def ids():
    """The galaxies of the images, in another order, and one without an image between them."""
    return np.insert(np.arange(1199, 999, -1), 5, 10**9)


def test_row_i_is_galaxy_i(images, ids, predictor, tmp_path):
    build(tmp_path, ids, images, predictor)
    values, projection = read_features(tmp_path)
    raw = np.concatenate([batch.fractions for batch in predictions(predictor, images)])
    expected = projection(raw)[::-1]
    np.testing.assert_allclose(np.delete(values, 5, axis=0), expected, atol=1e-5)
    assert np.isnan(values[5]).all() and values.shape == (len(ids), 64) and 0.5 < projection.explained <= 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "features.npy",
        "index.json",
        "projection.npz",
    ]


def test_what_is_interrupted_goes_on(images, ids, predictor, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "LEARNED_ON", 40)
    monkeypatch.setattr(features, "BLOCK", 32)
    saved = features._save

    def stopping(path, **arrays):
        if path.name == "000003.npz":
            raise KeyboardInterrupt
        saved(path, **arrays)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(features, "_save", stopping)
        build(tmp_path, ids, images, predictor)
    assert not is_built(tmp_path, ids, "digest")
    Pixels.galaxies = 0
    build(tmp_path, ids, images, predictor)
    assert is_built(tmp_path, ids, "digest") and Pixels.galaxies == 200 - 40 - 2 * 32
    values = read_features(tmp_path)[0]
    assert np.flatnonzero(np.isnan(values[:, 0])).tolist() == [5]
    build(tmp_path / "whole", ids, images, predictor)
    np.testing.assert_allclose(values, read_features(tmp_path / "whole")[0], atol=1e-4)


def test_other_galaxies_are_made_anew(images, ids, predictor, tmp_path):
    build(tmp_path, ids, images, predictor)
    (tmp_path / "map.npy").write_bytes(b"of the former")
    assert not is_built(tmp_path, ids[:100], "digest")
    build(tmp_path, ids[:100], images, predictor)
    assert len(read_features(tmp_path)[0]) == 100 and not (tmp_path / "map.npy").exists()


def test_images_of_other_galaxies_are_told(images, predictor, tmp_path):
    with pytest.raises(CatalogueError, match=r"images\.zip: 0 images are of galaxies of the catalogue"):
        build(tmp_path, np.array([1, 2, 3]) + 10**9, images, predictor)


def test_a_dropped_image_lies_on_itself(images, members, ids, predictor, tmp_path):
    build(tmp_path, ids, images, predictor)
    values, projection = read_features(tmp_path)
    dropped = features_of(predictor, projection, members["images_training_rev1/1199.jpg"])
    np.testing.assert_allclose(dropped, values[0], atol=1e-5)
