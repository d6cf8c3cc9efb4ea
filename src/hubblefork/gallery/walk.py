"""One galaxy's tree as volunteers walk it: questions from left to right, ribbons as wide as fractions.

A card is a question; its rows are the answers. A ribbon leads from an answer to each question that it opens,
as wide as the joint fraction of the answer, so that what arrives at a question is as wide as its reach.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from textwrap import wrap
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hubblefork.pages.trees import places_near
from hubblefork.zoo import DecisionTree, reach

FEWEST = 0.05
UNIT = 84.0
"""Pixels of a ribbon that all volunteers take."""
WIDTH, BETWEEN, MARGIN, GAP, LANE = 178.0, 58.0, 10.0, 20.0, 8.0
LINE, PAD = 14.0, 10.0
LETTERS, HEAD_LETTERS = 15, 23
BAR = 5.0


class Row(NamedTuple):
    """An answer: `middle` is the height of its centre; `votes` are the volunteers' fraction, or None."""

    column: int
    lines: list[str]
    fraction: float
    low: float | None
    high: float | None
    votes: float | None
    middle: float
    height: float


@dataclass
class Card:
    """A question with its `rows`, or the lane of a ribbon that passes by (without rows)."""

    question: int
    height: float
    head: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    reach: float = 0.0
    multiple: bool = False
    left: float = 0.0
    top: float = 0.0
    arrived: float = 0.0

    @property
    def centre(self) -> float:
        """The middle of the card, from the upper edge of the drawing."""
        return self.top + self.height / 2

    @property
    def entry(self) -> float:
        """The upper edge of what arrives at the question."""
        body = LINE * len(self.head) + PAD if self.rows else 0.0
        return self.top + body + (self.height - body - self.reach * UNIT) / 2


class Ribbon(NamedTuple):
    """The volunteers who gave an answer on their way to a question: `path` of SVG, `text` that says it."""

    path: str
    text: str


@dataclass(frozen=True)
class Walk:
    """The drawing in numbers, in pixels; `left_out` are the questions that fewer than a twentieth reach."""

    width: float
    height: float
    cards: list[Card]
    ribbons: list[Ribbon]
    left_out: int
    questions: int


def walk(
    tree: DecisionTree,
    fractions: NDArray,
    *,
    low: NDArray | None = None,
    high: NDArray | None = None,
    votes: NDArray | None = None,
) -> Walk:
    """Return the walk of joint fractions (answer,), of a galaxy or the mean of a sample.

    `low` and `high` are the ends of intervals, `votes` the volunteers' fractions to stand beside; NaN is
    unknown. Questions that fewer than a twentieth of the volunteers reach are left out, as are numbers.
    """
    asked = np.zeros(1) if tree.number else np.nan_to_num(reach(tree, fractions[None])[0])
    shown = [n for n in tree.asking_order if asked[n] >= FEWEST]
    ends = low, high, votes
    cards = {n: _card(tree, n, fractions, ends, asked[n]) for n in shown}
    columns, chains = _columns(tree, cards)
    for place, column in enumerate(columns):
        for card in column:
            card.left = MARGIN + place * (WIDTH + BETWEEN)
    _place(columns, chains)
    chains.sort(key=lambda chain: _level([cards[chain.source], *chain.lanes][-1], chain))
    ribbons = [_ribbon(cards, chain) for chain in chains]
    whole = [card for column in columns for card in column]
    width = max((card.left + WIDTH for card in whole), default=0.0) + MARGIN
    height = max((card.top + card.height for card in whole), default=0.0) + MARGIN
    left_out = len(tree.questions) - len(cards)
    return Walk(width, height, list(cards.values()), ribbons, left_out, len(tree.questions))


def walk_of(tree: DecisionTree, galaxy: Mapping[str, Any]) -> Walk:
    """Return the walk of a galaxy by its columns, with intervals and votes where it has them."""
    votes = galaxy.get("volunteers")

    def values(columns: Mapping[str, Any], end: str = "") -> NDArray:
        found = (columns.get(f"{name}{end}") for name in tree.columns)
        return np.array([np.nan if value is None else value for value in found], float)

    ends = {"low": values(galaxy, "_low"), "high": values(galaxy, "_high")}
    return walk(tree, values(galaxy), **ends, votes=values(votes) if votes else None)


def _card(
    tree: DecisionTree,
    number: int,
    fractions: NDArray,
    ends: Iterable[NDArray | None],
    asked: float,
) -> Card:
    question = tree.questions[number]
    card = Card(number, 0.0, wrap(question.text or question.name, HEAD_LETTERS), reach=float(asked))
    card.multiple = question.multiple
    top, slice_ = LINE * len(card.head) + PAD, tree.slices[number]
    for column, answer in enumerate(question.answers, slice_.start):
        lines = wrap(answer.text or answer.name, LETTERS)
        fraction = float(np.nan_to_num(fractions[column]))
        height = max(LINE * len(lines) + PAD, fraction * UNIT + 2)
        low, high, votes = (
            None if end is None or np.isnan(end[column]) else float(end[column]) for end in ends
        )
        card.rows.append(Row(column, lines, fraction, low, high, votes, top + height / 2, height))
        top += height
    card.height = max(top, LINE * len(card.head) + PAD + card.reach * UNIT) + PAD / 2
    return card


