"""The figures that show every answer, grouped by question; each returns the figure and its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from hubblefork.pages.plots import (
    POINTS,
    Panel,
    Series,
    bounded,
    draw_image,
    intervals,
    page_axes,
    short_number,
    sides,
    write,
)
from hubblefork.pages.style import (
    BLUE,
    DENSITY,
    FAINT,
    GREY,
    INK,
    LINE,
    ORANGE,
    PAGE,
    SERIES,
    SIGNED,
    SMALL,
    VERMILION,
    Drawing,
    in_house_style,
    new_figure,
    text_width,
    wrapped,
)
from hubblefork.pages.tables import decimal, plain
from hubblefork.stats.metrics import Reliability, reliability_of, rmse
from hubblefork.zoo import DecisionTree

COLUMNS, FEWEST = 7, 3
LEFT, RIGHT, TOP, BOTTOM = 0.45, 0.08, 0.05, 0.42  # margins in inches
GAP, ROW_GAP, PAD = 0.13, 0.26, 0.05
CELLS, BINS = 40, 25
BASELINE_STYLES = tuple(
    {"marker": marker, "markersize": size, "color": colour, "markeredgewidth": 1.4}
    for marker, size, colour in (("|", 10, VERMILION), ("D", 3, ORANGE), ("x", 4, GREY), ("^", 4, INK))
)
FLIP = 0.6  # from this absolute correlation on, letters are white
CORRELATION: dict[str, Any] = {"norm": Normalize(-1, 1), "cmap": SIGNED}


def places_of(tree: DecisionTree) -> list[tuple[int, int]]:
    """Return row and first column of each question: in order, as many whole questions to a row as fit."""
    columns = max(COLUMNS, *(len(question.answers) for question in tree.questions))
    places: list[tuple[int, int]] = []
    row = column = 0
    for question in tree.questions:
        if column + len(question.answers) > columns:
            row, column = row + 1, 0
        places.append((row, column))
        column += len(question.answers)
    return places


def answer_panels(
    tree: DecisionTree, xlabel: str = "", ylabel: str = "", *, footer: float = 0.0, row_gap: float = ROW_GAP
) -> tuple[Figure, list[Axes]]:
    """Return a page-wide figure and one axes per answer, in the tree's order.

    Panels are square, share their axes' meaning, and carry the answer as title under the question they belong
    to. `footer` leaves that many inches free at the bottom (a colour bar, a legend), `row_gap` between rows.
    """
    places, counts = places_of(tree), [len(question.answers) for question in tree.questions]
    used = max(column + count for (_, column), count in zip(places, counts, strict=True))
    step = (PAGE - LEFT - RIGHT) / max(used, FEWEST)
    side = step - GAP
    heads = [
        wrapped(_heading(tree, number), count * step - GAP, SMALL) for number, count in enumerate(counts)
    ]
    titles = [wrapped(answer.text, side + GAP / 2, SMALL) for answer in tree.answers]
    row_of = [places[question][0] for question in tree.question_of]
    rows = range(places[-1][0] + 1)
    above = [_height(heads, [row for row, _ in places], row) for row in rows]
    below = [_height(titles, row_of, row) + side + row_gap for row in rows]
    tops = [TOP + sum(above[:row]) + sum(below[:row]) for row in rows]
    height = TOP + sum(above) + sum(below) - row_gap + BOTTOM + footer
    figure = new_figure(PAGE, height, layout=None)
    axes: list[Axes] = []
    lowest = {
        column + k: row for (row, column), count in zip(places, counts, strict=True) for k in range(count)
    }
    for (row, column), count, text in zip(places, counts, heads, strict=True):
        left, top = LEFT + column * step, height - tops[row] - above[row]
        figure.text(left / PAGE, (top + PAD) / height, text, fontsize=SMALL, va="bottom", linespacing=1.15)
        ends, rule = [left / PAGE, (left + count * step - GAP) / PAGE], (top + PAD / 2) / height
        figure.add_artist(Line2D(ends, [rule, rule], color=GREY, linewidth=0.5))
        for k in range(count):
            box = (
                (left + k * step) / PAGE,
                (top + row_gap - below[row]) / height,
                side / PAGE,
                side / height,
            )
            axes.append(figure.add_axes(box))
            axes[-1].set_title(titles[len(axes) - 1], fontsize=SMALL, pad=2)
            axes[-1].tick_params(labelleft=column + k == 0, labelbottom=row == lowest[column + k])
    centre = (LEFT + (used * step - GAP) / 2) / PAGE
    figure.text(centre, (footer + 0.06) / height, xlabel, ha="center", va="bottom")
    middle = (footer + BOTTOM + height - TOP) / 2 / height
    figure.text(0.02 / PAGE, middle, ylabel, ha="left", va="center", rotation=90)
    return figure, axes


def _height(texts: Sequence[str], rows: Sequence[int], row: int) -> float:
    """Return the height of the tallest of the texts that stand in a row, in inches."""
    lines = max(text.count("\n") + 1 for text, own in zip(texts, rows, strict=True) if own == row)
    return LINE * lines + 1.5 * PAD


def _heading(tree: DecisionTree, number: int) -> str:
    question = tree.questions[number]
    return f"{question.task} {question.text}".strip()


def _unit_axis(axes: Axes, which: str) -> None:
    getattr(axes, f"set_{which}lim")(-0.02, 1.02)
    getattr(axes, f"set_{which}ticks")((0, 0.5, 1), ("0", "0.5", "1"))


def _range_of(tree: DecisionTree, *values: NDArray) -> tuple[float, float]:
    """Return the range of fractions, or the least that holds all values of a number."""
    every = np.concatenate([side.ravel() for side in values])
    return (float(np.nanmin(every)), float(np.nanmax(every))) if tree.number else (0.0, 1.0)


def _quantity(tree: DecisionTree, fraction: str) -> str:
    """Return what an axis shows: this fraction, or of a number its name and unit."""
    words = fraction.replace("joint fraction", tree.columns[0]).replace("volunteers'", "labelled")
    return f"{words} ({tree.number.unit})".removesuffix(" ()") if tree.number else fraction


def _note(axes: Axes, text: str, *, right: bool = False) -> None:
    """Write a text into the upper left or upper right corner of a panel."""
    box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8}
    style: dict[str, Any] = {
        "fontsize": SMALL,
        "linespacing": 1.1,
        "bbox": box if text else None,
        "zorder": 1.5,
    }
    place = (0.96, 0.96, "right") if right else (0.04, 0.96, "left")
    axes.text(*place[:2], text, transform=axes.transAxes, va="top", ha=place[2], **style)


def _colour_bar(figure: Figure, colours: ScalarMappable, label: str) -> None:
    """Draw a colour bar at the foot of a page, with a label left of it."""
    height = figure.get_size_inches()[1]
    box = figure.add_axes((0.36, 0.27 / height, 0.34, 0.07 / height))
    bar = figure.colorbar(colours, cax=box, orientation="horizontal", format=short_number)
    bar.outline.set_linewidth(0.4)
    bar.ax.text(-0.03, 0.5, label, transform=bar.ax.transAxes, ha="right", va="center")


@in_house_style
def predicted_against_volunteers(tree: DecisionTree, predicted: NDArray, volunteers: NDArray) -> Drawing:
    """Draw, for every answer, predicted against volunteers' joint fractions as a 2-D histogram.

    Both arrays are (galaxy, answer). 40 × 40 cells of [0, 1]², or of a number's range, have one logarithmic
    colour scale; each panel states its RMSE and Pearson's r. Returns per answer: n, rmse, r, occupied cells.
    """
    edges = np.linspace(*(ends := _range_of(tree, predicted, volunteers)), CELLS + 1)
    both = ~(np.isnan(predicted) | np.isnan(volunteers))
    pairs = [(volunteers[k, i], predicted[k, i]) for i, k in enumerate(both.T)]
    counts = [np.histogram2d(x, y, bins=(edges, edges))[0] for x, y in pairs]
    norm = LogNorm(1, max(2.0, max(count.max() for count in counts)))
    labels = [_quantity(tree, text) for text in ("volunteers' joint fraction", "predicted joint fraction")]
    figure, panels = answer_panels(tree, *labels, footer=0.42)
    answers: dict[str, Any] = {}
    for axes, name, (x, y), count in zip(panels, tree.columns, pairs, counts, strict=True):
        axes.plot(ends, ends, color=GREY, linewidth=0.6, zorder=-1)
        # an image keeps the cells of a panel one object of the PDF: a mesh is far slower to write
        cells: Any = {"origin": "lower", "extent": (*ends, *ends), "aspect": "auto"}
        axes.imshow(np.ma.masked_equal(count.T, 0), **cells, norm=norm, cmap=DENSITY)
        for side in "xy" if not tree.number else "":
            _unit_axis(axes, side)
        error, r = _closeness(x, y)
        answers[name] = {"n": len(x), "rmse": error, "r": r, "cells": _occupied(count)}
        _note(axes, f"RMSE {error:.3f}\nr {decimal(r, 2)}" if len(x) else "no labels")
    _colour_bar(figure, ScalarMappable(norm, DENSITY), "galaxies per cell")
    return figure, plain({"bins": CELLS, "answers": answers})


def _closeness(x: NDArray, y: NDArray) -> tuple[float, float]:
    """Return the RMSE and Pearson's r of two columns (galaxy,), NaN where there is none."""
    if not len(x):
        return np.nan, np.nan
    varied = np.ptp(x) > 0 and np.ptp(y) > 0
    return rmse(y[:, None], x[:, None]), float(np.corrcoef(x, y)[0, 1]) if varied else np.nan


