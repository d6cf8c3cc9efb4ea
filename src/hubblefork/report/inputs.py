"""What a report reads: the files of a run and of its data, each there or said to be missing."""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hubblefork.data.archives import Reject, read_rejects
from hubblefork.data.catalogue import fractions, galaxy_ids, read_catalogue, rows_of
from hubblefork.data.folders import evaluate_command, views_of
from hubblefork.data.images import StampSpec
from hubblefork.data.split import TEST, VALIDATION, Split, read_split
from hubblefork.data.stamps import open_stamps
from hubblefork.errors import HubbleforkError, RunError
from hubblefork.report.blocks import Missing
from hubblefork.stats.evaluation import read_evaluation
from hubblefork.zoo import DecisionTree, read_tree

T = TypeVar("T")


@dataclass(frozen=True)
class Sky:
    """The catalogue of the data: ids (galaxy,), votes (galaxy, answer), the table itself."""

    table: pa.Table
    ids: NDArray
    votes: NDArray
    labelled: NDArray


@dataclass(frozen=True)
class Galaxies:
    """Predicted galaxies: ids, predicted and volunteers' fractions, rows in the catalogue (-1: none).

    `views`: of how many views of each galaxy the predictions are the mean.
    """

    ids: NDArray
    predicted: NDArray
    volunteers: NDArray
    rows: NDArray[np.int64]
    views: int = 1

    def chosen(self, which: NDArray) -> Galaxies:
        """Return some of the galaxies."""
        some = (self.ids[which], self.predicted[which], self.volunteers[which], self.rows[which])
        return Galaxies(*some, self.views)


@dataclass(frozen=True)
class Inputs:
    """Everything a report is made of: `part` is what was judged, `extra` the catalogue handed in."""

    run: Path
    tree: DecisionTree
    part: str
    notes: dict[str, Any]
    recipe: dict[str, Any] | Missing
    metrics: list[dict[str, float]] | Missing
    split: Split | Missing
    evaluation: dict[str, Any] | Missing
    sky: Sky | Missing
    rejects: list[Reject] | Missing
    stamps: NDArray[np.uint8] | Missing
    judged: Galaxies | Missing
    extra: Galaxies | Missing | None


def read_inputs(run: Path, predictions: Path | None) -> Inputs:
    """Read all there is. Raises RunError where `run` is not the folder of a run."""
    notes, tree = _read_notes(run), read_tree(run)
    data = Path(notes.get("data", ""))
    train = f"hubblefork train {data} --recipe … --out {run}"
    evaluate = evaluate_command(run)
    recipe = _attempt(run / "recipe.toml", _read_toml, train)
    evaluation = _attempt(run / "evaluation.json", read_evaluation, evaluate)
    sky = _attempt(data / "catalogue.parquet", lambda path: _read_sky(path, tree), _ingest(data))
    part = _part(run, evaluation)
    judged = run / _judged_file(evaluation, part)
    return Inputs(
        run=run,
        tree=tree,
        part=part,
        notes=notes,
        recipe=recipe,
        metrics=_attempt(run / "metrics.csv", _read_metrics, train),
        split=_attempt(run / "split.toml", lambda path: read_split(path.parent), train),
        evaluation=evaluation,
        sky=sky,
        rejects=_attempt(data / "rejects.csv", read_rejects, _ingest(data)),
        stamps=_read_stamps(data, recipe),
        judged=_labelled(_read_galaxies(judged, tree, sky, evaluate)),
        extra=_read_extra(predictions, tree, sky, run),
    )


def _ingest(data: Path) -> str:
    return f"hubblefork ingest … --out {data}"


def _read_notes(run: Path) -> dict[str, Any]:
    try:
        return _read_toml(run / "run.toml")
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RunError(
            f"{run} is not the folder of a run: run.toml cannot be read: {error}; "
            "train one with `hubblefork train`"
        ) from error


def _attempt(path: Path, read: Callable[[Path], T], remedy: str) -> T | Missing:
    if not path.exists():
        return Missing(f"{path} is not there.", remedy)
    try:
        return read(path)
    except (HubbleforkError, pa.ArrowException, OSError, ValueError, LookupError, TypeError) as error:
        return Missing(f"{path} cannot be read: {error}", remedy)


def _read_toml(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def _read_metrics(path: Path) -> list[dict[str, float]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    if not rows:
        raise ValueError("no epoch has ended yet")
    return rows


def _read_sky(path: Path, tree: DecisionTree) -> Sky:
    table = read_catalogue(path)
    votes = fractions(table, tree)
    return Sky(table, galaxy_ids(table), votes, np.logical_not(np.isnan(votes).all(axis=1)))


def _part(run: Path, evaluation: dict[str, Any] | Missing) -> str:
    if not isinstance(evaluation, Missing):
        return evaluation["part"]
    return TEST if (run / "predictions" / f"{TEST}.parquet").exists() else VALIDATION


def _judged_file(evaluation: dict[str, Any] | Missing, part: str) -> str:
    usual = f"predictions/{part}.parquet"
    return usual if isinstance(evaluation, Missing) else evaluation.get("predictions", usual)


def _read_stamps(data: Path, recipe: dict[str, Any] | Missing) -> NDArray[np.uint8] | Missing:
    if isinstance(recipe, Missing):
        return Missing("Without a recipe it is not known which stamps the network saw.", recipe.remedy)
    try:
        return open_stamps(data, StampSpec(recipe["crop"], recipe["stamp_size"])).pixels
    except (HubbleforkError, OSError, KeyError) as error:
        remedy = f"hubblefork stamps {data} --crop {recipe.get('crop')} --size {recipe.get('stamp_size')}"
        return Missing(f"No galaxies are shown: {error}", remedy)


def _read_galaxies(path: Path, tree: DecisionTree, sky: Sky | Missing, remedy: str) -> Galaxies | Missing:
    def read(path: Path) -> Galaxies:
        table = read_catalogue(path)
        ids, predicted = galaxy_ids(table), fractions(table, tree)
        rows = np.full(len(ids), -1) if isinstance(sky, Missing) else rows_of(ids, sky.ids)
        votes = np.full(predicted.shape, np.nan)
        if not isinstance(sky, Missing):
            votes[rows >= 0] = sky.votes[rows[rows >= 0]]
        return Galaxies(ids, predicted, votes, rows, views_of(table))

    return _attempt(path, read, remedy)


def _read_extra(
    path: Path | None, tree: DecisionTree, sky: Sky | Missing, run: Path
) -> Galaxies | Missing | None:
    if path is None:
        return None
    return _read_galaxies(path, tree, sky, f"hubblefork predict {run} IMAGES --out {path}")


def _labelled(galaxies: Galaxies | Missing) -> Galaxies | Missing:
    if isinstance(galaxies, Missing):
        return galaxies
    known = ~np.isnan(galaxies.volunteers).all(axis=1)
    if not known.any():
        what = "None of the judged galaxies has labels in the catalogue of the data."
        return Missing(what, "hubblefork ingest … --labels …")
    return galaxies.chosen(known)
