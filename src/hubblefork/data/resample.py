"""From the central square of a cutout to a stamp: antialiased bicubic resampling as two sparse products.

Coordinates are continuous and count original pixels: pixel i of a cutout covers [i, i+1], and pixel
i of one decoded `reduced` times smaller covers [reduced·i, reduced·(i+1)]. The central square of side
`crop` covers [(side-crop)/2, (side+crop)/2] of each axis, half pixels included, so it is centred for
odd and even sides and whatever the reduction. No pixel outside of it is read.

The filter is that of Pillow's BICUBIC (Keys 1981, doi:10.1109/TASSP.1981.1163711, eq. 15, widened by
the scale); unlike Pillow's, sums are float32 and rounded once. That is several times faster here than
Pillow's 8-bit loops, since each product runs along whole rows of pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, floor

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

SUPPORT = 2


@dataclass(frozen=True)
class Taps:
    """Which pixels of an axis are read (`window`), and their weights: sparse, (stamp pixel, pixel)."""

    window: slice
    weights: csr_array


@lru_cache(maxsize=64)
def taps(side: int, crop: int, size: int, reduced: int) -> Taps:
    """Return the weights that turn the central `crop` of `side` original pixels into `size` stamp pixels.

    `reduced` (1 or 2) is how many times smaller than the original the axis was decoded.
    """
    start, stop = (side - crop) / 2 / reduced, (side + crop) / 2 / reduced
    window = slice(floor(start), ceil(stop))
    pixels = np.arange(window.start, window.stop) + 0.5
    step = (stop - start) / size
    centres = start + (np.arange(size) + 0.5) * step
    weights = _bicubic((pixels - centres[:, None]) / max(step, 1.0))
    weights /= weights.sum(axis=1, keepdims=True)
    return Taps(window, csr_array(weights.astype(np.float32)))


def resample(pixels: NDArray[np.uint8], rows: Taps, columns: Taps) -> NDArray[np.uint8]:
    """Return the stamp (y, x, band) of decoded pixels (y, x, band)."""
    read = pixels[rows.window, columns.window].astype(np.float32)
    _, width, bands = read.shape
    size = rows.weights.shape[0]
    lines = rows.weights @ read.reshape(-1, width * bands)
    turned = lines.reshape(size, width, bands).transpose(1, 2, 0).reshape(width, bands * size)
    stamp = columns.weights @ turned
    stamp += np.float32(0.5)
    rounded = stamp.clip(0, 255, out=stamp).astype(np.uint8)
    return np.ascontiguousarray(rounded.reshape(size, bands, size).transpose(2, 0, 1))


def _bicubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < SUPPORT, far, 0.0))
