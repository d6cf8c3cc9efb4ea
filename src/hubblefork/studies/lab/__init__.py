"""The lab report done again: three networks, eighteen figures, six tables, and what the report leaves open.

OUT/runs/<recipe>, OUT/runs/heads/<head>-seed<k>      the trainings
OUT/predictions/<recipe>.parquet                      the test images
OUT/report/index.html, numbers.json, figures.pdf      the page; figure-01.pdf … each figure by itself
OUT/sky, OUT/data                                     the mock sky of --quick
"""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from hubblefork.data.split import Split
from hubblefork.errors import ImageError
from hubblefork.io import Progress, replacing, silent
from hubblefork.network.device import device_of
from hubblefork.pages.page import Page
from hubblefork.pages.style import PAGE, POINTS, SMALL, STYLE
from hubblefork.studies.lab import results, sample
from hubblefork.studies.lab.networks import NETWORKS, REPORT, Lab, plan
from hubblefork.studies.study import copy_record, mock_data, train_all

MARGIN, CAPTION_LETTERS = 0.3, 118  # of figures.pdf: inches, letters to a line
CAPTION_LINE = 1.6 * SMALL / POINTS
MOCK_GALAXIES, MOCK_SPLIT = 480, Split(salt="demo", test=20, validation=20)
QUICK = (
    *("steps_per_epoch=0", "batch_size=16", "plateau_patience=4", "pretrained="),
    *("epochs=2", "lab-cnn:epochs=20", "lab-cnn-augmented:epochs=8", "heads:epochs=8"),
)
SECTIONS: tuple[Callable[[Page, Lab], results.Values | None], ...] = (
    *(sample.headline, sample.questions, sample.images, sample.labels, sample.highest, sample.correlated),
    *(sample.differences, sample.downsizing, sample.mean_votes, sample.architectures),
    *(results.training, results.scatter, results.prototype_sheets, results.mergers, results.disagreements),
    *(results.heads, results.accuracy, results.overfitting),
)
OF_NETWORKS = (
    *("networks", "figure-08", "figure-09", "figure-10", "table-06", "figure-11", "figure-12", "figure-13"),
    *("figure-14", "figure-15", "figure-16", "figure-17", "merger-fractions", "merger-thresholds"),
    *("heads", "heads-violations", "highest-answers", "agreements", "overfitting", "gaps"),
)
"""The figures and tables that the page does not have where no network of theirs is trained."""
WITH_IMAGES = ("figure-01", "figure-03", "figure-07", *(f"figure-{number}" for number in range(14, 19)))
"""The figures that show galaxies; all others hold numbers only, and may go where images may not."""


def run_lab(
    data: Path | None,
    out: Path,
    *,
    settings: Sequence[str] = (),
    seeds: int = 2,
    weights: Path | None = None,
    device: str = "",
    test_images: Path | None = None,
    quick: bool = False,
    only_report: bool = False,
    galaxies: int = MOCK_GALAXIES,
    command: Sequence[str] = (),
    progress: Progress = silent,
) -> Path:
    """Run the whole study on a data folder; return the page. Called again it goes on where it stopped.

    `settings` are those of `plan`, `weights` a start of the ResNets. `quick`: short trainings, on a mock sky
    of so many `galaxies` where no data are given. `only_report`: no training. `command` is shown on the
    page. Raises CatalogueError where there are neither data nor `quick`, RunError where a folder of
    OUT/runs holds a training of other settings, and as each stage does.
    """
    defaults = [text for text in QUICK if weights is None or text != "pretrained="] if quick else []
    trainings = plan(seeds=seeds, settings=settings, defaults=defaults)
    device_of(device)
    if test_images is not None and not test_images.exists():
        raise ImageError(f"{test_images}: there is no such archive or folder of test images")
    if data is None:
        data = mock_data(
            out,
            quick=quick,
            galaxies=galaxies,
            test_galaxies=galaxies // 4,
            split=MOCK_SPLIT,
            progress=progress,
        )
        test_images = test_images or out / "sky" / "images_test_rev1.zip"
    if not only_report:
        train_all(trainings, data, out / "runs", weights=weights, device=device, progress=progress)
    lab = Lab(data, out, seeds=seeds, test_images=test_images, device=device, progress=progress)
    return write_lab_page(lab, out / "report", command=command, progress=progress)


def write_lab_page(lab: Lab, out: Path, *, command: Sequence[str] = (), progress: Progress = silent) -> Path:
    """Write the page of the study, each of its figures and all of them in figures.pdf; return the page."""
    page, values = Page(out, keep_figures=True), {}
    page.optional(*OF_NETWORKS)
    with progress("report", len(SECTIONS)) as advance:
        for section in SECTIONS:
            values[section.__name__] = section(page, lab)
            advance(1)
    path = page.write(
        "lab.md.j2",
        title="Galaxy image classification and the galaxy merger rate",
        subtitle="A lab report done again on its own terms, and beyond them",
        facts={"networks": page.numbers.get("networks", {})},
        lab=lab,
        report=REPORT,
        names=NETWORKS,
        command=shlex.join(command),
        **values,
    )
    _write_figures(page, out / "figures.pdf")
    return path


def write_record(report: Path, out: Path) -> None:
    """Copy of a report of this study what shows no galaxy. Raises DiskError."""
    copy_record(report, out, without=(*WITH_IMAGES, "figures"))


def _write_figures(page: Page, path: Path) -> None:
    """Write the figures that the page shows into one PDF, each with its caption. Raises DiskError."""
    with (
        mpl.rc_context(STYLE),
        replacing(path) as temporary,
        PdfPages(temporary, metadata={"CreationDate": None}) as pdf,
    ):
        for name in page.captions:
            if name in page.figures:
                _add_page(pdf, *page.figures[name], page.captions[name])


def _add_page(pdf: PdfPages, figure: Figure, dpi: int, caption: str) -> None:
    """Add a figure with its caption below it."""
    _fix_layout(figure)
    width, height = figure.get_size_inches()
    lines = textwrap.wrap(caption, CAPTION_LETTERS)
    figure.text(0, -MARGIN / height, "\n".join(lines), va="top", fontsize=SMALL, linespacing=1.3)
    below = MARGIN + len(lines) * CAPTION_LINE
    page = Bbox([[-MARGIN, -below - MARGIN], [max(width, PAGE) + MARGIN, height + MARGIN]])
    pdf.savefig(figure, dpi=dpi, bbox_inches=page)


def _fix_layout(figure: Figure) -> None:
    """Fix everything where the layout has put it: on a larger page it would move to the new edges."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for legend in figure.legends:
        corner = figure.transFigure.inverted().transform(legend.get_window_extent().p0)
        legend.borderaxespad = 0
        legend.set_loc("lower left")
        legend.set_bbox_to_anchor(tuple(corner), transform=figure.transFigure)
