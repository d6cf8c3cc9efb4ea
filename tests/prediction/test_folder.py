"""A catalogue in a folder of shards: shares, what goes on after kills, and the workers of a cluster."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from tests.network.conftest import blob

import hubblefork as hf
from hubblefork.data.ingest import ingest
from hubblefork.errors import BusyError, CatalogueError, ImageError
from hubblefork.network.export import write_network
from hubblefork.prediction import loop, output
from hubblefork.prediction.output import predict
from hubblefork.tables.catalogue import read_catalogue
from hubblefork.tables.checks import check_folder
from hubblefork.tables.shards import CatalogueFolder


@pytest.fixture(scope="module")
def run(trained, tmp_path_factory):
    """A run that predicts without PyTorch."""
    folder = shutil.copytree(trained, tmp_path_factory.mktemp("folder") / "run")
    write_network(folder)
    return folder


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return write_archive(tmp_path_factory.mktemp("images") / "images.zip", 300)


def write_archive(path, galaxies):
    images = [blob(roundness) for roundness in np.linspace(0, 1, 50)]
    with zipfile.ZipFile(path, "w") as file:
        for number in range(galaxies):
            file.writestr(f"{number}.jpg", b"no image" if number == 77 else images[number % 50])
    return path


def digest_of_rows(out):
    """The digest of a catalogue's rows, sorted by id, without its metadata."""
    table = read_catalogue(out).sort_by("galaxy_id")
    columns = [table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names]
    return hashlib.sha256(b"".join(np.ascontiguousarray(c).tobytes() for c in columns)).hexdigest()


def test_a_folder_is_as_specified_and_has_the_rows_of_a_file(run, archive, tmp_path, monkeypatch):
    monkeypatch.setattr(output, "SHARD", 100)
    made = predict(run, archive, tmp_path / "cat", device="cpu")
    assert made.galaxies == 299 and [name for name, _ in made.rejects] == ["77.jpg"]
    assert not check_folder(tmp_path / "cat").faults and len(CatalogueFolder(tmp_path / "cat").shards()) == 3
    single = read_catalogue(predict(run, archive, tmp_path / "one.parquet", device="cpu").path)
    whole = read_catalogue(tmp_path / "cat")
    assert whole.column("galaxy_id").to_pylist() == single.column("galaxy_id").to_pylist()
    np.testing.assert_array_equal(whole.column("merger").to_numpy(), single.column("merger").to_numpy())
    assert whole.column("smooth_or_features_reach").to_pylist()[0] == 1


POSITIONS = {"ra": [10.5, None], "dec": [-3.0, None]}


@pytest.fixture
def placed(tmp_path):
    """A list of two images, one with a position, an archive with sidecars, Parquet rows and a data folder."""
    for number in range(2):
        (tmp_path / f"{number}.jpg").write_bytes(blob(0.5 + number / 10))
    (tmp_path / "list.csv").write_text("id,path,ra,dec\nA,0.jpg,10.5,-3\nB,1.jpg,,\n")
    with zipfile.ZipFile(tmp_path / "sidecars.zip", "w") as file:
        for name in "AB":
            file.writestr(f"{name}.jpg", blob(0.5))
        file.writestr("A.json", '{"ra": 10.5, "dec": -3}')
    rows = {"id": ["A", "B"], "image": [blob(0.5)] * 2, **POSITIONS}
    pa.parquet.write_table(pa.table(rows), tmp_path / "rows.parquet")
    ingest([tmp_path / "list.csv"], tmp_path / "data")
    return tmp_path


def positions_in(table):
    return {name: pa.array(table.column(name).to_numpy(), from_pandas=True).to_pylist() for name in POSITIONS}


@pytest.mark.parametrize("images", ["list.csv", "sidecars.zip", "rows.parquet", "data"])
def test_positions_are_in_every_catalogue(run, placed, images):
    for out in ("cat", "one.parquet", "one.csv", "one.fits", "one.vot"):
        table = read_catalogue(predict(run, placed / images, placed / out, device="cpu").path)
        assert table.column_names[:3] == ["galaxy_id", "ra", "dec"]
        assert positions_in(table) == POSITIONS, out
    assert not check_folder(placed / "cat").faults
    friendly = predict(run, placed / images, placed / "friendly.csv", columns="friendly", device="cpu")
    assert positions_in(read_catalogue(friendly.path)) == POSITIONS
    shown = hf.predict(run, placed / images)
    assert shown.colnames[:3] == ["galaxy_id", "ra", "dec"] and shown["ra"].tolist() == POSITIONS["ra"]


