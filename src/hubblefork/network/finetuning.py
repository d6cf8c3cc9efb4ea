"""Fine-tuning: train a trained network on a few hundred galaxies with labels of your own.

The network keeps its stamps, its architecture and all layers except the last. A new last layer is fitted to
the features of the galaxies as a regression; then all layers are trained a little, with rotated galaxies
(first the last layer, then all: Kumar et al. 2022, arXiv:2202.10054). The result is a normal run folder,
with its data in `data/` and the weights that it began from in `start.safetensors`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import tomli_w
import torch
from torch import Tensor, nn

from hubblefork.data.folders import DataFolder, RunFolder
from hubblefork.data.ingest import ingest
from hubblefork.data.labels import FEWEST, check_labels, tree_of_columns
from hubblefork.data.split import TRAIN, VALIDATION, Split, write_split
from hubblefork.data.stamps import prepare
from hubblefork.errors import CatalogueError, RecipeError, RunError
from hubblefork.images.cutouts import Reading
from hubblefork.images.sources import check_apart, find_inputs, image_names
from hubblefork.io import Progress, alone_in, read_toml, silent, write_text
from hubblefork.network.architectures import ENCODER
from hubblefork.network.architectures.encoder import fetch_encoder
from hubblefork.network.augment import still_views
from hubblefork.network.batches import check_parts, labelled_rows
from hubblefork.network.device import Hardware
from hubblefork.network.heads import build_head, masked_rmse
from hubblefork.network.model import VoteFractions
from hubblefork.network.recipe import Recipe, load_recipe, override
from hubblefork.network.stages import frozen_by
from hubblefork.network.training import train
from hubblefork.network.weights import (
    RANDOM,
    Weights,
    copy_layers,
    load_start,
    load_weights,
    save_weights,
)
from hubblefork.tables.catalogue import fractions
from hubblefork.tables.formats import names_of
from hubblefork.tables.layouts import tree_of
from hubblefork.zoo import DecisionTree, plain_columns

START, ORIGIN = "start.safetensors", "finetune.toml"
SALT = "finetune"
SETTINGS = (  # for a training from learned weights with a few hundred galaxies
    *("pretrained=", "rotation=180", "rotation_probability=1", "flip=0.5", "batch_size=32", "epochs=60"),
    *("steps_per_epoch=0", "max_minutes=0", "monitor=validation_rmse", "patience=15", "min_delta=0"),
    *("optimiser=adamw", "learning_rate=2e-5", "weight_decay=0", "schedule=cosine", "warmup_epochs=0"),
    *("ema_decay=0", "compile=false", "unfreeze=all", "frozen_epochs=0", "layer_decay=1"),
    "freeze_batch_norm=true",
)
FROM_ENCODER = ("hidden_layers=0", "stamp_size=192", "input_size=128", "learning_rate=1e-4")
UNTAUGHT = replace(plain_columns(["nothing"]), name="nothing yet")
PENALTY, ITERATIONS, LEAST = 10 / 64, 300, 1e-6
BATCH = 256


def finetune(
    model: Path | str,
    cutouts: Path,
    labels: Path,
    out: Path,
    *,
    tree: DecisionTree | None = None,
    columns: Sequence[str] = (),
    missing: Collection[float] = (),
    layout: str = "",
    reading: Reading = Reading(),
    settings: Sequence[str] = (),
    split: Split,
    hardware: Hardware | None = None,
    progress: Progress = silent,
) -> Path:
    """Fine-tune a network to labels of cutouts; return the run folder `out`.

    `model` is a run (a folder or its .safetensors file), or `encoder:NAME` of timm or the Hugging Face hub
    with its published weights.
    `labels` is a table with `galaxy_id` (the names of the images) and the columns of `tree`; without a tree,
    that of its columns, else columns of numbers from 0 to 1: those in `columns`, or all. The numbers
    `missing` stand for missing values; `layout` says which of several layouts of the table is read. Only
    labelled images are read. An interrupted fine-tuning continues.
    Raises RunError for a run with adapters and for a folder that holds another run; BusyError if another
    process works in the folder; CatalogueError and ImageError for labels and cutouts that cannot be used
    (`data.labels`); RecipeError for `settings`; DownloadError for an encoder that cannot be reached.
    """
    if str(model).startswith(ENCODER):
        weights, settings = published(str(model), settings), [*FROM_ENCODER, *settings]
    else:
        weights = load_weights(Path(model))
    if weights.recipe.adapter_rank:
        raise RunError(
            f"{model}: a network with adapters; merge them first: "
            f"hubblefork export {model} --out merged.safetensors, and fine-tune that"
        )
    tree = tree or (None if columns else tree_of(names_of(labels), layout))
    tree = tree or tree_of_columns(labels, columns, missing=missing)
    recipe = recipe_for(weights, tree, settings)
    check_apart(out, find_inputs([cutouts], [labels]).sources)
    notes = check_labels(cutouts, labels, tree, missing=missing, layout=layout)
    data = DataFolder(out / "data")
    origin = {
        "start": weights.digest,
        "cutouts": _digest("\n".join(sorted(image_names(cutouts, labels))).encode()),
        **{key: said for key, said in (("reading", str(reading)), ("layout", layout)) if said},
        "labels": _digest(labels.read_bytes() + (repr(sorted(missing)).encode() if missing else b"")),
    }
    with alone_in(out, "fine-tuning or training here"):
        if not _has_begun(out, origin, data, tree):
            sources = find_inputs([cutouts], [labels]).sources
            ingest(
                sources,
                data.path,
                labels=[labels],
                missing=missing,
                tree=tree,
                layout=layout,
                only_labelled=True,
                reading=reading,
                progress=progress,
            )
            write_split(split, data.path)
            _write_start(out, data, weights, recipe, split, progress)
            write_text(out / ORIGIN, tomli_w.dumps(origin))
    train(data.path, recipe, out, weights=out / START, hardware=hardware, split=split, progress=progress)
    remarks = [f"labels: {note}" for note in notes]
    if refused := len(data.rejects()):
        remarks.append(f"{refused} rows of labels or images are refused: see data/rejects.csv")
    RunFolder(out).add_remarks(remarks)
    return out


def finetune_folder(
    weights: Weights,
    data: Path,
    out: Path,
    *,
    settings: Sequence[str] = (),
    split: Split,
    hardware: Hardware | None = None,
    progress: Progress = silent,
) -> Path:
    """Fine-tune a network to the labelled galaxies of a data folder; return the run folder `out`.

    An interrupted fine-tuning continues. Raises as `finetune` and `train` do.
    """
    folder = DataFolder(data)
    recipe = recipe_for(weights, folder.tree(), settings)
    if not (out / START).exists():
        with alone_in(out, "fine-tuning or training here"):
            _write_start(out, folder, weights, recipe, split, progress)
    return train(data, recipe, out, weights=out / START, hardware=hardware, split=split, progress=progress)


def published(architecture: str, settings: Sequence[str] = ()) -> Weights:
    """Return an encoder with its published weights, which knows no galaxies yet. Raises DownloadError."""
    name = architecture.removeprefix(ENCODER)
    fetch_encoder(name)
    weights = untaught(override(load_recipe(architecture), [*SETTINGS, *FROM_ENCODER, *settings]))
    return replace(weights, digest=load_start(weights.network, name))


def untaught(recipe: Recipe) -> Weights:
    """Return the network of a recipe with random weights, by the recipe's seed."""
    torch.manual_seed(recipe.seed)
    return Weights(VoteFractions(recipe, UNTAUGHT), recipe, UNTAUGHT, epoch=0, digest=RANDOM)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def recipe_for(weights: Weights, tree: DecisionTree, settings: Sequence[str] = ()) -> Recipe:
    """Return the recipe of a fine-tuning: network and stamps of the weights, the rest for a few galaxies.

    Labels of the weights' own tree keep the head; other trees have the head "tree", plain columns the head
    "sigmoid". Raises RecipeError, also for a head or a monitor that a single column cannot have.
    """
    base = weights.recipe
    head = base.head if tree == weights.tree else "sigmoid" if tree.is_plain else "tree"
    named = replace(
        base, name=f"{base.name}-finetuned", description=f"{base.name}, fine-tuned to {tree.name}"
    )
    loss = base.loss if tree == weights.tree else "rmse"
    recipe = override(named, [*SETTINGS, f"head={head}", f"loss={loss}", *settings])
    build_head(recipe.head, tree)
    frozen_by(weights.network, recipe.unfreeze)
    if tree.is_plain and recipe.monitor != "validation_rmse":
        raise RecipeError(
            f"monitor = {recipe.monitor}, but plain columns have no highest answer to agree on; "
            "leave it at validation_rmse"
        )
    return recipe


