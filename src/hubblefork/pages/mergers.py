"""The section on mergers in the page of a run: how many there are by every estimator, and the candidates."""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa

from hubblefork.data.judged import JudgedGalaxies
from hubblefork.errors import HubbleforkError
from hubblefork.pages.contents import Contents
from hubblefork.pages.fractions import (
    beside_published,
    estimates_against_threshold,
    estimators_side_by_side,
    fraction_against_threshold,
    regression_to_the_mean,
)
from hubblefork.pages.page import Missing, Page
from hubblefork.pages.sheets import image_sheet
from hubblefork.pages.tables import Column, Table, bounds, counts_table, decimal
from hubblefork.stats.detection import Calibration
from hubblefork.stats.estimators import (
    LABELS,
    MERGER,
    THRESHOLD,
    Count,
    Estimate,
    Unavailable,
    count_above,
)
from hubblefork.stats.prevalence import Fraction, fraction, sweep
from hubblefork.stats.rates import PUBLISHED, UNCALIBRATED
from hubblefork.stats.samples import prototypes
from hubblefork.tables.catalogue import ID, with_fractions
from hubblefork.zoo import DecisionTree

CANDIDATES = 9
SEED = 0
GIVEN = "the catalogue given"


def mergers(page: Page, contents: Contents) -> dict[str, Any]:
    """Add the figures and tables of the section; return its values."""
    context: dict[str, Any] = {"threshold": THRESHOLD}
    page.optional("regression")
    with page.showing("judged"):
        _ = contents.judged
    with page.showing("given"):
        _ = contents.given
    samples = _samples(contents)
    if samples:
        context |= _counts(page, contents, samples)
    with page.showing("merger-candidates"):
        context["candidates"] = _candidates(page, contents)
    with page.showing("estimators"):
        context |= _corrected(page, contents, samples)
    return context


def _samples(contents: Contents) -> dict[str, JudgedGalaxies]:
    """Return the predicted galaxies by name; of the judged ones those that were asked about mergers."""
    column = contents.tree.column(MERGER)
    judged, given = contents.optional("judged"), contents.optional("given")
    asked = None if judged is None else judged.chosen(~np.isnan(judged.volunteers[:, column]))
    samples = {f"{contents.part} part": asked, GIVEN: given}
    return {
        name: galaxies
        for name, galaxies in samples.items()
        if galaxies is not None and not np.isnan(galaxies.predicted[:, column]).all()
    }


def _counts(page: Page, contents: Contents, samples: Mapping[str, JudgedGalaxies]) -> dict[str, Any]:
    tree, column, spread = contents.tree, contents.tree.column(MERGER), None
    joint = {f"predicted, {name}": galaxies.predicted for name, galaxies in samples.items()}
    name, first = next(iter(samples.items()))
    if name != GIVEN:
        joint = {f"volunteers, {name}": first.volunteers} | joint
        sides = {"volunteers": first.volunteers[:, column], "predicted": first.predicted[:, column]}
        both = int(np.sum((sides["volunteers"] >= THRESHOLD) & (sides["predicted"] >= THRESHOLD)))
        spread = {"both": both, **{side: float(values.std()) for side, values in sides.items()}}
    counts = {name: count_above(tree, values) for name, values in joint.items()}
    page.table("merger-fractions", counts_table(counts))
    page.figure("merger-fraction", *fraction_against_threshold(tree, joint))
    return {"spread": spread}


def _candidates(page: Page, contents: Contents) -> dict[str, Any]:
    given, column = contents.optional("given"), contents.tree.column(MERGER)
    pool, stamps = given or contents.judged, contents.stamps
    imaged = pool.chosen(pool.rows >= 0)
    if not len(imaged.ids):
        what = "The candidates cannot be shown: the data have no image of the catalogue given."
        raise Missing(what, "hubblefork ingest … --out DATA, with their images among the inputs")
    best = imaged.chosen(prototypes(imaged.predicted, imaged.ids, column, CANDIDATES))
    values, votes = best.predicted[:, column], best.volunteers[:, column]
    notes = [
        f"{value:.2f}" if np.isnan(vote) else f"{value:.2f}\nvotes {vote:.2f}"
        for value, vote in zip(values, votes, strict=True)
    ]
    sheet = image_sheet(np.asarray(stamps[best.rows]), best.ids.tolist(), notes=notes, columns=CANDIDATES)
    page.figure("merger-candidates", *sheet)
    return {"number": len(values), "sample": GIVEN if given else f"the {contents.part} part"}


