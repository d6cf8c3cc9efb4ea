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
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv
import torch
from numpy.typing import NDArray
from torch import Tensor

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
    metadata_of,
    read_head,
    with_fractions,
    with_metadata,
    write_catalogue,
    write_pieces,
)
from hubblefork.data.field import Field, parse_field, scale_remarks
from hubblefork.data.folders import VIEWING, DataFolder, RunFolder
from hubblefork.data.images import check_not_blank, each, shorter_side, stamp
from hubblefork.data.inputs import rejects_file
from hubblefork.data.stamps import prepare
from hubblefork.errors import CatalogueError, ImageError, RunError
from hubblefork.io import Progress, replacing, silent
from hubblefork.network.augment import even_views
from hubblefork.network.device import autocast, device_of, keep_freed_memory, precision_of
from hubblefork.network.model import VoteFractions
from hubblefork.network.parts import Parts, alone_with, repeated_id
from hubblefork.network.postprocess import folded
from hubblefork.network.recipe import Recipe
from hubblefork.network.weights import Weights, load_weights
from hubblefork.zoo import DecisionTree

BATCH = 256
LONGEST_ORIGIN = 1000
REJECTS_HEADER = b'"member","reason"'

Place = str | PathLike[str]
Images = Place | Sequence[Place] | bytes | NDArray[np.uint8]
Reject = tuple[str, str]


