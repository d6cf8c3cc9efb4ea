"""Stamps beside the lab's way (Pillow: open, crop, resize), from the archive on disk to the store on disk.

    python benchmarks/stamps.py [KAGGLE] [--crop 212] [--size 64] [--rounds 3] [--record FOLDER]

KAGGLE is a folder of Kaggle's files, or an archive; without it a mock sky is made. Each measurement runs in a
process of its own, so that none inherits another's heap, and the ways take turns. Both ways read the archive
member by member and write a stamps.npy; ours is `hubblefork.data.stamps.prepare` with its checkpoints and its
flushing to the disk, of which the lab's way has none. "bound" reads the archive and decodes what ours
decodes, no more. Beside the wall clock stands the time of the processor, which other load on the machine
moves less.

The allocator counts: `--allocators kept` raises glibc's mmap and trim thresholds, so that the large buffers
of one image are kept for the next and not given back to the system.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import shutil
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image

from hubblefork.data.ingest import ingest
from hubblefork.data.stamps import prepare
from hubblefork.images.decoder import StampSpec, decode_jpeg, taps
from hubblefork.io import cores
from hubblefork.tables.names import is_image
from hubblefork.zoo import load_tree
from measure import Round, images_of, kaggle_files, keep, run

KEPT = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}
ALLOCATORS = {"default": {}, "kept": KEPT}
CORES = cores()
MEASUREMENTS = (("lab", 1), ("ours", 1), ("bound", 1), ("lab", CORES), ("ours", CORES))
UNITS = {"rate": "images/s", "cpu": "µs of the processor", "memory": "GB at most"}
MEASURED = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


def main(words: Sequence[str] | None = None) -> None:
    arguments = parsed(words)
    if arguments.way:
        print(json.dumps(measured(arguments)))
        return
    with tempfile.TemporaryDirectory(dir=arguments.out) as place:
        folder = Path(place)
        arguments.kaggle = images_of(kaggle_files(arguments.kaggle, folder, galaxies=1000))
        arguments.data = folder / "data"
        ingest([arguments.kaggle], arguments.data, tree=load_tree("galaxy_zoo_2"))
        rounds = [one_round(arguments) for _ in range(arguments.rounds)]
        difference = difference_in_grey_levels(arguments)
    keep("stamps", [{**found, **difference} for found in rounds], arguments.record)


def parsed(words: Sequence[str] | None) -> argparse.Namespace:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("kaggle", nargs="?", type=Path, help="a folder of Kaggle's files, or an archive")
    parser.add_argument("--crop", type=int, default=212)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--allocators", nargs="+", choices=list(ALLOCATORS), default=["default"])
    parser.add_argument("--out", type=Path, help="where to work; a temporary folder without it")
    parser.add_argument("--record", type=Path, help="folder for the table and its JSON")
    parser.add_argument("--way", choices=list(WAYS), help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    return parser.parse_args(words)


def one_round(arguments: argparse.Namespace) -> Round:
    found: Round = {}
    for allocator in arguments.allocators:
        kept = "" if allocator == "default" else ", memory kept"
        done = {
            (way, threads): of_way(way, threads, ALLOCATORS[allocator], arguments)
            for way, threads in MEASUREMENTS
        }
        for (way, threads), numbers in done.items():
            what = f"{way}, threads: {threads}{kept}"
            for key, unit in UNITS.items():
                found[what, unit] = numbers[key]
        pairs = [(("lab", 1), ("ours", 1)), (("lab", CORES), ("ours", CORES)), (("bound", 1), ("ours", 1))]
        for slow, fast in pairs:
            what = f"ours / {slow[0]}, threads: {slow[1]}{kept}"
            found[what, "times"] = done[fast]["rate"] / done[slow]["rate"]
            found[what, "times, of the processor"] = done[slow]["cpu"] / done[fast]["cpu"]
    return found


def of_way(way: str, threads: int, environment: dict, arguments: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, __file__, arguments.kaggle, "--way", way, "--threads", threads]
    for name in ("crop", "size", "data"):
        command += [f"--{name}", getattr(arguments, name)]
    done = run(command, environment=environment)
    return {**done.found, "memory": done.memory}


def difference_in_grey_levels(arguments: argparse.Namespace) -> Round:
    lab = np.load(arguments.data / "lab.npy", mmap_mode="r")
    ours = prepare(arguments.data, StampSpec(arguments.crop, arguments.size))
    apart = np.abs(lab.astype(np.int16) - ours)
    return {
        ("ours - lab", "grey levels, mean"): float(apart.mean()),
        ("ours - lab", "grey levels, largest"): float(apart.max()),
    }


# One way, measured in a process of its own


def measured(arguments: argparse.Namespace) -> dict[str, float]:
    spec = StampSpec(arguments.crop, arguments.size)
    Image.preinit()
    shutil.rmtree(arguments.data / "stamps", ignore_errors=True)
    start, before = time.perf_counter(), cpu_seconds()
    count = WAYS[arguments.way](arguments.kaggle, arguments.data, spec, arguments.threads)
    wall, cpu = time.perf_counter() - start, cpu_seconds() - before
    return {"rate": count / wall, "cpu": cpu / count * 1e6}


def cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in MEASURED]
    return sum(one.ru_utime + one.ru_stime for one in used)


def ours(archive: Path, data: Path, spec: StampSpec, threads: int) -> int:
    return len(prepare(data, spec, threads=threads))


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
