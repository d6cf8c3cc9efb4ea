"""Sources beside archives: tables, lists, arrays, FITS and URLs give the same images as a zip."""

import gzip
import json
import threading
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import zarr
from astropy.io import fits
from image_boxes import box, picture

from hubblefork.errors import ImageError
from hubblefork.images.cutouts import picture_of, stretched
from hubblefork.images.decoder import each, inspect
from hubblefork.images.members import ImageFault
from hubblefork.images.sources import find_inputs, open_source

IDS = ("5", "J0945+11.2", "3")
BYTES = [picture(number) for number in range(len(IDS))]
IMAGES = dict(zip(IDS, BYTES, strict=True))
SKY = {"ra": [10.0, None, 359.5], "dec": [-5.0, None, 89.0]}
PLACES = {"5": (10.0, -5.0), "3": (359.5, 89.0)}
PIXELS = np.random.default_rng(0).integers(0, 256, (3, 24, 20, 3), np.uint8)


def files(folder):
    return box(folder / "files", {f"{name}.jpg": data for name, data in IMAGES.items()})


def hugging_face(folder):
    column = pa.array([{"bytes": data, "path": "x/1.jpg"} for data in BYTES])
    table = pa.table({"image": column, "id_str": IDS, "label": [1, 2, 3], **SKY})
    pq.write_table(table, folder / "hf.parquet", row_group_size=2)
    return folder / "hf.parquet"


def binary(folder):
    pq.write_table(
        pa.table({"galaxy_id": IDS, "jpg": pa.array(BYTES, pa.large_binary()), **SKY}), folder / "b"
    )
    return folder / "b"


def file_list(folder):
    files(folder)
    rows = [
        f"{name},files/{name}.jpg,{sky}" for name, sky in zip(IDS, ("10,-5", ",", "359.5,89"), strict=True)
    ]
    (folder / "list.csv").write_text("\n".join(["id,path,ra,dec", *rows]))
    return folder / "list.csv"


def parquet_list(folder):
    paths = [str(files(folder) / f"{name}.jpg") for name in IDS]
    pq.write_table(pa.table({"id": IDS, "file": paths, **SKY}), folder / "list.parquet")
    return folder / "list.parquet"


def web_dataset(folder):
    members = {}
    for name, ra, dec in zip(IDS, SKY["ra"], SKY["dec"], strict=True):
        members[f"{name}.cls"] = b"1"
        members[f"{name}.jpg"] = IMAGES[name]
        members[f"{name}.json"] = json.dumps({"ra": ra, "dec": dec}).encode()
    return box(folder / "shard.tar", members)


def views(folder):
    texts, images = pa.array(IDS, pa.string_view()), pa.array(BYTES, pa.binary_view())
    pq.write_table(pa.table({"id": texts, "image": images, **SKY}), folder / "views.parquet")
    return folder / "views.parquet"


ENCODED = (hugging_face, binary, views, file_list, parquet_list, web_dataset)


def opened(place):
    with open_source(place) as source:
        assert source.names() == list(source.versions)
        return source, dict(source.stream())


@pytest.mark.parametrize("make", ENCODED)
def test_every_source_gives_the_bytes_and_positions_of_the_same_images(tmp_path, make):
    source, data = opened(make(tmp_path))
    assert {name.removesuffix(".jpg"): value for name, value in data.items()} == IMAGES
    assert {name.removesuffix(".jpg"): value[:2] for name, value in source.targets.items()} == PLACES
    assert source.defects == source.left_out == ()


@pytest.mark.parametrize("make", ENCODED[:2])
def test_some_rows_and_a_version_that_changes_with_the_file(tmp_path, make):
    path = make(tmp_path)
    with open_source(path) as source:
        assert dict(source.stream(["3"])) == {"3": IMAGES["3"]}
        before = source.versions
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table, table.slice(0, 1)]), path)
    source, _ = opened(path)
    assert all(before[name] != source.versions[name] for name in IDS)
    assert [(defect.member, defect.reason) for defect in source.defects] == [("5", "name stands twice")]


def hdf5(folder, **columns):
    with h5py.File(folder / "a.h5", "w") as file:
        for name, values in columns.items():
            file[name] = values
    return folder / "a.h5"