def test_where_no_image_has_a_position_a_file_has_no_such_columns(run, placed):
    (placed / "list.csv").write_text("id,path,ra,dec\nA,0.jpg,,\nB,1.jpg,,\n")
    ingest([placed / "list.csv"], placed / "data")
    for images in (placed / "list.csv", placed / "0.jpg", placed / "data"):
        table = read_catalogue(predict(run, images, placed / f"{images.name}.parquet", device="cpu").path)
        assert not {"ra", "dec"} & {*table.column_names, *hf.predict(run, images).colnames}


def test_positions_stay_where_a_prediction_goes_on_and_where_it_is_written_again(run, placed, monkeypatch):
    monkeypatch.setattr(output, "CHUNK", 1)
    whole = predict(run, placed / "list.csv", placed / "whole.parquet", device="cpu").path.read_bytes()
    with monkeypatch.context() as broken, pytest.raises(TypeError):
        broken.setattr(output, "drop_repeated", None)
        predict(run, placed / "list.csv", placed / "again.parquet", device="cpu")
    for _ in range(2):
        again = predict(run, placed / "list.csv", placed / "again.parquet", device="cpu").path
        assert again.read_bytes() == whole and positions_in(read_catalogue(again)) == POSITIONS


def test_no_catalogue_is_written_among_the_images(run, tmp_path):
    (tmp_path / "_1.jpg").write_bytes(blob(0.5))
    with pytest.raises(ImageError, match=r"the folder of the images, .*choose a folder elsewhere"):
        predict(run, tmp_path, tmp_path, device="cpu")
    assert [path.name for path in tmp_path.iterdir()] == ["_1.jpg"]


def test_shares_make_one_catalogue_and_what_is_missing_is_said(run, archive, tmp_path, monkeypatch):
    monkeypatch.setattr(output, "SHARD", 70)
    predict(run, archive, tmp_path / "whole", device="cpu")
    for number in (1, 3):
        predict(run, archive, tmp_path / "cat", share=(number, 3), device="cpu")
    with pytest.raises(CatalogueError, match="of 3 shares 1 are not finished: 2"):
        read_catalogue(tmp_path / "cat")
    predict(run, archive, tmp_path / "cat", share=(2, 3), device="cpu")
    assert digest_of_rows(tmp_path / "cat") == digest_of_rows(tmp_path / "whole")
    assert not check_folder(tmp_path / "cat").faults
    assert not [path for path in (tmp_path / "cat").iterdir() if path.name.startswith("_share")]


def test_more_shares_than_chunks_are_finished_too(run, archive, tmp_path):
    for number in (1, 2, 3):
        predict(run, archive, tmp_path / "cat", share=(number, 3), device="cpu")
    assert len(read_catalogue(tmp_path / "cat")) == 299


def test_sources_are_shared_where_there_are_enough(run, tmp_path):
    archives = [write_archive(tmp_path / f"{name}.zip", galaxies) for name, galaxies in (("a", 3), ("b", 5))]
    made = [predict(run, archives, tmp_path / "cat", share=(n, 2), device="cpu").galaxies for n in (1, 2)]
    assert made == [3, 5]


def test_called_again_nothing_is_predicted(run, archive, tmp_path, monkeypatch):
    predict(run, archive, tmp_path / "cat", device="cpu")
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cat").iterdir()}
    monkeypatch.setattr(loop, "computed", None)
    assert predict(run, archive, tmp_path / "cat", device="cpu").galaxies == 299
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cat").iterdir()} == before


def test_another_call_does_not_replace_a_folder_unless_asked(run, archive, tmp_path):
    predict(run, archive, tmp_path / "cat", device="cpu")
    with pytest.raises(CatalogueError, match="not known to be from the same images"):
        predict(run, archive, tmp_path / "cat", views=2, device="cpu")
    assert predict(run, archive, tmp_path / "cat", views=2, overwrite=True, device="cpu").galaxies == 299
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(CatalogueError, match=r"is no catalogue: it holds notes\.txt"):
        predict(run, archive, tmp_path / "mine", overwrite=True, device="cpu")


def test_what_fits_no_folder_is_refused(run, archive, tmp_path):
    for how, reason in (
        ({"columns": "kaggle"}, "--columns kaggle are written to one file"),
        ({"engine": "abacus"}, '--engine is "ray"'),
    ):
        with pytest.raises(CatalogueError, match=reason):
            predict(run, archive, tmp_path / "cat", **how)
    with pytest.raises(CatalogueError, match=r"shares are written to one folder: leave out \.parquet"):
        predict(run, archive, tmp_path / "cat.parquet", share=(1, 2))


