"""What the terminal shows: tables, lines and the drawn tree."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.tree import Tree

from hubblefork.data.folders import RunFolder
from hubblefork.data.ingest import IngestSummary
from hubblefork.data.inputs import rejects_file
from hubblefork.errors import ExtraMissing
from hubblefork.pages.tables import Column, Table
from hubblefork.stats.detection import Calibration
from hubblefork.stats.estimators import LABELS, MERGER, Estimate, Unavailable
from hubblefork.stats.evaluation import RARE
from hubblefork.stats.prevalence import Fraction
from hubblefork.stats.rates import PUBLISHED, UNCALIBRATED, Rate
from hubblefork.zoo import Answer, DecisionTree, Question

if TYPE_CHECKING:
    from hubblefork.network.model import Parameters
    from hubblefork.network.recipe import Recipe

Shown = Table | Tree | str


def trees_table(trees: Sequence[DecisionTree]) -> Table:
    """List decision trees."""
    columns: list[Column] = [
        ("tree", lambda tree: tree.name, ""),
        ("questions", lambda tree: len(tree.questions), ""),
        ("answers", lambda tree: len(tree.answers), ""),
        ("source", lambda tree: tree.source, ""),
    ]
    return Table.of(trees, columns)


def drawn_tree(tree: DecisionTree) -> Tree:
    """Draw a decision tree: each question once, below the first answers that lead to it."""
    drawing = Tree(f"[bold]{escape(tree.name)}[/]: {escape(tree.source)}")
    drawn: set[str] = set()
    for question in tree.questions:
        if question.root:
            branch = drawing.add(f"{_question_text(question)} [dim](asked of every galaxy)[/]")
            _draw_answers(tree, question, branch, drawn)
    return drawing


def _draw_answers(tree: DecisionTree, question: Question, branch: Tree, drawn: set[str]) -> None:
    drawn.add(question.name)
    for names, answers in groupby(question.answers, key=lambda answer: answer.leads_to):
        texts = " | ".join(map(_answer_text, answers))
        following = [tree.question(name) for name in names]
        elsewhere = [q for q in following if q.name in drawn or q.root]
        ends = ", ".join(f"[bold]{escape(q.task or q.name)}[/]" for q in elsewhere) or "end" * (not names)
        rest = [q for q in following if q not in elsewhere]
        if len(rest) == 1 and not ends:
            _draw_answers(tree, rest[0], branch.add(f"{texts} → {_question_text(rest[0])}"), drawn)
            continue
        below = branch.add(f"{texts} → {ends}" if ends else texts)
        for question_below in rest:
            if question_below.name not in drawn:
                _draw_answers(tree, question_below, below.add(f"→ {_question_text(question_below)}"), drawn)


def _question_text(question: Question) -> str:
    several = " [dim](several answers may be given)[/]" if question.multiple else ""
    return f"[bold]{escape(question.task or question.name)}[/] [italic]{escape(question.text)}[/]{several}"


def _answer_text(answer: Answer) -> str:
    """Return an answer's name and its column, unless that is the same but for hyphens."""
    column = "" if answer.column.replace("-", "_") == answer.name else f" [dim]{escape(answer.column)}[/]"
    return f"{escape(answer.name)}{column}"


def ingest_lines(summary: IngestSummary, out: Path) -> list[str]:
    """Say what an ingest came to."""
    refused = sum(summary.rejects.values())
    lines = [
        f"{out}: {summary.galaxies} galaxies: {summary.labelled_fully} fully labelled, "
        f"{summary.labelled_partly} partly, {summary.unlabelled} without labels; "
        + (f"{refused} refused, see rejects.csv" if refused else "nothing refused"),
        *(f"  {count} × {reason}" for reason, count in summary.rejects.items()),
        *summary.notes,
    ]
    if summary.ignored:
        lines.append(f"left alone: {', '.join(path.name for path in summary.ignored)}")
    return lines


def written_text(out: Path, galaxies: int, left_out: int) -> str:
    """Say how many galaxies a catalogue has, and how many files were left out of it."""
    return f"{out}: {galaxies} galaxies, {left_out} files left out" + (
        f", see {out / '_rejects-*.csv' if out.is_dir() else rejects_file(out)}" if left_out else ""
    )


