"""Prediction: from data folders, archives and folders; resumed; with bad images among good ones."""

import errno
import io
import os
import tarfile
import weakref
import zipfile
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from tests.network.conftest import blob

from hubblefork.data.split import read_split
from hubblefork.data.stamps import prepare
from hubblefork.errors import BusyError, CatalogueError, DiskError, ImageError, RunError
from hubblefork.images import decoder as images
from hubblefork.io import AHEAD
from hubblefork.network.augment import central_views
from hubblefork.network.predictor import TorchNetwork
from hubblefork.network.weights import load_weights, merge
from hubblefork.prediction import output
from hubblefork.prediction.loop import predictions
from hubblefork.prediction.output import alone_with, predict
from hubblefork.prediction.predictor import Predictor
from hubblefork.prediction.runs import features_of_images, features_of_part, predict_part
from hubblefork.tables.catalogue import fractions, galaxy_ids, metadata_of, read_catalogue


def torch_predictor(weights, **how):
    return Predictor(TorchNetwork(weights, device="cpu"), **how)


def test_it_finds_what_was_learned(trained, data, tree):
    table = read_catalogue(predict_part(trained, "test", device="cpu"))
    truth = read_catalogue(data / "catalogue.parquet")
    rows = {galaxy_id: row for row, galaxy_id in enumerate(galaxy_ids(truth).tolist())}
    volunteers = fractions(truth, tree)[[rows[galaxy_id] for galaxy_id in galaxy_ids(table).tolist()]]
    known = ~np.isnan(volunteers[:, 0])
    assert np.corrcoef(fractions(table, tree)[known, 0], volunteers[known, 0])[0, 1] > 0.9


def test_catalogues_say_where_they_come_from(trained):
    said = metadata_of(read_catalogue(predict_part(trained, "validation", device="cpu")))
    assert (
        said["recipe"] == "lab-cnn"
        and said["quantity"] == "joint_fraction"
        and said["tree"] == "galaxy_zoo_2"
    )


def test_an_archive_and_a_data_folder_give_the_same(trained, data, tree, tmp_path):
    one = predict(trained, data, tmp_path / "one.parquet", device="cpu")
    other = predict(trained, data / "images.zip", tmp_path / "other.parquet", device="cpu")
    assert one.galaxies == other.galaxies == 240
    left, right = read_catalogue(one.path), read_catalogue(other.path)
    assert galaxy_ids(left).tolist() == galaxy_ids(right).tolist()
    np.testing.assert_allclose(fractions(left, tree), fractions(right, tree), atol=5e-3)


def test_weights_alone_are_enough(trained, data, tmp_path):
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes((trained / "weights.safetensors").read_bytes())
    assert predict(alone, data / "images.zip", tmp_path / "out.csv", device="cpu").galaxies == 240


def test_kaggles_columns(trained, data, tree, tmp_path):
    made = predict(trained, data / "images.zip", tmp_path / "submission.csv", columns="kaggle", device="cpu")
    names = pyarrow.csv.read_csv(made.path).column_names
    assert names == ["GalaxyID", *tree.source_columns]


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".fits", ".vot"])
def test_every_format(trained, data, tree, tmp_path, suffix):
    made = predict(trained, data / "images.zip", tmp_path / f"out{suffix}", device="cpu")
    assert fractions(read_catalogue(made.path), tree).shape == (240, 37)


def test_bad_images_are_listed_and_the_good_go_on(trained, tmp_path):
    archive = tmp_path / "images.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("1.jpg", blob(0.5))
        file.writestr("2.jpg", b"this is a text")
        file.writestr("3.jpg", blob(0.1)[:300])
        file.writestr("../../4.jpg", blob(0.1))
        file.writestr("a/5.jpg", blob(0.9))
        file.writestr("b/5.jpg", blob(0.2))
        file.writestr("6.png", png(10))
    made = predict(trained, archive, tmp_path / "out.parquet", device="cpu")
    assert galaxy_ids(read_catalogue(made.path)).tolist() == [1, 5]
    rejects = pyarrow.csv.read_csv(tmp_path / "out.parquet.rejects.csv").to_pydict()
    assert sorted(rejects["member"]) == ["../../4.jpg", "2.jpg", "3.jpg", "6.png", "b/5.jpg"]
    reasons = dict(zip(rejects["member"], rejects["reason"], strict=True))
    assert "kept is a/5.jpg" in reasons["b/5.jpg"]
    assert "10" in reasons["6.png"] and "64" in reasons["6.png"]


