"""A mock sky on disk, in a published layout: it goes through every door that the real files go through.

That of SDSS with Galaxy Zoo 2's tree has Kaggle's layout:

images_training_rev1.zip      images_training_rev1/<GalaxyID>.jpg
training_solutions_rev1.zip   training_solutions_rev1.csv: GalaxyID, Class1.1 … Class11.6
images_test_rev1.zip          images without labels
truth.parquet                 what every galaxy is, and what volunteers said of it

Others have cutouts in FITS (SDSS's are JPEGs) and counts of votes in columns as galaxy-datasets names them:

images_training/<id>.fits     an extension for each band
solutions.parquet             id_str, ra, dec, petro_r90, redshift, smooth-or-featured-euclid_smooth …
images_test/<id>.fits         images without labels
truth.parquet                 as above, with redshift, the fraction of disks that have a bar there, magnitudes
"""

from __future__ import annotations

import io
import multiprocessing
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray
from PIL import Image

from hubblefork.errors import CatalogueError
from hubblefork.images.surveys import Survey, load_survey
from hubblefork.io import Progress, cores, replacing, silent
from hubblefork.mock.cutouts import degraded, draw_bands, fits_cutout, place, visibility
from hubblefork.mock.galaxies import draw_cutout, random_galaxy
from hubblefork.mock.volunteers import Votes, scores_of, vote
from hubblefork.tables.catalogue import ID, with_fractions, write_catalogue
from hubblefork.tables.layouts import published_counts
from hubblefork.zoo import DecisionTree, load_tree

MERGER_FRACTION = 0.06
JPEG_QUALITY = 92
SMALLEST_ID, IDS = 100_000, 900_000
LONG_AGO = (2013, 12, 4, 0, 0, 0)
WORTH_A_PROCESS = 64
JPEGS = "sdss"


@dataclass(frozen=True)
class Mock:
    """One mock galaxy: the bytes of its image, its truth by name, the votes on it."""

    image: bytes
    truth: dict[str, Any]
    votes: Votes


def write_mock_sky(
    folder: Path,
    *,
    galaxies: int,
    seed: int,
    test_galaxies: int | None = None,
    merger_fraction: float = MERGER_FRACTION,
    survey: str = JPEGS,
    tree: str | None = None,
    volunteers: int | None = None,
    seeing: float = 1.0,
    noise: float = 1.0,
    pixel: float = 1.0,
    processes: int | None = None,
    progress: Progress = silent,
) -> None:
    """Draw labelled galaxies and, by default a quarter as many, unlabelled ones, and write their files.

    The tree is the survey's unless another is named. A galaxy depends on `seed`, its number and the dials
    alone, not on the number of processes. `volunteers` look at a galaxy on average. `seeing`, `noise` and
    `pixel` multiply the survey's. `truth.parquet` is written last. Raises CatalogueError for numbers that
    make no sky and a tree that volunteers cannot answer or no table holds, RecipeError for an unknown survey,
    TreeError, DiskError.
    """
    unlabelled = galaxies // 4 if test_galaxies is None else test_galaxies
    _check(galaxies, unlabelled, merger_fraction, seed, volunteers)
    if processes is not None and processes < 1:
        raise CatalogueError(f"{processes} processes: at least 1 draws the sky")
    seen = load_survey(survey)
    questions, total = load_tree(tree or seen.tree), galaxies + unlabelled
    scores_of(questions)
    how: dict[str, Any] = {"merger_fraction": merger_fraction, "volunteers": volunteers}
    how |= {"seeing": seeing, "noise": noise, "pixel": pixel}
    if kaggles := seen.name == JPEGS and not questions.suffixes:
        draw = partial(draw_mock, seed, **how)
    else:
        _check_votes(questions)
        draw = partial(draw_observed, seed, survey=seen, tree=questions, **how)
    ids = np.random.default_rng([seed, IDS]).choice(IDS, total, replace=False) + SMALLEST_ID
    order = [*np.sort(ids[:galaxies]).tolist(), *np.sort(ids[galaxies:]).tolist()]
    parts = {"training": order[:galaxies], "test": order[galaxies:]}
    mocks: list[Mock] = []
    with _drawn(draw, total, processes) as drawn, progress("mock sky", total) as advance:
        for name, part in parts.items():
            if kaggles:
                mocks += _write_archive(folder, f"images_{name}_rev1", part, drawn, advance)
            else:
                ending = "jpg" if seen.name == JPEGS else "fits"
                mocks += _write_images(folder / f"images_{name}", ending, part, drawn, advance)
    write_labels = _write_solutions if kaggles else _write_counts
    write_labels(folder, parts["training"], mocks[:galaxies], questions)
    _write_truth(folder / "truth.parquet", order, mocks, questions, galaxies)


