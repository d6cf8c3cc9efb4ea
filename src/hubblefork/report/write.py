"""The report of a run: which sections it has, in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from hubblefork.progress import Progress, silent
from hubblefork.report import galaxies, method, reliability, results, training
from hubblefork.report.blocks import Section
from hubblefork.report.inputs import Inputs, read_inputs
from hubblefork.report.merger_fraction import merger_fraction
from hubblefork.report.page import write_page

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
    with progress("report", len(SECTIONS)) as advance:
        for make in SECTIONS:
            yield make(inputs)
            advance(1)
