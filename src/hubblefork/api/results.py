"""Predictions in memory: an astropy table whose rows are galaxies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from astropy.table import Table, TableAttribute

from hubblefork.api.galaxy import Galaxy, galaxies_of
from hubblefork.tables.catalogue import metadata_of
from hubblefork.tables.formats import astropy_table
from hubblefork.zoo import DecisionTree


class GalaxyTable(Table):
    """Predicted galaxies, one a row: `galaxy_id`, a column of joint fractions for each answer, intervals.

    `rejects` are name and reason of what was left out; `remark` says why there are no intervals.
    """

    tree: Any = TableAttribute()
    rejects: Any = TableAttribute(default=())
    remark: Any = TableAttribute(default="")

    def galaxies(self) -> Iterator[Galaxy]:
        """Return the rows as galaxies that draw their tree."""
        yield from galaxies_of(self, self.tree, float(self.meta.get("interval_coverage", 0.9)))

    def __str__(self) -> str:
        return str(next(self.galaxies())) if self._is_one() else super().__str__()

    def _repr_html_(self) -> str:
        return next(self.galaxies())._repr_html_() if self._is_one() else super()._repr_html_()

    def _is_one(self) -> bool:
        return len(self) == 1 and self.tree is not None and set(self.tree.columns) <= set(self.colnames)


def galaxy_table(catalogue: pa.Table, tree: DecisionTree) -> GalaxyTable:
    """Return a catalogue as a GalaxyTable: units and descriptions on the columns, its metadata in `meta`."""
    result = GalaxyTable(astropy_table(catalogue, tree), copy=False)
    result.meta.update(metadata_of(catalogue))
    result.tree = tree
    return result