def test_an_image_that_could_not_be_read_is_tried_again(run, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for number in range(3):
        (images / f"{number}.jpg").write_bytes(blob(0.5))
    (images / "3.jpg").symlink_to(tmp_path / "away.jpg")
    assert predict(run, images, tmp_path / "cat", device="cpu").galaxies == 3
    (tmp_path / "away.jpg").write_bytes(blob(0.9))
    assert predict(run, images, tmp_path / "cat", device="cpu").galaxies == 4


def test_an_id_that_stands_twice_is_kept_once(run, tmp_path):
    archives = [write_archive(tmp_path / f"{name}.zip", 5) for name in "ab"]
    made = predict(run, archives, tmp_path / "cat", device="cpu")
    assert made.galaxies == 5 and sum("stands more than once" in reason for _, reason in made.rejects) == 5
    assert not check_folder(tmp_path / "cat").faults


def test_a_folder_is_written_by_one_process(run, archive, tmp_path):
    from hubblefork.io import alone_in

    with alone_in(tmp_path / "cat", "writing"), pytest.raises(BusyError):
        predict(run, archive, tmp_path / "cat", device="cpu")


def test_what_a_killed_process_left_of_a_file_is_removed(run, archive, tmp_path):
    left, of_another = tmp_path / ".cat.123.partial.parquet", tmp_path / ".dog.123.partial.parquet"
    for path in (left, of_another):
        path.write_bytes(b"PAR1")
    predict(run, archive, tmp_path / "cat.parquet", device="cpu")
    assert not left.exists()
    assert of_another.exists()


def killed_at(command, seconds, how=signal.SIGKILL):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(seconds)
    process.send_signal(how)
    process.wait()


@pytest.mark.parametrize(("out", "kills"), [("cat", 3), ("cat.parquet", 2)])
def test_kills_at_random_moments_leave_the_catalogue_of_an_undisturbed_run(run, tmp_path, out, kills):
    """HUBBLEFORK_KILLS and HUBBLEFORK_IMAGES make it longer: 50 kills over 20,000 images (docs/log.md)."""
    kills = int(os.environ.get("HUBBLEFORK_KILLS", kills))
    galaxies = int(os.environ.get("HUBBLEFORK_IMAGES", 2000))
    images, rng = write_archive(tmp_path / "images.zip", galaxies), random.Random(out)
    command = [sys.executable, "-m", "hubblefork", "-q", "predict", str(run), str(images), "--views", "2"]
    start = time.monotonic()
    subprocess.run([*command, "--out", tmp_path / f"whole-{out}"], check=True)
    seconds = time.monotonic() - start
    for number in range(kills):
        how = signal.SIGTERM if number % 2 else signal.SIGKILL
        killed_at([*command, "--out", str(tmp_path / out)], rng.uniform(0.1, 0.9) * seconds, how)
    done = subprocess.run([*command, "--out", tmp_path / out], capture_output=True, text=True, check=True)
    assert f"{galaxies - 1} galaxies" in done.stdout
    assert digest_of_rows(tmp_path / out) == digest_of_rows(tmp_path / f"whole-{out}")
    left = {path.name for path in tmp_path.rglob("*") if "partial" in path.name or "parts" in path.name}
    assert not left
    if out == "cat":
        assert not check_folder(tmp_path / out).faults


@pytest.mark.slow
def test_a_cluster_writes_the_same_rows_also_when_a_worker_is_killed(run, archive, tmp_path):
    ray = pytest.importorskip("ray")
    psutil = pytest.importorskip("psutil")
    images = write_archive(tmp_path / "images.zip", 2000)
    predict(run, images, tmp_path / "here", device="cpu", views=16)
    command = [sys.executable, "-m", "hubblefork", "-q", "predict", str(run), str(images), "--views", "16"]
    process = subprocess.Popen([*command, "--engine", "ray", "--out", str(tmp_path / "cat")])
    while process.poll() is None and not CatalogueFolder(tmp_path / "cat").shards():
        time.sleep(0.1)
    workers = [w for w in psutil.Process(process.pid).children(recursive=True) if "MapWorker" in w.name()]
    for worker in workers[:1]:
        worker.kill()
    assert process.wait() == 0 and not ray.is_initialized()
    assert digest_of_rows(tmp_path / "cat") == digest_of_rows(tmp_path / "here")
    assert json.loads((tmp_path / "cat" / "_manifest.json").read_text())["galaxies"] == 1999
