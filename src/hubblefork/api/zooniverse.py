"""To volunteers on the Zooniverse: sets of subjects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubblefork.data.subjects import ALLOWANCE, Images, write_subjects
from hubblefork.errors import CatalogueError
from hubblefork.images.archives import place_of
from hubblefork.io import Progress, silent
from hubblefork.tables.catalogue import ID, catalogue_of
from hubblefork.tables.names import POSITION

if TYPE_CHECKING:
    from hubblefork.stats.ranking import Ranked

Place = str | PathLike[str]
SPARE = 100
"""Galaxies beyond those asked for, which stand in where an image cannot be used."""


@dataclass(frozen=True)
class SubjectSet:
    """A set of subjects: its folder, and the ids of its galaxies in their order, which is by `how`.

    `galaxies` is the number there was to choose from, `rejects` how many images could not be used.
    """

    path: Path
    subjects: list[str]
    galaxies: int
    rejects: int
    how: str
    notes: tuple[str, ...]


def subject_set(
    catalogue: Any,
    images: Place | Sequence[Place],
    out: Place,
    *,
    count: int = 1000,
    order: str = "information",
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress = silent,
) -> SubjectSet:
    """Write a set of subjects for the Zooniverse: `manifest.csv`, and a PNG of each galaxy, named by its id.

    `catalogue` is a file, a folder of shards or a table of astropy, pandas or pyarrow, or several of them.
    Of the galaxies of a catalogue of predictions that `images` (any source of images) show, the `count` first
    are taken: those of which one volunteer's classification would tell most, in bits, or, with `order`
    "random", a fair sample, which `seed` draws. How sure the predictions are, the catalogue says by its
    concentrations or intervals, or several catalogues by how far they are apart; of point estimates alone the
    order is by the entropy of the answers (`stats.ranking` has the formulas and their sources). The
    manifest has the fractions as `#ML_<answer>` and the bits as `#uncertainty`, which volunteers do not see.
    Called again after an interruption, it goes on. Raises CatalogueError, ImageError, BusyError, DiskError.

    >>> hf.subject_set("predictions.parquet", "cutouts/", "subjects/", count=2).subjects
    ['100008', '100023']
    """
    from hubblefork.stats.ranking import INFORMATION, RANDOM, ranked

    if order not in (INFORMATION, RANDOM) or count < 1:
        raise CatalogueError(
            f'{count} subjects in the order "{order}": at least 1 in the order {INFORMATION} or {RANDOM}'
        )
    several = isinstance(catalogue, Sequence) and not isinstance(catalogue, str)
    catalogues = [
        Path(one) if isinstance(one, str | PathLike) else catalogue_of(one)
        for one in (catalogue if several else [catalogue])
    ]
    places = [str(one) if isinstance(one, Path) else "a table in memory" for one in catalogues]
    sources = [images] if isinstance(images, str | PathLike) else list(images)
    with ExitStack() as stack:
        shown = Images([place_of(source) for source in sources], stack)
        most = count + max(SPARE, count // 10)
        first = ranked(catalogues, shown.of, most, order=order, seed=seed, progress=progress)
        notes = {"catalogues": places, "images": list(map(str, sources)), "order": first.how}
        written = write_subjects(
            _manifest(first),
            shown,
            Path(out),
            count=count,
            notes=notes,
            overwrite=overwrite,
            progress=progress,
        )
    said = {
        f"{first.without} galaxies of the catalogue have no image": first.without,
        f"{first.unknown} galaxies have no fractions on a question that they reach": first.unknown,
        f"{written.smaller} images were made smaller: Zooniverse takes 1 MiB": written.smaller,
        f"an account may upload {ALLOWANCE} subjects, more on request": len(written.subjects) > ALLOWANCE,
    }
    remarks = tuple(remark for remark, holds in said.items() if holds)
    return SubjectSet(Path(out), written.subjects, first.galaxies, len(written.rejects), first.how, remarks)


def _manifest(first: Ranked) -> dict[str, Mapping[str, str]]:
    """Return the columns of the manifest by id; a missing number is empty."""
    from hubblefork.stats.ranking import BITS

    numbers = {
        "#uncertainty": BITS,
        **{f"#{name}": name for name in POSITION if name in first.table.column_names},
    }
    numbers |= {f"#ML_{name}": name for name in first.tree.columns}
    rows = first.table.select([ID, *numbers.values()]).to_pylist()
    return {row[ID]: {title: _text(row[name]) for title, name in numbers.items()} for row in rows}


def _text(number: float | None) -> str:
    return "" if number is None or number != number else f"{number:.6g}"
