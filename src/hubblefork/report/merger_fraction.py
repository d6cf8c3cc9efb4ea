"""The section on how many mergers there are, by every estimator, beside the volunteers' own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hubblefork.data.catalogue import ID, with_fractions
from hubblefork.data.folders import JudgedGalaxies, RunFolder, evaluate_command
from hubblefork.errors import HubbleforkError
from hubblefork.report.blocks import Block, Missing, Paragraph, Picture, Section, Table, bounds, decimal
from hubblefork.report.figures.fractions import (
    LABELS,
    beside_published,
    estimates_against_threshold,
    estimators_side_by_side,
    regression_to_the_mean,
)
from hubblefork.report.inputs import Galaxies, Inputs
from hubblefork.stats.detection import Calibration
from hubblefork.stats.estimators import MERGER, THRESHOLD, Estimate, Unavailable, binomial_interval
from hubblefork.stats.prevalence import Fraction, fraction, sweep
from hubblefork.stats.rates import PUBLISHED, UNCALIBRATED
from hubblefork.zoo import DecisionTree

SEED = 0
TITLE = "How many mergers there are"


def merger_fraction(inputs: Inputs) -> Section:
    """Return the merger fraction of the judged galaxies and of the catalogue given, corrected."""
    samples = _samples(inputs)
    if not samples:
        return Section("merger-fraction", TITLE, [_nothing(inputs)])
    held_outs = {name: _held_out(inputs, galaxies.views) for name, galaxies in samples.items()}
    held_out = next(iter(held_outs.values()))  # that of the judged galaxies where there are any
    rng = np.random.default_rng(SEED)
    tables = {name: _table(galaxies, inputs.tree) for name, galaxies in samples.items()}
    try:
        found = {
            name: fraction(table, judged=held_outs[name], tree=inputs.tree, rng=rng)
            for name, table in tables.items()
        }
    except HubbleforkError as error:
        return Section("merger-fraction", TITLE, [Missing(str(error), _nothing(inputs).remedy)])
    truths = {name: _truth(galaxies, inputs.tree) for name, galaxies in samples.items()}
    blocks: list[Block] = [*_about(inputs, found, held_out), _estimators(found, truths)]
    blocks += [_estimator_table(found, truths), _swept(inputs, tables, samples, held_out, rng)]
    blocks += _regression(inputs, held_out)
    return Section("merger-fraction", TITLE, [*blocks, *_rates(found)])


def _nothing(inputs: Inputs) -> Missing:
    return Missing("There are no predictions to count mergers in.", evaluate_command(inputs.run))


def _samples(inputs: Inputs) -> dict[str, Galaxies]:
    """Return the predicted galaxies by name; of the judged ones those that were asked about mergers."""
    found = {}
    column = inputs.tree.column(MERGER)
    if isinstance(inputs.judged, Galaxies):
        known = ~np.isnan(inputs.judged.volunteers[:, column])
        if known.any():
            found[f"{inputs.part} part"] = inputs.judged.chosen(known)
    if isinstance(inputs.extra, Galaxies):
        found["the catalogue given"] = inputs.extra
    return found


def _held_out(inputs: Inputs, views: int) -> JudgedGalaxies | Unavailable:
    try:
        return RunFolder(inputs.run).judged(tree=inputs.tree, views=views)
    except HubbleforkError as error:
        return Unavailable(f"no calibration galaxies: {error}", evaluate_command(inputs.run, views))


def _table(galaxies: Galaxies, tree: DecisionTree) -> pa.Table:
    return with_fractions(pa.table({ID: galaxies.ids}), galaxies.predicted, tree)


def _truth(galaxies: Galaxies, tree: DecisionTree) -> tuple[int, int] | None:
    """Return how many galaxies volunteers put above the threshold, of how many they were asked about."""
    votes = _votes(galaxies, tree)
    return (int((votes >= THRESHOLD).sum()), len(votes)) if len(votes) else None


def _votes(galaxies: Galaxies, tree: DecisionTree) -> NDArray[np.float64]:
    votes = galaxies.volunteers[:, tree.column(MERGER)]
    return votes[~np.isnan(votes)]


def _about(
    inputs: Inputs, found: Mapping[str, Fraction], held_out: JudgedGalaxies | Unavailable
) -> list[Block]:
    text = (
        "A true merger is a galaxy whose joint fraction of “merger” is at least "
        f"{THRESHOLD:g} by the volunteers. "
        "The count of predictions is corrected for what it misses (completeness) and takes in by mistake "
        "(false-positive rate), both measured on labelled galaxies that the network did not train on and "
        "that are not in the sample. Isotonic and quantile calibration also take those galaxies for a fair "
        "sample of the ones counted. The sum of fractions estimates another quantity: the mean share of "
        "votes."
    )
    if isinstance(held_out, Unavailable):
        return [Paragraph(text), Missing(held_out.reason, held_out.remedy)]
    lines = [
        _measured(name, one.calibration)
        for name, one in found.items()
        if isinstance(one.calibration, Calibration)
    ]
    return [Paragraph(text), *(Paragraph(line) for line in lines)]


def _measured(name: str, known: Calibration) -> str:
    measured = known.confusion()
    return (
        f"For {name}: calibrated on {len(known.truth):,} galaxies; completeness {measured.true_positives} of "
        f"{measured.positives} ({decimal(measured.completeness, 3)}), false-positive rate "
        f"{measured.false_positives} of {measured.negatives:,} ({decimal(measured.false_positive_rate)})."
    )


def _estimators(found: Mapping[str, Fraction], truths: Mapping[str, tuple[int, int] | None]) -> Picture:
    shares = {name: truth[0] / truth[1] for name, truth in truths.items() if truth}
    caption = (
        "Every estimator with its 95% interval, the default in black; the dashed line is what the volunteers "
        "say of the same galaxies, where they were asked."
    )
    return Picture("estimators", estimators_side_by_side(found, truths=shares), caption)


def _estimator_table(found: Mapping[str, Fraction], truths: Mapping[str, tuple[int, int] | None]) -> Table:
    names = list(found)
    rows = [
        [LABELS[key], *(_cell(found[name].estimates[key]) for name in names)]
        for key in next(iter(found.values())).estimates
    ]
    rows.append(["volunteers' own", *(_truth_cell(truths[name]) for name in names)])
    numbers: dict[str, Any] = {name: one.as_json() for name, one in found.items()}
    numbers["volunteers"] = {name: list(truth) if truth else None for name, truth in truths.items()}
    header = ["estimator", *(f"{name} ({found[name].galaxies:,})" for name in names)]
    return Table("estimators-table", header, rows, "Fractions with their 95% intervals.", numbers)


def _cell(one: Estimate | Unavailable) -> str:
    if isinstance(one, Unavailable):
        return f"not available: {one.reason}"
    return f"{decimal(one.value)} ({bounds((one.low, one.high))})"


def _truth_cell(truth: tuple[int, int] | None) -> str:
    if truth is None:
        return "not asked"
    interval = binomial_interval(*truth)
    return f"{decimal(truth[0] / truth[1])} ({bounds(interval)}): {truth[0]} of {truth[1]:,}"


def _swept(
    inputs: Inputs,
    tables: Mapping[str, pa.Table],
    samples: Mapping[str, Galaxies],
    held_out: JudgedGalaxies | Unavailable,
    rng: np.random.Generator,
) -> Picture:
    name = next(iter(tables))  # the judged galaxies where there are any: their votes are known
    swept = sweep(tables[name], inputs.tree, MERGER, held_out, rng=rng)
    votes = _votes(samples[name], inputs.tree)
    drawing = estimates_against_threshold(swept, marked=THRESHOLD, votes=votes if len(votes) else None)
    caption = (
        f"{name[0].upper()}{name[1:]}: the fraction against the threshold, which is the same on votes and "
        "on predictions. Bands are 95% intervals. Where no calibration galaxy is counted any more, nothing "
        "can be corrected and the curve ends."
    )
    return Picture("fraction-thresholds", drawing, caption)


def _regression(inputs: Inputs, held_out: JudgedGalaxies | Unavailable) -> list[Block]:
    if isinstance(held_out, Unavailable):
        return []
    column = inputs.tree.column(MERGER)
    there = ~np.isnan(held_out.volunteers[:, column])
    score, votes = held_out.predicted[there, column], held_out.volunteers[there, column]
    known = Calibration(score >= THRESHOLD, votes >= THRESHOLD, score, held_out.origin)
    if not known.truth.any():
        return []
    caption = (
        f"Regression to the mean, on {len(votes):,} labelled galaxies off training. Left: votes scatter "
        "about predictions; the line is the chance that the volunteers put a galaxy above the threshold. "
        "Right: "
        f"votes of at least {THRESHOLD:g} have {known.truth.mean():.4f} of the galaxies, predictions of it "
        f"{known.counts.mean():.4f}."
    )
    return [Picture("regression", regression_to_the_mean(known, votes, threshold=THRESHOLD), caption)]


def _rates(found: Mapping[str, Fraction]) -> list[Block]:
    name, one = list(found.items())[-1]
    time = PUBLISHED["lotz-gm20"]
    rate = one.rate(time)
    text = (
        f"With ⟨T_obs⟩ = {time.first:g} to {time.second:g} Gyr ({time.source}), {name} has "
        f"R = f/⟨T_obs⟩ = {rate.value.value:.3g} mergers a galaxy and Gyr (95%: {rate.low.value:.3g} to "
        f"{rate.high.value:.3g}). {UNCALIBRATED}"
    )
    caption = (
        f"The merger fraction of {name} beside published local ones, each of its own sample, mass ratios "
        "and way of recognising mergers: Darg et al. 2010 (arXiv:0903.4937), Casteels et al. 2014 "
        "(arXiv:1409.1358), "
        "De Propris et al. 2014 and 2007."
    )
    return [Picture("published", beside_published(one), caption), Paragraph(text)]
