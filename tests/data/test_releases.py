"""Fetching against a local host, and the labels of known releases."""

import builtins
import gzip
import hashlib
import os
import re
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import requests
from numpy.testing import assert_allclose
from published_files import Host, published

from hubblefork.data import releases
from hubblefork.data.releases import (
    Release,
    RemoteFile,
    download,
    fetch_file,
    fetch_gz2,
    fetch_kaggle,
    gz2_labels,
    load_release,
)
from hubblefork.errors import CatalogueError, DiskError, DownloadError
from hubblefork.tables.catalogue import fractions, metadata_of, read_catalogue
from hubblefork.tables.layouts import bases
from hubblefork.zoo import DecisionTree, load_tree, to_conditional, violations

CONTENT = np.random.default_rng(3).bytes(3 * 2**20 + 17)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setattr(releases, "WAIT", 0)
    with published(a__zip=CONTENT) as serving:
        yield serving


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "files" / "a.zip"


class Bars:
    """Progress that remembers."""

    def __init__(self) -> None:
        self.opened: list[tuple[str, int | None, int]] = []
        self.steps: list[int] = []

    @contextmanager
    def __call__(self, what: str, total: int | None, done: int = 0) -> Iterator:
        self.opened.append((what, total, done))
        self.steps.append(0)
        yield self.advance

    def advance(self, steps: int) -> None:
        self.steps[-1] += steps


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def begun(target: Path, content: bytes, etag: str = "") -> Path:
    """Leave behind what an interrupted download leaves."""
    target.parent.mkdir(parents=True)
    unfinished = target.with_name(f".{target.name}.partial")
    unfinished.write_bytes(content)
    if etag:
        unfinished.with_name(unfinished.name + ".etag").write_text(etag)
    return unfinished


def test_a_file_arrives_whole_with_progress_and_nothing_beside_it(host: Host, target: Path) -> None:
    bars = Bars()
    assert (
        download(f"{host.url}/a.zip?download=1", target, checksum=host.md5("a.zip"), progress=bars) == target
    )
    assert target.read_bytes() == CONTENT
    assert names(target.parent) == ["a.zip"]
    assert bars.opened == [("fetching a.zip", len(CONTENT), 0)]
    assert bars.steps == [len(CONTENT)]


def test_a_file_that_is_there_is_not_fetched_again(host: Host, target: Path) -> None:
    download(f"{host.url}/a.zip", target, checksum=host.md5("a.zip"))
    download(f"{host.url}/a.zip", target, checksum="sha256:" + hashlib.sha256(CONTENT).hexdigest())
    download(f"{host.url}/a.zip", target)
    assert len(host.asked) == 1


def test_a_file_that_is_there_but_another_is_replaced(host: Host, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"damaged")
    download(f"{host.url}/a.zip", target, checksum=host.md5("a.zip"))
    assert target.read_bytes() == CONTENT


def test_a_cut_connection_is_taken_up_where_it_broke(host: Host, target: Path) -> None:
    host.cut_after = [1_000_000, 7, 500_000]
    bars = Bars()
    download(f"{host.url}/a.zip", target, checksum=host.md5("a.zip"), progress=bars)
    assert target.read_bytes() == CONTENT
    assert [asked for _, _, asked in host.asked] == [
        None,
        "bytes=1000000-",
        "bytes=1000007-",
        "bytes=1500007-",
    ]
    assert bars.opened[-1] == ("fetching a.zip", len(CONTENT), 1_500_007)
    assert sum(bars.steps) == len(CONTENT)


def test_many_cuts_are_borne_as_long_as_bytes_arrive(host: Host, target: Path) -> None:
    host.cut_after = [100_000] * 20
    download(f"{host.url}/a.zip", target)
    assert target.read_bytes() == CONTENT


def test_a_connection_that_brings_nothing_ends_with_a_word_and_what_was_kept(
    host: Host, target: Path
) -> None:
    host.cut_after = [1_000_000, 0, 0, 0, 0, 0, 0, 0]
    with pytest.raises(DownloadError, match=r"failed 4 times .*Kept so far: 1,000,000 bytes; run the same"):
        download(f"{host.url}/a.zip", target)
    assert not target.exists()
    host.cut_after = []
    download(f"{host.url}/a.zip", target, checksum=host.md5("a.zip"))
    assert host.asked[-1][2] == "bytes=1000000-"
    assert target.read_bytes() == CONTENT


def test_a_server_without_ranges_is_asked_for_the_whole_again(host: Host, target: Path) -> None:
    host.ranges, host.cut_after = False, [1_000_000]
    download(f"{host.url}/a.zip", target, checksum=host.md5("a.zip"))
    assert target.read_bytes() == CONTENT


