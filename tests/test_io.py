"""Files that are whole or absent, and amounts with units."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hubblefork.errors import DiskError, RecipeError
from hubblefork.io import bytes_of, duration, replacing, seconds, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_file_appears_with_its_content_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "a.parquet"
    with replacing(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
        assert (temporary.parent, temporary.suffix) == (path.parent, ".parquet")
    assert path.read_text() == "whole"
    assert names(path.parent) == ["a.parquet"]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, OSError])
def test_a_failure_leaves_the_old_file_as_it_was(tmp_path: Path, failure: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(failure), replacing(path) as temporary:
        temporary.write_text("ne")
        raise failure
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with replacing(path) as temporary:
        temporary.write_text("new, and longer")
        assert path.read_text() == "old"
    assert path.read_text() == "new, and longer"


KILLED = """
import sys, time
from pathlib import Path
from hubblefork.io import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


def test_kill_minus_9_leaves_no_half_file_under_the_final_name(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"writing\n"
        process.send_signal(signal.SIGKILL)
    assert path.read_text() == "old"
    write_text(path, "new")
    assert path.read_text() == "new"


LIMITED = """
import resource, sys
from pathlib import Path
from hubblefork.errors import DiskError
from hubblefork.io import write_text
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_text(Path(sys.argv[1]), "x" * 5000)
except DiskError as error:
    print(error)
"""


def test_a_disk_that_takes_no_more_is_a_disk_error_and_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, check=True
    )
    assert f"{path}: could not be written: File too large. Nothing was left half-written" in done.stdout
    assert "free some space or choose another folder" in done.stdout
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO])
def test_every_refusal_of_the_disk_is_a_disk_error(tmp_path: Path, code: int) -> None:
    with pytest.raises(DiskError, match=os.strerror(code)), replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("some")
        raise OSError(code, os.strerror(code))
    assert names(tmp_path) == []


def test_a_writer_that_words_the_refusal_anew_is_understood(tmp_path: Path) -> None:
    def write() -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as full:
            raise OSError(f"Not enough space on disk: {full}")  # noqa: B904

    with pytest.raises(DiskError, match="No space left"), replacing(tmp_path / "a.fits"):
        write()


def test_a_file_of_others_that_cannot_be_read_is_not_called_ours(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), replacing(tmp_path / "a.txt"):
        raise PermissionError(errno.EACCES, "Permission denied", "/somewhere/else.jpg")


def test_a_file_where_a_folder_should_be_is_a_disk_error(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(DiskError, match="data"):
        write_text(tmp_path / "data" / "a.txt", "text")
    with pytest.raises(DiskError, match="data"):
        write_text(tmp_path / "data" / "deeper" / "a.txt", "text")
    assert (tmp_path / "data").read_text() == "a file"


def test_a_folder_where_the_file_should_be_is_a_disk_error(tmp_path: Path) -> None:
    (tmp_path / "a.txt" / "kept").mkdir(parents=True)
    with pytest.raises(DiskError, match="directory"):
        write_text(tmp_path / "a.txt", "text")
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_a_disk_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(DiskError, match="Permission denied"):
        write_text(tmp_path / "a.txt", "text")


def test_text_is_written_as_utf_8(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "Σ ≤ 1")
    assert (tmp_path / "a.txt").read_bytes() == "Σ ≤ 1".encode()


# Amounts


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("90s", 90),
        ("10min", 600),
        ("2h", 7200),
        ("1h30min", 5400),
        ("1h 30m", 5400),
        ("1.5 h", 5400),
        ("1d", 86400),
    ],
)
def test_times(text, value):
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "2", "0s", "3x", "2hours", "-1h", "h", "1h and more"])
def test_what_is_no_time(text):
    with pytest.raises(RecipeError, match="is no time above 0: write it as 90s"):
        seconds(text)


@pytest.mark.parametrize(
    ("text", "value"), [("500MB", 5e8), ("1.5 GB", 1.5e9), ("2GiB", 2**31), ("100 kB", 1e5), ("7B", 7)]
)
def test_memory(text, value):
    assert bytes_of(text) == value


@pytest.mark.parametrize("text", ["", "2", "0MB", "lots", "2 GB or so", "-1MB"])
def test_what_is_no_memory(text):
    with pytest.raises(RecipeError, match="is no amount of memory above 0"):
        bytes_of(text)


@pytest.mark.parametrize(
    ("value", "text"), [(4.21, "4.2 s"), (59.4, "59.4 s"), (61, "1 min 1 s"), (3661, "1 h 1 min")]
)
def test_durations_for_reading(value, text):
    assert duration(value) == text
