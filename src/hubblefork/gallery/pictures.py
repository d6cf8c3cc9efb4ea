"""The images of a catalogue's galaxies, found by id, sent as JPEG; and why a network answers as it does.

Which part of an image an answer rests on is found by occlusion (Zeiler & Fergus 2014, ECCV, arXiv:1311.2901):
a part is covered with the colour of the sky, and the fractions are predicted again. What they lose is what
the part was worth. Of the turned and mirrored views whose mean is predicted, the spread says how sure the
network is of what it sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from io import BytesIO
from threading import Event, Lock, Thread
from typing import Any

import numpy as np
import pyarrow as pa
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

import hubblefork as hf
from hubblefork.api.predictions import VIEWS
from hubblefork.data.trained import views_of
from hubblefork.errors import HubbleforkError, ImageError
from hubblefork.images.cutouts import Reading
from hubblefork.images.decoder import StampSpec, pixels_of, result_of, shorter_side, stamp
from hubblefork.images.field import crop_of
from hubblefork.images.members import ImageData, MemberError, Place
from hubblefork.images.sources import ImageIndex, open_index
from hubblefork.prediction.predictor import Predictor
from hubblefork.prediction.runtimes import Network

QUALITY = 88
WAIT = 60.0
LOOKED_AT = 128
STEPS, PATCH = 8, 0.2
SIDE = 424
LEAST = 0.02
"""A loss that is drawn at full strength, at least."""
OPAQUE = 0.8
FOR, AGAINST = (240, 185, 80), (120, 185, 235)


@dataclass
class Pictures:
    """Images by galaxy, of some archives, folders and lists, and of those galaxies only that `ids` names.

    They are looked for in the background; an image that is asked for meanwhile waits. `fault` says what went
    wrong with that.
    """

    places: Sequence[Place]
    ids: Iterable[pa.Array]
    reading: Reading = field(default_factory=Reading)
    fault: str = ""
    _index: ImageIndex | None = field(default=None, repr=False)
    _opened: ExitStack = field(default_factory=ExitStack, repr=False)
    _listed: Event = field(default_factory=Event, repr=False)
    _reading: Lock = field(default_factory=Lock, repr=False)

    def __post_init__(self) -> None:
        Thread(target=self._list, daemon=True, name="listing images").start()

    def _list(self) -> None:
        try:
            self._index = self._opened.enter_context(open_index(self.places, self.reading.files, self.ids))
        except HubbleforkError as error:
            self.fault = str(error)
        finally:
            self._listed.set()

    @property
    def has_fluxes(self) -> bool:
        """Whether images are fluxes that the gallery stretches itself, so that they can be made brighter."""
        return bool(self.reading.display and self.reading.display.stretch)

    def jpeg(self, galaxy_id: str, *, size: int, share: float = 1.0, gain: float = 1.0) -> bytes:
        """Return the central `share` of a galaxy's image as a JPEG of at most `size` pixels a side.

        None is kept: browsers keep their own.
        Fluxes are multiplied by `gain` before they are stretched. Raises ImageError for a galaxy without an
        image, or whose image cannot be decoded.
        """
        return encoded(self.square(galaxy_id, size=size, share=share, gain=gain))

    def square(
        self, galaxy_id: str, *, size: int, share: float = 1.0, gain: float = 1.0
    ) -> NDArray[np.uint8]:
        """Return the same as pixels, uint8 (y, x, 3). Raises as `jpeg` does."""
        return self._of(galaxy_id, partial(square, size=size, share=share), gain)

    def pixels(self, galaxy_id: str) -> NDArray[np.uint8]:
        """Return a galaxy's whole image, uint8 (y, x, 3). Raises ImageError."""
        return self._of(galaxy_id, pixels_of)

    def _of(
        self, galaxy_id: str, work: Callable[[ImageData], NDArray[np.uint8]], gain: float = 1.0
    ) -> NDArray[np.uint8]:
        if not self._listed.wait(WAIT):
            raise ImageError(f"galaxy {galaxy_id}: its image is still being looked for; ask again")
        with self._reading:
            found = self._index.find(galaxy_id) if self._index else None
            if found is None:
                raise ImageError(f"galaxy {galaxy_id} has no image here{': ' * bool(self.fault)}{self.fault}")
            source, name = found
            data = next(source.stream([name]))[1]
        made = result_of(lambda data, _: work(data), source.path, name, data, brighter(self.reading, gain))
        if isinstance(made, MemberError):
            raise made
        return made


def brighter(reading: Reading, gain: float) -> Reading:
    """Return a reading whose stretch multiplies fluxes by `gain`; of pictures the same reading."""
    display = reading.display
    if gain == 1 or display is None or display.stretch is None:
        return reading
    scale = tuple(gain * factor for factor in display.stretch.scale or (1.0,) * len(display.rgb))
    return replace(reading, display=replace(display, stretch=replace(display.stretch, scale=scale)))


def square(data: ImageData, *, size: int, share: float = 1.0) -> NDArray[np.uint8]:
    """Return the central square of an image, `share` of its shorter side, as at most `size` pixels a side."""
    crop = max(1, round(shorter_side(data) * share))
    return stamp(data, StampSpec(crop, min(size, crop)))


def encoded(pixels: NDArray[np.uint8]) -> bytes:
    """Return pixels, uint8 (y, x, 3), as a JPEG."""
    return simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=QUALITY, colorsubsampling="420")


# Why a network answers as it does


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
        self.occluded = lru_cache(LOOKED_AT)(self._occluded)
        self.views = lru_cache(LOOKED_AT)(self._views)

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
