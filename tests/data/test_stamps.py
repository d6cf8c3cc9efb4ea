"""Stamps: the right pixels, in the right rows, whatever happened in between."""

import os
import resource
import signal
import struct
import subprocess
import sys
import tomllib
import zipfile
import zlib
from contextlib import contextmanager
from io import BytesIO
from itertools import count
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

from hubblefork.data import stamps as preprocess
from hubblefork.data.stamps import open_stamps, prepare, stamps_folder
from hubblefork.errors import BusyError, CatalogueError, DiskError, ImageError, StampError
from hubblefork.images import decoder as decoder
from hubblefork.images.decoder import StampSpec, stamp, stream
from hubblefork.images.members import MemberError
from hubblefork.io import AHEAD, alone_in

SPEC = StampSpec(crop=64, size=24)
GALAXIES = 40


def sky(side, seed=0, *, width=None):
    """A smooth coloured image with a little noise (height `side`)."""
    rng = np.random.default_rng(seed)
    width = width or side
    coarse = Image.fromarray(rng.integers(0, 255, (7, 7, 3), dtype=np.uint8))
    smooth = coarse.resize((width, side), Image.Resampling.BICUBIC)
    noisy = np.asarray(smooth) + rng.normal(0, 3, (side, width, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def encoded(image, kind="JPEG", **options):
    written = BytesIO()
    image.save(written, kind, **({"quality": 92} if kind == "JPEG" else {}), **options)
    return written.getvalue()


def by_pillow(data, spec):
    """The lab's way: open, crop, resize."""
    image = Image.open(BytesIO(data)).convert("RGB")
    left, top = (image.width - spec.crop) // 2, (image.height - spec.crop) // 2
    central = image.crop((left, top, left + spec.crop, top + spec.crop))
    return np.asarray(central.resize((spec.size, spec.size), Image.Resampling.BICUBIC)).astype(int)


def write_zip(path, images):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in images.items():
            archive.writestr(name, data)
    return path


def write_catalogue(data, sources, order=slice(None)):
    """A catalogue of the images of zips, in the given order of rows."""
    rows = [
        {"galaxy_id": int(Path(name).stem), "source": str(path), "member": name}
        for path in sources
        for name in zipfile.ZipFile(path).namelist()
    ]
    table = pa.Table.from_pylist([{**row, "width": 90, "height": 90} for row in np.array(rows)[order]])
    for band in ("red", "green", "blue"):
        table = table.append_column(f"centre_{band}", pa.array(np.zeros(len(table), np.uint8)))
    data.mkdir(exist_ok=True)
    pa.parquet.write_table(table, data / "catalogue.parquet")


@pytest.fixture(scope="module")
def images():
    return {f"images/{1000 + k}.jpg": encoded(sky(90, k)) for k in range(GALAXIES)}


@pytest.fixture
def data(tmp_path, images):
    """A data folder of two archives."""
    names = list(images)
    first = write_zip(tmp_path / "first.zip", {name: images[name] for name in names[:25]})
    second = write_zip(tmp_path / "second.zip", {name: images[name] for name in names[25:]})
    write_catalogue(tmp_path / "data", [first, second])
    return tmp_path / "data"


@pytest.fixture
def expected(images):
    return np.stack([stamp(image, SPEC) for image in images.values()])


# One stamp


def test_shape_and_kind():
    made = stamp(encoded(sky(90)), SPEC)
    assert made.shape == (24, 24, 3)
    assert made.dtype == np.uint8
    assert made.flags["C_CONTIGUOUS"]


@pytest.mark.parametrize("height, width, crop", [(424, 424, 180), (301, 423, 181), (140, 92, 90)])
def test_full_scale_agrees_with_pillow(height, width, crop):
    data, spec = encoded(sky(height, width=width)), StampSpec(crop, size=crop - 30)
    apart = np.abs(stamp(data, spec) - by_pillow(data, spec))
    assert apart.mean() < 0.25
    assert apart.max() <= 2


def test_an_edge_that_overshoots_stays_black_and_white():
    """The bicubic filter has negative weights: unclipped, 256 would become 0."""
    edge = Image.fromarray(np.repeat(np.uint8([[0] * 60 + [255] * 60]), 120, axis=0)).convert("RGB")
    data, spec = encoded(edge, "PNG"), StampSpec(crop=110, size=40)
    assert np.abs(stamp(data, spec) - by_pillow(data, spec)).max() <= 2


@pytest.mark.parametrize("crop, size", [(212, 64), (424, 64), (318, 96), (128, 64), (200, 100)])
def test_half_scale_agrees_with_pillow(crop, size):
    data, spec = encoded(sky(424)), StampSpec(crop, size)
    apart = np.abs(stamp(data, spec) - by_pillow(data, spec))
    assert apart.mean() < 0.6
    assert apart.max() < 12


def test_real_galaxies_at_half_scale_agree_with_full_scale(kaggle):
    with zipfile.ZipFile(kaggle / "images_training_rev1.zip") as archive:
        chosen = [archive.read(info) for info in archive.infolist() if not info.is_dir()][:6000:300]
    for spec in (StampSpec(212, 64), StampSpec(318, 96), StampSpec(424, 64), StampSpec(128, 64)):
        apart = np.abs([stamp(data, spec) - by_pillow(data, spec) for data in chosen])
        assert apart.mean() < 0.5, spec


def test_half_scale_is_used_where_two_pixels_make_one_and_only_there(monkeypatch):
    scales = []
    decode = decoder.decode_jpeg

    def noting(data, *, rows, reduced):
        scales.append(reduced)
        return decode(data, rows=rows, reduced=reduced)

    monkeypatch.setattr(decoder, "decode_jpeg", noting)
    for crop in (48, 47):
        stamp(encoded(sky(90)), StampSpec(crop=crop, size=24))
    assert scales == [2, 1]


@pytest.mark.parametrize("height, width", [(200, 200), (201, 200), (200, 201), (201, 203)])
@pytest.mark.parametrize("crop, size", [(100, 80), (101, 80), (120, 40), (121, 40), (121, 41)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_the_centre_stays_the_centre(height, width, crop, size, kind):
    y, x = np.mgrid[:height, :width] + 0.5
    blob = np.exp(-((y - height / 2) ** 2 + (x - width / 2) ** 2) / (2 * 9.0**2))
    image = Image.fromarray(np.repeat(np.rint(240 * blob)[..., None], 3, axis=2).astype(np.uint8))
    made = stamp(encoded(image, kind), StampSpec(crop, size)).sum(axis=2, dtype=float)
    made[made < 9] = 0
    places = np.arange(size) + 0.5
    assert (made.sum(axis=1) @ places) / made.sum() == pytest.approx(size / 2, abs=0.05)
    assert (made.sum(axis=0) @ places) / made.sum() == pytest.approx(size / 2, abs=0.05)


def test_png_agrees_with_pillow_and_grey_is_grey():
    image = sky(90)
    spec = StampSpec(crop=80, size=30)
    data = encoded(image, "PNG")
    assert np.abs(stamp(data, spec) - by_pillow(data, spec)).mean() < 0.2
    for kind in ("PNG", "JPEG"):
        grey = stamp(encoded(image.convert("L"), kind), spec)
        assert np.array_equal(grey[..., 0], grey[..., 1]) and np.array_equal(grey[..., 0], grey[..., 2])


def patched_sides(data, side):
    place = data.index(b"\xff\xc0") + 5
    return data[:place] + struct.pack(">HH", side, side) + data[place + 4 :]


def png_of_sides(side):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "data, message",
    [
        (encoded(sky(90))[:1500], "damaged image.*whole copy"),
        (encoded(sky(90), "PNG")[:5000], "damaged image"),
        (b"GalaxyID,Class1.1\n", "neither a JPEG nor a PNG: begins with b'GalaxyID"),
        (b"", "empty file: 0 bytes"),
        (encoded(sky(63)), "smaller than the crop: 63 × 63, the crop is 64 × 64; say with --field"),
        (encoded(sky(90, width=50)), "smaller than the crop: 50 × 90"),
        (encoded(sky(50), "PNG"), "smaller than the crop: 50 × 50"),
        (patched_sides(encoded(sky(90)), 30_000), "too many pixels: 30000 × 30000"),
        (png_of_sides(30_000), "too many pixels|damaged image: .*decompression bomb"),
        (encoded(Image.new("I;16", (90, 90)), "PNG"), "not 8 bits a band: 16 bits"),
    ],
    ids=[
        "cut_short",
        "png_cut_short",
        "text",
        "empty",
        "small",
        "narrow",
        "small_png",
        "bomb",
        "png_bomb",
        "16_bits",
    ],
)
def test_what_gives_no_stamp_says_why(data, message):
    with pytest.raises(ImageError, match=message):
        stamp(data, SPEC)


@pytest.mark.parametrize("crop, size", [(10, 0), (10, -1), (63, 64)])
def test_a_spec_that_cannot_be(crop, size):
    with pytest.raises(StampError, match=f"stamps of size {size} from a crop of {crop} pixels"):
        StampSpec(crop, size)


# The stamps of an archive


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_stream_yields_in_archive_order_whatever_the_threads(data, images, threads):
    shuffled = dict(sorted(images.items(), key=lambda item: hash(item[1])))
    source = write_zip(data / "shuffled.zip", shuffled)
    made = list(stream(source, SPEC, threads=threads))
    assert [name for name, _ in made] == list(shuffled)
    for name, pixels in made:
        np.testing.assert_array_equal(pixels, stamp(images[name], SPEC))


def test_stream_yields_only_the_named(data, images):
    names = list(images)[3:20:4]
    source = write_zip(data / "all.zip", images)
    assert [name for name, _ in stream(source, SPEC, names=names)] == names


@pytest.mark.parametrize("threads", [1, 2])
def test_stream_yields_errors_in_their_place(tmp_path, images, threads):
    some = dict(list(images.items())[:6])
    some["images/1002.jpg"] = some["images/1002.jpg"][:900]
    some["images/1004.jpg"] = encoded(sky(50))
    source = write_zip(tmp_path / "damaged.zip", some)
    made = dict(stream(source, SPEC, threads=threads))
    assert list(made) == list(some)
    errors = {name: error for name, error in made.items() if isinstance(error, ImageError)}
    assert list(errors) == ["images/1002.jpg", "images/1004.jpg"]
    assert all(isinstance(error, MemberError) for error in errors.values())
    assert f"{source}: images/1004.jpg: smaller than the crop: 50 × 50" in str(errors["images/1004.jpg"])


def test_stream_reads_only_a_little_ahead(monkeypatch, images):
    """However large the archive, a bounded number of its images is in memory."""
    image, read = next(iter(images.values())), count()

    class Endless:
        path, targets = Path("endless.zip"), {}

        def stream(self, names):
            return ((str(next(read)), image) for _ in count())

    @contextmanager
    def endless(path, files=""):
        yield Endless()

    monkeypatch.setattr(decoder, "open_source", endless)
    made = stream(Path("endless.zip"), SPEC, threads=2)
    for _ in range(200):
        next(made)
    made.close()
    assert next(read) < 200 + decoder.TOGETHER * (2 * AHEAD + 2)


# The stamps of a catalogue


def test_rows_are_in_the_order_of_the_catalogue(data, expected):
    made = prepare(data, SPEC)
    assert isinstance(made, np.memmap)
    np.testing.assert_array_equal(made, expected)


def test_rows_follow_the_catalogue_where_archives_do_not(data, expected):
    order = np.random.default_rng(0).permutation(GALAXIES)
    write_catalogue(data, [data.parent / "first.zip", data.parent / "second.zip"], order)
    np.testing.assert_array_equal(prepare(data, SPEC), expected[order])


def test_threads_change_nothing(data, expected):
    for threads in (1, 2):
        spec = StampSpec(64, 20 + threads)
        one, other = prepare(data, spec, threads=threads), stamps_folder(data, spec)
        (other / "stamps.toml").unlink()
        np.testing.assert_array_equal(one, prepare(data, spec, threads=3 - threads))


def test_the_description_says_how(data):
    prepare(data, SPEC)
    described = tomllib.loads((data / "stamps" / "crop64-size24" / "stamps.toml").read_text())
    assert (described["crop"], described["size"], described["shape"]) == (64, 24, [GALAXIES, 24, 24, 3])
    assert "simplejpeg" in described["versions"] and "half scale" in described["method"]
    assert sorted(path.name for path in stamps_folder(data, SPEC).iterdir()) == ["stamps.npy", "stamps.toml"]


def test_opening_again_does_no_work(data, monkeypatch, expected):
    prepare(data, SPEC)
    monkeypatch.setattr(preprocess, "filling", None)
    np.testing.assert_array_equal(prepare(data, SPEC), expected)
    np.testing.assert_array_equal(open_stamps(data, SPEC), expected)


def test_another_spec_has_its_own_folder(data, expected):
    prepare(data, SPEC)
    other = prepare(data, StampSpec(80, 20))
    assert other.shape == (GALAXIES, 20, 20, 3)
    np.testing.assert_array_equal(open_stamps(data, SPEC), expected)


def changed(data, name, values):
    table = pa.parquet.read_table(data / "catalogue.parquet")
    place = table.column_names.index(name)
    pa.parquet.write_table(table.set_column(place, name, pa.array(values)), data / "catalogue.parquet")


def test_a_changed_catalogue_has_its_stamps_made_anew(data, expected):
    kept = prepare(data, SPEC)
    order = np.arange(GALAXIES)[::-1][:30]
    write_catalogue(data, [data.parent / "first.zip", data.parent / "second.zip"], order)
    np.testing.assert_array_equal(prepare(data, SPEC), expected[order])
    np.testing.assert_array_equal(kept, expected)  # whoever had the old ones open keeps them


def test_other_pixels_of_the_same_names_are_noticed(data, monkeypatch):
    prepare(data, SPEC)
    changed(data, "centre_green", np.arange(GALAXIES, dtype=np.uint8))
    assert remade(data, monkeypatch) == GALAXIES


def test_another_image_of_the_same_size_and_centre_is_noticed(data, monkeypatch):
    prepare(data, SPEC)
    table = pa.parquet.read_table(data / "catalogue.parquet")
    for digest, made in (("a" * 64, GALAXIES), ("a" * 64, 0), ("b" * 64, GALAXIES)):
        pa.parquet.write_table(table.replace_schema_metadata({"images": digest}), data / "catalogue.parquet")
        assert remade(data, monkeypatch) == made


def test_a_replaced_archive_has_its_stamps_made_anew(data, images, expected):
    prepare(data, SPEC)
    names = list(images)[25:]
    write_zip(
        data.parent / "second.zip",
        {name: images[name] for name in reversed(names)} | {names[0]: images[names[1]]},
    )
    again = prepare(data, SPEC)
    np.testing.assert_array_equal(again[:25], expected[:25])
    np.testing.assert_array_equal(again[25], expected[26])
    np.testing.assert_array_equal(again[26:], expected[26:])


def test_a_replaced_file_of_a_folder_has_its_stamp_made_anew(tmp_path, images):
    for name, image in images.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(image)
    rows = pa.table(
        {"galaxy_id": range(GALAXIES), "source": [str(tmp_path)] * GALAXIES, "member": list(images)}
    )
    for name in ("width", "height", "centre_red", "centre_green", "centre_blue"):
        rows = rows.append_column(name, pa.array([90] * GALAXIES))
    pa.parquet.write_table(rows, tmp_path / "catalogue.parquet")
    before = np.array(prepare(tmp_path, SPEC))
    first, second = list(images)[:2]
    (tmp_path / first).write_bytes(images[second])
    after = prepare(tmp_path, SPEC)
    np.testing.assert_array_equal(after[0], before[1])
    np.testing.assert_array_equal(after[1:], before[1:])


def test_stamps_are_used_when_the_images_are_not_there(data, monkeypatch, expected):
    prepare(data, SPEC)
    (data.parent / "first.zip").rename(data.parent / "elsewhere.zip")
    assert remade(data, monkeypatch) == 0
    with pytest.raises(ImageError, match=r"first\.zip: there is no such archive or folder.*put it back"):
        prepare(data, StampSpec(60, 24))


def test_other_labels_change_nothing(data, monkeypatch):
    prepare(data, SPEC)
    table = pa.parquet.read_table(data / "catalogue.parquet")
    pa.parquet.write_table(
        table.append_column("smooth", pa.array(np.zeros(GALAXIES))), data / "catalogue.parquet"
    )
    assert remade(data, monkeypatch) == 0


def remade(data, monkeypatch):
    """Return how many stamps the next `prepare` makes."""
    made = []
    original = decoder.stamp
    with monkeypatch.context() as patch:
        patch.setattr(decoder, "stamp", lambda *given, **named: made.append(1) or original(*given, **named))
        prepare(data, SPEC)
    return len(made)


def test_stamps_of_another_way_are_refused(data):
    prepare(data, StampSpec(60, 24))
    stamps_folder(data, StampSpec(60, 24)).rename(stamps_folder(data, SPEC))
    for attempt in (prepare, open_stamps):
        with pytest.raises(StampError, match=r"crop is 60, not 64.*delete the folder"):
            attempt(data, SPEC)


def test_damaged_stamps_are_refused(data):
    prepare(data, SPEC)
    folder = stamps_folder(data, SPEC)
    whole = (folder / "stamps.npy").read_bytes()
    (folder / "stamps.npy").write_bytes(whole[:-5])
    with pytest.raises(StampError, match=r"stamps\.npy: damaged"):
        prepare(data, SPEC)
    np.save(folder / "stamps.npy", np.zeros((3, 24, 24, 3), np.uint8))
    with pytest.raises(StampError, match=r"holds uint8 \[3, 24, 24, 3\]"):
        prepare(data, SPEC)
    (folder / "stamps.toml").write_text("crop = ")
    with pytest.raises(StampError, match=r"stamps\.toml: damaged: it does not say how"):
        prepare(data, SPEC)


def test_without_stamps_or_catalogue(data):
    with pytest.raises(StampError, match=r"no finished stamps.*hubblefork evaluate"):
        open_stamps(data, SPEC)
    changed(data, "member", [None] * GALAXIES)
    table = pa.parquet.read_table(data / "catalogue.parquet").drop_columns(["width"])
    pa.parquet.write_table(table, data / "catalogue.parquet")
    with pytest.raises(CatalogueError, match="no column width; run `hubblefork ingest`"):
        prepare(data, SPEC)
    with pytest.raises(CatalogueError, match="hubblefork ingest"):
        prepare(data / "elsewhere", SPEC)


def test_a_crop_larger_than_an_image_is_refused_before_any_work(data):
    changed(data, "width", np.where(np.arange(GALAXIES) == 7, 63, 90).astype(np.int32))
    with pytest.raises(
        ImageError, match=r"1007\.jpg: smaller than the crop: 63 × 90, .*; so it is with 1 of 40"
    ):
        prepare(data, SPEC)
    assert not (data / "stamps").exists()


def test_an_image_damaged_since_ingest_stops_the_work_and_loses_none(data, images, expected):
    names = list(images)[25:]
    damaged = {name: images[name] for name in names} | {names[4]: b"\xff\xd8\xff rubbish"}
    write_zip(data.parent / "second.zip", damaged)
    with pytest.raises(ImageError, match=rf"second\.zip: {names[4]}: damaged.*hubblefork ingest` again"):
        prepare(data, SPEC)
    assert not (stamps_folder(data, SPEC) / "stamps.npy").exists()
    write_zip(data.parent / "second.zip", {name: images[name] for name in names})
    np.testing.assert_array_equal(prepare(data, SPEC), expected)


def test_an_image_gone_since_ingest_stops_the_work(data, images):
    write_zip(data.parent / "second.zip", {"images/1.jpg": images["images/1000.jpg"]})
    with pytest.raises(ImageError, match=r"second\.zip"):
        prepare(data, SPEC)


def test_two_processes_do_not_fill_one_folder(data, expected):
    with alone_in(stamps_folder(data, SPEC), "at it"), pytest.raises(BusyError, match="making these stamps"):
        prepare(data, SPEC)
    np.testing.assert_array_equal(prepare(data, SPEC), expected)


# Interruptions

INTERRUPTED = """
import os, signal, sys
from contextlib import contextmanager
from pathlib import Path
from hubblefork.data import stamps as preprocess
from hubblefork.io import AHEAD

signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job starts with it ignored
what, moment, nth, data = sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])
preprocess.CHECKPOINT_BYTES = 4 * 24 * 24 * 3
calls = 0

def stopping(original):
    def stop(*given, **named):
        global calls
        calls += 1
        if calls == nth:
            os.kill(os.getpid(), getattr(signal, what))
        return original(*given, **named)
    return stop

room, name = moment.split(".")
owner = {"Filling": preprocess.Filling, "preprocess": preprocess}[room]
setattr(owner, name, stopping(getattr(owner, name)))
preprocess.prepare(data, preprocess.StampSpec(64, 24), threads=2)
"""


def interrupted(data, what, moment, nth):
    """Run `prepare` in a process that sends itself a signal at the nth call of a function."""
    command = [sys.executable, "-c", INTERRUPTED, what, moment, str(nth), str(data)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize(
    "moment, nth, done",
    [
        ("Filling.put", 18, 16),  # rows put, not yet safe
        ("preprocess._write_journal", 4, 8),  # rows safe, the journal does not say so yet
        ("preprocess.write_text", 4, 12),  # the same, one call deeper; the first call opens the journal
        ("preprocess._finish", 1, GALAXIES),  # all there, none of it under its final name
    ],
)
def test_kill_9_then_the_same_command_again(data, expected, moment, nth, done, monkeypatch):
    killed = interrupted(data, "SIGKILL", moment, nth)
    assert killed.returncode == -signal.SIGKILL
    folder = stamps_folder(data, SPEC)
    assert not (folder / "stamps.npy").exists()
    how = preprocess._how(preprocess._read_galaxies(data / "catalogue.parquet"), SPEC)
    before = preprocess._done_before(folder, how)
    assert before.sum() in range(done - 4, done + 1)
    assert remade(data, monkeypatch) == GALAXIES - before.sum()
    np.testing.assert_array_equal(open_stamps(data, SPEC), expected)
    assert sorted(path.name for path in folder.iterdir()) == ["stamps.npy", "stamps.toml"]


def test_rows_are_flushed_to_the_disk_before_the_journal_says_so(data, monkeypatch):
    events = []
    flush, note = os.fsync, preprocess._write_journal

    def flushing(descriptor):
        flush(descriptor)
        if os.fstat(descriptor).st_ino == (stamps_folder(data, SPEC) / preprocess.PARTIAL).stat().st_ino:
            events.append("flushed")

    def noting(folder, how, done):
        events.append(int(done.sum()))
        note(folder, how, done)

    monkeypatch.setattr(os, "fsync", flushing)
    monkeypatch.setattr(preprocess, "_write_journal", noting)
    monkeypatch.setattr(preprocess, "CHECKPOINT_BYTES", 10 * 24 * 24 * 3)
    prepare(data, SPEC)
    assert events == [0, *(event for done in (10, 20, 30, 40) for event in ("flushed", done))]


def test_killed_runs_end_with_the_bytes_of_one_that_was_not(data, tmp_path):
    prepare(data, SPEC)
    folder = stamps_folder(data, SPEC)
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    for path in folder.iterdir():
        path.unlink()
    for _ in range(3):
        assert interrupted(data, "SIGKILL", "Filling.put", 9).returncode == -signal.SIGKILL
    prepare(data, SPEC)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole


def prepare_stopping_at_the_rename(data, monkeypatch, renamed):
    rename = Path.replace

    def stopping(path, target):
        if path.name != preprocess.PARTIAL or renamed:
            rename(path, target)
        if path.name == preprocess.PARTIAL:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", stopping)
        prepare(data, SPEC)


@pytest.mark.parametrize("renamed", [False, True])
def test_stopped_around_the_rename(data, expected, monkeypatch, renamed):
    prepare_stopping_at_the_rename(data, monkeypatch, renamed)
    assert remade(data, monkeypatch) == 0
    np.testing.assert_array_equal(open_stamps(data, SPEC), expected)


def test_stopped_before_the_rename_old_stamps_do_not_pass_for_new(data, expected, monkeypatch):
    prepare(data, SPEC)
    write_catalogue(data, [data.parent / "second.zip", data.parent / "first.zip"])
    prepare_stopping_at_the_rename(data, monkeypatch, renamed=False)
    np.testing.assert_array_equal(prepare(data, SPEC), np.roll(expected, 15, axis=0))


def test_ctrl_c_then_the_same_command_again(data, expected, monkeypatch):
    stopped = interrupted(data, "SIGINT", "Filling.put", 18)
    assert stopped.returncode != 0
    assert "KeyboardInterrupt" in stopped.stderr
    assert remade(data, monkeypatch) <= GALAXIES - 16
    np.testing.assert_array_equal(open_stamps(data, SPEC), expected)


def test_progress_counts_every_stamp_once_also_after_an_interruption(data, monkeypatch):
    monkeypatch.setattr(preprocess, "CHECKPOINT_BYTES", 4 * 24 * 24 * 3)
    interrupted(data, "SIGKILL", "Filling.put", 18)
    seen = []

    @contextmanager
    def counting(what, total, done=0):
        seen.extend([what, total, done])
        yield seen.append

    prepare(data, SPEC, progress=counting)
    assert seen[:2] == ["stamps", GALAXIES]
    assert seen[2] in (12, 16)  # the last rows were on their way to the disk
    assert sum(seen[2:]) == GALAXIES


def test_what_other_versions_or_another_catalogue_began_is_not_gone_on_with(data, expected, monkeypatch):
    interrupted(data, "SIGKILL", "Filling.put", 18)
    journal = stamps_folder(data, SPEC) / "stamps.partial.toml"
    journal.write_text(journal.read_text().replace("simplejpeg ", "simplejpeg 0."))
    assert remade(data, monkeypatch) == GALAXIES
    np.testing.assert_array_equal(open_stamps(data, SPEC), expected)


@contextmanager
def no_file_larger_than(size):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_shows_before_the_first_stamp(data, monkeypatch, expected):
    monkeypatch.setattr(preprocess, "stream", None)
    with (
        no_file_larger_than(30_000),
        pytest.raises(DiskError, match=r"69248 bytes are needed.*free some space"),
    ):
        prepare(data, SPEC)
    assert list(stamps_folder(data, SPEC).iterdir()) == []
    monkeypatch.undo()
    np.testing.assert_array_equal(prepare(data, SPEC), expected)


@pytest.mark.parametrize("room", [30_000, 69_000])  # of 69,248: many rows too small, half of the last row
def test_a_disk_that_fills_up_later_loses_nothing(data, monkeypatch, expected, room):
    """Where the file cannot be laid out in advance."""
    monkeypatch.setattr(os, "posix_fallocate", lambda *given: None)
    monkeypatch.setattr(preprocess, "CHECKPOINT_BYTES", 4 * 24 * 24 * 3)
    with no_file_larger_than(room), pytest.raises(DiskError, match="free some space"):
        prepare(data, SPEC)
    monkeypatch.undo()
    np.testing.assert_array_equal(prepare(data, SPEC), expected)
