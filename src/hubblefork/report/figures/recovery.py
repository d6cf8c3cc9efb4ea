"""What a study of known truth shows: bias and coverage of estimators, and what worse surveys do to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from hubblefork.report.figures.numbers import plain
from hubblefork.report.figures.style import (
    BLUE,
    FAINT,
    GREY,
    INK,
    PAGE,
    SERIES,
    VERMILION,
    Drawing,
    in_house_style,
    new_figure,
)

SHOWN = {
    "count": "count",
    "corrected": "corrected (default)",
    "bayesian": "corrected, Bayesian",
    "isotonic": "isotonic",
    "quantile": "quantile mapping",
}
RATIOS = (0.2, 0.5, 1, 2, 5)
NOMINAL = {"coverage_68%": 0.68, "coverage_95%": 0.95}

Summaries = Mapping[str, Sequence[Mapping[str, Any]]]


@in_house_style
def bias_of_estimators(scenarios: Mapping[str, Summaries]) -> Drawing:
    """Draw what each estimator recovers on average, divided by the fraction put in.

    `scenarios` maps a title to summaries by estimator, one for each fraction (see `studies.injection`).
    Bars are the Monte Carlo error of the mean. Returns the summaries.
    """
    figure = new_figure(PAGE, 2.7 if len(scenarios) < 4 else 4.8)
    panels = _panels(figure, len(scenarios))
    for panel, (title, summaries) in zip(panels, scenarios.items(), strict=True):
        panel.axhline(1, color=GREY, linewidth=0.8, zorder=0)
        for number, (line, name) in enumerate(zip(SERIES, SHOWN, strict=False)):
            rows = [row for row in summaries[name] if row["realisations"]]
            fraction = np.array([row["fraction"] for row in rows])
            mean, error = (np.array([row[key] for row in rows]) / fraction for key in ("mean", "bias_error"))
            place = fraction * 1.06 ** (number - 2)
            panel.errorbar(place, mean, yerr=error, capsize=1.5, label=SHOWN[name], **line)
        panel.set_title(title)
        _fraction_axis(panel)
        panel.set_yscale("log")
        panel.set_ylim(0.2, 10)
        panel.set_yticks(RATIOS, [f"{ratio:g}" for ratio in RATIOS])
        panel.set_yticks([], minor=True)
        panel.label_outer()
    figure.supylabel("mean recovered / put in", fontsize="medium")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return figure, plain({title: dict(summaries) for title, summaries in scenarios.items()})


@in_house_style
def coverage_of_intervals(scenarios: Mapping[str, Summaries]) -> Drawing:
    """Draw how often each estimator's 68% and 95% interval holds the fraction put in.

    The bands are two binomial errors of as many realisations around 0.68 and 0.95. Returns the coverages.
    """
    figure = new_figure(PAGE, 4.2)
    grid = figure.subplots(2, len(scenarios), sharex=True, sharey="row", squeeze=False)
    for column, (title, summaries) in zip(grid.T, scenarios.items(), strict=True):
        column[0].set_title(title)
        for panel, (key, nominal) in zip(column[::-1], NOMINAL.items(), strict=True):
            _coverage_panel(panel, summaries, key, nominal)
        _fraction_axis(column[1])
    for panel, nominal in zip(grid[::-1, 0], NOMINAL.values(), strict=True):
        panel.set_ylabel(f"coverage of the {nominal:.0%} interval")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    found = {
        title: {
            name: [{key: row.get(key) for key in ("fraction", *NOMINAL)} for row in rows]
            for name, rows in summaries.items()
        }
        for title, summaries in scenarios.items()
    }
    return figure, plain(found)


def _panels(figure: Any, number: int) -> list[Axes]:
    rows = 1 if number < 4 else 2
    return list(figure.subplots(rows, -(-number // rows), sharex=True, sharey=True, squeeze=False).ravel())


def _fraction_axis(panel: Axes) -> None:
    panel.set_xscale("log")
    ticks = [0.005, 0.03, 0.2]
    panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    panel.set_xticks([], minor=True)
    panel.set_xlabel("true fraction")


def _coverage_panel(panel: Axes, summaries: Summaries, key: str, nominal: float) -> None:
    for number, (line, name) in enumerate(zip(SERIES, SHOWN, strict=False)):
        rows = [row for row in summaries[name] if row["realisations"]]
        place = np.array([row["fraction"] for row in rows]) * 1.06 ** (number - 2)
        panel.plot(place, [row[key] for row in rows], label=SHOWN[name], **line)
    least = min(row["realisations"] for row in summaries["count"])
    error = 2 * np.sqrt(nominal * (1 - nominal) / least)
    panel.axhspan(nominal - error, min(1, nominal + error), color=FAINT, alpha=0.7, zorder=0)
    panel.axhline(nominal, color=GREY, linewidth=0.7, zorder=0)
    panel.set_ylim(-0.02, 1.03)


@in_house_style
def degraded_surveys(
    skies: Mapping[str, Mapping[str, Any]], scores: Mapping[str, NDArray], *, held_out: str
) -> Drawing:
    """Draw, sky by sky, how unfamiliar its galaxies are and which merger fraction is found there.

    `scores` maps a sky's name to the scores of its galaxies; `held_out` names the galaxies that the others
    are held against. `skies` has for the others "true", "count", "corrected" (value, low, high) and
    "shifted". Left: 16th to 84th percentile and median, vermilion squares where the test warns. Returns
    percentiles and fractions.
    """
    names = list(scores)
    figure = new_figure(PAGE, 0.24 * len(names) + 0.8)
    left, right = figure.subplots(1, 2, sharey=True)
    spread = {name: np.quantile(scores[name], [0.16, 0.5, 0.84]) for name in names}
    for place, name in enumerate(names):
        low, middle, high = spread[name]
        warns = name != held_out and skies[name]["shifted"]
        style = {"color": VERMILION, "marker": "s"} if warns else {"color": BLUE, "marker": "o"}
        left.errorbar(middle, place, xerr=[[middle - low], [high - middle]], capsize=2, **style)
        if name in skies:
            _sky_row(right, place, skies[name])
    left.axvline(spread[held_out][1], color=GREY, linewidth=0.7, zorder=0)
    left.set_xlabel("distance to the training galaxies")
    left.set_yticks(range(len(names)), names)
    left.set_ylim(len(names) - 0.4, -0.6)
    right.set_xlabel("merger fraction")
    right.set_xlim(left=0)
    handles, labels = right.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    right.legend(unique.values(), unique.keys(), loc="upper left")
    percentiles = {name: dict(zip(("p16", "p50", "p84"), spread[name], strict=True)) for name in names}
    return figure, plain({"scores": percentiles, "skies": {name: dict(sky) for name, sky in skies.items()}})


def _sky_row(panel: Axes, place: int, sky: Mapping[str, Any]) -> None:
    panel.plot(sky["true"], place, linestyle="none", marker="|", markersize=11, color=INK, label="true")
    for shift, (key, line) in zip(
        (-0.14, 0.14), (("count", SERIES[0]), ("corrected", SERIES[1])), strict=True
    ):
        found = sky[key]
        error = [[found["value"] - found["low"]], [found["high"] - found["value"]]]
        style = {**line, "linestyle": "none"}
        panel.errorbar(found["value"], place + shift, xerr=error, capsize=1.5, label=key, **style)
