"""Label tables, and a person's own labels."""

import csv
import re
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from tests.images.image_boxes import box, label_lines, label_table, volunteers

from hubblefork.data.labels import check_labels, read_labels, tree_of_columns
from hubblefork.errors import CatalogueError, ImageError, TreeError
from hubblefork.tables.catalogue import write_catalogue
from hubblefork.zoo import plain_columns

IDS = [100008, 100023, 100078]


def cells_changed(lines, row, **cells):
    header, parts = lines[0].split(","), lines[row].split(",")
    for column, value in cells.items():
        parts[header.index(column.replace("_", "."))] = value
    return [*lines[:row], ",".join(parts), *lines[row + 1 :]]


def without_column(lines, *names):
    keep = [i for i, name in enumerate(lines[0].split(",")) if name not in names]
    return [",".join(line.split(",")[i] for i in keep) for line in lines]


def read(tmp_path, tree, lines, name="labels.csv"):
    return read_labels([label_table(tmp_path / name, lines)], tree)


@pytest.mark.parametrize("name", ["labels.csv", "labels.zip"])
def test_rows_come_by_id_in_the_order_of_the_tree(tmp_path, tree, name):
    joint = volunteers(tree, 3)
    labels = read(tmp_path, tree, label_lines(tree, IDS, joint), name)
    assert [*labels.row_of] == ["100008", "100023", "100078"]
    assert np.array_equal(labels.joint[labels.row_of["100023"]], joint[1])
    assert labels.rejects == []


def test_columns_may_come_in_any_order_and_under_our_names(tmp_path, tree):
    joint = volunteers(tree, 3)
    names = list(tree.columns)[::-1]
    columns = {name: joint[:, tree.column(name)] for name in names}
    pa.parquet.write_table(
        pa.table({"other": [1, 2, 3], **columns, "galaxy_id": IDS}), tmp_path / "x.parquet"
    )
    labels = read_labels([tmp_path / "x.parquet"], tree)
    assert [*labels.row_of] == ["100008", "100023", "100078"]
    assert np.array_equal(labels.joint, joint)


def test_byte_order_mark_blank_lines_and_spaces_do_no_harm(tmp_path, tree):
    lines = label_lines(tree, IDS)
    text = "\ufeff" + ", ".join(lines[0].split(",")) + "\r\n\r\n" + "\r\n".join(lines[1:]) + "\r\n\r\n"
    (tmp_path / "x.csv").write_text(text, encoding="utf-8", newline="")
    labels = read_labels([tmp_path / "x.csv"], tree)
    assert len(labels.row_of) == 3 and labels.rejects == []


def test_missing_stays_missing(tmp_path, tree):
    joint = volunteers(tree, 3)
    joint[1, tree.slices[2]] = np.nan
    labels = read(tmp_path, tree, label_lines(tree, IDS, joint))
    assert np.array_equal(labels.joint, joint, equal_nan=True)
    assert labels.rejects == []


def test_all_missing_columns_are_named_with_the_nearest(tmp_path, tree):
    lines = without_column(label_lines(tree, IDS), "Class1.1", "Class11.6")
    lines[0] = lines[0].replace("Class7.2", "Klass7.2")
    with pytest.raises(CatalogueError) as caught:
        read(tmp_path, tree, lines)
    message = str(caught.value)
    assert (
        f"{tmp_path / 'labels.csv'}: 3 of the 37 columns of galaxy_zoo_2 are missing: Class1.1, " in message
    )
    assert 'Class7.2 (did you mean "Klass7.2"?)' in message and "Class11.6" in message


def test_a_table_without_ids_is_an_error(tmp_path, tree):
    with pytest.raises(
        CatalogueError,
        match=r'there is no column "galaxy_id" .* it has Class1.1, Class1.2, Class1.3 and 34 more',
    ):
        read(tmp_path, tree, without_column(label_lines(tree, IDS), "GalaxyID"))


