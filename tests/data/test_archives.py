"""Archives and folders of images, and what of them is refused."""

import io
import os
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from image_boxes import FORMS, box, box_of, picture, pictures

from hubblefork.data import archives
from hubblefork.data.archives import (
    MemberError,
    Reject,
    galaxy_id_of,
    open_source,
    read_rejects,
    reject_of,
    write_rejects,
)
from hubblefork.errors import ImageError

MEMBERS = {
    "a/3.jpg": picture(3),
    "a/README.txt": b"not an image",
    "a/20.JPEG": picture(20),
    "a/1.PNG": picture(1, "PNG"),
    "__MACOSX/a/3.jpg": b"shadow",
    "a/._3.jpg": b"shadow",
    "a/labels.csv": b"GalaxyID",
}
IMAGES = {name: MEMBERS[name] for name in ("a/3.jpg", "a/20.JPEG", "a/1.PNG")}


def everything(path):
    with open_source(path) as source:
        return source.names(), dict(source.stream())


def refused(path):
    return {name: data for name, data in everything(path)[1].items() if isinstance(data, MemberError)}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_image_members_and_their_bytes(tmp_path, form):
    names, data = everything(box_of(form, tmp_path, MEMBERS))
    assert names == (sorted(IMAGES) if form == "folder" else list(IMAGES))
    assert data == IMAGES


def test_the_content_and_not_the_suffix_says_what_an_archive_is(tmp_path):
    box(tmp_path / "x.zip", MEMBERS).rename(tmp_path / "x.tar")
    assert everything(tmp_path / "x.tar")[1] == IMAGES


@pytest.mark.parametrize("form", FORMS)
def test_some_names_come_in_archive_order(tmp_path, form):
    with open_source(box_of(form, tmp_path, MEMBERS)) as source:
        streamed = [name for name, _ in source.stream(["a/1.PNG", "a/3.jpg"])]
    assert streamed == (["a/1.PNG", "a/3.jpg"] if form == "folder" else ["a/3.jpg", "a/1.PNG"])


@pytest.mark.parametrize("form", FORMS)
def test_no_names_read_nothing(tmp_path, form):
    with open_source(box_of(form, tmp_path, MEMBERS)) as source:
        assert list(source.stream([])) == []


def test_names_that_are_not_there_are_an_error(tmp_path):
    path = box(tmp_path / "x.zip", MEMBERS)
    with (
        open_source(path) as source,
        pytest.raises(
            ImageError, match=r'2 images are not in it, the first "a/30.jpg" \(did you mean "a/3.jpg"\?\)'
        ),
    ):
        list(source.stream(["a/3.jpg", "a/30.jpg", "b.png"]))


@pytest.mark.parametrize("form", ["zip", "tar", "tgz"])
@pytest.mark.parametrize("name", ["../../x.jpg", "/x.jpg", "a/../../x.jpg", "C:/x.jpg", "..\\x.jpg"])
def test_a_name_that_points_outside_is_refused_and_nothing_is_written(tmp_path, form, name, monkeypatch):
    folder = tmp_path / "some" / "where"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    path = box_of(form, folder, {**MEMBERS, name: picture(9)})
    _, data = everything(path)
    assert {n: d for n, d in data.items() if n != name} == IMAGES
    assert str(data[name]).startswith(f"{path}: {name}: name points outside the archive: {name}; ")
    assert {entry for entry in tmp_path.rglob("*") if entry.is_file()} == {path}


