"""Speed and memory of the gallery: start, pages, filters, stamps, similar ones; also twenty people at once.

python benchmarks/gallery.py KAGGLE OUT [--rows 1000000] [--record FOLDER]

The training images are predicted by `fork`; their rows and features are repeated under new ids, and a list
repeats their files. Every request asks for something that no earlier one did, so that nothing is remembered.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from hubblefork.gallery.features import (
    DESCRIPTION,
    FEATURES,
    OF_THEM,
    PROJECTION,
    build,
    description,
    is_built,
)
from hubblefork.gallery.similar import MAP, FeatureIndex
from hubblefork.prediction.predictor import Predictor
from hubblefork.prediction.runtimes import open_network
from hubblefork.tables.catalogue import read_catalogue
from measure import Round, images_of, keep, most_resident

PEOPLE, REQUESTS, STAMPS, AT_ONCE, TIMES = 20, 10, 50, 6, 5
PIECE = 200_000


def prepared(kaggle: Path, out: Path, rows: int) -> tuple[Path, Path]:
    """Return a catalogue of so many rows and the list of its images, made where they are not there."""
    catalogue, listed = out / f"catalogue-{rows}.parquet", out / f"images-{rows}.csv"
    if catalogue.exists() and listed.exists():
        return catalogue, listed
    images = out / "images"
    if not images.exists():
        with zipfile.ZipFile(images_of(kaggle)) as archive:
            archive.extractall(images)
    once = out / "once.parquet"
    if not once.exists():
        predict = ["predict", "fork", images, "--out", once]
        subprocess.run([sys.executable, "-m", "hubblefork", "-q", *map(str, predict)], check=True)
    table, files = read_catalogue(once), {path.stem: path for path in images.rglob("*.jpg")}
    paths = [files[str(galaxy_id)] for galaxy_id in table.column("galaxy_id").to_pylist()]
    with (
        pa.parquet.ParquetWriter(catalogue, _renamed(table.slice(0, 1), 0).schema) as writer,
        listed.open("w") as lines,
    ):
        lines.write("galaxy_id,path\n")
        for start in range(0, rows, PIECE):
            numbers = np.arange(start, min(rows, start + PIECE))
            writer.write_table(_renamed(table.take(numbers % len(table)), start))
            lines.writelines(f"g{number},{paths[number % len(paths)]}\n" for number in numbers)
    return catalogue, listed


def looked_at(catalogue: Path, out: Path, rows: int) -> None:
    """Make the features beside a catalogue that `prepared` made, where those of `fork` are not there."""
    folder, few = catalogue.with_name(f"{catalogue.name}.gallery") / "features", out / "features"
    predictor = Predictor(open_network(Path("fork"), features=True))
    digest = predictor.networks[0].trained.digest
    ids = pa.parquet.read_table(catalogue, columns=["galaxy_id"]).column(0)
    if is_built(folder, ids, digest):
        return
    build(few, read_catalogue(out / "once.parquet", []).column("galaxy_id"), out / "images", predictor)
    index = FeatureIndex.open(few)
    index.unfamiliarity()
    np.save(few / MAP, index.features[:, :2])  # no time is taken of the map
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(few / PROJECTION, folder)
    for name in (*OF_THEM, FEATURES):
        once = np.load(few / name)
        repeated = np.lib.format.open_memmap(folder / name, "w+", once.dtype, (rows, once.shape[1]))
        for start in range(0, rows, PIECE):
            numbers = np.arange(start, min(rows, start + PIECE))
            repeated[numbers] = once[numbers % len(once)]
        repeated.flush()
    (folder / DESCRIPTION).write_text(json.dumps(description(ids, digest)))


def _renamed(table: pa.Table, start: int) -> pa.Table:
    ids = pa.array([f"g{number}" for number in range(start, start + len(table))])
    return table.set_column(table.column_names.index("galaxy_id"), "galaxy_id", ids)


def timed(address: str) -> float:
    """Return how many seconds an address takes to answer."""
    began = time.perf_counter()
    with urllib.request.urlopen(address, timeout=120) as answer:
        answer.read()
    return time.perf_counter() - began


def shown(address: str) -> None:
    """Ask for an image until it is there: the gallery says after a minute that it looks for it still."""
    while True:
        with suppress(urllib.error.HTTPError):
            timed(address)
            return


def answered(address: str) -> Any:
    """Return what an address answers, from JSON."""
    with urllib.request.urlopen(address, timeout=120) as answer:
        return json.load(answer)


def measured(catalogue: Path, images: Path, rows: int) -> Round:
    """Start the gallery of a catalogue, ask it, and return what it took."""
    command = [sys.executable, "-m", "hubblefork", "gallery", catalogue, "--images", images, "--port", "0"]
    began = time.perf_counter()
    process = subprocess.Popen([*map(str, command), "--no-browse"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().split()[0].rstrip("/")
        found: Round = {}
        timed(f"{address}/")
        found["start to the first page", "s"] = time.perf_counter() - began
        found["first galaxies", "ms"] = 1000 * timed(f"{address}/api/galaxies?limit=60")
        shown(f"{address}/stamp/g0")
        found["start to the first image", "s"] = time.perf_counter() - began
        fresh = count(1)

        def filtered() -> float:
            low = 0.3 + next(fresh) / 10_000
            return timed(f"{address}/api/galaxies?f=spiral:{low}:&f=barred:0.1:&sort=-spiral&limit=60")

        def sorted_by() -> float:
            low = next(fresh) / 1e6
            return timed(f"{address}/api/galaxies?f=smooth:{low}:&sort=-merger&limit=60&offset=600")

        def histograms() -> float:
            low = 0.3 + next(fresh) / 10_000
            return timed(f"{address}/api/histograms?f=spiral:{low}:&of=smooth&of=spiral&of=barred")

        def stamps() -> float:
            start, began = next(fresh) * STAMPS, time.perf_counter()
            with ThreadPoolExecutor(AT_ONCE) as pool:
                list(
                    pool.map(
                        timed, (f"{address}/stamp/g{(start + k) % rows}?size=160" for k in range(STAMPS))
                    )
                )
            return time.perf_counter() - began

        asked: dict[str, Callable[[], float]] = {
            "filter and sort": filtered,
            "sort": sorted_by,
            "three histograms": histograms,
            f"{STAMPS} stamps": stamps,
        }
        for name, ask in asked.items():
            found[name, "ms"] = 1000 * float(np.median([ask() for _ in range(TIMES)]))
        kinds = [*asked.values()][:3]

        def person(number: int) -> float:
            return max(kinds[(number + turn) % len(kinds)]() for turn in range(REQUESTS))

        with ThreadPoolExecutor(PEOPLE) as pool:
            found[f"slowest of {PEOPLE * REQUESTS} requests of {PEOPLE} people at once", "s"] = max(
                pool.map(person, range(PEOPLE))
            )
        found["memory at most", "GB"] = most_resident(process.pid) / 1e9
        while answered(f"{address}/api/features")["state"] != "there":
            time.sleep(0.5)
        near = [timed(f"{address}/api/near/g{next(fresh) * 31 % rows}?count=16") for _ in range(TIMES)]
        found["16 similar ones", "ms"] = 1000 * float(np.median(near))
        found["memory at most, features included", "GB"] = most_resident(process.pid) / 1e9
        return found
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kaggle", type=Path, help="a folder of Kaggle's files")
    parser.add_argument("out", type=Path, help="where to work")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--record", type=Path, help="folder for the table and its JSON")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    catalogue, images = prepared(arguments.kaggle, arguments.out, arguments.rows)
    looked_at(catalogue, arguments.out, arguments.rows)
    found = measured(catalogue, images, arguments.rows)
    print(json.dumps({" ".join(key): round(value, 3) for key, value in found.items()}, indent=1))
    keep(f"gallery of {arguments.rows:,} rows", [found], arguments.record)


if __name__ == "__main__":
    main()
