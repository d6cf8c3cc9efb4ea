"""The decision tree as a diagram: a card a question, top to bottom, edges from answers to what comes next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch
from matplotlib.path import Path as Curve
from numpy.typing import NDArray

from hubblefork.pages.style import (
    BLUE,
    FAINT,
    GREY,
    INK,
    PAGE,
    POINTS,
    SMALL,
    Drawing,
    in_house_style,
    new_figure,
    wrapped,
)
from hubblefork.pages.tables import plain
from hubblefork.zoo import DecisionTree

CELL, LANE, GAP, PAD = 0.72, 0.1, 0.22, 0.05  # inches
BETWEEN, MARGIN = 0.3, 0.03
LINE = 1.22 * SMALL / POINTS
SHADE = "#eef3f8"


@dataclass
class Card:
    """A question, or the lane of an edge that passes by; `ways_in`: (above, offset from its centre)."""

    question: int | None
    width: float
    ways_in: list[tuple[Card, float]] = field(default_factory=list)
    centre: float = 0.0
    top: float = 0.0
    bottom: float = 0.0


@in_house_style
def decision_tree(tree: DecisionTree, *, shares: NDArray | None = None) -> Drawing:
    """Draw a decision tree; `shares` (answer,) are written under the answers.

    Where all answers of a question lead to the same next one, a single edge leaves the card. Answers
    without an edge end the classification. Returns the questions with their level and edges.
    """
    levels = question_levels(tree)
    rows = _cards(tree, levels)
    for row in rows:
        _place(row)
    height = _stack(tree, rows, shares is not None)
    figure = new_figure(PAGE, height, layout=None)
    cards = {card.question: card for row in rows for card in row if card.question is not None}
    for row in rows:
        for card in row:
            _draw_ways_in(figure, card)
    for number, card in cards.items():
        _draw_card(figure, tree, number, card, shares)
    edges = [
        {
            "question": question.name,
            "level": level,
            "leads_to": {a.name: a.leads_to for a in question.answers},
        }
        for question, level in zip(tree.questions, levels, strict=True)
    ]
    found = None if shares is None else dict(zip(tree.columns, shares, strict=True))
    return figure, plain({"tree": tree.name, "questions": edges, "shares": found})


def question_levels(tree: DecisionTree) -> list[int]:
    """Return for each question the longest way to it, in questions: the row it is drawn in."""
    before = {number: set(_asked_before(tree, number)) for number in range(len(tree.questions))}
    levels = [0] * len(tree.questions)
    for number in TopologicalSorter(before).static_order():
        levels[number] = max((levels[question] + 1 for question in before[number]), default=0)
    return levels


def _asked_before(tree: DecisionTree, number: int) -> Mapping[int, list[int]]:
    """Return the questions with an edge to this one, a root too, and which of their answers."""
    found: dict[int, list[int]] = {}
    for column, answer in enumerate(tree.answers):
        if answer.leads_to == tree.questions[number].name:
            found.setdefault(tree.question_of[column], []).append(column)
    return found


def _cards(tree: DecisionTree, levels: Sequence[int]) -> list[list[Card]]:
    """Return the cards of each level, and a lane wherever an edge passes one."""
    rows: list[list[Card]] = [[] for _ in range(max(levels) + 1)]
    cards = [Card(number, CELL * len(question.answers)) for number, question in enumerate(tree.questions)]
    for number in sorted(range(len(cards)), key=lambda n: levels[n]):
        rows[levels[number]].append(cards[number])
        for above, answers in _asked_before(tree, number).items():
            for offset in _exits(tree, above, answers):
                _lead(rows, cards[above], offset, cards[number], range(levels[above] + 1, levels[number]))
    return rows


def _exits(tree: DecisionTree, above: int, answers: Sequence[int]) -> list[float]:
    """Return where edges leave a card, from its centre: the middle when all answers go the same way."""
    here = tree.slices[above]
    if len(answers) == here.stop - here.start:
        return [0.0]
    return [CELL * (answer - (here.start + here.stop - 1) / 2) for answer in answers]


def _lead(rows: list[list[Card]], above: Card, offset: float, below: Card, passed: range) -> None:
    for level in passed:
        lane = Card(None, LANE, [(above, offset)])
        rows[level].append(lane)
        above, offset = lane, 0.0
    below.ways_in.append((above, offset))


def _place(row: list[Card]) -> None:
    """Set the cards of a row near what leads to them, without touching, within the page."""
    wish = {id(card): _wish(card) for card in row}
    row.sort(key=lambda card: wish[id(card)])
    right = MARGIN
    for card in row:
        card.centre = max(wish[id(card)], right + card.width / 2)
        right = card.centre + card.width / 2 + GAP
    left = PAGE - MARGIN
    for card in reversed(row):
        card.centre = min(card.centre, left - card.width / 2)
        left = card.centre - card.width / 2 - GAP


def _wish(card: Card) -> float:
    if not card.ways_in:
        return PAGE / 2
    return float(np.mean([above.centre + offset for above, offset in card.ways_in]))


def _stack(tree: DecisionTree, rows: Sequence[Sequence[Card]], with_shares: bool) -> float:
    """Give every card its top and bottom, in inches from the top of the page; return the page's height."""
    top = PAD
    for row in rows:
        height = max(_card_height(tree, card, with_shares) for card in row)
        for card in row:
            card.top = top
            card.bottom = top + (height if card.question is None else _card_height(tree, card, with_shares))
        top += height + BETWEEN
    return top - BETWEEN + PAD


