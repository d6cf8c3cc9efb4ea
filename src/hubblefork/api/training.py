"""Train, tune, fine-tune and cross-validate networks; export them."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from hubblefork.api.judging import evaluate
from hubblefork.api.predictions import Model, load
from hubblefork.data.folders import RunFolder
from hubblefork.data.labels import tree_of_classes, tree_of_number
from hubblefork.data.split import Fold, Split, read_split
from hubblefork.errors import RecipeError, RunError
from hubblefork.images.cutouts import Reading
from hubblefork.io import Progress, bytes_of, seconds, silent, write_text
from hubblefork.network.architectures import ENCODER
from hubblefork.network.device import Hardware
from hubblefork.network.export import export as write_onnx
from hubblefork.network.export import is_exported, write_network
from hubblefork.network.finetuning import SALT
from hubblefork.network.finetuning import finetune as finetune_run
from hubblefork.network.recipe import Recipe, load_recipe
from hubblefork.network.space import load_space
from hubblefork.network.training import is_first
from hubblefork.network.training import train as train_run
from hubblefork.network.tuning import TuningResult
from hubblefork.network.tuning import tune as search
from hubblefork.network.weights import merge
from hubblefork.prediction.loop import Place
from hubblefork.prediction.output import alone_with
from hubblefork.prediction.runtimes import why_not_onnx
from hubblefork.stats.metrics import rmse
from hubblefork.tables.catalogue import (
    fractions,
    labelled,
    matched,
    read_catalogue,
    with_metadata,
    write_catalogue,
)
from hubblefork.zoo import load_tree, read_tree

FOLDS = "folds"
"""The salt of cross validation."""


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
    return _with_network(RunFolder(out))


def _with_network(run: RunFolder) -> RunFolder:
    """Return a run whose network is also there as ONNX, or whose remarks say why it is not."""
    if is_first() and why_not_onnx(run.path):
        try:
            write_network(run.path)
        except RunError as error:
            run.add_remarks([f"predicted by PyTorch only: {error}"])
    return run


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
    classes: str = "",
    number: str = "",
    unit: str = "",
    missing: Collection[float] = (),
    layout: str = "",
    survey: str | Reading = "",
    settings: Sequence[str] = (),
    test: int = 20,
    validation: int = 20,
    device: str = "",
    progress: Progress = silent,
) -> RunFolder:
    """Teach a network labels of your own and return the run. Called again, it goes on where it stopped.

    `model` may also be `encoder:NAME` of timm or the hub, which starts from its published weights.
    `labels` is a table with `galaxy_id` and numbers from 0 to 1: the answers of `tree`, or plain `columns`
    (default: all); or with a column of `classes`, or one that holds a `number` with this `unit`. The numbers
    `missing` (-99) stand for missing values; `layout` ("counts:dr8") says which of several layouts of the
    table is read. `survey` names the survey of FITS cutouts, or is an
    `images.cutouts.Reading`. `test` and `validation` are per cent of the labelled galaxies. Raises RunError,
    CatalogueError, ImageError, RecipeError.
    """
    if sum(map(bool, (tree, columns, classes, number))) > 1:
        raise RecipeError("a tree, columns, classes and a number are four kinds of labels: give one of them")
    if unit and not number:
        raise RecipeError(f'the unit "{unit}" is that of a number: give both')
    columns, settings = ([each] if isinstance(each, str) else each for each in (columns, settings))
    own = load_tree(tree) if tree else None
    if classes:
        own = tree_of_classes(Path(labels), classes, missing=missing)
    elif number:
        own = tree_of_number(Path(labels), number, unit, missing=missing)
    encoder = isinstance(model, str | PathLike) and str(model).startswith(ENCODER)
    finetune_run(
        str(model) if encoder else Path(load(model).place),
        Path(cutouts),
        Path(labels),
        Path(out),
        tree=own,
        columns=columns,
        missing=missing,
        layout=layout,
        reading=Reading.of(survey),
        settings=settings,
        split=Split(SALT, test, validation),
        hardware=hardware(device),
        progress=progress,
    )
    return _with_network(RunFolder(out))


def export(
    model: Model | Place,
    out: Place | None = None,
    *,
    side: int = 424,
    field: str | float | None = None,
    enlarge: bool = False,
    half: bool = False,
    overwrite: bool = False,
) -> float | None:
    """Write a network as one file, by its suffix: .onnx or .safetensors.

    Without `out` the ONNX file is written that lies beside the weights and lets them predict without PyTorch.
    ONNX takes cutouts uint8 (galaxy, side, side, 3) that show so much sky (`field`, `enlarge`: see
    `predict`); returned is its largest difference from PyTorch. A .safetensors file has its adapters merged;
    `half` halves its bytes. A file that is there is replaced if it is such an ONNX file, or with `overwrite`.
    Raises RunError, ExtraMissing, BusyError, DiskError.
    """
    place = Path(load(model).place)
    if out is None:
        write_network(place)
        return None
    path = Path(out)
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


def crossval(
    data: Path,
    recipe: Recipe,
    out: Path,
    *,
    folds: int = 5,
    salt: str = FOLDS,
    weights: Path | None = None,
    hardware: Hardware | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train a recipe once for each fold and judge it on that fold; return what `crossval.json` holds.

    Which fold a galaxy is in is a hash of its id with `salt`. The data folder's own test galaxies are left
    out altogether, galaxies that are not on its `judge_on` list only train, and its validation galaxies,
    but for those of the fold, choose the weights. Each fold is a run folder `fold-<k>`; called again it
    goes on where it stopped. Writes `out_of_fold.parquet`, the labelled galaxies of all folds with the fold
    each is in. Raises as `train` does, RunError for fewer than 2 folds and for a folder of other folds.
    """
    if folds < 2:
        raise RunError(f"{folds} folds: cross validation needs at least 2")
    split = read_split(data)
    parts = [replace(split, fold=Fold(salt, folds, number)) for number in range(folds)]
    _check_same_folds(out, folds)
    for number, part in enumerate(parts):
        run = out / f"fold-{number}"
        train_run(data, recipe, run, weights=weights, hardware=hardware, split=part, progress=progress)
        if not RunFolder(run).is_evaluated():
            evaluate(run, device=hardware.device if hardware else "", progress=progress)
    judged = [out / f"fold-{number}" for number in range(folds)]
    table = _out_of_fold(data, judged)
    write_catalogue(with_metadata(table, {"recipe": recipe.name, "salt": salt}), out / "out_of_fold.parquet")
    found = {"recipe": recipe.name, "folds": folds, "salt": salt, **_summary(judged, table, data)}
    write_text(out / "crossval.json", json.dumps(found, indent=2, allow_nan=False) + "\n")
    return found


