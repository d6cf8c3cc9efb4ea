"""Where a network looked and how its views differ, of a network that is known: it measures one place."""

import io

import numpy as np
import pytest
from PIL import Image

from hubblefork.data.trained import Trained, views_of
from hubblefork.gallery.pictures import fractions_of_views, occlusion, overlay
from hubblefork.images.decoder import StampSpec
from hubblefork.prediction.predictor import Predictor


class UpperLeft:
    """A network whose first fraction is the light of one place of a view, whose second is what is missing."""

    together, runtime = 8, "NumPy"

    def __init__(self, tree):
        self.trained = Trained("light", tree, StampSpec(80, 48), 32, 0.0, "fp32", 0, "digest")

    def each(self, stamps, views):
        shown = views_of(stamps, 32, views, 0.0)[:, :, 4:8, 4:8].mean(axis=(1, 2, 3))
        values = np.zeros((len(shown), len(self.trained.tree.columns)), np.float32)
        values[:, 0], values[:, 1] = shown, 1 - shown
        return values.reshape(len(stamps), views, -1)

    def __call__(self, stamps, views):
        return self.each(stamps, views).mean(axis=1)


@pytest.fixture
def network(tree):
    return UpperLeft(tree)


@pytest.fixture
def stamp():
    pixels = np.zeros((48, 48, 3), np.uint8)
    pixels[10:18, 10:18] = 200
    return pixels


def test_covering_takes_what_the_covered_place_was_worth(network, stamp):
    found = occlusion(network, stamp)
    assert found.fractions[0] == pytest.approx(200 / 255, abs=1e-3)
    worth = found.losses[:, :, 0]
    assert (
        worth.max() == pytest.approx(200 / 255, abs=1e-3)
        and (worth[4:] == 0).all()
        and (worth[:, 4:] == 0).all()
    )
    np.testing.assert_allclose(found.losses[:, :, 1], -worth, atol=1e-6)


@pytest.mark.parametrize(("answer", "colour"), [(0, "red"), (1, "blue")])
def test_the_overlay_lies_where_the_place_is_in_the_image(network, stamp, answer, colour):
    found = occlusion(network, stamp)
    for shown in (0.8, 1.0, 2.0):
        image = np.asarray(Image.open(io.BytesIO(overlay(found, answer, shown))))
        alpha = image[:, :, 3].astype(float)
        y, x = (np.average(axis, weights=alpha) / len(alpha) for axis in np.indices(alpha.shape))
        expected = 0.5 + (14 / 48 - 0.5) / shown
        assert (y, x) == (pytest.approx(expected, abs=0.04), pytest.approx(expected, abs=0.04))
        strongest = image[np.unravel_index(alpha.argmax(), alpha.shape)]
        assert (strongest[0] > strongest[2]) == (colour == "red")


def test_each_view_has_its_own_fractions(network, stamp):
    values = fractions_of_views(network, stamp, 8)
    assert values.shape == (8, 37) and values[0, 0] > 0.7 and values[:, 0].min() == 0
    np.testing.assert_allclose(values.mean(axis=0), network(stamp[None], 8)[0], atol=1e-6)


def test_a_galaxy_is_explained(client, network):
    looks = client.app.state.gallery.looks
    looks.predictor = Predictor(network)
    covered = client.get("/api/occlusion/1003").json()
    assert np.shape(covered["losses"]) == (8, 8, 37) and covered["answers"][0] == "smooth"
    drawn = client.get("/occlusion/1003", params={"answer": "smooth", "share": 0.5})
    assert (
        drawn.headers["content-type"] == "image/png" and Image.open(io.BytesIO(drawn.content)).mode == "RGBA"
    )
    views = client.get("/api/views/1003").json()
    assert np.shape(views["fractions"]) == (16, 37)
    assert Image.open(io.BytesIO(client.get("/view/15/1003").content)).size == (32, 32)
    assert client.get("/view/16/1003").status_code == 422
    assert (
        'did you mean "spiral"' in client.get("/occlusion/1003", params={"answer": "spirall"}).json()["error"]
    )


def test_images_smaller_than_what_the_network_sees_are_refused_by_name(client):
    answer = client.get("/api/views/1003")
    assert answer.status_code == 404 and "the crop is 318" in answer.json()["error"]
