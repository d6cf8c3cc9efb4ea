from pathlib import Path

from hubblefork.data.archives import MemberError, Reject, read_rejects, reject_of, write_rejects


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
