"""What a page is made of: sections of paragraphs, facts, tables, pictures, listings, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hubblefork.report.figures.style import DPI, Drawing


@dataclass(frozen=True)
class Paragraph:
    """A few sentences; `warning` sets them off from the others."""

    text: str
    warning: bool = False
    kind: str = "paragraph"


@dataclass(frozen=True)
class Facts:
    """Pairs of a name and its value."""

    entries: Mapping[str, str]
    kind: str = "facts"


@dataclass(frozen=True)
class Table:
    """Rows of text under a header, the first column left-aligned; `numbers` go to the JSON twin as `name`."""

    name: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str
    numbers: Any
    kind: str = "table"


@dataclass(frozen=True)
class Picture:
    """A figure with its numbers, the name of its files, a caption that says what is seen, dots an inch."""

    name: str
    drawing: Drawing
    caption: str
    dpi: int = DPI
    kind: str = "picture"


@dataclass(frozen=True)
class Listing:
    """Text to be read or typed as it stands: a recipe, commands."""

    text: str
    kind: str = "listing"


@dataclass(frozen=True)
class Missing:
    """What could not be shown, and what to do about it (a command, or a sentence)."""

    what: str
    remedy: str
    kind: str = "missing"


Block = Paragraph | Facts | Table | Picture | Listing | Missing


@dataclass(frozen=True)
class Section:
    """A heading with an anchor and the blocks below it."""

    anchor: str
    title: str
    blocks: Sequence[Block]


def decimal(value: float | None, digits: int = 4) -> str:
    """Return a number for reading, or a dash where there is none."""
    return "–" if value is None or value != value else f"{value:.{digits}f}".replace("-", "−")


def bounds(interval: Sequence[float], digits: int = 4) -> str:
    """Return an interval for reading."""
    low, high = interval
    return f"{decimal(low, digits)} to {decimal(high, digits)}"


def share(value: float | None) -> str:
    """Return a share in per cent with one digit, or a dash where there is none."""
    return "–" if value is None or value != value else f"{value:.1%}"


def counted(number: int, one: str, many: str = "") -> str:
    """Return "1 galaxy" or "3 galaxies": the number with its noun."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def unbroken(name: str) -> str:
    """Return a name that stays on one line: with a space and a hyphen that do not break."""
    return name.replace(" ", "\u00a0").replace("-", "\u2011")


def listed(texts: Sequence[str]) -> str:
    """Return "a, b and c"."""
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)
