"""Published catalogues: how they spell a tree's answers, and ours in their spelling.

`zoo/layouts.toml` has the patterns. A table in one of them becomes one in our columns: joint fractions and,
where it has them, vote counts.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from hubblefork.data.catalogue import ID, fractions, metadata_of, with_fractions, with_votes
from hubblefork.data.columns import column_named, id_name, numbers
from hubblefork.errors import CatalogueError, did_you_mean
from hubblefork.zoo import DecisionTree, VoteCounts, load_tree, reach, to_conditional, to_joint, tree_names

NEARLY = 0.5
ROUNDED = 0.05
"""By how much fractions that were rounded may miss a sum of one."""
ASKED = 0.5
"""Friendly columns are empty where fewer were asked."""
COLUMNS = ("joint", "conditional", "friendly", "advanced", "kaggle")
BRICK = ("brickid", "objid")


@dataclass(frozen=True)
class Layout:
    """The columns in which a catalogue holds a tree: for each answer, with counts also for each question.

    `quantity` is "count", "fraction" or "debiased". `totals` may be empty: those of Galaxy Zoo 2 are sums.
    """

    tree: DecisionTree
    name: str
    quantity: str
    columns: tuple[str, ...]
    totals: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name} of {self.tree.name} ({self.columns[0]} …)"


def layout_of(names: Collection[str], tree: DecisionTree | None = None) -> Layout:
    """Return the layout of a table by the names of its columns, of one tree or of any that comes along.

    Of several trees the one with most of the columns. Raises CatalogueError that names the nearest columns.
    """
    trees = [tree] if tree else [load_tree(name) for name in tree_names()]
    there, layouts = set(names), [layout for each in trees for layout in _layouts(each)]
    whole = [layout for layout in layouts if there.issuperset((*layout.columns, *layout.totals))]
    if whole:
        return max(whole, key=lambda layout: (len(layout.columns), -layouts.index(layout)))
    nearest = max(layouts, key=lambda layout: _share(layout, there))
    if tree is None and _share(nearest, there) < NEARLY:
        raise CatalogueError(f"its columns are of no tree: {', '.join(tree_names())}; name one with --tree")
    lacking = [name for name in (*nearest.columns, *nearest.totals) if name not in there]
    others = there.difference(nearest.columns)
    listed = ", ".join(name + did_you_mean(name, others) for name in lacking[:3])
    more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
    raise CatalogueError(
        f"its columns are no published layout; nearly {nearest}, of which "
        f"{listed}{more} {'is' if len(lacking) == 1 else 'are'} missing"
    )


def published_counts(tree: DecisionTree, given: NDArray, asked: NDArray) -> dict[str, NDArray]:
    """Return vote counts (galaxy, answer) and totals (galaxy, question) by their published names.

    In the first layout that has both, with the first of the tree's suffixes; empty where none has.
    """
    layouts = (each for each in _layouts(tree) if each.quantity == "count" and each.totals)
    columns: dict[str, NDArray] = {}
    for layout in islice(layouts, 1):
        for number, answers in enumerate(tree.slices):
            columns |= dict(zip(layout.columns[answers], given.T[answers], strict=True))
            columns[layout.totals[number]] = asked[:, number]
    return columns


def _share(layout: Layout, there: set[str]) -> float:
    """Return the share of a layout's columns that are there; 0 without any total where it has totals."""
    if layout.totals and there.isdisjoint(layout.totals):
        return 0.0
    return sum(name in there for name in layout.columns) / len(layout.columns)


def tree_of(names: Sequence[str]) -> DecisionTree | None:
    """Return the tree that a table answers, by the names of its columns; None where they are of none.

    Raises CatalogueError for columns of which most are a published layout's, and not all.
    """
    for tree in map(load_tree, tree_names()):
        for spelled in (tree.columns, tree.source_columns):
            if all(column_named(names, name) for name in spelled):
                return tree
    layouts = [layout for name in tree_names() for layout in _layouts(load_tree(name))]
    if max(_share(layout, set(names)) for layout in layouts) < NEARLY:
        return None
    return layout_of(names).tree


