"""The figures of studies: networks compared, tunings, correlations, and estimators on a sky of known truth.

Training curves are the rows of `metrics.csv` by name of the network. A loss is the mean squared error, as
Keras and the lab report have it; its root is the RMSE.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hubblefork.pages.plots import FLIP, SCALE, Panel, Series, curves, draw_matrix, heatmap, intervals
from hubblefork.pages.style import (
    BLUE,
    GREY,
    INK,
    PAGE,
    SERIES,
    SIGNED,
    SMALL,
    VERMILION,
    Drawing,
    in_house_style,
    new_figure,
    text_width,
    wrapped,
)
from hubblefork.pages.tables import plain
from hubblefork.stats.curves import LearningCurve
from hubblefork.zoo import DecisionTree

Rows = Sequence[Mapping[str, float]]
LABELS = {"loss": "MSE loss", "agreement": "agreement (“accuracy”)"}
PARTS = {"train": "training", "validation": "validation"}
COSTS = (("seconds", "seconds of training to the best epoch"), ("parameters", "parameters"))
TRIALS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "complete": ("trained to the end", {"marker": "o", "color": BLUE}),
    "pruned": ("pruned, its last value", {"marker": "x", "color": GREY}),
    "fail": ("failed", {"marker": "v", "color": VERMILION}),
}


def training_of_networks(networks: Mapping[str, Rows], *, best: Mapping[str, int]) -> Drawing:
    """Draw loss and agreement, training and validation, against the epoch; one row a network.

    `best` maps a network to the epoch whose weights were kept: a line marks it. Returns the curves.
    """
    columns = {name: _columns(rows) for name, rows in networks.items()}
    panels = []
    for name, column in columns.items():
        for measure, label in LABELS.items():
            series = [
                Series(text, column["epoch"], column[f"{part}_{measure}"]) for part, text in PARTS.items()
            ]
            panels.append(_epochs(series, measure, label, title=name, vertical=[(best[name], "epoch kept")]))
    size = (PAGE, 0.4 + 1.75 * len(columns))
    figure, _ = curves(panels, rows=len(columns), size=size, share="y")
    return figure, plain({name: {**column, "best": best[name]} for name, column in columns.items()})


def networks_compared(networks: Mapping[str, Rows], *, measure: str) -> Drawing:
    """Draw the validation "loss" or "agreement" of several networks against the epoch. Returns the curves."""
    key = f"validation_{measure}"
    columns = {name: _columns(rows) for name, rows in networks.items()}
    series = [Series(name, column["epoch"], column[key]) for name, column in columns.items()]
    panel = _epochs(series, measure, f"validation {LABELS[measure]}")
    figure, _ = curves([panel], size=(PAGE * 0.75, 3.0))
    return figure, plain({name: {k: column[k] for k in ("epoch", key)} for name, column in columns.items()})


def _columns(rows: Rows) -> dict[str, NDArray]:
    columns = {"epoch": np.array([row["epoch"] for row in rows])}
    for part in PARTS:
        columns[f"{part}_loss"] = np.array([row[f"{part}_rmse"] for row in rows]) ** 2
        columns[f"{part}_agreement"] = np.array([row[f"{part}_agreement"] for row in rows])
    return columns


def _epochs(series: Sequence[Series], measure: str, label: str, **settings: Any) -> Panel:
    panel = Panel(series, "epoch", label, xticks="integers", **settings)
    return replace(panel, log="y", yticks=(1, 2, 3, 5, 7)) if measure == "loss" else panel


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
    panel = Panel(series, "mean |sum of the question's answers − its reach|, both predicted")
    figure, _ = intervals(names, [panel], width=PAGE * 0.85, each=0.13 * (len(heads) + 0.6))
    figure.axes[0].margins(x=0.08)
    keys = [question.name for question in tree.questions]
    return figure, plain({name: dict(zip(keys, values, strict=True)) for name, values in heads.items()})


def errors_over_time(
    networks: Mapping[str, Mapping[str, NDArray]], *, mean_vote: float | None = None
) -> Drawing:
    """Draw the validation RMSE of each network against the seconds of training, and the best so far.

    `networks` maps a name to `seconds` and `rmse`, both (epoch,); at most seven. `mean_vote` is the RMSE of
    that baseline on the same galaxies. Returns the curves.
    """
    errors = {name: np.asarray(curve["rmse"]) for name, curve in networks.items()}
    best = {name: np.minimum.accumulate(values) for name, values in errors.items()}
    limits = _limits(list(errors.values()), mean_vote)
    panels: list[Panel] = []
    for title, values in (("each epoch", errors), ("the best epoch so far", best)):
        series = [Series(name, curve["seconds"], values[name]) for name, curve in networks.items()]
        panel = Panel(series, "seconds of training", title=title, log="x", xticks=(1, 2, 5), ylim=limits)
        panels.append(replace(panel, horizontal=_baseline(mean_vote)))
    panels[0] = replace(panels[0], ylabel="validation RMSE")
    figure, _ = curves(panels, size=(PAGE, 3.4))
    return figure, plain({name: dict(curve) for name, curve in networks.items()} | {"mean_vote": mean_vote})


def _baseline(mean_vote: float | None) -> list[tuple[float, str]]:
    return [] if mean_vote is None else [(mean_vote, "mean vote")]


def _limits(errors: Sequence[NDArray], mean_vote: float | None) -> tuple[float, float]:
    """Return limits that leave out the first epochs, which are far worse than everything later."""
    lowest = min(float(values.min()) for values in errors)
    high = max(max(float(np.median(values)) for values in errors), mean_vote or 0.0)
    return lowest - 0.08 * (high - lowest), high + 0.5 * (high - lowest)


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
    panels: list[Panel] = []
    for key, label in costs:
        series = []
        for name, point in points.items():
            sides = point["rmse"] - point["sd"], point["rmse"] + point["sd"]
            style = {"linestyle": "none", "markersize": 6}
            series.append(Series(name, point[key], point["rmse"], *sides, style=style))
        panel = Panel(series, label, log="x", xticks=(1, 2, 5), horizontal=_baseline(mean_vote))
        panels.append(panel if panels else replace(panel, ylabel="test RMSE"))
    figure, _ = curves(panels, size=(PAGE, 3.2))
    for axes in figure.axes:
        axes.margins(x=0.15, y=0.15)
    return figure, plain({**points, "mean_vote": mean_vote})


def errors_over_galaxies(networks: Mapping[str, LearningCurve], *, at: int) -> Drawing:
    """Draw the RMSE of each network against the number of training galaxies, both axes logarithmic.

    The law of each is solid among its points and dotted from there to `at` galaxies, with 95% of its
    bootstrap samples; at most seven networks. Returns points, laws and what they give `at`.
    """
    series = [
        part for curve, line in zip(networks.items(), SERIES, strict=False) for part in _law(*curve, line, at)
    ]
    sizes = sorted({int(size) for curve in networks.values() for size in curve.galaxies})
    panel = Panel(series, "training galaxies", "RMSE", log="xy", xticks=[*sizes, at])
    figure, _ = curves([panel], size=(PAGE * 0.85, 3.6))
    axes = figure.axes[0]
    _size_axes(axes, sizes, at)
    return figure, plain({name: _law_numbers(curve, at) for name, curve in networks.items()} | {"at": at})


def _law(name: str, curve: LearningCurve, line: Mapping[str, Any], at: int) -> list[Series]:
    """Return the points, the law among them, the law beyond them, and its value at the last place."""
    largest = curve.galaxies.max()
    inside, beyond = np.geomspace(curve.galaxies.min(), largest, 80), np.geomspace(largest, at, 80)
    spread, (low, high) = np.nan_to_num(curve.sd), curve.interval_95(at)
    points = {**line, "linestyle": "none", "markersize": 5}
    solid = {"color": line["color"], "marker": "", "linestyle": "-"}
    dotted, band = {**solid, "linestyle": ":"}, curve.interval_95(beyond)
    return [
        Series(name, curve.galaxies, curve.rmse, curve.rmse - spread, curve.rmse + spread, points),
        Series("_", inside, curve.law.at(inside), style=solid),
        Series("_", beyond, curve.law.at(beyond), band[0], band[1], dotted, band=True),
        Series("_", at, float(curve.law.at(at)), low, high, {**points, "markerfacecolor": "white"}),
    ]


def _law_numbers(curve: LearningCurve, at: int) -> dict[str, Any]:
    points = {"galaxies": curve.galaxies, "rmse": curve.rmse, "sd": curve.sd, "law": vars(curve.law)}
    return {**points, "extrapolated": curve.law.at(at), "interval_95": curve.interval_95(at)}


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
    columns = {
        state: {
            key: [trial[key] for trial in trials if trial["state"] == state] for key in ("number", "value")
        }
        for state in TRIALS
    }
    line = best_so_far(trials, lowest=lowest)
    values = [value for column in columns.values() for value in column["value"] if value is not None]
    edge = min(values, default=0.0) - 0.08 * (np.ptp(values) if len(values) > 1 else 1.0)
    series = []
    for state, (label, style) in TRIALS.items():
        y = [edge if state == "fail" else np.nan if v is None else v for v in columns[state]["value"]]
        if y:
            series.append(Series(label, columns[state]["number"], y, style={"linestyle": "none", **style}))
    if line:
        steps = {"color": INK, "linewidth": 1, "linestyle": "-", "marker": "", "drawstyle": "steps-post"}
        numbers, best = zip(*line, strict=True)
        series.append(Series("best so far", numbers, best, style=steps))
    limits = -0.7, max(trial["number"] for trial in trials) + 0.7
    figure, _ = curves([Panel(series, "trial", what, xlim=limits, xticks="integers")], size=(PAGE, 2.8))
    figure.axes[0].margins(y=0.12)
    return figure, plain({**columns, "best_so_far": line})


def best_so_far(trials: Sequence[Mapping[str, Any]], *, lowest: bool = True) -> list[tuple[int, float]]:
    """Return number and best value so far of the trials that were trained to the end, in their order."""
    better = min if lowest else max
    line: list[tuple[int, float]] = []
    for trial in sorted(trials, key=lambda trial: trial["number"]):
        if trial["state"] == "complete":
            value = float(trial["value"])
            line.append((trial["number"], better(value, line[-1][1]) if line else value))
    return line


def importances(shares: Mapping[str, float]) -> Drawing:
    """Draw the share of the spread of the trials' results that each setting explains. Returns the shares."""
    names = sorted(shares, key=lambda name: -shares[name])
    values = [shares[name] for name in names]
    bars = Series(
        "_", values, range(len(names)), style={"color": BLUE}, bar=0.65, texts=[f"{v:.2f}" for v in values]
    )
    labels = [name.replace("_", " ") for name in names]
    panel = Panel([bars], "share of the spread of the results")
    figure, _ = intervals(labels, [panel], width=PAGE * 0.7, legend="")
    figure.axes[0].margins(x=0.12)
    return figure, plain(dict(shares))