def test_what_is_wrong_with_the_archive_itself_is_listed(trained, tmp_path):
    """A tar cut between two members: the first is predicted, the cut is said."""
    archive = tmp_path / "images.tar"
    with tarfile.open(archive, "w") as file:
        for name in ("1.jpg", "2.jpg"):
            entry = tarfile.TarInfo(name)
            entry.size = len(blob(0.5))
            file.addfile(entry, io.BytesIO(blob(0.5)))
    first = 512 + -(-len(blob(0.5)) // 512) * 512
    archive.write_bytes(archive.read_bytes()[:first])
    made = predict(trained, archive, tmp_path / "out.parquet", device="cpu")
    assert made.galaxies == 1
    assert "archive is damaged" in (tmp_path / "out.parquet.rejects.csv").read_text()


def png(side):
    file = io.BytesIO()
    Image.new("RGB", (side, side)).save(file, "PNG")
    return file.getvalue()


def test_text_ids_stay_text_and_meet_no_number(trained, tmp_path):
    archive = tmp_path / "images.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name in ("007.jpg", "7.jpg", "8.jpg"):
            file.writestr(name, blob(0.5))
    made = predict(trained, archive, tmp_path / "out.parquet", device="cpu")
    assert galaxy_ids(read_catalogue(made.path)).tolist() == ["007", "7", "8"]
    assert not made.rejects


@pytest.fixture(scope="module")
def forms(tmp_path_factory):
    """One image as a file, bytes, an array, in a list, in a folder, in a zip and in a tar."""
    folder = tmp_path_factory.mktemp("forms")
    pixels = np.asarray(Image.open(io.BytesIO(blob(0.3))))
    (folder / "folder").mkdir()
    file = folder / "folder" / "7.png"
    Image.fromarray(pixels).save(file)
    with zipfile.ZipFile(folder / "7.zip", "w") as archive:
        archive.write(file, "7.png")
    with tarfile.open(folder / "7.tar", "w") as archive:
        archive.add(file, "7.png")
    return {
        "file": file,
        "text": str(file),
        "bytes": file.read_bytes(),
        "array": pixels[None],
        "list": [file],
        "folder": folder / "folder",
        "zip": folder / "7.zip",
        "tar": folder / "7.tar",
    }


@pytest.mark.parametrize("form", ["text", "bytes", "array", "list", "folder", "zip", "tar"])
def test_an_image_has_the_same_fractions_in_every_form(trained, tree, forms, form, tmp_path):
    predictor = torch_predictor(load_weights(trained), views=4)
    (expected,) = predictions(predictor, forms["file"])
    (batch,) = predictions(predictor, forms[form])
    assert batch.fractions.shape == (1, 37) and not batch.rejects
    np.testing.assert_array_equal(batch.fractions, expected.fractions)
    assert batch.ids == (["0"] if form in ("bytes", "array") else ["7"])
    made = predict(trained, forms[form], tmp_path / "out.parquet", views=4, device="cpu")
    written = fractions(read_catalogue(made.path), tree).astype(np.float32)
    np.testing.assert_array_equal(written, expected.fractions)
    assert galaxy_ids(read_catalogue(made.path)).astype(str).tolist() == batch.ids


def test_an_array_of_jpegs_pixels_is_near_the_jpeg(trained):
    predictor = torch_predictor(load_weights(trained))
    image = blob(0.3)
    [[*_, jpeg, _], [*_, array, _]] = (
        next(predictions(predictor, form))
        for form in (image, np.asarray(Image.open(io.BytesIO(image)))[None])
    )
    np.testing.assert_allclose(array, jpeg, atol=0.02)


def test_images_in_memory_that_are_none_are_refused(trained, tmp_path):
    predictor = torch_predictor(load_weights(trained))
    with pytest.raises(ImageError, match=r"float64 with the shape \(2, 64, 64, 3\).*give uint8"):
        next(predictions(predictor, np.zeros((2, 64, 64, 3))))
    with pytest.raises(ImageError, match="give uint8"):
        next(predictions(predictor, np.zeros((64, 64, 3), np.uint8)))
    (batch,) = predictions(predictor, np.zeros((2, 20, 64, 3), np.uint8))
    assert [name for name, _ in batch.rejects] == ["0", "1"] and batch.fractions.shape == (0, 37)
    assert "smaller than the crop" in batch.rejects[0][1]
    with pytest.raises(ImageError, match="images in memory: none of its 1 images could be read"):
        predict(trained, b"no image", tmp_path / "out.parquet", device="cpu")


def test_a_data_folder_is_predicted_in_the_order_of_its_catalogue(trained, data, tree, tmp_path):
    predictor = torch_predictor(load_weights(trained))
    batches = list(predictions(predictor, data))
    made = read_catalogue(predict(trained, data, tmp_path / "out.parquet", device="cpu").path)
    ids = [galaxy_id for batch in batches for galaxy_id in batch.ids]
    assert ids == galaxy_ids(made).astype(str).tolist() and not any(batch.rejects for batch in batches)
    values = np.concatenate([batch.fractions for batch in batches])
    np.testing.assert_array_equal(values, fractions(made, tree).astype(np.float32))


def test_nothing_readable_is_an_error(trained, tmp_path):
    archive = tmp_path / "images.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("1.jpg", b"text")
    with pytest.raises(ImageError, match="none of its 1 images could be read"):
        predict(trained, archive, tmp_path / "out.parquet", device="cpu")


def test_an_unknown_format_is_refused_before_the_work(trained, data, tmp_path):
    with pytest.raises(CatalogueError, match=r'not "\.xls"'):
        predict(trained, data / "images.zip", tmp_path / "out.xls", device="cpu")


def test_an_interrupted_prediction_goes_on(trained, data, tree, tmp_path, monkeypatch):
    monkeypatch.setattr(Predictor, "galaxies", 50)
    monkeypatch.setattr(output, "CHUNK", 50)
    monkeypatch.setattr("hubblefork.io.cores", lambda: 1)
    calls = []

    class Stumbles(Predictor):
        def __call__(self, stamps):
            calls.append(len(stamps))
            if len(calls) == 3:
                raise KeyboardInterrupt
            return super().__call__(stamps)

    with monkeypatch.context() as patch:
        patch.setattr(output, "Predictor", Stumbles)
        with pytest.raises(KeyboardInterrupt):
            predict(trained, data / "images.zip", tmp_path / "out.parquet", device="cpu")
        assert not (tmp_path / "out.parquet").exists()
        predict(trained, data / "images.zip", tmp_path / "out.parquet", device="cpu")
    assert calls[-3:] == [50, 50, 40] and len(calls) < 8
    whole = predict(trained, data / "images.zip", tmp_path / "whole.parquet", device="cpu")
    assert read_catalogue(tmp_path / "out.parquet").equals(read_catalogue(whole.path))
    assert not (tmp_path / "out.parquet.parts").exists()


def boxes(folder, **members):
    """Write a zip for each name, with blobs of the given ids, and return them."""
    for name, ids in members.items():
        with zipfile.ZipFile(folder / f"{name}.zip", "w") as file:
            for galaxy_id in ids:
                file.writestr(f"{galaxy_id}.jpg", blob(galaxy_id / 10))
    return [folder / f"{name}.zip" for name in members]


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".fits"])
def test_several_archives_make_one_catalogue(trained, tree, tmp_path, suffix):
    archives = boxes(tmp_path, one=[5, 3], two=[4], three=[3, 8])
    made = predict(trained, archives, tmp_path / f"out{suffix}", device="cpu")
    table = read_catalogue(made.path)
    assert (made.galaxies, galaxy_ids(table).tolist()) == (4, [5, 3, 4, 8])
    assert made.rejects == [("3.jpg", "galaxy_id 3 stands more than once; kept is 3.jpg")]
    alone = read_catalogue(predict(trained, archives[2], tmp_path / "alone.parquet", device="cpu").path)
    np.testing.assert_allclose(fractions(table, tree)[3], fractions(alone, tree)[1], atol=1e-6)


