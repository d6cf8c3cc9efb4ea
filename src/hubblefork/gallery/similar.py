"""Similar and odd galaxies: neighbours, ranks by example, and a map, in the features of a catalogue's images.

    build(folder, ids, "images.zip", predictor)         # gallery/features.py
    rows, distances = FeatureIndex.open(folder).nearest(5, 60)

Two galaxies are as far apart as the angle between their features is wide (1 - cosine, from 0 to 2): of the
ways tried it finds most of the same kind (docs/log.md). Every galaxy is looked at: for a million in 64
dimensions that is one product of 256 MB with a vector. `unfamiliarity.npy` and `map.npy` lie beside the
features and are made when they are first asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from hubblefork.errors import CatalogueError, extras
from hubblefork.gallery.features import BLOCK, OF_THEM, Projection, read_array, read_features
from hubblefork.io import Progress, replacing, silent
from hubblefork.stats.samples import NEIGHBOURS, familiar

BACKGROUND, FAMILIAR, MAPPED = 2_000, 5_000, 20_000
NEAR, PLACED_BY, SLICE = 15, 5, 1_024
PENALTY, OTHERS = 0.03, 0.1
UNFAMILIARITY, MAP = OF_THEM

Neighbours = tuple[NDArray[np.intp], NDArray[np.float32]]


@dataclass(frozen=True)
class FeatureIndex:
    """The features of a catalogue's galaxies, memory-mapped float32 (galaxy, 64); NaN without an image."""

    folder: Path
    features: NDArray[np.float32]
    projection: Projection

    @classmethod
    def open(cls, folder: Path) -> FeatureIndex:
        """Open what `gallery.features.build` wrote. Raises CatalogueError for none, or damage."""
        return cls(folder, *read_features(folder))

    @cached_property
    def lengths(self) -> NDArray[np.float32]:
        """The length of each galaxy's features, shape (galaxy,); NaN without an image."""
        return np.sqrt(np.einsum("ij,ij->i", self.features, self.features))

    @cached_property
    def known(self) -> NDArray[np.bool_]:
        """Which galaxies have features, shape (galaxy,)."""
        return self.lengths > 0

    def cosines(self, vector: NDArray) -> NDArray[np.float32]:
        """Return the cosine of the angle between each galaxy's features and a vector (64,); NaN as there."""
        with np.errstate(invalid="ignore"):
            return self.features @ (vector / np.linalg.norm(vector)).astype(np.float32) / self.lengths

    def nearest(self, row: int, count: int, among: NDArray[np.bool_] | None = None) -> Neighbours:
        """Return the rows of the galaxies nearest to one, and their distances, the nearest first.

        The galaxy itself is left out, as are those not `among` (galaxy,). Every galaxy is looked at. Raises
        CatalogueError for a galaxy without features.
        """
        return self.nearest_to(self.vector(row), count, among, but=row)

    def nearest_to(
        self, vector: NDArray, count: int, among: NDArray[np.bool_] | None = None, *, but: int = -1
    ) -> Neighbours:
        """Return the same for features (64,), `projection(…)` of a network's; without the galaxy `but`."""
        cosines = self.cosines(vector)
        cosines[~(self.known if among is None else self.known & among)] = -np.inf
        if but >= 0:
            cosines[but] = -np.inf
        rows = largest(cosines, count)
        return rows, 1 - cosines[rows]

    def vector(self, row: int) -> NDArray[np.float32]:
        """Return the features (64,) of a galaxy. Raises CatalogueError where it has none."""
        if not 0 <= row < len(self.features) or not self.known[row]:
            raise CatalogueError(f"row {row} of the catalogue: there is no image of it among those indexed")
        return self.features[row]

    def ranked(self, wanted: NDArray[np.intp], others: NDArray[np.intp] | None = None) -> NDArray[np.float32]:
        """Return scores (galaxy,), the higher the more like the rows `wanted` and the less like `others`.

        A ridge regression on the directions of the features. Half of its weight is on `wanted`; the other
        half is on galaxies drawn from the catalogue, which are mostly of other kinds, and a tenth of all on
        `others` where there are some. NaN without features. Raises CatalogueError where none is wanted.
        """
        others = np.empty(0, np.intp) if others is None else np.asarray(others, np.intp)
        wanted, others = (rows[self.known[rows]] for rows in (np.asarray(wanted, np.intp), others))
        if not len(wanted):
            raise CatalogueError("no galaxy with an image is marked as wanted: mark some, five or more")
        drawn = np.setdiff1d(self._background, np.concatenate([wanted, others]))
        share = OTHERS if len(others) else 0.0
        parts = [(rows, part) for rows, part in ((wanted, 0.5), (others, share), (drawn, 0.5 - share))]
        rows = np.concatenate([rows for rows, _ in parts])
        weights = np.concatenate([np.full(len(rows), part / max(1, len(rows))) for rows, part in parts])
        directions = self.features[rows] / self.lengths[rows, None]
        with threadpool_limits(1):
            fitted = Ridge(alpha=PENALTY).fit(directions, np.arange(len(rows)) < len(wanted), weights)
        return self.cosines(fitted.coef_)

    @cached_property
    def _background(self) -> NDArray[np.intp]:
        return self._drawn(BACKGROUND)

    def _drawn(self, most: int) -> NDArray[np.intp]:
        rows = np.flatnonzero(self.known)
        return np.sort(np.random.default_rng(0).permutation(rows)[:most])

    def unfamiliarity(self, progress: Progress = silent) -> NDArray[np.float64]:
        """Return how far each galaxy is from others of the catalogue, (galaxy,); NaN without features.

        The distance to the 10th nearest of some thousand galaxies, as `stats.samples.familiar` has it to
        training galaxies. Raises DiskError.
        """
        path = self.folder / UNFAMILIARITY
        if not path.exists():
            drawn = self._drawn(FAMILIAR)
            others = familiar(self.features[drawn], neighbours=min(NEIGHBOURS + 1, len(drawn)))
            self._write(path, 1, others.distances, progress)
        return read_array(path)[:, 0]

    def map(self, progress: Progress = silent) -> NDArray[np.float64]:
        """Return the place of each galaxy on a map of the features, (galaxy, 2); NaN without features.

        UMAP (McInnes et al. 2018, arXiv:1802.03426) of at most 20,000 galaxies; each other one is at the
        median of the five that are nearest to it. Raises DiskError, and ExtraMissing without umap-learn.
        """
        path = self.folder / MAP
        if not path.exists():
            with extras("a map of galaxies"):
                from umap import UMAP

            drawn = self._drawn(MAPPED)
            directions = self.features[drawn] / self.lengths[drawn, None]
            near = min(NEAR, len(drawn) - 1)
            places = UMAP(n_neighbors=near, random_state=0, n_jobs=1).fit_transform(directions)
            nearest = NearestNeighbors(n_neighbors=min(PLACED_BY, len(drawn))).fit(directions)

            def placed(features: NDArray) -> NDArray:
                found = nearest.kneighbors(features / np.linalg.norm(features, axis=1, keepdims=True))[1]
                return np.asarray(np.median(places[found], axis=1))

            self._write(path, 2, placed, progress, dict(zip(drawn.tolist(), places, strict=True)))
        return read_array(path)

    def _write(
        self,
        path: Path,
        columns: int,
        work: Callable[[NDArray], NDArray],
        progress: Progress,
        known: dict[int, NDArray] | None = None,
    ) -> None:
        """Write what `work` makes of the features, (galaxy, column), but for rows whose values are known."""
        values = np.full((len(self.features), columns), np.nan)
        rows = np.flatnonzero(self.known)
        with progress(path.stem, len(rows)) as advance, threadpool_limits(1):
            for start in range(0, len(rows), BLOCK):
                some = rows[start : start + BLOCK]
                values[some] = np.reshape(work(self.features[some]), (len(some), columns))
                advance(len(some))
        for row, value in (known or {}).items():
            values[row] = value
        with replacing(path) as temporary:
            np.save(temporary, values)


def map_of(folder: Path) -> None:
    """Make the map of the features in a folder, as `FeatureIndex.map`; for a process of its own."""
    FeatureIndex.open(folder).map()


def largest(scores: NDArray, count: int) -> NDArray[np.intp]:
    """Return the rows of the largest of the scores above -inf, the largest first, at most `count`.

    As many slices have one such score at least as are asked for, so that only few rows are sorted.
    """
    tops = np.maximum.reduceat(scores, np.arange(0, len(scores), SLICE))
    bound = np.partition(tops, -count)[-count] if count <= len(tops) else -np.inf
    rows = np.flatnonzero(scores >= bound) if bound > -np.inf else np.flatnonzero(scores > -np.inf)
    return rows[np.argsort(-scores[rows], kind="stable")[:count]]