def zarr_group(folder, **columns):
    root = zarr.open_group(str(folder / "a.zarr"), mode="w")
    for name, values in columns.items():
        values = np.asarray(values)
        chunks = (2, *values.shape[1:])
        root.create_array(name, shape=values.shape, dtype=values.dtype, chunks=chunks)[:] = values
    return folder / "a.zarr"


@pytest.mark.parametrize("make", [hdf5, zarr_group])
@pytest.mark.parametrize("channels_first", [False, True])
def test_arrays_give_their_pixels(tmp_path, make, channels_first):
    pixels = PIXELS.transpose(0, 3, 1, 2) if channels_first else PIXELS
    path = make(tmp_path, images=pixels, id=[7, 8, 9], ra=[1.0, 2.0, np.nan], dec=[3.0, 4.0, np.nan])
    source, data = opened(path)
    assert list(data) == ["7", "8", "9"] and source.targets == {"7": (1.0, 3.0, None), "8": (2.0, 4.0, None)}
    assert np.array_equal(np.stack(list(data.values())), PIXELS)
    with open_source(path) as again:
        assert dict(each(again, inspect))["8"].height == 24


@pytest.mark.parametrize("make", [hdf5, zarr_group])
@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"images": PIXELS.astype(np.float32)}, "0 arrays of images"),
        ({"images": PIXELS, "id": [1, 2]}, "needs one value"),
        ({"a": PIXELS, "b": PIXELS}, "2 arrays of images"),
    ],
)
def test_arrays_that_are_no_images(tmp_path, make, columns, says):
    with pytest.raises(ImageError, match=says), open_source(make(tmp_path, **columns)):
        pass


def test_a_truncated_parquet_and_one_without_images(tmp_path):
    path = hugging_face(tmp_path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ImageError, match="cut short"), open_source(path):
        pass
    pq.write_table(pa.table({"galaxy_id": [1], "smooth": [0.5]}), path)
    with pytest.raises(ImageError, match="a table without images"), open_source(path):
        pass


def test_rows_that_cannot_be_used(tmp_path):
    table = pa.table(
        {
            "id": ["a", None, "b", "c", "d"],
            "image": pa.array([BYTES[0], BYTES[0], None, BYTES[1], BYTES[2]], pa.binary()),
            "ra": [1.0, 2.0, 3.0, 400.0, 5.0],
            "dec": [1.0, 2.0, 3.0, 4.0, None],
        }
    )
    pq.write_table(table, tmp_path / "x.parquet")
    source, data = opened(tmp_path / "x.parquet")
    reasons = {defect.member: defect.reason for defect in source.defects}
    off = "position is not on the sky"
    assert reasons == {"row 1": "row without an id", "c": off, "d": off}
    assert "ra 400.0" in str(source.defects[1])
    assert data["a"] == BYTES[0] and data["b"].reason == "row without an image"


def test_of_rows_with_one_id_the_first_counts_also_where_it_is_refused(tmp_path):
    columns = {"ra": [1.0, 400.0, 2.0], "dec": [1.0, 2.0, 3.0], "id": ["a", "7", "7"]}
    pq.write_table(pa.table({"image": pa.array(BYTES, pa.binary()), **columns}), tmp_path / "x.parquet")
    box(tmp_path / "files", {f"{number}.jpg": data for number, data in enumerate(BYTES)})
    listed = pa.table({"path": [f"files/{number}.jpg" for number in range(3)], **columns})
    pa.csv.write_csv(listed, tmp_path / "list.csv")
    for place in (tmp_path / "x.parquet", tmp_path / "list.csv", hdf5(tmp_path, images=PIXELS, **columns)):
        source, data = opened(place)
        assert list(data) == ["a"], place
        reasons = [(defect.member, defect.reason) for defect in source.defects]
        assert reasons == [("7", "position is not on the sky"), ("7", "name stands twice")]


