"""The features of a catalogue's images: what a network makes of them just before its answers.

    folder/index.json        which network and which galaxies the folder is of
    folder/projection.npz    mean and principal components of the features, the share of variance they hold
    folder/blocks/*.npz      rows and features of images that are done, until all are
    folder/features.npy      float32 (galaxy, 64), row i of the catalogue; NaN where there is no image

Each file is whole or absent; what is killed goes on after the last block.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits

from hubblefork.errors import CatalogueError
from hubblefork.io import Progress, alone_in, read_json, replacing, silent, write_text
from hubblefork.prediction.loop import Images, image_sets, none_readable, predictions
from hubblefork.prediction.predictor import Predictor
from hubblefork.tables.catalogue import rows_of
from hubblefork.tables.names import galaxy_id_of

DIMENSIONS, FEWEST, LEARNED_ON, BLOCK = 64, 20, 5_000, 4_096
DESCRIPTION, PROJECTION, BLOCKS, FEATURES = "index.json", "projection.npz", "blocks", "features.npy"
OF_THEM = ("unfamiliarity.npy", "map.npy")
"""What others make of the features in the same folder; removed with them."""


@dataclass(frozen=True)
class Projection:
    """The principal components of a network's features: `mean` (feature,), `components` (64, feature).

    `explained` is the share of the variance of single galaxies that they hold.
    """

    mean: NDArray[np.float32]
    components: NDArray[np.float32]
    explained: float

    def __call__(self, values: NDArray) -> NDArray[np.float32]:
        """Return a network's features (galaxy, feature) as (galaxy, 64)."""
        projected: NDArray[np.float32] = (values - self.mean) @ self.components.T
        return projected


def features_of(predictor: Predictor, projection: Projection, image: bytes) -> NDArray[np.float32]:
    """Return the features (64,) of one encoded image; `predictor` gives features. Raises ImageError."""
    batches = list(predictions(predictor, image))
    values = [batch.fractions for batch in batches if batch.names]
    if not values:
        raise none_readable(image, [reject for batch in batches for reject in batch.rejects])
    return projection(values[0])[0]


def build(
    folder: Path,
    ids: NDArray | pa.ChunkedArray,
    images: Images,
    predictor: Predictor,
    progress: Progress = silent,
) -> None:
    """Make the features of the galaxies with these ids (galaxy,), unless they are there.

    An image is that of the galaxy whose id is its name. `predictor` gives features (`open_network(…,
    features=True)`). Interrupted in any way, the next call goes on; what was made by another network or of
    other galaxies is made anew. Raises ImageError, CatalogueError where fewer than 20 galaxies have images,
    BusyError, DiskError.
    """
    with alone_in(folder, "looking at these galaxies"):
        _begin(folder, description(ids, " ".join(each.trained.digest for each in predictor.networks)))
        if not (folder / FEATURES).exists():
            work = _Work(folder, ids, images, predictor)
            work.learn(progress)
            work.finish(progress)


def is_built(folder: Path, ids: NDArray | pa.ChunkedArray, weights: str) -> bool:
    """Say whether the features of these galaxies by the network of that digest are there, whole."""
    return (folder / FEATURES).exists() and _noted(folder) == description(ids, weights)


def description(ids: NDArray | pa.ChunkedArray, weights: str) -> dict[str, Any]:
    """Return what the folder of the features of these galaxies by that network says of itself."""
    seen = hashlib.sha256()
    for start in range(0, len(ids), BLOCK):
        some = ids[start : start + BLOCK]
        texts = map(str, some.to_pylist() if isinstance(some, pa.ChunkedArray) else some.tolist())
        seen.update(("\n" * bool(start) + "\n".join(texts)).encode())
    return {
        "weights": weights,
        "catalogue": seen.hexdigest(),
        "galaxies": len(ids),
        "dimensions": DIMENSIONS,
    }


def _noted(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    return read_json(path, CatalogueError, f"delete the folder {folder}") if path.exists() else {}


def _begin(folder: Path, wanted: dict[str, Any]) -> None:
    """Remove what is of other galaxies or of another network, and say what the folder is of."""
    if _noted(folder) == wanted:
        return
    (folder / DESCRIPTION).unlink(missing_ok=True)
    for name in (FEATURES, PROJECTION, *OF_THEM):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / BLOCKS, ignore_errors=True)
    write_text(folder / DESCRIPTION, json.dumps(wanted, indent=1))


