"""Which of some paths hold images, and which labels; what was refused of them."""

from pathlib import Path

import pytest
from tests.images.image_boxes import box, label_lines, label_table, picture

from hubblefork.errors import CatalogueError, ImageError
from hubblefork.images.members import MemberError
from hubblefork.images.sources import find_inputs, reject_of
from hubblefork.tables.rejects import Reject, read_rejects, write_rejects

IMAGE = {"1.jpg": picture(1)}


def names(paths):
    return [path.name for path in paths]


def sorted_of(folder, labels=()):
    inputs = find_inputs([folder], labels)
    return names(inputs.sources), names(inputs.tables), names(inputs.ignored)


def test_an_archive_and_a_table_in_a_folder(tmp_path, tree):
    for archive in ("images.zip", "tiles.tar.xz", "Cutouts.TGZ", "images_2024.zip"):
        folder = tmp_path / archive.partition(".")[0]
        folder.mkdir()
        box(folder / "x.zip", IMAGE).rename(folder / archive)
        label_table(folder / "labels.csv", label_lines(tree, [1]))
        (folder / "notes.txt").write_text("seen on Tuesday")
        assert sorted_of(folder) == ([archive], ["labels.csv"], ["notes.txt"])


def test_dots_in_the_names_of_archives_and_folders(tmp_path):
    for number in range(1, 4):
        box(tmp_path / f"images_2024.0{number}.zip", IMAGE)
        box(tmp_path / f"images_v2.{number}", IMAGE)
    archives = [f"images_2024.0{number}.zip" for number in range(1, 4)]
    assert sorted_of(tmp_path)[0] == [*archives, "images_v2.1", "images_v2.2", "images_v2.3"]


def test_one_thing_in_two_forms_is_taken_once_and_the_other_is_named(tmp_path):
    box(tmp_path / "images_2024.01.zip", IMAGE)
    box(tmp_path / "images_2024.01.tar.gz", IMAGE)
    box(tmp_path / "images_2024.01", IMAGE)
    assert sorted_of(tmp_path) == (["images_2024.01.tar.gz"], [], ["images_2024.01", "images_2024.01.zip"])


def test_archives_and_loose_images_are_both_taken(tmp_path):
    box(tmp_path, {".ipynb_checkpoints/7-checkpoint.jpg": picture(7)})
    box(tmp_path / "more.zip", IMAGE)
    assert sorted_of(tmp_path) == (["more.zip"], [], [".ipynb_checkpoints"])
    box(tmp_path, {"7.jpg": picture(7)})
    assert sorted_of(tmp_path) == (["more.zip", tmp_path.name], [], [])


def test_a_zip_of_one_csv_is_a_table(tmp_path, tree):
    box(tmp_path, IMAGE)
    label_table(tmp_path / "labels.zip", label_lines(tree, [1]))
    assert sorted_of(tmp_path) == ([tmp_path.name], ["labels.zip"], [])
    assert names(find_inputs([tmp_path / "labels.zip", tmp_path]).tables) == ["labels.zip"]


def test_several_tables_beside_an_archive_ask_which(tmp_path, tree):
    box(tmp_path / "images.zip", IMAGE)
    for name in ("a.csv", "b.csv", "sample_submission.csv"):
        label_table(tmp_path / name, label_lines(tree, [1]))
    with pytest.raises(CatalogueError, match=r"which of these tables holds the labels: a\.csv, b\.csv\?"):
        find_inputs([tmp_path])
    chosen = [tmp_path / "b.csv"]
    assert sorted_of(tmp_path, chosen) == (["images.zip"], ["b.csv"], ["a.csv", "sample_submission.csv"])


def test_a_benchmark_is_no_table_of_labels(tmp_path, tree):
    box(tmp_path / "images_test_rev1.zip", IMAGE)
    label_table(tmp_path / "central_pixel_benchmark.csv", label_lines(tree, [1]))
    assert sorted_of(tmp_path)[1:] == ([], ["central_pixel_benchmark.csv"])


def test_without_images_there_is_an_error(tmp_path, tree):
    with pytest.raises(ImageError, match=r"no images among .*x\.csv"):
        find_inputs([label_table(tmp_path / "x.csv", label_lines(tree, [1]))])


# What was refused


def test_rows_come_back_as_they_were_written(tmp_path):
    rejects = [
        Reject("/a/b.zip", 'x/"1,2"\n3.jpg', "007", "damaged image", "1e5"),
        Reject("/a/b.csv", "", "", "no galaxy_id", 'line 4: ""'),
    ]
    write_rejects(rejects, tmp_path / "rejects.csv")
    assert read_rejects(tmp_path / "rejects.csv") == rejects


def test_no_rows_are_a_header(tmp_path):
    write_rejects([], tmp_path / "rejects.csv")
    assert (tmp_path / "rejects.csv").read_text() == '"source","member","galaxy_id","reason","value"\n'
    assert read_rejects(tmp_path / "rejects.csv") == []


def test_a_row_says_what_the_error_said():
    error = MemberError(Path("b.zip"), "x/1.jpg", "damaged image", "cut")
    assert str(error) == "b.zip: x/1.jpg: damaged image: cut; replace it with a whole copy or leave it out"
    assert str(reject_of(error, "1")) == "b.zip: x/1.jpg: damaged image: cut"
    assert str(Reject("b.zip", "", "", "archive is damaged", "cut")) == "b.zip: archive is damaged: cut"
