"""Features are what the last layer is given, in the order of the galaxies."""

import zipfile

import numpy as np
import pytest
import torch

from hubblefork.data.catalogue import galaxy_ids, read_catalogue
from hubblefork.data.split import read_split
from hubblefork.data.stamps import prepare
from hubblefork.errors import CatalogueError, ImageError
from hubblefork.network.augment import central_views
from hubblefork.network.predict import features_of_images, features_of_part
from hubblefork.network.weights import load_weights


def test_the_last_layer_makes_of_them_what_the_network_answers(trained, data):
    weights = load_weights(trained)
    ids, features = features_of_part(trained, "test", device="cpu")
    known = galaxy_ids(read_catalogue(data / "catalogue.parquet"))
    assert ids.tolist() == known[read_split(trained).assign(known.tolist()) == "test"].tolist()
    pixels = prepare(data, weights.recipe.stamps).pixels[np.isin(known, ids)]
    with torch.no_grad():
        answers = weights.network(central_views(torch.from_numpy(pixels), weights.recipe.input_size))
        again = weights.network.head(weights.network.features[-1](torch.from_numpy(features)))
    np.testing.assert_allclose(again.numpy(), answers.numpy(), atol=5e-3)


def test_an_archive_gives_the_same_and_leaves_out_what_is_unreadable(trained, data, tmp_path):
    ids, features = features_of_part(trained, "validation", device="cpu")
    with zipfile.ZipFile(data / "images.zip") as whole, zipfile.ZipFile(tmp_path / "some.zip", "w") as some:
        for galaxy_id in ids[:20].tolist():
            some.writestr(f"{galaxy_id}.jpg", whole.read(f"images/{galaxy_id}.jpg"))
        some.writestr("7.jpg", b"no image")
    names, found = features_of_images(trained, tmp_path / "some.zip", device="cpu")
    assert names.tolist() == [str(galaxy_id) for galaxy_id in ids[:20]]
    np.testing.assert_allclose(found, features[:20], atol=0.05 * np.abs(features).max())


def test_nothing_to_look_at(trained, tmp_path):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("7.jpg", b"no image")
    with pytest.raises(ImageError, match="none of its 1 images"):
        features_of_images(trained, tmp_path / "bad.zip", device="cpu")
    with pytest.raises(CatalogueError, match="no galaxy"):
        features_of_part(trained, "elsewhere", device="cpu")
