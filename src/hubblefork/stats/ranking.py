"""Which galaxies volunteers should look at next: by what they would tell in bits, or drawn by lot.

A question's conditional fractions θ are known up to a distribution; a volunteer's answer y follows θ. What it
is expected to tell about θ is their mutual information, H(E θ) − E H(θ) with the entropy H: large where θ is
unknown, zero where it is known, however evenly volunteers are divided (BALD: Houlsby et al. 2011,
arXiv:1112.5745; for Galaxy Zoo Walmsley et al. 2020, MNRAS 491, 1554). A question counts by its reach, the
chance that the volunteer is asked; the sum over questions is what a classification tells, if what is known of
one question is independent of the others. A checkbox is a question of its own, ticked or not.

Fractions have shape (galaxy, answer) in the order of the tree's columns, information (galaxy, question); it
is NaN where a fraction of a question that is reached is NaN.

What is known of a galaxy is what the catalogue says of it, the first of these that is there: how far several
catalogues are apart, concentrations, intervals. Of point estimates nothing is known but the mean, so their
order is by the entropy of the predicted answers: high also where volunteers are divided for good.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import digamma, entr, ndtri

from hubblefork.errors import CatalogueError
from hubblefork.io import Progress, silent
from hubblefork.stats.conformal import concentrations_of
from hubblefork.tables.catalogue import (
    ID,
    Pieces,
    columns_of,
    concentrations,
    fractions,
    galaxy_ids,
    metadata_of,
    naming,
    open_catalogue,
    pieces_of,
    read_catalogue,
    read_head,
    rows_of,
    with_fractions,
)
from hubblefork.tables.names import POSITION
from hubblefork.tables.published import tree_of
from hubblefork.zoo import DecisionTree, reach, to_conditional

INFORMATION, RANDOM = "information", "random"
BITS, LOT = "bits", "lot"
USUAL_COVERAGE = "0.9"
MOST = 1e6
"""A concentration that is certainty."""

Measure = Callable[[pa.Table, NDArray], NDArray]
"""From rows of a catalogue and their fractions to the information, (galaxy, question)."""


# Information


def answer_entropy(tree: DecisionTree, joint: NDArray) -> NDArray[np.float64]:
    """Return the entropy of a volunteer's answers: all that they could tell, if θ were wholly unknown."""
    return _by_question(tree, joint, lambda shares, _: _entropy(shares))


def dirichlet_information(tree: DecisionTree, joint: NDArray, concentration: NDArray) -> NDArray[np.float64]:
    """Return the information where θ of mean m is Dirichlet with parameters m κ, κ (galaxy, question).

    E H(θ) = ψ(κ + 1) − Σ mᵢ ψ(mᵢ κ + 1), ψ the digamma function. At κ = 0 it is `answer_entropy`.
    """
    whole = np.clip(concentration, 0, MOST)

    def gain(shares: NDArray, number: int) -> NDArray:
        known = whole[:, [number]]
        expected = digamma(known[:, 0] + 1) - (shares * digamma(shares * known + 1)).sum(axis=1)
        return _entropy(shares) - expected

    return _by_question(tree, joint, gain)


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
    tree: DecisionTree, joint: NDArray, nats: Callable[[NDArray, int], NDArray]
) -> NDArray[np.float64]:
    """Return what the shares, (galaxy, share), of each question tell where it is asked, from nats to bits."""
    columns, mean = [], _conditional(tree, joint)
    for number, (question, answers) in enumerate(zip(tree.questions, tree.slices, strict=True)):
        shares = mean[:, answers]
        if question.exclusive:
            columns.append(nats(shares, number))
        else:  # checkboxes one by one
            boxes = [nats(np.stack([share, 1 - share], axis=1), number) for share in shares.T]
            columns.append(np.sum(boxes, axis=0))
    asked = reach(tree, joint)
    return np.maximum(np.where(asked == 0, 0, asked * np.stack(columns, axis=1)), 0) / np.log(2)


def _by_answers(tree: DecisionTree, values: NDArray) -> NDArray[np.float64]:
    return np.stack([values[:, answers].sum(axis=1) for answers in tree.slices], axis=1)


# The order of galaxies


@dataclass(frozen=True)
class Ranked:
    """The first galaxies of an order: `table` has ids as text, `bits`, fractions, positions where known.

    `how` says what the order is by; `galaxies` is the number there was to choose from, `without` how many had
    no image, `unknown` how many no fractions.
    """

    table: pa.Table
    tree: DecisionTree
    how: str
    galaxies: int
    without: int
    unknown: int


