"""Prototypes and the published cuts."""

import numpy as np
import pytest

from hubblefork.errors import CatalogueError, TreeError, UnknownAnswer
from hubblefork.stats import samples
from hubblefork.zoo import Answer, DecisionTree, Question, reach, to_joint


def test_prototypes_are_the_largest_and_ties_go_by_id():
    values = np.array([[0.5], [np.nan], [0.9], [0.5], [0.1]])
    assert samples.prototypes(values, np.array([7, 1, 9, 3, 2]), 0, 3).tolist() == [2, 3, 0]
    assert samples.prototypes(values, ["b", "a", "z", "a2", "c"], 0, 3).tolist() == [2, 3, 0]


def test_prototypes_are_a_sort():
    rng = np.random.default_rng(2)
    values, ids = rng.random((500, 3)).round(2), rng.permutation(500)
    expected = np.lexsort((ids, -values[:, 1]))[:40]
    np.testing.assert_array_equal(samples.prototypes(values, ids, 1, 40), expected)


def test_a_missing_value_is_never_chosen():
    values = np.array([[np.nan], [0.0], [np.nan]])
    assert samples.prototypes(values, [1, 2, 3], 0, 3).tolist() == [1]
    assert samples.prototypes(values[[0, 2]], [1, 3], 0, 3).tolist() == []


def test_prototypes_of_nonsense():
    with pytest.raises(CatalogueError, match="at least one"):
        samples.prototypes(np.ones((3, 1)), [1, 2, 3], 0, 0)
    with pytest.raises(CatalogueError, match="2 ids"):
        samples.prototypes(np.ones((3, 1)), [1, 2], 0, 1)


def test_cuts_are_those_of_the_paper(tree):
    """Willett et al. 2013 say so in words: bars want p_features > 0.430, p_not_edge_on > 0.715."""
    assert samples.cuts(tree, "bar") == {"features_or_disk": 0.430, "not_edge_on": 0.715}
    assert samples.cuts(tree, "arms_number", votes=10) == {
        "features_or_disk": 0.227,
        "not_edge_on": 0.519,
        "spiral": 0.402,
    }
    assert samples.cuts(tree, "odd") == {}
    assert samples.cuts(tree, "odd_feature") == {"something_odd": 0.420}


def test_every_question_has_its_row_and_no_way_around_its_answer(tree):
    assert set(samples.WELL_ASKED) == {question.name for question in tree.questions}
    rng = np.random.default_rng(3)
    for number, question in enumerate(tree.questions):
        for answer in samples.cuts(tree, question.name):
            without = rng.random((1, len(tree.columns)))
            without[:, tree.column(answer)] = 0
            assert reach(tree, to_joint(tree, without))[0, number] == 0
        cut = samples.WELL_ASKED[question.name]
        assert cut is None or 0 < cut.votes_10 < cut.votes_20 < 1


def test_cuts_that_do_not_exist(tree):
    with pytest.raises(UnknownAnswer, match="did you mean"):
        samples.cuts(tree, "barr")
    with pytest.raises(CatalogueError, match="10 or 20 votes on a question, not 15"):
        samples.cuts(tree, "bar", votes=15)
    answers = Answer("a", "a", "A"), Answer("b", "b", "B")
    other = DecisionTree("other", (Question("shape", "?", answers, root=True),))
    with pytest.raises(TreeError, match="only for galaxy_zoo_2"):
        samples.cuts(other, "shape")


def conditional(tree, **answers):
    row = np.full((1, len(tree.columns)), np.nan)
    for answer, value in answers.items():
        column = tree.column(answer)
        for sibling in range(*tree.slices[tree.question_of[column]].indices(37)):
            row[0, sibling] = (1 - value) / (len(tree.questions[tree.question_of[column]].answers) - 1)
        row[0, column] = value
    return row


@pytest.mark.parametrize(
    ("features", "not_edge_on", "asked"),
    [(0.5, 0.8, True), (0.42, 0.8, False), (0.5, 0.7, False), (0.43, 0.8, False)],
)
def test_well_asked_cuts_every_conditional_fraction_on_the_way(tree, features, not_edge_on, asked):
    joint = to_joint(tree, conditional(tree, features_or_disk=features, not_edge_on=not_edge_on))
    assert samples.well_asked(tree, joint, "bar").tolist() == [asked]


def test_clean_is_well_asked_and_sure(tree):
    likely = {"features_or_disk": 0.9, "not_edge_on": 0.9}
    rows = [
        conditional(tree, **likely, barred=0.85),
        conditional(tree, **likely, barred=0.75),
        conditional(tree, features_or_disk=0.9, not_edge_on=0.6, barred=0.85),
        conditional(tree, **likely),
    ]
    joint = to_joint(tree, np.concatenate(rows))
    assert samples.clean(tree, joint, "barred").tolist() == [True, False, False, False]
    assert samples.clean(tree, joint, "barred", fraction=0.7).tolist() == [True, True, False, False]
    assert samples.clean(tree, joint, "barred", votes=10).tolist() == [True, False, True, False]
