"""Prediction: a trained network and images in, joint fractions out, a batch at a time.

    for batch in predictions(Predictor(load_weights(Path("fork")), views=16), "tiles/"):
        batch.ids, batch.fractions            # ids (galaxy,), fractions float32 (galaxy, answer)

`predict` writes a catalogue of any size. Finished parts of it lie beside the output until it is whole, so
that an interrupted prediction goes on where it stopped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from hubblefork import __version__
from hubblefork.data.archives import (
    SUFFIXES,
    ImageData,
    Source,
    galaxy_id_of,
    is_image_file,
    open_files,
    open_memory,
    open_source,
)
from hubblefork.data.catalogue import (
    ID,
    check_format,
    galaxy_ids,
    with_fractions,
    with_metadata,
    write_catalogue,
)
from hubblefork.data.folders import VIEWING, DataFolder, RunFolder
from hubblefork.data.images import check_not_blank, each, shorter_side, stamp
from hubblefork.data.stamps import prepare
from hubblefork.errors import CatalogueError, ImageError
from hubblefork.io import Progress, silent
from hubblefork.network.parts import (
    Parts,
    Predicted,
    Reject,
    alone_with,
    check_replaceable,
    repeated_id,
    write_predicted,
)
from hubblefork.network.predictor import FeaturePredictor, Predictor
from hubblefork.network.weights import Weights, load_weights
from hubblefork.zoo import DecisionTree

BATCH = 256
LONGEST_ORIGIN = 1000

Place = str | PathLike[str]
Images = Place | Sequence[Place] | bytes | NDArray[np.uint8]


# The loop


class Batch(NamedTuple):
    """Predicted images: names, ids and shorter sides in pixels (galaxy,), fractions (galaxy, answer).

    Of other images name and reason.
    """

    names: list[str]
    ids: list[str]
    sides: NDArray[np.int32]
    fractions: NDArray[np.float32]
    rejects: list[Reject]


def predictions(
    predictor: Predictor, images: Images, *, what: str = "predicting", progress: Progress = silent
) -> Iterator[Batch]:
    """Predict images a batch at a time, in their order (image files before folders and archives).

    `images` is an image file, a folder, an archive or a data folder, a list of files, folders and archives,
    one encoded image (bytes), or an array uint8 (galaxy, y, x, 3), whose ids are the numbers of its rows.
    What a source holds beside usable images are rejects of its first batch, as are images whose id an
    earlier one has. JPEGs are decoded at half scale where
    that is enough for a stamp, which moves a fraction a little from that of an array. Raises ImageError where
    a source cannot be opened or has no images.
    """
    if data := data_folder(images):
        yield from _of_rows(
            predictor, data, np.arange(len(DataFolder(data).catalogue(only=[]))), what, progress
        )
        return
    names: dict[str, str] = {}
    for opened in _opened(images):
        with opened as source:
            if _defects(source):
                yield _batch(predictor, [])._replace(rejects=_defects(source))
            for batch in _of_source(predictor, source, what=what, progress=progress):
                yield _each_once(batch, names)


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
    return Batch(members, ids, batch.sides[kept], batch.fractions[kept], rejects)


def predict_rows(
    predictor: Predictor, data: Path, rows: NDArray[np.intp], what: str, progress: Progress = silent
) -> NDArray[np.float32]:
    """Predict the galaxies in some rows of a data folder's catalogue: (galaxy, answer)."""
    return np.concatenate([batch.fractions for batch in _of_rows(predictor, data, rows, what, progress)])


def data_folder(images: Images) -> Path | None:
    """Return the data folder that is to be predicted, None for other images.

    Raises ImageError for a data folder among other images.
    """
    places = _places(images)
    data = [place for place in places if DataFolder(place).exists()]
    if data and len(places) > 1:
        raise ImageError(f"{data[0]} is a data folder: it is predicted by itself, without other sources")
    return data[0] if data else None