def draw_mock(
    seed: int,
    number: int,
    *,
    merger_fraction: float,
    volunteers: int | None = None,
    seeing: float = 1.0,
    noise: float = 1.0,
    pixel: float = 1.0,
) -> Mock:
    """Draw galaxy `number` of the sky of a seed as Galaxy Zoo 2 shows it, and ask volunteers about it.

    Volunteers see less through worse seeing and noise; of the size of the pixels they take no notice.
    """
    rng = np.random.default_rng([seed, number])
    galaxy = random_galaxy(rng, merger_fraction=merger_fraction)
    cutout = draw_cutout(galaxy, rng, seeing=seeing, noise=noise, pixel=pixel)
    votes = vote(galaxy, load_tree(), rng, seeing=seeing, noise=noise, volunteers=volunteers)
    return Mock(_jpeg(cutout), {**asdict(galaxy), "volunteers": votes.volunteers}, votes)


def draw_observed(
    seed: int,
    number: int,
    *,
    survey: Survey,
    tree: DecisionTree,
    merger_fraction: float,
    volunteers: int | None = None,
    **dials: float,
) -> Mock:
    """Draw galaxy `number` of the sky of a seed as a survey sees it, and ask volunteers a tree's questions.

    `dials` are `seeing`, `noise` and `pixel`.
    """
    survey = degraded(survey, **dials)
    rng = np.random.default_rng([seed, number])
    placed = place(survey, rng, merger_fraction=merger_fraction)
    ra, dec = float(rng.uniform(0, 360)), float(np.degrees(np.arcsin(rng.uniform(-1, 1))))
    truth = {"ra": ra, "dec": dec, "redshift": placed.redshift, "bar_fraction": placed.bar_fraction}
    votes = vote(placed.galaxy, tree, rng, **visibility(placed.galaxy, survey), volunteers=volunteers)
    if survey.name == JPEGS:
        image = _jpeg(draw_cutout(placed.galaxy, rng, **dials))
    else:
        counts, magnitudes = draw_bands(placed, survey, rng)
        image = fits_cutout(counts, survey, ra=ra, dec=dec)
        known = [float(magnitude) if np.isfinite(magnitude) else None for magnitude in magnitudes]
        truth |= {f"mag_{band}": magnitude for band, magnitude in zip(survey.bands, known, strict=True)}
    return Mock(image, {**asdict(placed.galaxy), **truth, "volunteers": votes.volunteers}, votes)


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "JPEG", quality=JPEG_QUALITY)
    return encoded.getvalue()


def _check(galaxies: int, unlabelled: int, merger_fraction: float, seed: int, volunteers: int | None) -> None:
    if galaxies < 1 or unlabelled < 0 or galaxies + unlabelled > IDS:
        raise CatalogueError(
            f"a mock sky of {galaxies} labelled and {unlabelled} unlabelled galaxies: "
            f"at least 1 labelled and at most {IDS} in all"
        )
    if not 0 <= merger_fraction <= 1:
        raise CatalogueError(f"a merger fraction of {merger_fraction}: it lies from 0 to 1")
    if seed < 0:
        raise CatalogueError(f"seed = {seed}: a mock sky has a seed of at least 0")
    if volunteers is not None and volunteers < 1:
        raise CatalogueError(f"{volunteers} volunteers: at least 1 looks at a galaxy")