def ranked(
    catalogues: Sequence[Path | pa.Table],
    shown: Iterable[str],
    most: int,
    *,
    order: str = INFORMATION,
    seed: int = 0,
    progress: Progress = silent,
) -> Ranked:
    """Return the first `most` galaxies of the first catalogue among those with the ids `shown`.

    By `information` in bits, the most first, or at `random`: by a hash of seed and id. A folder of shards is
    read in pieces; the other catalogues are held, or are tables already. Raises CatalogueError where none is
    left.
    """
    first = catalogues[0]
    place = first if isinstance(first, Path) else None
    head = read_head(first) if isinstance(first, Path) else first
    tree = tree_of(head)
    how, measure = _measure(head, tree, catalogues[1:])
    wanted = {*columns_of(tree, tree.columns), *concentrations(tree), *chain(*_bounds(tree)), *POSITION}
    opened = open_catalogue(first, wanted) if isinstance(first, Path) else first
    best: list[pa.Table] = []
    with_image, counts = np.array(list(shown), dtype=object), np.zeros(3, int)
    galaxies = None if isinstance(opened, Pieces) else len(opened)
    with naming(place), progress("galaxies", galaxies) as advance:
        for piece in pieces_of(opened, wanted):
            here = piece.filter(pa.array(rows_of(galaxy_ids(piece), with_image) >= 0))
            scored = _scored(here, tree, measure, seed)
            usable = scored if order == RANDOM else scored.filter(pa.compute.is_finite(scored.column(BITS)))
            counts += len(usable), len(piece) - len(here), len(here) - len(usable)
            together = pa.concat_tables([*best, usable])
            bits, lots = (together.column(name).to_numpy() for name in (BITS, LOT))
            rows = np.argsort(lots) if order == RANDOM else np.lexsort((lots, -bits))
            best = [together.take(rows[:most])]
            advance(len(piece))
        if not counts[0]:
            raise CatalogueError(
                f"none of its {counts.sum()} galaxies can be shown: {counts[1]} have no image "
                f'(images are named as "{next(iter(with_image), "")}"), {counts[2]} no fractions'
            )
    how = f"at random, seed {seed}" if order == RANDOM else how
    return Ranked(best[0], tree, how, *counts.tolist())


def _scored(table: pa.Table, tree: DecisionTree, measure: Measure, seed: int) -> pa.Table:
    """Return ids, bits, lots, fractions and positions; bits are NaN where a fraction that matters is."""
    joint = fractions(table, tree)
    ids = table.column(ID).cast(pa.string())
    lots = [hashlib.blake2b(f"{seed}:{i}".encode(), digest_size=8).digest() for i in ids.to_pylist()]
    columns = {
        ID: ids,
        BITS: measure(table, joint).sum(axis=1),
        LOT: np.frombuffer(b"".join(lots), ">u8").astype(np.uint64),
    }
    columns |= {name: table.column(name) for name in POSITION if name in table.column_names}
    return with_fractions(pa.table(columns), joint, tree)


def _bounds(tree: DecisionTree) -> tuple[list[str], list[str]]:
    return [f"{name}_low" for name in tree.columns], [f"{name}_high" for name in tree.columns]


def _measure(head: pa.Table, tree: DecisionTree, others: Sequence[Path | pa.Table]) -> tuple[str, Measure]:
    """Return what the information is measured by, and what measures it."""
    names = set(head.column_names)
    if others:
        wanted = columns_of(tree, tree.columns)
        held = [read_catalogue(one, wanted) if isinstance(one, Path) else one for one in others]
        return f"how far {1 + len(held)} catalogues are apart", partial(_apart, tree, held)
    if set(concentrations(tree)) <= names:
        return "the network's concentrations", partial(_by_concentrations, tree)
    if set(chain(*_bounds(tree))) <= names:
        coverage = float(metadata_of(head).get("interval_coverage", USUAL_COVERAGE))
        return f"intervals of {coverage:g}", partial(_by_bounds, tree, coverage)
    return (
        "the entropy of the predicted answers: how sure these point estimates are, nobody knows; a second "
        "network's catalogue, concentrations or intervals (predict --intervals) say it",
        lambda table, joint: answer_entropy(tree, joint),
    )


def _by_concentrations(tree: DecisionTree, table: pa.Table, joint: NDArray) -> NDArray:
    whole = concentrations_of(table, tree)
    return answer_entropy(tree, joint) if whole is None else dirichlet_information(tree, joint, whole)


def _by_bounds(tree: DecisionTree, coverage: float, table: pa.Table, joint: NDArray) -> NDArray:
    low, high = (
        np.stack([table.column(name).cast(pa.float64()).to_numpy() for name in names], axis=1)
        for names in _bounds(tree)
    )
    return dirichlet_information(tree, joint, concentration_of_bounds(tree, joint, low, high, coverage))


def _apart(tree: DecisionTree, others: Sequence[pa.Table], table: pa.Table, joint: NDArray) -> NDArray:
    """Return the information of several catalogues; NaN for a galaxy that one of them lacks."""
    members = [joint]
    for other in others:
        rows = rows_of(galaxy_ids(table), other.column(ID))
        values = np.full(joint.shape, np.nan)
        values[rows >= 0] = fractions(other, tree)[rows[rows >= 0]]
        members.append(values)
    return disagreement(tree, np.stack(members))
