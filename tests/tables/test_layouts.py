"""Published catalogues: each layout is recognised, read, and written again."""

import re

import numpy as np
import pyarrow as pa
import pytest
from numpy.testing import assert_allclose

from hubblefork.data.labels import read_labels
from hubblefork.errors import CatalogueError
from hubblefork.stats.conformal import concentrations_of
from hubblefork.tables.catalogue import (
    fractions,
    read_catalogue,
    votes_of,
    with_fractions,
    with_metadata,
    write_catalogue,
)
from hubblefork.tables.formats import names_of
from hubblefork.tables.layouts import bases, found_in, tree_of
from hubblefork.tables.published import COLUMNS, in_our_columns, spelled_as
from hubblefork.zoo import VoteCounts, load_tree, reach, to_conditional, to_joint, tree_names
from hubblefork.zoo.tree import parse_tree

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
        (found,) = found_in(table.column_names).read
        if suffix:
            assert found.tree == tree
        assert len(found.columns) == len(tree.columns)
        ours, (note,) = in_our_columns(table, tree)
        assert note.startswith(f"counts:{suffix} of {name} (" if suffix else f"counts of {name} (")
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
    assert "gz_decals_5" in labels.notes[0]


def test_galaxy_zoo_2s_table_is_read_debiased_first(tree):
    base, rng = bases(tree), np.random.default_rng(1)
    assert len(base) == 37
    assert base["cannot_tell_arms"] == "t11_arms_number_a37_cant_tell"
    shares = np.column_stack([rng.dirichlet(np.ones(s.stop - s.start), GALAXIES) for s in tree.slices])
    columns = {f"{base[name]}_debiased": 0.9 * shares[:, k] for k, name in enumerate(tree.columns)}
    columns |= {f"{base[name]}_count": np.ones(GALAXIES) for name in tree.columns}
    table = pa.table({"dr7objid": np.arange(GALAXIES), **columns})
    ours, notes = in_our_columns(table, tree)
    assert notes == (
        "debiased of galaxy_zoo_2 (t01_smooth_or_features_a01_smooth_debiased …); "
        "there are also counts: --layout chooses",
    )
    assert_allclose(to_conditional(tree, fractions(ours, tree)), shares)


def test_debiased_values_that_are_no_fractions_are_not_scaled_into_some(tmp_path, tree):
    columns = {f"{name}_debiased": np.full(3, 0.5) for name in bases(tree).values()}
    names = {name: f"{base}_debiased" for name, base in bases(tree).items()}
    columns[names["smooth"]] = np.array([0.5, 2.0, -0.25])
    ours, _ = in_our_columns(pa.table({"dr7objid": [1, 2, 3], **columns}), tree)
    smooth = ours.column("smooth").to_pylist()
    assert smooth == [pytest.approx(1 / 3), 2.0, -0.25]
    write_catalogue(pa.table({"galaxy_id": [1, 2, 3], **columns}), tmp_path / "a.csv")
    assert [reject.galaxy_id for reject in read_labels([tmp_path / "a.csv"], tree).rejects] == ["2", "3"]


def test_a_column_that_is_nearly_right_is_named_with_the_nearest_right_one():
    tree = load_tree("gz_decals_5")
    table = published(tree, "count", "dr5", counts_of(tree))
    names = [name.replace("bar-dr5_strong", "bar-dr5_strnog") for name in table.column_names]
    with pytest.raises(
        CatalogueError,
        match=r'nearly counts:dr5 of gz_decals_5 .*bar-dr5_strong \(did you mean "bar-dr5_strnog"',
    ):
        found_in(names)
    assert tree_of(["galaxy_id", "ring", "bar"]) is None


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (-1, "is -1; a count is a whole number"),
        (2.5, "is 2.5; a count is"),
        (np.inf, "is inf; a count is"),
        (1e20, r"is 1e\+20; a count is"),
    ],
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


def test_advanced_columns_have_intervals_and_for_each_answer_who_are_asked():
    tree = load_tree("gz_decals_5")
    table = predicted(tree)
    joint = fractions(table, tree)
    for end, by in (("low", 0.9), ("high", 1.05)):
        for k, name in enumerate(tree.columns):
            table = table.append_column(f"{name}_{end}", pa.array(by * joint[:, k]))
    written = spelled_as(with_metadata(table, {"interval_coverage": "0.9"}), tree, "advanced")
    asked = reach(tree, joint)[:, list(tree.question_of)]
    shares = to_conditional(tree, joint)
    for k, name in enumerate(tree.source_columns):
        assert_allclose(written[f"{name}_proportion-asked"].to_numpy(), asked[:, k], rtol=1e-6)
        assert_allclose(written[f"{name}_90pc-lower"].to_numpy(), 0.9 * shares[:, k], rtol=1e-5)


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
    ours, notes = in_our_columns(spelled_as(table, tree, columns), tree)
    read = fractions(ours, tree)
    there = ~np.isnan(read)
    assert_allclose(read[there], joint[there], rtol=1e-5)
    assert there.all() == (columns != "friendly" or name == "gz_rings")
    if columns == "friendly":
        assert (there == (reach(tree, joint)[:, list(tree.question_of)] >= 0.5))[:, tree.slices[0]].all()
    named = {"conditional": "conditional", "friendly": "fractions", "advanced": "fractions"}
    assert [note.partition(" of ")[0] for note in notes] == ([named[columns]] if columns in named else [])


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