def test_a_column_that_stands_twice_is_an_error(tmp_path, tree):
    lines = [line + "," + line.split(",")[1] for line in label_lines(tree, IDS)]
    with pytest.raises(CatalogueError, match=r'the column "Class1\.1" stands 2 times; keep one'):
        read(tmp_path, tree, lines)


def test_text_in_a_number_refuses_the_row(tmp_path, tree):
    lines = cells_changed(label_lines(tree, IDS), 2, Class3_1="high", Class3_2="0;5")
    labels = read(tmp_path, tree, lines)
    assert [*labels.row_of] == ["100008", "100078"]
    (reject,) = labels.rejects
    assert (reject.galaxy_id, reject.reason) == ("100023", "text in a number")
    assert str(reject) == (
        f'{tmp_path / "labels.csv"}: text in a number: line 3: barred is "high"; no_bar is "0;5"'
    )


def test_a_row_of_another_length_is_refused(tmp_path, tree):
    lines = label_lines(tree, IDS)
    lines[2] = ",".join(lines[2].split(",")[:20])
    (reject,) = read(tmp_path, tree, lines).rejects
    assert (reject.galaxy_id, reject.reason) == ("100023", "wrong number of cells")
    assert reject.value == "line 3: 20 cells under 38 columns"


def test_rows_outside_the_tree_are_refused_with_constraint_and_excess(tmp_path, tree):
    joint = volunteers(tree, 4)
    joint[1, 0] += 0.25
    joint[2, tree.column("merger")] = -0.125
    joint[3, 1] = np.inf
    labels = read(tmp_path, tree, label_lines(tree, [*IDS, 4], joint))
    assert [*labels.row_of] == ["100008"]
    assert {reject.reason for reject in labels.rejects} == {"breaks the decision tree"}
    values = {reject.galaxy_id: reject.value for reject in labels.rejects}
    assert "line 3: sum of smooth_or_features = 1: off by +0.25" in values["100023"]
    assert "0 ≤ merger ≤ 1: off by -0.125" in values["100078"]
    assert "0 ≤ features_or_disk ≤ 1: off by +inf" in values["4"]


def test_a_question_with_half_its_answers_is_refused(tmp_path, tree):
    (reject,) = read(tmp_path, tree, cells_changed(label_lines(tree, IDS), 1, Class3_1="")).rejects
    assert "all answers of bar or none" in reject.value


def test_repeated_rows_that_agree_are_kept_once(tmp_path, tree):
    lines = label_lines(tree, IDS)
    labels = read(tmp_path, tree, [*lines, lines[1]])
    assert [*labels.row_of] == ["100008", "100023", "100078"]
    (reject,) = labels.rejects
    assert (reject.galaxy_id, reject.reason) == ("100008", "galaxy_id repeated")
    assert reject.value == "line 5: same labels as at line 2 of labels.csv, kept once"


def test_repeated_rows_that_contradict_each_other_are_all_refused(tmp_path, tree):
    lines = [*label_lines(tree, IDS), label_lines(tree, [100023], volunteers(tree, 1, seed=9))[1]]
    labels = read(tmp_path, tree, lines)
    assert [*labels.row_of] == ["100008", "100078"]
    assert [reject.galaxy_id for reject in labels.rejects] == ["100023", "100023"]
    assert labels.rejects[1].reason == "rows of one galaxy_id contradict each other"
    assert labels.rejects[1].value == "line 5: they stand at line 3 of labels.csv, line 5 of labels.csv"


def test_a_partly_and_a_fully_filled_row_of_one_galaxy_are_united(tmp_path, tree):
    whole = volunteers(tree, 3)
    part = whole.copy()
    part[:, 3:13] = np.nan
    tables = [
        label_table(tmp_path / "part.csv", label_lines(tree, IDS, part)),
        label_table(tmp_path / "whole.csv", label_lines(tree, IDS[1:], whole[1:])),
    ]
    labels = read_labels(tables, tree)
    assert np.array_equal(labels.joint, np.stack([part[0], whole[1], whole[2]]), equal_nan=True)
    assert [reject.value for reject in labels.rejects] == [
        f"line {line}: same labels as at line {line + 1} of part.csv, kept once" for line in (2, 3)
    ]


