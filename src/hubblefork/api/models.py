"""Networks: load, predict, classify, train, tune, fine-tune, export."""

from __future__ import annotations

import platform
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from importlib import metadata
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from hubblefork import __version__
from hubblefork.api.judging import adding_bounds, intervals_of
from hubblefork.api.results import Galaxy, GalaxyTable, galaxy_table
from hubblefork.data.catalogue import (
    id_column,
    read_catalogue,
    with_fractions,
    with_metadata,
)
from hubblefork.data.folders import PACKAGES, RunFolder
from hubblefork.data.split import Split
from hubblefork.errors import ImageError, RunError
from hubblefork.io import Progress, bytes_of, digest_of, seconds, silent
from hubblefork.network.device import Hardware, best_precision, device_of
from hubblefork.network.export import export as write_onnx
from hubblefork.network.export import is_exported
from hubblefork.network.finetuning import SALT
from hubblefork.network.finetuning import finetune as finetune_run
from hubblefork.network.parts import Predicted, alone_with
from hubblefork.network.predict import (
    Images,
    Place,
    predictions,
    scale_of,
    signed,
)
from hubblefork.network.predict import predict as predict_files
from hubblefork.network.predictor import Predictor
from hubblefork.network.recipe import Recipe, load_recipe, load_space
from hubblefork.network.training import is_first
from hubblefork.network.training import train as train_run
from hubblefork.network.tuning import TuningResult
from hubblefork.network.tuning import tune as search
from hubblefork.network.weights import Weights, load_weights, merge, weights_file
from hubblefork.zoo import DecisionTree, load_tree

VIEWS = 16
COVERAGE = 0.9


@dataclass(frozen=True)
class Model:
    """A trained network: `place` is "fork", a run folder or a .safetensors file."""

    place: Path

    @cached_property
    def weights(self) -> Weights:
        """The network with its recipe and tree. Raises RunError."""
        return load_weights(self.place)

    @property
    def recipe(self) -> Recipe:
        """The recipe that the network was trained by."""
        return self.weights.recipe

    @property
    def tree(self) -> DecisionTree:
        """The questions that it answers."""
        return self.weights.tree

    def __fspath__(self) -> str:
        return str(self.place)


@lru_cache(maxsize=4)
def _loaded(place: Path, digest: str) -> Model:
    """Return a network that is read once, as long as the file of its weights has this digest."""
    return Model(place)