class Predictor:
    """Trained networks on a device: stamps uint8 (galaxy, y, x, band) to joint fractions (galaxy, answer).

    The fractions are the mean over all networks and over `views` of each galaxy: rotations around the
    circle, every other one mirrored. A network that was trained on turned galaxies only is shown them turned.
    `field` is how much sky an image shows, in units of a training image (see `data.field`), None where its
    pixels are as large as those of a training image; `enlarge` allows images with fewer pixels than a stamp.
    Raises RunError for networks that need other stamps or answer another tree than the first, for a number
    of views that is neither 1 nor even, and for a field where the size of the training images is not known;
    ImageError for a field that is none.
    """

    def __init__(
        self,
        *members: Weights,
        device: str = "",
        views: int = 1,
        field: str | float | None = None,
        enlarge: bool = False,
    ) -> None:
        keep_freed_memory()
        check_views(views)
        _check_members(members)
        self.image_side, self.field = members[0].image_side, field_of(members[0], field, enlarge)
        self.device = device_of(device)
        self.views, self.tree, self.stamps = views, members[0].tree, members[0].recipe.stamps
        self.members = [(self._prepared(member), member.recipe) for member in members]

    def remarks(self, sides: NDArray[np.int32]) -> list[str]:
        """Say of images, by their shorter sides in pixels, which were seen at another scale."""
        return scale_remarks(sides, self.image_side, self.stamps.crop, self.stamps.size, self.field)

    @property
    def width(self) -> int:
        """How many numbers a galaxy gets."""
        return len(self.tree.columns)

    @torch.inference_mode()
    def __call__(self, stamps: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the joint fractions (galaxy, answer) of one batch of stamps."""
        pixels = torch.from_numpy(np.ascontiguousarray(stamps)).to(self.device)
        values = [self._mean_over_views(network, recipe, pixels) for network, recipe in self.members]
        return torch.stack(values).mean(dim=0).cpu().numpy()

    def _prepared(self, member: Weights) -> VoteFractions:
        return folded(member.network.to(self.device).eval(), member.recipe.input_size)

    def _mean_over_views(self, network: VoteFractions, recipe: Recipe, pixels: Tensor) -> Tensor:
        with autocast(self.device, precision_of(recipe.precision, self.device).name):
            views = even_views(pixels, recipe.input_size, self.views, recipe.augmentation)
            return torch.stack([self._values(network, view) for view in views]).mean(dim=0)

    def _values(self, network: VoteFractions, view: Tensor) -> Tensor:
        return network(view)


class FeaturePredictor(Predictor):
    """A predictor of the inputs of a network's last layer: (galaxy, feature)."""

    @property
    def width(self) -> int:
        """How many features a galaxy has."""
        last = self.members[0][0].features[-1]
        assert isinstance(last, torch.nn.Linear)
        return last.in_features

    def _values(self, network: VoteFractions, view: Tensor) -> Tensor:
        return network.features[:-1](view).float()


def field_of(weights: Weights, field: str | float | None, enlarge: bool = False) -> Field | None:
    """Return the field of images that a network is shown. Raises RunError, ImageError."""
    if field is None:
        if enlarge:
            raise ImageError("enlarging needs to know how much sky an image shows: give --field too")
        return None
    share = parse_field(field)
    if not weights.image_side:
        raise RunError(
            f"--field {field}: the weights of {weights.recipe.name} do not say how large the training images "
            "were, or these differed; train again with images of one size, or resample yours to the pixel "
            "scale of training and leave --field out"
        )
    return Field(share, weights.image_side, enlarge)


def check_views(views: int) -> None:
    """Raise RunError for a number of views that is neither 1 nor even."""
    if views < 1 or (views > 1 and views % 2):
        raise RunError(f"views = {views}: 1, or an even number (half of them are mirrored), such as 16")


def _check_members(members: Sequence[Weights]) -> None:
    first = members[0]
    for member in members[1:]:
        if member.recipe.stamps != first.recipe.stamps or member.tree != first.tree:
            raise RunError(
                f"networks that predict together must see the same stamps and answer the same tree: "
                f"{member.recipe.name} has {member.recipe.stamps} and {member.tree.name}, "
                f"{first.recipe.name} {first.recipe.stamps} and {first.tree.name}"
            )


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
    stamps = each(source, partial(_seen, predictor), names=left)
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


Seen = tuple[NDArray[np.uint8], int]


def _seen(predictor: Predictor, data: ImageData) -> Seen:
    """Return the stamp of an image and its shorter side in pixels. Raises ImageFault."""
    pixels = stamp(data, predictor.stamps, predictor.field)
    check_not_blank(pixels)
    return pixels, shorter_side(data)


def _batches(predictor: Predictor, images: Iterable[tuple[str, Seen | ImageError]]) -> Iterator[Batch]:
    """Predict named images, `BATCH` of them at once; no stamp is kept while the next are made."""
    images = iter(images)
    while (batch := _batch(predictor, islice(images, BATCH))).names or batch.rejects:
        yield batch


def _batch(predictor: Predictor, images: Iterable[tuple[str, Seen | ImageError]]) -> Batch:
    names, pixels, sides, rejects = [], [], [], []
    for name, seen in images:
        if isinstance(seen, ImageError):
            rejects.append((name, str(seen)))
        else:
            names.append(name)
            pixels.append(seen[0])
            sides.append(seen[1])
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


@dataclass(frozen=True)
class Predicted:
    """A written catalogue: where it is, its number of galaxies, name and reason of unreadable images.

    `remarks` say what is to be known of the others.
    """

    path: Path
    galaxies: int
    rejects: list[Reject] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


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
            _check_replaceable(out, finished(_without_galaxies(tree)))
        if data := data_folder(images):
            ids = DataFolder(data).catalogue(only=[])
            values = predict_rows(predictor, data, np.arange(len(ids)), "predicting", progress)
            remarks += predictor.remarks(DataFolder(data).image_sides())
            table = finished(with_fractions(ids, values, tree))
            return _written(iter([table]), Predicted(out, len(ids), [], remarks))
        rejects = _predict_what_is_left(predictor, images, parts, progress)
        whole = parts.whole()
        if not len(whole):
            raise _none_readable(images, rejects)
        remarks += predictor.remarks(whole.sides())
        made = Predicted(out, len(whole), rejects + whole.repeated, remarks)
        return _written(map(finished, whole.tables(tree)), made)


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


def _check_replaceable(out: Path, expected: pa.Table) -> None:
    """Raise CatalogueError where a catalogue or its rejects would replace a file that is not of such a call.

    A catalogue of the same call has the columns and, but for the version, the metadata of `expected`.
    """
    remedy = "choose another name, or replace it with --overwrite (overwrite=True)"
    if out.exists():
        try:
            written = read_head(out)
        except CatalogueError as error:
            raise CatalogueError(
                f"{out}: this file is there and no catalogue of predictions; {remedy}"
            ) from error
        ours, theirs = ({**metadata_of(table), "version": ""} for table in (expected, written))
        columns = written.column_names[1:] == expected.column_names[1:]
        if not columns or any(theirs.get(key, "") != ours[key] for key in ours):
            raise CatalogueError(
                f"{out}: this file is there, and not known to be from the same images, network and settings; "
                f"{remedy}"
            )
    path = rejects_file(out)
    if path.exists() and not path.read_bytes().startswith(REJECTS_HEADER):
        raise CatalogueError(f"{path}: this file is there and not of hubblefork; {remedy}")


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


def _written(tables: Iterator[pa.Table], made: Predicted) -> Predicted:
    write_pieces(tables, made.path)
    write_rejects(made.path, made.rejects)
    return made


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


def write_rejects(out: Path, rejects: Sequence[Reject]) -> None:
    """Write name and reason of what was left out of a catalogue. Raises DiskError."""
    path = rejects_file(out)
    if rejects:
        members, reasons = zip(*rejects, strict=True)
        with replacing(path) as temporary:
            pa.csv.write_csv(pa.table({"member": list(members), "reason": list(reasons)}), temporary)
    else:
        path.unlink(missing_ok=True)