def test_rows_that_only_break_the_tree_together_are_refused(tmp_path, tree):
    whole = volunteers(tree, 2)
    roots, rest = whole[:1].copy(), whole[1:].copy()
    roots[:, tree.slices[1].start :] = np.nan
    rest[:, tree.slices[0]] = np.nan
    lines = [*label_lines(tree, [1], roots), label_lines(tree, [1], rest)[1]]
    labels = read(tmp_path, tree, lines)
    assert labels.row_of == {}
    assert [reject.reason for reject in labels.rejects] == ["galaxy_id repeated", "breaks the decision tree"]


LONG = [2**31, 2**33 + 1, 587722981742084144, 2**63 - 1, 2**64 + 1, -5]


def test_a_row_that_breaks_the_tree_is_refused_once_and_takes_no_good_one_with_it(tmp_path, tree):
    joint = volunteers(tree, 3)
    joint[0, 0] += 0.25
    joint[2] = joint[1]
    labels = read(tmp_path, tree, label_lines(tree, [1, 1, 1], joint))
    assert np.array_equal(labels.joint[labels.row_of["1"]], joint[1])
    assert [reject.reason for reject in labels.rejects] == ["breaks the decision tree", "galaxy_id repeated"]


def test_long_ids_keep_every_digit(tmp_path, tree):
    assert [*read(tmp_path, tree, label_lines(tree, LONG)).row_of] == [str(i) for i in LONG]


@pytest.mark.parametrize("kind", [pa.int64(), pa.uint64(), pa.string(), pa.large_string()])
def test_long_ids_in_parquet_keep_every_digit(tmp_path, tree, kind):
    ids = [2**31, 587722981742084145, 2**63 - 1]
    values = ids if pa.types.is_integer(kind) else list(map(str, ids))
    columns = dict(zip(tree.columns, volunteers(tree, 3).T, strict=True))
    pa.parquet.write_table(pa.table({"galaxy_id": pa.array(values, kind), **columns}), tmp_path / "x.parquet")
    assert [*read_labels([tmp_path / "x.parquet"], tree).row_of] == [str(i) for i in ids]


def test_ids_that_went_through_a_float_are_refused(tmp_path, tree):
    labels = read(
        tmp_path, tree, label_lines(tree, ["5.87722981742084e17", "100008.0", "", "J0945+11.2", "007"])
    )
    assert [*labels.row_of] == ["100008", "J0945+11.2", "007"]
    floating = "galaxy_id is a floating-point number: digits are lost"
    assert [(r.reason, r.value) for r in labels.rejects] == [
        (floating, 'line 2: "5.87722981742084e17"'),
        ("no galaxy_id", 'line 4: ""'),
    ]


def test_parquet_with_floating_ids_and_text_goes_by_the_rules_of_text(tmp_path, tree):
    joint = volunteers(tree, 3)
    columns = {
        name: pa.array([f" {value!r}" for value in joint[:, i].tolist()])
        for i, name in enumerate(tree.columns)
    }
    columns["merger"] = pa.array([*columns["merger"].to_pylist()[:2], "many"])
    pa.parquet.write_table(pa.table({"galaxy_id": [5.0, 2.0**60, 7.0], **columns}), tmp_path / "x.parquet")
    labels = read_labels([tmp_path / "x.parquet"], tree)
    assert [*labels.row_of] == ["5"] and np.array_equal(labels.joint, joint[:1])
    assert [(r.reason, r.value) for r in labels.rejects] == [
        ("galaxy_id is a floating-point number: digits are lost", f'line 2: "{2.0**60}"'),
        ("text in a number", 'line 3: merger is "many"'),
    ]


