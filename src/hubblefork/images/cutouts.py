"""Cutouts of fluxes to what a network is shown: the bands of a survey in its stretch.

They are FITS, or PNG and TIFF of more than 8 bits a band (16-bit, floating-point), of one band or of red,
green and blue, where a survey says how these are stretched.

Bands are known by their names, never by their order: `BANDS` of a cube ("grz" or "g,r,z"), and `BAND`,
`FILTER` or the name (EXTNAME) of an extension; of "CAM-G" or "g Cam" a part has to be the name. A file that
names none is read by the order that its user states (`Reading.bands`). Where each band is a file of its own,
their names bring them together (`Reading.files`).

Without a survey red, green and blue are i, r, g (z, r, g where there is no i), stretched as Galaxy Zoo 2's
images, and an image of one band is grey.
"""

from __future__ import annotations

import gzip
import json
import re
import struct
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from hubblefork.errors import ImageError, extras
from hubblefork.images.field import Field, Sky, sky_of, wcs_of
from hubblefork.images.members import (
    HEAD,
    LARGEST_MEMBER,
    PNG,
    TIFF,
    Entry,
    ImageFault,
    MemberError,
    Source,
    picture_kind,
)
from hubblefork.images.surveys import Display, Stretch, display_of, load_survey, survey_of
from hubblefork.io import UNREADABLE
from hubblefork.tables.names import Target
from hubblefork.zoo.tree import DEFAULT

FITS_START, GZIP_START = b"SIMPLE  =", b"\x1f\x8b"
KEYWORDS = ("BAND", "FILTER", "EXTNAME")
BAND_NAMES = ("u", "g", "r", "i", "z")
EIGHT_BITS, BITS_PER_SAMPLE = 8, 258
MOST_PIXELS = 64 * 2**20
READING = "reading"
"""The key of a catalogue's metadata that says how its images are read."""
ALLOWED = f"bands are {', '.join(BAND_NAMES)}; g, r and one of i and z are needed, or one band alone"
IN_ORDER = "name the bands of its images, in their order, with --bands g,r,z"

Bands = dict[str, NDArray[np.float32]]
Images = list[tuple[list[str], NDArray[np.float32]]]


@dataclass(frozen=True)
class Reading:
    """How the images of a source are read, beside what they say themselves.

    `display` is what they show; None as without a survey. `bands` are the names of the images in a
    file that names none, in their order. `files` is the pattern of file names where each band is a file of
    its own, "{id}_{band}.fits". With `fill_missing` a pixel without a value becomes 0, and a missing band the
    mean of those that are there. With `only_fluxes` images that somebody has stretched already are refused.
    """

    display: Display | None = None
    bands: tuple[str, ...] = ()
    files: str = ""
    fill_missing: bool = False
    only_fluxes: bool = False

    def __post_init__(self) -> None:
        if self.files and not all(self.files.count(part) == 1 for part in ("{id}", "{band}")):
            raise ImageError(
                f'files named "{self.files}": a pattern holds {{id}} and {{band}} once each: '
                '"{id}_{band}.fits"'
            )

    @property
    def field(self) -> Field | None:
        """How much sky images show, where it is stated."""
        return self.display.field if self.display else None

    @property
    def pixel_scale(self) -> float | None:
        """The arcseconds of a pixel, where they are stated and all images have the same."""
        known = self.display and not self.display.side
        return self.display.pixel_scale or None if self.display and known else None

    @property
    def of_pictures(self) -> Reading:
        """The same of images that somebody has stretched already."""
        return replace(self, display=self.display and self.display.of_pictures)

    @property
    def rgb(self) -> tuple[str, ...]:
        """The bands that are shown, where they are stated."""
        return self.display.rgb if self.display else ()

    @classmethod
    def of(cls, survey: str | Reading) -> Reading:
        """Return the reading of a survey's cutouts, by its name; none for no name. Raises RecipeError."""
        if isinstance(survey, Reading):
            return survey
        return cls(load_survey(survey).display if survey else None)

    def __str__(self) -> str:
        """Return it as JSON for a catalogue's metadata; nothing where nothing is stated."""
        stated = {"bands": list(self.bands), "files": self.files, "fill_missing": self.fill_missing}
        entries: dict[str, Any] = {key: value for key, value in stated.items() if value}
        if self.display:
            entries["display"] = self.display.entries()
        return json.dumps(entries, sort_keys=True) if entries else ""

    @classmethod
    def noted(cls, text: str) -> Reading:
        """Return the reading that a catalogue's metadata state. Raises ImageError for another text."""
        try:
            entries = json.loads(text or "{}")
            return cls(
                display_of(entries.get("display", {})),
                tuple(entries.get("bands", ())),
                entries.get("files", ""),
                entries.get("fill_missing", False),
            )
        except (ValueError, TypeError, AttributeError) as error:
            raise ImageError(f"how images are read cannot be told from {text[:60]!r}: {error}") from error


