"""Fractions to draw: predictions and votes of the same galaxies, some of which nobody was asked about."""

import numpy as np
import pytest

from hubblefork.zoo import to_joint


@pytest.fixture(scope="session")
def votes(tree):
    rng = np.random.default_rng(1)
    conditional = np.hstack([rng.dirichlet(np.ones(len(q.answers)), size=60) for q in tree.questions])
    joint = to_joint(tree, conditional)
    joint[:7, tree.slices[tree.questions.index(tree.question("odd_feature"))]] = np.nan
    return joint


@pytest.fixture(scope="session")
def predicted(votes):
    noise = np.random.default_rng(2).normal(0, 0.1, votes.shape)
    return np.clip(np.nan_to_num(votes, nan=0.2) + noise, 0, 1)