def _occupied(count: NDArray) -> dict[str, list[int]]:
    x, y = np.nonzero(count)
    return {"x": x.tolist(), "y": y.tolist(), "count": count[x, y].astype(int).tolist()}


@in_house_style
def reliability(tree: DecisionTree, predicted: NDArray, volunteers: NDArray) -> Drawing:
    """Draw, for every answer, the volunteers' mean fraction in ten bins of the predicted one.

    Both arrays are (galaxy, answer). Bins hold as many galaxies each; bars are the standard error of the
    mean; axes are in square roots, so that rare answers can be seen. Each panel states the expected
    calibration error, in brackets what chance alone would give, and the number of galaxies in a bin. Returns
    these and the bins of every answer.
    """
    labels = "predicted joint fraction", "volunteers' mean joint fraction"
    figure, panels = answer_panels(tree, *(_quantity(tree, text) for text in labels))
    answers: dict[str, Any] = {}
    ticks, root = (0, 0.1, 0.5, 1), (lambda value: np.sqrt(np.maximum(value, 0)), np.square)
    for axes, name, x, y in zip(panels, tree.columns, predicted.T, volunteers.T, strict=True):
        binned = reliability_of(x, y)
        for side in "xy" if not tree.number else "":
            getattr(axes, f"set_{side}scale")("function", functions=root)
            getattr(axes, f"set_{side}lim")(0, 1.02)
            getattr(axes, f"set_{side}ticks")(ticks, [f"{tick:g}" for tick in ticks])
        ends = _range_of(tree, binned.predicted, binned.volunteers)
        axes.plot(ends, ends, color=FAINT, linewidth=1, zorder=0)
        _draw_bins(axes, binned, positive=not tree.number)
        errors = {"error": binned.error, "error_by_chance": binned.error_by_chance}
        answers[name] = {**asdict(binned), **errors}
    return figure, plain({"answers": answers})


