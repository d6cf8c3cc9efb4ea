"""Archives and folders of images, and what of them is refused."""

import gzip
import io
import os
import re
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from image_boxes import FORMS, box, box_of, mutated, picture, pictures

from hubblefork.errors import ImageError
from hubblefork.images import members
from hubblefork.images.members import MemberError
from hubblefork.images.sources import open_files, open_source
from hubblefork.tables.names import galaxy_id_of

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
    """What of the images cannot be used: seen when the source is listed, or when it is read."""
    with open_source(path) as source:
        read = [data for _, data in source.stream() if isinstance(data, MemberError)]
        return {error.member: error for error in (*source.defects, *read)}


def left_out(path):
    with open_source(path) as source:
        return {error.member: error.reason for error in source.left_out}


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
    assert everything(path)[1] == IMAGES
    assert str(refused(path)[name]).startswith(f"{path}: {name}: name points outside the archive: {name}; ")
    assert {entry for entry in tmp_path.rglob("*") if entry.is_file()} == {path}


@pytest.mark.parametrize("form", FORMS)
def test_a_member_larger_than_allowed_is_refused_unread(tmp_path, form, monkeypatch):
    monkeypatch.setattr(members, "LARGEST_MEMBER", 10**6)
    path = box_of(form, tmp_path, {"0.jpg": bytes(10**6 + 1), **MEMBERS})
    tracemalloc.start()
    bad = refused(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert set(everything(path)[1]) == set(IMAGES)
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
    path = box_of(form, tmp_path, {f"__MACOSX/{i}.txt": b"" for i in range(4000)} | {"1.jpg": b"x"})
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
        ImageError, match=r"x\.zip: a damaged zip: its list of members.*cut short\? Fetch or copy it again"
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
        ImageError, match=r"images\.tar\.gz: neither a JPEG nor a PNG, .*; give images, or a \.zip"
    ):
        everything(path)


def test_a_pipe_is_no_archive(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ImageError, match="pipe: cannot be opened: a broken link or a device, not a file"):
        everything(tmp_path / "pipe")


def test_a_path_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ImageError, match=r"gone\.zip: cannot be opened: No such file or directory; give"):
        everything(tmp_path / "gone.zip")


@pytest.mark.parametrize(
    ("name", "galaxy_id"),
    [
        ("images_training_rev1/100008.jpg", "100008"),
        ("images\\100008.jpg", "100008"),
        ("images\\north\\100008.PNG", "100008"),
        ("J0945+11.2.jpeg", "J0945+11.2"),
        ("J0945+11.2", "J0945+11.2"),
        ("a.b/7", "7"),
        ("7.jfif", "7"),
        ("7.tif", "7"),
        ("7.jpg.png", "7.jpg"),
        ("007.jpg", "007"),
        ("+7.jpg", "+7"),
        ("0x10.jpg", "0x10"),
        ("1_000.jpg", "1_000"),
        (" 7.jpg", " 7"),
        ("７.jpg", "７"),
        ("M87: jet\n.jpg", "M87: jet\n"),
    ],
)
def test_galaxy_id_is_the_text_of_the_name_without_the_ending_of_an_image(name, galaxy_id):
    assert galaxy_id_of(name) == galaxy_id


def test_real_archives_against_zipfile(kaggle):
    path = kaggle / "images_test_rev1.zip"
    with open_source(path) as source, zipfile.ZipFile(path) as archive:
        assert source.names() == [i.filename for i in archive.infolist()]
        assert all(data == archive.read(name) for name, data in source.stream(source.names()[:50]))
    assert len(source.names()) == 1197 and source.defects == ()


def test_pictures_differ():
    assert len(set(pictures(range(50)).values())) == 50


# Everything is used, or named with its reason

OTHERS = {
    "a/1.tif": b"SIMPLE  =                    T",
    "a/2.tif": b"II*\x00",
    "a/3.webp": b"RIFF\x24\x00\x00\x00WAVEfmt ",
    "a/4.GIF": b"GIF89a",
    "a/5.bmp": b"BM",
    "a/6": b"text",
    "a/7": b"",
}


@pytest.mark.parametrize("form", FORMS)
def test_files_that_are_no_images_are_named(tmp_path, form):
    path = box_of(form, tmp_path, {**IMAGES, **OTHERS, "tiles.zip": b"PK", ".hidden.jpg": picture(4)})
    assert everything(path)[1] == IMAGES
    assert left_out(path) == {
        **dict.fromkeys(OTHERS, "neither a JPEG nor a PNG"),
        "tiles.zip": "archive within it",
        ".hidden.jpg": "hidden file",
    }


