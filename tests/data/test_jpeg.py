"""JPEGs decoded in part hold the pixels of the whole, and no damage passes."""

from io import BytesIO

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from hubblefork.data import images
from hubblefork.data.images import decode_jpeg, jpeg_sides


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
