"""The decision tree as a diagram: a card a question, top to bottom, edges from answers to what comes next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch, PathPatch
from matplotlib.path import Path as Curve
from numpy.typing import NDArray

from hubblefork.pages.plots import page_axes, write
from hubblefork.pages.style import (
    BLUE,
    FAINT,
    GREY,
    INK,
    LINE,
    PAGE,
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
SHADE = "#eef3f8"


@dataclass
class Card:
    """A question, or the lane of an edge that passes by, in inches from the upper left corner of the page.

    `head` and `texts` are the question and its answers, `ways_in` its edges: (card above, offset from its
    centre).
    """

    width: float = LANE
    head: str = ""
    texts: Sequence[str] = ()
    edge: str = GREY
    ways_in: list[tuple[Card, float]] = field(default_factory=list)
    centre: float = 0.0
    top: float = 0.0

    @property
    def head_height(self) -> float:
        """The height of the question."""
        return LINE * (self.head.count("\n") + 1) + 2 * PAD

    @property
    def height(self) -> float:
        """The height of the card, 0 for a lane."""
        lines = max((text.count("\n") + 1 for text in self.texts), default=0)
        return self.head_height + LINE * lines + 3 * PAD if self.texts else 0.0


@in_house_style
def decision_tree(tree: DecisionTree, *, shares: NDArray | None = None) -> Drawing:
    """Draw a decision tree; `shares` (answer,) are written under the answers.

    Where all answers of a question lead to the same next one, a single edge leaves the card. Answers
    without an edge end the classification. Returns the questions with their level and edges.
    """
    levels = question_levels(tree)
    rows = _cards(tree, levels, shares)
    top, bottoms = PAD, {}
    for row in rows:
        _place(row)
        height = max(card.height for card in row)
        for card in row:
            card.top, bottoms[id(card)] = top, top + (card.height or height)
        top += height + BETWEEN
    figure = new_figure(PAGE, top - BETWEEN + PAD, layout=None)
    page = page_axes(figure)
    for card in (card for row in rows for card in row):
        for above, offset in card.ways_in:
            start, end = (above.centre + offset, bottoms[id(above)]), (card.centre, card.top)
            middle = (start[1] + end[1]) / 2
            _line(page, [start, (start[0], middle), (end[0], middle), end])
        if card.texts:
            _draw_card(page, card)
        else:
            _line(page, [(card.centre, card.top), (card.centre, bottoms[id(card)])])
    questions = [
        {
            "question": question.name,
            "level": level,
            "leads_to": {a.name: list(a.leads_to) for a in question.answers},
        }
        for question, level in zip(tree.questions, levels, strict=True)
    ]
    numbers = None if shares is None else dict(zip(tree.columns, shares, strict=True))
    return figure, plain({"tree": tree.name, "questions": questions, "shares": numbers})


def question_levels(tree: DecisionTree) -> list[int]:
    """Return for each question the longest way to it, in questions: the row it is drawn in."""
    before = {number: set(_asked_before(tree, number)) for number in range(len(tree.questions))}
    levels = [0] * len(tree.questions)
    for number in TopologicalSorter(before).static_order():
        levels[number] = max((levels[question] + 1 for question in before[number]), default=0)
    return levels


def _asked_before(tree: DecisionTree, number: int) -> Mapping[int, list[int]]:
    """Return the questions with an edge to this one, a root too, and which of their answers."""
    before: dict[int, list[int]] = {}
    for column, answer in enumerate(tree.answers):
        if tree.questions[number].name in answer.leads_to:
            before.setdefault(tree.question_of[column], []).append(column)
    return before


def _cards(tree: DecisionTree, levels: Sequence[int], shares: NDArray | None) -> list[list[Card]]:
    """Return the cards of each level, and a lane wherever an edge passes one."""
    rows: list[list[Card]] = [[] for _ in range(max(levels) + 1)]
    cards = [_card(tree, number, shares) for number in range(len(tree.questions))]
    for number in sorted(range(len(cards)), key=lambda n: levels[n]):
        rows[levels[number]].append(cards[number])
        for before, answers in _asked_before(tree, number).items():
            for offset in _exits(tree, before, answers):
                above = cards[before]
                for level in range(levels[before] + 1, levels[number]):
                    lane = Card(ways_in=[(above, offset)])
                    rows[level].append(lane)
                    above, offset = lane, 0.0
                cards[number].ways_in.append((above, offset))
    return rows


def _card(tree: DecisionTree, number: int, shares: NDArray | None) -> Card:
    question, answers = tree.questions[number], tree.slices[number]
    width = CELL * len(question.answers)
    texts = [wrapped(answer.text, CELL - 2 * PAD, SMALL) for answer in question.answers]
    if shares is not None:
        written = ["–" if np.isnan(share) else f"{share:.0%}" for share in shares[answers]]
        texts = [f"{text}\n{share}" for text, share in zip(texts, written, strict=True)]
    head = wrapped(f"{question.task} {question.text}".strip(), width - 2 * PAD, SMALL)
    return Card(width, head, texts, INK if question.root else GREY)


def _exits(tree: DecisionTree, above: int, answers: Sequence[int]) -> list[float]:
    """Return where edges leave a card, from its centre: the middle when all answers go the same way."""
    own = tree.slices[above]
    if len(answers) == own.stop - own.start:
        return [0.0]
    return [CELL * (answer - (own.start + own.stop - 1) / 2) for answer in answers]


def _place(row: list[Card]) -> None:
    """Set the cards of a row near what leads to them, without touching, within the page."""
    wish = {
        id(card): float(np.mean([above.centre + offset for above, offset in card.ways_in] or [PAGE / 2]))
        for card in row
    }
    row.sort(key=lambda card: wish[id(card)])
    right = MARGIN
    for card in row:
        card.centre = max(wish[id(card)], right + card.width / 2)
        right = card.centre + card.width / 2 + GAP
    left = PAGE - MARGIN
    for card in reversed(row):
        card.centre = min(card.centre, left - card.width / 2)
        left = card.centre - card.width / 2 - GAP


def _draw_card(page: Axes, card: Card) -> None:
    left, middle = card.centre - card.width / 2, {"ha": "center", "zorder": 2}
    _box(page, left, card.top, card.width, card.height, card.edge, "white")
    write(page, card.centre, card.top + PAD, card.head, va="top", **middle)
    top, height = card.top + card.head_height, card.height - card.head_height - PAD
    for k, text in enumerate(card.texts):
        _box(page, left + k * CELL + PAD / 2, top, CELL - PAD, height, FAINT, SHADE)
        write(page, left + (k + 0.5) * CELL, top + height / 2, text, va="center", **middle)


def _line(page: Axes, points: Sequence[tuple[float, float]]) -> None:
    codes: Any = [Curve.MOVETO, *([Curve.LINETO] if len(points) == 2 else [Curve.CURVE4] * 3)]
    style: dict[str, Any] = {"facecolor": "none", "edgecolor": BLUE, "linewidth": 1.0, "zorder": 0}
    page.add_patch(PathPatch(Curve(points, codes), **style))


def _box(page: Axes, left: float, top: float, width: float, height: float, edge: str, face: str) -> None:
    style: dict[str, Any] = {"edgecolor": edge, "facecolor": face, "linewidth": 0.7, "zorder": 1}
    page.add_patch(FancyBboxPatch((left, top), width, height, "round,pad=0,rounding_size=0.04", **style))
