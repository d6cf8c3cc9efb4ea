"""Mock galaxies as today's surveys publish them: FITS cutouts with the survey's pixels, bands, PSF and depth.

A galaxy is one of SDSS's at its median redshift, moved to another: seen under the angle of a flat universe
(H0 = 70 km/s/Mpc, Ωm = 0.3), smaller by (1 + z)^-0.75 (disks of van der Wel et al. 2014,
doi:10.1088/0004-637X/788/1/28), and of a surface brightness per unit frequency that falls as (1 + z)^-0.5:
-3 for the expansion, +1.5 for the size, +1 for younger stars. Of the disks, 0.4 / (1 + z) have a bar.
"""

from __future__ import annotations

import io
import tomllib
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from astropy.cosmology import FlatLambdaCDM
from astropy.io import fits
from numpy.typing import NDArray
from scipy.fft import fftfreq, irfft2, next_fast_len, rfft2, rfftfreq
from scipy.special import k0, k1

from hubblefork.images.surveys import Survey
from hubblefork.mock.galaxies import BARS, NOISE, SEEING, SURVEY_PIXEL, Galaxy, Scene, random_galaxy

NANOMAGGIES = 22.5  # the AB magnitude of one nanomaggy
MOFFAT_AREA = 3.777  # effective area of the PSF, a Moffat of beta 3, in units of its FWHM squared
NEAREST, FARTHEST = 0.01, 6.0
FEWEST_PIXELS, MOST_PIXELS = 48, 424
STAR_SIZE = 2.3  # petroR90 of a star, in units of the widest PSF
TYPICAL_R90 = 7.0  # of SDSS's galaxies, arcsec
COSMOS = FlatLambdaCDM(H0=70.0, Om0=0.3)


@dataclass(frozen=True)
class Sample:
    """A survey's galaxies: median and spread (of ln) of redshift, the side of a cutout in petroR90.

    `wavelength` (µm) has one value a band.
    """

    redshift: float
    spread: float
    field: float
    wavelength: tuple[float, ...]


@dataclass(frozen=True)
class Placed:
    """A galaxy as a survey meets it: the truth in the sizes and brightness of its redshift.

    `redshift` is None for stars and artifacts. `bar_fraction` of the disks at that redshift have a bar.
    """

    galaxy: Galaxy
    redshift: float | None
    bar_fraction: float | None


def sample_of(survey: str) -> Sample:
    """Return what galaxies a survey shows."""
    entries = _data()["samples"][survey]
    return Sample(**{**entries, "wavelength": tuple(entries["wavelength"])})


def degraded(survey: Survey, *, seeing: float = 1.0, noise: float = 1.0, pixel: float = 1.0) -> Survey:
    """Return a survey with its PSF's width, its sky's noise and the side of its pixels multiplied."""
    return replace(
        survey,
        psf_fwhm=tuple(fwhm * seeing for fwhm in survey.psf_fwhm),
        depth=tuple(depth - 2.5 * float(np.log10(noise * seeing)) for depth in survey.depth),
        pixel_scale=survey.pixel_scale * pixel,
    )


def place(survey: Survey, rng: np.random.Generator, *, merger_fraction: float) -> Placed:
    """Draw the truth about one object that a survey shows."""
    sample = sample_of(survey.name)
    galaxy = random_galaxy(rng, merger_fraction=merger_fraction)
    redshift = float(np.clip(sample.redshift * np.exp(rng.normal(0, sample.spread)), NEAREST, FARTHEST))
    lasts = rng.random() < 1 / (1 + redshift)
    if galaxy.kind == "star":
        return Placed(replace(galaxy, petro_r90=STAR_SIZE * max(survey.psf_fwhm)), None, None)
    moved = at_redshift(replace(galaxy, bar=galaxy.bar * lasts), redshift)
    if galaxy.kind == "artifact":
        return Placed(replace(moved, brightness=galaxy.brightness * relative_noise(survey)), None, None)
    return Placed(moved, redshift, BARS / (1 + redshift))


def at_redshift(galaxy: Galaxy, redshift: float) -> Galaxy:
    """Return a galaxy of SDSS's median redshift as it is seen at another one."""
    here = sample_of("sdss").redshift
    stretch = (1 + redshift) / (1 + here)
    near, far = COSMOS.angular_diameter_distance([here, redshift]).value
    return replace(
        galaxy,
        petro_r90=float(galaxy.petro_r90 * near / far * stretch**-0.75),
        brightness=float(galaxy.brightness * stretch**-0.5),
    )


def sky_sigma(survey: Survey) -> NDArray[np.float64]:
    """Return the noise of the sky in a pixel, in counts, of shape (band,).

    A point source at the survey's depth has 5 σ when its pixels are weighted by the PSF.
    """
    faintest = 10 ** (0.4 * (survey.zero_point - np.array(survey.depth)))
    pixels = MOFFAT_AREA * (np.array(survey.psf_fwhm) / survey.pixel_scale) ** 2
    return faintest / 5 / np.sqrt(pixels)


def relative_noise(survey: Survey) -> float:
    """Return the noise of the sky in surface brightness beside SDSS's, the median of the bands shown."""
    shown = [survey.bands.index(band) for band in survey.rgb]
    sigma = sky_sigma(survey)[shown] * 10 ** (0.4 * (NANOMAGGIES - survey.zero_point))
    return float(np.median(sigma) / survey.pixel_scale / (NOISE / SURVEY_PIXEL))


