"""The loop from images to joint fractions, a batch at a time.

Every image is decoded and computed here, whoever asks:

    for batch in predictions(Predictor(open_network(Path("fork")), views=16), "tiles/"):
        batch.ids, batch.fractions            # ids (galaxy,), fractions float32 (galaxy, answer)
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hubblefork import __version__
from hubblefork.data.folders import VIEWING, DataFolder
from hubblefork.data.stamps import prepare
from hubblefork.errors import ImageError
from hubblefork.images.archives import is_url, place_of, version_of
from hubblefork.images.cutouts import Reading
from hubblefork.images.decoder import StampSpec, result_of, shorter_side, stamp
from hubblefork.images.field import Field, Sky, check_filled, check_not_blank
from hubblefork.images.members import ARCHIVE_SUFFIXES, TABLE_SUFFIXES, UNREAD, ImageData, MemberError, Source
from hubblefork.images.sources import is_image_file, open_files, open_memory, open_source
from hubblefork.images.tables_of_images import is_table_of_images
from hubblefork.io import Progress, grouped, in_threads, silent
from hubblefork.prediction.predictor import Predictor
from hubblefork.tables.catalogue import galaxy_ids, with_metadata
from hubblefork.tables.columns import targets_in
from hubblefork.tables.names import POSITION, SUFFIXES, Target, Targets, galaxy_id_of
from hubblefork.tables.shards import QUESTIONS
from hubblefork.zoo import tree_text

LONGEST_ORIGIN = 1000

Place = str | PathLike[str]
Images = Place | Sequence[Place] | bytes | NDArray[np.uint8]
Reject = tuple[str, str]


class Batch(NamedTuple):
    """Predicted images: names, ids and shorter sides in pixels (galaxy,), fractions (galaxy, answer).

    Of other images name and reason; `unread` are the names of those that may be readable another time.
    `targets` are the galaxies where all sources are predicted together (`predictions`).
    """

    names: list[str]
    ids: list[str]
    sides: list[int]
    fractions: NDArray[np.float32]
    rejects: list[Reject]
    unread: list[str]
    targets: Sequence[Target] = ()


@dataclass(frozen=True)
class ImageSet:
    """The images of one source: its `key`, the version of each image by its name, what else is in it.

    `predict` predicts some of them by name, in their order. `targets` are their galaxies by name.
    """

    key: str
    versions: Mapping[str, str]
    rejects: list[Reject]
    predict: Callable[[list[str]], Iterator[Batch]]
    targets: Targets = field(default_factory=dict)


def predictions(
    predictor: Predictor, images: Images, *, what: str = "predicting", progress: Progress = silent
) -> Iterator[Batch]:
    """Predict images a batch at a time, in their order (image files before folders and archives).

    `images` is an image file, a folder, an archive or a data folder, a list of files, folders and archives,
    one encoded image (bytes), or an array uint8 (galaxy, y, x, 3), whose ids are the numbers of its rows.
    What a source holds beside usable images are rejects of its first batch, as are images whose id an
    earlier one has. JPEGs are decoded at half scale where that is enough for a stamp, which moves a fraction
    a little from that of an array. Raises ImageError where a source cannot be opened or has no images.
    """
    names: dict[str, str] = {}
    for closed in image_sets(predictor, images, what=what, progress=progress):
        with closed as source:
            if source.rejects:
                yield computed(predictor, NOTHING)._replace(rejects=source.rejects)
            for batch in source.predict(list(source.versions)):
                targets = [source.targets.get(name, Target()) for name in batch.names]
                yield _each_once(batch._replace(targets=targets), names)


def _each_once(batch: Batch, names: dict[str, str]) -> Batch:
    """Return a batch without the images whose id an earlier image has; `names` maps each id to its image."""
    kept, rejects = [], list(batch.rejects)
    for row, (name, galaxy_id) in enumerate(zip(batch.names, batch.ids, strict=True)):
        if galaxy_id in names:
            rejects.append((name, repeated_id(galaxy_id, names[galaxy_id])))
        else:
            names[galaxy_id] = name
            kept.append(row)
    members, ids = ([values[row] for row in kept] for values in (batch.names, batch.ids))
    sides, targets = [batch.sides[row] for row in kept], [batch.targets[row] for row in kept]
    return Batch(members, ids, sides, batch.fractions[kept], rejects, batch.unread, targets)


def repeated_id(galaxy_id: str, kept: str) -> str:
    """Return the reason why an image is left out: an earlier one has its id."""
    return f"galaxy_id {galaxy_id} stands more than once; kept is {kept}"


def predict_rows(
    predictor: Predictor, data: Path, rows: NDArray[np.intp], what: str, progress: Progress = silent
) -> NDArray[np.float32]:
    """Predict the galaxies in some rows of a data folder's catalogue: (galaxy, answer)."""
    return np.concatenate([batch.fractions for batch in _of_rows(predictor, data, rows, what, progress)])


# Sources


