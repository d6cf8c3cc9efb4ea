"""Published catalogues: how they spell a tree's answers, and ours in their spelling.

`zoo/layouts.toml` has the patterns. A table in one of them becomes one in our columns: joint fractions and,
where it has them, vote counts.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hubblefork.data.catalogue import ID, fractions, metadata_of, with_fractions, with_votes
from hubblefork.data.columns import column_named, numbers, with_id
from hubblefork.errors import CatalogueError, did_you_mean
from hubblefork.zoo import (
    Answer,
    DecisionTree,
    VoteCounts,
    load_tree,
    reach,
    to_conditional,
    to_joint,
    tree_names,
)

NEARLY = 0.5
ROUNDED = 0.05
"""By how much fractions that were rounded may miss a sum of one."""
ASKED = 0.5
"""Friendly columns are empty where fewer were asked."""
COLUMNS = ("joint", "conditional", "friendly", "advanced", "kaggle")
JOINT = "joint"


@dataclass(frozen=True)
class Layout:
    """The columns in which a catalogue holds a tree: for each answer, with counts also for each question.

    `quantity` is "count", "joint", "fraction" or "debiased". `totals` may be empty: those of Galaxy Zoo 2 are
    sums.
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

    Of several trees the one with most of the columns, these as the table spells them. Raises CatalogueError
    that names the nearest columns, and where two trees have the same.
    """
    layouts = _layouts(tree) if tree else _of_all_trees()
    whole = [found for layout in layouts if (found := _found(layout, names))]
    if not whole:
        raise CatalogueError(_nearly(layouts, names))
    most = max(len(layout.columns) for layout in whole)
    best = [layout for layout in whole if len(layout.columns) == most]
    trees = sorted({layout.tree.name for layout in best})
    if len(trees) > 1:
        asked = " or ".join(f"--tree {name}" for name in trees)
        raise CatalogueError(f"its columns are those of several trees: say which, {asked}")
    return best[0]


def tree_of(names: Sequence[str]) -> DecisionTree | None:
    """Return the tree that a table answers, by the names of its columns; None where they are of none.

    Raises CatalogueError for columns that are those of two trees, or of which most are a published
    layout's and not all.
    """
    return layout_of(names).tree if _is_published(_of_all_trees(), names) else None


def _is_published(layouts: Sequence[Layout], names: Collection[str]) -> bool:
    """Say whether a table has a layout wholly, or most of a published one."""
    there = set(names)
    published = (layout for layout in layouts if layout.quantity != JOINT)
    return any(_found(layout, names) for layout in layouts) or any(
        _share(layout, there) >= NEARLY for layout in published
    )


def _found(layout: Layout, names: Collection[str]) -> Layout | None:
    """Return a layout with the names that its columns have in a table; None where one is not there."""
    spelled: list[str] = []
    for name in (*layout.columns, *layout.totals):
        there = column_named(names, name)
        if there is None:
            return None
        spelled.append(there)
    columns, totals = spelled[: len(layout.columns)], spelled[len(layout.columns) :]
    return replace(layout, columns=tuple(columns), totals=tuple(totals))


def _nearly(layouts: Sequence[Layout], names: Collection[str]) -> str:
    """Say which columns of the nearest layout are not there."""
    there = set(names)
    nearest = max(layouts, key=lambda layout: _share(layout, there))
    if _share(nearest, there) < NEARLY:
        return f"its columns are of no tree: {', '.join(tree_names())}; name one with --tree"
    lacking = [name for name in (*nearest.columns, *nearest.totals) if name not in there]
    others = there.difference(nearest.columns)
    listed = ", ".join(name + did_you_mean(name, others) for name in lacking[:3])
    more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
    return (
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


def _of_all_trees() -> tuple[Layout, ...]:
    return tuple(layout for name in tree_names() for layout in _layouts(load_tree(name)))


@cache
def _layouts(tree: DecisionTree) -> tuple[Layout, ...]:
    return tuple(_spelled(tree))


def _spelled(tree: DecisionTree) -> Iterator[Layout]:
    base = bases(tree)
    for pattern in _entries()["layouts"]:
        total, quantity = pattern.get("total", ""), pattern["quantity"]
        if quantity != JOINT and not (tree.suffixes or base):
            continue
        if "{base}" in pattern["answer"] and not base:
            continue
        for suffix in tree.suffixes if "{survey}" in pattern["answer"] else [""]:
            parts = [_parts(answer, suffix, base) for answer in tree.answers]
            columns = tuple(pattern["answer"].format(**each) for each in parts)
            totals = tuple(total.format(**parts[answers.start]) for answers in tree.slices if total)
            yield Layout(tree, pattern["name"], quantity, columns, totals)


def _parts(answer: Answer, suffix: str, base: Mapping[str, str]) -> dict[str, str]:
    """Return what the patterns put together."""
    question, _, last = answer.column.rpartition("_")
    names = {"name": answer.name, "column": answer.column, "base": base.get(answer.name, "")}
    return {**names, "question": question, "answer": last, "survey": f"-{suffix}" if suffix else ""}


def bases(tree: DecisionTree) -> dict[str, str]:
    """Return the base of each answer's columns in the table of Hart et al. 2016; empty for other trees."""
    found: dict[str, str] = _entries()["bases"].get(tree.name, {})
    return found


@cache
def _entries() -> dict[str, Any]:
    file = resources.files("hubblefork.zoo").joinpath("layouts.toml")
    return tomllib.loads(file.read_text(encoding="utf-8"))


# Theirs to ours


def in_our_columns(table: pa.Table, tree: DecisionTree) -> tuple[pa.Table, Layout | None]:
    """Return a published table with our columns added, and its layout; one with ours as it is, and None.

    Added are joint fractions, vote counts where it has them, and `galaxy_id` where two columns together name
    the galaxies. Raises CatalogueError for columns that are nearly a layout's, and for values that are no
    numbers.
    """
    table = with_id(table)
    if not _is_published(_layouts(tree), table.column_names):
        return table, None
    layout = layout_of(table.column_names, tree)
    if layout.quantity == JOINT:
        return table, None
    values = _values(table, layout.columns)
    if layout.quantity == "count":
        votes = _votes(table, layout, values)
        return with_votes(with_fractions(table, votes.joint(tree), tree), votes, tree), layout
    return with_fractions(table, to_joint(tree, _summing_to_one(values, layout)), tree), layout


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