def test_nulls_and_nans_in_parquet_are_missing(tmp_path, tree):
    joint = volunteers(tree, 2)
    joint[:, tree.slices[2]] = np.nan
    columns = {
        n: pa.array(c, from_pandas=i % 2 == 0)
        for i, (n, c) in enumerate(zip(tree.columns, joint.T, strict=True))
    }
    pa.parquet.write_table(pa.table({"galaxy_id": pa.array([7, None]), **columns}), tmp_path / "x.parquet")
    labels = read_labels([tmp_path / "x.parquet"], tree)
    assert np.array_equal(labels.joint, joint[:1], equal_nan=True)
    assert [(r.reason, r.value) for r in labels.rejects] == [("no galaxy_id", 'line 2: ""')]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", b"GalaxyID\xff\xfe,", "and 34 more. The table has GalaxyID"),
        ("x.csv", b"", "not a readable table: it is empty"),
        ("x.zip", b"PK\x03\x04 cut", "not a readable .zip table: File is not a zip file"),
        ("x.parquet", b"PAR1 cut", "not a readable .parquet table"),
        ("x.xls", b"\xd0\xcf\x11\xe0", "this is a workbook of Excel; save the table as .csv"),
        ("x.csv", b"<!DOCTYPE html><html>", "this is a web page"),
        ("x.csv", b"GalaxyID,\0\0\0", "it is no text"),
        ("x.csv", b'"' + b"x" * 10**6, "37 of the 37 columns of galaxy_zoo_2 are missing"),
    ],
)
def test_unreadable_tables_are_an_error(tmp_path, tree, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CatalogueError) as caught:
        read_labels([tmp_path / name], tree)
    assert str(caught.value).startswith(f"{tmp_path / name}: ") and message in str(caught.value)


def test_a_table_that_is_not_there_is_an_error(tmp_path, tree):
    with pytest.raises(CatalogueError, match=r"gone\.csv: there is no such table"):
        read_labels([tmp_path / "gone.csv"], tree)


def test_a_zip_of_two_tables_is_an_error(tmp_path, tree):
    path = box(tmp_path / "x.zip", {"a.csv": b"", "b.csv": b"", "__MACOSX/a.csv": b""})
    with pytest.raises(
        CatalogueError, match=r"a zipped table holds one \.csv, this one 2: \['a\.csv', 'b\.csv'\]"
    ):
        read_labels([path], tree)


def test_no_tables_are_no_labels(tree):
    labels = read_labels([], tree)
    assert labels.row_of == {} and labels.joint.shape == (0, 37) and labels.rejects == []


def test_real_tables_against_the_csv_module(kaggle, tree):
    tables = [kaggle / "training_solutions_rev1.zip", kaggle / "solutions_partial.zip"]
    labels = read_labels(tables, tree)
    assert labels.rejects == [] and len(labels.row_of) == 7452 + 3997
    for path in tables:
        with zipfile.ZipFile(path) as archive:
            text = archive.read(archive.namelist()[0]).decode().splitlines()
        for row in list(csv.DictReader(text))[::97]:
            expected = [float(row[name] or "nan") for name in tree.source_columns]
            assert np.array_equal(labels.joint[labels.row_of[row["GalaxyID"]]], expected, equal_nan=True)


# A person's own labels


def table(tmp_path, galaxies=30, **columns):
    path = tmp_path / "labels.csv"
    rows = [["galaxy_id", *columns]]
    rows += [
        [1000 + row, *(values[row % len(values)] for values in columns.values())] for row in range(galaxies)
    ]
    path.write_text("".join(",".join(map(str, row)) + "\n" for row in rows))
    return path


def cutouts(tmp_path, names):
    path = tmp_path / "cutouts.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(f"{name}.jpg", b"not looked at")
    return path


def complaint(ask, *arguments, error=CatalogueError):
    with pytest.raises(error) as caught:
        ask(*arguments)
    return str(caught.value)


