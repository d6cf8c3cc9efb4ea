"""Networks that predict together, and the scale at which they are shown images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from hubblefork.data.trained import Trained
from hubblefork.errors import RunError
from hubblefork.images.cutouts import Reading
from hubblefork.images.field import PIXEL, R90, scale_remarks
from hubblefork.prediction.runtimes import Network


class Showing(TypedDict, total=False):
    """How a network is shown images.

    `views` is the number of rotations and reflections of each that are averaged: 1, or an even number.
    `field` is how much sky an image shows, in units of a training image (see `images.field`), None where its
    pixels are as large as those of a training image; `enlarge` allows images with fewer pixels than a stamp.
    `survey` names the survey of the images, or is an `images.cutouts.Reading`.
    """

    views: int
    field: str | float | None
    enlarge: bool
    survey: str | Reading


class Computing(Showing, total=False):
    """The same, on which `device` (cpu, cuda, mps) and by which `runtime` (onnxruntime, openvino, torch)."""

    device: str
    runtime: str


class Predictor:
    """Trained networks: stamps uint8 (galaxy, y, x, band) to joint fractions (galaxy, answer).

    The fractions are the mean over all networks and over `views` of each galaxy: rotations around the
    circle, every other one mirrored. A network that was trained on turned galaxies only is shown them turned.
    Networks that were trained on fluxes show them as then. Raises RunError for networks that need other
    stamps or answer another tree than the first, for a number of views that is neither 1 nor even, and for a
    field where the size of the training images is not known; ImageError for a field that is none.
    """

    def __init__(
        self,
        *networks: Network,
        views: int = 1,
        field: str | float | None = None,
        enlarge: bool = False,
        survey: str | Reading = "",
    ) -> None:
        check_views(views)
        _check_members(networks)
        first = networks[0].trained
        self.field = first.field_of(field, enlarge)
        self.reading = first.reading_of(Reading.of(survey))
        self.networks, self.views, self.tree, self.stamps = networks, views, first.tree, first.stamps
        self.image_side, self.width = first.image_side, first.outputs

    @property
    def galaxies(self) -> int:
        """How many galaxies are best in a call."""
        return max(1, max(network.together for network in self.networks) // self.views)

    @property
    def runtime(self) -> str:
        """What computes the networks, on what, and how precisely."""
        return "; ".join(dict.fromkeys(network.runtime for network in self.networks))

    @property
    def as_trained(self) -> bool:
        """Whether images show as much sky as those of training by the network's own account."""
        return self.reading.field is not None and self.field == self.reading.field

    def remarks(self, sides: Mapping[int, int]) -> list[str]:
        """Say which images were seen at another scale; `sides` counts them by shorter side in pixels."""
        crop, unit = self.stamps.extent
        if self.as_trained or unit == R90:
            return []
        known = self.image_side if unit == PIXEL else 0
        return scale_remarks(sides, known, crop, self.stamps.size, self.field)

    def __call__(self, stamps: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the joint fractions (galaxy, answer) of one batch of stamps."""
        mean: NDArray[np.float32] = np.mean(
            [network(stamps, self.views) for network in self.networks], axis=0
        )
        return mean


def check_views(views: int) -> None:
    """Raise RunError for a number of views that is neither 1 nor even."""
    if not isinstance(views, Integral) or views < 1 or (views > 1 and views % 2):
        raise RunError(f"views = {views!r}: 1, or an even number (half of them are mirrored), such as 16")


def _sees(trained: Trained) -> tuple[Any, ...]:
    return trained.stamps, trained.tree, trained.outputs, trained.display


def _check_members(networks: Sequence[Network]) -> None:
    first, *others = (network.trained for network in networks)
    for other in others:
        if _sees(other) != _sees(first):
            raise RunError(
                f"networks that predict together must see the same stamps and answer the same tree: "
                f"{other.recipe} has {other.stamps} and {other.tree.name}, "
                f"{first.recipe} {first.stamps} and {first.tree.name}"
            )
