"""Simulated volunteers: some 40 look at a cutout and walk the decision tree.

What they see is the truth dimmed by seeing and angular size; where they see little they guess, and they guess
differently. Their labels obey the tree because each of them walks it, as Kaggle's do.
"""

from __future__ import annotations

from collections.abc import Callable
from graphlib import TopologicalSorter

import numpy as np
from numpy.typing import NDArray

from hubblefork.mock.galaxies import SEEING, Galaxy
from hubblefork.zoo import DecisionTree, to_joint

VOLUNTEERS = 42
LAPSE = 0.03
DISAGREEMENT = 0.5

Scores = list[float]


def vote(
    galaxy: Galaxy, tree: DecisionTree, rng: np.random.Generator, *, seeing: float = 1.0, noise: float = 1.0
) -> tuple[NDArray[np.float64], int]:
    """Return the joint fractions, shape (answer,), that volunteers give a galaxy, and how many they were.

    NaN for a question that nobody was asked though its reach is not 0: "anything odd?" when everybody saw
    a star.
    """
    volunteers = int(rng.poisson(VOLUNTEERS)) + 5
    clarity = clearness(galaxy, seeing=seeing, noise=noise)
    counts = np.zeros(len(tree.columns))
    asked = {
        question.name: volunteers if question.name == tree.questions[0].name else 0
        for question in tree.questions
    }
    for name in walking_order(tree):
        number = next(i for i, question in enumerate(tree.questions) if question.name == name)
        chances = _chances(_SCORES[name](galaxy, clarity), rng)
        counts[tree.slices[number]] = rng.multinomial(asked[name], chances)
        for answer, count in zip(tree.questions[number].answers, counts[tree.slices[number]], strict=True):
            for following in answer.leads_to:
                asked[following] += int(count)
    votes = np.array([asked[tree.questions[number].name] for number in tree.question_of], dtype=float)
    conditional = np.divide(counts, votes, out=np.full(len(counts), np.nan), where=votes > 0)
    return to_joint(tree, conditional[None])[0], volunteers


def clearness(galaxy: Galaxy, *, seeing: float = 1.0, noise: float = 1.0) -> float:
    """Return from 0 to 1 how well detail is seen: by resolution elements across petroR90 and by depth."""
    elements = galaxy.petro_r90 / (SEEING * seeing)
    depth = galaxy.brightness / (0.3 * noise)
    return float(1 / (1 + np.exp(-(elements - 3.2) / 1.1)) * depth / (depth + 0.35))


def walking_order(tree: DecisionTree) -> tuple[str, ...]:
    """Return the questions so that each comes after all whose answers lead to it, roots or not."""
    before: dict[str, set[str]] = {question.name: set() for question in tree.questions}
    for question in tree.questions:
        for answer in question.answers:
            for following in answer.leads_to:
                before[following].add(question.name)
    return tuple(TopologicalSorter(before).static_order())


def _chances(scores: Scores, rng: np.random.Generator) -> NDArray[np.float64]:
    """Turn scores into the chances of the answers: a softmax, after what all volunteers misjudge together."""
    shaken = np.array(scores) + rng.normal(0, DISAGREEMENT, len(scores))
    powers = np.exp(shaken - shaken.max())
    return (1 - LAPSE) * powers / powers.sum() + LAPSE / len(scores)


def _near(value: float, places: Scores, width: float) -> Scores:
    return [-0.5 * ((value - place) / width) ** 2 for place in places]


def _smooth_or_features(galaxy: Galaxy, clarity: float) -> Scores:
    features = {
        "spiral": 5.0 * galaxy.arm_contrast - 0.3,
        "edge_on": 2.2,
        "disk": 0.2 + 1.5 * galaxy.bar + 2.0 * galaxy.ring,
        "irregular": 1.6,
        "elliptical": -2.4 + 2.0 * galaxy.arc,
    }.get(galaxy.kind, 0.0)
    features += 2.0 * galaxy.tails * galaxy.is_merger + 1.5 * galaxy.disturbed
    star = {"star": 4.5, "artifact": 5.0}.get(galaxy.kind, -4.0)
    seen = (features + 1.2) * (0.25 + 0.75 * clarity) - 1.2
    return [0.0, seen, star]


def _edge_on(galaxy: Galaxy, clarity: float) -> Scores:
    return [12 * (0.33 - galaxy.axis_ratio), 0.0]


def _bar(galaxy: Galaxy, clarity: float) -> Scores:
    return [5.5 * galaxy.bar * clarity - 1.9, 0.0]


def _spiral_pattern(galaxy: Galaxy, clarity: float) -> Scores:
    return [6.0 * galaxy.arm_contrast * clarity - 1.4, 0.0]


def _bulge_prominence(galaxy: Galaxy, clarity: float) -> Scores:
    return _near(galaxy.bulge, [0.0, 0.15, 0.4, 0.8], 0.13)


def _oddities(galaxy: Galaxy, clarity: float) -> Scores:
    """Return how visible each odd feature is: ring, arc, disturbed, irregular, other, merger, dust."""
    merging = (0.25 + 0.45 * galaxy.companion + 0.5 * galaxy.tails) * galaxy.is_merger
    crowded = 0.12 * galaxy.neighbours / (1 + galaxy.neighbours)
    disturbed = 0.9 * galaxy.disturbed
    irregular = 0.8 * (galaxy.kind == "irregular")
    sharp = 0.3 + 0.7 * clarity
    return [
        galaxy.ring * sharp,
        0.9 * galaxy.arc * sharp,
        disturbed,
        irregular,
        0.2,
        merging + crowded,
        galaxy.dust * sharp,
    ]


def _odd(galaxy: Galaxy, clarity: float) -> Scores:
    return [4.2 * max(_oddities(galaxy, clarity)) - 2.9, 0.0]


def _odd_feature(galaxy: Galaxy, clarity: float) -> Scores:
    return [5.0 * visible for visible in _oddities(galaxy, clarity)]


def _roundness(galaxy: Galaxy, clarity: float) -> Scores:
    return _near(galaxy.axis_ratio, [0.98, 0.66, 0.28], 0.12)


def _edge_on_bulge(galaxy: Galaxy, clarity: float) -> Scores:
    return [8 * (galaxy.bulge - 0.12), 4.5 * galaxy.boxy * clarity - 2.2, 0.0]


def _arms_winding(galaxy: Galaxy, clarity: float) -> Scores:
    return _near(galaxy.pitch, [9.0, 18.0, 29.0], 7.0)


def _arms_number(galaxy: Galaxy, clarity: float) -> Scores:
    seen = galaxy.arm_contrast * clarity
    return [5.5 * seen * (arms == min(galaxy.arms, 5)) for arms in range(1, 6)] + [
        2.6 * (1 - seen) + 0.3 * galaxy.arms - 0.6
    ]


_SCORES: dict[str, Callable[[Galaxy, float], Scores]] = {
    "smooth_or_features": _smooth_or_features,
    "edge_on": _edge_on,
    "bar": _bar,
    "spiral_pattern": _spiral_pattern,
    "bulge_prominence": _bulge_prominence,
    "odd": _odd,
    "roundness": _roundness,
    "odd_feature": _odd_feature,
    "edge_on_bulge": _edge_on_bulge,
    "arms_winding": _arms_winding,
    "arms_number": _arms_number,
}
