"""Published catalogues: each layout is recognised, read, and written again."""

import numpy as np
import pyarrow as pa
import pytest
from numpy.testing import assert_allclose

from hubblefork.data.catalogue import (
    fractions,
    read_catalogue,
    votes_of,
    with_fractions,
    with_metadata,
    write_catalogue,
)
from hubblefork.data.formats import names_of
from hubblefork.data.labels import read_labels
from hubblefork.data.layouts import COLUMNS, bases, in_our_columns, layout_of, spelled_as, tree_of
from hubblefork.errors import CatalogueError
from hubblefork.zoo import VoteCounts, load_tree, reach, to_conditional, to_joint, tree_names

GALAXIES = 6


def counts_of(tree, seed=0, volunteers=12):
    """Votes of volunteers who walk the tree."""
    rng = np.random.default_rng(seed)
    given = np.zeros((GALAXIES, len(tree.columns)), np.int64)
    asked = np.zeros((GALAXIES, len(tree.questions)), np.int64)
    for number in tree.asking_order:
        parents, answers = list(tree.parents[number]), tree.slices[number]
        asked[:, number] = given[:, parents].sum(axis=1) if parents else volunteers
        size = answers.stop - answers.start
        given[:, answers] = rng.multinomial(asked[:, number], rng.dirichlet(np.ones(size), GALAXIES))
    return VoteCounts(given, asked)


def published(tree, quantity, suffix, votes):
    """A table as galaxy-datasets spells it."""
    columns, at = {"id_str": [f"J{row}" for row in range(GALAXIES)]}, f"-{suffix}" if suffix else ""
    shares = np.divide(votes.given, votes.asked[:, list(tree.question_of)], where=votes.given > 0,
                       out=np.zeros(votes.given.shape))  # fmt: skip
    shares[votes.asked[:, list(tree.question_of)] == 0] = np.nan
    for column, answer in enumerate(tree.answers):
        question, _, last = answer.column.rpartition("_")
        if quantity == "count":
            columns[f"{question}{at}_{last}"] = votes.given[:, column]
            columns[f"{question}{at}_total-votes"] = votes.asked[:, tree.question_of[column]]
        else:
            columns[f"{question}{at}_{last}_{quantity}"] = np.round(shares[:, column], 3)
    return pa.table(columns)


TREES = [name for name in tree_names() if load_tree(name).suffixes]


@pytest.mark.parametrize("name", TREES)
def test_vote_counts_are_read_with_their_tree(name):
    tree = load_tree(name)
    for suffix in tree.suffixes:
        votes = counts_of(tree)
        table = published(tree, "count", suffix, votes)
        found = layout_of(table.column_names)
        if suffix:
            assert found.tree == tree
        assert len(found.columns) == len(tree.columns)
        ours, layout = in_our_columns(table, tree)
        assert (layout.quantity, layout.name) == ("count", "vote counts")
        read = votes_of(ours, tree)
        assert (read.given == votes.given).all()
        assert (read.asked == votes.asked).all()
        assert_allclose(fractions(ours, tree), votes.joint(tree))


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".fits"])
@pytest.mark.parametrize("quantity", ["count", "fraction", "debiased"])
def test_label_tables_in_each_layout_and_format_are_labels(tmp_path, quantity, suffix):
    tree = load_tree("gz_decals_5")
    votes = counts_of(tree, seed=3)
    table = published(tree, quantity, "dr5", votes).rename_columns(
        ["galaxy_id", *published(tree, quantity, "dr5", votes).column_names[1:]]
    )
    path = tmp_path / f"labels{suffix}"
    write_catalogue(table, path)
    assert tree_of(read_catalogue(path).column_names) == tree
    labels = read_labels([path], tree)
    assert labels.rejects == []
    tolerance = 1e-9 if quantity == "count" else 2e-3
    expected = votes.joint(tree)
    rows = [labels.row_of[f"J{row}"] for row in range(GALAXIES)]
    both = ~np.isnan(expected) & ~np.isnan(labels.joint[rows])
    assert_allclose(labels.joint[rows][both], expected[both], atol=tolerance)
    assert both.mean() > 0.9
    assert (labels.votes is not None) == (quantity == "count")
    assert "gz_decals_5" in labels.layouts[0]