def test_a_server_without_ranges_that_always_breaks_is_given_up(host: Host, target: Path) -> None:
    host.ranges, host.cut_after = False, [1_000_000, 500_000, 900_000, 800_000, *[700_000, 999_999] * 50]
    with pytest.raises(DownloadError, match="failed 4 times"):
        download(f"{host.url}/a.zip", target)
    assert len(host.asked) == 4


def test_a_file_replaced_meanwhile_is_not_glued_to_its_old_beginning(host: Host, target: Path) -> None:
    begun(target, b"x" * 1000, etag='"of yesterday"')
    download(f"{host.url}/a.zip", target)
    assert host.asked == [("GET", "a.zip", "bytes=1000-")]
    assert target.read_bytes() == CONTENT


def test_a_beginning_longer_than_the_file_is_given_up(host: Host, target: Path) -> None:
    begun(target, CONTENT + b"more")
    download(f"{host.url}/a.zip", target)
    assert target.read_bytes() == CONTENT


def test_another_part_than_asked_for_is_not_taken(host: Host, target: Path) -> None:
    begun(target, CONTENT[:1000])
    host.wrong_part = True
    download(f"{host.url}/a.zip", target)
    assert [asked for _, _, asked in host.asked] == ["bytes=1000-", None]
    assert target.read_bytes() == CONTENT


def test_a_whole_file_that_only_lacked_its_name_gets_it(host: Host, target: Path) -> None:
    begun(target, CONTENT)
    download(f"{host.url}/a.zip", target, checksum=host.md5("a.zip"))
    assert target.read_bytes() == CONTENT
    assert names(target.parent) == ["a.zip"]
    assert host.asked == [("GET", "a.zip", f"bytes={len(CONTENT)}-")]


def test_a_server_that_falls_silent_is_asked_again(host: Host, target: Path, monkeypatch) -> None:
    monkeypatch.setattr(releases, "TIMEOUT", (5, 0.2))
    host.silent_for = 0.8
    download(f"{host.url}/a.zip", target, checksum=host.md5("a.zip"))
    assert len(host.asked) == 2
    assert target.read_bytes() == CONTENT


def test_the_real_timeouts_are_finite() -> None:
    assert all(0 < seconds <= 120 for seconds in releases.TIMEOUT)


def test_an_etag_that_promises_likeness_only_is_no_reason_to_start_over(host: Host, target: Path) -> None:
    host.weak, host.cut_after = True, [1_000_000]
    bars = Bars()
    download(f"{host.url}/a.zip", target, checksum=host.md5("a.zip"), progress=bars)
    assert [done for _, _, done in bars.opened] == [0, 1_000_000]


def test_a_short_answer_is_noticed_also_by_us(host: Host, target: Path, monkeypatch) -> None:
    def lenient_get(*address: str, **options: Any) -> requests.Response:
        response = requests.get(*address, **options)
        response.raw.enforce_content_length = False
        return response

    monkeypatch.setattr(releases, "requests", SimpleNamespace(**{**vars(requests), "get": lenient_get}))
    host.cut_after = [1_000_000]
    download(f"{host.url}/a.zip", target)
    assert target.read_bytes() == CONTENT


def test_a_server_that_would_compress_on_the_way_is_asked_not_to(host: Host, target: Path) -> None:
    host.compresses = True
    download(f"{host.url}/a.zip", target, checksum=host.md5("a.zip"))
    assert target.read_bytes() == CONTENT


def test_a_server_that_states_no_length_is_believed_if_the_checksum_agrees(host: Host, target: Path) -> None:
    host.lengths = False
    bars = Bars()
    download(f"{host.url}/a.zip", target, checksum=host.md5("a.zip"), progress=bars)
    assert bars.opened == [("fetching a.zip", None, 0)]
    assert target.read_bytes() == CONTENT


def test_another_file_than_expected_is_removed_and_both_checksums_are_told(host: Host, target: Path) -> None:
    expected = "0" * 32
    found = hashlib.md5(CONTENT).hexdigest()
    with pytest.raises(
        DownloadError, match=rf"its md5 is {found}, expected was {expected}. What arrived was removed"
    ):
        download(f"{host.url}/a.zip", target, checksum=f"md5:{expected}")
    assert names(target.parent) == []


