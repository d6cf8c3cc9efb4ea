"""Networks beside one another: their learning curves, their heads.

Curves are the rows of `metrics.csv` by name of the network. A loss is the mean squared error, as Keras
and the lab report have it; its root is the RMSE.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from hubblefork.report.figures.numbers import plain
from hubblefork.report.figures.style import (
    GREY,
    INK,
    PAGE,
    SERIES,
    SMALL,
    Drawing,
    in_house_style,
    new_figure,
)
from hubblefork.zoo import DecisionTree

Rows = Sequence[Mapping[str, float]]
LOSS, AGREEMENT = "MSE loss", "agreement (“accuracy”)"
PARTS = {"train": "training", "validation": "validation"}


@in_house_style
def training_of_networks(curves: Mapping[str, Rows], *, best: Mapping[str, int]) -> Drawing:
    """Draw loss and agreement, training and validation, against the epoch; one row a network.

    `best` maps a network to the epoch whose weights were kept: a line marks it. Returns the curves.
    """
    figure = new_figure(PAGE, 0.4 + 1.75 * len(curves))
    grid = figure.subplots(len(curves), 2, squeeze=False, sharey="col")
    found = {name: _columns(rows) for name, rows in curves.items()}
    for panels, (name, columns) in zip(grid, found.items(), strict=True):
        for panel, measure in zip(panels, ("loss", "agreement"), strict=True):
            for part, line in zip(PARTS, SERIES, strict=False):
                _curve(panel, columns["epoch"], columns[f"{part}_{measure}"], line, PARTS[part])
            panel.axvline(best[name], color=GREY, linewidth=0.8, linestyle=":", label="epoch kept")
            panel.set_title(name, loc="left", fontweight="bold")
    for panels in grid:
        _loss_axis(panels[0])
        panels[1].set_ylabel(AGREEMENT)
    _epoch_axes(grid)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return figure, plain({name: {**columns, "best": best[name]} for name, columns in found.items()})


@in_house_style
def networks_compared(curves: Mapping[str, Rows], *, measure: str) -> Drawing:
    """Draw the validation "loss" or "agreement" of several networks against the epoch. Returns the curves."""
    figure = new_figure(PAGE * 0.75, 3.0)
    panel = figure.add_subplot()
    found = {name: _columns(rows) for name, rows in curves.items()}
    for line, (name, columns) in zip(SERIES, found.items(), strict=False):
        _curve(panel, columns["epoch"], columns[f"validation_{measure}"], line, name)
    if measure == "loss":
        _loss_axis(panel)
        panel.set_ylabel(f"validation {LOSS}")
    else:
        panel.set_ylabel(f"validation {AGREEMENT}")
    _epoch_axes(np.array([[panel]]))
    figure.legend(loc="outside upper center", ncols=len(curves))
    kept = ("epoch", f"validation_{measure}")
    return figure, plain({name: {key: columns[key] for key in kept} for name, columns in found.items()})


@in_house_style
def broken_constraints(tree: DecisionTree, heads: Mapping[str, NDArray]) -> Drawing:
    """Draw by how much each head's predictions break each question's sum, on average over galaxies.

    `heads` maps a name to the mean of |Σ its answers - its reach|, shape (question,). Returns them.
    """
    figure = new_figure(PAGE * 0.85, 0.8 + 0.13 * (len(heads) + 0.6) * len(tree.questions))
    panel = figure.add_subplot()
    rows, height = np.arange(len(tree.questions)), 0.8 / len(heads)
    for k, (line, (name, values)) in enumerate(zip(SERIES, heads.items(), strict=False)):
        at = rows + (k - (len(heads) - 1) / 2) * height
        panel.barh(at, values, height * 0.9, color=line["color"], alpha=0.85, label=name)
        for y, value in zip(at, values, strict=True):
            panel.text(
                value, y, f" {value:.2g}" if value > 1e-6 else " 0", va="center", fontsize=SMALL, color=INK
            )
    labels = [f"{question.task} {question.name.replace('_', ' ')}" for question in tree.questions]
    panel.set_yticks(rows, labels)
    panel.tick_params(axis="y", length=0)
    panel.invert_yaxis()
    panel.set_xlabel("mean |sum of the question's answers − its reach|, both predicted")
    panel.margins(x=0.08)
    figure.legend(loc="outside upper center", ncols=len(heads))
    names = [question.name for question in tree.questions]
    return figure, plain({name: dict(zip(names, values, strict=True)) for name, values in heads.items()})


def _columns(rows: Rows) -> dict[str, NDArray]:
    found = {"epoch": np.array([row["epoch"] for row in rows])}
    for part in PARTS:
        found[f"{part}_loss"] = np.array([row[f"{part}_rmse"] for row in rows]) ** 2
        found[f"{part}_agreement"] = np.array([row[f"{part}_agreement"] for row in rows])
    return found


def _curve(panel: Axes, epochs: NDArray, values: NDArray, line: Mapping[str, Any], label: str) -> None:
    panel.plot(epochs, values, label=label, markevery=max(1, len(epochs) // 10), **line)


def _loss_axis(panel: Axes) -> None:
    panel.set_yscale("log")
    panel.set_ylabel(LOSS)
    panel.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 3, 5, 7)))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda loss, _: f"{loss:g}"))
    panel.yaxis.set_minor_formatter(NullFormatter())


def _epoch_axes(grid: NDArray) -> None:
    for panel in grid.ravel():
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    for panel in grid[-1]:
        panel.set_xlabel("epoch")
