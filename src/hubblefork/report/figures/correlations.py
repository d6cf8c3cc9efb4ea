"""Heat maps of the correlations between answers: all of them, and question by question."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hubblefork.report.figures.numbers import plain
from hubblefork.report.figures.style import (
    GREY,
    INK,
    PAGE,
    SIGNED,
    SMALL,
    Drawing,
    in_house_style,
    new_figure,
    text_width,
    wrapped,
)
from hubblefork.zoo import DecisionTree

CELL, PAD, GAP = 0.27, 0.06, 0.22  # inches
HEAD, FOOT, BAR = 0.34, 0.2, 0.52
FLIP = 0.6  # from which strength on letters are white
SCALE = Normalize(-1, 1)


@in_house_style
def correlation_matrix(tree: DecisionTree, rho: NDArray) -> Drawing:
    """Draw the correlations (answer, answer) of all answers; cells of negative ones carry a dash.

    Lines part the questions. Cells without a value are left white. Returns the answers and the matrix.
    """
    figure = new_figure(PAGE, PAGE * 0.8)
    panel = figure.add_subplot()
    panel.imshow(np.ma.masked_invalid(rho), cmap=SIGNED, norm=SCALE)
    rows, columns = np.nonzero(rho < 0)
    strong = rho[rows, columns] < -FLIP
    for which, colour in ((strong, "white"), (~strong, INK)):
        panel.scatter(columns[which], rows[which], marker="_", s=5, linewidth=0.6, color=colour)
    panel.set_xticks(range(len(rho)), _codes(tree), rotation=90)
    names = [f"{answer.text}  {code}" for answer, code in zip(tree.answers, _codes(tree), strict=True)]
    panel.set_yticks(range(len(rho)), names)
    panel.tick_params(length=0)
    for answers in tree.slices[1:]:
        panel.axhline(answers.start - 0.5, color=GREY, linewidth=0.5)
        panel.axvline(answers.start - 0.5, color=GREY, linewidth=0.5)
    panel.spines[:].set_visible(True)
    bar = figure.colorbar(ScalarMappable(SCALE, SIGNED), ax=panel, shrink=0.5, aspect=25, pad=0.02)
    bar.set_label("correlation ρ")
    bar.outline.set_linewidth(0.4)
    return figure, plain({"answers": list(tree.columns), "rho": rho})


@in_house_style
def correlation_submatrices(tree: DecisionTree, rho: NDArray) -> Drawing:
    """Draw, for every question, the correlations of its answers, each with its value in hundredths.

    `rho` is (answer, answer). Returns per question its answers and the submatrix.
    """
    boxes = _boxes(tree)
    height = boxes[-1].top + max(box.height for box in boxes if box.top == boxes[-1].top) + BAR
    figure = new_figure(PAGE, height, layout=None)
    for box in boxes:
        _submatrix(figure, tree, box, rho[tree.slices[box.question], tree.slices[box.question]])
    _colour_bar(figure)
    found = {
        question.name: {
            "answers": [answer.name for answer in question.answers],
            "rho": rho[answers, answers],
        }
        for question, answers in zip(tree.questions, tree.slices, strict=True)
    }
    return figure, plain(found)


@dataclass(frozen=True)
class Box:
    """Where a question's submatrix stands, in inches from the upper left corner of the page."""

    question: int
    left: float
    top: float
    label: float
    side: float

    @property
    def height(self) -> float:
        """The height with heading and tick labels."""
        return HEAD + self.side + FOOT


def _boxes(tree: DecisionTree) -> list[Box]:
    """Set the submatrices in rows, in the order of the questions, as many to a row as fit."""
    found: list[Box] = []
    left = top = 0.0
    for number, question in enumerate(tree.questions):
        label = max(text_width(_name(tree, column), SMALL) for column in _columns(tree, number)) + 2 * PAD
        side = CELL * len(question.answers)
        if left + label + side > PAGE:
            top += max(box.height for box in found if box.top == top)
            left = 0.0
        found.append(Box(number, left, top, label, side))
        left += label + side + GAP
    return found


def _submatrix(figure: Figure, tree: DecisionTree, box: Box, rho: NDArray) -> None:
    wide, tall = figure.get_size_inches()
    place = (box.left + box.label) / wide, 1 - (box.top + HEAD + box.side) / tall
    panel = figure.add_axes((*place, box.side / wide, box.side / tall))
    panel.imshow(np.ma.masked_invalid(rho), cmap=SIGNED, norm=SCALE)
    _write_values(panel, rho)
    columns = _columns(tree, box.question)
    codes = _codes(tree)
    panel.set_xticks(range(len(rho)), [codes[column] for column in columns])
    panel.set_yticks(range(len(rho)), [_name(tree, column) for column in columns])
    panel.tick_params(length=0, pad=1.5)
    panel.spines[:].set_visible(True)
    question = tree.questions[box.question]
    head = wrapped(f"{question.task} {question.name.replace('_', ' ')}", box.label + box.side, SMALL)
    figure.text(
        (box.left + box.label + box.side) / wide,
        1 - (box.top + HEAD - PAD) / tall,
        head,
        ha="right",
        va="bottom",
        fontsize=SMALL,
        fontweight="bold",
        linespacing=1.1,
    )


def _write_values(panel: Axes, rho: NDArray) -> None:
    for (row, column), value in np.ndenumerate(rho):
        if np.isfinite(value):
            colour = "white" if abs(value) > FLIP else INK
            text = str(round(100 * value)).replace("-", "−")
            panel.text(column, row, text, ha="center", va="center", fontsize=SMALL, color=colour)


def _colour_bar(figure: Figure) -> None:
    tall = figure.get_size_inches()[1]
    box = figure.add_axes((0.3, 0.24 / tall, 0.4, 0.07 / tall))
    bar = figure.colorbar(ScalarMappable(SCALE, SIGNED), cax=box, orientation="horizontal")
    bar.outline.set_linewidth(0.4)
    bar.ax.text(-0.03, 0.5, "correlation ρ", transform=bar.ax.transAxes, ha="right", va="center")


def _columns(tree: DecisionTree, question: int) -> range:
    return range(tree.slices[question].start, tree.slices[question].stop)


def _codes(tree: DecisionTree) -> list[str]:
    """Return the short numbers of the answers: 1.1 for Class1.1."""
    return [column.removeprefix("Class") for column in tree.source_columns]


def _name(tree: DecisionTree, column: int) -> str:
    return f"{tree.answers[column].text}  {_codes(tree)[column]}"
