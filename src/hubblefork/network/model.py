"""A network with its head: stamps in, joint fractions out; and how its parameters are counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hubblefork.network.adapters import add_adapters
from hubblefork.network.architectures import bands_of, build
from hubblefork.network.architectures.encoder import Encoder
from hubblefork.network.heads import build_head
from hubblefork.network.recipe import Recipe
from hubblefork.zoo import DecisionTree


class VoteFractions(nn.Module):
    """Maps views of stamps, (galaxy, band, y, x) floats in [0, 1], to what the head makes of their scores."""

    def __init__(self, recipe: Recipe, tree: DecisionTree) -> None:
        super().__init__()
        self.features = build(
            recipe.architecture,
            input_size=recipe.input_size,
            outputs=recipe.outputs(tree),
            options=recipe.options,
            bands=recipe.bands,
        )
        if recipe.adapter_rank:
            add_adapters(self.features, recipe.adapter_rank)
        self.tree, self.head = tree, build_head(recipe.head, tree)

    def forward(self, views: Tensor) -> Tensor:
        """Return the head's values in single precision: bf16 would round them to 8 bits."""
        scores = self.scores(views)
        with torch.autocast(scores.device.type, enabled=False):
            return self.head(scores)

    def scores(self, views: Tensor) -> Tensor:
        """Return the scores, (galaxy, output), in single precision."""
        hidden = self.features[:-1](views)
        with torch.autocast(hidden.device.type, enabled=False):
            return self.features[-1](hidden.float())


@dataclass(frozen=True)
class Parameters:
    """The number of parameters of a network, as PyTorch and as Keras count them.

    `learned` is PyTorch's number, of which `frozen` are not trained. Keras also counts the running
    `statistics` of batch normalisation, and its ResNets have `redundant` biases before each normalisation.
    """

    learned: int
    statistics: int
    redundant: int = 0
    frozen: int = 0

    @property
    def trained_share(self) -> float:
        """The share of the parameters that gradients change."""
        return 1 - self.frozen / self.learned

    @property
    def keras(self) -> int:
        """The total in Keras's way of counting."""
        return self.learned + self.statistics + self.redundant


def count_parameters(network: nn.Module) -> Parameters:
    """Count the parameters of a network."""
    learned = sum(parameter.numel() for parameter in network.parameters())
    frozen = sum(parameter.numel() for parameter in network.parameters() if not parameter.requires_grad)
    running = ("running_mean", "running_var")
    statistics = sum(values.numel() for name, values in network.named_buffers() if name.endswith(running))
    encoders = (module for module in network.modules() if isinstance(module, Encoder))
    return Parameters(learned, statistics, sum(encoder.redundant_biases for encoder in encoders), frozen)


def count_by_recipe(recipe: Recipe, tree: DecisionTree) -> Parameters:
    """Count the parameters of a recipe's network on PyTorch's meta device, without memory for them."""
    with torch.device("meta"):
        return count_parameters(VoteFractions(recipe, tree))


@dataclass(frozen=True)
class Layer:
    """One layer: type, output shape (y, x, band) or (feature,), parameters."""

    kind: str
    output_shape: tuple[int, ...]
    parameters: Parameters


def summarise(network: nn.Module, input_size: int) -> list[Layer]:
    """Return the layers of a network in the order of computation; an encoder of timm is one layer."""
    layers: list[Layer] = []

    def note(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        shape = tuple(output.shape[1:])
        shown = (*shape[1:], shape[0]) if len(shape) == 3 else shape
        kind = module.name if isinstance(module, Encoder) else type(module).__name__
        layers.append(Layer(kind, shown, count_parameters(module)))

    hooks = [module.register_forward_hook(note) for module in layers_of(network)]
    was_training = network.training
    with torch.no_grad():
        network.eval()(torch.zeros(1, bands_of(network), input_size, input_size))
    network.train(was_training)
    for hook in hooks:
        hook.remove()
    return layers


def layers_of(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the layers of a network in the order of computation; an encoder of timm is one layer."""
    if isinstance(module, Encoder) or not list(module.children()):
        yield module
    else:
        for child in module.children():
            yield from layers_of(child)