def test_galaxy_zoo_2s_table_is_read_debiased_first(tree):
    base, rng = bases(tree), np.random.default_rng(1)
    assert len(base) == 37
    assert base["cannot_tell_arms"] == "t11_arms_number_a37_cant_tell"
    shares = np.column_stack([rng.dirichlet(np.ones(s.stop - s.start), GALAXIES) for s in tree.slices])
    columns = {f"{base[name]}_debiased": 0.9 * shares[:, k] for k, name in enumerate(tree.columns)}
    columns |= {f"{base[name]}_count": np.ones(GALAXIES) for name in tree.columns}
    table = pa.table({"dr7objid": np.arange(GALAXIES), **columns})
    ours, layout = in_our_columns(table, tree)
    assert layout.name == "debiased fractions of Galaxy Zoo 2"
    assert_allclose(to_conditional(tree, fractions(ours, tree)), shares)


def test_a_column_that_is_nearly_right_is_named_with_the_nearest_right_one():
    tree = load_tree("gz_decals_5")
    table = published(tree, "count", "dr5", counts_of(tree))
    names = [name.replace("bar-dr5_strong", "bar-dr5_strnog") for name in table.column_names]
    with pytest.raises(
        CatalogueError,
        match=r'nearly vote counts of gz_decals_5 .*bar-dr5_strong \(did you mean "bar-dr5_strnog"',
    ):
        layout_of(names)
    assert tree_of(["galaxy_id", "ring", "bar"]) is None


@pytest.mark.parametrize(
    ("value", "said"), [(-1, "is -1; a count is a whole number"), (2.5, "is 2.5; a count is")]
)
def test_what_cannot_be_a_count_is_named(value, said):
    tree = load_tree("gz_rings")
    table = pa.table({"id_str": ["a"], "ring_yes": [value], "ring_no": [3.0], "ring_total-votes": [5.0]})
    with pytest.raises(CatalogueError, match=f"row 1: ring_yes {said}"):
        in_our_columns(table, tree)


def test_counts_that_do_not_sum_to_their_total_are_refused_by_row(tmp_path):
    table = pa.table(
        {"iauname": ["a", "b"], "ring_yes": [1, 2], "ring_no": [4, 3], "ring_total-votes": [5, 9]}
    )
    write_catalogue(table.rename_columns(["galaxy_id", *table.column_names[1:]]), tmp_path / "a.csv")
    labels = read_labels([tmp_path / "a.csv"], load_tree("gz_rings"))
    assert list(labels.row_of) == ["a"]
    assert [(reject.galaxy_id, reject.reason) for reject in labels.rejects] == [
        ("b", "breaks the decision tree")
    ]


def test_objects_of_bricks_are_named_by_both_numbers():
    table = pa.table({"brickid": [7, 8], "objid": [1, 1], "ring_yes": [1, 2], "ring_no": [4, 3],
                      "ring_total-votes": [5, 5]})  # fmt: skip
    ours, _ = in_our_columns(table, load_tree("gz_rings"))
    assert ours.column("galaxy_id").to_pylist() == ["7_1", "8_1"]


@pytest.mark.parametrize("columns", ["joint", "conditional", "friendly", "advanced", "kaggle"])
def test_what_is_written_in_a_spelling_is_read_again(columns):
    tree = load_tree("gz_decals_5")
    rng = np.random.default_rng(5)
    shares = np.column_stack([rng.dirichlet(np.ones(s.stop - s.start), GALAXIES) for s in tree.slices])
    joint = to_joint(tree, shares)
    ids = [f"J{row}" for row in range(GALAXIES)]
    table = with_fractions(
        pa.table({"galaxy_id": ids, "ra": np.arange(6.0), "dec": np.arange(6.0)}), joint, tree
    )
    for end, by in (("low", 0.9), ("high", 1.05)):
        for k, name in enumerate(tree.columns):
            table = table.append_column(f"{name}_{end}", pa.array(by * joint[:, k]))
    table = with_metadata(table, {"interval_coverage": "0.9"})
    written = spelled_as(table, tree, columns)
    if columns == "kaggle":
        assert written.column_names == ["GalaxyID", *tree.source_columns]
        written = written.rename_columns(["galaxy_id", *tree.source_columns])
    if columns == "conditional":
        assert_allclose(
            written["bar_strong_conditional"].to_numpy(), shares[:, tree.column("bar_strong")], rtol=1e-6
        )
        return
    ours, layout = in_our_columns(written, tree)
    read = fractions(ours, tree)
    known = ~np.isnan(read)
    assert_allclose(read[known], joint[known], rtol=1e-5)
    if columns == "friendly":
        bars = written["bar_strong_fraction"].to_numpy(zero_copy_only=False)
        asked = joint[:, tree.column("disk_edge_on_no")]
        assert (np.isnan(bars) == (asked < 0.5)).all()
        assert layout.name == "vote fractions"
    else:
        assert known.all()
    if columns == "advanced":
        asked = joint[:, tree.column("disk_edge_on_no")]
        assert_allclose(written["bar_proportion-asked"].to_numpy(), asked, rtol=1e-6)
        lower = written["bar_strong_90pc-lower"].to_numpy()
        assert_allclose(lower, 0.9 * shares[:, tree.column("bar_strong")], rtol=1e-5)


