"""What concentrations say: how far volunteers' fractions may lie from those predicted.

A network with concentrations predicts, for each question, a Dirichlet distribution of the conditional
fractions: mean m and concentration κ, parameters m κ (Walmsley et al. 2022, MNRAS 509, 3966, section 4). The
fraction of one answer is then Beta(m κ, (1 - m) κ), and so are the answers of a question to which several may
be given.

Arrays have shape (galaxy, answer) in the order of the tree's columns; concentrations (galaxy, question).
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hubblefork.data.catalogue import concentrations, fractions
from hubblefork.errors import CatalogueError
from hubblefork.zoo import DecisionTree, to_conditional, to_joint
from hubblefork.zoo.votes import answering, votes_of_volunteers

DRAWS = 400
TOGETHER = 256
LEAST = 1e-9


def concentrations_of(table: pa.Table, tree: DecisionTree) -> NDArray[np.float64] | None:
    """Return the concentrations of a catalogue (galaxy, question); None where it has none."""
    names = concentrations(tree)
    if not set(names) <= set(table.column_names):
        return None
    return np.stack([table.column(name).cast(pa.float64()).to_numpy() for name in names], axis=1)


def credible_bounds(
    tree: DecisionTree, coverage: float, table: pa.Table
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return `joint_bounds` of the fractions of a catalogue. Raises CatalogueError without concentrations."""
    concentration = concentrations_of(table, tree)
    if concentration is None:
        raise CatalogueError(f"the catalogue has no concentrations ({concentrations(tree)[0]}, …)")
    return joint_bounds(tree, fractions(table, tree), concentration, coverage)


def joint_bounds(
    tree: DecisionTree,
    joint: NDArray,
    concentration: NDArray,
    coverage: float,
    *,
    volunteers: NDArray | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends of the central interval of each joint fraction, from 400 draws of each galaxy.

    Of the fraction itself, as infinitely many volunteers would give it; or, with `volunteers` (galaxy,
    question) who answer the roots, as so many would measure it. Raises CatalogueError for a coverage outside
    (0, 1).
    """
    if not 0 < coverage < 1:
        raise CatalogueError(f"a coverage of {coverage:g}: it lies between 0 and 1")
    rng, ends = np.random.default_rng(0), ((1 - coverage) / 2, (1 + coverage) / 2)
    mean = to_conditional(tree, joint)
    parts = []
    for start in range(0, len(joint), TOGETHER):
        rows = slice(start, start + TOGETHER)
        shares = _drawn(tree, mean[rows], concentration[rows], rng)
        if volunteers is None:
            drawn = to_joint(tree, shares)
        else:
            each = np.tile(volunteers[rows], (DRAWS, 1))
            drawn = votes_of_volunteers(tree, answering(tree, shares), each, rng).joint(tree)
        drawn = drawn.reshape(DRAWS, -1, len(tree.columns))
        parts.append(np.nanquantile(drawn, ends, axis=0))
    low, high = np.concatenate(parts, axis=1) if parts else np.empty((2, 0, len(tree.columns)))
    return low, high


def _drawn(
    tree: DecisionTree, mean: NDArray, concentration: NDArray, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return draws of the conditional fractions, (draw × galaxy, answer), galaxies of one draw together."""
    shares = np.empty((DRAWS, *mean.shape))
    for number, (question, answers) in enumerate(zip(tree.questions, tree.slices, strict=True)):
        inside = np.clip(np.nan_to_num(mean[:, answers], nan=0.5), LEAST, 1 - LEAST)
        alpha, other = (share * concentration[:, [number]] for share in (inside, 1 - inside))
        if question.exclusive:
            gammas = rng.standard_gamma(np.broadcast_to(alpha, (DRAWS, *alpha.shape))) + LEAST
            shares[:, :, answers] = gammas / gammas.sum(axis=2, keepdims=True)
        else:
            shares[:, :, answers] = rng.beta(alpha, other, (DRAWS, *alpha.shape))
    return shares.reshape(-1, mean.shape[1])
