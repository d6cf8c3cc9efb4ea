"""The figures of a run, answer by answer and epoch by epoch; each returns the figure and its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hubblefork.pages.panels import answer_rows, panels_by_question, question_brackets, unit_axis
from hubblefork.pages.plots import Panel, Series, curves, intervals
from hubblefork.pages.style import (
    BLUE,
    DENSITY,
    FAINT,
    GREY,
    INK,
    ORANGE,
    PAGE,
    SERIES,
    SMALL,
    VERMILION,
    Drawing,
    in_house_style,
)
from hubblefork.pages.tables import plain
from hubblefork.stats.metrics import Reliability, reliability_of
from hubblefork.zoo import DecisionTree

CELLS = 40
BASELINE_STYLES = tuple(
    {"marker": marker, "markersize": size, "color": colour, "markeredgewidth": 1.4}
    for marker, size, colour in (("|", 8, VERMILION), ("D", 3, ORANGE), ("x", 4, GREY), ("^", 4, INK))
)
MEASURES = {"rmse": "RMSE of the joint fractions", "agreement": "agreement on the highest answer"}
PARTS = ("train", "validation")


@in_house_style
def predicted_against_volunteers(tree: DecisionTree, predicted: NDArray, volunteers: NDArray) -> Drawing:
    """Draw, for every answer, predicted against volunteers' joint fractions as a 2-D histogram.

    Both arrays are (galaxy, answer). Cells are counted over 40 × 40 bins of [0, 1]² on one
    logarithmic colour scale; each panel states its RMSE and Pearson's r. Returns per answer: n,
    rmse, r, and the occupied cells.
    """
    edges = np.linspace(0, 1, CELLS + 1)
    known = ~(np.isnan(predicted) | np.isnan(volunteers))
    pairs = [(volunteers[k, i], predicted[k, i]) for i, k in enumerate(known.T)]
    counts = [np.histogram2d(x, y, bins=(edges, edges))[0] for x, y in pairs]
    norm = LogNorm(1, max(2.0, max(count.max() for count in counts)))
    figure, panels = panels_by_question(
        tree, xlabel="volunteers' joint fraction", ylabel="predicted joint fraction", footer=0.42
    )
    answers: dict[str, Any] = {}
    for axes, name, (x, y), count in zip(panels, tree.columns, pairs, counts, strict=True):
        _density_panel(axes, count, norm)
        answers[name] = {"n": len(x), **_closeness(x, y), "cells": _occupied(count)}
        _write_closeness(axes, answers[name])
    _density_bar(figure, norm)
    return figure, plain({"bins": CELLS, "answers": answers})


def _density_panel(axes: Axes, count: NDArray, norm: LogNorm) -> None:
    """Draw the cells as an image: a rasterised mesh keeps a page of pixels a panel while a PDF is made."""
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.6, zorder=-1)
    cells = np.ma.masked_equal(count.T, 0)
    axes.imshow(cells, norm=norm, cmap=DENSITY, origin="lower", extent=(0, 1, 0, 1), aspect="auto")
    unit_axis(axes, "x")
    unit_axis(axes, "y")


def _closeness(x: NDArray, y: NDArray) -> dict[str, float]:
    if not len(x):
        return {"rmse": np.nan, "r": np.nan}
    varied = len(x) > 1 and np.ptp(x) > 0 and np.ptp(y) > 0
    r = np.corrcoef(x, y)[0, 1] if varied else np.nan
    return {"rmse": float(np.sqrt(np.mean((x - y) ** 2))), "r": float(r)}


def _write_closeness(axes: Axes, closeness: Mapping[str, Any]) -> None:
    if not closeness["n"]:
        _no_labels(axes)
        return
    r = "r –" if np.isnan(closeness["r"]) else f"r {closeness['r']:.2f}"
    box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8}
    text = f"RMSE {closeness['rmse']:.3f}\n{r}"
    place: dict[str, Any] = {"transform": axes.transAxes, "va": "top", "bbox": box}
    axes.text(0.04, 0.97, text, fontsize=SMALL, linespacing=1.1, **place)


def _no_labels(axes: Axes) -> None:
    axes.text(0.5, 0.5, "no labels", transform=axes.transAxes, ha="center", fontsize=SMALL, color=GREY)


def _occupied(count: NDArray) -> dict[str, list[int]]:
    x, y = np.nonzero(count)
    return {"x": x.tolist(), "y": y.tolist(), "count": count[x, y].astype(int).tolist()}


def _density_bar(figure: Figure, norm: LogNorm) -> None:
    height = figure.get_size_inches()[1]
    box = figure.add_axes((0.36, 0.27 / height, 0.34, 0.07 / height))
    bar = figure.colorbar(ScalarMappable(norm=norm, cmap=DENSITY), cax=box, orientation="horizontal")
    bar.outline.set_linewidth(0.4)
    bar.ax.text(-0.03, 0.5, "galaxies per cell", transform=bar.ax.transAxes, ha="right", va="center")


@in_house_style
def rmse_per_answer(
    tree: DecisionTree,
    rmse: NDArray,
    *,
    baselines: Mapping[str, NDArray],
    low: NDArray | None = None,
    high: NDArray | None = None,
) -> Drawing:
    """Draw the RMSE of every answer as a bar, with the baselines as marks in the same row.

    `rmse`, `low`, `high` (an interval) and each baseline have shape (answer,). Returns them.
    """
    rows = answer_rows(tree)
    series = [Series("network", rmse, rows, low, high, {"color": BLUE}, bar=0.72)]
    for (name, values), style in zip(baselines.items(), BASELINE_STYLES, strict=False):
        series.append(Series(name, values, rows, style=style))
    panel = Panel(series, "RMSE of the joint fraction", xlim=(0, None))
    figure, _ = _rows_of_answers(tree, panel, rows)
    numbers = {"rmse": rmse, "low": low, "high": high, "baselines": dict(baselines)}
    return figure, plain({"answers": list(tree.columns), **numbers})


def _rows_of_answers(tree: DecisionTree, panel: Panel, rows: NDArray) -> Drawing:
    names = [answer.text for answer in tree.answers]
    figure, numbers = intervals(names, [panel], places=rows, width=PAGE * 0.8, each=0.155)
    question_brackets(figure.axes[0], tree, rows)
    return figure, numbers


@in_house_style
def reliability(tree: DecisionTree, predicted: NDArray, volunteers: NDArray) -> Drawing:
    """Draw, for every answer, the volunteers' mean fraction in ten bins of the predicted one.

    Both arrays are (galaxy, answer). Bins hold as many galaxies each; bars are the standard error of the
    mean; axes are in square roots, so that rare answers can be seen. Each panel states the expected
    calibration error, in brackets what chance alone would give, and the number of galaxies in a bin. Returns
    these and the bins of every answer.
    """
    figure, panels = panels_by_question(
        tree, xlabel="predicted joint fraction", ylabel="volunteers' mean joint fraction"
    )
    answers: dict[str, Any] = {}
    for axes, name, x, y in zip(panels, tree.columns, predicted.T, volunteers.T, strict=True):
        binned = reliability_of(x, y)
        _square_root_axes(axes)
        _reliability_panel(axes, binned)
        errors = {"error": binned.error, "error_by_chance": binned.error_by_chance}
        answers[name] = {**asdict(binned), **errors}
    return figure, plain({"answers": answers})


def _square_root_axes(axes: Axes) -> None:
    functions = (lambda value: np.sqrt(np.clip(value, 0, None)), np.square)
    axes.set_xscale("function", functions=functions)
    axes.set_yscale("function", functions=functions)
    ticks = (0, 0.1, 0.5, 1)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])


def _reliability_panel(axes: Axes, binned: Reliability) -> None:
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, zorder=0)
    if binned.error is None or binned.error_by_chance is None:
        _no_labels(axes)
        return
    error = np.nan_to_num(binned.standard_error)
    below = np.minimum(error, binned.volunteers)
    style: dict[str, Any] = {"fmt": "o-", "color": BLUE, "elinewidth": 0.9, "markersize": 2, "linewidth": 0.7}
    axes.errorbar(binned.predicted, binned.volunteers, [below, error], **style)
    errors = [f"{value:.3f}".removeprefix("0") for value in (binned.error, binned.error_by_chance)]
    text = f"{errors[0]} ({errors[1]})\n{binned.galaxies.max()} a bin"
    axes.text(0.05, 0.97, text, transform=axes.transAxes, va="top", fontsize=SMALL, linespacing=1.1)


@in_house_style
def coverage_per_answer(
    tree: DecisionTree, coverages: Sequence[Mapping[str, Any]], *, tolerance: float
) -> Drawing:
    """Draw how often the intervals of every answer hold the volunteers' fraction, and what is stated.

    `coverages` are of `stats.evaluation.Judge.intervals`. Marks have 95% bootstrap
    intervals; shaded is what is within the tolerance of what is stated. A hollow mark is an answer of whose
    intervals more than half are a single number. Returns the numbers drawn.
    """
    rows = answer_rows(tree)
    series = []
    for line, coverage in zip(SERIES, coverages, strict=False):
        answers = [coverage["answers"][name] for name in tree.columns]
        single = np.array([answer["single"] > 0.5 for answer in answers])
        sides = ("value", "interval_95")
        values, bounds = ([_side_of(answer["found"], side) for answer in answers] for side in sides)
        value, (low, high) = np.array(values), np.array(bounds).T
        for hollow, label in ((False, f"stated {coverage['stated']:g}"), (True, "_hollow")):
            some = (single == hollow) & ~np.isnan(value)
            face = {"markerfacecolor": "white"} if hollow else {}
            style = {**line, "linestyle": "none", "elinewidth": 0.7, "capsize": 0, **face}
            if some.any() or not hollow:
                series.append(Series(label, value[some], rows[some], low[some], high[some], style))
    label = "share of galaxies whose interval holds the volunteers' fraction"
    figure, _ = _rows_of_answers(tree, Panel(series, label, xlim=(None, 1.005)), rows)
    for line, coverage in zip(SERIES, coverages, strict=False):
        stated, axes = coverage["stated"], figure.axes[0]
        axes.axvspan(stated - tolerance, stated + tolerance, color=line["color"], alpha=0.12, linewidth=0)
        axes.axvline(stated, color=line["color"], linestyle=line["linestyle"], linewidth=0.8)
    return figure, plain({"tolerance": tolerance, "coverages": list(coverages)})


def _side_of(estimate: Mapping[str, Any] | None, side: str) -> Any:
    if estimate is None:
        return np.nan if side == "value" else (np.nan, np.nan)
    return estimate[side]


@in_house_style
def learning_curves(
    rows: Sequence[Mapping[str, float]], *, best_epoch: int | None = None, mean_vote: float | None = None
) -> Drawing:
    """Draw RMSE and agreement of training and validation galaxies against the epoch.

    `rows` are those of `metrics.csv`; at least one. `best_epoch` is marked, and so are the epochs that
    began with another learning rate than the one before, unless most did. `mean_vote` is the RMSE of that
    baseline on the validation galaxies, drawn as a line. Returns the curves and the marks.
    """
    names = ("epoch", "learning_rate", *(f"{part}_{measure}" for measure in MEASURES for part in PARTS))
    columns = {name: np.array([row[name] for row in rows]) for name in names}
    drops = learning_rate_drops(columns["epoch"], columns["learning_rate"])
    marked = 2 * len(drops) <= len(rows)
    baseline = [] if mean_vote is None else [(mean_vote, "mean vote (validation)")]
    panels = []
    for measure, label in MEASURES.items():
        series = [Series(part, columns["epoch"], columns[f"{part}_{measure}"]) for part in PARTS]
        here = columns["epoch"] == best_epoch
        if here.any():
            circle = {"linestyle": "none", "marker": "o", "markersize": 9, "markerfacecolor": "none"}
            style = {**circle, "markeredgecolor": INK}
            values = columns["epoch"][here], columns[f"validation_{measure}"][here]
            series.append(Series(f"best epoch ({best_epoch})", *values, style=style))
        lines = baseline if measure == "rmse" else []
        panels.append(Panel(series, "epoch", label, xticks="integers", horizontal=lines))
    figure, _ = curves(panels, size=(PAGE, 2.8))
    for axes in figure.axes:
        axes.margins(y=0.12)
        _mark_drops(axes, drops if marked else [])
    marks = {"best_epoch": best_epoch, "mean_vote_rmse": mean_vote, "learning_rate_drops": drops}
    return figure, plain({**columns, **marks, "drops_are_marked": marked})


def learning_rate_drops(epochs: NDArray, rates: NDArray) -> list[dict[str, float]]:
    """Return the epochs whose learning rate differs from that of the epoch before."""
    return [
        {"epoch": int(epochs[i]), "from": float(rates[i - 1]), "to": float(rates[i])}
        for i in range(1, len(rates))
        if rates[i] != rates[i - 1]
    ]


def _mark_drops(axes: Axes, drops: Sequence[Mapping[str, float]]) -> None:
    style: dict[str, Any] = {"fontsize": SMALL, "color": GREY, "ha": "center", "va": "bottom", "rotation": 90}
    for drop in drops:
        x = drop["epoch"] - 0.5
        axes.axvline(x, color=FAINT, linewidth=0.9, zorder=0)
        axes.text(x, 1.02, f"{drop['to']:.2g}", transform=axes.get_xaxis_transform(), **style)
