"""The page of a tuning: what each trial came to, what mattered, the recipe that came out."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

from hubblefork.io import duration
from hubblefork.network.callbacks import MODES
from hubblefork.network.recipe import differences
from hubblefork.network.tuning import TuningResult
from hubblefork.report.blocks import (
    Block,
    Facts,
    Listing,
    Missing,
    Paragraph,
    Picture,
    Section,
    Table,
    decimal,
)
from hubblefork.report.figures.tuning import importances, trial_history
from hubblefork.report.oldpage import write_page

GO_ON = "the same command goes on"
FIELDS_OF_ROWS = ("number", "state", "value", "last", "folder", "epochs", "seconds", "failure")


def write_tuning_page(found: TuningResult, out: Path) -> Path:
    """Write `index.html` about a tuning into a folder and return its path."""
    sections = [Section("summary", "What came out", [Facts(_facts(found)), *_best(found)]), trials(found)]
    facts = {"study": found.name, "best": None if found.best is None else found.best.name}
    title = f"Tuning {found.recipe.name}"
    subtitle = f"study {found.name}: {len(found.rows)} trials"
    return write_page(out, sections, title=title, subtitle=subtitle, facts=facts)


def trials(found: TuningResult) -> Section:
    """Return the history, what mattered, and every trial."""
    blocks: list[Block] = []
    if any(row["state"] in ("complete", "pruned", "fail") for row in found.rows):
        what = found.recipe.monitor.replace("_", " ").replace("rmse", "RMSE")
        shown = [{**row, "value": _value(row)} for row in found.rows]
        drawing = trial_history(shown, what=what, lowest=MODES[found.recipe.monitor] == "min")
        blocks.append(Picture("trial-history", drawing, _history_caption(found)))
    if found.importance:
        caption = (
            "How much of the spread of the results each setting explains on its own and with others (fANOVA, "
            "Hutter et al. 2014, over the trials that were trained to the end). With few trials this is a "
            "guess: what was hardly varied cannot matter."
        )
        blocks.append(Picture("importance", importances(found.importance), caption))
    else:
        blocks.append(Missing("Too few finished trials to say which setting mattered.", GO_ON))
    return Section("trials", "The trials", [*blocks, _table(found)])


def _facts(found: TuningResult) -> dict[str, str]:
    spent = sum(row["seconds"] or 0 for row in found.rows)
    states = ("complete", "pruned", "fail", "queued again", "running", "waiting")
    counts = [f"{found.count(state)} {state}" for state in states if found.count(state)]
    return {
        "Recipe": f"{found.recipe.name}: {found.recipe.description}",
        "Trials": ", ".join(counts) or "none",
        "Training": f"{duration(spent)} in all trials together",
        "Monitored": f"{found.recipe.monitor} chose the trial and is optimistic; test galaxies were not used",
    }


def _best(found: TuningResult) -> list[Block]:
    if found.best is None:
        return [Missing("No trial was trained to the end yet.", GO_ON)]
    unlike = differences(found.best, found.recipe)
    changed = [text for text in unlike if not text.startswith(("name", "description"))]
    return [
        Paragraph("The best trial differs from the recipe that it began with in (its value, not the other):"),
        Listing("\n".join(changed) or "nothing"),
    ]


def _history_caption(found: TuningResult) -> str:
    done = [row for row in found.rows if row["value"] is not None]
    if not done:
        return "What the trials came to."
    best = (min if MODES[found.recipe.monitor] == "min" else max)(done, key=lambda row: row["value"])
    middle = median(row["value"] for row in done)
    return (
        f"What each trial came to. The best is trial {best['number']} with {decimal(best['value'])}, "
        f"the median of those trained to the end {decimal(middle)}."
    )


def _table(found: TuningResult) -> Table:
    names = list(dict.fromkeys(key for row in found.rows for key in row if key not in FIELDS_OF_ROWS))
    rows = [
        [str(row["number"]), row["state"], decimal(_value(row)), str(row["epochs"] or "–")]
        + [_setting(row.get(name)) for name in names]
        for row in found.rows
    ]
    failures = [f"trial {row['number']}: {row['failure']}" for row in found.rows if row["failure"]]
    caption = "Every trial. The value of a pruned one is its last. " + " ".join(failures)
    header = [text.replace("_", " ") for text in ("trial", "state", found.recipe.monitor, "epochs", *names)]
    return Table("trials", header, rows, caption.strip(), found.rows)


def _value(row: dict[str, Any]) -> float | None:
    return row["last"] if row["value"] is None else row["value"]


def _setting(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
