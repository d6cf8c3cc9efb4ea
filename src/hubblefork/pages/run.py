"""The page of a run: what its sections show; the words are in `templates/run.md.j2`."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import tomli_w
from numpy.typing import NDArray

from hubblefork.data.folders import RunFolder
from hubblefork.data.split import VALIDATION
from hubblefork.io import Progress, silent
from hubblefork.pages import answers
from hubblefork.pages.comparisons import learning_curves
from hubblefork.pages.contents import Contents
from hubblefork.pages.mergers import mergers
from hubblefork.pages.page import Missing, Page
from hubblefork.pages.plots import sides
from hubblefork.pages.sheets import EACH, image_sheet, prototype_sheet
from hubblefork.pages.tables import (
    BASELINES,
    Column,
    Table,
    baselines_table,
    classes_table,
    coverage_table,
    ordered_baselines,
    questions_table,
)
from hubblefork.pages.trees import decision_tree
from hubblefork.stats.baselines import kaggle_central_pixel, mean_vote
from hubblefork.stats.estimators import MERGER
from hubblefork.stats.evaluation import RARE
from hubblefork.stats.metrics import rmse, rmse_per_answer
from hubblefork.tables.catalogue import galaxy_ids
from hubblefork.zoo import DecisionTree

SHOWN = 12
SHEET_DPI = 150


def write_report(
    run: str | Path,
    *,
    predictions: str | Path | None = None,
    sections: Collection[str] | None = None,
    progress: Progress = silent,
) -> Path:
    """Write `report/index.html` in a run folder and return its path (see `pages.page.Page.write`).

    `predictions` is a catalogue of other images, whose mergers are counted and shown. `sections` are the
    anchors of the sections to write, by default all. Only files are read; what is missing is said on the
    page, with the command that makes it. Raises RunError when `run` is not the folder of a run, DiskError.
    """
    contents = Contents(RunFolder(Path(run)), None if predictions is None else Path(predictions))
    page, notes, tree = Page(contents.run.path / "report"), contents.notes, contents.tree
    chosen = [name for name in sections_of(tree) if sections is None or name in sections]
    context: dict[str, Any] = {}
    with progress("report", len(chosen)) as advance:
        for name in chosen:
            context |= SECTIONS[name](page, contents) or {}
            advance(1)
    names = ("evaluation", "split", "catalogue", "metrics", "data")
    return page.write(
        "run.md.j2",
        title=contents.run.path.resolve().name,
        subtitle=f"A run of the recipe {notes.recipe}, seed {notes.seed}: vote fractions of galaxies, "
        "predicted from their images",
        facts={"run": contents.entries, "part": contents.part},
        sections=chosen,
        notes=notes,
        run=contents.run,
        part=contents.part,
        tree=tree,
        text={answer.name: answer.text for answer in tree.answers},
        **{name: contents.optional(name) for name in names},
        **context,
    )


def sections_of(tree: DecisionTree) -> list[str]:
    """Return the sections of a run: "mergers" and "tree" where its tree has them."""
    left_out = [] if MERGER in tree.columns else ["mergers"]
    left_out += ["questions", "tree"] if tree.is_plain else []
    return [name for name in SECTIONS if name not in left_out]


def _headline(page: Page, contents: Contents) -> dict[str, Any]:
    if not contents.notes.finished:
        page.warn("This run has not finished: its numbers are those of the moment.")
    with page.showing("baselines"):
        evaluation = contents.evaluation
        if evaluation["part"] == VALIDATION:
            split, command = contents.optional("split"), contents.run.evaluate_command()
            better = f"{command} --part test" if split and split.test else "hubblefork split DATA --test 20"
            page.warn(
                f"These galaxies chose epoch and learning rate, so every number flatters. Better: {better}."
            )
        if evaluation["not_predicted"]:
            page.warn(f"Labelled galaxies without a prediction: {evaluation['not_predicted']}.")
        page.table("baselines", baselines_table(evaluation))
        return {"baselines": ordered_baselines(evaluation), "labels": BASELINES}
    return {}


def _training(page: Page, contents: Contents) -> dict[str, Any]:
    for name in ("catalogue", "split", "recipe"):
        with page.showing(name):
            getattr(contents, name)
    with page.showing("rejects"):
        reasons = dict(Counter(reject.reason for reject in contents.rejects).most_common())
        columns: list[Column] = [("reason", "", ""), ("refused", int, ",")]
        page.table("rejects", Table.of(reasons or {"nothing was refused": 0}, columns, numbers=reasons))
    with page.showing("training-galaxies"):
        stamps, catalogue, rows = contents.stamps, contents.catalogue, contents.training_rows[:SHOWN]
        if not len(rows):
            what = "No galaxies are shown: none of the training part has labels."
            raise Missing(what, "hubblefork ingest …")
        drawing = image_sheet(np.asarray(stamps[rows]), galaxy_ids(catalogue)[rows].tolist())
        page.figure("training-galaxies", *drawing)
    catalogue, recipe = contents.optional("catalogue"), contents.optional("recipe")
    speeds = [row["galaxies_per_second"] for row in contents.optional("metrics") or ()]
    return {
        "speed": median(speeds) if speeds else None,
        "sources": contents.sources,
        "labelled": 0 if catalogue is None else int((~np.isnan(contents.votes).all(axis=1)).sum()),
        "recipe": recipe and tomli_w.dumps(recipe).strip(),
        "stamp_size": (recipe or {}).get("stamp_size"),
    }


def _curves(page: Page, contents: Contents) -> dict[str, Any]:
    with page.showing("learning-curves"):
        rows, baseline = contents.metrics, _mean_vote_of_validation(contents)
        best = contents.notes.best_epoch
        if best is None:
            best = _best_epoch(rows, contents.optional("recipe") or {})
        drawing = learning_curves(rows, best_epoch=best, mean_vote=baseline)
        page.figure("learning-curves", *drawing)
        below = [row["epoch"] for row in rows if baseline is not None and row["validation_rmse"] < baseline]
        return {
            "kept": next((row for row in rows if row["epoch"] == best), rows[-1]),
            "below_mean_vote": below,
        }
    return {}


def _best_epoch(rows: list[dict[str, float]], recipe: Mapping[str, Any]) -> int:
    by_agreement = recipe.get("monitor", recipe.get("watch")) == "validation_agreement"
    monitor, sign = ("validation_agreement", -1) if by_agreement else ("validation_rmse", 1)
    return int(min(rows, key=lambda row: sign * row[monitor])["epoch"])


def _mean_vote_of_validation(contents: Contents) -> float | None:
    if contents.optional("training_rows") is None:
        return None
    train = contents.votes[contents.training_rows]
    judged = contents.votes[contents.rows_of_part(VALIDATION)]
    if not len(train) or not len(judged):
        return None
    guess = mean_vote(train, len(judged))
    return None if np.isnan(guess[~np.isnan(judged)]).any() else rmse(guess, judged)


def _scatter(page: Page, contents: Contents) -> None:
    with page.showing("predicted-against-volunteers"):
        sides = contents.judged.predicted, contents.judged.volunteers
        drawing = answers.predicted_against_volunteers(contents.tree, *sides)
        page.figure("predicted-against-volunteers", *drawing)


def _errors(page: Page, contents: Contents) -> dict[str, Any]:
    with page.showing("rmse-per-answer"):
        estimates = [contents.evaluation["answers"][name]["rmse"] for name in contents.tree.columns]
        baselines, errors = _errors_of_baselines(contents), sides(estimates)[0]
        drawing = answers.rmse_per_answer(contents.tree, estimates, baselines=baselines)
        page.figure("rmse-per-answer", *drawing)
        return {"below": {name: int(np.sum(errors < other)) for name, other in baselines.items()}}
    return {}


def _errors_of_baselines(contents: Contents) -> dict[str, NDArray]:
    """Return the RMSE of every answer (answer,) of the baselines that the training galaxies allow."""
    judged, train = contents.optional("judged"), contents.optional("training_rows")
    if judged is None or train is None or not len(train):
        return {}
    guesses = {"mean_vote": mean_vote(contents.votes[train], len(judged.ids))}
    colours = contents.optional("colours")
    if colours is not None:
        sides = colours[train], contents.votes[train], colours[judged.rows]
        guesses["kaggle_central_pixel"] = kaggle_central_pixel(*sides)
    asked = ~np.isnan(judged.volunteers)
    return {
        BASELINES[name]: rmse_per_answer(guess, judged.volunteers)
        for name, guess in guesses.items()
        if not np.isnan(guess[asked]).any()
    }


def _questions(page: Page, contents: Contents) -> None:
    with page.showing("questions"):
        page.table("questions", questions_table(contents.evaluation, contents.tree))
        for name, question in contents.evaluation["questions"].items():
            if "classes" in question:
                page.table(f"classes-{name}", classes_table(question))


def _reliability(page: Page, contents: Contents) -> dict[str, Any]:
    tree = contents.tree
    with page.showing("reliability"):
        judged = contents.judged
        page.figure("reliability", *answers.reliability(tree, judged.predicted, judged.volunteers))
    with page.showing("coverage", "coverage-per-answer"):
        intervals = contents.intervals
        rare = {name: tree.answers[tree.column(name)].text for name in RARE if name in tree.columns}
        page.table("coverage", coverage_table(intervals, rare))
        coverages, tolerance = intervals["coverages"][:2], intervals["tolerance"]
        drawing = answers.coverage_per_answer(tree, coverages, tolerance=tolerance)
        page.figure("coverage-per-answer", *drawing)
    return {"intervals": contents.optional("intervals")}


def _prototypes(page: Page, contents: Contents) -> dict[str, Any]:
    with page.showing("prototypes"):
        judged, stamps, tree = contents.judged, contents.stamps, contents.tree
        for question in tree.questions:
            drawing = prototype_sheet(tree, question.name, judged, stamps)
            page.figure(f"prototypes-{question.name}", *drawing, dpi=SHEET_DPI)
    return {"each": EACH}


def _tree(page: Page, contents: Contents) -> None:
    judged, shares = contents.optional("judged"), None
    if judged is not None:
        asked = ~np.isnan(judged.volunteers)
        sums, counts = np.where(asked, judged.volunteers, 0).sum(axis=0), asked.sum(axis=0)
        shares = np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)
    page.figure("decision-tree", *decision_tree(contents.tree, shares=shares))


def _again(page: Page, contents: Contents) -> dict[str, Any]:
    """Return the commands that make the run and its page again."""
    run, split = str(contents.run), contents.optional("split")
    data, new = str(contents.optional("data") or "DATA"), f"{run}-again"
    given, sources = contents.predictions is not None, contents.sources or ["IMAGES"]
    commands = [["ingest", *sources, "--labels", "LABELS", "--out", data]]
    if split is not None:
        parts = ["--salt", split.salt, "--test", str(split.test), "--validation", str(split.validation)]
        judge_on = [] if split.judge_on is None else ["--judge-on", str(contents.run.path / "judge_on.txt")]
        commands.append(["split", data, *parts, *judge_on])
    commands.append(["train", data, "--recipe", str(contents.run.recipe_file), "--out", new])
    views = _views(contents.optional("judged"))
    others = _views(contents.optional("given")) if given else views
    each = [views] if others == views else [others, views]  # the last one evaluated is the one reported
    commands += [["evaluate", new, "--part", contents.part, *option] for option in each]
    if given:
        commands.append(["predict", new, "IMAGES", "--out", "predictions.parquet", *others])
    commands.append(["report", new, *(["--predictions", "predictions.parquet"] if given else [])])
    return {"commands": "\n".join(shlex.join(["hubblefork", *command]) for command in commands)}


def _views(galaxies: Any) -> list[str]:
    return [] if galaxies is None or galaxies.views == 1 else ["--views", str(galaxies.views)]


SECTIONS: Mapping[str, Callable[[Page, Contents], dict[str, Any] | None]] = {
    "headline": _headline,
    "training": _training,
    "curves": _curves,
    "scatter": _scatter,
    "errors": _errors,
    "questions": _questions,
    "reliability": _reliability,
    "prototypes": _prototypes,
    "mergers": mergers,
    "tree": _tree,
    "again": _again,
    "sources": lambda page, contents: None,
}
"""Anchors of the sections, and what adds their figures and tables to the page; some return values."""