def both_surveys():
    """Votes of two surveys, the first of the first half of the galaxies, and a table of both."""
    tree = load_tree("gz_decals_5")
    first, second = counts_of(tree, 1), counts_of(tree, 2)
    first.given[3:], first.asked[3:] = 0, 0
    table = published(tree, "count", "dr5", first)
    for columns in (published(tree, "count", "dr8", second), published(tree, "fraction", "dr8", second)):
        for name in columns.column_names[1:]:
            table = table.append_column(name, columns[name])
    return tree, table, first, second


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("", "counts:dr5 of gz_decals_5 .*; there are also counts:dr8, fractions:dr8: --layout chooses"),
        ("dr8", "counts:dr8 of gz_decals_5 .*; there are also counts:dr5, fractions:dr8"),
        ("dr5+dr8", r"counts:dr5 \+ counts:dr8 of gz_decals_5 .*; there are also fractions:dr8"),
        ("counts:dr5+dr8", r"counts:dr5 \+ counts:dr8 of"),
    ],
)
def test_counts_of_several_surveys_in_a_table_are_chosen_or_added(wanted, said):
    tree, table, first, second = both_surveys()
    assert tree_of(table.column_names, wanted) == tree
    ours, (note,) = in_our_columns(table, tree, wanted)
    assert re.match(said, note)
    votes = votes_of(ours, tree)
    both = (first.given + second.given, first.asked + second.asked)
    expected = both if "+" in wanted else (second if wanted else first).__dict__.values()
    for read, given in zip((votes.given, votes.asked), expected, strict=True):
        assert (read == given).all()


def test_fractions_beside_counts_are_chosen_and_what_is_not_there_or_cannot_be_added_is_said(tmp_path):
    tree, table, _, second = both_surveys()
    ours, (note,) = in_our_columns(table, tree, "fractions")
    assert note.startswith("fractions:dr8 of gz_decals_5")
    assert votes_of(ours, tree) is None
    assert_allclose(fractions(ours, tree)[:, 0], second.joint(tree)[:, 0], atol=2e-3)
    write_catalogue(table, tmp_path / "a.parquet")
    labels = read_labels([tmp_path / "a.parquet"], tree, layout="fractions:dr8")
    assert labels.notes == (note,) and labels.votes is None
    for wanted, said in (("dr7", 'it has no layout "dr7".*: it has counts:dr5, counts:dr8, fractions:dr8'),
                         ("fractions:dr5+dr8", 'it has no layout "fractions:dr5')):  # fmt: skip
        with pytest.raises(CatalogueError, match=said):
            in_our_columns(table, tree, wanted)


@pytest.mark.parametrize("total", ["_total-votes", "_total", ""])
@pytest.mark.parametrize("suffix", ["dr5", ""])
def test_totals_have_either_name_or_are_sums(suffix, total):
    tree = load_tree("gz_decals_5")
    votes = counts_of(tree)
    table = published(tree, "count", suffix, votes)
    named = {name: name.replace("_total-votes", total) for name in table.column_names}
    table = table.rename_columns([named[name] for name in table.column_names])
    table = table if total else table.select([name for name in named if "total" not in name])
    ours, (note,) = in_our_columns(table, tree)
    assert note.startswith("counts")
    assert (votes_of(ours, tree).asked == votes.asked).all()
    assert (votes_of(ours, tree).given == votes.given).all()


@pytest.mark.parametrize("suffix", ["dr5", ""])
def test_fractions_in_the_columns_of_counts_are_joint_fractions(suffix):
    tree = load_tree("gz_decals_5")
    joint = fractions(predicted(tree), tree)
    names = (answer.column.rpartition("_") for answer in tree.answers)
    at = f"-{suffix}" if suffix else ""
    columns = {f"{question}{at}_{last}": joint[:, k] for k, (question, _, last) in enumerate(names)}
    ours, notes = in_our_columns(pa.table(columns), tree)
    assert_allclose(fractions(ours, tree), joint, rtol=1e-6)
    assert votes_of(ours, tree) is None
    assert [note.partition(" of ")[0] for note in notes] == (["joint:dr5"] if suffix else [])


