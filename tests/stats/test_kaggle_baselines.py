"""Baselines on real galaxies: Kaggle's own benchmark file, and the shared split."""

import io
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from PIL import Image

from hubblefork.data.split import Split, read_ids
from hubblefork.stats import baselines, metrics

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
