"""The decoder: what a catalogue says of a cutout, and JPEGs decoded in part."""

import hashlib
import io
import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from image_boxes import picture
from PIL import Image, ImageStat

from hubblefork.data import images
from hubblefork.data.archives import MemberError, open_source
from hubblefork.data.images import decode_jpeg, inspect_cutout, jpeg_sides

SOURCE = Path("images.zip")


def fault(member, data):
    with pytest.raises(MemberError) as caught:
        inspect_cutout(SOURCE, member, data)
    assert str(caught.value).startswith(f"images.zip: {member}: ")
    return f"{caught.value.reason}: {caught.value.value}"


def png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def bombs(width, height):
    """A JPEG and a PNG whose headers promise another size."""
    jpeg, png = bytearray(picture(0)), bytearray(picture(0, "PNG"))
    frame = jpeg.index(b"\xff\xc0") + 5
    jpeg[frame : frame + 4] = struct.pack(">HH", height, width)
    png[16:24] = struct.pack(">II", width, height)
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    return {"1.jpg": bytes(jpeg), "1.png": bytes(png)}


def centre_by_pillow(image):
    left, top = (max(side // 2 - 5, 0) for side in image.size)
    centre = image.crop((left, top, min(left + 10, image.width), min(top + 10, image.height)))
    return tuple(round(mean) for mean in ImageStat.Stat(centre).mean)


@pytest.mark.parametrize(("form", "member"), [("JPEG", "1.jpg"), ("JPEG", "1.JPEG"), ("PNG", "1.png")])
@pytest.mark.parametrize("size", [(24, 20), (25, 19), (1, 1)])
def test_size_centre_and_digest_against_pillow(form, member, size):
    data = picture(5, form, size=size)
    cutout = inspect_cutout(SOURCE, member, data)
    with Image.open(io.BytesIO(data)) as image:
        assert (cutout.width, cutout.height) == image.size == size
        assert np.allclose(cutout.centre, centre_by_pillow(image), atol=1)
    assert cutout.digest == hashlib.sha256(data).digest()


@pytest.mark.parametrize(
    ("form", "mode"), [("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "L"), ("PNG", "P"), ("PNG", "RGBA")]
)
def test_other_colours_than_rgb_count_as_what_they_are(form, mode):
    data = picture(6, form, mode)
    cutout = inspect_cutout(SOURCE, "6.jpg" if form == "JPEG" else "6.png", data)
    with Image.open(io.BytesIO(data)) as image:
        assert np.allclose(cutout.centre, centre_by_pillow(image.convert("RGB")), atol=2)


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_an_image_cut_short_is_damaged(form):
    data, member = picture(1, form), "1.jpg" if form == "JPEG" else "1.png"
    for share in (0.3, 0.6, 0.95):
        assert fault(member, data[: int(share * len(data))]).startswith("damaged image: ")


def test_a_png_that_breaks_off_into_another_chunk_is_damaged():
    data = png(np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8))
    second = data.rindex(b"IDAT")
    assert second != data.index(b"IDAT")
    assert "broken PNG file" in fault("1.png", data[:second] + b"\0\0\0\0" + data[second + 4 :])


def test_an_image_with_a_hole_is_damaged():
    data = picture(1, size=(200, 200))
    assert fault("1.jpg", data[:-300] + bytes(100) + data[-200:]).startswith("damaged image: ")


@pytest.mark.parametrize(
    ("member", "data", "expected"),
    [
        (
            "1.jpg",
            b"I am a text",
            "not what its name says: no image named as JPEG: begins with b'I am a text'",
        ),
        ("1.jpg", picture(1, "PNG"), "not what its name says: PNG named as JPEG: begins with b'\\x89PNG"),
        ("1.png", picture(1), "not what its name says: JPEG named as PNG: begins with b'\\xff\\xd8"),
        ("1.png", b"", "empty file: 0 bytes"),
        ("1.png", png(np.zeros((3, 3), np.uint16)), "not 8 bits a band: Pillow mode I;16"),
    ],
)
def test_what_is_not_the_image_it_says(member, data, expected):
    assert fault(member, data).startswith(expected)


def test_a_pixel_bomb_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr("hubblefork.data.images._decoded", lambda *given, **named: pytest.fail("decoded"))
    for member, data in bombs(30_000, 30_000).items():
        assert len(data) < 5000
        assert fault(member, data) == "too many pixels: 30000 × 30000; at most 67108864 pixels are allowed"


def test_noise_never_gets_past_as_another_exception():
    rng = np.random.default_rng(0)
    for trial in range(400):
        form, member = [("JPEG", "1.jpg"), ("PNG", "1.png")][trial % 2]
        data = bytearray(picture(trial, form))
        for place in rng.integers(8, len(data), 3):
            data[place] = rng.integers(256)
        try:
            assert inspect_cutout(SOURCE, member, bytes(data)).width > 0
        except MemberError as error:
            assert error.reason in {
                "damaged image",
                "too many pixels",
                "not what its name says",
                "not 8 bits a band",
            }


def test_real_centres_against_pillow(kaggle):
    with open_source(kaggle / "images_partial.zip") as source:
        for name, data in source.stream(source.names()[::200]):
            with Image.open(io.BytesIO(data)) as image:
                assert inspect_cutout(source.path, name, data).centre == centre_by_pillow(image)


# JPEGs decoded in part hold the pixels of the whole, and no damage passes


def sky(height, width, mode="RGB"):
    """A smooth image with noise, so that every block has something to decode."""
    rng = np.random.default_rng(7)
    coarse = Image.fromarray(rng.integers(0, 255, (9, 9, 3), dtype=np.uint8)).resize((width, height))
    noisy = np.asarray(coarse) + rng.normal(0, 6, (height, width, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).convert(mode)


def encoded(image, **options):
    written = BytesIO()
    image.save(written, "JPEG", quality=88, **options)
    return written.getvalue()


def whole(data, reduced):
    height, width = jpeg_sides(data)
    least = {"min_height": -(-height // reduced), "min_width": -(-width // reduced)}
    return simplejpeg.decode_jpeg(data, "RGB", min_factor=reduced, **least)


@pytest.mark.parametrize("sides", [(424, 424), (201, 333), (47, 31)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize(
    "options",
    [{}, {"progressive": True}, {"restart_marker_rows": 1}],
    ids=str,
)
def test_rows_decoded_in_part_are_those_of_the_whole(sides, mode, options):
    check_rows(encoded(sky(*sides, mode), **options), sides[0])


@pytest.mark.parametrize("subsampling", ["444", "422", "420", "440", "411"])
def test_whatever_the_subsampling_of_the_colours(subsampling):
    pixels = np.ascontiguousarray(sky(424, 333))
    check_rows(simplejpeg.encode_jpeg(pixels, 88, "RGB", subsampling), 424)


def check_rows(data, height):
    for reduced in (1, 2):
        expected = whole(data, reduced)
        for rows in (1, 14, 16, 30, height // 2, height - 10, height):
            pixels = decode_jpeg(data, rows=rows, reduced=reduced)
            needed = -(-rows // reduced)
            assert len(pixels) >= needed
            np.testing.assert_array_equal(pixels[:needed], expected[:needed])


def test_rows_below_are_not_decoded():
    data = encoded(sky(424, 424))
    assert decode_jpeg(data, rows=318, reduced=2).shape == (160, 212, 3)
    assert decode_jpeg(data, rows=318, reduced=1).shape == (320, 424, 3)
    assert decode_jpeg(data, rows=424, reduced=1).shape == (424, 424, 3)


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9, 0.999])
def test_a_jpeg_cut_short_is_refused_wherever_it_was_cut(kept):
    data = encoded(sky(424, 424))
    with pytest.raises(ValueError, match=r"[Pp]remature|[Cc]orrupt"):
        decode_jpeg(data[: int(len(data) * kept)], rows=100, reduced=2)


def test_damage_among_the_rows_is_refused():
    data = bytearray(encoded(sky(424, 424)))
    middle = len(data) // 3
    data[middle : middle + 40] = b"\xff\xd9" * 20
    with pytest.raises(ValueError):
        decode_jpeg(bytes(data), rows=322, reduced=2)


def test_any_other_complaint_is_not_taken_for_success(monkeypatch):
    """Without the look at the complaint, damage among the rows would pass as bytes left unread."""
    refused = ValueError("Corrupt JPEG data: bad Huffman code")
    attempts = []

    def decode(data, colorspace, **options):
        attempts.append(options["buffer"].shape)
        if len(attempts) == 1:
            raise refused

    monkeypatch.setattr(images.simplejpeg, "decode_jpeg", decode)
    assert decode_jpeg(encoded(sky(424, 424)), rows=100, reduced=1).shape == (424, 424, 3)
    assert attempts == [(112, 424, 3), (424, 424, 3)]
