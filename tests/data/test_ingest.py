import errno
import io
import os
import resource
import shutil
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image
from tests.images.image_boxes import (
    FORMS,
    box,
    box_of,
    label_lines,
    label_table,
    picture,
    pictures,
    volunteers,
)

from hubblefork.data.folders import DataFolder
from hubblefork.data.ingest import ingest
from hubblefork.data.stamps import prepare
from hubblefork.errors import CatalogueError, DiskError, ImageError
from hubblefork.images.decoder import StampSpec
from hubblefork.tables.catalogue import fractions, read_catalogue
from hubblefork.tables.rejects import read_rejects
from hubblefork.zoo import plain_columns, read_tree

IDS = [100008, 100023, 100078, 100090]


@pytest.fixture
def out(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def kaggle_box(tmp_path, tree):
    """A folder in Kaggle's layout; extra images, label lines and files can be put in."""

    def make(*, images=None, lines=None, form="zip", ids=IDS):
        folder = tmp_path / "kaggle"
        folder.mkdir()
        box_of(form, folder, {**pictures(ids), **(images or {})})
        label_table(folder / "training_solutions_rev1.csv", [*label_lines(tree, ids), *(lines or [])])
        return folder

    return make


def rejects_of(out):
    return {
        (r.member.rpartition("/")[2], r.galaxy_id, r.reason): r.value
        for r in read_rejects(out / "rejects.csv")
    }


def ids_of(out):
    return read_catalogue(out / "catalogue.parquet").column("galaxy_id").to_pylist()


def the_good_ones_went_on(out, *, ids=IDS):
    return ids_of(out) == list(ids)


# What comes out


@pytest.mark.parametrize("form", FORMS)
def test_kaggles_layout_becomes_a_catalogue(kaggle_box, tree, out, form):
    folder = kaggle_box(form=form)
    joint = volunteers(tree, 4)
    summary = ingest([folder], out, tree=tree)
    table = pa.parquet.read_table(out / "catalogue.parquet")
    assert (summary.galaxies, summary.labelled_fully, summary.rejects) == (4, 4, {})
    assert table.column_names[:8] == [
        *("galaxy_id", "source", "member", "width", "height"),
        *("centre_red", "centre_green", "centre_blue"),
    ]
    assert table.column_names[8:] == list(tree.columns)
    assert [str(field.type) for field in table.schema] == [
        *("int64", "string", "string", "int32", "int32", "uint8", "uint8", "uint8"),
        *["double"] * 37,
    ]
    assert table.schema.metadata[b"tree"] == b"galaxy_zoo_2"
    assert table.column("galaxy_id").to_pylist() == IDS
    source = folder / ("images_training_rev1" if form == "folder" else f"images_training_rev1.{form}")
    assert table.column("member").to_pylist() == [f"images_training_rev1/{i}.jpg" for i in IDS]
    assert set(table.column("source").to_pylist()) == {f"../{folder.name}/{source.name}"}
    assert set(read_catalogue(out / "catalogue.parquet").column("source").to_pylist()) == {str(source)}
    assert np.array_equal(fractions(table, tree), joint)
    assert read_rejects(out / "rejects.csv") == []


def test_fully_partly_and_unlabelled_sources_make_one_catalogue(kaggle_box, tree, out):
    folder = kaggle_box()
    part = volunteers(tree, 2, seed=5)
    part[:, tree.slices[9].start :] = np.nan
    box(folder / "images_partial.zip", {f"p/{i}.jpg": picture(i) for i in (51, 52)})
    label_table(folder / "solutions_partial.zip", label_lines(tree, [51, 52], part))
    box(folder / "images_test_rev1.tgz", {f"t/{i}.jpg": picture(i) for i in (61, 62, 63)})
    summary = ingest([folder], out, tree=tree)
    assert (summary.galaxies, summary.labelled_fully) == (9, 4)
    assert (summary.labelled_partly, summary.unlabelled, summary.rejects) == (2, 3, {})
    table = read_catalogue(out / "catalogue.parquet")
    assert ids_of(out) == [51, 52, 61, 62, 63, *IDS]
    assert np.array_equal(fractions(table, tree)[:2], part, equal_nan=True)
    assert table.column("smooth").null_count == 3


def test_a_folder_of_images_with_one_table(tmp_path, tree, out):
    folder = box(tmp_path / "mine", {f"{i}.jpg": picture(i) for i in IDS})
    columns = dict(zip(tree.columns, volunteers(tree, 4).T, strict=True))
    pa.parquet.write_table(pa.table({"galaxy_id": IDS, **columns}), folder / "votes.parquet")
    (folder / "notes.txt").write_text("seen on Tuesday")
    summary = ingest([folder], out, tree=tree)
    assert summary.labelled_fully == 4
    assert summary.rejects == {"neither a JPEG nor a PNG": 1}
    assert [reject.member for reject in read_rejects(out / "rejects.csv")] == ["notes.txt"]


def test_a_tree_of_ones_own_is_carried_and_only_labelled_images_are_read(tmp_path, out):
    own = plain_columns(["ring"])
    archive = box(tmp_path / "own.zip", {**pictures(IDS), "7.jpg": b"damaged, but not looked at"})
    labels = tmp_path / "labels.csv"
    labels.write_text("galaxy_id,ring\n100008,1\n100023,False\n100078,\n5,0.5\n100090,1.5\n")
    summary = ingest([archive], out, labels=[labels], tree=own, only_labelled=True)
    assert read_tree(out) == own
    assert ids_of(out) == [100008, 100023, 100078]
    assert fractions(read_catalogue(out / "catalogue.parquet"), own)[:2, 0].tolist() == [1, 0]
    assert summary.rejects == {"breaks the decision tree": 1, "labels without an image": 1}
    with pytest.raises(CatalogueError, match="source: a catalogue has columns of these names"):
        ingest([archive], out, labels=[labels], tree=plain_columns(["source"]))
    with pytest.raises(CatalogueError, match="dec, ra: a catalogue has columns of these names"):
        ingest([archive], out, labels=[labels], tree=plain_columns(["ra", "dec"]))


def positions_of(out):
    return read_catalogue(out / "catalogue.parquet", ("ra", "dec")).to_pydict()


def test_the_positions_of_a_list_stand_in_the_catalogue(tmp_path, out):
    box(tmp_path / "images", {f"{i}.jpg": picture(i) for i in IDS})
    rows = ["10.5,-3", "", ",", "400,0"]
    lines = [f"{i},images/{i}.jpg,{at or ','}" for i, at in zip(IDS, rows, strict=True)]
    (tmp_path / "list.csv").write_text("\n".join(["id,path,ra,dec", *lines]))
    assert ingest([tmp_path / "list.csv"], out).rejects == {"position is not on the sky": 1}
    known = {"galaxy_id": IDS[:3], "ra": [10.5, None, None], "dec": [-3, None, None]}
    assert positions_of(out) == known
    (tmp_path / "list.csv").write_text("\n".join(["id,path,ra,dec", *lines[1:3]]))
    ingest([tmp_path / "list.csv"], out)
    assert list(positions_of(out)) == ["galaxy_id"]


def test_the_positions_of_labels_do_too_where_they_are_on_the_sky(tmp_path, out):
    archive, labels = box(tmp_path / "own.zip", pictures(IDS)), tmp_path / "labels.csv"
    rows = ["0.5,10.5,-3", "1,-999,-999", "0,,", "1,unknown,5"]
    table = [f"{i},{row}" for i, row in zip(IDS, rows, strict=True)]
    labels.write_text("\n".join(["galaxy_id,ring,RA,DEC", *table]))
    ingest([archive], out, labels=[labels], tree=plain_columns(["ring"]))
    known = {"ra": [10.5, None, None, None], "dec": [-3, None, None, None]}
    assert positions_of(out) == {"galaxy_id": IDS, **known}
    before = DataFolder(out).digest()
    labels.write_text("\n".join(["galaxy_id,ring", *(line.rsplit(",", 2)[0] for line in table)]))
    ingest([archive], out, labels=[labels], tree=plain_columns(["ring"]))
    assert list(positions_of(out)) == ["galaxy_id"] and DataFolder(out).digest() == before


def test_a_folder_of_images_with_two_tables_asks_which(tmp_path, tree, out):
    folder = box(tmp_path / "mine", {"1.jpg": picture(1), "a.csv": b"", "b.csv": b""})
    with pytest.raises(
        CatalogueError, match=r"which of these tables holds the labels: a\.csv, b\.csv\? Say it with --labels"
    ):
        ingest([folder], out, tree=tree)
    label_table(folder / "a.csv", label_lines(tree, [1]))
    summary = ingest([folder], out, labels=[folder / "a.csv"], tree=tree)
    assert summary.labelled_fully == 1
    assert rejects_of(out) == {("b.csv", "", "table within it"): "b.csv"}


def test_an_archive_and_a_table_given_by_name(tmp_path, tree, out):
    images = box(tmp_path / "some.tar", pictures(IDS))
    table = label_table(tmp_path / "some.csv", label_lines(tree, IDS))
    assert ingest([images, table], out, tree=tree).labelled_fully == 4
    assert ingest([images], out, labels=[table], tree=tree).labelled_fully == 4
    assert ingest([images], out, tree=tree).unlabelled == 4


def test_what_is_no_image_in_any_source_is_named(tmp_path, tree, out):
    first, second = (box(tmp_path / f"{k}.zip", {f"{k}.jpg": picture(k), "README": b"text"}) for k in (1, 2))
    (tmp_path / "all.zip").write_bytes(first.read_bytes() + second.read_bytes())
    folder = box(tmp_path / "mine", {"3.jpg": picture(3), "sub/4.tif": b"SIMPLE", "sub/x.zip": b"PK"})
    labels = label_table(folder / "labels.csv", label_lines(tree, [3, 4]))
    ingest([tmp_path / "all.zip", folder], out, tree=tree)
    assert {(reject.member, reject.reason) for reject in read_rejects(out / "rejects.csv")} == {
        ("", "not all of it is listed"),
        ("README", "neither a JPEG nor a PNG"),
        ("sub/4.tif", "neither a JPEG nor a PNG"),
        ("sub/x.zip", "archive within it"),
        ("", "labels of a refused image"),
    }
    assert rejects_of(out)["", "4", "labels of a refused image"] == "line 3: neither a JPEG nor a PNG"
    assert labels.exists() and ids_of(out) == [2, 3]
    ingest([folder], out, tree=tree, strict=False)
    with pytest.raises(CatalogueError, match="labels of a refused image"):
        ingest([folder], out, tree=tree, strict=True)


def test_a_cutout_that_reaches_beyond_the_survey_is_named(tmp_path, tree, out):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    pixels[:, 22:] = 128
    half = io.BytesIO()
    Image.fromarray(pixels).save(half, "PNG")
    ingest([box(tmp_path / "mine", {"1.jpg": picture(1), "2.png": half.getvalue()})], out, tree=tree)
    assert rejects_of(out) == {
        ("2.png", "2", "not wholly observed"): "45% of it, from one side on, are of one colour"
    }
    assert ids_of(out) == [1]


def test_the_content_and_not_the_name_says_what_an_image_is(tmp_path, tree, out):
    ingest([box(tmp_path / "x.zip", {"1.jpg": picture(1, "PNG"), "2.png": picture(2)})], out, tree=tree)
    assert ids_of(out) == [1, 2]


def test_a_name_that_is_no_text_is_refused(tmp_path, tree, out):
    box(tmp_path / "mine", {os.fsdecode(b"M\xe1laga.jpg"): picture(1), "2.jpg": picture(2)})
    ingest([tmp_path / "mine"], out, tree=tree)
    assert ids_of(out) == [2]
    assert rejects_of(out) == {
        ("M\\udce1laga.jpg", "M\\udce1laga", "name is not valid UTF-8"): "M\\udce1laga.jpg"
    }


def test_image_files_given_by_name(tmp_path, tree, out):
    folder = box(tmp_path / "mine", {"7.jpg": picture(7), "8": picture(8), "9.jpg": picture(9)})
    summary = ingest([folder / "7.jpg", folder / "8"], out, tree=tree)
    assert ids_of(out) == [7, 8] and (summary.unlabelled, summary.rejects) == (2, {})
    table = read_catalogue(out / "catalogue.parquet")
    assert table.column("source").to_pylist() == [str(folder)] * 2
    assert table.column("member").to_pylist() == ["7.jpg", "8"]


def test_one_table_in_two_forms_and_an_unpacked_archive_count_once(kaggle_box, tree, out):
    folder = kaggle_box()
    label_table(folder / "training_solutions_rev1.zip", label_lines(tree, IDS))
    box(folder / "images_training_rev1", {"100008.jpg": picture(0)})
    summary = ingest([folder, folder], out, tree=tree)
    assert (summary.galaxies, summary.rejects) == (4, {})
    assert [path.name for path in summary.ignored] == ["images_training_rev1", "training_solutions_rev1.zip"]


def test_a_benchmark_submission_and_other_files_are_left_alone(kaggle_box, tree, out):
    folder = kaggle_box()
    box(folder / "images_test_rev1.zip", {f"t/{i}.jpg": picture(i) for i in (61, 62)})
    label_table(folder / "central_pixel_benchmark.zip", label_lines(tree, [61, 62]))
    (folder / "unselected_ids.txt").write_text("100008")
    summary = ingest([folder], out, tree=tree)
    assert summary.unlabelled == 2
    assert [path.name for path in summary.ignored] == ["central_pixel_benchmark.zip", "unselected_ids.txt"]


def test_the_result_does_not_depend_on_the_threads(kaggle_box, tree, tmp_path):
    folder = kaggle_box(ids=range(1, 60), images={"x/60.jpg": b"bad", "x/61.jpg": picture(3)})
    for threads in (1, 7):
        ingest([folder], tmp_path / str(threads), tree=tree, threads=threads)
    one, seven = (read_catalogue(tmp_path / threads / "catalogue.parquet") for threads in ("1", "7"))
    assert one.equals(seven, check_metadata=True)
    assert (tmp_path / "1" / "rejects.csv").read_bytes() == (tmp_path / "7" / "rejects.csv").read_bytes()


def test_progress_counts_every_image(kaggle_box, tree, out):
    seen = []

    @contextmanager
    def progress(what, total, done=0):
        yield lambda steps: seen.append((what, total, steps))

    ingest([kaggle_box(images={"x/9.jpg": b"bad"})], out, tree=tree, progress=progress)
    assert seen == [("ingest", 5, 1)] * 5


# What is refused, while the good ones go on


def bomb():
    data = bytearray(picture(0, "PNG"))
    data[16:24] = struct.pack(">II", 30_000, 30_000)
    return bytes(data)


@pytest.mark.parametrize(
    ("name", "data", "reason", "value"),
    [
        ("5.jpg", picture(5, size=(200, 200))[:-200], "damaged image", "Premature end of JPEG file"),
        (
            "5.jpg",
            b"plain text, no image",
            "neither a JPEG nor a PNG",
            "begins with b'plain text, no i'",
        ),
        ("5.png", bomb(), "too many pixels", "30000 × 30000; at most 67108864 pixels are allowed"),
        ("../../x.jpg", picture(5), "name points outside the archive", "../../x.jpg"),
        ("5.jpg", picture(5), "image without labels", "other images of this source have labels"),
        ("sub/100008.jpg", picture(5), "galaxy_id stands twice", "first in {source}"),
        ("5.jpg", picture(1), "same image as another galaxy", "galaxy_id 100023"),
        ("5.jpg", b"", "empty file", "0 bytes"),
    ],
)
def test_a_bad_image_is_refused(kaggle_box, tree, out, tmp_path, name, data, reason, value):
    folder = kaggle_box(images={name: data})
    before = set(tmp_path.rglob("*"))
    summary = ingest([folder], out, tree=tree)
    value = value.format(source=folder / "images_training_rev1.zip")
    galaxy_id = name.rpartition("/")[2].partition(".")[0]
    assert rejects_of(out) == {(name.rpartition("/")[2], galaxy_id, reason): value}
    assert summary.rejects == {reason: 1}
    assert the_good_ones_went_on(out)
    written = {out, out / "catalogue.parquet", out / "rejects.csv", out / "tree.toml"}
    assert set(tmp_path.rglob("*")) == before | written
    with pytest.raises(ImageError, match=reason) as caught:
        ingest([folder], out, tree=tree, strict=True)
    assert str(caught.value).startswith(f"{folder / 'images_training_rev1.zip'}: {name}: {reason}: {value}; ")


def test_a_truncated_zip_is_refused_beside_a_good_one(kaggle_box, tree, out):
    folder = kaggle_box()
    cut = box(folder / "images_partial.zip", {"p/5.jpg": picture(5)})
    cut.write_bytes(cut.read_bytes()[:-40])
    assert ingest([folder], out, tree=tree).rejects == {"source cannot be opened": 1}
    (reject,) = read_rejects(out / "rejects.csv")
    assert reject.source == str(cut)
    assert (
        reject.value.startswith("a damaged zip: its list of members")
        and "Fetch or copy it again" in reject.value
    )
    assert the_good_ones_went_on(out)
    with pytest.raises(ImageError, match=r"images_partial\.zip: a damaged zip"):
        ingest([folder], out, tree=tree, strict=True)


def test_a_truncated_zip_alone_is_an_error(tmp_path, tree, out):
    cut = box(tmp_path / "images.zip", {"p/5.jpg": picture(5)})
    cut.write_bytes(cut.read_bytes()[:-40])
    with pytest.raises(
        ImageError, match=r"images\.zip: source cannot be opened: a damaged zip.*nothing was written"
    ):
        ingest([cut], out, tree=tree)
    assert not out.exists()


def test_a_truncated_tar_is_good_up_to_the_cut(tmp_path, tree, out):
    path = box(tmp_path / "images.tar", {f"{i}.jpg": picture(i) for i in range(1, 9)})
    raw = path.read_bytes()
    path.write_bytes(raw[: raw.index(b"6.jpg") + 600])
    summary = ingest([path], out, tree=tree)
    assert summary.rejects == {"archive is damaged": 1, "cannot be read": 1}
    assert rejects_of(out)["6.jpg", "6", "cannot be read"] == "unexpected end of data"
    assert ids_of(out) == [1, 2, 3, 4, 5]


def test_a_zip_member_with_a_bad_checksum_is_refused_alone(tmp_path, tree, out):
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for i in (1, 2, 3):
            archive.writestr(f"{i}.jpg", picture(i))
    raw = bytearray(path.read_bytes())
    raw[raw.index(picture(2)) + 300] ^= 255
    path.write_bytes(raw)
    ingest([path], out, tree=tree)
    assert rejects_of(out) == {("2.jpg", "2", "cannot be read"): "Bad CRC-32 for file '2.jpg'"}
    assert ids_of(out) == [1, 3]


def changed(line, column, value):
    parts = line.split(",")
    parts[column] = value
    return ",".join(parts)


def test_text_in_a_number_refuses_row_and_image(kaggle_box, tree, out):
    line = changed(label_lines(tree, [5])[1], 4, "many")
    folder = kaggle_box(images={"x/5.jpg": picture(5)}, lines=[line])
    summary = ingest([folder], out, tree=tree)
    assert rejects_of(out) == {
        ("", "5", "text in a number"): 'line 6: edge_on_disk is "many"',
        ("5.jpg", "5", "image of refused labels"): "text in a number",
    }
    assert summary.galaxies == 4 and the_good_ones_went_on(out)
    with pytest.raises(
        CatalogueError, match=r'solutions_rev1\.csv: text in a number: line 6: edge_on_disk is "many"'
    ):
        ingest([folder], out, tree=tree, strict=True)


def test_a_repeated_id_that_contradicts_is_refused_altogether(kaggle_box, tree, out):
    folder = kaggle_box(lines=label_lines(tree, [100023], volunteers(tree, 1, seed=8))[1:])
    summary = ingest([folder], out, tree=tree)
    assert summary.rejects == {"rows of one galaxy_id contradict each other": 2, "image of refused labels": 1}
    assert the_good_ones_went_on(out, ids=[100008, 100078, 100090])


def test_a_repeated_id_that_agrees_is_kept_once(kaggle_box, tree, out):
    folder = kaggle_box(lines=label_lines(tree, IDS)[1:2])
    ingest([folder], out, tree=tree)
    assert rejects_of(out) == {
        (
            "",
            "100008",
            "galaxy_id repeated",
        ): "line 6: same labels as at line 2 of training_solutions_rev1.csv, kept once"
    }
    assert the_good_ones_went_on(out)


def test_labels_that_break_the_tree_are_refused(kaggle_box, tree, out):
    line = changed(label_lines(tree, [5])[1], 1, "1.5")
    folder = kaggle_box(images={"x/5.jpg": picture(5)}, lines=[line])
    ingest([folder], out, tree=tree)
    assert "0 ≤ smooth ≤ 1: off by +0.5" in rejects_of(out)["", "5", "breaks the decision tree"]
    assert the_good_ones_went_on(out)


def test_labels_without_an_image_are_refused(kaggle_box, tree, out):
    folder = kaggle_box(images={"x/6.jpg": b"bad"}, lines=label_lines(tree, [5, 6])[1:])
    summary = ingest([folder], out, tree=tree)
    assert rejects_of(out) == {
        ("6.jpg", "6", "neither a JPEG nor a PNG"): "begins with b'bad'",
        ("", "5", "labels without an image"): "line 6",
        ("", "6", "labels of a refused image"): "line 7: neither a JPEG nor a PNG",
    }
    assert sum(summary.rejects.values()) == 3 and the_good_ones_went_on(out)


def test_a_missing_column_stops_and_leaves_the_old_catalogue(kaggle_box, tree, out):
    folder = kaggle_box()
    ingest([folder], out, tree=tree)
    before = (out / "catalogue.parquet").read_bytes()
    table = folder / "training_solutions_rev1.csv"
    table.write_text(table.read_text().replace("Class8.6", "Merger"))
    with pytest.raises(
        CatalogueError,
        match=r"solutions_rev1\.csv: 1 of the 37 .* missing: Class8\.6",
    ):
        ingest([folder], out, tree=tree)
    assert (out / "catalogue.parquet").read_bytes() == before


def test_ids_beyond_32_bits_stay_whole(kaggle_box, tree, out):
    ids = [2**31, 2**32 + 7, 587722981742084144, 2**63 - 1]
    summary = ingest([kaggle_box(ids=ids)], out, tree=tree)
    assert ids_of(out) == ids and summary.labelled_fully == 4 and summary.notes == ()


@pytest.mark.parametrize("odd", ["J0945+11", str(2**63), "007"])
def test_one_id_that_is_no_integer_makes_all_of_them_text(kaggle_box, tree, out, odd):
    summary = ingest([kaggle_box(ids=[100008, odd])], out, tree=tree)
    assert ids_of(out) == ["100008", odd] and summary.labelled_fully == 2
    assert summary.notes == (
        f'galaxy_id is kept as text for all 2 galaxies: 1 of them, the first "{odd}", are no 64-bit integers',
    )


def test_an_id_is_the_text_of_the_name_unless_it_is_an_integers_own_spelling(tmp_path, tree, out):
    odd = ["+7", "007", "0x10", "1_000", " 7", "７", "-0", "1e3", str(2**63)]
    for ids, expected in ((["7", "-7"], [-7, 7]), *(([name, "16"], sorted([name, "16"])) for name in odd)):
        folder = box(tmp_path / f"of {ids[0]}", {f"{name}.jpg": picture(k) for k, name in enumerate(ids)})
        ingest([folder], out, tree=tree)
        assert sorted(pa.parquet.read_table(out / "catalogue.parquet")["galaxy_id"].to_pylist()) == expected


@pytest.mark.parametrize("other", [None, "notes.txt"])
def test_an_empty_folder_is_an_error(tmp_path, tree, out, other):
    folder = tmp_path / "empty"
    folder.mkdir()
    if other:
        (folder / other).write_text("nothing here")
    with pytest.raises(ImageError, match=r"empty: no images in it: neither \.jfif, .* files nor archives"):
        ingest([folder], out, tree=tree)
    assert not out.exists()


def test_a_path_that_is_not_there_and_a_table_alone_are_errors(tmp_path, tree, out):
    with pytest.raises(ImageError, match=r"gone: there is no such archive or folder; give"):
        ingest([tmp_path / "gone"], out, tree=tree)
    with pytest.raises(ImageError, match=r"no images among .*x\.csv; give an archive or a folder of images"):
        ingest([label_table(tmp_path / "x.csv", label_lines(tree, IDS))], out, tree=tree)


def test_when_no_image_can_be_used_the_error_counts_why(tmp_path, tree, out):
    images = {"1.jpg": b"", "2.jpg": b"text", "3.jpg": b"text"}
    with pytest.raises(ImageError) as caught:
        ingest([box(tmp_path / "x.zip", images)], out, tree=tree)
    assert str(caught.value) == (
        f"{tmp_path / 'x.zip'}: 1.jpg: empty file: 0 bytes. No image can be used "
        "(1 × empty file, 2 × neither a JPEG nor a PNG) and nothing was written"
    )


def test_where_labels_are_at_fault_their_row_is_named(tmp_path, out):
    images = box(tmp_path / "x.zip", {"1.jpg": picture(0), "2.jpg": picture(1)})
    table = tmp_path / "labels.csv"
    table.write_text("galaxy_id,ring\n1,40%\n2,60%\n")
    with pytest.raises(ImageError, match=r'labels\.csv: text in a number: line 2: ring is "40%"\. No image'):
        ingest([images], out, labels=[table], tree=plain_columns(["ring"]))


def test_nothing_is_lost(kaggle_box, tree, out):
    """Every image and every row of labels is in the catalogue or among the rejects."""
    images = {
        "x/5.jpg": b"",
        "x/6.jpg": picture(0),
        "x/7.jpg": picture(70),
        "x/8.jpg": picture(80),
        "x/9.jpg": b"z",
    }
    lines = [*label_lines(tree, [5, 6, 8, 10])[1:], "8,1,2"]
    folder = kaggle_box(images=images, lines=lines)
    summary = ingest([folder], out, tree=tree)
    rejects = read_rejects(out / "rejects.csv")
    refused_images = {r.member for r in rejects if r.source.endswith(".zip")}
    taken = set(read_catalogue(out / "catalogue.parquet").column("member").to_pylist())
    assert taken | refused_images == set(pictures(IDS)) | set(images)
    assert not taken & refused_images
    refused_rows = [r for r in rejects if r.source.endswith(".csv")]
    assert len(refused_rows) + summary.labelled_fully == len(IDS) + len(lines)


# Machines that refuse


@contextmanager
def files_at_most(size):
    """No file may grow beyond `size` bytes: what a full disk looks like to a program."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_said_and_leaves_what_was_there(kaggle_box, tree, out):
    folder = kaggle_box()
    ingest([folder], out, tree=tree)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with files_at_most(2000), pytest.raises(DiskError, match=r"could not be written: .*free some space"):
        ingest([folder], out, tree=tree)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_no_space_left_is_said(kaggle_box, tree, out, monkeypatch):
    def full(rejects, path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("hubblefork.data.ingest.write_rejects", full)
    with pytest.raises(DiskError, match=r"rejects\.csv: could not be written: No space left on device"):
        ingest([kaggle_box()], out, tree=tree)
    assert list(out.iterdir()) == []


def noise(seed):
    """A PNG of 120 kB that does not compress."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=0)
    return buffer.getvalue()


@pytest.mark.parametrize("threads", [1, 2])
def test_only_the_images_in_the_pool_are_held(tmp_path, tree, out, threads):
    path = box(tmp_path / "images.tar", {f"{i}.png": noise(i) for i in range(1, 151)})
    assert path.stat().st_size > 18e6
    tracemalloc.start()
    ingest([path], out, tree=tree, threads=threads)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6


PEAK = """
import resource, sys
from pathlib import Path
from hubblefork.images.decoder import StampSpec
from hubblefork.data.ingest import ingest
from hubblefork.zoo import load_tree
ingest([Path(p) for p in sys.argv[2:]], Path(sys.argv[1]), tree=load_tree("galaxy_zoo_2"))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_megabytes(out, *sources):
    command = [sys.executable, "-c", PEAK, str(out), *map(str, sources)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / 1024


@pytest.mark.slow
def test_real_memory_is_flat(kaggle, out):
    few, many = kaggle / "images_test_rev1.zip", kaggle / "images_training_rev1.zip"
    growth = peak_megabytes(out, many) - peak_megabytes(out, few)
    assert growth < 25, "6,255 more images, 3.4 GB decoded"


def test_real_data_make_one_catalogue(kaggle, tree, out, tmp_path):
    """The files by name: the folder holds more, images without labels among them."""
    images = ("images_training_rev1", "images_partial", "images_test_rev1")
    tables = ("training_solutions_rev1", "solutions_partial", "central_pixel_benchmark")
    (tmp_path / "kaggle").mkdir()
    for name in (*images, *tables):
        (tmp_path / "kaggle" / f"{name}.zip").symlink_to(kaggle / f"{name}.zip")
    summary = ingest([tmp_path / "kaggle"], out, tree=tree)
    assert (summary.labelled_fully, summary.labelled_partly, summary.unlabelled) == (7452, 3997, 1197)
    assert summary.rejects == {} and summary.notes == ()
    assert "central_pixel_benchmark.zip" in [path.name for path in summary.ignored]
    table = read_catalogue(out / "catalogue.parquet")
    assert len(table) == 12646 and str(table.schema.field("galaxy_id").type) == "int64"
    assert set(table.column("width").to_pylist()) == set(table.column("height").to_pylist()) == {424}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("1,0.5\n2,0.25\n", r"2 × labels without an image; the first: 1: line 2. Images are named as "),
        ("", r"it has no rows"),
    ],
)
def test_a_table_of_labels_of_which_no_row_is_used_is_an_error(tmp_path, out, rows, message):
    box(tmp_path / "cut.zip", pictures(IDS))
    (tmp_path / "labels.csv").write_text("galaxy_id,ring\n" + rows)
    with pytest.raises(CatalogueError, match=rf"labels\.csv: none of its rows is used: {message}"):
        ingest([tmp_path / "cut.zip"], out, labels=[tmp_path / "labels.csv"], tree=plain_columns(["ring"]))
    assert not out.exists()


def test_numbers_that_stand_for_missing_values_are_missing(tmp_path, out):
    box(tmp_path / "cut.zip", pictures(IDS))
    (tmp_path / "labels.csv").write_text(
        "galaxy_id,ring\n" + "".join(f"{i},-99\n" for i in IDS[1:]) + f"{IDS[0]},1"
    )
    what = {"labels": [tmp_path / "labels.csv"], "tree": plain_columns(["ring"])}
    with pytest.raises(CatalogueError, match=r"line 2: ring is -99; .*--missing -99"):
        ingest([tmp_path / "cut.zip"], out, **what)
    summary = ingest([tmp_path / "cut.zip"], out, **what, missing=[-99])
    assert (summary.labelled_fully, summary.unlabelled, summary.rejects) == (1, 3, {})


@pytest.mark.parametrize("moved", [["data", "kaggle"], ["data"], ["kaggle", "data"], ["copy"]])
def test_images_are_found_after_a_move_and_stamps_made_anew(kaggle_box, tree, tmp_path, out, moved):
    spec = StampSpec(16, 8)
    kaggle_box()
    ingest([tmp_path / "kaggle"], out, tree=tree)
    expected = np.array(prepare(out, spec))
    shutil.rmtree(out / "stamps")
    (tmp_path / "new").mkdir()
    for name in ("data", "kaggle") if moved == ["copy"] else moved:
        if moved == ["copy"]:
            shutil.copytree(tmp_path / name, tmp_path / "new" / name)
        else:
            (tmp_path / name).rename(tmp_path / "new" / name)
    data = tmp_path / "new" / "data"
    assert np.array_equal(prepare(data, spec), expected)
    place = tmp_path / ("kaggle" if moved == ["data"] else "new/kaggle") / "images_training_rev1.zip"
    assert set(read_catalogue(data / "catalogue.parquet").column("source").to_pylist()) == {str(place)}


@pytest.mark.parametrize("out", ["", "data", "a/data"])
def test_nothing_is_written_among_the_images(tree, tmp_path, out):
    images = box(tmp_path / "images", {"1.jpg": picture(1), "a/2.jpg": picture(2)})
    before = sorted(images.rglob("*"))
    with pytest.raises(ImageError, match=r"the folder of the images, .*choose a folder elsewhere"):
        ingest([images], images / out, tree=tree)
    assert sorted(images.rglob("*")) == before


def test_nothing_is_written_beside_the_archives_that_are_found_in_a_folder(kaggle_box, tree):
    folder = kaggle_box()
    with pytest.raises(ImageError, match="choose a folder elsewhere"):
        ingest([folder], folder, tree=tree)
    assert not (folder / "catalogue.parquet").exists()
    ingest([folder], folder / "data", tree=tree)
