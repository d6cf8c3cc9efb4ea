"""A catalogue behind the gallery: DuckDB over its Parquet files, counted by the million and never held.

Volunteers' votes, or another catalogue to compare with, stand beside it by id.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, count
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any, NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from hubblefork.data.labels import read_labels
from hubblefork.errors import CatalogueError
from hubblefork.gallery.selection import ROW, Order, Quantities, Selection, by_row, quoted
from hubblefork.io import cores
from hubblefork.tables.catalogue import (
    fractions,
    id_column,
    metadata_of,
    naming,
    read_catalogue,
    read_head,
    with_fractions,
    write_pieces,
)
from hubblefork.tables.columns import ID, id_name, with_id
from hubblefork.tables.layouts import COUNT, Found, found_of
from hubblefork.tables.published import in_our_columns, tree_of
from hubblefork.tables.shards import CatalogueFolder, is_catalogue_folder
from hubblefork.zoo import DecisionTree

MEMORY = "384MB"
BINS = 24
CELLS = 80
KEPT = 512
BY_ROW = re.compile(r'"#\d+"(?=\.value)')
PIECE = 50_000
LARGEST = 4 * 10**9
"""Bytes of a catalogue that has to be read whole."""
COUNTS = "counts"
DIFFERENCES = ("galaxies", "mean", "rms", "scatter", "largest", "galaxy_id")


@dataclass
class Store:
    """The rows of a catalogue and what stands beside them; safe to be asked by several threads.

    Beside them stand volunteers' votes (`labels`) or another catalogue of the same tree. Raises
    CatalogueError for a catalogue that cannot be read or lacks the answers of its tree, and for both beside.
    """

    path: Path
    labels: Path | None = None
    other: Path | None = None
    _connection: Any = field(init=False, repr=False)
    _kept: Any = field(init=False, repr=False)
    _lock: Lock = field(init=False, default_factory=Lock, repr=False)
    _tables: Iterator[int] = field(init=False, default_factory=count, repr=False)
    _by_row: dict[int, NDArray[np.float32]] = field(init=False, default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        settings: dict[str, Any] = {
            "threads": cores(),
            "memory_limit": MEMORY,
            "autoinstall_known_extensions": False,
        }
        self._connection, self._kept = duckdb.connect(config=settings), lru_cache(KEPT)(self._all)
        self._folder = TemporaryDirectory(prefix="hubblefork-", ignore_cleanup_errors=True)
        self.tree, self.head, self._files, self.layout = opened(self.path, Path(self._folder.name))
        if absent := [name for name in self.tree.columns if name not in self.head.column_names]:
            raise CatalogueError(
                f'{self.path}: a catalogue of {self.tree.name} has a column "{absent[0]}", and this has not; '
                "run `hubblefork predict`, or `hubblefork ingest` for volunteers' votes"
            )
        self._open()
        kinds = {field.name: field.type for field in self.head.schema if field.name != ID}
        numbers = (n for n, k in kinds.items() if pa.types.is_floating(k) or pa.types.is_integer(k))
        self.quantities = Quantities(self.tree, frozenset(numbers), self._open_beside())
        self.total: int = self._all("select count(*) from galaxies g")[0][0]

    @property
    def metadata(self) -> dict[str, str]:
        """What the catalogue says of itself."""
        return metadata_of(self.head)

    def _open(self) -> None:
        """Make the view `galaxies`, whose column `#row` counts the rows of the catalogue from 0."""
        files = self._files
        if len(files) == 1:
            made = f"select * rename (file_row_number as {quoted(ROW)}) from {_parquet(files)}"
        else:
            rows = [pa.parquet.read_metadata(path).num_rows for path in files]
            starts = np.cumsum([0, *rows[:-1]])
            self._table("shards", pa.table({"filename": [str(path) for path in files], "start": starts}))
            made = (
                "select p.* exclude (filename, file_row_number), "
                f"p.file_row_number + s.start as {quoted(ROW)} "
                f"from {_parquet(files)} p join shards s using (filename)"
            )
        self._connection.execute(f"create view galaxies as {made}")

    def _table(self, name: str, table: pa.Table) -> None:
        self._connection.register("given", table)
        self._connection.execute(f"create table {name} as select * from given")
        self._connection.unregister("given")

    @property
    def whose(self) -> str:
        """Whose fractions they are, in a word: of a published catalogue with vote counts the volunteers'."""
        return "volunteers" if self.layout.startswith(COUNTS) else "predicted"

    @property
    def beside(self) -> str:
        """What stands beside the catalogue, in a word."""
        return self.other.name if self.other else "volunteers"

    def _open_beside(self) -> frozenset[str]:
        """Make the table `votes` of what stands beside, and return the answers it has."""
        if self.labels and self.other:
            raise CatalogueError(f"{self.other} and {self.labels}: one of them stands beside {self.path}")
        if self.other:
            return self._open_other(self.other)
        if self.labels is None:
            return frozenset()
        labels = read_labels([self.labels], self.tree)
        joint = labels.joint[list(labels.row_of.values())]
        columns = {name: pa.array(joint[:, n], from_pandas=True) for n, name in enumerate(self.tree.columns)}
        self._table("votes", pa.table({ID: pa.array(list(labels.row_of), pa.string()), **columns}))
        return frozenset(self.tree.columns)

    def _open_other(self, path: Path) -> frozenset[str]:
        folder = Path(self._folder.name) / "beside"
        folder.mkdir()
        _, head, files, _ = opened(path, folder, self.tree)
        answers = [name for name in self.tree.columns if name in head.column_names]
        if not answers:
            raise CatalogueError(f"{path}: it has no answer of {self.tree.name}, the tree of {self.path}")
        listed = ", ".join([f"{ID}::varchar as {ID}", *map(quoted, answers)])
        self._connection.execute(f"create view votes as select {listed} from {_parquet(files)}")
        return frozenset(answers)

    def _from(self, *sql: str) -> str:
        """Return the tables that some SQL needs."""
        votes = any('v."' in text for text in sql)
        joined = f" left join votes v on v.{ID} = g.{ID}::varchar" if votes else ""
        for table in dict.fromkeys(name for text in sql for name in BY_ROW.findall(text)):
            joined += f" left join {table} on {table}.rowid = g.{quoted(ROW)}"
        return f"from galaxies g{joined}"

    def put(self, values: NDArray) -> int:
        """Keep a number of each row of the catalogue, (galaxy,), NaN for none; return that of its table.

        `selection.by_row` names it in SQL, where its column is `value`.
        """
        numbers = np.asarray(values, np.float32)
        with self._lock:
            number = next(self._tables)
            self._table(by_row(number), pa.table({"value": pa.array(numbers, from_pandas=True)}))
            self._by_row[number] = numbers
        return number

    def drop(self, number: int) -> None:
        """Forget what `put` kept."""
        with self._lock:
            self._connection.execute(f"drop table if exists {by_row(number)}")
            self._by_row.pop(number, None)

    def _all(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            return cursor.execute(sql, list(values)).fetchall()

    def count(self, selection: Selection) -> int:
        """Return how many galaxies are in a selection."""
        condition, values = selection.sql(self.quantities)
        return self._kept(f"select count(*) {self._from(condition)} where {condition}", tuple(values))[0][0]

    def page(
        self, selection: Selection, order: Order, *, offset: int, limit: int, shown: Sequence[str] = ()
    ) -> list[dict[str, Any]]:
        """Return some galaxies of a selection in an order: id, row, and the quantities `shown` of each."""
        number = self.quantities.more(order.quantity)
        if number is not None:
            return self.at(self._first(selection, number, order.down, offset + limit)[offset:], shown)
        condition, values = selection.sql(self.quantities)
        by = f"order by {order.sql(self.quantities)} limit {int(limit)} offset {int(offset)}"
        return self._galaxies(shown, condition, values, by)

    def _galaxies(
        self, shown: Sequence[str], condition: str, values: Sequence[object], by: str = ""
    ) -> list[dict[str, Any]]:
        numbers = [self.quantities.sql(name) for name in shown]
        listed = ", ".join([f"g.{ID}::varchar", f"g.{quoted(ROW)}", *numbers])
        sql = f"select {listed} {self._from(condition, by, *numbers)} where {condition} {by}"
        return [dict(zip(("galaxy_id", "row", *shown), row, strict=True)) for row in self._all(sql, values)]

    def _first(self, selection: Selection, number: int, down: bool, most: int) -> list[int]:
        """Return the first rows of a selection by numbers that `put` keeps: no join of tables is as fast."""
        rows = self.rows(selection)
        keys = self._by_row[number][rows] * np.float32(-1 if down else 1)
        if most < len(keys):
            kept = ~(keys > np.partition(keys, most)[most])
            rows, keys = rows[kept], keys[kept]
        return rows[np.argsort(keys, kind="stable")][:most].tolist()

    def at(self, rows: Sequence[int], shown: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Return the galaxies of some rows of the catalogue, in that order; as `page`."""
        chosen = f"g.{quoted(ROW)} in (select unnest(?::bigint[]))"
        found = {galaxy["row"]: galaxy for galaxy in self._galaxies(shown, chosen, [list(rows)])}
        return [found[row] for row in rows if row in found]

    def pieces(self, selection: Selection, order: Order) -> Iterator[pa.Table]:
        """Yield the galaxies of a selection in an order with all columns of the catalogue, in pieces.

        The first is empty. Raises CatalogueError, UnknownAnswer before it.
        """
        condition, values = selection.sql(self.quantities)
        by = f"order by {order.sql(self.quantities)}" if order.quantity else ""
        listed = ", ".join(f"g.{quoted(name)}" for name in self.head.column_names)
        sql = f"select {listed} {self._from(condition, by)} where {condition} {by}"
        return chain([self.head], self._pieces(sql, values))

    def _pieces(self, sql: str, values: Sequence[object]) -> Iterator[pa.Table]:
        with self._connection.cursor() as cursor:
            for batch in cursor.sql(sql, params=list(values)).to_arrow_reader(PIECE):
                yield pa.Table.from_batches([batch]).cast(self.head.schema)

    def rows(self, selection: Selection) -> NDArray[np.int64]:
        """Return the rows of a selection, sorted, shape (galaxy,)."""
        condition, values = selection.sql(self.quantities)
        sql = f"select g.{quoted(ROW)} as row {self._from(condition)} where {condition}"
        with self._connection.cursor() as cursor:
            return np.sort(cursor.execute(sql, values).fetchnumpy()["row"]).astype(np.int64)

    def rows_of(self, galaxy_ids: Sequence[str]) -> NDArray[np.int64]:
        """Return the rows of those galaxies that are in the catalogue, sorted."""
        column, values = f"g.{ID}::varchar", list[Any](galaxy_ids)
        if pa.types.is_integer(self.head.schema.field(ID).type):
            column, numbers = f"g.{ID}", [id_column([text])[0].as_py() for text in galaxy_ids]
            values = [number for number in numbers if isinstance(number, int)]  # "007" is none
        sql = f"select {quoted(ROW)} from galaxies g where {column} in (select unnest(?)) order by all"
        return np.array([row for (row,) in self._all(sql, [values])] if values else [], np.int64)

    def ids(self) -> Iterator[pa.Array]:
        """Yield the ids of all galaxies as texts, in the order of the rows, in pieces."""
        for path in self._files:
            with pa.parquet.ParquetFile(path) as file:
                for batch in file.iter_batches(PIECE, columns=[ID], use_threads=False):
                    yield batch.column(ID).cast(pa.string())

    def galaxy(self, galaxy_id: str) -> dict[str, Any] | None:
        """Return all columns of one galaxy and, under "volunteers", its votes; None where it is not there."""
        with self._connection.cursor() as cursor:
            cursor.execute(f"select * from galaxies where {ID}::varchar = ?", [galaxy_id])
            names = [column[0] for column in cursor.description]
            row = cursor.fetchone()
            if row is None:
                return None
            galaxy = dict(zip(names, row, strict=True))
            if self.quantities.beside:
                cursor.execute(f"select * exclude ({ID}) from votes where {ID} = ?", [galaxy_id])
                names, votes = [column[0] for column in cursor.description], cursor.fetchone()
                galaxy["volunteers"] = dict(zip(names, votes, strict=True)) if votes else None
        return galaxy

    def span(self, quantity: str) -> tuple[float, float]:
        """Return the least and the greatest value of a quantity; 0 and 1 for fractions and for no values."""
        sql = self.quantities.sql(quantity)
        if quantity.removesuffix("~") in self.tree.columns or quantity.startswith("volunteers."):
            return 0.0, 1.0
        values = f"(select ({sql})::double as x {self._from(sql)})"
        low, high = self._kept(f"select min(x), max(x) from {values} where isfinite(x)", ())[0]
        return (0.0, 1.0) if low is None else (low, high if high > low else low + 1.0)

    def histogram(self, quantity: str, selection: Selection) -> dict[str, Any]:
        """Return edges (bin + 1,) and counts (bin,) of a quantity, of all galaxies and of a selection."""
        sql, (low, high) = self.quantities.sql(quantity), self.span(quantity)
        condition, values = selection.sql(self.quantities)

        def counted(condition: str, values: Sequence[object]) -> list[int]:
            asked = self._all if condition != "true" else self._kept
            place = f"least({BINS - 1}, floor((x - ?) / ? * {BINS}))::int"
            query = (
                f"select {place} as b, count(*) from (select ({sql})::double as x "
                f"{self._from(sql, condition)} where {condition}) where isfinite(x) group by b"
            )
            counts = [0] * BINS
            for place_, number in asked(query, (low, high - low, *values)):
                counts[max(place_, 0)] = number
            return counts

        whole = counted("true", [])
        part = counted(condition, values) if condition != "true" else whole
        edges = np.linspace(low, high, BINS + 1).tolist()
        return {"quantity": quantity, "edges": edges, "all": whole, "selected": part}

    def differences(self, selection: Selection) -> list[dict[str, Any]]:
        """Return per answer how a selection differs from what stands beside, largest root mean square first.

        Of the galaxies that have both: their number, mean and root mean square of the differences, the
        standard deviation (`scatter`), the largest absolute difference and its galaxy. None without a galaxy.
        """
        condition, values = selection.sql(self.quantities)
        answers = [name for name in self.tree.columns if name in self.quantities.beside]
        terms = [
            f"count({d}), avg({d}), sqrt(avg(({d}) ** 2)), stddev_pop({d}), max(abs({d})), "
            f"arg_max(g.{ID}::varchar, abs({d}))"
            for d in (f"({self.quantities.sql(f'difference.{name}')})::double" for name in answers)
        ]
        sql = f"select {', '.join(terms)} {self._from(*terms)} where {condition}"
        numbers = self._kept(sql, tuple(values))[0]
        rows = [
            {"answer": name, **dict(zip(DIFFERENCES, numbers[start : start + len(DIFFERENCES)], strict=True))}
            for name, start in zip(answers, range(0, len(numbers), len(DIFFERENCES)), strict=True)
        ]
        return sorted(rows, key=lambda row: -(row["rms"] or 0))

    def density(self, x: str, y: str, selection: Selection) -> dict[str, Any]:
        """Return the counts (y, x) of a selection on a grid of two quantities, and the edges of its cells."""
        spans = [self.span(x), self.span(y)]
        quantities = [self.quantities.sql(x), self.quantities.sql(y)]
        condition, values = selection.sql(self.quantities)
        place = f"least({CELLS - 1}, floor(({{}} - ?) / ? * {CELLS}))::int"
        query = (
            f"select {place.format('x')} as i, {place.format('y')} as j, count(*) from (select "
            f"({quantities[0]})::double as x, ({quantities[1]})::double as y "
            f"{self._from(condition, *quantities)} where {condition}) "
            "where isfinite(x) and isfinite(y) group by i, j"
        )
        steps = [number for low, high in spans for number in (low, high - low)]
        counts = np.zeros((CELLS, CELLS), np.int64)
        for column, row, number in self._all(query, [*steps, *values]):
            counts[max(row, 0), max(column, 0)] = number
        edges = [np.linspace(*span, CELLS + 1).tolist() for span in spans]
        return {"x": x, "y": y, "x_edges": edges[0], "y_edges": edges[1], "counts": counts.tolist()}


def _parquet(files: Sequence[Path]) -> str:
    names = ", ".join("'" + str(path).replace("'", "''") + "'" for path in files)
    filename = ", filename = true" if len(files) > 1 else ""
    return f"read_parquet([{names}], file_row_number = true{filename})"


# Catalogues as DuckDB reads them: Parquet in our columns, where it lies or written from another form


class Opened(NamedTuple):
    """A catalogue of `tree`: columns and metadata without a row, its files, its layout if it is published."""

    tree: DecisionTree
    head: pa.Table
    files: list[Path]
    layout: str = ""


def opened(path: Path, folder: Path, tree: DecisionTree | None = None) -> Opened:
    """Open a catalogue of a tree, by default its own; one in other columns or formats is written to `folder`.

    Raises CatalogueError for one that cannot be read or is too large to be written anew, DiskError.
    """
    head = read_head(path)
    tree = tree or tree_of(head)
    if is_catalogue_folder(path):
        return Opened(tree, head, CatalogueFolder(path).shards())
    found = None if set(tree.columns).issubset(head.column_names) else found_of(head.column_names, tree)
    is_parquet = path.suffix.lower() == ".parquet"
    if is_parquet and found is None and ID in head.column_names:
        return Opened(tree, head, [path])
    written = folder / f"{path.stem}.parquet"
    with naming(path):
        if is_parquet and found and (found.quantity != COUNT or all(each.totals for each in found.read)):
            pieces = _published(path, tree, found)
        else:
            _check_size(path, head)
            pieces = iter([_ours(read_catalogue(path), tree, found)])
        write_pieces(pieces, written)
    return Opened(tree, read_head(written), [written], str(found or ""))


def _published(path: Path, tree: DecisionTree, found: Found) -> Iterator[pa.Table]:
    """Yield a published catalogue in our columns, some rows at a time; of the whole the ids are held."""
    ids, start = read_catalogue(path, []).column(ID), 0
    with pa.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(PIECE, use_threads=False):
            table = with_id(pa.Table.from_batches([batch]))
            place = table.column_names.index(id_name(table.column_names))
            yield _ours(table.set_column(place, ID, ids.slice(start, len(table))), tree, found)
            start += len(table)


def _ours(table: pa.Table, tree: DecisionTree, found: Found | None) -> pa.Table:
    """Return a catalogue with a column for each answer, whichever way it has them."""
    table, _ = in_our_columns(table, tree, found=found)
    if found is None or set(tree.columns).issubset(table.column_names):
        return table
    return with_fractions(table, fractions(table, tree), tree)


def _check_size(path: Path, head: pa.Table) -> None:
    """Raise CatalogueError for a catalogue that is too large to be read whole."""
    size = path.stat().st_size
    if path.suffix.lower() == ".parquet":
        size = 8 * pa.parquet.read_metadata(path).num_rows * len(head.column_names)
    if size > LARGEST:
        raise CatalogueError(
            f"{path}: it would be read whole, {size / 1e9:.0f} GB, and at most {LARGEST / 1e9:.0f} are: "
            "save it as Parquet"
        )
