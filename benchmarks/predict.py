"""Prediction: from an archive of JPEGs to a catalogue, beside other programs and beside what bounds it.

    python benchmarks/predict.py KAGGLE [--images 1500 15000 150000] [--rounds 3] [--record FOLDER]
        [--zoobot-python ZOOBOT/bin/python] [--keras-python KERAS/bin/python]

KAGGLE is a folder of Kaggle's files, or any archive of JPEGs; without it a mock sky is made. Its images are
repeated under other names, in a zip without compression, until there are as many as `--images` says.

    fork, fork-fast, lab-cnn    `hubblefork predict`, the whole process, start-up included: galaxies/s, peak
                    memory, and the time until the first chunk is on the disk. Random weights of lab-cnn
    stamps alone    reading, decoding and resampling, on all cores and on one
    network alone   the same runtime on stamps that are in memory, on all cores
    both in turn    1 / (1 / stamps + 1 / network): what is left when both share the same cores
    Zoobot          its `predict_on_catalog` at 224 pixels, the call alone, on files in a folder
    Keras           `model.predict` of lab-cnn with the lab's loading (Pillow), the call alone
    classify        one image, 16 views, the whole process: on all cores, on one, and beside a busy process

ZOOBOT and KERAS are virtual environments: `pip install zoobot==2.9.0 lightning torch==2.13.0` (it does not
tell its needs), `pip install tensorflow-cpu==2.21.0 keras==3.15.0 pillow`. Without one its rows are left out.
Weights are random, since only time is compared. Other load on the machine moves the rates by the processor's
time less than those by the clock.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from hubblefork.images.decoder import stream
from hubblefork.images.sources import open_source
from hubblefork.io import cores, grouped, in_threads
from hubblefork.prediction.predictor import Predictor
from hubblefork.prediction.runtimes import open_network
from measure import Round, images_of, kaggle_files, keep, run

HUBBLEFORK = (sys.executable, "-m", "hubblefork", "-q")
PEERS = Path(__file__).with_name("peers.py")
PROCESSOR = "galaxies/s of the processor"
ARCHITECTURES = "resnet18", "convnext_nano"
BOUND = "fork", "fork-fast"
STAMPS, COMPUTED = 15_000, 4096
"""At most so many images bound it."""


def main(words: Sequence[str] | None = None) -> None:
    arguments = _arguments(words)
    if arguments.side:
        print(json.dumps({"rate": SIDES[arguments.side](arguments)}))
        return
    with tempfile.TemporaryDirectory(dir=arguments.out) as place:
        folder = Path(place)
        images = images_of(kaggle_files(arguments.kaggle, folder, galaxies=16))
        archives = {count: repeated(images, count, folder) for count in arguments.images}
        weights = random_lab_cnn(folder)
        peers = peer_commands(arguments, archives, folder)
        one = files_of(images, 1, folder / "one")
        rounds = [
            {
                **found_of_prediction(str(weights), archives, folder),
                **{key: value for model in BOUND for key, value in found_of(model, archives, folder).items()},
                **rates_of(peers),
                **first_galaxy(next(one.iterdir())),
            }
            for _ in range(arguments.rounds)
        ]
    keep("predict", [found | ratios(found, list(archives)) for found in rounds], arguments.record)


# The images


def repeated(images: Path, count: int, folder: Path) -> Path:
    """Write a zip of so many images: those of an archive, again and again under other names."""
    out = folder / f"{count}.zip"
    with open_source(images) as source, zipfile.ZipFile(out, "w") as archive:
        names = list(islice(source.versions, count))
        for number in range(-(-count // len(names))):
            for name, data in source.stream(names[: count - number * len(names)]):
                archive.writestr(f"{number}-{Path(name).name}", bytes(data))
    return out


def files_of(images: Path, count: int, folder: Path) -> Path:
    """Write some images of an archive as files."""
    folder.mkdir()
    with open_source(images) as source:
        for name, data in source.stream(list(islice(source.versions, count))):
            (folder / Path(name).name).write_bytes(bytes(data))
    return folder


def random_lab_cnn(folder: Path) -> Path:
    """Write weights of lab-cnn that nobody trained, and the network beside them."""
    from hubblefork.network.export import write_network
    from hubblefork.network.model import VoteFractions
    from hubblefork.network.recipe import load_recipe
    from hubblefork.network.weights import save_weights
    from hubblefork.zoo import load_tree

    recipe, tree = load_recipe("lab-cnn"), load_tree()
    out = folder / "lab-cnn.safetensors"
    save_weights(out, VoteFractions(recipe, tree).state_dict(), recipe, tree, epoch=0)
    write_network(out)
    return out


# This program


def found_of(model: str, archives: dict[int, Path], folder: Path) -> Round:
    """Predict by a network of the package, and by each half of the work alone."""
    return found_of_prediction(model, archives, folder) | bounds(model, max(archives.items())[1])


def found_of_prediction(model: str, archives: dict[int, Path], folder: Path) -> Round:
    """Predict each archive into a catalogue, in a process of its own."""
    found = {}
    for count, archive in archives.items():
        out = folder / "catalogue.parquet"
        parts = folder / f"{out.name}.parts"
        done = run(
            [*HUBBLEFORK, "predict", model, archive, "--out", out, "--overwrite"],
            until=lambda parts=parts: any(parts.rglob("*.parquet")),
        )
        what = f"{Path(model).stem}, {count:,} images"
        found[what, "galaxies/s"] = count / done.seconds
        found[what, "GB at most"] = done.memory
        found[what, PROCESSOR] = count / done.processor
        if done.first is not None:
            found[what, "s to the first chunk"] = done.first
        out.unlink()
    return found


def first_galaxy(image: Path) -> Round:
    """Classify one image on all cores and on one; alone, and while another process is busy."""
    command, found = [*HUBBLEFORK, "classify", image], {}
    words = f"all {cores()} cores" if cores() > 1 else "the only core"
    for load in ("", ", another process busy"):
        with busy_process(bool(load)):
            found[f"classify, {words}{load}", "s"] = run(command).seconds
            found[f"classify, one core{load}", "s"] = run(command, one_core=True).seconds
    return found


@contextmanager
def busy_process(wanted: bool) -> Iterator[None]:
    """Keep one core busy, if that is wanted."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if wanted else None
    try:
        yield
    finally:
        if process:
            process.kill()
            process.wait()


