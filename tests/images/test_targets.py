"""How much sky a stamp shows, and where: angles, Petrosian radii, galaxies off the centre of their image."""

import io
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from astropy.io import fits

import hubblefork as hf
from hubblefork.data.ingest import ingest
from hubblefork.data.stamps import prepare, stamps_folder
from hubblefork.errors import ImageError, RunError, StampError
from hubblefork.images.cutouts import Reading, picture_of
from hubblefork.images.decoder import StampSpec, stamp
from hubblefork.images.field import Field, Sky
from hubblefork.images.members import ImageFault
from hubblefork.images.sources import open_source
from hubblefork.images.surveys import Display, Stretch
from hubblefork.prediction.loop import prepared
from hubblefork.tables.catalogue import read_catalogue
from hubblefork.tables.names import Target
from hubblefork.tables.rejects import read_rejects
from hubblefork.zoo import plain_columns

SCALE = 0.5
GREY = Reading(Display("mine", ("r",), Stretch("linear", minimum=0.0, maximum=255.0), pixel_scale=SCALE))
PIXELS = np.random.default_rng(0).integers(1, 255, (60, 80)).astype(np.float32)
SHOWN = np.repeat(PIXELS[::-1, :, None], 3, axis=2).astype(np.uint8)


def cutout(pixels=PIXELS, scale=SCALE):
    """A FITS image of one band whose centre is at ra 150, dec 2, north up and east left."""
    height, width = pixels.shape
    axes = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 2.0}
    sizes = {
        "CD1_1": -scale / 3600,
        "CD2_2": scale / 3600,
        "CRPIX1": (width + 1) / 2,
        "CRPIX2": (height + 1) / 2,
    }
    file = io.BytesIO()
    fits.PrimaryHDU(pixels, fits.Header({**axes, **sizes, "BAND": "r"})).writeto(file)
    return file.getvalue()


def target(right, up, r90=None, scale=SCALE):
    """The position so many pixels to the right of the centre and above it."""
    east, north = -right * scale / 3600, up * scale / 3600
    return Target(150 + east / np.cos(np.radians(2)), 2 + north, r90)


def test_a_stamp_is_cut_around_its_galaxy():
    pixels, sky = picture_of(cutout(), GREY, target(10, 5))
    assert sky.pixel_scale == pytest.approx(SCALE)
    assert (sky.target_x, sky.target_y) == pytest.approx((50, 25), abs=1e-3)
    around = SHOWN[5:45, 30:70]
    exact = replace(sky, target_x=50.0, target_y=25.0)
    np.testing.assert_array_equal(
        stamp(pixels, StampSpec(40, 20), sky=exact), stamp(around, StampSpec(40, 20))
    )
    _, centred = picture_of(cutout(), GREY, target(0.8, -0.8))
    assert centred == Sky(True, pytest.approx(SCALE))


@pytest.mark.parametrize(
    ("where", "crop", "said"),
    [
        (
            target(20, 0),
            44,
            r"field leaves the image: its galaxy is at pixel \(60, 30\) of 80 × 60, a stamp shows 44",
        ),
        (target(45, 0), 4, r"galaxy outside the image: ra 149\.99\d*, dec 2\.00000 is at pixel \(85, 30\)"),
        (Target(150.0, 92.0), 4, "position is not on the sky"),
    ],
)
def test_a_galaxy_at_the_edge_or_outside_is_refused(where, crop, said):
    with pytest.raises(ImageFault, match=said):
        pixels, sky = picture_of(cutout(), GREY, where)
        stamp(pixels, StampSpec(crop, 4), sky=sky)


@pytest.mark.parametrize(
    ("crop", "sky"),
    [
        ("20 arcsec", Sky(pixel_scale=SCALE)),
        ("0.5 arcmin", Sky(pixel_scale=0.75)),
        ("4 R90", Sky(pixel_scale=SCALE, petro_r90=5.0)),
        (40, Sky()),
    ],
)
def test_a_crop_is_an_angle_or_radii_or_pixels(crop, sky):
    made = stamp(SHOWN, StampSpec(crop, 20), sky=sky)
    np.testing.assert_array_equal(made, stamp(SHOWN, StampSpec(40, 20)))


def test_pixels_count_as_those_of_the_survey():
    spec = StampSpec(20, 10, pixel_scale=1.0)
    np.testing.assert_array_equal(
        stamp(SHOWN, spec, sky=Sky(pixel_scale=SCALE)), stamp(SHOWN, StampSpec(40, 10))
    )
    same = stamp(SHOWN, spec, sky=Sky(pixel_scale=1.001))
    np.testing.assert_array_equal(same, stamp(SHOWN, StampSpec(20, 10)))


def test_what_is_not_known_is_said():
    with pytest.raises(ImageFault, match=r"unknown pixel scale: a stamp shows 20 arcsec; name its survey"):
        stamp(SHOWN, StampSpec("20 arcsec", 20))
    with pytest.raises(
        ImageFault, match=r"unknown Petrosian radius: a stamp shows 4 R90; .* column petro_r90"
    ):
        stamp(SHOWN, StampSpec("4 R90", 20), sky=Sky(pixel_scale=SCALE))
    for crop in ("20 parsec", "R90", "-3 arcsec", 0):
        with pytest.raises(StampError):
            StampSpec(crop, 1)
    assert StampSpec("20", 1).extent == StampSpec(20, 1).extent


