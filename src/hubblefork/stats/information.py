"""How much a volunteer's classification would teach: expected information, in bits.

A question's conditional fractions θ are known up to a distribution; a volunteer's answer y follows θ. What it
is expected to tell about θ is their mutual information, H(E θ) − E H(θ) with the entropy H: large where θ is
unknown, zero where it is known, however evenly volunteers are divided (BALD: Houlsby et al. 2011,
arXiv:1112.5745; for Galaxy Zoo Walmsley et al. 2020, MNRAS 491, 1554). A question counts by its reach, the
chance that the volunteer is asked; the sum over questions is what a classification tells, if what is known of
one question is independent of the others. A checkbox is a question of its own, ticked or not.

Fractions have shape (galaxy, answer) in the order of the tree's columns, results (galaxy, question). They are
NaN where a fraction of a question that is reached is NaN.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma, entr, ndtri

from hubblefork.zoo import DecisionTree, reach, to_conditional

MOST = 1e6
"""A concentration that is certainty."""


def answer_entropy(tree: DecisionTree, joint: NDArray) -> NDArray[np.float64]:
    """Return the entropy of a volunteer's answers: all that they could tell, if θ were wholly unknown."""
    return _weighed(
        tree, joint, _by_question(tree, _conditional(tree, joint), lambda shares, _: _entropy(shares))
    )


def dirichlet_information(tree: DecisionTree, joint: NDArray, concentration: NDArray) -> NDArray[np.float64]:
    """Return the information where θ of mean m is Dirichlet with parameters m κ, κ (galaxy, question).

    E H(θ) = ψ(κ + 1) − Σ mᵢ ψ(mᵢ κ + 1), ψ the digamma function. At κ = 0 it is `answer_entropy`.
    """
    whole = np.clip(concentration, 0, MOST)

    def gain(shares: NDArray, number: int) -> NDArray:
        known = whole[:, [number]]
        expected = digamma(known[:, 0] + 1) - (shares * digamma(shares * known + 1)).sum(axis=1)
        return _entropy(shares) - expected

    return _weighed(tree, joint, _by_question(tree, _conditional(tree, joint), gain))


def disagreement(tree: DecisionTree, members: NDArray) -> NDArray[np.float64]:
    """Return the information where θ is any of several predictions, (prediction, galaxy, answer)."""
    within = np.mean([answer_entropy(tree, joint) for joint in members], axis=0)
    return np.maximum(answer_entropy(tree, members.mean(axis=0)) - within, 0)


def concentration_of_bounds(
    tree: DecisionTree, joint: NDArray, low: NDArray, high: NDArray, coverage: float
) -> NDArray[np.float64]:
    """Return the concentration, (galaxy, question), of which a question's intervals are as wide as these.

    By moments: Σ var θᵢ = Σ mᵢ (1 − mᵢ) / (κ + 1), an interval of that `coverage` as wide as a normal
    distribution's, and the reach as predicted. Intervals for the fraction that some 40 volunteers measure are
    wider than those for θ, of all galaxies alike.
    """
    deviation = (high - low) / (2 * ndtri((1 + coverage) / 2))
    asked, mean = reach(tree, joint)[:, list(tree.question_of)], _conditional(tree, joint)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = _by_answers(tree, (deviation / asked) ** 2)
        concentration = _by_answers(tree, mean * (1 - mean)) / spread - 1
    return np.clip(np.where(spread == 0, MOST, concentration), 0, MOST)


def _conditional(tree: DecisionTree, joint: NDArray) -> NDArray[np.float64]:
    return np.clip(to_conditional(tree, joint), 0, 1)


def _entropy(shares: NDArray) -> NDArray[np.float64]:
    return entr(shares).sum(axis=1)


def _by_question(
    tree: DecisionTree, mean: NDArray, value: Callable[[NDArray, int], NDArray]
) -> NDArray[np.float64]:
    """Return a value of the shares, (galaxy, share), of each question; checkboxes one by one, summed."""
    columns = []
    for number, (question, answers) in enumerate(zip(tree.questions, tree.slices, strict=True)):
        shares = mean[:, answers]
        if question.exclusive:
            columns.append(value(shares, number))
        else:
            boxes = [value(np.stack([share, 1 - share], axis=1), number) for share in shares.T]
            columns.append(np.sum(boxes, axis=0))
    return np.stack(columns, axis=1)


def _by_answers(tree: DecisionTree, values: NDArray) -> NDArray[np.float64]:
    return np.stack([values[:, answers].sum(axis=1) for answers in tree.slices], axis=1)


def _weighed(tree: DecisionTree, joint: NDArray, nats: NDArray) -> NDArray[np.float64]:
    asked = reach(tree, joint)
    return np.maximum(np.where(asked == 0, 0, asked * nats), 0) / np.log(2)
