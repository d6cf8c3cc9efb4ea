"""What the benchmarks share: one command measured, the machine in words, one table of all their numbers.

A benchmark measures everything once in each of some rounds, so that a machine whose speed drifts treats all
alike. Ratios are taken within a round. The table has the median over rounds and the range.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hubblefork.io import cores, write_text

Round = dict[tuple[str, str], float]
"""What was measured once: (what, unit) to the number."""
PACKAGES = ("numpy", "scipy", "simplejpeg", "onnxruntime", "openvino", "torch")
EVERY = 0.02
BYTES = 1 if sys.platform == "darwin" else 1024
EXPLAINED = "Median over the rounds, and the lowest and highest. `make benchmark` measures all of it."


@dataclass(frozen=True)
class Measured:
    """Seconds of a command by the clock and of the processor, peak memory in GB, what it printed.

    `first` is when `until` was true for the first time, in seconds.
    """

    seconds: float
    processor: float
    memory: float
    output: str
    first: float | None

    @property
    def found(self) -> dict[str, float]:
        """What the last line that it printed says as JSON."""
        return json.loads(self.output.splitlines()[-1])


def run(
    command: Sequence[object],
    *,
    environment: Mapping[str, str] | None = None,
    one_core: bool = False,
    until: Callable[[], bool] | None = None,
) -> Measured:
    """Run a command to its end. Memory is the sum of the peaks of the process and its descendants.

    With `one_core` it may use the first one only (Linux). Raises SystemExit with what it said when it fails.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        began, first, memory, done = time.perf_counter(), None, 0, 0
        process = subprocess.Popen(
            [str(word) for word in command],
            env={**os.environ, **(environment or {})},
            stdout=out,
            stderr=err,
            preexec_fn=_to_one_core if one_core else None,
        )
        while not done:
            time.sleep(EVERY)
            if first is None and until is not None and until():
                first = time.perf_counter() - began
            memory = max(memory, sum(map(most_resident, _family(process.pid))))
            done, status, used = os.wait4(process.pid, os.WNOHANG)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        for file in (out, err):
            file.seek(0)
        if process.returncode:
            raise SystemExit(
                f"{' '.join(process.args)} ended with {process.returncode}: {err.read()[-2000:]}"
            )
        memory = memory or used.ru_maxrss * BYTES
        return Measured(seconds, used.ru_utime + used.ru_stime, memory / 1e9, out.read(), first)


def _to_one_core() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def _family(number: int) -> Iterator[int]:
    """Yield a process and its descendants; where /proc does not tell them, the process alone."""
    yield number
    for tasks in Path(f"/proc/{number}/task").glob("*/children"):
        with suppress(OSError):
            for child in tasks.read_text().split():
                yield from _family(int(child))


def most_resident(number: int) -> int:
    """Return the peak memory of a process so far, in bytes; 0 where /proc does not tell it."""
    with suppress(OSError):
        for line in Path(f"/proc/{number}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    return 0


# Images


def kaggle_files(given: Path | None, folder: Path, galaxies: int) -> Path:
    """Return a folder of Kaggle's files, or an archive: the given one, or a mock sky made in a folder."""
    if given:
        return given
    from hubblefork.mock import write_mock_sky

    write_mock_sky(folder / "mock", galaxies=galaxies, seed=1, test_galaxies=max(2, galaxies // 5))
    return folder / "mock"


def images_of(place: Path) -> Path:
    """Return the training images of a folder of Kaggle's files; another archive or folder as it is."""
    training = place / "images_training_rev1.zip"
    return training if training.exists() else place


# The table


def processor() -> str:
    """Return the processor and the cores that this process may use, in words."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text(encoding="utf-8").splitlines() if told.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else platform.processor() or platform.machine()}, {cores()} cores"


def commit() -> str:
    """Return the commit of this file, with a plus for changes that are in none; empty outside of git."""
    here = Path(__file__).parent
    words = ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--exclude=*", "--abbrev=7"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def keep(benchmark: str, rounds: Sequence[Round], record: Path | None) -> None:
    """Print the table of a benchmark's rounds; with a `record` folder add it to the table there."""
    found = {
        "machine": f"{processor()}, {platform.system()}, Python {platform.python_version()}",
        "versions": dict(_versions()),
        "commit": commit(),
        "date": str(date.today()),
        "load": round(os.getloadavg()[0], 2),
        "numbers": [
            {"what": what, "unit": unit, "values": [one[what, unit] for one in rounds]}
            for what, unit in rounds[0]
        ],
    }
    print("\n".join([found["machine"], "", *_table({benchmark: found})]), flush=True)
    if record:
        text = json.dumps(found, indent=1, allow_nan=False, ensure_ascii=False)
        write_text(record / f"{benchmark}.json", text + "\n")
        write_text(record / "README.md", _page(record))


def _versions() -> Iterator[tuple[str, str]]:
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            yield name, version(name)


def _page(record: Path) -> str:
    read = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(record.glob("*.json"))}
    kept = {name: found for name, found in read.items() if "numbers" in found}
    lines = ["# Benchmarks", "", EXPLAINED]
    for machine in dict.fromkeys(found["machine"] for found in kept.values()):
        mine = {name: found for name, found in kept.items() if found["machine"] == machine}
        lines += ["", f"## {machine}", ""]
        for name, found in mine.items():
            versions = ", ".join(f"{package} {number}" for package, number in found["versions"].items())
            ended = f"load {found['load']:g} at its end"
            lines.append(f"- {name}: {found['date']}, commit {found['commit']}, {ended}; {versions}")
        lines += ["", *_table(mine)]
    return "\n".join(lines) + "\n"


def _table(benchmarks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = ["| benchmark | what | median | unit | range | rounds |", "|---|---|--:|---|---|--:|"]
    for name, found in benchmarks.items():
        for number in found["numbers"]:
            values = number["values"]
            low, middle, high = map(_written, (min(values), statistics.median(values), max(values)))
            range_ = f"{low} to {high}" if len(values) > 1 else ""
            cells = [name, number["what"], middle, number["unit"], range_, str(len(values))]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def _written(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