def _has_begun(out: Path, origin: dict[str, str], data: DataFolder, tree: DecisionTree) -> bool:
    """Whether the folder holds this fine-tuning already. Raises RunError if it holds another run."""
    if not (out / ORIGIN).exists():
        if RunFolder(out).exists():
            raise RunError(f"{out} holds a run that is no fine-tuning; choose another --out")
        return False
    then = read_toml(out / ORIGIN, RunError, "remove the folder and fine-tune again")
    if Path(str(then.get("cutouts"))).is_absolute():  # of an earlier version, which noted where they lay
        then["cutouts"] = origin["cutouts"]
    unlike = [name for name, value in origin.items() if then.get(name) != value]
    unlike += [] if data.tree() == tree else ["columns"]
    if unlike:
        raise RunError(
            f"{out} holds another fine-tuning: {', '.join(unlike)} differ; "
            "choose another --out, or remove the folder"
        )
    return True


def _write_start(
    out: Path, data: DataFolder, weights: Weights, recipe: Recipe, split: Split, progress: Progress
) -> None:
    """Write the network with the old weights and a last layer fitted to the training galaxies.

    Random weights have nothing to fit it to.
    """
    catalogue, tree = data.catalogue(), data.tree()
    rows = labelled_rows(catalogue, tree, split)
    usable = sum(len(part) for part in rows.values())
    if usable < FEWEST:
        raise CatalogueError(
            f"{data}: {usable} labelled galaxies have a usable image, of at least {FEWEST}: see rejects.csv"
        )
    check_parts(data.path, rows, split)
    torch.manual_seed(recipe.seed)
    network = VoteFractions(recipe, tree)
    knows_tree = copy_layers(network, weights)
    pixels = prepare(data.path, recipe.stamps, progress=progress)
    labels = torch.from_numpy(fractions(catalogue, tree).astype(np.float32))

    def features(part: str) -> tuple[Tensor, Tensor]:
        groups = np.array_split(rows[part], -(-len(rows[part]) // BATCH))
        stamps = (torch.from_numpy(pixels[group]) for group in groups)
        views = (still_views(each, recipe.input_size, recipe.augmentation) for each in stamps)
        return features_of(network, views), labels[rows[part]]

    if weights.digest != RANDOM:
        _fit_if_better(network, features, knows_tree)
    save_weights(out / START, network.state_dict(), recipe, tree, epoch=weights.epoch)


def _fit_if_better(
    network: VoteFractions, features: Callable[[str], tuple[Tensor, Tensor]], knows_tree: bool
) -> None:
    """Fit the last layer; one that knows the tree stays where it is better on the validation galaxies."""
    if not knows_tree:
        fit_last_layer(network, *features(TRAIN))
        return
    layer, judging = network.features[-1], features(VALIDATION)
    before, error = [parameter.clone() for parameter in layer.parameters()], _error(network, *judging)
    fit_last_layer(network, *features(TRAIN), from_zero=False)
    if not _error(network, *judging) < error:
        layer.weight.data, layer.bias.data = before


def features_of(network: VoteFractions, views: Iterable[Tensor]) -> Tensor:
    """Return the inputs of the last layer (galaxy, feature) of batches of views."""
    with torch.no_grad():
        return torch.cat([network.eval().features[:-1](batch) for batch in views]).float()


def _error(network: VoteFractions, features: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return float(masked_rmse(network.head(network.features[-1](features))[:, : labels.shape[1]], labels))


def fit_last_layer(
    network: VoteFractions, features: Tensor, labels: Tensor, *, from_zero: bool = True
) -> None:
    """Fit the last layer of a network to labels (galaxy, answer), NaN if unknown, of features.

    A logistic regression on standardised features: it minimises the cross-entropy of the head's fractions and
    the labels plus a ridge penalty of `PENALTY`/2 × number of features × Σ (w - w₀)², by L-BFGS from w₀,
    which is zero or the layer's own weights. The spread of a feature counts as at least half the median one:
    what hardly varies among these galaxies may vary among others. Of one galaxy the biases alone are fitted.
    For a number the cross-entropy is half the squared error in units of its width.
    """
    layer = network.features[-1]
    assert isinstance(layer, nn.Linear)
    mean, spread = features.mean(dim=0), features.std(dim=0, correction=min(1, len(features) - 1))
    varying = spread[spread > LEAST]
    spread = spread.clamp_min(float(varying.median()) / 2 if len(varying) else 1.0)
    standard, labelled = (features - mean) / spread, ~torch.isnan(labels)
    old = torch.zeros_like(layer.weight) if from_zero else layer.weight.detach() * spread
    offset = torch.zeros_like(layer.bias) if from_zero else layer(mean).detach()
    weight, bias = old.clone().requires_grad_(), offset.clone().requires_grad_()
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        predicted = network.head(standard @ weight.T + bias)[:, : labels.shape[1]][labelled]
        misfit = _misfit(predicted, labels[labelled], network.tree)
        loss = misfit + PENALTY / 2 * layer.in_features * (weight - old).square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    with torch.no_grad():
        layer.weight.copy_(weight / spread)
        layer.bias.copy_(bias - (weight / spread) @ mean)


def _misfit(predicted: Tensor, labels: Tensor, tree: DecisionTree) -> Tensor:
    if tree.number:
        return ((predicted - labels) / tree.scale).square().sum() / 2
    inside = predicted.clamp(LEAST, 1 - LEAST)
    return nn.functional.binary_cross_entropy(inside, labels, reduction="sum")
