"""The page of a run: what its sections show; the words are in `templates/run.md.j2`."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from numpy.typing import NDArray

from hubblefork.data.catalogue import galaxy_ids
from hubblefork.data.folders import RunFolder
from hubblefork.data.split import VALIDATION, Split
from hubblefork.io import Progress, duration, silent
from hubblefork.pages import answers
from hubblefork.pages.contents import Contents
from hubblefork.pages.mergers import mergers
from hubblefork.pages.page import Missing, Page
from hubblefork.pages.sheets import EACH, image_sheet, prototype_sheet
from hubblefork.pages.tables import Table, bounds, counted, decimal, listed, share
from hubblefork.pages.trees import decision_tree
from hubblefork.stats.baselines import centre_colours, kaggle_central_pixel, mean_vote
from hubblefork.stats.estimators import MERGER
from hubblefork.stats.evaluation import RARE
from hubblefork.stats.metrics import rmse, rmse_per_answer
from hubblefork.zoo import DecisionTree

BASELINES = {
    "mean_vote": "mean vote",
    "central_pixel": "central pixel (k-means)",
    "kaggle_central_pixel": "central pixel (Kaggle)",
    "all_zeros": "all zeros",
    "all_ones": "all ones",
}
SHOWN = 12
SHEET_DPI = 150


def write_report(
    run: str | Path,
    *,
    predictions: str | Path | None = None,
    sections: Collection[str] | None = None,
    progress: Progress = silent,
) -> Path:
    """Write `report/index.html` in a run folder and return its path (see `report.page.Page.write`).

    `predictions` is a catalogue of other images, whose mergers are counted and shown. `sections` are the
    anchors of the sections to write, by default all. Only files are read; what is missing is said on the
    page, with the command that makes it. Raises RunError when `run` is not the folder of a run, DiskError.
    """
    contents = Contents(RunFolder(Path(run)), None if predictions is None else Path(predictions))
    page = Page(contents.run.path / "report")
    chosen = [name for name in sections_of(contents.tree) if sections is None or name in sections]
    context: dict[str, Any] = {}
    with progress("report", len(chosen)) as advance:
        for name in chosen:
            context |= SECTIONS[name](page, contents)
            advance(1)
    notes = contents.notes
    return page.write(
        "run.md.j2",
        title=contents.run.path.resolve().name,
        subtitle=f"A run of the recipe {notes.get('recipe', '–')}, seed {notes.get('seed', '–')}: "
        "vote fractions of galaxies, predicted from their images",
        facts={"run": notes, "part": contents.part},
        sections=chosen,
        notes=notes,
        tree=contents.tree,
        run=contents.run,
        evaluation=None if isinstance(contents.evaluation, Missing) else contents.evaluation,
        part=contents.part,
        judged_galaxies=0 if isinstance(contents.judged, Missing) else len(contents.judged.ids),
        **context,
    )


def sections_of(tree: DecisionTree) -> list[str]:
    """Return the sections of a run: "mergers" and "tree" where its tree has them."""
    left_out = [] if MERGER in tree.columns else ["mergers"]
    left_out += ["questions", "tree"] if tree.is_plain else []
    return [name for name in SECTIONS if name not in left_out]


def _headline(page: Page, contents: Contents) -> dict[str, Any]:
    found = contents.evaluation
    if not _there(page, "baselines", found):
        return {}
    rows = [["network", *_measured(found), "", ""]]
    ordered = sorted(found["baselines"].items(), key=lambda item: item[1]["rmse"]["value"])
    for name, baseline in ordered:
        behind = baseline["behind"]
        difference = [decimal(behind["difference"]), bounds(behind["interval_95"])]
        rows.append([BASELINES.get(name, name), *_measured(baseline), *difference])
    header = ["", "RMSE", "95% interval", "agreement", "95% interval", "behind", "95% interval"]
    kept = ("part", "galaxies", "rmse", "agreement", "baselines", "constraint_violation")
    page.table("baselines", Table(header, rows, {key: found[key] for key in kept}))
    best = {"name": BASELINES.get(ordered[0][0], ordered[0][0]), **ordered[0][1]} if ordered else None
    tested = not isinstance(contents.split, Missing) and contents.split.test > 0
    flatters = found["part"] == VALIDATION
    return {"best_baseline": best, "flatters": flatters, "tested": tested}


def _measured(found: Mapping[str, Any]) -> list[str]:
    return [decimal(found["rmse"]["value"]), bounds(found["rmse"]["interval_95"]), *_agreement(found)]


def _agreement(found: Mapping[str, Any]) -> list[str]:
    agreement = found["agreement"]
    if not agreement:
        return ["–", "–"]
    return [share(agreement["value"]), " to ".join(share(side) for side in agreement["interval_95"])]


def _training(page: Page, contents: Contents) -> dict[str, Any]:
    for name in ("catalogue", "split", "recipe"):
        _there(page, name, getattr(contents, name))
    if _there(page, "rejects", contents.rejects):
        reasons = Counter(reject.reason for reject in contents.rejects).most_common()
        rows = [[reason, f"{number:,}"] for reason, number in reasons]
        page.table("rejects", Table(["reason", "refused"], rows, dict(reasons)))
    stamps = contents.stamps
    if _there(page, "training-galaxies", stamps, contents.catalogue, contents.split):
        rows_shown = contents.training_rows[:SHOWN]
        if len(rows_shown):
            ids = galaxy_ids(contents.catalogue)[rows_shown].tolist()
            page.figure("training-galaxies", *image_sheet(np.asarray(stamps[rows_shown]), ids))
        else:
            what = "No galaxies are shown: none of the training part has labels."
            page.missing("training-galaxies", what, "hubblefork ingest …")
    recipe = None if isinstance(contents.recipe, Missing) else tomli_w.dumps(contents.recipe).strip()
    size = 0 if isinstance(stamps, Missing) else stamps.shape[1]
    facts = {**_data_facts(contents), **_run_facts(contents)}
    return {"facts_of_run": facts, "recipe": recipe, "stamp_size": size}


def _data_facts(contents: Contents) -> dict[str, str]:
    facts = {"Data": str(contents.notes.get("data", "–"))}
    catalogue = contents.catalogue
    if not isinstance(catalogue, Missing):
        sources = Counter(catalogue.column("source").to_pylist())
        facts["Images"] = listed([f"{number:,} from {source}" for source, number in sources.items()])
        labelled = int((~np.isnan(contents.votes).all(axis=1)).sum())
        facts["Labels"] = f"{labelled:,} of {counted(len(catalogue), 'galaxy', 'galaxies')} have some"
    if not isinstance(contents.split, Missing):
        facts["Split"] = _split_text(contents.split)
    parts = contents.notes.get("galaxies", {})
    if parts:
        facts["Labelled galaxies"] = ", ".join(f"{part} {number:,}" for part, number in parts.items())
    return facts


def _split_text(split: Split) -> str:
    rest = 100 - split.test - split.validation
    texts = [
        f"{split.test}% test, {split.validation}% validation, {rest}% train, "
        f'by sha256("{split.salt}:galaxy_id") modulo 100'
    ]
    if split.fold is not None:
        number, folds = split.fold.number, split.fold.folds
        texts.append(
            f'of these, fold {number} of {folds} (sha256, salt "{split.fold.salt}") is test instead, '
            "and what was test is left out"
        )
    if split.judge_on is not None:
        texts.append(f"only the {len(split.judge_on):,} galaxies of judge_on.txt are judged on, others train")
    return "; ".join(texts)


def _run_facts(contents: Contents) -> dict[str, str]:
    notes, rows = contents.notes, contents.metrics
    device, parameters = notes.get("device", {}), notes.get("parameters", {})
    facts = {"Recipe": f"{notes.get('recipe', '–')}, seed {notes.get('seed', '–')}"}
    if start := notes.get("start"):
        facts["Started from"] = start
    if parameters:
        facts["Parameters"] = (
            f"{parameters['learned']:,} are learned; {parameters['keras']:,} in Keras's way of counting, "
            "which adds the running statistics of batch normalisation"
        )
    if device:
        threads = counted(device["threads"], "thread")
        facts["Device"] = f"{device['kind']}, precision {device['precision']}, {threads}"
    if not isinstance(rows, Missing):
        speed = np.median([row["galaxies_per_second"] for row in rows])
        facts["Time"] = (
            f"{duration(sum(row['seconds'] for row in rows))} for {counted(len(rows), 'epoch')}; "
            f"{speed:,.0f} galaxies a second (median of the epochs)"
        )
    versions = notes.get("versions", {})
    return facts | {"Versions": ", ".join(f"{name} {version}" for name, version in versions.items()) or "–"}


def _curves(page: Page, contents: Contents) -> dict[str, Any]:
    rows = contents.metrics
    if not _there(page, "learning-curves", rows):
        return {"kept": None}
    baseline = _mean_vote_of_validation(contents)
    best = contents.notes.get("best_epoch", _best_epoch(rows, contents.recipe))
    numbers = page.figure(
        "learning-curves", *answers.learning_curves(rows, best_epoch=best, mean_vote=baseline)
    )
    below = [row["epoch"] for row in rows if baseline is not None and row["validation_rmse"] < baseline]
    return {
        "kept": next((row for row in rows if row["epoch"] == best), rows[-1]),
        "best_epoch": best,
        "epochs": len(rows),
        "first_epoch": rows[0]["epoch"],
        "mean_vote": baseline,
        "first_below": below[0] if below else None,
        "drops": numbers["learning_rate_drops"],
    }


def _best_epoch(rows: list[dict[str, float]], recipe: Any) -> int:
    monitor = "validation_rmse"
    if not isinstance(recipe, Missing):
        monitor = recipe.get("monitor", recipe.get("watch", monitor))
    sign = -1 if monitor.endswith("agreement") else 1
    return int(min(rows, key=lambda row: sign * row[monitor])["epoch"])


def _mean_vote_of_validation(contents: Contents) -> float | None:
    if isinstance(contents.catalogue, Missing) or isinstance(contents.split, Missing):
        return None
    train = contents.votes[contents.training_rows]
    judged = contents.votes[contents.rows_of_part(VALIDATION)]
    if not len(train) or not len(judged):
        return None
    guess = mean_vote(train, len(judged))
    return None if np.isnan(guess[~np.isnan(judged)]).any() else rmse(guess, judged)


def _scatter(page: Page, contents: Contents) -> dict[str, Any]:
    judged = contents.judged
    if not _there(page, "predicted-against-volunteers", judged):
        return {}
    drawing = answers.predicted_against_volunteers(contents.tree, judged.predicted, judged.volunteers)
    numbers = page.figure("predicted-against-volunteers", *drawing)
    r = {name: entry["r"] for name, entry in numbers["answers"].items()}
    return {"correlation": _summary(contents.tree, r)}


def _summary(tree: DecisionTree, values: Mapping[str, float | None]) -> dict[str, Any] | None:
    """Return highest and lowest answer with their values, mean and median; None without any value."""
    there = {name: value for name, value in values.items() if value is not None and value == value}
    if not there:
        return None
    ends = {"highest": max(there, key=there.__getitem__), "lowest": min(there, key=there.__getitem__)}
    sides = {side: {"text": said(tree, name), "value": there[name]} for side, name in ends.items()}
    everything = list(there.values())
    return {**sides, "mean": float(np.mean(everything)), "median": float(np.median(everything))}


def said(tree: DecisionTree, answer: str) -> str:
    """Return an answer as volunteers read it."""
    return tree.answers[tree.column(answer)].text


def _errors(page: Page, contents: Contents) -> dict[str, Any]:
    if not _there(page, "rmse-per-answer", contents.evaluation):
        return {}
    entries = contents.evaluation["answers"]
    estimates = [entry["rmse"] for entry in entries.values()]
    values = np.array([np.nan if one is None else one["value"] for one in estimates])
    low, high = np.array([(np.nan, np.nan) if one is None else one["interval_95"] for one in estimates]).T
    baselines = _errors_of_baselines(contents)
    drawing = answers.rmse_per_answer(contents.tree, values, baselines=baselines, low=low, high=high)
    page.figure("rmse-per-answer", *drawing)
    return {
        "errors": _summary(contents.tree, dict(zip(entries, values.tolist(), strict=True))),
        "known_answers": int(np.count_nonzero(~np.isnan(values))),
        "below": {name: int(np.count_nonzero(values < other)) for name, other in baselines.items()},
    }


def _errors_of_baselines(contents: Contents) -> dict[str, NDArray]:
    """Return the RMSE of every answer (answer,) of the baselines that the training galaxies allow."""
    judged = contents.judged
    if any(isinstance(lost, Missing) for lost in (judged, contents.catalogue, contents.split)):
        return {}
    train = contents.training_rows
    if not len(train):
        return {}
    guesses = {"mean_vote": mean_vote(contents.votes[train], len(judged.ids))}
    colours = centre_colours(contents.catalogue)
    if colours is not None:
        sides = colours[train], contents.votes[train], colours[judged.rows]
        guesses["kaggle_central_pixel"] = kaggle_central_pixel(*sides)
    known = ~np.isnan(judged.volunteers)
    return {
        BASELINES[name]: rmse_per_answer(guess, judged.volunteers)
        for name, guess in guesses.items()
        if not np.isnan(guess[known]).any()
    }


def _questions(page: Page, contents: Contents) -> dict[str, Any]:
    tree = contents.tree
    if not _there(page, "questions", contents.evaluation):
        return {}
    entries = contents.evaluation["questions"]
    rows = [
        [f"{question.task} {question.text}".strip(), *_question_cells(entries[question.name])]
        for question in tree.questions
    ]
    header = ["", "RMSE", "95% interval", "agreement", "95% interval", "galaxies"]
    page.table("questions", Table(header, rows, entries))
    agreements = {q.text: entries[q.name]["agreement"] for q in tree.questions}
    shares = {text: agreement["value"] for text, agreement in agreements.items() if agreement}
    ordered = sorted(shares.items(), key=lambda item: item[1])
    return {"agreements": [ordered[-1], ordered[0]] if ordered else None}


def _question_cells(entry: Mapping[str, Any]) -> list[str]:
    error, agreement = entry["rmse"], entry["agreement"]
    cells = [decimal(error["value"]), bounds(error["interval_95"])] if error else ["–", "–"]
    return [*cells, *_agreement(entry), f"{agreement['galaxies']:,}" if agreement else "0"]


def _reliability(page: Page, contents: Contents) -> dict[str, Any]:
    judged, context = contents.judged, {}
    if _there(page, "reliability", judged):
        drawing = answers.reliability(contents.tree, judged.predicted, judged.volunteers)
        numbers = page.figure("reliability", *drawing)
        errors = {name: entry["error"] for name, entry in numbers["answers"].items()}
        context["calibration"] = _summary(contents.tree, errors)
    return context | {"intervals": _intervals(page, contents)}


def _intervals(page: Page, contents: Contents) -> Any:
    """Add table and figure of the coverage of the intervals, or say why there is none."""
    evaluation, remedy = contents.evaluation, contents.run.evaluate_command()
    if isinstance(evaluation, Missing) or "intervals" not in evaluation:
        page.missing("coverage", "Whether intervals hold what they state is not evaluated yet.", remedy)
        return None
    found = evaluation["intervals"]
    if "reason" in found:
        page.missing("coverage", f"Intervals are not evaluated: {found['reason']}.", found["remedy"])
        return None
    page.table("coverage", coverage_table(contents.tree, found))
    coverages, tolerance = found["coverages"][:2], found["tolerance"]
    drawing = answers.coverage_per_answer(contents.tree, coverages, tolerance=tolerance)
    page.figure("coverage-per-answer", *drawing)
    return found


def coverage_table(tree: DecisionTree, found: Mapping[str, Any]) -> Table:
    """Return how often the intervals of an evaluation hold the volunteers' fraction."""
    rare = [name for name in RARE if name in tree.columns]
    header = ["stated", "found", "95% interval", "top tenth", "wide", *(said(tree, name) for name in rare)]
    rows = []
    for one in found["coverages"]:
        entries = [one["found_top"], one["found_wide"], *(one["answers"][name]["found"] for name in rare)]
        cells = [decimal(entry["value"] if entry else None, 3) for entry in entries]
        measured = [decimal(one["found"]["value"], 3), bounds(one["found"]["interval_95"], 3), *cells]
        within = [decimal(one["width"], 3), f"{one['within']}", decimal(one["within_by_chance"], 1)]
        rows.append([f"{one['stated']:g}", *measured, *within])
    return Table([*header, "width", "within", "by chance"], rows, found)