def _draw_bins(axes: Axes, binned: Reliability, *, positive: bool) -> None:
    if binned.error is None or binned.error_by_chance is None:
        return _note(axes, "no labels")
    error = np.nan_to_num(binned.standard_error)
    below = np.minimum(error, binned.volunteers) if positive else error
    style: dict[str, Any] = {"fmt": "o-", "color": BLUE, "elinewidth": 0.9, "markersize": 2, "linewidth": 0.7}
    axes.errorbar(binned.predicted, binned.volunteers, [below, error], **style)
    errors = [f"{value:.3f}".removeprefix("0") for value in (binned.error, binned.error_by_chance)]
    return _note(axes, f"{errors[0]} ({errors[1]})\n{binned.galaxies.max()} a bin")


@in_house_style
def histograms(
    tree: DecisionTree, samples: Mapping[str, NDArray], *, notes: Sequence[str] | None = None
) -> Drawing:
    """Draw, for every answer, the normalised histogram of its fractions, in one or several samples.

    `samples` maps a name ("train") to fractions (galaxy, answer). The first is filled, the others are
    outlines; densities integrate to 1 and share one logarithmic axis, since most answers are rare. `notes`
    is one short text per answer, written in its panel. Returns the edges and, per sample and answer, n and
    the densities.
    """
    edges = np.linspace(0, 1, BINS + 1)
    numbers = {
        name: {
            answer: {"n": int(np.sum(~np.isnan(column))), "density": _density(column, edges)}
            for answer, column in zip(tree.columns, values.T, strict=True)
        }
        for name, values in samples.items()
    }
    labels = "joint fraction", "normalised number of galaxies (area 1)"
    figure, panels = answer_panels(tree, *labels, footer=0.24 if len(samples) > 1 else 0.0)
    lines = [{key: line[key] for key in ("color", "linestyle")} for line in SERIES]
    values = np.array([[entry["density"] for entry in sample.values()] for sample in numbers.values()])
    for axes, densities, note in zip(panels, values.swapaxes(0, 1), notes or [""] * len(panels), strict=True):
        axes.stairs(densities[0], edges, fill=True, color=BLUE, alpha=0.35, linewidth=0)
        for density, line in zip(densities, lines, strict=False):
            axes.stairs(density, edges, linewidth=0.9, **line)
        _unit_axis(axes, "x")
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(short_number)
        axes.set_ylim(values[values > 0].min(initial=1.0) / 1.6, values.max() * 1.6)
        axes.yaxis.minorticks_off()
        _note(axes, note, right=True)
    if len(samples) > 1:
        handles = [Line2D([], [], label=name, **line) for name, line in zip(samples, lines, strict=False)]
        figure.legend(handles=handles, loc="lower center", ncols=len(samples))
    return figure, plain({"edges": edges, "samples": numbers})


