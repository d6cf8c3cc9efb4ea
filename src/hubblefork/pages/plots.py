"""The plots that most figures are: curves, rows with intervals or bars, heat maps.

Each returns the figure and its numbers. `report.panels` has a panel for every answer;
`report.answers`, `report.fractions` and `report.comparisons` draw with both what pages show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from hubblefork.pages.style import (
    FAINT,
    GREY,
    INK,
    PAGE,
    SERIES,
    SIGNED,
    SMALL,
    Drawing,
    in_house_style,
    new_figure,
)
from hubblefork.pages.tables import plain

MARKERS = 10  # along a curve, so that lines stay visible
FLIP = 0.6  # from this absolute value on, letters in a heat map are white
SCALE = Normalize(-1, 1)


@dataclass(frozen=True)
class Series:
    """Points of one curve or of one kind of mark; all arrays have shape (point,).

    `low` and `high` bound y in `curves` and x in `intervals`, where y is the row. `style` overrides the
    style that the place in the panel gives; `bar` is the height of horizontal bars, 0 for marks; `band`
    draws the bounds as a band; `texts` stand right of the points. A label that begins with "_" has no entry
    in the legend.
    """

    label: str
    x: Any
    y: Any
    low: Any = None
    high: Any = None
    style: Mapping[str, Any] = field(default_factory=dict)
    bar: float = 0.0
    band: bool = False
    texts: Sequence[str] = ()


@dataclass(frozen=True)
class Panel:
    """The series of one panel with its axes; `vertical` and `horizontal` are lines as (place, label).

    `log` names the logarithmic axes: "", "x", "y" or "xy". `xticks` and `yticks` are places, or "integers".
    """

    series: Sequence[Series]
    xlabel: str = ""
    ylabel: str = ""
    title: str = ""
    log: str = ""
    xlim: tuple[float | None, float | None] = (None, None)
    ylim: tuple[float | None, float | None] = (None, None)
    xticks: Any = None
    yticks: Any = None
    vertical: Sequence[tuple[float, str]] = ()
    horizontal: Sequence[tuple[float, str]] = ()


@in_house_style
def curves(
    panels: Sequence[Panel],
    *,
    rows: int = 1,
    size: tuple[float, float] = (PAGE, 3.0),
    legend: str = "above",
    share: str = "",
) -> Drawing:
    """Draw curves in one or several panels, in `rows` rows; bounds are vertical bars or bands.

    `legend` is "above" the panels or "inside" each; `share` "all" gives all panels the same axes,
    "y" those of a column the same y. Returns the figure, and for each panel and label x, y and the bounds.
    """
    figure = new_figure(*size)
    columns = -(-len(panels) // rows)
    sharex: Any = "all" if share == "all" else "none"
    sharey: Any = {"all": "all", "y": "col"}.get(share, "none")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=sharex, sharey=sharey).ravel()
    for axes, panel in zip(grid, panels, strict=False):
        draw(axes, panel)
        if legend == "inside":
            axes.legend()
    if legend == "above":
        legend_above(figure)
    return figure, numbers_of(panels)


@in_house_style
def intervals(
    names: Sequence[str],
    panels: Sequence[Panel],
    *,
    places: NDArray | None = None,
    width: float = PAGE,
    each: float = 0.22,
    legend: str = "above",
    grid: bool = False,
    absent: str = "",
) -> Drawing:
    """Draw a row for every name, from top to bottom, in panels side by side: marks with intervals, or bars.

    In each series y is the place of the row: 0, 1, … or `places`. `each` is the height of a row in inches;
    `absent` is written in a row that has no value in a panel. Returns the figure and its numbers.
    """
    rows = np.arange(len(names)) if places is None else places
    figure = new_figure(width, each * (rows.max() + 1) + 0.75)
    all_axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, panel in zip(all_axes, panels, strict=True):
        draw_rows(axes, names, panel, rows, grid=grid)
        known = {row for series in panel.series for row in _known_rows(series)}
        for row in (row for row in rows.tolist() if absent and row not in known):
            place = {"transform": axes.get_yaxis_transform(), "va": "center"}
            axes.text(0.02, row, absent, color=GREY, fontsize=SMALL, **place)
        if legend == "inside" and axes.get_legend_handles_labels()[1]:
            axes.legend(loc="lower right")
    if legend == "above":
        legend_above(figure)
    return figure, numbers_of(panels)


def draw(axes: Axes, panel: Panel) -> None:
    """Draw a panel of curves."""
    for number, series in enumerate(panel.series):
        style = {**SERIES[number % len(SERIES)], **series.style}
        x, y = np.atleast_1d(series.x), np.atleast_1d(series.y)
        if series.low is not None and series.band:
            colour = style["color"]
            axes.fill_between(x, series.low, series.high, color=colour, alpha=0.15, linewidth=0)
        if series.low is not None and not series.band:
            axes.errorbar(x, y, yerr=_errors(y, series), label=series.label, **{"capsize": 2, **style})
        else:
            every = 1 if style["linestyle"] == "none" else max(1, len(x) // MARKERS)
            axes.plot(x, y, label=series.label, markevery=every, **style)
    _lines_and_axes(axes, panel)


def draw_rows(
    axes: Axes, names: Sequence[str], panel: Panel, places: NDArray | None = None, *, grid: bool = False
) -> None:
    """Draw a panel of rows: marks with horizontal intervals, or bars; the first row is on top."""
    rows = np.arange(len(names)) if places is None else places
    for number, series in enumerate(panel.series):
        style = {**SERIES[number % len(SERIES)], "linestyle": "none", **series.style}
        x, y = np.atleast_1d(series.x), np.atleast_1d(series.y)
        if series.bar:
            axes.barh(y, x, series.bar, color=style["color"], alpha=0.85, label=series.label)
            if series.low is not None:
                axes.hlines(y, series.low, series.high, color=INK, linewidth=0.9, label="95% interval")
        elif series.low is None:
            axes.plot(x, y, label=series.label, **style)
        else:
            style = {"capsize": 2, "linewidth": 1, **style}
            axes.errorbar(x, y, xerr=_errors(x, series), label=series.label, **style)
        for value, place, text in zip(x, y, series.texts, strict=False):
            axes.text(value, place, f" {text}", va="center", fontsize=SMALL, color=INK)
    axes.set_yticks(rows, names)
    axes.set_ylim(rows.max() + 0.6, -0.6)
    axes.tick_params(axis="y", length=0)
    if grid:
        axes.grid(axis="x", color=FAINT, linewidth=0.5)
        axes.set_axisbelow(True)
    _lines_and_axes(axes, panel)


def _errors(values: NDArray, series: Series) -> list[NDArray]:
    """Return the lengths of error bars below and above; none is negative."""
    low, high = np.atleast_1d(series.low), np.atleast_1d(series.high)
    return [np.fmax(0, values - low), np.fmax(0, high - values)]


def _known_rows(series: Series) -> list[float]:
    return np.atleast_1d(series.y)[np.isfinite(np.atleast_1d(series.x))].tolist()


def _lines_and_axes(axes: Axes, panel: Panel) -> None:
    line: dict[str, Any] = {"color": GREY, "linewidth": 0.9, "linestyle": ":", "zorder": 0}
    for place, label in panel.vertical:
        axes.axvline(place, label=label or "_", **line)
    for place, label in panel.horizontal:
        axes.axhline(place, label=label or "_", **line)
    axes.set_xlabel(panel.xlabel)
    if panel.ylabel:
        axes.set_ylabel(panel.ylabel)
    axes.set_title(panel.title)
    for axis, name, ticks in ((axes.xaxis, "x", panel.xticks), (axes.yaxis, "y", panel.yticks)):
        if name in panel.log:
            getattr(axes, f"set_{name}scale")("log")
            axis.set_major_formatter(FuncFormatter(short))
        _ticks(axis, ticks, name in panel.log)
    if panel.xlim != (None, None):
        axes.set_xlim(*panel.xlim)
    if panel.ylim != (None, None):
        axes.set_ylim(*panel.ylim)


def _ticks(axis: Any, ticks: Any, logarithmic: bool) -> None:
    if ticks == "integers":
        axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    elif ticks is not None and logarithmic and all(isinstance(tick, int) and tick < 10 for tick in ticks):
        axis.set_major_locator(LogLocator(10, subs=ticks))
        axis.set_minor_locator(NullLocator())
    elif ticks is not None:
        axis.set_ticks(ticks, [short(tick) for tick in ticks])
        axis.set_minor_locator(NullLocator())


def short(value: float, _: float = 0) -> str:
    """Return a number as a tick label: "0.05", "20 M" for 20,000,000."""
    for unit, name in ((1e6, " M"), (1e3, " k")):
        if value >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:g}"


def legend_above(figure: Figure, columns: int = 5) -> None:
    """Write one legend above the figure: each label of its panels once."""
    entries: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if entries:
        columns = min(columns, len(entries))
        figure.legend(entries.values(), entries.keys(), loc="outside upper center", ncols=columns)


def numbers_of(panels: Sequence[Panel]) -> dict[str, Any]:
    """Return the numbers of panels: by title and label, x, y and the bounds."""
    return plain(
        {
            panel.title or str(number): {
                series.label: {
                    key: np.asarray(value)
                    for key in ("x", "y", "low", "high")
                    if (value := getattr(series, key)) is not None
                }
                for series in panel.series
            }
            for number, panel in enumerate(panels)
        }
    )


@in_house_style
def heatmap(
    matrix: NDArray,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    parts: Sequence[int] = (),
    label: str = "correlation ρ",
) -> Drawing:
    """Draw a matrix of values from −1 to 1; negative cells carry a dash, empty ones are white.

    `parts` are the rows and columns before which a line stands. Returns the figure and the matrix.
    """
    figure = new_figure(PAGE, PAGE * 0.8)
    axes = figure.add_subplot()
    draw_matrix(axes, matrix, rows, columns)
    below, right = np.nonzero(matrix < 0)
    strong = matrix[below, right] < -FLIP
    for which, colour in ((strong, "white"), (~strong, INK)):
        axes.scatter(right[which], below[which], marker="_", s=5, linewidth=0.6, color=colour)
    axes.tick_params(axis="x", rotation=90)
    for place in parts:
        axes.axhline(place - 0.5, color=GREY, linewidth=0.5)
        axes.axvline(place - 0.5, color=GREY, linewidth=0.5)
    bar = figure.colorbar(ScalarMappable(SCALE, SIGNED), ax=axes, shrink=0.5, aspect=25, pad=0.02)
    bar.set_label(label)
    bar.outline.set_linewidth(0.4)
    return figure, plain({"rows": rows, "columns": columns, "matrix": matrix})


def draw_matrix(axes: Axes, matrix: NDArray, rows: Sequence[str], columns: Sequence[str]) -> None:
    """Draw a matrix of values from −1 to 1 in colours."""
    axes.imshow(np.ma.masked_invalid(matrix), cmap=SIGNED, norm=SCALE)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(True)
