"""Calibration galaxies: labelled ones that the network did not train on, found by the files of its run.

A catalogue of predictions names its run (metadata key `run`). In the run's folder lie the predictions of its
validation and test galaxies, and `run.toml` names the data whose labels they have. Training galaxies
are never taken: the network has seen their votes.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hubblefork.data.catalogue import (
    fractions,
    galaxy_ids,
    ids_among,
    labelled,
    metadata_of,
    read_catalogue,
)
from hubblefork.data.labels import read_labels
from hubblefork.data.split import (
    TEST,
    TRAIN,
    VALIDATION,
    VIEWING,
    evaluate_command,
    predictions_file,
    read_split,
)
from hubblefork.errors import CatalogueError, RunError
from hubblefork.zoo import DecisionTree, load_tree, read_tree, tree_names
from hubblefork.zoo.tree import DEFAULT


@dataclass(frozen=True)
class HeldOut:
    """Labelled galaxies off training: ids (galaxy,), predicted and volunteers' fractions (galaxy, answer).

    `columns` are the other columns of the catalogue that has the labels, `origin` says where all is from.
    """

    ids: NDArray
    predicted: NDArray[np.float64]
    volunteers: NDArray[np.float64]
    columns: pa.Table
    origin: str

    def chosen(self, which: NDArray) -> HeldOut:
        """Return some of the galaxies."""
        rows = np.flatnonzero(which) if which.dtype == bool else which
        parts = self.ids[rows], self.predicted[rows], self.volunteers[rows]
        return HeldOut(*parts, self.columns.take(rows), self.origin)

    def apart_from(self, table: pa.Table) -> HeldOut:
        """Return those that a catalogue does not have; all of them where none would be left."""
        apart = ~ids_among(table, self.ids)
        return self.chosen(apart) if apart.any() else self


def named_run(table: pa.Table) -> Path:
    """Return the run that a catalogue of predictions names. Raises CatalogueError for one that names none."""
    run = metadata_of(table).get("run")
    if not run:
        raise CatalogueError("the catalogue names no run (metadata key `run`; CSV keeps none)")
    return Path(run)


def tree_of(table: pa.Table) -> DecisionTree:
    """Return the tree of a catalogue, by its name or from the run that it names; else Galaxy Zoo 2's.

    Raises CatalogueError for another tree whose run is not there.
    """
    named = metadata_of(table)
    name, run = named.get("tree", DEFAULT), Path(named.get("run", ""))
    if name in tree_names():
        return load_tree(name)
    if "run" not in named or read_tree(run).name != name:
        raise CatalogueError(
            f'the catalogue is of the tree "{name}", which its run should hold; {run} does not: predict anew'
        )
    return read_tree(run)


def views_of(table: pa.Table) -> int:
    """Return how many views of each galaxy a catalogue's predictions are the mean of; 1 where it says none.

    Raises CatalogueError where the metadata's `views` is no number.
    """
    views = metadata_of(table).get("views", "1")
    if not views.isdecimal() or int(views) < 1:
        raise CatalogueError(f'the catalogue\'s metadata say views = "{views}": a number, at least 1')
    return int(views)


def held_out_of_run(run: Path, tree: DecisionTree, labels: Path | None = None, *, views: int = 1) -> HeldOut:
    """Return the validation and test galaxies of a run that have labels, predicted from so many views.

    What one view misses and mistakes is not what the mean of several does: a catalogue is calibrated by
    predictions made as its own were. Labels are those of the run's data, or of `labels`. Raises RunError
    where the folder is no run or has no such predictions of them, CatalogueError for tables that cannot be
    read or have none in common.
    """
    data = Path(str(_notes(run).get("data", "")))
    paths = [predictions_file(run, part, views) for part in (VALIDATION, TEST)]
    tables = [_read_own(path, run, views, tree) for path in paths if path.exists()]
    if not tables:
        seen = f" from {views} views of each, as the catalogue is" if views > 1 else ""
        raise RunError(f"{run}: its validation and test galaxies are not predicted yet{seen}")
    predicted = pa.concat_tables(table.replace_schema_metadata() for table in tables)
    trained = read_split(run).assign(galaxy_ids(predicted).tolist()) == TRAIN
    parts = " and ".join(path.stem for path in paths if path.exists())
    return _labelled(
        predicted.filter(~trained), labels or data / "catalogue.parquet", tree, f"{parts} galaxies of {run}"
    )


def held_out_of_catalogue(catalogue: Path, tree: DecisionTree, labels: Path) -> HeldOut:
    """Return the galaxies of a catalogue of predictions that have labels in a table.

    Whether the network trained on them is for the caller to know. Raises CatalogueError.
    """
    return _labelled(read_catalogue(catalogue), labels, tree, f"galaxies of {catalogue} labelled in {labels}")


def trained_on(run: Path, table: pa.Table, tree: DecisionTree) -> int:
    """Return how many of a catalogue's galaxies are labelled ones of the training part of a run's data.

    Raises RunError, CatalogueError.
    """
    data = read_catalogue(Path(str(_notes(run).get("data", ""))) / "catalogue.parquet")
    known = galaxy_ids(data)[labelled(data, tree)]
    return int(ids_among(table, known[read_split(run).assign(known.tolist()) == TRAIN]).sum())


def _read_own(path: Path, run: Path, views: int, tree: DecisionTree) -> pa.Table:
    table = read_catalogue(path)
    check_viewing(table, str(path), evaluate_command(run, views))
    return table.select(["galaxy_id", *tree.columns])


def check_viewing(table: pa.Table, what: str, remedy: str) -> None:
    """Raise CatalogueError for predictions of a version that looked at galaxies in another way than this."""
    said = metadata_of(table)
    if "views" in said and said.get("viewing") != VIEWING:
        raise CatalogueError(
            f"{what}: predictions of an earlier hubblefork, which looked at galaxies in another way: {remedy}"
        )


def _notes(run: Path) -> dict[str, object]:
    try:
        return tomllib.loads((run / "run.toml").read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise RunError(f"{run} is not the folder of a run: run.toml cannot be read: {error}") from error


def _labelled(predicted: pa.Table, labels: Path, tree: DecisionTree, origin: str) -> HeldOut:
    row_of, joint, columns = _read_votes(labels, tree)
    ids = galaxy_ids(predicted)
    places = np.array([row_of.get(str(galaxy_id), -1) for galaxy_id in ids.tolist()], dtype=int)
    votes = np.full((len(ids), len(tree.columns)), np.nan)
    votes[places >= 0] = joint[places[places >= 0]]
    known = ~np.isnan(votes).all(axis=1)
    if not known.any():
        raise CatalogueError(f"{labels}: it has labels of none of the {len(ids)} {origin}")
    others = columns.take(places[known]) if columns is not None else pa.table({"galaxy_id": ids[known]})
    return HeldOut(ids[known], fractions(predicted, tree)[known], votes[known], others, origin)


def _read_votes(labels: Path, tree: DecisionTree) -> tuple[dict[str, int], NDArray, pa.Table | None]:
    if labels.suffix in (".zip", ".csv"):
        found = read_labels([labels], tree)
        return found.row_of, found.joint, None
    table = read_catalogue(labels)
    return (
        {str(galaxy_id): row for row, galaxy_id in enumerate(galaxy_ids(table).tolist())},
        fractions(table, tree),
        table.drop_columns([name for name in tree.columns if name in table.column_names]),
    )