def test_what_is_written_in_pieces_is_whole(trained, tree, tmp_path, monkeypatch):
    archives = boxes(tmp_path, one=range(1, 8), two=[9])
    whole = read_catalogue(predict(trained, archives, tmp_path / "a.parquet", device="cpu").path)
    monkeypatch.setattr(output, "CHUNK", 2)
    monkeypatch.setattr(output, "PIECE", 4)
    pieces = predict(trained, archives, tmp_path / "b.parquet", device="cpu")
    assert pyarrow.parquet.ParquetFile(pieces.path).num_row_groups == 2
    assert galaxy_ids(read_catalogue(pieces.path)).tolist() == galaxy_ids(whole).tolist()
    np.testing.assert_allclose(
        fractions(read_catalogue(pieces.path), tree), fractions(whole, tree), atol=0.01
    )


def test_of_several_archives_only_what_is_left_is_predicted(trained, tmp_path, monkeypatch):
    archives = boxes(tmp_path, one=[1, 2], two=[3], three=[6, 7])
    archives[1].write_bytes(b"no archive")
    with pytest.raises(ImageError, match=r"two\.zip"):
        predict(trained, archives, tmp_path / "out.parquet", device="cpu")
    seen = []
    monkeypatch.setattr(
        Predictor, "__call__", lambda self, stamps: seen.append(len(stamps)) or np.zeros((2, 37), np.float32)
    )
    made = predict(trained, [archives[0], archives[2]], tmp_path / "out.parquet", device="cpu")
    assert (made.galaxies, seen) == (4, [2])
    assert not (tmp_path / "out.parquet.parts").exists()


