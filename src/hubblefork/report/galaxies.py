"""Sections that show galaxies: prototypes of every answer, and the mergers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubblefork.data.folders import evaluate_command
from hubblefork.report.blocks import (
    Block,
    Missing,
    Paragraph,
    Picture,
    Section,
    Table,
    bounds,
    counted,
    decimal,
    listed,
)
from hubblefork.report.figures.mergers import fraction_against_threshold
from hubblefork.report.figures.sheets import EACH, image_sheet, prototype_sheet
from hubblefork.report.inputs import Galaxies, Inputs
from hubblefork.stats.estimators import INTERVAL, LEVEL, MERGER, THRESHOLD, Count, count_above
from hubblefork.stats.samples import prototypes
from hubblefork.zoo import DecisionTree

CANDIDATES = 9
SHEET_DPI = 150
COVERED = (
    f"Intervals are binomial ({INTERVAL.capitalize()}, {LEVEL:.0%}): they cover what the number of "
    "galaxies leaves open, and neither wrong predictions, nor votes that miss what is there, nor how "
    "the sample was selected."
)
UNDERCOUNT = (
    "A network that minimises squared error predicts means, which are less extreme than the votes of "
    "single galaxies: a threshold on its predictions tends to count fewer mergers than one on votes."
)


def prototype_pages(inputs: Inputs) -> Section:
    """Return for each question a sheet of the highest galaxies by volunteers and by the network."""
    title = "Prototypes of every answer"
    judged, stamps = inputs.judged, inputs.stamps
    for needed in (judged, stamps):
        if isinstance(needed, Missing):
            return Section("prototypes", title, [needed])
    assert not isinstance(judged, Missing) and not isinstance(stamps, Missing)
    blocks: list[Block] = [
        Paragraph(
            f"The {EACH} galaxies of the {inputs.part} part with the highest joint fraction of each "
            "answer: on the left by the volunteers, on the right by the network. Below each stand its "
            "galaxy_id and that fraction."
        )
    ]
    for question in inputs.tree.questions:
        drawing = prototype_sheet(
            inputs.tree,
            question.name,
            ids=judged.ids,
            stamps=stamps,
            places=judged.rows,
            volunteers=judged.volunteers,
            predicted=judged.predicted,
        )
        caption = f"{question.task} {question.text} {_shared(inputs.tree, drawing[1]['answers'])}".strip()
        blocks.append(Picture(f"prototypes-{question.name}", drawing, caption, dpi=SHEET_DPI))
    return Section("prototypes", title, blocks)


def _shared(tree: DecisionTree, answers: Mapping[str, Any]) -> str:
    texts = []
    for name, sides in answers.items():
        both = set(sides["volunteers"]["galaxy_ids"]) & set(sides["network"]["galaxy_ids"])
        texts.append(f"{len(both)} for “{tree.answers[tree.column(name)].text}”")
    return f"Of the volunteers' {EACH} highest, the network has among its own: {listed(texts)}."


def mergers(inputs: Inputs) -> Section:
    """Return the merger fraction: table, dependence on the threshold, and nine candidates."""
    samples = _samples(inputs)
    blocks: list[Block] = []
    if isinstance(inputs.judged, Missing):
        blocks.append(inputs.judged)
    if isinstance(inputs.extra, Missing):
        blocks.append(inputs.extra)
    if inputs.extra is None:
        remedy = f"hubblefork predict {inputs.run} IMAGES --out predictions.parquet"
        how = f"{remedy}, then hubblefork report {inputs.run} --predictions predictions.parquet"
        blocks.append(Missing("No catalogue of other images was given to this report.", how))
    if samples:
        blocks += [_fraction_table(inputs, samples), Paragraph(COVERED), Paragraph(UNDERCOUNT)]
        blocks += [_threshold_curve(inputs.tree, samples), _candidates(inputs)]
    return Section("mergers", "Mergers", blocks)


def _samples(inputs: Inputs) -> dict[str, NDArray]:
    """Return the samples in which mergers can be counted, by name."""
    column = inputs.tree.column(MERGER)
    found = {}
    if not isinstance(inputs.judged, Missing):
        known = ~np.isnan(inputs.judged.volunteers[:, column])
        judged = inputs.judged.chosen(known)
        found[f"volunteers, {inputs.part} part"] = judged.volunteers
        found[f"predicted, {inputs.part} part"] = judged.predicted
    if isinstance(inputs.extra, Galaxies):
        found["predicted, the catalogue given"] = inputs.extra.predicted
    return {name: joint for name, joint in found.items() if (~np.isnan(joint[:, column])).any()}


def _fraction_table(inputs: Inputs, samples: Mapping[str, NDArray]) -> Table:
    found = {name: count_above(inputs.tree, joint) for name, joint in samples.items()}
    rows = [
        [name, f"{one.count:,}", f"{one.total:,}", decimal(one.value), bounds((one.low, one.high))]
        for name, one in found.items()
    ]
    text = f"Galaxies whose joint fraction of “merger” is at least {THRESHOLD:g}. "
    caption = (text + _comparison(inputs, found)).strip()
    numbers = {name: vars(one) for name, one in found.items()}
    header = ["sample", "mergers", "galaxies", "merger fraction", f"{LEVEL:.0%} interval"]
    return Table("merger-fractions", header, rows, caption, numbers)


def _comparison(inputs: Inputs, found: Mapping[str, Count]) -> str:
    judged = inputs.judged
    if isinstance(judged, Missing) or f"volunteers, {inputs.part} part" not in found:
        return ""
    column = inputs.tree.column(MERGER)
    votes, predicted = judged.volunteers[:, column], judged.predicted[:, column]
    known = ~np.isnan(votes)
    both = int(np.count_nonzero((votes >= THRESHOLD) & (predicted >= THRESHOLD)))
    by_votes = found[f"volunteers, {inputs.part} part"].count
    by_network = found[f"predicted, {inputs.part} part"].count
    return (
        f"In the {inputs.part} part volunteers find {by_votes:,}, the network {by_network:,}, {both:,} "
        f"of them the same. The standard deviation of the fraction is {votes[known].std():.3f} by "
        f"volunteers, {predicted[known].std():.3f} predicted."
    )


def _threshold_curve(tree: DecisionTree, samples: Mapping[str, NDArray]) -> Picture:
    drawing = fraction_against_threshold(tree, samples)
    at = {name: count_above(tree, joint, threshold=0.5) for name, joint in samples.items()}
    texts = [f"{found.count:,} of {found.total:,} ({name})" for name, found in at.items()]
    caption = (
        "The merger fraction depends on the threshold as much as on the sky: "
        f"at a threshold of 0.5 it counts {listed(texts)}. Bands are {LEVEL:.0%} binomial intervals."
    )
    return Picture("merger-fraction", drawing, caption)


def _candidates(inputs: Inputs) -> Block:
    given = isinstance(inputs.extra, Galaxies)
    pool = inputs.extra if given else inputs.judged
    if not isinstance(pool, Galaxies):
        return Missing("There are no predictions to choose candidates from.", evaluate_command(inputs.run))
    if isinstance(inputs.stamps, Missing):
        return inputs.stamps
    there = pool.chosen(pool.rows >= 0)
    column = inputs.tree.column(MERGER)
    if not len(there.ids):
        what = "The candidates cannot be shown: the data have no image of the catalogue given."
        return Missing(what, "hubblefork ingest … --out DATA, with their images among the inputs")
    best = there.chosen(prototypes(there.predicted, there.ids, column, CANDIDATES))
    values, votes = best.predicted[:, column], best.volunteers[:, column]
    notes = [_note(value, vote) for value, vote in zip(values, votes, strict=True)]
    where = "the catalogue given" if given else f"the {inputs.part} part"
    caption = (
        f"The {counted(len(best.ids), 'galaxy', 'galaxies')} of {where} with the highest predicted "
        f"fraction of “merger”, from {values[0]:.2f} down to {values[-1]:.2f}; below each, its "
        "galaxy_id, the predicted fraction and, where volunteers were asked, theirs."
    )
    drawing = image_sheet(
        np.asarray(inputs.stamps[best.rows]), best.ids.tolist(), notes=notes, columns=CANDIDATES
    )
    return Picture("merger-candidates", drawing, caption)


def _note(predicted: float, votes: float) -> str:
    return f"{predicted:.2f}" if np.isnan(votes) else f"{predicted:.2f}\nvotes {votes:.2f}"
