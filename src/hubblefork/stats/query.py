"""Which galaxies count: an answer from a threshold on, or an expression of several answers.

    merger >= 0.3
    spiral > 0.5 & barred > 0.3
    ring > 0.2 | (disturbed + irregular > 0.4 & ~(merger > 0.3))

Names stand for joint fractions. An answer is named as in the tree (`barred`) or by its text where that is
one word of its own (`bar`). Allowed are numbers, `+`, comparisons, `&`, `|`, `~` (or and, or, not)
and parentheses; comparisons bind more tightly than `&`, as a reader expects. Nothing else is
evaluated: the text is parsed by Python's `ast`, never run.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hubblefork.errors import CatalogueError, UnknownAnswer, did_you_mean
from hubblefork.zoo import DecisionTree

LONGEST = 1000
SIGNS = {"&": " and ", "|": " or ", "~": " not ", "≥": ">=", "≤": "<="}
COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
}
EXAMPLE = "for example: spiral > 0.5 & barred > 0.3"

Joint = Mapping[str, NDArray[np.float64]]
"""Joint fractions (galaxy,) by answer; NaN where there is none."""


@dataclass(frozen=True)
class Criterion:
    """What makes a galaxy count, as text, with the answers it uses.

    `answer` and `threshold` are those of the plain criterion "answer ≥ threshold"; None for any other, for
    which no single predicted fraction says how close a galaxy is to counting.
    """

    text: str
    answers: tuple[str, ...]
    answer: str | None
    threshold: float | None
    expression: ast.expr = field(repr=False, compare=False)

    def holds(self, joint: Joint) -> NDArray[np.bool_]:
        """Return which galaxies count, shape (galaxy,), of joint fractions by answer.

        False where a fraction that is needed is missing: ask `known` first.
        """
        return np.asarray(_truth(self.expression, joint)) & self.known(joint)

    def known(self, joint: Joint) -> NDArray[np.bool_]:
        """Return which galaxies have all the fractions that the criterion needs, shape (galaxy,)."""
        return ~reduce(np.logical_or, (np.isnan(joint[name]) for name in self.answers))

    def score(self, joint: Joint) -> NDArray[np.float64] | None:
        """Return the fraction that says how close a galaxy is to counting, (galaxy,); None without one."""
        return None if self.answer is None else joint[self.answer]


def at_least(tree: DecisionTree, answer: str, threshold: float) -> Criterion:
    """Return the criterion "joint fraction of `answer` ≥ `threshold`".

    Raises UnknownAnswer, and CatalogueError for a threshold outside (0, 1].
    """
    if not 0 < threshold <= 1:
        raise CatalogueError(f"a threshold of {threshold}: it must be above 0 and at most 1")
    return parse_query(f"{tree.columns[tree.column(answer)]} >= {threshold!r}", tree)


def parse_query(text: str | Criterion, tree: DecisionTree) -> Criterion:
    """Turn an expression into a criterion (grammar: see the module); a criterion is returned as it is.

    Raises UnknownAnswer that names the nearest answer, and CatalogueError for what is no comparison of
    fractions.
    """
    if isinstance(text, Criterion):
        return text
    expression = _resolved(_parsed(text), tree, text)
    _check_truth(expression, text)
    used = {node.id for node in ast.walk(expression) if isinstance(node, ast.Name)}
    if not used:
        raise CatalogueError(f'"{text}" names no answer; {EXAMPLE}')
    answer, threshold = _plain(expression)
    shown = text.strip() if answer is None else f"{answer} ≥ {threshold:g}"
    return Criterion(
        shown, tuple(name for name in tree.columns if name in used), answer, threshold, expression
    )


def _parsed(text: str) -> ast.expr:
    if len(text) > LONGEST:
        raise CatalogueError(f"an expression of {len(text)} characters; at most {LONGEST} are read")
    python = "".join(SIGNS.get(character, character) for character in text).strip()
    try:
        return ast.parse(python, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise CatalogueError(f'"{text}" is no expression of answers ({error}); {EXAMPLE}') from error


def _resolved(expression: ast.expr, tree: DecisionTree, text: str) -> ast.expr:
    """Replace the names by the tree's own."""
    known = _names(tree)
    for node in ast.walk(expression):
        if isinstance(node, ast.Name):
            if node.id not in known:
                near = did_you_mean(node.id, known)
                raise UnknownAnswer(f'"{text}": "{node.id}" is not an answer of {tree.name}{near}')
            node.id = known[node.id]
    return expression


def _names(tree: DecisionTree) -> dict[str, str]:
    texts = [answer.text.replace(" ", "_").replace("-", "_") for answer in tree.answers]
    own = {
        text: name for text, name in zip(texts, tree.columns, strict=True) if texts.count(text) == 1
    }  # "yes" of two questions names neither
    return own | {name: name for name in tree.columns}


def _check_truth(node: ast.expr, text: str) -> None:
    """Raise CatalogueError unless a node of the expression is true or false of a galaxy."""
    if isinstance(node, ast.BoolOp):
        for part in node.values:
            _check_truth(part, text)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        _check_truth(node.operand, text)
    elif isinstance(node, ast.Compare) and all(type(sign) in COMPARISONS for sign in node.ops):
        for part in (node.left, *node.comparators):
            _check_number(part, text)
    else:
        raise CatalogueError(
            f'"{text}": "{ast.unparse(node)}" is neither true nor false of a galaxy; '
            f"compare fractions by >, >=, < or <=, {EXAMPLE}"
        )


def _check_number(node: ast.expr, text: str) -> None:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        _check_number(node.left, text)
        _check_number(node.right, text)
    elif isinstance(node, ast.Constant) and _is_number(node.value):
        if not 0 <= float(ast.unparse(node)) <= 1:
            raise CatalogueError(f'"{text}": {ast.unparse(node)} is no fraction: fractions lie from 0 to 1')
    elif not isinstance(node, ast.Name):
        raise CatalogueError(
            f'"{text}": "{ast.unparse(node)}" is not allowed here: only answers, numbers and +; {EXAMPLE}'
        )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _plain(expression: ast.expr) -> tuple[str | None, float | None]:
    """Return answer and threshold of "answer >= number", else None and None."""
    match expression:
        case ast.Compare(
            left=ast.Name(id=name), ops=[ast.GtE()], comparators=[ast.Constant(value=value)]
        ) if isinstance(value, int | float) and value > 0:
            return name, float(value)
    return None, None


def _truth(node: ast.expr, values: Joint) -> Any:
    if isinstance(node, ast.BoolOp):
        join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
        return reduce(join, (_truth(part, values) for part in node.values))
    if isinstance(node, ast.UnaryOp):
        return np.logical_not(_truth(node.operand, values))
    assert isinstance(node, ast.Compare)
    sides = [_number(part, values) for part in (node.left, *node.comparators)]
    pairs = zip(node.ops, sides[:-1], sides[1:], strict=True)
    return reduce(np.logical_and, (COMPARISONS[type(sign)](left, right) for sign, left, right in pairs))


def _number(node: ast.expr, values: Joint) -> Any:
    if isinstance(node, ast.Name):
        return values[node.id]
    if isinstance(node, ast.BinOp):
        return _number(node.left, values) + _number(node.right, values)
    assert isinstance(node, ast.Constant)
    return node.value


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
