"""Imaging surveys: bands, pixels, seeing, depth, and how their cutouts become pictures.

A survey is data, in `surveys/*.toml`, with its sources. Its stretch makes of fluxes what a network is shown:

    lupton   the bands together, so that colours last (Lupton et al. 2004, doi:10.1086/382245)
    asinh    each band from `minimum` to `maximum`; linear below `a`, a share of that range
    linear   each band from `minimum` to `maximum`
    zscale   each band between limits that are chosen in each image anew (IRAF's zscale with `contrast`)

The first three show equal fluxes alike in every image; zscale does not. Each band is multiplied by its
`scale` first; `minimum`, `maximum` and `stretch` are in the units of what results.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from hubblefork.errors import RecipeError, did_you_mean
from hubblefork.images.field import Field
from hubblefork.io import Packaged

PARAMETERS = {
    "lupton": ("minimum", "stretch", "q"),
    "asinh": ("minimum", "maximum", "a"),
    "linear": ("minimum", "maximum"),
    "zscale": ("contrast",),
}
SURVEYS = Packaged("hubblefork.images", "surveys", "survey", RecipeError)
POSITIVE = ("stretch", "q", "a", "contrast")


@dataclass(frozen=True)
class Stretch:
    """How fluxes become grey levels: a kind, the parameters of that kind, and a `scale` for each colour.

    Raises RecipeError for another kind, and where its parameters are missing, too many or out of range.
    """

    kind: str
    minimum: float | None = None
    maximum: float | None = None
    stretch: float | None = None
    q: float | None = None
    a: float | None = None
    contrast: float | None = None
    scale: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in PARAMETERS:
            near = did_you_mean(self.kind, PARAMETERS)
            raise RecipeError(f'there is no stretch "{self.kind}"{near}; there are {", ".join(PARAMETERS)}')
        needed, stated = PARAMETERS[self.kind], asdict(self)
        given = [
            name for name, value in stated.items() if value is not None and name not in ("kind", "scale")
        ]
        if sorted(given) != sorted(needed):
            raise RecipeError(
                f"a {self.kind} stretch is stated by {', '.join(needed)}, "
                f"not by {', '.join(given) or 'nothing'}"
            )
        low = [name for name in POSITIVE if stated[name] is not None and not stated[name] > 0]
        if low or not all(factor > 0 for factor in self.scale):
            raise RecipeError(f"a {self.kind} stretch: {', '.join(low) or 'each scale'} must be above 0")
        if self.minimum is not None and self.maximum is not None and not self.minimum < self.maximum:
            raise RecipeError(
                f"a {self.kind} stretch from {self.minimum:g} to {self.maximum:g}: from less to more"
            )

    def entries(self) -> dict[str, Any]:
        """Return what is stated, as it stands in a recipe."""
        stated = {**asdict(self), "scale": list(self.scale) or None}
        return {name: value for name, value in stated.items() if value is not None}


@dataclass(frozen=True)
class Display:
    """What images show: of fluxes the bands that are red, green and blue (one: grey), and their stretch.

    Pictures that somebody has stretched have neither. `survey` names where they come from; `pixel_scale` is
    in arcsec, 0 if unknown. With a `side` every image counts as so many pixels across, whatever its own, as
    those do that show the same number of a galaxy's radii. Raises RecipeError for two bands, and for scales
    that are not one a band.
    """

    survey: str
    rgb: tuple[str, ...] = ()
    stretch: Stretch | None = None
    pixel_scale: float = 0.0
    side: int = 0

    def __post_init__(self) -> None:
        if self.stretch is None:
            if self.rgb:
                raise RecipeError("rgb and stretch are stated together")
            return
        if len(self.rgb) not in (1, 3):
            raise RecipeError(f"rgb = {', '.join(self.rgb) or 'nothing'}: one band, or red, green and blue")
        if len(self.stretch.scale) not in (0, len(self.rgb)):
            raise RecipeError(
                f"a stretch with {len(self.stretch.scale)} scales for {len(self.rgb)} bands: one for each"
            )

    def __str__(self) -> str:
        """Return a short name that differs where what is shown does."""
        if self.stretch is None:
            return f"{self.survey} pictures".strip()
        digest = hashlib.sha256(json.dumps(self.entries(), sort_keys=True).encode()).hexdigest()
        return f"{self.survey or 'fluxes'}-{digest[:8]}"

    def entries(self) -> dict[str, Any]:
        """Return what is stated, as metadata hold it."""
        stretch = self.stretch and self.stretch.entries()
        entries = {**asdict(self), "rgb": list(self.rgb), "stretch": stretch}
        return {key: value for key, value in entries.items() if value or key == "pixel_scale"}

    @property
    def shown(self) -> tuple[object, ...]:
        """What of it decides the pixels of an image."""
        return self.rgb, self.stretch

    @property
    def of_pictures(self) -> Display:
        """The same of images that somebody has stretched already."""
        return replace(self, rgb=(), stretch=None)

    @property
    def field(self) -> Field | None:
        """How much sky images show: with a `side` all the same; None where their pixels are alike."""
        return Field(1, self.side, enlarge=True) if self.side else None


@dataclass(frozen=True)
class Survey:
    """One imaging survey.

    `bands` are its bands from blue to red, lower case; `psf_fwhm` (arcsec) and `depth` (AB magnitude of a
    point source at 5 σ) have one value a band. `pixel_scale` is in arcsec, `zero_point` the AB magnitude of
    one count in a cutout. `rgb` are the bands shown as red, green and blue; one band is shown grey. `tree`
    names the tree of the Galaxy Zoo project on its images. Raises RecipeError where these contradict.
    """

    name: str
    title: str
    source: str
    pixel_scale: float
    bands: tuple[str, ...]
    psf_fwhm: tuple[float, ...]
    depth: tuple[float, ...]
    zero_point: float
    rgb: tuple[str, ...]
    stretch: Stretch
    tree: str

    def __post_init__(self) -> None:
        if not self.bands or not len(self.bands) == len(self.psf_fwhm) == len(self.depth):
            raise RecipeError(
                f'survey "{self.name}": psf_fwhm and depth need one value for each of its bands'
            )
        if len(self.rgb) not in (1, 3) or not set(self.rgb) <= set(self.bands):
            raise RecipeError(f'survey "{self.name}": rgb names one or three of {", ".join(self.bands)}')
        if len(self.stretch.scale) not in (0, len(self.rgb)):
            scales = len(self.stretch.scale)
            raise RecipeError(
                f'survey "{self.name}": its stretch has {scales} scales, rgb {len(self.rgb)} bands'
            )

    @property
    def display(self) -> Display:
        """What is shown of its cutouts."""
        return Display(self.name, self.rgb, self.stretch, self.pixel_scale)


def survey_names() -> tuple[str, ...]:
    """Return the names of the surveys."""
    return SURVEYS.names


@cache
def load_survey(name: str) -> Survey:
    """Return a survey by its name, or from a .toml file like those in `surveys`. Raises RecipeError."""
    try:
        entries: dict[str, Any] = tomllib.loads(SURVEYS.text(name))
        stretch = stretch_of(entries.pop("stretch", {}))
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in entries.items()
        }
        return Survey(**fields, name=Path(name).stem, stretch=stretch)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"{name}: no survey can be read from it: {error}") from error


@cache
def survey_of(tree: str) -> Survey:
    """Return the first survey of whose images a tree is asked. Raises RecipeError where there is none."""
    for survey in map(load_survey, survey_names()):
        if survey.tree == tree:
            return survey
    raise RecipeError(f"no survey has the tree {tree}")


def display_of(entries: Mapping[str, Any]) -> Display | None:
    """Return what metadata say (`Display.entries`), None where that is nothing. Raises RecipeError."""
    if not entries:
        return None
    stretch = entries.get("stretch")
    return Display(
        entries.get("survey", ""),
        tuple(entries.get("rgb", ())),
        stretch_of(stretch) if stretch else None,
        entries.get("pixel_scale", 0.0),
        entries.get("side", 0),
    )


def stretch_of(entries: Mapping[str, Any]) -> Stretch:
    """Return the stretch that entries of a TOML table state. Raises RecipeError."""
    unknown = [name for name in entries if name not in Stretch.__dataclass_fields__]
    if unknown or "kind" not in entries:
        near = did_you_mean(unknown[0], Stretch.__dataclass_fields__) if unknown else ""
        raise RecipeError(
            f"a stretch has no {', '.join(unknown)}{near}" if unknown else "a stretch needs a kind"
        )
    return Stretch(**{**entries, "scale": tuple(entries.get("scale", ()))})
