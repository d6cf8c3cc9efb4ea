"""Known releases: where their files come from, on what terms, and how their labels become ours.

What is known about a release is data, in `releases/*.toml`. Galaxy Zoo 2's own table (Hart et al.
2016) names galaxies by their id and images by another; `gz2_labels` brings the two together.

Files are fetched over HTTP. What arrives is kept in `.<name>.partial` until it is whole and has the expected
checksum; only then does it get its name. An interrupted fetch goes on where it stopped.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pooch
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import requests
from urllib3.exceptions import HTTPError

from hubblefork.errors import CatalogueError, DiskError, DownloadError, did_you_mean
from hubblefork.io import Packaged, Progress, silent, write_text
from hubblefork.tables.catalogue import ID, with_fractions, with_metadata, write_catalogue
from hubblefork.tables.layouts import DEBIASED, bases
from hubblefork.zoo import load_tree, to_joint
from hubblefork.zoo.votes import summing_to_one

RELEASES = Packaged("hubblefork.data", "releases", "release", DownloadError, other="")
NORMAL_DEPTH = ("original", "extra", "stripe82")
POSITION = {"dr7objid": pa.int64(), "ra": pa.float64(), "dec": pa.float64()}
CHUNK = 2**20
TIMEOUT = (15, 60)  # seconds to connect, seconds without a byte
TRIES = 4  # that get no further
WAIT = 2.0  # seconds before the second try; doubled for each further one
CHECKSUMS = "sha256.txt"
MAPPING, TABLE = "gz2_filename_mapping.csv", "gz2_hart16.csv.gz"
BROKEN = (requests.ConnectionError, requests.Timeout, HTTPError)
CREDENTIALS = (
    "Make an API token at https://www.kaggle.com/settings (account settings, API), then put it into "
    "~/.kaggle/kaggle.json or into the environment as KAGGLE_API_TOKEN, or KAGGLE_USERNAME and KAGGLE_KEY"
)


@dataclass(frozen=True)
class RemoteFile:
    """One published file: what it holds, its URL, its checksum ("md5:…") where one is published."""

    name: str
    holds: str
    url: str = ""
    checksum: str = ""


@dataclass(frozen=True)
class Release:
    """One published set of images and labels."""

    name: str
    title: str
    home: str
    tree: str
    terms: str
    citations: tuple[str, ...]
    files: tuple[RemoteFile, ...]
    competition: str = ""


def load_release(name: str) -> Release:
    """Return what is known about a release. Raises DownloadError for an unknown name."""
    entries = tomllib.loads(RELEASES.text(name))
    files = tuple(RemoteFile(**file) for file in entries.pop("files"))
    return Release(**{**entries, "files": files, "citations": tuple(entries["citations"])})


def gz2_labels(table: Path, mapping: Path, out: Path) -> None:
    """Turn the table of Hart et al. 2016 into labels of the images that Zenodo holds.

    `mapping` says which image (`asset_id`, its file name) shows which galaxy (`objid`); of it the
    images of normal depth count, which are the ones the table is about. The labels have one row
    per image: `galaxy_id` is the asset id, since images are known by their names; `dr7objid`,
    `ra` and `dec` (degrees) stand beside it; then the joint fractions of the tree, of those that are
    corrected for redshift ("debiased"), scaled as `zoo.votes.summing_to_one` says.

    Raises CatalogueError for a table that cannot be read or lacks columns, DiskError.
    """
    release = load_release("gz2")
    tree = load_tree(release.tree)
    base = bases(tree)
    columns = {f"{base[answer]}_{DEBIASED}": pa.float64() for answer in tree.columns}
    votes = _read_columns(table, {**POSITION, **columns})
    images = _images_of_galaxies(mapping)
    shown = votes.join(images, "dr7objid", join_type="inner").sort_by("asset_id")
    if not len(shown):
        raise CatalogueError(f"{table} and {mapping} have no galaxy in common: are they of the same release?")
    fractions = np.stack([shown.column(name).to_numpy() for name in columns], axis=1)
    conditional = summing_to_one(tree, fractions, within=np.inf)
    labels = shown.select(["asset_id", *POSITION]).rename_columns([ID, *POSITION])
    labels = with_fractions(labels, to_joint(tree, conditional), tree)
    notes = {"tree": tree.name, "quantity": "joint_fraction", "kind": DEBIASED}
    write_catalogue(with_metadata(labels, {**notes, "source": release.citations[-1]}), out)


def _images_of_galaxies(mapping: Path) -> pa.Table:
    images = _read_columns(mapping, {"objid": pa.int64(), "sample": pa.string(), "asset_id": pa.int64()})
    images = images.filter(pa.compute.is_in(images["sample"], pa.array(NORMAL_DEPTH)))
    images = images.drop_columns("sample").rename_columns(["dr7objid", "asset_id"])
    for name in images.column_names:
        repeated = len(images) - pa.compute.count_distinct(images[name]).as_py()
        if repeated:
            raise CatalogueError(f"{mapping}: {repeated} rows repeat a {name} of the images of normal depth")
    return images


def _read_columns(path: Path, columns: dict[str, pa.DataType]) -> pa.Table:
    """Read some columns of a CSV, compressed or not. Raises CatalogueError."""
    convert = pa.csv.ConvertOptions(column_types=columns, include_columns=list(columns))
    try:
        with pa.csv.open_csv(path) as beginning:
            present = beginning.schema.names
        missing = [name + did_you_mean(name, present) for name in columns if name not in present]
        if missing:
            raise CatalogueError(f"{path}: {len(missing)} columns are missing: {', '.join(missing)}")
        return pa.csv.read_csv(path, convert_options=convert)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise CatalogueError(f"{path}: not a readable table: {error}; fetch it anew") from error


# Fetching


def fetch(release: str, out: Path, *, progress: Progress = silent) -> None:
    """Download a release's files by its name. Raises DownloadError."""
    load_release(release)
    (fetch_kaggle if release == "kaggle" else fetch_gz2)(out, progress=progress)


