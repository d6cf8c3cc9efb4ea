"""Pages of images: galaxies with their ids, prototypes of answers, a cutout with its stamp.

Images are uint8 (y, x, band), shown in their own colours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubblefork.data.judged import JudgedGalaxies
from hubblefork.pages.answers import answer_panels
from hubblefork.pages.plots import draw_image, page_axes, write
from hubblefork.pages.style import (
    GREY,
    LINE,
    PAGE,
    SMALL,
    Drawing,
    in_house_style,
    new_figure,
    text_width,
    wrapped,
)
from hubblefork.pages.tables import plain
from hubblefork.stats.samples import prototypes
from hubblefork.zoo import DecisionTree

GAP = 0.05  # inches between images
EACH = 5
LABEL = 0.95
Image = NDArray[np.uint8]
Cell = tuple[Image, str]


@in_house_style
def image_sheet(
    stamps: Image | Sequence[Image],
    ids: Sequence[Any],
    *,
    notes: Sequence[str] | None = None,
    columns: int = 6,
) -> Drawing:
    """Draw stamps (galaxy, y, x, band) in rows, each with its galaxy_id and, where given, a note below.

    Returns the ids and the notes in the order of the sheet.
    """
    texts = [str(galaxy_id) for galaxy_id in ids]
    if notes is not None:
        texts = [f"{text}\n{note}" for text, note in zip(texts, notes, strict=True)]
    cells = list(zip(stamps, texts, strict=True))
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    figure = _draw_rows(rows, columns=columns)
    return figure, plain({"galaxy_ids": list(ids), "notes": None if notes is None else list(notes)})


def _draw_rows(
    rows: Sequence[Sequence[Cell | None]],
    *,
    columns: int,
    labels: Sequence[str] = (),
    heads: Sequence[str] = (),
) -> Any:
    """Draw rows of images with a text below each; `labels` stand left of the rows, `heads` above them.

    With several heads the columns are in as many groups of the same size, apart from each other.
    """
    left, top = (LABEL if labels else 0.0), (LINE + 2 * GAP if heads else 0.0)
    groups = max(1, len(heads))
    side = (PAGE - left - (groups - 1) * 3 * GAP - (columns - 1) * GAP) / columns
    lines = max((cell[1].count("\n") + 1 for row in rows for cell in row if cell), default=1)
    step = side + lines * LINE + (2 if labels else 1) * GAP
    figure = new_figure(PAGE, top + step * max(1, len(rows)), layout=None)
    page, group = page_axes(figure), columns // groups
    starts = [left + column * (side + GAP) + column // group * 3 * GAP for column in range(columns)]
    for number, head in enumerate(heads):
        write(page, starts[number * group], GAP / 2, head, va="top", color=GREY)
    for number, row in enumerate(rows):
        y = top + number * step
        if labels:
            text = wrapped(labels[number], LABEL - 2 * GAP, SMALL + 0.5)
            write(page, 0, y + side / 2, text, va="center")
        for start, cell in zip(starts, row, strict=False):
            if cell is not None:
                draw_image(page, start, y, side, cell[0])
                place = start + side / 2, y + side + GAP / 2
                text = "\n".join(_fitting(line, side) for line in cell[1].split("\n"))
                write(page, *place, text, ha="center", va="top")
    return figure


@in_house_style
def prototype_sheet(tree: DecisionTree, question: str, galaxies: JudgedGalaxies, stamps: Image) -> Drawing:
    """Draw, for each answer of a question, its highest galaxies by volunteers (left) and by the network.

    `stamps` are those of the whole catalogue, and may be a memory map: the stamp of galaxy g is
    `stamps[galaxies.rows[g]]`. Under each stamp stand its id and the joint fraction by which it was chosen.
    Returns ids, volunteers' and predicted values of the chosen, per answer and side. Raises UnknownAnswer for
    another question.
    """
    columns = range(len(tree.columns))[tree.slices[tree.questions.index(tree.question(question))]]
    rows: list[list[Cell | None]] = []
    numbers: dict[str, Any] = {}
    for column in columns:
        row: list[Cell | None] = []
        numbers[tree.columns[column]] = answer = {}
        for name, values in (("volunteers", galaxies.volunteers), ("network", galaxies.predicted)):
            highest = prototypes(values, galaxies.ids, column, EACH)
            chosen = galaxies.chosen(highest)
            pairs = zip(chosen.rows, chosen.ids, values[highest, column], strict=True)
            row += [(stamps[place], f"{galaxy_id}\n{value:.2f}") for place, galaxy_id, value in pairs]
            row += [None] * (EACH - len(highest))
            sides = {"volunteers": chosen.volunteers[:, column], "predicted": chosen.predicted[:, column]}
            answer[name] = {"galaxy_ids": chosen.ids, **sides}
        rows.append(row)
    labels = [tree.answers[column].text for column in columns]
    heads = "highest by volunteers", "highest by the network"
    figure = _draw_rows(rows, columns=2 * EACH, labels=labels, heads=heads)
    return figure, plain({"question": question, "answers": numbers})


@in_house_style
def prototype_rows(
    tree: DecisionTree,
    chosen: Mapping[str, Sequence[tuple[Any, float, float, Image]]],
    *,
    by: str,
    other: str,
) -> Drawing:
    """Draw a row of images for each of some answers: the galaxies that stand highest for it.

    `chosen` maps an answer to its galaxies: galaxy_id, the fraction they were chosen by, the fraction
    of the other side (NaN: none), and the image. `by` and `other` name the sides; both values stand under
    an image. Returns them per answer.
    """
    rows = [
        [
            (image, f"{galaxy_id}\n{value:.2f} ({'–' if np.isnan(second) else f'{second:.2f}'})")
            for galaxy_id, value, second, image in galaxies
        ]
        for galaxies in chosen.values()
    ]
    labels = [tree.answers[tree.column(answer)].text for answer in chosen]
    heads = [f"galaxy_id, fraction by {by} ({other})"]
    figure = _draw_rows(rows, columns=max(map(len, rows)), labels=labels, heads=heads)
    numbers = {
        answer: [{"galaxy_id": galaxy_id, by: value, other: second} for galaxy_id, value, second, _ in some]
        for answer, some in chosen.items()
    }
    return figure, plain(numbers)


@in_house_style
def prototype_of_every_answer(
    tree: DecisionTree, images: Sequence[Image | None], ids: Sequence[Any], values: NDArray
) -> Drawing:
    """Draw one image per answer under its question, with its galaxy_id and the fraction it was chosen by.

    All three have shape (answer,); an image of None leaves its panel empty. Returns ids and values.
    """
    figure, axes = answer_panels(tree, row_gap=0.34)
    for panel, image, galaxy_id, value in zip(axes, images, ids, values, strict=True):
        panel.set_xticks([])
        panel.set_yticks([])
        panel.spines[:].set_visible(False)
        if image is None:
            panel.text(0.5, 0.5, "none", transform=panel.transAxes, ha="center", color=GREY)
        else:
            panel.imshow(image, interpolation="auto")
            panel.set_xlabel(f"{galaxy_id}\n{value:.2f}", fontsize=SMALL, labelpad=2, linespacing=1.1)
    pairs = zip(tree.columns, ids, values, strict=True)
    return figure, plain({name: {"galaxy_id": own, "value": value} for name, own, value in pairs})


@in_house_style
def cutout_beside_stamp(cutout: Image, stamp: Image, *, galaxy_id: Any, crop: int) -> Drawing:
    """Draw a cutout, the square that is kept of it, and the stamp made of that square.

    `crop` is the side of the central square in pixels of the cutout. Returns the sizes.
    """
    texts = f"galaxy {galaxy_id}: {_pixels(cutout)}", f"its stamp: {_pixels(stamp)}"
    figure = _draw_rows([list(zip((cutout, stamp), texts, strict=True))], columns=2)
    page = figure.axes[0]
    left, right, bottom, top = page.images[0].get_extent()
    margin = (right - left) * (1 - crop / min(cutout.shape[:2])) / 2
    x, y = (left + margin, right - margin), (top + margin, bottom - margin)
    corners = [(x[0], y[0]), (x[1], y[0]), (x[1], y[1]), (x[0], y[1]), (x[0], y[0])]
    page.plot(*zip(*corners, strict=True), color="white", linewidth=1.0, linestyle="--", marker="")
    return figure, plain({"galaxy_id": galaxy_id, "cutout": cutout.shape, "stamp": stamp.shape, "crop": crop})


def _pixels(image: Image) -> str:
    return f"{image.shape[1]} × {image.shape[0]} pixels, {image.nbytes:,} bytes"


def _fitting(line: str, width: float) -> str:
    """Shorten a line that is wider than `width` inches, in its middle."""
    full = text_width(line, SMALL)
    short, letters = line, len(line) if full <= width else round(len(line) * width / full) + 2
    while text_width(short, SMALL) > width and letters > 2:
        letters -= 1
        short = f"{line[: letters - letters // 2]}…{line[len(line) - letters // 2 :]}"
    return short