@dataclass(frozen=True)
class _Work:
    folder: Path
    ids: NDArray | pa.ChunkedArray
    images: Images
    predictor: Predictor

    def learn(self, progress: Progress) -> None:
        """Learn the principal components from some of the images; their features are a block."""
        if (self.folder / PROJECTION).exists():
            return
        rows = np.concatenate([np.empty(0, np.int64), *(rows for _, rows in self._sources())])
        rows = np.unique(rows[rows >= 0])
        if len(rows) < FEWEST:
            raise CatalogueError(
                f"{self._origin}: {len(rows)} images are of galaxies of the catalogue, by their names; "
                f"similar ones are found among {FEWEST} or more"
            )
        drawn = np.random.default_rng(0).permutation(rows)[:LEARNED_ON]
        sample = np.zeros(len(self.ids), dtype=bool)
        sample[drawn] = True
        made = list(self._made(sample, "features of a sample", progress))
        if sum(len(some) for some, _ in made) < FEWEST:
            raise CatalogueError(f"{self._origin}: of {len(drawn)} images fewer than {FEWEST} could be read")
        rows, values = (np.concatenate(part) for part in zip(*made, strict=True))
        projection = _learned(values)
        _save(self.folder / BLOCKS / f"{0:06}.npz", rows=rows, values=projection(values))
        arrays = {"mean": projection.mean, "components": projection.components}
        _save(self.folder / PROJECTION, **arrays, explained=np.array(projection.explained))

    def finish(self, progress: Progress) -> None:
        """Make the features of all other images, block by block, and write all in one file."""
        projection = _projection(self.folder / PROJECTION)
        blocks = sorted((self.folder / BLOCKS).glob("[0-9]*.npz"))
        wanted = np.ones(len(self.ids), dtype=bool)
        for path in blocks:
            wanted[_arrays(path)["rows"]] = False
        number = int(blocks[-1].stem) if blocks else 0
        for rows, values in self._made(wanted, "features", progress):
            number += 1
            blocks.append(self.folder / BLOCKS / f"{number:06}.npz")
            _save(blocks[-1], rows=rows, values=projection(values))
        with replacing(self.folder / FEATURES) as temporary:
            shape = (len(self.ids), DIMENSIONS)
            features = np.lib.format.open_memmap(temporary, "w+", np.float32, shape)
            features[:] = np.nan
            for path in blocks:
                block = _arrays(path)
                features[block["rows"]] = block["values"]
            features.flush()
        shutil.rmtree(self.folder / BLOCKS, ignore_errors=True)

    @property
    def _origin(self) -> str:
        return "images in memory" if isinstance(self.images, bytes | np.ndarray) else str(self.images)

    def _sources(self) -> Iterator[tuple[Any, NDArray[np.int64]]]:
        """Yield each source of images, open, with the row of each of its images; -1 for other galaxies."""
        for closed in image_sets(self.predictor, self.images):
            with closed as source:
                yield source, rows_of(np.array([galaxy_id_of(n) for n in source.versions], object), self.ids)

    def _made(
        self, wanted: NDArray[np.bool_], what: str, progress: Progress
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Yield rows and network's features of the first images of `wanted` galaxies, a block at a time.

        Images that cannot be used are left out.
        """
        left = wanted.copy()
        with progress(what, int(wanted.sum())) as advance:
            for source, rows in self._sources():
                first = np.zeros(len(rows), dtype=bool)
                first[np.unique(rows, return_index=True)[1]] = True
                chosen = first & (rows >= 0) & left[rows]
                row_of = dict(zip(np.array([*source.versions], object)[chosen], rows[chosen], strict=True))
                left[rows[chosen]] = False
                made, values = list[int](), list[NDArray[np.float32]]()
                for batch in source.predict(list(row_of)):
                    advance(len(batch.names) + len(batch.rejects))
                    made += [row_of[name] for name in batch.names]
                    values += [batch.fractions] if batch.names else []
                    if len(made) >= BLOCK:
                        yield np.array(made), np.concatenate(values)
                        made, values = [], []
                if made:
                    yield np.array(made), np.concatenate(values)


def _learned(values: NDArray[np.float32]) -> Projection:
    count = min(DIMENSIONS, *values.shape)
    with threadpool_limits(1):
        fitted = PCA(count, svd_solver="covariance_eigh").fit(values.astype(np.float64))
    components = np.zeros((DIMENSIONS, values.shape[1]), np.float32)
    components[:count] = fitted.components_
    return Projection(
        fitted.mean_.astype(np.float32), components, float(fitted.explained_variance_ratio_.sum())
    )


# Files


def _save(path: Path, **arrays: NDArray) -> None:
    with replacing(path) as temporary:
        np.savez(temporary, allow_pickle=False, **arrays)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, EOFError, KeyError, BadZipFile) as error:
        raise CatalogueError(
            f"{path} cannot be read: {error}; delete the folder {path.parent}, it is made anew"
        ) from error


def read_features(folder: Path) -> tuple[NDArray[np.float32], Projection]:
    """Return the features that `build` wrote, memory-mapped. Raises CatalogueError for none, or damage."""
    if not (folder / FEATURES).exists():
        raise CatalogueError(f"{folder}: there are no features of these galaxies; build them first")
    return read_array(folder / FEATURES), _projection(folder / PROJECTION)


def read_array(path: Path) -> NDArray:
    """Return an array of the folder, memory-mapped. Raises CatalogueError."""
    with _named(path):
        return np.load(path, mmap_mode="r", allow_pickle=False)


def _arrays(path: Path) -> dict[str, NDArray]:
    with _named(path), np.load(path, allow_pickle=False) as file:
        return dict(file)


def _projection(path: Path) -> Projection:
    arrays = _arrays(path)
    with _named(path):
        return Projection(arrays["mean"], arrays["components"], float(arrays["explained"]))
