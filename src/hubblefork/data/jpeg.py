"""JPEGs decoded no finer and no deeper than a stamp needs.

At half scale the inverse cosine transform does a quarter of the work (libjpeg's DCT scaling). What
remains is mostly the Huffman code, which runs from top to bottom, so rows below the central square
need not be decoded. simplejpeg cannot be asked for that; the header of a copy is given a smaller
height instead. libjpeg then decodes that many rows and complains of the bytes left unread. It reports
its first complaint only, so this one means that there was none about the rows themselves. On any
other complaint the JPEG is decoded whole, and strictly.
"""

from __future__ import annotations

import re

import numpy as np
import simplejpeg
from numpy.typing import NDArray

BANDS = 3
BASELINE, SCAN = 0xC0, 0xDA
BLOCK_ROW = 16
CONTEXT = 2
LEFT_UNREAD = re.compile(r"Corrupt JPEG data: \d+ extraneous bytes before marker 0xd9")


def jpeg_sides(data: bytes) -> tuple[int, int]:
    """Return height and width as the header has them. Raises ValueError when it is damaged."""
    height, width, _, _ = simplejpeg.decode_jpeg_header(data, strict=True)
    return height, width


def decode_jpeg(data: bytes, *, rows: int, reduced: int) -> NDArray[np.uint8]:
    """Return the pixels (y, x, band), at least those of the first `rows` original rows.

    `reduced`, 1 or 2, is how many times smaller than the original they are. They equal those of the
    whole JPEG. Raises ValueError when it is damaged within these rows.
    """
    height, width = jpeg_sides(data)
    deep = -(-(rows + CONTEXT) // BLOCK_ROW) * BLOCK_ROW
    if deep < height:
        pixels = np.empty((deep // reduced, -(-width // reduced), BANDS), np.uint8)
        if _decodes(_with_height(data, deep), reduced, pixels):
            return pixels
    pixels = np.empty((-(-height // reduced), -(-width // reduced), BANDS), np.uint8)
    _decode_into(pixels, data, reduced)
    return pixels


def _decodes(data: bytes | None, reduced: int, pixels: NDArray[np.uint8]) -> bool:
    """Decode a JPEG whose height was made smaller; say whether all rows came out unharmed."""
    if data is None:
        return False
    try:
        _decode_into(pixels, data, reduced)
    except ValueError as error:
        return LEFT_UNREAD.fullmatch(str(error)) is not None
    return True


def _decode_into(pixels: NDArray[np.uint8], data: bytes, reduced: int) -> None:
    height, width = pixels.shape[:2]
    simplejpeg.decode_jpeg(
        data, "RGB", min_height=height, min_width=width, min_factor=reduced, buffer=pixels, strict=True
    )


def _with_height(data: bytes, height: int) -> bytes | None:
    """Return the JPEG with another height in its header (ITU T.81, B.2.2); None unless it is baseline."""
    marker = 2
    while marker + 9 < len(data) and data[marker] == 0xFF and data[marker + 1] != SCAN:
        if data[marker + 1] == BASELINE:
            place = marker + 5
            return data[:place] + height.to_bytes(2, "big") + data[place + 2 :]
        marker += 2 + int.from_bytes(data[marker + 2 : marker + 4], "big")
    return None
