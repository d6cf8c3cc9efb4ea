"""Compare a survey with the training survey of a network, by the features of their galaxies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hubblefork.data.folders import DataFolder, RunFolder
from hubblefork.data.split import TRAIN, VALIDATION
from hubblefork.io import Progress, silent
from hubblefork.prediction.runs import features_of_images, features_of_part
from hubblefork.stats.samples import Comparison, Familiar, compare, familiar
from hubblefork.tables.catalogue import ID, with_metadata, write_catalogue


@dataclass(frozen=True)
class Reference:
    """The features of a run's training galaxies, and the scores of its validation galaxies."""

    run: Path
    training: Familiar
    held_out: NDArray[np.float64]


def reference(run: Path, *, device: str = "", progress: Progress = silent) -> Reference:
    """Return the features of a run's training galaxies as a reference. Raises RunError, CatalogueError."""
    _, training = features_of_part(run, TRAIN, device=device, progress=progress)
    _, validation = features_of_part(run, VALIDATION, device=device, progress=progress)
    learned = familiar(training)
    return Reference(run, learned, learned.distances(validation))


def scores_of(
    images: Path, against: Reference, *, device: str = "", progress: Progress = silent
) -> tuple[NDArray, NDArray[np.float64]]:
    """Return ids and scores of the images of an archive or a folder, each (galaxy,). Raises ImageError."""
    ids, features = features_of_images(against.run, images, device=device, progress=progress)
    return ids, against.training.distances(features)


def judge_survey(
    run: Path,
    images: Path,
    out: Path,
    *,
    data: Path | None = None,
    device: str = "",
    progress: Progress = silent,
) -> Comparison:
    """Score every image of a survey, write `galaxy_id` and `score` to a catalogue, compare with held-out.

    `data` says where the run's data folder is now, if it was moved alone. Raises RunError, ImageError,
    CatalogueError, DiskError.
    """
    if data is not None:
        RunFolder(run).find_data(DataFolder(data))
    against = reference(run, device=device, progress=progress)
    ids, scores = scores_of(images, against, device=device, progress=progress)
    table = pa.table({ID: pa.array(ids.tolist(), pa.string()), "score": scores})
    write_catalogue(with_metadata(table, {"run": str(run), "quantity": "distance_to_training"}), out)
    return compare(scores, against.held_out)
