"""The layouts of published catalogues: how they spell a tree's answers, and which of them a table has.

`zoo/layouts.toml` has the patterns; `tables.published` reads and writes what they name.
"""

from __future__ import annotations

import tomllib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from itertools import chain, islice
from typing import Any

from numpy.typing import NDArray

from hubblefork.errors import CatalogueError, did_you_mean
from hubblefork.tables.columns import LISTED, column_named
from hubblefork.zoo import DecisionTree, load_tree, tree_names

NEARLY = 0.5
COUNT, JOINT, DEBIASED = "count", "joint", "debiased"


@dataclass(frozen=True)
class Layout:
    """The columns in which a catalogue may hold a tree, one for each answer.

    `quantity` is "count", "joint", "fraction" or "debiased"; `survey` is the suffix of the questions, if they
    have one. `totals` are for each question the names that its total may have, none where totals are always
    sums; `dirichlet` are the columns of Dirichlet parameters that may stand beside fractions.
    """

    tree: DecisionTree
    name: str
    quantity: str
    columns: tuple[str, ...]
    survey: str = ""
    totals: tuple[tuple[str, ...], ...] = ()
    dirichlet: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """What `--layout` calls it: "counts:dr5"."""
        return f"{self.name}:{self.survey}" if self.survey else self.name

    def __str__(self) -> str:
        return f"{self.label} of {self.tree.name} ({self.columns[0]} …)"


@dataclass(frozen=True)
class Found:
    """What a table has: the layouts that are read, of which several are counts to be added, and others."""

    read: tuple[Layout, ...]
    others: tuple[Layout, ...] = ()

    @property
    def tree(self) -> DecisionTree:
        """The tree that is read."""
        return self.read[0].tree

    @property
    def quantity(self) -> str:
        """What is read: "count", "joint", "fraction" or "debiased"."""
        return self.read[0].quantity

    def columns(self, names: Collection[str]) -> set[str]:
        """Return those of a table's columns that are read, or may be: of counts all of the questions."""
        stems = {_stem(name) for one in self.read if one.quantity == COUNT for name in one.columns}
        ours = chain(*((*one.columns, *one.dirichlet) for one in self.read))
        return {*ours, *(name for name in names if _stem(name) in stems)}

    def __str__(self) -> str:
        read = " + ".join(layout.label for layout in self.read)
        said = f"{read} of {self.tree.name} ({self.read[0].columns[0]} …)"
        return f"{said}; there are also {self._others()}: --layout chooses" if self.others else said

    def _others(self) -> str:
        theirs = [
            layout.label if layout.tree == self.tree else f"{layout.label} (--tree {layout.tree.name})"
            for layout in self.others
        ]
        more = f" and {len(theirs) - LISTED} more" if len(theirs) > LISTED else ""
        return ", ".join(theirs[:LISTED]) + more


def _stem(name: str) -> str:
    return name.rpartition("_")[0].casefold()


def found_in(names: Collection[str], tree: DecisionTree | None = None, wanted: str = "") -> Found:
    """Return what a table has by the names of its columns, of one tree or of any that comes along.

    Of several trees the one with most of the columns, these as the table spells them. `wanted` is a layout's
    name, its survey or both ("counts", "dr8", "counts:dr8"), or several surveys whose counts are added
    ("dr5+dr8"). Raises CatalogueError that names the nearest columns, for a layout that is not there or that
    cannot be added, and where two trees have the same columns.
    """
    layouts = _layouts(tree) if tree else _of_all_trees()
    whole = defaultdict(list)
    for layout in _whole(layouts, names):
        whole[layout.tree].append(layout)
    if not whole:
        raise CatalogueError(_nearly(layouts, names))
    read = {of: chosen for of, found in whole.items() if (chosen := _chosen(found, wanted))}
    if not read:
        labels = list(dict.fromkeys(layout.label for found in whole.values() for layout in found))
        near = did_you_mean(wanted, labels)
        raise CatalogueError(f'it has no layout "{wanted}"{near}: it has {", ".join(labels)}')
    most = max(len(of.columns) for of in read)
    best = [of for of in read if len(of.columns) == most]
    if len(best) > 1:
        asked = " or ".join(f"--tree {name}" for name in sorted(of.name for of in best))
        raise CatalogueError(f"its columns are those of several trees: say which, {asked}")
    known = _of_all_trees() if best[0] in {layout.tree for layout in _of_all_trees()} else ()
    every = chain(whole[best[0]], _whole(known, names))
    return Found(tuple(read[best[0]]), tuple(_others(read[best[0]], every)))


def tree_of(names: Sequence[str], wanted: str = "") -> DecisionTree | None:
    """Return the tree that a table answers, by the names of its columns; None where they are of none.

    Raises CatalogueError for columns that are those of two trees, or of which most are a published
    layout's and not all; and for a layout `wanted` that is not there.
    """
    return found_in(names, wanted=wanted).tree if wanted or _is_known(_of_all_trees(), names) else None


def found_of(names: Collection[str], tree: DecisionTree, wanted: str = "") -> Found | None:
    """Return what a table has of a tree; None where it is no layout, nor nearly. Raises as `found_in`."""
    return found_in(names, tree, wanted) if wanted or _is_known(_layouts(tree), names) else None


def _whole(layouts: Iterable[Layout], names: Collection[str]) -> Iterator[Layout]:
    """Yield the layouts of which a table has all columns, with the names that these have in it."""
    for layout in layouts:
        spelled = []
        for name in layout.columns:
            there = column_named(names, name)
            if there is None:
                break
            spelled.append(there)
        else:
            yield replace(layout, columns=tuple(spelled))