@cache
def _layouts(tree: DecisionTree) -> tuple[Layout, ...]:
    return tuple(_spelled(tree))


def _spelled(tree: DecisionTree) -> Iterator[Layout]:
    file = resources.files("hubblefork.zoo").joinpath("layouts.toml")
    entries: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
    bases = entries["bases"].get(tree.name, {})
    parts = [answer.column.rpartition("_") for answer in tree.answers]
    firsts = [parts[answers.start] for answers in tree.slices]
    for pattern in entries["layouts"]:
        if "{base}" in pattern["answer"]:
            columns = [pattern["answer"].format(base=base) for base in map(bases.get, tree.columns) if base]
            if columns:
                yield Layout(tree, pattern["name"], pattern["quantity"], tuple(columns))
            continue
        for suffix in tree.suffixes:
            survey = f"-{suffix}" if suffix else ""
            names = [
                pattern["answer"].format(question=question, survey=survey, answer=answer)
                for question, _, answer in parts
            ]
            total = pattern.get("total", "")
            totals = [total.format(question=question, survey=survey) for question, *_ in firsts if total]
            yield Layout(tree, pattern["name"], pattern["quantity"], tuple(names), tuple(totals))


def bases(tree: DecisionTree) -> dict[str, str]:
    """Return the base of each answer's columns in the table of Hart et al. 2016; empty for other trees."""
    file = resources.files("hubblefork.zoo").joinpath("layouts.toml")
    entries: dict[str, dict[str, str]] = tomllib.loads(file.read_text(encoding="utf-8"))["bases"]
    return entries.get(tree.name, {})


# Theirs to ours


def in_our_columns(table: pa.Table, tree: DecisionTree) -> tuple[pa.Table, Layout | None]:
    """Return a published table with our columns added, and its layout; one with ours as it is, and None.

    Added are joint fractions, vote counts where it has them, and `galaxy_id` where two columns together name
    the galaxies. Raises CatalogueError for columns that are nearly a layout's, and for values that are no
    numbers.
    """
    table, names = with_id(table), table.column_names
    ours = all(column_named(names, name) for name in tree.columns)
    shares = {_share(layout, set(names)): layout for layout in _layouts(tree)}
    nearest = max(shares, default=0.0)
    counted = nearest == 1 and shares[nearest].totals  # an answer may be named as its published column
    if nearest < NEARLY or (ours and not counted):
        return table, None
    layout = layout_of(names, tree)
    values = _values(table, layout.columns)
    if layout.quantity == "count":
        votes = _votes(table, layout, values)
        return with_votes(with_fractions(table, votes.joint(tree), tree), votes, tree), layout
    return with_fractions(table, to_joint(tree, _summing_to_one(values, layout)), tree), layout


def with_id(table: pa.Table) -> pa.Table:
    """Return a table with `galaxy_id`, "brick_object", where only these two columns name galaxies."""
    try:
        id_name(table.column_names)
    except CatalogueError:
        if set(BRICK) <= set(table.column_names):
            parts = [table.column(name).cast(pa.string()) for name in BRICK]
            return table.append_column(ID, pa.compute.binary_join_element_wise(*parts, "_"))
    return table


def _values(table: pa.Table, names: Sequence[str]) -> NDArray[np.float64]:
    columns = []
    for name in names:
        values, bad = numbers(table.column(name))
        for row in np.flatnonzero(bad)[:1].tolist():
            raise CatalogueError(
                f"row {row + 1}: {name} is {table.column(name)[row].as_py()!r}, which is no number"
            )
        columns.append(values)
    return np.stack(columns, axis=1)


def _votes(table: pa.Table, layout: Layout, given: NDArray) -> VoteCounts:
    """Return counts and totals; an empty count is none. Raises CatalogueError for what cannot be a count."""
    tree = layout.tree
    given = np.nan_to_num(given)
    totals = np.stack([given[:, answers].sum(axis=1) for answers in tree.slices], axis=1)
    if layout.totals:
        totals = np.nan_to_num(_values(table, layout.totals))
    for values, names in ((given, layout.columns), (totals, layout.totals or layout.columns)):
        wrong = (values < 0) | (values != np.trunc(values))
        for row, column in zip(*np.nonzero(wrong), strict=True):
            raise CatalogueError(
                f"row {row + 1}: {names[column]} is {values[row, column]:g}; a count is a whole number from 0"
            )
    return VoteCounts(given.astype(np.int64), totals.astype(np.int64))


