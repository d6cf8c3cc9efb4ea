"""What costs nothing: predictions that a network must beat.

Arrays of fractions have shape (galaxy, answer), colours of the centre (galaxy, 3), red, green and
blue. NaN means that nobody was asked; means are taken over the galaxies that have a label.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from hubblefork.errors import CatalogueError

CENTRE = ("centre_red", "centre_green", "centre_blue")
CLUSTERS = 6


def mean_vote(votes: NDArray, galaxies: int) -> NDArray[np.float64]:
    """Return the mean of each answer over the training galaxies that have it, the same for every galaxy.

    NaN for an answer that no training galaxy has. Raises CatalogueError for no training galaxies.
    """
    _check_training(votes)
    return np.tile(_means(votes), (galaxies, 1))


def central_pixel(
    train_colours: NDArray, train_votes: NDArray, colours: NDArray, *, seed: int, clusters: int = CLUSTERS
) -> NDArray[np.float64]:
    """Predict the mean votes of the training galaxies whose centre has a similar colour.

    The colour is the mean of the central 10 × 10 pixels, as `ingest` notes it. Similar: of the same
    k-means cluster (scikit-learn's KMeans, the best of 10 starts). Six clusters, as Kaggle's "central
    pixel benchmark" has six sets of values. Fewer where the training galaxies have fewer colours. An
    answer that nobody in the cluster has gets the mean vote.
    Raises CatalogueError for no training galaxies.
    """
    _check_training(train_votes)
    distinct = len(np.unique(train_colours, axis=0))
    with threadpool_limits(1):
        kmeans = KMeans(min(clusters, distinct), n_init=10, random_state=seed).fit(
            train_colours.astype(float)
        )
        groups = kmeans.predict(colours.astype(float))
    return _means_of_groups(kmeans.labels_, train_votes, groups)


def kaggle_central_pixel(
    train_colours: NDArray, train_votes: NDArray, colours: NDArray
) -> NDArray[np.float64]:
    """Predict the mean votes of the training galaxies whose centre has the same hue, as Kaggle did.

    Kaggle's own file was not made by k-means but by `hue`; its program is public (J. Noah-Vanhoucke,
    GalaxyZooChallenge, CentralPixelBenchmark.go). It took the mean colour of the central 10 × 10
    pixels, and left Class11.6 at 0 by an oversight that is not repeated here. A hue or an answer that
    the training galaxies lack gets the mean vote. Raises CatalogueError for no training galaxies.
    """
    _check_training(train_votes)
    return _means_of_groups(_hue_number(train_colours), train_votes, _hue_number(colours))


def hue(colours: NDArray) -> NDArray[np.int64]:
    """Return how many times the mean brightness fits into each band, shape (galaxy, 3): 0, 1, 2 or 3.

    (1, 1, 0) is a galaxy whose red and green are at least as bright as its mean, its blue is not.
    """
    total = colours.sum(axis=1, keepdims=True, dtype=float)
    return np.floor_divide(3.0 * colours, np.where(total > 0, total, 1)).astype(int)


def centre_colours(catalogue: pa.Table) -> NDArray[np.float64] | None:
    """Return the colours of the centres, shape (galaxy, 3); None for a catalogue without these columns.

    Raises CatalogueError when only some of the columns are there or a galaxy has no colour.
    """
    there = [name for name in CENTRE if name in catalogue.column_names]
    if not there:
        return None
    if len(there) < len(CENTRE):
        missing = ", ".join(name for name in CENTRE if name not in there)
        raise CatalogueError(f"the catalogue has {', '.join(there)} but no {missing}; ingest the images anew")
    nulls = sum(catalogue.column(name).null_count for name in CENTRE)
    if nulls:
        raise CatalogueError(f"{nulls} centre colours are missing in the catalogue; ingest the images anew")
    return np.stack([catalogue.column(name).cast(pa.float64()).to_numpy() for name in CENTRE], axis=1)


def _check_training(votes: NDArray) -> None:
    if not len(votes):
        raise CatalogueError("a baseline of no training galaxies: give at least one with labels")


def _hue_number(colours: NDArray) -> NDArray[np.int64]:
    return hue(colours) @ np.array([16, 4, 1])


def _means_of_groups(train_groups: NDArray, votes: NDArray, groups: NDArray) -> NDArray[np.float64]:
    overall = _means(votes)
    predicted = np.tile(overall, (len(groups), 1))
    for group in np.unique(groups):
        means = _means(votes[train_groups == group])
        predicted[groups == group] = np.where(np.isnan(means), overall, means)
    return predicted


def _means(votes: NDArray) -> NDArray[np.float64]:
    counts = np.count_nonzero(~np.isnan(votes), axis=0)
    return np.divide(np.nansum(votes, axis=0), counts, out=np.full(votes.shape[1], np.nan), where=counts > 0)
