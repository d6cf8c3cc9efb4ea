"""What a page is made of: sections of paragraphs, facts, tables, pictures, listings, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hubblefork.report.page import Missing as Missing
from hubblefork.report.style import DPI, Drawing
from hubblefork.report.tables import bounds as bounds
from hubblefork.report.tables import counted as counted
from hubblefork.report.tables import decimal as decimal
from hubblefork.report.tables import listed as listed
from hubblefork.report.tables import share as share
from hubblefork.report.tables import unbroken as unbroken


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


Block = Paragraph | Facts | Table | Picture | Listing | Missing


@dataclass(frozen=True)
class Section:
    """A heading with an anchor and the blocks below it."""

    anchor: str
    title: str
    blocks: Sequence[Block]