def test_another_spelling_is_answered_with_the_nearest():
    with pytest.raises(CatalogueError, match=r'there are no columns "freindly" \(did you mean "friendly"'):
        spelled_as(pa.table({}), load_tree(), "freindly")


def predicted(tree):
    """A catalogue of predictions."""
    rng = np.random.default_rng(5)
    shares = np.column_stack([rng.dirichlet(np.ones(s.stop - s.start), GALAXIES) for s in tree.slices])
    ids = pa.table({"galaxy_id": [f"J{row}" for row in range(GALAXIES)]})
    return with_fractions(ids, to_joint(tree, shares), tree)


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("name", tree_names())
def test_each_spelling_of_each_tree_is_read_again(name, columns):
    tree = load_tree(name)
    table = predicted(tree)
    joint = fractions(table, tree)
    ours, layout = in_our_columns(spelled_as(table, tree, columns), tree)
    read = fractions(ours, tree)
    there = ~np.isnan(read)
    assert_allclose(read[there], joint[there], rtol=1e-5)
    assert there.all() == (columns != "friendly" or name == "gz_rings")
    if columns == "friendly":
        assert (there == (reach(tree, joint)[:, list(tree.question_of)] >= 0.5))[:, tree.slices[0]].all()
    named = {
        "conditional": "conditional fractions",
        "friendly": "vote fractions",
        "advanced": "vote fractions",
    }
    assert (layout and layout.name) == named.get(columns)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".fits"])
@pytest.mark.parametrize("columns", ["conditional", "friendly", "advanced"])
def test_a_written_spelling_is_a_table_of_labels(tmp_path, columns, suffix):
    tree = load_tree("gz_euclid")
    table, path = predicted(tree), tmp_path / f"a{suffix}"
    write_catalogue(spelled_as(table, tree, columns), path)
    assert tree_of(names_of(path)) == tree
    labels = read_labels([path], tree)
    assert labels.rejects == []
    read = labels.joint[[labels.row_of[f"J{row}"] for row in range(GALAXIES)]]
    there = ~np.isnan(read)
    assert_allclose(read[there], fractions(table, tree)[there], atol=1e-5)
    assert there.all() == (columns != "friendly")


def test_the_tree_is_the_one_with_most_of_the_columns_and_of_two_alike_the_user_says_which():
    assert tree_of(["galaxy_id", *load_tree("gz_euclid").columns]).name == "gz_euclid"
    assert tree_of(["galaxy_id", *load_tree("gz_cosmic_dawn").columns]).name == "gz_cosmic_dawn"
    with pytest.raises(CatalogueError, match="say which, --tree gz2_galaxy_datasets or --tree gz_ukidss"):
        tree_of(["galaxy_id", *load_tree("gz_ukidss").columns])


IDS = {
    "id_str": ["00123_jpg", "7_1"],
    "iauname": ["J122101.18+055831.0", "J1"],
    "dr7objid": [587732482748383351, 587732482748383352],
    "dr8_id": ["382654_3528", "382654_3529"],
    "OBJECT_ID": [-123456789012345678, 2],
    "object_id": ["007", "008"],
}


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".fits"])
@pytest.mark.parametrize("name", IDS)
def test_the_ids_of_published_catalogues_are_kept_digit_by_digit(tmp_path, name, suffix):
    table = pa.table({"ra": [1.0, 2.0], name: IDS[name], "ring_yes_fraction": [0.2, 0.4],
                      "ring_no_fraction": [0.8, 0.6]})  # fmt: skip
    write_catalogue(table, tmp_path / f"a{suffix}")
    labels = read_labels([tmp_path / f"a{suffix}"], load_tree("gz_rings"))
    assert list(labels.row_of) == [str(value) for value in IDS[name]]
    read = read_catalogue(tmp_path / f"a{suffix}", ["ring_yes_fraction"])
    assert set(read.column_names) == {"galaxy_id", "ring_yes_fraction"}
    assert [str(value) for value in read["galaxy_id"].to_pylist()] == list(labels.row_of)
