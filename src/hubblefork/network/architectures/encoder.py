"""Networks of the timm library without their heads, and the output layers that follow them."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from hubblefork.errors import DownloadError, RecipeError, did_you_mean

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

    With an `input_size` (pixels) the network is built for views of that size and gives one vector a galaxy:
    (galaxy, feature). Bands are shifted and scaled as the published weights expect. `name` is timm's, or
    `hf_hub:OWNER/NAME` of the Hugging Face hub, from its cache (see `fetch_encoder`); `classifier` is timm's
    name of the removed last layer; `band_scale` (1, 3, 1, 1) is how much more each band is scaled than their
    mean. Raises RecipeError for an unknown name, an encoder that is not in the
    cache, and one that takes no views of this size.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, *, input_size: int | None = None, drop_path: float = 0.0) -> None:
        super().__init__()
        self.name = name
        options = {"global_pool": ""} if input_size is None else dict(_size_options(name, input_size))
        options |= {"drop_path_rate": drop_path} if drop_path else {}
        try:
            self.network = network = _created(name, options)
        except TypeError as error:
            remedy = "; leave out drop_path" if drop_path else ""
            raise RecipeError(f"encoder {name}: timm cannot make it: {error}{remedy}") from error
        _keep_grouped_in_single(network)
        self.features: int = getattr(network, "head_hidden_size", None) or network.num_features
        expects = getattr(network, "pretrained_cfg", None) or {}
        self.classifier = expects.get("classifier") or ""
        for key, default in (("mean", 0.0), ("std", 1.0)):
            value = torch.tensor(expects.get(key) or (default,) * 3)
            self.register_buffer(key, value.view(1, 3, 1, 1), persistent=False)
        self.band_scale = self.std.mean() / self.std

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


def encoder_network(name: str, input_size: int, outputs: int, options: NetworkOptions) -> nn.Sequential:
    """Build a network of timm with output layers: (galaxy, 3, y, x) to scores (galaxy, outputs)."""
    encoder = Encoder(name, input_size=input_size, drop_path=options.drop_path)
    dropout = [nn.Dropout(options.dropout)] if options.dropout else []
    return nn.Sequential(encoder, *dropout, *output_layers(encoder.features, outputs, options))


def fetch_encoder(name: str) -> None:
    """Download what an encoder of the Hugging Face hub is built from into the hub's cache.

    Only for a name that the user gave: a name in weights or runs never calls the hub. Raises DownloadError.
    """
    if not name.startswith(HUB) or _cached_config(name):
        return
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from timm.models._hub import hf_split

    repository, revision = hf_split(name.removeprefix(HUB))
    try:
        get_hf_file_metadata(hf_hub_url(repository, "config.json", revision=revision), timeout=5)
        hf_hub_download(repository, "config.json", revision=revision)
    except Exception as error:
        raise DownloadError(
            f"{name}: the hub did not give this encoder's config.json ({type(error).__name__}: {error}); "
            f"check {repository} at huggingface.co and the network, or take an encoder that timm itself has: "
            "encoder:resnet50"
        ) from error


def _cached_config(name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from timm.models._hub import hf_split

    repository, revision = hf_split(name.removeprefix(HUB))
    try:
        cached = try_to_load_from_cache(repository, "config.json", revision=revision)
    except ValueError as error:
        raise RecipeError(f"{name}: no name of the Hugging Face hub: {error}") from error
    return Path(cached) if isinstance(cached, str) else None


def _created(name: str, options: dict[str, Any]) -> Any:
    """Build a network of timm without its last layer; one of the hub from the hub's cache."""
    import timm  # takes seconds to import

    source = name
    if name.startswith(HUB):
        config = _cached_config(name)
        if config is None:
            raise RecipeError(
                f"{name}: this encoder of the Hugging Face hub is not on this computer; a name in weights "
                f"does not call the hub. If you trust it: hf download {name.removeprefix(HUB)} config.json"
            )
        source = f"local-dir:{config.parent}"
    elif not timm.models.is_model(name.partition(".")[0]):
        raise RecipeError(
            f'timm has no encoder "{name}"{did_you_mean(name, timm.list_models())}; timm.list_models() has '
            "all. One of your own: hubblefork --networks FILE.py …"
        )
    try:
        return timm.create_model(source, pretrained=False, num_classes=0, **options)
    except TypeError:
        raise
    except Exception as error:
        raise RecipeError(f"encoder {name}: timm cannot make it: {error or type(error).__name__}") from error


@cache
def _size_options(name: str, size: int) -> Mapping[str, Any]:
    """Return the options with which timm builds an encoder that takes views of `size` pixels.

    Each way is tried on the meta device, without memory and without random numbers: a size that may change,
    no option, a size fixed when the network is built. Networks of the user's own get no option.
    """
    import timm

    model = name.partition(".")[0]
    if timm.models.is_model(model) and not timm.models.model_entrypoint(model).__module__.startswith("timm."):
        return {}
    reasons = []
    for options in ({"dynamic_img_size": True, "dynamic_img_pad": True}, {}, {"img_size": size}):
        try:
            with torch.device("meta"), torch.no_grad():
                features = _created(name, options).eval()(torch.zeros(2, 3, size, size))
            if features.ndim == 2:
                return options
            reasons.append(f"it gives {features.ndim - 1} dimensions of features, not 1")
        except TypeError as error:  # the network does not have the option
            reasons += [] if options else [str(error)]
        except RecipeError as error:
            if reasons or not options:
                reasons.append(str(error))
            else:
                raise
        except Exception as error:
            reasons.append(str(error) or type(error).__name__)
    published = None if name.startswith(HUB) else timm.get_pretrained_cfg(name)
    own_size = f"; its own size is {published.input_size[-1]}" if published else ""
    raise RecipeError(
        f"encoder {name} takes no views of {size} × {size} pixels ({reasons[-1][:120]}){own_size}: "
        "set input_size and stamp_size, or take another encoder"
    )


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
