"""Neighbours, ranks by example, odd galaxies and the map, in features of three kinds of galaxies."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from hubblefork.errors import CatalogueError
from hubblefork.gallery import similar
from hubblefork.gallery.features import DIMENSIONS
from hubblefork.gallery.similar import FeatureIndex, largest

GALAXIES, KINDS, MISSING, ODD = 3_000, 3, 7, 11


@pytest.fixture
def index(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    centres = 5 * rng.standard_normal((KINDS, DIMENSIONS))
    features = centres[np.arange(GALAXIES) % KINDS] + rng.standard_normal((GALAXIES, DIMENSIONS))
    features[MISSING], features[ODD] = np.nan, 5 * rng.standard_normal(DIMENSIONS)
    np.save(tmp_path / "features.npy", features.astype(np.float32))
    arrays = {"mean": np.zeros(5), "components": np.zeros((DIMENSIONS, 5)), "explained": 0.9}
    np.savez(tmp_path / "projection.npz", **arrays)
    return FeatureIndex.open(tmp_path)


def test_neighbours_are_those_of_sorting_everything(index):
    among = np.arange(GALAXIES) % 2 == 0
    rows, distances = index.nearest(4, 60, among)
    unit = index.features / np.linalg.norm(index.features, axis=1, keepdims=True)
    exact = np.where(among & index.known, 1 - unit @ unit[4], np.inf)
    exact[4] = np.inf
    assert rows.tolist() == np.argsort(exact)[:60].tolist()
    np.testing.assert_allclose(distances, exact[rows], atol=1e-6)


@pytest.mark.parametrize("count", [1, 3, 40, 5000])
def test_the_largest_of_few_and_of_many(count):
    scores = np.random.default_rng(1).standard_normal(4_001)
    scores[::3] = -np.inf
    assert largest(scores, count).tolist() == np.argsort(-scores)[: min(count, 2_667)].tolist()


def test_a_galaxy_without_an_image_has_no_neighbours_and_is_none(index):
    with pytest.raises(CatalogueError, match=f"row {MISSING} of the catalogue: there is no image"):
        index.nearest(MISSING, 5)
    rows = index.nearest(0, GALAXIES)[0]
    assert len(rows) == GALAXIES - 2 and MISSING not in rows and 0 not in rows


def test_five_of_a_kind_rank_their_kind_first(index):
    scores = index.ranked(np.array([1, 4, 10, 13, 16]), np.array([0, 2]))
    assert np.isnan(scores[MISSING])
    first = np.argsort(-np.nan_to_num(scores, nan=-np.inf))[:900]
    assert (first % KINDS == 1).all()


def test_what_is_marked_as_other_falls(index):
    wanted, other = np.array([0, 3, 6, 1, 4]), np.array([10, 13, 16, 19, 22])
    kind = np.arange(GALAXIES) % KINDS == 1
    apart = [np.nanmean(scores[kind]) for scores in (index.ranked(wanted), index.ranked(wanted, other))]
    assert apart[1] < 0.7 * apart[0]


def test_none_wanted_is_told(index):
    with pytest.raises(CatalogueError, match="mark some, five or more"):
        index.ranked(np.array([MISSING]))


def test_the_odd_one_is_first_and_the_order_is_kept(index):
    odd = index.unfamiliarity()
    assert np.nanargmax(odd) == ODD and np.isnan(odd[MISSING])
    (index.folder / "features.npy").unlink()
    np.testing.assert_array_equal(index.unfamiliarity(), odd)


def test_galaxies_beside_the_map_are_placed_by_their_neighbours(index, monkeypatch):
    places = {}

    class Umap:
        def __init__(self, **_):
            pass

        def fit_transform(self, directions):
            places["fitted"] = directions[:, :2]
            return directions[:, :2]

    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=Umap))
    monkeypatch.setattr(similar, "MAPPED", 600)
    placed = index.map()
    assert placed.shape == (GALAXIES, 2) and np.isnan(placed[MISSING]).all() and len(places["fitted"]) == 600
    true = index.features[:, :2] / np.linalg.norm(index.features, axis=1, keepdims=True)
    far = np.linalg.norm(placed - true, axis=1)
    assert np.nanmedian(far) < 0.05 and (far < 1e-6).sum() == 600


def test_a_damaged_file_is_named(index):
    (index.folder / "projection.npz").write_bytes(b"PK\3\4 and no more")
    with pytest.raises(CatalogueError, match=r"projection\.npz cannot be read: .*delete the folder"):
        FeatureIndex.open(index.folder)
