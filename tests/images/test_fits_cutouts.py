"""FITS cutouts: bands by name or stated order, a survey's stretch, what is missing is named."""

import gzip
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from astropy.visualization import AsinhStretch, ManualInterval, make_lupton_rgb
from PIL import Image

import hubblefork as hf
from hubblefork.data.folders import DataFolder
from hubblefork.data.ingest import ingest
from hubblefork.data.stamps import prepare
from hubblefork.errors import ImageError
from hubblefork.images.cutouts import READING, Reading, picture_of
from hubblefork.images.decoder import StampSpec, result_of
from hubblefork.images.members import ImageFault
from hubblefork.images.sources import open_source
from hubblefork.images.surveys import Display, Stretch, load_survey
from hubblefork.tables.catalogue import metadata_of, read_catalogue

LEGACY, VIS = load_survey("legacy"), load_survey("euclid_vis")


def planes(*names, seed=0, side=40):
    """A round galaxy in each band, brighter in later ones, with noise."""
    rng, (y, x) = np.random.default_rng(seed), np.mgrid[:side, :side] - (side - 1) / 2
    light = np.exp(-(x**2 + y**2) / 50)
    return {
        name: ((k + 1) * light + rng.normal(0, 0.01, light.shape)).astype(np.float32)
        for k, name in enumerate(names)
    }


def written(units):
    file = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), *units]).writeto(file)
    return file.getvalue()


def by_name(bands, kind=fits.ImageHDU):
    return written([kind(plane, name=name) for name, plane in bands.items()])


def cube(bands, **header):
    unit = fits.ImageHDU(np.stack(list(bands.values())))
    unit.header.update(header)
    return written([unit])


def expected(bands, survey=LEGACY):
    by = survey.stretch
    red, green, blue = (bands[name] * factor for name, factor in zip(survey.rgb, by.scale, strict=True))
    return make_lupton_rgb(red, green, blue, minimum=by.minimum, stretch=by.stretch, Q=by.q)[::-1]


def read(data, **how):
    return picture_of(data, Reading(LEGACY.display, **how))[0]


@pytest.mark.parametrize(
    "make",
    [
        by_name,
        lambda bands: by_name(dict(reversed(bands.items()))),
        lambda bands: gzip.compress(by_name(bands)),
        lambda bands: cube(bands, BANDS="grz"),
        lambda bands: cube(bands, BANDS="g, r, z"),
        lambda bands: by_name({f"DECam {name}": plane for name, plane in bands.items()}),
        lambda bands: by_name({**bands, "w1": bands["g"]}),
    ],
    ids=["extensions", "another order", "gzip", "cube", "cube with commas", "named in part", "a band more"],
)
def test_bands_are_known_by_their_names_and_stretched_by_astropy(make):
    bands = planes("g", "r", "z")
    np.testing.assert_array_equal(read(make(bands)), expected(bands))


def test_a_tile_compressed_file_is_read_to_its_precision():
    bands = planes("g", "r", "z")
    kind = lambda plane, name: fits.CompImageHDU(plane, name=name, quantize_level=200)  # noqa: E731
    found = read(by_name(bands, kind)).astype(int)
    assert np.abs(found - expected(bands).astype(int)).max() <= 3


def test_bands_without_names_need_their_order():
    bands = planes("g", "r", "z")
    data = cube(bands)
    with pytest.raises(ImageFault, match=r"bands without names.*--bands g,r,z"):
        read(data)
    np.testing.assert_array_equal(read(data, bands=("g", "r", "z")), expected(bands))
    swapped = {"g": bands["z"], "r": bands["r"], "z": bands["g"]}
    np.testing.assert_array_equal(read(data, bands=("z", "r", "g")), expected(swapped))


def test_a_grey_survey_shows_one_band():
    bands = planes("VIS")
    by = VIS.stretch
    grey = (AsinhStretch(by.a) + ManualInterval(by.minimum, by.maximum))(bands["VIS"], clip=True)
    found, _ = picture_of(by_name(bands), Reading(VIS.display))
    for band in range(3):
        np.testing.assert_array_equal(found[:, :, band], np.rint(255 * grey).astype(np.uint8)[::-1])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda bands: bands.pop("r"), "missing band: r; it has 'g', 'z'"),
        (lambda bands: bands["z"].__setitem__((3, 4), np.nan), "pixels without a value: 1 of 1600 are NaN"),
    ],
)
def test_what_is_missing_is_named_and_filled_only_when_asked(spoil, said):
    bands = planes("g", "r", "z")
    whole = dict(bands)
    spoil(bands)
    with pytest.raises(ImageFault, match=re.escape(said) + r".*--fill-missing"):
        read(by_name(bands))
    filled = {
        name: np.nan_to_num(bands[name]) if name in bands else (whole["g"] + whole["z"]) / 2 for name in whole
    }
    np.testing.assert_array_equal(read(by_name(bands), fill_missing=True), expected(filled))