@pytest.mark.parametrize("form", FORMS)
def test_a_member_larger_than_allowed_is_refused_unread(tmp_path, form, monkeypatch):
    monkeypatch.setattr(archives, "LARGEST_MEMBER", 10**6)
    path = box_of(form, tmp_path, {"0.jpg": bytes(10**6 + 1), **MEMBERS})
    tracemalloc.start()
    bad = refused(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [error.reason for error in bad.values()] == ["larger than allowed"]
    assert "1000001 bytes; at most 1000000 are" in str(bad["0.jpg"])
    assert peak < 10**6


@pytest.mark.parametrize("form", ["zip", "tar", "tgz", "folder"])
def test_members_are_read_one_at_a_time(tmp_path, form):
    megabyte = os.urandom(2**20)
    path = box_of(form, tmp_path, {f"{i}.jpg": megabyte for i in range(24)})
    tracemalloc.start()
    with open_source(path) as source:
        total = sum(len(data) for _, data in source.stream())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 24 * 2**20
    assert peak < 6 * 2**20


@pytest.mark.parametrize("form", ["tar", "tgz"])
def test_a_tar_is_walked_without_a_list_of_all_its_members(tmp_path, form):
    path = box_of(form, tmp_path, {f"{i}.txt": b"" for i in range(4000)} | {"1.jpg": b"x"})
    tracemalloc.start()
    assert everything(path)[1] == {"1.jpg": b"x"}
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10**6


def test_one_damaged_member_of_a_zip_is_refused_alone(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in IMAGES.items():
            archive.writestr(name, data)
    raw = path.read_bytes()
    middle = raw.index(IMAGES["a/20.JPEG"]) + 100
    path.write_bytes(raw[:middle] + bytes(50) + raw[middle + 50 :])
    bad = refused(path)
    assert list(bad) == ["a/20.JPEG"]
    assert "x.zip: a/20.JPEG: cannot be read: Bad CRC-32" in str(bad["a/20.JPEG"])


def test_an_encrypted_member_is_refused(tmp_path):
    path = box(tmp_path / "x.zip", IMAGES)
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(raw)
    assert "encrypted" in str(refused(path)["a/3.jpg"])


def test_a_truncated_zip_is_an_error_that_says_what_to_do(tmp_path):
    path = box(tmp_path / "x.zip", IMAGES)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(
        ImageError, match=r"x\.zip: a damaged zip: its list of members.*cut short: fetch or copy it again"
    ):
        everything(path)


@pytest.mark.parametrize("form", ["tar", "tar.gz"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_tar_is_good_up_to_the_cut(tmp_path, form, share):
    members = {f"{i}.jpg": os.urandom(700) for i in range(40)}
    path = box_of(form, tmp_path, members)
    raw = path.read_bytes()
    length = 40 * 1536 if form == "tar" else len(raw)
    path.write_bytes(raw[: int(length * share)])
    with open_source(path) as source:
        read = {name: data for name, data in source.stream() if isinstance(data, bytes)}
        (defect,) = source.defects
    assert 0.9 * share * 40 - 1 <= len(read) <= 40 * share + 1
    assert read == {name: members[name] for name in read}
    assert f"{path}: archive is damaged" in str(defect)


def test_a_tar_cut_between_two_members_or_in_a_header_is_noticed(tmp_path):
    path = box(tmp_path / "x.tar", {f"{i}.jpg": bytes(1000) for i in range(3)})
    raw = path.read_bytes()
    for end in (512 * 6, 512 * 6 + 100):
        path.write_bytes(raw[:end])
        with open_source(path) as source:
            assert source.names() == ["0.jpg", "1.jpg"]
            assert f"breaks off at byte {512 * 6}" in str(source.defects[0])


def test_a_name_that_stands_twice_counts_once(tmp_path):
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as archive:
        for data in (b"first", b"second"):
            info = tarfile.TarInfo("1.jpg")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    with open_source(path) as source:
        assert list(source.stream()) == [("1.jpg", b"first")]
        assert [str(defect) for defect in source.defects] == [
            f"{path}: 1.jpg: name stands twice: 1.jpg; the first member counts"
        ]


def test_links_and_devices_are_refused(tmp_path):
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as archive:
        for name, kind in (("1.jpg", tarfile.SYMTYPE), ("2.jpg", tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    assert [error.value for error in refused(path).values()] == ["a link or a device, not a file"] * 2


def test_a_broken_link_and_a_pipe_in_a_folder_are_refused(tmp_path):
    (tmp_path / "1.jpg").symlink_to(tmp_path / "gone.jpg")
    os.mkfifo(tmp_path / "2.jpg")
    assert [error.value for error in refused(tmp_path).values()] == [
        "a broken link or a device, not a file"
    ] * 2


def test_a_name_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", encoding="latin-1", format=tarfile.GNU_FORMAT) as archive:
        info = tarfile.TarInfo("caf\xe9.jpg")
        archive.addfile(info)
    (error,) = refused(path).values()
    assert error.reason == "name is not valid UTF-8"
    assert str(error).encode() and "caf\\udce9.jpg" in str(error)


@pytest.mark.parametrize("content", [b"", b"hello", bytes(10), b"\x1f\x8b\x08 no gzip"])
def test_what_is_no_archive_is_an_error(tmp_path, content):
    path = tmp_path / "images.tar.gz"
    path.write_bytes(content)
    with pytest.raises(
        ImageError, match=r"images\.tar\.gz: neither a zip nor a tar archive nor a folder; give a \.zip"
    ):
        everything(path)


def test_a_path_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ImageError, match=r"gone\.zip: cannot be opened: No such file or directory; give"):
        everything(tmp_path / "gone.zip")


def test_galaxy_id_is_the_stem():
    assert galaxy_id_of("images_training_rev1/100008.jpg") == "100008"
    assert galaxy_id_of("J0945+11.2.jpeg") == "J0945+11.2"


def test_real_archives_against_zipfile(kaggle):
    path = kaggle / "images_test_rev1.zip"
    with open_source(path) as source, zipfile.ZipFile(path) as archive:
        assert source.names() == [i.filename for i in archive.infolist()]
        assert all(data == archive.read(name) for name, data in source.stream(source.names()[:50]))
    assert len(source.names()) == 1197 and source.defects == ()


def test_pictures_differ():
    assert len(set(pictures(range(50)).values())) == 50


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
