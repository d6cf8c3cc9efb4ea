"""Fine-tuning: a trained network and a few hundred galaxies with labels of one's own, into a run of these.

The network keeps its stamps, its architecture and all its layers but the last. A new last layer is fitted to
what the others make of the galaxies, as a regression; then everything is trained a little, galaxies turned
every way (first the last layer, then all: Kumar et al. 2022, arXiv:2202.10054). The result is a run folder as
any other, with its data in `data/` and what it began from in `start.safetensors`.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
import torch
from torch import Tensor, nn

from hubblefork.data.catalogue import fractions, read_catalogue
from hubblefork.data.columns import FEWEST, check_labels, tree_of_columns
from hubblefork.data.ingest import ingest
from hubblefork.data.inputs import find_inputs
from hubblefork.data.split import TRAIN, Split, write_split
from hubblefork.data.stamps import prepare
from hubblefork.errors import CatalogueError, RecipeError, RunError
from hubblefork.io import Progress, silent, write_text
from hubblefork.network import runs
from hubblefork.network.augment import still_views
from hubblefork.network.batches import labelled_rows
from hubblefork.network.device import Hardware
from hubblefork.network.heads import build_head
from hubblefork.network.model import VoteFractions
from hubblefork.network.pretrained import go_on_from
from hubblefork.network.recipe import Recipe, override
from hubblefork.network.training import train
from hubblefork.zoo import DecisionTree, read_tree

START, ORIGIN = "start.safetensors", "finetune.toml"
SALT = "finetune"
SETTINGS: dict[
    str, Any
] = {  # of a training that begins with what another has learned, from a few hundred galaxies
    "pretrained": "",
    **{"rotation": 180.0, "rotation_probability": 1.0, "flip": 0.5},
    **{
        "batch_size": 32,
        "epochs": 60,
        "steps_per_epoch": 0,
        "patience": 15,
        "min_delta": 0.0,
        "max_minutes": 0.0,
    },
    **{
        "optimiser": "adamw",
        "learning_rate": 2e-5,
        "weight_decay": 0.0,
        "schedule": "cosine",
        "warmup_epochs": 0.0,
    },
    **{"ema_decay": 0.0, "monitor": "validation_rmse", "compile": False},
}
PENALTY, ITERATIONS, LEAST = 10 / 64, 300, 1e-6
BATCH = 256


def finetune(
    run: Path,
    cutouts: Path,
    labels: Path,
    out: Path,
    *,
    tree: DecisionTree | None = None,
    columns: Sequence[str] = (),
    settings: Sequence[str] = (),
    split: Split,
    hardware: Hardware | None = None,
    progress: Progress = silent,
) -> Path:
    """Fine-tune a run (a folder or its .safetensors file) to labels of cutouts; return the run folder `out`.

    `labels` is a CSV or Parquet with `galaxy_id` (the images' names) and the columns of `tree`, or without
    one plain columns of numbers from 0 to 1: those named in `columns`, or all. Only labelled images are read.
    Called again it goes on where it stopped. Raises RunError for a run with adapters and for a folder that
    holds something else, CatalogueError and ImageError as `sky.columns` does, RecipeError for `settings`.
    """
    weights = _whole(run)
    tree = tree or tree_of_columns(labels, columns)
    recipe = recipe_for(weights, tree, settings)
    check_labels(cutouts, labels, tree)
    hardware, data = hardware or Hardware(), out / "data"
    origin = {
        "start": weights.digest,
        "cutouts": str(cutouts.resolve()),
        "labels": hashlib.sha256(labels.read_bytes()).hexdigest(),
    }
    if not _begun(out, origin, tree):
        sources = find_inputs([cutouts], [labels]).sources
        ingest(sources, data, labels=[labels], tree=tree, only_labelled=True, progress=progress)
        write_split(split, data)
        _write_start(out, weights, recipe, tree, split, progress)
        write_text(out / ORIGIN, tomli_w.dumps(origin))
    return train(data, recipe, out, weights=out / START, hardware=hardware, split=split, progress=progress)


def recipe_for(weights: runs.Weights, tree: DecisionTree, settings: Sequence[str] = ()) -> Recipe:
    """Return the recipe of a fine-tuning: network and stamps of the weights, the rest for a few galaxies.

    A tree of questions has the head that obeys it, plain columns have sigmoids; labels of the weights' own
    tree keep their head. Raises RecipeError, also for a head that divides and a watch that compares answers
    where a column stands alone.
    """
    base = weights.recipe
    head = base.head if tree == weights.tree else "sigmoid" if tree.is_plain else "tree"
    named = replace(
        base, name=f"{base.name}-finetuned", description=f"{base.name}, fine-tuned to {tree.name}"
    )
    recipe = override(replace(named, **SETTINGS, head=head), settings)
    build_head(recipe.head, tree)
    if tree.is_plain and recipe.monitor != SETTINGS["monitor"]:
        raise RecipeError(
            f"monitor = {recipe.monitor}, but plain columns have no highest answer to agree on; "
            f"leave it at {SETTINGS['monitor']}"
        )
    return recipe


def _whole(run: Path) -> runs.Weights:
    """Load the weights to begin with. Raises RunError for adapters: they stand beside others."""
    weights = runs.load_weights(run)
    if weights.recipe.adapter_rank:
        raise RunError(
            f"{run}: a run with adapters; make one network of it first: "
            f"hubblefork merge {run} --out merged.safetensors, and fine-tune that"
        )
    return weights


def _begun(out: Path, origin: dict[str, str], tree: DecisionTree) -> bool:
    """Whether the folder holds this fine-tuning already. Raises RunError where it holds another run."""
    if not (out / ORIGIN).exists():
        if (out / "run.toml").exists():
            raise RunError(f"{out} holds a run that is no fine-tuning; choose another --out")
        return False
    then = tomllib.loads((out / ORIGIN).read_text(encoding="utf-8"))
    unlike = [name for name, value in origin.items() if then.get(name) != value]
    unlike += [] if read_tree(out / "data") == tree else ["columns"]
    if unlike:
        raise RunError(
            f"{out} holds a fine-tuning of another kind: {', '.join(unlike)} differ; "
            "choose another --out, or remove the folder"
        )
    return True


def _write_start(
    out: Path, weights: runs.Weights, recipe: Recipe, tree: DecisionTree, split: Split, progress: Progress
) -> None:
    """Write the weights to begin with: the old ones, their last layer fitted to the training galaxies."""
    data = out / "data"
    catalogue = read_catalogue(data / "catalogue.parquet")
    rows = labelled_rows(catalogue, tree, split)
    usable = sum(len(part) for part in rows.values())
    if usable < FEWEST:
        raise CatalogueError(
            f"{data}: {usable} labelled galaxies have a usable image, of at least {FEWEST}: see rejects.csv"
        )
    torch.manual_seed(recipe.seed)
    network = VoteFractions(recipe, tree)
    if not go_on_from(network, weights):
        pixels = prepare(data, recipe.stamps, progress=progress).pixels[rows[TRAIN]]
        labels = fractions(catalogue, tree)[rows[TRAIN]].astype(np.float32)
        views = still_views(torch.from_numpy(pixels), recipe.input_size, recipe.augmentation)
        fit_last_layer(network, views, torch.from_numpy(labels))
    runs.save_weights(out / START, network.state_dict(), recipe, tree, epoch=weights.epoch)


def fit_last_layer(network: VoteFractions, views: Tensor, labels: Tensor) -> None:
    """Fit the last layer of a network to labels (galaxy, answer), NaN unknown, of views; the others stay.

    A logistic regression on standardised features: the head's fractions have the least cross-entropy with the
    labels, with a ridge penalty of `PENALTY`/2 × number of features × Σ w², by L-BFGS from zero: scores are
    as large beforehand however many features there are.
    """
    layer = network.features[-1]
    assert isinstance(layer, nn.Linear)
    with torch.inference_mode():
        features = torch.cat([network.eval().features[:-1](part) for part in views.split(BATCH)]).float()
    features = features.clone()
    mean, spread = features.mean(dim=0), features.std(dim=0).clamp_min(1e-6)
    standard, known = (features - mean) / spread, ~torch.isnan(labels)
    weight = torch.zeros_like(layer.weight, requires_grad=True)
    bias = torch.zeros_like(layer.bias, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        predicted = network.head(standard @ weight.T + bias)[known].clamp(LEAST, 1 - LEAST)
        entropy = nn.functional.binary_cross_entropy(predicted, labels[known], reduction="sum")
        loss = entropy + PENALTY / 2 * layer.in_features * weight.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    with torch.no_grad():
        layer.weight.copy_(weight / spread)
        layer.bias.copy_(bias - (weight / spread) @ mean)
