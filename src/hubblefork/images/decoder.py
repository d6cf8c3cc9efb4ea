"""The one decoder: from the bytes of a cutout to pixels, to what a catalogue says of it, and to a stamp.

A stamp is the central square of a cutout, resampled. Coordinates are continuous and count original pixels:
pixel i of a cutout covers [i, i+1], and pixel i of one decoded `reduced` times smaller covers [reduced·i,
reduced·(i+1)]. The square of side `crop` covers [(side-crop)/2, (side+crop)/2] of each axis, half pixels
included, so it is centred for odd and even sides and any reduction. No pixel outside of it is read.

The filter is that of Pillow's BICUBIC (Keys 1981, doi:10.1109/TASSP.1981.1163711, eq. 15, widened by the
scale). Unlike Pillow's, sums are float32 and rounded once: several times faster here, since each product
runs along whole rows of pixels.
"""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache
from io import BytesIO
from math import ceil, floor
from typing import NamedTuple, TypeVar

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from scipy.sparse import csr_array

from hubblefork.images.cutouts import EIGHT_BITS, Reading, depth_of, is_fluxes, picture_of
from hubblefork.images.field import BANDS, NEAR, Field, Sky, StampSpec, check_filled, crop_of
from hubblefork.images.members import (
    HEAD,
    JPEG,
    PNG,
    TIFF,
    WEBP,
    ImageData,
    ImageFault,
    MemberError,
    Place,
    Source,
    picture_kind,
)
from hubblefork.images.sources import open_source
from hubblefork.io import grouped, in_threads
from hubblefork.tables.names import Target

MOST_PIXELS = 64 * 2**20
CENTRE = 10
SIMPLE, CMYK, PILLOW = "simplejpeg", "CMYK", "Pillow"
SIMPLE_COLOURS = frozenset({"Gray", "YCbCr", "RGB"})
DAMAGE = (
    *(ValueError, OSError, SyntaxError, EOFError, struct.error, zlib.error, Image.DecompressionBombError),
    *(LookupError, TypeError, AttributeError, ArithmeticError, AssertionError, MemoryError),
)
BASELINE, SCAN = 0xC0, 0xDA
BLOCK_ROW = 16
CONTEXT = 2
UNWRITTEN = 255
LEFT_UNREAD = re.compile(r"Corrupt JPEG data: \d+ extraneous bytes before marker 0xd9")
SUPPORT = 2
TOGETHER = 32
ONLY_FLUXES = (
    "somebody has stretched it already, and the network was trained on fluxes in another stretch",
    "give the FITS cutout",
)


A = TypeVar("A")
T = TypeVar("T")


# What a catalogue says of a cutout


@dataclass(frozen=True)
class Cutout:
    """Width, height in pixels; the mean colour (red, green, blue) of its centre; the SHA-256; its sky."""

    width: int
    height: int
    centre: tuple[int, int, int]
    digest: bytes
    sky: Sky


def inspect(data: ImageData, sky: Sky = Sky()) -> Cutout:
    """Decode an image wholly and return what is worth knowing of it.

    Grey and CMYK images count as what they are in red, green and blue, transparent ones as they look on
    black. Raises ImageFault for an image that is no JPEG, PNG, TIFF or WebP (whatever its name says), is
    damaged, has over 8 bits a band, or more than `MOST_PIXELS` by its header.
    """
    pixels = pixels_of(data)
    check_filled(pixels)
    digest = hashlib.sha256(data if isinstance(data, bytes) else pixels.tobytes()).digest()
    return Cutout(pixels.shape[1], pixels.shape[0], _centre_colour(pixels), digest, sky)


def pixels_of(data: ImageData) -> NDArray[np.uint8]:
    """Return all pixels of an image, uint8 (y, x, 3). Raises ImageFault as `inspect` does."""
    if not isinstance(data, bytes):
        return data
    header = _header(data)
    return _decoded(data, header, rows=header.height, reduced=1)


