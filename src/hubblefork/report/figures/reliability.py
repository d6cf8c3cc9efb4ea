"""Can predictions be taken at their word: reliability diagrams, and how often intervals hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from hubblefork.report.figures.answers import answer_rows, question_brackets
from hubblefork.report.figures.numbers import plain
from hubblefork.report.figures.panels import panels_by_question
from hubblefork.report.figures.style import (
    BLUE,
    FAINT,
    GREY,
    PAGE,
    SERIES,
    SMALL,
    Drawing,
    in_house_style,
    new_figure,
)
from hubblefork.stats.metrics import Reliability, reliability_of
from hubblefork.zoo import DecisionTree

TICKS = (0, 0.1, 0.5, 1)


@in_house_style
def reliability(tree: DecisionTree, predicted: NDArray, volunteers: NDArray) -> Drawing:
    """Draw, for every answer, the volunteers' mean fraction in ten bins of the predicted one.

    Both arrays are (galaxy, answer). Bins hold as many galaxies each; bars are the standard error of the
    mean; axes are in square roots, so that rare answers can be seen. Each panel states the expected
    calibration error, in brackets what chance alone would give, and the number of galaxies in a bin. Returns
    these and the bins of every answer.
    """
    figure, axes = panels_by_question(
        tree, xlabel="predicted joint fraction", ylabel="volunteers' mean joint fraction"
    )
    numbers: dict[str, Any] = {}
    for panel, name, x, y in zip(axes, tree.columns, predicted.T, volunteers.T, strict=True):
        binned = reliability_of(x, y)
        _square_root_axes(panel)
        _reliability_panel(panel, binned)
        numbers[name] = {**asdict(binned), "error": binned.error, "error_by_chance": binned.error_by_chance}
    return figure, plain({"answers": numbers})


@in_house_style
def coverage_per_answer(
    tree: DecisionTree, found: Sequence[Mapping[str, Any]], *, tolerance: float
) -> Drawing:
    """Draw how often the intervals of every answer hold the volunteers' fraction, beside what is stated.

    `found` are entries of `coverages` as from `science.coverage.coverage_of`. Marks have 95% bootstrap
    intervals; shaded is what is within the tolerance of what is stated. A hollow mark is an answer of whose
    intervals more than half are a single number. Returns the numbers drawn.
    """
    rows = answer_rows(tree)
    figure = new_figure(PAGE * 0.8, 0.155 * (rows.max() + 1) + 0.75)
    panel = figure.add_subplot()
    for line, one in zip(SERIES, found, strict=False):
        near = one["stated"] - tolerance, one["stated"] + tolerance
        panel.axvspan(*near, color=line["color"], alpha=0.12, linewidth=0)
        panel.axvline(one["stated"], color=line["color"], linestyle=line["linestyle"], linewidth=0.8)
        _coverage_marks(panel, rows, [one["answers"][name] for name in tree.columns], line, one["stated"])
    panel.set_yticks(rows, [answer.text for answer in tree.answers])
    panel.tick_params(axis="y", length=0)
    panel.set_ylim(rows.max() + 0.8, -0.8)
    panel.set_xlim(right=1.005)
    panel.set_xlabel("share of galaxies whose interval holds the volunteers' fraction")
    question_brackets(panel, tree, rows)
    figure.legend(loc="outside upper center", ncols=len(found))
    return figure, plain({"tolerance": tolerance, "coverages": list(found)})


def _square_root_axes(panel: Axes) -> None:
    functions = (lambda value: np.sqrt(np.clip(value, 0, None)), np.square)
    panel.set_xscale("function", functions=functions)
    panel.set_yscale("function", functions=functions)
    panel.set(xlim=(0, 1.02), ylim=(0, 1.02))
    labels = [f"{tick:g}" for tick in TICKS]
    panel.set_xticks(TICKS, labels)
    panel.set_yticks(TICKS, labels)


def _reliability_panel(panel: Axes, binned: Reliability) -> None:
    panel.plot([0, 1], [0, 1], color=FAINT, linewidth=1, zorder=0)
    if binned.error is None or binned.error_by_chance is None:
        panel.text(0.5, 0.5, "no labels", transform=panel.transAxes, ha="center", fontsize=SMALL, color=GREY)
        return
    error = np.nan_to_num(binned.standard_error)
    below = np.minimum(error, binned.volunteers)
    style: dict[str, Any] = {"fmt": "o-", "color": BLUE, "elinewidth": 0.9, "markersize": 2, "linewidth": 0.7}
    panel.errorbar(binned.predicted, binned.volunteers, [below, error], **style)
    text = f"{_short(binned.error)} ({_short(binned.error_by_chance)})\n{binned.galaxies.max()} a bin"
    panel.text(0.05, 0.97, text, transform=panel.transAxes, va="top", fontsize=SMALL, linespacing=1.1)


def _short(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def _coverage_marks(
    panel: Axes, rows: NDArray, answers: Sequence[Mapping[str, Any]], line: Mapping[str, Any], stated: float
) -> None:
    there = [(row, one) for row, one in zip(rows, answers, strict=True) if one["found"]]
    for place, (row, one) in enumerate(there):
        found = one["found"]
        low, high = found["interval_95"]
        panel.errorbar(
            found["value"], row, xerr=[[found["value"] - low], [high - found["value"]]], linestyle="none",
            color=line["color"], marker=line["marker"], elinewidth=0.7,
            markerfacecolor="white" if one["single"] > 0.5 else line["color"],
            label=f"stated {stated:g}" if place == 0 else None,
        )  # fmt: skip