def _card_height(tree: DecisionTree, card: Card, with_shares: bool) -> float:
    if card.question is None:
        return 0.0
    return _head_height(tree, card) + _cell_height(tree, card.question, with_shares) + 2 * PAD


def _head(tree: DecisionTree, card: Card) -> str:
    question = tree.questions[card.question or 0]
    return wrapped(f"{question.task} {question.text}".strip(), card.width - 2 * PAD, SMALL)


def _head_height(tree: DecisionTree, card: Card) -> float:
    return LINE * (_head(tree, card).count("\n") + 1) + PAD


def _cell_height(tree: DecisionTree, number: int, with_shares: bool) -> float:
    texts = (wrapped(answer.text, CELL - 2 * PAD, SMALL) for answer in tree.questions[number].answers)
    return LINE * (max(text.count("\n") + 1 for text in texts) + with_shares) + 2 * PAD


def _draw_card(figure: Figure, tree: DecisionTree, number: int, card: Card, shares: NDArray | None) -> None:
    left, here = card.centre - card.width / 2, tree.slices[number]
    root = tree.questions[number].root
    _box(figure, left, card.top, card.width, card.bottom - card.top, INK if root else GREY, "white")
    _text(figure, card.centre, card.top + PAD, _head(tree, card), va="top")
    top, height = card.top + PAD + _head_height(tree, card), _cell_height(tree, number, shares is not None)
    for k, column in enumerate(range(here.start, here.stop)):
        answer, x = tree.answers[column], left + k * CELL
        text = wrapped(answer.text, CELL - 2 * PAD, SMALL)
        if shares is not None:
            text += f"\n{shares[column]:.0%}" if np.isfinite(shares[column]) else "\n–"
        _box(figure, x + PAD / 2, top, CELL - PAD, height, FAINT, SHADE)
        _text(figure, x + CELL / 2, top + height / 2, text, va="center")


def _draw_ways_in(figure: Figure, card: Card) -> None:
    for above, offset in card.ways_in:
        start, end = (above.centre + offset, above.bottom), (card.centre, card.top)
        middle = (start[1] + end[1]) / 2
        _line(figure, [start, (start[0], middle), (end[0], middle), end], curved=True)
    if card.question is None:
        _line(figure, [(card.centre, card.top), (card.centre, card.bottom)], curved=False)


def _line(figure: Figure, points: Sequence[tuple[float, float]], *, curved: bool) -> None:
    codes = [Curve.MOVETO, *([Curve.CURVE4] * 3 if curved else [Curve.LINETO])]
    curve = Curve([_on_page(figure, *point) for point in points], codes)
    figure.add_artist(
        PathPatch(
            curve, facecolor="none", edgecolor=BLUE, linewidth=1.0, transform=figure.transFigure, zorder=0
        )
    )


def _box(figure: Figure, left: float, top: float, width: float, height: float, edge: str, face: str) -> None:
    """Draw a box with rounded corners, in inches from the upper left corner of the page."""
    page = figure.dpi_scale_trans
    corner = (left, figure.get_size_inches()[1] - top - height)
    style = "round,pad=0,rounding_size=0.04"
    box = FancyBboxPatch(
        corner, width, height, style, edgecolor=edge, facecolor=face, linewidth=0.7, transform=page, zorder=1
    )
    figure.add_artist(box)


def _text(figure: Figure, x: float, top: float, text: str, *, va: str) -> None:
    place = _on_page(figure, x, top)
    figure.text(*place, text, fontsize=SMALL, ha="center", va=va, linespacing=1.15, zorder=2)


def _on_page(figure: Figure, x: float, top: float) -> tuple[float, float]:
    width, height = figure.get_size_inches()
    return x / width, 1 - top / height
