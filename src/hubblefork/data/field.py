"""How much sky an image shows, beside the images that a network was trained on.

A network knows galaxies at one scale. The *field* of an image is the sky along its shorter side, in units of
a training image: 0.5 shows half as much. Galaxy Zoo 2's images are 424 pixels of 0.02 Petrosian radii R90
(Willett et al. 2013, section 2), so theirs is 8.48 R90 whatever the galaxy's size in arcseconds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from hubblefork.errors import ImageError

ROUNDING = 1e-9


@dataclass(frozen=True)
class Field:
    """The field of some images, `share` of that of a training image of `side` pixels.

    With `enlarge` an image may have fewer pixels than the stamp that is made of it.
    """

    share: float
    side: int
    enlarge: bool = False

    def crop(self, crop: int, shorter: int) -> float:
        """Return how many pixels of an image show as much sky as `crop` pixels of a training image.

        `shorter` is the image's shorter side in pixels. It may be less than what is returned.
        """
        needed = crop * shorter / (self.side * self.share)
        return min(needed, shorter) if needed <= shorter * (1 + ROUNDING) else needed

    def __str__(self) -> str:
        return f"{self.share:g}{', enlarged where needed' if self.enlarge else ''}"


def parse_field(text: str | float) -> float:
    """Return a field in units of a training image. Raises ImageError for another text."""
    if isinstance(text, str) and re.fullmatch(r"[\d.eE+-]+\s*(arcsec|arcmin|\"|'|″|′)", text.strip()):
        raise ImageError(
            f"a field of {text}: the network does not know how many arcseconds a training image shows "
            "(Galaxy Zoo's show 8.48 Petrosian radii R90 of each galaxy); divide by that number and give "
            "the share: 1 shows as much sky as a training image, 0.5 half as much"
        )
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 < share < math.inf:
        raise ImageError(
            f'a field of "{text}": give a number above 0: 1 shows as much sky as a training image, 0.5 half'
        )
    return share


def scale_remarks(
    sides: Mapping[int, int], trained_on: int, crop: int, size: int, field: Field | None
) -> list[str]:
    """Say of images which are of another scale than those of training.

    `sides` counts images by their shorter side in pixels. `trained_on` is the side of the training images, 0
    where it is not known; stamps show `crop` pixels of such an image in `size` × `size`.
    """
    total = sum(sides.values())
    if field is not None:
        enlarged = sum(count for side, count in sides.items() if field.crop(crop, side) < size)
        return [
            f"{enlarged} of {total} images were enlarged: they are less sharp than the training images, "
            "so that errors are larger, and intervals and corrections need not hold"
        ] * bool(enlarged)
    others = sorted((side, count) for side, count in sides.items() if side != trained_on)
    if not others or not trained_on:
        return []
    listed = ", ".join(f"{side} pixels: {n}" for side, n in others[:5]) + (", …" if len(others) > 5 else "")
    return [
        f"{sum(count for _, count in others)} of {total} images have another size than the {trained_on} "
        f"pixels of the training images ({listed}). They were taken to have the same pixel scale. If they "
        "have not, their fractions are wrong: say with --field how much sky an image shows, 1 for as much as "
        "a training image"
    ]
