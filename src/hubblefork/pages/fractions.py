"""The figures of fractions: estimators, thresholds, bins, published values; each returns its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from astropy import units
from matplotlib.axes import Axes
from numpy.typing import NDArray

from hubblefork.pages.plots import Panel, Series, curves, draw_rows, intervals
from hubblefork.pages.style import (
    FAINT,
    GREY,
    INK,
    NORMAL,
    PAGE,
    SERIES,
    VERMILION,
    Drawing,
    in_house_style,
    new_figure,
)
from hubblefork.pages.tables import plain
from hubblefork.stats.detection import Calibration, fitted_chance
from hubblefork.stats.estimators import INTERVAL, LABELS, LEVEL, MERGER, THRESHOLD, Estimate, count_above
from hubblefork.stats.prevalence import Fraction
from hubblefork.stats.rates import Rate
from hubblefork.zoo import DecisionTree

THRESHOLDS = tuple(round(0.01 * step, 2) for step in range(1, 101))
PUBLISHED: tuple[tuple[str, float, float], ...] = (
    ("Darg et al. 2010, Galaxy Zoo 1, C = 1.5", 0.015, 0.045),
    ("Casteels et al. 2014, major, 10⁹·⁵–10¹¹·⁵ M☉", 0.013, 0.020),
    ("De Propris et al. 2014, GAMA", 0.015, 0.015),
    ("De Propris et al. 2007, MGC", 0.020, 0.020),
)
"""Local merger fractions: arXiv:0903.4937, (1–3) C % with C ≈ 1.5; arXiv:1409.1358; GAMA, f ≈ 0.015; MGC,
about 2%. Each has its own sample, mass ratios and definition of a merger."""
RATE_UNIT = units.Mpc**-3 / units.Gyr
PUBLISHED_RATES: tuple[tuple[str, float, float, float], ...] = (
    ("Casteels et al. 2014", 1.2e-3, 0.7e-3, 1.7e-3),
    ("De Propris et al. 2014, GAMA", 3.5e-4, 3.5e-4, 3.5e-4),
)
"""Local merger rates by volume in 1/(Mpc³ Gyr), of the same works; the second is quoted without an error."""
ESTIMATORS = {
    "count": "count",
    "corrected": "corrected (default)",
    "bayesian": "corrected, Bayesian",
    "isotonic": "isotonic",
    "quantile": "quantile mapping",
}
NOMINAL = {"coverage_68%": 0.68, "coverage_95%": 0.95}
Summaries = Mapping[str, Sequence[Mapping[str, Any]]]


@in_house_style
def fraction_against_threshold(
    tree: DecisionTree,
    samples: Mapping[str, NDArray],
    *,
    answer: str = MERGER,
    marked: float = THRESHOLD,
    thresholds: Sequence[float] = THRESHOLDS,
) -> Drawing:
    """Draw the share of galaxies whose joint fraction of an answer reaches each threshold.

    `samples` maps a name ("volunteers") to joint fractions (galaxy, answer). Bands are binomial
    intervals, `marked` a threshold to point at. The scale is logarithmic, so a curve ends where no
    galaxy is left, its band goes on. Returns per sample the counts, shares and bounds. Raises
    CatalogueError for a sample without any value.
    """
    series: list[Series] = []
    numbers: dict[str, Any] = {}
    for name, joint in samples.items():
        fractions = [count_above(tree, joint, answer=answer, threshold=t) for t in thresholds]
        keys = ("threshold", "count", "value", "low", "high")
        columns = {key: np.array([getattr(fraction, key) for fraction in fractions]) for key in keys}
        total = fractions[0].total
        numbers[name] = {"total": total, **columns}
        shares = np.where(columns["count"] > 0, columns["value"], np.nan)
        label = f"{name} ({total} galaxies)"
        series.append(Series(label, thresholds, shares, columns["low"], columns["high"], band=True))
    floor = 0.4 / max(sample["total"] for sample in numbers.values())
    text = tree.answers[tree.column(answer)].text
    labels = f"threshold on the joint fraction of “{text}”", "share of galaxies at or above"
    line = [(marked, f"threshold {marked:g}")]
    panel = Panel(series, *labels, log="y", xlim=(0, 1), ylim=(floor, 1.3), vertical=line)
    figure, _ = curves([panel], size=(PAGE * 0.72, 3.0), legend="inside")
    return figure, plain({"answer": answer, "interval": INTERVAL, "level": LEVEL, "samples": numbers})


@in_house_style
def estimators_side_by_side(
    samples: Mapping[str, Fraction], *, truths: Mapping[str, float] | None = None
) -> Drawing:
    """Draw every estimator of one or several samples with its interval, the default in ink.

    `truths` maps a sample's name to what its volunteers say, drawn as a line. Returns the numbers of all.
    """
    names = list(next(iter(samples.values())).estimates)
    panels = []
    for name, measured in samples.items():
        estimates = [measured.estimates[estimator] for estimator in names]
        value, low, high = (_side(estimates, side) for side in ("value", "low", "high"))
        default = np.array([estimator == measured.estimator for estimator in names])
        series = []
        for which, style in ((~default, {}), (default, {"color": INK, "marker": "s"})):
            sides = (value[which], np.flatnonzero(which), low[which], high[which])
            series.append(Series("_estimators", *sides, style))
        truth = (truths or {}).get(name)
        lines = [] if truth is None else [(truth, "volunteers")]
        title = f"{name} ({measured.galaxies:,} galaxies)"
        label = f"fraction with {measured.truth.text}"
        panels.append(Panel(series, label, title=title, xlim=(0, None), vertical=lines))
    labels = [LABELS[name] for name in names]
    figure, _ = intervals(labels, panels, legend="inside", grid=True, absent="not available")
    numbers = {name: measured.as_json() for name, measured in samples.items()}
    return figure, plain({"samples": numbers, "volunteers": dict(truths or {})})


@in_house_style
def estimates_against_threshold(
    swept: Sequence[Fraction], *, marked: float | None = None, votes: NDArray | None = None
) -> Drawing:
    """Draw count, default and quantile-mapped fraction against the threshold, logarithmically.

    `swept` are measurements at rising thresholds; `votes` the volunteers' fractions of the same galaxies
    where they are known, shape (galaxy,). Bands are intervals. Returns the curves.
    """
    thresholds = np.array([measured.truth.threshold or 0.0 for measured in swept])
    names = {"count": "counted above the threshold", "corrected": "corrected", "quantile": "quantile mapping"}
    floor, series = 0.4 / swept[0].galaxies, []
    for name, label in names.items():
        estimates = [measured.estimates[name] for measured in swept]
        value, low, high = (_side(estimates, side) for side in ("value", "low", "high"))
        bounds = np.fmax(low, np.where(np.isnan(low), np.nan, floor)), high
        series.append(Series(label, thresholds, _positive(value), *bounds, band=True))
    if votes is not None:
        shares = np.array([np.mean(votes >= threshold) for threshold in thresholds])
        series.append(Series("volunteers", thresholds, _positive(shares), style=SERIES[4]))
    label = f"threshold on the joint fraction of “{swept[0].truth.answer}”"
    lines = [] if marked is None else [(marked, "")]
    panel = Panel(series, label, "fraction of galaxies", log="y", ylim=(floor, 1), vertical=lines)
    figure, _ = curves([panel], size=(PAGE * 0.72, 3.1), legend="inside")
    estimators = [measured.as_json()["estimators"] for measured in swept]
    return figure, plain({"thresholds": thresholds, "estimators": estimators})


@in_house_style
def fraction_in_bins(binned: Mapping[tuple[float, float], Fraction | None], *, name: str = "") -> Drawing:
    """Draw count and default in each bin with their intervals. Returns both by bin."""
    there = {edges: measured for edges, measured in binned.items() if measured is not None}
    low, high = np.array(list(there)).reshape(-1, 2).T
    counts = [measured.estimates["count"] for measured in there.values()]
    defaults = [measured.estimate for measured in there.values()]
    series = []
    for label, estimates, shift in (("count", counts, -0.06), ("default", defaults, 0.06)):
        value, lower, upper = (_side(estimates, side) for side in ("value", "low", "high"))
        place = (low + high) / 2 + shift * (high - low)
        series.append(Series(label, place, value, lower, upper, {"linestyle": "none"}))
    panel = Panel(series, name or "bin", "fraction", ylim=(0, None))
    figure, _ = curves([panel], size=(PAGE * 0.72, 2.8), legend="inside")
    widths = {"color": SERIES[0]["color"], "linewidth": 0.8, "zorder": 0}
    figure.axes[0].hlines(_side(counts, "value"), low, high, **widths)
    numbers = [
        {"low": low, "high": high, **(measured.as_json() if measured else {})}
        for (low, high), measured in binned.items()
    ]
    return figure, plain({"bins": numbers})


def _side(estimates: Sequence[Any], side: str) -> NDArray[np.float64]:
    return np.array([getattr(one, side) if isinstance(one, Estimate) else np.nan for one in estimates])


def _positive(values: NDArray) -> NDArray[np.float64]:
    return np.where(values > 0, values, np.nan)


@in_house_style
def beside_published(measured: Fraction, *, rate: Rate | None = None) -> Drawing:
    """Draw the default merger fraction and the count with published local ones, logarithmically.

    With a `rate` by volume, the rates below. Published values: see `PUBLISHED` and `PUBLISHED_RATES`.
    Returns all of them.
    """
    quoted = {"default": measured.estimate, "count": measured.estimates["count"]}
    ours = [(f"this catalogue, {name}", _sides(estimate)) for name, estimate in quoted.items()]
    rows = {"fractions": [*ours, *((name, ((low + high) / 2, low, high)) for name, low, high in PUBLISHED)]}
    if rate is not None:
        sides = tuple(side.to_value(RATE_UNIT) for side in (rate.value, rate.low, rate.high))
        published = [(name, tuple(values)) for name, *values in PUBLISHED_RATES]
        rows["rates"] = [("this catalogue, default", sides), *published]
    heights = [len(entries) for entries in rows.values()]
    figure = new_figure(PAGE * 0.8, sum(0.24 * height + 0.7 for height in heights))
    panels = figure.subplots(len(rows), 1, height_ratios=heights, squeeze=False)[:, 0]
    labels = ("merger fraction", "mergers a Mpc³ and Gyr")
    for axes, entries, label in zip(panels, rows.values(), labels, strict=False):
        _published_panel(axes, entries, label)
    keys = ("value", "low", "high")
    return figure, plain(
        {
            quantity: [{"name": name, **dict(zip(keys, sides, strict=True))} for name, sides in entries]
            for quantity, entries in rows.items()
        }
    )


def _sides(estimate: Any) -> tuple[float, ...]:
    return estimate.value, estimate.low, estimate.high


def _published_panel(axes: Axes, entries: Sequence[tuple[str, tuple[float, ...]]], label: str) -> None:
    """Draw rows of a name, a value and its interval; those of this catalogue in colour."""
    names = [name for name, _ in entries]
    value, low, high = np.array([sides for _, sides in entries]).T
    ours = np.array([name.startswith("this catalogue") for name in names])
    series = [
        Series("_", value[which], np.flatnonzero(which), low[which], high[which], style)
        for which, style in ((ours, {}), (~ours, {"color": GREY, "marker": "D"}))
    ]
    limits = max(value[value > 0].min() / 8, 0.8 * low.min()), 1.3 * high.max()
    ticks = [digit * 10.0**power for power in range(-6, 1) for digit in (1, 2, 5)]
    shown = [tick for tick in ticks if limits[0] <= tick <= limits[1]]
    draw_rows(axes, names, Panel(series, label, log="x", xlim=limits, xticks=shown), grid=True)


@in_house_style
def regression_to_the_mean(known: Calibration, votes: NDArray, *, threshold: float) -> Drawing:
    """Draw what predictions mean on calibration galaxies: votes against predictions, and the chance of truth.

    `votes` are the volunteers' fractions of the calibration galaxies, shape (galaxy,). Left: both, with
    the threshold on either. Right: how many galaxies reach each fraction, by votes and predicted. Returns the
    isotonic fit and both curves.
    """
    assert known.score is not None
    grid = np.linspace(0, max(float(known.score.max()), threshold), 101)
    chance = fitted_chance(known.score, known.truth).predict(grid)
    steps = np.linspace(0, 1, 101)
    samples = {"volunteers": votes, "predicted": known.score}
    shares = {name: np.array([np.mean(values >= step) for step in steps]) for name, values in samples.items()}
    dots = {"linestyle": "none", "marker": "o", "markersize": 2, "alpha": 0.4}
    points = Series("_", known.score, votes, style=dots)
    law = Series(f"chance of votes ≥ {threshold:g} (isotonic)", grid, chance, style={"marker": ""})
    grey = {"color": GREY, "linewidth": 0.7, "marker": "", "linestyle": "-"}
    diagonal = Series("_", [0, 1], [0, 1], style=grey)
    marks, unit = [(threshold, "")], (-0.02, 1.02)
    labels = "predicted fraction", "volunteers' fraction"
    left = Panel([points, law, diagonal], *labels, xlim=unit, ylim=unit, vertical=marks, horizontal=marks)
    series = [Series(name, steps, _positive(values)) for name, values in shares.items()]
    right = Panel(series, "fraction", "share of galaxies at or above", log="y", vertical=marks)
    figure, _ = curves([left, right], size=(PAGE, 2.9), legend="inside")
    numbers = {"grid": grid, "chance": chance, "steps": steps, "curves": shares}
    numbers["shares"] = {"volunteers": known.truth.mean(), "predicted": known.counts.mean()}
    return figure, plain({"threshold": threshold, "galaxies": len(votes), **numbers})


def bias_of_estimators(scenarios: Mapping[str, Summaries]) -> Drawing:
    """Draw what each estimator recovers on average, divided by the fraction put in.

    `scenarios` maps a title to summaries by estimator, one for each fraction (see `studies.injection`).
    Bars are the Monte Carlo error of the mean. Returns the summaries.
    """
    panels = []
    for title, summaries in scenarios.items():
        series = []
        for number, name in enumerate(ESTIMATORS):
            fraction, mean, error = _recovered(summaries[name], "mean", "bias_error")
            ratio, error = mean / fraction, error / fraction
            place = fraction * 1.06 ** (number - 2)
            series.append(Series(ESTIMATORS[name], place, ratio, ratio - error, ratio + error))
        ticks = (0.2, 0.5, 1.0, 2.0, 5.0)
        panel = Panel(series, title=title, log="xy", ylim=(0.2, 10), yticks=ticks, horizontal=[(1, "")])
        panels.append(_true_fractions(panel))
    rows = 1 if len(panels) < 4 else 2
    figure, _ = curves(panels, rows=rows, size=(PAGE, 2.7 if rows == 1 else 4.8), share="all")
    for axes in figure.axes:
        axes.label_outer()
    figure.supylabel("mean recovered / put in", fontsize=NORMAL)
    return figure, plain({title: dict(summaries) for title, summaries in scenarios.items()})


def coverage_of_intervals(scenarios: Mapping[str, Summaries]) -> Drawing:
    """Draw how often each estimator's 68% and 95% interval holds the fraction put in.

    The bands are two binomial errors of as many realisations around 0.68 and 0.95. Returns the coverages.
    """
    panels = []
    for key, nominal in reversed(NOMINAL.items()):
        for title, summaries in scenarios.items():
            series = []
            for number, name in enumerate(ESTIMATORS):
                fraction, coverage = _recovered(summaries[name], key)
                series.append(Series(ESTIMATORS[name], fraction * 1.06 ** (number - 2), coverage))
            panel = Panel(series, title=title, log="x", ylim=(-0.02, 1.03), horizontal=[(nominal, "")])
            panels.append(_true_fractions(replace(panel, ylabel=f"coverage of the {nominal:.0%} interval")))
    figure, _ = curves(panels, rows=2, size=(PAGE, 4.2))
    titles = [*scenarios, *scenarios]
    for axes, title, nominal in zip(
        figure.axes, titles, np.repeat([0.95, 0.68], len(scenarios)), strict=True
    ):
        least = min(row["realisations"] for row in scenarios[title]["count"])
        error = 2 * np.sqrt(nominal * (1 - nominal) / least)
        axes.axhspan(nominal - error, min(1, nominal + error), color=FAINT, alpha=0.7, zorder=0)
        axes.label_outer()
    for axes in figure.axes[len(scenarios) :]:
        axes.set_title("")
    return figure, plain(
        {
            title: {
                name: [{key: row.get(key) for key in ("fraction", *NOMINAL)} for row in rows]
                for name, rows in summaries.items()
            }
            for title, summaries in scenarios.items()
        }
    )


def _recovered(rows: Sequence[Mapping[str, Any]], *keys: str) -> list[NDArray]:
    """Return the fraction put in and other columns of the rows that have realisations."""
    there = [row for row in rows if row["realisations"]]
    return [np.array([row[key] for row in there]) for key in ("fraction", *keys)]


def _true_fractions(panel: Panel) -> Panel:
    return replace(panel, xlabel="true fraction", xticks=(0.005, 0.03, 0.2))


def degraded_surveys(
    skies: Mapping[str, Mapping[str, Any]], scores: Mapping[str, NDArray], *, held_out: str
) -> Drawing:
    """Draw, sky by sky, how unfamiliar its galaxies are and which merger fraction results.

    `scores` maps a sky's name to the scores of its galaxies; `held_out` names the galaxies that the others
    are compared with. `skies` has for the others "true", "count", "corrected" (value, low, high) and
    "shifted". Left: 16th to 84th percentile and median, vermilion squares where the test warns. Returns
    percentiles and fractions.
    """
    names = list(scores)
    spread = np.array([np.quantile(scores[name], [0.16, 0.5, 0.84]) for name in names])
    warned = np.array([name != held_out and bool(skies[name]["shifted"]) for name in names])
    left = []
    for which, style in ((~warned, {}), (warned, {"color": VERMILION, "marker": "s"})):
        low, middle, high = spread[which].T
        left.append(Series("_", middle, np.flatnonzero(which), low, high, style))
    rows = np.array([row for row, name in enumerate(names) if name in skies])
    there = [skies[names[row]] for row in rows]
    true = {"marker": "|", "markersize": 11, "color": INK}
    right = [Series("true", [sky["true"] for sky in there], rows, style=true)]
    for shift, key, style in ((-0.14, "count", SERIES[0]), (0.14, "corrected", SERIES[1])):
        sides = {side: np.array([sky[key][side] for sky in there]) for side in ("value", "low", "high")}
        series = Series(key, sides["value"], rows + shift, sides["low"], sides["high"])
        right.append(replace(series, style={**style, "linestyle": "none"}))
    middle = spread[names.index(held_out), 1]
    panels = [
        Panel(left, "distance to the training galaxies", vertical=[(middle, "")]),
        Panel(right, "merger fraction", xlim=(0, None)),
    ]
    figure, _ = intervals(names, panels, each=0.24, legend="above")
    percentiles = dict(
        zip(names, (dict(zip(("p16", "p50", "p84"), s, strict=True)) for s in spread), strict=True)
    )
    return figure, plain({"scores": percentiles, "skies": {name: dict(sky) for name, sky in skies.items()}})
