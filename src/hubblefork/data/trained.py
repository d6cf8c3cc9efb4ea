"""What is known of a trained network without its weights: enough to show it images, as views of stamps.

A view is the centre of a stamp, rotated and mirrored. It is resampled bilinearly, and a stamp is mirrored
beyond its edge, as by PyTorch's `grid_sample` with `align_corners=False` and `padding_mode="reflection"`. For
one rotation each pixel of a view is a weighted mean of four pixels of the stamp, so that one sparse matrix
makes the views of any number of stamps.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from hubblefork import __version__
from hubblefork.data.folders import RunFolder
from hubblefork.errors import HubbleforkError, ImageError, RunError, did_you_mean
from hubblefork.images.cutouts import Reading
from hubblefork.images.decoder import BANDS, StampSpec
from hubblefork.images.field import PIXEL, Field, parse_field
from hubblefork.images.surveys import Display, display_of
from hubblefork.zoo import DecisionTree, parse_tree, tree_text

PACKAGED = Path(__file__).parents[1] / "network" / "weights"
EMBEDDED = RunFolder(PACKAGED / "fork").weights
FRACTIONS, FEATURES = "fractions", "features"
"""What a network file puts out: joint fractions, and the inputs of the last layer."""
ENTRY = "hubblefork"
"""The key of a network file's metadata that holds all of this as JSON."""


@dataclass(frozen=True)
class Trained:
    """A trained network: its recipe's name, tree, stamps and views, and the SHA-256 of its weights.

    Views of `input_size` pixels are cut from stamps, the first rotated by `first_angle` degrees. `precision`
    is the recipe's. `image_side` is the shorter side of the training images in pixels; 0 where it is unknown
    or differs. `outputs` is the number of values for a galaxy: one for each answer (0 stands for that), and
    with concentrations one for each question too. `display` is what its images showed; None where it is
    not stated.
    """

    recipe: str
    tree: DecisionTree
    stamps: StampSpec
    input_size: int
    first_angle: float
    precision: str
    image_side: int
    digest: str
    outputs: int = 0
    display: Display | None = None

    def __post_init__(self) -> None:
        if not self.outputs:
            object.__setattr__(self, "outputs", len(self.tree.columns))
        scale = Reading(self.display).pixel_scale
        object.__setattr__(self, "stamps", replace(self.stamps, pixel_scale=scale))

    def as_metadata(self) -> dict[str, str]:
        """Return it as the metadata of a network file."""
        entries = {
            "recipe": self.recipe,
            "questions": tree_text(self.tree),
            "crop": self.stamps.crop,
            "stamp_size": self.stamps.size,
            "bands": self.stamps.bands,
            "input_size": self.input_size,
            "first_angle": self.first_angle,
            "precision": self.precision,
            "image_side": self.image_side,
            "weights_sha256": self.digest,
            "outputs": self.outputs,
            "display": self.display and self.display.entries(),
            "version": __version__,
        }
        return {ENTRY: json.dumps(entries)}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], path: Path) -> Trained:
        """Return what a network file says of itself. Raises RunError where it says nothing."""
        try:
            entries = json.loads(metadata[ENTRY])
            return cls(
                str(entries["recipe"]),
                parse_tree(entries["questions"], origin=str(path)),
                StampSpec(entries["crop"], int(entries["stamp_size"]), int(entries.get("bands", BANDS))),
                int(entries["input_size"]),
                float(entries["first_angle"]),
                str(entries["precision"]),
                int(entries["image_side"]),
                str(entries["weights_sha256"]),
                int(entries.get("outputs", 0)),
                display_of(entries.get("display") or {}),
            )
        except (KeyError, ValueError, TypeError, HubbleforkError) as error:
            raise RunError(
                f"{path}: it does not say which stamps and tree it is for ({error}); "
                "write it with `hubblefork export RUN`"
            ) from error

    def field_of(self, field: str | float | None, enlarge: bool = False) -> Field | None:
        """Return the field of images that the network is shown. Raises RunError, ImageError."""
        if field is None:
            if self.display and self.display.field:
                return self.display.field
            if enlarge:
                raise ImageError("enlarging needs to know how much sky an image shows: give --field too")
            return None
        value, unit = parse_field(field)
        if unit:
            return Field(1, value / self._arcseconds(field), enlarge, f"{value:g} arcsec")
        if self.stamps.extent[1] != PIXEL:
            raise RunError(f"--field {field}: {self.recipe} sees {self.stamps.crop}: state it as 50arcsec")
        if not self.image_side:
            raise RunError(
                f"--field {field}: the weights of {self.recipe} do not say how large the training images "
                "were, or these differed; train again with images of one size, or resample yours to the "
                "pixel scale of training and leave --field out"
            )
        return Field(value, self.image_side, enlarge)

    def _arcseconds(self, field: str | float) -> float:
        """Return the arcseconds in which crops count. Raises RunError where these are not known."""
        if self.stamps.extent[1] != PIXEL:
            return 1.0
        if not self.stamps.pixel_scale:
            raise RunError(
                f"--field {field}: the weights of {self.recipe} do not say how many arcseconds a pixel of "
                "the training images shows (Galaxy Zoo 2's show 0.02 Petrosian radii R90 of each galaxy): "
                "divide by what a training image shows and give the share: 0.5 shows half as much sky"
            )
        return self.stamps.pixel_scale

    def reading_of(self, reading: Reading) -> Reading:
        """Return how images are read for the network. Raises RunError where it was trained on others."""
        asked, known = reading.display, self.display
        if known is None or (asked and not known.stretch):
            return reading
        if asked and asked.shown != known.shown:
            raise RunError(
                f"{self.recipe} was trained on {known}, and {asked} is asked for: leave "
                "--survey out, or fine-tune the network to cutouts of the other survey"
            )
        return replace(reading, display=known, only_fluxes=known.stretch is not None)