def _chosen(found: Sequence[Layout], wanted: str) -> list[Layout]:
    """Return the layouts that are wanted, the first where nothing is said; none where one is not there."""
    if not wanted:
        return [found[0]]
    name, colon, surveys = wanted.rpartition(":")
    asked = [name + colon + survey for survey in dict.fromkeys(surveys.split("+"))]
    chosen = [
        layout
        for one in asked
        for layout in islice((each for each in found if one in (each.label, each.name, each.survey)), 1)
    ]
    if len(chosen) > 1 and any(layout.quantity != COUNT for layout in chosen):
        raise CatalogueError(f'"{wanted}" adds {chosen[0].name}: only counts can be added, counts:{surveys}')
    return chosen if len(chosen) == len(asked) else []


def _others(read: Sequence[Layout], every: Iterable[Layout]) -> Iterator[Layout]:
    """Yield the layouts with columns that none before them has."""
    seen = {name for layout in read for name in layout.columns}
    for layout in every:
        if not seen.issuperset(layout.columns):
            seen.update(layout.columns)
            yield layout


def _is_known(layouts: Sequence[Layout], names: Collection[str]) -> bool:
    """Say whether a table has a layout wholly, or most of a published one."""
    there = set(names)
    published = (layout for layout in layouts if layout.quantity != JOINT)
    return any(_whole(layouts, names)) or any(_share(layout, there) >= NEARLY for layout in published)


def _nearly(layouts: Sequence[Layout], names: Collection[str]) -> str:
    """Say which columns of the nearest layout are not there."""
    there = set(names)
    nearest = max(layouts, key=lambda layout: _share(layout, there))
    if _share(nearest, there) < NEARLY:
        return f"its columns are of no tree: {', '.join(tree_names())}; name one with --tree"
    lacking = [name for name in nearest.columns if name not in there]
    others = there.difference(nearest.columns)
    listed = ", ".join(name + did_you_mean(name, others) for name in lacking[:3])
    more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
    return (
        f"its columns are no published layout; nearly {nearest}, of which "
        f"{listed}{more} {'is' if len(lacking) == 1 else 'are'} missing"
    )


def _share(layout: Layout, there: set[str]) -> float:
    """Return the share of a layout's columns that are there; 0 for counts that could be joint fractions."""
    alike = layout.quantity == COUNT and layout.columns == layout.tree.source_columns
    if alike and there.isdisjoint(chain(*layout.totals)):
        return 0.0
    return sum(name in there for name in layout.columns) / len(layout.columns)


def published_counts(tree: DecisionTree, given: NDArray, asked: NDArray) -> dict[str, NDArray]:
    """Return vote counts (galaxy, answer) and totals (galaxy, question) by their published names.

    In the first layout that has both, with the first of the tree's suffixes; empty for a tree without.
    """
    layouts = (each for each in _layouts(tree) if each.totals and tree.suffixes)
    columns: dict[str, NDArray] = {}
    for layout in islice(layouts, 1):
        for number, answers in enumerate(tree.slices):
            columns |= dict(zip(layout.columns[answers], given.T[answers], strict=True))
            columns[layout.totals[number][0]] = asked[:, number]
    return columns


@cache
def _of_all_trees() -> tuple[Layout, ...]:
    return tuple(layout for name in tree_names() for layout in _layouts(load_tree(name)))


@cache
def _layouts(tree: DecisionTree) -> tuple[Layout, ...]:
    base, surveys, spelled = bases(tree), _surveys(tree), list[Layout]()
    for pattern in _entries()["layouts"]:
        answer, quantity = pattern["answer"], pattern["quantity"]
        if ("{base}" in answer and not base) or (tree.number and quantity != JOINT):
            continue
        named = surveys if "{survey}" in answer else [""]
        spelled += [_layout(tree, pattern, survey, base) for survey in named]
    return tuple(spelled)


def _layout(tree: DecisionTree, pattern: Mapping[str, Any], survey: str, base: Mapping[str, str]) -> Layout:
    parts = []
    for answer in tree.answers:
        question, _, last = answer.column.rpartition("_")
        names = {"name": answer.name, "column": answer.column, "base": base.get(answer.name, "")}
        suffix = f"-{survey}" if survey else ""
        parts.append({**names, "question": question, "answer": last, "survey": suffix})
    columns, dirichlet = (
        tuple(text.format(**each) for each in parts if text)
        for text in (pattern["answer"], pattern.get("dirichlet", ""))
    )
    totals = tuple(
        tuple(total.format(**parts[answers.start]) for total in pattern.get("totals", ()))
        for answers in tree.slices
    )
    named = pattern["name"], pattern["quantity"], columns, survey
    return Layout(tree, *named, totals if any(totals) else (), dirichlet)


def _surveys(tree: DecisionTree) -> tuple[str, ...]:
    """Return the suffixes of a tree's questions; none at all where columns do not name their question."""
    parts = [{answer.column.rpartition("_")[0] for answer in question.answers} for question in tree.questions]
    named = {part for of_question in parts for part in of_question}
    apart = all(map(len, (named, *parts))) and len(named) == len(parts) and "" not in named
    several = any(len(question.answers) > 1 for question in tree.questions)
    return (tree.suffixes or ("",)) if apart and several else ()


def bases(tree: DecisionTree) -> dict[str, str]:
    """Return the base of each answer's columns in the table of Hart et al. 2016; empty for other trees."""
    found: dict[str, str] = _entries()["bases"].get(tree.name, {})
    return found


@cache
def _entries() -> dict[str, Any]:
    file = resources.files("hubblefork.zoo").joinpath("layouts.toml")
    return tomllib.loads(file.read_text(encoding="utf-8"))