def test_a_source_may_be_text_and_must_be_there(trained, tmp_path):
    [archive] = boxes(tmp_path, one=[1])
    assert predict(trained, str(archive), tmp_path / "out.parquet", device="cpu").galaxies == 1
    with pytest.raises(ImageError, match="name at least one"):
        predict(trained, [], tmp_path / "out.parquet", device="cpu")


def test_a_data_folder_is_predicted_by_itself(trained, data, tmp_path):
    with pytest.raises(ImageError, match="is a data folder: it is predicted by itself"):
        predict(trained, [data / "images.zip", data], tmp_path / "out.parquet", device="cpu")


def test_a_table_of_labels_is_told_before_anything_is_predicted(trained, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "1.jpg").write_bytes(blob(0.5))
    table = tmp_path / "in" / "labels.csv"
    table.write_text("galaxy_id,smooth\n1,0.5\n")
    made = predict(trained, tmp_path / "in", tmp_path / "folder.csv", device="cpu")
    assert made.galaxies == 1 and "table within it" in made.rejects[0][1]
    seen = []
    with pytest.raises(ImageError, match=r"labels\.csv: a table without images"):
        for batch in predictions(torch_predictor(load_weights(trained)), [tmp_path / "in", table]):
            seen.append(batch)
    assert not seen


def test_parts_of_other_weights_are_not_taken_up(trained, untrained, data, tree, tmp_path):
    out = tmp_path / "out.parquet"
    interrupted(untrained, data / "images.zip", out, after=1)
    predict(trained, data / "images.zip", out, device="cpu")
    expected = predict(trained, data / "images.zip", tmp_path / "b.parquet", device="cpu")
    assert read_catalogue(out).equals(read_catalogue(expected.path))