@dataclass
class Chain:
    """The way of a ribbon: from an answer past lanes to a question."""

    column: int
    source: int
    target: int
    lanes: list[Card] = field(default_factory=list)


def _columns(tree: DecisionTree, cards: dict[int, Card]) -> tuple[list[list[Card]], list[Chain]]:
    """Return the cards and lanes of each column, and the ribbons: each question right of all before it."""
    numbers = {question.name: number for number, question in enumerate(tree.questions)}
    chains = [
        Chain(row.column, number, numbers[name])
        for number, card in cards.items()
        for row in card.rows
        for name in tree.answers[row.column].leads_to
        if numbers[name] in cards and not tree.questions[numbers[name]].root and row.fraction > 0
    ]
    depth = dict.fromkeys(cards, 0)
    for number in cards:  # in the order of asking
        before = [depth[chain.source] + 1 for chain in chains if chain.target == number]
        depth[number] = max(before, default=0)
    columns: list[list[Card]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for number, card in cards.items():
        columns[depth[number]].append(card)
    lanes: dict[tuple[int, int], Card] = {}
    for chain in chains:
        share = cards[chain.source].rows[chain.column - tree.slices[chain.source].start].fraction
        for place in range(depth[chain.source] + 1, depth[chain.target]):
            if (chain.target, place) not in lanes:
                lanes[chain.target, place] = Card(chain.target, 0.0)
                columns[place].append(lanes[chain.target, place])
            lane = lanes[chain.target, place]
            if not chain.lanes or chain.lanes[-1] is not lane:
                chain.lanes.append(lane)
            lane.reach += share
            lane.height = lane.reach * UNIT + LANE
    return columns, chains


def _place(columns: list[list[Card]], chains: list[Chain]) -> None:
    """Set the cards of a column as near to what leads to them as they go one below the other."""
    for column in columns:
        for card in column:
            card.top = _wish(card, columns, chains)
        column.sort(key=lambda card: card.centre)
        steps = [
            upper.height + (GAP if upper.rows or lower.rows else LANE) for upper, lower in pairwise(column)
        ]
        for card, top in zip(column, places_near([card.top for card in column], steps), strict=True):
            card.top = float(top)
    least = min((card.top for column in columns for card in column), default=0.0)
    for card in (card for column in columns for card in column):
        card.top += MARGIN - least


def _wish(card: Card, columns: list[list[Card]], chains: list[Chain]) -> float:
    """Return where the upper edge of a card would be, level with the answers that lead to it."""
    cards = {other.question: other for column in columns for other in column if other.rows}
    levels = []
    for chain in chains:
        way = [*chain.lanes, cards[chain.target]]
        if card in way:
            before = way[way.index(card) - 1] if card is not way[0] else cards[chain.source]
            levels.append(_level(before, chain))
    return float(np.mean(levels)) - card.height / 2 if levels else 0.0


def _level(card: Card, chain: Chain) -> float:
    """Return how high a ribbon leaves a card: at its answer, or in the middle of a lane."""
    rows = [row.middle for row in card.rows if row.column == chain.column]
    return card.top + rows[0] if rows else card.centre


def _ribbon(cards: dict[int, Card], chain: Chain) -> Ribbon:
    """Return a ribbon along its way; each card it arrives at stacks it below those that came before."""
    source, target = cards[chain.source], cards[chain.target]
    row = next(row for row in source.rows if row.column == chain.column)
    thick, start = row.fraction * UNIT, source.top + row.middle - row.fraction * UNIT / 2
    stations = [(source.left + WIDTH, start)]
    for card in (*chain.lanes, target):
        upper = card.entry + card.arrived
        card.arrived += thick
        stations += (
            [(card.left, upper)] if card is target else [(card.left, upper), (card.left + WIDTH, upper)]
        )
    there = " ".join(_curves(stations))
    back = " ".join(_curves([(x, y + thick) for x, y in reversed(stations)]))
    x, y = stations[-1]
    going = f"{row.fraction:.0%} of all go on to “{' '.join(target.head)}”"
    text = f"{' '.join(row.lines)}: {going}"
    return Ribbon(f"M{_pair(*stations[0])} {there} L{_pair(x, y + thick)} {back} Z", text)


def _curves(stations: list[tuple[float, float]]) -> Iterable[str]:
    for (x1, y1), (x2, y2) in pairwise(stations):
        middle = (x1 + x2) / 2
        yield f"C{_pair(middle, y1)} {_pair(middle, y2)} {_pair(x2, y2)}"


def _pair(x: float, y: float) -> str:
    return f"{x:.1f},{y:.1f}"
