"""Every estimator of a fraction side by side, each there or said to be unavailable, and the default.

What is true is said by the calibration galaxies: with volunteers' labels, that the volunteers' own fractions
meet the criterion; on a mock sky it may also be the truth itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hubblefork.data.catalogue import columns_of, fractions_by_answer
from hubblefork.errors import CatalogueError
from hubblefork.stats import calibration, detection
from hubblefork.stats.calibration import RESAMPLES
from hubblefork.stats.detection import THRESHOLDS, Calibration, Confusions
from hubblefork.stats.estimators import LEVEL, Estimate, Unavailable, counted, effective_count, summed
from hubblefork.stats.held_out import HeldOut
from hubblefork.stats.query import Bins, Criterion, Joint, at_least, numbers_of
from hubblefork.stats.samples import well_asked
from hubblefork.zoo import DecisionTree

DEFAULT = "corrected"
UNCORRECTED = "count"


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
) -> dict[str, Estimate | Unavailable]:
    """Return what each estimator makes of a sample, by its name; the one to be quoted is `default`.

    `known` are the calibration galaxies, or why there are none. `rng` draws the bootstrap.
    """
    corrected = _corrected(sample, known, level)
    mapped = _recalibrated(sample, known, rng=rng, level=level, resamples=resamples)
    plain: dict[str, Estimate | Unavailable] = {
        UNCORRECTED: counted(sample.counts, weights=sample.weights, level=level),
        "count_jeffreys": counted(sample.counts, weights=sample.weights, interval="jeffreys", level=level),
        "sum": _summed(sample, level),
    }
    return corrected | mapped | plain


def default(estimators: Mapping[str, Estimate | Unavailable]) -> tuple[str, Estimate]:
    """Return name and estimate of the default: the corrected one, or the count where that cannot be had."""
    for name in (DEFAULT, UNCORRECTED):
        found = estimators[name]
        if isinstance(found, Estimate):
            return name, found
    raise CatalogueError("not even the count can be had")


def _corrected(
    sample: Sample, known: Calibration | Unavailable, level: float
) -> dict[str, Estimate | Unavailable]:
    methods = {
        DEFAULT: detection.lang_reiczigel,
        "bayesian": detection.bayesian,
        "rogan_gladen": detection.rogan_gladen,
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
    if measured.separates:
        return None
    return Unavailable(
        f"of {measured.positives} true calibration galaxies {measured.true_positives} are counted, of "
        f"{measured.negatives} others {measured.false_positives}: completeness and false-positive rate "
        "cannot be told apart",
        "a lower --threshold, more labelled galaxies (--calibrate-on … --labels …), or a better network",
    )


def _recalibrated(
    sample: Sample,
    known: Calibration | Unavailable,
    *,
    rng: np.random.Generator,
    level: float,
    resamples: int,
) -> dict[str, Estimate | Unavailable]:
    methods: dict[str, Callable[..., Estimate]] = {
        "isotonic": calibration.isotonic,
        "quantile": calibration.quantile,
    }
    lost = _unfitted(sample, known)
    if lost is not None:
        return {name: lost for name in methods}  # noqa: C420 - as above
    assert isinstance(known, Calibration)
    fit = partial(_fit, sample, known, rng=rng, level=level, resamples=resamples)
    return {name: fit(method) for name, method in methods.items()}


def _fit(sample: Sample, known: Calibration, method: Callable[..., Estimate], **how: object) -> Estimate:
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


def _summed(sample: Sample, level: float) -> Estimate | Unavailable:
    return _unscored() if sample.score is None else summed(sample.score, weights=sample.weights, level=level)


def _unscored() -> Unavailable:
    return Unavailable(
        "an expression of several answers has no single predicted fraction",
        "--answer with --threshold for one answer",
    )


SUFFIX = "_debiased"

Known = HeldOut | Confusions | Unavailable
"""Labelled galaxies that the network did not train on, or their numbers alone, or why there are none."""


@dataclass(frozen=True)
class Wanted:
    """What is asked of a catalogue: by prediction a galaxy counts when it meets `counted`, in truth `true`.

    With `clean` only galaxies that were well asked (Willett et al. 2013, table 3) are in the sample.
    `weights` names a column; empty for none. Raises CatalogueError for a level outside (0, 1).
    """

    counted: Criterion
    true: Criterion
    clean: bool = False
    weights: str = ""
    level: float = LEVEL
    resamples: int = RESAMPLES

    def __post_init__(self) -> None:
        if not 0 < self.level < 1:
            raise CatalogueError(f"a level of {self.level}: it lies between 0 and 1, as 0.95")

    @property
    def answers(self) -> set[str]:
        """The answers that count or are true."""
        return {*self.counted.answers, *self.true.answers}

    def needed(self, tree: DecisionTree) -> tuple[str, ...]:
        """Return the answers whose fractions decide: of all where galaxies are to be well asked."""
        return tree.columns if self.clean else tuple(name for name in tree.columns if name in self.answers)

    def columns(self, tree: DecisionTree) -> set[str]:
        """Return the names that the columns with these fractions, or debiased ones, may have."""
        return {*columns_of(tree, self.needed(tree)), *(name + SUFFIX for name in self.answers)}


@dataclass(frozen=True)
class Measurement:
    """The estimators of one sample, and what they rest on; `notes` are for the reader.

    `estimators` are as from `side_by_side`, `left_out` galaxies lack a fraction or were not well asked.
    """

    wanted: Wanted
    sample: Sample
    known: Calibration | Unavailable
    estimators: Mapping[str, Estimate | Unavailable]
    left_out: int
    notes: tuple[str, ...] = ()

    @property
    def galaxies(self) -> int:
        """How many galaxies the sample has."""
        return len(self.sample.counts)

    def default(self) -> tuple[str, Estimate]:
        """Return name and estimate of the estimator to be quoted."""
        return default(self.estimators)

    def draws(self, number: int, *, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draw fractions as uncertain as the default; by the count's posterior where that is it."""
        count, total = effective_count(self.sample.counts, self.sample.weights)
        if self.default()[0] == DEFAULT and isinstance(self.known, Calibration):
            measured = self.known.confusion()
            return detection.lang_reiczigel_draws(count, total, measured, number, rng=rng)
        return rng.beta(count + 0.5, total - count + 0.5, number)


