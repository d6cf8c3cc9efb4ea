"""Load a network, predict images, classify galaxies; PyTorch is imported only for what needs it."""

from __future__ import annotations

import platform
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import metadata
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hubblefork import __version__
from hubblefork.api.galaxy import Galaxy, galaxies_of
from hubblefork.api.intervals import adding_bounds
from hubblefork.data.folders import PACKAGES
from hubblefork.data.trained import weights_file
from hubblefork.errors import CatalogueError, ImageError, RunError
from hubblefork.io import Progress, cores, digest_of, silent
from hubblefork.prediction.loop import (
    Images,
    Place,
    Reject,
    none_readable,
    places_of,
    predictions,
    scale_of,
    signed,
)
from hubblefork.prediction.output import Predicted
from hubblefork.prediction.output import predict as predict_files
from hubblefork.prediction.predictor import Computing, Predictor, Showing
from hubblefork.prediction.runtimes import Network, open_network
from hubblefork.tables.catalogue import (
    id_column,
    read_catalogue,
    with_fractions,
    with_metadata,
    with_positions,
)
from hubblefork.tables.columns import ID
from hubblefork.tables.shards import WHOLE, Share
from hubblefork.zoo import DecisionTree

if TYPE_CHECKING:
    from hubblefork.api.results import GalaxyTable
    from hubblefork.network.recipe import Recipe
    from hubblefork.network.weights import Weights

VIEWS = 16
COVERAGE = 0.9