def test_a_wrong_checksum_leaves_the_file_that_was_there(host: Host, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"old")
    with pytest.raises(DownloadError):
        download(f"{host.url}/a.zip", target, checksum="md5:" + "0" * 32)
    assert target.read_bytes() == b"old"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_a_refusal_is_told_at_once(host: Host, target: Path, status: int) -> None:
    host.statuses = [status]
    with pytest.raises(DownloadError, match=rf"a\.zip: the server answers {status} "):
        download(f"{host.url}/a.zip", target)
    assert len(host.asked) == 1
    assert not target.exists()


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_in_trouble_is_asked_again(host: Host, target: Path, status: int) -> None:
    host.statuses = [status, status]
    download(f"{host.url}/a.zip", target)
    assert target.read_bytes() == CONTENT


def test_a_server_that_stays_in_trouble_is_given_up(host: Host, target: Path) -> None:
    host.statuses = [503] * 10
    with pytest.raises(DownloadError, match=r"failed 4 times \(the server answers 503"):
        download(f"{host.url}/a.zip", target)


def test_no_network_is_a_download_error(host: Host, target: Path) -> None:
    with published() as gone:
        url = gone.url
    message = r"failed 4 times \(\[Errno 111\] Connection refused\)\. Kept so far: 0 bytes; .*network is back"
    with pytest.raises(DownloadError, match=message):
        download(f"{url}/a.zip", target)


def test_an_address_that_makes_no_sense_is_a_download_error(target: Path) -> None:
    with pytest.raises(DownloadError, match="Invalid URL"):
        download("a.zip", target)