# What bounds it


def bounds(model: str, archive: Path) -> Round:
    """Return the rates of the two halves alone, and in turn on the same cores."""
    command = [sys.executable, __file__, archive, "--model", model, "--side"]
    stamps, one, network = (
        run([*command, *words]).found["rate"]
        for words in (["stamps"], ["stamps", "--threads", "1"], ["network"])
    )
    return {
        (f"{model}, stamps alone", "galaxies/s"): stamps,
        (f"{model}, stamps alone, one thread", "galaxies/s"): one,
        (f"{model}, network alone", "galaxies/s"): network,
        (f"{model}, both in turn", "galaxies/s"): 1 / (1 / stamps + 1 / network),
    }


def stamps_alone(arguments: argparse.Namespace) -> float:
    spec = open_network(arguments.model).trained.stamps
    made = islice(stream(arguments.kaggle, spec, threads=arguments.threads), STAMPS)
    began = time.perf_counter()
    return sum(1 for _ in made) / (time.perf_counter() - began)


def network_alone(arguments: argparse.Namespace) -> float:
    predictor = Predictor(open_network(arguments.model))
    with open_source(arguments.kaggle) as source:
        first = list(source.versions)[:COMPUTED]
        stamps = [pixels for _, pixels in stream(source, predictor.stamps, names=first)]
    batches = [np.stack(group) for group in grouped(stamps, predictor.galaxies)]
    for _ in in_threads(islice(cycle(batches), 2 * cores()), predictor):
        pass
    began = time.perf_counter()
    done = sum(map(len, in_threads(batches, predictor)))
    return done / (time.perf_counter() - began)


SIDES = {"stamps": stamps_alone, "network": network_alone}


# Other programs


def peer_commands(
    arguments: argparse.Namespace, archives: dict[int, Path], folder: Path
) -> dict[str, list[object]]:
    """Return the commands that measure them, by the name of the row."""
    commands: dict[str, list[object]] = {}
    if arguments.zoobot_python:
        python = arguments.zoobot_python
        files = files_of(max(archives.items())[1], arguments.zoobot_images, folder / "files")
        for name in ARCHITECTURES:
            words = [python, PEERS, "zoobot", name, files, folder / "zoobot.csv"]
            commands[f"Zoobot {name}, {arguments.zoobot_images:,} images"] = words
    if arguments.keras_python:
        from hubblefork.network.recipe import load_recipe

        stamps, (count, archive) = load_recipe("lab-cnn").stamps, min(archives.items())
        words = [arguments.keras_python, PEERS, "keras", archive, stamps.crop, stamps.size]
        commands[f"Keras lab-cnn, {count:,} images"] = words
    return commands


def rates_of(commands: dict[str, list[object]]) -> Round:
    made: Round = {}
    for name, command in commands.items():
        found = run(command, environment={"TF_CPP_MIN_LOG_LEVEL": "3"}).found
        made[name, "galaxies/s"] = found["galaxies"] / found["seconds"]
        made[name, PROCESSOR] = found["galaxies"] / found["processor"]
    return made


def ratios(found: Round, counts: list[int]) -> Round:
    """Compare each prediction with other programs, by the clock and by the processor, and with its bounds."""
    made: Round = {}
    for count in counts:
        for what in (f"{model}, {count:,} images" for model in (*BOUND, "lab-cnn")):
            for other, unit in found:
                if other.startswith(("Zoobot", "Keras")):
                    times = unit.replace("galaxies/s", "times")
                    made[f"{what} / {other}", times] = found[what, unit] / found[other, unit]
        for model in BOUND:
            what = f"{model}, {count:,} images"
            rate, both = found[what, "galaxies/s"], found[f"{model}, both in turn", "galaxies/s"]
            slower = min(found[f"{model}, {half} alone", "galaxies/s"] for half in ("stamps", "network"))
            made[f"{what} / the slower half alone", "share"] = rate / slower
            made[f"{what} / both in turn", "share"] = rate / both
    return made


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("kaggle", nargs="?", type=Path, help="a folder of Kaggle's files, or an archive")
    parser.add_argument("--images", nargs="+", type=int, default=[1500, 15_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--zoobot-python", help="python of an environment with Zoobot")
    parser.add_argument("--zoobot-images", type=int, default=512)
    parser.add_argument("--keras-python", help="python of an environment with Keras")
    parser.add_argument("--out", type=Path, help="where to work; a temporary folder without it")
    parser.add_argument("--record", type=Path, help="folder for the table and its JSON")
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--side", choices=list(SIDES), help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
