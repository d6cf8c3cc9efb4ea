"""A run's own data: predictions and features of the galaxies of its split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hubblefork.data.folders import DataFolder, RunFolder
from hubblefork.errors import CatalogueError
from hubblefork.io import Progress, silent
from hubblefork.prediction.loop import Images, none_readable, predict_rows, predictions, signed
from hubblefork.prediction.predictor import Predictor
from hubblefork.prediction.runtimes import open_network
from hubblefork.tables.catalogue import galaxy_ids, with_fractions, write_catalogue


def predict_part(
    run: Path, part: str, *, views: int = 1, device: str = "", progress: Progress = silent
) -> Path:
    """Predict the labelled and unlabelled galaxies of one part of a run's own split and data.

    Writes `predictions/<part>.parquet` in the run folder (`<part>-<views>-views.parquet` where `views` of
    each galaxy are averaged) and returns its path. Raises CatalogueError when the part is empty.
    """
    predictor = Predictor(open_network(run, device=device), views=views)
    data, ids, rows = _galaxies_of_part(RunFolder(run), part)
    values = predict_rows(predictor, data, rows, f"predicting {part}", progress)
    path = RunFolder(run).predictions(part, views)
    write_catalogue(signed(with_fractions(ids, values, predictor.tree), predictor, [run]), path)
    return path


def features_of_part(
    run: Path, part: str, *, device: str = "", progress: Progress = silent
) -> tuple[NDArray, NDArray[np.float32]]:
    """Return ids (galaxy,) and features (galaxy, feature) of one part of a run's own split and data.

    Features are the inputs of the network's last layer. Raises RunError, and CatalogueError when the part is
    empty.
    """
    predictor = Predictor(open_network(run, device=device, features=True))
    data, ids, rows = _galaxies_of_part(RunFolder(run), part)
    return galaxy_ids(ids), predict_rows(predictor, data, rows, f"features, {part}", progress)


def features_of_images(
    run: Path, images: Images, *, device: str = "", progress: Progress = silent
) -> tuple[NDArray, NDArray[np.float32]]:
    """Return ids (galaxy,), as text, and features (galaxy, feature) of images.

    Images that cannot be read are left out. Raises RunError, ImageError.
    """
    predictor = Predictor(open_network(run, device=device, features=True))
    batches = list(predictions(predictor, images, what="features", progress=progress))
    ids = [galaxy_id for batch in batches for galaxy_id in batch.ids]
    if not ids:
        raise none_readable(images, [reject for batch in batches for reject in batch.rejects])
    values = [batch.fractions for batch in batches if batch.ids]
    return np.array(ids, dtype=object), np.concatenate(values)


def _galaxies_of_part(run: RunFolder, part: str) -> tuple[Path, pa.Table, NDArray[np.intp]]:
    """Return a run's data folder, ids and rows of the galaxies of a part. Raises CatalogueError for none."""
    data = run.data.path
    ids = DataFolder(data).catalogue(only=[])
    rows = np.flatnonzero(run.split().assign(galaxy_ids(ids)) == part)
    if not len(rows):
        raise CatalogueError(f"{run}: no galaxy of {data} is in its {part} part")
    return data, ids.take(rows), rows