def _corrected(page: Page, contents: Contents, samples: Mapping[str, JudgedGalaxies]) -> dict[str, Any]:
    """Add the fraction by every estimator, against the threshold, and with published ones."""
    evaluate, tree, rng = contents.run.evaluate_command(), contents.tree, np.random.default_rng(SEED)
    if not samples:
        raise Missing("There are no predictions to count mergers in.", evaluate)
    judged = {name: _calibration_galaxies(contents, galaxies) for name, galaxies in samples.items()}
    tables = {
        name: with_fractions(pa.table({ID: galaxies.ids}), galaxies.predicted, tree)
        for name, galaxies in samples.items()
    }
    try:
        fractions = {
            name: fraction(table, judged=judged[name], tree=tree, rng=rng) for name, table in tables.items()
        }
    except HubbleforkError as error:
        raise Missing(str(error), evaluate) from error
    votes = {name: galaxies.volunteers[:, tree.column(MERGER)] for name, galaxies in samples.items()}
    votes = {name: values[~np.isnan(values)] for name, values in votes.items()}
    _estimators(page, tree, fractions, samples)
    first, last = next(iter(fractions)), list(fractions)[-1]  # judged galaxies first, where there are any
    swept = sweep(tables[first], tree, MERGER, judged[first], rng=rng)
    asked = votes[first] if len(votes[first]) else None
    page.figure("fraction-thresholds", *estimates_against_threshold(swept, marked=THRESHOLD, votes=asked))
    page.figure("published", *beside_published(fractions[last]))
    with page.showing("calibration-galaxies", "regression"):
        _regression(page, contents, judged[first])
    time = PUBLISHED["lotz-gm20"]
    rate = {"sample": last, "time": time, "value": fractions[last].rate(time), "warning": UNCALIBRATED}
    return {
        "corrected": {
            name: measured
            for name, measured in fractions.items()
            if isinstance(measured.calibration, Calibration)
        },
        "swept_sample": first,
        "rate": rate,
    }


def _calibration_galaxies(contents: Contents, sample: JudgedGalaxies) -> JudgedGalaxies | Unavailable:
    try:
        return contents.run.judged(views=sample.views, tree=contents.tree, weights=sample.weights)
    except HubbleforkError as error:
        return Unavailable(f"no calibration galaxies: {error}", contents.run.evaluate_command(sample.views))


def _estimators(
    page: Page,
    tree: DecisionTree,
    fractions: Mapping[str, Fraction],
    samples: Mapping[str, JudgedGalaxies],
) -> None:
    """Add every estimator of every sample, beside the volunteers' own share where they were asked."""
    own: dict[str, Count | None] = {}
    for name, galaxies in samples.items():
        asked = ~np.isnan(galaxies.volunteers[:, tree.column(MERGER)]).all()
        own[name] = count_above(tree, galaxies.volunteers) if asked else None
    truths = {name: count.value for name, count in own.items() if count}
    page.figure("estimators", *estimators_side_by_side(fractions, truths=truths))
    rows: dict[str, Any] = {
        label: {name: measured.estimates[key] for name, measured in fractions.items()}
        for key, label in LABELS.items()
        if key in next(iter(fractions.values())).estimates
    }
    numbers = {name: measured.as_json() for name, measured in fractions.items()}
    volunteers = {name: [count.count, count.total] if count else None for name, count in own.items()}
    columns: list[Column] = [
        ("estimator", "", ""),
        *(
            (f"{name} ({measured.galaxies:,})", itemgetter(name), _cell)
            for name, measured in fractions.items()
        ),
    ]
    page.table(
        "estimators-table",
        Table.of({**rows, "volunteers' own": own}, columns, numbers={**numbers, "volunteers": volunteers}),
    )


def _cell(estimate: Estimate | Unavailable | Count) -> str:
    if isinstance(estimate, Unavailable):
        return f"not available: {estimate.reason}"
    counted = f": {estimate.count} of {estimate.total:,}" if isinstance(estimate, Count) else ""
    return f"{decimal(estimate.value)} ({bounds((estimate.low, estimate.high))}){counted}"


def _regression(page: Page, contents: Contents, judged: JudgedGalaxies | Unavailable) -> None:
    if isinstance(judged, Unavailable):
        raise Missing(judged.reason, judged.remedy)
    column = contents.tree.column(MERGER)
    both = ~(np.isnan(judged.volunteers[:, column]) | np.isnan(judged.predicted[:, column]))
    score, votes = judged.predicted[both, column], judged.volunteers[both, column]
    calibration = Calibration(score >= THRESHOLD, votes >= THRESHOLD, score, judged.origin)
    if calibration.truth.any():
        page.figure("regression", *regression_to_the_mean(calibration, votes, threshold=THRESHOLD))