def _places(images: Images) -> list[Path]:
    if isinstance(images, bytes | np.ndarray):
        return []
    places = [images] if isinstance(images, str | PathLike) else images
    if not places:
        raise ImageError("no image, archive or folder of images was named: name at least one")
    return [Path(place) for place in places]


def _opened(images: Images) -> Iterator[AbstractContextManager[Source]]:
    """Open image files as one source, and each folder and archive as another."""
    if isinstance(images, bytes | np.ndarray):
        yield nullcontext(open_memory(images))
        return
    places = _places(images)
    files = [place for place in places if is_image_file(place)]
    if files:
        yield nullcontext(open_files(files))
    yield from (open_source(place) for place in places if place not in files)


def _defects(source: Source) -> list[Reject]:
    return [(defect.member, str(defect)) for defect in (*source.defects, *source.left_out)]


def _of_source(
    predictor: Predictor,
    source: Source,
    *,
    left: list[str] | None = None,
    what: str = "predicting",
    progress: Progress = silent,
) -> Iterator[Batch]:
    names = source.names()
    if not names:
        others = _defects(source)
        first = f"; of {len(others)} other files the first: {others[0][1]}" if others else ""
        raise ImageError(f"{source.path}: there are no images in it ({SUFFIXES}){first}")
    left = names if left is None else left
    stamps = each(source, partial(_stamp_and_side, predictor), names=left)
    with progress(f"{what} {source.path.name}", len(names), len(names) - len(left)) as advance:
        for batch in _batches(predictor, stamps):
            yield batch
            advance(len(batch.names) + len(batch.rejects))


def _of_rows(
    predictor: Predictor, data: Path, rows: NDArray[np.intp], what: str, progress: Progress
) -> Iterator[Batch]:
    if predictor.field is not None:
        raise ImageError(
            f"{data}: --field is for images, and this is a data folder: name the images themselves"
        )
    folder = DataFolder(data)
    ids, sides = galaxy_ids(folder.catalogue(only=[])).astype(str), folder.image_sides()
    pixels = prepare(data, predictor.stamps, progress=progress).pixels
    with progress(what, len(rows)) as advance:
        for batch in _batches(predictor, ((ids[row], (pixels[row], sides[row])) for row in rows)):
            yield batch._replace(ids=batch.names)
            advance(len(batch.names))


StampAndSide = tuple[NDArray[np.uint8], int]


def _stamp_and_side(predictor: Predictor, data: ImageData) -> StampAndSide:
    """Return the stamp of an image and its shorter side in pixels. Raises ImageFault."""
    pixels = stamp(data, predictor.stamps, predictor.field)
    check_not_blank(pixels)
    return pixels, shorter_side(data)


def _batches(
    predictor: Predictor, images: Iterable[tuple[str, StampAndSide | ImageError]]
) -> Iterator[Batch]:
    """Predict named images, `BATCH` of them at once; no stamp is kept while the next are made."""
    images = iter(images)
    while (batch := _batch(predictor, islice(images, BATCH))).names or batch.rejects:
        yield batch


def _batch(predictor: Predictor, images: Iterable[tuple[str, StampAndSide | ImageError]]) -> Batch:
    names, pixels, sides, rejects = [], [], [], []
    for name, image in images:
        if isinstance(image, ImageError):
            rejects.append((name, str(image)))
        else:
            names.append(name)
            pixels.append(image[0])
            sides.append(image[1])
    values = predictor(np.stack(pixels)) if pixels else np.empty((0, predictor.width), np.float32)
    return Batch(names, [galaxy_id_of(name) for name in names], np.array(sides, np.int32), values, rejects)


# A part of a run's own data