def test_waits_grow_between_tries(host: Host, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(releases, "WAIT", 2.0)
    monkeypatch.setattr(releases.time, "sleep", waits.append)
    host.statuses = [503] * 4
    with pytest.raises(DownloadError):
        download(f"{host.url}/a.zip", target)
    assert waits == [2, 4, 8]


FETCH = """
import resource, sys
from pathlib import Path
from hubblefork.errors import DiskError
from hubblefork.data import releases
from hubblefork.data.releases import download
releases.WAIT = 0.2
limit = int(sys.argv[3])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    download(sys.argv[1], Path(sys.argv[2]))
except DiskError as error:
    print(error)
"""


def test_a_full_disk_keeps_what_arrived_and_goes_on_later(host: Host, target: Path) -> None:
    command = [sys.executable, "-c", FETCH, f"{host.url}/a.zip", str(target), str(2**20 + 5)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (
        "a.zip: could not be written: File too large. What arrived so far is kept in .a.zip.partial"
        in run.stdout
    )
    assert not target.exists()
    kept = (target.parent / ".a.zip.partial").stat().st_size
    assert 2**20 <= kept <= 2**20 + 5
    download(f"{host.url}/a.zip", target, checksum=host.md5("a.zip"))
    assert host.asked[-1][2] == f"bytes={kept}-"


def test_kill_minus_9_loses_nothing_that_arrived(host: Host, target: Path) -> None:
    command = [sys.executable, "-c", FETCH, f"{host.url}/a.zip", str(target), "0"]
    host.cut_after = [2_500_000] + [0] * 50
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while len(host.asked) < 2:  # it waits before it asks again
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    assert names(target.parent) == [".a.zip.partial", ".a.zip.partial.etag"]
    host.cut_after = []
    download(f"{host.url}/a.zip", target, checksum=host.md5("a.zip"))
    assert host.asked[-1][2] == "bytes=2500000-"
    assert target.read_bytes() == CONTENT


def test_an_interruption_keeps_what_arrived(host: Host, target: Path) -> None:
    @contextmanager
    def impatient(what: str, total: int | None, done: int = 0) -> Iterator:
        def advance(steps: int) -> None:
            raise KeyboardInterrupt

        yield advance

    with pytest.raises(KeyboardInterrupt):
        download(f"{host.url}/a.zip", target, progress=impatient)
    download(f"{host.url}/a.zip", target, checksum=host.md5("a.zip"))
    assert host.asked[-1][2] == "bytes=1048576-"


def test_a_folder_that_cannot_be_made_is_a_disk_error(host: Host, tmp_path: Path) -> None:
    (tmp_path / "files").write_text("a file")
    with pytest.raises(DiskError, match=r"files/a\.zip: could not be written"):
        download(f"{host.url}/a.zip", tmp_path / "files" / "a.zip")


def test_compressed_files_arrive_as_they_are_published(host: Host, target: Path) -> None:
    host.files["t.csv.gz"] = gzip.compress(b"a,b\n1,2\n")
    download(f"{host.url}/t.csv.gz", target, checksum=host.md5("t.csv.gz"))
    assert gzip.decompress(target.read_bytes()) == b"a,b\n1,2\n"


def test_the_first_fetch_notes_a_checksum_where_none_is_published(host: Host, tmp_path: Path) -> None:
    file = RemoteFile("a.zip", "noise", f"{host.url}/a.zip")
    fetch_file(file, tmp_path)
    fetch_file(replace(file, name="b.zip"), tmp_path)
    noted = f"{hashlib.sha256(CONTENT).hexdigest()}"
    assert (tmp_path / "sha256.txt").read_text() == f"{noted}  a.zip\n{noted}  b.zip\n"
    assert (
        subprocess.run(["sha256sum", "-c", "sha256.txt"], cwd=tmp_path, capture_output=True).returncode == 0
    )

    asked = len(host.asked)
    fetch_file(file, tmp_path)
    assert len(host.asked) == asked
    (tmp_path / "a.zip").unlink()
    host.files["a.zip"] = b"something else"
    with pytest.raises(DownloadError, match=rf"its sha256 is .*expected was {noted}"):
        fetch_file(file, tmp_path)


def test_a_published_checksum_needs_no_note(host: Host, tmp_path: Path) -> None:
    fetch_file(RemoteFile("a.zip", "noise", f"{host.url}/a.zip", host.md5("a.zip")), tmp_path)
    assert names(tmp_path) == ["a.zip"]


KAGGLE = {
    "images_training_rev1.zip": b"training images",
    "training_solutions_rev1.zip": b"solutions",
    "images_test_rev1.zip": b"test images",
}
SERVICE = "v1/competitions.CompetitionApiService/DownloadDataFile"


@pytest.fixture
def kaggle_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Host]:
    """Kaggle, played by this machine: its service answers with the address of the next file asked for."""
    environment = pytest.importorskip("kagglesdk.kaggle_env")
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_KEY", "KAGGLEHUB_CACHE", "KAGGLE_KERNEL_RUN_TYPE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "credentials"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KAGGLE_USERNAME", "hubble")
    monkeypatch.setenv("KAGGLE_KEY", "token")
    with published() as serving:
        serving.files = {f"stored/{name}": content for name, content in KAGGLE.items()}
        serving.dealt = {SERVICE: [f"{serving.url}/stored/{name}" for name in KAGGLE]}
        monkeypatch.setitem(environment._env_to_endpoint, environment.KaggleEnv.PROD, serving.url)
        yield serving


def test_kaggles_files_arrive_through_kagglehub(kaggle_host: Host, tmp_path: Path, capsys) -> None:
    bars = Bars()
    out = tmp_path / "kaggle"
    assert fetch_kaggle(out, progress=bars) == out
    assert {path.name: path.read_bytes() for path in out.iterdir()} == KAGGLE
    assert [what for what, _, _ in bars.opened] == [f"fetching {name}" for name in KAGGLE]
    assert bars.steps == [len(content) for content in KAGGLE.values()]
    assert capsys.readouterr() == ("", "")
    assert "KAGGLEHUB_CACHE" not in os.environ


def test_files_of_kaggle_that_are_there_are_not_fetched_again(kaggle_host: Host, tmp_path: Path) -> None:
    (tmp_path / "images_training_rev1.zip").write_bytes(b"of last week")
    kaggle_host.dealt[SERVICE].pop(0)
    fetch_kaggle(tmp_path)
    assert (tmp_path / "images_training_rev1.zip").read_bytes() == b"of last week"
    assert len(kaggle_host.asked) == 4


def test_a_broken_download_of_kaggle_goes_on_where_it_stopped(kaggle_host: Host, tmp_path: Path) -> None:
    first = kaggle_host.dealt[SERVICE][0]
    kaggle_host.files["stored/images_training_rev1.zip"] = CONTENT
    kaggle_host.cut_after = [2_500_000]
    with pytest.raises(
        DownloadError, match=r"images_training_rev1\.zip: the connection to Kaggle failed .*goes on"
    ):
        fetch_kaggle(tmp_path)
    assert names(tmp_path) == [".kagglehub"]
    kaggle_host.dealt[SERVICE].insert(0, first)
    fetch_kaggle(tmp_path)
    assert "bytes=2097152-" in [asked for _, _, asked in kaggle_host.asked]
    assert (tmp_path / "images_training_rev1.zip").read_bytes() == CONTENT
    assert names(tmp_path) == sorted(KAGGLE)


def test_without_credentials_it_is_said_where_to_get_them(kaggle_host, tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("KAGGLE_USERNAME")
    with pytest.raises(
        DownloadError, match=r"no credentials were found.*kaggle\.com/settings.*~/\.kaggle/kaggle\.json"
    ):
        fetch_kaggle(tmp_path)
    with pytest.raises(DownloadError, match="KAGGLE_USERNAME and KAGGLE_KEY"):
        fetch_kaggle(tmp_path)
    assert kaggle_host.asked == []


def test_credentials_that_cannot_be_read_are_named(kaggle_host, tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("KAGGLE_USERNAME")
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "kaggle.json").write_text("{")
    with pytest.raises(DownloadError, match=r"credentials cannot be read: .*kaggle\.json.*Make an API token"):
        fetch_kaggle(tmp_path)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, r"Kaggle refuses the credentials \(401\).*Make an API token"),
        (
            403,
            r"Kaggle refuses \(403\): log in, accept the rules at https://www\.kaggle\.com/competitions/galaxy-zoo-the-galaxy-challenge/rules",
        ),
        (404, r"Kaggle answers 404.*fetch the files by hand at https://www\.kaggle\.com/.*/data"),
        (500, r"Kaggle answers 500"),
    ],
)
def test_each_refusal_of_kaggle_says_what_to_do(kaggle_host, tmp_path, status: int, message: str) -> None:
    kaggle_host.statuses = [status]
    kaggle_host.dealt.clear()
    with pytest.raises(DownloadError, match=r"images_training_rev1\.zip: " + message):
        fetch_kaggle(tmp_path)


