"""From cutouts to stamps: decode, take the central square, resample; one memory-mapped file a survey.

    stamps = prepare(Path("data"), StampSpec(crop=212, size=64))
    stamps.pixels[5]                                    # uint8 (y, x, band), in the order of the catalogue

`stamp` makes one, `stream` those of an archive without keeping any, `prepare` those of a catalogue.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from io import BytesIO
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray
from PIL import Image

from hubblefork.data.archives import ImageData, MemberError, Source, open_source
from hubblefork.data.cutouts import EIGHT_BIT_MODES, MOST_PIXELS, SIGNATURES
from hubblefork.data.jpeg import BANDS, decode_jpeg, jpeg_sides
from hubblefork.data.resample import resample, taps
from hubblefork.data.store import Filling, How, alone_in, filling, is_finished, open_array, read_how
from hubblefork.errors import CatalogueError, ImageError, StampError
from hubblefork.io import Progress, silent

GROUP = 32
GROUPS_PER_THREAD = 3
CHECKPOINT_BYTES = 32 * 2**20
CATALOGUE = "catalogue.parquet"
IDENTITY = ("galaxy_id", "member", "width", "height", "centre_red", "centre_green", "centre_blue")
METHOD = "JPEG decoded at half scale where crop >= 2 * size; central square; antialiased bicubic in float32"
CHANGED = "It was whole when it was ingested: run `hubblefork ingest` again"
LIBRARIES = ("simplejpeg", "pillow", "scipy", "numpy")


@dataclass(frozen=True)
class StampSpec:
    """The central square of side `crop`, in original pixels, as `size` × `size` stamp pixels.

    Raises StampError unless 1 ≤ size ≤ crop.
    """

    crop: int
    size: int

    def __post_init__(self) -> None:
        if not 1 <= self.size <= self.crop:
            raise StampError(
                f"stamps of size {self.size} from a crop of {self.crop} pixels: the size is at least 1 "
                "and at most the crop (stamps are never enlarged); choose a larger crop or a smaller size"
            )

    def __str__(self) -> str:
        return f"crop{self.crop}-size{self.size}"


@dataclass(frozen=True)
class Stamps:
    """Prepared stamps: `pixels`, memory-mapped uint8 (galaxy, y, x, band), and the spec they were made by."""

    pixels: np.memmap
    spec: StampSpec


# One stamp


class _Fault(Exception):
    """What is wrong with an image, before it is known where it stands: reason, value, remedy."""


def stamp(data: ImageData, spec: StampSpec) -> NDArray[np.uint8]:
    """Return the stamp, uint8 (size, size, 3), of one encoded JPEG or PNG, or of pixels uint8 (y, x, 3).

    A JPEG is decoded at half scale where the crop has at least two pixels a stamp pixel, else at
    full scale. Raises ImageError for an image that is damaged, too large to be true, or smaller
    than the crop.
    """
    try:
        return _stamp(data, spec)
    except _Fault as fault:
        raise ImageError("{}: {}; {}".format(*fault.args)) from fault.__cause__


def _stamp(data: ImageData, spec: StampSpec) -> NDArray[np.uint8]:
    pixels, height, width, reduced = _decoded(data, spec)
    rows, columns = (taps(side, spec.crop, spec.size, reduced) for side in (height, width))
    return resample(pixels, rows, columns)


def _decoded(data: ImageData, spec: StampSpec) -> tuple[NDArray[np.uint8], int, int, int]:
    """Return pixels, the original's height and width, and how many times smaller it was decoded."""
    if isinstance(data, np.ndarray):
        height, width, _ = data.shape
        _check_sides(height, width, spec)
        return data, height, width, 1
    try:
        if data.startswith(SIGNATURES["JPEG"]):
            return _decoded_jpeg(data, spec)
        if data.startswith(SIGNATURES["PNG"]):
            return _decoded_png(data, spec)
    except (ValueError, OSError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise _Fault("damaged image", str(error), "replace it with a whole copy or leave it out") from error
    raise _Fault("neither a JPEG nor a PNG", f"begins with {data[:16]!r}", "convert it or leave it out")


def _decoded_jpeg(data: bytes, spec: StampSpec) -> tuple[NDArray[np.uint8], int, int, int]:
    height, width = jpeg_sides(data)
    _check_sides(height, width, spec)
    reduced = 2 if spec.crop >= 2 * spec.size else 1
    deepest = taps(height, spec.crop, spec.size, reduced).window.stop * reduced
    return decode_jpeg(data, rows=deepest, reduced=reduced), height, width, reduced


def _decoded_png(data: bytes, spec: StampSpec) -> tuple[NDArray[np.uint8], int, int, int]:
    with Image.open(BytesIO(data), formats=["PNG"]) as image:
        width, height = image.size
        _check_sides(height, width, spec)
        if image.mode not in EIGHT_BIT_MODES:
            raise _Fault("not 8 bits a band", f"Pillow mode {image.mode}", "save it as 8-bit grey or RGB")
        return np.asarray(image.convert("RGB")), height, width, 1


def _check_sides(height: int, width: int, spec: StampSpec) -> None:
    if height * width > MOST_PIXELS:
        value = f"{width} × {height}, at most {MOST_PIXELS} pixels are allowed"
        raise _Fault("too many pixels", value, "cut it out smaller or leave it out")
    if min(height, width) < spec.crop:
        value = f"{width} × {height}, the crop is {spec.crop} × {spec.crop}"
        raise _Fault("smaller than the crop", value, "choose a smaller crop or leave it out")


# The stamps of an archive


def stream(
    source: Path, spec: StampSpec, *, names: Collection[str] | None = None, threads: int | None = None
) -> Iterator[tuple[str, NDArray[np.uint8] | ImageError]]:
    """Yield name and stamp of the images of an archive or folder (default: all), in archive order.

    An image that gives no stamp yields the ImageError that says why. `threads` (default: one a
    core) decode while the caller works; only some dozen images for each are in memory at any time.
    Raises ImageError when the source cannot be opened or lacks a name.
    """
    with open_source(source) as opened:
        yield from stream_opened(opened, spec, names=names, threads=threads)


def stream_opened(
    source: Source, spec: StampSpec, *, names: Collection[str] | None = None, threads: int | None = None
) -> Iterator[tuple[str, NDArray[np.uint8] | ImageError]]:
    """Yield as `stream` does, from a source that is open."""
    threads = threads or os.cpu_count() or 1
    members = source.stream(names)
    groups = iter(lambda: list(islice(members, GROUP)), [])
    if threads == 1:
        for group in groups:
            yield from _stamped(group, spec, source.path)
    else:
        yield from _stamped_in_threads(groups, spec, source.path, threads)


def _stamped_in_threads(
    groups: Iterator[list], spec: StampSpec, source: Path, threads: int
) -> Iterator[tuple[str, NDArray[np.uint8] | ImageError]]:
    pool = ThreadPoolExecutor(threads)
    waiting: deque[Future] = deque()
    try:
        for group in groups:
            waiting.append(pool.submit(_stamped, group, spec, source))
            if len(waiting) >= threads * GROUPS_PER_THREAD:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _stamped(
    group: Sequence[tuple[str, ImageData | ImageError]], spec: StampSpec, source: Path
) -> list[tuple[str, NDArray[np.uint8] | ImageError]]:
    return [(name, _stamp_or_error(data, spec, source, name)) for name, data in group]


def _stamp_or_error(
    data: ImageData | ImageError, spec: StampSpec, source: Path, name: str
) -> NDArray[np.uint8] | ImageError:
    if isinstance(data, ImageError):
        return data
    try:
        return _stamp(data, spec)
    except _Fault as fault:
        return MemberError(source, name, *fault.args)


# The stamps of a catalogue


def stamps_folder(data: Path, spec: StampSpec) -> Path:
    """Return where a data folder keeps the stamps of a spec."""
    return data / "stamps" / str(spec)


def prepare(
    data: Path, spec: StampSpec, *, threads: int | None = None, progress: Progress = silent
) -> Stamps:
    """Make the stamps of a data folder's catalogue, in its order, or open them when they are there.

    Interrupted in any way, the next call goes on where it stopped and ends with the same bytes.
    When the catalogue has changed since (ids, members, sizes, central pixels) they are made anew.
    Raises ImageError for an image that gives no stamp (none is skipped), StampError for a folder
    of stamps made another way or being made by another process, CatalogueError, DiskError.
    """
    galaxies = _read_galaxies(data / CATALOGUE)
    folder, how = stamps_folder(data, spec), _how(galaxies, spec)
    if not _is_ready(folder, how):
        _check_crop(galaxies, spec)
        with alone_in(folder):
            if not _is_ready(folder, how):  # another process may have finished them meanwhile
                with filling(folder, how) as unfinished:
                    _fill(unfinished, galaxies, spec, threads, progress)
    return open_stamps(data, spec)


def open_stamps(data: Path, spec: StampSpec) -> Stamps:
    """Open the finished stamps of a data folder. Raises StampError when they are not there or do not fit."""
    folder = stamps_folder(data, spec)
    if not is_finished(folder):
        raise StampError(f"{folder}: there are no finished stamps; make them with `hubblefork stamps`")
    _check_way(folder, spec)
    return Stamps(open_array(folder), spec)


def _read_galaxies(path: Path) -> pa.Table:
    wanted = ("source", *IDENTITY)
    try:
        with pa.parquet.ParquetFile(path) as file:
            galaxies = file.read(wanted)
    except (OSError, pa.ArrowException) as error:
        raise _no_catalogue(path, str(error)) from error
    missing = [name for name in wanted if name not in galaxies.column_names]
    if missing:
        raise _no_catalogue(path, f"it has no column {', '.join(missing)}")
    return galaxies


def _no_catalogue(path: Path, why: str) -> CatalogueError:
    return CatalogueError(f"{path}: not a catalogue of images: {why}; run `hubblefork ingest`")


def _how(galaxies: pa.Table, spec: StampSpec) -> How:
    """Return all that decides the bytes of `stamps.npy`."""
    return {
        **_way(spec),
        "shape": [len(galaxies), spec.size, spec.size, BANDS],
        "catalogue": _digest(galaxies),
        "versions": ", ".join(f"{name} {version(name)}" for name in LIBRARIES),
    }


def _way(spec: StampSpec) -> How:
    return {"crop": spec.crop, "size": spec.size, "method": METHOD}


def _digest(galaxies: pa.Table) -> str:
    digest = hashlib.sha256()
    for name in IDENTITY:
        digest.update("\n".join(map(str, galaxies.column(name).to_pylist())).encode() + b"\0")
    return digest.hexdigest()


def _is_ready(folder: Path, how: How) -> bool:
    """Say whether finished stamps of this very catalogue are there. Raises StampError for another way."""
    if not is_finished(folder):
        return False
    _check_way(folder, StampSpec(how["crop"], how["size"]))
    found = read_how(folder)
    return all(found.get(key) == how[key] for key in ("shape", "catalogue"))


def _check_way(folder: Path, spec: StampSpec) -> None:
    found = read_how(folder)
    differing = [
        f"{key} is {found.get(key)!r}, not {asked!r}"
        for key, asked in _way(spec).items()
        if found.get(key) != asked
    ]
    if differing:
        raise StampError(
            f"{folder}: these stamps were made another way: {'; '.join(differing)}; "
            "move or delete the folder, then run the same command again"
        )


def _check_crop(galaxies: pa.Table, spec: StampSpec) -> None:
    sides = np.minimum(galaxies.column("width").to_numpy(), galaxies.column("height").to_numpy())
    small = np.flatnonzero(sides < spec.crop)
    if small.size:
        first = galaxies.slice(int(small[0]), 1).to_pylist()[0]
        raise ImageError(
            f"{first['source']}: {first['member']}: {first['width']} × {first['height']} pixels, "
            f"smaller than the crop of {spec.crop}; so are {small.size} of {len(sides)} images; "
            f"choose a crop of at most {sides.min()}, or leave them out and run `hubblefork ingest` again"
        )


def _fill(
    unfinished: Filling, galaxies: pa.Table, spec: StampSpec, threads: int | None, progress: Progress
) -> None:
    done = unfinished.done
    often = -(-CHECKPOINT_BYTES // (spec.size**2 * BANDS))
    with progress("stamps", len(done), int(done.sum())) as advance:
        for source, rows in _missing(galaxies, done).items():
            for name, pixels in stream(Path(source), spec, names=rows, threads=threads):
                unfinished.put(rows[name], _trusted(pixels))
                if len(unfinished.fresh) >= often:
                    advance(unfinished.checkpoint())
        advance(unfinished.settle())
    _check_none_missing(galaxies, done)


def _missing(galaxies: pa.Table, done: NDArray[np.bool_]) -> dict[str, dict[str, int]]:
    """Return the rows not done yet by source and member."""
    missing: dict[str, dict[str, int]] = {}
    sources, members = (galaxies.column(name).to_pylist() for name in ("source", "member"))
    for row in np.flatnonzero(~done).tolist():
        missing.setdefault(sources[row], {})[members[row]] = row
    return missing


def _trusted(pixels: NDArray[np.uint8] | ImageError) -> NDArray[np.uint8]:
    if isinstance(pixels, ImageError):
        raise ImageError(
            f"{pixels}. It was whole when it was ingested: run `hubblefork ingest` again"
        ) from pixels
    return pixels


def _check_none_missing(galaxies: pa.Table, done: NDArray[np.bool_]) -> None:
    missing = _missing(galaxies, done)
    for source, rows in missing.items():
        raise ImageError(
            f'{source}: broke off before {len(rows)} images, the first "{next(iter(rows))}". {CHANGED}'
        )
