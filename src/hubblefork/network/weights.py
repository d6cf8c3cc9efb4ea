"""Weights that carry what they need, and what a network starts from.

The header of a `weights.safetensors` holds the recipe and the tree in full, the epoch and the version: the
file alone is enough to predict. No pickle is read from it. Of a network with adapters it holds only what was
trained; `base.safetensors` beside it holds the rest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from hubblefork import __version__
from hubblefork.data.folders import RunFolder
from hubblefork.data.trained import PACKAGED, Trained, weights_file
from hubblefork.errors import DownloadError, RecipeError, RunError
from hubblefork.images.decoder import BANDS
from hubblefork.images.surveys import Display, display_of
from hubblefork.io import digest_of, replacing
from hubblefork.network.adapters import encoder_of, frozen_names, merged, own_tensors
from hubblefork.network.architectures import summed_over_bands
from hubblefork.network.architectures.encoder import HUB, Encoder
from hubblefork.network.model import VoteFractions
from hubblefork.network.recipe import Recipe, parse_recipe, recipe_text
from hubblefork.zoo import DecisionTree, load_tree, parse_tree, tree_text

BASE = "base.safetensors"
RANDOM = "random weights"


@dataclass(frozen=True)
class Weights:
    """A trained network, its recipe, its tree and its epoch; `digest` is the SHA-256 of its file.

    `image_side` is the shorter side of the training images in pixels; 0 where it is unknown or differs.
    `display` is what the training images showed; None where it is not stated.
    """

    network: VoteFractions
    recipe: Recipe
    tree: DecisionTree
    epoch: int
    digest: str
    image_side: int = 0
    display: Display | None = None

    @property
    def trained(self) -> Trained:
        """What is known of it without its network."""
        recipe = self.recipe
        return Trained(
            recipe.name,
            self.tree,
            recipe.stamps,
            recipe.input_size,
            recipe.augmentation.first_angle,
            recipe.precision,
            self.image_side,
            self.digest,
            recipe.outputs(self.tree),
            self.display,
        )


# Reading


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
    epoch = header.get("epoch", "")
    if not (epoch.isascii() and epoch.isdecimal() and len(epoch) < 10):
        raise RunError(f'{path}: its header says epoch = "{epoch[:60]}", which is no number of an epoch')
    try:
        network = VoteFractions(recipe, tree)
        network.load_state_dict(tensors)
    except (RuntimeError, MemoryError) as error:
        raise RunError(
            f"{path}: these weights do not fit the network of their recipe: {_shortened(error)}"
        ) from error
    broken = [name for name, tensor in network.state_dict().items() if not tensor.isfinite().all()]
    if broken:
        raise RunError(
            f"{path}: {len(broken)} of its tensors hold NaN or infinity, the first is {broken[0]}: "
            "train again, with a lower learning rate if the training diverged"
        )
    said = header.get("image_side", "")
    side = int(said) if said.isdecimal() else 0
    display = _display(header.get("display", "{}"), path)
    return Weights(network.eval(), recipe, tree, int(epoch), digest_of(path), side, display)


def _display(text: str, path: Path) -> Display | None:
    try:
        return display_of(json.loads(text))
    except (ValueError, TypeError, AttributeError, RecipeError) as error:
        raise RunError(f"{path}: its header does not say what its images showed: {error}") from error


def read_recipe(run: Path) -> Recipe:
    """Return the recipe of a run folder. Raises RunError, RecipeError."""
    folder = RunFolder(run)
    return parse_recipe(folder.recipe_text(), origin=str(folder.recipe_file))


def _opened(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            return file.metadata() or {}, tensors
    except (SafetensorError, OSError) as error:
        raise RunError(f"{path}: not a safetensors file: {error}") from error


def _opened_base(path: Path, digest: str) -> dict[str, Tensor]:
    base = path.with_name(BASE)
    if not base.exists():
        raise RunError(
            f"{path} holds adapters alone; the weights that they are added to, {BASE} with SHA-256 "
            f"{digest[:16]}…, belong beside it. `hubblefork export RUN --out FILE` makes one file of both."
        )
    if digest_of(base) != digest:
        raise RunError(
            f"{base}: not the weights beside which {path.name} was trained (SHA-256 {digest[:16]}…)"
        )
    return _opened(base)[1]


# Writing


def write_weights(
    out: Path, network: VoteFractions, recipe: Recipe, tree: DecisionTree, *, epoch: int
) -> None:
    """Write the weights of a run folder; with adapters also `base.safetensors`, once. Raises DiskError."""
    tensors, base = dict(network.state_dict()), ""
    if recipe.adapter_rank:
        frozen = frozen_names(network)
        if not (out / BASE).exists():
            _save(out / BASE, {name: tensors[name] for name in sorted(frozen)})
        base = digest_of(out / BASE)
        tensors = {name: tensor for name, tensor in tensors.items() if name not in frozen}
    run = RunFolder(out)
    notes = run.notes() if run.exists() else {}
    side, display = int(notes.get("image_side", 0)), display_of(notes.get("display", {}))
    save_weights(run.weights, tensors, recipe, tree, epoch=epoch, image_side=side, display=display, base=base)


def save_weights(
    path: Path,
    tensors: Mapping[str, Tensor],
    recipe: Recipe,
    tree: DecisionTree,
    *,
    epoch: int,
    image_side: int = 0,
    display: Display | None = None,
    base: str = "",
) -> None:
    """Write the tensors of a network as weights that carry their recipe and tree. Raises DiskError."""
    header = {
        "recipe": recipe_text(recipe),
        "tree": tree.name,
        "questions": tree_text(tree),
        "epoch": str(epoch),
        "hubblefork": __version__,
        **({"image_side": str(image_side)} if image_side else {}),
        **({"display": json.dumps(display.entries())} if display else {}),
        **({"base": base} if base else {}),
    }
    _save(path, tensors, header)


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
    recipe = replace(weights.recipe, adapter_rank=0)
    save_weights(
        out,
        whole,
        recipe,
        weights.tree,
        epoch=weights.epoch,
        image_side=weights.image_side,
        display=weights.display,
    )
    return out


def _save(path: Path, tensors: Mapping[str, Tensor], header: dict[str, str] | None = None) -> None:
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        temporary.write_bytes(save(whole, metadata=header))  # save_file lets nobody else read the file


# Starting weights


def load_start(network: VoteFractions, published: str, file: Path | None = None) -> str:
    """Load the starting weights of a network or its encoder; return in words what they are.

    `file` is a .safetensors file in timm's naming, or a network of ours (see `copy_layers`); without one
    the weights that timm publishes as `published` are taken, those in `weights/` from the package; without
    either the network keeps its random ones. Raises RunError for a file that does not fit, and for one in
    timm's naming where the network has no encoder; DownloadError where published weights cannot be reached.
    """
    file = file and weights_file(file)
    if file is not None and "recipe" in _opened(file)[0]:
        whole = copy_layers(network, load_weights(file))
        return f"{file.name}{'' if whole else ' but for the last layer'} {_short_digest(file)}"
    encoder = encoder_of(network)
    if file is not None and encoder is None:
        raise RunError(f"{file}: this recipe's network has no encoder that weights could start from")
    if encoder is None or not (file or published):
        return RANDOM
    if file is not None:
        return _loaded(encoder, file, file.name)
    try:
        path = fetch_published(published)
    except RunError:
        raise
    except Exception as error:
        repository = _repository(published)
        raise DownloadError(
            f"the published weights {published} could not be reached ({type(error).__name__}: {error}): "
            f"model.safetensors of {repository} is not on this computer. Connect to the internet, copy what "
            f"`hf download {repository} model.safetensors` gives elsewhere, train from --weights FILE, or "
            "begin with random ones: --set pretrained="
        ) from error
    return _loaded(encoder, path, f"{published} of timm")


def fetch_published(published: str) -> Path:
    """Return the path of published weights: packaged, cached or from the hub; raises as its client does.

    `published` is timm's name with its tag (resnet50.tv_in1k) or without (its own choice), or an id of the
    hub (hf_hub:OWNER/NAME).
    """
    packaged = PACKAGED / f"{published}.safetensors"
    if packaged.exists():
        return packaged
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache

    place = (_repository(published), "model.safetensors")
    cached = try_to_load_from_cache(*place)
    if isinstance(cached, str):
        return Path(cached)
    get_hf_file_metadata(hf_hub_url(*place), timeout=5)
    return Path(hf_hub_download(*place))


def copy_layers(network: VoteFractions, weights: Weights) -> bool:
    """Load the layers of a trained network into another; return whether the last one is among them.

    It is where both have the same outputs about the same tree. Raises RunError for networks of other layers.
    """
    whole = (
        weights.tree == network.tree
        and weights.network.features[-1].weight.shape == network.features[-1].weight.shape
    )
    layers, trained = (each.features if whole else each.features[:-1] for each in (network, weights.network))
    encoder = encoder_of(weights.network)
    tensors = _for_bands_of(layers.state_dict(), trained.state_dict(), encoder)
    try:
        layers.load_state_dict(tensors)
    except RuntimeError as error:
        name = weights.recipe.name
        raise RunError(
            f"the layers of {name} do not fit the network that should begin with them: {_shortened(error)}"
        ) from error
    return whole


def _for_bands_of(
    own: Mapping[str, Tensor], given: Mapping[str, Tensor], encoder: Encoder | None
) -> dict[str, Tensor]:
    """Return tensors that are given for a network of three bands as one of one band takes them."""
    scale = encoder.band_scale if encoder else None
    return {
        name: summed_over_bands(tensor, scale)
        if name in own
        and tensor.ndim == own[name].ndim == 4
        and (tensor.shape[1], own[name].shape[1]) == (BANDS, 1)
        else tensor
        for name, tensor in given.items()
    }


def _repository(published: str) -> str:
    if published.startswith(HUB):
        return published.removeprefix(HUB)
    if "." in published:
        return f"timm/{published}"
    import timm

    settings = timm.get_pretrained_cfg(published)
    if settings is None or not settings.hf_hub_id:
        raise RunError(
            f"timm publishes no weights of {published}: train it from random ones, --set pretrained="
        )
    return str(settings.hf_hub_id)


def _loaded(encoder: Encoder, path: Path, name: str) -> str:
    """Copy a file in timm's naming into an encoder; return its name and digest. Raises RunError."""
    layers = (encoder.classifier,) if isinstance(encoder.classifier, str) else encoder.classifier
    classifier = tuple(f"{layer}." for layer in layers if layer)
    tensors = {key: tensor for key, tensor in _opened(path)[1].items() if not key.startswith(classifier)}
    own = own_tensors(encoder)
    tensors = _for_bands_of(own, tensors, encoder)
    complaints = [f"{key} is missing" for key in own if key not in tensors]
    complaints += [f"{key} is not of {encoder.name}" for key in tensors if key not in own]
    complaints += [
        f"{key} has the shape {tuple(tensors[key].shape)}, not {tuple(tensor.shape)}"
        for key, tensor in own.items()
        if key in tensors and tensors[key].shape != tensor.shape
    ]
    complaints += [
        f"{key} holds NaN or infinity" for key in own if key in tensors and not tensors[key].isfinite().all()
    ]
    if complaints:
        more = f" and {len(complaints) - 3} more" if len(complaints) > 3 else ""
        raise RunError(f"{path}: no weights of {encoder.name}: {'; '.join(complaints[:3])}{more}")
    for key, tensor in own.items():
        tensor.copy_(tensors[key])
    return f"{name} {_short_digest(path)}"


def _shortened(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _short_digest(path: Path) -> str:
    return f"(SHA-256 {digest_of(path)[:16]})"