def test_a_file_of_kaggle_damaged_on_the_way_is_refused(kaggle_host: Host, tmp_path: Path) -> None:
    kaggle_host.headers = {"X-Goog-Hash": "md5=AAAAAAAAAAAAAAAAAAAAAA=="}
    with pytest.raises(DownloadError, match=r"images_training_rev1\.zip: not the file expected"):
        fetch_kaggle(tmp_path)
    assert not (tmp_path / "images_training_rev1.zip").exists()


def test_no_network_to_kaggle_is_a_download_error(kaggle_host, tmp_path, monkeypatch) -> None:
    environment = pytest.importorskip("kagglesdk.kaggle_env")
    with published() as gone:
        url = gone.url
    monkeypatch.setitem(environment._env_to_endpoint, environment.KaggleEnv.PROD, url)
    with pytest.raises(DownloadError, match=r"the connection to Kaggle failed .*when the network is back"):
        fetch_kaggle(tmp_path)


def test_without_kagglehub_it_is_said_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_import = builtins.__import__

    def without_kagglehub(name: str, *rest: object, **more: object) -> object:
        if name.startswith("kagglehub"):
            raise ModuleNotFoundError(name)
        return real_import(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without_kagglehub)
    with pytest.raises(DownloadError, match=r"pip install 'hubblefork\[kaggle\]'"):
        fetch_kaggle(tmp_path)


def gz2_files(host: Host) -> None:
    columns = [f"{name}_debiased" for name in STEMS.values()]
    rows = [["dr7objid", "ra", "dec", *columns]]
    rows += [[str(587722981736120347 + i), "1.5", "-0.5", *["0.25"] * 37] for i in range(3)]
    host.files["gz2_hart16.csv.gz"] = gzip.compress("\n".join(",".join(row) for row in rows).encode())
    lines = [f"{587722981736120347 + i},original,{i + 7}\n" for i in range(3)]
    host.files["gz2_filename_mapping.csv"] = ("objid,sample,asset_id\n" + "".join(lines)).encode()
    host.files["images_gz2.zip"] = CONTENT


def gz2_here(host: Host) -> Release:
    """The release as it is known, its files published on this machine."""
    gz2_files(host)
    release = load_release("gz2")
    files = [
        replace(f, url=f"{host.url}/{f.name}?download=1", checksum=host.md5(f.name) if f.checksum else "")
        for f in release.files
    ]
    return replace(release, files=tuple(files))


def test_galaxy_zoo_2_is_fetched_and_ready_to_ingest(host: Host, tmp_path: Path) -> None:
    bars = Bars()
    release = gz2_here(host)
    assert fetch_gz2(tmp_path, release=release, progress=bars) == tmp_path
    assert names(tmp_path) == sorted(
        [*(f.name for f in release.files), "sha256.txt", "solutions_gz2.parquet"]
    )
    assert read_catalogue(tmp_path / "solutions_gz2.parquet")["galaxy_id"].to_pylist() == [7, 8, 9]
    assert [what for what, _, _ in bars.opened] == [f"fetching {file.name}" for file in release.files]
    assert (tmp_path / "sha256.txt").read_text().split()[1::2] == ["gz2_hart16.csv.gz"]


