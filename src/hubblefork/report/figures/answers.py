"""Figures with a place for every answer: distributions, predicted against volunteers', RMSE.

Arrays of fractions have shape (galaxy, answer) in the order of `tree.columns`; NaN means that
nobody was asked, and such pairs are left out panel by panel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from hubblefork.report.figures.numbers import plain
from hubblefork.report.figures.panels import panels_by_question
from hubblefork.report.figures.style import (
    BLUE,
    DENSITY,
    GREY,
    INK,
    ORANGE,
    PAGE,
    SERIES,
    SMALL,
    VERMILION,
    Drawing,
    in_house_style,
    new_figure,
)
from hubblefork.zoo import DecisionTree

CELLS = 40
BINS = 25
BASELINE_MARKS = (("|", 8, VERMILION), ("D", 3, ORANGE), ("x", 4, GREY), ("^", 4, INK))
UNIT_TICKS = ((0, 0.5, 1), ("0", "0.5", "1"))


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
    figure, axes = panels_by_question(
        tree, xlabel="volunteers' joint fraction", ylabel="predicted joint fraction", footer=0.42
    )
    numbers: dict[str, Any] = {}
    for panel, name, (x, y), count in zip(axes, tree.columns, pairs, counts, strict=True):
        _density_panel(panel, count, norm)
        numbers[name] = {"n": len(x), **_closeness(x, y), "cells": _occupied(count)}
        _write_closeness(panel, numbers[name])
    _density_bar(figure, norm)
    return figure, plain({"bins": CELLS, "answers": numbers})


@in_house_style
def label_histograms(
    tree: DecisionTree,
    samples: Mapping[str, NDArray],
    *,
    bins: int = BINS,
    notes: Sequence[str] | None = None,
) -> Drawing:
    """Draw, for every answer, the normalised histogram of its fractions, in one or several samples.

    `samples` maps a name ("train") to fractions (galaxy, answer). The first is filled, the others
    are outlines; densities integrate to 1 and share one logarithmic axis, since most answers are
    rare. `notes` is one short text per answer, written in its panel (the outcome of a test).
    Returns the edges and, per sample and answer, n and the densities.
    """
    edges = np.linspace(0, 1, bins + 1)
    densities = {name: [_density(column, edges) for column in values.T] for name, values in samples.items()}
    figure, axes = panels_by_question(
        tree,
        xlabel="joint fraction",
        ylabel="normalised number of galaxies (area 1)",
        footer=0.24 if len(samples) > 1 else 0.0,
    )
    peak = max(density.max() for sample in densities.values() for density in sample)
    floor = min(density[density > 0].min(initial=1.0) for sample in densities.values() for density in sample)
    handles = []
    for number, (name, sample) in enumerate(densities.items()):
        handles.append(_sample_steps(axes, sample, edges, number, name))
    for number, panel in enumerate(axes):
        _unit_axis(panel, "x")
        panel.set_yscale("log")
        panel.set_ylim(floor / 1.6, peak * 1.6)
        panel.yaxis.minorticks_off()
        if notes is not None:
            panel.text(
                0.96, 0.95, notes[number], transform=panel.transAxes, ha="right", va="top", fontsize=SMALL
            )
    if len(samples) > 1:
        figure.legend(handles=handles, loc="lower center", ncols=len(samples))
    found = {
        name: {
            answer: {"n": int((~np.isnan(values[:, i])).sum()), "density": densities[name][i]}
            for i, answer in enumerate(tree.columns)
        }
        for name, values in samples.items()
    }
    return figure, plain({"edges": edges, "samples": found})


@in_house_style
def rmse_per_answer(
    tree: DecisionTree,
    rmse: NDArray,
    *,
    baselines: Mapping[str, NDArray],
    low: NDArray | None = None,
    high: NDArray | None = None,
) -> Drawing:
    """Draw the RMSE of every answer as a bar, with the baselines as marks on the same line.

    `rmse`, `low`, `high` (an interval) and each baseline have shape (answer,). Returns them.
    """
    rows = answer_rows(tree)
    figure = new_figure(PAGE * 0.8, 0.155 * (rows.max() + 1) + 0.75)
    panel = figure.add_subplot()
    panel.barh(rows, rmse, height=0.72, color=BLUE, alpha=0.85, label="network")
    if low is not None and high is not None:
        panel.hlines(rows, low, high, color=INK, linewidth=0.9, label="95% interval")
    for (name, values), (mark, size, colour) in zip(baselines.items(), BASELINE_MARKS, strict=False):
        panel.plot(
            values,
            rows,
            linestyle="none",
            color=colour,
            label=name,
            marker=mark,
            markersize=size,
            markeredgewidth=1.4,
        )
    panel.set_yticks(rows, [answer.text for answer in tree.answers])
    panel.tick_params(axis="y", length=0)
    panel.set_ylim(rows.max() + 0.8, -0.8)
    panel.set_xlim(left=0)
    panel.set_xlabel("RMSE of the joint fraction")
    question_brackets(panel, tree, rows)
    figure.legend(loc="outside upper center", ncols=2 + len(baselines))
    found = {"rmse": rmse, "low": low, "high": high, "baselines": dict(baselines)}
    return figure, plain({"answers": list(tree.columns), **found})


def _unit_axis(panel: Axes, which: str) -> None:
    limits, ticks = (panel.set_xlim, panel.set_xticks) if which == "x" else (panel.set_ylim, panel.set_yticks)
    limits(-0.02, 1.02)
    ticks(*UNIT_TICKS)


def _density_panel(panel: Axes, count: NDArray, norm: LogNorm) -> None:
    """Draw the cells as an image: a rasterised mesh keeps a page of pixels a panel while a PDF is made."""
    panel.plot([0, 1], [0, 1], color=GREY, linewidth=0.6, zorder=-1)
    shown = np.ma.masked_equal(count.T, 0)
    panel.imshow(shown, norm=norm, cmap=DENSITY, origin="lower", extent=(0, 1, 0, 1), aspect="auto")
    _unit_axis(panel, "x")
    _unit_axis(panel, "y")


def _closeness(x: NDArray, y: NDArray) -> dict[str, float]:
    if not len(x):
        return {"rmse": np.nan, "r": np.nan}
    varied = len(x) > 1 and np.ptp(x) > 0 and np.ptp(y) > 0
    r = np.corrcoef(x, y)[0, 1] if varied else np.nan
    return {"rmse": float(np.sqrt(np.mean((x - y) ** 2))), "r": float(r)}


def _write_closeness(panel: Axes, found: Mapping[str, Any]) -> None:
    if not found["n"]:
        panel.text(0.5, 0.5, "no labels", transform=panel.transAxes, ha="center", fontsize=SMALL, color=GREY)
        return
    r = "r –" if np.isnan(found["r"]) else f"r {found['r']:.2f}"
    text = f"RMSE {found['rmse']:.3f}\n{r}"
    behind = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8}
    place: dict[str, Any] = {"transform": panel.transAxes, "va": "top"}
    panel.text(0.04, 0.97, text, fontsize=SMALL, linespacing=1.1, bbox=behind, **place)


def _occupied(count: NDArray) -> dict[str, list[int]]:
    x, y = np.nonzero(count)
    return {"x": x.tolist(), "y": y.tolist(), "count": count[x, y].astype(int).tolist()}


def _density_bar(figure: Figure, norm: LogNorm) -> None:
    height = figure.get_size_inches()[1]
    box = figure.add_axes((0.36, 0.27 / height, 0.34, 0.07 / height))
    bar = figure.colorbar(ScalarMappable(norm=norm, cmap=DENSITY), cax=box, orientation="horizontal")
    bar.outline.set_linewidth(0.4)
    bar.ax.text(-0.03, 0.5, "galaxies per cell", transform=bar.ax.transAxes, ha="right", va="center")


def _density(column: NDArray, edges: NDArray) -> NDArray:
    known = column[~np.isnan(column)]
    counts = np.histogram(known, edges)[0]
    return counts / max(counts.sum(), 1) / np.diff(edges)


def _sample_steps(
    axes: Sequence[Axes], sample: Sequence[NDArray], edges: NDArray, number: int, name: str
) -> Line2D:
    line = SERIES[number]
    for panel, density in zip(axes, sample, strict=True):
        if number == 0:
            panel.stairs(density, edges, fill=True, color=BLUE, alpha=0.35, linewidth=0)
        panel.stairs(density, edges, color=line["color"], linestyle=line["linestyle"], linewidth=0.9)
    return Line2D([], [], color=line["color"], linestyle=line["linestyle"], label=name)


def answer_rows(tree: DecisionTree) -> NDArray:
    """Return the vertical place of each answer, with a gap between questions."""
    return np.arange(len(tree.columns)) + 0.6 * np.asarray(tree.question_of)


def question_brackets(panel: Axes, tree: DecisionTree, rows: NDArray) -> None:
    """Bracket the answers of each question at the right of a panel with a row for every answer."""
    right = panel.get_yaxis_transform()
    for question, answers in zip(tree.questions, tree.slices, strict=True):
        first, last = rows[answers][0], rows[answers][-1]
        panel.plot(
            [1.01, 1.01], [first - 0.4, last + 0.4], transform=right, color=GREY, linewidth=0.6, clip_on=False
        )
        label = question.task or question.name
        panel.text(1.02, (first + last) / 2, label, transform=right, va="center", fontsize=SMALL, color=GREY)