def trained_text(out: Path) -> str:
    """Say what a training came to."""
    notes = RunFolder(out).notes()
    best = ", ".join(f"{name} {value:.4f}" for name, value in notes["best"].items())
    centred = f", centred {notes['centred_rmse']:.4f}" if "centred_rmse" in notes else ""
    share = notes["parameters"].get("trained_share", 1.0)
    texts = [
        f"{out}: started from {notes['start']}",
        f"{notes['parameters']['learned']:,} parameters, {share:.1%} of them trained" if share < 1 else "",
        f"best epoch {notes['best_epoch']} of {notes['epochs']}: {best}{centred}",
        f"{notes['galaxies_per_second']:.0f} galaxies/s, {notes['training_seconds']:.0f} s of training",
        *notes.get("remarks", []),
    ]
    return "; ".join(text for text in texts if text)


def recipe_tables(recipes: Sequence[tuple[Recipe, Parameters | ExtraMissing]]) -> list[Shown]:
    """List recipes with their parameters, or with what is missing to build them."""
    columns: list[Column] = [
        ("recipe", lambda row: row[0].name, ""),
        ("pixels", lambda row: f"{row[0].crop} → {row[0].input_size}", ""),
        ("head", lambda row: row[0].head, ""),
        ("parameters", lambda row: getattr(row[1], "learned", None), ","),
        ("trained", lambda row: getattr(row[1], "trained_share", None), ".1%"),
        ("as Keras counts", lambda row: getattr(row[1], "keras", None), ","),
    ]
    caption = "Keras counts the statistics of batch normalisation as (non-trainable) parameters."
    lines = [
        f"{recipe.name}: {recipe.description}"
        + (f"; {parameters}" if isinstance(parameters, ExtraMissing) else "")
        for recipe, parameters in recipes
    ]
    return [Table.of(recipes, columns, caption=caption), *lines]


def folds_table(summary: Mapping[str, Any]) -> Table:
    """Show `crossval.json`: each fold, and mean and standard deviation over folds."""
    keys = "judged_galaxies", "training_galaxies"
    values = *(summary[key] for key in keys), *(summary[key]["folds"] for key in ("rmse", "mean_vote"))
    columns: list[Column] = [
        ("fold", "", ""),
        ("galaxies", lambda row: row[0], ","),
        ("trained on", lambda row: row[1], ","),
        ("RMSE", lambda row: row[2], ".4f"),
        ("mean vote", lambda row: row[3], ".4f"),
    ]
    rmse, mean_vote = (
        f"{summary[key]['mean']:.4f} ± {summary[key]['sd']:.4f}" for key in ("rmse", "mean_vote")
    )
    return Table.of(
        list(zip(*values, strict=True)),
        columns,
        title=f"{summary['recipe']}: {summary['folds']} folds, {summary['galaxies']} galaxies judged",
        caption=f"mean ± s.d.: RMSE {rmse}, mean vote {mean_vote}; RMSE {summary['out_of_fold_rmse']:.4f} "
        f"over all out-of-fold predictions; {summary['galaxies_per_second']:.0f} galaxies/s",
    )


def evaluation_tables(evaluation: Mapping[str, Any]) -> list[Shown]:
    """Show `evaluation.json`: the RMSE beside the baselines, per question, per answer, intervals, mergers."""
    answers, shown = evaluation["answers"], list[Shown]([totals_table(evaluation)])
    if any(row["agreement"] for row in evaluation["questions"].values()):
        shown.append(_questions(evaluation))
    shown.append(_answers(answers, evaluation["baselines"].get("mean_vote")))
    binary = {name: row["binary"] for name, row in answers.items() if "binary" in row}
    if binary:
        shown.append(_binary(binary))
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
    columns: list[Column] = [
        ("", "", _words),
        ("RMSE", "rmse.value", ".4f"),
        ("95% interval", "rmse.interval_95", ".4f"),
        ("agreement", "agreement.value", ".3f"),
    ]
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
    else:
        yield from (f"not corrected: {calibration.reason}", f"remedy: {calibration.remedy}")
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
