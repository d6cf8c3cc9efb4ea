"""Mock cutouts have the survey's noise, PSF, zero point, pixels; far disks are small, with fewer bars."""

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from scipy.optimize import curve_fit

from hubblefork.images.surveys import load_survey, survey_names
from hubblefork.mock.cutouts import (
    Placed,
    at_redshift,
    degraded,
    draw_bands,
    fits_cutout,
    place,
    sample_of,
    sky_sigma,
)
from hubblefork.mock.galaxies import Galaxy

STAR = Galaxy(kind="star", petro_r90=1.0, axis_ratio=1.0, angle=0.0, bulge=0.0, brightness=1e5)
DISK = Galaxy(kind="disk", petro_r90=6.0, axis_ratio=0.8, angle=30.0, bulge=0.3, brightness=0.5, bar=0.8)


@pytest.fixture(scope="module", params=survey_names())
def star(request):
    """A survey, and a bright star as it sees it, alone: counts (band, y, x) and magnitudes."""
    survey = load_survey(request.param)
    alone = replace(STAR, petro_r90=2.3 * max(survey.psf_fwhm))
    return survey, *draw_bands(Placed(alone, None, None), survey, np.random.default_rng(0))


def test_a_star_at_the_depth_has_five_sigma(star):
    survey, counts, _ = star
    dark = replace(STAR, brightness=1e-6, petro_r90=survey.pixel_scale * 20)
    sky, _ = draw_bands(Placed(dark, None, None), survey, np.random.default_rng(1))
    psf = counts / counts.sum(axis=(1, 2), keepdims=True)
    error = sky.std(axis=(1, 2)) / np.sqrt((psf**2).sum(axis=(1, 2)))
    depth = survey.zero_point - 2.5 * np.log10(5 * error)
    np.testing.assert_allclose(depth, survey.depth, atol=0.1)
    assert np.abs(sky.mean(axis=(1, 2))).max() < 0.1 * sky.std()


def test_a_star_is_as_wide_as_the_psf(star):
    survey, counts, _ = star
    y, x = np.indices(counts.shape[1:]) - (counts.shape[-1] - 1) / 2

    def moffat(radius, height, alpha, beta):
        return height * (1 + (radius / alpha) ** 2) ** -beta

    for plane, fwhm in zip(counts, survey.psf_fwhm, strict=True):
        start = (plane.max(), fwhm / survey.pixel_scale, 3.0)
        (_, alpha, beta), _ = curve_fit(moffat, np.hypot(x, y).ravel(), plane.ravel(), start)
        measured = 2 * alpha * np.sqrt(2 ** (1 / beta) - 1) * survey.pixel_scale
        assert measured == pytest.approx(fwhm, rel=0.1)


def test_magnitudes_come_back_from_counts(star):
    survey, counts, magnitudes = star
    np.testing.assert_allclose(
        survey.zero_point - 2.5 * np.log10(counts.sum(axis=(1, 2))), magnitudes, atol=0.03
    )
    placed = Placed(at_redshift(DISK, sample_of(survey.name).redshift), sample_of(survey.name).redshift, None)
    deep = replace(survey, depth=tuple(depth + 5 for depth in survey.depth))
    counts, magnitudes = draw_bands(placed, deep, np.random.default_rng(0))
    np.testing.assert_allclose(
        survey.zero_point - 2.5 * np.log10(counts.sum(axis=(1, 2))), magnitudes, atol=0.05
    )
    side = sample_of(survey.name).field * placed.galaxy.petro_r90 / survey.pixel_scale
    assert counts.shape == (len(survey.bands), round(side), round(side)) and counts.dtype == np.float32


def test_a_file_names_its_bands_and_knows_where_it_is():
    survey = load_survey("euclid")
    counts = np.arange(4 * 60 * 60, dtype=np.float32).reshape(4, 60, 60)
    with fits.open(BytesIO(fits_cutout(counts, survey, ra=150.25, dec=-2.5))) as units:
        assert [unit.header["BAND"] for unit in units[1:]] == ["vis", "y", "j", "h"]
        assert [unit.name for unit in units[1:]] == ["VIS", "Y", "J", "H"]
        np.testing.assert_array_equal(units["J"].data, counts[2])
        wcs = WCS(units["H"].header)
        assert units["H"].header["MAGZERO"] == survey.zero_point
    np.testing.assert_allclose(wcs.wcs_pix2world([[29.5, 29.5]], 0), [[150.25, -2.5]])
    east, north = wcs.wcs_pix2world([[19.5, 29.5], [29.5, 39.5]], 0)
    np.testing.assert_allclose((east[0] - 150.25) * np.cos(np.radians(2.5)) * 3600, 10 * survey.pixel_scale)
    np.testing.assert_allclose((north[1] + 2.5) * 3600, 10 * survey.pixel_scale)


def test_what_is_far_is_small_and_faint():
    np.testing.assert_allclose(at_redshift(DISK, 0.08).petro_r90, DISK.petro_r90)
    far = at_redshift(DISK, 1.0)
    # one kpc is 0.6630 arcsec at z = 0.08 and 0.1249 at z = 1 (H0 = 70, Ωm = 0.3)
    assert far.petro_r90 == pytest.approx(6.0 * 0.1249 / 0.6630 * (2 / 1.08) ** -0.75, rel=0.002)
    assert far.brightness == pytest.approx(0.5 * (2 / 1.08) ** -0.5)


def test_dials_multiply_psf_noise_and_pixels():
    survey = load_survey("legacy")
    worse = degraded(survey, seeing=2.0, noise=3.0, pixel=1.5)
    assert worse.pixel_scale == pytest.approx(0.393) and worse.psf_fwhm[0] == pytest.approx(2.58)
    # the noise of an area is three times as large; a pixel is 1.5 times as long
    np.testing.assert_allclose(sky_sigma(worse), sky_sigma(survey) * 3 * 1.5)
    assert degraded(survey) == survey


def test_fewer_disks_far_away_have_a_bar():
    rng = np.random.default_rng(2)
    for name, low, high in (("sdss", 0.35, 0.39), ("jwst", 0.13, 0.21)):
        drawn = [place(load_survey(name), rng, merger_fraction=0.0) for _ in range(500)]
        disks = [placed for placed in drawn if placed.galaxy.kind in ("disk", "spiral")]
        expected = np.mean([placed.bar_fraction for placed in disks])
        assert low < expected < high
        barred = np.mean([placed.galaxy.bar > 0 for placed in disks])
        assert barred == pytest.approx(expected, abs=3.5 * np.sqrt(0.25 / len(disks)))


def test_stars_and_artifacts_have_no_redshift():
    survey = load_survey("euclid")
    drawn = [place(survey, np.random.default_rng(seed), merger_fraction=0.0) for seed in range(400)]
    stars = [placed for placed in drawn if placed.redshift is None]
    assert {placed.galaxy.kind for placed in stars} == {"star", "artifact"}
    assert not any(placed.galaxy.kind in ("star", "artifact") for placed in drawn if placed.redshift)
    trail = next(placed for placed in stars if placed.galaxy.kind == "artifact")
    counts, magnitudes = draw_bands(trail, survey, np.random.default_rng(0))
    assert np.isnan(magnitudes).all() and (counts.max(axis=(1, 2)) > 4 * sky_sigma(survey)).any()