MINE = """
name = "mine"
[[questions]]
name = "kind"
text = "What is it?"
root = true
answers = [
    { name = "round", text = "Round", column = "kind_round" },
    { name = "flat", text = "Flat", column = "kind_flat", leads_to = "parts" },
]
[[questions]]
name = "parts"
text = "What does it have?"
multiple = true
answers = [
    { name = "knots", text = "Knots", column = "parts_knots" },
    { name = "tail", text = "A tail", column = "parts_tail" },
]
"""


def test_checkboxes_need_a_total_and_the_error_names_it():
    tree = parse_tree(MINE, "mine.toml")
    columns = {"kind_round": [4, 1], "kind_flat": [6, 9], "parts_knots": [5, 2], "parts_tail": [3, 2]}
    with pytest.raises(CatalogueError, match="parts_total-votes or parts_total is missing: how many were"):
        in_our_columns(pa.table(columns), tree)
    ours, _ = in_our_columns(pa.table({**columns, "parts_total": [6, 8]}), tree)
    assert votes_of(ours, tree).asked.tolist() == [[10, 6], [10, 8]]
    assert_allclose(fractions(ours, tree)[0], [0.4, 0.6, 0.6 * 5 / 6, 0.6 * 3 / 6])


@pytest.mark.parametrize("columns", COLUMNS)
def test_each_spelling_of_a_users_own_tree_is_read_again(tmp_path, columns):
    tree, path = parse_tree(MINE, "mine.toml"), tmp_path / "a.csv"
    joint = np.array([[0.3, 0.7, 0.5, 0.1], [0.25, 0.75, 0.0, 0.25]])
    table = with_fractions(pa.table({"galaxy_id": [1, 2]}), joint, tree)
    write_catalogue(spelled_as(table, tree, columns), path)
    labels = read_labels([path], tree)
    assert labels.rejects == []
    assert_allclose(labels.joint, joint, atol=1e-6)


@pytest.mark.parametrize("total", [True, False])
def test_votes_for_an_answer_that_the_tree_lacks_are_left_out_and_named(total):
    tree = load_tree("gz_decals_5")
    votes = counts_of(tree)
    table = published(tree, "count", "dr5", votes)
    extra = np.arange(GALAXIES) + 1
    place = table.column_names.index("merging-dr5_total-votes")
    merging = [question.name for question in tree.questions].index("merging")
    table = table.set_column(place, "merging-dr5_total-votes", pa.array(votes.asked[:, merging] + extra))
    table = table.append_column("merging-dr5_both", pa.array(extra))
    table = table.append_column("merging-dr5_score", pa.array(extra / 10))
    if not total:
        table = table.select([name for name in table.column_names if "total" not in name])
    ours, (_, note) = in_our_columns(table, tree)
    assert note == "merging-dr5_both is no answer of gz_decals_5: these votes are left out"
    assert (votes_of(ours, tree).asked == votes.asked).all()
    assert_allclose(fractions(ours, tree), votes.joint(tree))


def test_dirichlet_parameters_are_concentrations():
    tree = load_tree("gz_euclid")
    table = spelled_as(predicted(tree), tree, "advanced")
    shares = to_conditional(tree, fractions(predicted(tree), tree))
    known = np.linspace(2, 40, len(tree.questions))
    for k, column in enumerate(tree.source_columns):
        values = shares[:, k] * known[tree.question_of[k]] + 1e-9
        table = table.append_column(f"{column}_dirichlet", pa.array(values))
    ours, _ = in_our_columns(table, tree)
    assert_allclose(concentrations_of(ours, tree), np.tile(known, (GALAXIES, 1)), rtol=1e-5)
    wrong = table.set_column(table.num_columns - 1, table.column_names[-1], pa.array([0.0] * GALAXIES))
    with pytest.raises(CatalogueError, match="a parameter of a Dirichlet distribution is above 0"):
        in_our_columns(wrong, tree)


def test_a_part_of_a_tree_has_the_fractions_of_the_whole():
    tree = load_tree("gz_euclid")
    part = tree.part(["bar_strong"])
    assert [question.name for question in part.questions] == ["smooth_or_featured", "disk_edge_on", "bar"]
    written = spelled_as(predicted(tree), tree, "advanced")
    ours, _ = in_our_columns(written, part)
    expected = fractions(predicted(tree), tree)[:, [tree.column(name) for name in part.columns]]
    assert_allclose(fractions(ours, part), expected, rtol=1e-5)