def _density(column: NDArray, edges: NDArray) -> NDArray:
    counts = np.histogram(column[~np.isnan(column)], edges)[0]
    return counts / max(counts.sum(), 1) / np.diff(edges)


@in_house_style
def rmse_per_answer(
    tree: DecisionTree, estimates: Sequence[Any], *, baselines: Mapping[str, NDArray]
) -> Drawing:
    """Draw the RMSE of every answer as a bar with its interval, the baselines as marks in the same row.

    `estimates` (answer,) are as for `plots.bounded`; each baseline has shape (answer,). Returns them.
    """
    rows = _answer_rows(tree)
    series = [bounded("network", rows, estimates, rows=True, style={"color": BLUE}, bar=0.72)]
    for (name, values), style in zip(baselines.items(), BASELINE_STYLES, strict=False):
        series.append(Series(name, values, rows, style=style))
    panel = Panel(series, _quantity(tree, "RMSE of the joint fraction"), xlim=(0, None))
    figure = _rows_of_answers(tree, panel)
    numbers = dict(zip(("rmse", "low", "high"), sides(estimates), strict=True))
    return figure, plain({"answers": list(tree.columns), **numbers, "baselines": dict(baselines)})


@in_house_style
def coverage_per_answer(
    tree: DecisionTree, coverages: Sequence[Mapping[str, Any]], *, tolerance: float
) -> Drawing:
    """Draw how often the intervals of every answer hold the volunteers' fraction, and what is stated.

    `coverages` are of `stats.evaluation.Judge.intervals`. Marks have 95% bootstrap
    intervals; shaded is what is within the tolerance of what is stated. A hollow mark is an answer of whose
    intervals more than half are a single number. Returns the numbers drawn.
    """
    series = []
    for line, coverage, shift in zip(SERIES, coverages, (-0.18, 0.18), strict=False):
        rows = _answer_rows(tree) + shift
        entries = [coverage["answers"][name] for name in tree.columns]
        for hollow, label in ((False, f"stated {coverage['stated']:g}"), (True, "_hollow")):
            chosen = [k for k, own in enumerate(entries) if own["found"] and (own["single"] > 0.5) == hollow]
            face = {"markerfacecolor": "white"} if hollow else {}
            style = {**line, **POINTS, "elinewidth": 0.7, "capsize": 0, **face}
            shown = [entries[k]["found"] for k in chosen]
            series.append(bounded(label, rows[chosen], shown, rows=True, style=style))
    label = "share of galaxies whose interval holds the volunteers' fraction"
    figure = _rows_of_answers(tree, Panel(series, label, xlim=(None, 1.005)))
    for line, coverage in zip(SERIES, coverages, strict=False):
        stated, axes = coverage["stated"], figure.axes[0]
        axes.axvspan(stated - tolerance, stated + tolerance, color=line["color"], alpha=0.12, linewidth=0)
        axes.axvline(stated, color=line["color"], linestyle=line["linestyle"], linewidth=0.8)
    return figure, plain({"tolerance": tolerance, "coverages": list(coverages)})


def _answer_rows(tree: DecisionTree) -> NDArray:
    """Return the place of each answer in a column of answers, with a gap between questions."""
    return np.arange(len(tree.columns)) + 0.6 * np.asarray(tree.question_of)


def _rows_of_answers(tree: DecisionTree, panel: Panel) -> Figure:
    """Draw a panel with a row for every answer, and bracket the answers of each question at its right."""
    names, rows = [answer.text for answer in tree.answers], _answer_rows(tree)
    figure = intervals([replace(panel, names=names, rows=rows)], width=PAGE * 0.8, each=0.155)
    axes = figure.axes[0]
    right: Any = {"transform": axes.get_yaxis_transform(), "color": GREY}
    for question, answers in zip(tree.questions, tree.slices, strict=True):
        ends = [rows[answers][0] - 0.4, rows[answers][-1] + 0.4]
        axes.plot([1.01, 1.01], ends, linewidth=0.6, clip_on=False, **right)
        axes.text(1.02, np.mean(ends), question.task or question.name, va="center", fontsize=SMALL, **right)
    return figure