def _prototypes(page: Page, contents: Contents) -> dict[str, Any]:
    judged, stamps, tree = contents.judged, contents.stamps, contents.tree
    if not _there(page, "prototypes", judged, stamps):
        return {"sheets": []}
    sheets = []
    for question in tree.questions:
        drawing = prototype_sheet(
            tree,
            question.name,
            ids=judged.ids,
            stamps=stamps,
            places=judged.rows,
            volunteers=judged.volunteers,
            predicted=judged.predicted,
        )
        numbers = page.figure(f"prototypes-{question.name}", *drawing, dpi=SHEET_DPI)
        shared = {said(tree, name): _shared(sides) for name, sides in numbers["answers"].items()}
        sheets.append({"question": question, "shared": shared})
    return {"sheets": sheets, "each": EACH}


def _shared(sides: Mapping[str, Any]) -> int:
    return len(set(sides["volunteers"]["galaxy_ids"]) & set(sides["network"]["galaxy_ids"]))


def _tree(page: Page, contents: Contents) -> dict[str, Any]:
    tree, judged = contents.tree, contents.judged
    shares = None
    if not isinstance(judged, Missing):
        known = ~np.isnan(judged.volunteers)
        sums, counts = np.where(known, judged.volunteers, 0).sum(axis=0), known.sum(axis=0)
        shares = np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)
    page.figure("decision-tree", *decision_tree(tree, shares=shares))
    highest = None
    if shares is not None:
        column = int(np.nanargmax(shares))
        highest = {"text": tree.answers[column].text, "value": float(shares[column])}
    return {"highest_share": highest}


