"""A panel for every answer, grouped by question: the layout, and histograms in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from hubblefork.pages.style import (
    BLUE,
    GREY,
    INK,
    PAGE,
    POINTS,
    SERIES,
    SMALL,
    Drawing,
    in_house_style,
    new_figure,
    wrapped,
)
from hubblefork.pages.tables import plain
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


def places_of(tree: DecisionTree, columns: int = COLUMNS) -> list[Place]:
    """Set the questions in rows, in order, as many whole questions to a row as fit."""
    columns = max(columns, *(len(question.answers) for question in tree.questions))
    placed: list[Place] = []
    row = column = 0
    for number, question in enumerate(tree.questions):
        answers = len(question.answers)
        if column + answers > columns:
            row, column = row + 1, 0
        placed.append(Place(number, row, column, answers))
        column += answers
    return placed


def panels_by_question(
    tree: DecisionTree, *, xlabel: str, ylabel: str, footer: float = 0.0, row_gap: float = ROW_GAP
) -> tuple[Figure, list[Axes]]:
    """Return a page-wide figure and one axes per answer, in the tree's order.

    Panels are square, share their axes' meaning, and carry the answer as title under the question
    they belong to. `footer` leaves that many inches free at the bottom (a colour bar, a legend), `row_gap`
    between the rows.
    """
    placed = places_of(tree)
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
    lines = [titles[i].count("\n") + 1 for place, _ in here for i in _columns(tree, place.question)]
    return max(head.count("\n") + 1 for _, head in here) * LINE + 2 * PAD, max(lines) * LINE + PAD


def _columns(tree: DecisionTree, question: int) -> range:
    return range(tree.slices[question].start, tree.slices[question].stop)


def _write_heading(figure: Figure, text: str, left: float, top: float, width: float, height: float) -> None:
    page, tall = figure.get_size_inches()
    style: dict[str, Any] = {"fontsize": SMALL, "color": INK, "va": "bottom", "linespacing": 1.15}
    figure.text(left / page, (top - height + PAD) / tall, text, **style)
    rule = (top - height + PAD / 2) / tall
    figure.add_artist(Line2D([left / page, (left + width) / page], [rule, rule], color=GREY, linewidth=0.5))


def _label_outer(axes: Sequence[Axes], placed: Sequence[Place]) -> None:
    """Keep tick labels at the left of each row and at the foot of each column only."""
    positions = [(place.row, place.column + k) for place in placed for k in range(place.answers)]
    foot = {column: max(row for row, c in positions if c == column) for _, column in positions}
    for panel, (row, column) in zip(axes, positions, strict=True):
        panel.tick_params(labelleft=column == 0, labelbottom=row == foot[column])


@in_house_style
def histograms(
    tree: DecisionTree,
    samples: Mapping[str, NDArray],
    *,
    bins: int = 25,
    notes: Sequence[str] | None = None,
) -> Drawing:
    """Draw, for every answer, the normalised histogram of its fractions, in one or several samples.

    `samples` maps a name ("train") to fractions (galaxy, answer). The first is filled, the others are
    outlines; densities integrate to 1 and share one logarithmic axis, since most answers are rare. `notes`
    is one short text per answer, written in its panel. Returns the edges and, per sample and answer, n and
    the densities.
    """
    edges = np.linspace(0, 1, bins + 1)
    densities = {name: [_density(column, edges) for column in values.T] for name, values in samples.items()}
    figure, panels = panels_by_question(
        tree,
        xlabel="joint fraction",
        ylabel="normalised number of galaxies (area 1)",
        footer=0.24 if len(samples) > 1 else 0.0,
    )
    for number, sample in enumerate(densities.values()):
        line = {key: SERIES[number][key] for key in ("color", "linestyle")}
        for axes, density in zip(panels, sample, strict=True):
            if number == 0:
                axes.stairs(density, edges, fill=True, color=BLUE, alpha=0.35, linewidth=0)
            axes.stairs(density, edges, linewidth=0.9, **line)
    values = np.array(list(densities.values()))
    for axes, note in zip(panels, notes or [""] * len(panels), strict=True):
        unit_axis(axes, "x")
        axes.set_yscale("log")
        axes.set_ylim(values[values > 0].min(initial=1.0) / 1.6, values.max() * 1.6)
        axes.yaxis.minorticks_off()
        axes.text(0.96, 0.95, note, transform=axes.transAxes, ha="right", va="top", fontsize=SMALL)
    if len(samples) > 1:
        lines = [{key: line[key] for key in ("color", "linestyle")} for line in SERIES]
        handles = [Line2D([], [], label=name, **line) for name, line in zip(samples, lines, strict=False)]
        figure.legend(handles=handles, loc="lower center", ncols=len(samples))
    counts = {name: (~np.isnan(values)).sum(axis=0) for name, values in samples.items()}
    found = {
        name: {
            answer: {"n": counts[name][i], "density": densities[name][i]}
            for i, answer in enumerate(tree.columns)
        }
        for name in samples
    }
    return figure, plain({"edges": edges, "samples": found})


def _density(column: NDArray, edges: NDArray) -> NDArray:
    counts = np.histogram(column[~np.isnan(column)], edges)[0]
    return counts / max(counts.sum(), 1) / np.diff(edges)


def unit_axis(axes: Axes, which: str) -> None:
    """Let an axis ("x" or "y") run from 0 to 1."""
    getattr(axes, f"set_{which}lim")(-0.02, 1.02)
    getattr(axes, f"set_{which}ticks")((0, 0.5, 1), ("0", "0.5", "1"))


def answer_rows(tree: DecisionTree) -> NDArray:
    """Return the place of each answer in a column of answers, with a gap between questions."""
    return np.arange(len(tree.columns)) + 0.6 * np.asarray(tree.question_of)


def question_brackets(axes: Axes, tree: DecisionTree, rows: NDArray) -> None:
    """Bracket the answers of each question at the right of a panel that has a row for every answer."""
    right = axes.get_yaxis_transform()
    for question, answers in zip(tree.questions, tree.slices, strict=True):
        ends = [rows[answers][0] - 0.4, rows[answers][-1] + 0.4]
        axes.plot([1.01, 1.01], ends, transform=right, color=GREY, linewidth=0.6, clip_on=False)
        label = question.task or question.name
        axes.text(1.02, np.mean(ends), label, transform=right, va="center", fontsize=SMALL, color=GREY)
