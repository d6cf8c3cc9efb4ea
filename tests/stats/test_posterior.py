"""Dirichlet posteriors: exact where they are exact, and as often right as they say."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from hubblefork.errors import CatalogueError
from hubblefork.stats.conformal import joint_bounds
from hubblefork.zoo import Answer, DecisionTree, Question, reach, to_joint
from hubblefork.zoo.votes import answering, votes_of_volunteers

SHAPE = Question(
    "shape", "Shape?", (Answer("disk", "", "0", ("arms", "extras")), Answer("smooth", "", "1")), root=True
)
ARMS = Question("arms", "Arms?", (Answer("none", "", "2"), Answer("two", "", "3"), Answer("many", "", "4")))
EXTRAS = Question("extras", "Extras?", (Answer("ring", "", "5"), Answer("dust", "", "6")), multiple=True)
TREE = DecisionTree("sketch", (SHAPE, ARMS, EXTRAS))


@pytest.fixture
def mean():
    return np.array([[0.7, 0.3, 0.2, 0.5, 0.3, 0.9, 0.4], [0.1, 0.9, 0.6, 0.3, 0.1, 0.2, 0.7]])


def test_joint_bounds_at_the_root_are_those_of_the_conditional_fraction(mean):
    concentration = np.full((2, 3), 12.0)
    low, high = joint_bounds(TREE, to_joint(TREE, mean), concentration, 0.68)
    exact = stats.beta(mean * 12, (1 - mean) * 12)
    for bound, share in ((low, 0.16), (high, 0.84)):
        assert_allclose(bound[:, :2], exact.ppf(share)[:, :2], atol=0.03)
    assert (low[:, 2:] < to_joint(TREE, mean)[:, 2:]).all()
    assert (high[:, 2:] > to_joint(TREE, mean)[:, 2:]).all()


def test_intervals_of_measured_fractions_hold_as_often_as_they_say():
    """Truths are drawn from the posterior, votes by volunteers who walk the tree."""
    rng, galaxies = np.random.default_rng(4), 3000
    mean = np.column_stack(
        [rng.dirichlet(np.ones(k), galaxies) for k in (2, 3)] + [rng.random((galaxies, 2))]
    )
    concentration = rng.uniform(3, 60, (galaxies, 3))
    truth = np.column_stack(
        [
            _dirichlet(rng, mean[:, part] * concentration[:, [q]])
            for q, part in enumerate([slice(0, 2), slice(2, 5)])
        ]
        + [rng.beta(mean[:, 5:] * concentration[:, [2]], (1 - mean[:, 5:]) * concentration[:, [2]])]
    )
    volunteers = np.full((galaxies, 3), 15)
    measured = votes_of_volunteers(TREE, answering(TREE, truth), volunteers, rng).joint(TREE)
    low, high = joint_bounds(TREE, to_joint(TREE, mean), concentration, 0.9, volunteers=volunteers)
    asked = ~np.isnan(measured)
    inside = (low - 1e-9 <= measured) & (measured <= high + 1e-9)
    assert (
        0.89 <= inside[asked].mean() <= 0.97
    )  # fractions of 15 votes are coarse: intervals hold a little more
    without = joint_bounds(TREE, to_joint(TREE, mean), concentration, 0.9)
    narrow = (without[0] <= measured) & (measured <= without[1])
    assert narrow[asked].mean() < 0.87


def _dirichlet(rng, alpha):
    gammas = rng.standard_gamma(alpha) + 1e-300
    return gammas / gammas.sum(axis=1, keepdims=True)


def test_volunteers_walk_the_tree(mean):
    votes = votes_of_volunteers(
        TREE, answering(TREE, mean), np.array([[40, 0, 0], [40, 0, 0]]), np.random.default_rng(0)
    )
    assert (votes.asked[:, 0] == 40).all()
    assert (votes.given[:, :2].sum(axis=1) == 40).all()
    assert (votes.asked[:, 1] == votes.given[:, 0]).all()
    assert (votes.given[:, 2:5].sum(axis=1) == votes.asked[:, 1]).all()
    assert (votes.given[:, 5:] <= votes.asked[:, [2]]).all()
    joint = votes.joint(TREE)
    assert_allclose(reach(TREE, joint)[:, 1], votes.given[:, 0] / 40)


def test_a_question_that_was_reached_and_not_answered_is_missing():
    from hubblefork.zoo import VoteCounts

    votes = VoteCounts(np.array([[3, 1, 0, 0, 0, 2, 0]]), np.array([[4, 0, 3]]))
    assert_allclose(votes.joint(TREE), [[0.75, 0.25, np.nan, np.nan, np.nan, 0.5, 0]])


@pytest.mark.parametrize("coverage", [0, 1, 1.2, -0.1])
def test_a_coverage_lies_between_zero_and_one(mean, coverage):
    with pytest.raises(CatalogueError, match="it lies between 0 and 1"):
        joint_bounds(TREE, mean, np.ones((2, 3)), coverage)
