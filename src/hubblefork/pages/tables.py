"""One table for the terminal, the page and the JSON file, and numbers written for reading."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import rich.table
from rich.markup import escape

DIGITS = 6


@dataclass(frozen=True)
class Table:
    """Rows of text under a header; the first column is left-aligned, the others right-aligned.

    `numbers` are the same values for `numbers.json`. `rich` prints the table in the terminal; a page shows
    it with `{{ table(name) }}` (see `report.page.Page`). `title` and `caption` are for the terminal; a page
    takes its caption from its template.

    >>> table = Table(["answer", "RMSE"], [["smooth", decimal(0.1234)]], {"smooth": 0.1234})
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Any = None
    title: str = ""
    caption: str = ""

    def __rich__(self) -> rich.table.Table:
        table = rich.table.Table(title=escape(self.title) or None, caption=escape(self.caption) or None)
        for place, name in enumerate(self.header):
            table.add_column(escape(name), justify="right" if place else "left")
        for row in self.rows:
            table.add_row(*(escape(cell) for cell in row))
        return table


def plain(value: Any) -> Any:
    """Return arrays, mappings and sequences as what JSON knows.

    Floats keep 6 significant digits; NaN and infinity, which JSON does not know, become null.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value


def decimal(value: float | None, digits: int = 4) -> str:
    """Return a number with a fixed number of digits, or a dash for None and NaN."""
    return "–" if value is None or value != value else f"{value:.{digits}f}".replace("-", "−")


def bounds(interval: Sequence[float], digits: int = 4) -> str:
    """Return an interval: "0.1000 to 0.2000"."""
    low, high = interval
    return f"{decimal(low, digits)} to {decimal(high, digits)}"


def share(value: float | None) -> str:
    """Return a share in per cent with one digit, or a dash for None and NaN."""
    return "–" if value is None or value != value else f"{value:.1%}"


def counted(number: int, singular: str, plural: str = "") -> str:
    """Return a number with its noun: "1 galaxy", "3 galaxies"."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def unbroken(name: str) -> str:
    """Return a name that stays on one line: its spaces and hyphens do not break."""
    return name.replace(" ", "\u00a0").replace("-", "\u2011")


def listed(texts: Sequence[str]) -> str:
    """Return "a, b and c"."""
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)
