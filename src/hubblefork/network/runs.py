"""Run folders: what a training leaves behind, and weights that carry what they need.

The header of `weights.safetensors` holds the recipe and the tree in full, the epoch and the version: the
file alone is enough to predict. No pickle is read from it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from hubblefork import __version__
from hubblefork.data.folders import DataFolder, RunFolder
from hubblefork.data.split import Split
from hubblefork.errors import RunError
from hubblefork.io import replacing
from hubblefork.network.adapters import frozen_names, merged
from hubblefork.network.model import VoteFractions
from hubblefork.network.recipe import Recipe, parse_recipe, recipe_text
from hubblefork.zoo import DecisionTree, load_tree, parse_tree, tree_text

BASE = "base.safetensors"
PACKAGED = Path(__file__).with_name("weights")
EMBEDDED = PACKAGED / "fork.safetensors"
PACKAGES = ("torch", "lightning", "numpy", "pillow", "simplejpeg")


@dataclass(frozen=True)
class Weights:
    """A trained network with all that it needs; `digest` is the SHA-256 of its file."""

    network: VoteFractions
    recipe: Recipe
    tree: DecisionTree
    epoch: int
    digest: str


def begin(
    out: Path, recipe: Recipe, tree: DecisionTree, *, data: Path, split: Split, notes: Mapping[str, Any]
) -> None:
    """Write what is known before training. A resumed run keeps the notes of its beginning."""
    known = {"recipe": recipe.name, "seed": recipe.seed, **notes}
    RunFolder(out).begin(recipe_text(recipe), tree, DataFolder(data), split, known)


def add_remarks(out: Path, remarks: Sequence[str]) -> None:
    """Add to `run.toml` what did not go as the recipe asks; empty remarks are none, and none stands twice."""
    RunFolder(out).add_remarks(remarks)


def is_finished(out: Path) -> bool:
    """Whether the folder holds a run that has ended by itself."""
    return RunFolder(out).is_finished()


def read_notes(out: Path) -> dict[str, Any]:
    """Return the contents of `run.toml`. Raises RunError."""
    return RunFolder(out).notes()


def read_recipe(out: Path) -> Recipe:
    """Return the recipe of a run folder. Raises RunError, RecipeError."""
    run = RunFolder(out)
    return parse_recipe(run.recipe_text(), origin=str(run.recipe_file))


def write_metrics(out: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Write `metrics.csv`, one row an epoch."""
    RunFolder(out).write_metrics(rows)


def read_metrics(out: Path) -> list[dict[str, float]]:
    """Return the rows of `metrics.csv`; none before the first epoch has ended."""
    return RunFolder(out).metrics()


def write_weights(
    out: Path, network: VoteFractions, recipe: Recipe, tree: DecisionTree, *, epoch: int
) -> None:
    """Write `weights.safetensors` with the recipe, tree, epoch and version in its header.

    Of a network with adapters only what was trained; the rest goes to `base.safetensors`, once.
    """
    tensors, base = dict(network.state_dict()), ""
    if recipe.adapter_rank:
        base = _base_of(out, network)
        tensors = {name: tensor for name, tensor in tensors.items() if name not in frozen_names(network)}
    save_weights(out / "weights.safetensors", tensors, recipe, tree, epoch=epoch, base=base)


def merge(run: Path, out: Path, *, half: bool = False) -> Path:
    """Write the weights of a run as one file that needs no other, its adapters merged.

    With `half` what is multiplied (not biases, normalisations and statistics) is in half precision: half the
    bytes. Raises RunError where there is nothing to do: no adapters, and not `half`; DiskError.
    """
    if out.suffix != ".safetensors":
        raise RunError(f"{out}: weights are written as .safetensors; name the file so")
    weights = load_weights(run)
    if not weights.recipe.adapter_rank and not half:
        raise RunError(f"{run}: its weights are whole: there are no adapters to merge")
    whole = dict(weights.network.state_dict())
    if weights.recipe.adapter_rank:
        whole = merged(whole, weights.network)
    if half:
        whole = {name: tensor.half() if tensor.ndim > 1 else tensor for name, tensor in whole.items()}
    save_weights(out, whole, replace(weights.recipe, adapter_rank=0), weights.tree, epoch=weights.epoch)
    return out


def save_weights(
    path: Path,
    tensors: Mapping[str, torch.Tensor],
    recipe: Recipe,
    tree: DecisionTree,
    *,
    epoch: int,
    base: str = "",
) -> None:
    """Write the tensors of a network as weights that carry their recipe and tree. Raises DiskError."""
    header = {
        "recipe": recipe_text(recipe),
        "tree": tree.name,
        "questions": tree_text(tree),
        "epoch": str(epoch),
        "hubblefork": __version__,
        **({"base": base} if base else {}),
    }
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        save_file(whole, temporary, metadata=header)


def _base_of(out: Path, network: VoteFractions) -> str:
    """Write the weights beside which the adapters stand, once; return the SHA-256 of their file."""
    path = out / BASE
    if not path.exists():
        tensors = network.state_dict()
        frozen = {name: tensors[name].detach().cpu().contiguous() for name in sorted(frozen_names(network))}
        with replacing(path) as temporary:
            save_file(frozen, temporary)
    return digest_of(path)


def weights_file(source: Path) -> Path:
    """Return the weights of a run folder, or the .safetensors file itself; `fork` are those that come along.

    Raises RunError for none.
    """
    path = source / "weights.safetensors" if source.is_dir() else source
    if source == Path("fork") and not source.exists():
        return EMBEDDED
    if not path.exists():
        raise RunError(
            f"{source}: there are no weights; train a recipe first: hubblefork train DATA --recipe …"
        )
    return path


def load_weights(source: Path) -> Weights:
    """Load a run folder or a .safetensors file, in evaluation mode on the CPU. Raises RunError."""
    path = weights_file(source)
    header, tensors = _opened(path)
    if "recipe" not in header or "tree" not in header:
        raise RunError(f"{path}: its header names no recipe and tree; these are no weights of hubblefork")
    recipe = parse_recipe(header["recipe"], origin=str(path))
    questions = header.get("questions")
    tree = parse_tree(questions, origin=str(path)) if questions else load_tree(header["tree"])
    if "base" in header:
        tensors |= _opened_base(path, header["base"])
    return Weights(
        _filled(VoteFractions(recipe, tree), tensors, path),
        recipe,
        tree,
        int(header["epoch"]),
        digest_of(path),
    )


def _opened(path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            return file.metadata() or {}, tensors
    except (SafetensorError, OSError) as error:
        raise RunError(f"{path}: not a safetensors file: {error}") from error


def _opened_base(path: Path, digest: str) -> dict[str, torch.Tensor]:
    base = path.with_name(BASE)
    if not base.exists():
        raise RunError(
            f"{path} holds adapters alone; the weights that they stand beside, {BASE} with SHA-256 "
            f"{digest[:16]}…, belong beside it. `hubblefork merge RUN --out FILE` makes one file of both."
        )
    if digest_of(base) != digest:
        raise RunError(
            f"{base}: not the weights beside which {path.name} was trained (SHA-256 {digest[:16]}…)"
        )
    return _opened(base)[1]


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _filled(network: VoteFractions, tensors: dict[str, torch.Tensor], path: Path) -> VoteFractions:
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise RunError(f"{path}: these weights do not fit the network of their recipe: {error}") from error
    return network.eval()
