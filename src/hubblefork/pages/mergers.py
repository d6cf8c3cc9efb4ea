"""The section on mergers in the page of a run: how many there are by every estimator, and the candidates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hubblefork.data.catalogue import ID, with_fractions
from hubblefork.data.folders import JudgedGalaxies
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
from hubblefork.pages.tables import Table, bounds, decimal
from hubblefork.stats.detection import Calibration
from hubblefork.stats.estimators import (
    LABELS,
    LEVEL,
    MERGER,
    THRESHOLD,
    Estimate,
    Unavailable,
    binomial_interval,
    count_above,
)
from hubblefork.stats.prevalence import Fraction, fraction, sweep
from hubblefork.stats.rates import PUBLISHED, UNCALIBRATED
from hubblefork.stats.samples import prototypes

CANDIDATES = 9
SEED = 0


def mergers(page: Page, contents: Contents) -> dict[str, Any]:
    """Add the figures and tables of the section; return its values."""
    for name, thing in (("judged", contents.judged), ("given", contents.given)):
        if isinstance(thing, Missing):
            page.missing(name, thing.what, thing.remedy)
    if contents.given is None:
        remedy = f"hubblefork predict {contents.run} IMAGES --out predictions.parquet"
        how = f"{remedy}, then hubblefork report {contents.run} --predictions predictions.parquet"
        page.missing("given", "No catalogue of other images was given to this report.", how)
    context: dict[str, Any] = {"counts": None, "fractions": {}, "threshold": THRESHOLD}
    shown = _counted(contents)
    if shown:
        context |= _counts(page, contents, shown)
        context |= _candidates(page, contents)
    return context | _corrected(page, contents)


def _counted(contents: Contents) -> dict[str, NDArray]:
    """Return the joint fractions (galaxy, answer) in which mergers can be counted, by name."""
    column, joint = contents.tree.column(MERGER), {}
    if not isinstance(contents.judged, Missing):
        judged = contents.judged.chosen(~np.isnan(contents.judged.volunteers[:, column]))
        joint[f"volunteers, {contents.part} part"] = judged.volunteers
        joint[f"predicted, {contents.part} part"] = judged.predicted
    if isinstance(contents.given, JudgedGalaxies):
        joint["predicted, the catalogue given"] = contents.given.predicted
    return {name: values for name, values in joint.items() if (~np.isnan(values[:, column])).any()}


def _counts(page: Page, contents: Contents, joint: Mapping[str, NDArray]) -> dict[str, Any]:
    counts = {name: count_above(contents.tree, values) for name, values in joint.items()}
    rows = [
        [name, f"{one.count:,}", f"{one.total:,}", decimal(one.value), bounds((one.low, one.high))]
        for name, one in counts.items()
    ]
    header = ["sample", "mergers", "galaxies", "merger fraction", f"{LEVEL:.0%} interval"]
    page.table("merger-fractions", Table(header, rows, {name: vars(one) for name, one in counts.items()}))
    page.figure("merger-fraction", *fraction_against_threshold(contents.tree, joint))
    half = {name: count_above(contents.tree, values, threshold=0.5) for name, values in joint.items()}
    return {"counts": counts, "counts_at_half": half, "spread": _spread(contents)}


def _spread(contents: Contents) -> dict[str, Any] | None:
    """Return how many mergers both sides have, and the standard deviations of the fraction on either side."""
    judged, column = contents.judged, contents.tree.column(MERGER)
    if isinstance(judged, Missing) or np.isnan(judged.volunteers[:, column]).all():
        return None
    votes, predicted = judged.volunteers[:, column], judged.predicted[:, column]
    both = int(np.count_nonzero((votes >= THRESHOLD) & (predicted >= THRESHOLD)))
    known = ~np.isnan(votes)
    return {"both": both, "volunteers": float(votes[known].std()), "predicted": float(predicted[known].std())}


def _candidates(page: Page, contents: Contents) -> dict[str, Any]:
    given = isinstance(contents.given, JudgedGalaxies)
    pool = contents.given if given else contents.judged
    lost = next((thing for thing in (pool, contents.stamps) if isinstance(thing, Missing)), None)
    if lost is not None:
        page.missing("merger-candidates", lost.what, lost.remedy)
        return {}
    there, column = pool.chosen(pool.rows >= 0), contents.tree.column(MERGER)
    if not len(there.ids):
        what = "The candidates cannot be shown: the data have no image of the catalogue given."
        remedy = "hubblefork ingest … --out DATA, with their images among the inputs"
        page.missing("merger-candidates", what, remedy)
        return {}
    best = there.chosen(prototypes(there.predicted, there.ids, column, CANDIDATES))
    values, votes = best.predicted[:, column], best.volunteers[:, column]
    notes = [
        f"{value:.2f}" if np.isnan(vote) else f"{value:.2f}\nvotes {vote:.2f}"
        for value, vote in zip(values, votes, strict=True)
    ]
    stamps, ids = np.asarray(contents.stamps[best.rows]), best.ids.tolist()
    page.figure("merger-candidates", *image_sheet(stamps, ids, notes=notes, columns=CANDIDATES))
    ends = {"number": len(ids), "highest": values[0], "lowest": values[-1]}
    return {"candidates": {**ends, "where": "the catalogue given" if given else f"the {contents.part} part"}}


def _samples(contents: Contents) -> dict[str, JudgedGalaxies]:
    """Return the predicted galaxies by name; of the judged ones those that were asked about mergers."""
    samples, column = {}, contents.tree.column(MERGER)
    if not isinstance(contents.judged, Missing):
        asked = ~np.isnan(contents.judged.volunteers[:, column])
        if asked.any():
            samples[f"{contents.part} part"] = contents.judged.chosen(asked)
    if isinstance(contents.given, JudgedGalaxies):
        samples["the catalogue given"] = contents.given
    return samples


def _corrected(page: Page, contents: Contents) -> dict[str, Any]:
    """Add the fraction by every estimator, against the threshold, and with published ones."""
    samples, evaluate = _samples(contents), contents.run.evaluate_command()
    if not samples:
        page.missing("estimators", "There are no predictions to count mergers in.", evaluate)
        return {}
    known = {name: _calibration_galaxies(contents, galaxies.views) for name, galaxies in samples.items()}
    rng, tree = np.random.default_rng(SEED), contents.tree
    tables = {
        name: with_fractions(pa.table({ID: galaxies.ids}), galaxies.predicted, tree)
        for name, galaxies in samples.items()
    }
    try:
        fractions = {
            name: fraction(table, judged=known[name], tree=tree, rng=rng) for name, table in tables.items()
        }
    except HubbleforkError as error:
        page.missing("estimators", str(error), evaluate)
        return {}
    first = next(iter(tables))  # the judged galaxies where there are any: their votes are known
    votes = {name: _votes(galaxies.volunteers[:, tree.column(MERGER)]) for name, galaxies in samples.items()}
    _estimators(page, fractions, votes)
    swept = sweep(tables[first], tree, MERGER, known[first], rng=rng)
    asked = votes[first] if len(votes[first]) else None
    page.figure("fraction-thresholds", *estimates_against_threshold(swept, marked=THRESHOLD, votes=asked))
    unknown = known[first]
    if isinstance(unknown, Unavailable):
        page.missing("calibration-galaxies", unknown.reason, unknown.remedy)
    last, time = list(fractions)[-1], PUBLISHED["lotz-gm20"]
    page.figure("published", *beside_published(fractions[last]))
    confusions = {
        name: {"galaxies": len(one.calibration.truth), "confusion": one.calibration.confusion()}
        for name, one in fractions.items()
        if isinstance(one.calibration, Calibration)
    }
    rate = {"sample": last, "time": time, "value": fractions[last].rate(time), "warning": UNCALIBRATED}
    return {
        "fractions": fractions,
        "confusions": confusions,
        "swept_sample": first,
        "rate": rate,
        "regression": _regression(page, contents, known[first]),
    }


def _calibration_galaxies(contents: Contents, views: int) -> JudgedGalaxies | Unavailable:
    try:
        return contents.run.judged(views=views, tree=contents.tree)
    except HubbleforkError as error:
        return Unavailable(f"no calibration galaxies: {error}", contents.run.evaluate_command(views))


def _votes(column: NDArray) -> NDArray[np.float64]:
    return column[~np.isnan(column)]


def _estimators(page: Page, fractions: Mapping[str, Fraction], votes: Mapping[str, NDArray]) -> None:
    truths = {
        name: (int((values >= THRESHOLD).sum()), len(values)) if len(values) else None
        for name, values in votes.items()
    }
    shares = {name: truth[0] / truth[1] for name, truth in truths.items() if truth}
    page.figure("estimators", *estimators_side_by_side(fractions, truths=shares))
    rows = [
        [LABELS[key], *(_cell(one.estimates[key]) for one in fractions.values())]
        for key in next(iter(fractions.values())).estimates
    ]
    rows.append(["volunteers' own", *(_truth_cell(truths[name]) for name in fractions)])
    numbers: dict[str, Any] = {name: one.as_json() for name, one in fractions.items()}
    numbers["volunteers"] = {name: list(truth) if truth else None for name, truth in truths.items()}
    header = ["estimator", *(f"{name} ({one.galaxies:,})" for name, one in fractions.items())]
    page.table("estimators-table", Table(header, rows, numbers))


def _cell(one: Estimate | Unavailable) -> str:
    if isinstance(one, Unavailable):
        return f"not available: {one.reason}"
    return f"{decimal(one.value)} ({bounds((one.low, one.high))})"


def _truth_cell(truth: tuple[int, int] | None) -> str:
    if truth is None:
        return "not asked"
    count, total = truth
    return f"{decimal(count / total)} ({bounds(binomial_interval(count, total))}): {count} of {total:,}"


def _regression(page: Page, contents: Contents, known: JudgedGalaxies | Unavailable) -> dict[str, Any] | None:
    if isinstance(known, Unavailable):
        return None
    column = contents.tree.column(MERGER)
    there = ~np.isnan(known.volunteers[:, column])
    score, votes = known.predicted[there, column], known.volunteers[there, column]
    calibration = Calibration(score >= THRESHOLD, votes >= THRESHOLD, score, known.origin)
    if not calibration.truth.any():
        return None
    page.figure("regression", *regression_to_the_mean(calibration, votes, threshold=THRESHOLD))
    shares = {"volunteers": calibration.truth.mean(), "predicted": calibration.counts.mean()}
    return {"galaxies": len(votes), **shares}
