"""Distilling: what trained networks say of the training galaxies becomes part of their labels.

One network that learns from the mean of several keeps most of what the mean is better by (Hinton et al. 2015,
arXiv:1503.02531): forty votes are a noisy fraction, the networks' opinion a smoother one, and it answers the
questions that nobody was asked. Galaxies that choose or judge keep the volunteers' labels, and no others; the
mean vote that a run on such data is compared with is that of the mixed labels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hubblefork.errors import CatalogueError, RunError
from hubblefork.network import runs
from hubblefork.network.predict import Predictor, in_batches
from hubblefork.progress import Progress, silent
from hubblefork.sky.catalogue import (
    fractions,
    galaxy_ids,
    metadata_of,
    read_catalogue,
    with_fractions,
    with_metadata,
    write_catalogue,
)
from hubblefork.sky.split import TRAIN, read_split, write_split
from hubblefork.stamps.preprocess import prepare
from hubblefork.zoo import DecisionTree, read_tree, write_tree

VIEWS, WEIGHT = 8, 0.5


@dataclass(frozen=True)
class Distilled:
    """What came of it: galaxies whose labels were mixed, were completed, and that had no label before."""

    mixed: int
    completed: int
    unlabelled: int


def distil(
    data: Path,
    teachers: Sequence[Path],
    out: Path,
    *,
    weight: float = WEIGHT,
    views: int = VIEWS,
    device: str = "",
    progress: Progress = silent,
) -> Distilled:
    """Write a data folder whose training galaxies have labels of volunteers and of runs, the `teachers`.

    A known fraction becomes (1 - weight) × the volunteers' + weight × the teachers' mean over `views` of the
    galaxy, an unknown one the teachers' alone. Raises RunError for teachers of another split than the data
    (they may have seen the galaxies that judge), of another tree, or a weight outside 0 to 1, CatalogueError
    for an `out` that holds other data.
    """
    if not 0 < weight <= 1:
        raise RunError(f"weight = {weight}: the teachers' part of a label, above 0 and at most 1")
    catalogue, tree, split = read_catalogue(data / "catalogue.parquet"), read_tree(data), read_split(data)
    for teacher in teachers:
        _check_teacher(teacher, data, tree)
    members = [runs.load_weights(teacher) for teacher in teachers]
    digests = [member.digest for member in members]
    origin = json.dumps({"data": str(data.resolve()), "teachers": digests, "weight": weight, "views": views})
    _check_out(out, origin)
    rows = np.flatnonzero(split.assign(galaxy_ids(catalogue).tolist()) == TRAIN)
    pixels = prepare(data, members[0].recipe.stamps, progress=progress).pixels
    predictor = Predictor(*members, device=device, views=views)
    taught = in_batches(predictor, pixels, rows, "asking the teachers", progress)
    labels = fractions(catalogue, tree)
    found = _counted(labels[rows])
    labels[rows] = mixed(labels[rows], taught, weight)
    write_split(split, out)
    write_tree(tree, out)
    write_catalogue(
        with_metadata(with_fractions(catalogue, labels, tree), {"distilled": origin}),
        out / "catalogue.parquet",
    )
    return found


def mixed(labels: NDArray, taught: NDArray, weight: float) -> NDArray[np.float64]:
    """Return labels (galaxy, answer) with the teachers' part; where NaN, the teachers' alone."""
    return np.where(np.isnan(labels), taught, (1 - weight) * labels + weight * taught)


def _check_teacher(teacher: Path, data: Path, tree: DecisionTree) -> None:
    """Raise RunError for a run that may have learned from galaxies which judge, or answers something else."""
    if not (teacher / "run.toml").exists():
        raise RunError(f"{teacher}: not a run folder; a teacher's split must be known, so give its whole run")
    if read_split(teacher) != read_split(data):
        raise RunError(
            f"{teacher} was trained with {read_split(teacher)}, {data} has {read_split(data)}: what it "
            "learned may be what others are judged on; train it on the same split"
        )
    if read_tree(teacher) != tree:
        raise RunError(f"{teacher} answers {read_tree(teacher).name}, {data} has labels of {tree.name}")


def _check_out(out: Path, origin: str) -> None:
    path = out / "catalogue.parquet"
    if path.exists() and metadata_of(read_catalogue(path)).get("distilled") != origin:
        raise CatalogueError(f"{path} holds other data; choose another --out, or remove the folder")


def _counted(labels: NDArray) -> Distilled:
    unknown = np.isnan(labels)
    none = unknown.all(axis=1)
    partly = unknown.any(axis=1) & ~none
    return Distilled(int((~none).sum()), int(partly.sum()), int(none.sum()))
