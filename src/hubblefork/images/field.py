"""What an image shows: how much sky, beside the images that a network was trained on, and whether any at all.

A network knows galaxies at one scale. The *field* of an image is the sky along its shorter side, in units of
a training image: 0.5 shows half as much. Galaxy Zoo 2's images are 424 pixels of 0.02 Petrosian radii R90
(Willett et al. 2013, section 2), so theirs is 8.48 R90 whatever the galaxy's size in arcseconds.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubblefork.errors import ImageError, StampError
from hubblefork.images.members import ImageFault
from hubblefork.io import UNREADABLE
from hubblefork.tables.names import Target, off_the_sky

ROUNDING, SAME_SCALE, NEAR = 1e-9, 0.01, 1e-3
BANDS = 3
CENTRED = 1
"""How many pixels a galaxy may be off the centre and count as in it: cutouts end at whole pixels."""
PIXEL, ARCSEC, R90 = "pixel", "arcsec", "R90"
BLANK, EMPTY_SIDE = 16, 0.4


@dataclass(frozen=True)
class Sky:
    """What is known of an image beside its pixels; None where it is not.

    `fluxes` says whether they were stretched here. `pixel_scale` and `petro_r90`, the Petrosian radius R90 of
    its galaxy, are in arcsec. The galaxy is `target_x` and `target_y` pixels from the left and upper edges,
    or in the centre.
    """

    fluxes: bool = False
    pixel_scale: float | None = None
    target_x: float | None = None
    target_y: float | None = None
    petro_r90: float | None = None


@dataclass(frozen=True)
class Field:
    """The field of some images, `share` of that of a training image of `side` pixels.

    With `enlarge` an image may have fewer pixels than the stamp that is made of it. A field that was stated
    otherwise is `said`.
    """

    share: float
    side: float
    enlarge: bool = False
    said: str = ""

    def crop(self, crop: float, shorter: int) -> float:
        """Return how many pixels of an image show as much sky as `crop` pixels of a training image.

        `shorter` is the image's shorter side in pixels. It may be less than what is returned.
        """
        needed = crop * shorter / (self.side * self.share)
        return min(needed, shorter) if needed <= shorter * (1 + ROUNDING) else needed

    def __str__(self) -> str:
        return f"{self.said or format(self.share, 'g')}{', enlarged where needed' if self.enlarge else ''}"


def parse_field(text: str | float) -> tuple[float, str]:
    """Return a field and its unit: arcsec, or none in units of a training image. Raises ImageError."""
    try:
        value, unit = float(text), ""
    except ValueError:
        value, unit = arcseconds(str(text)), ARCSEC
    if not 0 < value < math.inf:
        raise ImageError(
            f'a field of "{text}": give a number above 0: 1 shows as much sky as a training image, 0.5 half; '
            "or an angle: 50arcsec"
        )
    return value, unit


def arcseconds(text: str) -> float:
    """Return an angle as astropy reads it ("50arcsec", "0.5 arcmin") in arcsec; NaN for other texts."""
    from astropy.units import Quantity, UnitsError

    try:
        return float(Quantity(text).to_value(ARCSEC))
    except (ValueError, TypeError, UnitsError):
        return math.nan


@cache
def extent_of(crop: int | str) -> tuple[float, str]:
    """Return the side of a stamp and its unit: 212 counts pixels, "30 arcsec" and "6 R90" the sky.

    Raises StampError for what is neither.
    """
    text = str(crop).strip()
    number, is_radii, _ = text.partition(R90)
    if re.fullmatch(r"\d+", text):
        value, unit = float(text), PIXEL
    elif is_radii:
        value, unit = arcseconds(f"{number} {ARCSEC}"), R90
    else:
        value, unit = arcseconds(text), ARCSEC
    if not 0 < value < math.inf:
        raise StampError(
            f'a crop of "{crop}": give pixels (212), an angle ("30 arcsec"), or Petrosian radii ("6 R90")'
        )
    return value, unit


@dataclass(frozen=True)
class StampSpec:
    """The square of side `crop` around the galaxy of an image, as `size` × `size` stamp pixels.

    `crop` counts original pixels (of `pixel_scale` arcsec, where that is known), or is an angle ("30 arcsec")
    or Petrosian radii ("6 R90"). A stamp has three `bands`, or one, their mean. Raises StampError unless
    1 ≤ size ≤ crop, and for another crop.
    """

    crop: int | str
    size: int
    bands: int = BANDS
    pixel_scale: float | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.size <= (self.extent[0] if self.extent[1] == PIXEL else self.size):
            raise StampError(
                f"stamps of size {self.size} from a crop of {self.crop} pixels: the size is at least 1 "
                "and at most the crop (stamps are never enlarged); choose a larger crop or a smaller size"
            )

    @property
    def extent(self) -> tuple[float, str]:
        """The crop and its unit."""
        return extent_of(self.crop)

    def __str__(self) -> str:
        crop = str(self.crop).replace(" ", "")
        return f"crop{crop}-size{self.size}" + ("" if self.bands == BANDS else "-grey")


def crop_of(height: int, width: int, spec: StampSpec, field: Field | None, sky: Sky = Sky()) -> float:
    """Return the side of the square, in pixels of the image, that becomes the stamp. Raises ImageFault."""
    crop, size = _crop_asked(min(height, width), spec, field, sky), f"{width} × {height}"
    x = width / 2 if sky.target_x is None else sky.target_x
    y = height / 2 if sky.target_y is None else sky.target_y
    room = 2 * min(x, width - x, y, height - y)
    if crop > room * (1 + ROUNDING):
        if sky.target_x is not None:
            raise ImageFault(
                "field leaves the image",
                f"its galaxy is at pixel ({x:.0f}, {y:.0f}) of {size}, a stamp shows {crop:.0f} around it",
                "give a larger cutout, or leave it out",
            )
        if field is None:
            raise ImageFault(
                "smaller than the crop",
                f"{size}, the crop is {crop:g} × {crop:g}",
                "say with --field how much sky it shows (1: as much as a training image), or leave it out",
            )
        raise ImageFault(
            "shows less sky than a stamp",
            f"{field.said or f'{field.share:g} of a training image'}, {crop / room:.3g} times that is needed",
            "give a larger cutout, or leave it out",
        )
    if crop < spec.size and not (field and field.enlarge):
        raise ImageFault(
            "fewer pixels than a stamp",
            f"{crop:.0f} of {size} pixels would become {spec.size}",
            "allow it to be enlarged with --enlarge, give a larger cutout, or leave it out",
        )
    return min(crop, room)


def _crop_asked(shorter: int, spec: StampSpec, field: Field | None, sky: Sky) -> float:
    """Return how many pixels of an image, whose `shorter` side is given, a stamp shows. Raises ImageFault."""
    value, unit = spec.extent
    if unit == R90:
        if sky.petro_r90 is None:
            why = "give it in arcsec in a column petro_r90 of the table of images or labels"
            raise ImageFault("unknown Petrosian radius", f"a stamp shows {spec.crop}", why)
        value *= sky.petro_r90
    if field is not None:
        return field.crop(value, shorter)
    if unit == PIXEL:
        ratio = spec.pixel_scale / sky.pixel_scale if spec.pixel_scale and sky.pixel_scale else 1.0
        return value if math.isclose(ratio, 1, rel_tol=SAME_SCALE) else value * ratio
    if sky.pixel_scale is None:
        why = "name its survey with --survey, say with --field how much sky it shows (50arcsec), or give FITS"
        raise ImageFault("unknown pixel scale", f"a stamp shows {spec.crop}", why)
    return value / sky.pixel_scale


def scale_remarks(
    sides: Mapping[int, int], trained_on: int, crop: float, size: int, field: Field | None
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


# Where an image is on the sky


def sky_of(header: Any, shape: tuple[int, ...], target: Target, pixel_scale: float | None) -> Sky:
    """Return what is known of the sky of an image (y, x). Raises ImageFault for a target outside of it."""
    from astropy.wcs.utils import proj_plane_pixel_area

    sky = Sky(True, pixel_scale, petro_r90=target.petro_r90)
    if (wcs := wcs_of(header, target)) is None:
        return sky
    sky = replace(sky, pixel_scale=3600 * float(proj_plane_pixel_area(wcs)) ** 0.5)
    if target.ra is None or target.dec is None:
        return sky
    if off := off_the_sky(target.ra, target.dec):
        raise ImageFault(*off)
    height, width = shape
    x, y = (float(axis) + 0.5 for axis in wcs.wcs_world2pix(target.ra, target.dec, 0))
    if not (0 <= x <= width and 0 <= y <= height):
        value = (
            f"ra {target.ra:.5f}, dec {target.dec:.5f} is at pixel ({x:.0f}, {y:.0f}) of {width} × {height}"
        )
        raise ImageFault("galaxy outside the image", value, "cut it out around its galaxy, or leave it out")
    if max(abs(x - width / 2), abs(y - height / 2)) <= CENTRED:
        return sky
    return replace(sky, target_x=x, target_y=height - y)


def wcs_of(header: Any, target: Target) -> Any:
    """Return the sky coordinates of a header, None without. Raises ImageFault where a target needs them."""
    from astropy.wcs import WCS

    if "CTYPE1" not in header:
        return None
    try:
        with warnings.catch_warnings(action="ignore"):
            wcs = WCS(header, naxis=2)
            return wcs if wcs.has_celestial else None
    except (*UNREADABLE, TypeError) as error:
        if target.ra is None:
            return None
        raise ImageFault("sky coordinates cannot be read", str(error).splitlines()[0]) from error


# Whether a galaxy was seen


def check_not_blank(pixels: NDArray[np.uint8]) -> None:
    """Raise ImageFault for a stamp (y, x, band) without a galaxy: its central half is of one brightness.

    There the mean of the bands differs by at least 84 grey levels in each of 12,646 real galaxies.
    """
    size, _, bands = pixels.shape
    centre = pixels[size // 4 : size - size // 4, size // 4 : size - size // 4]
    total = sum((centre[:, :, band].astype(np.uint16) for band in range(bands)), start=np.uint16(0))
    low, high = int(total.min()) / bands, int(total.max()) / bands
    if high - low < BLANK:
        value = f"brightness {low:.0f} to {high:.0f} of 255 at its centre"
        raise ImageFault("blank", value, "no galaxy is seen in it: leave it out or fetch it again")


def check_filled(pixels: NDArray[np.uint8]) -> None:
    """Raise ImageFault for pixels (y, x, band) of which one side, almost to the centre, is of one colour.

    Such a cutout reaches beyond what was observed. A sky that is black all around is none. Of 11,449 real
    galaxies no stamp has even one such row, and of one whole cutout a sixth is.
    """
    turned = pixels.transpose(1, 0, 2)
    pairs = [[_constant_rows(axis), _constant_rows(axis[::-1])] for axis in (pixels, turned)]
    share = max(max(pair) - min(pair) for pair in pairs)
    if share >= EMPTY_SIDE:
        value = f"{share:.0%} of it, from one side on, are of one colour"
        raise ImageFault("not wholly observed", value, "leave it out, or cut it from another exposure")


def _constant_rows(pixels: NDArray[np.uint8]) -> float:
    """Return the share of rows (y), from the first on, that have the colour of the first pixel."""
    first = pixels[0, 0]
    if not (pixels[0] == first).all():
        return 0.0
    same = (pixels == first).all(axis=(1, 2))
    return float(np.argmin(same)) / len(same) if not same.all() else 1.0