def correlation_matrix(tree: DecisionTree, rho: NDArray) -> Drawing:
    """Draw the correlations (answer, answer) of all answers; cells of negative ones carry a dash.

    Lines part the questions. Cells without a value are left white. Returns the answers and the matrix.
    """
    names = [_name(tree, column) for column in range(len(tree.columns))]
    figure, _ = heatmap(rho, names, _codes(tree), parts=[answers.start for answers in tree.slices[1:]])
    return figure, plain({"answers": list(tree.columns), "rho": rho})


CELL, PAD, GAP = 0.27, 0.06, 0.22  # inches
HEAD, FOOT, BAR = 0.34, 0.2, 0.52


@in_house_style
def correlation_submatrices(tree: DecisionTree, rho: NDArray) -> Drawing:
    """Draw, for every question, the correlations of its answers, each with its value in hundredths.

    `rho` is (answer, answer). Returns per question its answers and the submatrix.
    """
    boxes, height = _boxes(tree)
    figure = new_figure(PAGE, height, layout=None)
    numbers = {}
    for question, answers, box in zip(tree.questions, tree.slices, boxes, strict=True):
        inner = rho[answers, answers]
        _submatrix(figure, tree, answers, box, inner)
        left, top, label, side = box
        width = label + side
        head = wrapped(f"{question.task} {question.name.replace('_', ' ')}", width, SMALL)
        place = (left + width) / PAGE, 1 - (top + HEAD - PAD) / height
        style: dict[str, Any] = {"fontsize": SMALL, "fontweight": "bold", "linespacing": 1.1}
        figure.text(*place, head, ha="right", va="bottom", **style)
        numbers[question.name] = {"answers": [answer.name for answer in question.answers], "rho": inner}
    bar = figure.colorbar(
        ScalarMappable(SCALE, SIGNED),
        cax=figure.add_axes((0.3, 0.24 / height, 0.4, 0.07 / height)),
        orientation="horizontal",
    )
    bar.outline.set_linewidth(0.4)
    bar.ax.text(-0.03, 0.5, "correlation ρ", transform=bar.ax.transAxes, ha="right", va="center")
    return figure, plain(numbers)


