"""The fraction of galaxies in a catalogue that meet a criterion, by every estimator, with intervals.

A galaxy is true when the volunteers' fractions meet the criterion. Equations and sources are in
docs/merger-fraction.md.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from html import escape
from typing import Any

import numpy as np
from astropy import units
from astropy.table import Table
from numpy.typing import NDArray

from hubblefork.data.folders import RunFolder, named_run
from hubblefork.data.judged import JudgedGalaxies
from hubblefork.errors import CatalogueError, HubbleforkError
from hubblefork.stats import detection
from hubblefork.stats.detection import THRESHOLDS, Calibration, Confusions
from hubblefork.stats.estimators import (
    DEFAULT,
    LABELS,
    LEVEL,
    UNCORRECTED,
    Estimate,
    Sums,
    Unavailable,
    counted,
    summed,
)
from hubblefork.stats.query import (
    Bins,
    Criterion,
    at_least,
    columns_to_read,
    debiased,
    joint_in,
    numbers_of,
    parse_bins,
    parse_query,
    usable,
)
from hubblefork.stats.rates import DRAWS, Rate, Time, rates_of
from hubblefork.tables.catalogue import Catalogue, head_of, ids_among, pieces_of
from hubblefork.tables.published import tree_of
from hubblefork.zoo import DecisionTree

MERGERS = "merger >= 0.3"
FEWEST = 10
LABELLED = "labelled galaxies (--calibrate-on … --labels …)"
NO_GALAXIES = Unavailable("no calibration galaxies: none were given", "give galaxies with labels")
SEVERAL = Unavailable(
    "but for an answer from a threshold on there is no single predicted fraction",
    '--answer with --threshold, as "merger >= 0.3"',
)

Judged = JudgedGalaxies | Confusions | Unavailable
"""Labelled galaxies that the network did not train on, or their numbers alone, or why there are none."""


@dataclass(frozen=True, eq=False, repr=False)
class Fraction:
    """The fraction of a catalogue's galaxies that meet a criterion, and how it was estimated.

    `value`, `low` and `high` are those of the estimator to be quoted: the corrected count, or the plain count
    where no correction is available. `estimates` has all estimators by name, `table` shows them. A galaxy
    counts when its predictions meet `criterion`, and is true when its votes meet `truth`. `left_out` galaxies
    lack a fraction or were not asked often enough (`clean`); `sums` are those of the others. `bins` has the
    fraction in each bin (low, high) of the column `binned_by`, None for a bin without galaxies. `notes` are
    for the reader. `catalogue`, `tree` and `judged` are what it was estimated from.
    """

    criterion: Criterion
    truth: Criterion
    sums: Sums
    calibration: Calibration | Unavailable
    estimates: Mapping[str, Estimate | Unavailable]
    level: float
    clean: bool
    left_out: int
    notes: tuple[str, ...]
    rng: np.random.Generator
    catalogue: Catalogue
    tree: DecisionTree
    judged: Judged
    bins: Mapping[tuple[float, float], Fraction | None] = field(default_factory=dict)
    binned_by: str = ""

    @property
    def galaxies(self) -> int:
        """How many galaxies the sample has."""
        return self.sums.galaxies

    @property
    def estimator(self) -> str:
        """The name of the estimator to be quoted."""
        return quoted(self.estimates)

    @property
    def estimate(self) -> Estimate:
        """The estimate to be quoted."""
        estimate = self.estimates[self.estimator]
        assert isinstance(estimate, Estimate)
        return estimate

    value = property(lambda self: self.estimate.value, doc="The fraction.")
    low = property(lambda self: self.estimate.low, doc="The lower end of its interval.")
    high = property(lambda self: self.estimate.high, doc="The upper end of its interval.")

    @property
    def table(self) -> Table:
        """All estimators: label, value, low, high (NaN where unavailable), method, note, reason."""
        numbers, texts = ("value", "low", "high"), ("method", "note", "reason")
        rows = [
            [name, LABELS[name]]
            + [getattr(estimate, key, np.nan) for key in numbers]
            + [getattr(estimate, key, "") for key in texts]
            for name, estimate in self.estimates.items()
        ]
        meta = {"quoted": self.estimator, "level": self.level, "criterion": self.criterion.text}
        return Table(rows=rows, names=("estimator", "label", *numbers, *texts), meta=meta)

    def __str__(self) -> str:
        width = self.high - self.low
        digits = max(2, 1 - math.floor(math.log10(width))) if width else 4
        value, low, high = (f"{number:.{digits}f}" for number in (self.value, self.low, self.high))
        corrected = ", not corrected" if self.estimator == UNCORRECTED else ""
        left_out = f" ({self.left_out:,} left out)" if self.left_out else ""
        lines = [
            f"{self.criterion.text}: {value} ({self.level:.0%} interval {low}–{high})",
            f"{LABELS[self.estimator]}{corrected}, of {self.galaxies:,} galaxies{left_out}",
        ]
        return "\n".join([*lines, *(f"warning: {warning}" for warning in self.warnings())])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"

    def warnings(self) -> list[str]:
        """Return what speaks against the numbers, one sentence each."""
        lines, corrected = [], self.estimates[DEFAULT]
        if isinstance(corrected, Unavailable):
            lines += [
                "the default is the count, not corrected: right for votes, too low for predictions",
                f"not corrected: {corrected.reason}; remedy: {corrected.remedy}",
            ]
        if isinstance(self.calibration, Calibration) and self.calibration.truth.sum() < FEWEST:
            count = int(self.calibration.truth.sum())
            lines.append(f"only {count} true calibration galaxies: the correction is weak")
        try:
            trained = RunFolder(named_run(head_of(self.catalogue))).trained_on(self.catalogue, self.tree)
        except HubbleforkError:
            trained = 0
        if trained:
            lines.append(f"{trained} of the galaxies are in the training set: the network knows their votes")
        return lines

    def draws(self, number: int = DRAWS, *, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draw fractions (number,) as uncertain as the quoted one; the count's are from its posterior."""
        count, total = self.sums.count, self.sums.size
        if self.estimator == DEFAULT and isinstance(self.calibration, Calibration):
            measured = self.calibration.confusion()
            return detection.lang_reiczigel_draws(count, total, measured, number, rng=rng)
        return rng.beta(count + 0.5, total - count + 0.5, number)

    def rates(self, t_obs: str | float | Time, density: str | units.Quantity = "") -> dict[str, Rate]:
        """Return the rate "per_galaxy" (1/Gyr) and, with a number density, "per_volume" (1/(Mpc³ Gyr)).

        `t_obs` is how long a merger can be seen, in Gyr or as for `rates.parse_time`; `density` is as for
        `rates.parse_density`. The same fraction gives the same rates again. Raises CatalogueError.
        """
        rng = copy.deepcopy(self.rng)
        return rates_of(self.draws(rng=rng), t_obs, density, rng=rng, level=self.level)

    def rate(self, t_obs: str | float | Time, density: str | units.Quantity = "") -> Rate:
        """Return the rate per galaxy, or per volume with a number density; see `rates`."""
        return list(self.rates(t_obs, density).values())[-1]

    def as_json(self, rates: Mapping[str, Rate] | None = None) -> dict[str, Any]:
        """Return the quoted and every estimator, and rates, as `hubblefork mergers --json` prints them."""
        entries: dict[str, Any] = {
            "default": {"estimator": self.estimator, **_numbers(self.estimate)},
            "estimators": {name: _entry(estimate, self.level) for name, estimate in self.estimates.items()},
        }
        if self.bins:
            entries["bins"] = [
                {"low": low, "high": high, "galaxies": part.galaxies if part else 0}
                | (part.as_json() if part else {})
                for (low, high), part in self.bins.items()
            ]
        if rates:
            entries["rates"] = {name: rate.as_json() for name, rate in rates.items()}
        return entries


