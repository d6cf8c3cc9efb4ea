"""One table for the terminal, the page and the JSON file, and numbers written for reading."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from operator import itemgetter
from typing import Any, Literal

import numpy as np
import rich.table
from rich.markup import escape

from hubblefork.zoo import DecisionTree

DIGITS = 6
DASH = "–"
BASELINES: Mapping[str, str] = {
    "mean_vote": "mean vote",
    "central_pixel": "central pixel (k-means)",
    "kaggle_central_pixel": "central pixel (Kaggle)",
    "all_zeros": "all zeros",
    "all_ones": "all ones",
}
"""The names that tables and figures give to the baselines of `stats.baselines`."""

Column = tuple[str, str | Callable[[Any], Any], str | Callable[[Any], str]]
"""Header; where the value is in a row; how it is written. See `Table.of`."""


@dataclass(frozen=True)
class Table:
    """Cells of text under a header; the first column is left-aligned, the others right-aligned.

    `numbers` are the same values for `numbers.json`. `rich` prints the table in the terminal; a page shows
    it with `{{ table(name) }}` (see `pages.page.Page`). `title` and `caption` are for the terminal; a page
    takes its caption from its template. `Table.of` makes cells and numbers from the same values.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Any = None
    title: str = ""
    caption: str = ""

    @classmethod
    def of(
        cls,
        rows: Mapping[str, Any] | Sequence[Any],
        columns: Sequence[Column],
        *,
        numbers: Any = None,
        title: str = "",
        caption: str = "",
    ) -> Table:
        """Return the table of some rows, which are mappings or dataclasses: by name, or in a sequence.

        A column is (header, key, form). The key is the path to a value in a row ("rmse.value"), "" for the
        row's name, or a function of the row. The form is a format specification (".4f", for both ends of an
        interval too) or a function of the value. None, NaN and an absent key are written as a dash. `numbers`
        are by default the rows.

        >>> errors = {"smooth": {"rmse": {"value": 0.1234}, "galaxies": 1200}}
        >>> columns = [("answer", "", ""), ("RMSE", "rmse.value", ".3f"), ("galaxies", "galaxies", ",")]
        >>> Table.of(errors, columns).rows
        [['smooth', '0.123', '1,200']]
        """
        named = rows.items() if isinstance(rows, Mapping) else enumerate(rows)
        cells = [
            [written(name if key == "" else value_at(row, key), form) for _, key, form in columns]
            for name, row in named
        ]
        header = [header for header, _, _ in columns]
        return cls(header, cells, rows if numbers is None else numbers, title, caption)

    def __rich__(self) -> rich.table.Table:
        table = rich.table.Table(title=escape(self.title) or None, caption=escape(self.caption) or None)
        for place, (name, *cells) in enumerate(zip(self.header, *self.rows, strict=True)):
            longest = max(map(len, " ".join([name, *cells]).split()), default=1)
            justify: Literal["left", "right"] = "right" if place else "left"
            table.add_column(escape(name), justify=justify, min_width=longest)
        for row in self.rows:
            table.add_row(*(escape(cell) for cell in row))
        return table


def value_at(row: Any, key: str | Callable[[Any], Any]) -> Any:
    """Return the value at a path ("rmse.value") of mappings and dataclasses; None where it ends early.

    The path "" is the row itself.
    """
    if callable(key):
        return key(row)
    for name in key.split(".") if key else ():
        row = row.get(name) if isinstance(row, Mapping) else getattr(row, name, None)
    return row


def written(value: Any, form: str | Callable[[Any], str]) -> str:
    """Return a value as a table shows it: by a format specification or a function, a dash for none.

    A text stays as it is, unless the form is a function.
    """
    if value is None or (isinstance(value, float | np.floating) and np.isnan(value)):
        return DASH
    if callable(form):
        return form(value)
    if isinstance(value, list | tuple):
        ends = [written(end, form) for end in value]
        return DASH if set(ends) == {DASH} else " to ".join(ends)
    if isinstance(value, str):
        return value
    text = f"{value:{form}}".replace("-", "−")
    return text.removeprefix("−") if not text.strip("−0.%") else text


def plain(value: Any) -> Any:
    """Return arrays, mappings, sequences and dataclasses as what JSON has.

    Floats keep 6 significant digits; NaN and infinity, which JSON does not have, become null. Anything else
    (a date of a TOML file) becomes text.
    """
    if is_dataclass(value) and not isinstance(value, type):
        value = vars(value)
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)


def decimal(value: float | None, digits: int = 4) -> str:
    """Return a number with a fixed number of digits, or a dash for None and NaN."""
    return written(value, f".{digits}f")


def bounds(interval: Sequence[float], digits: int = 4) -> str:
    """Return an interval: "0.1000 to 0.2000"."""
    return written(tuple(interval), f".{digits}f")


def spread(values: float | Sequence[float], digits: int = 4) -> str:
    """Return "mean ± standard deviation" of some values, the latter where there is more than one."""
    mean = decimal(float(np.mean(values)), digits)
    return f"{mean} ± {decimal(float(np.std(values, ddof=1)), digits)}" if np.size(values) > 1 else mean


def share(value: float | None) -> str:
    """Return a share in per cent with one digit, or a dash for None and NaN."""
    return written(value, ".1%")


