"""Simulated volunteers: some 40 look at a cutout and walk the decision tree.

What they see is the truth dimmed by seeing and angular size; where they see little they guess, and they guess
differently. Their labels obey the tree because each of them walks it, as Kaggle's do.

What may be seen of a galaxy has a score each (`SCORES`), the logarithm of a weight: an answer is as likely as
its weight among those of its question. `answers.toml` says which score each answer of the other trees takes.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from hubblefork.errors import CatalogueError
from hubblefork.mock.galaxies import SEEING, Galaxy
from hubblefork.zoo import DecisionTree, VoteCounts
from hubblefork.zoo.votes import votes_of_volunteers

VOLUNTEERS = 42
LAPSE = 0.03
DISAGREEMENT = 0.5

Scores = list[float]


@dataclass(frozen=True)
class Votes:
    """The votes on one galaxy: `counts` (answer,), and how many were `asked` each question (question,)."""

    volunteers: int
    counts: NDArray[np.int64]
    asked: NDArray[np.int64]

    def joint(self, tree: DecisionTree) -> NDArray[np.float64]:
        """Return the joint fractions, shape (answer,).

        NaN for a question that nobody was asked though its reach is not 0: "anything odd?" when everybody saw
        a star.
        """
        return VoteCounts(self.counts[None], self.asked[None]).joint(tree)[0]


def vote(
    galaxy: Galaxy,
    tree: DecisionTree,
    rng: np.random.Generator,
    *,
    seeing: float = 1.0,
    noise: float = 1.0,
    volunteers: int | None = None,
) -> Votes:
    """Return what volunteers say of a galaxy: around so many, or some 47, at least one.

    Each is asked what the answers they gave lead to; where several answers may be given, each is given or not
    by itself. Raises CatalogueError for a tree with an answer that has no score.
    """
    number = int(rng.poisson(volunteers or VOLUNTEERS))
    number = max(number, 1) if volunteers else number + 5
    taken = scores_of(tree)
    seen = scores(galaxy, clearness(galaxy, seeing=seeing, noise=noise))

    def shares(question: int) -> NDArray[np.float64]:
        answers = tree.slices[question]
        shaken = np.array([seen[score] for score in taken[answers]])
        shaken += rng.normal(0, DISAGREEMENT, len(shaken))
        return (_chances(shaken) if tree.questions[question].exclusive else expit(shaken))[None]

    votes = votes_of_volunteers(tree, shares, np.full((1, len(tree.questions)), number), rng)
    return Votes(number, votes.given[0], votes.asked[0])


def clearness(galaxy: Galaxy, *, seeing: float = 1.0, noise: float = 1.0) -> float:
    """Return from 0 to 1 how well detail is seen: by resolution elements across petroR90 and by depth."""
    elements = galaxy.petro_r90 / (SEEING * seeing)
    depth = galaxy.brightness / (0.3 * noise)
    return float(1 / (1 + np.exp(-(elements - 3.2) / 1.1)) * depth / (depth + 0.35))


def scores(galaxy: Galaxy, clarity: float) -> dict[str, float]:
    """Return the score of everything that may be seen of a galaxy, by its name."""
    return {
        name: score
        for names, seen in SCORES.items()
        for name, score in zip(names, seen(galaxy, clarity), strict=True)
    }


def scores_of(tree: DecisionTree) -> tuple[str, ...]:
    """Return the name of each answer's score. Raises CatalogueError for an answer without one."""
    names = tuple(_answers().get(answer, answer) for answer in tree.columns)
    there = {name for names in SCORES for name in names}
    missing = [answer for answer, name in zip(tree.columns, names, strict=True) if name not in there]
    if missing:
        raise CatalogueError(
            f"tree {tree.name}: mock volunteers cannot answer {', '.join(missing)}; "
            "mock/answers.toml says what they take an answer for"
        )
    return names


