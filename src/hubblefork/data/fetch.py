"""Fetch published files: over HTTP, going on where an interruption stopped, checked when whole.

What arrives is kept in `.<name>.partial` until it is whole and has the expected checksum; only then
does it get its name. The transport is one function, `download`; the rest says what to fetch.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pooch
import requests
from urllib3.exceptions import HTTPError

from hubblefork.data.sources import RemoteFile, Survey, gz2_labels, load_survey
from hubblefork.errors import DiskError, DownloadError
from hubblefork.io import Progress, silent, write_text

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


def fetch_gz2(out: Path, *, survey: Survey | None = None, progress: Progress = silent) -> Path:
    """Fetch the Galaxy Zoo 2 images, their names and the table of Hart et al. 2016; return the folder.

    Adds `solutions_gz2.parquet`, the labels in our form, so that `ingest` takes the folder as it
    is. Whole files that are there already are kept. Raises DownloadError, DiskError.
    """
    survey = survey or load_survey("gz2")
    fetched = {file.name: fetch_file(file, out, progress=progress) for file in survey.files}
    gz2_labels(fetched[TABLE], fetched[MAPPING], out / "solutions_gz2.parquet")
    return out


def fetch_kaggle(out: Path, *, progress: Progress = silent) -> Path:
    """Fetch the Galaxy Challenge's images and labels with your Kaggle credentials; return the folder.

    Through kagglehub, which goes on where an interruption stopped; whole files that are there
    already are kept. Raises DownloadError when kagglehub is not installed, credentials are
    missing or refused, the competition's rules are not accepted, or Kaggle stays away; DiskError.
    """
    survey = load_survey("kaggle")
    unfinished = out / ".kagglehub"
    for file in survey.files:
        if not (out / file.name).exists():
            _fetch_from_kaggle(survey, file, unfinished, progress).replace(out / file.name)
    shutil.rmtree(unfinished, ignore_errors=True)
    return out


def fetch_file(file: RemoteFile, folder: Path, *, progress: Progress = silent) -> Path:
    """Fetch one file of a survey into the folder; return its path.

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


def _fetch_from_kaggle(survey: Survey, file: RemoteFile, folder: Path, progress: Progress) -> Path:
    try:
        import kagglehub
        from kagglehub.exceptions import DataCorruptionError, UnauthenticatedError
    except ImportError as error:
        raise DownloadError(
            "fetching from Kaggle needs kagglehub, which is not installed: pip install 'hubblefork[kaggle]'"
        ) from error
    try:
        with _kagglehub_working_in(folder, partial(progress, f"fetching {file.name}")):
            return Path(kagglehub.competition_download(survey.competition, path=file.name))
    except UnauthenticatedError as error:
        raise DownloadError(
            f"Kaggle wants to know who asks, and no credentials were found. {CREDENTIALS}"
        ) from error
    except requests.HTTPError as error:
        raise DownloadError(f"{file.name}: {_refusal_of_kaggle(survey, error)}") from error
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


def _refusal_of_kaggle(survey: Survey, error: requests.HTTPError) -> str:
    status = error.response.status_code if error.response is not None else "no status"
    if status == 401:
        return f"Kaggle refuses the credentials (401): the token may have been replaced. {CREDENTIALS}"
    if status == 403:
        return f"Kaggle refuses (403): log in, accept the rules at {survey.home}/rules, then try again"
    return f"Kaggle answers {status}; try again later, or fetch the files by hand at {survey.home}/data"


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
        if response.status_code == 416 and _stated_total(response) == start:
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


def _stated_total(response: requests.Response) -> int:
    total = response.headers.get("Content-Range", "").rpartition("/")[2]
    return int(total) if total.isdigit() else -1
