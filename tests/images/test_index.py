"""Images found by id in every kind of source: the bytes that `stream` gives, without listing the source."""

import json
import tarfile
import zipfile
from io import BytesIO
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from image_boxes import FORMS, box, box_of, picture

from hubblefork.errors import ImageError
from hubblefork.images import archives, tables_of_images
from hubblefork.images.sources import open_index, open_source
from hubblefork.tables.names import galaxy_id_of

IDS = ("5", "J0945+11.2", "3", "40", "é")
BYTES = [picture(number) for number in range(len(IDS))]
BOX = {f"a/{name}.jpg": data for name, data in zip(IDS, BYTES, strict=True)}
PIXELS = np.random.default_rng(0).integers(0, 256, (5, 8, 6, 3), np.uint8)


def archive(form):
    return pytest.param(lambda folder: box_of(form, folder, BOX), id=form)


def two_tars(folder):
    first, second = (dict(list(BOX.items())[part]) for part in (slice(2), slice(2, None)))
    paths = [box(folder / f"{n}.tar", members) for n, members in enumerate((first, second))]
    (folder / "both.tar").write_bytes(b"".join(path.read_bytes() for path in paths))
    return folder / "both.tar"


def hugging_face(folder):
    column = pa.array([{"bytes": data, "path": f"x/{n}.jpg"} for n, data in enumerate(BYTES)])
    table = pa.table({"image": column, "id_str": IDS, "ra": [1.0] * 5, "dec": [2.0] * 5})
    pq.write_table(table, folder / "hf.parquet", row_group_size=2)
    return folder / "hf.parquet"


def named_by_path(folder):
    column = [{"bytes": data, "path": f"x/{name}.jpg"} for name, data in zip(IDS, BYTES, strict=True)]
    pq.write_table(pa.table({"image": pa.array(column)}), folder / "paths.parquet", row_group_size=2)
    return folder / "paths.parquet"


def named_by_row(folder):
    pq.write_table(pa.table({"jpg": BYTES}), folder / "rows.parquet", row_group_size=2)
    return folder / "rows.parquet"


def file_list(folder):
    box(folder, BOX)
    (folder / "list.csv").write_text("\n".join(["id,path", *(f"{name},a/{name}.jpg" for name in IDS)]))
    return folder / "list.csv"


def list_of_paths(folder):
    paths = [str(box(folder, BOX) / name) for name in BOX]
    pq.write_table(pa.table({"file": paths}), folder / "list.parquet")
    return folder / "list.parquet"


def hdf5(folder):
    with h5py.File(folder / "a.h5", "w") as file:
        file["images"], file["id"] = PIXELS, [7, 8, 9, 10, 11]
        file["ra"], file["dec"] = [1.0] * 5, [2.0] * 5
    return folder / "a.h5"


def zarr_array(folder):
    root = zarr.open_group(str(folder / "a.zarr"), mode="w")
    root.create_array("images", shape=PIXELS.shape, dtype=PIXELS.dtype, chunks=(2, 8, 6, 3))[:] = PIXELS
    return folder / "a.zarr"


def one_image(folder):
    return box(folder, {"7.jpg": BYTES[0]}) / "7.jpg"


TABLES = (hugging_face, named_by_path, named_by_row, file_list, list_of_paths, hdf5, zarr_array)
SOURCES = [*map(archive, FORMS), two_tars, one_image, *TABLES]


def found(index, galaxy_id):
    there = index.find(galaxy_id)
    return None if there is None else dict(there[0].stream([there[1]]))[there[1]]


@pytest.mark.parametrize("make", SOURCES)
def test_the_bytes_of_an_image_are_those_of_the_stream(tmp_path, make):
    place = make(tmp_path)
    with open_source(place) as source:
        streamed = {galaxy_id_of(name): data for name, data in source.stream()}
    with open_index([place]) as index:
        for galaxy_id in [*reversed(streamed), *streamed]:
            assert np.array_equal(found(index, galaxy_id), streamed[galaxy_id])
        assert len(streamed) in (1, 5) and index.find("6") is None


@pytest.mark.parametrize("make", [*map(archive, FORMS), *TABLES])
def test_only_the_galaxies_of_a_catalogue_are_found(tmp_path, make):
    place = make(tmp_path)
    with open_source(place) as source:
        wanted, other, *_ = map(galaxy_id_of, source.names())
    with open_index([place], only=[pa.array(["x"]), pa.array([wanted])]) as index:
        assert index.find(wanted) is not None and index.find(other) is None
        assert len(index.hashes) == 1
    with open_index([place], only=[]) as index:
        assert index.find(wanted) is None


def test_the_first_of_several_images_of_a_galaxy_counts(tmp_path):
    first = box(tmp_path / "first.zip", {"x/2.jpg": BYTES[0], "1.jpg": BYTES[1], "y/1.png": BYTES[2]})
    alone = box(tmp_path, {"3.jpg": BYTES[4]}) / "3.jpg"
    with open_index([first, box(tmp_path / "b.tar", {"2.jpg": BYTES[3], "3.jpg": BYTES[0]}), alone]) as index:
        assert [found(index, name) for name in "123"] == [BYTES[1], BYTES[0], BYTES[4]]


