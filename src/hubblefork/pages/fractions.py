"""The figures of fractions: estimators, thresholds, bins, published values; each returns its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from astropy import units
from numpy.typing import NDArray

from hubblefork.pages.plots import POINTS, Panel, Series, bounded, curves, intervals, sides
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
)
from hubblefork.pages.tables import plain
from hubblefork.stats.detection import Calibration, fitted_chance
from hubblefork.stats.estimators import INTERVAL, LABELS, LEVEL, MERGER, THRESHOLD, count_above
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
STUDIED = ("count", "corrected", "bayesian", "isotonic", "quantile")
SWEPT = ("count", "corrected", "quantile")
NOMINAL = {"coverage_95%": 0.95, "coverage_68%": 0.68}
RECOVERED: dict[str, Any] = {
    "ylim": (0.2, 10),
    "yticks": (0.2, 0.5, 1.0, 2.0, 5.0),
    "horizontal": [(1, "")],
}
TRUE_FRACTION: dict[str, Any] = {"xlabel": "true fraction", "xticks": (0.005, 0.03, 0.2)}
Summaries = Mapping[str, Sequence[Mapping[str, Any]]]


def fraction_against_threshold(tree: DecisionTree, samples: Mapping[str, NDArray]) -> Drawing:
    """Draw the share of galaxies whose joint fraction of “merger” reaches each threshold.

    `samples` maps a name ("volunteers") to joint fractions (galaxy, answer). Bands are binomial
    intervals. The scale is logarithmic, so a curve ends where no galaxy is left, its band goes on. Returns
    per sample the counts, shares and bounds. Raises CatalogueError for a sample without any value.
    """
    series: list[Series] = []
    numbers: dict[str, dict[str, Any]] = {}
    for name, joint in samples.items():
        counts = [count_above(tree, joint, threshold=threshold) for threshold in THRESHOLDS]
        keys = ("threshold", "count", "value", "low", "high")
        numbers[name] = {key: np.array([getattr(count, key) for count in counts]) for key in keys}
        numbers[name]["total"] = counts[0].total
        series.append(_curve(f"{name} ({counts[0].total} galaxies)", THRESHOLDS, counts))
    floor = 0.4 / max(sample["total"] for sample in numbers.values())
    text = tree.answers[tree.column(MERGER)].text
    labels = f"threshold on the joint fraction of “{text}”", "share of galaxies at or above"
    line = [(THRESHOLD, f"threshold {THRESHOLD:g}")]
    panel = Panel(series, *labels, log="y", xlim=(0, 1), ylim=(floor, 1.3), vertical=line)
    figure = curves([panel], size=(PAGE * 0.72, 3.0), legend="inside")
    return figure, plain({"answer": MERGER, "interval": INTERVAL, "level": LEVEL, "samples": numbers})


def _curve(label: str, thresholds: Any, estimates: Sequence[Any], floor: float = 0.0) -> Series:
    """Return estimates with a band for a logarithmic axis: 0 ends the curve, the band ends at `floor`."""
    value, low, high = sides(estimates)
    low = np.where(np.isnan(low), np.nan, np.fmax(low, floor))
    return Series(label, thresholds, _positive(value), low, high, band=True)


def _positive(values: NDArray) -> NDArray[np.float64]:
    return np.where(values > 0, values, np.nan)


def estimators_side_by_side(
    samples: Mapping[str, Fraction], *, truths: Mapping[str, float] | None = None
) -> Drawing:
    """Draw every estimator of one or several samples with its interval, the default in ink.

    `truths` maps a sample's name to what its volunteers say, drawn as a line. Returns the numbers of all.
    """
    truths, panels = truths or {}, []
    for name, measured in samples.items():
        keys = list(measured.estimates)
        series = []
        for default, style in ((False, {}), (True, {"color": INK, "marker": "s"})):
            rows = [row for row, key in enumerate(keys) if (key == measured.estimator) == default]
            estimates = [measured.estimates[keys[row]] for row in rows]
            series.append(bounded("_estimators", rows, estimates, rows=True, style=style))
        panel = Panel(
            series,
            f"fraction with {measured.truth.text}",
            title=f"{name} ({measured.galaxies:,} galaxies)",
            xlim=(0, None),
            vertical=[(truths[name], "")] if name in truths else [],
            names=[LABELS[key] for key in keys],
        )
        panels.append(panel)
    figure = intervals(panels, legend="", grid=True, absent="not available")
    numbers = {name: measured.as_json() for name, measured in samples.items()}
    return figure, plain({"samples": numbers, "volunteers": dict(truths)})


def estimates_against_threshold(
    swept: Sequence[Fraction], *, marked: float | None, votes: NDArray | None = None
) -> Drawing:
    """Draw count, default and quantile-mapped fraction against the threshold, logarithmically.

    `swept` are measurements at rising thresholds; `votes` the volunteers' fractions of the same galaxies
    where there are any, shape (galaxy,). Bands are intervals. Returns the curves.
    """
    thresholds = np.array([measured.truth.threshold or 0.0 for measured in swept])
    floor = 0.4 / swept[0].galaxies
    series = [
        _curve(LABELS[name], thresholds, [measured.estimates[name] for measured in swept], floor)
        for name in SWEPT
    ]
    if votes is not None:
        series.append(Series("volunteers", thresholds, _shares_above(votes, thresholds), style=SERIES[4]))
    label = f"threshold on the joint fraction of “{swept[0].truth.answer}”"
    lines = [] if marked is None else [(marked, "")]
    panel = Panel(series, label, "fraction of galaxies", log="y", ylim=(floor, 1.3), vertical=lines)
    figure = curves([panel], size=(PAGE * 0.72, 3.1), legend="inside")
    estimators = [measured.as_json()["estimators"] for measured in swept]
    return figure, plain({"thresholds": thresholds, "estimators": estimators})


def _shares_above(values: NDArray, thresholds: NDArray) -> NDArray[np.float64]:
    """Return the share of the values at or above each threshold, (threshold,), NaN where there is none."""
    return _positive(np.mean(values[:, None] >= thresholds, axis=0))


@in_house_style
def fraction_in_bins(binned: Mapping[tuple[float, float], Fraction | None], *, name: str = "") -> Drawing:
    """Draw count and default in each bin with their intervals. Returns both by bin."""
    measured = {edges: fraction for edges, fraction in binned.items() if fraction is not None}
    low, high = np.array(list(measured)).reshape(-1, 2).T
    counts = [fraction.estimates["count"] for fraction in measured.values()]
    defaults = [fraction.estimate for fraction in measured.values()]
    series = [
        bounded(label, (low + high) / 2 + shift * (high - low), estimates, style=POINTS)
        for label, estimates, shift in (("count", counts, -0.06), ("default", defaults, 0.06))
    ]
    panel = Panel(series, name or "bin", "fraction", ylim=(0, None))
    figure = curves([panel], size=(PAGE * 0.72, 2.8), legend="inside")
    widths = {"color": SERIES[0]["color"], "linewidth": 0.8, "zorder": 0}
    figure.axes[0].hlines(sides(counts)[0], low, high, **widths)
    numbers = [
        {"low": low, "high": high, **(fraction.as_json() if fraction else {})}
        for (low, high), fraction in binned.items()
    ]
    return figure, plain({"bins": numbers})


def beside_published(measured: Fraction, *, rate: Rate | None = None) -> Drawing:
    """Draw the default merger fraction and the count with published local ones, logarithmically.

    With a `rate` by volume, the rates below. Published values: see `PUBLISHED` and `PUBLISHED_RATES`.
    Returns all of them.
    """
    quoted = {"default": measured.estimate, "count": measured.estimates["count"]}
    ours = [(f"this catalogue, {name}", *sides([own])[:, 0]) for name, own in quoted.items()]
    rows = {"fractions": [*ours, *((name, (low + high) / 2, low, high) for name, low, high in PUBLISHED)]}
    if rate is not None:
        values = [side.to_value(RATE_UNIT) for side in (rate.value, rate.low, rate.high)]
        rows["rates"] = [("this catalogue, default", *values), *PUBLISHED_RATES]
    labels = ("merger fraction", "mergers a Mpc³ and Gyr")
    panels = [_published(entries, label) for entries, label in zip(rows.values(), labels, strict=False)]
    figure = intervals(panels, width=PAGE * 0.8, each=0.24, legend="", grid=True, stacked=True)
    keys = ("name", "value", "low", "high")
    numbers = {name: [dict(zip(keys, entry, strict=True)) for entry in own] for name, own in rows.items()}
    return figure, plain(numbers)


def _published(entries: Sequence[tuple[str, float, float, float]], label: str) -> Panel:
    """Return rows of a name, a value and its interval; those of this catalogue in colour."""
    names = [name for name, *_ in entries]
    value, low, high = np.array([ends for _, *ends in entries], dtype=float).T
    ours = np.array([name.startswith("this catalogue") for name in names])
    series = [
        Series("_", value[which], np.flatnonzero(which), low[which], high[which], style)
        for which, style in ((ours, {}), (~ours, {"color": GREY, "marker": "D"}))
    ]
    limits = max(value[value > 0].min() / 8, 0.8 * low.min()), 1.3 * high.max()
    ticks = [digit * 10.0**power for power in range(-6, 1) for digit in (1, 2, 5)]
    shown = [tick for tick in ticks if limits[0] <= tick <= limits[1]]
    return Panel(series, label, log="x", xlim=limits, xticks=shown, names=names)


def regression_to_the_mean(calibration: Calibration, votes: NDArray, *, threshold: float) -> Drawing:
    """Draw what predictions mean on calibration galaxies: votes against predictions, and the chance of truth.

    `votes` are the volunteers' fractions of the calibration galaxies, shape (galaxy,). Left: both, with
    the threshold on either. Right: how many galaxies reach each fraction, by votes and predicted. Returns the
    isotonic fit, both curves, and the shares of either at the threshold.
    """
    assert calibration.score is not None
    grid = np.linspace(0, max(float(calibration.score.max()), threshold), 101)
    chance = fitted_chance(calibration.score, calibration.truth).predict(grid)
    dots = {**POINTS, "marker": "o", "markersize": 2, "alpha": 0.4}
    grey = {"color": GREY, "linewidth": 0.7, "marker": "", "linestyle": "-"}
    points = [
        Series("_", calibration.score, votes, style=dots),
        Series(f"chance of votes ≥ {threshold:g} (isotonic)", grid, chance, style={"marker": ""}),
        Series("_", [0, 1], [0, 1], style=grey),
    ]
    marks, unit = [(threshold, "")], (-0.02, 1.02)
    labels = "predicted fraction", "volunteers' fraction"
    left = Panel(points, *labels, xlim=unit, ylim=unit, vertical=marks, horizontal=marks)
    steps, samples = np.linspace(0, 1, 101), {"volunteers": votes, "predicted": calibration.score}
    shares = {name: _shares_above(values, steps) for name, values in samples.items()}
    series = [Series(name, steps, values) for name, values in shares.items()]
    right = Panel(series, "fraction", "share of galaxies at or above", log="y", vertical=marks)
    numbers = {
        "threshold": threshold,
        "galaxies": len(votes),
        "grid": grid,
        "chance": chance,
        "steps": steps,
        "curves": {name: np.nan_to_num(values) for name, values in shares.items()},
        "shares": {"volunteers": calibration.truth.mean(), "predicted": calibration.counts.mean()},
    }
    return curves([left, right], size=(PAGE, 2.9), legend="inside"), plain(numbers)


def bias_of_estimators(scenarios: Mapping[str, Summaries]) -> Drawing:
    """Draw what each estimator recovers on average, divided by the fraction put in.

    `scenarios` maps a title to summaries by estimator, one for each fraction (see `studies.injection`).
    Bars are the Monte Carlo error of the mean. Returns the summaries.
    """
    panels = []
    for title, summaries in scenarios.items():
        series = []
        for label, place, rows in _recovered(summaries):
            fraction, mean, error = (_column(rows, key) for key in ("fraction", "mean", "bias_error"))
            ends = (mean - error) / fraction, (mean + error) / fraction
            series.append(Series(label, place, mean / fraction, *ends))
        panels.append(Panel(series, title=title, log="xy", **RECOVERED, **TRUE_FRACTION))
    several = len(panels) > 3
    figure = curves(panels, rows=1 + several, size=(PAGE, 4.8 if several else 2.7), share="all")
    for axes in figure.axes:
        axes.label_outer()
    figure.supylabel("mean recovered / put in", fontsize=NORMAL)
    return figure, plain({title: dict(summaries) for title, summaries in scenarios.items()})


def coverage_of_intervals(scenarios: Mapping[str, Summaries]) -> Drawing:
    """Draw how often each estimator's 68% and 95% interval holds the fraction put in.

    The bands are two binomial errors of as many realisations around 0.68 and 0.95. Returns the coverages.
    """
    panels, bands = [], []
    for key, nominal in NOMINAL.items():
        for title, summaries in scenarios.items():
            panel = Panel(
                [Series(label, place, _column(rows, key)) for label, place, rows in _recovered(summaries)],
                ylabel=f"coverage of {nominal:.0%} intervals",
                title=title if nominal == 0.95 else "",
                log="x",
                ylim=(-0.02, 1.03),
                horizontal=[(nominal, "")],
                **TRUE_FRACTION,
            )
            panels.append(panel)
            least = min(row["realisations"] for row in summaries["count"])
            error = 2 * np.sqrt(nominal * (1 - nominal) / least)
            bands.append((nominal - error, min(1, nominal + error)))
    figure = curves(panels, rows=2, size=(PAGE, 4.8))
    for axes, band in zip(figure.axes, bands, strict=True):
        axes.axhspan(*band, color=FAINT, alpha=0.7, zorder=0)
        axes.label_outer()
    numbers = {
        title: {
            name: [{key: row.get(key) for key in ("fraction", *NOMINAL)} for row in rows]
            for name, rows in summaries.items()
        }
        for title, summaries in scenarios.items()
    }
    return figure, plain(numbers)


def _recovered(summaries: Summaries) -> list[tuple[str, NDArray, list[Mapping[str, Any]]]]:
    """Return each estimator's label, its places on the axis, and the rows that have realisations."""
    result = []
    for number, name in enumerate(STUDIED):
        rows = [row for row in summaries[name] if row["realisations"]]
        result.append((LABELS[name], _column(rows, "fraction") * 1.06 ** (number - 2), rows))
    return result


