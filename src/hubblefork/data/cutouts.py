"""Cutouts in FITS to red, green and blue: as Lupton et al. 2004 (doi:10.1086/382245) and Galaxy Zoo do.

Bands are known by their names, never by their order: `BANDS` of a cube ("grz" or "g,r,z"), and `BAND`,
`FILTER` or the name (EXTNAME) of an extension. Red, green and blue are i, r, g; z, r, g where there is no i.
An image of one band is grey.
"""

from __future__ import annotations

import gzip
import re
import warnings
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubblefork.data.members import LARGEST_MEMBER, UNREADABLE, ImageFault

FITS_START, GZIP_START = b"SIMPLE  =", b"\x1f\x8b"
KEYWORDS = ("BAND", "FILTER", "EXTNAME")
BAND_NAMES = ("u", "g", "r", "i", "z")
MOST_PIXELS = 64 * 2**20
ALLOWED = f"bands are {', '.join(BAND_NAMES)}; g, r and one of i and z are needed, or one band alone"


def is_fits(data: bytes) -> bool:
    """Say whether bytes are FITS, compressed with gzip or not."""
    return _unzipped(data, len(FITS_START)) == FITS_START


def _unzipped(data: bytes, most: int) -> bytes:
    """Return so many bytes, of what gzip packed if it did; none where that is damaged."""
    if not data.startswith(GZIP_START):
        return data[:most]
    try:
        with gzip.open(BytesIO(data)) as handle:
            return handle.read(most)
    except UNREADABLE:
        return b""


def stretched(
    red: NDArray[np.floating], green: NDArray[np.floating], blue: NDArray[np.floating]
) -> NDArray[np.uint8]:
    """Return three bands, in nanomaggies a pixel, as pixels (y, x, 3) in the stretch of SDSS's cutouts."""
    from astropy.visualization import make_lupton_rgb

    return make_lupton_rgb(red, green, blue, minimum=-0.015, stretch=0.42, Q=3.5)


def rgb_of(data: bytes) -> NDArray[np.uint8]:
    """Return the pixels (y, x, 3) of a FITS cutout; the first row is its top. Raises ImageFault."""
    from astropy.io import fits

    data = _unzipped(data, LARGEST_MEMBER + 1)
    if len(data) > LARGEST_MEMBER:
        raise ImageFault("larger than allowed", f"at most {LARGEST_MEMBER} bytes are")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with fits.open(BytesIO(data), memmap=False) as units:
                bands = _bands(units)
        red, green, blue = _three(bands)
        return np.ascontiguousarray(stretched(red, green, blue)[::-1])
    except (*UNREADABLE, TypeError) as error:
        raise ImageFault("damaged FITS cutout", str(error) or type(error).__name__) from error


def _three(bands: dict[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    unknown = [name for name in bands if name not in BAND_NAMES]
    if unknown and len(bands) > 1:
        raise ImageFault("unknown band", ", ".join(map(repr, unknown)), ALLOWED)
    order = "irg" if "i" in bands else "zrg"
    chosen = [*bands.values()] * 3 if len(bands) == 1 else [bands[name] for name in order if name in bands]
    if len(chosen) != 3:
        raise ImageFault("missing band", f"it has {', '.join(bands) or 'no image'}", ALLOWED)
    if len({band.shape for band in chosen}) > 1:
        raise ImageFault("bands of different sizes", ", ".join(str(band.shape) for band in chosen))
    for band in chosen:
        if bad := int((~np.isfinite(band)).sum()):
            raise ImageFault("pixels without a value", f"{bad} of {band.size} are NaN or infinite")
    return chosen


def _bands(units: Any) -> dict[str, NDArray[np.float32]]:
    """Return the images of a file by the names of their bands."""
    bands: dict[str, NDArray[np.float32]] = {}
    for unit in units:
        if not unit.is_image or not (shape := unit.shape):
            continue
        if len(shape) not in (2, 3) or not 0 < np.prod(shape, dtype=float) <= MOST_PIXELS:
            raise ImageFault("not an image", f"shape {shape}; (y, x) or (band, y, x) are allowed")
        planes = unit.data[None] if len(shape) == 2 else unit.data
        names = _names(unit.header, len(planes))
        for name, plane in zip(names, planes, strict=True):
            if name in bands:
                raise ImageFault("band stands twice", repr(name), ALLOWED)
            bands[name] = np.asarray(plane, np.float32)
    return bands


def _names(header: Any, planes: int) -> list[str]:
    """Return the names of bands in a header. Raises ImageFault where there are not as many as planes."""
    text = str(header.get("BANDS", "")).strip()
    if not text and planes == 1:
        text = next((str(header[key]).strip() for key in KEYWORDS if str(header.get(key, "")).strip()), "")
        return [text.lower()]
    names = re.split(r"[,\s]+", text) if re.search(r"[,\s]", text) else list(text)
    if len(names) != planes:
        raise ImageFault("bands without names", f"BANDS is {text!r}, of {planes} bands", ALLOWED)
    return [name.lower() for name in names]