def is_fits(data: bytes) -> bool:
    """Say whether bytes are FITS, compressed with gzip or not."""
    return _unzipped(data, len(FITS_START)) == FITS_START


def is_fluxes(data: bytes, reading: Reading) -> bool:
    """Say whether bytes are fluxes that a reading stretches: FITS, or with a survey over 8 bits a band."""
    try:
        return is_fits(data) or bool(reading.rgb and depth_of(data) > EIGHT_BITS)
    except (*UNREADABLE, TypeError, SyntaxError):
        return False


def depth_of(data: bytes) -> int:
    """Return the bits a band of a PNG or TIFF, 8 of what is neither."""
    kind = picture_kind(data[:HEAD])
    if kind == PNG:
        return data[24]
    return max(_tags(data).get(BITS_PER_SAMPLE, (EIGHT_BITS,))) if kind == TIFF else EIGHT_BITS


def _tags(data: bytes) -> ImageFileDirectory_v2:
    """Return the description of the first image of a TIFF; its `next` is 0 where there is no other."""
    tags, file = ImageFileDirectory_v2(data[:8]), BytesIO(data)
    file.seek(tags.next)
    tags.load(file)
    return tags


def _unzipped(data: bytes, most: int) -> bytes:
    """Return so many bytes, of what gzip packed if it did; none where that is damaged."""
    if not data.startswith(GZIP_START):
        return data[:most]
    try:
        with gzip.open(BytesIO(data)) as handle:
            return handle.read(most)
    except UNREADABLE:
        return b""


# From fluxes to grey levels


def stretched(*bands: NDArray[np.floating], by: Stretch | None = None) -> NDArray[np.uint8]:
    """Return one band, or red, green and blue, as grey levels (y, x, band); if not said as Galaxy Zoo 2's."""
    from astropy.visualization import (
        AsinhStretch,
        LinearStretch,
        ManualInterval,
        ZScaleInterval,
        make_lupton_rgb,
    )

    by = by or survey_of(DEFAULT).stretch
    scaled = [band * factor for band, factor in zip(bands, by.scale or (1,) * len(bands), strict=True)]
    if by.kind == "lupton":
        colours = scaled * 3 if len(scaled) == 1 else scaled
        levels = make_lupton_rgb(*colours, minimum=by.minimum, stretch=by.stretch, Q=by.q)
        return levels[:, :, : len(scaled)]
    interval = ManualInterval(by.minimum, by.maximum)
    if by.kind == "zscale":
        interval = ZScaleInterval(contrast=by.contrast)
    transform = (AsinhStretch(by.a) if by.kind == "asinh" else LinearStretch()) + interval
    shares = np.stack([transform(band, clip=True) for band in scaled], axis=2)
    return np.rint(255 * shares).astype(np.uint8)


def picture_of(
    data: bytes, reading: Reading = Reading(), known: Target | Sky = Target()
) -> tuple[NDArray[np.uint8], Sky]:
    """Return the pixels (y, x, 3) of a cutout of fluxes, first row its top, and its sky. Raises ImageFault.

    The sky is found by the coordinates in its header (WCS) where it is not `known`. Without them the galaxy
    is in the centre, and the pixels are those of the survey.
    """
    try:
        images, header = _images(data) if is_fits(data) else (_planes(data, reading), {})
        bands = _bands(images, reading)
        planes = _chosen(bands, reading) if reading.rgb else _three(bands)
        _check_same_size(planes)
        filled = [_without_nan(plane, reading.fill_missing) for plane in planes]
        levels = stretched(*filled, by=reading.display.stretch if reading.display else None)
    except (*UNREADABLE, TypeError) as error:
        reason = "damaged FITS cutout" if is_fits(data) else "damaged image"
        raise ImageFault(reason, str(error) or type(error).__name__) from error
    pixels = np.ascontiguousarray(np.broadcast_to(levels, (*levels.shape[:2], 3))[::-1])
    if isinstance(known, Sky):
        return pixels, known
    return pixels, sky_of(header, pixels.shape[:2], known, reading.pixel_scale)


def _three(bands: Bands) -> list[NDArray[np.float32]]:
    """Return red, green and blue where no survey is stated."""
    unknown = [name for name in bands if name not in BAND_NAMES]
    if unknown and len(bands) > 1:
        raise ImageFault("unknown band", ", ".join(map(repr, unknown)), ALLOWED)
    order = "irg" if "i" in bands else "zrg"
    chosen = [*bands.values()] * 3 if len(bands) == 1 else [bands[name] for name in order if name in bands]
    if len(chosen) != 3:
        raise ImageFault("missing band", f"it has {', '.join(bands) or 'no image'}", ALLOWED)
    return chosen