def predict_part(
    run: Path, part: str, *, views: int = 1, device: str = "", progress: Progress = silent
) -> Path:
    """Predict the labelled and unlabelled galaxies of one part of a run's own split and data.

    Writes `predictions/<part>.parquet` in the run folder (`<part>-<views>-views.parquet` where `views` of
    each galaxy are averaged) and returns its path. Raises CatalogueError when the part is empty.
    """
    weights = load_weights(run)
    data, ids, rows = _galaxies_of_part(RunFolder(run), part)
    values = predict_rows(
        Predictor(weights, device=device, views=views), data, rows, f"predicting {part}", progress
    )
    path = RunFolder(run).predictions(part, views)
    write_catalogue(signed(with_fractions(ids, values, weights.tree), [weights], [run], views), path)
    return path


def features_of_part(
    run: Path, part: str, *, device: str = "", progress: Progress = silent
) -> tuple[NDArray, NDArray[np.float32]]:
    """Return ids (galaxy,) and features (galaxy, feature) of one part of a run's own split and data.

    Features are the inputs of the network's last layer. Raises RunError, and CatalogueError when the part is
    empty.
    """
    predictor = FeaturePredictor(load_weights(run), device=device)
    data, ids, rows = _galaxies_of_part(RunFolder(run), part)
    return galaxy_ids(ids), predict_rows(predictor, data, rows, f"features, {part}", progress)


def features_of_images(
    run: Path, images: Images, *, device: str = "", progress: Progress = silent
) -> tuple[NDArray, NDArray[np.float32]]:
    """Return ids (galaxy,), as text, and features (galaxy, feature) of images.

    Images that cannot be read are left out. Raises RunError, ImageError.
    """
    predictor = FeaturePredictor(load_weights(run), device=device)
    batches = list(predictions(predictor, images, what="features", progress=progress))
    ids = [galaxy_id for batch in batches for galaxy_id in batch.ids]
    if not ids:
        raise _none_readable(images, [reject for batch in batches for reject in batch.rejects])
    return np.array(ids, dtype=object), np.concatenate([batch.fractions for batch in batches])


def _galaxies_of_part(run: RunFolder, part: str) -> tuple[Path, pa.Table, NDArray[np.intp]]:
    """Return a run's data folder, ids and rows of the galaxies of a part. Raises CatalogueError for none."""
    data = run.data.path
    ids = DataFolder(data).catalogue(only=[])
    rows = np.flatnonzero(run.split().assign(galaxy_ids(ids)) == part)
    if not len(rows):
        raise CatalogueError(f"{run}: no galaxy of {data} is in its {part} part")
    return data, ids.take(rows), rows


# A catalogue


def predict(
    run: Path,
    images: Images,
    out: Path,
    *,
    others: Sequence[Path] = (),
    views: int = 1,
    kaggle: bool = False,
    adding: Callable[[pa.Table], pa.Table] | None = None,
    field: str | float | None = None,
    enlarge: bool = False,
    overwrite: bool = False,
    device: str = "",
    progress: Progress = silent,
) -> Predicted:
    """Predict images (as in `predictions`) into a catalogue; an interrupted prediction goes on.

    `run` is a run folder or a .safetensors file; with `others` their mean is predicted, and with `views` the
    mean over so many views of each galaxy. The format follows the suffix of `out` (.parquet,
    .csv, .fits, .vot); `kaggle` names the columns as Kaggle's submissions do (GalaxyID, Class1.1 …).
    `adding` is given the catalogue, a piece at a time, and returns it with more columns. Of images with one
    id the first is kept. Images that cannot be read are listed in `<out>.rejects.csv`. Raises BusyError while
    another process writes `out`, CatalogueError where it is there and not from such a call, unless
    `overwrite`; RunError, ImageError, DiskError.
    """
    check_format(out)
    if kaggle and adding:
        raise CatalogueError("Kaggle's submissions have no columns for intervals: ask for one or the other")
    members = [load_weights(place) for place in (run, *others)]
    predictor = Predictor(*members, device=device, views=views, field=field, enlarge=enlarge)
    tree, remarks = members[0].tree, list[str]()

    def finished(table: pa.Table) -> pa.Table:
        table = signed(table, members, [run, *others], views)
        table = with_metadata(table, {"sources": _origin(images), **scale_of(predictor, remarks)})
        if kaggle:
            return kaggle_names(table, tree)
        return adding(table) if adding else table

    how = [
        *(member.digest for member in members),
        str(views),
        VIEWING,
        str(predictor.field),
        *_digest(images),
    ]
    with alone_with(out, how) as parts:
        if not overwrite:
            check_replaceable(out, finished(_without_galaxies(tree)))
        if data := data_folder(images):
            ids = DataFolder(data).catalogue(only=[])
            values = predict_rows(predictor, data, np.arange(len(ids)), "predicting", progress)
            remarks += predictor.remarks(DataFolder(data).image_sides())
            table = finished(with_fractions(ids, values, tree))
            return write_predicted(iter([table]), Predicted(out, len(ids), [], remarks))
        rejects = _predict_what_is_left(predictor, images, parts, progress)
        whole = parts.whole()
        if not len(whole):
            raise _none_readable(images, rejects)
        remarks += predictor.remarks(whole.sides())
        made = Predicted(out, len(whole), rejects + whole.repeated, remarks)
        return write_predicted(map(finished, whole.tables(tree)), made)


