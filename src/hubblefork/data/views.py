"""Views of a stamp: its centre, rotated and mirrored, as a network is shown it.

A view is resampled bilinearly, and a stamp is mirrored beyond its edge, as by PyTorch's `grid_sample` with
`align_corners=False` and `padding_mode="reflection"`. For one rotation each pixel of a view is a weighted
mean of four pixels of the stamp, so that one sparse matrix makes the views of any number of stamps.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array


def even_moves(views: int, stamp: int, size: int, first_angle: float = 0.0) -> NDArray[np.float64]:
    """Return affine maps (view, 2, 3) with evenly spaced rotations, every second view mirrored.

    `views` is 1 or even: views / 2 angles, the first is `first_angle` degrees. Maps go from views of `size`
    pixels to stamps of `stamp` pixels, in units of half a side.
    """
    numbers = np.arange(views)
    angle = math.radians(first_angle) + (numbers // 2) * (2 * math.pi / max(1, views // 2))
    mirror, scale = np.where(numbers % 2 == 0, 1.0, -1.0), size / stamp
    cos, sin, zero = scale * np.cos(angle), scale * np.sin(angle), np.zeros(views)
    return np.stack([mirror * cos, -sin, zero, mirror * sin, cos, zero], axis=1).reshape(views, 2, 3)


def centre_move(stamp: int, size: int) -> NDArray[np.float64]:
    """Return the map (1, 2, 3) of the central pixels, which may lie half a pixel off the centre."""
    move = even_moves(1, stamp, size)
    move[:, :, 2] = -((stamp - size) % 2) / stamp
    return move


def views_of(stamps: NDArray[np.uint8], size: int, views: int, first_angle: float) -> NDArray[np.float32]:
    """Return views (galaxy · view, band, size, size), from 0 to 1, of stamps (galaxy, y, x, band).

    If the views change, predictions change: increase `data.folders.VIEWING`.
    """
    count, side, _, bands = stamps.shape
    made = np.empty((count, views, bands, size * size), np.float32)
    for row, stamp in enumerate(stamps):
        pixels = stamp.reshape(side * side, bands).astype(np.float32)
        for view in range(views):
            made[row, view] = (_resampling(view, views, side, size, first_angle) @ pixels).T
    return made.reshape(count * views, bands, size, size)


@lru_cache(maxsize=64)
def _resampling(view: int, views: int, side: int, size: int, first_angle: float) -> csr_array:
    """Return the matrix (pixel of the view, pixel of the stamp) of one view."""
    plain = views == 1 and not first_angle
    move = (centre_move(side, size) if plain else even_moves(views, side, size, first_angle))[view]
    places = (2 * np.arange(size) + 1) / size - 1
    y, x = np.meshgrid(places, places, indexing="ij")
    columns, rows = ((right * x + down * y + shift).ravel() for right, down, shift in move)
    corners, weights = zip(*(_neighbours(axis, side) for axis in (rows, columns)), strict=True)
    pixels = corners[0][:, :, None] * side + corners[1][:, None, :]
    shares = weights[0][:, :, None] * weights[1][:, None, :] / 255
    starts = np.arange(0, 4 * size * size + 1, 4, dtype=np.int32)
    entries = shares.ravel().astype(np.float32), pixels.ravel().astype(np.int32), starts
    return csr_array(entries, shape=(size * size, side * side))


def _neighbours(places: NDArray[np.float64], side: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the two pixels around each place from -1 to 1, and their shares, both (place, 2)."""
    place = ((places + 1) * side - 1) / 2
    first = np.floor(place).astype(np.int64)
    pixels = np.mod(np.stack([first, first + 1], axis=1), 2 * side)
    share = place - first
    return np.where(pixels < side, pixels, 2 * side - 1 - pixels), np.stack([1 - share, share], axis=1)
