"""Baselines against plain computations, and against Kaggle's own benchmark file."""

import numpy as np
import pyarrow as pa
import pytest

from hubblefork.errors import CatalogueError
from hubblefork.stats import baselines, metrics

BLUE, RED, GREEN = (40, 60, 200), (200, 60, 40), (40, 200, 60)


def test_mean_vote_is_the_mean_of_those_who_were_asked():
    votes = np.array([[0.2, np.nan, np.nan], [0.4, 0.8, np.nan]])
    np.testing.assert_allclose(baselines.mean_vote(votes, 3), [[0.3, 0.8, np.nan]] * 3)


def test_mean_vote_is_the_best_constant():
    rng = np.random.default_rng(1)
    votes = rng.random((50, 4))
    best = metrics.rmse(baselines.mean_vote(votes, 50), votes)
    assert best == pytest.approx(np.sqrt(votes.var(axis=0).mean()))
    for nudge in 0.01 * rng.normal(size=(20, 4)):
        assert metrics.rmse(baselines.mean_vote(votes, 50) + nudge, votes) > best


def test_no_training_galaxies_is_an_error():
    votes, colours = np.empty((0, 4)), np.empty((0, 3))
    with pytest.raises(CatalogueError, match="no training galaxies"):
        baselines.mean_vote(votes, 5)
    with pytest.raises(CatalogueError, match="no training galaxies"):
        baselines.central_pixel(colours, votes, np.ones((1, 3)), seed=1)
    with pytest.raises(CatalogueError, match="no training galaxies"):
        baselines.kaggle_central_pixel(colours, votes, np.ones((1, 3)))


@pytest.fixture
def coloured():
    """Three colours with noise; what volunteers say depends on the colour alone."""
    rng = np.random.default_rng(4)
    kind = rng.integers(3, size=300)
    colours = np.array([BLUE, RED, GREEN])[kind] + rng.integers(-9, 10, (300, 3))
    return colours, np.eye(3)[kind] * 0.7


@pytest.mark.parametrize("clusters", [3, 6])
def test_central_pixel_finds_what_the_colour_tells(coloured, clusters):
    colours, votes = coloured
    asked = np.array([RED, GREEN, BLUE])
    predicted = baselines.central_pixel(colours, votes, asked, seed=3, clusters=clusters)
    np.testing.assert_allclose(predicted, 0.7 * np.eye(3)[[1, 2, 0]])


def test_kaggles_hues_find_it_too(coloured):
    colours, votes = coloured
    predicted = baselines.kaggle_central_pixel(colours, votes, np.array([RED, GREEN, BLUE]))
    np.testing.assert_allclose(predicted, 0.7 * np.eye(3)[[1, 2, 0]])


def test_seeds_repeat(coloured):
    colours, votes = coloured
    first, second = (baselines.central_pixel(colours, votes, colours, seed=8) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_what_a_cluster_lacks_is_the_mean_vote(coloured):
    colours, votes = coloured
    votes[votes[:, 0] > 0, 1] = np.nan
    overall = baselines.mean_vote(votes, 1)[0, 1]
    asked = np.array([RED, BLUE, GREEN])
    for predicted in (
        baselines.central_pixel(colours, votes, asked, seed=3, clusters=3),
        baselines.kaggle_central_pixel(colours, votes, asked),
    ):
        np.testing.assert_allclose(predicted, [[0, 0.7, 0], [0.7, overall, 0], [0, 0, 0.7]])


def test_a_hue_that_never_trained_is_the_mean_vote(coloured):
    colours, votes = coloured
    predicted = baselines.kaggle_central_pixel(colours, votes, np.array([[10, 10, 10], [0, 0, 0]]))
    np.testing.assert_allclose(predicted, baselines.mean_vote(votes, 2))


def test_fewer_colours_than_clusters():
    votes = np.array([[0.0], [1.0], [0.5]])
    predicted = baselines.central_pixel(np.array([BLUE, BLUE, RED]), votes, np.array([BLUE, RED]), seed=1)
    assert predicted.tolist() == [[0.5], [0.5]]


def test_hue():
    colours = [(200, 180, 100), (200, 100, 90), (255, 0, 0), (200, 10, 10), (7, 7, 7), (0, 0, 0)]
    expected = [(1, 1, 0), (1, 0, 0), (3, 0, 0), (2, 0, 0), (1, 1, 1), (0, 0, 0)]
    assert baselines.hue(np.array(colours, dtype=np.uint8)).tolist() == [list(hue) for hue in expected]


def table(**columns):
    return pa.table({"galaxy_id": [1, 2], **{name: pa.array(v, pa.uint8()) for name, v in columns.items()}})


def test_centre_colours_of_a_catalogue():
    red, green, blue = (f"centre_{band}" for band in ("red", "green", "blue"))
    both = table(**{red: [1, 2], green: [3, 4], blue: [5, 255]})
    assert baselines.centre_colours(both).tolist() == [[1, 3, 5], [2, 4, 255]]
    assert baselines.centre_colours(table()) is None
    with pytest.raises(CatalogueError, match="no centre_green, centre_blue"):
        baselines.centre_colours(table(**{red: [1, 2]}))
    with pytest.raises(CatalogueError, match="1 centre colours are missing"):
        baselines.centre_colours(table(**{red: [1, 2], green: [3, None], blue: [5, 6]}))