def test_a_picture_is_no_cutout_for_a_network_of_fluxes():
    picture = np.zeros((20, 20, 3), np.uint8)
    refused = result_of(
        lambda data, sky: data, "here", "a.jpg", picture, Reading(LEGACY.display, only_fluxes=True)
    )
    assert refused.reason == "no FITS cutout"
    kept = result_of(lambda data, sky: data, "here", "a.jpg", picture, Reading(LEGACY.display))
    assert kept is picture


def test_pictures_of_a_survey_have_its_pixels_and_no_stretch(tmp_path, tree):
    cutouts = tmp_path / "cutouts"
    cutouts.mkdir()
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 40, 3), np.uint8)
        Image.fromarray(pixels).save(cutouts / f"{number}.png")
    (cutouts / "9.fits").write_bytes(by_name(planes("g", "r", "z")))
    summary = ingest([cutouts], tmp_path / "data", tree=tree, reading=Reading(LEGACY.display))
    assert (summary.galaxies, summary.rejects) == (2, {"another kind of image": 1})
    shown = DataFolder(tmp_path / "data").display()
    assert shown == Display("legacy", pixel_scale=0.262) and str(shown) == "legacy pictures"
    network = replace(hf.load("fork").network(few=True).trained, display=shown)
    assert network.reading_of(Reading()) == Reading(shown)
    assert network.reading_of(Reading(VIS.display)) == Reading(VIS.display)


def test_files_of_single_bands_are_brought_together_by_their_names(tmp_path):
    for galaxy, seed in (("b", 1), ("a", 2)):
        for band, plane in planes("g", "r", "z", seed=seed).items():
            fits.PrimaryHDU(plane).writeto(tmp_path / f"{galaxy}_{band}.fits")
    (tmp_path / "notes.fits").write_bytes(b"")
    reading = Reading(LEGACY.display, files="{id}_{band}.fits")
    with open_source(tmp_path, reading.files) as source:
        assert source.names() == ["a.fits", "b.fits"]
        images = dict(source.stream())
        assert [fault.member for fault in source.left_out] == ["notes.fits"]
    for galaxy, seed in (("b", 1), ("a", 2)):
        found, _ = picture_of(images[f"{galaxy}.fits"], reading)
        np.testing.assert_array_equal(found, expected(planes("g", "r", "z", seed=seed)))
    with pytest.raises(ImageError, match=r"a pattern holds \{id\} and \{band\} once each"):
        Reading(files="{id}.fits")


def test_a_catalogue_notes_how_its_cutouts_are_read_and_stamps_follow(tmp_path, tree):
    cutouts = tmp_path / "cutouts"
    cutouts.mkdir()
    for number in range(4):
        (cutouts / f"{number}.fits").write_bytes(by_name(planes("g", "r", "z", seed=number)))
    bad = planes("g", "r", "z")
    bad["g"][0, 0] = np.nan
    (cutouts / "9.fits").write_bytes(by_name(bad))
    reading = Reading(LEGACY.display)
    summary = ingest([cutouts], tmp_path / "data", tree=tree, reading=reading)
    assert (summary.galaxies, summary.rejects) == (4, {"pixels without a value": 1})
    catalogue = read_catalogue(tmp_path / "data" / "catalogue.parquet")
    assert Reading.noted(metadata_of(catalogue)[READING]) == reading
    stamps = prepare(tmp_path / "data", StampSpec(40, 40))
    np.testing.assert_array_equal(stamps[2], expected(planes("g", "r", "z", seed=2)))
    other = Reading(Display("legacy", ("z", "r", "g"), Stretch("linear", minimum=0.0, maximum=4.0)))
    ingest([cutouts], tmp_path / "data", tree=tree, reading=other)
    linear = prepare(tmp_path / "data", StampSpec(40, 40))
    grey = np.clip(planes("g", "r", "z", seed=2)["z"] / 4, 0, 1)[::-1]
    np.testing.assert_array_equal(linear[2][:, :, 0], np.rint(255 * grey).astype(np.uint8))
