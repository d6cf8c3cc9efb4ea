"""Mock galaxies: what they are, and how a survey sees them.

Drawn with GalSim (Rowe et al. 2015, doi:10.1016/j.ascom.2015.02.002) on survey pixels, through a Moffat
PSF and sky noise, coloured as in Lupton et al. 2004 (doi:10.1086/382245), and framed as Galaxy Zoo 2
frames its galaxies: 424 × 424 pixels of 0.02 petroR90 each (Willett et al. 2013, section 2.3). The chances
and ranges are rough ones, chosen so that cutouts look like SDSS's and volunteers' answers are as common
as the real ones; nothing else depends on them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import galsim
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hubblefork.images.cutouts import stretched

CUTOUT = 424
PIXELS_A_PETRO_R90 = 50.0
SURVEY_PIXEL = 0.396
SEEING = 1.3
MOST_SURVEY_PIXELS = 168
NOISE = 0.026
BARS = 0.4  # the share of disks that have one
BANDS = ("g", "r", "i")
OLD, YOUNG = np.array([0.52, 0.84, 1.08]), np.array([1.12, 0.94, 0.9])
KINDS = {
    "elliptical": 0.36,
    "disk": 0.14,
    "spiral": 0.33,
    "edge_on": 0.12,
    "irregular": 0.03,
    "star": 0.015,
    "artifact": 0.005,
}
PARAMETERS = galsim.GSParams(
    folding_threshold=0.02, maxk_threshold=0.01, kvalue_accuracy=1e-3, xvalue_accuracy=1e-3
)


@dataclass(frozen=True)
class Galaxy:
    """The truth about one mock object.

    `petro_r90` in arcsec; `axis_ratio` as seen; `angle` and `pitch` in degrees; `bulge` the share of light
    in the bulge; `bar`, `arm_contrast`, `ring`, `arc`, `dust`, `boxy`, `disturbed`, `tails` strengths from
    0 to 1;
    `arms` their number; `brightness` the mean surface brightness in units of the display's stretch;
    `neighbours` their number.
    """

    kind: str
    petro_r90: float
    axis_ratio: float
    angle: float
    bulge: float
    brightness: float
    is_merger: bool = False
    companion: float = 0.0
    tails: float = 0.0
    bar: float = 0.0
    arms: int = 0
    pitch: float = 0.0
    arm_contrast: float = 0.0
    ring: float = 0.0
    arc: float = 0.0
    dust: float = 0.0
    boxy: float = 0.0
    disturbed: float = 0.0
    clumps: int = 0
    neighbours: int = 0


def random_galaxy(rng: np.random.Generator, *, merger_fraction: float) -> Galaxy:
    """Draw the truth about one object; a merger with the given probability."""
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    is_merger = bool(rng.random() < merger_fraction)
    if is_merger and kind in ("star", "artifact", "edge_on"):
        kind = "spiral"
    galaxy = Galaxy(
        kind=kind,
        petro_r90=float(np.clip(rng.lognormal(np.log(7.0), 0.45), 3.0, 25.0)),
        axis_ratio=float(rng.uniform(0.35, 1.0)),
        angle=float(rng.uniform(0, 180)),
        bulge=float(rng.beta(1.2, 3.5)),
        brightness=float(rng.lognormal(np.log(0.30), 0.35)),
        neighbours=int(rng.poisson(2.5)),
    )
    galaxy = _SHAPES[kind](galaxy, rng)
    return _merging(galaxy, rng) if is_merger else _with_oddities(galaxy, rng)


def _elliptical(galaxy: Galaxy, rng: np.random.Generator) -> Galaxy:
    return replace(
        galaxy,
        bulge=1.0,
        axis_ratio=float(rng.choice([rng.uniform(0.3, 0.6), rng.uniform(0.55, 1.0)], p=[0.2, 0.8])),
    )


def _disk(galaxy: Galaxy, rng: np.random.Generator) -> Galaxy:
    return replace(galaxy, bar=float(rng.choice([0.0, rng.uniform(0.3, 1.0)], p=[1 - BARS, BARS])))


def _spiral(galaxy: Galaxy, rng: np.random.Generator) -> Galaxy:
    return replace(
        galaxy,
        bar=float(rng.choice([0.0, rng.uniform(0.3, 1.0)], p=[1 - BARS, BARS])),
        arms=int(rng.choice([1, 2, 3, 4, 5, 6], p=[0.08, 0.55, 0.17, 0.1, 0.06, 0.04])),
        pitch=float(rng.uniform(6, 35)),
        arm_contrast=float(rng.beta(2.5, 1.5)),
    )


def _edge_on(galaxy: Galaxy, rng: np.random.Generator) -> Galaxy:
    return replace(
        galaxy,
        axis_ratio=float(rng.uniform(0.1, 0.22)),
        boxy=float(rng.choice([0.0, rng.uniform(0.4, 1.0)], p=[0.8, 0.2])),
        dust=float(rng.choice([0.0, rng.uniform(0.3, 1.0)], p=[1 - BARS, BARS])),
    )


def _irregular(galaxy: Galaxy, rng: np.random.Generator) -> Galaxy:
    return replace(galaxy, bulge=0.0, clumps=int(rng.integers(4, 10)), brightness=0.7 * galaxy.brightness)


def _star(galaxy: Galaxy, rng: np.random.Generator) -> Galaxy:
    return replace(galaxy, bulge=0.0, axis_ratio=1.0, petro_r90=3.0, brightness=float(rng.uniform(0.6, 3.0)))


def _artifact(galaxy: Galaxy, rng: np.random.Generator) -> Galaxy:
    return replace(galaxy, bulge=0.0, axis_ratio=1.0, brightness=float(rng.uniform(0.3, 1.2)))


_SHAPES = {
    "elliptical": _elliptical,
    "disk": _disk,
    "spiral": _spiral,
    "edge_on": _edge_on,
    "irregular": _irregular,
    "star": _star,
    "artifact": _artifact,
}


def _merging(galaxy: Galaxy, rng: np.random.Generator) -> Galaxy:
    companion, tails, disturbed = rng.uniform([0.2, 0.1, 0.0], [1.0, 1.0, 0.6]).tolist()
    return replace(galaxy, is_merger=True, companion=companion, tails=tails, disturbed=disturbed)


def _with_oddities(galaxy: Galaxy, rng: np.random.Generator) -> Galaxy:
    chances, strengths = rng.random(3), rng.uniform(0.4, 1.0, 3).tolist()
    if galaxy.kind in ("disk", "spiral") and chances[0] < 0.08:
        galaxy = replace(galaxy, ring=strengths[0])
    if galaxy.kind == "elliptical" and chances[1] < 0.015:
        galaxy = replace(galaxy, arc=strengths[1])
    if galaxy.kind not in ("star", "artifact") and chances[2] < 0.03:
        galaxy = replace(galaxy, disturbed=strengths[2])
    return galaxy


def draw_cutout(
    galaxy: Galaxy,
    rng: np.random.Generator,
    *,
    seeing: float = 1.0,
    noise: float = 1.0,
    pixel: float = 1.0,
) -> NDArray[np.uint8]:
    """Draw an object as a cutout: (424, 424, 3) uint8.

    `seeing`, `noise` and `pixel` multiply the survey's PSF width, its sky noise in a pixel and the side of
    its pixels.
    """
    frame = CUTOUT / PIXELS_A_PETRO_R90 * galaxy.petro_r90
    pixels = int(min(round(frame / (SURVEY_PIXEL * pixel)), MOST_SURVEY_PIXELS))
    light = _sdss_light(Scene(galaxy, rng, pixels=pixels, scale=frame / pixels), SEEING * seeing)
    light += rng.normal(0, NOISE * noise * np.array([1.0, 0.9, 1.1])[:, None, None], light.shape)
    g, r, i = light.astype(np.float32)
    rgb = stretched(i, r, g)
    return np.asarray(Image.fromarray(rgb).resize((CUTOUT, CUTOUT), Image.Resampling.BICUBIC))


def _sdss_light(scene: Scene, seeing: float) -> NDArray[np.float64]:
    """Return the light in g, r and i, shape (band, y, x), in units of the display's stretch."""
    galaxy = scene.galaxy
    if galaxy.kind == "artifact":
        shares = np.roll([1.0, 0.35, 0.15], int(galaxy.angle) % 3)
        return np.stack([scene.trail() * share for share in shares])
    old = scene.seen(scene.old(), seeing)
    young = scene.young()
    if young.any():
        image = galsim.Image(young, scale=scene.scale)
        sampled = galsim.InterpolatedImage(image, x_interpolant="linear", gsparams=PARAMETERS)
        young = scene.seen(sampled, seeing) * scene.scale**2
    colours = scene.rng.normal(1, 0.06, 2)
    light = OLD[:, None, None] ** colours[0] * old + YOUNG[:, None, None] * colours[1] * young
    if galaxy.dust:
        light *= 1 - scene.dust_lane() * np.array([0.95, 0.8, 0.65])[:, None, None]
    return light