def interrupted(run, images, out, *, after):
    """Begin a prediction in batches of 2, interrupted after so many of them."""
    calls = []

    def stumbles(self, stamps):
        calls.append(len(stamps))
        if len(calls) > after:
            raise KeyboardInterrupt
        return Predictor.__call__(self, stamps)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Predictor, "galaxies", 2)
        patch.setattr(output, "CHUNK", 2)
        patch.setattr("hubblefork.io.cores", lambda: 1)
        patch.setattr(output, "Predictor", type("Stumbles", (Predictor,), {"__call__": stumbles}))
        with pytest.raises(KeyboardInterrupt):
            predict(run, images, out, device="cpu")


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_what_is_replaced_after_an_interruption_is_predicted_as_it_is_now(trained, tmp_path, form):
    folder, out = tmp_path / "images", tmp_path / "out.parquet"
    folder.mkdir()
    images = {name: blob(number / 8) for number, name in enumerate("abcdefgh")}

    def source():
        for name, content in images.items():
            if not (folder / f"{name}.jpg").exists() or (folder / f"{name}.jpg").read_bytes() != content:
                (folder / f"{name}.jpg").write_bytes(content)
        with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
            for name in images:
                archive.write(folder / f"{name}.jpg", f"{name}.jpg")
        return folder if form == "folder" else tmp_path / "images.zip"

    images["b"] = blob(0.1)[:300]
    interrupted(trained, source(), out, after=2)
    images |= {"b": blob(0.1), "c": blob(0.9)}
    made = predict(trained, source(), out, device="cpu")
    expected = predict(trained, source(), tmp_path / "whole.parquet", device="cpu")
    assert made.galaxies == 8 and not made.rejects
    assert read_catalogue(out).column("galaxy_id").to_pylist() == list("abcdefgh")
    for column, other in zip(read_catalogue(out).columns, read_catalogue(expected.path).columns, strict=True):
        if column.type == pyarrow.float32():
            np.testing.assert_allclose(column.to_numpy(), other.to_numpy(), atol=0.01)


@pytest.mark.parametrize("after", [0, 1])
def test_a_full_disk_is_said_and_what_is_done_is_kept(trained, tmp_path, monkeypatch, after):
    [archive] = boxes(tmp_path, a=range(1, 7))
    out, calls, fsync = tmp_path / "out.parquet", [], os.fsync
    monkeypatch.setattr(output, "CHUNK", 2)

    def full(handle):
        calls.append(handle)
        if len(calls) > after:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(DiskError, match="No space left on device"):
            predict(trained, archive, out, device="cpu")
    assert not out.exists() and (tmp_path / "out.parquet.parts").exists() == bool(after)
    assert predict(trained, archive, out, device="cpu").galaxies == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "out.parquet"]


def test_an_output_is_written_by_one_process(trained, tmp_path):
    [archive] = boxes(tmp_path, a=[1, 2])
    with alone_with(tmp_path / "out.csv"), pytest.raises(BusyError, match=r"writing .*out\.csv"):
        predict(trained, archive, tmp_path / "out.csv", device="cpu")
    assert predict(trained, archive, tmp_path / "out.csv", device="cpu").galaxies == 2


@pytest.mark.parametrize("name", ["notes.txt", "origin", "0123456789abcdef-000000.parquet"])
def test_a_users_folder_of_parts_is_left_alone(trained, tmp_path, name):
    [archive] = boxes(tmp_path, a=[1])
    (tmp_path / "out.csv.parts").mkdir()
    (tmp_path / "out.csv.parts" / name).write_text("mine")
    with pytest.raises(CatalogueError, match=f"hubblefork did not write {name}"):
        predict(trained, archive, tmp_path / "out.csv", device="cpu", overwrite=True)
    assert (tmp_path / "out.csv.parts" / name).read_text() == "mine"


def test_a_failure_with_nothing_to_go_on_with_leaves_nothing(trained, tmp_path):
    (tmp_path / "1.jpg").write_bytes(b"no image")
    for source in (tmp_path / "1.jpg", tmp_path / "absent.zip"):
        with pytest.raises(ImageError):
            predict(trained, source, tmp_path / "out.csv", device="cpu")
    assert [path.name for path in tmp_path.iterdir()] == ["1.jpg"]


@pytest.mark.parametrize("name", ["out.parquet", "out.csv", "out.vot", "out.csv.rejects.csv"])
def test_a_foreign_file_is_not_overwritten_unless_asked_for(trained, tmp_path, name):
    [archive] = boxes(tmp_path, a=[1])
    (tmp_path / name).write_text("a,b\nmine,mine\n")
    out = tmp_path / name.removesuffix(".rejects.csv")
    with pytest.raises(CatalogueError, match=rf"{name}: this file is there.*--overwrite"):
        predict(trained, archive, out, device="cpu")
    assert (tmp_path / name).read_text() == "a,b\nmine,mine\n" and len(list(tmp_path.iterdir())) == 2
    assert predict(trained, archive, out, device="cpu", overwrite=True).galaxies == 1