def _centre_colour(pixels: NDArray[np.uint8]) -> tuple[int, int, int]:
    """Return the mean of the central 10 × 10 pixels, rounded: what Kaggle's central-pixel benchmark sees."""
    top, left = (max(side // 2 - CENTRE // 2, 0) for side in pixels.shape[:2])
    red, green, blue = pixels[top : top + CENTRE, left : left + CENTRE].mean(axis=(0, 1)).round().astype(int)
    return int(red), int(green), int(blue)


# From bytes to pixels


class Header(NamedTuple):
    """Who decodes an image (`SIMPLE`, `CMYK` or `PILLOW`), its height and width in pixels."""

    decoder: str
    height: int
    width: int


def _header(data: bytes) -> Header:
    """Return what the first bytes say of an image. Raises ImageFault."""
    kind = picture_kind(data[:HEAD])
    if not data:
        raise ImageFault("empty file", "0 bytes")
    if not kind:
        value = f"begins with {data[:16]!r}"
        raise ImageFault("neither a JPEG nor a PNG", value, "convert it or leave it out")
    try:
        if (bits := depth_of(data)) > EIGHT_BITS:
            raise ImageFault("not 8 bits a band", f"{bits} bits", "say with --survey how it is stretched")
        header = {JPEG: _jpeg_header, PNG: _png_header}.get(kind, _other_header)(data)
    except DAMAGE as error:
        raise _damaged(error) from error
    pixels = header.height * header.width
    if not 0 < pixels <= MOST_PIXELS:
        value = f"{header.width} × {header.height}; at most {MOST_PIXELS} pixels are allowed"
        reason = "too many pixels" if pixels else "no pixels"
        raise ImageFault(reason, value, "cut it out smaller or leave it out")
    return header


def _jpeg_header(data: bytes) -> Header:
    """Return the header; Pillow decodes colours sampled in a way that simplejpeg does not know."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data, strict=True)
    except (ValueError, KeyError) as error:
        if isinstance(error, ValueError) and "subsampling" not in str(error):
            raise
        with Image.open(BytesIO(data), formats=[JPEG]) as image:
            return Header(PILLOW, image.height, image.width)
    return Header(SIMPLE if colours in SIMPLE_COLOURS else CMYK, height, width)


def _png_header(data: bytes) -> Header:
    width, height = struct.unpack(">II", data[16:24])
    return Header(PILLOW, height, width)


def _other_header(data: bytes) -> Header:
    """Return the header of a TIFF or a WebP. Raises ImageFault for several images."""
    with Image.open(BytesIO(data), formats=[TIFF, WEBP]) as image:
        if (images := getattr(image, "n_frames", 1)) > 1:
            raise ImageFault("several images in one", str(images), "write each into a file of its own")
        return Header(PILLOW, image.height, image.width)


def _decoded(data: bytes, header: Header, *, rows: int, reduced: int) -> NDArray[np.uint8]:
    """Return the pixels (y, x, band), all of them unless the decoder is `SIMPLE`. Raises ImageFault."""
    try:
        if header.decoder == SIMPLE:
            return decode_jpeg(data, rows=rows, reduced=reduced)
        pixels = _from_cmyk(data) if header.decoder == CMYK else _by_pillow(data)
        if pixels.shape[:2] != header[1:]:
            raise ValueError(f"the header says {header[1:]}, the pixels are {pixels.shape[:2]}")
    except DAMAGE as error:
        raise _damaged(error) from error
    return pixels


def _damaged(error: Exception) -> ImageFault:
    """Return the fault of bytes that a decoder refused; Pillow's words for unknown ones name an address."""
    unknown = isinstance(error, UnidentifiedImageError)
    return ImageFault("damaged image", "what follows its first bytes is no image" if unknown else str(error))


def _from_cmyk(data: bytes) -> NDArray[np.uint8]:
    """Return a JPEG of four inks (CMYK, YCCK) in RGB: inks are stored inverted, as Adobe does."""
    inks = 255 - simplejpeg.decode_jpeg(data, "CMYK", strict=True)
    height, width, _ = inks.shape
    return np.asarray(Image.frombuffer("CMYK", (width, height), inks.tobytes()).convert("RGB"))


def _by_pillow(data: bytes) -> NDArray[np.uint8]:
    """Return the pixels in RGB; what is transparent shows the black behind it, never its hidden colour."""
    with Image.open(BytesIO(data), formats=[PNG, JPEG, TIFF, WEBP]) as image:
        image.load()
        if not image.has_transparency_data:
            return np.asarray(image.convert("RGB"))
        key = image.info.get("transparency")
        if image.mode == "L" and isinstance(key, int):  # Pillow scales samples of 2 and 4 bits, not the key
            most = 2 ** data[24] - 1
            image.info["transparency"] = (key & most) * 255 // most
        clear = image.convert("RGBA")
        return np.asarray(Image.alpha_composite(Image.new("RGBA", clear.size, "black"), clear).convert("RGB"))


def decode_jpeg(data: bytes, *, rows: int, reduced: int) -> NDArray[np.uint8]:
    """Return the pixels (y, x, band) of a grey, YCbCr or RGB JPEG, at least those of the first `rows` rows.

    `reduced`, 1 or 2, is how many times smaller than the original they are: at half scale the inverse cosine
    transform does a quarter of the work (libjpeg's DCT scaling). What remains is mostly the Huffman code,
    which runs from top to bottom, so rows below need not be decoded: a baseline JPEG gets a smaller height in
    its header, and libjpeg complains of the bytes left unread. It reports its first complaint only, so with
    this one there was none about the rows themselves; with any other, and where the last row was not written,
    the JPEG is decoded whole, and strictly. Raises ValueError when it is damaged within these rows.
    """
    _, height, width = _jpeg_header(data)
    deep = -(-(rows + CONTEXT) // BLOCK_ROW) * BLOCK_ROW
    shortened = _with_height(data, deep) if deep < height else None
    if shortened is not None:
        pixels = _blank(deep, width, reduced)
        if _decodes(shortened, reduced, pixels):
            return pixels
    pixels = _blank(height, width, reduced)
    _decode_into(pixels, data, reduced)
    return pixels


def _blank(height: int, width: int, reduced: int) -> NDArray[np.uint8]:
    return np.zeros((-(-height // reduced), -(-width // reduced), BANDS), np.uint8)


def _decodes(data: bytes, reduced: int, pixels: NDArray[np.uint8]) -> bool:
    """Decode a JPEG whose height was made smaller; say whether all rows came out, and unharmed."""
    pixels[-1, ::2] = UNWRITTEN
    try:
        _decode_into(pixels, data, reduced)
    except ValueError as error:
        if not LEFT_UNREAD.fullmatch(str(error)):
            return False
    return bool(pixels[-1, 1::2].any() or (pixels[-1, ::2] != UNWRITTEN).any())


def _decode_into(pixels: NDArray[np.uint8], data: bytes, reduced: int) -> None:
    height, width = pixels.shape[:2]
    simplejpeg.decode_jpeg(
        data, "RGB", min_height=height, min_width=width, min_factor=reduced, buffer=pixels, strict=True
    )


def _with_height(data: bytes, height: int) -> bytes | None:
    """Return a JPEG with another height in its header (ITU T.81, B.2.2); None unless it is baseline."""
    marker = 2
    while marker + 9 < len(data) and data[marker] == 0xFF and data[marker + 1] != SCAN:
        if data[marker + 1] == BASELINE:
            place = marker + 5
            return data[:place] + height.to_bytes(2, "big") + data[place + 2 :]
        marker += 2 + int.from_bytes(data[marker + 2 : marker + 4], "big")
    return None


# From pixels to a stamp


def stamp(
    data: ImageData, spec: StampSpec, field: Field | None = None, sky: Sky = Sky()
) -> NDArray[np.uint8]:
    """Return the stamp, uint8 (size, size, band), of one encoded image, or of pixels uint8 (y, x, 3).

    Without a `field` a pixel shows as much sky as one of a training image. A JPEG (not of CMYK) is decoded at
    half scale where the crop has at least two pixels a stamp pixel, else at full scale. Raises ImageFault for
    an image that is damaged, too large to be true, shows less sky than the stamp around its galaxy, or would
    be enlarged, unless the field allows it.
    """
    header = _header(data) if isinstance(data, bytes) else Header("", *data.shape[:2])
    crop = crop_of(header.height, header.width, spec, field, sky)
    reduced = 2 if header.decoder == SIMPLE and crop >= 2 * spec.size else 1
    centre = sky.target_y, sky.target_x
    rows, columns = (
        taps(side, crop, spec.size, reduced, at) for side, at in zip(header[1:], centre, strict=True)
    )
    if isinstance(data, bytes):
        data = _decoded(data, header, rows=rows.window.stop * reduced, reduced=reduced)
    made = resample(data, rows, columns)
    return made if spec.bands == BANDS else _grey(made)


def _grey(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the mean of the bands (y, x, band) as one band, rounded."""
    total = pixels.sum(axis=2, keepdims=True, dtype=np.uint16)
    return ((2 * total + BANDS) // (2 * BANDS)).astype(np.uint8)


def shorter_side(data: ImageData) -> int:
    """Return the shorter side of an image in pixels. Raises ImageFault."""
    return min(_header(data)[1:] if isinstance(data, bytes) else data.shape[:2])


@dataclass(frozen=True)
class Taps:
    """Which pixels of an axis are read (`window`), and their weights: sparse, (stamp pixel, pixel)."""

    window: slice
    weights: csr_array


@lru_cache(maxsize=64)
def taps(side: int, crop: float, size: int, reduced: int, centre: float | None = None) -> Taps:
    """Return the weights that turn `crop` of `side` original pixels around `centre` into `size` stamp pixels.

    The default is the centre of the axis. `reduced` (1 or 2) is how many times smaller than the original the
    axis was decoded.
    """
    middle = side / 2 if centre is None else centre
    start, stop = (middle - crop / 2) / reduced, (middle + crop / 2) / reduced
    window = slice(max(floor(start + NEAR), 0), min(ceil(stop - NEAR), ceil(side / reduced)))
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
    transposed = lines.reshape(size, width, bands).transpose(1, 2, 0).reshape(width, bands * size)
    stamp = columns.weights @ transposed
    stamp += np.float32(0.5)
    rounded = stamp.clip(0, 255, out=stamp).astype(np.uint8)
    return np.ascontiguousarray(rounded.reshape(size, bands, size).transpose(2, 0, 1))


def _bicubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < SUPPORT, far, 0.0))


# The images of an archive, in threads


def stream(
    source: Place | Source,
    spec: StampSpec,
    *,
    names: Collection[str] | None = None,
    threads: int | None = None,
    reading: Reading = Reading(),
    skies: Mapping[str, Sky] = {},
) -> Iterator[tuple[str, NDArray[np.uint8] | MemberError]]:
    """Yield name and stamp of the images of an archive or folder, which may be open; see `each`."""
    opening = nullcontext(source) if isinstance(source, Source) else open_source(source, reading.files)
    with opening as opened:

        def work(data: ImageData, sky: Sky) -> NDArray[np.uint8]:
            return stamp(data, spec, reading.field, sky)

        yield from each(opened, work, names=names, threads=threads, reading=reading, skies=skies)


def each(
    source: Source,
    work: Callable[[ImageData, Sky], T],
    *,
    names: Collection[str] | None = None,
    threads: int | None = None,
    together: int = TOGETHER,
    reading: Reading = Reading(),
    skies: Mapping[str, Sky] = {},
) -> Iterator[tuple[str, T | MemberError]]:
    """Yield name and result of `work`, such as `inspect`, on the named images (default: all), in their order.

    An image on which it fails yields the MemberError that says why. `threads` (default: one a core) work
    while the caller does; for each of them some groups of `together` images are in memory at any time.
    `skies` by name are what is known of the images' sky, which need not be found then.
    Raises ImageError when the source lacks a name.
    """

    def results(group: Sequence[tuple[str, ImageData | MemberError]]) -> list[tuple[str, T | MemberError]]:
        known = [skies.get(name) or source.targets.get(name, Target()) for name, _ in group]
        return [
            (name, result_of(work, source.path, name, data, reading, about))
            for (name, data), about in zip(group, known, strict=True)
        ]

    for done in in_threads(grouped(source.stream(names), together), results, threads):
        yield from done


def result_of(
    work: Callable[[ImageData, Sky], T],
    source: Place,
    name: str,
    data: ImageData | MemberError,
    reading: Reading = Reading(),
    known: Target | Sky = Target(),
) -> T | MemberError:
    """Return the result of `work` on an image, or the error that says why there is none."""
    if isinstance(data, MemberError):
        return data
    try:
        if isinstance(data, bytes) and is_fluxes(data, reading):
            data, sky = picture_of(data, reading, known)
        elif reading.only_fluxes:
            raise ImageFault("no FITS cutout", *ONLY_FLUXES)
        else:
            about = known if isinstance(known, Sky) else Sky(petro_r90=known.petro_r90)
            sky = replace(about, pixel_scale=about.pixel_scale or reading.pixel_scale)
        return work(data, sky)
    except ImageFault as fault:
        return fault.at(source, name)
