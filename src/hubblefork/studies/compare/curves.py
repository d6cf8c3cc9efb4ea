"""Learning curves: error against the number of training galaxies, and what more of them may give."""

from __future__ import annotations

import numpy as np

from hubblefork.data.split import TRAIN
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
    unbroken,
)
from hubblefork.report.figures.learning import errors_over_galaxies
from hubblefork.stats.curves import LearningCurve, learning_curve
from hubblefork.studies.compare.inputs import Network, Study

WHOLE = 55_420  # 90% of the 61,578 galaxies of Kaggle's training set, the rest being for choosing and judging
ENOUGH = 3
HOW = (
    "Each network was trained on nested shares of the training galaxies too, chosen by a hash of the id; the "
    "validation and the judged galaxies stay the same. Where an epoch is one pass over the galaxies, a "
    "training on a share of them has the square root of the share of the steps: less computing, more "
    "repetitions; other recipes keep their steps, early stopping aside. a + b n^−c is fitted by "
    "least squares with a and b not negative and c at most 1: above its floor the squared error of a regular "
    "estimator falls as 1/n, and its root no faster. Four points hardly tell three numbers apart, so look at "
    "the interval (bootstrap of judged galaxies and of seeds, the fit made anew in each sample) and at the "
    "law without a floor, the most that more galaxies could give if the law holds."
)


def curves(study: Study) -> Section:
    """Return the section: the figure, the points, the laws, what is missing."""
    title = "Learning curves"
    found = {name: curve for name in study.plan.curves if (curve := _curve(study, name))}
    short = [name for name in study.plan.curves if name not in found]
    missing: list[Block] = []
    if short:
        what = f"{listed(short)}: fewer than {ENOUGH} shares are trained, too few for a curve."
        missing = [Missing(what, "the same command without --only-report trains them")]
    if not found:
        return Section("learning-curves", title, missing)
    caption = (
        f"RMSE on the {len(study.sky.votes):,} {study.sky.part} galaxies against the number of training "
        "galaxies, both axes logarithmic; bars are the standard deviation over seeds. Lines are fitted power "
        "laws, dotted beyond the galaxies there are: extrapolations, with 95% of the bootstrap samples' laws "
        f"(bands) and their value for {WHOLE:,} galaxies (open markers), 90% of Kaggle's training set."
    )
    drawing = errors_over_galaxies(found, at=WHOLE)
    picture = Picture("learning-curves", drawing, caption)
    blocks = [Paragraph(HOW), picture, _points(study, found), _laws(found), *missing]
    return Section("learning-curves", title, blocks)


def _curve(study: Study, name: str) -> LearningCurve | None:
    points = [(_galaxies(seeds), _terms(seeds, study)) for seeds in _shares(study, name)]
    if len(points) < ENOUGH:
        return None
    return learning_curve(*zip(*points, strict=True), rng=np.random.default_rng(0))


def _shares(study: Study, name: str) -> list[list[Network]]:
    """Return the seeds of each share that has any."""
    found = [study.networks.get((name, share), []) for share in study.plan.shares]
    return [seeds for seeds in found if seeds]


def _galaxies(seeds: list[Network]) -> int:
    return int(seeds[0].notes["galaxies"][TRAIN])


def _terms(seeds: list[Network], study: Study) -> list:
    return [one.terms[study.views[-1]] for one in seeds]


def _points(study: Study, found: dict[str, LearningCurve]) -> Table:
    rows = [
        [unbroken(name), f"{galaxies:,}", str(seeds), _error(rmse, sd)]
        for name, one in found.items()
        for galaxies, seeds, rmse, sd in zip(one.galaxies, one.seeds, one.rmse, one.sd, strict=True)
    ]
    caption = (
        "The points of the curves: mean ± standard deviation over seeds, with "
        f"{counted(study.views[-1], 'view')} at prediction."
    )
    numbers = {
        name: {"galaxies": one.galaxies, "rmse": one.rmse, "sd": one.sd} for name, one in found.items()
    }
    return Table("points", ["", "training galaxies", "seeds", "RMSE ± s.d."], rows, caption, numbers)


def _error(rmse: float, sd: float) -> str:
    return f"{decimal(rmse)} ± {decimal(sd)}" if sd == sd else decimal(rmse)


def _laws(found: dict[str, LearningCurve]) -> Table:
    rows, numbers = [], {}
    for name, one in found.items():
        law, interval = one.law, one.interval_95(WHOLE)
        value, least = float(law.at(WHOLE)), float(one.through_zero.at(WHOLE))
        rows.append(
            [
                unbroken(name),
                decimal(law.floor, 3),
                f"{law.gain * law.scale**law.exponent:.3g}",
                decimal(law.exponent, 2),
                decimal(value),
                bounds(interval.tolist()),
                decimal(least),
            ]
        )
        numbers[name] = {**vars(law), "at": WHOLE, "value": value, "interval_95": interval, "no_floor": least}
    caption = (
        f"The fitted laws, and the RMSE that they give after training on {WHOLE:,} galaxies: an "
        f"extrapolation by a factor of {WHOLE / max(one.galaxies.max() for one in found.values()):.1f} in "
        "the number of galaxies, not a measurement. The last column is the law with a = 0."
    )
    header = ["", "a", "b", "c", f"at {WHOLE:,}", "95% interval", "without a floor"]
    return Table("laws", header, rows, caption, numbers)
