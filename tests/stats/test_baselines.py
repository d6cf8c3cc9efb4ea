"""Baselines against plain computations, and against Kaggle's own benchmark file."""

import io
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from PIL import Image

from hubblefork.data.split import Split, read_ids
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


PATCH = (207, 207, 217, 217)  # Kaggle's: 10 × 10 pixels about the centre of 424 × 424


def solutions(path, tree):
    """Return ids and labels (galaxy, answer) of the single CSV in a zip."""
    with zipfile.ZipFile(path) as archive:
        table = pa.csv.read_csv(io.BytesIO(archive.read(archive.namelist()[0])))
    columns = [table.column(name).cast(pa.float64()).to_numpy() for name in tree.source_columns]
    return table.column("GalaxyID").to_numpy(), np.stack(columns, axis=1)


def centres(path, wanted):
    """Return ids, colours of the central pixel and means of the central patch, both (galaxy, 3)."""
    ids, pixels, patches = [], [], []
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            galaxy_id = name.rpartition("/")[2].removesuffix(".jpg")
            if not name.endswith(".jpg") or (wanted is not None and galaxy_id not in wanted):
                continue
            image = Image.open(io.BytesIO(archive.read(name)))
            ids.append(int(galaxy_id))
            pixels.append(image.getpixel((212, 212)))
            patches.append(np.asarray(image.crop(PATCH)).mean(axis=(0, 1)))
    return np.array(ids), np.array(pixels), np.array(patches)


def labels_of(ids, known_ids, labels):
    place = {galaxy_id: row for row, galaxy_id in enumerate(known_ids.tolist())}
    return labels[[place[galaxy_id] for galaxy_id in ids.tolist()]]


@pytest.fixture(scope="module")
def benchmark(kaggle, tree):
    """Kaggle's central-pixel predictions for the test images we have, and what these look like."""
    ids, pixels, patches = centres(kaggle / "images_test_rev1.zip", None)
    return labels_of(ids, *solutions(kaggle / "central_pixel_benchmark.zip", tree)), pixels, patches


@pytest.fixture(scope="module")
def unselected(kaggle, tree):
    """Central pixels, patches and labels of the fairly sampled galaxies."""
    wanted = read_ids(kaggle / "unselected_ids.txt")
    ids, pixels, patches = centres(kaggle / "images_training_rev1.zip", wanted)
    return pixels, patches, labels_of(ids, *solutions(kaggle / "training_solutions_rev1.zip", tree)), ids


def test_kaggles_six_sets_of_galaxies_are_hues(benchmark):
    """All but a few per thousand of the galaxies: another JPEG decoder rounds on the edge otherwise."""
    theirs, _, patches = benchmark
    ours, sets = np.unique(baselines.hue(patches), axis=0, return_inverse=True)[1], np.unique(theirs[:, 0])
    numbers = np.searchsorted(sets, theirs[:, 0])
    pairs = np.zeros((ours.max() + 1, len(sets)), dtype=int)
    np.add.at(pairs, (ours.ravel(), numbers), 1)
    assert len(theirs) == 1197
    assert len(sets) == 6
    assert pairs.max(axis=0).sum() >= 0.995 * len(theirs)
    assert pairs.max(axis=1).sum() >= 0.995 * len(theirs)


def test_our_means_of_a_hue_are_kaggles(benchmark, unselected):
    """Within the noise of 3,169 galaxies instead of 61,578; but for Class11.6, which they left at 0."""
    theirs, _, patches = benchmark
    _, train_patches, votes, _ = unselected
    ours = baselines.kaggle_central_pixel(train_patches, votes, patches)
    assert np.abs(ours - theirs)[:, :36].mean() < 0.005
    assert (theirs[:, 36] == 0).all()
    constant = baselines.mean_vote(votes, len(ours))
    assert np.abs(constant - theirs)[:, :36].mean() > 0.015


def test_k_means_makes_other_sets_than_kaggle(benchmark, unselected):
    """The same idea and as useful, but not the same clusters: its values are Kaggle's only roughly."""
    theirs, pixels, _ = benchmark
    train_pixels, _, votes, _ = unselected
    ours = baselines.central_pixel(train_pixels, votes, pixels, seed=0)
    nearest = [np.abs(row - theirs)[:, :36].mean(axis=1).min() for row in np.unique(ours, axis=0)]
    assert len(nearest) == 6
    assert np.mean(nearest) < 0.04


def test_baselines_on_the_shared_test_split(kaggle, tree, unselected):
    """The mean vote at 0.163, as others measured on the same split, and the colour of the centre below it."""
    ids, labels = solutions(kaggle / "training_solutions_rev1.zip", tree)
    split = Split(
        salt="kaggle-split-1", test=30, validation=15, judge_on=read_ids(kaggle / "unselected_ids.txt")
    )
    parts = split.assign(ids.tolist())
    test, train = labels[parts == "test"], labels[parts == "train"]
    assert len(test) == 933
    assert metrics.rmse(baselines.mean_vote(train, len(test)), test) == pytest.approx(0.163, abs=0.001)
    pixels, _, votes, fair_ids = unselected
    fair = split.assign(fair_ids.tolist())
    teach, judge = fair == "train", fair == "test"
    sides = pixels[teach], votes[teach], pixels[judge]
    constant = metrics.rmse(baselines.mean_vote(votes[teach], judge.sum()), votes[judge])
    by_hue = metrics.rmse(baselines.kaggle_central_pixel(*sides), votes[judge])
    by_cluster = metrics.rmse(baselines.central_pixel(*sides, seed=0), votes[judge])
    assert by_cluster < by_hue < constant