def _entry(estimate: Estimate | Unavailable, level: float) -> dict[str, Any]:
    if isinstance(estimate, Unavailable):
        return {"value": None, "interval": None, "level": level, **asdict(estimate)}
    return {**_numbers(estimate), "method": estimate.method, "note": estimate.note}


def _numbers(estimate: Estimate) -> dict[str, Any]:
    return {"value": estimate.value, "interval": [estimate.low, estimate.high], "level": estimate.level}


def fraction(
    catalogue: Catalogue,
    query: str | Criterion = MERGERS,
    judged: Judged = NO_GALAXIES,
    *,
    truth: str | Criterion | None = None,
    tree: DecisionTree | None = None,
    clean: bool = False,
    weights: str = "",
    bins: str | Bins = "",
    column: str = "",
    level: float = LEVEL,
    resamples: int = detection.RESAMPLES,
    rng: np.random.Generator | None = None,
) -> Fraction:
    """Estimate the fraction of a catalogue's galaxies that meet a query, by every estimator.

    `catalogue` has joint fractions, in a table or in pieces of which one at a time is in memory; columns
    `<answer>_debiased` are used instead where it has them for all answers of the query. `judged` are
    calibration galaxies; those that the catalogue has itself are not used, unless there are no others.
    `truth` is the criterion on the votes; the same as `query` unless given. With `clean` only galaxies asked
    often enough are in the sample (Willett et al. 2013, table 3). `weights` names a column. `bins`
    ("redshift" or "redshift:0.02,0.05") also gives the fraction in bins of that column, or of `column`;
    calibration galaxies are binned too where they have the column. Raises UnknownAnswer, and CatalogueError
    for a wrong query, column or level, or where no galaxy is left.
    """
    if not 0 < level < 1:
        raise CatalogueError(f"a level of {level}: it lies between 0 and 1, as 0.95")
    head, rng = head_of(catalogue), np.random.default_rng(0) if rng is None else rng
    tree = tree or tree_of(head)
    criterion = parse_query(query, tree)
    true = criterion if truth is None else parse_query(truth, tree)
    chosen = parse_bins(bins, catalogue, column) if bins and isinstance(bins, str) else bins or None
    near = _near(judged, catalogue, chosen)
    calibrations = [_calibration(tree, criterion, true, clean, one) for one in near]
    known = [getattr(calibration, "score", None) for calibration in calibrations]
    sums, lost = _sums(catalogue, tree, criterion, true, known, clean=clean, weights=weights, bins=chosen)
    if not sums[0].galaxies:
        raise CatalogueError(
            f"none of the {lost[0]} galaxies is left: they lack fractions or were not well asked"
        )
    used = debiased(head, {*criterion.answers, *true.answers})
    notes = (f"debiased fractions are used: {', '.join(used.values())}",) if used else ()

    def measured(part: Sums, known: Calibration | Unavailable, left_out: int, galaxies: Judged) -> Fraction:
        estimates = estimate_all(part, known, rng=rng, level=level, resamples=resamples)
        how = level, clean, left_out, notes, rng, catalogue, tree, galaxies
        return Fraction(criterion, true, part, known, estimates, *how)

    fractions = [
        measured(*part) if part[0].galaxies else None
        for part in zip(sums, calibrations, lost, near, strict=True)
    ]
    whole = fractions[0]
    assert whole is not None
    if chosen is None:
        return whole
    ends = zip(chosen.edges[:-1], chosen.edges[1:], strict=True)
    return replace(whole, bins=dict(zip(ends, fractions[1:], strict=True)), binned_by=chosen.name)


