"""Labels of one's own: which columns can be learned, and complaints that come all at once."""

import re
import zipfile

import pyarrow as pa
import pytest

from hubblefork.data.catalogue import write_catalogue
from hubblefork.data.labels import check_labels, tree_of_columns
from hubblefork.errors import CatalogueError, ImageError, TreeError
from hubblefork.zoo import plain_columns


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
    assert "comment is 'nice', which is no number" in said
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
    assert re.search(r"2 columns are missing: smooth.*, merger.*all 37 answers of galaxy_zoo_2", said)


def test_no_images_at_all_are_an_error_of_images(tmp_path):
    labels = table(tmp_path, ring=[0, 1])
    said = complaint(check_labels, tmp_path / "nowhere", labels, tree_of_columns(labels), error=ImageError)
    assert "nowhere: there is no such archive or folder" in said
