"""A person's own labels: which columns of a table can be learned, and whether there are images for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa

from hubblefork.data.archives import galaxy_id_of, open_source
from hubblefork.data.catalogue import ID, fractions, read_catalogue
from hubblefork.data.ingest import check_names
from hubblefork.data.inputs import find_inputs
from hubblefork.data.labels import read_labels
from hubblefork.errors import CatalogueError, did_you_mean
from hubblefork.zoo import DecisionTree, plain_columns

FEWEST = 20


def tree_of_columns(labels: Path, columns: Sequence[str] = ()) -> DecisionTree:
    """Return the tree of a table's plain columns: the chosen ones, or all but the id.

    Raises CatalogueError, with all complaints at once, for columns that are not there, hold anything but
    numbers from 0 to 1 (true and false count as such) or the same for every galaxy.
    """
    table = read_catalogue(labels)
    wanted = list(columns) or [name for name in table.column_names if name != ID]
    found = {name: _complaint(table, name) for name in wanted}
    complaints = [complaint for complaint in found.values() if complaint]
    if complaints or not wanted:
        good = [name for name, complaint in found.items() if not complaint]
        remedy = f": --columns {','.join(good)} takes the others" if good and not columns else ""
        raise CatalogueError(
            f"{labels}: {'; '.join(complaints) or 'it has no column of labels'}. "
            f"What can be learned are columns of numbers from 0 to 1, empty where nobody said{remedy}"
        )
    tree = plain_columns(wanted)
    check_names(tree)
    return tree


def _complaint(table: pa.Table, name: str) -> str:
    """Say why a column cannot be learned; nothing when it can."""
    if name not in table.column_names:
        return f'there is no column "{name}"{did_you_mean(name, table.column_names)}'
    try:
        values = fractions(table, plain_columns([name]))[:, 0]
    except CatalogueError as error:
        return str(error)
    outside = np.flatnonzero((values < 0) | (values > 1))
    if len(outside):
        first = f"{values[outside[0]]:g} for {ID} {table.column(ID)[int(outside[0])]}"
        return f"{name} is outside [0, 1] for {len(outside)} galaxies, the first {first}"
    if len(np.unique(values[~np.isnan(values)])) < 2:
        return f"{name} says the same of every galaxy: there is nothing to learn"
    return ""


def check_labels(cutouts: Path, labels: Path, tree: DecisionTree) -> None:
    """Check that labels and images are enough to learn from, before anything is decoded.

    Raises CatalogueError, with all complaints at once, for fewer than 20 galaxies with labels that fit the
    tree, and fewer than 20 of them with an image; ImageError where no images are.
    """
    found = read_labels([labels], tree)
    known = {galaxy_id for galaxy_id, row in found.row_of.items() if not np.isnan(found.joint[row]).all()}
    names = list(chain.from_iterable(map(_names, find_inputs([cutouts], [labels]).sources)))
    shown = known.intersection(map(galaxy_id_of, names))
    complaints = []
    if len(known) < FEWEST:
        complaints.append(
            f"{labels}: {len(known)} galaxies have labels that fit {tree.name}; at least {FEWEST} are needed"
        )
    if found.rejects:
        reasons = Counter(reject.reason for reject in found.rejects).items()
        counts = ", ".join(f"{count} × {reason}" for reason, count in reasons)
        complaints.append(f"refused rows: {counts}, the first: {found.rejects[0]}")
    if known and len(shown) < FEWEST:
        example = f"images are named as {names[0]}, labels as {min(known)}" if names else "it has no images"
        complaints.append(
            f"{cutouts}: {len(shown)} of {len(known)} labelled galaxies have an image ({example})"
        )
    if min(len(known), len(shown)) < FEWEST:
        raise CatalogueError("; ".join(complaints))


def _names(source: Path) -> list[str]:
    with open_source(source) as images:
        return images.names()