def _sums(
    catalogue: Catalogue,
    tree: DecisionTree,
    criterion: Criterion,
    truth: Criterion,
    known: Sequence[NDArray | None],
    *,
    clean: bool,
    weights: str,
    bins: Bins | None,
) -> tuple[list[Sums], list[int]]:
    """Return the sums of all galaxies and of each bin, and how many galaxies are left out of them.

    `known` are the scores of the calibration galaxies of each. One piece of the catalogue is in memory.
    """
    sums, lost = [Sums.of(np.zeros(0, bool), known=one) for one in known], [0] * len(known)
    others = [name for name in (weights, bins and bins.column) if name]
    columns = columns_to_read(head_of(catalogue), tree, criterion, truth=truth, clean=clean, others=others)
    for piece in pieces_of(catalogue, columns):
        joint = joint_in(piece, tree, {*criterion.answers, *truth.answers}, clean)
        keep = usable(tree, joint, criterion, clean)
        holds, score = criterion.holds(joint), criterion.score(joint)
        factors = numbers_of(piece, weights) if weights else None
        place = np.zeros(len(piece)) if bins is None else bins.place(numbers_of(piece, bins.column))
        for number in range(len(known)):
            within = place == number - 1 if number else np.ones(len(piece), dtype=bool)
            here = within & keep
            scored, weighted = (None if part is None else part[here] for part in (score, factors))
            sums[number] += Sums.of(holds[here], scored, weighted, known[number])
            lost[number] += int(np.count_nonzero(within & ~keep))
    return sums, lost


def sweep(
    catalogue: Catalogue,
    tree: DecisionTree,
    answer: str,
    judged: Judged,
    *,
    rng: np.random.Generator,
    thresholds: Sequence[float] = THRESHOLDS,
    level: float = LEVEL,
) -> list[Fraction]:
    """Return the fraction at every threshold on one answer, the same threshold on predictions and votes."""
    criteria = [at_least(tree, answer, threshold) for threshold in thresholds]
    options: Any = {"tree": tree, "level": level, "resamples": 100, "rng": rng}
    return [fraction(catalogue, one, judged, **options) for one in criteria]


