"""The study from top to bottom: train what is missing, read everything, write the page and its figures.

OUT/runs/<recipe>, OUT/runs/heads/<head>-seed<k>      the trainings
OUT/predictions/<recipe>.parquet                      the test images
OUT/report/index.html, numbers.json, figures.pdf      the page; figure-01.pdf … each figure by itself
OUT/sky, OUT/data                                     the mock sky of --quick
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import matplotlib as mpl
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from hubblefork.data.split import Split
from hubblefork.io import Progress, replacing, silent
from hubblefork.report.blocks import Picture, Section
from hubblefork.report.figures.style import PAGE, POINTS, SMALL, STYLE
from hubblefork.report.oldpage import write_page
from hubblefork.studies.lab import (
    beyond,
    disagreements,
    networks,
    overfitting,
    results,
    sample,
    summary,
    training,
)
from hubblefork.studies.lab.inputs import Lab, read_lab
from hubblefork.studies.lab.trainings import plan
from hubblefork.studies.study import copy_record, mock_data, train_all

SECTIONS: tuple[Callable[[Lab], Section], ...] = (
    summary.headline,
    sample.asked,
    sample.images,
    sample.labels,
    sample.prototype_images,
    sample.correlated,
    sample.differences,
    sample.downsizing,
    networks.mean_votes,
    networks.custom,
    networks.resnet,
    networks.reweighted,
    training.comparison,
    results.predicted,
    results.prototype_sheets,
    results.mergers,
    disagreements.disagreements,
    beyond.heads,
    beyond.agreements,
    overfitting.overfitting,
)
MARGIN, CAPTION_LETTERS = 0.3, 118  # of figures.pdf: inches, letters to a line
CAPTION_LINE = 1.6 * SMALL / POINTS
MOCK_GALAXIES, MOCK_SPLIT = 480, Split(salt="demo", test=20, validation=20)
QUICK = (
    *("steps_per_epoch=0", "batch_size=16", "plateau_patience=4", "pretrained="),
    *("epochs=2", "lab-cnn:epochs=20", "lab-cnn-augmented:epochs=8", "heads:epochs=8"),
)
WITH_IMAGES = ("figure-01", "figure-03", "figure-07", *(f"figure-{number}" for number in range(14, 19)))
"""The figures that show galaxies; all others hold numbers only, and may go where images may not."""


@dataclass(frozen=True)
class Ways:
    """How to run the study: settings of the recipes, seeds a head, the start, the device, the test images.

    `quick`: a mock sky where no data are given, and trainings of a few short epochs. `only_report`: train
    nothing; what is not trained is said to be missing. `galaxies` is the size of the mock sky.
    """

    settings: Sequence[str] = ()
    seeds: int = 2
    weights: Path | None = None
    device: str = ""
    test_images: Path | None = None
    quick: bool = False
    only_report: bool = False
    galaxies: int = MOCK_GALAXIES


def run_lab(
    data: Path | None, out: Path, *, ways: Ways, command: Sequence[str] = (), progress: Progress = silent
) -> Path:
    """Run the whole study on a data folder; return the page. Called again it goes on where it stopped.

    `command` is what the page says made it. Raises CatalogueError where there are neither data nor `quick`,
    RunError where a folder of OUT/runs holds a training of other settings, and as each stage does.
    """
    test_images = ways.test_images
    if data is None:
        data = mock_data(
            out,
            quick=ways.quick,
            galaxies=ways.galaxies,
            test_galaxies=ways.galaxies // 4,
            split=MOCK_SPLIT,
            progress=progress,
        )
        test_images = test_images or out / "sky" / "images_test_rev1.zip"
    quick = [text for text in QUICK if ways.weights is None or text != "pretrained="] if ways.quick else []
    trainings = plan(seeds=ways.seeds, settings=ways.settings, defaults=quick)
    if not ways.only_report:
        train_all(trainings, data, out / "runs", weights=ways.weights, device=ways.device, progress=progress)
    lab = read_lab(
        data, out, seeds=ways.seeds, test_images=test_images, device=ways.device, progress=progress
    )
    return write_lab_page(lab, out / "report", command=command, progress=progress)


def write_lab_page(lab: Lab, out: Path, *, command: Sequence[str] = (), progress: Progress = silent) -> Path:
    """Write the page of the study, each of its figures and all of them in figures.pdf; return the page."""
    makers: list[Callable[[Lab], Section]] = [*SECTIONS, partial(summary.again, command=list(command))]
    with (
        mpl.rc_context(STYLE),
        replacing(out / "figures.pdf") as temporary,
        PdfPages(temporary, metadata={"CreationDate": None}) as pdf,
    ):
        return write_page(
            out,
            _collected(_made(lab, makers, progress), pdf),
            title="Galaxy image classification and the galaxy merger rate",
            subtitle="A lab report done again on its own terms, and beyond them",
            facts={"networks": summary.numbers(lab)},
        )


def write_record(report: Path, out: Path) -> None:
    """Copy of a report of this study what shows no galaxy. Raises DiskError."""
    copy_record(report, out, without=(*WITH_IMAGES, "figures"))


def _made(lab: Lab, makers: Sequence[Callable[[Lab], Section]], progress: Progress) -> Iterator[Section]:
    with progress("report", len(makers)) as advance:
        for make in makers:
            yield make(lab)
            advance(1)


def _collected(sections: Iterator[Section], pdf: PdfPages) -> Iterator[Section]:
    """Pass sections on, each of their figures added as a page: no figure is kept."""
    for section in sections:
        for block in section.blocks:
            if isinstance(block, Picture):
                _add_page(block, pdf)
        yield section


def _add_page(block: Picture, pdf: PdfPages) -> None:
    """Add a figure with its caption below it."""
    figure = block.drawing[0]
    _settle(figure)
    width, height = figure.get_size_inches()
    lines = textwrap.wrap(block.caption, CAPTION_LETTERS)
    note = figure.text(0, -MARGIN / height, "\n".join(lines), va="top", fontsize=SMALL, linespacing=1.3)
    below = MARGIN + len(lines) * CAPTION_LINE
    page = Bbox([[-MARGIN, -below - MARGIN], [max(width, PAGE) + MARGIN, height + MARGIN]])
    pdf.savefig(figure, dpi=block.dpi, bbox_inches=page)
    note.remove()


def _settle(figure: Figure) -> None:
    """Fix everything where the layout has put it: on a larger page it would move to the new edges."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for legend in figure.legends:
        corner = figure.transFigure.inverted().transform(legend.get_window_extent().p0)
        legend.borderaxespad = 0
        legend.set_loc("lower left")
        legend.set_bbox_to_anchor(tuple(corner), transform=figure.transFigure)