@pytest.mark.parametrize("form", FORMS)
def test_the_first_bytes_say_what_a_file_without_the_ending_of_an_image_is(tmp_path, form):
    images = {f"a/{name}": picture(k) for k, name in enumerate(("1.jfif", "2.jpe", "3.JIF", "4", "J0+1.5"))}
    images |= {"a/6.webp": picture(6), "a/7": picture(7, "PNG")}
    images |= {"a/8.tif": picture(8, "TIFF"), "a/9.webp": picture(9, "WEBP")}
    path = box_of(form, tmp_path, images)
    assert everything(path)[1] == images and not left_out(path)
    assert sorted(map(galaxy_id_of, images)) == ["1", "2", "3", "4", "6", "7", "8", "9", "J0+1.5"]


@pytest.mark.parametrize("form", FORMS)
def test_files_of_the_system_and_of_notebooks_are_no_galaxies(tmp_path, form):
    members = {
        "__MACOSX/a/._3.jpg": picture(1),
        "a/._3.jpg": picture(2),
        "a/.DS_Store": b"Bud1",
        "a/Thumbs.db": b"\xd0\xcf",
        "a/desktop.ini": b"[.ShellClassInfo]",
        "a/.ipynb_checkpoints/3-checkpoint.jpg": picture(3),
    }
    path = box_of(form, tmp_path, {**IMAGES, **members})
    assert everything(path)[1] == IMAGES
    assert list(left_out(path).values()) == ["hidden folder" if form == "folder" else "hidden file"]


def test_a_zip_from_windows(tmp_path):
    path = tmp_path / "win.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("images\\", "images\\1.jpg", "images\\Thumbs.db", "images\\.ipynb_checkpoints\\1.jpg"):
            info = zipfile.ZipInfo("x")
            info.filename, info.create_system = name, 0
            archive.writestr(info, picture(1) if name.endswith("jpg") else b"")
    assert everything(path) == (["images\\1.jpg"], {"images\\1.jpg": picture(1)})
    assert left_out(path) == {"images\\.ipynb_checkpoints\\1.jpg": "hidden file"}