def _boxes(tree: DecisionTree) -> tuple[list[tuple[float, float, float, float]], float]:
    """Set the submatrices in rows, in the order of the questions, as many to a row as fit.

    Returns left, top, width of the labels and side of each, in inches from the upper left corner, and the
    height of the page.
    """
    boxes: list[tuple[float, float, float, float]] = []
    left = top = row = 0.0
    for answers in tree.slices:
        columns = range(answers.start, answers.stop)
        label = max(text_width(_name(tree, column), SMALL) for column in columns) + 2 * PAD
        side = CELL * len(columns)
        if left + label + side > PAGE:
            left, top, row = 0.0, top + row, 0.0
        boxes.append((left, top, label, side))
        left, row = left + label + side + GAP, max(row, HEAD + side + FOOT)
    return boxes, top + row + BAR


def _submatrix(
    figure: Figure, tree: DecisionTree, answers: slice, box: tuple[float, float, float, float], rho: NDArray
) -> None:
    left, top, label, side = box
    wide, tall = figure.get_size_inches()
    corner = (left + label) / wide, 1 - (top + HEAD + side) / tall
    axes = figure.add_axes((*corner, side / wide, side / tall))
    names = [_name(tree, column) for column in range(answers.start, answers.stop)]
    draw_matrix(axes, rho, names, _codes(tree)[answers])
    axes.tick_params(pad=1.5)
    for (row, column), value in np.ndenumerate(rho):
        if np.isfinite(value):
            colour = "white" if abs(value) > FLIP else INK
            text = str(round(100 * value)).replace("-", "−")
            axes.text(column, row, text, ha="center", va="center", fontsize=SMALL, color=colour)


def _codes(tree: DecisionTree) -> list[str]:
    """Return the short numbers of the answers: 1.1 for Class1.1."""
    return [column.removeprefix("Class") for column in tree.source_columns]


def _name(tree: DecisionTree, column: int) -> str:
    return f"{tree.answers[column].text}  {_codes(tree)[column]}"
