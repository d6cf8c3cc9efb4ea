"""The page itself: sections one after the other, figures embedded and beside it, a JSON twin."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment

from hubblefork import __version__
from hubblefork.figures.numbers import plain
from hubblefork.figures.style import png, save_pdf
from hubblefork.files import write_text
from hubblefork.progress import Progress, silent
from hubblefork.report import galaxies, method, results, training
from hubblefork.report.blocks import Picture, Section, Table
from hubblefork.report.inputs import Inputs, read_inputs

SECTIONS: tuple[Callable[[Inputs], Section], ...] = (
    results.headline,
    training.trained_on,
    training.curves,
    results.scatter,
    results.errors,
    results.questions,
    results.calibration,
    galaxies.prototype_pages,
    galaxies.mergers,
    method.asked,
    method.again,
    method.sources,
)


def write_report(run: Path, *, predictions: Path | None = None, progress: Progress = silent) -> Path:
    """Write `report/index.html` in a run folder and return its path; it needs no other file and no network.

    Beside it: every figure as a PDF, and `numbers.json` with the numbers of figures and tables.
    `predictions` is a catalogue of other images, whose mergers are counted and shown. Only files are read;
    what is missing is said on the page, with the command that makes it. Raises RunError
    when `run` is not the folder of a run, DiskError.
    """
    inputs, out = read_inputs(run, predictions), run / "report"
    sections = []
    with progress("report", len(SECTIONS)) as advance:
        for make in SECTIONS:
            sections.append(_rendered(make(inputs), out))
            advance(1)
    page = (
        _environment()
        .from_string(_template())
        .render(run=run.resolve().name, notes=inputs.notes, sections=sections, version=__version__)
    )
    write_text(out / "numbers.json", json.dumps(_twin(inputs, sections), indent=1, allow_nan=False) + "\n")
    write_text(out / "index.html", page)
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


def _twin(inputs: Inputs, sections: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "run": plain(inputs.notes),
        "part": inputs.part,
        "sections": {section["anchor"]: section["numbers"] for section in sections},
    }


def _environment() -> Environment:
    return Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)


def _template() -> str:
    return resources.files("hubblefork.report").joinpath("page.html").read_text(encoding="utf-8")