def test_only_a_catalogue_of_the_same_call_is_written_again(trained, untrained, tmp_path):
    first, other = boxes(tmp_path, a=[1], b=[2])
    out = tmp_path / "out.parquet"
    for _ in range(2):
        predict(trained, first, out, device="cpu")
    for call in ((untrained, first), (trained, other)):
        with pytest.raises(CatalogueError, match="not known to be from the same images, network"):
            predict(*call, out, device="cpu")
    with pytest.raises(CatalogueError, match="not known to be from the same"):
        predict(trained, first, out, views=2, device="cpu")
    with pytest.raises(CatalogueError, match="not known to be from the same"):
        predict(trained, first, out, columns="kaggle", device="cpu")


def test_memory_does_not_grow_with_the_number_of_images(trained, tmp_path, monkeypatch):
    """Of 200 and of 600 images no more than some groups and a batch are in memory."""
    monkeypatch.setattr(Predictor, "galaxies", 10)
    monkeypatch.setattr("hubblefork.io.cores", lambda: 1)
    stamps, alive = [], []
    resample = images.resample

    class Pixels(np.ndarray):
        pass

    def watched(*pixels):
        stamp = resample(*pixels).view(Pixels)
        stamps.append(weakref.ref(stamp))
        alive.append(sum(reference() is not None for reference in stamps))
        return stamp

    monkeypatch.setattr(images, "resample", watched)
    peaks = []
    for number in (200, 600):
        noise = np.random.default_rng(0).integers(0, 256, (number, 64, 64, 3), np.uint8)
        predict(trained, noise, tmp_path / f"{number}.parquet", device="cpu")
        peaks.append(max(alive))
    assert max(peaks) <= images.TOGETHER * (AHEAD + 2)


def galaxy(side, roundness=0.3):
    """Return the pixels of the drawn galaxy at another size: the whole image shows the same sky."""
    pixels = Image.open(io.BytesIO(blob(roundness)))
    return np.asarray(pixels.resize((side, side), Image.Resampling.LANCZOS))


@pytest.mark.parametrize("side", [32, 50, 128, 333])
def test_an_image_of_another_pixel_scale_has_the_fractions_of_the_same_sky(trained, side):
    weights = load_weights(trained)
    assert weights.image_side == 64
    (expected,) = predictions(torch_predictor(weights), galaxy(64)[None])
    (batch,) = predictions(torch_predictor(weights, field=1), galaxy(side)[None])
    np.testing.assert_allclose(batch.fractions, expected.fractions, atol=0.02)


def test_a_larger_image_at_the_same_scale_shows_more_sky(trained):
    weights = load_weights(trained)
    wide = np.pad(galaxy(64), ((32, 32), (32, 32), (0, 0)))
    (expected,) = predictions(torch_predictor(weights), galaxy(64)[None])
    for field in (2, "2.0", None):
        predictor = torch_predictor(weights, field=field)
        (batch,) = predictions(predictor, wide[None])
        np.testing.assert_allclose(batch.fractions, expected.fractions, atol=1e-3)
        assert bool(predictor.remarks(Counter(batch.sides))) == (field is None)


def test_images_of_another_size_are_said_and_stay_said_after_an_interruption(trained, tmp_path):
    for number, side in enumerate((64, 64, 128, 96, 64)):
        Image.fromarray(galaxy(side)).save(tmp_path / f"{number}.png")
    interrupted(trained, tmp_path, tmp_path / "out.parquet", after=2)
    made = predict(trained, tmp_path, tmp_path / "out.parquet", device="cpu")
    assert "2 of 5 images have another size than the 64 pixels" in made.remarks[0]
    said = metadata_of(read_catalogue(made.path))
    assert "96 pixels: 1, 128 pixels: 1" in said["scale"] and said["field"] == ""
    known = predict(trained, tmp_path, tmp_path / "known.parquet", field=1, device="cpu")
    assert not known.remarks and metadata_of(read_catalogue(known.path))["field"] == "1"


