"""The decoder: what a catalogue says of a cutout, and JPEGs decoded in part."""

import hashlib
import io
import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
import simplejpeg
from image_boxes import mutated, picture
from PIL import Image, ImageStat

from hubblefork.images import decoder as images
from hubblefork.images.decoder import ImageFault, StampSpec, decode_jpeg, inspect, stamp
from hubblefork.images.sources import open_source


def fault(data):
    with pytest.raises(ImageFault) as caught:
        inspect(data)
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
    return bytes(jpeg), bytes(png)


def centre_by_pillow(image):
    left, top = (max(side // 2 - 5, 0) for side in image.size)
    centre = image.crop((left, top, min(left + 10, image.width), min(top + 10, image.height)))
    return tuple(round(mean) for mean in ImageStat.Stat(centre).mean)


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("size", [(24, 20), (25, 19), (1, 1)])
def test_size_centre_and_digest_against_pillow(form, size):
    data = picture(5, form, size=size)
    cutout = inspect(data)
    with Image.open(io.BytesIO(data)) as image:
        assert (cutout.width, cutout.height) == image.size == size
        assert np.allclose(cutout.centre, centre_by_pillow(image), atol=1)
    assert cutout.digest == hashlib.sha256(data).digest()


@pytest.mark.parametrize(("form", "mode"), [("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "L"), ("PNG", "P")])
def test_other_colours_than_rgb_count_as_what_they_are(form, mode):
    data = picture(6, form, mode)
    cutout = inspect(data)
    with Image.open(io.BytesIO(data)) as image:
        assert np.allclose(cutout.centre, centre_by_pillow(image.convert("RGB")), atol=2)


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_an_image_cut_short_is_damaged(form):
    data = picture(1, form)
    for share in (0.3, 0.6, 0.95):
        assert fault(data[: int(share * len(data))]).startswith("damaged image: ")


@pytest.mark.parametrize(
    "how",
    [
        {"format": "TIFF"},
        {"format": "TIFF", "compression": "tiff_lzw"},
        {"format": "TIFF", "big_tiff": False, "compression": "tiff_adobe_deflate"},
        {"format": "WEBP", "lossless": True},
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data", "ignore:Truncated File Read")
def test_tiff_and_webp_show_what_a_png_shows(how, mode):
    image = Image.fromarray(np.random.default_rng(3).integers(0, 256, (20, 24, 4), np.uint8)).convert(mode)
    data, same = io.BytesIO(), io.BytesIO()
    image.save(data, **how, **({"exact": True} if how["format"] == "WEBP" else {}))
    image.save(same, "PNG")
    np.testing.assert_array_equal(stamp(data.getvalue(), ALL), stamp(same.getvalue(), ALL))
    assert inspect(data.getvalue()).centre == inspect(same.getvalue()).centre
    for share in (0.6, 0.95):
        assert fault(data.getvalue()[: int(share * len(data.getvalue()))]).startswith("damaged image: ")


def test_tiff_and_webp_of_several_images_are_refused():
    first, *others = (Image.fromarray(np.full((8, 8, 3), level, np.uint8)) for level in (10, 90, 200))
    for form in ("TIFF", "WEBP"):
        data = io.BytesIO()
        first.save(data, form, save_all=True, append_images=others)
        assert fault(data.getvalue()) == "several images in one: 3"


@pytest.mark.parametrize(("dtype", "bits"), [(np.uint16, 16), (np.float32, 32)])
def test_a_tiff_of_more_than_8_bits_is_refused(dtype, bits):
    data = io.BytesIO()
    Image.fromarray(np.ones((8, 8), dtype)).save(data, "TIFF")
    assert fault(data.getvalue()) == f"not 8 bits a band: {bits} bits"


def test_a_png_that_breaks_off_into_another_chunk_is_damaged():
    data = png(np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8))
    second = data.rindex(b"IDAT")
    assert second != data.index(b"IDAT")
    assert "broken PNG file" in fault(data[:second] + b"\0\0\0\0" + data[second + 4 :])


def test_an_image_with_a_hole_is_damaged():
    data = picture(1, size=(200, 200))
    assert fault(data[:-300] + bytes(100) + data[-200:]).startswith("damaged image: ")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"I am a text", "neither a JPEG nor a PNG: begins with b'I am a text'"),
        (b"", "empty file: 0 bytes"),
        (png(np.zeros((3, 3), np.uint16)), "not 8 bits a band: 16 bits"),
    ],
)
def test_what_is_no_image_that_can_be_used(data, expected):
    assert fault(data).startswith(expected)


def test_a_pixel_bomb_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr("hubblefork.images.decoder._decoded", lambda *given, **named: pytest.fail("decoded"))
    for data in bombs(30_000, 30_000):
        assert len(data) < 5000
        assert fault(data) == "too many pixels: 30000 × 30000; at most 67108864 pixels are allowed"


def chunks_of(data):
    place, chunks = 8, []
    while place < len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    return chunks


def with_other_chunks(data, rng):
    """A PNG of which one chunk is changed, gone, or another kind, every checksum right."""
    chunks = chunks_of(data)
    place = int(rng.integers(len(chunks)))
    kind, body = chunks[place]
    kinds = (kind, kind, b"tRNS", b"PLTE", b"acTL", b"fcTL", b"zTXt", b"iCCP", b"eXIf", b"gAMA")
    other = kinds[rng.integers(len(kinds))], mutated(body, rng)
    chunks[place : place + int(rng.integers(2))] = [other] * int(rng.integers(3))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_images_give_our_error_or_pixels_that_depend_on_them_alone():
    rng = np.random.default_rng(18)
    spec, others = StampSpec(20, 20), [picture(1), picture(2, "PNG")]
    whole = [jpeg_of(colours, **coding) for colours in COLOURS for coding in CODINGS[:3]]
    whole += [picture(3, "PNG", mode) for mode in ("RGB", "L", "P", "RGBA", "LA")]
    for trial in range(1200):
        data = whole[trial % len(whole)]
        is_png = data.startswith(b"\x89PNG")
        data = with_other_chunks(data, rng) if is_png and trial % 3 else mutated(data, rng)
        stamps = []
        for other in others:
            stamp(other, spec)
            try:
                stamps.append(stamp(data, spec))
            except ImageFault as error:
                stamps.append(str(error))
        np.testing.assert_array_equal(*stamps)


@pytest.mark.parametrize("first", [b"II*\0", b"RIFF\x20\0\0\0WEBPVP8 "])
def test_a_message_about_damage_names_no_address_in_memory(first):
    with pytest.raises(ImageFault, match="damaged image") as caught:
        stamp(first + bytes(40), StampSpec(20, 20))
    assert "0x" not in str(caught.value)


def test_noise_never_gets_past_as_another_exception():
    rng = np.random.default_rng(0)
    for trial in range(400):
        data = bytearray(picture(trial, ("JPEG", "PNG")[trial % 2]))
        for place in rng.integers(8, len(data), 3):
            data[place] = rng.integers(256)
        try:
            assert inspect(bytes(data)).width > 0
        except ImageFault as error:
            assert error.reason in {
                "damaged image",
                "too many pixels",
                "no pixels",
                "neither a JPEG nor a PNG",
                "not 8 bits a band",
            }


def test_real_centres_against_pillow(kaggle):
    with open_source(kaggle / "images_partial.zip") as source:
        for _, data in source.stream(source.names()[::200]):
            with Image.open(io.BytesIO(data)) as image:
                assert inspect(data).centre == centre_by_pillow(image)


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
    height, width, _, _ = simplejpeg.decode_jpeg_header(data)
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


# Every kind of JPEG and PNG, against Pillow

WHOLE = StampSpec(crop=200, size=200)
CENTRAL = StampSpec(crop=50, size=50)
COLOURS = {
    "grey": ("L", {}),
    "YCbCr": ("RGB", {}),
    "RGB": ("RGB", {"keep_rgb": True}),
    "CMYK": ("CMYK", {}),
    "YCCK": ("CMYK", {}),
}
CODINGS = [
    {},
    {"progressive": True},
    {"optimize": True},
    {"restart_marker_blocks": 7},
    {"restart_marker_rows": 1},
    {"progressive": True, "restart_marker_blocks": 5},
]


def jpeg_of(colours, **options):
    mode, more = COLOURS[colours]
    data = bytearray(encoded(sky(200, 200, mode), **more, **options))
    if colours == "YCCK":
        data[data.index(b"Adobe") + 11] = 2
    return bytes(data)


def check_stamps(data, expected):
    """Check a stamp decoded in part and one of the whole, each after other pixels had the memory."""
    for spec, apart in ((WHOLE, 0), (CENTRAL, 75)):
        stamp(encoded(sky(200, 200)), spec)
        np.testing.assert_array_equal(stamp(data, spec), expected[apart : 200 - apart, apart : 200 - apart])


@pytest.mark.parametrize("colours", COLOURS)
@pytest.mark.parametrize("options", CODINGS, ids=str)
def test_every_colour_space_and_coding_of_a_jpeg(colours, options):
    data = jpeg_of(colours, **options)
    check_stamps(data, np.asarray(Image.open(BytesIO(data)).convert("RGB")))


def test_the_subsampling_of_the_colours_of_cmyk():
    for sampling in (0, 1, 2):
        data = encoded(sky(200, 200, "CMYK"), subsampling=sampling)
        check_stamps(data, np.asarray(Image.open(BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("sampling", [b"\x11\x21\x11", b"\x42\x11\x11", b"\x14\x11\x11", b"\x31\x11\x11"])
def test_a_sampling_that_simplejpeg_does_not_know(sampling):
    data = bytearray(encoded(sky(200, 200), subsampling=0))
    frame = data.index(b"\xff\xc0")
    for band in range(3):
        data[frame + 11 + 3 * band] = sampling[band]
    check_stamps(bytes(data), np.asarray(Image.open(BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("colours", COLOURS)
@pytest.mark.parametrize("kept", [0.2, 0.6, 0.98])
def test_a_jpeg_of_any_colours_cut_short_gives_no_stamp(colours, kept):
    data = jpeg_of(colours)
    for spec in (WHOLE, CENTRAL):
        with pytest.raises(ImageFault, match="damaged image"):
            stamp(data[: int(len(data) * kept)], spec)


ADAM7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]


def png_chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of(depth, colour, samples, *, key=b"", palette=b"", passes=((0, 0, 1, 1),)):
    """Write a PNG by its specification: `samples` (y, x, band) of so many bits, a palette, a colour key."""

    def rows(part):
        if depth == 16:
            return [row.astype(">u2").tobytes() for row in part]
        bits = np.unpackbits(part.astype(np.uint8)[..., None], axis=-1)[..., 8 - depth :]
        return [np.packbits(row).tobytes() for row in bits.reshape(len(part), -1)]

    height, width = samples.shape[:2]
    lines = [row for y, x, dy, dx in passes for row in rows(samples[y::dy, x::dx]) if row]
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, len(passes) > 1)
    chunks = [(b"PLTE", palette), (b"tRNS", key), (b"IDAT", zlib.compress(b"\0" + b"\0".join(lines)))]
    body = b"".join(png_chunk(kind, body) for kind, body in chunks if body)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", head) + body + png_chunk(b"IEND", b"")


GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
ALL = StampSpec(crop=4, size=4)


@pytest.mark.parametrize(("colour", "bands"), [(GREY, 1), (RGB, 3), (GREY_ALPHA, 2), (RGBA, 4)])
def test_a_png_of_16_bits_is_refused_whatever_its_colours(colour, bands):
    data = png_of(16, colour, np.full((4, 4, bands), 4095))
    with pytest.raises(ImageFault, match="not 8 bits a band: 16 bits; say with --survey how"):
        stamp(data, ALL)
    assert fault(data) == "not 8 bits a band: 16 bits"


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_grey_of_fewer_bits_shows_what_it_is(depth):
    samples = np.arange(16).reshape(4, 4, 1) % 2**depth
    shown = stamp(png_of(depth, GREY, samples), ALL)
    np.testing.assert_array_equal(shown, np.repeat(samples * 255 // (2**depth - 1), 3, axis=2))


def test_interlacing_changes_nothing():
    pixels = np.asarray(sky(19, 21))
    for depth, colour, samples in (
        (8, RGB, pixels),
        (8, GREY, pixels[..., :1]),
        (4, GREY, pixels[..., :1] >> 4),
    ):
        plain, woven = (png_of(depth, colour, samples, passes=way) for way in (((0, 0, 1, 1),), ADAM7))
        np.testing.assert_array_equal(stamp(plain, StampSpec(19, 19)), stamp(woven, StampSpec(19, 19)))
    with pytest.raises(ImageFault, match="not 8 bits a band"):
        stamp(png_of(16, RGB, pixels.astype(int) * 257, passes=ADAM7), StampSpec(19, 19))


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_a_grey_colour_key_shows_black(depth):
    """The key is the brightest grey: hidden, as it may have any colour."""
    most = 2**depth - 1
    samples = np.where(np.eye(4)[..., None] > 0, most, 0)
    assert stamp(png_of(depth, GREY, samples), ALL).max() == 255
    assert stamp(png_of(depth, GREY, samples, key=struct.pack(">H", most)), ALL).max() == 0


def test_transparent_pixels_show_black_and_never_their_hidden_colours():
    left = np.arange(4) < 2
    hidden = np.where(left, 0, 255).astype(np.uint8)[None, :].repeat(4, axis=0)
    colours = np.full((4, 4, 3), (200, 90, 30), np.uint8)
    expected = np.where(left[None, :, None], 0, colours)
    rgba = png_of(8, RGBA, np.dstack([colours, hidden]))
    np.testing.assert_array_equal(stamp(rgba, ALL), expected)
    grey = png_of(8, GREY_ALPHA, np.dstack([colours[..., :1], hidden]))
    np.testing.assert_array_equal(stamp(grey, ALL), expected[..., :1].repeat(3, axis=2))
    places = np.where(left, 0, 1)[None, :, None].repeat(4, axis=0)
    indexed = png_of(8, PALETTE, places, palette=bytes([255, 255, 255, 200, 90, 30]), key=b"\0")
    np.testing.assert_array_equal(stamp(indexed, ALL), expected)
    keyed = np.where(left[None, :, None], 255, colours)
    np.testing.assert_array_equal(
        stamp(png_of(8, RGB, keyed, key=struct.pack(">HHH", 255, 255, 255)), ALL), expected
    )
    half = png_of(8, RGBA, np.dstack([colours, np.full((4, 4), 128)]))
    assert np.abs(stamp(half, ALL).astype(int) - (100, 45, 15)).max() <= 1
