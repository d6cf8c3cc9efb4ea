"""Trained networks on a device, and the scale at which they are shown images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hubblefork.data.field import Field, parse_field, scale_remarks
from hubblefork.errors import ImageError, RunError
from hubblefork.network.augment import even_views
from hubblefork.network.device import autocast, device_of, keep_freed_memory, precision_of
from hubblefork.network.model import VoteFractions
from hubblefork.network.postprocess import folded
from hubblefork.network.recipe import Recipe
from hubblefork.network.weights import Weights


class Predictor:
    """Trained networks on a device: stamps uint8 (galaxy, y, x, band) to joint fractions (galaxy, answer).

    The fractions are the mean over all networks and over `views` of each galaxy: rotations around the
    circle, every other one mirrored. A network that was trained on turned galaxies only is shown them turned.
    `field` is how much sky an image shows, in units of a training image (see `data.field`), None where its
    pixels are as large as those of a training image; `enlarge` allows images with fewer pixels than a stamp.
    Raises RunError for networks that need other stamps or answer another tree than the first, for a number
    of views that is neither 1 nor even, and for a field where the size of the training images is not known;
    ImageError for a field that is none.
    """

    def __init__(
        self,
        *members: Weights,
        device: str = "",
        views: int = 1,
        field: str | float | None = None,
        enlarge: bool = False,
    ) -> None:
        keep_freed_memory()
        check_views(views)
        _check_members(members)
        self.image_side, self.field = members[0].image_side, field_of(members[0], field, enlarge)
        self.device = device_of(device)
        self.views, self.tree, self.stamps = views, members[0].tree, members[0].recipe.stamps
        self.members = [(self._prepared(member), member.recipe) for member in members]

    def remarks(self, sides: NDArray[np.int32]) -> list[str]:
        """Say of images, by their shorter sides in pixels, which were seen at another scale."""
        return scale_remarks(sides, self.image_side, self.stamps.crop, self.stamps.size, self.field)

    @property
    def width(self) -> int:
        """How many numbers a galaxy gets."""
        return len(self.tree.columns)

    @torch.inference_mode()
    def __call__(self, stamps: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the joint fractions (galaxy, answer) of one batch of stamps."""
        pixels = torch.from_numpy(np.ascontiguousarray(stamps)).to(self.device)
        values = [self._mean_over_views(network, recipe, pixels) for network, recipe in self.members]
        return torch.stack(values).mean(dim=0).cpu().numpy()

    def _prepared(self, member: Weights) -> VoteFractions:
        return folded(member.network.to(self.device).eval(), member.recipe.input_size)

    def _mean_over_views(self, network: VoteFractions, recipe: Recipe, pixels: Tensor) -> Tensor:
        with autocast(self.device, precision_of(recipe.precision, self.device).name):
            views = even_views(pixels, recipe.input_size, self.views, recipe.augmentation)
            return torch.stack([self._values(network, view) for view in views]).mean(dim=0)

    def _values(self, network: VoteFractions, view: Tensor) -> Tensor:
        return network(view)


class FeaturePredictor(Predictor):
    """A predictor of the inputs of a network's last layer: (galaxy, feature)."""

    @property
    def width(self) -> int:
        """How many features a galaxy has."""
        last = self.members[0][0].features[-1]
        assert isinstance(last, torch.nn.Linear)
        return last.in_features

    def _values(self, network: VoteFractions, view: Tensor) -> Tensor:
        return network.features[:-1](view).float()


def field_of(weights: Weights, field: str | float | None, enlarge: bool = False) -> Field | None:
    """Return the field of images that a network is shown. Raises RunError, ImageError."""
    if field is None:
        if enlarge:
            raise ImageError("enlarging needs to know how much sky an image shows: give --field too")
        return None
    share = parse_field(field)
    if not weights.image_side:
        raise RunError(
            f"--field {field}: the weights of {weights.recipe.name} do not say how large the training images "
            "were, or these differed; train again with images of one size, or resample yours to the pixel "
            "scale of training and leave --field out"
        )
    return Field(share, weights.image_side, enlarge)


def check_views(views: int) -> None:
    """Raise RunError for a number of views that is neither 1 nor even."""
    if views < 1 or (views > 1 and views % 2):
        raise RunError(f"views = {views}: 1, or an even number (half of them are mirrored), such as 16")


def _check_members(members: Sequence[Weights]) -> None:
    first = members[0]
    for member in members[1:]:
        if member.recipe.stamps != first.recipe.stamps or member.tree != first.tree:
            raise RunError(
                f"networks that predict together must see the same stamps and answer the same tree: "
                f"{member.recipe.name} has {member.recipe.stamps} and {member.tree.name}, "
                f"{first.recipe.name} {first.recipe.stamps} and {first.tree.name}"
            )