def fetch_gz2(out: Path, *, release: Release | None = None, progress: Progress = silent) -> Path:
    """Fetch the Galaxy Zoo 2 images, their names and the table of Hart et al. 2016; return the folder.

    Adds `solutions_gz2.parquet`, the labels in our form, so that `ingest` takes the folder as it
    is. Whole files that are there already are kept. Raises DownloadError, DiskError.
    """
    release = release or load_release("gz2")
    fetched = {file.name: fetch_file(file, out, progress=progress) for file in release.files}
    gz2_labels(fetched[TABLE], fetched[MAPPING], out / "solutions_gz2.parquet")
    return out


def fetch_kaggle(out: Path, *, progress: Progress = silent) -> Path:
    """Fetch the Galaxy Challenge's images and labels with your Kaggle credentials; return the folder.

    Through kagglehub, which goes on where an interruption stopped; whole files that are there
    already are kept. Raises DownloadError when kagglehub is not installed, credentials are
    missing or refused, the competition's rules are not accepted, or Kaggle stays away; DiskError.
    """
    release = load_release("kaggle")
    unfinished = out / ".kagglehub"
    for file in release.files:
        if not (out / file.name).exists():
            _fetch_from_kaggle(release, file, unfinished, progress).replace(out / file.name)
    shutil.rmtree(unfinished, ignore_errors=True)
    return out


def fetch_file(file: RemoteFile, folder: Path, *, progress: Progress = silent) -> Path:
    """Fetch one file of a release into the folder; return its path.

    Where nobody publishes a checksum, the first fetch notes the file's SHA-256 in `sha256.txt`
    (readable by `sha256sum -c`), and later fetches expect the same. Raises DownloadError, DiskError.
    """
    noted = _noted_checksums(folder)
    path = download(
        file.url, folder / file.name, checksum=file.checksum or noted.get(file.name, ""), progress=progress
    )
    if not file.checksum and file.name not in noted:
        noted[file.name] = f"sha256:{pooch.file_hash(str(path))}"
        lines = [f"{value.removeprefix('sha256:')}  {name}\n" for name, value in sorted(noted.items())]
        write_text(folder / CHECKSUMS, "".join(lines))
    return path


