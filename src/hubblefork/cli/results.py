"""What the terminal shows of evaluations and merger fractions; it loads the statistics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hubblefork.cli.tables import Shown
from hubblefork.pages.tables import BASELINES, Column, Table, classes_table
from hubblefork.stats.detection import Calibration
from hubblefork.stats.estimators import LABELS, MERGER, Estimate, Unavailable
from hubblefork.stats.evaluation import RARE
from hubblefork.stats.prevalence import Fraction
from hubblefork.stats.rates import PUBLISHED, UNCALIBRATED, Rate


def evaluation_tables(evaluation: Mapping[str, Any]) -> list[Shown]:
    """Show `evaluation.json`: the RMSE beside the baselines, per question, per answer, intervals, mergers."""
    answers, shown = evaluation["answers"], list[Shown]([totals_table(evaluation)])
    if any(row["agreement"] for row in evaluation["questions"].values()):
        shown.append(_questions(evaluation))
    shown.append(_answers(answers, evaluation["baselines"].get("mean_vote")))
    binary = {name: row["binary"] for name, row in answers.items() if "binary" in row}
    classes = [row for row in evaluation["questions"].values() if "classes" in row]
    shown += [classes_table(row) for row in classes]
    own = {name: row for name, row in binary.items() if not any(name in row["classes"] for row in classes)}
    if own:
        shown.append(_binary(own))
    if len(binary) < len(answers):  # of a yes or no intervals say 0, 1 or anything
        shown.append(_intervals(evaluation["intervals"], answers))
    if "posterior" in evaluation:
        shown.append(_intervals(evaluation["posterior"], answers))
    if (well_voted := evaluation.get("well_voted")) and well_voted["rmse"]:
        shown.append(
            f"RMSE of the conditional fractions with at least {well_voted['votes']} votes: "
            f"{well_voted['rmse']['value']:.4f}, {well_voted['labels']:,} of them"
        )
    return [*shown, *_mergers(evaluation)]


def totals_table(evaluation: Mapping[str, Any]) -> Table:
    """Show the RMSE of a run, if there is one, beside the baselines."""
    title = f"{evaluation['galaxies']} {evaluation['part']} galaxies, "
    title += f"trained on {evaluation['training_galaxies']}"
    if evaluation.get("views", 1) > 1:
        title += f", {evaluation['views']} views of each"
    rows = {**({"this run": evaluation} if "rmse" in evaluation else {}), **evaluation["baselines"]}
    unit, digits = evaluation.get("unit"), ".4g" if "unit" in evaluation else ".4f"
    columns: list[Column] = [
        ("", "", lambda name: BASELINES.get(name, name)),
        (f"RMSE ({unit})" if unit else "RMSE", "rmse.value", digits),
        ("95% interval", "rmse.interval_95", digits),
    ]
    if "unit" not in evaluation:
        columns.append(("agreement", "agreement.value", ".3f"))
    by_rmse = dict(sorted(rows.items(), key=lambda item: item[1]["rmse"]["value"]))
    caption = "RMSE over galaxies and all answers; 95% bootstrap intervals over galaxies"
    return Table.of(by_rmse, columns, title=title, caption=caption)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _questions(evaluation: Mapping[str, Any]) -> Table:
    columns: list[Column] = [
        ("question", "", _words),
        ("RMSE", "rmse.value", ".4f"),
        ("agreement", "agreement.value", ".3f"),
        ("galaxies", lambda row: row["agreement"]["galaxies"] if row["agreement"] else 0, ","),
    ]
    caption = f"agreement among the galaxies asked with at least {evaluation['asked_at_least']:g}"
    return Table.of(evaluation["questions"], columns, caption=caption)


def _answers(answers: Mapping[str, Any], mean_vote: Mapping[str, Any] | None) -> Table:
    columns: list[Column] = [
        ("answer", "", _words),
        ("RMSE", "rmse.value", ".4f"),
        ("calibration error", "calibration_error.value", ".4f"),
        ("by chance", "calibration_error.by_chance", ".4f"),
    ]
    mean = f"the mean vote's RMSE over all answers is {mean_vote['rmse']['value']:.4f}" if mean_vote else ""
    return Table.of(answers, columns, caption=mean)


def _intervals(judged: Mapping[str, Any], answers: Mapping[str, Any]) -> Shown:
    if "reason" in judged:
        return f"No intervals judged: {judged['reason']}. {judged['remedy']}"
    columns: list[Column] = [
        ("stated", "stated", "g"),
        ("found", "found.value", ".3f"),
        ("top tenth", "found_top.value", ".3f"),
        *((_words(name), f"answers.{name}.found.value", ".3f") for name in RARE if name in answers),
        ("width", "width", ".3f"),
        ("within", "within", ""),
    ]
    caption = (
        "share of galaxies whose interval holds the volunteers' fraction, "
        f"{{}}; of {len(answers)} answers, those within {judged['tolerance']:g} of what is stated"
    )
    if "origin" in judged:
        columns.append(("by chance", "within_by_chance", ".0f"))
        caption = caption.format(f"calibrated on {judged['origin']}")
        caption += ", and as many as would be by chance if that were exact"
    else:
        caption = caption.format(
            "by the network's concentrations, of fractions that as many volunteers measure"
        )
    return Table.of(judged["coverages"], columns, caption=caption)


def _binary(answers: Mapping[str, Any]) -> Table:
    columns: list[Column] = [
        ("yes or no", "", _words),
        ("have it", lambda row: f"{row['yes']}/{row['galaxies']}", ""),
        ("AUC", "auc.value", ".3f"),
        ("95% interval", "auc.interval_95", ".4f"),
        ("completeness", "completeness.value", ".3f"),
        ("purity", "purity.value", ".3f"),
    ]
    caption = "completeness: of those that have it, the share predicted ≥ 0.5; "
    return Table.of(answers, columns, caption=caption + "purity: of these, the share that has it")


def _mergers(evaluation: Mapping[str, Any]) -> list[str]:
    if MERGER not in evaluation["answers"]:
        return []
    if not evaluation["mergers"]:
        return ["No volunteers were asked about mergers."]
    texts = [
        f"{side} {row['count']}/{row['total']} = {row['value']:.4f} ({row['low']:.4f}–{row['high']:.4f})"
        for side, row in evaluation["mergers"].items()
    ]
    first = evaluation["mergers"]["predicted"]
    return [f"{first['answer']} ≥ {first['threshold']:g}: " + "; ".join(texts)]


def fraction_lines(catalogue: Path, fraction: Fraction) -> list[Shown]:
    """Show a fraction: its estimators, what they rest on, bins."""
    columns: list[Column] = [
        ("estimator", "", lambda name: LABELS[name] + (" ←" if name == fraction.estimator else "")),
        ("fraction", "value", ".4f"),
        (f"{fraction.level:.0%} interval", _interval, ".4f"),
    ]
    title = f"{fraction.criterion.text}: {fraction.galaxies:,} galaxies of {catalogue}"
    shown: list[Shown] = [Table.of(fraction.estimates, columns, title=title)]
    shown += [*_remarks(fraction.estimates), *_origin(fraction)]
    if fraction.bins:
        shown.append(_bins(fraction))
    return shown


def _interval(estimate: Any) -> tuple[float, float] | None:
    return (estimate.low, estimate.high) if isinstance(estimate, Estimate) else None


def _remarks(estimates: Mapping[str, Estimate | Unavailable]) -> Iterable[str]:
    """Say what to mind about estimators, those that have the same remark together."""
    names = defaultdict(list)
    for name, estimate in estimates.items():
        if isinstance(estimate, Estimate):
            remark = estimate.note
        else:
            briefly = estimate.reason.split(":")[0]
            reason = briefly if briefly.startswith("no calibration") else estimate.reason
            remark = f"not available: {reason}"
        if remark:
            names[remark].append(LABELS[name])
    return (f"{'; '.join(labels)}: {remark}" for remark, labels in names.items())


def _origin(fraction: Fraction) -> Iterable[str]:
    """Say what was counted, what true means, and on which galaxies the corrections rest."""
    counted, galaxies = fraction.sums.counted, fraction.galaxies
    yield f"counted: {counted} of {galaxies} galaxies have a predicted {fraction.criterion.text}"
    if fraction.clean:
        yield "sample: only galaxies that were well asked (Willett et al. 2013, table 3, 20 votes)"
    if fraction.left_out:
        yield f"left out: {fraction.left_out} galaxies that lack a fraction or were not well asked"
    yield f"true: the volunteers' joint fractions have {fraction.truth.text}"
    calibration = fraction.calibration
    if isinstance(calibration, Calibration):
        measured = calibration.confusion()
        yield (
            f"calibrated on {len(calibration.truth)} {calibration.origin}: "
            f"completeness {measured.true_positives}/{measured.positives} = {measured.completeness:.3f}, "
            f"false-positive rate {measured.false_positives}/{measured.negatives} = "
            f"{measured.false_positive_rate:.4f}"
        )
    yield from fraction.notes


def _bins(fraction: Fraction) -> Table:
    columns: list[Column] = [
        (fraction.binned_by, "", ""),
        ("galaxies", lambda part: part.galaxies if part else 0, ","),
        ("counted", lambda part: part and part.sums.counted, ","),
        ("default", "value", ".4f"),
        ("interval", lambda part: part and _interval(part.estimate), ".4f"),
        ("estimator", lambda part: part and LABELS[part.estimator], ""),
    ]
    rows = {f"{low:g} to {high:g}": part for (low, high), part in fraction.bins.items()}
    caption = "Where the labels lack the column, completeness and false-positive rate are those of all bins"
    return Table.of(rows, columns, caption=caption)


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
    return [*lines, f"⟨T_obs⟩ = {time}{source}", UNCALIBRATED]
