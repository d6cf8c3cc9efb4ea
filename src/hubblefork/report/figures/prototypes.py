"""Prototypes: the one image that best stands for each answer, and the few that stand highest for some.

Images are uint8 arrays (y, x, band), shown in their own colours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubblefork.report.figures.numbers import plain
from hubblefork.report.figures.panels import panels_by_question
from hubblefork.report.figures.sheets import GAP, LABEL, LINE, draw_image, page_axes, write
from hubblefork.report.figures.style import GREY, PAGE, SMALL, Drawing, in_house_style, new_figure, wrapped
from hubblefork.zoo import DecisionTree


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
