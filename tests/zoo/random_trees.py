"""Random decision trees and votes, for property tests: any tree, not only Galaxy Zoo 2's."""

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from hubblefork.zoo import Answer, DecisionTree, Question


@st.composite
def decision_trees(draw: st.DrawFn, fewest: int = 2) -> DecisionTree:
    """Valid trees: several answers to one question, also to a root; several roots; columns in any order."""
    number = draw(st.integers(1, 6))
    sizes = [draw(st.integers(fewest, 4)) for _ in range(number)]
    roots = [True, *(draw(st.booleans()) for _ in range(number - 1))]
    edges: dict[tuple[int, int], int] = {}
    top = list(range(number))
    for question in range(1, number):
        free = [(q, a) for q in range(question) for a in range(sizes[q]) if (q, a) not in edges]
        if not roots[question]:
            way_in = draw(st.sampled_from(free))
            edges[way_in], top[question] = question, top[way_in[0]]
    for question, size in enumerate(sizes):
        for answer in range(size):
            below = [q for q in range(question + 1, number) if roots[q] or top[q] == top[question]]
            later = [None, *below]
            following = edges.get((question, answer), draw(st.sampled_from(later)))
            if following is not None:
                edges[question, answer] = following
    questions = [_question(q, sizes[q], roots[q], edges) for q in range(number)]
    return DecisionTree(name="random", questions=tuple(draw(st.permutations(questions))))


def _question(number: int, size: int, root: bool, edges: dict[tuple[int, int], int]) -> Question:
    leads_to = [edges.get((number, answer)) for answer in range(size)]
    answers = tuple(
        Answer(f"q{number}a{a}", f"answer {a}", f"Class{number}.{a}", None if to is None else f"q{to}")
        for a, to in enumerate(leads_to)
    )
    return Question(f"q{number}", f"question {number}", answers, root=root)


def random_conditional(tree: DecisionTree, galaxies: int, seed: int) -> NDArray[np.float64]:
    """Vote fractions of a few volunteers per question, many of them exactly 0 or 1; (galaxy, answer)."""
    rng = np.random.default_rng(seed)
    conditional = np.empty((galaxies, len(tree.columns)))
    for answers in tree.slices:
        shares = rng.dirichlet(np.full(answers.stop - answers.start, 0.5), size=galaxies)
        if shares.shape[1] == 1:
            shares = np.column_stack([rng.random(galaxies), np.zeros(galaxies)])
            shares[:, 1] = 1 - shares[:, 0]
        votes = np.stack([rng.multinomial(rng.integers(1, 8), share) for share in shares])
        given = votes / votes.sum(axis=1, keepdims=True)
        conditional[:, answers] = given[:, : answers.stop - answers.start]
    return conditional


def walked_joint(tree: DecisionTree, conditional: NDArray) -> NDArray[np.float64]:
    """Joint fractions the slow way: every path of a volunteer down the tree, one galaxy at a time."""
    joint = np.zeros(conditional.shape)
    starts = {
        question.name: answers.start for question, answers in zip(tree.questions, tree.slices, strict=True)
    }
    roots = {question.name for question in tree.questions if question.root}

    def walk(galaxy: int, question: Question, probability: float) -> None:
        for place, answer in enumerate(question.answers, starts[question.name]):
            given = probability * conditional[galaxy, place]
            joint[galaxy, place] += given
            if answer.leads_to is not None and answer.leads_to not in roots:
                walk(galaxy, tree.question(answer.leads_to), given)

    for galaxy in range(len(conditional)):
        for name in roots:
            walk(galaxy, tree.question(name), 1.0)
    return joint
