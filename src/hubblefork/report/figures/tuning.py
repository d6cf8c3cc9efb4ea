"""How a tuning went: what each trial came to, and which settings mattered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from hubblefork.report.figures.numbers import plain
from hubblefork.report.figures.style import (
    BLUE,
    GREY,
    INK,
    PAGE,
    SMALL,
    VERMILION,
    Drawing,
    in_house_style,
    new_figure,
)

MARKS: Mapping[str, dict[str, Any]] = {
    "complete": {"marker": "o", "color": BLUE, "label": "trained to the end"},
    "pruned": {"marker": "x", "color": GREY, "label": "pruned, its last value"},
    "fail": {"marker": "v", "color": VERMILION, "label": "failed"},
}


@in_house_style
def trial_history(trials: Sequence[Mapping[str, Any]], *, what: str, lowest: bool = True) -> Drawing:
    """Draw what each trial came to against its number, with the best so far as a line.

    `trials` have `number`, `state` ("complete", "pruned" or "fail", others are not drawn) and `value` (None
    for a trial without); `what` names the value. Failed trials stand at the lower edge. Returns the numbers.
    """
    figure = new_figure(PAGE, 2.8)
    panel = figure.add_subplot()
    found: dict[str, Any] = {}
    for state, mark in MARKS.items():
        here = [trial for trial in trials if trial["state"] == state]
        numbers = [trial["number"] for trial in here]
        if state == "fail":
            style = {**mark, "transform": panel.get_xaxis_transform(), "clip_on": False}
            values: list[Any] = [0.0] * len(here)
        else:
            style, values = dict(mark), [np.nan if t["value"] is None else t["value"] for t in here]
        if here:
            panel.plot(numbers, values, linestyle="none", **style)
        found[state] = {"number": numbers, "value": [trial["value"] for trial in here]}
    line = best_so_far(trials, lowest=lowest)
    if line:
        panel.step(*zip(*line, strict=True), where="post", color=INK, linewidth=1, label="best so far")
    panel.set_xlabel("trial")
    panel.set_ylabel(what)
    panel.set_xlim(-0.7, max(trial["number"] for trial in trials) + 0.7)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    panel.margins(y=0.12)
    figure.legend(loc="outside upper center", ncols=4)
    return figure, plain({**found, "best_so_far": line})


def best_so_far(trials: Sequence[Mapping[str, Any]], *, lowest: bool = True) -> list[tuple[int, float]]:
    """Return number and best value so far of the trials that were trained to the end, in their order."""
    better = min if lowest else max
    line: list[tuple[int, float]] = []
    for trial in sorted(trials, key=lambda trial: trial["number"]):
        if trial["state"] == "complete":
            value = float(trial["value"])
            line.append((trial["number"], better(value, line[-1][1]) if line else value))
    return line


@in_house_style
def importances(shares: Mapping[str, float]) -> Drawing:
    """Draw the share of the spread of the trials' results that each setting explains. Returns the shares."""
    names = sorted(shares, key=lambda name: shares[name])
    figure = new_figure(PAGE * 0.7, 0.6 + 0.22 * len(names))
    panel = figure.add_subplot()
    panel.barh(range(len(names)), [shares[name] for name in names], color=BLUE, height=0.65)
    for row, name in enumerate(names):
        panel.text(shares[name], row, f" {shares[name]:.2f}", va="center", fontsize=SMALL, color=INK)
    panel.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    panel.tick_params(axis="y", length=0)
    panel.set_xlabel("share of the spread of the results")
    panel.margins(x=0.12)
    return figure, plain(dict(shares))
