"""Sets of subjects: their order, what the folder holds, and that a killed one goes on."""

import csv
import io
import subprocess
import sys
import zipfile

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

import hubblefork as hf
from hubblefork.data import subjects
from hubblefork.data.subjects import file_name, png_of
from hubblefork.errors import CatalogueError, ImageError
from hubblefork.tables.catalogue import read_catalogue, with_fractions, with_metadata, write_catalogue
from hubblefork.tables.formats import astropy_table
from hubblefork.tables.shards import CatalogueFolder, shard_table
from hubblefork.zoo import load_tree

TREE = load_tree("gz_rings")  # one question: ring, yes or no
SHARES = {"11": 0.5, "12": 0.9, "13": 0.98, "a:b": 0.7, "15": 0.6}
BY_ENTROPY = ["11", "15", "a:b", "12", "13"]


def catalogue(path, shares=SHARES, **columns):
    joint = np.array([[share, 1 - share] for share in shares.values()], np.float32)
    table = with_fractions(pa.table({"galaxy_id": list(shares), **columns}), joint, TREE)
    write_catalogue(with_metadata(table, {"tree": TREE.name, "interval_coverage": "0.9"}), path)
    return path


def picture(seed=0, size=(24, 32)):
    pixels = np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def images(tmp_path):
    """An archive of an image of each galaxy, in no order; one of them is a JPEG."""
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for seed, name in enumerate(["13", "12", "11", "15"]):
            archive.writestr(f"images/{name}.png", picture(seed))
    return tmp_path / "images.zip"


@pytest.fixture
def odd_image(tmp_path):
    """A list of files that has an id which is no name of a file."""
    (tmp_path / "odd.png").write_bytes(picture(9))
    (tmp_path / "list.csv").write_text("galaxy_id,path\na:b,odd.png\n")
    return tmp_path / "list.csv"


