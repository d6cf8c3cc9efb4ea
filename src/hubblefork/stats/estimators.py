"""Every estimator of a fraction side by side, each there or said to be unavailable, and the default.

What is true is said by the calibration galaxies: with volunteers' labels, that the volunteers' own fractions
meet the criterion; on a mock sky it may also be the truth itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from hubblefork.errors import CatalogueError
from hubblefork.stats import calibration, completeness
from hubblefork.stats.fractions import (
    LEVEL,
    Estimated,
    Unavailable,
    counted,
    effective_count,
    summed,
)
from hubblefork.stats.where import Criterion, Joint

DEFAULT = "corrected"
UNCORRECTED = "count"

Estimate = Estimated | Unavailable


@dataclass(frozen=True)
class Sample:
    """Galaxies whose share is sought: which count by prediction (galaxy,), and the predicted fraction itself.

    `score` is None for a criterion without a single fraction. Raises CatalogueError for no galaxies or
    arrays of different lengths.
    """

    counts: NDArray[np.bool_]
    score: NDArray[np.float64] | None = None
    weights: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        if not len(self.counts):
            raise CatalogueError("no galaxies are left to count; give a catalogue or a selection with some")
        lengths = {len(part) for part in (self.counts, self.score, self.weights) if part is not None}
        if len(lengths) > 1:
            raise CatalogueError(f"a sample of {sorted(lengths)} galaxies: its columns differ in length")

    def chosen(self, which: NDArray) -> Sample:
        """Return some of the galaxies."""
        score, weights = (None if part is None else part[which] for part in (self.score, self.weights))
        return Sample(self.counts[which], score, weights)


@dataclass(frozen=True)
class Calibration:
    """Labelled galaxies that the network did not train on: which count by prediction, which are true ones.

    `score` is the predicted fraction or None, as in `Sample`; `origin` says where they are from.
    """

    counts: NDArray[np.bool_]
    truth: NDArray[np.bool_]
    score: NDArray[np.float64] | None = None
    origin: str = ""

    def confusion(self) -> completeness.Confusion:
        """Return completeness and contamination as numbers of galaxies."""
        return completeness.confusion(self.counts, self.truth)

    def chosen(self, which: NDArray) -> Calibration:
        """Return some of the galaxies."""
        score = None if self.score is None else self.score[which]
        return Calibration(self.counts[which], self.truth[which], score, self.origin)


def sample_of(joint: Joint, criterion: Criterion, *, weights: NDArray | None = None) -> Sample:
    """Return a sample of joint fractions by answer, none of those that `criterion` needs missing."""
    return Sample(criterion.holds(joint), criterion.score(joint), weights)


def calibration_of(
    predicted: Joint,
    volunteers: Joint,
    criterion: Criterion,
    *,
    true: Criterion | None = None,
    origin: str = "",
) -> Calibration:
    """Return calibration galaxies of predicted and volunteers' joint fractions, both by answer.

    By prediction those count that meet `criterion`, in truth those whose votes meet `true`, which is the
    same unless given. Galaxies without the fractions that are needed are left out.
    """
    true = true or criterion
    known = true.known(volunteers) & criterion.known(predicted)
    found = Calibration(
        criterion.holds(predicted), true.holds(volunteers), criterion.score(predicted), origin
    )
    return found.chosen(known)


def side_by_side(
    sample: Sample,
    known: Calibration | Unavailable,
    *,
    rng: np.random.Generator,
    level: float = LEVEL,
    resamples: int = calibration.RESAMPLES,
) -> dict[str, Estimate]:
    """Return what each estimator makes of a sample, by its name; the one to be quoted is `default`.

    `known` are the calibration galaxies, or why there are none. `rng` draws the bootstrap.
    """
    corrected = _corrected(sample, known, level)
    mapped = _recalibrated(sample, known, rng=rng, level=level, resamples=resamples)
    plain: dict[str, Estimate] = {
        UNCORRECTED: counted(sample.counts, weights=sample.weights, level=level),
        "count_jeffreys": counted(sample.counts, weights=sample.weights, interval="jeffreys", level=level),
        "sum": _summed(sample, level),
    }
    return corrected | mapped | plain


def default(estimators: Mapping[str, Estimate]) -> tuple[str, Estimated]:
    """Return name and estimate of the default: the corrected one, or the count where that cannot be had."""
    for name in (DEFAULT, UNCORRECTED):
        found = estimators[name]
        if isinstance(found, Estimated):
            return name, found
    raise CatalogueError("not even the count can be had")


def _corrected(sample: Sample, known: Calibration | Unavailable, level: float) -> dict[str, Estimate]:
    methods = {
        DEFAULT: completeness.lang_reiczigel,
        "bayesian": completeness.bayesian,
        "rogan_gladen": completeness.rogan_gladen,
    }
    lost = known if isinstance(known, Unavailable) else _uncorrectable(known)
    if lost is not None:
        return {name: lost for name in methods}  # noqa: C420 - the values differ in type otherwise
    assert isinstance(known, Calibration)
    count, total = effective_count(sample.counts, sample.weights)
    measured = known.confusion()
    return {name: method(count, total, measured, level=level) for name, method in methods.items()}


def _uncorrectable(known: Calibration) -> Unavailable | None:
    measured = known.confusion()
    if measured.tells:
        return None
    return Unavailable(
        f"of {measured.true} true calibration galaxies {measured.found} are counted, of {measured.others} "
        f"others {measured.mistaken}: completeness and contamination cannot be told apart",
        "a lower --threshold, more labelled galaxies (--calibrate-on … --labels …), or a better network",
    )


def _recalibrated(
    sample: Sample,
    known: Calibration | Unavailable,
    *,
    rng: np.random.Generator,
    level: float,
    resamples: int,
) -> dict[str, Estimate]:
    methods: dict[str, Callable[..., Estimated]] = {
        "isotonic": calibration.isotonic,
        "quantile": calibration.quantile,
    }
    lost = _unfitted(sample, known)
    if lost is not None:
        return {name: lost for name in methods}  # noqa: C420 - as above
    assert isinstance(known, Calibration)
    fit = partial(_fit, sample, known, rng=rng, level=level, resamples=resamples)
    return {name: fit(method) for name, method in methods.items()}


def _fit(sample: Sample, known: Calibration, method: Callable[..., Estimated], **how: object) -> Estimated:
    return method(sample.score, known.score, known.truth, weights=sample.weights, **how)


def _unfitted(sample: Sample, known: Calibration | Unavailable) -> Unavailable | None:
    if isinstance(known, Unavailable):
        return known
    if sample.score is None:
        return _unscored()
    if known.score is None:
        remedy = "labelled galaxies, not numbers of them (--calibrate-on … --labels …)"
        return Unavailable("needs the calibration galaxies themselves", remedy)
    if not known.truth.any():
        why = f"none of the {len(known.truth)} calibration galaxies is a true one"
        return Unavailable(
            why, "a lower --threshold, or more labelled galaxies (--calibrate-on … --labels …)"
        )
    return None


def _summed(sample: Sample, level: float) -> Estimate:
    return _unscored() if sample.score is None else summed(sample.score, weights=sample.weights, level=level)


def _unscored() -> Unavailable:
    return Unavailable(
        "an expression of several answers has no single predicted fraction",
        "--answer with --threshold for one answer",
    )
