"""What the terminal shows: tables and the drawn tree."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from hubblefork.data.folders import RunFolder
from hubblefork.data.ingest import IngestSummary
from hubblefork.errors import ExtraMissing
from hubblefork.network.model import Parameters
from hubblefork.network.recipe import Recipe
from hubblefork.stats.detection import Calibration
from hubblefork.stats.estimators import LABELS, MERGER, Estimate, Unavailable
from hubblefork.stats.evaluation import RARE
from hubblefork.stats.prevalence import Fraction
from hubblefork.stats.rates import PUBLISHED, UNCALIBRATED, Rate
from hubblefork.zoo import DecisionTree, Question


def show(*things: RenderableType) -> None:
    """Print to the terminal."""
    console = Console()
    for thing in things:
        console.print(thing)


def drawn_tree(tree: DecisionTree) -> Tree:
    """Draw a decision tree: each question once, below the first answers that lead to it."""
    drawn = Tree(f"[bold]{tree.name}[/]: {tree.source}")
    seen: set[str] = set()
    for question in tree.questions:
        if question.root:
            asked = drawn.add(f"{_question_text(question)} [dim](asked of every galaxy)[/]")
            _draw_answers(tree, question, asked, seen)
    return drawn


def _draw_answers(tree: DecisionTree, question: Question, drawn: Tree, seen: set[str]) -> None:
    seen.add(question.name)
    for name, answers in groupby(question.answers, key=lambda answer: answer.leads_to):
        texts = " | ".join(f"{answer.name} [dim]{answer.column}[/]" for answer in answers)
        following = tree.question(name) if name else None
        if following is None:
            drawn.add(f"{texts} → end")
        elif following.name in seen or following.root:
            drawn.add(f"{texts} → [bold]{following.task}[/]")
        else:
            _draw_answers(tree, following, drawn.add(f"{texts} → {_question_text(following)}"), seen)


def _question_text(question: Question) -> str:
    return f"[bold]{question.task}[/] [italic]{question.text}[/]"


def ingest_lines(summary: IngestSummary, out: Path) -> list[RenderableType]:
    """Say what an ingest came to."""
    refused = sum(summary.rejects.values())
    lines = [
        f"[bold]{out}[/]: {summary.galaxies} galaxies: {summary.labelled_fully} fully labelled, "
        f"{summary.labelled_partly} partly, {summary.unlabelled} without labels; "
        + (f"{refused} refused, see rejects.csv" if refused else "nothing refused"),
        *(f"  {count} × {reason}" for reason, count in summary.rejects.items()),
        *summary.notes,
    ]
    left_alone = ", ".join(path.name for path in summary.ignored)
    return [*lines, f"left alone: {left_alone}"] if left_alone else [*lines]


def trained_text(out: Path) -> str:
    """Say what a training came to."""
    notes = RunFolder(out).notes()
    watched = ", ".join(f"{name} {value:.4f}" for name, value in notes["best"].items())
    centred = f", centred {notes['centred_rmse']:.4f}" if "centred_rmse" in notes else ""
    share = notes["parameters"].get("trained_share", 1.0)
    texts = [
        f"{out}: started from {notes['start']}",
        f"{notes['parameters']['learned']:,} parameters, {share:.1%} of them trained" if share < 1 else "",
        f"best epoch {notes['best_epoch']} of {notes['epochs']}: {watched}{centred}",
        f"{notes['galaxies_per_second']:.0f} galaxies/s, {notes['training_seconds']:.0f} s of training",
        *notes.get("remarks", []),
    ]
    return "; ".join(text for text in texts if text)


def recipe_table(counted: Sequence[tuple[Recipe, Parameters | ExtraMissing]]) -> Table:
    """List recipes with their parameters, or with what is missing to build them."""
    table = Table("recipe", caption=PARAMETERS, show_lines=True)
    for name in ("head", "parameters", "as Keras counts"):
        table.add_column(name, justify="right", no_wrap=True)
    for recipe, parameters in counted:
        what = f"[bold]{recipe.name}[/]\n{recipe.description}; {recipe.crop} → {recipe.input_size} pixels"
        if isinstance(parameters, ExtraMissing):
            table.add_row(f"{what}; {escape(str(parameters))}", recipe.head, "–", "–")
            continue
        learned = f"{parameters.learned:,}"
        if parameters.frozen:
            learned += f"\n{parameters.trained_share:.1%} trained"
        table.add_row(what, recipe.head, learned, f"{parameters.keras:,}")
    return table


PARAMETERS = "Keras counts the statistics of batch normalisation as (non-trainable) parameters."


def folds_table(found: dict[str, Any]) -> Table:
    """Show `crossval.json`: each fold, and mean and standard deviation over folds."""
    title = f"{found['recipe']}: {found['folds']} folds, {found['galaxies']} galaxies judged"
    pooled = f"{found['out_of_fold_rmse']:.4f} over all out-of-fold predictions together"
    table = Table(
        "fold", title=title, caption=f"RMSE {pooled}; {found['galaxies_per_second']:.0f} galaxies/s"
    )
    for name in ("galaxies", "trained on", "RMSE", "mean vote"):
        table.add_column(name, justify="right")
    columns = found["judged_galaxies"], found["training_galaxies"]
    errors = found["rmse"]["folds"], found["mean_vote"]["folds"]
    for number, (judged, trained, ours, mean) in enumerate(zip(*columns, *errors, strict=True)):
        table.add_row(str(number), f"{judged:,}", f"{trained:,}", f"{ours:.4f}", f"{mean:.4f}")
    spreads = [f"{found[key]['mean']:.4f} ± {found[key]['sd']:.4f}" for key in ("rmse", "mean_vote")]
    table.add_row("[bold]mean ± s.d.[/]", "", "", *spreads)
    return table


def baselines_table(found: dict[str, Any]) -> Table:
    """Show the baselines alone."""
    return _totals(found)


def evaluation_tables(found: dict[str, Any]) -> list[RenderableType]:
    """Show `evaluation.json`: the RMSE beside the baselines, per question, per answer, intervals, mergers."""
    asked = [_questions(found)] if any(row["agreement"] for row in found["questions"].values()) else []
    shares = not all("binary" in row for row in found["answers"].values())
    intervals = [_intervals(found)] if shares else []  # of a yes or no they say 0, 1 or anything
    return [_totals(found), *asked, _answers(found), *_binary(found), *intervals, *_mergers(found)]


def _totals(found: dict[str, Any]) -> Table:
    title = f"{found['galaxies']} {found['part']} galaxies, trained on {found['training_galaxies']}"
    if found.get("views", 1) > 1:
        title += f", {found['views']} views of each"
    table = Table(
        "", title=title, caption="RMSE over galaxies and all answers; 95% bootstrap intervals over galaxies"
    )
    for name in ("RMSE", "95% interval", "agreement"):
        table.add_column(name, justify="right")
    rows = {**({"this run": found} if "rmse" in found else {}), **found["baselines"]}
    for name, row in sorted(rows.items(), key=lambda item: item[1]["rmse"]["value"]):
        table.add_row(
            name.replace("_", " "), _value(row["rmse"]), _range(row["rmse"]), _value(row["agreement"], 3)
        )
    return table


def _questions(found: dict[str, Any]) -> Table:
    asked = found["asked_at_least"]
    table = Table("question", caption=f"agreement among the galaxies asked with at least {asked:g}")
    for name in ("RMSE", "agreement", "galaxies"):
        table.add_column(name, justify="right")
    for name, row in found["questions"].items():
        agreement = row["agreement"]
        count = str(agreement["galaxies"]) if agreement else "0"
        table.add_row(name.replace("_", " "), _value(row["rmse"]), _value(agreement, 3), count)
    return table


def _answers(found: dict[str, Any]) -> Table:
    table = Table("answer")
    for name in ("RMSE", "calibration error", "by chance"):
        table.add_column(name, justify="right")
    mean = found["baselines"].get("mean_vote")
    for name, row in found["answers"].items():
        error = row["calibration_error"]
        cells = ["–" if error[key] is None else f"{error[key]:.4f}" for key in ("value", "by_chance")]
        table.add_row(name.replace("_", " "), _value(row["rmse"]), *cells)
    if mean:
        table.caption = f"the mean vote's RMSE over all answers is {_value(mean['rmse'])}"
    return table


def _intervals(found: dict[str, Any]) -> RenderableType:
    judged = found["intervals"]
    if "reason" in judged:
        return f"No intervals judged: {escape(judged['reason'])}. {escape(judged['remedy'])}"
    rare = [name for name in RARE if name in found["answers"]]
    caption = (
        f"share of galaxies whose interval holds the volunteers' fraction, calibrated on {judged['origin']}; "
        f"of {len(found['answers'])} answers, those within {judged['tolerance']:g} of what is stated, and as "
        "many as would be by chance if that were exact"
    )
    table = Table("stated", caption=caption)
    for name in ("found", "top tenth", *rare, "width", "within", "by chance"):
        table.add_column(name.replace("_", " "), justify="right")
    for one in judged["coverages"]:
        answers = [_value(one["answers"][name]["found"], 3) for name in rare]
        cells = [_value(one["found"], 3), _value(one["found_top"], 3), *answers, f"{one['width']:.3f}"]
        table.add_row(f"{one['stated']:g}", *cells, str(one["within"]), f"{one['within_by_chance']:.0f}")
    return table


def _binary(found: dict[str, Any]) -> list[RenderableType]:
    judged = {name: row["binary"] for name, row in found["answers"].items() if "binary" in row}
    if not judged:
        return []
    table = Table("yes or no", caption=BINARY)
    for name in ("have it", "AUC", "95% interval", "completeness", "purity"):
        table.add_column(name, justify="right")
    for name, row in judged.items():
        shares = (_value(row[share], 3) for share in ("completeness", "purity"))
        have = f"{row['yes']}/{row['galaxies']}"
        table.add_row(name.replace("_", " "), have, _value(row["auc"], 3), _range(row["auc"]), *shares)
    return [table]


BINARY = (
    "completeness: of those that have it, the share predicted ≥ 0.5; purity: of these, the share that has it"
)


def _mergers(found: dict[str, Any]) -> list[str]:
    if MERGER not in found["answers"]:
        return []
    if not found["mergers"]:
        return ["No volunteers were asked about mergers."]
    sides = found["mergers"].items()
    texts = [
        f"{side} {row['count']}/{row['total']} = {row['value']:.4f} ({row['low']:.4f}–{row['high']:.4f})"
        for side, row in sides
    ]
    first = found["mergers"]["predicted"]
    return [f"{first['answer']} ≥ {first['threshold']:g}: " + "; ".join(texts)]


def _value(estimate: dict[str, Any] | None, digits: int = 4) -> str:
    return f"{estimate['value']:.{digits}f}" if estimate else "–"


def _range(estimate: dict[str, Any] | None) -> str:
    return "{:.4f}–{:.4f}".format(*estimate["interval_95"]) if estimate else "–"


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


def bin_table(binned: Mapping[tuple[float, float], Fraction | None], column: str) -> Table:
    """Return count and default of each bin."""
    table = Table(escape(column))
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


def fraction_lines(
    catalogue: Path, fraction: Fraction, column: str, rates: Mapping[str, Rate], time: str
) -> list[RenderableType]:
    """Show a fraction: its estimators, what they rest on, bins, rates, warnings."""
    shown: list[RenderableType] = [estimator_table(catalogue, fraction), *origin_lines(fraction)]
    if fraction.bins:
        shown.append(bin_table(fraction.bins, column))
    warnings = [f"[yellow]warning: {escape(line)}[/]" for line in fraction.warnings()]
    return [*shown, *rate_lines(rates, time), *warnings]


def fraction_text(fraction: Fraction, rates: Mapping[str, Rate]) -> str:
    """Return a fraction and its rates as JSON."""
    entries = fraction.as_json()
    if rates:
        entries["rates"] = {
            name: {
                "value": rate.value.value,
                "interval": [rate.low.value, rate.high.value],
                "level": rate.level,
                "unit": str(rate.value.unit),
            }
            for name, rate in rates.items()
        }
    return json.dumps(entries, indent=2, allow_nan=False)