@pytest.mark.parametrize(
    "head",
    ["GalaxyID,path,ra,dec", "ID;Path;RA;DEC", "dr7objid\tfile\tRight_Ascension\tdeclination"],
)
def test_lists_are_read_as_people_have_them(tmp_path, head):
    files(tmp_path)
    mark = head[-4] if head[-4] in ",;" else "\t"
    rows = ("5 files/5.jpg 10 -5", "007 files/3.jpg  ", "7 files/3.jpg 10h 2")
    (tmp_path / "list.csv").write_text("\n".join([head, *(row.replace(" ", mark) for row in rows)]))
    assert find_inputs([tmp_path / "list.csv"]).sources == (tmp_path / "list.csv",)
    source, data = opened(tmp_path / "list.csv")
    assert data == {"5": IMAGES["5"], "007": IMAGES["3"]} and source.targets == {"5": (10.0, -5.0, None)}
    assert [str(defect) for defect in source.defects] == [
        f"{tmp_path}/list.csv: 7: position is not on the sky: ra nan, dec 2.0; ra is from 0 to 360, "
        "dec from -90 to 90 degrees; mend it or leave both empty"
    ]


def test_ids_that_went_through_a_float_are_whole_or_refused(tmp_path):
    table = pa.table({"id": [7.0, 587722981741363294.0, None], "image": pa.array(BYTES, pa.binary())})
    pq.write_table(table, tmp_path / "x.parquet")
    source, data = opened(tmp_path / "x.parquet")
    assert list(data) == ["7"]
    assert [defect.member for defect in source.defects] == ["row 1", "row 2"]


def test_a_list_names_missing_files_and_reads_outside_its_folder(tmp_path):
    files(tmp_path)
    (tmp_path / "lists").mkdir()
    place = tmp_path / "lists" / "list.csv"
    place.write_text("filename\n../files/5.jpg\nno.jpg\n")
    source, data = opened(place)
    assert data == {"../files/5.jpg": IMAGES["5"]}
    assert [(defect.member, defect.reason) for defect in source.defects] == [("no.jpg", "no such file")]


def test_lists_and_images_are_told_from_labels(tmp_path):
    sources = {hugging_face(tmp_path), file_list(tmp_path)}
    labels = tmp_path / "labels.csv"
    labels.write_text("filename,smooth\n5.jpg,0.5\n")
    found = find_inputs([*sources, labels, "https://example.org/a.zip"])
    assert set(found.sources) == {*sources, "https://example.org/a.zip"} and found.tables == (labels,)


def test_a_sidecar_without_an_image_is_left_out_and_an_impossible_position_refused(tmp_path):
    members = {
        "1.jpg": BYTES[0],
        "1.json": b'{"ra": 1, "dec": 91}',
        "2.txt": b"a",
        "3.png": BYTES[1],
        "3.json": b"{",
    }
    source, data = opened(box(tmp_path / "x.tar.gz", members))
    assert list(data) == ["3.png"] and "dec 91" in str(source.defects[0])
    assert {other.member: other.reason for other in source.left_out} == {
        "2.txt": "neither a JPEG nor a PNG",
        "3.json": "sidecar cannot be read",
    }


# FITS

BANDS = dict(
    zip("grz", np.random.default_rng(1).normal(0.1, 0.3, (3, 24, 20)).astype(np.float32), strict=True)
)
RGB = stretched(BANDS["z"], BANDS["r"], BANDS["g"])[::-1]


def written(*units):
    buffer = BytesIO()
    fits.HDUList([fits.PrimaryHDU(), *units]).writeto(buffer)
    return buffer.getvalue()


def cube(order):
    header = fits.Header({"BANDS": order})
    return written(fits.ImageHDU(np.stack([BANDS[name] for name in order]), header))


def extensions(order, keyword="BAND", change=np.asarray):
    return written(
        *(
            fits.ImageHDU(
                BANDS[name] if change is None else change(BANDS[name]), fits.Header({keyword: name})
            )
            for name in order
        )
    )


def shown(data, sky):
    return data


