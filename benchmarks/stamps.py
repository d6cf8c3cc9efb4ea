"""Stamps beside the lab's way (Pillow: open, crop, resize), from the archive on disk to the store on disk.

    python benchmarks/stamps.py images_training_rev1.zip --crop 212 --size 64

Without an archive a mock sky is made. Each measurement runs in a process of its own, so that none
inherits another's heap, and the ways take turns; ratios are medians over turns. Both ways read the
archive member by member and write a stamps.npy; ours is `hubblefork.data.stamps.prepare` with
its checkpoints and its flushing to the disk, of which the lab's way has none. "bound" reads the
archive and decodes what ours decodes, no more. Beside the wall clock stands the time of the
processor, which other load on the machine moves less.

The allocator counts: "kept" raises glibc's mmap and trim thresholds, so that the large buffers of
one image are kept for the next and not given back to the system.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image

from hubblefork.data.archives import is_image
from hubblefork.data.images import StampSpec, decode_jpeg, taps
from hubblefork.data.ingest import ingest
from hubblefork.data.stamps import prepare
from hubblefork.mock import write_mock_sky
from hubblefork.zoo import load_tree

KEPT = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}
ALLOCATORS = {"default": {}, "kept": KEPT}
CORES = os.cpu_count() or 1
MEASUREMENTS = (("lab", 1), ("ours", 1), ("bound", 1), ("lab", CORES), ("ours", CORES))
MEASURED = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


def main() -> None:
    arguments = parsed()
    if arguments.way:
        print(json.dumps(measured(arguments)))
        return
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        folder = Path(scratch)
        arguments.archive = arguments.archive or mock_archive(folder, arguments.galaxies)
        arguments.data = folder / "data"
        ingest([arguments.archive], arguments.data, tree=load_tree("galaxy_zoo_2"))
        report(taking_turns(arguments), arguments)
        report_difference(arguments)


def parsed() -> argparse.Namespace:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("archive", nargs="?", type=Path, help="a zip of images; default: a mock sky")
    parser.add_argument("--crop", type=int, default=212)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--galaxies", type=int, default=1000, help="of the mock sky")
    parser.add_argument("--scratch", type=Path, help="folder for temporary files; default: the system's")
    parser.add_argument("--way", choices=list(WAYS), help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    return parser.parse_args()


def mock_archive(folder: Path, galaxies: int) -> Path:
    write_mock_sky(folder / "mock", galaxies=galaxies, seed=1, test_galaxies=1)
    return folder / "mock" / "images_training_rev1.zip"


def taking_turns(arguments: argparse.Namespace) -> dict[tuple[str, str, int], list[dict[str, float]]]:
    results: dict[tuple[str, str, int], list[dict[str, float]]] = {}
    for _ in range(arguments.turns):
        for allocator in ALLOCATORS:
            for way, threads in MEASUREMENTS:
                done = run(way, threads, ALLOCATORS[allocator], arguments)
                results.setdefault((allocator, way, threads), []).append(done)
    return results


def run(way: str, threads: int, environment: dict, arguments: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, __file__, str(arguments.archive), "--way", way, "--threads", str(threads)]
    for name in ("crop", "size", "data"):
        command += [f"--{name}", str(getattr(arguments, name))]
    done = subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def report(results: dict, arguments: argparse.Namespace) -> None:
    print(f"crop {arguments.crop}, size {arguments.size}, {CORES} cores, medians of {arguments.turns} turns")
    print(f"{'allocator':10}{'way':>6}{'threads':>9}{'images/s':>10}{'CPU µs/image':>14}{'peak MB':>9}")
    for (allocator, way, threads), runs in results.items():
        median = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
        numbers = f"{median['rate']:10.0f}{median['cpu']:14.0f}{median['memory']:9.0f}"
        print(f"{allocator:10}{way:>6}{threads:9}{numbers}")
    for allocator in ALLOCATORS:
        for threads in (1, CORES):
            pairs = results[allocator, "lab", threads], results[allocator, "ours", threads]
            print(f"{allocator}, {threads} threads: ours / lab's way = {ratios(*pairs)}")
        pairs = results[allocator, "bound", 1], results[allocator, "ours", 1]
        print(f"{allocator}, 1 thread: ours / bound = {ratios(*pairs)}")


def ratios(slow: list[dict[str, float]], fast: list[dict[str, float]]) -> str:
    wall = statistics.median(b["rate"] / a["rate"] for a, b in zip(slow, fast, strict=True))
    cpu = statistics.median(a["cpu"] / b["cpu"] for a, b in zip(slow, fast, strict=True))
    return f"{wall:.2f} by the clock, {cpu:.2f} by the processor's time"


def report_difference(arguments: argparse.Namespace) -> None:
    lab = np.load(arguments.data / "lab.npy", mmap_mode="r")
    ours = prepare(arguments.data, StampSpec(arguments.crop, arguments.size)).pixels
    apart = np.abs(lab.astype(np.int16) - ours)
    print(
        f"|ours - lab's| over {len(ours)} stamps in grey levels: mean {apart.mean():.3f}, "
        f"99.9th percentile {np.percentile(apart, 99.9):.0f}, largest {apart.max()}"
    )


# One way, measured in a process of its own


def measured(arguments: argparse.Namespace) -> dict[str, float]:
    spec = StampSpec(arguments.crop, arguments.size)
    Image.preinit()
    shutil.rmtree(arguments.data / "stamps", ignore_errors=True)
    start, before = time.perf_counter(), cpu_seconds()
    count = WAYS[arguments.way](arguments.archive, arguments.data, spec, arguments.threads)
    wall, cpu = time.perf_counter() - start, cpu_seconds() - before
    memory = max(resource.getrusage(who).ru_maxrss for who in MEASURED) / 1024
    return {"rate": count / wall, "cpu": cpu / count * 1e6, "memory": memory}


def cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in MEASURED]
    return sum(one.ru_utime + one.ru_stime for one in used)


def ours(archive: Path, data: Path, spec: StampSpec, threads: int) -> int:
    return len(prepare(data, spec, threads=threads).pixels)


def lab(archive: Path, data: Path, spec: StampSpec, threads: int) -> int:
    """One process a core, each with its share of the archive."""
    names = image_names(archive)
    shape = (len(names), spec.size, spec.size, 3)
    np.lib.format.open_memmap(data / "lab.npy", "w+", np.uint8, shape).flush()
    shares = [(archive, data / "lab.npy", spec, names, first, threads) for first in range(threads)]
    if threads == 1:
        lab_share(*shares[0])
    else:
        with get_context("fork").Pool(threads) as pool:
            pool.starmap(lab_share, shares, chunksize=1)
    return len(names)


def lab_share(archive: Path, store: Path, spec: StampSpec, names: list[str], first: int, step: int) -> None:
    stamps = np.load(store, mmap_mode="r+")
    with zipfile.ZipFile(archive) as opened:
        for row in range(first, len(names), step):
            image = Image.open(io.BytesIO(opened.read(names[row])))
            left, top = (image.width - spec.crop) // 2, (image.height - spec.crop) // 2
            central = image.crop((left, top, left + spec.crop, top + spec.crop))
            stamps[row] = central.resize((spec.size, spec.size))


def bound(archive: Path, data: Path, spec: StampSpec, threads: int) -> int:
    """In one thread: read, and decode at our scale and to our depth."""
    names = image_names(archive)
    reduced = 2 if spec.crop >= 2 * spec.size else 1
    with zipfile.ZipFile(archive) as opened:
        for name in names:
            image = opened.read(name)
            rows = (
                taps(simplejpeg.decode_jpeg_header(image)[0], spec.crop, spec.size, reduced).window.stop
                * reduced
            )
            decode_jpeg(image, rows=rows, reduced=reduced)
    return len(names)


def image_names(archive: Path) -> list[str]:
    with zipfile.ZipFile(archive) as opened:
        return [name for name in opened.namelist() if is_image(name)]


WAYS = {"lab": lab, "ours": ours, "bound": bound}

if __name__ == "__main__":
    main()