def test_fetching_galaxy_zoo_2_again_asks_for_nothing(host: Host, tmp_path: Path) -> None:
    release = gz2_here(host)
    fetch_gz2(tmp_path, release=release)
    asked = len(host.asked)
    fetch_gz2(tmp_path, release=release)
    assert len(host.asked) == asked


def test_a_table_cut_short_at_its_host_is_not_made_into_labels(host: Host, tmp_path: Path) -> None:
    release = gz2_here(host)
    host.files["gz2_hart16.csv.gz"] = host.files["gz2_hart16.csv.gz"][:-20]
    with pytest.raises(CatalogueError, match=r"gz2_hart16\.csv\.gz: not a readable table"):
        fetch_gz2(tmp_path, release=release)
    assert not (tmp_path / "solutions_gz2.parquet").exists()


def test_fetched_galaxy_zoo_2_goes_through_ingest(host: Host, tmp_path: Path, tree: DecisionTree) -> None:
    import io

    from PIL import Image

    from hubblefork.data.ingest import ingest

    images = io.BytesIO()
    with zipfile.ZipFile(images, "w") as archive:
        for asset in (7, 8, 9):
            jpeg = io.BytesIO()
            Image.effect_noise((64, 64), asset * 5).convert("RGB").save(jpeg, "JPEG")
            archive.writestr(f"images/{asset}.jpg", jpeg.getvalue())
            archive.writestr(f"__MACOSX/images/._{asset}.jpg", b"Mac OS X")
    release = gz2_here(host)
    host.files["images_gz2.zip"] = images.getvalue()
    files = [replace(f, checksum=host.md5(f.name) if f.checksum else "") for f in release.files]
    fetch_gz2(tmp_path / "gz2", release=replace(release, files=tuple(files)))
    ingest([tmp_path / "gz2"], tmp_path / "data", tree=tree)
    catalogue = read_catalogue(tmp_path / "data" / "catalogue.parquet")
    assert catalogue["galaxy_id"].to_pylist() == [7, 8, 9]
    assert catalogue["merger"].null_count == 0


# Labels of releases


FIRST = 587722981736120347  # SDSS ids are 18 digits: no float holds them
STEMS = bases(load_tree("galaxy_zoo_2"))


class Hart:
    """A small table in the layout of Hart et al. 2016, with those of its 231 columns that matter."""

    def __init__(self, galaxies: int) -> None:
        self.rows = [
            {"dr7objid": str(FIRST + row), "ra": f"{10.5 + row}", "dec": "-1.25", "gz2_class": "Er"}
            | {f"{stem}_debiased": "0" for stem in STEMS.values()}
            for row in range(galaxies)
        ]

    def vote(self, row: int, **given: float | str) -> None:
        for answer, value in given.items():
            self.rows[row][f"{STEMS[answer]}_debiased"] = str(value)

    def write(self, folder: Path, *, without: str = "") -> Path:
        names = [name for name in self.rows[0] if name != without]
        lines = [",".join(names), *(",".join(row[name] for name in names) for row in self.rows)]
        path = folder / "gz2_hart16.csv.gz"
        path.write_bytes(gzip.compress("\n".join(lines).encode()))
        return path


def mapping(folder: Path, *rows: tuple[int, str, int]) -> Path:
    path = folder / "gz2_filename_mapping.csv"
    lines = [f"{FIRST + galaxy},{sample},{asset}" for galaxy, sample, asset in rows]
    path.write_text("\n".join(["objid,sample,asset_id", *lines]))
    return path


def featured(**more: float | str) -> dict[str, float | str]:
    """Answers to every question of a featured, face-on, two-armed spiral without anything odd."""
    given = {
        "smooth": 0.2, "features_or_disk": 0.8, "star_or_artifact": 0.0, "completely_round": 1.0,
        "edge_on_disk": 0.0, "not_edge_on": 1.0, "barred": 0.25, "no_bar": 0.75, "spiral": 1.0,
        "no_spiral": 0.0, "arms_tight": 1.0, "two_arms": 1.0, "bulge_obvious": 1.0,
        "something_odd": 0.0, "nothing_odd": 1.0,
    }  # fmt: skip
    return {**given, **more}


@pytest.mark.parametrize("name", ["gz2", "kaggle"])
def test_known_releases_say_where_from_on_what_terms_and_whom_to_cite(name: str) -> None:
    release = load_release(name)
    assert release.name == name
    assert release.title and release.terms
    assert release.home.startswith("https://")
    assert all(re.search(r"doi:10\.\d{4,}/", citation) for citation in release.citations)
    assert load_tree(release.tree).name == release.tree
    for file in release.files:
        assert file.holds
        assert (
            file.url.startswith("https://") and file.url.split("?")[0].endswith(file.name)
        ) or release.competition
        assert re.fullmatch(r"md5:[0-9a-f]{32}|", file.checksum)


