"""The page itself: sections one after the other, figures embedded and beside it, a JSON twin."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment

from hubblefork import __version__
from hubblefork.io import write_text
from hubblefork.report.blocks import Picture, Section, Table
from hubblefork.report.style import png, save_pdf
from hubblefork.report.tables import plain


def write_page(
    out: Path, sections: Iterable[Section], *, title: str, subtitle: str, facts: Mapping[str, Any]
) -> Path:
    """Write `index.html` in a folder and return its path; the page needs no other file and no network.

    Beside it: every figure as a PDF, and `numbers.json` with `facts` and the numbers of figures and tables. A
    section is rendered as soon as `sections` yields it, so that no more than one keeps its figures in memory.
    Raises DiskError.
    """
    rendered = [_rendered(section, out) for section in sections]
    page = _environment().from_string(_template())
    html = page.render(title=title, subtitle=subtitle, sections=rendered, version=__version__)
    write_text(out / "numbers.json", json.dumps(_twin(facts, rendered), indent=1, allow_nan=False) + "\n")
    write_text(out / "index.html", html)
    return out / "index.html"


def _rendered(section: Section, out: Path) -> dict[str, Any]:
    """Return a section for the template, its figures turned to files so that none is kept in memory."""
    blocks = [_picture(block, out) if isinstance(block, Picture) else vars(block) for block in section.blocks]
    tables = {block.name: plain(block.numbers) for block in section.blocks if isinstance(block, Table)}
    figures = {block.name: block.drawing[1] for block in section.blocks if isinstance(block, Picture)}
    return {
        "anchor": section.anchor,
        "title": section.title,
        "blocks": blocks,
        "numbers": {**tables, **figures},
    }


def _picture(block: Picture, out: Path) -> dict[str, Any]:
    figure = block.drawing[0]
    save_pdf(figure, out / f"{block.name}.pdf", dpi=block.dpi)
    uri = f"data:image/png;base64,{b64encode(png(figure, dpi=block.dpi)).decode()}"
    width = figure.get_size_inches()[0]
    return {"kind": block.kind, "name": block.name, "caption": block.caption, "uri": uri, "width": width}


def _twin(facts: Mapping[str, Any], sections: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {**plain(facts), "sections": {section["anchor"]: section["numbers"] for section in sections}}


def _environment() -> Environment:
    return Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)


def _template() -> str:
    return resources.files("hubblefork.report").joinpath("oldpage.html").read_text(encoding="utf-8")