def image_sets(
    predictor: Predictor, images: Images, *, what: str = "predicting", progress: Progress = silent
) -> list[AbstractContextManager[ImageSet]]:
    """Return the sources of images, to be opened one after the other; as `predictions` raises."""
    if data := data_folder(images):
        return [nullcontext(_rows_of_folder(predictor, data, what, progress))]
    for place in places_of(images):
        name = str(place).lower()
        is_table = name.endswith(TABLE_SUFFIXES) and not name.endswith(ARCHIVE_SUFFIXES)
        if is_table and not is_url(place) and not is_table_of_images(Path(place)):
            with open_source(place):  # a table of labels is told before the images of others are predicted
                pass
    sources = opened(images, predictor.reading.files)
    return [_image_set(source, partial(_of_source, predictor, what, progress)) for source in sources]


@contextmanager
def _image_set(
    closed: AbstractContextManager[Source], predict: Callable[[Source, list[str]], Iterator[Batch]]
) -> Iterator[ImageSet]:
    """Open an archive, a folder or a list of files. Raises ImageError where there are no images in it."""
    with closed as source:
        rejects = [(defect.member, str(defect)) for defect in (*source.defects, *source.left_out)]
        if not source.versions:
            first = f"; of {len(rejects)} other files the first: {rejects[0][1]}" if rejects else ""
            raise ImageError(f"{source.path}: there are no images in it ({SUFFIXES}){first}")
        yield ImageSet(source.key, source.versions, rejects, partial(predict, source), source.targets)


def data_folder(images: Images) -> Path | None:
    """Return the data folder that is to be predicted, None for other images.

    Raises ImageError for a data folder among other images.
    """
    places = places_of(images)
    data = [place for place in places if isinstance(place, Path) and DataFolder(place).exists()]
    if data and len(places) > 1:
        raise ImageError(f"{data[0]} is a data folder: it is predicted by itself, without other sources")
    return data[0] if data else None


def places_of(images: Images) -> list[Path | str]:
    """Return the paths and URLs of images; none of images in memory. Raises ImageError where it has none."""
    if isinstance(images, bytes | np.ndarray):
        return []
    places = [images] if isinstance(images, str | PathLike) else images
    if not isinstance(places, Collection) or not all(isinstance(place, str | PathLike) for place in places):
        raise ImageError(
            f"images are {type(places).__name__}: give a path, a list of paths, the bytes of one image, or "
            "an array uint8 (galaxy, y, x, 3), as np.stack makes of arrays"
        )
    if not len(places):
        raise ImageError("no image, archive or folder of images was named: name at least one")
    return [place_of(place) for place in places]


def opened(images: Images, bands_apart: str = "") -> list[AbstractContextManager[Source]]:
    """Return image files as one source, and each folder and archive as another.

    `bands_apart` is the pattern of names where each band is a file of its own.
    """
    if isinstance(images, bytes | np.ndarray):
        return [nullcontext(open_memory(images))]
    places = places_of(images)
    files = [place for place in places if isinstance(place, Path) and is_image_file(place)]
    first = [nullcontext(open_files(files))] if files else []
    return [*first, *(open_source(place, bands_apart) for place in places if place not in files)]


def _of_source(
    predictor: Predictor, what: str, progress: Progress, source: Source, names: list[str]
) -> Iterator[Batch]:
    """Predict some images of a source; threads read, decode and compute groups of them."""
    groups = grouped(source.stream(names), predictor.galaxies)
    total = len(source.versions)
    with progress(f"{what} {Path(source.path).name}", total, total - len(names)) as advance:
        for batch in in_threads(groups, partial(_batch, predictor, source)):
            yield batch
            advance(len(batch.names) + len(batch.rejects))


def _rows_of_folder(predictor: Predictor, data: Path, what: str, progress: Progress) -> ImageSet:
    folder = DataFolder(data)
    known = folder.catalogue(only=POSITION)
    rows = {str(name): row for row, name in enumerate(galaxy_ids(known).tolist())}
    targets = dict(zip(rows, targets_in(known), strict=False))

    def predicted(names: list[str]) -> Iterator[Batch]:
        return _of_rows(predictor, data, np.array([rows[name] for name in names]), what, progress)

    catalogue = folder.catalogue_file.resolve()
    return ImageSet(f"{catalogue} {version_of(catalogue)}", dict.fromkeys(rows, ""), [], predicted, targets)


