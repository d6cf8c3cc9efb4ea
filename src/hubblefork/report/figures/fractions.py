"""Fractions by several estimators: side by side, against the threshold, in bins, beside published ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from astropy import units
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter
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
from hubblefork.stats.calibration import fitted_chance
from hubblefork.stats.detection import Calibration
from hubblefork.stats.estimators import LABELS, Estimate
from hubblefork.stats.prevalence import Fraction
from hubblefork.stats.rates import Rate

PUBLISHED: tuple[tuple[str, float, float], ...] = (
    ("Darg et al. 2010, Galaxy Zoo 1, C = 1.5", 0.015, 0.045),
    ("Casteels et al. 2014, major, 10⁹·⁵–10¹¹·⁵ M☉", 0.013, 0.020),
    ("De Propris et al. 2014, GAMA", 0.015, 0.015),
    ("De Propris et al. 2007, MGC", 0.020, 0.020),
)
"""Local merger fractions: arXiv:0903.4937, (1–3) C % with C ≈ 1.5; arXiv:1409.1358; GAMA, f ≈ 0.015; MGC,
about 2%. Each has its own sample, mass ratios and way of recognising mergers."""
RATE_UNIT = units.Mpc**-3 / units.Gyr
PUBLISHED_RATES: tuple[tuple[str, float, float, float], ...] = (
    ("Casteels et al. 2014", 1.2e-3, 0.7e-3, 1.7e-3),
    ("De Propris et al. 2014, GAMA", 3.5e-4, 3.5e-4, 3.5e-4),
)
"""Local merger rates by volume in 1/(Mpc³ Gyr), of the same works; the second is quoted without an error."""


@in_house_style
def estimators_side_by_side(
    samples: Mapping[str, Fraction], *, truths: Mapping[str, float] | None = None
) -> Drawing:
    """Draw every estimator of one or several samples with its interval, the default in ink.

    `truths` maps a sample's name to what its volunteers say, drawn as a line. Returns the numbers of all.
    """
    rows = list(next(iter(samples.values())).estimates)
    figure = new_figure(PAGE, 0.21 * len(rows) + 0.75)
    panels = figure.subplots(1, len(samples), sharey=True, squeeze=False)[0]
    for panel, (name, found) in zip(panels, samples.items(), strict=True):
        _interval_rows(panel, rows, found)
        truth = (truths or {}).get(name)
        if truth is not None:
            panel.axvline(truth, color=GREY, linestyle="--", linewidth=1, zorder=0, label="volunteers")
            panel.legend(loc="lower right")
        panel.set_title(f"{name} ({found.galaxies:,} galaxies)")
        panel.set_xlabel(f"fraction with {found.truth.text}")
        panel.set_xlim(left=0)
    panels[0].set_yticks(range(len(rows)), [LABELS[row] for row in rows])
    panels[0].set_ylim(len(rows) - 0.4, -0.6)
    numbers = {name: found.as_json() for name, found in samples.items()}
    return figure, plain({"samples": numbers, "volunteers": dict(truths or {})})


def _interval_rows(panel: Axes, rows: Sequence[str], found: Fraction) -> None:
    quoted = found.estimator
    for place, name in enumerate(rows):
        one = found.estimates[name]
        if not isinstance(one, Estimate):
            panel.text(
                0.02, place, "not available", transform=panel.get_yaxis_transform(), color=GREY, va="center",
                fontsize=SMALL,
            )  # fmt: skip
            continue
        style = {"color": INK, "marker": "s"} if name == quoted else {**SERIES[0], "linestyle": "none"}
        error = [[one.value - one.low], [one.high - one.value]]
        panel.errorbar(one.value, place, xerr=error, capsize=2, linewidth=1, **style)
    panel.tick_params(axis="y", length=0)
    panel.grid(axis="x", color=FAINT, linewidth=0.5)
    panel.set_axisbelow(True)


@in_house_style
def estimates_against_threshold(
    swept: Sequence[Fraction], *, marked: float | None = None, votes: NDArray | None = None
) -> Drawing:
    """Draw count, default and quantile-mapped fraction against the threshold, logarithmically.

    `swept` are measurements at rising thresholds; `votes` the volunteers' fractions of the same galaxies
    where they are known, shape (galaxy,). Bands are intervals. Returns the curves.
    """
    thresholds = [found.truth.threshold or 0.0 for found in swept]
    names = {"count": "counted above the threshold", "corrected": "corrected", "quantile": "quantile mapping"}
    figure = new_figure(PAGE * 0.72, 3.1)
    panel = figure.add_subplot()
    floor = 0.4 / swept[0].galaxies
    for line, (name, label) in zip(SERIES, names.items(), strict=False):
        _swept_curve(panel, line, label, [found.estimates[name] for found in swept], thresholds, floor)
    if votes is not None:
        shares = np.array([np.mean(votes >= threshold) for threshold in thresholds])
        panel.plot(thresholds, np.where(shares > 0, shares, np.nan), label="volunteers", **SERIES[4])
    if marked is not None:
        panel.axvline(marked, color=GREY, linewidth=0.8, linestyle=":", zorder=0)
    panel.set_yscale("log")
    panel.set_ylim(floor, 1)
    panel.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:g}"))
    panel.set_xlabel(f"threshold on the joint fraction of “{swept[0].truth.answer}”")
    panel.set_ylabel("fraction of galaxies")
    panel.legend()
    estimators = [found.as_json()["estimators"] for found in swept]
    return figure, plain({"thresholds": thresholds, "estimators": estimators})


def _swept_curve(
    panel: Axes,
    line: Mapping[str, Any],
    label: str,
    curve: Sequence[Any],
    thresholds: Sequence[float],
    floor: float,
) -> None:
    value, low, high = (_side(curve, side) for side in ("value", "low", "high"))
    panel.fill_between(
        thresholds, np.maximum(low, floor), np.maximum(high, floor), color=line["color"], alpha=0.14, lw=0
    )
    panel.plot(thresholds, np.where(value > 0, value, np.nan), label=label, **line)


@in_house_style
def fraction_in_bins(binned: Mapping[tuple[float, float], Fraction | None], *, name: str = "") -> Drawing:
    """Draw count and default in each bin with their intervals. Returns both by bin."""
    figure = new_figure(PAGE * 0.72, 2.8)
    panel = figure.add_subplot()
    there = {edges: found for edges, found in binned.items() if found is not None}
    centres = np.array([(low + high) / 2 for low, high in there])
    widths = np.array([(high - low) / 2 for low, high in there])
    for line, (label, pick) in zip(SERIES, (("count", False), ("default", True)), strict=False):
        ones = [found.estimate if pick else _count(found) for found in there.values()]
        values, low, high = (_side(ones, side) for side in ("value", "low", "high"))
        errors = [values - low, high - values]
        shifted = centres + (0.12 * widths if pick else -0.12 * widths)
        panel.errorbar(
            shifted, values, yerr=errors, xerr=widths * (0 if pick else 1), capsize=2, label=label,
            **{**line, "linestyle": "none"},
        )  # fmt: skip
    panel.set_ylim(bottom=0)
    panel.set_xlabel(name or "bin")
    panel.set_ylabel("fraction")
    panel.legend()
    numbers = [
        {"low": low, "high": high, **(found.as_json() if found else {})}
        for (low, high), found in binned.items()
    ]
    return figure, plain({"bins": numbers})


def _side(ones: Sequence[Any], side: str) -> NDArray[np.float64]:
    return np.array([getattr(one, side) if isinstance(one, Estimate) else np.nan for one in ones])


def _count(found: Fraction) -> Estimate:
    count = found.estimates["count"]
    assert isinstance(count, Estimate)
    return count


@in_house_style
def beside_published(found: Fraction, *, rate: Rate | None = None) -> Drawing:
    """Draw the default merger fraction and the count beside published local ones, logarithmically.

    With a `rate` by volume, the rates below. Published values: see `PUBLISHED` and `PUBLISHED_RATES`.
    Returns all of them.
    """
    quoted = {"this catalogue, default": found.estimate, "this catalogue, count": _count(found)}
    rows = {
        "fractions": [
            *((name, one.value, one.low, one.high) for name, one in quoted.items()),
            *((name, (low + high) / 2, low, high) for name, low, high in PUBLISHED),
        ]
    }
    if rate is not None:
        values = [side.to_value(RATE_UNIT) for side in (rate.value, rate.low, rate.high)]
        rows["rates"] = [("this catalogue, default", *values), *PUBLISHED_RATES]
    figure = new_figure(PAGE * 0.8, sum(0.24 * len(entries) + 0.7 for entries in rows.values()))
    heights = [len(entries) for entries in rows.values()]
    panels = figure.subplots(len(rows), 1, height_ratios=heights, squeeze=False)[:, 0]
    labels = ("merger fraction", "mergers a Mpc³ and Gyr")
    for panel, entries, label in zip(panels, rows.values(), labels, strict=False):
        _beside(panel, entries, label)
    keys = ("name", "value", "low", "high")
    numbers = {key: [dict(zip(keys, row, strict=True)) for row in entries] for key, entries in rows.items()}
    return figure, plain(numbers)


def _beside(panel: Axes, rows: Sequence[tuple[str, float, float, float]], label: str) -> None:
    """Draw rows of name, value and interval; those of this catalogue in colour."""
    for place, (name, value, low, high) in enumerate(rows):
        line = SERIES[0] if name.startswith("this catalogue") else {"color": GREY, "marker": "D"}
        error = [[value - low], [high - value]]
        panel.errorbar(value, place, xerr=error, capsize=2, **{**line, "linestyle": "none"})
    panel.set_yticks(range(len(rows)), [row[0] for row in rows])
    panel.set_ylim(len(rows) - 0.4, -0.6)
    panel.set_xscale("log")
    least = min(row[1] for row in rows if row[1] > 0) / 8
    most = max(row[3] for row in rows)
    panel.set_xlim(max(least, 0.8 * min(row[2] for row in rows)), 1.3 * most)
    ticks = [digit * 10.0**power for power in range(-6, 1) for digit in (1, 2, 5)]
    shown = [tick for tick in ticks if panel.get_xlim()[0] <= tick <= panel.get_xlim()[1]]
    panel.set_xticks(shown, [f"{tick:g}" for tick in shown])
    panel.set_xticks([], minor=True)
    panel.tick_params(axis="y", length=0)
    panel.grid(axis="x", color=FAINT, linewidth=0.5)
    panel.set_axisbelow(True)
    panel.set_xlabel(label)


@in_house_style
def regression_to_the_mean(known: Calibration, votes: NDArray, *, threshold: float) -> Drawing:
    """Draw what predictions mean on calibration galaxies: votes against predictions, and the chance of truth.

    `votes` are the volunteers' fractions of the calibration galaxies, shape (galaxy,). Left: both, with
    the threshold on either. Right: how many galaxies reach each fraction, by votes and predicted. Returns the
    isotonic fit and both curves.
    """
    assert known.score is not None
    figure = new_figure(PAGE, 2.9)
    left, right = figure.subplots(1, 2)
    left.plot(
        known.score, votes, linestyle="none", marker="o", markersize=2, color=SERIES[0]["color"], alpha=0.4
    )
    left.plot([0, 1], [0, 1], color=GREY, linewidth=0.7)
    grid = np.linspace(0, max(float(known.score.max()), threshold), 101)
    chance = fitted_chance(known.score, known.truth).predict(grid)
    left.plot(grid, chance, color=SERIES[1]["color"], label=f"chance of votes ≥ {threshold:g} (isotonic)")
    left.axhline(threshold, color=GREY, linewidth=0.7, linestyle=":")
    left.axvline(threshold, color=GREY, linewidth=0.7, linestyle=":")
    left.set(
        xlabel="predicted fraction", ylabel="volunteers' fraction", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02)
    )
    left.legend(loc="lower right")
    steps = np.linspace(0, 1, 101)
    shares = {"volunteers": votes, "predicted": known.score}
    curves = {name: [float(np.mean(values >= step)) for step in steps] for name, values in shares.items()}
    for line, (name, curve) in zip(SERIES, curves.items(), strict=False):
        right.plot(steps, np.where(np.array(curve) > 0, curve, np.nan), label=name, markevery=10, **line)
    right.set_yscale("log")
    right.axvline(threshold, color=GREY, linewidth=0.7, linestyle=":")
    right.set(xlabel="fraction", ylabel="share of galaxies at or above")
    right.legend()
    found = {"grid": grid, "chance": chance, "steps": steps, "curves": curves}
    return figure, plain({"threshold": threshold, "galaxies": len(votes), **found})