def _summing_to_one(values: NDArray, layout: Layout) -> NDArray[np.float64]:
    """Scale the fractions of a question that were rounded, or debiased each by itself, to a sum of one."""
    scaled = values.copy()
    for question, answers in zip(layout.tree.questions, layout.tree.slices, strict=True):
        if question.exclusive:
            total = values[:, answers].sum(axis=1)
            near = (np.abs(total - 1) <= ROUNDED) | (layout.quantity == "debiased")
            near &= total > 0
            scaled[near, answers] = values[near, answers] / total[near, None]
            nobody = (values[:, answers] == 0).all(axis=1)
            scaled[nobody, answers] = np.nan
    return scaled


# Ours to theirs


def spelled_as(table: pa.Table, tree: DecisionTree, columns: str) -> pa.Table:
    """Return a catalogue of predictions in another spelling: one of `COLUMNS`.

    "friendly" are conditional fractions, null where fewer than half are asked; "advanced" has them all, the
    share that is asked, and the ends of the intervals if there are any; "kaggle" and "joint" are joint
    fractions. Ids and positions stay. Raises CatalogueError for another name.
    """
    if columns not in COLUMNS:
        near = did_you_mean(columns, COLUMNS)
        raise CatalogueError(f'there are no columns "{columns}"{near}: {", ".join(COLUMNS)}')
    if columns == "joint":
        return table
    kept = [name for name in (ID, "ra", "dec") if name in table.column_names]
    metadata = {**metadata_of(table), "quantity": "joint_fraction" if columns == "kaggle" else "fraction"}
    if columns == "kaggle":
        renamed = table.select([ID, *tree.columns]).rename_columns(["GalaxyID", *tree.source_columns])
        return renamed.replace_schema_metadata(metadata)
    joint = fractions(table, tree)
    asked = reach(tree, joint)
    shares, each = to_conditional(tree, joint), asked[:, list(tree.question_of)]
    if columns == "friendly":
        shares = np.where(each < ASKED, np.nan, shares)
    end = {"conditional": "_conditional"}.get(columns, "_fraction")
    spelled = tree.columns if columns == "conditional" else tree.source_columns
    written = {f"{name}{end}": column for name, column in zip(spelled, shares.T, strict=True)}
    if columns == "advanced":
        written |= _advanced(table, tree, asked, each)
    result = table.select(kept)
    for name, column in written.items():
        result = result.append_column(name, pa.array(column.astype(np.float32), mask=np.isnan(column)))
    return result.replace_schema_metadata(metadata)


def _advanced(table: pa.Table, tree: DecisionTree, asked: NDArray, each: NDArray) -> dict[str, NDArray]:
    """Return the share of volunteers who are asked each question, and the ends of conditional intervals."""
    written: dict[str, NDArray] = {}
    for ours, theirs in (("low", "lower"), ("high", "upper")):
        names = [f"{name}_{ours}" for name in tree.columns]
        if set(names) <= set(table.column_names):
            coverage = f"{100 * float(metadata_of(table)['interval_coverage']):g}"
            ends = np.stack([table.column(name).cast(pa.float64()).to_numpy() for name in names], axis=1)
            ends = np.clip(np.divide(ends, each, out=np.full(ends.shape, np.nan), where=each > 0), 0, 1)
            spelled = [f"{name}_{coverage}pc-{theirs}" for name in tree.source_columns]
            written |= dict(zip(spelled, ends.T, strict=True))
    questions = [tree.answers[answers.start].column.rpartition("_")[0] for answers in tree.slices]
    written |= {f"{name}_proportion-asked": column for name, column in zip(questions, asked.T, strict=True)}
    return written