def test_the_known_releases_are_listed_and_unknown_ones_answered() -> None:
    with pytest.raises(
        DownloadError, match=r'no release "gz" \(did you mean "gz2"\?\); there are gz2, kaggle'
    ):
        load_release("gz")


def test_every_answer_has_its_column_of_the_gz2_tables(tree: DecisionTree) -> None:
    assert tuple(STEMS) == tree.columns
    numbers = [int(re.search(r"_a(\d\d)_", stem)[1]) for stem in STEMS.values()]
    assert sorted(numbers) == [*range(1, 35), 36, 37, 38]
    for question, answers in zip(tree.questions, tree.slices, strict=True):
        stems = list(STEMS.values())[answers]
        assert {stem[:3].upper() for stem in stems} == {question.task}


def test_a_featured_galaxy_gets_joint_fractions(tmp_path: Path, tree: DecisionTree) -> None:
    hart = Hart(1)
    hart.vote(0, **featured())
    gz2_labels(hart.write(tmp_path), mapping(tmp_path, (0, "original", 16)), tmp_path / "a.parquet")
    labels = read_catalogue(tmp_path / "a.parquet")
    joint = dict(zip(tree.columns, fractions(labels, tree)[0], strict=True))
    assert joint["smooth"] == joint["completely_round"] == pytest.approx(0.2)
    assert joint["barred"] == pytest.approx(0.8 * 0.25)
    assert joint["two_arms"] == joint["bulge_obvious"] == joint["spiral"] == pytest.approx(0.8)
    assert joint["nothing_odd"] == 1
    assert joint["merger"] == 0
    assert joint["bulge_boxy"] == 0
    assert violations(tree, fractions(labels, tree)) == []


def test_labels_are_known_by_the_image_and_keep_the_sdss_id_and_place(
    tmp_path: Path, tree: DecisionTree
) -> None:
    hart = Hart(3)
    for row in range(3):
        hart.vote(row, **featured())
    images = mapping(tmp_path, (2, "original", 5), (0, "stripe82", 9), (1, "extra", 7))
    gz2_labels(hart.write(tmp_path), images, tmp_path / "a.parquet")
    labels = read_catalogue(tmp_path / "a.parquet")
    assert labels.column_names == ["galaxy_id", "dr7objid", "ra", "dec", *tree.columns]
    assert labels["galaxy_id"].to_pylist() == [5, 7, 9]
    assert labels["dr7objid"].to_pylist() == [FIRST + 2, FIRST + 1, FIRST]
    assert labels["ra"].to_pylist() == [12.5, 11.5, 10.5]
    notes = metadata_of(labels)
    assert (notes["tree"], notes["quantity"], notes["kind"]) == ("galaxy_zoo_2", "joint_fraction", "debiased")
    assert "Hart et al. 2016" in notes["source"]


def test_coadded_images_and_galaxies_without_image_are_left_out(tmp_path: Path) -> None:
    hart = Hart(3)
    images = mapping(
        tmp_path,
        (0, "original", 1),
        (0, "stripe82_coadd_1", 2),
        (1, "stripe82_coadd_2", 3),
        (8, "original", 4),
    )
    gz2_labels(hart.write(tmp_path), images, tmp_path / "a.parquet")
    assert read_catalogue(tmp_path / "a.parquet")["galaxy_id"].to_pylist() == [1]


def test_a_question_asked_of_nobody_is_missing_and_so_is_all_below(
    tmp_path: Path, tree: DecisionTree
) -> None:
    hart = Hart(2)
    hart.vote(0, **featured(edge_on_disk=0, not_edge_on=0))
    hart.vote(1, **featured(edge_on_disk="", not_edge_on="NaN"))
    images = mapping(tmp_path, (0, "original", 1), (1, "original", 2))
    gz2_labels(hart.write(tmp_path), images, tmp_path / "a.parquet")
    labels = read_catalogue(tmp_path / "a.parquet")
    for name in (
        "edge_on_disk",
        "not_edge_on",
        "barred",
        "spiral",
        "two_arms",
        "bulge_obvious",
        "bulge_boxy",
    ):
        assert labels[name].null_count == 2, name
    for name in ("smooth", "in_between", "nothing_odd", "merger"):
        assert labels[name].null_count == 0, name
    assert violations(tree, fractions(labels, tree)) == []