def test_what_a_stamp_cannot_show_is_refused_with_the_remedy(trained):
    weights = load_weights(trained)
    few, little = (
        torch_predictor(weights, field=1),
        torch_predictor(weights, field=0.9),
    )
    few_reasons, little_reasons, plain_reasons = (
        next(predictions(predictor, galaxy(side)[None])).rejects
        for predictor, side in ((few, 24), (little, 64), (torch_predictor(weights), 24))
    )
    assert "24 of 24 × 24 pixels would become 32; allow it to be enlarged with --enlarge" in few_reasons[0][1]
    assert (
        "shows less sky than a stamp: 0.9 of a training image, 1.11 times that is needed"
        in little_reasons[0][1]
    )
    assert "say with --field how much sky it shows" in plain_reasons[0][1]
    enlarging = torch_predictor(weights, field=1, enlarge=True)
    (batch,) = predictions(enlarging, galaxy(24)[None])
    assert (
        len(batch.names) == 1 and "1 of 1 images were enlarged" in enlarging.remarks(Counter(batch.sides))[0]
    )


@pytest.mark.parametrize("field", ["3 m", '3"', "much", 0, -1, "inf", "nan"])
def test_a_field_that_is_none_is_refused(trained, field):
    with pytest.raises(ImageError, match=r"a field of.*1 shows as much sky as a training image"):
        torch_predictor(load_weights(trained), field=field)


def test_a_field_needs_the_size_of_the_training_images(trained, data):
    unknown = replace(load_weights(trained), image_side=0)
    with pytest.raises(RunError, match="do not say how large the training images were"):
        torch_predictor(unknown, field=1)
    with pytest.raises(RunError, match="do not say how many arcseconds a pixel of the training images"):
        torch_predictor(unknown, field="50arcsec")
    with pytest.raises(ImageError, match="enlarging needs to know"):
        torch_predictor(unknown, enlarge=True)
    assert not torch_predictor(unknown).remarks({5: 1, 7: 1})
    with pytest.raises(ImageError, match="this is a data folder"):
        next(predictions(torch_predictor(load_weights(trained), field=1), data))


@pytest.mark.parametrize("brightness", [0, 90, 255])
def test_an_image_without_a_galaxy_is_left_out(trained, tmp_path, brightness):
    noise = np.random.default_rng(0).integers(-3, 4, (64, 64, 3))
    blank = np.stack([np.full((64, 64, 3), brightness), np.clip(brightness + noise, 0, 255)]).astype(np.uint8)
    images = np.concatenate([blank, galaxy(64)[None]])
    images[0, 0] = 255 - brightness
    made = predict(trained, images, tmp_path / "out.csv", device="cpu")
    assert made.galaxies == 1 and [name for name, _ in made.rejects] == ["0", "1"]
    assert all(": blank: brightness" in reason for _, reason in made.rejects)


def test_fractions_are_not_rounded_to_half_precision(trained, data, tree, tmp_path):
    made = predict(trained, data / "images.zip", tmp_path / "out.parquet", device="cpu")
    smooth = fractions(read_catalogue(made.path), tree)[:, 0]
    rounded = torch.from_numpy(smooth).bfloat16().double().numpy()
    assert np.mean(smooth == rounded) < 0.1


def test_fast_precision_changes_fractions_by_less_than_votes_can_tell(trained, data):
    weights = load_weights(trained)
    predictor = torch_predictor(weights)
    stamps = np.random.default_rng(0).integers(0, 255, (64, 32, 32, 3), dtype=np.uint8)
    with torch.inference_mode():
        exact = weights.network(central_views(torch.from_numpy(stamps), 32)).numpy()
    np.testing.assert_allclose(predictor(stamps), exact, atol=0.01)


def some_stamps():
    return np.random.default_rng(0).integers(0, 255, (6, 32, 32, 3), dtype=np.uint8)


def test_views_make_a_prediction_independent_of_how_the_galaxy_lies(trained):
    stamps, weights = some_stamps(), load_weights(trained)
    turned = np.rot90(stamps, axes=(1, 2)).copy()
    one, eight = (
        torch_predictor(weights),
        torch_predictor(weights, views=8),
    )
    assert abs(one(turned) - one(stamps)).max() > 0.01
    np.testing.assert_allclose(eight(turned), eight(stamps), atol=2e-3)
    np.testing.assert_allclose(eight(stamps[:, :, ::-1]), eight(stamps), atol=2e-3)