def _chosen(bands: Bands, reading: Reading) -> list[NDArray[np.float32]]:
    """Return the bands that are shown; a missing one as the mean of the others where that is asked for."""
    wanted = reading.rgb
    if reading.fill_missing:
        bands = {name: plane for name, plane in bands.items() if np.isfinite(plane).any()}
    there = [bands[name] for name in wanted if name in bands]
    lacking = [name for name in wanted if name not in bands]
    if lacking and not (there and reading.fill_missing):
        value = f"{', '.join(lacking)}; it has {', '.join(map(repr, bands)) or 'no image'}"
        raise ImageFault("missing band", value, f"{IN_ORDER}, allow it with --fill-missing or leave it out")
    if not lacking:
        return there
    _check_same_size(there)
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):
        mean = np.nanmean(there, axis=0).astype(np.float32)
    return [bands.get(name, mean) for name in wanted]


def _check_same_size(planes: list[NDArray[np.float32]]) -> None:
    if len({plane.shape for plane in planes}) > 1:
        raise ImageFault("bands of different sizes", ", ".join(str(plane.shape) for plane in planes))


def _without_nan(plane: NDArray[np.float32], fill: bool) -> NDArray[np.float32]:
    broken = ~np.isfinite(plane)
    if not broken.any():
        return plane
    if not fill:
        value = f"{int(broken.sum())} of {plane.size} are NaN or infinite"
        raise ImageFault(
            "pixels without a value", value, "fill them with 0 by --fill-missing or leave it out"
        )
    return np.where(broken, np.float32(0), plane)


# From a file to its bands


def _bands(images: Images, reading: Reading) -> Bands:
    """Return the images of a file by the names of their bands."""
    wanted = {*reading.bands, *reading.rgb}
    named = _named(images, wanted)
    if reading.bands and not any(name for name, _ in named):
        if len(reading.bands) not in (1, len(images)):
            value = f"it has {len(images)} images, --bands names {', '.join(reading.bands)}"
            raise ImageFault("bands without names", value, IN_ORDER)
        return {name: plane for name, (_, plane) in zip(reading.bands, images, strict=False)}
    pairs = zip(named, images, strict=True)
    unnamed = [" ".join(texts) or "without a name" for (name, _), (texts, _) in pairs if not name]
    if len(unnamed) == len(images) > 1 or (unnamed and not wanted and len(images) > 1):
        raise ImageFault("bands without names", f"its images are {', '.join(unnamed)}", IN_ORDER)
    bands: Bands = {}
    for name, plane in named:
        if name in bands:
            raise ImageFault("band stands twice", repr(name), IN_ORDER)
        if name or not wanted:
            bands[name] = plane
    return bands


def _named(images: Images, wanted: set[str]) -> list[tuple[str, NDArray[np.float32]]]:
    """Return images by the bands that they are named as, wholly or in part; without any by their names."""
    texts = [[text.lower() for text in names] for names, _ in images]
    if not wanted:
        return [(names[0] if names else "", plane) for names, (_, plane) in zip(texts, images, strict=True)]
    whole = [next((name for name in names if name in wanted), "") for names in texts]
    named = []
    for name, others, (_, plane) in zip(whole, texts, images, strict=True):
        parts = sorted({part for other in others for part in re.split(r"[^a-z0-9]+", other)} & wanted)
        by_part = parts[0] if len(parts) == 1 and parts[0] not in whole else ""
        named.append((name or by_part, plane))
    return named


def _images(data: bytes) -> tuple[Images, Any]:
    """Return each image (y, x) of a file with the names that it has for its band, and the first header."""
    from astropy.io import fits

    data = _unzipped(data, LARGEST_MEMBER + 1)
    if len(data) > LARGEST_MEMBER:
        raise ImageFault("larger than allowed", f"at most {LARGEST_MEMBER} bytes are")
    images: Images = []
    first: Any = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with fits.open(BytesIO(data), memmap=False) as units:
            for unit in units:
                if not unit.is_image or not (shape := unit.shape):
                    continue
                if len(shape) not in (2, 3) or not 0 < np.prod(shape, dtype=float) <= MOST_PIXELS:
                    allowed = f"shape {shape}; (y, x) or (band, y, x) are allowed"
                    raise ImageFault("not an image", allowed)
                first = first or unit.header
                planes = unit.data[None] if len(shape) == 2 else unit.data
                whole = [] if images else _texts(units[0].header, KEYWORDS[:2])
                names = _names(unit.header, len(planes), whole)
                images += zip(names, (np.asarray(plane, np.float32) for plane in planes), strict=True)
    return images, first


