"""A mock sky on disk, in Kaggle's own layout: it goes through every door that the real files go through.

images_training_rev1.zip      images_training_rev1/<GalaxyID>.jpg
training_solutions_rev1.zip   training_solutions_rev1.csv: GalaxyID, Class1.1 … Class11.6
images_test_rev1.zip          images without labels
truth.parquet                 what every galaxy is, and what volunteers said of it
"""

from __future__ import annotations

import io
import multiprocessing
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray
from PIL import Image

from hubblefork.data.catalogue import ID, with_fractions, write_catalogue
from hubblefork.data.threads import cores
from hubblefork.errors import CatalogueError
from hubblefork.io import Progress, replacing, silent
from hubblefork.mock.galaxies import draw_cutout, random_galaxy
from hubblefork.mock.volunteers import vote
from hubblefork.zoo import DecisionTree, load_tree

MERGER_FRACTION = 0.06
JPEG_QUALITY = 92
SMALLEST_ID, IDS = 100_000, 900_000
LONG_AGO = (2013, 12, 4, 0, 0, 0)
WORTH_A_PROCESS = 64


@dataclass(frozen=True)
class Mock:
    """One mock galaxy: its JPEG, its truth by name, its joint fractions (answer,)."""

    jpeg: bytes
    truth: dict[str, Any]
    joint: NDArray[np.float64]


def write_mock_sky(
    folder: Path,
    *,
    galaxies: int,
    seed: int,
    test_galaxies: int | None = None,
    merger_fraction: float = MERGER_FRACTION,
    seeing: float = 1.0,
    noise: float = 1.0,
    pixel: float = 1.0,
    processes: int | None = None,
    progress: Progress = silent,
) -> None:
    """Draw labelled galaxies and, by default a quarter as many, unlabelled ones, and write Kaggle's files.

    A galaxy depends on `seed`, its number and the dials alone, not on the number of processes. `seeing`,
    `noise` and `pixel` multiply the survey's. `truth.parquet` is written last. Raises CatalogueError for
    numbers that make no sky, DiskError.
    """
    unlabelled = galaxies // 4 if test_galaxies is None else test_galaxies
    _check(galaxies, unlabelled, merger_fraction, seed)
    if processes is not None and processes < 1:
        raise CatalogueError(f"{processes} processes: at least 1 draws the sky")
    tree, total = load_tree(), galaxies + unlabelled
    ids = np.random.default_rng([seed, IDS]).choice(IDS, total, replace=False) + SMALLEST_ID
    order = [*np.sort(ids[:galaxies]).tolist(), *np.sort(ids[galaxies:]).tolist()]
    draw = partial(draw_mock, seed, merger_fraction=merger_fraction, seeing=seeing, noise=noise, pixel=pixel)
    mocks: list[Mock] = []
    with _drawn(draw, total, processes) as drawn, progress("mock sky", total) as advance:
        for archive, part in (
            ("images_training_rev1", order[:galaxies]),
            ("images_test_rev1", order[galaxies:]),
        ):
            mocks += _write_images(folder / f"{archive}.zip", archive, part, drawn, advance)
    _write_solutions(folder, order[:galaxies], mocks[:galaxies], tree)
    _write_truth(folder / "truth.parquet", order, mocks, tree, galaxies)


def draw_mock(
    seed: int, number: int, *, merger_fraction: float, seeing: float, noise: float, pixel: float
) -> Mock:
    """Draw galaxy `number` of the sky of a seed, and ask volunteers about it.

    Volunteers see less through worse seeing and noise; of the size of the pixels they take no notice.
    """
    rng = np.random.default_rng([seed, number])
    galaxy = random_galaxy(rng, merger_fraction=merger_fraction)
    cutout = draw_cutout(galaxy, rng, seeing=seeing, noise=noise, pixel=pixel)
    joint, volunteers = vote(galaxy, load_tree(), rng, seeing=seeing, noise=noise)
    encoded = io.BytesIO()
    Image.fromarray(cutout).save(encoded, "JPEG", quality=JPEG_QUALITY)
    return Mock(encoded.getvalue(), {**asdict(galaxy), "volunteers": volunteers}, joint)


def _check(galaxies: int, unlabelled: int, merger_fraction: float, seed: int) -> None:
    if galaxies < 1 or unlabelled < 0 or galaxies + unlabelled > IDS:
        raise CatalogueError(
            f"a mock sky of {galaxies} labelled and {unlabelled} unlabelled galaxies: "
            f"at least 1 labelled and at most {IDS} in all"
        )
    if not 0 <= merger_fraction <= 1:
        raise CatalogueError(f"a merger fraction of {merger_fraction}: it lies from 0 to 1")
    if seed < 0:
        raise CatalogueError(f"seed = {seed}: a mock sky has a seed of at least 0")


@contextmanager
def _drawn(draw: partial[Mock], total: int, processes: int | None) -> Iterator[Iterator[Mock]]:
    workers = min(processes or cores(), -(-total // WORTH_A_PROCESS))
    if workers == 1:
        yield map(draw, range(total))
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield pool.imap(draw, range(total), chunksize=8)


def _write_images(
    path: Path, folder: str, ids: Sequence[int], drawn: Iterator[Mock], advance: Any
) -> list[Mock]:
    kept = []
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for galaxy_id in ids:
            mock = next(drawn)
            archive.writestr(zipfile.ZipInfo(f"{folder}/{galaxy_id}.jpg", LONG_AGO), mock.jpeg)
            kept.append(Mock(b"", mock.truth, mock.joint))
            advance(1)
    return kept


def _write_solutions(folder: Path, ids: Sequence[int], mocks: Sequence[Mock], tree: DecisionTree) -> None:
    table = with_fractions(pa.table({"GalaxyID": ids}), np.stack([mock.joint for mock in mocks]), tree)
    text = io.BytesIO()
    pa.csv.write_csv(table.rename_columns(["GalaxyID", *tree.source_columns]), text)
    name = "training_solutions_rev1"
    with replacing(folder / f"{name}.zip") as temporary, zipfile.ZipFile(temporary, "w") as archive:
        archive.writestr(zipfile.ZipInfo(f"{name}.csv", LONG_AGO), text.getvalue(), zipfile.ZIP_DEFLATED)


def _write_truth(
    path: Path, ids: Sequence[int], mocks: Sequence[Mock], tree: DecisionTree, labelled: int
) -> None:
    columns: dict[str, Any] = {ID: list(ids), "labelled": [number < labelled for number in range(len(ids))]}
    columns |= {name: [mock.truth[name] for mock in mocks] for name in mocks[0].truth}
    write_catalogue(with_fractions(pa.table(columns), np.stack([mock.joint for mock in mocks]), tree), path)