def download(url: str, path: Path, *, checksum: str = "", progress: Progress = silent) -> Path:
    """Fetch one file; go on where an earlier attempt stopped; give it its name when it is whole.

    `checksum` is "md5:…" or "sha256:…"; without one, the length the server states has to do. A
    file that is there already is kept when its checksum agrees. Raises DownloadError when the
    server refuses, stays away or sends another file (which is then removed), and DiskError.
    """
    if path.exists() and _checksum_complaint(path, checksum) is None:
        return path
    unfinished = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _persist(url, unfinished, partial(progress, f"fetching {path.name}"))
        complaint = _checksum_complaint(unfinished, checksum)
        if complaint:
            _forget(unfinished)
            raise DownloadError(
                f"{url}: not the file expected: {complaint}. What arrived was removed; run the same command "
                "again, and if it arrives like this twice, the published file has changed"
            )
        unfinished.replace(path)
        _forget(unfinished)
    except requests.RequestException as error:
        raise DownloadError(f"{url}: {error}") from error
    except OSError as error:
        raise _no_room(path, unfinished, error) from error
    return path


def _no_room(path: Path, unfinished: Path, error: OSError) -> DiskError:
    return DiskError(
        f"{path}: could not be written: {error.strerror or error}. What arrived so far is kept in "
        f"{unfinished.name}; make room and run the same command again, it goes on from there"
    )


def _fetch_from_kaggle(release: Release, file: RemoteFile, folder: Path, progress: Progress) -> Path:
    try:
        import kagglehub
        from kagglehub.exceptions import DataCorruptionError, UnauthenticatedError
    except ImportError as error:
        raise DownloadError(
            "fetching from Kaggle needs kagglehub, which is not installed: pip install 'hubblefork[kaggle]'"
        ) from error
    try:
        with _kagglehub_working_in(folder, partial(progress, f"fetching {file.name}")):
            return Path(kagglehub.competition_download(release.competition, path=file.name))
    except UnauthenticatedError as error:
        raise DownloadError(
            f"Kaggle wants to know who asks, and no credentials were found. {CREDENTIALS}"
        ) from error
    except requests.HTTPError as error:
        raise DownloadError(f"{file.name}: {_refusal_of_kaggle(release, error)}") from error
    except (requests.RequestException, HTTPError) as error:
        raise DownloadError(
            f"{file.name}: the connection to Kaggle failed ({_root(error)}); run the same command again "
            "when the network is back, it goes on from there"
        ) from error
    except DataCorruptionError as error:
        raise DownloadError(
            f"{file.name}: not the file expected: {error}; run the same command again"
        ) from error
    except ValueError as error:
        raise DownloadError(f"the Kaggle credentials cannot be read: {error}. {CREDENTIALS}") from error
    except OSError as error:
        raise _no_room(folder.parent / file.name, folder, error) from error


def _refusal_of_kaggle(release: Release, error: requests.HTTPError) -> str:
    status = error.response.status_code if error.response is not None else "no status"
    if status == 401:
        return f"Kaggle refuses the credentials (401): the token may have been replaced. {CREDENTIALS}"
    if status == 403:
        return f"Kaggle refuses (403): log in, accept the rules at {release.home}/rules, then try again"
    return f"Kaggle answers {status}; try again later, or fetch the files by hand at {release.home}/data"


@contextmanager
def _kagglehub_working_in(folder: Path, bar: Any) -> Iterator[None]:
    """Let kagglehub keep its files in our folder, and tell of its progress through our bar only."""
    from kagglehub import clients

    @contextmanager
    def our_bar(*, total: int, initial: int = 0, **_: Any) -> Iterator[SimpleNamespace]:
        with bar(total, initial) as advance:
            yield SimpleNamespace(update=advance)

    logger, place = logging.getLogger("kagglehub"), "KAGGLEHUB_CACHE"
    before = clients.tqdm, logger.level, os.environ.get(place)
    clients.tqdm, os.environ[place] = our_bar, str(folder)
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        clients.tqdm = before[0]
        logger.setLevel(before[1])
        os.environ.pop(place)
        if before[2] is not None:
            os.environ[place] = before[2]


