"""What networks come to for what they cost: errors over the time of training, error against cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from hubblefork.report.figures.numbers import plain
from hubblefork.report.figures.style import (
    GREY,
    INK,
    ORANGE,
    PAGE,
    SERIES,
    SKY,
    Drawing,
    in_house_style,
    new_figure,
)

LINES: tuple[dict[str, Any], ...] = (
    *SERIES,
    {"color": ORANGE, "linestyle": (0, (1, 1)), "marker": "P"},
    {"color": SKY, "linestyle": (0, (3, 1)), "marker": "*"},
)
COSTS = (("seconds", "seconds of training to the best epoch"), ("parameters", "parameters"))


@in_house_style
def errors_over_time(
    curves: Mapping[str, Mapping[str, NDArray]], *, mean_vote: float | None = None
) -> Drawing:
    """Draw the validation RMSE of each network against the seconds of training so far, and the best so far.

    `curves` maps a name to `seconds` and `rmse`, both (epoch,); at most seven. `mean_vote` is the RMSE of
    that baseline on the same galaxies. Returns the curves.
    """
    figure = new_figure(PAGE, 3.4)
    panels = figure.subplots(1, 2, sharey=True)
    for (name, curve), line in zip(curves.items(), LINES, strict=False):
        best = np.minimum.accumulate(curve["rmse"])
        for panel, values in zip(panels, (curve["rmse"], best), strict=True):
            every = max(1, len(values) // 8)
            panel.plot(curve["seconds"], values, label=name, markevery=every, **line)
    for panel, title in zip(panels, ("each epoch", "the best epoch so far"), strict=True):
        panel.set_title(title)
        panel.set_xlabel("seconds of training")
        _time_axis(panel)
        if mean_vote is not None:
            panel.axhline(mean_vote, color=GREY, linewidth=0.9, label="mean vote")
    panels[0].set_ylabel("validation RMSE")
    _limit_errors(panels[0], [curve["rmse"] for curve in curves.values()], mean_vote)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4)
    return figure, plain({name: dict(curve) for name, curve in curves.items()} | {"mean_vote": mean_vote})


@in_house_style
def error_against_cost(
    points: Mapping[str, Mapping[str, float]],
    *,
    costs: Sequence[tuple[str, str]] = COSTS,
    mean_vote: float | None = None,
) -> Drawing:
    """Draw the RMSE of each network against what it cost, a panel a cost.

    `points` maps a name to `rmse`, `sd` and each of `costs`, which are (key, label); at most seven. Returns
    them.
    """
    figure = new_figure(PAGE, 3.2)
    panels = figure.subplots(1, len(costs), sharey=True)
    for panel, (key, label) in zip(panels, costs, strict=True):
        for (name, point), line in zip(points.items(), LINES, strict=False):
            panel.errorbar(
                point[key],
                point["rmse"],
                yerr=point["sd"],
                color=line["color"],
                marker=line["marker"],
                linestyle="none",
                markersize=6,
                capsize=2,
                label=name,
            )
        panel.set_xscale("log")
        panel.set_xlabel(label)
        panel.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter(FuncFormatter(_short))
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.margins(x=0.15, y=0.15)
        if mean_vote is not None:
            panel.axhline(mean_vote, color=INK, linestyle=":", linewidth=1, label="mean vote")
    panels[0].set_ylabel("test RMSE")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4)
    return figure, plain({**points, "mean_vote": mean_vote})


def _time_axis(panel: Axes) -> None:
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
    panel.xaxis.set_major_formatter(FuncFormatter(_short))
    panel.xaxis.set_minor_formatter(NullFormatter())


def _short(value: float, _: float = 0) -> str:
    """Return 20,000,000 as "20 M"."""
    for unit, name in ((1e6, " M"), (1e3, " k")):
        if value >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:g}"


def _limit_errors(panel: Axes, errors: Sequence[NDArray], mean_vote: float | None) -> None:
    """Leave out of view the first epochs that are far worse than everything later."""
    lowest = min(float(values.min()) for values in errors)
    worst = max(float(np.median(values)) for values in errors)
    high = max(worst, mean_vote or 0.0)
    panel.set_ylim(lowest - 0.08 * (high - lowest), high + 0.5 * (high - lowest))
