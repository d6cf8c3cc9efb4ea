"""Random decision trees and votes, for property tests: any tree, not only Galaxy Zoo 2's."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from hubblefork.errors import TreeError
from hubblefork.zoo import Answer, DecisionTree, Question


@st.composite
def decision_trees(draw: st.DrawFn, fewest: int = 2, checkboxes: bool = True) -> DecisionTree:
    """Valid trees: several ways in, several next questions, checkboxes, several roots, in any order."""
    number = draw(st.integers(1, 6))
    sizes = [draw(st.integers(fewest, 4)) for _ in range(number)]
    roots = [True, *(draw(st.booleans()) for _ in range(number - 1))]
    boxes = [checkboxes and size > 1 and draw(st.integers(0, 4)) == 0 for size in sizes]
    boxes[0] = False
    edges = dict[tuple[int, int], list[int]]()
    for question in range(1, number):
        free = [(q, a) for q in range(question) if not boxes[q] for a in range(sizes[q])]
        wanted = draw(st.lists(st.sampled_from(free), min_size=not roots[question], max_size=5, unique=True))
        for way_in in wanted:
            edges.setdefault(way_in, []).append(question)
            try:
                _tree(sizes[: question + 1], roots, boxes, edges)
            except TreeError:
                edges[way_in].remove(question)
    tree = _tree(sizes, roots, boxes, edges)
    return replace(tree, questions=tuple(draw(st.permutations(tree.questions))))


def _tree(
    sizes: Sequence[int],
    roots: Sequence[bool],
    boxes: Sequence[bool],
    edges: Mapping[tuple[int, int], list[int]],
) -> DecisionTree:
    return DecisionTree(
        "random", tuple(_question(q, size, roots[q], boxes[q], edges) for q, size in enumerate(sizes))
    )


def _question(
    number: int, size: int, root: bool, multiple: bool, edges: Mapping[tuple[int, int], list[int]]
) -> Question:
    leads_to = [tuple(f"q{to}" for to in edges.get((number, answer), ())) for answer in range(size)]
    answers = tuple(
        Answer(f"q{number}a{a}", f"answer {a}", f"Class{number}.{a}", names)
        for a, names in enumerate(leads_to)
    )
    return Question(f"q{number}", f"question {number}", answers, root=root, multiple=multiple)


def random_conditional(tree: DecisionTree, galaxies: int, seed: int) -> NDArray[np.float64]:
    """Vote fractions of a few volunteers per question, many of them exactly 0 or 1; (galaxy, answer)."""
    rng = np.random.default_rng(seed)
    conditional = np.empty((galaxies, len(tree.columns)))
    for question, answers in zip(tree.questions, tree.slices, strict=True):
        size = len(question.answers)
        if question.exclusive:
            shares = rng.dirichlet(np.full(size, 0.5), size=galaxies)
            votes = np.stack([rng.multinomial(rng.integers(1, 8), share) for share in shares])
            conditional[:, answers] = votes / votes.sum(axis=1, keepdims=True)
        else:
            asked = rng.integers(1, 8, (galaxies, 1))
            conditional[:, answers] = rng.binomial(asked, rng.beta(0.5, 0.5, (galaxies, size))) / asked
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
            for name in answer.leads_to:
                if name not in roots:
                    walk(galaxy, tree.question(name), given)

    for galaxy in range(len(conditional)):
        for name in roots:
            walk(galaxy, tree.question(name), 1.0)
    return joint