def test_linked_folders_are_entered_once_and_cycles_end(tmp_path):
    survey = box(tmp_path / "survey", {"1.jpg": picture(1), "deep/2.jpg": picture(2)})
    box(tmp_path / "tile", {"3.jpg": picture(3), "north/4.jpg": picture(4)})
    (survey / "tile").symlink_to(tmp_path / "tile")
    (survey / "deep" / "up").symlink_to(survey)
    (survey / "self").symlink_to(survey / "self")
    (survey / "twice").symlink_to(tmp_path / "tile")
    (survey / "gone").symlink_to(tmp_path / "nowhere")
    assert everything(survey)[0] == ["1.jpg", "deep/2.jpg", "tile/3.jpg", "tile/north/4.jpg"]
    assert left_out(survey) == {
        "deep/up": "link to a folder that is read already",
        "gone": "cannot be read",
        "self": "cannot be read",
        "twice": "link to a folder that is read already",
    }


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    box(tmp_path, {"1.jpg": picture(1), "closed/2.jpg": picture(2)})
    listed = os.scandir

    def refusing(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert everything(tmp_path)[0] == ["1.jpg"] and left_out(tmp_path) == {"closed": "cannot be read"}


@pytest.mark.parametrize("form", ["tar", "tar.gz"])
def test_tars_put_one_after_the_other_are_all_read(tmp_path, form):
    parts = [box_of(form, tmp_path, {f"{k}.jpg": picture(k)}, name=f"part{k}") for k in range(3)]
    path = tmp_path / f"all.{form}"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert everything(path)[1] == {f"{k}.jpg": picture(k) for k in range(3)}


def test_of_zips_put_one_after_the_other_the_last_is_read_and_the_others_are_named(tmp_path):
    first, second = (box(tmp_path / f"{k}.zip", {f"{k}.jpg": picture(k)}) for k in (1, 2))
    path = tmp_path / "all.zip"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    assert everything(path)[1] == {"2.jpg": picture(2)}
    assert refused(path)[""].reason == "not all of it is listed" and not refused(first)


@pytest.mark.parametrize("form", ["tar", "tar.gz"])
def test_a_damaged_header_in_a_tar_costs_one_member(tmp_path, form):
    members = {f"{k}.jpg": picture(k) for k in range(5)}
    raw = bytearray(box(tmp_path / "x.tar", members).read_bytes())
    start = raw.index(b"2.jpg")
    raw[start : start + 512] = bytes(range(256)) * 2
    path = tmp_path / f"broken.{form}"
    path.write_bytes(raw if form == "tar" else gzip.compress(raw))
    del members["2.jpg"]
    assert everything(path)[1] == members
    assert f"it breaks off at byte {start} and goes on at byte {raw.index(b'3.jpg')}" in str(
        refused(path)[""]
    )


def test_what_follows_on_a_tar_and_is_none_is_named(tmp_path):
    path = box(tmp_path / "x.tar", {"1.jpg": picture(1)})
    length = path.stat().st_size
    path.write_bytes(path.read_bytes() + b"something else" * 100)
    with open_source(path) as source:
        assert [name for name, _ in source.stream()] == ["1.jpg"]
        assert f"it breaks off at byte {length}" in str(source.defects[0])


def test_names_in_a_zip_that_are_utf8_without_the_mark(tmp_path):
    path = box(tmp_path / "x.zip", {"Ma__laga.jpg": picture(1), "M_laga.jpg": picture(2)})
    raw = path.read_bytes().replace(b"Ma__laga", "Má_laga".encode()).replace(b"M_laga", b"M\xe1laga")
    path.write_bytes(raw)
    assert everything(path)[1] == {"Má_laga.jpg": picture(1)}
    assert {name: error.reason for name, error in refused(path).items()} == {
        "M\\udce1laga.jpg": "name is not valid UTF-8"
    }


@pytest.mark.parametrize(
    "name", ["a:b.jpg", "new\nline.jpg", "bell\x07.jpg", "x" * 200 + ".jpg", "'\"[x].jpg"]
)
@pytest.mark.parametrize("form", FORMS)
def test_odd_names_are_names(tmp_path, form, name):
    assert everything(box_of(form, tmp_path, {name: picture(1)}))[1] == {name: picture(1)}


def test_a_folder_whose_name_is_no_text_is_refused(tmp_path):
    folder = tmp_path / os.fsdecode(b"M\xe1laga")
    folder.mkdir()
    with pytest.raises(ImageError, match="its name is not valid UTF-8; rename it"):
        everything(folder)


def test_an_image_that_vanishes_while_others_are_read_is_named(tmp_path):
    box(tmp_path, IMAGES)
    with open_source(tmp_path) as source:
        stream = source.stream()
        next(stream)
        (tmp_path / "a" / "3.jpg").unlink()
        (tmp_path / "a" / "20.JPEG").unlink()
        rest = dict(stream)
    assert sorted(source.names()) == sorted(IMAGES)
    assert all(isinstance(error, MemberError) for name, error in rest.items())


def test_an_image_has_another_version_when_it_was_replaced(tmp_path):
    for form in ("zip", "folder"):
        (tmp_path / form).mkdir()
        path = box_of(form, tmp_path / form, IMAGES)
        with open_source(path) as source:
            before, key = dict(source.versions), source.key
        box_of(form, tmp_path / form, {**IMAGES, "a/3.jpg": picture(77)})
        with open_source(path) as source:
            changed = [name for name in IMAGES if source.versions[name] != before[name]]
        assert "a/3.jpg" in changed and (source.key == key) == (form == "folder")


def test_of_members_of_one_name_the_first_counts_also_where_it_is_none(tmp_path):
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as archive:
        for data in (b"a letter", picture(0)):
            info = tarfile.TarInfo("1")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        archive.addfile(tarfile.TarInfo("2.jpg"))
    with open_source(path) as source:
        assert source.names() == ["2.jpg"]
        assert [defect.reason for defect in source.defects] == ["name stands twice"]
        assert [other.reason for other in source.left_out] == ["neither a JPEG nor a PNG"]


def test_files_of_one_name_are_taken_once(tmp_path):
    files = [tmp_path / "a" / "5.jpg", tmp_path / "b" / "5.jpg"]
    for number, file in enumerate(files):
        file.parent.mkdir()
        file.write_bytes(picture(number))
    for paths in (files, [files[0], files[0]]):
        source = open_files(paths)
        assert dict(source.stream()) == {"5.jpg": picture(0)}
        assert [defect.reason for defect in source.defects] == ["name stands twice"]


def with_other_headers(data, rng):
    """An archive of which some bytes in the headers of members are changed, a tar's checksums right."""
    changed = bytearray(data)
    starts = [match.start() for match in re.finditer(b"PK|ustar", data)]
    for start in rng.choice(starts, 2) if starts else ():
        if data[start : start + 2] == b"PK":
            changed[start + int(rng.integers(22))] = int(rng.integers(256))
        else:
            header = start - 257
            changed[header + int(rng.integers(500))] = int(
                rng.choice([0, 48, 55, 128, 255, rng.integers(256)])
            )
            body = changed[header : header + 148] + changed[header + 156 : header + 512]
            changed[header + 148 : header + 156] = b"%06o\0 " % (sum(body) + 8 * 32)
    return bytes(changed)


def test_damaged_archives_give_our_error_or_what_is_readable(tmp_path):
    rng = np.random.default_rng(18)
    members = {**IMAGES, "4": picture(4), "notes.txt": b"text" * 9, "é" * 60 + ".jpg": picture(5)}
    forms = ("zip", "tar", "tar.gz")
    whole = [box_of(form, tmp_path, members).read_bytes() for form in forms]
    whole.append(whole[1] * 2)
    for trial in range(600):
        data = whole[trial % len(whole)]
        path = tmp_path / "damaged"
        path.write_bytes((mutated if trial % 3 else with_other_headers)(data, rng))
        try:
            with open_source(path) as source:
                read = dict(source.stream())
        except ImageError as error:
            assert "damaged" in str(error) or "neither a zip nor a tar" in str(error)
            continue
        assert sorted(read) == sorted(source.names())
