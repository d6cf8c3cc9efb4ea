"""How a fraction above a threshold depends on the threshold: the merger fraction, or any answer's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from hubblefork.report.figures.numbers import plain
from hubblefork.report.figures.style import GREY, PAGE, SERIES, Drawing, in_house_style, new_figure
from hubblefork.stats.estimators import INTERVAL, LEVEL, MERGER, THRESHOLD, Count, count_above
from hubblefork.zoo import DecisionTree

THRESHOLDS = tuple(round(0.01 * step, 2) for step in range(1, 101))


@in_house_style
def fraction_against_threshold(
    tree: DecisionTree,
    samples: Mapping[str, NDArray],
    *,
    answer: str = MERGER,
    marked: float = THRESHOLD,
    thresholds: Sequence[float] = THRESHOLDS,
    interval: str = INTERVAL,
    level: float = LEVEL,
) -> Drawing:
    """Draw the share of galaxies whose joint fraction of an answer reaches each threshold.

    `samples` maps a name ("volunteers") to joint fractions (galaxy, answer). Bands are binomial
    intervals, `marked` a threshold to point at. The scale is logarithmic, so a curve ends where no
    galaxy is left, its band goes on. Returns per sample the counts, shares and bounds. Raises
    CatalogueError for a sample without any value.
    """
    found = {
        name: [
            count_above(tree, joint, answer=answer, threshold=t, interval=interval, level=level)
            for t in thresholds
        ]
        for name, joint in samples.items()
    }
    floor = 0.4 / max(curve[0].total for curve in found.values())
    figure = new_figure(PAGE * 0.72, 3.0)
    panel = figure.add_subplot()
    for line, (name, curve) in zip(SERIES, found.items(), strict=False):
        _curve(panel, line, f"{name} ({curve[0].total} galaxies)", curve, floor)
    panel.axvline(marked, color=GREY, linewidth=0.8, linestyle=":", zorder=0, label=f"threshold {marked:g}")
    panel.set_yscale("log")
    panel.set_ylim(floor, 1.3)
    panel.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:g}"))
    panel.set_xlim(0, 1)
    text = tree.answers[tree.column(answer)].text
    panel.set_xlabel(f"threshold on the joint fraction of “{text}”")
    panel.set_ylabel("share of galaxies at or above")
    panel.legend()
    curves = {name: _numbers(curve) for name, curve in found.items()}
    return figure, plain({"answer": answer, "interval": interval, "level": level, "samples": curves})


def _curve(panel: Axes, line: Mapping[str, Any], label: str, curve: Sequence[Count], floor: float) -> None:
    thresholds = [fraction.threshold for fraction in curve]
    shares = np.array([fraction.value if fraction.count else np.nan for fraction in curve])
    low, high = ([max(getattr(fraction, side), floor) for fraction in curve] for side in ("low", "high"))
    panel.fill_between(thresholds, low, high, color=line["color"], alpha=0.16, linewidth=0)
    panel.plot(thresholds, shares, label=label, markevery=10, **line)


def _numbers(curve: Sequence[Count]) -> dict[str, Any]:
    columns = {
        key: [getattr(fraction, key) for fraction in curve]
        for key in ("threshold", "count", "value", "low", "high")
    }
    return {"total": curve[0].total, **columns}
