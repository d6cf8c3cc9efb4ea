"""The algebra of vote fractions, on any tree and on the real labels."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from random_trees import decision_trees, random_conditional, walked_joint

from hubblefork.errors import TreeError
from hubblefork.tables.catalogue import fractions
from hubblefork.zoo import (
    Answer,
    DecisionTree,
    Question,
    excesses,
    plain_columns,
    reach,
    to_conditional,
    to_joint,
    violations,
)

SEEDS = st.integers(0, 2**32 - 1)


def asked(tree: DecisionTree, joint: np.ndarray) -> np.ndarray:
    """For each answer the reach of its question, (galaxy, answer)."""
    return reach(tree, joint)[:, list(tree.question_of)]


def constraint_of(tree: DecisionTree, number: int) -> str:
    parents = " + ".join(tree.columns[parent] for parent in tree.parents[number])
    return f"sum of {tree.questions[number].name} = {parents or '1'}"


@given(decision_trees(fewest=1), SEEDS)
def test_joint_fractions_are_those_of_volunteers_who_walk_the_tree(tree: DecisionTree, seed: int) -> None:
    conditional = random_conditional(tree, 3, seed)
    assert_allclose(to_joint(tree, conditional), walked_joint(tree, conditional), atol=1e-12)


@given(decision_trees(fewest=1), SEEDS)
def test_conditional_to_joint_and_back_is_the_identity_where_a_question_is_reached(tree, seed) -> None:
    conditional = random_conditional(tree, 4, seed)
    joint = to_joint(tree, conditional)
    back = to_conditional(tree, joint)
    reached = asked(tree, joint) > 0
    assert_allclose(back[reached], conditional[reached], rtol=1e-12)
    assert np.isnan(back[~reached]).all()
    assert_allclose(to_joint(tree, back), joint, rtol=1e-12)


@given(decision_trees(fewest=1), SEEDS)
def test_joint_fractions_of_any_tree_break_no_constraint(tree: DecisionTree, seed: int) -> None:
    joint = to_joint(tree, random_conditional(tree, 4, seed))
    assert violations(tree, joint, tolerance=1e-9) == []
    assert_allclose(reach(tree, joint)[:, [q.root for q in tree.questions]], 1)


@given(decision_trees(fewest=1), SEEDS, st.data())
def test_conditional_fractions_of_questions_nobody_reaches_do_not_matter(tree, seed, data) -> None:
    conditional = random_conditional(tree, 4, seed)
    joint = to_joint(tree, conditional)
    unreached = asked(tree, joint) == 0
    conditional[unreached] = data.draw(st.sampled_from([np.nan, 7.0, 0.0]))
    assert_array_equal(to_joint(tree, conditional), joint)


@given(decision_trees(checkboxes=False), SEEDS, st.data())
def test_a_perturbed_answer_breaks_the_stated_constraints_by_the_stated_excess(tree, seed, data) -> None:
    joint = to_joint(tree, random_conditional(tree, 3, seed))
    row = data.draw(st.integers(0, 2))
    column = data.draw(st.integers(0, len(tree.columns) - 1))
    excess = data.draw(st.sampled_from([-0.25, 0.02, 0.125]))
    joint[row, column] += excess

    expected = {constraint_of(tree, tree.question_of[column]): excess}
    for number, parents in enumerate(tree.parents):
        if column in parents:
            expected[constraint_of(tree, number)] = -excess
    value = joint[row, column]
    if not -1e-4 <= value <= 1 + 1e-4:
        expected[f"0 ≤ {tree.columns[column]} ≤ 1"] = min(value, 0) or value - 1

    found = violations(tree, joint)
    assert {violation.row for violation in found} == {row}
    assert {v.constraint: pytest.approx(v.excess, abs=1e-9) for v in found} == expected
    assert len(found) == len(expected)


@given(decision_trees(), SEEDS, st.data())
def test_a_question_with_some_answers_missing_is_named_with_their_number(tree, seed, data) -> None:
    joint = to_joint(tree, random_conditional(tree, 3, seed))
    number = data.draw(st.integers(0, len(tree.questions) - 1))
    answers = tree.slices[number]
    gone = data.draw(st.integers(1, answers.stop - answers.start - 1))
    joint[1, answers.start : answers.start + gone] = np.nan
    (found,) = violations(tree, joint)
    assert (found.row, found.excess) == (1, gone)
    assert found.constraint == f"all answers of {tree.questions[number].name} or none"


def test_a_plain_column_may_have_any_share_but_no_more_than_there_is() -> None:
    ring, bar = plain_columns(["ring", "bar"]).questions
    tree = DecisionTree("sketch", (replace(ring, answers=(replace(ring.answers[0], leads_to=("bar",)),)),
                                   replace(bar, root=False)))  # fmt: skip
    joint = np.array([[0.4, 0.1], [0.4, 0.4], [1.0, np.nan], [np.nan, 0.5], [0.4, 0.7], [1.2, 0.1]])
    found = [(v.row, v.constraint, round(v.excess, 6)) for v in violations(tree, joint)]
    assert found == [(4, "sum of bar ≤ ring", 0.3), (5, "0 ≤ ring ≤ 1", 0.2), (5, "sum of ring ≤ 1", 0.2)]


def test_each_checkbox_may_be_ticked_by_all_who_were_asked_and_by_no_more() -> None:
    yes, no = Answer("disk", "disk", "disk", ("features",)), Answer("smooth", "smooth", "smooth")
    features = tuple(Answer(name, name, name) for name in ("ring", "dust"))
    tree = DecisionTree("sketch", (Question("shape", "Shape?", (yes, no), root=True),
                                   Question("features", "Which?", features, multiple=True)))  # fmt: skip
    conditional = np.array([[0.5, 0.5, 1.0, 0.8], [1.0, 0.0, 0.0, 0.0], [0.0, 1.0, np.nan, np.nan]])
    joint = to_joint(tree, conditional)
    assert_allclose(joint, [[0.5, 0.5, 0.5, 0.4], [1, 0, 0, 0], [0, 1, 0, 0]])
    assert violations(tree, joint) == []
    joint[0, 2] = 0.7
    (broken,) = violations(tree, joint)
    assert (broken.row, broken.constraint) == (0, "each of features ≤ disk")
    assert broken.excess == pytest.approx(0.2)
    assert_allclose(excesses(tree, joint), [[0, 0.2], [0, 0], [0, 0]], atol=1e-12)


@given(decision_trees(), SEEDS, st.data())
def test_questions_nobody_was_asked_are_silence_not_a_violation(tree, seed, data) -> None:
    conditional = random_conditional(tree, 3, seed)
    silent = data.draw(st.sets(st.integers(0, len(tree.questions) - 1)))
    for number in silent:
        conditional[:, tree.slices[number]] = np.nan
    joint = to_joint(tree, conditional)
    assert violations(tree, joint) == []
    for number in silent:
        answers = joint[:, tree.slices[number]]
        assert (np.isnan(answers) | (answers == 0)).all()


def test_silence_spreads_to_the_questions_below_and_to_no_other(tree: DecisionTree) -> None:
    conditional = random_conditional(tree, 200, 5)
    whole = to_joint(tree, conditional)
    conditional[:, tree.slices[1]] = np.nan
    joint = to_joint(tree, conditional)
    featured = whole[:, tree.column("features_or_disk")] > 0
    below = [number for number, question in enumerate(tree.questions) if question.task in
             ("T02", "T03", "T04", "T05", "T09", "T10", "T11")]  # fmt: skip
    for number, answers in enumerate(tree.slices):
        if number in below:
            assert np.isnan(joint[featured, answers]).all()
            assert (joint[~featured, answers] == 0).all()
        else:
            assert_array_equal(joint[:, answers], whole[:, answers])


def test_galaxy_zoo_2_multiplies_down_the_whole_path(tree: DecisionTree) -> None:
    conditional = np.full((1, 37), np.nan)
    given_fractions = {
        "features_or_disk": 0.8, "smooth": 0.2, "star_or_artifact": 0.0,
        "edge_on_disk": 0.5, "not_edge_on": 0.5, "barred": 0.25, "no_bar": 0.75,
        "spiral": 0.5, "no_spiral": 0.5, "arms_tight": 1.0, "arms_medium": 0.0, "arms_loose": 0.0,
        "two_arms": 0.5, "three_arms": 0.5, "something_odd": 0.1, "nothing_odd": 0.9, "merger": 0.3,
    }  # fmt: skip
    for name, value in given_fractions.items():
        conditional[0, tree.column(name)] = value
    joint = to_joint(tree, conditional)[0]
    assert joint[tree.column("Class2.1")] == pytest.approx(0.40)
    assert joint[tree.column("Class3.1")] == pytest.approx(0.8 * 0.5 * 0.25)
    assert joint[tree.column("Class4.1")] == pytest.approx(0.8 * 0.5 * 0.5)
    assert joint[tree.column("Class11.2")] == pytest.approx(0.8 * 0.5 * 0.5 * 0.5)
    assert joint[tree.column("Class8.6")] == pytest.approx(0.1 * 0.3)


def test_the_constraints_of_galaxy_zoo_2_read_as_kaggles(tree: DecisionTree) -> None:
    ways_in = {
        question.task: {tree.source_columns[parent].removeprefix("Class") for parent in parents}
        for question, parents in zip(tree.questions, tree.parents, strict=True)
    }
    arms = {f"11.{answer}" for answer in range(1, 7)}
    assert ways_in == {
        "T01": set(), "T02": {"1.2"}, "T03": {"2.2"}, "T04": {"3.1", "3.2"}, "T05": {"4.2"} | arms,
        "T06": set(), "T07": {"1.1"}, "T08": {"6.1"}, "T09": {"2.1"}, "T10": {"4.1"},
        "T11": {"10.1", "10.2", "10.3"},
    }  # fmt: skip


def test_real_labels_obey_the_tree(tree: DecisionTree, real_labels) -> None:
    joint = fractions(real_labels, tree)
    assert joint.shape == (7452, 37)
    assert violations(tree, joint, tolerance=1e-5) == []
    assert violations(tree, joint, tolerance=1e-9) != []


def test_real_labels_keep_the_shortcuts_of_the_challenge(tree: DecisionTree, real_labels) -> None:
    joint = fractions(real_labels, tree)
    sums = {
        q.task: joint[:, answers].sum(axis=1) for q, answers in zip(tree.questions, tree.slices, strict=True)
    }
    parent = {
        "T02": "1.2",
        "T03": "2.2",
        "T04": "2.2",
        "T05": "2.2",
        "T07": "1.1",
        "T08": "6.1",
        "T09": "2.1",
    }
    parent |= {"T10": "4.1", "T11": "4.1"}
    for task, answer in parent.items():
        assert_allclose(sums[task], joint[:, tree.column(f"Class{answer}")], atol=1e-5)
    assert_allclose(sums["T01"], 1, atol=1e-5)
    assert_allclose(sums["T06"], 1, atol=1e-5)


def test_real_labels_survive_the_way_to_conditional_and_back(tree: DecisionTree, real_labels) -> None:
    joint = fractions(real_labels, tree)
    conditional = to_conditional(tree, joint)
    assert_allclose(to_joint(tree, conditional), joint, atol=1e-5)
    assert np.nanmax(conditional) <= 1.01


def test_partly_labelled_galaxies_are_silence_and_obey_the_rest(tree: DecisionTree, partial_labels) -> None:
    joint = fractions(partial_labels, tree)
    filled = {
        q.task for q, s in zip(tree.questions, tree.slices, strict=True) if not np.isnan(joint[:, s]).any()
    }
    assert filled == {"T01", "T02", "T06", "T07", "T08"}
    assert np.isnan(joint).sum() == 3997 * 20
    assert violations(tree, joint, tolerance=1e-5) == []


@pytest.mark.parametrize(
    ("value", "excess"), [(1.5, 0.5), (-0.25, -0.25), (np.inf, np.inf), (-np.inf, -np.inf)]
)
@pytest.mark.filterwarnings("error")
def test_a_fraction_outside_zero_and_one_is_named(tree: DecisionTree, value: float, excess: float) -> None:
    joint = to_joint(tree, random_conditional(tree, 2, 1))
    joint[1, tree.column("merger")] = value
    found = [v for v in violations(tree, joint) if v.constraint == "0 ≤ merger ≤ 1"]
    assert [(v.row, v.excess) for v in found] == [(1, excess)]


def test_violations_come_in_the_order_of_the_rows(tree: DecisionTree) -> None:
    joint = np.full((4, 37), 0.5)
    rows = [violation.row for violation in violations(tree, joint)]
    assert rows == sorted(rows)
    assert set(rows) == {0, 1, 2, 3}


@given(decision_trees())
def test_no_galaxies_are_fine(tree: DecisionTree) -> None:
    none = np.empty((0, len(tree.columns)))
    assert to_joint(tree, none).shape == to_conditional(tree, none).shape == none.shape
    assert reach(tree, none).shape == (0, len(tree.questions))
    assert violations(tree, none) == []


@pytest.mark.parametrize("function", [to_joint, to_conditional, reach, violations])
@pytest.mark.parametrize("shape", [(5, 36), (5, 38), (37,)])
def test_an_array_of_another_width_is_refused(tree: DecisionTree, function, shape: tuple[int, ...]) -> None:
    with pytest.raises(TreeError, match=r"for the 37 answers of galaxy_zoo_2: allowed is \(galaxy, 37\)"):
        function(tree, np.zeros(shape))


@given(decision_trees(fewest=1), SEEDS)
def test_the_gate_of_a_question_is_an_answer_given_as_often_as_it_is_reached(tree, seed) -> None:
    joint = to_joint(tree, random_conditional(tree, 4, seed))
    try:
        gates = tree.gates
    except TreeError as error:
        assert "several independent ways in" in str(error)
        return
    for number, gate in enumerate(gates):
        expected = np.ones(4) if gate is None else joint[:, gate]
        assert_allclose(reach(tree, joint)[:, number], expected, atol=1e-12)


def test_an_answer_that_stands_alone_does_not_stand_for_all_that_were_asked() -> None:
    """Of those who said "disk" some are asked about a ring, and only those who see one about its colour."""
    questions = (
        Question("start", "", (Answer("galaxy", "", "0", ("shape",)), Answer("star", "", "1")), root=True),
        Question("shape", "", (Answer("disk", "", "2", ("ring",)), Answer("smooth", "", "3", ("colour",)))),
        Question("ring", "", (Answer("ringed", "", "4", ("colour",)),)),
        Question("colour", "", (Answer("blue", "", "5"), Answer("red", "", "6"))),
    )
    tree = DecisionTree("alone", questions)
    with pytest.raises(TreeError, match="several independent ways in: smooth, ringed"):
        _ = tree.gates


def test_the_gates_of_galaxy_zoo_2_are_kaggles_rescaling_classes(tree: DecisionTree) -> None:
    classes = [column.removeprefix("Class") for column in tree.source_columns]
    gates = [None if gate is None else classes[gate] for gate in tree.gates]
    tasks = [question.task for question in tree.questions]
    assert dict(zip(tasks, gates, strict=True)) == {
        "T01": None, "T02": "1.2", "T03": "2.2", "T04": "2.2", "T05": "2.2", "T06": None,
        "T07": "1.1", "T08": "6.1", "T09": "2.1", "T10": "4.1", "T11": "4.1",
    }  # fmt: skip
