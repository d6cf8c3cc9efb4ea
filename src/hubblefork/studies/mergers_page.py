"""The page of the merger study: recovery, coverage, regression to the mean, surveys that differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubblefork.report.blocks import Block, Paragraph, Picture, Section, Table, decimal
from hubblefork.report.figures.fractions import regression_to_the_mean
from hubblefork.report.figures.recovery import (
    bias_of_estimators,
    coverage_of_intervals,
    degraded_surveys,
)
from hubblefork.stats.detection import Calibration
from hubblefork.stats.rates import UNCALIBRATED
from hubblefork.studies.injection import Scenario, halved

THRESHOLD, SPLITS = 0.3, 200
SHORT = {
    "corrected": "corrected",
    "bayesian": "Bayesian",
    "rogan_gladen": "Rogan–Gladen",
    "isotonic": "isotonic",
    "quantile": "quantile",
    "count": "count, Wilson",
    "count_jeffreys": "count, Jeffreys",
    "sum": "sum",
}
SOURCES = (
    "Rogan & Gladen 1978, Am. J. Epidemiol. 107, 71: the corrected count and its variance.",
    "Lang & Reiczigel 2014, Prev. Vet. Med. 113, 13: the interval of the default.",
    "Lambrides et al. 2021: the Bayesian merger fraction of an imperfect classifier.",
    "Zadrozny & Elkan 2002, KDD, 694: isotonic calibration.",
    "Brown, Cai & DasGupta 2001, Stat. Sci. 16, 101: Wilson's and Jeffreys' intervals.",
    "Sun et al. 2022, ICML, arXiv:2204.06507: the distance to the k-th nearest training galaxy.",
    "docs/merger-fraction.md has the equations.",
)


@dataclass(frozen=True)
class Findings:
    """What the study found: summaries by scenario and estimator, degraded surveys, scores of their galaxies.

    `known` maps a title to predicted and volunteers' fractions of labelled galaxies off training.
    """

    recovery: Mapping[Scenario, Mapping[str, Sequence[Mapping[str, Any]]]]
    surveys: Mapping[str, Mapping[str, Any]]
    scores: Mapping[str, NDArray]
    as_trained: str
    realisations: int
    known: Mapping[str, tuple[NDArray, NDArray]]


def sections(found: Findings) -> Iterator[Section]:
    """Yield the sections of the page."""
    yield _question(found)
    yield _regression(found)
    yield _bias(found)
    yield _coverage(found)
    yield _surveys(found)
    yield Section("sources", "Sources", [Paragraph(text) for text in (*SOURCES, UNCALIBRATED)])


def _question(found: Findings) -> Section:
    first = next(iter(found.recovery))
    texts = [
        f"Each of {found.realisations} realisations at each true fraction draws a survey of "
        f"{first.survey_galaxies:,} galaxies and calibration galaxies of its own "
        f"({first.calibration_galaxies:,}), with replacement, from pools that the network did not train "
        f"on. Counted are galaxies with a predicted fraction of at least {THRESHOLD:g}. “Same sky”: "
        "mergers are as common among the calibration galaxies as in the survey. “Calibrated at 0.06”: "
        "there they are 6%, whatever the survey has.",
        *dict.fromkeys(scenario.about for scenario in found.recovery),
    ]
    return Section("question", "What was put in", [Paragraph(text) for text in texts])


def _regression(found: Findings) -> Section:
    blocks: list[Block] = []
    for title, (score, votes) in found.known.items():
        known = Calibration(score >= THRESHOLD, votes >= THRESHOLD, score, title)
        if not known.truth.any():
            continue
        drawing = regression_to_the_mean(known, votes, threshold=THRESHOLD)
        caption = (
            f"{title[0].upper()}{title[1:]}, {len(votes):,} galaxies off training: votes scatter about "
            f"predictions, which are less extreme (standard deviation {score.std():.3f} against "
            f"{votes.std():.3f}). By votes {known.truth.mean():.4f} of the galaxies reach {THRESHOLD:g}, by "
            f"predictions {known.counts.mean():.4f}."
        )
        blocks.append(Picture(f"regression-{title.replace(' ', '-')}", drawing, caption))
        blocks.append(_halves(title, score, votes))
    return Section("regression", "Predictions are less extreme than votes", blocks)


def _halves(title: str, score: NDArray, votes: NDArray) -> Table:
    truth = votes >= THRESHOLD
    found = halved(score, truth, threshold=THRESHOLD, splits=SPLITS)
    rows = [[SHORT[name], f"{mean:+.4f}", f"{sd:.4f}"] for name, (mean, sd) in found.items() if name != "sum"]
    caption = (
        f"{title[0].upper()}{title[1:]}: calibrated on a random half, counted in the other, {SPLITS} times. "
        f"Mean of the estimate minus the other half's own fraction by votes ({truth.mean():.4f} in all), and "
        "the standard deviation of that difference."
    )
    return Table(f"halves-{title.replace(' ', '-')}", ["estimator", "mean", "s.d."], rows, caption, found)


def _bias(found: Findings) -> Section:
    titles = {scenario.name: summaries for scenario, summaries in found.recovery.items()}
    caption = (
        "Mean recovered fraction over the one put in; bars are the error of the mean. The count misses what "
        "the network misses. Isotonic and quantile calibration are right on the same sky and drawn "
        "towards the calibration galaxies' fraction on another."
    )
    picture = Picture("bias", bias_of_estimators(titles), caption)
    tables = [_bias_table(scenario, rows) for scenario, rows in found.recovery.items()]
    return Section("bias", "Is it right on average?", [picture, *tables])


def _bias_table(scenario: Scenario, summaries: Mapping[str, Sequence[Mapping[str, Any]]]) -> Table:
    rows = [[SHORT[name], *(_mean(row) for row in entries)] for name, entries in summaries.items()]
    caption = (
        f"{scenario.name}: mean recovered fraction ± error of the mean, by the fraction put in; in brackets "
        "how many realisations had the estimator, where not all. Near 0 the corrected count cannot scatter "
        "below, which draws its mean up. The sum of fractions estimates another quantity."
    )
    return Table("bias-" + scenario.slug, _header(summaries), rows, caption, dict(summaries))


def _header(summaries: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    return ["estimator", *(f"{row['fraction']:g}" for row in summaries["count"])]


def _mean(row: Mapping[str, Any]) -> str:
    if not row["realisations"]:
        return "–"
    some = row["realisations"] < row["of"]
    return f"{row['mean']:.4f} ± {row['bias_error']:.4f}" + (f" ({row['realisations']})" if some else "")


def _coverage(found: Findings) -> Section:
    titles = {scenario.name: summaries for scenario, summaries in found.recovery.items()}
    caption = (
        "How often the interval holds the fraction put in; bands are two binomial errors around 68% and 95% "
        f"for {found.realisations} realisations. The count is the case that must fail."
    )
    picture = Picture("coverage", coverage_of_intervals(titles), caption)
    tables = [_coverage_table(scenario, rows) for scenario, rows in found.recovery.items()]
    return Section(
        "coverage", "Do the intervals hold what they promise?", [picture, *tables, _width_table(found)]
    )


def _coverage_table(scenario: Scenario, summaries: Mapping[str, Sequence[Mapping[str, Any]]]) -> Table:
    rows = [
        [SHORT[name], *(_covers(row) for row in entries)]
        for name, entries in summaries.items()
        if name != "sum"
    ]
    error = [np.sqrt(p * (1 - p) / summaries["count"][0]["of"]) for p in (0.68, 0.95)]
    caption = (
        f"{scenario.name}: coverage of the 68% and the 95% interval. "
        f"One binomial error is {error[0]:.3f} and {error[1]:.3f}."
    )
    return Table("coverage-" + scenario.slug, _header(summaries), rows, caption, {})


def _covers(row: Mapping[str, Any]) -> str:
    if not row["realisations"]:
        return "–"
    return f"{row['coverage_68%']:.3f}, {row['coverage_95%']:.3f}"


def _width_table(found: Findings) -> Table:
    rows = [
        [f"{scenario.name}: {SHORT[name]}", *(_width(row) for row in summaries[name])]
        for scenario, summaries in found.recovery.items()
        for name in ("corrected", "bayesian", "isotonic", "count")
    ]
    header = _header(next(iter(found.recovery.values())))
    return Table("widths", header, rows, "Median width of the 95% interval.", {})


def _width(row: Mapping[str, Any]) -> str:
    return f"{row['width_95%']:.4f}" if row["realisations"] else "–"


def _surveys(found: Findings) -> Section:
    warned = [name for name, sky in found.surveys.items() if sky["shifted"]]
    caption = (
        "The same galaxies seen worse. Left: distance of a galaxy's features to its 10th nearest training "
        "galaxy, median and 16th to 84th percentile; vermilion squares where the two-sample test against the "
        "held-out galaxies warns (p < 0.001). Right: the true merger fraction, the count, and the default "
        "with completeness and false-positive rate measured on the training survey, 95% intervals."
    )
    drawing = degraded_surveys(found.surveys, found.scores, held_out="held out")
    text = (
        f"The test warns of {len(warned)} of {len(found.surveys)} skies ({', '.join(warned) or 'none'}); "
        f"it must not warn of “{found.as_trained}”. A correction holds only where completeness and "
        "false-positive rate are those of the calibration galaxies; the table shows where they are not. A "
        "warning says that galaxies look unfamiliar, not that the fraction is wrong; silence does not prove "
        "it right: label some galaxies of the survey itself."
    )
    table = _survey_table(found)
    blocks: list[Block] = [Picture("degraded", drawing, caption), Paragraph(text), table]
    return Section("surveys", "When the survey is another one", blocks)


def _survey_table(found: Findings) -> Table:
    header = [
        "sky",
        "KS distance",
        "p",
        "true",
        "count",
        "corrected, 95%",
        "completeness",
        "false-positive rate",
    ]
    rows = [
        [
            name,
            decimal(sky["distance"], 3),
            f"{sky['p_value']:.2g}",
            decimal(sky["true"], 3),
            decimal(sky["count"]["value"], 3),
            "{value:.3f} ({low:.3f} to {high:.3f})".format(**sky["corrected"]),
            decimal(sky["completeness"], 3),
            decimal(sky["false_positive_rate"], 4),
        ]
        for name, sky in found.surveys.items()
    ]
    caption = "Completeness and false-positive rate are those of the sky; the correction does not use them."
    return Table("surveys", header, rows, caption, dict(found.surveys))