def test_a_field_is_an_angle_where_the_network_knows_its_own():
    network = hf.load("fork").network(few=True).trained
    with pytest.raises(RunError, match="how many arcseconds a pixel of the training images shows"):
        network.field_of("50arcsec")
    known = replace(network, display=Display("legacy", pixel_scale=0.262))
    assert known.field_of("0.5") == Field(0.5, 424)
    field = known.field_of("50arcsec")
    assert field.crop(318, 500) == pytest.approx(318 * 0.262 / (50 / 500)) and str(field) == "50 arcsec"
    by_angle = replace(network, stamps=StampSpec("30 arcsec", 192))
    assert by_angle.field_of("50arcsec").crop(30, 500) == pytest.approx(300)
    with pytest.raises(RunError, match="sees 30 arcsec: state it as 50arcsec"):
        by_angle.field_of(0.5)


@pytest.fixture
def ingested(tmp_path):
    """Galaxies off the centres of FITS images, one of them outside, by the positions of a label table."""
    folder = tmp_path / "cutouts"
    folder.mkdir()
    targets = [target(10, 5, 5.0), target(0, 0, 4.0), target(-9, 3, 3.0), target(70, 0, 5.0)]
    for number, _ in enumerate(targets):
        (folder / f"{number}.fits").write_bytes(cutout(np.roll(PIXELS, number, axis=1)))
    columns = dict(zip(("ra", "dec", "petroR90_r"), zip(*targets, strict=True), strict=True))
    table = pa.table({"galaxy_id": range(4), **columns, "round": [0.1, 0.5, 0.9, 0.5]})
    pa.csv.write_csv(table, tmp_path / "labels.csv")
    data = tmp_path / "data"
    ingest([folder], data, labels=[tmp_path / "labels.csv"], tree=plain_columns(["round"]), reading=GREY)
    return data


def test_a_catalogue_knows_the_sky_of_its_images_and_stamps_follow(ingested):
    catalogue = read_catalogue(ingested / "catalogue.parquet").to_pydict()
    assert catalogue["galaxy_id"] == [0, 1, 2] and catalogue["petro_r90"] == [5, 4, 3]
    assert (catalogue["ra"][1], catalogue["dec"][1]) == (150, 2)
    assert catalogue["target_x"] == pytest.approx([50, None, 31]) and catalogue["target_y"][1] is None
    assert "galaxy outside the image" in [reject.reason for reject in read_rejects(ingested / "rejects.csv")]
    by_radius, by_angle = (
        prepare(ingested, StampSpec("4 R90", 20)),
        prepare(ingested, StampSpec("20 arcsec", 20)),
    )
    around = stamp(SHOWN[5:45, 30:70], StampSpec(40, 20))
    assert np.abs(by_radius[0].astype(int) - around).max() <= 1
    np.testing.assert_array_equal(by_radius[0], by_angle[0])
    smaller = stamp(np.roll(SHOWN, 1, axis=1), StampSpec(32, 20))
    np.testing.assert_array_equal(by_radius[1], smaller)
    assert stamps_folder(ingested, StampSpec("4 R90", 20)).name == "crop4R90-size20"


def test_a_network_is_shown_the_galaxies_of_a_list(tmp_path):
    (tmp_path / "a.fits").write_bytes(cutout())
    at = target(10, 5)
    (tmp_path / "list.csv").write_text(f"id,path,ra,dec\na,a.fits,{at.ra:.8f},{at.dec:.8f}\n")
    with open_source(tmp_path / "list.csv") as source:
        made = prepared(StampSpec(40, 20), None, GREY, source.path, source.targets, list(source.stream()))
    around = stamp(SHOWN[5:45, 30:70], StampSpec(40, 20))
    assert np.abs(made.stamps[0].astype(int) - around).max() <= 1


def test_stamps_that_leave_images_are_counted_before_any_is_made(ingested):
    with pytest.raises(ImageError, match=r"0\.fits: field leaves the image: .*; so it is with 2 of 3 images"):
        prepare(ingested, StampSpec("29 arcsec", 20))


def test_ingest_refuses_images_that_do_not_show_a_crop(ingested, tmp_path):
    labels, data = [tmp_path / "labels.csv"], tmp_path / "shown"
    how = {"labels": labels, "tree": plain_columns(["round"]), "reading": GREY}
    ingest([tmp_path / "cutouts"], data, crop="29 arcsec", **how)
    assert read_catalogue(data / "catalogue.parquet").column("galaxy_id").to_pylist() == [1]
    rejects = [reject for reject in read_rejects(data / "rejects.csv") if reject.member]
    leaves, outside = "field leaves the image", "galaxy outside the image"
    assert {reject.galaxy_id: reject.reason for reject in rejects} == {"0": leaves, "2": leaves, "3": outside}
    assert len(prepare(data, StampSpec("29 arcsec", 20))) == 1