@pytest.mark.parametrize("form", FORMS)
def test_what_a_listing_refuses_is_not_found(tmp_path, form, monkeypatch):
    off = {"off.jpg": BYTES[0], "off.json": json.dumps({"ra": 400, "dec": 1}).encode()}
    on = {"on.jpg": BYTES[1], "on.JSON": json.dumps({"ra": 40, "dec": 1}).encode()}
    other = {"._5.jpg": b"shadow", ".h/6.jpg": BYTES[2], "7": b"text", "8.txt": BYTES[3], "9": BYTES[4]}
    monkeypatch.setattr("hubblefork.images.members.LARGEST_MEMBER", 3000)
    place = box_of(form, tmp_path, {**off, **on, **other, "large.jpg": BYTES[0] * 20})
    with open_source(place) as source, open_index([place]) as index:
        ids = map(galaxy_id_of, (*off, *on, *other, "large"))
        assert {name for name in ids if index.find(name)} == set(map(galaxy_id_of, source.names()))
        assert found(index, "on") == BYTES[1] and found(index, "9") == BYTES[4]


def test_names_that_point_outside_links_and_encrypted_members(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("../1.jpg", BYTES[0])
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        link = tarfile.TarInfo("2.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        long = tarfile.TarInfo("d" * 300 + "/4.jpg")
        long.size = len(BYTES[4])
        tar.addfile(long, BytesIO(BYTES[4]))
    with open_index([tmp_path / "x.zip", tmp_path / "x.tar"]) as index:
        assert index.find("1") is None and isinstance(found(index, "2"), ImageError)
        assert found(index, "4") == BYTES[4]


def test_rows_that_a_listing_refuses(tmp_path):
    ids = ["1", "2", None, "2", "3"]
    table = {"galaxy_id": ids, "jpg": [*BYTES[:4], None], "ra": [500.0, 1, 1, 2, 3], "dec": [0.0] * 5}
    pq.write_table(pa.table(table), tmp_path / "x.parquet")
    with open_index([tmp_path / "x.parquet"]) as index:
        assert index.find("1") is None and found(index, "2") == BYTES[1]
        assert isinstance(found(index, "3"), ImageError)


def test_a_truncated_tar_gives_what_is_before_the_cut(tmp_path):
    path = box(tmp_path / "x.tar", BOX)
    path.write_bytes(path.read_bytes()[: 3 * 1536 + 700])
    with open_index([path]) as index:
        assert found(index, IDS[0]) == BYTES[0] and index.find(IDS[4]) is None


def test_bands_that_are_files_of_their_own(tmp_path):
    from astropy.io import fits

    for name in ("1_g", "1_r", "2_g"):
        fits.writeto(tmp_path / f"{name}.fits", np.full((4, 4), float(name[0]), np.float32))
    with open_source(tmp_path, "{id}_{band}.fits") as source:
        streamed = dict(source.stream())
    with open_index([tmp_path], "{id}_{band}.fits", [pa.array(["1"])]) as index:
        assert found(index, "1") == streamed["1.fits"] and index.find("2") is None


def test_no_file_of_a_list_is_looked_at_before_its_image_is_asked_for(tmp_path, monkeypatch):
    place, looked = file_list(tmp_path), []
    monkeypatch.setattr(
        tables_of_images, "version_of", lambda path: looked.append(path.name) or archives.version_of(path)
    )
    (tmp_path / "a/40.jpg").unlink()
    with open_index([place]) as index:
        assert looked == []
        assert found(index, "3") == BYTES[2] and looked == ["3.jpg"]
        assert index.find("40") is None


@pytest.mark.parametrize("kept", [0, 2**30])
def test_the_images_of_a_parquet_file_are_not_in_memory(tmp_path, kept, monkeypatch):
    monkeypatch.setattr(tables_of_images, "KEPT", kept)
    images = [np.random.default_rng(n).bytes(2**18) for n in range(64)]
    table = pa.table({"id": [str(n) for n in range(64)], "image": images})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=8, compression="none")
    del table
    before = pa.total_allocated_bytes()
    with open_index([tmp_path / "x.parquet"]) as index:
        for number in (60, 1, 33, 34):
            assert found(index, str(number)) == images[number]
            assert pa.total_allocated_bytes() - before < 3 * 8 * 2**18


def test_a_folder_is_not_looked_at_before_it_must(tmp_path, monkeypatch):
    place, looked = box(tmp_path / "x", BOX), []
    monkeypatch.setattr(archives, "version_of", lambda path: looked.append(path) or "9 9")
    with open_index([place]) as index:
        assert looked == [] and index.find("5") and looked == [Path(place) / "a/5.jpg"]
