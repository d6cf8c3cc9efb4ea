"""Which galaxies a page shows, and in which order: read from a URL, written as SQL.

A *quantity* is a number that each galaxy has, named in a URL:

    spiral                joint fraction of an answer
    spiral~               its fraction of those who were asked the question
    volunteers.spiral     the volunteers' fraction, where the gallery has their votes
    difference.spiral     predicted minus volunteers' fraction
    distance.spiral       the absolute value of that
    width.spiral          width of its interval
    disagreement          root mean square of all differences
    uncertainty           mean width of all intervals; without intervals the mean of p(1 - p)
    column.redshift       a numeric column of the catalogue
    like.12345            likeness of its image to that of a galaxy (gallery/likeness.py has more of these)

Where another catalogue stands beside, its fractions take the place of the volunteers'.
Names are looked up and quoted, numbers are parameters: nothing of a URL becomes SQL.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hubblefork.errors import CatalogueError, did_you_mean
from hubblefork.stats.query import Criterion, parse_query
from hubblefork.zoo import DecisionTree

ROW = "#row"
RANDOM = "random"
BESIDE = ("volunteers", "difference", "distance")
LONGEST, CORNERS = 200, 100
SIGNS = {ast.Gt: ">", ast.GtE: ">=", ast.Lt: "<", ast.LtE: "<="}


def quoted(name: str) -> str:
    """Return a name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def by_row(number: int) -> str:
    """Return the name of a table with one value a row of the catalogue, as an SQL identifier."""
    return quoted(f"#{number}")


@dataclass(frozen=True)
class Quantities:
    """The quantities of a catalogue: its tree, its columns of numbers, and the votes beside it.

    `beside` are the answers that the votes have; none without votes. `more` returns the number of the table
    in which another quantity stands by row, None for what is none; `others` are the names of such.
    """

    tree: DecisionTree
    numbers: frozenset[str]
    beside: frozenset[str] = frozenset()
    more: Callable[[str], int | None] = lambda name: None
    others: tuple[str, ...] = ()

    def sql(self, name: str) -> str:
        """Return a quantity as SQL. Raises CatalogueError that names the nearest one, UnknownAnswer."""
        kind, _, rest = name.partition(".")
        if name.endswith("~"):
            return self._of_those_asked(name[:-1])
        if name in ("uncertainty", "disagreement"):
            return self._uncertainty() if name == "uncertainty" else self._disagreement()
        if kind == "column" and rest in self.numbers:
            return f"g.{quoted(rest)}"
        if kind in BESIDE and rest in self.beside:
            difference = self._difference(rest)
            return {"volunteers": f"v.{quoted(rest)}", "difference": difference}.get(
                kind, f"abs({difference})"
            )
        if kind == "width" and {f"{rest}_low", f"{rest}_high"} <= self.numbers:
            return self._width(rest)
        if name in self.tree.columns:
            return f"g.{quoted(name)}"
        if (number := self.more(name)) is not None:
            return f"{by_row(number)}.value"
        raise self._unknown(name)

    def _unknown(self, name: str) -> CatalogueError:
        return CatalogueError(f'"{name[:LONGEST]}" is no quantity here{did_you_mean(name, self.names())}')

    def names(self) -> list[str]:
        """Return the quantities by name, those of an answer's kind once for each answer."""
        answers = list(self.tree.columns)
        beside = [a for a in answers if a in self.beside]
        named = [*answers, *(f"{a}~" for a in answers)]
        named += [f"{kind}.{a}" for kind in BESIDE for a in beside]
        named += [f"width.{a}" for a in answers if f"{a}_low" in self.numbers]
        return [*named, *(f"column.{name}" for name in self.columns()), *self.of_all()]

    def of_all(self) -> list[str]:
        """Return the quantities that are of no single answer."""
        return ["uncertainty", *(["disagreement"] if self.beside else []), *self.others]

    def columns(self) -> list[str]:
        """Return the columns of numbers that are none of the tree's."""
        answers = self.tree.columns
        own = {f"{a}{end}" for a in answers for end in ("", "_low", "_high", "_conditional")}
        own |= {f"{question.name}_reach" for question in self.tree.questions}
        return sorted(self.numbers - own)

    def _of_those_asked(self, answer: str) -> str:
        column = self.tree.column(answer)
        parents = self.tree.parents[self.tree.question_of[column]]
        asked = " + ".join(f"g.{quoted(self.tree.columns[parent])}" for parent in parents)
        value = f"g.{quoted(self.tree.columns[column])}"
        return f"{value} / nullif({asked}, 0)" if parents else value

    def _disagreement(self) -> str:
        if not self.beside:
            raise self._unknown("disagreement")
        squares = " + ".join(f"coalesce(({self._difference(a)})**2, 0)" for a in sorted(self.beside))
        return f"sqrt(({squares}) / {len(self.beside)})"

    def _difference(self, answer: str) -> str:
        return f"g.{quoted(answer)} - v.{quoted(answer)}"

    def _width(self, answer: str) -> str:
        return f"g.{quoted(f'{answer}_high')} - g.{quoted(f'{answer}_low')}"

    def _uncertainty(self) -> str:
        with_ends = [a for a in self.tree.columns if f"{a}_low" in self.numbers]
        terms = [self._width(a) for a in with_ends]
        if not terms:
            columns = (f"g.{quoted(a)}" for a in self.tree.columns)
            terms = [f"{column} * (1 - {column})" for column in columns]
        return f"({' + '.join(terms)}) / {len(terms)}"


