"""Catalogues in other columns and formats, opened as they are published."""

import numpy as np
import pyarrow as pa
import pytest
from tests.tables.test_layouts import GALAXIES, counts_of, published

from hubblefork.errors import CatalogueError
from hubblefork.gallery import store as stores
from hubblefork.gallery.selection import Order, Selection
from hubblefork.gallery.store import Store, opened
from hubblefork.tables.catalogue import ID, read_catalogue, with_fractions, write_catalogue
from hubblefork.tables.published import spelled_as
from hubblefork.zoo import load_tree

FORMATS = (".parquet", ".csv", ".fits")
PUBLISHED = [("gz_decals_5", "count"), ("gz_decals_5", "fraction"), ("gz2_galaxy_datasets", "count")]


def written(table, path):
    names = [ID if name == "id_str" else name for name in table.column_names]
    write_catalogue(table.rename_columns(names), path)
    return path


def shown(store, answer):
    rows = store.page(Selection(), Order(), offset=0, limit=50, shown=[answer])
    return [row["galaxy_id"] for row in rows], np.array([row[answer] for row in rows], float)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("piece", [4, 100_000])
@pytest.mark.parametrize(("name", "quantity"), PUBLISHED)
def test_a_published_catalogue_opens_as_it_is(tmp_path, monkeypatch, name, quantity, suffix, piece):
    monkeypatch.setattr(stores, "PIECE", piece)
    tree = load_tree(name)
    votes = counts_of(tree)
    table = published(tree, quantity, tree.suffixes[0], votes).append_column("z", pa.array(np.arange(6.0)))
    store = Store(written(table, tmp_path / f"published{suffix}"))
    assert store.tree == tree and store.whose == ("volunteers" if quantity == "count" else "predicted")
    for answer in (tree.columns[0], tree.columns[-1]):
        ids, values = shown(store, answer)
        assert ids == [f"J{row}" for row in range(GALAXIES)]
        np.testing.assert_allclose(
            values, votes.joint(tree)[:, tree.column(answer)], atol=0.02 if quantity == "fraction" else 1e-6
        )
    assert "z" in store.quantities.columns() and pa.chunked_array(store.ids()).to_pylist() == ids
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"published{suffix}"]


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (["a", "b", "c", "d", "e", "a"], "galaxy_id a stands more than once, in row 1, row 6"),
        ([1.0, 2.0, 587722981741363294.0, 4.0, 5.0, 6.0], r"row 3: galaxy_id is a floating-point number"),
        (["a", "b", "c", None, "e", "f"], r"row 4: no galaxy_id"),
    ],
)
def test_ids_of_a_published_catalogue_are_checked_whatever_its_pieces(tmp_path, monkeypatch, ids, said):
    monkeypatch.setattr(stores, "PIECE", 2)
    tree = load_tree(PUBLISHED[0][0])
    table = published(tree, "fraction", tree.suffixes[0], counts_of(tree))
    with pytest.raises(CatalogueError, match=said):
        Store(written(table.set_column(0, "id_str", [ids]), tmp_path / "theirs.parquet"))


@pytest.mark.parametrize("columns", ["friendly", "advanced", "kaggle"])
def test_what_we_write_for_others_opens_too(files, tree, tmp_path, columns):
    spelled = spelled_as(read_catalogue(files.catalogue), tree, columns)
    write_catalogue(spelled, tmp_path / "theirs.parquet")
    ids, values = shown(Store(tmp_path / "theirs.parquet"), "smooth")
    np.testing.assert_allclose(values, files.joint[:50, tree.column("smooth")], atol=1e-5)
    assert ids == [str(1000 + row) for row in range(50)]


def test_volunteers_counts_stand_beside_a_catalogue(files, tree, tmp_path):
    table = with_fractions(pa.table({ID: np.arange(1000, 1620)}), files.votes, tree)
    write_catalogue(spelled_as(table, tree, "kaggle"), tmp_path / "other.csv")
    store = Store(files.catalogue, other=tmp_path / "other.csv")
    assert store.quantities.beside == frozenset(tree.columns)


def test_our_own_parquet_is_read_where_it_lies(files, tmp_path):
    assert opened(files.catalogue, tmp_path).files == [files.catalogue] and not list(tmp_path.iterdir())


def test_what_would_be_held_and_is_too_large_is_refused(files, tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "LARGEST", 1000)
    with pytest.raises(CatalogueError, match="read whole"):
        opened(files.labels, tmp_path)
