"""Predicted galaxies beside their votes: the only place that joins the two."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hubblefork.errors import CatalogueError, RunError
from hubblefork.tables.catalogue import (
    fractions,
    galaxy_ids,
    head_of,
    ids_among,
    metadata_of,
    naming,
    open_catalogue,
    pieces_of,
    read_catalogue,
    rows_of,
)
from hubblefork.tables.published import in_our_columns
from hubblefork.zoo import DecisionTree


@dataclass(frozen=True)
class JudgedGalaxies:
    """Predicted galaxies beside their votes: the only join of the two.

    `ids` (galaxy,); `predicted`, `volunteers`: joint fractions (galaxy, answer), NaN where nobody was asked.
    `columns` are the other columns of the table of the votes and `rows` (galaxy,) the places in it, -1 and
    null for a galaxy that it does not have. `views`: how many views of each galaxy the predictions are the
    mean of. `weights`: the SHA-256 of the weights that predicted, empty where the predictions do not say it.
    `origin` names the galaxies.
    """

    ids: NDArray
    predicted: NDArray[np.float64]
    volunteers: NDArray[np.float64]
    columns: pa.Table
    origin: str
    rows: NDArray[np.int64]
    views: int = 1
    weights: str = ""

    def chosen(self, which: NDArray) -> JudgedGalaxies:
        """Return some of the galaxies, by a mask (galaxy,) or by their places."""
        rows = np.flatnonzero(which) if which.dtype == bool else which
        return replace(
            self,
            ids=self.ids[rows],
            predicted=self.predicted[rows],
            volunteers=self.volunteers[rows],
            columns=self.columns.take(rows),
            rows=self.rows[rows],
        )

    def labelled(self) -> NDArray[np.bool_]:
        """Say of each galaxy whether it has any votes, shape (galaxy,)."""
        return np.any(~np.isnan(self.volunteers), axis=1)

    def apart_from(self, catalogue: NDArray[np.bool_]) -> JudgedGalaxies:
        """Return those that a catalogue does not have; all of them where none would be left.

        `catalogue` (galaxy,) says which it has, as `ids_among` tells.
        """
        return self if catalogue.all() else self.chosen(~catalogue)


def judged_in_catalogue(
    catalogue: Path,
    tree: DecisionTree,
    labels: Path,
    *,
    missing: Collection[float] = (),
    layout: str = "",
    like: pa.Table,
) -> JudgedGalaxies:
    """Return the galaxies of a catalogue of predictions that have labels in a table.

    The numbers `missing` stand for missing values in both; `layout` says which of several layouts of the
    labels is read. `like` is the catalogue to be corrected. Whether
    the network trained on the galaxies is for the caller to know. Raises RunError where other weights
    predicted `like`, CatalogueError, also where `like` was predicted from another number of views.
    """
    opened = open_catalogue(catalogue, None, missing=missing)
    head = head_of(opened)
    if weights_of(head) and weights_of(like):
        check_weights(catalogue, weights_of(head), weights_of(like), "predict it anew")
    views = [views_of(table) for table in (head, like) if "views" in metadata_of(table)]
    if len(set(views)) > 1:
        raise CatalogueError(
            f"{catalogue} is predicted from --views {views[0]}, the catalogue to be corrected from --views "
            f"{views[1]}; predict one of them anew"
        )
    votes, said = votes_in(labels, tree, missing=missing, layout=layout)
    pieces = pieces_of(opened, None)
    predicted = [piece.filter(pa.array(ids_among(votes, galaxy_ids(piece)))) for piece in pieces]
    origin = f"galaxies of {catalogue} labelled in {labels}{said}"
    return joined(pa.concat_tables(predicted), votes, tree, origin, where=labels)


def votes_in(
    labels: Path, tree: DecisionTree, *, missing: Collection[float] = (), layout: str = ""
) -> tuple[pa.Table, str]:
    """Read a table of labels in our columns; return it, and what was read of it. Raises CatalogueError."""
    table = read_catalogue(labels, missing=missing)
    with naming(labels):
        votes, notes = in_our_columns(table, tree, layout)
    return votes, f" ({'; '.join(notes)})" if notes else ""


def joined(
    predicted: pa.Table,
    votes: pa.Table,
    tree: DecisionTree,
    origin: str,
    *,
    unlabelled: bool = False,
    where: Path | None = None,
) -> JudgedGalaxies:
    """Join predictions with the votes of a catalogue, which was read from `where`, by the rule of `rows_of`.

    Only the labelled galaxies are kept; with `unlabelled` all are. Raises CatalogueError where none of the
    galaxies has labels and they are needed, and for tables with values that are no fractions.
    """
    with naming(where):
        joint = fractions(votes, tree)
    columns = votes.select([name for name in votes.column_names if name not in tree.columns])
    ids = galaxy_ids(predicted)
    rows = rows_of(ids, galaxy_ids(columns))
    volunteers = np.full((len(ids), len(tree.columns)), np.nan)
    volunteers[rows >= 0] = joint[rows[rows >= 0]]
    others = columns.take(pa.array(rows, mask=rows < 0))
    views, weights = views_of(predicted), weights_of(predicted)
    joint = fractions(predicted, tree)
    galaxies = JudgedGalaxies(ids, joint, volunteers, others, origin, rows, views, weights)
    if unlabelled:
        return galaxies
    if not galaxies.labelled().any():
        raise CatalogueError(f"{where or 'the table'} has labels of none of the {origin}")
    return galaxies.chosen(galaxies.labelled())


def views_of(table: pa.Table) -> int:
    """Return of how many views of each galaxy a catalogue's predictions are the mean; 1 where it says none.

    Raises CatalogueError where the metadata's `views` is no number.
    """
    views = metadata_of(table).get("views", "1")
    if not views.isdecimal() or int(views) < 1:
        raise CatalogueError(f'the catalogue\'s metadata say views = "{views}": a number, at least 1')
    return int(views)


def weights_of(table: pa.Table) -> str:
    """Return the SHA-256 of the weights that predicted a catalogue; empty where it does not say."""
    return metadata_of(table).get("weights", "")


def check_weights(place: Path, judged: str, predicted: str, remedy: str) -> None:
    """Raise RunError unless the galaxies judged at `place` are of the weights that predicted a catalogue.

    Both are SHA-256; an empty one for the catalogue leaves it unsaid, and nothing is compared. `remedy` is
    the command that judges the galaxies anew.
    """
    if predicted and not judged:
        raise RunError(f"{place} does not say which weights predicted its galaxies: `{remedy}` first")
    if predicted and judged != predicted:
        raise RunError(
            f"{place} has other weights ({judged[:12]}…) than those that predicted the catalogue "
            f"({predicted[:12]}…): name the run that predicted it, evaluated, or predict anew"
        )