@dataclass(frozen=True)
class Range:
    """Values from `low` to `high`, both included, of a quantity."""

    quantity: str
    low: float
    high: float

    @classmethod
    def parse(cls, text: str) -> Range:
        """Read "spiral:0.6:1"; an end may be missing. Raises CatalogueError."""
        name, *ends = text.rsplit(":", 2)
        try:
            low, high = (float(end) if end else bound for end, bound in zip(ends, UNBOUNDED, strict=True))
        except ValueError as error:
            raise CatalogueError(f'"{text[:LONGEST]}" is no range: write spiral:0.6:1') from error
        if not low <= high:
            raise CatalogueError(f'"{text[:LONGEST]}": the lower end is above the upper one')
        return cls(name, low, high)


UNBOUNDED = (float("-inf"), float("inf"))


@dataclass(frozen=True)
class Region:
    """The inside of a polygon of `points` (x, y) in the plane of two quantities."""

    x: str
    y: str
    points: tuple[tuple[float, float], ...]

    @classmethod
    def parse(cls, text: str) -> Region:
        """Read "spiral:barred:0.1,0.2,0.5,0.2,0.3,0.9". Raises CatalogueError."""
        try:
            x, y, listed = text.split(":")
            numbers = [float(number) for number in listed.split(",")]
            points = tuple(zip(numbers[::2], numbers[1::2], strict=True))
        except ValueError as error:
            raise CatalogueError(
                f'"{text[:LONGEST]}" is no region: write spiral:barred:0,0,1,0,1,1 (x, y of each corner)'
            ) from error
        if not 3 <= len(points) <= CORNERS or not all(math.isfinite(number) for number in numbers):
            raise CatalogueError(f"a region has 3 to {CORNERS} corners of finite numbers, not {len(points)}")
        return cls(x, y, points)

    def sql(self, quantities: Quantities) -> tuple[str, list[object]]:
        """Return a condition and its parameters: a ray to the right meets an odd number of edges."""
        x, y = quantities.sql(self.x), quantities.sql(self.y)
        crossings, values = [], list[object]()
        for (x1, y1), (x2, y2) in zip(self.points, self.points[1:] + self.points[:1], strict=True):
            if y1 != y2:
                crossings.append(f"((({y}) < ?) != (({y}) < ?) and ({x}) < ? + (({y}) - ?) * ?)::int")
                values += [y1, y2, x1, y1, (x2 - x1) / (y2 - y1)]
        return f"({' + '.join(crossings) or '0'}) % 2 = 1", values