@pytest.mark.parametrize("data", [cube("grz"), cube("zgr"), extensions("rzg"), extensions("zrg", "EXTNAME")])
def test_bands_are_known_by_name_not_by_order(tmp_path, data):
    members = {"a.fits": data, "sub/b.fits.gz": gzip.compress(data)}
    for form in ("x.zip", "folder"):
        with open_source(box(tmp_path / form, members)) as source:
            pixels = dict(each(source, shown))
        assert all(np.array_equal(image, RGB) for image in pixels.values()) and len(pixels) == 2
    with open_source(box(tmp_path / "one", members) / "sub/b.fits.gz") as source:
        assert np.array_equal(dict(each(source, shown))["b.fits.gz"], RGB)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (extensions("gr"), "missing band"),
        (extensions("g"), ""),
        (written(), "missing band"),
        (extensions("grz", change=lambda band: np.where(band > 0.2, np.nan, band)), "pixels without a value"),
        (written(fits.ImageHDU(np.ones((3, 9, 9), np.float32))), "bands without names"),
        (written(*(fits.ImageHDU(BANDS["g"], name=name) for name in "YJH")), "unknown band"),
        (extensions("grz")[:-8000], "damaged FITS cutout"),
    ],
)
def test_fits_that_cannot_be_shown_says_why(data, reason):
    if not reason:
        assert len(np.unique(np.ptp(picture_of(data)[0], axis=2))) == 1
        return
    with pytest.raises(ImageFault) as caught:
        picture_of(data)
    assert caught.value.reason == reason


# URLs


class Ranges(SimpleHTTPRequestHandler):
    """Serves files, of which a part may be asked for; counts the bytes that it sends."""

    ranges, sent = True, 0

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        try:
            data = Path(self.translate_path(self.path)).read_bytes()
        except OSError:
            return self.send_error(404)
        asked = self.headers.get("Range", "") if self.ranges else ""
        part = data
        if asked:
            start, _, stop = asked.removeprefix("bytes=").partition("-")
            part = data[int(start) : int(stop or len(data)) + 1]
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{int(start) + len(part) - 1}/{len(data)}")
        if self.ranges:
            self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if self.command == "GET":
            type(self).sent += len(part)
            with suppress(ConnectionError):
                self.wfile.write(part)
        return None


@pytest.fixture(params=[True, False], ids=["ranges", "no ranges"])
def server(tmp_path, request):
    handler = type("Handler", (Ranges,), {"ranges": request.param})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(tmp_path))) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}", handler
        http.shutdown()


def zipped(folder):
    return box(folder / "x.zip", {f"{name}.jpg": data for name, data in IMAGES.items()})


def tarred(folder):
    return box(folder / "x.tar.gz", {f"{name}.jpg": data for name, data in IMAGES.items()})


@pytest.mark.parametrize("make", [zipped, tarred, hugging_face, file_list])
def test_a_url_gives_what_the_file_gives(tmp_path, server, make, monkeypatch):
    copies = tmp_path / "copies"
    copies.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(copies))
    url = f"{server[0]}/{make(tmp_path).name}"
    with open_source(url) as source:
        data = dict(source.stream())
        assert source.path == url and url in source.key
        copied = len(list(copies.iterdir()))
    assert {name.removesuffix(".jpg"): value for name, value in data.items()} == IMAGES
    assert copied == (make is tarred or not server[1].ranges) and not list(copies.iterdir())


def test_a_large_zip_is_read_by_ranges_and_copied_where_there_are_none(tmp_path, server, monkeypatch):
    (tmp_path / "copies").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "copies"))
    rest = np.random.default_rng(0).bytes(24 * 2**20)
    box(tmp_path / "x.zip", {"1.jpg": BYTES[0], "rest": rest, "2.jpg": BYTES[1]})
    with open_source(f"{server[0]}/x.zip") as source:
        assert dict(source.stream(["2.jpg"])) == {"2.jpg": BYTES[1]}
        assert len(list((tmp_path / "copies").iterdir())) == (not server[1].ranges)
    assert (server[1].sent < len(rest)) == server[1].ranges


def test_a_url_without_a_file(server):
    with (
        pytest.raises(ImageError, match=r"none\.zip: cannot be opened"),
        open_source(f"{server[0]}/none.zip"),
    ):
        pass


def test_s3(tmp_path, monkeypatch):
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    moto = pytest.importorskip("moto.server", reason="moto's server is not installed")
    import s3fs

    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    for key, value in {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "a", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{key}", value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    try:
        bucket = s3fs.S3FileSystem()
        bucket.mkdir("sky")
        for make in (zipped, tarred, hugging_face):
            path = make(tmp_path)
            bucket.put_file(str(path), f"sky/{path.name}")
            _, data = opened(f"s3://sky/{path.name}")
            assert {name.removesuffix(".jpg"): value for name, value in data.items()} == IMAGES
    finally:
        server.stop()