def visibility(galaxy: Galaxy, survey: Survey) -> dict[str, float]:
    """Return the factors `seeing` and `noise` under which volunteers would see as much of it in SDSS.

    Noise counts by what is left of it over the galaxy's area.
    """
    shown = [survey.bands.index(band) for band in survey.rgb]
    seeing = float(np.median(np.array(survey.psf_fwhm)[shown])) / SEEING
    return {"seeing": seeing, "noise": relative_noise(survey) * TYPICAL_R90 / galaxy.petro_r90}


def draw_bands(
    placed: Placed, survey: Survey, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Draw an object in a survey's bands; return counts (band, y, x) and its AB magnitude in each band.

    The first row is the lowest. The width of the PSF includes the pixel. Magnitudes are those of the object
    and of what it merges with, before its dust lane, without its neighbours; NaN for an artifact.
    """
    galaxy, sample, scale = placed.galaxy, sample_of(survey.name), survey.pixel_scale
    side = int(np.clip(round(sample.field * galaxy.petro_r90 / scale), FEWEST_PIXELS, MOST_PIXELS))
    border = int(np.ceil(3 * max(survey.psf_fwhm) / scale))
    border += (next_fast_len(side + 2 * border) - side - 2 * border) // 2
    point = min(0.05, min(survey.psf_fwhm) / 10)
    scene = Scene(galaxy, rng, pixels=side + 2 * border, scale=scale, point=point)
    if galaxy.kind == "artifact":
        shares = np.roll(np.maximum(0.35 ** np.arange(len(survey.bands)), 0.15), int(galaxy.angle))
        light, fluxes = scene.trail() * shares[:, None, None], np.full(len(shares), np.nan)
    else:
        rest = np.array(sample.wavelength) / (1 + (placed.redshift or 0.0))
        light, fluxes = _light(scene, rest, survey.psf_fwhm)
    light = light[:, border : border + side, border : border + side]
    light *= (scale / SURVEY_PIXEL) ** 2 * 10 ** (0.4 * (survey.zero_point - NANOMAGGIES))
    noise = rng.standard_normal(light.shape, np.float32) * sky_sigma(survey)[:, None, None]
    return (light + noise).astype(np.float32), NANOMAGGIES - 2.5 * np.log10(fluxes / SURVEY_PIXEL**2)


def _light(
    scene: Scene, wavelength: NDArray[np.float64], fwhm: tuple[float, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the light (band, y, x) at rest-frame wavelengths (µm), and its sum over the sky (band,)."""
    profile, painted = scene.old(), scene.young()
    red, blue, dust = _colours(wavelength)
    jitter = scene.rng.normal(1, 0.06, 2)
    red, blue = red ** jitter[0], blue * jitter[1]
    fluxes = (profile.flux - scene.foreground) * red + painted.sum() * scene.scale**2 * blue
    sharpest = min(fwhm)
    old, young = rfft2(scene.seen(profile, sharpest)), rfft2(painted)
    sharp = _moffat(scene, sharpest)
    light = np.stack(
        [
            irfft2((old * r / sharp + young * b) * _moffat(scene, width), painted.shape)
            for r, b, width in zip(red, blue, fwhm, strict=True)
        ]
    )
    if scene.galaxy.dust:
        light *= 1 - scene.dust_lane() * dust[:, None, None]
    return light, fluxes


def _moffat(scene: Scene, fwhm: float) -> NDArray[np.float64]:
    """Return the Fourier transform of a PSF at the frequencies of `rfft2` on the scene's pixels.

    That of a Moffat of beta 3 and scale length 1 is k² K₂(k) / 2, K₂ a modified Bessel function.
    """
    alpha = fwhm / scene.scale / (2 * np.sqrt(2 ** (1 / 3) - 1))
    across, along = 2 * np.pi * alpha * fftfreq(scene.pixels), 2 * np.pi * alpha * rfftfreq(scene.pixels)
    k = np.maximum(np.hypot(across[:, None], along), 1e-6)
    return k**2 / 2 * k0(k) + k * k1(k)


def fits_cutout(counts: NDArray[np.float32], survey: Survey, *, ra: float, dec: float) -> bytes:
    """Return counts (band, y, x) as FITS, an extension for each band; the object is at ra, dec (degrees)."""
    units = fits.HDUList([fits.PrimaryHDU()])
    side, degrees = counts.shape[-1], survey.pixel_scale / 3600
    centre = {"CRPIX1": (side + 1) / 2, "CRPIX2": (side + 1) / 2, "CRVAL1": ra, "CRVAL2": dec}
    axes = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CUNIT1": "deg", "CUNIT2": "deg"}
    for band, plane in zip(survey.bands, counts, strict=True):
        sizes = {"CD1_1": -degrees, "CD2_2": degrees, "MAGZERO": survey.zero_point, "BAND": band}
        units.append(fits.ImageHDU(plane, fits.Header({**axes, **centre, **sizes}), name=band))
    written = io.BytesIO()
    units.writeto(written)
    return written.getvalue()


def _colours(wavelength: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the light of old and of young stars and the share that dust takes, shape (3, wavelength)."""
    table = _data()["light"]
    places = np.log(table["wavelength"])
    return np.stack([np.interp(np.log(wavelength), places, table[name]) for name in ("old", "young", "dust")])


@cache
def _data() -> dict[str, Any]:
    text = resources.files("hubblefork.mock").joinpath("samples.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
