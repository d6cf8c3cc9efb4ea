"""What a name says of an image, and a table of a galaxy: whether it is an image, its id, its position.

A name is only ever a key: no path is built from it.
"""

from __future__ import annotations

import re
from posixpath import splitext
from typing import NamedTuple

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".png"})
FITS_SUFFIXES = (".fits", ".fit", ".fits.gz", ".fit.gz", ".fits.fz", ".fz")
OTHER_SUFFIXES = frozenset({".tif", ".tiff", ".webp", ".gif", ".bmp"})
SKY = {"ra": (0, 360), "dec": (-90, 90)}
"""Right ascension and declination in degrees: from, to."""
POSITION = tuple(SKY)
SUFFIXES = ", ".join(sorted(IMAGE_SUFFIXES))
SYSTEM_FILES, SYSTEM_FOLDER = frozenset({".ds_store", "thumbs.db", "desktop.ini"}), "__MACOSX"
PACKED = (".gz", ".fz")
KNOWN_SUFFIXES = IMAGE_SUFFIXES | OTHER_SUFFIXES | frozenset(FITS_SUFFIXES)


class Target(NamedTuple):
    """What is known of the galaxy of an image: position in degrees, Petrosian radius R90 in arcsec."""

    ra: float | None = None
    dec: float | None = None
    petro_r90: float | None = None


Targets = dict[str, Target]


def galaxy_id_of(name: str) -> str:
    """Return the id that a member's name carries: the text of the file's name without the ending of an image.

    "images_training_rev1/100008.jpg" is "100008" and so is "images\\\\100008.jpg" in a zip from Windows;
    "J0945+11.2" has no such ending and stays.
    """
    return stem_of(name.replace("\\", "/").rpartition("/")[2])


def stem_of(name: str) -> str:
    """Return a name without the ending of an image."""
    stem, suffix = splitext(name)
    if suffix.lower() in PACKED and splitext(stem)[1].lower() in FITS_SUFFIXES:
        return splitext(stem)[0]
    return stem if suffix.lower() in KNOWN_SUFFIXES else name


def is_image(name: str) -> bool:
    """Say whether a member has the name of an image; files of the system and hidden ones are none."""
    return is_named_image(name) and not is_of_system(name) and not is_hidden(name)


def printable(name: str) -> str:
    """Return a name as UTF-8 can write it: bytes that are none (surrogates) as escapes."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def parts_of(name: str) -> list[str]:
    """Return the folders in a name and its last part, also of a name from Windows."""
    return re.split(r"[/\\]", name)


def is_named_image(name: str) -> bool:
    """Say whether a name ends as that of an image."""
    return splitext(name)[1].lower() in IMAGE_SUFFIXES or name.lower().endswith(FITS_SUFFIXES)


def is_of_system(name: str) -> bool:
    """Say whether an operating system leaves such a file behind."""
    *folders, base = parts_of(name)
    return SYSTEM_FOLDER in folders or base.startswith("._") or base.lower() in (*SYSTEM_FILES, "")


def is_hidden(name: str) -> bool:
    """Say whether a name, or a folder in it, begins with a dot."""
    return any(part.startswith(".") and part.strip(".") for part in parts_of(name))


def off_the_sky(ra: float | None, dec: float | None) -> tuple[str, str, str] | None:
    """Return reason, value and remedy where a position is none on the sky, None where it is or is unknown."""
    pairs = list(zip((ra, dec), SKY.values(), strict=True))
    if all(value is None for value, _ in pairs) or all(
        value is not None and low <= value <= high for value, (low, high) in pairs
    ):
        return None
    value = f"ra {ra}, dec {dec}; ra is from 0 to 360, dec from -90 to 90 degrees"
    return "position is not on the sky", value, "mend it or leave both empty"