def _planes(data: bytes, reading: Reading) -> Images:
    """Return the bands (y, x) of a PNG or TIFF with their names, those that are stated or that are shown."""
    with extras("a PNG or TIFF of more than 8 bits a band"):
        import imagecodecs
    is_png = picture_kind(data[:HEAD]) == PNG
    tags = _tags(data) if not is_png else None
    width, height = (tags[256], tags[257]) if tags else struct.unpack(">II", data[16:24])
    if not 0 < width * height <= MOST_PIXELS:
        raise ImageFault("too many pixels", f"{width} × {height}; at most {MOST_PIXELS} pixels are allowed")
    if tags and tags.next:
        raise ImageFault("several images in one", "a TIFF of pages", "write each into a file of its own")
    pixels = imagecodecs.png_decode(data) if is_png else imagecodecs.tiff_decode(data)
    if pixels.ndim == 3 and pixels.shape[:2] != (height, width):
        pixels = pixels.transpose(1, 2, 0)
    planes = np.atleast_3d(pixels)[::-1].astype(np.float32).transpose(2, 0, 1)
    if planes.shape[1:] != (height, width) or len(planes) not in (1, 3):
        value = f"shape {pixels.shape}; one band, or red, green and blue, are allowed"
        raise ImageFault("not an image", value, "leave transparency and other bands out")
    order = reading.bands or reading.rgb
    names = [[name] for name in order] if len(order) == len(planes) else [[] for _ in planes]
    return list(zip(names, planes, strict=True))


def _names(header: Any, planes: int, whole: list[str]) -> list[list[str]]:
    """Return the names of the band of each plane; `whole` are those that the whole file has for its first."""
    text = str(header.get("BANDS", "")).strip()
    if not text and planes == 1:
        return [list(dict.fromkeys([*_texts(header, KEYWORDS), *whole]))]
    names = re.split(r"[,\s]+", text) if re.search(r"[,\s]", text) else list(text)
    if text and len(names) != planes:
        raise ImageFault("bands without names", f"BANDS is {text!r}, of {planes} bands", IN_ORDER)
    return [[name] for name in names] or [[] for _ in range(planes)]


def _texts(header: Any, keywords: tuple[str, ...]) -> list[str]:
    return [text for key in keywords if (text := str(header.get(key, "")).strip())]


# Galaxies of several files


def band_of(member: str, pattern: str) -> tuple[str, str]:
    """Return the name of the image that a file is a band of, and the band; its own and none otherwise."""
    match = _of_band(pattern).fullmatch(member)
    return (f"{match['folder']}{match['id']}.fits", match["band"]) if match else (member, "")


@cache
def _of_band(pattern: str) -> re.Pattern[str]:
    names = re.escape(pattern).replace(r"\{id\}", "(?P<id>[^/]+)").replace(r"\{band\}", "(?P<band>[^/_]+)")
    return re.compile(rf"(?P<folder>(?:.*/)?){names}")


def brought_together(source: Source, pattern: str) -> Source:
    """Return the images of a source whose bands are files of their own as one FITS file a galaxy.

    `pattern` is that of `Reading.files`. Files that are named otherwise are left out.
    """
    members: dict[str, dict[str, str]] = {}
    others = list(source.left_out)
    for member in source.versions:
        name, band = band_of(member, pattern)
        if band:
            members.setdefault(name, {})[band] = member
        else:
            named = f"files of bands are named {pattern}"
            others.append(MemberError(source.path, member, "name without a band", member, named))

    def entries() -> Iterator[Entry]:
        files = {entry.name: entry for entry in source.entries() if isinstance(entry, Entry)}
        for name, bands in members.items():
            there = {band: files[member] for band, member in bands.items() if member in files}
            yield Entry(name, 0, versions[name], partial(_joined, there))

    versions = {
        name: " ".join(f"{band} {source.versions[member]}" for band, member in bands.items())
        for name, bands in members.items()
    }
    targets = {
        name: target
        for name, bands in members.items()
        for target in [source.targets.get(member) for member in bands.values()][:1]
        if target
    }
    return replace(
        source,
        left_out=tuple(others),
        versions=versions,
        targets=targets,
        entries=entries,
        key=f"{source.key} {pattern}",
    )


def _joined(files: Mapping[str, Entry], most: int) -> bytes:
    """Return the first image of each file as one file, its extensions named by band."""
    from astropy.io import fits

    units = fits.HDUList([fits.PrimaryHDU()])
    for band, entry in files.items():
        data = entry.read(-1)
        images, header = _images(data) if isinstance(data, bytes) else ([], {})
        if not images:
            raise ImageFault("missing band", f"{entry.name} has no image")
        wcs = wcs_of(header, Target())
        units.append(fits.ImageHDU(images[0][1], wcs and wcs.to_header(), name=band))
    buffer = BytesIO()
    units.writeto(buffer)
    return buffer.getvalue()
