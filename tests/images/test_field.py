"""How much sky an image shows: crops in its own pixels, texts that are refused, what is said of a scale."""

import numpy as np
import pytest

from hubblefork.errors import ImageError
from hubblefork.images.decoder import ImageFault, StampSpec, stamp
from hubblefork.images.field import Field, check_filled, check_not_blank, parse_field, scale_remarks


@pytest.mark.parametrize(
    "share, shorter, expected", [(1, 424, 318), (1, 256, 192), (1, 848, 636), (0.5, 848, 1272), (2, 848, 318)]
)
def test_a_crop_shows_the_sky_of_a_stamp_of_training(share, shorter, expected):
    assert Field(share, 424).crop(318, shorter) == pytest.approx(expected)


def test_a_crop_as_large_as_the_image_reads_no_pixel_outside():
    for side in range(64, 200):
        field = Field(318 / 424, 424)
        assert field.crop(318, side) == side
        assert stamp(np.zeros((side, side, 3), np.uint8), StampSpec(318, 64), field).shape == (64, 64, 3)


def test_a_field_is_a_number_above_zero():
    assert parse_field("0.5") == parse_field(0.5) == (0.5, "")
    assert parse_field("50arcsec") == parse_field("50″") == (50, "arcsec")
    assert parse_field("0.5 arcmin") == (30, "arcsec")
    with pytest.raises(ImageError, match=r'a field of "0": give a number above 0'):
        parse_field("0")


def test_only_images_of_another_scale_are_said():
    sides = {424: 2, 848: 1, 100: 1}
    (remark,) = scale_remarks(sides, 424, 318, 192, None)
    assert remark.startswith("2 of 4 images have another size than the 424 pixels")
    assert not scale_remarks(sides, 0, 318, 192, None) and not scale_remarks({424: 2}, 424, 318, 192, None)
    (remark,) = scale_remarks(sides, 424, 318, 192, Field(1, 424, enlarge=True))
    assert remark.startswith("1 of 4 images were enlarged")


def test_a_stamp_is_blank_where_its_centre_is():
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:10] = 255
    with pytest.raises(ImageFault, match="blank: brightness 0 to 0 of 255"):
        check_not_blank(pixels)
    pixels[30:34, 30:34] = 20
    check_not_blank(pixels)


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize(("empty", "filled"), [(25, True), (26, False)])
def test_a_cutout_of_which_a_side_was_not_observed_is_refused(turns, empty, filled):
    pixels = np.random.default_rng(0).integers(5, 60, (64, 64, 3)).astype(np.uint8)
    pixels[:empty] = 0
    pixels = np.rot90(pixels, turns)
    if filled:
        check_filled(pixels)
        return
    with pytest.raises(
        ImageFault, match="not wholly observed: 41% of it, from one side on, are of one colour"
    ):
        check_filled(pixels)


def test_a_galaxy_on_a_sky_that_is_black_all_around_was_observed():
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[30:34, 30:34] = 200
    check_filled(pixels)
