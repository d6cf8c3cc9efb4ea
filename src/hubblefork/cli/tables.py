"""What the terminal shows of trees, recipes, trainings and catalogues: tables, lines and the drawn tree."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.tree import Tree

from hubblefork.data.folders import RunFolder
from hubblefork.errors import ExtraMissing
from hubblefork.pages.tables import Column, Table
from hubblefork.tables.rejects import rejects_file
from hubblefork.zoo import Answer, DecisionTree, Question

if TYPE_CHECKING:
    from hubblefork.data.ingest import IngestSummary
    from hubblefork.images.surveys import Survey
    from hubblefork.network.model import Parameters
    from hubblefork.network.recipe import Recipe
    from hubblefork.tables.counts import VoteSummary

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


def surveys_table(surveys: Sequence[Survey]) -> Table:
    """Show surveys side by side."""
    columns: list[Column] = [
        ("survey", "", ""),
        ("bands", lambda survey: " ".join(survey.bands), ""),
        ("shown", lambda survey: " ".join(survey.rgb), ""),
        ('pixel (")', "pixel_scale", "g"),
        ('PSF (")', lambda survey: _of_shown(survey, survey.psf_fwhm), ""),
        ("depth (AB)", lambda survey: _of_shown(survey, survey.depth), ""),
        ("stretch", "stretch.kind", ""),
        ("tree", "tree", ""),
    ]
    caption = "shown: red, green and blue, or the one grey band; PSF and 5σ depth are theirs"
    return Table.of({survey.name: survey for survey in surveys}, columns, caption=caption)


def _of_shown(survey: Survey, values: Sequence[float]) -> str:
    by_band = dict(zip(survey.bands, values, strict=True))
    return " ".join(f"{by_band[band]:g}" for band in survey.rgb)


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


def votes_lines(summary: VoteSummary, out: Path) -> list[str]:
    """Say what an export of classifications came to."""
    refused = sum(summary.rejects.values())
    return [
        f"{out}: {summary.galaxies} galaxies, {summary.counted} of {summary.classifications} classifications "
        f"counted; {f'{refused} refused, see {rejects_file(out)}' if refused else 'none refused'}",
        *(f"  {count} × {reason}" for reason, count in (summary.rejects | summary.left_out).items()),
        *summary.notes,
    ]


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
        f"{notes['parameters']['learned']:,} parameters, {share:.2%} of them trained" if share < 1 else "",
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
