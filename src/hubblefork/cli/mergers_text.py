"""What `hubblefork mergers` says in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
from rich.markup import escape
from rich.table import Table

from hubblefork.data.folders import RunFolder, named_run
from hubblefork.errors import HubbleforkError
from hubblefork.stats.detection import Calibration
from hubblefork.stats.estimators import LABELS, Estimate, Unavailable
from hubblefork.stats.prevalence import Fraction
from hubblefork.stats.rates import PUBLISHED, UNCALIBRATED, Rate
from hubblefork.zoo import DecisionTree


def estimator_table(catalogue: Path, found: Fraction) -> Table:
    """Return the estimators side by side, the default first and marked."""
    criterion = found.criterion.text
    table = Table(
        "estimator", title=f"{escape(criterion)}: {found.galaxies:,} galaxies of {escape(str(catalogue))}"
    )
    table.add_column("fraction", justify="right")
    table.add_column(f"{found.level:.0%} interval", justify="right", no_wrap=True)
    table.add_column("")
    for key, one in found.estimates.items():
        label = f"[bold]{LABELS[key]}[/] ←" if key == found.estimator else LABELS[key]
        if isinstance(one, Estimate):
            table.add_row(label, f"{one.value:.4f}", f"{one.low:.4f} to {one.high:.4f}", escape(one.note))
        else:
            table.add_row(label, "–", "–", escape(f"not available: {_briefly(one)}"))
    return table


def _briefly(lost: Unavailable) -> str:
    return lost.reason.split(":")[0] if lost.reason.startswith("no calibration") else lost.reason


def origin_lines(found: Fraction) -> list[str]:
    """Say what was counted, what true means, and on which galaxies the corrections rest."""
    count = int(np.count_nonzero(found.sample.counts))
    lines = [f"counted: {count} of {found.galaxies} galaxies have a predicted {found.criterion.text}"]
    if found.clean:
        lines.append("sample: only galaxies that were well asked (Willett et al. 2013, table 3, 20 votes)")
    if found.left_out:
        lines.append(f"left out: {found.left_out} galaxies that lack a fraction or were not well asked")
    lines.append(f"true: the volunteers' joint fractions have {found.truth.text}")
    return [escape(line) for line in [*lines, *_calibration_lines(found.calibration), *found.notes]]


def _calibration_lines(known: Calibration | Unavailable) -> list[str]:
    if isinstance(known, Unavailable):
        return [f"not corrected: {known.reason}", f"remedy: {known.remedy}"]
    measured = known.confusion()
    return [
        f"calibrated on {len(known.truth)} {known.origin}: "
        f"completeness {measured.true_positives}/{measured.positives} = {measured.completeness:.3f}, "
        f"false-positive rate {measured.false_positives}/{measured.negatives} = "
        f"{measured.false_positive_rate:.4f}"
    ]


def bin_table(binned: Mapping[tuple[float, float], Fraction | None], bins: str) -> Table:
    """Return count and default of each bin; `bins` as it was asked for."""
    table = Table(escape(bins.partition(":")[0]))
    for name in ("galaxies", "counted", "default", "interval"):
        table.add_column(name, justify="right")
    for (low, high), found in binned.items():
        if found is None:
            table.add_row(f"{low:g} to {high:g}", "0", "–", "–", "–")
            continue
        one = found.estimate
        counted = f"{np.count_nonzero(found.sample.counts)}"
        shown = f"{one.value:.4f}" + (" (count)" if found.estimator == "count" else "")
        table.add_row(
            f"{low:g} to {high:g}", f"{found.galaxies:,}", counted, shown, f"{one.low:.4f} to {one.high:.4f}"
        )
    table.caption = (
        "Where the labels lack the column, completeness and false-positive rate are those of all bins"
    )
    return table


def rate_lines(rates: Mapping[str, Rate], time: str) -> list[str]:
    """Say the rates with their intervals, the time they rest on, and what that is worth."""
    if not rates:
        return []
    symbols = {"per_galaxy": "R = f/⟨T_obs⟩", "per_volume": "Γ = n f/⟨T_obs⟩"}
    lines = [
        f"{symbols[name]} = {rate.value.value:.3g} ({rate.level:.0%}: {rate.low.value:.3g} to "
        f"{rate.high.value:.3g}) {rate.value.unit.to_string('unicode')}"
        for name, rate in rates.items()
    ]
    source = f"; {PUBLISHED[time].source}" if time in PUBLISHED else " Gyr, as given"
    return [escape(line) for line in [*lines, f"⟨T_obs⟩ = {time}{source}", UNCALIBRATED]]


def warnings(table: pa.Table, found: Fraction, tree: DecisionTree) -> list[str]:
    """Say what speaks against the numbers."""
    lines = []
    if found.estimator == "count":
        lines.append("the default is the count, not corrected: fine for votes, too low for predictions")
    if isinstance(found.calibration, Calibration) and found.calibration.truth.sum() < 10:
        lines.append(
            f"only {int(found.calibration.truth.sum())} true calibration galaxies: the correction is weak"
        )
    seen = _trained(table, tree)
    if seen:
        lines.append(f"{seen} of the galaxies were trained on: the network knows their votes")
    return [f"[yellow]warning: {escape(line)}[/]" for line in lines]


def _trained(table: pa.Table, tree: DecisionTree) -> int:
    try:
        return RunFolder(named_run(table)).trained_on(table, tree)
    except HubbleforkError:
        return 0
