"""What a volunteer's answer would tell."""

import numpy as np
import pytest
from scipy.stats import beta

from hubblefork.stats.ranking import (
    answer_entropy,
    concentration_of_bounds,
    dirichlet_information,
    disagreement,
)
from hubblefork.zoo import Answer, DecisionTree, Question, to_joint

TREE = DecisionTree(
    "small",
    (
        Question(
            "kind", "", (Answer("disk", "", "disk", ("signs", "arms")), Answer("ball", "", "ball")), root=True
        ),
        Question("signs", "", (Answer("shell", "", "shell"), Answer("tail", "", "tail")), multiple=True),
        Question("arms", "", tuple(Answer(name, "", name) for name in ("one", "two", "three"))),
    ),
)


def joint_of(*rows):
    return to_joint(TREE, np.array(rows, dtype=float))


def test_the_entropy_of_answers_counts_questions_by_their_reach():
    joint = joint_of(
        [0.5, 0.5, 0.5, 0, 1 / 3, 1 / 3, 1 / 3], [0, 1, 0.5, 0.5, 0.5, 0.5, 0], [1, 0, 0, 1, 0, 0, 1]
    )
    expected = [[1, 0.5, 0.5 * np.log2(3)], [0, 0, 0], [0, 0, 0]]
    np.testing.assert_allclose(answer_entropy(TREE, joint), expected, atol=1e-12)


def test_the_information_is_that_of_draws_from_the_distribution():
    rng, mean, whole = np.random.default_rng(0), np.array([0.2, 0.5, 0.3]), np.array([[3.0, 2.0, 5.0]])
    joint = joint_of([0.8, 0.2, 0.1, 0.6, *mean])
    drawn = rng.dirichlet(mean * 5, 400_000)
    entropies = -(np.where(drawn > 0, drawn * np.log2(np.maximum(drawn, 1e-300)), 0)).sum(axis=1)
    by_draws = 0.8 * (-(mean * np.log2(mean)).sum() - entropies.mean())
    found = dirichlet_information(TREE, joint, whole)[0]
    assert found[2] == pytest.approx(by_draws, abs=2e-3)
    boxes = 0.0
    for share in (0.1, 0.6):
        ticked = rng.beta(share * 2, (1 - share) * 2, 400_000).clip(1e-12, 1 - 1e-12)
        inner = -(ticked * np.log2(ticked) + (1 - ticked) * np.log2(1 - ticked)).mean()
        boxes += -(share * np.log2(share) + (1 - share) * np.log2(1 - share)) - inner
    assert found[1] == pytest.approx(0.8 * boxes, abs=2e-3)


def test_what_is_known_tells_nothing_and_what_is_unknown_the_whole_entropy():
    joint = joint_of([0.5, 0.5, 0.5, 0.5, 0.2, 0.5, 0.3])
    known, unknown = np.full((1, 3), np.inf), np.zeros((1, 3))
    assert dirichlet_information(TREE, joint, known).max() < 1e-5
    np.testing.assert_allclose(dirichlet_information(TREE, joint, unknown), answer_entropy(TREE, joint))
    more, less = (dirichlet_information(TREE, joint, np.full((1, 3), whole)) for whole in (4.0, 40.0))
    assert (more > 5 * less).all()


def test_predictions_that_agree_tell_nothing_and_those_that_contradict_each_other_all():
    divided = joint_of([0.5, 0.5, 0.5, 0.5, 0.4, 0.3, 0.3])
    assert disagreement(TREE, np.stack([divided, divided])).max() < 1e-12
    disk, ball = joint_of([1, 0, 0, 0, 1, 0, 0]), joint_of([0, 1, 0, 0, 1, 0, 0])
    np.testing.assert_allclose(disagreement(TREE, np.stack([disk, ball])), [[1, 0, 0]], atol=1e-12)
    one, two = joint_of([1, 0, 1, 0, 1, 0, 0]), joint_of([1, 0, 0, 0, 0, 1, 0])
    np.testing.assert_allclose(disagreement(TREE, np.stack([one, two])), [[0, 1, 1]], atol=1e-12)


def test_intervals_give_back_the_concentration_that_made_them():
    mean, whole = np.array([0.6, 0.4, 0.3, 0.5, 0.2, 0.5, 0.3]), np.array([[60.0, 80.0, 200.0]])
    joint, each = joint_of(mean), whole[0, [0, 0, 1, 1, 2, 2, 2]]
    low, high = (beta(mean * each, (1 - mean) * each).ppf(share) for share in (0.05, 0.95))
    asked = np.array([1, 1, 0.6, 0.6, 0.6, 0.6, 0.6])
    found = concentration_of_bounds(TREE, joint, low * asked, high * asked, 0.9)
    np.testing.assert_allclose(found, whole, rtol=0.05)
    assert concentration_of_bounds(TREE, joint, joint, joint, 0.9).min() == 1e6
    assert concentration_of_bounds(TREE, joint, joint * 0, joint * 0 + 1, 0.9).max() < 2


def test_a_missing_fraction_is_missing_where_the_question_is_reached():
    joint = joint_of([0.5, 0.5, 0.5, 0.5, np.nan, np.nan, np.nan], [0, 1, 0, 0, np.nan, np.nan, np.nan])
    found = answer_entropy(TREE, joint)
    assert np.isnan(found).tolist() == [[False, False, True], [False, False, False]]
