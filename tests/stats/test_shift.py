"""Unfamiliar galaxies are found, familiar ones raise no alarm more often than they may."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from hubblefork.errors import CatalogueError
from hubblefork.stats.shift import compare, familiar


def test_the_score_is_the_distance_to_the_kth_nearest():
    rng = np.random.default_rng(0)
    training, others = rng.normal(2, 3, (60, 4)), rng.normal(0, 5, (7, 4))
    scaled = [(part - training.mean(axis=0)) / training.std(axis=0) for part in (others, training)]
    expected = np.sort(cdist(*scaled), axis=1)[:, 4] / np.sqrt(4)
    np.testing.assert_allclose(familiar(training, neighbours=5).distances(others), expected)


def test_features_without_scatter_do_no_harm():
    training = np.random.default_rng(1).normal(size=(50, 3))
    training[:, 1] = 7
    assert np.isfinite(familiar(training).distances(training)).all()


def test_alarms_are_rare_without_a_shift_and_sure_with_one():
    rng = np.random.default_rng(2)
    known = familiar(rng.normal(size=(500, 8)))
    alarms = [
        compare(
            known.distances(rng.normal(size=(200, 8))),
            known.distances(rng.normal(size=(200, 8))),
            chance=0.05,
        ).shifted
        for _ in range(60)
    ]
    assert np.mean(alarms) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 60)
    moved = compare(
        known.distances(rng.normal(0.8, 1, size=(200, 8))), known.distances(rng.normal(size=(200, 8)))
    )
    assert moved.shifted and moved.beyond > 0.2


def test_what_cannot_be_compared():
    with pytest.raises(CatalogueError, match="4 training galaxies"):
        familiar(np.zeros((4, 2)))
    with pytest.raises(CatalogueError, match="0 galaxies against 3"):
        compare(np.zeros(0), np.zeros(3))
