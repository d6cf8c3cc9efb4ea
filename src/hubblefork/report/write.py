"""The report of a run: which sections it has, in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from hubblefork.io import Progress, silent
from hubblefork.report import galaxies, method, reliability, results, training
from hubblefork.report.blocks import Section
from hubblefork.report.inputs import Inputs, read_inputs
from hubblefork.report.merger_fraction import merger_fraction
from hubblefork.report.oldpage import write_page
from hubblefork.stats.estimators import MERGER

SECTIONS: tuple[Callable[[Inputs], Section], ...] = (
    results.headline,
    training.trained_on,
    training.curves,
    results.scatter,
    results.errors,
    results.questions,
    reliability.reliability_and_coverage,
    galaxies.prototype_pages,
    galaxies.mergers,
    merger_fraction,
    method.asked,
    method.again,
    method.sources,
)


OF_MERGERS = (galaxies.mergers, merger_fraction)


def sections_of(inputs: Inputs) -> list[Callable[[Inputs], Section]]:
    """Return the sections that a run has: mergers where its tree asks for them, a tree where there is one."""
    left_out = () if MERGER in inputs.tree.columns else OF_MERGERS
    left_out = (*left_out, method.asked, results.questions) if inputs.tree.is_plain else left_out
    return [section for section in SECTIONS if section not in left_out]


def write_report(run: Path, *, predictions: Path | None = None, progress: Progress = silent) -> Path:
    """Write `report/index.html` in a run folder and return its path (see `report.page.write_page`).

    `predictions` is a catalogue of other images, whose mergers are counted and shown. Only files are read;
    what is missing is said on the page, with the command that makes it. Raises RunError
    when `run` is not the folder of a run, DiskError.
    """
    inputs = read_inputs(run, predictions)
    notes = inputs.notes
    subtitle = (
        f"A run of the recipe {notes.get('recipe', '–')}, seed {notes.get('seed', '–')}: "
        "vote fractions of galaxies, predicted from their images"
    )
    facts = {"run": notes, "part": inputs.part}
    sections = _made(inputs, progress)
    return write_page(run / "report", sections, title=run.resolve().name, subtitle=subtitle, facts=facts)


def _made(inputs: Inputs, progress: Progress) -> Iterator[Section]:
    sections = sections_of(inputs)
    with progress("report", len(sections)) as advance:
        for make in sections:
            yield make(inputs)
            advance(1)