def criteria(
    tree: DecisionTree, answer: str, threshold: float, predicted_threshold: float | None = None
) -> tuple[Criterion, Criterion]:
    """Return what counts by prediction and what is true, for one answer. Raises as `at_least` does."""
    true = at_least(tree, answer, threshold)
    return (true if predicted_threshold is None else at_least(tree, answer, predicted_threshold)), true


def check_columns(head: pa.Table, tree: DecisionTree, wanted: Wanted, named: Sequence[str]) -> None:
    """Raise CatalogueError, with the nearest name, unless a catalogue has what is wanted and `named` columns.

    `head` has all of its columns, and need have no rows.
    """
    fractions_by_answer(head, tree, wanted.needed(tree))
    for name in named:
        numbers_of(head, name)


def measure(
    table: pa.Table,
    tree: DecisionTree,
    wanted: Wanted,
    held_out: Known,
    *,
    rng: np.random.Generator,
) -> Measurement:
    """Measure the fraction of a catalogue by every estimator.

    `table` is a catalogue of predictions; columns `<answer>_debiased` are used where it has them for all
    answers wanted. Calibration galaxies that are in the catalogue themselves are not used, unless there
    are no others. Raises CatalogueError for a catalogue in which no galaxy is left.
    """
    joint, notes = _joint(table, tree, wanted)
    keep = _kept(tree, joint, wanted)
    if not keep.any():
        raise CatalogueError(
            f"none of the {len(table)} galaxies is left: they lack fractions or were not well asked"
        )
    weights = numbers_of(table, wanted.weights) if wanted.weights else None
    sample = sample_of(joint, wanted.counted, weights=weights).chosen(keep)
    known = _calibration(tree, wanted, held_out, table)
    found = side_by_side(sample, known, rng=rng, level=wanted.level, resamples=wanted.resamples)
    left_out = int(np.count_nonzero(~keep))
    return Measurement(wanted, sample, known, found, left_out, notes)


