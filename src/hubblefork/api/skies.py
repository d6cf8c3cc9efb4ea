"""Data folders, mock skies and pages; the whole job on a mock sky."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from hubblefork.data.folders import DataFolder, RunFolder
from hubblefork.data.ingest import ingest as read_inputs
from hubblefork.data.split import SPLITS, Split, write_split
from hubblefork.errors import CatalogueError, extras
from hubblefork.images.archives import place_of
from hubblefork.images.cutouts import Reading
from hubblefork.io import Progress, silent
from hubblefork.pages.run import write_report
from hubblefork.stats.estimators import Count, count_above
from hubblefork.tables.catalogue import fractions, galaxy_ids, labelled, matched, read_catalogue
from hubblefork.zoo import DecisionTree, load_tree

Place = str | PathLike[str]
DEMO = ("steps_per_epoch=0", "batch_size=32", "epochs=36", "plateau_patience=4")


def ingest(
    inputs: Place | Sequence[Place],
    out: Place = "data",
    *,
    labels: Iterable[Place] = (),
    missing: Collection[float] = (),
    tree: str | DecisionTree = "",
    survey: str | Reading = "",
    crop: int | str = "",
    split: Split | None = None,
    strict: bool = False,
    progress: Progress = silent,
) -> DataFolder:
    """Read images and label tables into a data folder and return it.

    `inputs` are archives, folders or tables, or one folder of them, as Kaggle ships its files. Bad images
    and labels are listed in `rejects.csv`, or raise with `strict`. The numbers `missing` (-99) stand for
    missing values in the tables. The columns of the tables say which `tree` they answer. `survey` names the
    survey of FITS cutouts, or is an `images.cutouts.Reading`. Images that do not show a `crop` around their
    galaxy (318 pixels, "30 arcsec", "6 R90") are bad ones. Without a `split` 20% are validation galaxies
    and none test galaxies.
    Raises ImageError, CatalogueError, DiskError.

    >>> hf.ingest("sky/", out="data/").path.name
    'data'
    """
    paths = [inputs] if isinstance(inputs, str | PathLike) else inputs
    questions = (load_tree(tree) if tree else None) if isinstance(tree, str) else tree
    how: dict[str, Any] = {"labels": [Path(path) for path in labels], "tree": questions, "strict": strict}
    how |= {"missing": missing, "reading": Reading.of(survey), "crop": crop}
    read_inputs([place_of(path) for path in paths], Path(out), **how, progress=progress)
    if split is not None:
        set_split(out, split)
    return DataFolder(out)


def set_split(data: Place, split: Split) -> dict[str, int]:
    """Set the split of a data folder; return how many labelled galaxies each part has.

    Raises CatalogueError, also for a list to judge on that has none of the galaxies.
    """
    folder = DataFolder(data)
    catalogue = folder.catalogue()
    unknown = unknown_ids(data, split)
    if split.judge_on is not None and len(unknown) == len(split.judge_on):
        raise CatalogueError(
            f"none of the {len(unknown)} ids to judge on is in the catalogue of {folder}: "
            f'they are written as "{unknown[0]}", those of the catalogue as "{galaxy_ids(catalogue)[0]}"'
        )
    with_labels = catalogue.filter(labelled(catalogue, folder.tree()))
    counts = Counter(split.assign(galaxy_ids(with_labels).tolist()).tolist())
    write_split(split, folder.path)
    return {part: counts[part] for part in SPLITS}


def unknown_ids(data: Place, split: Split) -> list[str]:
    """Return the ids to judge on that are not in a data folder, sorted. Raises CatalogueError."""
    ids = galaxy_ids(DataFolder(data).catalogue([])).tolist()
    return sorted((split.judge_on or set()) - set(map(str, ids)))


def mock_sky(
    folder: Place, galaxies: int = 1000, *, seed: int = 0, progress: Progress = silent, **sky: Any
) -> Path:
    """Draw a mock sky in the layout of a survey's files, its truth in `truth.parquet`; return the folder.

    `sky` are `survey` (the default is in Kaggle's layout), `tree`, `volunteers`, `merger_fraction` and the
    factors `seeing`, `noise`, `pixel`. Raises CatalogueError, RecipeError, TreeError, DiskError.

    >>> hf.mock_sky("sky/", galaxies=60, seed=1).name
    'sky'
    """
    with extras("a mock sky"):
        from hubblefork.mock import write_mock_sky

    write_mock_sky(Path(folder), galaxies=galaxies, seed=seed, progress=progress, **sky)
    return Path(folder)


def report(
    run: Place, *, predictions: Place | None = None, data: Place | None = None, progress: Progress = silent
) -> Path:
    """Write one HTML page about a run, and about a catalogue of predictions; return its path.

    `data` says where the run's data folder is now, if it was moved alone. Raises RunError for a folder that
    holds no run, DiskError.

    >>> hf.report("runs/a").name
    'index.html'
    """
    if data is not None:
        RunFolder(run).find_data(DataFolder(data))
    extra = None if predictions is None else Path(predictions)
    return write_report(Path(run), predictions=extra, progress=progress)


@dataclass(frozen=True)
class DemoSummary:
    """What the demo measured: errors, and the merger fraction counted, corrected, by votes and in truth."""

    evaluation: dict[str, Any]
    predicted: Count
    corrected: Any
    voted: Count
    true_fraction: float
    report: Path
    predictions: Path
    images: Path

    def __str__(self) -> str:
        """Return a few lines for the terminal."""
        rmse, mean = self.evaluation["rmse"], self.evaluation["baselines"]["mean_vote"]["rmse"]
        low, high = rmse["interval_95"]
        counted = f"{self.predicted.total} unlabelled galaxies at ≥ {self.predicted.threshold:g}"
        return (
            f"RMSE on {self.evaluation['galaxies']} test galaxies: {rmse['value']:.4f} "
            f"({low:.4f}–{high:.4f}); the mean vote has {mean['value']:.4f}\n"
            f"Merger fraction of {counted}: counted {_text(self.predicted)}, "
            f"corrected {_text(self.corrected)}, by votes {_text(self.voted)}; "
            f"true mergers {self.true_fraction:.4f}\n"
            f"Report: {self.report}\n"
            f"Look at the galaxies: hubblefork gallery {self.predictions} --images {self.images}"
        )


def run_demo(
    out: Path, *, galaxies: int, seed: int, settings: Sequence[str] = DEMO, progress: Progress = silent
) -> DemoSummary:
    """Run every stage on a mock sky in a folder; called again it goes on where it stopped.

    `settings` override fields of the recipe lab-cnn, as `key=value`.
    """
    from hubblefork.api.fractions import fraction
    from hubblefork.api.judging import evaluate
    from hubblefork.api.predictions import write_predictions
    from hubblefork.api.training import train

    sky, run, predictions = out / "sky", out / "runs" / "lab-cnn", out / "predictions.parquet"
    unlabelled = sky / "images_test_rev1.zip"
    if not (sky / "truth.parquet").exists():
        mock_sky(sky, galaxies, seed=seed, progress=progress)
    split = Split(salt="demo", test=20, validation=15)
    data = ingest(sky, out / "data", split=split, progress=progress)
    train(data.path, "lab-cnn", run, settings=[*settings, f"seed={seed}"], progress=progress)
    evaluation = evaluate(run, progress=progress)
    write_predictions(run, [unlabelled], predictions, overwrite=True, progress=progress)
    predicted, true = matched(read_catalogue(predictions), read_catalogue(sky / "truth.parquet"))
    tree = load_tree()
    counted, voted = (count_above(tree, fractions(table, tree)) for table in (predicted, true))
    mergers = float(np.mean(true.column("is_merger").to_numpy(zero_copy_only=False)))
    page = report(run, predictions=predictions, progress=progress)
    corrected = fraction(predictions).estimate
    return DemoSummary(evaluation, counted, corrected, voted, mergers, page, predictions, unlabelled)


def _text(fraction: Any) -> str:
    return f"{fraction.value:.4f} ({fraction.low:.4f}–{fraction.high:.4f})"
