"""Learning curves: what an epoch changed, out of the rows of `metrics.csv`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from hubblefork.report.figures.numbers import plain
from hubblefork.report.figures.style import (
    FAINT,
    GREY,
    INK,
    PAGE,
    SERIES,
    SMALL,
    Drawing,
    in_house_style,
    new_figure,
)

MEASURES = {"rmse": "RMSE of the joint fractions", "agreement": "agreement on the highest answer"}
PARTS = ("train", "validation")


@in_house_style
def learning_curves(
    rows: Sequence[Mapping[str, float]], *, best_epoch: int | None = None, mean_vote: float | None = None
) -> Drawing:
    """Draw RMSE and agreement of training and validation galaxies against the epoch.

    `rows` are those of `metrics.csv`; at least one. `best_epoch` is marked, and so are the epochs that
    began with another learning rate than the one before, unless most did. `mean_vote` is the RMSE of that
    baseline on the validation galaxies, drawn as a line. Returns the curves and the marks.
    """
    columns = {name: np.array([row[name] for row in rows]) for name in ("epoch", "learning_rate", *_curves())}
    drops = learning_rate_drops(columns["epoch"], columns["learning_rate"])
    marked = 2 * len(drops) <= len(rows)
    figure = new_figure(PAGE, 2.8)
    panels = figure.subplots(1, 2)
    for panel, (measure, label) in zip(panels, MEASURES.items(), strict=True):
        _mark_drops(panel, drops if marked else [])
        for part, line in zip(PARTS, SERIES, strict=False):
            values = columns[f"{part}_{measure}"]
            panel.plot(columns["epoch"], values, label=part, markevery=_sparsely(len(rows)), **line)
        _mark_best(panel, columns, measure, best_epoch)
        panel.set_xlabel("epoch")
        panel.set_ylabel(label)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.margins(y=0.12)
    if mean_vote is not None:
        panels[0].axhline(mean_vote, color=INK, linestyle=":", linewidth=1, label="mean vote (validation)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    found = {"best_epoch": best_epoch, "mean_vote_rmse": mean_vote, "learning_rate_drops": drops}
    return figure, plain({**columns, **found, "drops_are_marked": marked})


def learning_rate_drops(epochs: NDArray, rates: NDArray) -> list[dict[str, float]]:
    """Return the epochs whose learning rate differs from that of the epoch before."""
    return [
        {"epoch": int(epochs[i]), "from": float(rates[i - 1]), "to": float(rates[i])}
        for i in range(1, len(rates))
        if rates[i] != rates[i - 1]
    ]


def _curves() -> list[str]:
    return [f"{part}_{measure}" for measure in MEASURES for part in PARTS]


def _sparsely(rows: int) -> int:
    """Return every how many epochs a marker stands, so that lines stay visible."""
    return max(1, rows // 12)


def _mark_drops(panel: Axes, drops: Sequence[Mapping[str, float]]) -> None:
    above = panel.get_xaxis_transform()
    for drop in drops:
        x, rate = drop["epoch"] - 0.5, f"{drop['to']:.2g}"
        panel.axvline(x, color=FAINT, linewidth=0.9, zorder=0)
        panel.text(
            x, 1.02, rate, transform=above, fontsize=SMALL, color=GREY, ha="center", va="bottom", rotation=90
        )


def _mark_best(panel: Axes, columns: Mapping[str, Any], measure: str, best_epoch: int | None) -> None:
    here = np.flatnonzero(columns["epoch"] == best_epoch)
    if here.size:
        value = columns[f"validation_{measure}"][here]
        panel.plot(
            columns["epoch"][here],
            value,
            linestyle="none",
            marker="o",
            markersize=9,
            markerfacecolor="none",
            markeredgecolor=INK,
            label=f"best epoch ({best_epoch})",
        )
