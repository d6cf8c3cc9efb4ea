"""A person's own labels: what can be learned of a table of them, and whether it is enough to learn from."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from hubblefork.data.columns import (
    ID,
    SENTINELS,
    apart_remedy,
    classes_in,
    column_named,
    columns_of_answers,
    fraction_remedy,
    id_columns,
    id_name,
    is_apart,
    no_fraction,
    numbers,
    without,
)
from hubblefork.data.field import SKY
from hubblefork.data.formats import read_rows
from hubblefork.data.inputs import find_inputs
from hubblefork.data.labels import read_labels
from hubblefork.data.members import galaxy_id_of
from hubblefork.data.sources import open_source
from hubblefork.errors import CatalogueError, did_you_mean
from hubblefork.zoo import DecisionTree, Number, classes, number_column, plain_columns

TAKEN = {ID, "source", "member", "width", "height", "centre_red", "centre_green", "centre_blue", *SKY}
FEWEST, MOST_CLASSES = 20, 100
NARROW = 1e-4
"""The least spread of a number, in units of its mean: single precision keeps three digits of it."""


def check_names(tree: DecisionTree) -> None:
    """Raise CatalogueError for answers that are named as columns that a catalogue has anyway."""
    taken = sorted(TAKEN.intersection(tree.columns))
    if taken:
        raise CatalogueError(
            f"{tree.name}: {', '.join(taken)}: a catalogue has columns of these names; rename them"
        )


def tree_of_columns(
    labels: Path, columns: Sequence[str] = (), *, missing: Collection[float] = ()
) -> DecisionTree:
    """Return the tree of a table's plain columns: the chosen ones, or all but the id.

    The numbers `missing` stand for missing values.
    Raises CatalogueError, with all complaints at once, for columns that are not there, hold anything but
    numbers from 0 to 1 (true and false count as such) or the same for every galaxy.
    """
    table = without(read_rows(labels).table, missing)
    ids = id_columns(table.column_names)
    wanted = list(columns) or [name for name in table.column_names if name not in ids]
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


def tree_of_classes(labels: Path, column: str, *, missing: Collection[float] = ()) -> DecisionTree:
    """Return the tree of the classes in a column of a table: texts or integers, in their order.

    The numbers `missing` stand for missing values. Raises CatalogueError for a column that is not there, or
    of other values, of one class or of more than a hundred.
    """
    table = without(read_rows(labels).table, missing)
    cells = classes_in(table.column(_column(labels, table, column))).drop_null()
    values = cells.unique().to_pylist()
    fractional = [value for value in values if re.fullmatch(r"-?\d*\.\d+(e-?\d+)?", value)]
    if fractional:
        what = (
            f"{column} is {fractional[0]}: classes are texts or integers; --number {column} learns a number"
        )
        raise CatalogueError(f"{labels}: {what}")
    if not 1 < len(values) <= MOST_CLASSES:
        raise CatalogueError(
            f"{labels}: {column} has {len(values)} classes; from 2 to {MOST_CLASSES} are learned"
        )
    twice = [names for names in _folded(values).values() if len(names) > 1]
    if twice:
        spelled = " and ".join(f'"{name}"' for name in twice[0])
        raise CatalogueError(f"{labels}: {column} has the classes {spelled}: one in two spellings? Keep one")
    whole = all(value.lstrip("-").isdecimal() for value in values)
    tree = classes(column, sorted(values, key=int) if whole else sorted(values))
    check_names(tree)
    return tree


def _folded(values: Iterable[str]) -> Mapping[str, list[str]]:
    folded = defaultdict(list)
    for value in sorted(values):
        folded[value.casefold()].append(value)
    return folded


def tree_of_number(
    labels: Path, column: str, unit: str = "", *, missing: Collection[float] = ()
) -> DecisionTree:
    """Return the tree of a column of a table that holds a number, with its unit, mean and width.

    The numbers `missing` stand for missing values. Raises CatalogueError for a column that is not there,
    holds anything else, the same everywhere, or values too close for single precision; and for a unit that
    astropy does not know.
    """
    table = without(read_rows(labels).table, missing)
    cells = table.column(_column(labels, table, column))
    values, bad = numbers(cells)
    ids = table.column(id_name(table.column_names))
    for row in np.flatnonzero(bad | np.isinf(values))[:1].tolist():
        what = f"{column} is {cells[row].as_py()!r} for {ID} {ids[row]}, which is no finite number"
        raise CatalogueError(f"{labels}: {what}")
    for value in values[np.isin(values, SENTINELS)][:1].tolist():
        if is_apart(value, values):
            raise CatalogueError(f"{labels}: {column} is {value:g}; {apart_remedy(value)}")
    present = values[~np.isnan(values)]
    if len(np.unique(present)) < 2:
        raise CatalogueError(f"{labels}: {column} says the same of every galaxy: there is nothing to learn")
    number = Number(float(present.mean()), float(present.std()), _unit(unit))
    if number.width < NARROW * abs(number.mean):
        raise CatalogueError(
            f"{labels}: {column} is {number.mean:g} give or take {number.width:.2g}, too close for single "
            f"precision: subtract {number.mean:.6g} from it"
        )
    tree = number_column(column, number)
    check_names(tree)
    return tree


def _column(labels: Path, table: pa.Table, name: str) -> str:
    column = column_named(table.column_names, name)
    if column is None:
        near = did_you_mean(name, table.column_names)
        raise CatalogueError(f'{labels}: there is no column "{name}"{near}')
    return column


def _unit(text: str) -> str:
    """Return a unit as it is written in FITS and VOTable. Raises CatalogueError for none of astropy's."""
    from astropy.units import Unit

    try:
        return str(Unit(text))
    except (ValueError, TypeError) as error:
        raise CatalogueError(
            f'--unit "{text}" is no unit that astropy knows: dex, mag, km/s, arcsec; leave it out for none'
        ) from error


