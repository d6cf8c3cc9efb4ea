"""Where a network starts from: published weights of its encoder, a file of them, or chance."""

from __future__ import annotations

import hashlib
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from hubblefork.errors import RunError
from hubblefork.network import runs
from hubblefork.network.adapters import encoder_of, own_tensors
from hubblefork.network.architectures.encoder import HUB, Encoder
from hubblefork.network.model import VoteFractions

FROM_CHANCE = "random weights"


def start(network: VoteFractions, published: str, file: Path | None = None) -> str:
    """Load the starting weights of a network or its encoder; return in words what they are.

    `file` is a .safetensors file in timm's naming, or of a network of ours (see `go_on_from`); without one
    the weights that timm publishes as `published` are taken, those in `weights/` from the package; when they
    cannot be reached the network keeps its random ones, which the returned text says. Raises RunError for a
    file that does not fit, and for one in timm's naming where the network has no encoder.
    """
    if file is not None and _is_ours(file):
        whole = go_on_from(network, runs.load_weights(file))
        return f"{file.name}{'' if whole else ' but for the last layer'} {_digest(file)}"
    encoder = encoder_of(network)
    if file is not None and encoder is None:
        raise RunError(f"{file}: this recipe's network has no encoder that weights could start from")
    if encoder is None or not (file or published):
        return FROM_CHANCE
    if file is not None:
        return _loaded(encoder, file, file.name)
    try:
        path = fetch(published)
    except RunError:
        raise
    except Exception as error:
        return f"{FROM_CHANCE}: {published} could not be reached ({type(error).__name__})"
    return _loaded(encoder, path, f"{published} of timm")


def fetch(published: str) -> Path:
    """Return the path of published weights: packaged, cached or from the hub; raises as its client does.

    `published` is timm's name with its tag (resnet50.tv_in1k) or without (its own choice), or an id of the
    hub (hf_hub:OWNER/NAME).
    """
    packaged = runs.PACKAGED / f"{published}.safetensors"
    if packaged.exists():
        return packaged
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache

    place = (_repository(published), "model.safetensors")
    cached = try_to_load_from_cache(*place)
    if isinstance(cached, str):
        return Path(cached)
    get_hf_file_metadata(hf_hub_url(*place), timeout=5)
    return Path(hf_hub_download(*place))


def _repository(published: str) -> str:
    if published.startswith(HUB):
        return published.removeprefix(HUB)
    if "." in published:
        return f"timm/{published}"
    import timm

    known = timm.get_pretrained_cfg(published)
    if known is None or not known.hf_hub_id:
        raise RunError(
            f"timm publishes no weights of {published}: train it from random ones, --set pretrained="
        )
    return str(known.hf_hub_id)


def _loaded(encoder: Encoder, path: Path, what: str) -> str:
    tensors = _without_classifier(encoder, _read(path))
    wanted = own_tensors(encoder)
    complaints = [f"{name} is missing" for name in wanted if name not in tensors]
    complaints += [f"{name} is not of {encoder.name}" for name in tensors if name not in wanted]
    complaints += [
        f"{name} has the shape {tuple(tensors[name].shape)}, not {tuple(wanted[name].shape)}"
        for name in wanted
        if name in tensors and tensors[name].shape != wanted[name].shape
    ]
    if complaints:
        more = f" and {len(complaints) - 3} more" if len(complaints) > 3 else ""
        raise RunError(f"{path}: no weights of {encoder.name}: {'; '.join(complaints[:3])}{more}")
    for name, tensor in wanted.items():
        tensor.copy_(tensors[name])
    return f"{what} {_digest(path)}"


def _digest(path: Path) -> str:
    return f"(SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()[:16]})"


def go_on_from(network: VoteFractions, weights: runs.Weights) -> bool:
    """Load the layers of a trained network into another; return whether the last one is among them.

    It is where both answer the same tree. Raises RunError for networks of other layers.
    """
    whole = weights.tree == network.tree
    layers, learned = (one.features if whole else one.features[:-1] for one in (network, weights.network))
    try:
        layers.load_state_dict(learned.state_dict())
    except RuntimeError as error:
        name = weights.recipe.name
        raise RunError(
            f"the layers of {name} do not fit the network that should begin with them: {error}"
        ) from error
    return whole


def _is_ours(path: Path) -> bool:
    try:
        with safe_open(path, framework="pt") as file:
            return "recipe" in (file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise RunError(f"{path}: not a safetensors file: {error}") from error


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise RunError(f"{path}: not a safetensors file: {error}") from error


def _without_classifier(encoder: Encoder, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    layers = (encoder.classifier,) if isinstance(encoder.classifier, str) else encoder.classifier
    heads = tuple(f"{layer}." for layer in layers if layer)
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(heads)}
