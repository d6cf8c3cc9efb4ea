"""A sample in bins of a column: of redshift, size, brightness, or whatever a catalogue has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hubblefork.errors import CatalogueError, did_you_mean

BINS = 5


@dataclass(frozen=True)
class Bins:
    """Half-open bins `[edge, next edge)` of a column, the last one closed; `name` is for reading.

    Raises CatalogueError for edges that do not rise.
    """

    name: str
    column: str
    edges: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.edges) < 2 or not np.all(np.diff(self.edges) > 0) or not np.isfinite(self.edges).all():
            raise CatalogueError(
                f"bins of {self.name} with the edges {self.edges}: at least two, each above the one before"
            )

    def place(self, values: NDArray) -> NDArray[np.int64]:
        """Return the number of the bin of each value, shape (galaxy,); −1 outside and for NaN."""
        place = np.searchsorted(self.edges, values, side="right") - 1
        place[values == self.edges[-1]] = len(self.edges) - 2
        outside = np.isnan(values) | (values < self.edges[0]) | (values > self.edges[-1])
        return np.where(outside, -1, place)


def parse_bins(text: str, table: pa.Table, column: str = "") -> Bins:
    """Read "NAME" or "NAME:0.01,0.05,0.1"; without edges five bins with as many galaxies each.

    The values are those of `column`, or of the column NAME. Raises CatalogueError.
    """
    name, _, listed = text.partition(":")
    values = numbers_of(table, column or name)
    if not listed:
        known = values[~np.isnan(values)]
        if not len(known):
            raise CatalogueError(f'the column "{column or name}" has no values to make bins of')
        return Bins(name, column or name, tuple(np.unique(np.quantile(known, np.linspace(0, 1, BINS + 1)))))
    try:
        return Bins(name, column or name, tuple(float(edge) for edge in listed.split(",")))
    except ValueError as error:
        raise CatalogueError(f'"{text}": {error}; write bins as redshift:0.01,0.05,0.1') from error


def numbers_of(table: pa.Table, column: str) -> NDArray[np.float64]:
    """Return a column as numbers, NaN where null. Raises CatalogueError that names the nearest column."""
    if column not in table.column_names:
        near = did_you_mean(column, table.column_names)
        raise CatalogueError(f'the catalogue has no column "{column}"{near}; name it with --column')
    try:
        return table.column(column).cast(pa.float64()).to_numpy().copy()
    except pa.ArrowException as error:
        raise CatalogueError(f'the column "{column}" holds no numbers: {error}') from error
