"""One panel per answer, grouped by question: the frame of every figure that shows the whole tree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hubblefork.report.figures.style import GREY, INK, PAGE, POINTS, SMALL, new_figure, wrapped
from hubblefork.zoo import DecisionTree

COLUMNS, FEWEST = 7, 3
LEFT, RIGHT, TOP, BOTTOM = 0.45, 0.08, 0.05, 0.42  # margins in inches
GAP, ROW_GAP, PAD = 0.13, 0.26, 0.05
LINE = 1.25 * SMALL / POINTS


@dataclass(frozen=True)
class Place:
    """Where a question stands: its row, the column of its first answer, how many answers it has."""

    question: int
    row: int
    column: int
    answers: int


def places(tree: DecisionTree, columns: int = COLUMNS) -> list[Place]:
    """Set the questions in rows, in order, as many whole questions to a row as fit."""
    columns = max(columns, *(len(question.answers) for question in tree.questions))
    found: list[Place] = []
    row = column = 0
    for number, question in enumerate(tree.questions):
        answers = len(question.answers)
        if column + answers > columns:
            row, column = row + 1, 0
        found.append(Place(number, row, column, answers))
        column += answers
    return found


def panels_by_question(
    tree: DecisionTree, *, xlabel: str, ylabel: str, footer: float = 0.0, row_gap: float = ROW_GAP
) -> tuple[Figure, list[Axes]]:
    """Return a page-wide figure and one axes per answer, in the tree's order.

    Panels are square, share their axes' meaning, and carry the answer as title under the question
    they belong to. `footer` leaves that many inches free at the bottom (a colour bar, a legend), `row_gap`
    between the rows.
    """
    placed = places(tree)
    used = max(place.column + place.answers for place in placed)
    step = (PAGE - LEFT - RIGHT) / max(used, FEWEST)
    side = step - GAP
    heads = [wrapped(_heading(tree, place.question), place.answers * step - GAP, SMALL) for place in placed]
    titles = [wrapped(answer.text, side + GAP / 2, SMALL) for answer in tree.answers]
    bands = [_band(row, placed, heads, titles, tree) for row in range(placed[-1].row + 1)]
    height = TOP + sum(head + title + side + row_gap for head, title in bands) - row_gap + BOTTOM + footer
    figure = new_figure(PAGE, height, layout=None)
    axes: list[Axes] = []
    for place, head in zip(placed, heads, strict=True):
        above = TOP + sum(h + t + side + row_gap for h, t in bands[: place.row])
        left = LEFT + place.column * step
        _write_heading(figure, head, left, height - above, place.answers * step - GAP, bands[place.row][0])
        bottom = height - above - sum(bands[place.row]) - side
        for k in range(place.answers):
            box = ((left + k * step) / PAGE, bottom / height, side / PAGE, side / height)
            axes.append(figure.add_axes(box))
            axes[-1].set_title(titles[len(axes) - 1], fontsize=SMALL, pad=2)
    _label_outer(axes, placed)
    middle = (footer + BOTTOM + height - TOP) / 2 / height
    centre = (LEFT + (used * step - GAP) / 2) / PAGE
    figure.text(centre, (footer + 0.06) / height, xlabel, ha="center", va="bottom")
    figure.text(0.02 / PAGE, middle, ylabel, ha="left", va="center", rotation=90)
    return figure, axes


def _heading(tree: DecisionTree, number: int) -> str:
    question = tree.questions[number]
    return f"{question.task} {question.text}".strip()


def _band(
    row: int, placed: Sequence[Place], heads: Sequence[str], titles: Sequence[str], tree: DecisionTree
) -> tuple[float, float]:
    """Return the heights of a row's headings and of its titles, in inches."""
    here = [(place, head) for place, head in zip(placed, heads, strict=True) if place.row == row]
    title_lines = max(titles[i].count("\n") + 1 for place, _ in here for i in _answers(tree, place))
    return max(head.count("\n") + 1 for _, head in here) * LINE + 2 * PAD, title_lines * LINE + PAD


def _answers(tree: DecisionTree, place: Place) -> range:
    return range(tree.slices[place.question].start, tree.slices[place.question].stop)


def _write_heading(figure: Figure, text: str, left: float, top: float, width: float, height: float) -> None:
    page, tall = figure.get_size_inches()
    figure.text(
        left / page,
        (top - height + PAD) / tall,
        text,
        fontsize=SMALL,
        color=INK,
        va="bottom",
        linespacing=1.15,
    )
    rule = (top - height + PAD / 2) / tall
    figure.add_artist(Line2D([left / page, (left + width) / page], [rule, rule], color=GREY, linewidth=0.5))


def _label_outer(axes: Sequence[Axes], placed: Sequence[Place]) -> None:
    """Keep tick labels at the left of each row and at the foot of each column only."""
    positions = [(place.row, place.column + k) for place in placed for k in range(place.answers)]
    foot = {column: max(row for row, c in positions if c == column) for _, column in positions}
    for panel, (row, column) in zip(axes, positions, strict=True):
        panel.tick_params(labelleft=column == 0, labelbottom=row == foot[column])