def test_all_columns_but_the_id_are_learned_unless_some_are_named(tmp_path):
    labels = table(tmp_path, ring=[0, 1, ""], share=[0.25, 1], odd=["True", "False"])
    assert tree_of_columns(labels) == plain_columns(["ring", "share", "odd"])
    assert tree_of_columns(labels, ["odd"]) == plain_columns(["odd"])


def test_parquet_is_as_good_as_csv(tmp_path):
    path = tmp_path / "labels.parquet"
    write_catalogue(pa.table({"galaxy_id": [1, 2, 3], "ring": [True, False, None]}), path)
    assert tree_of_columns(path) == plain_columns(["ring"])


def test_every_column_that_cannot_be_learned_is_named_with_the_remedy(tmp_path):
    labels = table(tmp_path, ring=[0, 1], ra=[0.5, 181.5], same=[1], comment=["nice", "odd"], none=[""])
    said = complaint(tree_of_columns, labels)
    assert "ra is outside [0, 1] for 15 galaxies, the first 181.5 for galaxy_id 1001" in said
    assert "same says the same of every galaxy" in said and "none says the same" in said
    assert "comment is 'nice' for galaxy_id 1000, which is no number" in said
    assert said.endswith("empty where nobody said: --columns ring takes the others")


def test_a_column_that_is_not_there_is_named_with_the_nearest(tmp_path):
    said = complaint(tree_of_columns, table(tmp_path, ring=[0, 1], bar=[2]), ["rings", "bar"])
    assert 'there is no column "rings" (did you mean "ring"?); bar is outside [0, 1]' in said
    assert "it has no column of labels" in complaint(tree_of_columns, table(tmp_path))


def test_columns_of_other_meaning_and_columns_named_twice_are_refused(tmp_path):
    labels = table(tmp_path, width=[0, 1], ring=[0, 1])
    assert "width: a catalogue has columns of these names" in complaint(tree_of_columns, labels)
    assert "stands twice" in complaint(tree_of_columns, labels, ["ring", "ring"], error=TreeError)


def test_enough_labels_with_images_pass(tmp_path):
    labels = table(tmp_path, ring=[0, 1, ""])
    check_labels(cutouts(tmp_path, range(1000, 1030)), labels, tree_of_columns(labels))


def test_too_few_labels_and_too_few_images_are_said_together(tmp_path):
    labels = table(tmp_path, 29, ring=[0, 1, ""])
    said = complaint(check_labels, cutouts(tmp_path, ["a", 1000]), labels, tree_of_columns(labels))
    assert re.search(r"labels\.csv: 20 galaxies", said) is None
    assert re.search(
        r"cutouts\.zip: 1 of 20 labelled galaxies have an image \(images are named as a\.jpg", said
    )
    labels = table(tmp_path, 27, ring=[0, 1, ""])
    said = complaint(check_labels, cutouts(tmp_path, ["a"]), labels, tree_of_columns(labels))
    assert "18 galaxies have labels that fit plain_columns; at least 20 are needed" in said
    assert "0 of 18 labelled galaxies have an image" in said


def test_labels_that_do_not_fit_the_tree_are_told_by_reason(tmp_path, tree):
    columns = {name: [0.5] for name in tree.columns}
    said = complaint(check_labels, cutouts(tmp_path, [1000]), table(tmp_path, **columns), tree)
    assert "0 galaxies have labels that fit galaxy_zoo_2" in said
    assert "refused rows: 30 × breaks the decision tree, the first: " in said
    del columns["smooth"], columns["merger"]
    said = complaint(check_labels, cutouts(tmp_path, [1000]), table(tmp_path, **columns), tree)
    assert re.search(r"2 of the 37 columns of galaxy_zoo_2 are missing: smooth, merger", said)


def test_no_images_at_all_are_an_error_of_images(tmp_path):
    labels = table(tmp_path, ring=[0, 1])
    said = complaint(check_labels, tmp_path / "nowhere", labels, tree_of_columns(labels), error=ImageError)
    assert "nowhere: there is no such archive or folder" in said