def load(model: Model | Place = "fork") -> Model:
    """Return a trained network. Raises RunError where there are no weights.

    `model` is "fork" (the weights in the package), a run folder or a .safetensors file.

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
    views: int = 1,
    interval: float | None = None,
    out: Place | None = None,
    others: Sequence[Place] = (),
    field: str | float | None = None,
    enlarge: bool = False,
    overwrite: bool = False,
    device: str = "",
    progress: Progress = silent,
) -> GalaxyTable:
    """Predict the joint vote fractions of images: a table of one row a galaxy, fractions from 0 to 1.

    `images` is an image file, a list of them, a folder, an archive, a data folder, or an array uint8
    (galaxy, y, x, 3). `views` is the number of rotations and reflections that are averaged; `interval` is the
    coverage of conformal intervals (0.68, 0.9, 0.95). `field` is how much sky an image shows, in units of a
    training image (1 as much, 0.5 half as much), None where its pixels show as much as those of a training
    image; `enlarge` allows images with fewer pixels than the network sees.

    With `out` the catalogue is written to that file as the images stream past, an interrupted call goes on,
    and the written catalogue is returned. A file of other images, networks or settings is only replaced with
    `overwrite`. The table's `remark` says what is to be known of the images' scale. Raises RunError,
    ImageError, BusyError, CatalogueError, DiskError.

    >>> cutouts = np.random.default_rng(0).integers(0, 256, (2, 424, 424, 3), np.uint8)
    >>> hf.predict("fork", cutouts).colnames[:2]
    ['galaxy_id', 'smooth']
    """
    model = load(model)
    if out is not None:
        made = write_predictions(
            model,
            _paths(images),
            Path(out),
            views=views,
            interval=interval,
            others=others,
            field=field,
            enlarge=enlarge,
            overwrite=overwrite,
            device=device,
            progress=progress,
        )
        table = galaxy_table(read_catalogue(made.path), model.tree)
        table.rejects, table.remark = made.rejects, "\n".join(made.remarks)
        return table
    members, add = [model, *map(load, others)], _bounds(model, interval, views, others)
    weights = [member.weights for member in members]
    predictor = Predictor(*weights, device=device, views=views, field=field, enlarge=enlarge)
    batches = list(predictions(predictor, images, progress=progress))
    ids = [galaxy for batch in batches for galaxy in batch.ids]
    values = [np.empty((0, predictor.width), np.float32), *(batch.fractions for batch in batches)]
    catalogue = with_fractions(pa.table({"galaxy_id": id_column(ids)}), np.concatenate(values), model.tree)
    catalogue = signed(catalogue, weights, [member.place for member in members], views)
    remarks = predictor.remarks(np.concatenate([np.empty(0, np.int32), *(batch.sides for batch in batches)]))
    catalogue = with_metadata(catalogue, scale_of(predictor, remarks))
    table = galaxy_table(add(catalogue) if add else catalogue, model.tree)
    table.rejects = [reject for batch in batches for reject in batch.rejects]
    table.remark = "\n".join(remarks)
    return table


def _bounds(
    model: Model, interval: float | None, views: int, others: Sequence[Place]
) -> Callable[[pa.Table], pa.Table] | None:
    if interval is None:
        return None
    return adding_bounds(model.place, interval, views=views, others=[Path(other) for other in others])


def _paths(images: Images) -> list[Path]:
    if isinstance(images, np.ndarray | bytes):
        raise ImageError("an array of images is predicted in memory, without a catalogue to write (out)")
    return [Path(images)] if isinstance(images, str | PathLike) else [Path(image) for image in images]


def write_predictions(
    model: Model | Place,
    sources: Sequence[Path],
    out: Path,
    *,
    views: int = 1,
    interval: float | None = None,
    others: Sequence[Place] = (),
    kaggle: bool = False,
    field: str | float | None = None,
    enlarge: bool = False,
    overwrite: bool = False,
    device: str = "",
    progress: Progress = silent,
) -> Predicted:
    """Predict archives and folders, or one data folder, into a catalogue file, as `predict` does with `out`.

    `kaggle` writes the columns of Kaggle's submissions (GalaxyID, Class1.1 …), without intervals.
    """
    model = load(model)
    return predict_files(
        Path(model.place),
        sources,
        out,
        others=[Path(other) for other in others],
        views=views,
        kaggle=kaggle,
        field=field,
        enlarge=enlarge,
        overwrite=overwrite,
        adding=_bounds(model, interval, views, others),
        device=device,
        progress=progress,
    )


def classify(
    image: Place | bytes | NDArray[np.uint8],
    model: Model | Place = "fork",
    *,
    views: int = VIEWS,
    field: str | float | None = None,
    enlarge: bool = False,
    device: str = "",
) -> Galaxy:
    """Return the vote fractions of the galaxy in one image: a file, bytes, or an array uint8 (y, x, 3).

    `print` draws its tree, with 90% intervals where the weights have them. Raises ImageError, RunError.

    >>> cutout = np.random.default_rng(0).integers(0, 256, (424, 424, 3), np.uint8)
    >>> 0 < hf.classify(cutout, views=1)["merger"] < 1
    True
    """
    images = image[None] if isinstance(image, np.ndarray) else image
    table = classify_all(images, model, views=views, field=field, enlarge=enlarge, device=device)
    if not len(table):
        raise ImageError(table.rejects[0][1])
    return next(table.galaxies())


def classify_all(
    images: Images,
    model: Model | Place = "fork",
    *,
    views: int = VIEWS,
    field: str | float | None = None,
    enlarge: bool = False,
    device: str = "",
    progress: Progress = silent,
) -> GalaxyTable:
    """Predict images with 90% intervals; without them where there are none, which `remark` says.

    Raises ImageError, RunError.
    """
    model, remark = load(model), ""
    interval: float | None = COVERAGE
    try:
        intervals_of(Path(model.place), views=views)
    except RunError as error:
        interval, remark = None, f"no intervals: {error}"
    table = predict(
        model,
        images,
        views=views,
        interval=interval,
        field=field,
        enlarge=enlarge,
        device=device,
        progress=progress,
    )
    table.remark = "\n".join(filter(None, (remark, table.remark)))
    return table


def recipe_of(recipe: Recipe | str, settings: Sequence[str] = (), **fields: Any) -> Recipe:
    """Return a recipe by name, `encoder:NAME` or .toml file, with settings applied. Raises RecipeError."""
    chosen = load_recipe(recipe, settings) if isinstance(recipe, str) else recipe
    return replace(chosen, **fields)


def hardware(device: str, memory: str = "", devices: int = 1, nodes: int = 1) -> Hardware:
    """Return the hardware that the options name. Raises RecipeError for an amount that is none."""
    return Hardware(device, devices, nodes, bytes_of(memory) if memory else None)


def train(
    data: Place,
    recipe: Recipe | str = "fork",
    out: Place = "runs/fork",
    *,
    settings: Sequence[str] = (),
    weights: Place | None = None,
    memory: str = "",
    device: str = "",
    devices: int = 1,
    nodes: int = 1,
    progress: Progress = silent,
    **fields: Any,
) -> RunFolder:
    """Train a recipe on a data folder and return the run. Called again, it goes on where it stopped.

    Keywords such as `epochs=5` change fields of the recipe, as `settings` ("epochs=5") do. `weights` is a
    file to start the encoder from. Raises RecipeError, RunError, CatalogueError, DiskError.
    """
    chosen = recipe_of(recipe, settings, **fields)
    devices_used = hardware(device, memory, devices, nodes)
    shown = progress if is_first() else silent
    start = None if weights is None else Path(weights)
    train_run(Path(data), chosen, Path(out), weights=start, hardware=devices_used, progress=shown)
    return RunFolder(out)


def tune(
    data: Place,
    recipe: Recipe | str,
    out: Place = "tuning",
    *,
    trials: int = 20,
    budget: str = "",
    storage: str = "",
    name: str = "",
    space: Path | None = None,
    settings: Sequence[str] = (),
    weights: Place | None = None,
    memory: str = "",
    device: str = "",
    progress: Progress = silent,
    **fields: Any,
) -> TuningResult:
    """Search better settings of a recipe with Optuna: `.best` is the best trial. See `network.tuning.tune`.

    `budget` is how long this worker takes trials ("2h"). Raises ExtraMissing without Optuna, RunError.
    """
    chosen = recipe_of(recipe, settings, **fields)
    return search(
        Path(data),
        chosen,
        Path(out),
        space=load_space(chosen, space),
        trials=trials,
        seconds=seconds(budget) if budget else None,
        storage=storage,
        name=name,
        weights=None if weights is None else Path(weights),
        hardware=hardware(device, memory),
        progress=progress,
    )


def finetune(
    model: Model | Place,
    cutouts: Place,
    labels: Place,
    out: Place,
    *,
    tree: str = "",
    columns: Sequence[str] = (),
    missing: Collection[float] = (),
    settings: Sequence[str] = (),
    test: int = 20,
    validation: int = 20,
    device: str = "",
    progress: Progress = silent,
) -> RunFolder:
    """Teach a network labels of your own and return the run. Called again, it goes on where it stopped.

    `labels` is a table with `galaxy_id` and numbers from 0 to 1: the answers of `tree`, or plain `columns`
    (default: all). The numbers `missing` (-99) stand for missing values. `test` and `validation` are per cent
    of the labelled galaxies. Raises RunError, CatalogueError, ImageError, RecipeError.
    """
    finetune_run(
        Path(load(model).place),
        Path(cutouts),
        Path(labels),
        Path(out),
        tree=load_tree(tree) if tree else None,
        columns=columns,
        missing=missing,
        settings=settings,
        split=Split(SALT, test, validation),
        hardware=hardware(device),
        progress=progress,
    )
    return RunFolder(out)


def export(
    model: Model | Place,
    out: Place,
    *,
    side: int = 424,
    field: str | float | None = None,
    enlarge: bool = False,
    half: bool = False,
    overwrite: bool = False,
) -> float | None:
    """Write a network as one file, by its suffix: .onnx or .safetensors.

    ONNX takes cutouts uint8 (galaxy, side, side, 3) that show so much sky (`field`, `enlarge`: see
    `predict`); returned is its largest difference from PyTorch. A .safetensors file has its adapters merged;
    `half` halves its bytes. A file that is there is replaced if it is such an ONNX file, or with `overwrite`.
    Raises RunError, ExtraMissing, BusyError, DiskError.
    """
    place, path = Path(load(model).place), Path(out)
    if path.suffix not in (".onnx", ".safetensors"):
        raise RunError(f'{path}: a network is written as .onnx or .safetensors, not "{path.suffix}"')
    with alone_with(path):
        if path.exists() and not overwrite and not (path.suffix == ".onnx" and is_exported(path)):
            raise RunError(
                f"{path}: this file is there, and no ONNX file of hubblefork; choose another name, or "
                "replace it with --overwrite"
            )
        if path.suffix == ".onnx":
            return write_onnx(place, path, side=side, field=field, enlarge=enlarge)
        merge(place, path, half=half)
        return None


def versions() -> dict[str, str]:
    """Return versions, device, precision and threads."""
    device = device_of()
    packages = {package: metadata.version(package) for package in PACKAGES}
    hardware = {"device": device, "precision": best_precision(device), "threads": torch.get_num_threads()}
    entries = {"hubblefork": __version__, "python": platform.python_version(), **packages, **hardware}
    return {name: str(value) for name, value in entries.items()}
