"""Errors against the number of training galaxies, with the laws through them and where these lead."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from hubblefork.report.figures.costs import LINES
from hubblefork.report.figures.numbers import plain
from hubblefork.report.figures.style import GREY, PAGE, SMALL, Drawing, in_house_style, new_figure
from hubblefork.stats.curves import LearningCurve

POINTS = 80


@in_house_style
def errors_over_galaxies(curves: Mapping[str, LearningCurve], *, at: int) -> Drawing:
    """Draw the RMSE of each network against the number of training galaxies, both axes logarithmic.

    The law of each is solid among its points and dotted from there to `at` galaxies, with 95% of its
    bootstrap samples; at most seven networks. Returns points, laws and what they give `at`.
    """
    figure = new_figure(PAGE * 0.85, 3.6)
    panel = figure.add_subplot()
    for (name, curve), line in zip(curves.items(), LINES, strict=False):
        _points(panel, name, curve, line)
        _law(panel, curve, line, at)
    _axes(panel, curves, at)
    figure.legend(loc="outside upper center", ncols=4)
    return figure, plain({name: _numbers(curve, at) for name, curve in curves.items()} | {"at": at})


def _points(panel: Axes, name: str, curve: LearningCurve, line: Mapping) -> None:
    spread = np.nan_to_num(curve.sd)
    style = {"color": line["color"], "marker": line["marker"], "markersize": 5, "capsize": 2}
    panel.errorbar(curve.galaxies, curve.rmse, yerr=spread, linestyle="none", label=name, **style)


def _law(panel: Axes, curve: LearningCurve, line: Mapping, at: int) -> None:
    colour = line["color"]
    inside = np.geomspace(curve.galaxies.min(), curve.galaxies.max(), POINTS)
    beyond = np.geomspace(curve.galaxies.max(), at, POINTS)
    panel.plot(inside, curve.law.at(inside), color=colour, linewidth=1.2)
    panel.plot(beyond, curve.law.at(beyond), color=colour, linestyle=":", linewidth=1.2)
    panel.fill_between(beyond, *curve.interval_95(beyond), color=colour, alpha=0.15, linewidth=0)
    low, high = curve.interval_95(at)
    value = float(curve.law.at(at))
    panel.errorbar(
        at,
        value,
        yerr=[[max(0.0, value - low)], [max(0.0, high - value)]],
        color=colour,
        marker=line["marker"],
        markerfacecolor="white",
        markersize=5,
        capsize=2,
    )


def _axes(panel: Axes, curves: Mapping[str, LearningCurve], at: int) -> None:
    sizes = sorted({int(size) for curve in curves.values() for size in curve.galaxies})
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.xaxis.set_major_locator(FixedLocator([*sizes, at]))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:,.0f}"))
    panel.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda error, _: f"{error:g}"))
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())
    panel.axvspan(sizes[-1], at * 1.1, color=GREY, alpha=0.07, linewidth=0)
    panel.set_xlim(sizes[0] / 1.1, at * 1.1)
    middle = (sizes[-1] * at) ** 0.5
    panel.text(
        middle,
        0.985,
        "extrapolated",
        transform=panel.get_xaxis_transform(),
        ha="center",
        va="top",
        fontsize=SMALL,
        color=GREY,
    )
    panel.set_xlabel("training galaxies")
    panel.set_ylabel("RMSE")


def _numbers(curve: LearningCurve, at: int) -> dict:
    return {
        "galaxies": curve.galaxies,
        "rmse": curve.rmse,
        "sd": curve.sd,
        "law": vars(curve.law),
        "extrapolated": curve.law.at(at),
        "interval_95": curve.interval_95(at),
    }
