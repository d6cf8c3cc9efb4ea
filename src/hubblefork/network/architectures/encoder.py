"""Networks of the timm library, without their heads."""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from hubblefork.errors import DownloadError, HubbleforkError, RecipeError, did_you_mean
from hubblefork.network.architectures.tail import Free, tail

HUB = "hf_hub:"


class Encoder(nn.Module):
    """A network of timm: views (galaxy, 3, y, x) in [0, 1] in, feature maps (galaxy, feature, y', x') out.

    With `pooled` the maps are averaged as timm does it: (galaxy, feature). Bands are shifted and scaled as
    the network's published weights expect, where it has any. `name` is timm's, or `hf_hub:OWNER/NAME` of
    the Hugging Face hub; `classifier` is its name of the layer that is left out here. Raises RecipeError
    for an unknown name, DownloadError when the hub cannot be reached.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, *, pooled: bool = False, drop_path: float = 0.0) -> None:
        super().__init__()
        self.name = name
        how = {} if pooled else {"global_pool": ""}
        network = _created(name, {**how, "drop_path_rate": drop_path} if drop_path else how)
        _keep_grouped_in_single(network)
        self.network = network
        self.features: int = network.num_features
        expects = getattr(network, "pretrained_cfg", None) or {}
        self.classifier = expects.get("classifier") or ""
        for key, none in (("mean", 0.0), ("std", 1.0)):
            value = torch.tensor(expects.get(key) or (none,) * 3)
            self.register_buffer(key, value.view(1, 3, 1, 1), persistent=False)

    def forward(self, views: Tensor) -> Tensor:
        """Return the feature maps of views."""
        return self.network((views - self.mean) / self.std)

    @property
    def redundant_biases(self) -> int:
        """How many biases Keras gives a ResNet's convolutions although a normalisation follows each."""
        if not self.name.startswith("resnet"):
            return 0
        convolutions = (
            layer
            for name, layer in self.network.named_modules()
            if isinstance(layer, nn.Conv2d) and "lora_" not in name
        )
        return sum(layer.out_channels for layer in convolutions if layer.bias is None)


def encoder_with_tail(name: str, input_size: int, outputs: int, free: Free) -> nn.Sequential:
    """Build a network of timm with a tail: (galaxy, 3, y, x) in, scores (galaxy, outputs) out.

    timm's networks take any size that their strides divide into at least one pixel.
    """
    encoder = Encoder(name, pooled=True, drop_path=free.drop_path)
    dropout = [nn.Dropout(free.dropout)] if free.dropout else []
    return nn.Sequential(encoder, *dropout, *tail(encoder.features, outputs, free))


def _created(name: str, how: dict[str, Any]) -> Any:
    import timm  # seconds to import, and most recipes need none of it

    if timm.models.is_model_in_modules(name.partition(".")[0], ["vision_transformer"]):
        how = {**how, "dynamic_img_size": True, "dynamic_img_pad": True}
    try:
        return timm.create_model(name, pretrained=False, num_classes=0, **how)
    except Exception as error:
        raise _refused(name, error) from error


def _keep_grouped_in_single(network: nn.Module) -> None:
    """Let grouped convolutions train in single precision on a CPU.

    There their bf16 gradients are two to eight times slower (docs/log.md); without gradients, on other
    devices and in other layers it is the precision of the run.
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
    near = did_you_mean(name, timm.list_models())
    return RecipeError(
        f'timm has no encoder "{name}"{near}; timm.list_models() names them all. '
        "One of your own: hubblefork --networks FILE.py …"
    )