def _column(rows: Sequence[Mapping[str, Any]], key: str) -> NDArray[np.float64]:
    return np.array([row[key] for row in rows])


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
    spread = {name: np.quantile(values, [0.16, 0.5, 0.84]) for name, values in scores.items()}
    left, right = [], []
    for warned, style in ((False, {}), (True, {"color": VERMILION, "marker": "s"})):
        rows = [row for row, name in enumerate(names) if bool(skies.get(name, {}).get("shifted")) == warned]
        low, middle, high = np.array([spread[names[row]] for row in rows]).reshape(-1, 3).T
        left.append(Series("_", middle, np.array(rows), low, high, style))
    places = np.array([row for row, name in enumerate(names) if name in skies])
    shown = [skies[names[row]] for row in places]
    mark = {"marker": "|", "markersize": 11, "color": INK}
    right = [Series("true", [sky["true"] for sky in shown], places, style=mark)]
    for shift, key, style in ((-0.14, "count", SERIES[0]), (0.14, "corrected", SERIES[1])):
        estimates = [sky[key] for sky in shown]
        right.append(bounded(key, places + shift, estimates, rows=True, style={**style, **POINTS}))
    line = [(spread[held_out][1], "")]
    panels = [
        Panel(left, "distance to the training galaxies", vertical=line, names=names),
        Panel(right, "merger fraction", xlim=(0, None), names=names),
    ]
    figure = intervals(panels, each=0.24)
    percentiles = {name: dict(zip(("p16", "p50", "p84"), own, strict=True)) for name, own in spread.items()}
    return figure, plain({"scores": percentiles, "skies": {name: dict(sky) for name, sky in skies.items()}})