def weights_file(source: Path) -> Path:
    """Return the weights of a run folder, or the file itself; `fork` and `fork-fast` come with the package.

    Raises RunError for none.
    """
    path = RunFolder(source).weights if source.is_dir() else source
    packaged = RunFolder(PACKAGED / source.name).weights
    if str(source) == source.name and not source.exists() and packaged.exists():
        return packaged
    if not path.exists():
        known = sorted(path.name for path in PACKAGED.iterdir() if path.is_dir())
        near = "" if source.exists() else did_you_mean(str(source), known)
        raise RunError(
            f"{source}: there are no weights{near}; train a recipe first: hubblefork train DATA --recipe …, "
            f"or name a network of the package: {', '.join(known)}"
        )
    return path


def is_packaged(weights: Path) -> bool:
    """Say whether weights are those of the package."""
    return PACKAGED in weights.parents


def network_file(source: Path) -> Path:
    """Return where the network of some weights lies as ONNX, whether it is there or not. Raises RunError."""
    return weights_file(source).with_suffix(".onnx")


# Views


def even_moves(views: int, stamp: int, size: int, first_angle: float = 0.0) -> NDArray[np.float64]:
    """Return affine maps (view, 2, 3) with evenly spaced rotations, every second view mirrored.

    `views` is 1 or even: views / 2 angles, the first is `first_angle` degrees. Maps go from views of `size`
    pixels to stamps of `stamp` pixels, in units of half a side.
    """
    numbers = np.arange(views)
    angle = math.radians(first_angle) + (numbers // 2) * (2 * math.pi / max(1, views // 2))
    mirror, scale = np.where(numbers % 2 == 0, 1.0, -1.0), size / stamp
    cos, sin, zero = scale * np.cos(angle), scale * np.sin(angle), np.zeros(views)
    return np.stack([mirror * cos, -sin, zero, mirror * sin, cos, zero], axis=1).reshape(views, 2, 3)


def centre_move(stamp: int, size: int) -> NDArray[np.float64]:
    """Return the map (1, 2, 3) of the central pixels, which may lie half a pixel off the centre."""
    move = even_moves(1, stamp, size)
    move[:, :, 2] = -((stamp - size) % 2) / stamp
    return move


def views_of(stamps: NDArray[np.uint8], size: int, views: int, first_angle: float) -> NDArray[np.float32]:
    """Return views (galaxy · view, band, size, size), from 0 to 1, of stamps (galaxy, y, x, band).

    If the views change, predictions change: increase `data.folders.VIEWING`.
    """
    count, side, _, bands = stamps.shape
    pixels = stamps.transpose(1, 2, 3, 0).reshape(side * side, bands * count).astype(np.float32)
    made = np.empty((count, views, bands, size * size), np.float32)
    for view in range(views):
        seen = _resampling(view, views, side, size, first_angle) @ pixels
        made[:, view] = seen.T.reshape(bands, count, size * size).swapaxes(0, 1)
    return made.reshape(count * views, bands, size, size)


@lru_cache(maxsize=64)
def _resampling(view: int, views: int, side: int, size: int, first_angle: float) -> csr_array:
    """Return the matrix (pixel of the view, pixel of the stamp) of one view."""
    plain = views == 1 and not first_angle
    move = (centre_move(side, size) if plain else even_moves(views, side, size, first_angle))[view]
    places = (2 * np.arange(size) + 1) / size - 1
    y, x = np.meshgrid(places, places, indexing="ij")
    columns, rows = ((right * x + down * y + shift).ravel() for right, down, shift in move)
    corners, weights = zip(*(_neighbours(axis, side) for axis in (rows, columns)), strict=True)
    pixels = corners[0][:, :, None] * side + corners[1][:, None, :]
    shares = weights[0][:, :, None] * weights[1][:, None, :] / 255
    starts = np.arange(0, 4 * size * size + 1, 4, dtype=np.int32)
    entries = shares.ravel().astype(np.float32), pixels.ravel().astype(np.int32), starts
    return csr_array(entries, shape=(size * size, side * side))


def _neighbours(places: NDArray[np.float64], side: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the two pixels around each place from -1 to 1, and their shares, both (place, 2)."""
    place = ((places + 1) * side - 1) / 2
    first = np.floor(place).astype(np.int64)
    pixels = np.mod(np.stack([first, first + 1], axis=1), 2 * side)
    share = place - first
    return np.where(pixels < side, pixels, 2 * side - 1 - pixels), np.stack([1 - share, share], axis=1)
