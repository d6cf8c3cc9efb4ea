"""The algebra of vote fractions: conditional ↔ joint, reach, and the constraints they obey.

A *conditional* fraction is the share of an answer among the volunteers who were asked its question; those
of a question sum to one, unless several answers may be given (`Question.exclusive`). The *reach* of a
question is the probability that it is asked. A *joint* fraction is reach × conditional fraction: what the
columns of Kaggle's files hold (Willett et al. 2013 for the fractions; the multiplication down the tree is
that of Kaggle's "Galaxy Zoo - The Galaxy Challenge").

Arrays have shape (galaxy, answer) in the order of `tree.columns`. NaN means that nobody was asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hubblefork.errors import TreeError
from hubblefork.zoo.tree import DecisionTree

TOLERANCE = 1e-4
ROUNDED = 0.05
"""By how much fractions that were rounded may miss a sum of one."""


@dataclass(frozen=True)
class Violation:
    """One constraint that one row breaks: which, and by how much (a signed excess)."""

    row: int
    constraint: str
    excess: float


@dataclass(frozen=True)
class VoteCounts:
    """Votes of single galaxies: `given` (galaxy, answer) says how often each answer was given, `asked`
    (galaxy, question) how many volunteers answered each question; 0 where nobody was asked.
    """

    given: NDArray[np.int64]
    asked: NDArray[np.int64]

    def joint(self, tree: DecisionTree) -> NDArray[np.float64]:
        """Return the joint fractions (galaxy, answer); NaN where a question is reached and unanswered."""
        asked = self.asked[:, list(tree.question_of)]
        return to_joint(tree, np.divide(self.given, asked, out=np.full(asked.shape, np.nan), where=asked > 0))


def reach(tree: DecisionTree, joint: NDArray) -> NDArray:
    """Return the probability that each question is asked, shape (galaxy, question).

    Joint fractions of shape (galaxy, answer) in; 1 for a root, else the sum over the answers
    that lead to the question. NaN where one of those is NaN. Raises TreeError for an array of
    another width than the tree has answers, as all functions here.
    """
    _check_width(tree, joint)
    asked = [joint[:, list(p)].sum(axis=1) if p else np.ones(len(joint)) for p in tree.parents]
    return np.stack(asked, axis=1)


def to_joint(tree: DecisionTree, conditional: NDArray) -> NDArray:
    """Turn conditional into joint fractions, both of shape (galaxy, answer).

    A conditional fraction on a question that nobody reaches does not matter: its joint
    fraction is 0 where the reach is 0, also when the conditional one is NaN.
    """
    _check_width(tree, conditional)
    joint = np.full(conditional.shape, np.nan)
    for number in tree.asking_order:
        parents, answers = list(tree.parents[number]), tree.slices[number]
        asked = joint[:, parents].sum(axis=1, keepdims=True) if parents else np.ones((len(joint), 1))
        joint[:, answers] = np.where(asked == 0, 0.0, asked * conditional[:, answers])
    return joint


def to_conditional(tree: DecisionTree, joint: NDArray) -> NDArray:
    """Turn joint into conditional fractions, both of shape (galaxy, answer); NaN where the reach is 0."""
    asked = reach(tree, joint)[:, list(tree.question_of)]
    return np.divide(joint, asked, out=np.full(joint.shape, np.nan), where=asked > 0)


def summing_to_one(tree: DecisionTree, conditional: NDArray, within: float = ROUNDED) -> NDArray[np.float64]:
    """Scale conditional fractions, (galaxy, answer) as all here, of each exclusive question to a sum of one.

    That is done where each lies in [0, 1] and their sum misses one by no more than `within`: of fractions
    that were debiased each by itself by anything. A question whose fractions are all 0 was asked of nobody:
    NaN. Others stay, to be refused by name.
    """
    scaled = np.array(conditional, float)
    for question, answers in zip(tree.questions, tree.slices, strict=True):
        if question.exclusive:
            given = scaled[:, answers]
            total = given.sum(axis=1, keepdims=True)
            sound = ((given >= 0) & (given <= 1)).all(axis=1, keepdims=True) & (np.abs(total - 1) <= within)
            np.divide(given, total, out=given, where=sound & (total > 0))
            given[(given == 0).all(axis=1)] = np.nan
    return scaled


def violations(tree: DecisionTree, joint: NDArray, tolerance: float = TOLERANCE) -> list[Violation]:
    """Say which constraints of the tree which rows of joint fractions break.

    Each fraction lies in [0, 1]; the answers of a question sum to its reach, or each is no more than it where
    several may be given and where there is a single one; a question has all its answers or none (none: NaN,
    nobody was asked). Sums over missing parents are not checked. Nothing is asked of a number.
    """
    if tree.number:
        return []
    outside = np.where(joint > 1 + tolerance, joint - 1, np.where(joint < -tolerance, joint, 0.0))
    found = [
        Violation(int(row), f"0 ≤ {tree.columns[column]} ≤ 1", float(outside[row, column]))
        for row, column in zip(*np.nonzero(outside), strict=True)
    ]
    with np.errstate(invalid="ignore"):
        excess = excesses(tree, joint)
    for number, (question, answers) in enumerate(zip(tree.questions, tree.slices, strict=True)):
        missing = np.isnan(joint[:, answers])
        some = missing.any(axis=1) & ~missing.all(axis=1)
        found += [
            Violation(int(row), f"all answers of {question.name} or none", float(missing[row].sum()))
            for row in np.flatnonzero(some)
        ]
        kind = "each" if question.multiple else "sum"
        sign, asked = "=" if question.exclusive else "≤", _parents_text(tree, number)
        with np.errstate(invalid="ignore"):
            rows = np.flatnonzero(np.abs(excess[:, number]) > tolerance)
        constraint = f"{kind} of {question.name} {sign} {asked}"
        found += [Violation(int(row), constraint, float(excess[row, number])) for row in rows]
    return sorted(found, key=lambda violation: violation.row)


def excesses(tree: DecisionTree, joint: NDArray) -> NDArray:
    """Return by how much the answers of each question exceed its reach, shape (galaxy, question).

    Joint fractions of shape (galaxy, answer) in. Signed, of the sum, where a volunteer gives exactly one
    answer; else of the largest answer, and 0 where that is no more than the reach, or where it is a number.
    """
    if tree.number:
        return np.zeros(joint.shape)
    asked = reach(tree, joint)
    columns = []
    for number, (question, answers) in enumerate(zip(tree.questions, tree.slices, strict=True)):
        if question.exclusive:
            columns.append(joint[:, answers].sum(axis=1) - asked[:, number])
        else:
            columns.append(np.maximum(joint[:, answers].max(axis=1) - asked[:, number], 0))
    return np.stack(columns, axis=1)


def votes_of_volunteers(
    tree: DecisionTree, shares: Callable[[int], NDArray], volunteers: NDArray, rng: np.random.Generator
) -> VoteCounts:
    """Draw the votes of volunteers who walk the tree, each asked what the answers that they gave lead to.

    `shares` returns, for the number of a question, by which conditional fractions (galaxy, answer) it is
    answered; it is called in the order in which questions are asked. `volunteers` (galaxy, question) is the
    number who answer each question that no answer leads to; other columns are not read.
    """
    given = np.zeros((len(volunteers), len(tree.columns)), dtype=np.int64)
    asked = np.zeros(volunteers.shape, dtype=np.int64)
    for number in tree.asking_order:
        ways, answers = list(tree.ways_in[number]), tree.slices[number]
        asked[:, number] = given[:, ways].sum(axis=1) if ways else volunteers[:, number]
        chances = np.where(asked[:, [number]] > 0, shares(number), 0.5)
        if tree.questions[number].exclusive:
            chances = chances / chances.sum(axis=1, keepdims=True)
            given[:, answers] = rng.multinomial(asked[:, number], chances)
        else:
            given[:, answers] = rng.binomial(asked[:, [number]], chances)
    return VoteCounts(given, asked)


def answering(tree: DecisionTree, conditional: NDArray) -> Callable[[int], NDArray]:
    """Return for `votes_of_volunteers` the answers by given conditional fractions (galaxy, answer)."""
    return lambda number: conditional[:, tree.slices[number]]


def _check_width(tree: DecisionTree, fractions: NDArray) -> None:
    if fractions.ndim != 2 or fractions.shape[1] != len(tree.columns):
        raise TreeError(
            f"an array of shape {fractions.shape} for the {len(tree.columns)} answers of {tree.name}: "
            f"allowed is (galaxy, {len(tree.columns)}), in the order of tree.columns"
        )


def _parents_text(tree: DecisionTree, number: int) -> str:
    return " + ".join(tree.columns[parent] for parent in tree.parents[number]) or "1"
