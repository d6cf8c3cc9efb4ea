"""Section on whether fractions and their intervals can be taken at their word."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hubblefork.data.folders import evaluate_command
from hubblefork.report.blocks import (
    Block,
    Missing,
    Picture,
    Section,
    Table,
    bounds,
    decimal,
    listed,
)
from hubblefork.report.figures.reliability import coverage_per_answer, reliability
from hubblefork.report.inputs import Inputs
from hubblefork.report.results import said
from hubblefork.stats.evaluation import RARE
from hubblefork.zoo import DecisionTree


def reliability_and_coverage(inputs: Inputs) -> Section:
    """Return the reliability diagrams, and how often the run's intervals hold what they promise."""
    title = "Can the fractions be taken at their word?"
    judged = inputs.judged
    if isinstance(judged, Missing):
        return Section("reliability", title, [judged])
    drawing = reliability(inputs.tree, judged.predicted, judged.volunteers)
    caption = (
        "The volunteers' mean fraction against the predicted one, in ten bins of as many galaxies; on the "
        "diagonal, a predicted 0.3 means 0.3. Bars are the standard error of the mean, axes are in square "
        "roots. Each panel states how far the bins are from the diagonal on average (the expected "
        "calibration error) and, in brackets, how far they would be by chance. "
        f"{_least_reliable(inputs.tree, drawing[1]['answers'])}"
    )
    return Section("reliability", title, [Picture("reliability", drawing, caption), *_intervals(inputs)])


def _least_reliable(tree: DecisionTree, answers: Mapping[str, Any]) -> str:
    errors = {name: found["error"] for name, found in answers.items() if found["error"] is not None}
    worst = max(errors, key=errors.__getitem__)
    mean = float(np.mean(list(errors.values())))
    return f"It is {mean:.3f} on average, largest for “{said(tree, worst)}” ({errors[worst]:.3f})."


def _intervals(inputs: Inputs) -> list[Block]:
    """Return table and figure of the coverage of the intervals, or why there is none."""
    remedy = evaluate_command(inputs.run)
    if isinstance(inputs.evaluation, Missing) or "intervals" not in inputs.evaluation:
        return [Missing("Whether intervals hold what they promise is not judged yet.", remedy)]
    found = inputs.evaluation["intervals"]
    if "reason" in found:
        return [Missing(f"Intervals are not judged: {found['reason']}.", found["remedy"])]
    rows = [_coverage_row(one) for one in found["coverages"]]
    header = ["stated", "found", "95% interval", "top tenth", "wide"]
    header += [
        *(said(inputs.tree, name) for name in RARE if name in inputs.tree.columns),
        "width",
        "within",
        "by chance",
    ]
    table = Table("coverage", header, rows, _coverage_caption(found), found)
    drawing = coverage_per_answer(inputs.tree, found["coverages"][:2], tolerance=found["tolerance"])
    caption = (
        "The same answer by answer, with 95% bootstrap intervals; shaded is what is within "
        f"{found['tolerance']:g} of what is stated. Where a mark is hollow, more than half of the intervals "
        "are a single number, nearly always 0: that alone holds more galaxies than stated."
    )
    return [table, Picture("coverage-per-answer", drawing, caption)]


def _coverage_row(one: Mapping[str, Any]) -> list[str]:
    rare = [one["answers"][name]["found"] for name in RARE if name in one["answers"]]
    return [
        f"{one['stated']:g}",
        decimal(one["found"]["value"], 3),
        bounds(one["found"]["interval_95"], 3),
        *(
            decimal(entry["value"] if entry else None, 3)
            for entry in (one["found_top"], one["found_wide"], *rare)
        ),
        decimal(one["width"], 3),
        f"{one['within']}",
        decimal(one["within_by_chance"], 1),
    ]


def _coverage_caption(found: Mapping[str, Any]) -> str:
    voted = listed([f"{decimal(one['found_voted']['value'], 2)}" for one in found["coverages"]])
    return (
        "How often an interval holds the volunteers' fraction, on galaxies that neither the network nor the "
        f"intervals were fitted to; calibrated on {found['origin']}. “Top tenth”: the galaxies with the "
        "highest predictions of each answer. “Wide”: the intervals that are more than a single number; more "
        "than is stated is found where a single number, 0, holds more. “Within”: so many of the "
        f"{len(found['coverages'][0]['answers'])} answers are found within {found['tolerance']:g} of what is "
        "stated, and so many would be by chance if the promise held exactly, both samples being finite. "
        "Nothing is promised of galaxies chosen by what the volunteers said: among the tenth "
        f"with the highest fractions, it is {voted}."
    )