class Scene:
    """One object among its neighbours on survey pixels; lengths in arcsec, the object at the origin.

    Light is surface brightness in nanomaggies per pixel of SDSS. A star's Gaussian has a sigma of `point`;
    `foreground` is the light of the neighbours that are drawn with the old stars.
    """

    def __init__(
        self, galaxy: Galaxy, rng: np.random.Generator, *, pixels: int, scale: float, point: float = 0.05
    ) -> None:
        self.galaxy, self.rng, self.pixels, self.scale, self.point = galaxy, rng, pixels, scale, point
        self.foreground = 0.0
        axis = (np.arange(pixels) - (pixels - 1) / 2) * scale
        self.x, self.y = np.meshgrid(axis, axis)
        self.unit = galaxy.brightness * np.pi * galaxy.petro_r90**2 * max(galaxy.axis_ratio, 0.3)

    def seen(self, profile: galsim.GSObject, seeing: float) -> NDArray[np.float64]:
        """Return a profile's surface brightness (y, x) through a PSF whose FWHM is `seeing` arcsec."""
        psf = galsim.Moffat(beta=3.0, fwhm=seeing, gsparams=PARAMETERS)
        blurred = galsim.Convolve([profile, psf], gsparams=PARAMETERS)
        return (
            blurred.drawImage(nx=self.pixels, ny=self.pixels, scale=self.scale, method="no_pixel").array
            * self.scale**-2
        )

    def old(self) -> galsim.GSObject:
        """Return what has the colour of old stars: bulge, bar, companion, neighbours, foreground."""
        galaxy = self.galaxy
        parts = self._neighbours()
        self.foreground = sum(part.flux for part in parts)
        if galaxy.kind == "star":
            return galsim.Sum([galsim.Gaussian(sigma=self.point, flux=self.unit), *parts])
        if galaxy.bulge:
            index = 4.0 if galaxy.kind == "elliptical" else 2.5
            radius = galaxy.petro_r90 * (0.42 if galaxy.kind == "elliptical" else 0.12 + 0.15 * galaxy.bulge)
            flat = galaxy.axis_ratio if galaxy.kind == "elliptical" else max(galaxy.axis_ratio, 0.6)
            index = 1.2 if galaxy.boxy else index
            bulge = galsim.Sersic(
                index, half_light_radius=radius, flux=self.unit * galaxy.bulge, trunc=6 * radius
            )
            parts.append(bulge.shear(q=flat, beta=galaxy.angle * galsim.degrees))
        if galaxy.bar:
            bar = galsim.Sersic(
                0.5, half_light_radius=0.32 * galaxy.petro_r90, flux=0.22 * self.unit * galaxy.bar
            )
            parts.append(bar.shear(q=0.25, beta=(galaxy.angle + 40) * galsim.degrees))
        if galaxy.is_merger:
            parts.append(self._companion())
        return galsim.Sum(parts or [galsim.Gaussian(sigma=1, flux=1e-9)])

    def _companion(self) -> galsim.GSObject:
        galaxy = self.galaxy
        radius = 0.35 * galaxy.petro_r90 * np.sqrt(galaxy.companion)
        away = self._companion_place()
        core = galsim.Sersic(
            2.0, half_light_radius=radius, flux=0.8 * self.unit * galaxy.companion, trunc=6 * radius
        )
        return core.shear(
            q=float(self.rng.uniform(0.4, 1)), beta=float(self.rng.uniform(0, 180)) * galsim.degrees
        ).shift(*away)

    def _companion_place(self) -> tuple[float, float]:
        turn = np.radians(2 * self.galaxy.angle)
        away = self.galaxy.petro_r90 * (0.6 + 0.9 * (1 - self.galaxy.tails))
        return float(away * np.cos(turn)), float(away * np.sin(turn))

    def _neighbours(self) -> list[galsim.GSObject]:
        found = []
        for _ in range(self.galaxy.neighbours):
            place = self.rng.uniform(-0.5, 0.5, 2) * self.pixels * self.scale
            if np.hypot(*place) < 1.3 * self.galaxy.petro_r90:
                continue
            flux = float(self.unit * self.rng.lognormal(-3.0, 1.0))
            is_star = self.rng.random() < 0.5
            radius = self.point if is_star else float(self.rng.uniform(0.08, 0.3)) * self.galaxy.petro_r90
            profile = (
                galsim.Gaussian(half_light_radius=radius, flux=flux)
                if is_star
                else galsim.Exponential(half_light_radius=radius, flux=flux)
            )
            found.append(
                profile.shear(
                    q=float(self.rng.uniform(0.3, 1)), beta=float(self.rng.uniform(0, 180)) * galsim.degrees
                ).shift(*place)
            )
        return found

    def young(self) -> NDArray[np.float64]:
        """Return what is painted on pixels (y, x), without a PSF: disks, arms, rings, arcs, clumps, tails."""
        galaxy = self.galaxy
        painted = np.zeros_like(self.x)
        if galaxy.kind in ("disk", "spiral", "edge_on", "irregular"):
            painted += self._painted_disk()
        if galaxy.arc:
            painted += self._arc()
        if galaxy.tails:
            painted += self._tails()
        return painted

    def _in_the_plane(self) -> tuple[NDArray, NDArray]:
        """Return radius in units of petroR90 and azimuth (radians) in the plane of the disk."""
        galaxy, angle = self.galaxy, np.radians(self.galaxy.angle)
        wobble = galaxy.disturbed * 0.35 * galaxy.petro_r90
        x = self.x - wobble * np.sin(2.1 * self.y / galaxy.petro_r90 + 3 * angle)
        along = x * np.cos(angle) + self.y * np.sin(angle)
        across = (-x * np.sin(angle) + self.y * np.cos(angle)) / galaxy.axis_ratio
        return np.hypot(along, across) / galaxy.petro_r90, np.arctan2(across, along)

    def _painted_disk(self) -> NDArray[np.float64]:
        galaxy = self.galaxy
        radius, azimuth = self._in_the_plane()
        light = np.exp(-radius / 0.40) * (1 - 0.4 * galaxy.disturbed * np.cos(azimuth))
        if galaxy.arms:
            light *= self._arms(radius, azimuth)
        if galaxy.ring:
            light = light * (1 - 0.6 * galaxy.ring) + 0.35 * galaxy.ring * np.exp(
                -(((radius - 0.8) / 0.09) ** 2)
            )
        if galaxy.clumps:
            light = 0.5 * light + self._clumps()
        return 3.2 * galaxy.brightness * (1 - galaxy.bulge) * light / max(galaxy.axis_ratio, 0.3) ** 0.5

    def _arms(self, radius: NDArray, azimuth: NDArray) -> NDArray[np.float64]:
        """Return the contrast of logarithmic arms: r = r0 exp(azimuth tan(pitch))."""
        galaxy = self.galaxy
        winding = np.log(np.maximum(radius, 0.05)) / np.tan(np.radians(galaxy.pitch))
        raggedness = 0.25 * np.sin(3 * azimuth + 7 * radius)
        phase = galaxy.arms * (azimuth - winding) + raggedness + np.radians(galaxy.angle) * 5
        crest = np.exp(3.0 * (np.cos(phase) - 1))
        onset = 1 / (1 + np.exp(-(radius - 0.22) / 0.05))
        return 1 - 0.75 * galaxy.arm_contrast * onset + 3.2 * galaxy.arm_contrast * onset * crest

    def _clumps(self) -> NDArray[np.float64]:
        light = np.zeros_like(self.x)
        for _ in range(self.galaxy.clumps):
            x, y = self.rng.normal(0, 0.4 * self.galaxy.petro_r90, 2)
            width = self.rng.uniform(0.08, 0.25) * self.galaxy.petro_r90
            light += self.rng.uniform(0.2, 0.9) * np.exp(
                -((self.x - x) ** 2 + (self.y - y) ** 2) / (2 * width**2)
            )
        return light

    def _arc(self) -> NDArray[np.float64]:
        radius, azimuth = np.hypot(self.x, self.y) / self.galaxy.petro_r90, np.arctan2(self.y, self.x)
        along = np.cos(azimuth - np.radians(self.galaxy.angle))
        width = np.exp(-(((radius - 1.05) / 0.07) ** 2))
        return 1.3 * self.galaxy.brightness * self.galaxy.arc * width * (along > 0.4)

    def _tails(self) -> NDArray[np.float64]:
        """Return two curved tails, from the galaxy through its companion and away from it."""
        companion = np.array(self._companion_place())
        light = np.zeros_like(self.x)
        for side, bend in ((1.0, 0.5), (-1.0, -0.7)):
            for step in np.linspace(0, 1, 24):
                reach = side * companion * (0.2 + 1.3 * step)
                swerve = bend * step**2 * np.array([-companion[1], companion[0]])
                x, y = reach + swerve
                width = 0.12 * self.galaxy.petro_r90 * (1 + step)
                light += np.exp(-((self.x - x) ** 2 + (self.y - y) ** 2) / (2 * width**2)) * (1 - 0.7 * step)
        return 0.35 * self.galaxy.brightness * self.galaxy.tails * light

    def dust_lane(self) -> NDArray[np.float64]:
        """Return the share of the light that a lane along the major axis takes away, shape (y, x)."""
        galaxy, angle = self.galaxy, np.radians(self.galaxy.angle)
        along = self.x * np.cos(angle) + self.y * np.sin(angle)
        across = -self.x * np.sin(angle) + self.y * np.cos(angle)
        width = max(0.05 * galaxy.petro_r90, 0.4)
        return 0.85 * galaxy.dust * np.exp(-((across / width) ** 2) - (along / galaxy.petro_r90) ** 2)

    def trail(self) -> NDArray[np.float64]:
        """Return the trail of a satellite or a bright star across the frame, shape (y, x)."""
        angle = np.radians(self.galaxy.angle)
        across = -self.x * np.sin(angle) + self.y * np.cos(angle)
        return self.galaxy.brightness * np.exp(-((across / (1.5 * self.scale)) ** 2))
