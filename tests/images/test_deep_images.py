"""PNG and TIFF of more than 8 bits a band: without loss in a survey's stretch, refused without one."""

import io

import numpy as np
import pytest
from PIL import Image

from hubblefork.images.cutouts import Reading
from hubblefork.images.decoder import inspect, pixels_of, result_of
from hubblefork.images.members import MemberError
from hubblefork.images.surveys import Display, Stretch

codecs = pytest.importorskip("imagecodecs")
WHITE = {np.uint16: 65535.0, np.float32: 2.0}


def reading(dtype, bands):
    rgb = ("z", "r", "g") if bands == 3 else ("r",)
    return Reading(Display("mine", rgb, Stretch("linear", minimum=0.0, maximum=WHITE[dtype]), 0.3))


def pixels(dtype, bands):
    values = np.random.default_rng(0).random((20, 24, bands)) * WHITE[dtype]
    return np.squeeze(values.astype(dtype))


def tiff(values):
    return codecs.tiff_encode(
        values, photometric="rgb" if values.ndim == 3 else "minisblack", planarconfig="contig"
    )


def read(data, how):
    return result_of(lambda shown, sky: (pixels_of(shown), sky), "here", "a", data, how)


@pytest.mark.parametrize(
    ("encode", "dtype", "bands"),
    [
        (codecs.png_encode, np.uint16, 1),
        (codecs.png_encode, np.uint16, 3),
        (tiff, np.uint16, 1),
        (tiff, np.uint16, 3),
        (tiff, np.float32, 1),
        (tiff, np.float32, 3),
    ],
)
def test_every_level_counts(encode, dtype, bands):
    values = pixels(dtype, bands)
    shown, sky = read(encode(values), reading(dtype, bands))
    exact = np.rint(255 * values.reshape(20, 24, bands).astype(np.float32) / np.float32(WHITE[dtype]))
    assert np.abs(shown.astype(int) - exact).max() <= 1 and (shown == exact).mean() > 0.99
    assert sky.fluxes and sky.pixel_scale == 0.3
    refused = read(encode(values), Reading())
    assert refused.reason == "not 8 bits a band" and "--survey" in str(refused)


def test_what_is_no_image_of_one_or_three_bands_is_said():
    rgb, grey = pixels(np.uint16, 3), pixels(np.float32, 1)
    transparent = codecs.png_encode(np.dstack([rgb, rgb[:, :, :1]]))
    assert read(transparent, reading(np.uint16, 3)).reason == "not an image"
    assert read(codecs.png_encode(rgb), reading(np.uint16, 1)).reason == "bands without names"
    assert read(codecs.png_encode(rgb)[:400], reading(np.uint16, 3)).reason == "damaged image"
    grey[3, 4] = np.nan
    assert read(tiff(grey), reading(np.float32, 1)).reason == "pixels without a value"
    pages = io.BytesIO()
    images = [Image.fromarray(pixels(np.uint16, 1))] * 2
    images[0].save(pages, "TIFF", save_all=True, append_images=images[1:])
    assert read(pages.getvalue(), reading(np.uint16, 1)).reason == "several images in one"


def test_pictures_of_8_bits_stay_pictures():
    data = io.BytesIO()
    Image.fromarray(np.full((9, 9, 3), 77, np.uint8)).save(data, "PNG")
    cutout = result_of(inspect, "here", "a", data.getvalue(), reading(np.uint16, 3))
    assert not isinstance(cutout, MemberError) and cutout.centre == (77, 77, 77) and not cutout.sky.fluxes
