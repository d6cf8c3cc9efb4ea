"""What is known of a trained network without its weights: enough to show it images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from hubblefork import __version__
from hubblefork.data.cutouts import Reading
from hubblefork.data.field import PIXEL, Field, parse_field
from hubblefork.data.folders import RunFolder
from hubblefork.data.images import BANDS, StampSpec
from hubblefork.data.surveys import Display, display_of
from hubblefork.errors import HubbleforkError, ImageError, RunError
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
        raise RunError(
            f"{source}: there are no weights; train a recipe first: hubblefork train DATA --recipe …"
        )
    return path


def is_packaged(weights: Path) -> bool:
    """Say whether weights are those of the package."""
    return PACKAGED in weights.parents


def network_file(source: Path) -> Path:
    """Return where the network of some weights lies as ONNX, whether it is there or not. Raises RunError."""
    return weights_file(source).with_suffix(".onnx")