def measure_bins(
    table: pa.Table,
    tree: DecisionTree,
    wanted: Wanted,
    held_out: Known,
    bins: Bins,
    *,
    rng: np.random.Generator,
) -> list[Measurement | None]:
    """Measure the fraction in each bin; None for one without galaxies.

    Calibration galaxies are binned too where their labels have the column; else all of them serve in every
    bin, which takes completeness and false-positive rate to be the same in all (a note says so).
    """
    place = bins.place(numbers_of(table, bins.column))
    found: list[Measurement | None] = []
    for number in range(len(bins.edges) - 1):
        inside = table.filter(place == number)
        near = _in_bin(held_out, bins, number) if isinstance(held_out, HeldOut) else held_out
        some = len(inside) and _kept(tree, _joint(inside, tree, wanted)[0], wanted).any()
        found.append(measure(inside, tree, wanted, near, rng=rng) if some else None)
    return found


def sweep(
    table: pa.Table,
    tree: DecisionTree,
    answer: str,
    held_out: Known,
    *,
    rng: np.random.Generator,
    thresholds: Sequence[float] = THRESHOLDS,
    level: float = LEVEL,
) -> list[Measurement]:
    """Measure the fraction at every threshold, the same one on predictions and on votes."""
    pairs = [criteria(tree, answer, threshold) for threshold in thresholds]
    wanted = [Wanted(counted, true, level=level, resamples=100) for counted, true in pairs]
    return [measure(table, tree, one, held_out, rng=rng) for one in wanted]


def as_json(measured: Measurement) -> dict[str, Any]:
    """Return the default and every estimator in the shape that `hubblefork mergers --json` prints."""
    name, value = measured.default()
    return {
        "default": {"estimator": name, **_value(value)},
        "estimators": {
            name: _entry(found, measured.wanted.level) for name, found in measured.estimators.items()
        },
    }


def _entry(found: Estimate | Unavailable, level: float) -> dict[str, Any]:
    if isinstance(found, Unavailable):
        missing = {"value": None, "interval": None, "level": level}
        return {**missing, "reason": found.reason, "remedy": found.remedy}
    return {**_value(found), "method": found.method, "note": found.note}


def _value(found: Estimate) -> dict[str, Any]:
    return {"value": found.value, "interval": [found.low, found.high], "level": found.level}


def _joint(table: pa.Table, tree: DecisionTree, wanted: Wanted) -> tuple[Joint, tuple[str, ...]]:
    """Return the fractions that are needed, debiased where the catalogue has all that are wanted."""
    joint = fractions_by_answer(table, tree, wanted.needed(tree))
    names = sorted(wanted.answers)
    if not all(name + SUFFIX in table.column_names for name in names):
        return joint, ()
    joint |= {name: numbers_of(table, name + SUFFIX) for name in names}
    columns = ", ".join(name + SUFFIX for name in names)
    return joint, (f"debiased fractions are used: {columns}",)


def _kept(tree: DecisionTree, joint: Joint, wanted: Wanted) -> NDArray[np.bool_]:
    keep = wanted.counted.known(joint)
    if wanted.clean:
        array = np.stack([joint[name] for name in tree.columns], axis=1)
        for number in sorted({tree.question_of[tree.column(name)] for name in wanted.counted.answers}):
            keep &= well_asked(tree, array, tree.questions[number].name)
    return keep


def _calibration(
    tree: DecisionTree, wanted: Wanted, held_out: Known, table: pa.Table
) -> Calibration | Unavailable:
    if isinstance(held_out, Unavailable):
        return held_out
    if isinstance(held_out, Confusions):
        return _counted(wanted, held_out)
    apart = held_out.apart_from(table)
    apart = apart.chosen(_kept(tree, _by_answer(tree, apart.predicted), wanted))
    predicted, volunteers = (_by_answer(tree, joint) for joint in (apart.predicted, apart.volunteers))
    return calibration_of(predicted, volunteers, wanted.counted, true=wanted.true, origin=apart.origin)


def _counted(wanted: Wanted, known: Confusions) -> Calibration | Unavailable:
    if wanted.clean:
        reason = "beside the weights are numbers of all galaxies, not of those that were well asked"
        return Unavailable(reason, "labelled galaxies (--calibrate-on … --labels …)")
    return known.calibration(wanted.counted, wanted.true)


def _by_answer(tree: DecisionTree, joint: NDArray) -> Joint:
    return dict(zip(tree.columns, joint.T, strict=True))


def _in_bin(held_out: HeldOut, bins: Bins, number: int) -> HeldOut:
    if bins.column not in held_out.columns.column_names:
        return held_out
    return held_out.chosen(bins.place(numbers_of(held_out.columns, bins.column)) == number)
