"""Networks of the timm library without their heads, and the output layers that follow them."""

from __future__ import annotations

import sys
import traceback
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from hubblefork.errors import DownloadError, HubbleforkError, RecipeError, did_you_mean

HUB = "hf_hub:"


@dataclass(frozen=True)
class NetworkOptions:
    """The options of a network.

    `width`: channels of the first convolution, the others in proportion (0: the default); `dropout`: the
    dropout rate inside the network (encoders: of the features); `hidden_layers` fully connected layers of
    `hidden_units` with ReLU and `hidden_dropout` before the output; `drop_path`: the rate of stochastic depth
    in the residual blocks of an encoder (Huang et al. 2016, arXiv:1603.09382).
    """

    width: int = 0
    dropout: float = 0.0
    hidden_layers: int = 0
    hidden_units: int = 512
    hidden_dropout: float = 0.0
    drop_path: float = 0.0


def output_layers(features: int, outputs: int, options: NetworkOptions) -> list[nn.Module]:
    """Build the fully connected layers from (galaxy, features) to scores (galaxy, outputs)."""
    layers: list[nn.Module] = []
    for _ in range(options.hidden_layers):
        hidden = nn.Linear(features, options.hidden_units)
        layers += [hidden, nn.ReLU(), nn.Dropout(options.hidden_dropout)]
        features = options.hidden_units
    return [*layers, nn.Linear(features, outputs)]


class Encoder(nn.Module):
    """A network of timm: views (galaxy, 3, y, x) in [0, 1] to feature maps (galaxy, feature, y', x').

    With `pooled` the maps are averaged: (galaxy, feature). Bands are shifted and scaled as the published
    weights expect. `name` is timm's, or `hf_hub:OWNER/NAME` of the Hugging Face hub; `classifier` is timm's
    name of the removed last layer. Raises RecipeError for an unknown name, DownloadError if the hub fails.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, *, pooled: bool = False, drop_path: float = 0.0) -> None:
        super().__init__()
        self.name = name
        options: dict[str, Any] = {} if pooled else {"global_pool": ""}
        options |= {"drop_path_rate": drop_path} if drop_path else {}
        self.network = network = _created(name, options)
        _keep_grouped_in_single(network)
        self.features: int = network.num_features
        expects = getattr(network, "pretrained_cfg", None) or {}
        self.classifier = expects.get("classifier") or ""
        for key, default in (("mean", 0.0), ("std", 1.0)):
            value = torch.tensor(expects.get(key) or (default,) * 3)
            self.register_buffer(key, value.view(1, 3, 1, 1), persistent=False)

    def forward(self, views: Tensor) -> Tensor:
        """Return the feature maps of views."""
        return self.network((views - self.mean) / self.std)

    @property
    def redundant_biases(self) -> int:
        """The number of biases that only Keras has in a ResNet: before each normalisation."""
        layers = self.network.named_modules() if self.name.startswith("resnet") else ()
        convolutions = [
            layer for name, layer in layers if isinstance(layer, nn.Conv2d) and "lora_" not in name
        ]
        return sum(layer.out_channels for layer in convolutions if layer.bias is None)


def encoder_network(name: str, outputs: int, options: NetworkOptions) -> nn.Sequential:
    """Build a network of timm with output layers: (galaxy, 3, y, x) to scores (galaxy, outputs).

    timm's networks accept every size that leaves at least one pixel after their strides.
    """
    encoder = Encoder(name, pooled=True, drop_path=options.drop_path)
    dropout = [nn.Dropout(options.dropout)] if options.dropout else []
    return nn.Sequential(encoder, *dropout, *output_layers(encoder.features, outputs, options))


def _created(name: str, options: dict[str, Any]) -> Any:
    import timm  # takes seconds to import

    if timm.models.is_model_in_modules(name.partition(".")[0], ["vision_transformer"]):
        options = {**options, "dynamic_img_size": True, "dynamic_img_pad": True}
    try:
        return timm.create_model(name, pretrained=False, num_classes=0, **options)
    except Exception as error:
        raise _refused(name, error) from error


def _keep_grouped_in_single(network: nn.Module) -> None:
    """Train grouped convolutions in single precision on a CPU.

    Their bf16 gradients are two to eight times slower there (docs/log.md).
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d) and layer.groups > 1:
            layer.forward = MethodType(_in_single, layer)  # type: ignore[method-assign]


def _in_single(layer: nn.Module, maps: Tensor) -> Tensor:
    if maps.device.type != "cpu" or not torch.is_grad_enabled():
        return type(layer).forward(layer, maps)
    with torch.autocast("cpu", enabled=False):
        return type(layer).forward(layer, maps.float()).to(maps.dtype)


def _refused(name: str, error: Exception) -> HubbleforkError:
    import timm

    if name.startswith(HUB):
        return DownloadError(
            f"{name}: the hub did not give this encoder ({type(error).__name__}: {error}); check its name at "
            "huggingface.co and the network, or take an encoder that timm itself has: encoder:resnet50"
        )
    if name.partition(".")[0] in timm.list_models():
        return RecipeError(f'encoder "{name}": timm cannot make it: {error}')
    return RecipeError(
        f'timm has no encoder "{name}"{did_you_mean(name, timm.list_models())}; timm.list_models() has all. '
        "One of your own: hubblefork --networks FILE.py …"
    )


def run_networks(path: Path) -> None:
    """Run a Python file that registers networks (`timm.models.register_model`) as `encoder:NAME`.

    A file is run only if a person names it, never because weights or a recipe do. Raises RecipeError for a
    file that does not exist or that fails, with the line.
    """
    path = path.resolve()
    spec = spec_from_file_location(f"networks_of_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise RecipeError(f"{path}: there is no Python file of networks there")
    module = sys.modules[spec.name] = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [f", line {frame.lineno}" for frame in frames if frame.filename == str(path)]
        raise RecipeError(f"{path}{lines[-1] if lines else ''}: {type(error).__name__}: {error}") from error