def _again(page: Page, contents: Contents) -> dict[str, Any]:
    """Return the commands that make the run and its page again."""
    run, split, given = str(contents.run), contents.split, contents.given
    data, new = contents.notes.get("data", "data"), f"{run}-again"
    sources: list[str] = []
    if not isinstance(contents.catalogue, Missing):
        sources = list(dict.fromkeys(contents.catalogue.column("source").to_pylist()))
    commands = [["hubblefork", "ingest", *(sources or ["IMAGES"]), "--labels", "LABELS", "--out", data]]
    if not isinstance(split, Missing):
        parts = ["--salt", split.salt, "--test", str(split.test), "--validation", str(split.validation)]
        judge_on = [] if split.judge_on is None else ["--judge-on", str(contents.run.path / "judge_on.txt")]
        commands.append(["hubblefork", "split", data, *parts, *judge_on])
    recipe = str(contents.run.recipe_file)
    commands.append(["hubblefork", "train", data, "--recipe", recipe, "--out", new])
    views = _views(contents.judged)
    others = views if given is None else _views(given)
    each = [views] if others == views else [others, views]  # the last one evaluated is the one reported
    commands += [["hubblefork", "evaluate", new, "--part", contents.part, *one] for one in each]
    predictions: list[str] = []
    if given is not None:
        commands.append(["hubblefork", "predict", new, "IMAGES", "--out", "predictions.parquet", *others])
        predictions = ["--predictions", "predictions.parquet"]
    commands.append(["hubblefork", "report", new, *predictions])
    return {"commands": "\n".join(shlex.join(command) for command in commands)}


def _views(galaxies: Any) -> list[str]:
    if isinstance(galaxies, Missing) or galaxies.views == 1:
        return []
    return ["--views", str(galaxies.views)]


def _sources(page: Page, contents: Contents) -> dict[str, Any]:
    return {}


def _there(page: Page, name: str, *needed: Any) -> bool:
    """Return whether everything needed for a figure or table is there; if not, say what is missing."""
    for thing in needed:
        if isinstance(thing, Missing):
            page.missing(name, thing.what, thing.remedy)
            return False
    return True


SECTIONS: Mapping[str, Callable[[Page, Contents], dict[str, Any]]] = {
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
    "sources": _sources,
}
"""Anchors of the sections, and what adds their figures and tables to the page and returns their values."""
