"""The plots that most figures are: curves with bands, rows with intervals or bars, and images on a page.

`pages.answers` adds a panel for every answer. A figure of this package is one of these plots with the numbers
that it shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from hubblefork.pages.style import (
    FAINT,
    GREY,
    INK,
    PAGE,
    SERIES,
    SMALL,
    in_house_style,
    new_figure,
    text_width,
)

MARKERS = 10  # along a curve, so that lines stay visible
MOST = 8  # ticks of a logarithmic axis
HANDLE = 0.6  # inches of a legend's entry beside its text
POINTS: Mapping[str, Any] = {"linestyle": "none"}


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
    `names` are those of the rows in `intervals`, at `rows`: 0, 1, … unless given.
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
    names: Sequence[str] = ()
    rows: Any = None


def bounded(label: str, places: Any, estimates: Sequence[Any], *, rows: bool = False, **more: Any) -> Series:
    """Return estimates with their intervals at places on the x axis, or with `rows` in these rows.

    Estimates are mappings or objects with `value`, `low` and `high`, or with `interval_95` for both; what has
    no value is NaN. `more` are fields of `Series`.
    """
    value, low, high = sides(estimates)
    x, y = (value, places) if rows else (places, value)
    return Series(label, np.asarray(x), np.asarray(y), low, high, **more)


def sides(estimates: Sequence[Any]) -> NDArray[np.float64]:
    """Return value, low and high of estimates, (3, estimate); see `bounded`."""
    entries = [own if isinstance(own, Mapping) else getattr(own, "__dict__", {}) for own in estimates]
    rows = [
        [entry.get("value"), *entry.get("interval_95", (entry.get("low"), entry.get("high")))]
        for entry in entries
    ]
    return np.array(rows, dtype=float).reshape(-1, 3).T


@in_house_style
def curves(
    panels: Sequence[Panel],
    *,
    rows: int = 1,
    size: tuple[float, float] = (PAGE, 3.0),
    legend: str = "above",
    share: str = "",
) -> Figure:
    """Draw curves in one or several panels, in `rows` rows; bounds are vertical bars or bands.

    `legend` is "above" the panels or "inside" each; `share` "all" gives all panels the same axes, "y" those
    of a column the same y.
    """
    figure = new_figure(*size)
    sharex: Any = "all" if share == "all" else "none"
    sharey: Any = {"all": "all", "y": "col"}.get(share, "none")
    grid = figure.subplots(rows, -(-len(panels) // rows), squeeze=False, sharex=sharex, sharey=sharey)
    for axes, panel in zip(grid.flat, panels, strict=False):
        _draw_curves(axes, panel)
        if legend == "inside":
            axes.legend()
    if legend == "above":
        legend_above(figure)
    return figure


@in_house_style
def intervals(
    panels: Sequence[Panel],
    *,
    width: float = PAGE,
    each: float = 0.22,
    legend: str = "above",
    grid: bool = False,
    absent: str = "",
    stacked: bool = False,
) -> Figure:
    """Draw a row for every name, from top to bottom: marks with intervals, or bars.

    Panels stand side by side with the same rows, or `stacked` with rows of their own. In each series y is the
    row. `each` is the height of a row in inches; `absent` is written in a row that has no value in a panel.
    """
    rows = [np.arange(len(panel.names)) if panel.rows is None else panel.rows for panel in panels]
    heights = [each * (places.max() + 1) + 0.75 for places in rows]
    shape: Any = (len(panels), 1) if stacked else (1, len(panels))
    figure = new_figure(width, sum(heights) if stacked else heights[0])
    ratios = heights if stacked else [1.0]
    grids = figure.subplots(*shape, sharey=not stacked, squeeze=False, height_ratios=ratios)
    for axes, panel, places in zip(grids.flat, panels, rows, strict=True):
        _draw_rows(axes, panel, places)
        axes.set_axisbelow(True)
        if grid:
            axes.grid(axis="x", color=FAINT, linewidth=0.5)
        drawn = {row for series in panel.series for row in _rows_with_value(series)}
        for row in (row for row in places.tolist() if absent and row not in drawn):
            place: Any = {"transform": axes.get_yaxis_transform(), "va": "center"}
            box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
            axes.text(0.02, row, absent, color=GREY, fontsize=SMALL, bbox=box, **place)
    if legend == "above":
        legend_above(figure)
    return figure


def _draw_curves(axes: Axes, panel: Panel) -> None:
    for number, series in enumerate(panel.series):
        style = {**SERIES[number % len(SERIES)], **series.style}
        x, y = np.atleast_1d(series.x), np.atleast_1d(series.y)
        if series.low is not None and not series.band:
            axes.errorbar(x, y, yerr=_errors(y, series), label=series.label, **{"capsize": 2, **style})
            continue
        if series.low is not None:
            axes.fill_between(x, series.low, series.high, color=style["color"], alpha=0.15, linewidth=0)
        every = 1 if style["linestyle"] == "none" else max(1, len(x) // MARKERS)
        axes.plot(x, y, label=series.label, markevery=every, **style)
    _lines_and_axes(axes, panel)


def _draw_rows(axes: Axes, panel: Panel, rows: NDArray) -> None:
    for number, series in enumerate(panel.series):
        style = {**SERIES[number % len(SERIES)], **POINTS, **series.style}
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
    axes.set_yticks(rows, panel.names)
    axes.set_ylim(rows.max() + 0.6, -0.6)
    axes.tick_params(axis="y", length=0)
    _lines_and_axes(axes, panel)


def _errors(values: NDArray, series: Series) -> list[NDArray]:
    """Return the lengths of error bars below and above; none is negative."""
    low, high = np.atleast_1d(series.low), np.atleast_1d(series.high)
    return [np.fmax(0, values - low), np.fmax(0, high - values)]


def _rows_with_value(series: Series) -> list[float]:
    return np.atleast_1d(series.y)[np.isfinite(np.atleast_1d(series.x))].tolist()


def _lines_and_axes(axes: Axes, panel: Panel) -> None:
    line: dict[str, Any] = {"color": GREY, "linewidth": 0.9, "linestyle": ":", "zorder": 0}
    for place, label in panel.vertical:
        axes.axvline(place, label=label or "_", **line)
    for place, label in panel.horizontal:
        axes.axhline(place, label=label or "_", **{**line, "linestyle": (0, (4, 2))})
    axes.set_xlabel(panel.xlabel)
    axes.set_title(panel.title)
    if panel.ylabel:
        axes.set_ylabel(panel.ylabel)
    for axis, name, ticks in ((axes.xaxis, "x", panel.xticks), (axes.yaxis, "y", panel.yticks)):
        if name in panel.log:
            getattr(axes, f"set_{name}scale")("log")
            axis.set_major_formatter(short_number)
        _set_ticks(axis, ticks, name in panel.log)
    for limits, set_limits in ((panel.xlim, axes.set_xlim), (panel.ylim, axes.set_ylim)):
        if limits != (None, None):
            set_limits(*limits)


class FewTicks(LogLocator):
    """Ticks of a logarithmic axis; only powers of ten where there would be more than `MOST`."""

    def tick_values(self, vmin: float, vmax: float) -> Any:
        """Return the places of the ticks between two ends."""
        ticks = np.asarray(super().tick_values(vmin, vmax))
        inside = (ticks >= vmin) & (ticks <= vmax)
        return ticks if inside.sum() <= MOST else ticks[np.isclose(np.log10(ticks) % 1, 0)]


def _set_ticks(axis: Any, ticks: Any, logarithmic: bool) -> None:
    if ticks == "integers":
        axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    elif ticks is not None and logarithmic and all(isinstance(tick, int) and tick < 10 for tick in ticks):
        axis.set_major_locator(FewTicks(10, subs=ticks))
        axis.set_minor_locator(NullLocator())
    elif ticks is not None:
        axis.set_ticks(ticks, [short_number(tick) for tick in ticks])
        axis.set_minor_locator(NullLocator())


def short_number(value: float, _: float = 0) -> str:
    """Return a number as a tick label: "0.05", "2,500", "20 M" for 20,000,000."""
    for unit, name in ((1e9, " G"), (1e6, " M")):
        if value >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:{',.0f' if value >= 1e3 else 'g'}}".replace("-", "−")


def legend_above(figure: Figure) -> None:
    """Write one legend above the figure: each label of its panels once."""
    entries: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if entries:
        widths = [text_width(label, SMALL) + HANDLE for label in entries]
        width = figure.get_size_inches()[0]
        columns = len(widths) if sum(widths) <= width else max(1, int(width / max(widths)))
        figure.legend(entries.values(), entries.keys(), loc="outside upper center", ncols=columns)


def page_axes(figure: Figure) -> Axes:
    """Return axes over the whole figure in inches from its upper left corner: images and texts go there."""
    width, height = figure.get_size_inches()
    page = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    page.set_axis_off()
    return page


def draw_image(page: Axes, left: float, top: float, side: float, pixels: NDArray, **settings: Any) -> None:
    """Draw an image as a square of a page (see `page_axes`)."""
    extent = (left, left + side, top + side, top)
    page.imshow(pixels, extent=extent, **{"aspect": "auto", "interpolation": "auto", **settings})


def write(page: Axes, left: float, top: float, text: str, **settings: Any) -> None:
    """Write a text on a page (see `page_axes`)."""
    page.text(left, top, text, **{"fontsize": SMALL, "linespacing": 1.15, **settings})
