"""Run folders: what a training leaves behind, and weights that carry what they need.

The header of `weights.safetensors` holds the recipe in full, the tree's name, the epoch and the
version: the file alone is enough to predict. No pickle is read from it.
"""

from __future__ import annotations

import csv
import hashlib
import io
import platform
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from hubblefork import __version__
from hubblefork.errors import RunError
from hubblefork.files import replacing, write_text
from hubblefork.network.model import VoteFractions
from hubblefork.network.recipe import Recipe, parse_recipe, recipe_text
from hubblefork.sky.split import Split, write_split
from hubblefork.zoo import DecisionTree, load_tree

PACKAGES = ("torch", "lightning", "numpy", "pillow", "simplejpeg")


@dataclass(frozen=True)
class Weights:
    """A trained network with all that it needs; `digest` is the SHA-256 of its file."""

    network: VoteFractions
    recipe: Recipe
    tree: DecisionTree
    epoch: int
    digest: str


def begin(out: Path, recipe: Recipe, *, data: Path, split: Split, notes: Mapping[str, Any]) -> None:
    """Write what is known before training. A resumed run keeps the notes of its beginning."""
    if (out / "run.toml").exists():
        return
    write_split(split, out)
    write_text(out / "recipe.toml", recipe_text(recipe))
    versions = {"hubblefork": __version__, "python": platform.python_version()}
    versions |= {name: metadata.version(name) for name in PACKAGES}
    entries = {"data": str(data.resolve()), "recipe": recipe.name, "seed": recipe.seed, "finished": False}
    write_text(out / "run.toml", tomli_w.dumps({**entries, **notes, "versions": versions}))


def finish(out: Path, rows: Sequence[Mapping[str, float]], mode: str, watch: str) -> None:
    """Add to `run.toml` how the run ended."""
    best = (min if mode == "min" else max)(rows, key=lambda row: row[watch])
    ended = {
        "finished": True,
        "epochs": len(rows),
        "best_epoch": int(best["epoch"]),
        "best": {watch: best[watch]},
        "training_seconds": sum(row["seconds"] for row in rows),
        "galaxies_per_second": float(np.median([row["galaxies_per_second"] for row in rows])),
    }
    write_text(out / "run.toml", tomli_w.dumps({**read_notes(out), **ended}))


def is_finished(out: Path) -> bool:
    """Whether the folder holds a run that has ended by itself."""
    return (out / "run.toml").exists() and bool(read_notes(out).get("finished"))


def read_notes(out: Path) -> dict[str, Any]:
    """Return the contents of `run.toml`. Raises RunError."""
    try:
        return tomllib.loads((out / "run.toml").read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise RunError(f"{out} is not the folder of a run: run.toml cannot be read: {error}") from error


def read_recipe(out: Path) -> Recipe:
    """Return the recipe of a run folder. Raises RunError, RecipeError."""
    try:
        text = (out / "recipe.toml").read_text(encoding="utf-8")
    except OSError as error:
        raise RunError(f"{out} is not the folder of a run: recipe.toml cannot be read: {error}") from error
    return parse_recipe(text, origin=str(out / "recipe.toml"))


def write_metrics(out: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Write `metrics.csv`, one row an epoch."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(out / "metrics.csv", text.getvalue())


def read_metrics(out: Path) -> list[dict[str, float]]:
    """Return the rows of `metrics.csv`; none before the first epoch has ended."""
    path = out / "metrics.csv"
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def write_weights(
    out: Path, network: VoteFractions, recipe: Recipe, tree: DecisionTree, *, epoch: int
) -> None:
    """Write `weights.safetensors` with the recipe, tree, epoch and version in its header."""
    header = {
        "recipe": recipe_text(recipe),
        "tree": tree.name,
        "epoch": str(epoch),
        "hubblefork": __version__,
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with replacing(out / "weights.safetensors") as temporary:
        save_file(tensors, temporary, metadata=header)


def load_weights(source: Path) -> Weights:
    """Load a run folder or a .safetensors file, in evaluation mode on the CPU. Raises RunError."""
    path = source / "weights.safetensors" if source.is_dir() else source
    if not path.exists():
        raise RunError(
            f"{source}: there are no weights; train a recipe first: hubblefork train DATA --recipe …"
        )
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise RunError(f"{path}: not a safetensors file: {error}") from error
    if "recipe" not in header or "tree" not in header:
        raise RunError(f"{path}: its header names no recipe and tree; these are no weights of hubblefork")
    recipe, tree = parse_recipe(header["recipe"], origin=str(path)), load_tree(header["tree"])
    return Weights(
        _filled(VoteFractions(recipe, tree), tensors, path), recipe, tree, int(header["epoch"]), _sha256(path)
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _filled(network: VoteFractions, tensors: dict[str, torch.Tensor], path: Path) -> VoteFractions:
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise RunError(f"{path}: these weights do not fit the network of their recipe: {error}") from error
    return network.eval()
