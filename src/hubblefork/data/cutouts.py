"""One cutout looked at closely: is it what its name says, whole, how large, which colour at its centre."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from hubblefork.data.archives import MemberError

MOST_PIXELS = 64 * 2**20
CENTRE = 10
JPEG, PNG = "JPEG", "PNG"
SIGNATURES = {JPEG: b"\xff\xd8\xff", PNG: b"\x89PNG\r\n\x1a\n"}
SUFFIX_KIND = {".jpg": JPEG, ".jpeg": JPEG, ".png": PNG}
EIGHT_BIT_MODES = frozenset({"L", "LA", "P", "PA", "RGB", "RGBA"})


@dataclass(frozen=True)
class Cutout:
    """Width, height in pixels; the mean colour (red, green, blue) of its centre; the SHA-256."""

    width: int
    height: int
    centre: tuple[int, int, int]
    digest: bytes


def inspect_cutout(source: Path, member: str, data: bytes) -> Cutout:
    """Decode an image wholly and return what is worth knowing of it.

    Grey and CMYK images count as what they are in red, green and blue. Raises MemberError for
    an image that is none, is damaged, or has more than `MOST_PIXELS` (seen in its header, before
    anything is decoded).
    """
    try:
        kind = _kind(member, data)
        _check_size(*_size(kind, data))
        pixels = _decoded(kind, data)
    except _Fault as fault:
        raise MemberError(source, member, *fault.args) from fault.__cause__
    height, width = pixels.shape[:2]
    return Cutout(width, height, _centre_colour(pixels), hashlib.sha256(data).digest())


def _centre_colour(pixels: NDArray[np.uint8]) -> tuple[int, int, int]:
    """Return the mean of the central 10 × 10 pixels, rounded: what Kaggle's central-pixel benchmark sees."""
    top, left = (max(side // 2 - CENTRE // 2, 0) for side in pixels.shape[:2])
    red, green, blue = pixels[top : top + CENTRE, left : left + CENTRE].mean(axis=(0, 1)).round().astype(int)
    return int(red), int(green), int(blue)


class _Fault(Exception):
    """What is wrong with an image, before it is known where it stands: reason, value."""


def _kind(member: str, data: bytes) -> str:
    said = SUFFIX_KIND[PurePosixPath(member).suffix.lower()]
    if data.startswith(SIGNATURES[said]):
        return said
    if not data:
        raise _Fault("empty file", "0 bytes")
    found = next((kind for kind, start in SIGNATURES.items() if data.startswith(start)), "no image")
    raise _Fault("not what its name says", f"{found} named as {said}: begins with {data[:16]!r}")


def _size(kind: str, data: bytes) -> tuple[int, int]:
    """Return height and width as the header has them."""
    try:
        if kind == PNG:
            width, height = struct.unpack(">II", data[16:24])
            return height, width
        return simplejpeg.decode_jpeg_header(data, strict=True)[:2]
    except (ValueError, struct.error) as error:
        raise _Fault("damaged image", str(error)) from error


def _check_size(height: int, width: int) -> None:
    if height * width > MOST_PIXELS:
        raise _Fault("too many pixels", f"{width} × {height}; at most {MOST_PIXELS} pixels are allowed")


def _decoded(kind: str, data: bytes) -> NDArray[np.uint8]:
    try:
        return simplejpeg.decode_jpeg(data, "RGB", strict=True) if kind == JPEG else _decoded_png(data)
    except (ValueError, OSError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError) as error:
        raise _Fault("damaged image", str(error)) from error


def _decoded_png(data: bytes) -> NDArray[np.uint8]:
    with Image.open(BytesIO(data), formats=[PNG]) as image:
        if image.mode not in EIGHT_BIT_MODES:
            raise _Fault("not 8 bits a band", f"Pillow mode {image.mode}; save it as 8-bit grey or RGB")
        return np.asarray(image.convert("RGB"))