def _of_rows(
    predictor: Predictor, data: Path, rows: NDArray[np.intp], what: str, progress: Progress
) -> Iterator[Batch]:
    if predictor.field is not None and not predictor.as_trained:
        raise ImageError(
            f"{data}: --field is for images, and this is a data folder: name the images themselves"
        )
    folder, shown = DataFolder(data), predictor.reading
    display, known = folder.display(), shown.display
    if known and known.stretch and (not display or display.shown != known.shown):
        raise ImageError(
            f"{data}: its images are read as {display or 'pictures'}, and the network was trained "
            f"on {known}: ingest them with that survey, or name the images themselves"
        )
    ids, sides = galaxy_ids(folder.catalogue(only=[])).astype(str), folder.image_sides()
    pixels = prepare(data, predictor.stamps, progress=progress)

    def predicted(group: Sequence[np.intp]) -> Batch:
        names = ids[group].tolist()
        return Batch(names, names, sides[group].tolist(), predictor(pixels[group]), [], [])

    with progress(what, len(rows)) as advance:
        for batch in in_threads(grouped(rows, predictor.galaxies), predicted):
            yield batch
            advance(len(batch.names))


class Prepared(NamedTuple):
    """Images as stamps (galaxy, y, x, band), with their names and sides; of others as in `Batch`."""

    names: list[str]
    sides: list[int]
    stamps: NDArray[np.uint8]
    rejects: list[Reject]
    unread: list[str]


NOTHING = Prepared([], [], np.empty(0, np.uint8), [], [])


def prepared(
    spec: StampSpec,
    field: Field | None,
    reading: Reading,
    place: Path | str,
    targets: Targets,
    images: Sequence[tuple[str, ImageData | MemberError]],
) -> Prepared:
    """Return some images of a place as stamps around their targets."""

    def stamp_and_side(data: ImageData, sky: Sky) -> tuple[NDArray[np.uint8], int]:
        pixels = stamp(data, spec, field, sky)
        check_not_blank(pixels)
        check_filled(pixels)
        return pixels, shorter_side(data)

    results = [
        (name, result_of(stamp_and_side, place, name, data, reading, targets.get(name, Target())))
        for name, data in images
    ]
    faults = [(name, result) for name, result in results if isinstance(result, MemberError)]
    usable = [(name, *result) for name, result in results if not isinstance(result, MemberError)]
    pixels = np.array([image[1] for image in usable], np.uint8)
    stamps = pixels.reshape(len(usable), spec.size, spec.size, spec.bands)
    rejects = [(name, str(fault)) for name, fault in faults]
    unread = [name for name, fault in faults if fault.reason == UNREAD]
    return Prepared([image[0] for image in usable], [image[2] for image in usable], stamps, rejects, unread)


def computed(predictor: Predictor, images: Prepared) -> Batch:
    """Predict stamps."""
    names, sides, stamps, rejects, unread = images
    values = predictor(stamps) if names else np.empty((0, predictor.width), np.float32)
    return Batch(names, [galaxy_id_of(name) for name in names], sides, values, rejects, unread)


def _batch(
    predictor: Predictor, source: Source, images: Sequence[tuple[str, ImageData | MemberError]]
) -> Batch:
    how = predictor.stamps, predictor.field, predictor.reading
    return computed(predictor, prepared(*how, source.path, source.targets, images))


# What is said of predictions


def signed(table: pa.Table, predictor: Predictor, places: Sequence[Place]) -> pa.Table:
    """Return a catalogue with metadata that say which networks predicted it, and how."""
    members = [network.trained for network in predictor.networks]
    return with_metadata(
        table,
        {
            "run": " ".join(str(place) for place in places),
            "weights": " ".join(member.digest for member in members),
            "recipe": members[0].recipe,
            "tree": predictor.tree.name,
            "stamps": str(predictor.stamps),
            "views": str(predictor.views),
            "viewing": VIEWING,
            "quantity": "number" if predictor.tree.number else "joint_fraction",
            **({QUESTIONS: tree_text(predictor.tree)} if predictor.tree.number else {}),
            "runtime": predictor.runtime,
            "version": __version__,
        },
    )


def scale_of(predictor: Predictor, sides: Counter[int]) -> dict[str, str]:
    """Return what a catalogue's metadata say of the scale of its images, which `sides` counts."""
    remarks = predictor.remarks(sides)
    field = {"field": "" if predictor.field is None else str(predictor.field)}
    return {**field, "scale": " ".join(remarks)} if remarks else field


def origin_of(images: Images) -> str:
    """Return the paths of images; their digest where they are many, or in memory."""
    paths = " ".join(map(str, places_of(images))) or digest_in_memory(images)
    if len(paths) <= LONGEST_ORIGIN:
        return paths
    return hashlib.sha256(paths.encode("utf-8", "backslashreplace")).hexdigest()


def digest_in_memory(images: Images) -> str:
    """Return the SHA-256 of images in memory; nothing of files, which their names and times tell apart."""
    if not isinstance(images, bytes | np.ndarray):
        return ""
    content = images if isinstance(images, bytes) else np.ascontiguousarray(images).data
    return hashlib.sha256(content).hexdigest()


def none_readable(images: Images, rejects: Sequence[Reject]) -> ImageError:
    """Return the error for images of which none could be used."""
    source = next(map(str, places_of(images)), "images in memory")
    return ImageError(
        f"{source}: none of its {len(rejects)} images could be read; the first: {rejects[0][1]}"
    )
