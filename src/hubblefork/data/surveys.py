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

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from hubblefork.errors import RecipeError, did_you_mean

PARAMETERS = {
    "lupton": ("minimum", "stretch", "q"),
    "asinh": ("minimum", "maximum", "a"),
    "linear": ("minimum", "maximum"),
    "zscale": ("contrast",),
}
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
            raise RecipeError(f'survey "{self.name}": its stretch has {len(self.stretch.scale)} scales')


def survey_names() -> tuple[str, ...]:
    """Return the names of the surveys."""
    files = resources.files("hubblefork.data").joinpath("surveys").iterdir()
    return tuple(sorted(Path(file.name).stem for file in files if file.name.endswith(".toml")))


def load_survey(name: str) -> Survey:
    """Return a survey by its name. Raises RecipeError for an unknown one."""
    names = survey_names()
    if name not in names:
        raise RecipeError(
            f'there is no survey "{name}"{did_you_mean(name, names)}; there are {", ".join(names)}'
        )
    text = resources.files("hubblefork.data").joinpath("surveys", f"{name}.toml").read_text(encoding="utf-8")
    entries: dict[str, Any] = tomllib.loads(text)
    stretch = stretch_of(entries.pop("stretch"))
    fields: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in entries.items()
    }
    return Survey(**fields, name=name, stretch=stretch)


def stretch_of(entries: Mapping[str, Any]) -> Stretch:
    """Return the stretch that entries of a TOML table state. Raises RecipeError."""
    unknown = [name for name in entries if name not in Stretch.__dataclass_fields__]
    if unknown or "kind" not in entries:
        near = did_you_mean(unknown[0], Stretch.__dataclass_fields__) if unknown else ""
        raise RecipeError(
            f"a stretch has no {', '.join(unknown)}{near}" if unknown else "a stretch needs a kind"
        )
    return Stretch(**{**entries, "scale": tuple(entries.get("scale", ()))})