def test_fractions_that_do_not_sum_to_one_are_scaled(tmp_path: Path, tree: DecisionTree) -> None:
    hart = Hart(3)
    hart.vote(0, **featured(barred=0.3, no_bar=0.9))
    hart.vote(1, **featured(barred=0.25, no_bar=0.745))
    hart.vote(2, **featured())
    images = mapping(tmp_path, *((row, "original", row) for row in range(3)))
    gz2_labels(hart.write(tmp_path), images, tmp_path / "a.parquet")
    conditional = to_conditional(tree, fractions(read_catalogue(tmp_path / "a.parquet"), tree))
    assert_allclose(conditional[:, tree.column("barred")], [0.25, 0.25 / 0.995, 0.25])


@pytest.mark.parametrize(
    "wrong",
    [
        {"barred": -0.2, "no_bar": 0.2},
        {"barred": 0.4, "no_bar": 1.6},
        {"barred": -5e-5, "no_bar": 0.6},
        {"barred": ""},
    ],
)
def test_impossible_fractions_are_left_for_ingest_to_refuse(tmp_path, tree, wrong: dict) -> None:
    hart = Hart(2)
    hart.vote(0, **featured())
    hart.vote(1, **featured(**wrong))
    images = mapping(tmp_path, (0, "original", 1), (1, "original", 2))
    gz2_labels(hart.write(tmp_path), images, tmp_path / "a.parquet")
    table = read_catalogue(tmp_path / "a.parquet")
    assert len(table) == 2
    joint = np.stack([table.column(name).to_numpy() for name in tree.columns], axis=1)
    broken = violations(tree, joint)
    assert {violation.row for violation in broken} == {1}
    assert any("bar" in violation.constraint for violation in broken)


def test_random_votes_always_make_labels_that_obey_the_tree(tmp_path: Path, tree: DecisionTree) -> None:
    rng = np.random.default_rng(7)
    hart = Hart(300)
    for row in range(300):
        values = rng.dirichlet(np.full(4, 0.3), size=37)[:, 0].round(3) * (rng.random(37) > 0.2)
        hart.vote(row, **dict(zip(tree.columns, values.tolist(), strict=True)))
    images = mapping(tmp_path, *((row, "original", row) for row in range(300)))
    gz2_labels(hart.write(tmp_path), images, tmp_path / "a.parquet")
    joint = fractions(read_catalogue(tmp_path / "a.parquet"), tree)
    assert violations(tree, joint, tolerance=1e-9) == []
    assert np.isnan(joint).any()


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    hart, images = Hart(1), mapping(tmp_path, (0, "original", 1))
    with pytest.raises(CatalogueError, match=r"1 columns are missing: t08_odd_feature_a24_merger_debiased"):
        gz2_labels(
            hart.write(tmp_path, without="t08_odd_feature_a24_merger_debiased"),
            images,
            tmp_path / "a.parquet",
        )


def test_ids_through_a_float_and_text_among_fractions_are_refused(tmp_path: Path) -> None:
    images = mapping(tmp_path, (0, "original", 1))
    for name, value in (("dr7objid", "5.87722981736120e17"), ("t03_bar_a06_bar_debiased", "many")):
        hart = Hart(1)
        hart.rows[0][name] = value
        with pytest.raises(CatalogueError, match=rf"gz2_hart16\.csv\.gz: not a readable table: .*{value}"):
            gz2_labels(hart.write(tmp_path), images, tmp_path / "a.parquet")


def test_a_truncated_table_is_refused(tmp_path: Path) -> None:
    path = Hart(50).write(tmp_path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(CatalogueError, match=r"not a readable table.*fetch it anew"):
        gz2_labels(path, mapping(tmp_path, (0, "original", 1)), tmp_path / "a.parquet")
    assert not (tmp_path / "a.parquet").exists()


def test_tables_of_different_releases_and_repeated_rows_are_refused(tmp_path: Path) -> None:
    table = Hart(1).write(tmp_path)
    with pytest.raises(CatalogueError, match="have no galaxy in common"):
        gz2_labels(table, mapping(tmp_path, (5, "original", 1)), tmp_path / "a.parquet")
    for rows in (((0, "original", 1), (0, "extra", 2)), ((0, "original", 1), (1, "original", 1))):
        with pytest.raises(
            CatalogueError, match=r"1 rows repeat a (dr7objid|asset_id) of the images of normal"
        ):
            gz2_labels(table, mapping(tmp_path, *rows), tmp_path / "a.parquet")