def _complaint(table: pa.Table, name: str) -> str:
    """Say why a column cannot be learned; nothing when it can."""
    try:
        (column,) = columns_of_answers(table.column_names, plain_columns([name]), [name])
    except CatalogueError as error:
        if "stands" in str(error):
            return str(error)
        return f'there is no column "{name}"{did_you_mean(name, table.column_names)}'
    values, bad = numbers(table.column(column))
    ids = table.column(id_name(table.column_names))
    for row in np.flatnonzero(bad)[:1].tolist():
        what = f"{name} is {table.column(column)[row].as_py()!r} for {ID} {ids[row]}, which is no number"
        return f"{what}; if it is a class: --classes {name}"
    outside = np.flatnonzero(no_fraction(values))
    for row in outside[:1].tolist():
        first = f"{values[row]:g} for {ID} {ids[row]}; {fraction_remedy(values[row], values)}"
        others = f"; --number {name} learns any number"
        return f"{name} is outside [0, 1] for {len(outside)} galaxies, the first {first}{others}"
    if len(np.unique(values[~np.isnan(values)])) < 2:
        return f"{name} says the same of every galaxy: there is nothing to learn"
    return ""


def check_labels(
    cutouts: Path, labels: Path, tree: DecisionTree, *, missing: Collection[float] = (), layout: str = ""
) -> tuple[str, ...]:
    """Check that labels and images are enough to learn from, before anything is decoded; say what was read.

    Raises CatalogueError, with all complaints at once, for fewer than 20 galaxies with labels that fit the
    tree, and fewer than 20 of them with an image; ImageError where no images are.
    """
    found = read_labels([labels], tree, missing=missing, layout=layout)
    known = {galaxy_id for galaxy_id, row in found.row_of.items() if not np.isnan(found.joint[row]).all()}
    names = image_names(cutouts, labels)
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
    return found.notes


def image_names(cutouts: Path, labels: Path) -> list[str]:
    """Return the names of the images that lie beside a table of labels. Raises ImageError."""
    names = []
    for path in find_inputs([cutouts], [labels]).sources:
        with open_source(path) as source:
            names += source.names()
    return names
