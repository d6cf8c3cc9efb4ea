"""The images of a catalogue's galaxies: found by id, decoded by the one decoder, sent as JPEG."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Event, Lock, Thread

import numpy as np
import pyarrow as pa
import simplejpeg
from numpy.typing import NDArray

from hubblefork.data.cutouts import Reading
from hubblefork.data.images import StampSpec, pixels_of, result_of, shorter_side, stamp
from hubblefork.data.members import ImageData, MemberError, Place
from hubblefork.data.sources import ImageIndex, open_index
from hubblefork.errors import HubbleforkError, ImageError

QUALITY = 88
KEPT = 48 * 2**20
WAIT = 60.0


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
    _made: OrderedDict[tuple[str, int, float, float], bytes] = field(default_factory=OrderedDict, repr=False)
    _opened: ExitStack = field(default_factory=ExitStack, repr=False)
    _listed: Event = field(default_factory=Event, repr=False)
    _reading: Lock = field(default_factory=Lock, repr=False)
    _keeping: Lock = field(default_factory=Lock, repr=False)
    _bytes: int = 0

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

        Fluxes are multiplied by `gain` before they are stretched. Raises ImageError for a galaxy without an
        image, or whose image cannot be decoded.
        """
        key = (galaxy_id, size, share, gain)
        with self._keeping:
            if key in self._made:
                self._made.move_to_end(key)
                return self._made[key]
        made = encoded(self.square(galaxy_id, size=size, share=share, gain=gain))
        with self._keeping:
            if key not in self._made:
                self._made[key] = made
                self._bytes += len(made)
            while self._bytes > KEPT:
                self._bytes -= len(self._made.popitem(last=False)[1])
        return made

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