@dataclass(frozen=True)
class Model:
    """A trained network: `place` is the name of a packaged one, a run folder or a file, of that SHA-256."""

    place: Path
    digest: str = ""

    @cached_property
    def weights(self) -> Weights:
        """The network in PyTorch, with its recipe and tree. Raises RunError."""
        from hubblefork.network.weights import load_weights

        return load_weights(self.place)

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe that the network was trained by."""
        return self.weights.recipe

    @cached_property
    def tree(self) -> DecisionTree:
        """The questions that it answers."""
        return self.network(few=True).trained.tree

    def network(self, device: str = "", runtime: str = "", *, few: bool = False) -> Network:
        """Return the network, ready to compute on a device. Raises RunError, ExtraMissing."""
        return _opened(self, device, runtime, few)

    def __fspath__(self) -> str:
        return str(self.place)


@lru_cache(maxsize=8)
def _opened(model: Model, device: str, runtime: str, few: bool) -> Network:
    return open_network(model.place, device=device, runtime=runtime, few=few)


@lru_cache(maxsize=4)
def _loaded(place: Path, digest: str) -> Model:
    """Return a network that is read once, as long as the file of its weights has this digest."""
    return Model(place, digest)


def load(model: Model | Place = "fork") -> Model:
    """Return a trained network. Raises RunError where there are no weights.

    `model` is "fork" or "fork-fast" (weights in the package), a run folder or a .safetensors file.

    >>> hf.load("fork").tree.name
    'galaxy_zoo_2'
    """
    if isinstance(model, Model):
        return model
    place = Path(model)
    return _loaded(place, digest_of(weights_file(place)))


def predict(
    model: Model | Place,
    images: Images,
    *,
    interval: float | None = None,
    out: Place | None = None,
    others: Place | Sequence[Place] = (),
    overwrite: bool = False,
    progress: Progress = silent,
    **how: Unpack[Computing],
) -> GalaxyTable:
    """Predict the joint vote fractions of images: a table of one row a galaxy, fractions from 0 to 1.

    `images` is an image file, a list of them, a folder, an archive, a data folder, or an array uint8 (galaxy,
    y, x, 3). `interval` is the coverage of conformal intervals (0.68, 0.9, 0.95). How images are shown and on
    what is computed: `views` is the number of rotations and reflections that are averaged; `field` how much
    sky an image shows, in units of a training image (1 as much, 0.5 half as much), None where its pixels show
    as much as those of a training image; `enlarge` allows images with fewer pixels than the network sees;
    `survey` names the survey of the images, or is an `images.cutouts.Reading`; `device` is cpu, cuda or mps.
    `runtime` is "onnxruntime", "openvino" or "torch"; empty takes the fastest with `out`, and what starts
    soonest without.

    With `out` the catalogue is written to that file as the images stream past, an interrupted call goes on,
    and the written catalogue is returned. A file of other images, networks or settings is only replaced with
    `overwrite`. The table's `remark` says what is to be known of the images' scale. Raises RunError,
    ImageError, BusyError, CatalogueError, DiskError.

    >>> cutouts = np.random.default_rng(0).integers(0, 256, (2, 424, 424, 3), np.uint8)
    >>> hf.predict("fork", cutouts).colnames[:2]
    ['galaxy_id', 'smooth']
    """
    model = load(model)
    others = [others] if isinstance(others, str | PathLike) else others
    if out is not None:
        made = write_predictions(
            model,
            _places(images),
            Path(out),
            interval=interval,
            others=others,
            overwrite=overwrite,
            progress=progress,
            **how,
        )
        return _shown(read_catalogue(made.path), model.tree, made.rejects, made.remarks)
    members, add = [model, *map(load, others)], _bounds(model, interval, how.get("views", 1), others)
    predictor = _predictor(members, **how)
    catalogue, rejects, remarks = _in_memory(predictor, members, images, add, progress)
    if not len(catalogue):
        raise none_readable(images, rejects)
    return _shown(catalogue, predictor.tree, rejects, remarks)


def _predictor(
    members: Sequence[Model], device: str = "", runtime: str = "", **how: Unpack[Showing]
) -> Predictor:
    """Return networks that start soon."""
    return Predictor(*(member.network(device, runtime, few=True) for member in members), **how)


def _in_memory(
    predictor: Predictor,
    members: Sequence[Model],
    images: Images,
    add: Callable[[pa.Table], pa.Table] | None,
    progress: Progress,
) -> tuple[pa.Table, list[Reject], list[str]]:
    """Return the catalogue of images, what was left out of it, and what is to be known of their scale."""
    batches = list(predictions(predictor, images, progress=progress))
    ids = [galaxy for batch in batches for galaxy in batch.ids]
    values = [np.empty((0, predictor.width), np.float32), *(batch.fractions for batch in batches)]
    catalogue, targets = pa.table({ID: id_column(ids)}), [each for batch in batches for each in batch.targets]
    if any(target.ra is not None for target in targets):
        catalogue = with_positions(catalogue, targets)
    catalogue = with_fractions(catalogue, np.concatenate(values), predictor.tree)
    catalogue = signed(catalogue, predictor, [member.place for member in members])
    sides = Counter(side for batch in batches for side in batch.sides)
    catalogue, remarks = with_metadata(catalogue, scale_of(predictor, sides)), predictor.remarks(sides)
    rejects = [reject for batch in batches for reject in batch.rejects]
    return (add(catalogue) if add else catalogue), rejects, remarks


def _shown(
    catalogue: pa.Table, tree: DecisionTree, rejects: Sequence[Reject], remarks: Sequence[str]
) -> GalaxyTable:
    from hubblefork.api.results import galaxy_table

    table = galaxy_table(catalogue, tree)
    table.rejects, table.remark = list(rejects), "\n".join(remarks)
    return table


def _bounds(
    model: Model, interval: float | None, views: int, others: Sequence[Place]
) -> Callable[[pa.Table], pa.Table] | None:
    if interval is None:
        return None
    return adding_bounds(
        model.place,
        interval,
        views=views,
        others=[Path(other) for other in others],
        trained=lambda: model.network(few=True).trained,
    )


def _places(images: Images) -> list[Path | str]:
    if isinstance(images, np.ndarray | bytes):
        raise ImageError("an array of images is predicted in memory, without a catalogue to write (out)")
    return places_of(images)


def write_predictions(
    model: Model | Place,
    sources: Sequence[Place],
    out: Path,
    *,
    interval: float | None = None,
    others: Sequence[Place] = (),
    shard: str = "",
    **options: Any,
) -> Predicted:
    """Predict archives and folders, or one data folder, into a catalogue file, as `predict` does with `out`.

    An `out` without a suffix is a folder (docs/catalogue.md), of which `shard` "3/64" writes the third of 64
    shares. The other `options` are those of `prediction.output.predict`.
    """
    model = load(model)
    return predict_files(
        Path(model.place),
        sources,
        out,
        others=[Path(other) for other in others],
        adding=_bounds(model, interval, options.get("views", 1), others),
        share=_share(shard),
        **options,
    )


def _share(text: str) -> Share:
    """Return a share of a catalogue, "3/64": the third of 64; all for no text. Raises CatalogueError."""
    if not text:
        return WHOLE
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
    share = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= share[0] <= share[1]:
        raise CatalogueError(f'a share of "{text}": write 3/64 for the third of 64 shares')
    return share


def classify(
    image: Place | bytes | NDArray[np.uint8],
    model: Model | Place = "fork",
    **how: Unpack[Computing],
) -> Galaxy:
    """Return the vote fractions of the galaxy in one image: a file, bytes, or an array uint8 (y, x, 3).

    `how` is that of `predict`, with 16 views unless others are asked for. `print` draws its tree, with 90%
    intervals where the weights have them. Raises ImageError, RunError.

    >>> cutout = np.random.default_rng(0).integers(0, 256, (424, 424, 3), np.uint8)
    >>> 0 < hf.classify(cutout, views=1)["merger"] < 1
    True
    """
    images = image[None] if isinstance(image, np.ndarray) else image
    classified = classify_all(images, model, **how)
    if not classified.galaxies:
        raise ImageError(classified.rejects[0][1])
    if len(classified.galaxies) > 1:
        raise ImageError(f"{len(classified.galaxies)} galaxies where one is classified: `predict` takes many")
    return classified.galaxies[0]


@dataclass(frozen=True)
class Classified:
    """Classified galaxies, name and reason of what was left out, and what is to be known of their numbers."""

    galaxies: list[Galaxy]
    rejects: list[Reject]
    remarks: list[str]


def classify_all(
    images: Images,
    model: Model | Place = "fork",
    *,
    progress: Progress = silent,
    **how: Unpack[Computing],
) -> Classified:
    """Predict images with 90% intervals; a remark says why where there are none.

    Raises ImageError, RunError.
    """
    model, missing, add = load(model), list[str](), None
    how.setdefault("views", VIEWS)
    try:
        add = _bounds(model, COVERAGE, how["views"], [])
    except RunError as error:
        missing = [f"no intervals: {error}"]
    predictor = _predictor([model], **how)
    catalogue, rejects, remarks = _in_memory(predictor, [model], images, add, progress)
    galaxies = list(galaxies_of(catalogue, predictor.tree, COVERAGE))
    return Classified(galaxies, rejects, [*missing, *remarks])


def versions() -> dict[str, str]:
    """Return versions, the runtime of the package's network, and the device that trains."""
    packages = {package: _version(package) for package in (*PACKAGES, "onnxruntime", "openvino")}
    entries = {"hubblefork": __version__, "python": platform.python_version(), **packages}
    entries |= {"cores": str(cores()), "predicts by": load("fork").network().runtime}
    if find_spec("torch") is None:
        return entries
    from hubblefork.network.device import best_precision, device_of

    device = device_of()
    return {**entries, "device": str(device), "precision": best_precision(device)}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