@dataclass(frozen=True)
class Selection:
    """The galaxies within all `ranges` and `regions` for which `query` holds and whose id holds `named`.

    `ids`, where given, are the only galaxies that may be in it.
    """

    ranges: tuple[Range, ...] = ()
    regions: tuple[Region, ...] = ()
    query: str = ""
    named: str = ""
    ids: tuple[str, ...] | None = None

    def sql(self, quantities: Quantities) -> tuple[str, list[object]]:
        """Return a condition and its parameters. Raises CatalogueError, UnknownAnswer."""
        conditions, values = ["true"], list[object]()
        for part in self.ranges:
            for sign, end, unbounded in zip((">=", "<="), (part.low, part.high), UNBOUNDED, strict=True):
                if end != unbounded:
                    conditions.append(f"({quantities.sql(part.quantity)}) {sign} ?::float")
                    values.append(end)
        for region in self.regions:
            condition, numbers = region.sql(quantities)
            conditions.append(condition)
            values += numbers
        if self.query.strip():
            criterion = parse_query(self.query, quantities.tree)
            condition, constants = criterion_sql(criterion)
            conditions.append(f"({condition})")
            values += constants
        if self.named:
            conditions.append("contains(g.galaxy_id::varchar, ?)")
            values.append(self.named[:LONGEST])
        if self.ids is not None:
            conditions.append("g.galaxy_id::varchar in (select unnest(?::varchar[]))")
            values.append(self.ids)
        return " and ".join(conditions), values

    def criterion(self, quantities: Quantities) -> str:
        """Return the selection as an expression of joint fractions; empty where it is none or of all."""
        parts = [f"({self.query})"] if self.query.strip() else []
        for part in self.ranges:
            if part.quantity not in quantities.tree.columns:
                return ""
            name = f'"{part.quantity}"'
            parts += [f"{name} >= {part.low:g}"] if part.low > 0 else []
            parts += [f"{name} <= {part.high:g}"] if part.high < 1 else []
        return "" if self.named or self.regions or self.ids is not None else " & ".join(parts)


@dataclass(frozen=True)
class Order:
    """The order of galaxies: by a quantity, upwards or downwards; at random; as in the catalogue (empty)."""

    quantity: str = ""
    down: bool = False

    @classmethod
    def parse(cls, text: str) -> Order:
        """Read "spiral", or "-spiral" for the largest first."""
        return cls(text.removeprefix("-"), text.startswith("-"))

    def sql(self, quantities: Quantities) -> str:
        """Return what stands behind "order by". Raises CatalogueError."""
        if not self.quantity:
            return f"g.{quoted(ROW)}"
        if self.quantity == RANDOM:
            return f"hash(g.{quoted(ROW)})"
        way = "desc" if self.down else "asc"
        return f"({quantities.sql(self.quantity)}) {way} nulls last, g.{quoted(ROW)}"


def criterion_sql(criterion: Criterion) -> tuple[str, Sequence[object]]:
    """Return an expression of joint fractions as an SQL condition with its parameters."""
    values: list[object] = []

    def text(node: ast.AST) -> str:
        match node:
            case ast.BoolOp(op=sign, values=parts):
                word = " and " if isinstance(sign, ast.And) else " or "
                return "(" + word.join(map(text, parts)) + ")"
            case ast.UnaryOp(operand=part):
                return f"(not {text(part)})"
            case ast.Compare(left=left, ops=signs, comparators=others):
                sides = [text(part) for part in (left, *others)]
                pairs = zip(sides[:-1], signs, sides[1:], strict=True)
                return " and ".join(f"{low} {SIGNS[type(sign)]} {high}" for low, sign, high in pairs)
            case ast.BinOp(left=left, right=right):
                return f"({text(left)} + {text(right)})"
            case ast.Name(id=name):
                return f"g.{quoted(name)}"
            case ast.Constant(value=number):
                values.append(number)
                return "?::float"
        raise AssertionError(ast.dump(node))

    return text(criterion.expression), values


def selection_of(parameters: Mapping[str, Sequence[str]]) -> Selection:
    """Return the selection that the parameters `f`, `in`, `q`, `named` describe. Raises CatalogueError."""
    first = {name: (values or [""])[0] for name, values in parameters.items()}
    ranges = tuple(Range.parse(text) for text in parameters.get("f", ()))
    regions = tuple(Region.parse(text) for text in parameters.get("in", ()))
    return Selection(ranges, regions, first.get("q", ""), first.get("named", ""))
