"""The page of a tuning: the result of each trial, the importance of the settings, the best recipe."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hubblefork.network.callbacks import MODES
from hubblefork.network.recipe import differences
from hubblefork.network.tuning import TuningResult
from hubblefork.pages.comparisons import importances, trial_history
from hubblefork.pages.page import Page
from hubblefork.pages.tables import Column, Table

GO_ON = "the same command goes on"
OTHER_COLUMNS = ("number", "state", "value", "last", "folder", "epochs", "seconds", "failure")
LONG = re.compile(r"\d+\.\d{5,}(e-?\d+)?")
"""A number of more digits than anybody reads; best.toml has them all."""
MOST = 7
"""Settings beside a trial: more do not fit on a page."""
STATES = ("complete", "pruned", "fail", "queued again", "running", "waiting")


def write_tuning_page(tuned: TuningResult, out: Path) -> Path:
    """Write `index.html` about a tuning into a folder and return its path."""
    page = Page(out)
    page.optional("trial-history")
    add_trials(page, tuned)
    if tuned.best is None:
        page.missing("best", "No trial was trained to the end yet.", GO_ON)
    changed = [] if tuned.best is None else differences(tuned.best, tuned.recipe)
    shown = [text for text in changed if not text.startswith(("name", "description"))]
    return page.write(
        "tuning.md.j2",
        title=f"Tuning {tuned.recipe.name}",
        subtitle=f"study {tuned.name}: {len(tuned.rows)} trials",
        facts={"study": tuned.name, "best": None if tuned.best is None else tuned.best.name},
        states=", ".join(f"{tuned.count(state)} {state}" for state in STATES if tuned.count(state)),
        spent=sum(row["seconds"] or 0 for row in tuned.rows),
        changed=LONG.sub(lambda number: f"{float(number[0]):.4g}", "\n".join(shown)),
        tuned=tuned,
        monitored=monitored(tuned),
    )


def add_trials(page: Page, tuned: TuningResult, remedy: str = GO_ON) -> None:
    """Add the figures and the table of the trials to a page, for `trials.md.j2`.

    `remedy` says how there are more trials.
    """
    monitor, what = tuned.recipe.monitor, monitored(tuned)
    if any(row["state"] in ("complete", "pruned", "fail") for row in tuned.rows):
        rows = [{**row, "value": _value(row)} for row in tuned.rows]
        page.figure("trial-history", *trial_history(rows, what=what, lowest=MODES[monitor] == "min"))
    if tuned.importance:
        page.figure("importance", *importances(tuned.importance))
    else:
        page.missing("importance", "Too few finished trials to say which setting mattered.", remedy)
    names = list(dict.fromkeys(key for row in tuned.rows for key in row if key not in OTHER_COLUMNS))
    names.sort(key=lambda name: -tuned.importance.get(name, 0))
    columns: list[Column] = [
        ("trial", "number", ""),
        ("state", "state", ""),
        (what, _value, ".4f"),
        ("epochs", lambda row: row["epochs"] or None, ""),
        *((name.replace("_", " "), name, _setting) for name in names[:MOST]),
    ]
    failures = [f" Trial {row['number']}: {row['failure']}." for row in tuned.rows if row["failure"]]
    caption = f"Every trial. The value of a pruned one is its last.{''.join(failures)}"
    caption += " numbers.json and trials.csv have the other settings." if len(names) > MOST else ""
    page.table("trials", Table.of(tuned.rows, columns, caption=caption))


def monitored(tuned: TuningResult) -> str:
    """Return in words what the trials are compared by."""
    return tuned.recipe.monitor.replace("_", " ").replace("rmse", "RMSE")


def _value(row: dict[str, Any]) -> float | None:
    return row["last"] if row["value"] is None else row["value"]


def _setting(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