def _check_same_folds(out: Path, folds: int) -> None:
    others = [path for path in out.glob("fold-*") if int(path.name.removeprefix("fold-")) >= folds]
    if others:
        raise RunError(
            f"{out} holds {len(others)} folds more than --folds {folds}; "
            "choose another --out, or remove the folder"
        )


def _out_of_fold(data: Path, judged: Sequence[Path]) -> pa.Table:
    """Return the predictions of the labelled galaxies, each by the run that did not see it."""
    tables = []
    for number, run in enumerate(judged):
        table = read_catalogue(run / "predictions" / "test.parquet").replace_schema_metadata(None)
        tables.append(table.append_column("fold", pa.array(np.full(len(table), number, np.int32))))
    catalogue = read_catalogue(data / "catalogue.parquet")
    known = catalogue.filter(labelled(catalogue, read_tree(data)))
    return matched(pa.concat_tables(tables), known)[0]


def _summary(judged: Sequence[Path], table: pa.Table, data: Path) -> dict[str, Any]:
    tree, runs = read_tree(data), [RunFolder(run) for run in judged]
    found, notes = [run.evaluation() for run in runs], [run.notes() for run in runs]
    predicted, volunteers = matched(table, read_catalogue(data / "catalogue.parquet"))
    return {
        "galaxies": len(table),
        "rmse": _spread([one["rmse"]["value"] for one in found]),
        "agreement": _spread([one["agreement"]["value"] for one in found if one["agreement"]]),
        "mean_vote": _spread([one["baselines"]["mean_vote"]["rmse"]["value"] for one in found]),
        "out_of_fold_rmse": rmse(fractions(predicted, tree), fractions(volunteers, tree)),
        "training_galaxies": [one["training_galaxies"] for one in found],
        "judged_galaxies": [one["galaxies"] for one in found],
        "epochs": [one["epochs"] for one in notes],
        "galaxies_per_second": float(np.median([one["galaxies_per_second"] for one in notes])),
    }


def _spread(values: Sequence[float]) -> dict[str, Any]:
    """Return mean and standard deviation (of the sample) of the folds' values, and these."""
    if not values:
        return {}
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": float(np.mean(values)), "sd": spread, "folds": list(values)}