def _noted_checksums(folder: Path) -> dict[str, str]:
    with suppress(FileNotFoundError):
        lines = (folder / CHECKSUMS).read_text(encoding="utf-8").splitlines()
        return {name: f"sha256:{value}" for value, _, name in (line.partition("  ") for line in lines)}
    return {}


def _checksum_complaint(path: Path, checksum: str) -> str | None:
    if not checksum:
        return None
    kind, _, expected = checksum.partition(":")
    found = pooch.file_hash(str(path), alg=kind)
    return None if found == expected else f"its {kind} is {found}, expected was {expected}"


def _persist(url: str, unfinished: Path, bar: Any) -> None:
    """Go on after every break of the connection, as long as some try in TRIES gets further than before."""
    failures, furthest = 0, 0
    while True:
        try:
            return _go_on(url, unfinished, bar)
        except BROKEN as error:
            failures = 1 if _size(unfinished) > furthest else failures + 1
            furthest = max(furthest, _size(unfinished))
            if failures >= TRIES:
                raise DownloadError(
                    f"{url}: the connection failed {failures} times ({_root(error)}). Kept so far: "
                    f"{_size(unfinished):,} bytes; run the same command again when the network is back"
                ) from error
        time.sleep(WAIT * 2 ** (failures - 1))


def _root(error: BaseException) -> BaseException:
    """Return what lies at the bottom of an error: "Name or service not known" under five layers."""
    return _root(error.__context__) if error.__context__ else error


def _go_on(url: str, unfinished: Path, bar: Any) -> None:
    """Ask the server for what is still missing, and append it."""
    start = _size(unfinished)
    with requests.get(url, headers=_headers(unfinished, start), stream=True, timeout=TIMEOUT) as response:
        if response.status_code == 416 and response.headers.get("Content-Range", "").endswith(f"/{start}"):
            return
        _check_answer(response, url, start, unfinished)
        if response.status_code != 206:
            start = 0
            _note_version(unfinished, response)
        length = response.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        with unfinished.open("ab" if start else "wb") as handle, bar(total, start) as advance:
            for chunk in response.raw.stream(CHUNK, decode_content=False):
                handle.write(chunk)
                advance(len(chunk))
    if total is not None and _size(unfinished) != total:
        raise requests.ConnectionError(f"the connection ended after {_size(unfinished):,} of {total:,} bytes")


def _headers(unfinished: Path, start: int) -> dict[str, str]:
    """Ask for the bytes as they are; for a part only if the server still has the version we began."""
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        with suppress(FileNotFoundError):
            headers["If-Range"] = _version_note(unfinished).read_text(encoding="ascii")
    return headers


def _check_answer(response: requests.Response, url: str, start: int, unfinished: Path) -> None:
    status = response.status_code
    other_part = status == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
    if status == 416 or other_part:
        _forget(unfinished)
        raise requests.ConnectionError("the server has not the rest of the file that was begun")
    if status == 429 or status >= 500:
        raise requests.ConnectionError(f"the server answers {status} {response.reason}")
    if status >= 400:
        raise DownloadError(
            f"{url}: the server answers {status} {response.reason}; see whether the file moved"
        )


def _note_version(unfinished: Path, response: requests.Response) -> None:
    version = response.headers.get("ETag", "")
    _version_note(unfinished).unlink(missing_ok=True)
    if version and not version.startswith("W/"):
        _version_note(unfinished).write_text(version, encoding="ascii")


def _version_note(unfinished: Path) -> Path:
    return unfinished.with_name(f"{unfinished.name}.etag")


def _forget(unfinished: Path) -> None:
    unfinished.unlink(missing_ok=True)
    _version_note(unfinished).unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