def _predict_what_is_left(
    predictor: Predictor, images: Images, parts: Parts, progress: Progress
) -> list[Reject]:
    """Predict what is not among the parts yet, a batch after the other; return what cannot be."""
    rejects = []
    for opened in _opened(images):
        with opened as source:
            part = parts.of(source, predictor.width)
            for batch in _of_source(predictor, source, left=part.left(), progress=progress):
                if batch.names:
                    part.add(batch.names, batch.fractions, batch.sides)
                rejects += batch.rejects
            rejects += _defects(source)
    return rejects


def _without_galaxies(tree: DecisionTree) -> pa.Table:
    values = np.empty((0, len(tree.columns)), np.float32)
    return with_fractions(pa.table({ID: pa.array([], pa.string())}), values, tree)


def _origin(images: Images) -> str:
    """Return the paths of images; their digest where they are many, or in memory."""
    paths = " ".join(map(str, _places(images))) or "".join(_digest(images))
    return (
        paths
        if len(paths) <= LONGEST_ORIGIN
        else hashlib.sha256(paths.encode("utf-8", "backslashreplace")).hexdigest()
    )


def _digest(images: Images) -> list[str]:
    """Return the SHA-256 of images in memory; nothing of files, which their names and times tell apart."""
    if isinstance(images, bytes | np.ndarray):
        content = images if isinstance(images, bytes) else np.ascontiguousarray(images).data
        return [hashlib.sha256(content).hexdigest()]
    return []


def _none_readable(images: Images, rejects: Sequence[Reject]) -> ImageError:
    source = next(map(str, _places(images)), "images in memory")
    return ImageError(
        f"{source}: none of its {len(rejects)} images could be read; the first: {rejects[0][1]}"
    )


def scale_of(predictor: Predictor, remarks: Sequence[str]) -> dict[str, str]:
    """Return what a catalogue's metadata say of the scale of its images."""
    field = {"field": "" if predictor.field is None else str(predictor.field)}
    return {**field, "scale": " ".join(remarks)} if remarks else field


def signed(table: pa.Table, members: Sequence[Weights], places: Sequence[Place], views: int) -> pa.Table:
    """Return a catalogue with metadata that say which networks predicted it, and how."""
    weights = members[0]
    return with_metadata(
        table,
        {
            "run": " ".join(str(place) for place in places),
            "weights": " ".join(member.digest for member in members),
            "recipe": weights.recipe.name,
            "tree": weights.tree.name,
            "views": str(views),
            "viewing": VIEWING,
            "quantity": "joint_fraction",
            "version": __version__,
        },
    )


def kaggle_names(table: pa.Table, tree: DecisionTree) -> pa.Table:
    """Return a catalogue of ids and fractions under the names of Kaggle's submissions."""
    renamed = table.rename_columns(["GalaxyID", *tree.source_columns])
    return renamed.replace_schema_metadata(table.schema.metadata)
