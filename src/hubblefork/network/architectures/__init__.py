"""The networks, one family a file, and the table of their names.

A network is an nn.Sequential: views (galaxy, 3, input_size, input_size), floats in [0, 1], in; scores
(galaxy, outputs) out. Its last layer is the linear one that makes the scores, so that what goes into it are
a galaxy's features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from torch import nn

from hubblefork.errors import RecipeError, did_you_mean
from hubblefork.network.architectures.encoder import encoder_with_tail
from hubblefork.network.architectures.lab import lab_cnn, lab_resnet50, lab_resnet50_dense
from hubblefork.network.architectures.tail import Free
from hubblefork.network.architectures.vgg import vgg7, vgg11, vgg16
from hubblefork.network.architectures.views import views

__all__ = ["ENCODER", "KNOWN", "Free", "build", "complaint_about"]

ENCODER = "encoder:"
AS_PUBLISHED = {
    "lab-cnn": lab_cnn,
    "lab-resnet50": lab_resnet50,
    "lab-resnet50-dense": lab_resnet50_dense,
}
OPEN: dict[str, Callable[[int, int, Free], nn.Sequential]] = {
    "vgg7": vgg7,
    "vgg11": vgg11,
    "vgg16": vgg16,
    "views": views,
}
KNOWN = (*AS_PUBLISHED, *OPEN)
DECIDES = {  # what of `Free` the others that leave something open do not
    "views": ("tail_depth", "tail_width", "tail_dropout", "drop_path"),
    **dict.fromkeys(("vgg7", "vgg11", "vgg16"), ("drop_path",)),
    ENCODER: ("width",),
}


def build(architecture: str, *, input_size: int, outputs: int, free: Free | None = None) -> nn.Sequential:
    """Build a network by its name, or with an encoder of timm as `encoder:NAME`.

    Raises RecipeError for an unknown name, an input too small, or a setting that the network does not leave
    open; DownloadError for an encoder of the hub that cannot be reached.
    """
    free = free or Free()
    complaints = complaint_about(architecture, free, adapters=False)
    if complaints:
        raise RecipeError("; ".join(complaints))
    if architecture.startswith(ENCODER):
        return encoder_with_tail(architecture.removeprefix(ENCODER), input_size, outputs, free)
    if architecture in AS_PUBLISHED:
        return AS_PUBLISHED[architecture](input_size, outputs)
    return OPEN[architecture](input_size, outputs, free)


def complaint_about(architecture: str, free: Free, *, adapters: bool) -> list[str]:
    """Say what is wrong with an architecture and what is to be decided about it; nothing when all is well."""
    if architecture not in KNOWN and not architecture.startswith(ENCODER):
        near = did_you_mean(architecture, KNOWN)
        known = f"known are {', '.join(KNOWN)} and {ENCODER}NAME for an encoder of timm"
        return [f'there is no architecture "{architecture}"{near}; {known}']
    given, own = asdict(free), asdict(Free())
    fixed = DECIDES.get(ENCODER if architecture.startswith(ENCODER) else architecture, ())
    decided = tuple(own) if architecture in AS_PUBLISHED else fixed
    complaints = [
        f"{key} = {given[key]}, but {architecture} does not leave it open: it stays {own[key]}"
        for key in decided
        if given[key] != own[key]
    ]
    if adapters and architecture in (*OPEN, "lab-cnn"):
        complaints.append(f"adapter_rank: {architecture} has no encoder for adapters; {ENCODER}NAME has")
    return complaints
