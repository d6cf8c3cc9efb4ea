"""Which galaxies count: an answer from a threshold on, or an expression of several answers; and bins.

    merger >= 0.3
    spiral > 0.5 & barred > 0.3
    ring > 0.2 | (disturbed + irregular > 0.4 & ~(merger > 0.3))

Names stand for joint fractions. An answer is named as in the tree (`barred`) or by its text where no other
answer has it (`bar`). A name may stand in quotes ("Ring Galaxy" > 0.5). A name that holds a sign or a word of
this language must stand in quotes ("ring+bar" > 0.5: without them it would be a sum). Allowed are numbers,
`+`, comparisons, `&`, `|`, `~` (or and, or, not) and parentheses; comparisons bind more tightly than `&`. The
text is parsed by Python's `ast` and never run.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import pairwise
from keyword import iskeyword
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hubblefork.errors import CatalogueError, UnknownAnswer, did_you_mean
from hubblefork.stats.samples import well_asked
from hubblefork.tables.catalogue import (
    Catalogue,
    columns_of,
    fractions_by_answer,
    fractions_in,
    head_of,
    pieces_of,
)
from hubblefork.zoo import DecisionTree

LONGEST, DEEPEST = 1000, 100
BINS = 5
SUFFIX = "_debiased"
SIGNS = {"&": " and ", "|": " or ", "~": " not ", "≥": ">=", "≤": "<="}
COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
}
MIRRORED: dict[type[ast.cmpop], type[ast.cmpop]] = {ast.GtE: ast.LtE, ast.Gt: ast.Lt}
NUMBER = re.compile(r"[\d.]+")
"""A name that is a number ("2" arms) must stand in quotes: without them it is that number."""
EXAMPLE = "for example: spiral > 0.5 & barred > 0.3"
QUOTED = r""" "([^"]*)" | '([^']*)' | `([^`]*)` """
OF_THE_LANGUAGE = re.compile(r"""[+&|~<>=≥≤()"'`] | (?<![\w-])(and|or|not)(?![\w-])""", re.VERBOSE)
"""What a name without quotes may not hold."""

Joint = Mapping[str, NDArray[np.float64]]
"""Joint fractions (galaxy,) by answer; NaN where there is none."""
Values = Callable[[Joint], Any]
"""Values (galaxy,) of part of an expression; a single one where it names no answer."""


@dataclass(frozen=True)
class Criterion:
    """What makes a galaxy count, as text, with the answers it uses.

    `answer` and `threshold` are those of a criterion "answer ≥ threshold"; None for any other, for which no
    single predicted fraction tells how close a galaxy is to counting.
    """

    text: str
    answers: tuple[str, ...]
    answer: str | None
    threshold: float | None
    expression: ast.expr = field(repr=False, compare=False)
    values: Values = field(repr=False, compare=False)

    def holds(self, joint: Joint) -> NDArray[np.bool_]:
        """Return which galaxies count, shape (galaxy,); none that lacks a fraction that is needed."""
        return np.asarray(self.values(joint)) & self.known(joint)

    def known(self, joint: Joint) -> NDArray[np.bool_]:
        """Return which galaxies have all the fractions that the criterion needs, shape (galaxy,)."""
        return ~reduce(np.logical_or, (np.isnan(joint[name]) for name in self.answers))

    def score(self, joint: Joint) -> NDArray[np.float64] | None:
        """Return the fraction that tells how close a galaxy is to counting, (galaxy,); None without one."""
        return None if self.answer is None else joint[self.answer]

    @property
    def above(self) -> tuple[str | None, float | None]:
        """Answer and threshold of a criterion "answer > threshold"; None and None for any other."""
        return _plain(self.expression, ast.Gt)


def at_least(tree: DecisionTree, answer: str, threshold: float) -> Criterion:
    """Return the criterion "joint fraction of `answer` ≥ `threshold`".

    Raises UnknownAnswer, and CatalogueError for a threshold outside (0, 1].
    """
    if not 0 < threshold <= 1:
        raise CatalogueError(f"a threshold of {threshold}: it must be above 0 and at most 1")
    name = tree.columns[tree.column(answer)]
    expression = ast.Compare(ast.Name(name, ast.Load()), [ast.GtE()], [ast.Constant(float(threshold))])
    shown = f"{name} ≥ {threshold:g}"
    return Criterion(shown, (name,), name, float(threshold), expression, _truth(expression, shown))


