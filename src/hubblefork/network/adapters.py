"""Low-rank adapters (LoRA, Hu et al. 2021, arXiv:2106.09685) beside the layers of an encoder, by PEFT.

The encoder's own weights stay as they were; beside each of its convolutions (and linear layers, where it has
them) a product of two thin ones is trained. The statistics of batch normalisation do follow the galaxies:
they are no weights, and those of photographs do not fit. Adapters, statistics and the fully connected layers
make a file of a few MB; `merged` adds the adapters to the weights, after which the network is a plain one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from hubblefork.errors import RecipeError, extras
from hubblefork.network.architectures.encoder import Encoder

MARK, BASE = "lora_", ".base_layer"


def add_adapters(network: nn.Module, rank: int) -> None:
    """Put adapters of a rank beside the layers of a network's encoder and freeze what was there.

    They begin as zero and count twice (alpha is 2 × rank). Grouped convolutions get none. Raises ExtraMissing
    without PEFT, RecipeError for a network without an encoder.
    """
    peft = _peft()
    encoder = encoder_of(network)
    if encoder is None:
        raise RecipeError(f"adapter_rank = {rank}: this network has no encoder for adapters")
    targets = [name for name, layer in encoder.network.named_modules() if _takes_adapter(layer)]
    pattern = "|".join(name.replace(".", r"\.") for name in targets)
    settings = peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=pattern)
    peft.inject_adapter_in_model(settings, encoder.network)


def encoder_of(network: nn.Module) -> Encoder | None:
    """Return a network's encoder, or None."""
    return next((module for module in network.modules() if isinstance(module, Encoder)), None)


def own_tensors(encoder: Encoder) -> dict[str, Tensor]:
    """Return an encoder's tensors without adapters, in timm's naming; writing into them changes it."""
    return {
        name.replace(BASE, ""): tensor
        for name, tensor in encoder.network.state_dict().items()
        if MARK not in name
    }


def frozen_names(network: nn.Module) -> set[str]:
    """Return the names of the parameters that no gradient changes."""
    return {name for name, parameter in network.named_parameters() if not parameter.requires_grad}


def merged(tensors: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Return a network's tensors with its adapters added to the weights that they stand beside."""
    tensors = dict(tensors)
    for prefix, layer in network.named_modules():
        for adapter in getattr(layer, "lora_A", ()):
            tensors[f"{prefix}{BASE}.weight"] = layer.base_layer.weight + layer.get_delta_weight(adapter)
    return {name.replace(BASE, ""): tensor for name, tensor in tensors.items() if MARK not in name}


def _takes_adapter(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1)


def _peft() -> Any:
    with extras("an adapter_rank above 0"):
        import peft
    return peft
