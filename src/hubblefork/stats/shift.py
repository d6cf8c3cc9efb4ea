"""Domain shift: are the galaxies of a survey like those that the network learned from?

What the network makes of a galaxy just before its answers, its features, is compared with the training
galaxies. The score of a galaxy is its distance to its k-th nearest training galaxy (Sun et al. 2022, ICML,
arXiv:2204.06507), large where the network has seen nothing alike. A survey is held against galaxies of the
training survey that were not trained on, by a two-sample Kolmogorov–Smirnov test.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from hubblefork.errors import CatalogueError

NEIGHBOURS = 10
CHANCE = 1e-3


@dataclass(frozen=True)
class Familiar:
    """The training galaxies' features, standardised; `distances` says how far others are from them."""

    scaler: StandardScaler
    neighbours: NearestNeighbors

    def distances(self, features: NDArray) -> NDArray[np.float64]:
        """Return the distance of each galaxy to its k-th nearest training galaxy, shape (galaxy,).

        `features` has shape (galaxy, feature). Divided by the root of the number of features.
        """
        with threadpool_limits(1):
            found, _ = self.neighbours.kneighbors(self.scaler.transform(features))
        return found[:, -1] / np.sqrt(features.shape[1])


@dataclass(frozen=True)
class Comparison:
    """Scores of a survey beside those of held-out galaxies of the training survey.

    `distance` is the largest difference of the two distributions (Kolmogorov–Smirnov), `p_value` the chance
    of one as large without a shift, `beyond` the share of the survey's galaxies above the 95th percentile of
    the held-out ones (0.05 without a shift). `shifted` when the chance is under `chance`.
    """

    distance: float
    p_value: float
    beyond: float
    galaxies: int
    held_out: int
    chance: float = CHANCE

    @property
    def shifted(self) -> bool:
        """Whether the survey is unlike the training survey."""
        return self.p_value < self.chance


def familiar(features: NDArray, *, neighbours: int = NEIGHBOURS) -> Familiar:
    """Learn which features are familiar from training galaxies, shape (galaxy, feature).

    Features that no training galaxy has (constant ones) keep their scale. Raises CatalogueError for fewer
    galaxies than neighbours.
    """
    if len(features) < neighbours:
        raise CatalogueError(
            f"{len(features)} training galaxies: the distance to the {neighbours}th nearest needs more"
        )
    scaler = StandardScaler().fit(features)
    return Familiar(scaler, NearestNeighbors(n_neighbors=neighbours).fit(scaler.transform(features)))


def compare(survey: NDArray, held_out: NDArray, *, chance: float = CHANCE) -> Comparison:
    """Compare the scores of a survey with those of held-out galaxies, both (galaxy,).

    Raises CatalogueError when either is empty.
    """
    if not len(survey) or not len(held_out):
        raise CatalogueError(f"{len(survey)} galaxies against {len(held_out)}: give at least one of each")
    found = stats.ks_2samp(survey, held_out)
    beyond = float(np.mean(survey > np.quantile(held_out, 0.95)))
    return Comparison(float(found.statistic), float(found.pvalue), beyond, len(survey), len(held_out), chance)
