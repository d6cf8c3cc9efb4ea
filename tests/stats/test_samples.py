"""Prototypes and the published cuts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.stats import ks_2samp, pearsonr

from hubblefork.errors import CatalogueError, TreeError, UnknownAnswer
from hubblefork.stats import samples
from hubblefork.stats.metrics import holm
from hubblefork.stats.samples import compare, compare_distributions, correlations, familiar, peaks
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
        assert cut is None or 0 < cut[1] < cut[2] < 1


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


@pytest.fixture
def values():
    rng = np.random.default_rng(4)
    return rng.random((80, 5)) @ rng.random((5, 6))


def test_without_gaps_it_is_the_correlation_matrix(values):
    found = correlations(values)
    assert found.rho == pytest.approx(np.corrcoef(values.T))
    assert (found.galaxies == 80).all()


def test_a_missing_label_is_left_out_of_its_pairs_only(values):
    values[:30, 1] = np.nan
    values[20:45, 2] = np.nan
    found = correlations(values)
    for i in range(6):
        for j in range(6):
            both = ~np.isnan(values[:, i]) & ~np.isnan(values[:, j])
            assert found.rho[i, j] == pytest.approx(pearsonr(values[both, i], values[both, j])[0])
            assert found.galaxies[i, j] == both.sum()
    assert found.galaxies[1, 2] == 35


def test_far_from_zero_digits_are_kept(values):
    assert correlations(values + 1e6).rho == pytest.approx(np.corrcoef(values.T), abs=1e-4)


def test_answers_that_exclude_each_other_anticorrelate():
    yes = np.random.default_rng(0).random(50)
    assert correlations(np.stack([yes, 1 - yes], axis=1)).rho[0, 1] == pytest.approx(-1)


def test_what_does_not_vary_or_was_never_asked_has_none(values):
    values[:, 0] = 0.3
    values[:, 1] = np.nan
    rho = correlations(values).rho
    assert np.isnan(rho[0]).all() and np.isnan(rho[1]).all() and np.isnan(rho[:, 1]).all()
    assert np.isfinite(rho[2:, 2:]).all()


def test_what_does_not_vary_where_the_other_is_known_has_none(values):
    values[:40, 0] = 0.3
    values[40:, 1] = np.nan
    assert np.isnan(correlations(values).rho[0, 1])
    assert np.isfinite(correlations(values).rho[0, 2])


def step_down(p_values, level):
    """Holm's procedure as he words it: reject the smallest while each passes its own level."""
    rejected = set()
    for k, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[index] >= level / (len(p_values) - k):
            break
        rejected.add(index)
    return rejected


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0.001, 0.5))
def test_corrected_p_values_reject_what_the_step_down_procedure_rejects(p_values, level):
    corrected = holm(p_values)
    near = [abs(value - level) < 1e-9 for value in corrected]
    by_value = {k for k, value in enumerate(corrected) if value < level}
    assert any(near) or by_value == step_down(p_values, level)
    assert all(p <= c <= 1 for p, c in zip(p_values, corrected, strict=True))


def test_a_worked_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_every_answer_is_tested_and_the_one_that_differs_is_found():
    rng = np.random.default_rng(1)
    first, second = rng.random((400, 5)), rng.random((300, 5))
    second[:, 3] **= 2
    first[:50, 1] = np.nan
    first[:, 4] = np.nan
    tests = compare_distributions(first, second)
    assert tests[4] is None
    assert [test.significant for test in tests[:4]] == [False, False, False, True]
    by_hand = ks_2samp(first[50:, 1], second[:, 1], method="asymp")
    assert (tests[1].distance, tests[1].p_value) == pytest.approx((by_hand.statistic, by_hand.pvalue))
    assert tests[1].galaxies == (350, 300)


def test_one_distribution_seldom_differs_from_itself():
    rng = np.random.default_rng(2)
    alarms = [
        any(test.significant for test in compare_distributions(rng.random((200, 37)), rng.random((150, 37))))
        for _ in range(40)
    ]
    assert sum(alarms) <= 6  # 2 expected; more than 6 happen once in 300


@pytest.mark.parametrize(
    ("centres", "expected"), [((0.1,), 1), ((0.1, 0.9), 2), ((0.1, 0.5, 0.95), 3), ((), 0)]
)
def test_peaks_are_counted(centres, expected):
    rng = np.random.default_rng(3)
    values = np.concatenate([rng.normal(centre, 0.05, 20_000) for centre in centres] or [[np.nan]])
    assert peaks(np.clip(values, 0, 1)) == expected


def test_the_score_is_the_distance_to_the_kth_nearest():
    rng = np.random.default_rng(0)
    training, others = rng.normal(2, 3, (60, 4)), rng.normal(0, 5, (7, 4))
    scaled = [(part - training.mean(axis=0)) / training.std(axis=0) for part in (others, training)]
    expected = np.sort(cdist(*scaled), axis=1)[:, 4] / np.sqrt(4)
    np.testing.assert_allclose(familiar(training, neighbours=5).distances(others), expected)


def test_features_without_scatter_do_no_harm():
    training = np.random.default_rng(1).normal(size=(50, 3))
    training[:, 1] = 7
    assert np.isfinite(familiar(training).distances(training)).all()


def test_alarms_are_rare_without_a_shift_and_sure_with_one():
    rng = np.random.default_rng(2)
    known = familiar(rng.normal(size=(500, 8)))
    alarms = [
        compare(
            known.distances(rng.normal(size=(200, 8))),
            known.distances(rng.normal(size=(200, 8))),
            chance=0.05,
        ).shifted
        for _ in range(60)
    ]
    assert np.mean(alarms) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 60)
    moved = compare(
        known.distances(rng.normal(0.8, 1, size=(200, 8))), known.distances(rng.normal(size=(200, 8)))
    )
    assert moved.shifted and moved.beyond > 0.2


def test_what_cannot_be_compared():
    with pytest.raises(CatalogueError, match="4 training galaxies"):
        familiar(np.zeros((4, 2)))
    with pytest.raises(CatalogueError, match="0 galaxies against 3"):
        compare(np.zeros(0), np.zeros(3))
