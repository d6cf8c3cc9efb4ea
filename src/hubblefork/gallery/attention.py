"""Why a network answers as it does: which part of an image an answer rests on, and how views differ.

Occlusion (Zeiler & Fergus 2014, ECCV, arXiv:1311.2901): a part is covered with the colour of the sky, and
the fractions are predicted again. What they lose is what the part was worth. Of the turned and mirrored views
whose mean is predicted, the spread says how sure the network is of what it sees.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import hubblefork as hf
from hubblefork.api.predictions import VIEWS
from hubblefork.data.field import crop_of
from hubblefork.data.images import stamp
from hubblefork.data.members import Place
from hubblefork.data.views import views_of
from hubblefork.gallery.pictures import Pictures, encoded
from hubblefork.prediction.predictor import Predictor
from hubblefork.prediction.runtimes import Network

KEPT = 128
STEPS, PATCH = 8, 0.2
SIDE = 424
LEAST = 0.02
"""A loss that is drawn at full strength, at least."""
OPAQUE = 0.8
FOR, AGAINST = (240, 185, 80), (120, 185, 235)


@dataclass(frozen=True)
class Occlusion:
    """What joint fractions (answer,) lose when a part of the image is covered: `losses` (y, x, answer).

    The parts lie evenly in a central square, `seen` of a stamp's side.
    """

    fractions: NDArray[np.float32]
    losses: NDArray[np.float32]
    seen: float


def occlusion(network: Network, pixels: NDArray[np.uint8]) -> Occlusion:
    """Cover each part of a stamp, uint8 (y, x, band), in turn."""
    size, view = len(pixels), network.trained.input_size
    width = max(1, round(view * PATCH))
    starts = np.linspace((size - view) / 2, (size + view) / 2 - width, STEPS).round().astype(int)
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    covered = np.repeat(pixels[None], STEPS**2 + 1, axis=0)
    for part, (top, left) in enumerate((top, left) for top in starts for left in starts):
        covered[part, top : top + width, left : left + width] = np.median(edge, axis=0)
    values = network(covered, 1)[:, : len(network.trained.tree.columns)]
    losses = (values[-1] - values[:-1]).reshape(STEPS, STEPS, -1)
    return Occlusion(values[-1], losses, (view - width) * STEPS / (STEPS - 1) / size)


def overlay(found: Occlusion, answer: int, shown: float) -> bytes:
    """Return the parts on which an answer rests as a transparent PNG to lie over a square image.

    `shown` is the side of that square in units of a stamp's side: above 1 the stamp is its centre. Where
    covering lowers the fraction it is amber, where it raises it blue, the stronger the more it does.
    """
    losses = found.losses[:, :, answer]
    strength = losses / max(LEAST, float(np.abs(losses).max()))
    side = max(1, round(SIDE * found.seen / shown))
    smooth = Image.fromarray(strength.astype(np.float32)).resize((side, side), Image.Resampling.BICUBIC)
    values = np.clip(np.asarray(smooth), -1, 1)[..., None]
    colours = np.where(values > 0, FOR, AGAINST)
    alpha = 255 * OPAQUE * np.abs(values)
    part = Image.fromarray(np.concatenate([colours, alpha], axis=2).round().astype(np.uint8), "RGBA")
    whole = Image.new("RGBA", (SIDE, SIDE))
    whole.paste(part, ((SIDE - side) // 2, (SIDE - side) // 2))
    written = BytesIO()
    whole.save(written, "PNG")
    return written.getvalue()


def fractions_of_views(network: Network, pixels: NDArray[np.uint8], views: int) -> NDArray[np.float32]:
    """Return the joint fractions (view, answer) of each view of a stamp, whose mean is predicted."""
    return network.each(pixels[None], views)[0, :, : len(network.trained.tree.columns)]


def pictures_of_views(network: Network, pixels: NDArray[np.uint8], views: int) -> NDArray[np.uint8]:
    """Return what the network is shown: the views (view, y, x, 3) of a stamp."""
    trained = network.trained
    shown = views_of(pixels[None], trained.input_size, views, trained.first_angle)
    made = (255 * shown.transpose(0, 2, 3, 1)).round().clip(0, 255).astype(np.uint8)
    return np.broadcast_to(made, (*made.shape[:3], 3))


@dataclass
class Looks:
    """How a network looks at galaxies; of the last ones it is kept."""

    model: Place
    pictures: Pictures
    occluded: Any = field(init=False)
    views: Any = field(init=False)

    def __post_init__(self) -> None:
        self.occluded = lru_cache(KEPT)(self._occluded)
        self.views = lru_cache(KEPT)(self._views)

    @cached_property
    def predictor(self) -> Predictor:
        """The network, which is opened when it is first asked."""
        return Predictor(hf.load(self.model).network(few=True))

    def stamp(self, galaxy_id: str) -> tuple[NDArray[np.uint8], float]:
        """Return a galaxy as a stamp, and the side of its image in such sides. Raises ImageError."""
        pixels = self.pictures.pixels(galaxy_id)
        spec, shown = self.predictor.stamps, self.predictor.field
        height, width, _ = pixels.shape
        crop = crop_of(height, width, spec, shown)
        return stamp(pixels, spec, shown), min(height, width) / crop

    def _occluded(self, galaxy_id: str) -> tuple[Occlusion, float]:
        pixels, side = self.stamp(galaxy_id)
        return occlusion(self.predictor.networks[0], pixels), side

    def _views(self, galaxy_id: str) -> tuple[NDArray[np.float32], list[bytes]]:
        pixels, network = self.stamp(galaxy_id)[0], self.predictor.networks[0]
        shown = pictures_of_views(network, pixels, VIEWS)
        return fractions_of_views(network, pixels, VIEWS), [encoded(view) for view in shown]