def _check_votes(tree: DecisionTree) -> None:
    if not tree.suffixes:
        raise CatalogueError(
            f"tree {tree.name}: no published table has its counts of votes (it has no suffixes); "
            "a mock sky has it in Kaggle's layout only, of sdss"
        )


@contextmanager
def _drawn(draw: Callable[[int], Mock], total: int, processes: int | None) -> Iterator[Iterator[Mock]]:
    workers = min(processes or cores(), -(-total // WORTH_A_PROCESS))
    if workers == 1:
        yield map(draw, range(total))
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield pool.imap(draw, range(total), chunksize=8)


def _write_archive(
    folder: Path, name: str, ids: Sequence[int], drawn: Iterator[Mock], advance: Any
) -> list[Mock]:
    kept = []
    with (
        replacing(folder / f"{name}.zip") as temporary,
        zipfile.ZipFile(temporary, "w") as archive,
    ):
        for galaxy_id in ids:
            mock = next(drawn)
            archive.writestr(zipfile.ZipInfo(f"{name}/{galaxy_id}.jpg", LONG_AGO), mock.image)
            kept.append(replace(mock, image=b""))
            advance(1)
    return kept


def _write_images(
    folder: Path, ending: str, ids: Sequence[int], drawn: Iterator[Mock], advance: Any
) -> list[Mock]:
    kept = []
    for galaxy_id in ids:
        mock = next(drawn)
        with replacing(folder / f"{galaxy_id}.{ending}") as temporary:
            temporary.write_bytes(mock.image)
        kept.append(replace(mock, image=b""))
        advance(1)
    return kept


def _joint(mocks: Sequence[Mock], tree: DecisionTree) -> NDArray[np.float64]:
    return np.stack([mock.votes.joint(tree) for mock in mocks])


def _write_solutions(folder: Path, ids: Sequence[int], mocks: Sequence[Mock], tree: DecisionTree) -> None:
    table = with_fractions(pa.table({"GalaxyID": ids}), _joint(mocks, tree), tree)
    text = io.BytesIO()
    pa.csv.write_csv(table.rename_columns(["GalaxyID", *tree.source_columns]), text)
    name = "training_solutions_rev1"
    with replacing(folder / f"{name}.zip") as temporary, zipfile.ZipFile(temporary, "w") as archive:
        archive.writestr(zipfile.ZipInfo(f"{name}.csv", LONG_AGO), text.getvalue(), zipfile.ZIP_DEFLATED)


def _write_counts(folder: Path, ids: Sequence[int], mocks: Sequence[Mock], tree: DecisionTree) -> None:
    columns: dict[str, Any] = {"id_str": [str(galaxy_id) for galaxy_id in ids]}
    columns |= {name: [mock.truth[name] for mock in mocks] for name in ("ra", "dec", "petro_r90")}
    columns["redshift"] = pa.array([mock.truth["redshift"] for mock in mocks], pa.float64())
    counts = np.stack([mock.votes.counts for mock in mocks])
    asked = np.stack([mock.votes.asked for mock in mocks])
    columns |= published_counts(tree, counts, asked)
    with replacing(folder / "solutions.parquet") as temporary:
        pa.parquet.write_table(pa.table(columns), temporary)


def _write_truth(
    path: Path, ids: Sequence[int], mocks: Sequence[Mock], tree: DecisionTree, labelled: int
) -> None:
    columns: dict[str, Any] = {ID: list(ids), "labelled": [number < labelled for number in range(len(ids))]}
    columns |= {name: [mock.truth[name] for mock in mocks] for name in mocks[0].truth}
    write_catalogue(with_fractions(pa.table(columns), _joint(mocks, tree), tree), path)
