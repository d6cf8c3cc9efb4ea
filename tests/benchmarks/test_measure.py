"""What is measured of a command, and the one table of several benchmarks."""

import json
import sys
from pathlib import Path

import pytest

import measure

HOLDS = "import time; held = bytearray(60_000_000); time.sleep(0.3)"
linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="/proc tells of other processes")


@linux
def test_memory_is_that_of_the_process_and_its_children():
    alone = measure.run([sys.executable, "-c", HOLDS])
    parent = f"import subprocess, sys; {HOLDS}; subprocess.run([sys.executable, '-c', {HOLDS!r}])"
    family = measure.run([sys.executable, "-c", parent])
    assert 0.06 < alone.memory < 0.1
    assert 0.12 < family.memory < 0.2


def test_the_first_time_that_something_is_there_is_told(tmp_path):
    program = f"import time; time.sleep(0.2); open({str(tmp_path / 'x')!r}, 'w'); time.sleep(0.3)"
    done = measure.run([sys.executable, "-c", program], until=(tmp_path / "x").exists)
    assert 0.2 <= done.first < done.seconds - 0.2


def test_the_processors_time_is_not_the_clocks():
    assert measure.run([sys.executable, "-c", "import time; time.sleep(0.5)"]).processor < 0.3


@linux
def test_a_command_may_be_held_on_one_core():
    program = "import os; print(len(os.sched_getaffinity(0)))"
    assert measure.run([sys.executable, "-c", program], one_core=True).output == "1\n"


def test_what_a_command_says_when_it_fails_is_shown():
    with pytest.raises(SystemExit, match=r"ended with 1: .*\n.*\nValueError: why"):
        measure.run([sys.executable, "-c", "raise ValueError('why')"])


def test_a_folder_has_one_table_of_all_benchmarks(tmp_path, capsys):
    measure.keep("stages", [{("ingest", "s"): 1234.5}], tmp_path)
    measure.keep("stamps", [{("ours", "images/s"): rate} for rate in (3.0, 1.0, 2.0)], tmp_path)
    (tmp_path / "train-gpu.json").write_text(json.dumps({"machine": {}, "peaks": {}}))
    measure.keep("stages", [{("ingest", "s"): 1500.4}], tmp_path)
    page = (tmp_path / "README.md").read_text()
    assert page.count("## ") == 1 and measure.processor() in page
    assert page.endswith(
        "| stages | ingest | 1,500 | s |  | 1 |\n| stamps | ours | 2 | images/s | 1 to 3 | 3 |\n"
    )
    assert "| stamps | ours | 2 | images/s | 1 to 3 | 3 |" in capsys.readouterr().out