def estimate_all(
    sums: Sums,
    calibration: Calibration | Unavailable,
    *,
    rng: np.random.Generator,
    level: float = LEVEL,
    resamples: int = detection.RESAMPLES,
) -> dict[str, Estimate | Unavailable]:
    """Return every estimate of a sample's fraction by the names of `LABELS`, or why it is unavailable.

    `calibration` are the calibration galaxies, at whose scores the sample was summed up, or why there are
    none. `rng` draws the bootstrap. Raises CatalogueError for no galaxies, or weights that are all 0.
    """
    count, total = sums.count, sums.size
    measured = _measured(calibration, count, total)
    scored = _scored(sums, calibration)
    estimates: dict[str, Estimate | Unavailable] = {
        name: measured if isinstance(measured, Unavailable) else correct(count, total, measured, level=level)
        for name, correct in detection.CORRECTIONS.items()
    }
    options: dict[str, Any] = {"rng": rng, "level": level, "resamples": resamples}
    for name, recalibrate in detection.RECALIBRATIONS.items():
        estimates[name] = scored if isinstance(scored, Unavailable) else recalibrate(*scored, **options)
    estimates[UNCORRECTED] = counted(sums, level=level)
    estimates["count_jeffreys"] = counted(sums, interval="jeffreys", level=level)
    estimates["sum"] = summed(sums, level=level) if sums.scored else SEVERAL
    return estimates


def quoted(estimates: Mapping[str, Estimate | Unavailable]) -> str:
    """Return the name of the estimator to be quoted: the corrected count, or the count without it."""
    return next(name for name in (DEFAULT, UNCORRECTED) if isinstance(estimates[name], Estimate))


def _measured(
    calibration: Calibration | Unavailable, count: float, total: float
) -> detection.Confusion | Unavailable:
    """Return completeness and false-positive rate, or why they correct nothing."""
    if isinstance(calibration, Unavailable):
        return calibration
    try:
        measured = calibration.confusion()
        detection.check(count, total, measured)
    except CatalogueError as error:
        return Unavailable(str(error), f"a lower --threshold, more {LABELLED}, or a better network")
    return measured


def _scored(
    sums: Sums, calibration: Calibration | Unavailable
) -> tuple[Sums, NDArray, NDArray] | Unavailable:
    """Return the sample, and predicted fractions and truth of the calibration galaxies; or why not."""
    if isinstance(calibration, Unavailable):
        return calibration
    if not sums.scored:
        return SEVERAL
    if calibration.score is None:
        remedy = "labelled galaxies, not numbers of them (--calibrate-on … --labels …)"
        return Unavailable("needs the calibration galaxies themselves", remedy)
    if not calibration.truth.any():
        reason = f"none of the {len(calibration.truth)} calibration galaxies is a true one"
        return Unavailable(reason, f"a lower --threshold, or more {LABELLED}")
    return sums, calibration.score, calibration.truth


def _near(judged: Judged, catalogue: Catalogue, bins: Bins | None) -> list[Judged]:
    """Return the calibration galaxies of the whole catalogue and of each bin, those of its own left out."""
    number = 0 if bins is None else len(bins.edges) - 1
    if not isinstance(judged, JudgedGalaxies):
        return [judged] * (number + 1)
    own = ids_among(catalogue, judged.ids)
    whole: list[Judged] = [judged.apart_from(own)]
    if bins is None or bins.column not in judged.columns.column_names:
        return whole * (number + 1)
    place = bins.place(numbers_of(judged.columns, bins.column))
    return whole + [judged.chosen(place == k).apart_from(own[place == k]) for k in range(number)]


def _calibration(
    tree: DecisionTree, criterion: Criterion, truth: Criterion, clean: bool, judged: Judged
) -> Calibration | Unavailable:
    if isinstance(judged, Unavailable):
        return judged
    if isinstance(judged, Confusions) and clean:
        reason = "beside the weights are numbers of all galaxies, not of those that were well asked"
        return Unavailable(reason, LABELLED)
    if isinstance(judged, Confusions):
        return judged.calibration(criterion, truth)
    predicted, votes = (
        dict(zip(tree.columns, joint.T, strict=True)) for joint in (judged.predicted, judged.volunteers)
    )
    keep = usable(tree, predicted, criterion, clean) & truth.known(votes)
    galaxies = Calibration(
        criterion.holds(predicted), truth.holds(votes), criterion.score(predicted), judged.origin
    )
    return galaxies.chosen(keep)