def manifest(folder):
    with (folder / "manifest.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_table_in_memory_gives_what_its_file_gives(tmp_path, images, odd_image):
    arrow, sources = read_catalogue(catalogue(tmp_path / "c.parquet")), [images, odd_image]
    hf.subject_set(tmp_path / "c.parquet", sources, tmp_path / "out")
    for name, given in (("arrow", arrow), ("astropy", astropy_table(arrow)), ("pandas", arrow.to_pandas())):
        assert hf.subject_set(given, sources, tmp_path / name).subjects == BY_ENTROPY
        assert manifest(tmp_path / name) == manifest(tmp_path / "out")
    apart = [catalogue(tmp_path / "d.parquet", dict.fromkeys(SHARES, 0.3)), arrow]
    assert hf.subject_set(apart, sources, tmp_path / "apart").how.startswith("how far 2 catalogues")


def test_point_estimates_are_ordered_by_the_entropy_of_the_answers(tmp_path, images, odd_image):
    made = hf.subject_set(catalogue(tmp_path / "c.parquet"), [images, odd_image], tmp_path / "out")
    assert made.subjects == BY_ENTROPY and made.how.startswith("the entropy of the predicted answers")
    rows = manifest(tmp_path / "out")
    assert [row["galaxy_id"] for row in rows] == BY_ENTROPY
    assert rows[0] == {
        **{"galaxy_id": "11", "image": "11.png", "#uncertainty": "1"},
        **{f"#ML_{name}": "0.5" for name in TREE.columns},
    }
    assert (
        float(rows[2]["#uncertainty"]) == pytest.approx(0.8813, abs=1e-4) and rows[2]["image"] == "a%3Ab.png"
    )
    for row in rows:
        with Image.open(tmp_path / "out" / row["image"]) as image:
            assert (image.format, image.size, image.mode) == ("PNG", (32, 24), "RGB")
    with Image.open(tmp_path / "out" / "13.png") as image:
        np.testing.assert_array_equal(image, Image.open(io.BytesIO(picture(0))))


def test_what_is_known_of_a_galaxy_changes_the_order(tmp_path, images):
    surest_first = [1.0, 2.0, 4.0, 8.0, 400.0][::-1]
    sure = catalogue(tmp_path / "sure.parquet", ring_concentration=surest_first)
    by_concentration = hf.subject_set(sure, images, tmp_path / "1")
    assert by_concentration.subjects == ["15", "12", "13", "11"]
    assert by_concentration.how == "the network's concentrations"
    assert by_concentration.notes == ("1 galaxies of the catalogue have no image",)
    low, high = [[0.0] * 5, [0.05, 0.3, 1.0, 0.6, 0.1]]
    ends = {
        f"{name}_{end}": values for name in TREE.columns for end, values in (("low", low), ("high", high))
    }
    bounded = hf.subject_set(catalogue(tmp_path / "b.parquet", **ends), images, tmp_path / "2")
    assert bounded.subjects == ["13", "12", "15", "11"] and bounded.how == "intervals of 0.9"
    other = dict(zip(SHARES, [0.5, 0.1, 0.97, 0.7, 0.3], strict=True))
    both = [catalogue(tmp_path / "c.parquet"), catalogue(tmp_path / "d.csv", other)]
    apart = hf.subject_set(both, images, tmp_path / "3")
    assert apart.subjects == ["12", "15", "13", "11"] and apart.how == "how far 2 catalogues are apart"
    assert float(manifest(tmp_path / "3")[3]["#uncertainty"]) == 0


def test_a_random_sample_is_fair_and_that_of_its_seed(tmp_path):
    shares = {str(number): number / 200 for number in range(200)}
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for name in shares:
            archive.writestr(f"{name}.png", picture(0, (2, 2)))
    whole = catalogue(tmp_path / "c.parquet", shares)
    taken = [
        hf.subject_set(
            whole, tmp_path / "images.zip", tmp_path / f"{seed}", count=40, order="random", seed=seed
        )
        for seed in range(3)
    ]
    assert taken[1].how == "at random, seed 1" and len({*map(tuple, (made.subjects for made in taken))}) == 3
    for made in taken:
        assert abs(np.mean([shares[name] for name in made.subjects]) - 0.5) < 0.14
    folder = CatalogueFolder(tmp_path / "shards")
    for number, ids in enumerate((list(shares)[::2], list(shares)[1::2])):
        joint = np.array([[shares[name], 1 - shares[name]] for name in ids], np.float32)
        table = with_metadata(with_fractions(pa.table({"galaxy_id": ids}), joint, TREE), {"tree": TREE.name})
        folder.write_shard(str(number), shard_table(table, TREE))
    folder.finish()
    for order in ("random", "information"):
        ways = [
            hf.subject_set(
                place, tmp_path / "images.zip", tmp_path / f"{order} {place.name}", count=40, order=order
            )
            for place in (whole, folder.path)
        ]
        assert ways[0].subjects == ways[1].subjects and ways[1].galaxies == 200
    assert ways[1].subjects[0] == "100"


KILLED = """
import os, signal, sys
from pathlib import Path
import hubblefork as hf
from hubblefork.data import subjects
writes, plain = 0, Path.write_bytes
def dying(path, data):
    global writes
    writes += 1
    if writes == int(sys.argv[4]):
        plain(path, data[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(path, data)
Path.write_bytes = dying
hf.subject_set(sys.argv[1], sys.argv[2], sys.argv[3])
"""


def test_a_set_that_was_killed_goes_on_and_ends_as_the_same_files(tmp_path, images):
    whole = catalogue(tmp_path / "c.parquet")
    undisturbed = hf.subject_set(whole, images, tmp_path / "undisturbed")
    out = tmp_path / "out"
    done = subprocess.run([sys.executable, "-c", KILLED, whole, images, out, "3"], check=False)
    assert done.returncode == -9
    left = files(out)
    assert "manifest.csv" not in left and len([name for name in left if name.endswith(".png")]) == 3
    times = {path: path.stat().st_mtime_ns for path in out.glob("[0-9]*.png")}
    assert len(times) == 2
    assert hf.subject_set(whole, images, out).subjects == undisturbed.subjects
    assert files(out) == files(tmp_path / "undisturbed")
    assert times == {path: path.stat().st_mtime_ns for path in times}


def test_another_set_and_other_files_are_not_written_over(tmp_path, images):
    whole, out = catalogue(tmp_path / "c.parquet"), tmp_path / "out"
    hf.subject_set(whole, images, out)
    with pytest.raises(CatalogueError, match=r"out: it has another set of subjects, .* --overwrite"):
        hf.subject_set(whole, images, out, count=2)
    with zipfile.ZipFile(images, "a") as archive:
        archive.writestr("images/99.png", picture())
    with pytest.raises(CatalogueError, match="or one of images that have changed"):
        hf.subject_set(whole, images, out)
    hf.subject_set(whole, images, out, count=2, overwrite=True)
    assert {*files(out)} == {"11.png", "15.png", "manifest.csv", "subjects.json"}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(CatalogueError, match=r"mine: it has other files, the first thesis.tex"):
        hf.subject_set(whole, images, tmp_path / "mine", overwrite=True)


def test_the_next_galaxy_stands_in_for_an_image_that_cannot_be_used(tmp_path):
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for name in SHARES:
            if name.isdecimal():
                archive.writestr(f"{name}.png", b"no image" if name == "15" else picture())
    made = hf.subject_set(
        catalogue(tmp_path / "c.parquet"), tmp_path / "images.zip", tmp_path / "out", count=2
    )
    assert (made.subjects, made.rejects) == (["11", "12"], 1)
    assert '"15","neither a JPEG nor a PNG"' in (tmp_path / "out" / "rejects.csv").read_text()
    for place in ("a.zip", "b.zip"):
        with zipfile.ZipFile(tmp_path / place, "w") as archive:
            archive.writestr("11.png" if place == "a.zip" else "7.png", b"no image")
    with pytest.raises(
        ImageError, match=r"no image can be used; the first: .*11.png: neither a JPEG nor a PNG"
    ):
        hf.subject_set(tmp_path / "c.parquet", tmp_path / "a.zip", tmp_path / "a")
    with pytest.raises(CatalogueError, match=r'none of its 5 .* 5 have no image \(images are named as "7"\)'):
        hf.subject_set(tmp_path / "c.parquet", tmp_path / "b.zip", tmp_path / "b")


def test_a_galaxy_without_fractions_is_no_subject_but_of_a_random_sample(tmp_path, images):
    shares = {**SHARES, "12": np.nan}
    made = hf.subject_set(catalogue(tmp_path / "c.parquet", shares), images, tmp_path / "out")
    assert made.subjects == ["11", "15", "13"]
    assert "1 galaxies have no fractions on a question that they reach" in made.notes
    made = hf.subject_set(tmp_path / "c.parquet", images, tmp_path / "random", order="random")
    assert {*made.subjects} == {"11", "12", "13", "15"}
    assert (
        next(row for row in manifest(tmp_path / "random") if row["galaxy_id"] == "12")["#uncertainty"] == ""
    )


def test_an_image_that_is_too_large_is_made_smaller(monkeypatch):
    monkeypatch.setattr(subjects, "LARGEST", 20_000)
    data, smaller = png_of(picture(0, (100, 200)))
    with Image.open(io.BytesIO(data)) as image:
        assert smaller and len(data) <= 20_000 and 100 < image.width < 150
        assert image.width == pytest.approx(2 * image.height, abs=2)
    assert png_of(picture(0, (20, 30)))[1] is False


def test_names_of_files_hold_any_id():
    assert file_name("J0945+11.2") == "J0945+11.2.png" and file_name("..") == "%2E..png"
    assert file_name("a/b\\c:é") == "a%2Fb%5Cc%3A%C3%A9.png" and file_name("a%2Fb") == "a%252Fb.png"


def test_an_order_or_a_number_that_is_none(tmp_path, images):
    for wrong in ({"order": "entropy"}, {"count": 0}):
        with pytest.raises(CatalogueError, match="at least 1 in the order information or random"):
            hf.subject_set(tmp_path / "c.parquet", images, tmp_path / "out", **wrong)