@cache
def _answers() -> dict[str, str]:
    text = resources.files("hubblefork.mock").joinpath("answers.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def _chances(shaken: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn scores, after what all volunteers misjudge together, into the chances of answers: a softmax."""
    powers = np.exp(shaken - shaken.max())
    return (1 - LAPSE) * powers / powers.sum() + LAPSE / len(shaken)


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


def _bar_strength(galaxy: Galaxy, clarity: float) -> Scores:
    return _near(galaxy.bar * clarity, [0.75, 0.35, 0.0], 0.15)


def _bulge_size(galaxy: Galaxy, clarity: float) -> Scores:
    return _near(galaxy.bulge, [0.0, 0.12, 0.33, 0.55, 0.85], 0.13)


def _merging(galaxy: Galaxy, clarity: float) -> Scores:
    """Return how visible each is: no disturbance, a minor, a major one, tidal debris, a merger, both."""
    merging = (0.25 + 0.45 * galaxy.companion + 0.5 * galaxy.tails) * galaxy.is_merger
    crowded = 0.12 * galaxy.neighbours / (1 + galaxy.neighbours)
    debris = 4.0 * galaxy.tails * galaxy.is_merger * clarity - 2.2
    merger = 6.0 * (merging + crowded) - 3.0
    disturbed = galaxy.disturbed + 0.3 * galaxy.is_merger
    return [0.0, 3.0 * disturbed - 2.0, 4.5 * disturbed - 3.2, debris, merger, debris + merger - 1.5]


def _clumps(galaxy: Galaxy, clarity: float) -> Scores:
    return [4.5 * (galaxy.clumps > 0) * (0.3 + 0.7 * clarity) - 2.2, 0.0]


def _symmetry(galaxy: Galaxy, clarity: float) -> Scores:
    return [1.5 - 3.0 * galaxy.disturbed - 2.0 * galaxy.is_merger - 1.5 * (galaxy.clumps > 0), 0.0]


def _ring(galaxy: Galaxy, clarity: float) -> Scores:
    return [4.5 * galaxy.ring * (0.3 + 0.7 * clarity) - 2.2, 0.0]


def _problem(galaxy: Galaxy, clarity: float) -> Scores:
    return [4.0 * (galaxy.kind == "star"), 4.0 * (galaxy.kind == "artifact"), 0.0]


def _artifact(galaxy: Galaxy, clarity: float) -> Scores:
    return [2.5 * (galaxy.kind == "artifact"), 0.0]


SCORES: dict[tuple[str, ...], Callable[[Galaxy, float], Scores]] = {
    ("smooth", "features_or_disk", "star_or_artifact"): _smooth_or_features,
    ("edge_on_disk", "not_edge_on"): _edge_on,
    ("barred", "no_bar"): _bar,
    ("strong_bar", "weak_bar", "neither_bar"): _bar_strength,
    ("spiral", "no_spiral"): _spiral_pattern,
    ("no_bulge", "bulge_just_noticeable", "bulge_obvious", "bulge_dominant"): _bulge_prominence,
    ("bulge_of_none", "bulge_small", "bulge_moderate", "bulge_large", "bulge_of_all"): _bulge_size,
    ("something_odd", "nothing_odd"): _odd,
    ("completely_round", "in_between", "cigar_shaped"): _roundness,
    ("ring", "lens_or_arc", "disturbed", "irregular", "other", "merger", "dust_lane"): _odd_feature,
    ("bulge_rounded", "bulge_boxy", "no_edge_on_bulge"): _edge_on_bulge,
    ("arms_tight", "arms_medium", "arms_loose"): _arms_winding,
    (
        *("one_arm", "two_arms", "three_arms", "four_arms"),
        *("more_than_four_arms", "cannot_tell_arms"),
    ): _arms_number,
    ("undisturbed", "minor", "major", "debris", "merging", "merging_with_debris"): _merging,
    ("clumpy", "not_clumpy"): _clumps,
    ("symmetrical", "not_symmetrical"): _symmetry,
    ("ringed", "not_ringed"): _ring,
    ("star", "artifact", "bad_zoom"): _problem,
    ("trail", "no_trail"): _artifact,
}
