"""Every stage of the main job as a whole process: seconds, galaxies per second, peak memory.

    python benchmarks/stages.py KAGGLE_DIR [--out FOLDER] [--epochs 1]

KAGGLE_DIR holds Kaggle's files, or those of `hubblefork mock`. Start-up of Python and its libraries
is counted in, since a person waits for it too.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    arguments = _arguments()
    folder = Path(tempfile.mkdtemp(dir=arguments.out))
    data, run = folder / "data", folder / "run"
    test = arguments.kaggle / "images_test_rev1.zip"
    settings = [f"--set=epochs={arguments.epochs}"]
    stages = [
        ("ingest", ["ingest", arguments.kaggle, "--out", data]),
        ("split", ["split", data, "--test", "20", "--validation", "10"]),
        ("train", ["train", data, "--recipe", "lab-cnn", "--out", run, *settings]),
        ("evaluate", ["evaluate", run]),
        ("predict", ["predict", run, test, "--out", folder / "predictions.parquet"]),
        ("mergers", ["mergers", folder / "predictions.parquet"]),
        ("report", ["report", run, "--predictions", folder / "predictions.parquet"]),
    ]
    print(f"{os.cpu_count()} cores, {arguments.kaggle.name}")
    print(f"{'stage':<10}{'seconds':>9}{'peak MB':>9}")
    for name, command in stages:
        seconds, memory = _measured([str(part) for part in command])
        print(f"{name:<10}{seconds:>9.1f}{memory:>9.0f}", flush=True)
    shutil.rmtree(folder)


def _measured(command: list[str]) -> tuple[float, float]:
    """Return seconds and peak resident megabytes of one command, by the system's own accounts."""
    program = (
        "import subprocess, sys, resource; code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL,"
        "stderr=subprocess.DEVNULL).returncode;"
        "print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    started = time.perf_counter()
    wrapped = [sys.executable, "-c", program, sys.executable, "-m", "hubblefork", *command]
    code, peak = subprocess.run(wrapped, capture_output=True, text=True, check=True).stdout.split()
    if code != "0":
        raise SystemExit(f"{' '.join(command)} ended with {code}")
    unit = 1 if sys.platform == "darwin" else 1024
    return time.perf_counter() - started, int(peak) * unit / 2**20


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kaggle", type=Path)
    parser.add_argument("--out", type=Path, help="where to work; a temporary folder without it")
    parser.add_argument("--epochs", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