@in_house_style
def correlation_matrix(tree: DecisionTree, rho: NDArray) -> Drawing:
    """Draw the correlations (answer, answer) of all answers; cells of negative ones carry a dash.

    Lines part the questions. Cells without a value are left white. Returns the answers and the matrix.
    """
    figure = new_figure(PAGE, PAGE * 0.8)
    axes = figure.add_subplot()
    axes.imshow(np.ma.masked_invalid(rho), **CORRELATION)
    axes.set_xticks(range(len(rho)), _codes(tree), rotation=90)
    axes.set_yticks(range(len(rho)), _names(tree))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(True)
    below, right = np.nonzero(rho < 0)
    strong = rho[below, right] < -FLIP
    for which, colour in ((strong, "white"), (~strong, INK)):
        axes.scatter(right[which], below[which], marker="_", s=5, linewidth=0.6, color=colour)
    for answers in tree.slices[1:]:
        axes.axhline(answers.start - 0.5, color=GREY, linewidth=0.5)
        axes.axvline(answers.start - 0.5, color=GREY, linewidth=0.5)
    bar = figure.colorbar(
        ScalarMappable(**CORRELATION), ax=axes, shrink=0.5, aspect=25, pad=0.02, label="correlation ρ"
    )
    bar.outline.set_linewidth(0.4)
    return figure, plain({"answers": list(tree.columns), "rho": rho})


CELL, BETWEEN, HEAD, FOOT = 0.27, 0.22, 0.34, 0.2  # inches


@in_house_style
def correlation_submatrices(tree: DecisionTree, rho: NDArray) -> Drawing:
    """Draw, for every question, the correlations of its answers, each with its value in hundredths.

    `rho` is (answer, answer). Submatrices stand in rows, as many to a row as fit. Returns per question its
    answers and the submatrix.
    """
    names, corners = _names(tree), []
    left = top = row = 0.0
    for answers in tree.slices:
        label = max(text_width(name, SMALL) for name in names[answers]) + 3 * PAD
        side = CELL * (answers.stop - answers.start)
        if left + label + side > PAGE:
            left, top, row = 0.0, top + row, 0.0
        corners.append((left + label, top + HEAD, label, side))
        left, row = left + label + side + BETWEEN, max(row, HEAD + side + FOOT)
    figure = new_figure(PAGE, top + row + 0.52, layout=None)
    page, numbers = page_axes(figure), {}
    for question, answers, corner in zip(tree.questions, tree.slices, corners, strict=True):
        numbers[question.name] = {
            "answers": [answer.name for answer in question.answers],
            "rho": rho[answers, answers],
        }
        head = f"{question.task} {question.name.replace('_', ' ')}"
        _draw_submatrix(page, head, names[answers], _codes(tree)[answers], rho[answers, answers], corner)
    _colour_bar(figure, ScalarMappable(**CORRELATION), "correlation ρ")
    return figure, plain(numbers)


def _draw_submatrix(
    page: Axes, head: str, names: Sequence[str], codes: Sequence[str], rho: NDArray, corner: Sequence[float]
) -> None:
    """Draw a submatrix: `corner` is left and top, the width of the names left of it, and its side."""
    left, top, label, side = corner
    draw_image(page, left, top, side, np.ma.masked_invalid(rho), **CORRELATION)
    bold = {"fontweight": "bold", "ha": "right", "va": "bottom"}
    write(page, left + side, top - PAD, wrapped(head, label + side, SMALL), **bold)
    for k, (name, code) in enumerate(zip(names, codes, strict=True)):
        middle = CELL * (k + 0.5)
        write(page, left - PAD / 2, top + middle, name, ha="right", va="center")
        write(page, left + middle, top + side + PAD / 2, code, ha="center", va="top")
    for (row, column), value in np.ndenumerate(rho):
        if np.isfinite(value):
            colour, text = "white" if abs(value) > FLIP else INK, str(round(100 * value)).replace("-", "−")
            place = left + CELL * (column + 0.5), top + CELL * (row + 0.5)
            write(page, *place, text, ha="center", va="center", color=colour)


def _codes(tree: DecisionTree) -> list[str]:
    """Return the short numbers of the answers: 1.1 for Class1.1."""
    return [column.removeprefix("Class") for column in tree.source_columns]


def _names(tree: DecisionTree) -> list[str]:
    return [f"{answer.text}  {code}" for answer, code in zip(tree.answers, _codes(tree), strict=True)]