def counted(number: int, singular: str, plural: str = "") -> str:
    """Return a number with its noun: "1 galaxy", "3 galaxies"."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def extremes(entries: Mapping[str, Any], key: str | Callable[[Any], Any]) -> dict[str, Any] | None:
    """Return `highest` and `lowest` as (name, value), `mean`, `median` and `number` of the values at a key.

    None and NaN are left out; without any other value the result is None.
    """
    every = {name: value_at(entry, key) for name, entry in entries.items()}
    values = {name: value for name, value in every.items() if value is not None and value == value}
    if not values:
        return None
    ends = {
        "highest": max(values.items(), key=itemgetter(1)),
        "lowest": min(values.items(), key=itemgetter(1)),
    }
    numbers = list(values.values())
    return {
        **ends,
        "mean": float(np.mean(numbers)),
        "median": float(np.median(numbers)),
        "number": len(numbers),
    }


def unbroken(name: str) -> str:
    """Return a name that stays on one line: its spaces and hyphens do not break."""
    return name.replace(" ", "\u00a0").replace("-", "\u2011")


def listed(texts: Sequence[str]) -> str:
    """Return "a, b and c"."""
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def baselines_table(evaluation: Mapping[str, Any]) -> Table:
    """Return the error of a network above those of the baselines."""
    rows = {"network": evaluation, **ordered_baselines(evaluation)}
    columns: list[Column] = [
        ("", "", lambda name: BASELINES.get(name, name)),
        ("RMSE", "rmse.value", ".4f"),
        ("95% interval", "rmse.interval_95", ".4f"),
        ("agreement", "agreement.value", ".1%"),
        ("95% interval", "agreement.interval_95", ".1%"),
        ("behind", "behind.difference", ".4f"),
        ("95% interval", "behind.interval_95", ".4f"),
    ]
    keys = ("part", "galaxies", "rmse", "agreement", "baselines", "constraint_violation")
    return Table.of(rows, columns, numbers={key: evaluation[key] for key in keys})


def ordered_baselines(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Return the baselines of an evaluation, the lowest error first."""
    return dict(sorted(evaluation["baselines"].items(), key=lambda item: item[1]["rmse"]["value"]))


def questions_table(evaluation: Mapping[str, Any], tree: DecisionTree) -> Table:
    """Return error and agreement of an evaluation, question by question."""
    columns: list[Column] = [
        ("", "", lambda name: f"{tree.question(name).task} {tree.question(name).text}".strip()),
        ("RMSE", "rmse.value", ".4f"),
        ("95% interval", "rmse.interval_95", ".4f"),
        ("agreement", "agreement.value", ".1%"),
        ("95% interval", "agreement.interval_95", ".1%"),
        ("galaxies", lambda entry: value_at(entry, "agreement.galaxies") or 0, ","),
    ]
    return Table.of(evaluation["questions"], columns)


def classes_table(question: Mapping[str, Any]) -> Table:
    """Return accuracy and log-loss of each class of a question in an evaluation."""
    columns: list[Column] = [
        ("class", "", ""),
        ("galaxies", "accuracy.galaxies", ","),
        ("accuracy", "accuracy.value", ".3f"),
        ("95% interval", "accuracy.interval_95", ".3f"),
        ("log-loss", "log_loss.value", ".3f"),
        ("95% interval", "log_loss.interval_95", ".3f"),
    ]
    caption = "Accuracy: of its galaxies, the share with the highest fraction for it; over all classes "
    caption += f"{question['agreement']['value']:.3f}, log-loss {question['log_loss']['value']:.3f}."
    return Table.of({name: row for name, row in question["classes"].items() if row}, columns, caption=caption)


def coverage_table(intervals: Mapping[str, Any], answers: Mapping[str, str]) -> Table:
    """Return how often the intervals of an evaluation hold the volunteers' fraction.

    `answers` maps the answers that have a column to their texts.
    """
    columns: list[Column] = [
        ("stated", "stated", ".2f"),
        ("found", "found.value", ".3f"),
        ("95% interval", "found.interval_95", ".3f"),
        ("top tenth", "found_top.value", ".3f"),
        ("wide", "found_wide.value", ".3f"),
        *((text, f"answers.{name}.found.value", ".3f") for name, text in answers.items()),
        ("width", "width", ".3f"),
        ("within", "within", ""),
        ("by chance", "within_by_chance", ".1f"),
    ]
    return Table.of(intervals["coverages"], columns, numbers=intervals)


def counts_table(counts: Mapping[str, Any]) -> Table:
    """Return how many galaxies are counted in each sample; `counts` maps its name to a `Count`."""
    level = next(iter(counts.values())).level
    columns: list[Column] = [
        ("sample", "", ""),
        ("mergers", "count", ","),
        ("galaxies", "total", ","),
        ("fraction", "value", ".4f"),
        (f"{level:.0%} interval", lambda count: (count.low, count.high), ".4f"),
    ]
    return Table.of(counts, columns)


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
    title = f"{summary['recipe']}: {summary['folds']} folds, {summary['galaxies']} galaxies judged"
    caption = f"Mean ± s.d.: RMSE {rmse}, mean vote {mean_vote}. RMSE {summary['out_of_fold_rmse']:.4f} "
    caption += f"over all {summary['galaxies']:,} out-of-fold predictions. "
    caption += f"{summary['galaxies_per_second']:.0f} galaxies/s."
    rows = list(zip(*values, strict=True))
    return Table.of(rows, columns, numbers=summary, title=title, caption=caption)
