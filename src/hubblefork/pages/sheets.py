"""Pages of images: galaxies with their ids, prototypes of answers, a cutout with its stamp.

Stamps are uint8 arrays (galaxy, y, x, band), shown in their own colours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hubblefork.pages.panels import panels_by_question
from hubblefork.pages.style import (
    GREY,
    PAGE,
    POINTS,
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

GAP = 0.05  # inches between stamps
LINE = 1.3 * SMALL / POINTS
COLUMNS = 6
EACH = 5
LABEL = 0.95


@in_house_style
def image_sheet(
    stamps: NDArray[np.uint8],
    ids: Sequence[Any],
    *,
    notes: Sequence[str] | None = None,
    columns: int = COLUMNS,
) -> Drawing:
    """Draw stamps in rows, each with its galaxy_id and, where given, a note of one or more lines below.

    Returns the ids and the notes in the order of the sheet.
    """
    texts = [str(galaxy_id) for galaxy_id in ids]
    if notes is not None:
        texts = [f"{text}\n{note}" for text, note in zip(texts, notes, strict=True)]
    side = (PAGE - (columns - 1) * GAP) / columns
    caption = LINE * max((text.count("\n") + 1 for text in texts), default=1) + GAP
    rows = max(1, -(-len(texts) // columns))
    figure = new_figure(PAGE, rows * (side + caption), layout=None)
    page = page_axes(figure)
    for number, (pixels, text) in enumerate(zip(stamps, texts, strict=True)):
        row, column = divmod(number, columns)
        left, top = column * (side + GAP), row * (side + caption)
        draw_image(page, left, top, side, pixels, _fitting(text, side))
    return figure, plain({"galaxy_ids": list(ids), "notes": None if notes is None else list(notes)})


@in_house_style
def prototype_sheet(
    tree: DecisionTree,
    question: str,
    *,
    ids: NDArray,
    stamps: NDArray[np.uint8],
    places: NDArray,
    volunteers: NDArray,
    predicted: NDArray,
    count: int = EACH,
) -> Drawing:
    """Draw, for each answer of a question, its highest galaxies by volunteers (left) and by the network.

    `ids` (galaxy,) and both fractions (galaxy, answer) are galaxy by galaxy; the stamp of galaxy g is
    `stamps[places[g]]`, so that `stamps` may be the memory map of a whole survey. Under each stamp
    stand its id and the joint fraction by which it was chosen. Returns ids, volunteers' and predicted
    values of the chosen, per answer and side. Raises UnknownAnswer for another question.
    """
    answers = tree.slices[tree.questions.index(tree.question(question))]
    half = GAP * 4
    side = (PAGE - LABEL - half - (2 * count - 1) * GAP) / (2 * count)
    step, top = side + 2 * LINE + 2 * GAP, LINE + 2 * GAP
    figure = new_figure(PAGE, top + step * (answers.stop - answers.start), layout=None)
    page = page_axes(figure)
    lefts = [LABEL + (count * (side + GAP) + half) * which for which in (0, 1)]
    found: dict[str, Any] = {}
    for row, column in enumerate(range(answers.start, answers.stop)):
        y, answer = top + row * step, tree.answers[column]
        write(page, 0, y + side / 2, wrapped(answer.text, LABEL - 2 * GAP, SMALL + 0.5), va="center")
        found[answer.name] = {}
        for name, values, left in zip(("volunteers", "network"), (volunteers, predicted), lefts, strict=True):
            chosen = prototypes(values, ids, column, count)
            for k, galaxy in enumerate(chosen):
                text = f"{_fitting(str(ids[galaxy]), side)}\n{values[galaxy, column]:.2f}"
                draw_image(page, left + k * (side + GAP), y, side, stamps[places[galaxy]], text)
            found[answer.name][name] = {
                "galaxy_ids": ids[chosen],
                "volunteers": volunteers[chosen, column],
                "predicted": predicted[chosen, column],
            }
    for text, left in zip(("highest by volunteers", "highest by the network"), lefts, strict=True):
        write(page, left, GAP / 2, text, va="top", color=GREY)
    return figure, plain({"question": question, "answers": found})


@in_house_style
def prototype_of_every_answer(
    tree: DecisionTree, images: Sequence[NDArray[np.uint8] | None], ids: Sequence[Any], values: NDArray
) -> Drawing:
    """Draw one image per answer under its question, with its galaxy_id and the fraction it was chosen by.

    All three have shape (answer,); an image of None leaves its panel empty. Returns ids and values.
    """
    figure, axes = panels_by_question(tree, xlabel="", ylabel="", row_gap=0.34)
    for panel, image, galaxy_id, value in zip(axes, images, ids, values, strict=True):
        panel.set_xticks([])
        panel.set_yticks([])
        panel.spines[:].set_visible(False)
        if image is None:
            panel.text(0.5, 0.5, "none", transform=panel.transAxes, ha="center", color=GREY)
            continue
        panel.imshow(image, interpolation="auto")
        panel.set_xlabel(f"{galaxy_id}\n{value:.2f}", fontsize=SMALL, labelpad=2, linespacing=1.1)
    found = {
        name: {"galaxy_id": galaxy_id, "value": value}
        for name, galaxy_id, value in zip(tree.columns, ids, values, strict=True)
    }
    return figure, plain(found)


@in_house_style
def prototype_rows(
    tree: DecisionTree,
    chosen: Mapping[str, Sequence[tuple[Any, float, float, NDArray[np.uint8]]]],
    *,
    by: str,
    other: str,
) -> Drawing:
    """Draw a row of images for each of some answers: the galaxies that stand highest for it.

    `chosen` maps an answer to its galaxies: galaxy_id, the fraction they were chosen by, the fraction
    of the other side (NaN: none), and the image. `by` and `other` name the sides; both values stand under
    an image. Returns them per answer.
    """
    count = max(len(galaxies) for galaxies in chosen.values())
    side = (PAGE - LABEL - count * GAP) / count
    step, top = side + 2 * LINE + 2 * GAP, LINE + 2 * GAP
    figure = new_figure(PAGE, top + step * len(chosen), layout=None)
    page = page_axes(figure)
    write(page, LABEL, GAP / 2, f"galaxy_id, fraction by {by} ({other})", va="top", color=GREY)
    for row, (answer, galaxies) in enumerate(chosen.items()):
        y, text = top + row * step, tree.answers[tree.column(answer)].text
        write(page, 0, y + side / 2, wrapped(text, LABEL - 2 * GAP, SMALL + 0.5), va="center")
        for k, (galaxy_id, value, else_value, image) in enumerate(galaxies):
            beside = "–" if np.isnan(else_value) else f"{else_value:.2f}"
            caption = f"{galaxy_id}\n{value:.2f} ({beside})"
            draw_image(page, LABEL + k * (side + GAP), y, side, image, caption)
    found = {
        answer: [{"galaxy_id": g, by: value, other: else_value} for g, value, else_value, _ in galaxies]
        for answer, galaxies in chosen.items()
    }
    return figure, plain(found)


@in_house_style
def cutout_beside_stamp(
    cutout: NDArray[np.uint8], stamp: NDArray[np.uint8], *, galaxy_id: Any, crop: int
) -> Drawing:
    """Draw a cutout, the square that is kept of it, and the stamp made of that square.

    Both images are (y, x, band); `crop` is the side of the central square in pixels of the cutout.
    Returns the sizes.
    """
    side = PAGE * 0.42
    figure = new_figure(PAGE, side + 2 * LINE, layout=None)
    page = page_axes(figure)
    gap = (PAGE - 2 * side) / 3
    texts = [f"galaxy {galaxy_id}: {_pixels(cutout)}", f"its stamp: {_pixels(stamp)}"]
    for k, (image, text) in enumerate(zip((cutout, stamp), texts, strict=True)):
        draw_image(page, gap + k * (side + gap), 0, side, image, text)
    kept = side * crop / min(cutout.shape[:2])
    start = (side - kept) / 2
    left, right = gap + start, gap + start + kept
    page.plot(
        [left, right, right, left, left],
        [start, start, start + kept, start + kept, start],
        color="white",
        linewidth=1.0,
        linestyle="--",
    )
    return figure, plain({"galaxy_id": galaxy_id, "cutout": cutout.shape, "stamp": stamp.shape, "crop": crop})


def _pixels(image: NDArray[np.uint8]) -> str:
    return f"{image.shape[1]} × {image.shape[0]} pixels, {image.nbytes:,} bytes"


def page_axes(figure: Figure) -> Axes:
    """Return axes over the whole figure in inches from its upper left corner."""
    width, height = figure.get_size_inches()
    page = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    page.set_axis_off()
    return page


def draw_image(
    page: Axes, left: float, top: float, side: float, pixels: NDArray[np.uint8], text: str
) -> None:
    """Draw an image as a square of a page (see `page_axes`), with a text below it."""
    page.imshow(pixels, extent=(left, left + side, top + side, top), aspect="auto", interpolation="auto")
    write(page, left + side / 2, top + side + GAP / 2, text, ha="center", va="top")


def _fitting(text: str, width: float) -> str:
    """Shorten the lines that are wider than `width` inches, in their middle."""
    return "\n".join(_shortened(line, width) for line in text.split("\n"))


def _shortened(line: str, width: float) -> str:
    full = text_width(line, SMALL)
    short, kept = line, len(line) if full <= width else round(len(line) * width / full) + 2
    while text_width(short, SMALL) > width and kept > 2:
        kept -= 1
        short = f"{line[: kept - kept // 2]}…{line[len(line) - kept // 2 :]}"
    return short


def write(page: Axes, left: float, top: float, text: str, **settings: Any) -> None:
    """Write a text on a page (see `page_axes`)."""
    page.text(left, top, text, fontsize=SMALL, linespacing=1.15, **settings)
