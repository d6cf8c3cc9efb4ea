"""The figures of trainings: one or several networks by epoch, time, cost, galaxies; the trials of a tuning.

Training curves are the rows of `metrics.csv` by name of the network. A loss is the mean squared error, as
Keras and the lab report have it; its root is the RMSE. Each function returns the figure and its numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from operator import itemgetter
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from hubblefork.pages.plots import POINTS, Panel, Series, curves, intervals
from hubblefork.pages.style import (
    BLUE,
    FAINT,
    GREY,
    INK,
    PAGE,
    SERIES,
    SMALL,
    VERMILION,
    Drawing,
    in_house_style,
)
from hubblefork.pages.tables import plain
from hubblefork.stats.curves import LearningCurve
from hubblefork.zoo import DecisionTree

Rows = Sequence[Mapping[str, float]]
MEASURES = {"rmse": "RMSE", "loss": "MSE loss", "agreement": "agreement"}
PARTS = {"train": "training", "validation": "validation"}
COSTS = (("seconds", "seconds of training to the best epoch"), ("parameters", "parameters"))
TRIALS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "complete": ("trained to the end", {"marker": "o", "color": BLUE}),
    "pruned": ("pruned, its last value", {"marker": "x", "color": GREY}),
    "fail": ("failed", {"marker": "v", "color": VERMILION}),
}
Lines = list[tuple[float, str]]


@in_house_style
def learning_curves(rows: Rows, *, best_epoch: int | None = None, mean_vote: float | None = None) -> Drawing:
    """Draw RMSE and agreement of training and validation galaxies against the epoch.

    `rows` are those of `metrics.csv`; at least one. `best_epoch` is marked, and so are the epochs that
    began with another learning rate than the one before, unless most did. `mean_vote` is the RMSE of that
    baseline on the validation galaxies, drawn as a line. Returns the curves and the marks.
    """
    columns = _columns(rows, ("rmse", "agreement"))
    kept = [(epoch, "epoch kept") for epoch in columns["epoch"] if epoch == best_epoch]
    panels = [_training_panel(columns, measure, vertical=kept) for measure in ("rmse", "agreement")]
    panels[0] = replace(panels[0], horizontal=_baseline(mean_vote, "mean vote (validation)"))
    drops = [
        {"epoch": int(row["epoch"]), "from": before["learning_rate"], "to": row["learning_rate"]}
        for before, row in pairwise(rows)
        if row["learning_rate"] != before["learning_rate"]
    ]
    figure, marked = curves(panels, size=(PAGE, 2.8)), 2 * len(drops) <= len(rows)
    style: dict[str, Any] = {"fontsize": SMALL, "color": GREY, "ha": "center", "va": "bottom", "rotation": 90}
    for axes in figure.axes:
        axes.margins(y=0.12)
        for drop in drops if marked else ():
            x = drop["epoch"] - 0.5
            axes.axvline(x, color=FAINT, linewidth=0.9, zorder=0)
            axes.text(x, 1.02, f"{drop['to']:.2g}", transform=axes.get_xaxis_transform(), **style)
    rates = np.array([row["learning_rate"] for row in rows])
    marks = {"best_epoch": best_epoch, "mean_vote_rmse": mean_vote, "learning_rate_drops": drops}
    return figure, plain({**columns, "learning_rate": rates, **marks, "drops_are_marked": marked})


def training_of_networks(networks: Mapping[str, Rows], *, best: Mapping[str, int]) -> Drawing:
    """Draw loss and agreement, training and validation, against the epoch; one row a network.

    `best` maps a network to the epoch whose weights were kept: a line marks it. Returns the curves.
    """
    columns = {name: _columns(rows) for name, rows in networks.items()}
    panels = [
        _training_panel(column, measure, title=name, vertical=[(best[name], "epoch kept")])
        for name, column in columns.items()
        for measure in ("loss", "agreement")
    ]
    figure = curves(panels, rows=len(columns), size=(PAGE, 0.4 + 1.75 * len(columns)), share="y")
    return figure, plain({name: {**column, "best": best[name]} for name, column in columns.items()})


def networks_compared(networks: Mapping[str, Rows], *, measure: str) -> Drawing:
    """Draw the validation "loss" or "agreement" of several networks against the epoch. Returns the curves."""
    key = f"validation_{measure}"
    columns = {name: _columns(rows) for name, rows in networks.items()}
    series = [Series(name, column["epoch"], column[key]) for name, column in columns.items()]
    panel = replace(_epochs(series, measure), ylabel=f"validation {MEASURES[measure]}")
    figure = curves([panel], size=(PAGE * 0.75, 3.0))
    return figure, plain({name: {k: column[k] for k in ("epoch", key)} for name, column in columns.items()})


def _columns(rows: Rows, measures: Sequence[str] = ("loss", "agreement")) -> dict[str, NDArray]:
    columns = {"epoch": np.array([row["epoch"] for row in rows])}
    for part in PARTS:
        for measure in measures:
            key = f"{part}_{measure}".replace("loss", "rmse")
            values = np.array([row[key] for row in rows])
            columns[f"{part}_{measure}"] = values**2 if measure == "loss" else values
    return columns


def _training_panel(columns: Mapping[str, NDArray], measure: str, **settings: Any) -> Panel:
    series = [Series(text, columns["epoch"], columns[f"{part}_{measure}"]) for part, text in PARTS.items()]
    return replace(_epochs(series, measure), **settings)


def _epochs(series: Sequence[Series], measure: str) -> Panel:
    panel = Panel(series, "epoch", MEASURES[measure], xticks="integers")
    return replace(panel, log="y", yticks=(1, 2, 3, 5, 7)) if measure == "loss" else panel


def _baseline(mean_vote: float | None, label: str = "mean vote") -> Lines:
    return [] if mean_vote is None else [(mean_vote, label)]


def broken_constraints(tree: DecisionTree, heads: Mapping[str, NDArray]) -> Drawing:
    """Draw by how much each head's predictions break each question's sum, on average over galaxies.

    `heads` maps a name to the mean of |Σ its answers - its reach|, shape (question,). Returns them.
    """
    places, height, series = np.arange(len(tree.questions)), 0.8 / len(heads), []
    for number, (name, values) in enumerate(heads.items()):
        texts = [f"{value:.2g}" if value > 1e-6 else "0" for value in values]
        rows = places + (number - (len(heads) - 1) / 2) * height
        series.append(Series(name, values, rows, bar=0.9 * height, texts=texts))
    names = [f"{question.task} {question.name.replace('_', ' ')}" for question in tree.questions]
    panel = Panel(series, "mean |sum of the question's answers − its reach|, both predicted", names=names)
    figure = intervals([panel], width=PAGE * 0.85, each=0.13 * (len(heads) + 0.6))
    figure.axes[0].margins(x=0.08)
    keys = [question.name for question in tree.questions]
    return figure, plain({name: dict(zip(keys, values, strict=True)) for name, values in heads.items()})


def errors_over_time(networks: Mapping[str, Mapping[str, NDArray]]) -> Drawing:
    """Draw the validation RMSE of each network against the seconds of training, and the best so far.

    `networks` maps a name to `seconds` and `rmse`, both (epoch,); at most seven. The axis leaves out the
    first epochs, which are far worse than everything later. Returns the curves.
    """
    errors = {name: np.asarray(curve["rmse"]) for name, curve in networks.items()}
    best = {name: np.minimum.accumulate(values) for name, values in errors.items()}
    lowest = min(float(values.min()) for values in errors.values())
    high = max(float(np.median(values)) for values in errors.values())
    limits = lowest - 0.08 * (high - lowest), high + 0.5 * (high - lowest)
    panels = [
        Panel(
            [Series(name, curve["seconds"], values[name]) for name, curve in networks.items()],
            "seconds of training",
            ylabel,
            title,
            log="x",
            xticks=(1, 2, 5),
            ylim=limits,
        )
        for title, values, ylabel in (
            ("each epoch", errors, "validation RMSE"),
            ("the best epoch so far", best, ""),
        )
    ]
    return curves(panels, size=(PAGE, 3.4)), plain(dict(networks))


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
    style, panels = {**POINTS, "markersize": 6}, list[Panel]()
    for key, label in costs:
        series = []
        for name, point in points.items():
            rmse, sd = point["rmse"], point["sd"]
            series.append(Series(name, point[key], rmse, rmse - sd, rmse + sd, style))
        axes: Any = {"log": "x", "xticks": (1, 2, 5), "horizontal": _baseline(mean_vote)}
        panels.append(Panel(series, label, "" if panels else "test RMSE", **axes))
    figure = curves(panels, size=(PAGE, 3.2))
    for panel in figure.axes:
        panel.margins(x=0.15, y=0.15)
    return figure, plain({**points, "mean_vote": mean_vote})


@in_house_style
def errors_over_galaxies(networks: Mapping[str, LearningCurve], *, at: int) -> Drawing:
    """Draw the RMSE of each network against the number of training galaxies, both axes logarithmic.

    The law of each is solid among its points and dotted from there to `at` galaxies, with 95% of its
    bootstrap samples; at most seven networks. Returns points, laws and what they give `at`.
    """
    pairs = zip(networks.items(), SERIES, strict=False)
    series = [part for (name, curve), line in pairs for part in _law(name, curve, line, at)]
    sizes = sorted({int(size) for curve in networks.values() for size in curve.galaxies})
    panel = Panel(series, "training galaxies", "RMSE", log="xy", xticks=[*sizes, at])
    figure = curves([panel], size=(PAGE * 0.85, 3.6))
    _size_axes(figure.axes[0], sizes, at)
    numbers = {
        name: {
            **{"galaxies": curve.galaxies, "rmse": curve.rmse, "sd": curve.sd, "law": vars(curve.law)},
            "extrapolated": curve.law.at(at),
            "interval_95": curve.interval_95(at),
        }
        for name, curve in networks.items()
    }
    return figure, plain({**numbers, "at": at})


def _law(name: str, curve: LearningCurve, line: Mapping[str, Any], at: int) -> list[Series]:
    """Return the points, the law among them, the law beyond them, and its value at the last place."""
    largest = curve.galaxies.max()
    inside, beyond = np.geomspace(curve.galaxies.min(), largest, 80), np.geomspace(largest, at, 80)
    spread, points = np.nan_to_num(curve.sd), {**line, **POINTS, "markersize": 5}
    solid = {"color": line["color"], "marker": "", "linestyle": "-"}
    dotted, hollow = {**solid, "linestyle": ":"}, {**points, "markerfacecolor": "white"}
    (low, high), (lowest, highest) = curve.interval_95(beyond), curve.interval_95(at)
    return [
        Series(name, curve.galaxies, curve.rmse, curve.rmse - spread, curve.rmse + spread, points),
        Series("_", inside, curve.law.at(inside), style=solid),
        Series("_", beyond, curve.law.at(beyond), low, high, dotted, band=True),
        Series("_", at, float(curve.law.at(at)), lowest, highest, hollow),
    ]


def _size_axes(axes: Axes, sizes: Sequence[int], at: int) -> None:
    axes.xaxis.set_major_formatter(lambda size, _: f"{size:,.0f}")
    low, high = axes.get_ylim()
    ticks = [tick for tick in np.round(np.arange(0, 1, 0.005), 3) if low <= tick <= high and tick]
    ticks = ticks[:: max(1, -(-len(ticks) // 7))]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_yticks([], minor=True)
    axes.axvspan(sizes[-1], at * 1.1, color=GREY, alpha=0.07, linewidth=0)
    axes.set_xlim(sizes[0] / 1.1, at * 1.1)
    place: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "ha": "center", "va": "top"}
    axes.text((sizes[-1] * at) ** 0.5, 0.985, "extrapolated", fontsize=SMALL, color=GREY, **place)


def trial_history(trials: Sequence[Mapping[str, Any]], *, what: str, lowest: bool = True) -> Drawing:
    """Draw what each trial came to against its number, with the best so far as a line.

    `trials` have `number`, `state` ("complete", "pruned" or "fail", others are not drawn) and `value` (None
    for a trial without); `what` names the value. Failed trials stand at the lower edge. Returns the numbers.
    """
    drawn = {state: [trial for trial in trials if trial["state"] == state] for state in TRIALS}
    values = [own["value"] for some in drawn.values() for own in some if own["value"] is not None]
    edge = min(values, default=0.0) - 0.08 * (np.ptp(values) if len(values) > 1 else 1.0)
    line, series = best_so_far(trials, lowest=lowest), []
    for state, (label, style) in TRIALS.items():
        y = [edge if state == "fail" else trial["value"] for trial in drawn[state]]
        if y:
            x = [trial["number"] for trial in drawn[state]]
            series.append(Series(label, x, np.array(y, dtype=float), style={**POINTS, **style}))
    if line:
        steps = {"color": INK, "linewidth": 1, "linestyle": "-", "marker": "", "drawstyle": "steps-post"}
        numbers, best = zip(*line, strict=True)
        series.append(Series("best so far", numbers, best, style=steps))
    limits = -0.7, max(trial["number"] for trial in trials) + 0.7
    figure = curves([Panel(series, "trial", what, xlim=limits, xticks="integers")], size=(PAGE, 2.8))
    figure.axes[0].margins(y=0.12)
    columns = {
        s: {key: [trial[key] for trial in some] for key in ("number", "value")} for s, some in drawn.items()
    }
    return figure, plain({**columns, "best_so_far": line})


def best_so_far(trials: Sequence[Mapping[str, Any]], *, lowest: bool = True) -> list[tuple[int, float]]:
    """Return number and best value so far of the trials that were trained to the end, in their order."""
    ended = sorted((trial for trial in trials if trial["state"] == "complete"), key=itemgetter("number"))
    best = accumulate((float(trial["value"]) for trial in ended), min if lowest else max)
    return [(trial["number"], value) for trial, value in zip(ended, best, strict=True)]


def importances(shares: Mapping[str, float]) -> Drawing:
    """Draw the share of the spread of the trials' results that each setting explains. Returns the shares."""
    ordered = dict(sorted(shares.items(), key=lambda item: -item[1]))
    texts = [f"{value:.2f}" for value in ordered.values()]
    bars = Series(
        "_", list(ordered.values()), range(len(ordered)), style={"color": BLUE}, bar=0.65, texts=texts
    )
    names = [name.replace("_", " ") for name in ordered]
    panel = Panel([bars], "share of the spread of the results", names=names)
    figure = intervals([panel], width=PAGE * 0.7, legend="")
    figure.axes[0].margins(x=0.12)
    return figure, plain(dict(shares))