def test_several_runs_predict_their_mean(trained, untrained, data, tree, tmp_path):
    def values(run, name, **how):
        made = predict(run, data / "images.zip", tmp_path / f"{name}.parquet", device="cpu", **how)
        return read_catalogue(made.path)

    first, second = values(trained, "a"), values(untrained, "b")
    both = values(trained, "c", others=[untrained])
    mean = (fractions(first, tree) + fractions(second, tree)) / 2
    assert abs(fractions(first, tree) - fractions(second, tree)).max() > 0.1
    np.testing.assert_allclose(fractions(both, tree), mean, atol=1e-6)
    assert metadata_of(both)["run"] == f"{trained} {untrained}"


def test_the_catalogue_of_several_views_is_another_file(trained, tree):
    one, four = (
        predict_part(trained, "test", device="cpu"),
        predict_part(trained, "test", views=4, device="cpu"),
    )
    assert (one.name, four.name) == ("test.parquet", "test-4-views.parquet")
    assert metadata_of(read_catalogue(four))["views"] == "4"
    difference = fractions(read_catalogue(one), tree) - fractions(read_catalogue(four), tree)
    assert 1e-4 < abs(difference).max() < 0.5


@pytest.mark.parametrize("views", [0, -2, 3])
def test_an_odd_number_of_views_is_refused(trained, views):
    with pytest.raises(RunError, match=f"views = {views}: 1, or an even number"):
        Predictor(TorchNetwork(load_weights(trained)), views=views)


def test_networks_of_other_stamps_do_not_predict_together(trained):
    weights = load_weights(trained)
    other = replace(weights, recipe=replace(weights.recipe, stamp_size=48))
    with pytest.raises(RunError, match="must see the same stamps"):
        Predictor(TorchNetwork(weights), TorchNetwork(other))


def test_weights_in_half_precision_predict_the_same_to_a_thousandth(trained, tmp_path):
    small = merge(trained, tmp_path / "small.safetensors", half=True)
    assert small.stat().st_size < 0.6 * (trained / "weights.safetensors").stat().st_size
    exact, found = (
        load_weights(place).network(central_views(torch.from_numpy(some_stamps()), 32))
        for place in (trained, small)
    )
    assert 0 < abs(found - exact).max() < 1e-3


# Features


def test_the_last_layer_makes_of_them_what_the_network_answers(trained, data):
    weights = load_weights(trained)
    ids, features = features_of_part(trained, "test", device="cpu")
    known = galaxy_ids(read_catalogue(data / "catalogue.parquet"))
    assert ids.tolist() == known[read_split(trained).assign(known.tolist()) == "test"].tolist()
    pixels = prepare(data, weights.recipe.stamps)[np.isin(known, ids)]
    with torch.no_grad():
        answers = weights.network(central_views(torch.from_numpy(pixels), weights.recipe.input_size))
        again = weights.network.head(weights.network.features[-1](torch.from_numpy(features)))
    np.testing.assert_allclose(again.numpy(), answers.numpy(), atol=5e-3)


def test_an_archive_gives_the_same_and_leaves_out_what_is_unreadable(trained, data, tmp_path):
    ids, features = features_of_part(trained, "validation", device="cpu")
    with zipfile.ZipFile(data / "images.zip") as whole, zipfile.ZipFile(tmp_path / "some.zip", "w") as some:
        for galaxy_id in ids[:20].tolist():
            some.writestr(f"{galaxy_id}.jpg", whole.read(f"images/{galaxy_id}.jpg"))
        some.writestr("7.jpg", b"no image")
    names, found = features_of_images(trained, tmp_path / "some.zip", device="cpu")
    assert names.tolist() == [str(galaxy_id) for galaxy_id in ids[:20]]
    np.testing.assert_allclose(found, features[:20], atol=0.05 * np.abs(features).max())


def test_nothing_to_look_at(trained, tmp_path):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("7.jpg", b"no image")
    with pytest.raises(ImageError, match="none of its 1 images"):
        features_of_images(trained, tmp_path / "bad.zip", device="cpu")
    with pytest.raises(CatalogueError, match="no galaxy"):
        features_of_part(trained, "elsewhere", device="cpu")
