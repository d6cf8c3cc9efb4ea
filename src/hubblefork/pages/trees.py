"""The decision tree as a diagram: a card a question, top to bottom, edges from answers to what comes next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from itertools import cycle, pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch, PathPatch
from matplotlib.path import Path as Curve
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from hubblefork.pages.plots import page_axes, write
from hubblefork.pages.style import (
    BLUE,
    FAINT,
    GREEN,
    GREY,
    INK,
    LINE,
    PAGE,
    PURPLE,
    SMALL,
    VERMILION,
    Drawing,
    in_house_style,
    new_figure,
    text_width,
    wrapped,
)
from hubblefork.pages.tables import plain
from hubblefork.zoo import DecisionTree

CELL, LANE, GAP, PAD = 0.72, 0.12, 0.22, 0.05  # inches
BETWEEN, MARGIN = 0.3, 0.03
ROOM = PAGE - 2 * MARGIN
WIDEST = ROOM - 4 * LANE  # of a card, which edges may have to pass
SHADE = "#eef3f8"
COLOURS = (BLUE, VERMILION, GREEN, PURPLE)
BOX = "\N{BALLOT BOX}\N{NO-BREAK SPACE}"


@dataclass
class Card:
    """A question, or the lane of an edge that passes by, in inches from the upper left corner of the page.

    `head` and `texts` are the question and its answers; `ways_in` are its edges: the card above, how far from
    its centre they leave it, and their colour. `floor` is the lower edge of its row.
    """

    width: float = 0.0
    head: str = ""
    texts: Sequence[str] = ()
    edge: str = GREY
    ways_in: list[tuple[Card, float, str]] = field(default_factory=list)
    centre: float = 0.0
    top: float = 0.0
    floor: float = 0.0

    @property
    def head_height(self) -> float:
        """The height of the question."""
        return LINE * (self.head.count("\n") + 1) + 2 * PAD

    @property
    def height(self) -> float:
        """The height of the card, 0 for a lane."""
        lines = max((text.count("\n") + 1 for text in self.texts), default=0)
        return self.head_height + LINE * lines + 3 * PAD if self.texts else 0.0


@dataclass(frozen=True)
class Edge:
    """The way out of a question by one answer, or by all (None), and the questions it goes to."""

    question: int
    answer: int | None
    targets: frozenset[int]


@in_house_style
def decision_tree(tree: DecisionTree, *, shares: NDArray | None = None) -> Drawing:
    """Draw a decision tree; `shares` (answer,) are written under the answers.

    One edge leaves an answer, to all that it opens, and one the card where all answers open the same. Answers
    without an edge end the classification; a box before them says that several may be given. Returns the
    questions with their row and edges.
    """
    cards = [_card(tree, number, shares) for number in range(len(tree.questions))]
    edges = _edges(tree)
    rows = question_rows(tree, edges, [card.width for card in cards])
    top, drawn = PAD, _with_lanes(tree, edges, rows, cards)
    for row in drawn:
        _place(row)
        floor = top + max(card.height for card in row)
        for card in row:
            card.top, card.floor = top, floor
        top = floor + BETWEEN
    figure = new_figure(PAGE, top - BETWEEN + PAD, layout=None)
    page = page_axes(figure)
    for card in (card for row in drawn for card in row):
        for above, offset, colour in card.ways_in:
            start = above.centre + offset
            middle = (above.floor + card.top) / 2
            points = [(start, above.top + above.height), (start, above.floor), (start, middle)]
            _line(page, [*points, (card.centre, middle), (card.centre, card.top)], colour)
        if card.texts:
            _draw_card(page, card)
    row_of = {number: place for place, row in enumerate(rows) for number in row}
    questions = [
        {
            "question": question.name,
            "row": row_of[number],
            "leads_to": {a.name: list(a.leads_to) for a in question.answers},
        }
        for number, question in enumerate(tree.questions)
    ]
    numbers = None if shares is None else dict(zip(tree.columns, shares, strict=True))
    return figure, plain({"tree": tree.name, "questions": questions, "shares": numbers})


def _edges(tree: DecisionTree) -> list[Edge]:
    """Return the ways out of all questions that go anywhere."""
    numbers, edges = {question.name: number for number, question in enumerate(tree.questions)}, []
    for number, question in enumerate(tree.questions):
        targets = [frozenset(numbers[name] for name in answer.leads_to) for answer in question.answers]
        shared = frozenset.intersection(*targets)
        edges += [Edge(number, None, shared)]
        edges += [Edge(number, place, some - shared) for place, some in enumerate(targets)]
    return [edge for edge in edges if edge.targets]


def question_rows(tree: DecisionTree, edges: Sequence[Edge], widths: Sequence[float]) -> list[list[int]]:
    """Return the questions of each row: below all that lead to them, as high as the page is wide enough.

    Those with the most questions below them come first, then those that have waited longest.
    """
    before = [{e.question for e in edges if number in e.targets} for number in range(len(widths))]
    order = tuple(TopologicalSorter(dict(enumerate(before))).static_order())
    below = [0] * len(widths)
    for number in reversed(order):
        for earlier in before[number]:
            below[earlier] = max(below[earlier], below[number] + 1)
    rows: list[list[int]] = []
    placed: set[int] = set()
    ready: list[int] = []

    def fits(row: Sequence[int]) -> bool:
        lanes = sum(edge.question in placed and not edge.targets <= placed | set(row) for edge in edges)
        return sum(widths[n] for n in row) + GAP * (len(row) - 1) + 2 * LANE * lanes <= ROOM

    while len(placed) < len(widths):
        ready = [n for n in dict.fromkeys([*ready, *order]) if n not in placed and before[n] <= placed]
        row: list[int] = []
        for number in sorted(ready, key=lambda n: -below[n]):
            if not row or fits([*row, number]):
                row.append(number)
        rows.append(row)
        placed.update(row)
    return rows


def _with_lanes(
    tree: DecisionTree, edges: Sequence[Edge], rows: Sequence[Sequence[int]], cards: Sequence[Card]
) -> list[list[Card]]:
    """Return the cards of each row, their edges set, with a lane wherever an edge goes on to a lower row."""
    drawn: list[list[Card]] = []
    ends: dict[Edge, tuple[Card, float, str]] = {}
    placed: set[int] = set()
    for row in rows:
        placed.update(row)
        drawn.append([cards[number] for number in row])
        for edge, end in ends.items():
            for number in edge.targets.intersection(row):
                cards[number].ways_in.append(end)
            if not edge.targets <= placed:
                drawn[-1].append(Card(ways_in=[end]))
                ends[edge] = (drawn[-1][-1], 0.0, end[2])
        for edge, colour in zip(edges, cycle(COLOURS)):
            if edge.question in row:
                ends[edge] = (cards[edge.question], _offset(cards[edge.question], edge.answer), colour)
    return drawn


def _offset(card: Card, answer: int | None) -> float:
    """Return where an edge leaves a card, from its centre."""
    number = len(card.texts)
    return 0.0 if answer is None else card.width * ((answer + 0.5) / number - 0.5)


def _card(tree: DecisionTree, number: int, shares: NDArray | None) -> Card:
    question = tree.questions[number]
    head, texts = f"{question.task} {question.text}".strip(), [answer.text for answer in question.answers]
    box, note = (BOX, " (several answers may be given)") if question.multiple else ("", "")
    head, edge, least = head + note, 2 * PAD + text_width(box, SMALL), _widest_word(head) + 2 * PAD
    cell = max(CELL, edge + max(map(_widest_word, texts)))
    width = min(max(len(texts) * cell, least), WIDEST)
    texts = [box + wrapped(text, width / len(texts) - edge, SMALL) for text in texts]
    if shares is not None:
        written = ["–" if np.isnan(share) else f"{share:.0%}" for share in shares[tree.slices[number]]]
        texts = [f"{text}\n{share}" for text, share in zip(texts, written, strict=True)]
    return Card(width, wrapped(head, width - 2 * PAD, SMALL), texts, INK if question.root else GREY)


def _widest_word(text: str) -> float:
    return max((text_width(word, SMALL) for word in text.split()), default=0.0)


def _place(row: list[Card]) -> None:
    """Set the cards of a row as near what leads to them as they go side by side within the page."""
    wish = {
        id(card): float(np.mean([above.centre + offset for above, offset, _ in card.ways_in] or [PAGE / 2]))
        for card in row
    }
    row.sort(key=lambda card: wish[id(card)])
    steps = [
        (left.width + right.width) / 2 + (GAP if left.texts and right.texts else LANE)
        for left, right in pairwise(row)
    ]
    ends = MARGIN + row[0].width / 2, PAGE - MARGIN - row[-1].width / 2
    for card, centre in zip(row, places_near([wish[id(card)] for card in row], steps, *ends), strict=True):
        card.centre = float(centre)


def places_near(
    wishes: Sequence[float], steps: Sequence[float], first: float = -np.inf, last: float = np.inf
) -> NDArray[np.float64]:
    """Return places (item,) as near to rising wishes as they go, each a step or more from the one before.

    The sum of squared distances from the wishes is least. None lies before `first` or beyond `last`.
    """
    least = np.cumsum([0.0, *steps])
    starts = isotonic_regression(np.asarray(wishes) - least).x
    placed: NDArray[np.float64] = np.clip(starts, first, last - least[-1]) + least
    return placed


def _draw_card(page: Axes, card: Card) -> None:
    left, middle = card.centre - card.width / 2, {"ha": "center", "zorder": 2}
    _box(page, left, card.top, card.width, card.height, card.edge, "white")
    write(page, card.centre, card.top + PAD, card.head, va="top", **middle)
    top, height = card.top + card.head_height, card.height - card.head_height - PAD
    cell = card.width / len(card.texts)
    for k, text in enumerate(card.texts):
        _box(page, left + k * cell + PAD / 2, top, cell - PAD, height, FAINT, SHADE)
        write(page, left + (k + 0.5) * cell, top + height / 2, text, va="center", **middle)


def _line(page: Axes, points: Sequence[tuple[float, float]], colour: str) -> None:
    codes: Any = [Curve.MOVETO, Curve.LINETO, *[Curve.CURVE4] * (len(points) - 2)]
    style: dict[str, Any] = {"facecolor": "none", "edgecolor": colour, "linewidth": 1.0, "zorder": 0}
    page.add_patch(PathPatch(Curve(points, codes), **style))


def _box(page: Axes, left: float, top: float, width: float, height: float, edge: str, face: str) -> None:
    style: dict[str, Any] = {"edgecolor": edge, "facecolor": face, "linewidth": 0.7, "zorder": 1}
    page.add_patch(FancyBboxPatch((left, top), width, height, "round,pad=0,rounding_size=0.04", **style))