def parse_query(text: str | Criterion, tree: DecisionTree) -> Criterion:
    """Turn an expression into a criterion (grammar: see the module); a criterion is returned as it is.

    Raises UnknownAnswer that names the nearest answer, and CatalogueError for what is no comparison of
    fractions.
    """
    if isinstance(text, Criterion):
        return text
    known = _names(tree)
    python, quoted = _without_odd_names(text, known)
    expression = _parsed(python, text)
    answers = _resolve(expression, quoted, known, tree, text)
    values = _truth(expression, text)
    if not answers:
        raise CatalogueError(f'"{text}" names no answer; {EXAMPLE}')
    answer, threshold = _plain(expression)
    shown = text.strip() if answer is None else f"{answer} ≥ {threshold:g}"
    used = tuple(name for name in tree.columns if name in answers)
    return Criterion(shown, used, answer, threshold, expression, values)


def _names(tree: DecisionTree) -> dict[str, str]:
    """Return what an answer may be called: its name, and its text unless several answers have it ("yes")."""
    texts = [answer.text.replace(" ", "_").replace("-", "_") for answer in tree.answers]
    pairs = zip(texts, tree.columns, strict=True)
    return {word: name for word, name in pairs if texts.count(word) == 1} | {n: n for n in tree.columns}


def _without_odd_names(text: str, known: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Return the text with words in place of quoted names and of names that are no words; and what they are.

    Raises CatalogueError for a name without quotes that holds a sign of the language.
    """
    if len(text) > LONGEST:
        raise CatalogueError(f"an expression of {len(text)} characters; at most {LONGEST} are read")
    odd = sorted(
        (name for name in known if not name.isidentifier() or iskeyword(name)), key=len, reverse=True
    )
    words = [name for name in odd if name not in ("and", "or", "not") and not NUMBER.fullmatch(name)]
    bare = [rf"(?<!\w) {re.escape(name)} (?!\w)" for name in words]
    quoted: dict[str, str] = {}

    def word(match: re.Match[str]) -> str:
        name = next((group for group in match.groups() if group is not None), match[0])
        if name == match[0] and OF_THE_LANGUAGE.search(name):
            raise CatalogueError(
                f'"{text}": {name} is an answer: write it in quotes, "{name}"; a sum has spaces around its +'
            )
        quoted[place := f"__{len(quoted)}__"] = name
        return place

    return re.sub("|".join([QUOTED, *bare]), word, text, flags=re.VERBOSE), quoted


def _parsed(python: str, text: str) -> ast.expr:
    if "#" in python:  # Python would read the rest as a comment
        raise CatalogueError(f'"{text}" has a # outside quotes: all of an expression is read; {EXAMPLE}')
    python = "".join(SIGNS.get(character, character) for character in python).strip()
    try:
        expression = ast.parse(python, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = getattr(error, "msg", "") or type(error).__name__
        raise CatalogueError(f'"{text}" is no expression of answers ({reason}); {EXAMPLE}') from error
    depth, level = 0, list[ast.AST]([expression])
    while level := [child for node in level for child in ast.iter_child_nodes(node)]:
        depth += 1
    if depth > DEEPEST:
        raise CatalogueError(f'"{text}" is nested {depth} deep; at most {DEEPEST} are read')
    return expression


def _resolve(
    expression: ast.expr, quoted: Mapping[str, str], known: Mapping[str, str], tree: DecisionTree, text: str
) -> set[str]:
    """Replace the names in an expression by the tree's columns, and return those."""
    names = [node for node in ast.walk(expression) if isinstance(node, ast.Name)]
    for node in names:
        name = quoted.get(node.id, node.id)
        if name not in known:
            near = did_you_mean(name, known)
            raise UnknownAnswer(f'"{text}": "{name}" is not an answer of {tree.name}{near}')
        node.id = known[name]
    return {node.id for node in names}


def _truth(node: ast.expr, text: str) -> Values:
    """Return what says of galaxies whether a node is true. Raises CatalogueError where it is no such node."""
    match node:
        case ast.BoolOp(op=sign, values=parts):
            sides = [_truth(part, text) for part in parts]
            join = np.logical_and if isinstance(sign, ast.And) else np.logical_or
            return lambda joint: reduce(join, (side(joint) for side in sides))
        case ast.UnaryOp(op=ast.Not(), operand=part):
            inner = _truth(part, text)
            return lambda joint: np.logical_not(inner(joint))
        case ast.Compare(left=left, ops=signs, comparators=others) if {*map(type, signs)} <= {*COMPARISONS}:
            sides = [_number(part, text) for part in (left, *others)]
            pairs = [*zip((COMPARISONS[type(sign)] for sign in signs), pairwise(sides), strict=True)]
            return lambda joint: reduce(
                np.logical_and, (sign(low(joint), high(joint)) for sign, (low, high) in pairs)
            )
    raise CatalogueError(
        f'"{text}": "{ast.unparse(node)}" is neither true nor false of a galaxy; '
        f"compare fractions by >, >=, < or <=, {EXAMPLE}"
    )


def _number(node: ast.expr, text: str) -> Values:
    match node:
        case ast.BinOp(op=ast.Add(), left=left, right=right):
            sides = [_number(part, text) for part in (left, right)]
            return lambda joint: sides[0](joint) + sides[1](joint)
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            if not 0 <= value <= 1:
                raise CatalogueError(
                    f'"{text}": {ast.unparse(node)} is no fraction: fractions lie from 0 to 1'
                )
            return lambda joint: value
        case ast.Name(id=name):
            return lambda joint: joint[name]
    raise CatalogueError(
        f'"{text}": "{ast.unparse(node)}" is not allowed here: only answers, numbers and +; {EXAMPLE}'
    )


def _plain(expression: ast.expr, sign: type[ast.cmpop] = ast.GtE) -> tuple[str | None, float | None]:
    """Return answer and threshold of "answer >= number", or with another `sign`, else None and None."""
    match expression:
        case ast.Compare(left=ast.Name(id=name), ops=[found], comparators=[ast.Constant(value=value)]):
            wanted = sign
        case ast.Compare(left=ast.Constant(value=value), ops=[found], comparators=[ast.Name(id=name)]):
            wanted = MIRRORED[sign]
        case _:
            return None, None
    if isinstance(found, wanted) and isinstance(value, int | float) and value > 0:
        return name, float(value)
    return None, None


# Fractions of a catalogue


def columns_to_read(
    head: pa.Table,
    tree: DecisionTree,
    query: str | Criterion,
    *,
    truth: str | Criterion | None = None,
    clean: bool = False,
    others: Sequence[str] = (),
) -> set[str]:
    """Return the columns of a catalogue that `fraction` needs for a query, and `others` (weights, bins).

    `head` has all columns of the catalogue and need have no rows. Raises UnknownAnswer, and
    CatalogueError for a missing column, with the nearest name.
    """
    criteria = [parse_query(text, tree) for text in (query, query if truth is None else truth)]
    answers = {name for criterion in criteria for name in criterion.answers}
    needed = _needed(tree, answers, clean)
    fractions_by_answer(head, tree, needed)
    for name in others:
        numbers_of(head, name)
    return {*columns_of(tree, needed), *(name + SUFFIX for name in answers), *others}


def usable(tree: DecisionTree, joint: Joint, criterion: Criterion, clean: bool) -> NDArray[np.bool_]:
    """Say which galaxies have the fractions that are needed and, if `clean`, were well asked: (galaxy,)."""
    keep = criterion.known(joint)
    if clean:
        array = np.stack([joint[name] for name in tree.columns], axis=1)
        for number in sorted({tree.question_of[tree.column(name)] for name in criterion.answers}):
            keep &= well_asked(tree, array, tree.questions[number].name)
    return keep


def _needed(tree: DecisionTree, answers: set[str], clean: bool) -> tuple[str, ...]:
    """Return the answers whose fractions decide: all where galaxies must be asked often enough."""
    return tree.columns if clean else tuple(name for name in tree.columns if name in answers)


def joint_in(table: pa.Table, tree: DecisionTree, answers: set[str], clean: bool) -> Joint:
    """Return the fractions that are needed, debiased where the table has all those of the criteria."""
    joint = fractions_by_answer(table, tree, _needed(tree, answers, clean))
    return joint | {name: fractions_in(table, column) for name, column in debiased(table, answers).items()}


def debiased(table: pa.Table, answers: set[str]) -> dict[str, str]:
    """Return the columns of debiased fractions by answer, where the table has those of all answers."""
    columns = {name: name + SUFFIX for name in sorted(answers)}
    return columns if set(columns.values()) <= set(table.column_names) else {}


# Bins


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


def parse_bins(text: str, catalogue: Catalogue, column: str = "") -> Bins:
    """Read "NAME" or "NAME:0.01,0.05,0.1"; without edges five bins with as many galaxies each.

    The values are those of `column`, or of the column NAME; without edges all of them are in memory. Raises
    CatalogueError.
    """
    name, _, listed = text.partition(":")
    numbers_of(head_of(catalogue), column or name)
    if not listed:
        pieces = pieces_of(catalogue, [column or name])
        values = np.concatenate([numbers_of(piece, column or name) for piece in pieces])
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
