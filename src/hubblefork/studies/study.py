"""What all studies share: settings, the mock sky, trainings that resume, speed, and the record of a page."""

from __future__ import annotations

import gc
import json
import shutil
import time
import tomllib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tomli_w

from hubblefork.data.ingest import ingest
from hubblefork.data.split import Split, read_split, write_split
from hubblefork.data.stamps import prepare
from hubblefork.errors import CatalogueError, RecipeError, did_you_mean
from hubblefork.io import Progress, replacing, silent, write_text
from hubblefork.mock import write_mock_sky
from hubblefork.network.predict import Predictor
from hubblefork.network.recipe import Recipe
from hubblefork.network.training import train
from hubblefork.network.weights import load_weights, read_recipe
from hubblefork.zoo import load_tree

TIMED, TIMED_BATCHES = 128, 3


@dataclass(frozen=True)
class Training:
    """One training: its folder below those of all, its recipe, and what it begins with.

    `pretrained`: whether it begins with given weights where there are any. `share`: the share of the training
    galaxies that it has.
    """

    folder: str
    recipe: Recipe
    pretrained: bool = False
    share: float = 1.0


def train_all(
    trainings: Sequence[Training],
    data: Path,
    runs: Path,
    *,
    weights: Path | None = None,
    device: str = "",
    progress: Progress = silent,
) -> None:
    """Train what is not trained yet. Raises RunError where a folder holds a run of other settings."""
    split = read_split(data)
    for training in trainings:
        train(
            data,
            training.recipe,
            runs / training.folder,
            weights=weights if training.pretrained else None,
            device=device,
            split=replace(split, train_share=training.share),
            progress=progress,
        )
        gc.collect()  # a trainer and its network refer to each other: a ResNet's worth of memory each


def settings_of(name: str, settings: Sequence[str]) -> list[str]:
    """Return the settings for one training: `key=value` for all, then its own `NAME:key=value`, which win."""
    parts = [_address_and_setting(text) for text in settings]
    return [text for place in ("", name) for address, text in parts if address == place]


def check_addresses(settings: Sequence[str], names: Sequence[str]) -> None:
    """Raise RecipeError for settings of trainings that the study does not have, all of them at once."""
    addresses = {address for address, _ in map(_address_and_setting, settings)}
    unknown = sorted(addresses - {"", *names})
    if unknown:
        listed = ", no ".join(f'"{name}"{did_you_mean(name, names)}' for name in unknown)
        raise RecipeError(f"this study trains no {listed}; settings go to {', '.join(names)}")


def _address_and_setting(text: str) -> tuple[str, str]:
    """Return address and setting: "vgg7:epochs=3" → "vgg7", "epochs=3"."""
    key, equals, value = text.partition("=")
    address, _, name = key.rpartition(":")
    return address.strip(), f"{name}{equals}{value}"


def mock_data(
    out: Path, *, quick: bool, galaxies: int, test_galaxies: int, split: Split, progress: Progress = silent
) -> Path:
    """Return the data folder OUT/data of the mock sky OUT/sky; make each where it is not there.

    Raises CatalogueError unless the study is `quick`: then it needs data, and the message says so.
    """
    if not quick:
        raise CatalogueError(
            "the study needs a data folder: --data data/, as `hubblefork ingest` writes it, or --quick for "
            "a mock sky"
        )
    sky, data = out / "sky", out / "data"
    if not (sky / "truth.parquet").exists():
        write_mock_sky(sky, galaxies=galaxies, test_galaxies=test_galaxies, seed=0, progress=progress)
    if not (data / "split.toml").exists():
        ingest([sky], data, tree=load_tree(), progress=progress)
        write_split(split, data)
    return data


def predicting_speed(run: Path, data: Path, path: Path, *, device: str = "") -> float:
    """Return how many galaxies a second a run predicts once it is loaded, with one view each.

    The first call times it on stamps of a data folder and writes `path`; later calls read it.
    """
    if not path.exists():
        predictor = Predictor(load_weights(run), device=device)
        pixels = np.array(prepare(data, read_recipe(run).stamps).pixels[:TIMED])
        predictor(pixels)
        start = time.perf_counter()
        for _ in range(TIMED_BATCHES):
            predictor(pixels)
        speed = TIMED_BATCHES * len(pixels) / (time.perf_counter() - start)
        write_text(path, tomli_w.dumps({"galaxies_per_second": speed, "batch": len(pixels)}))
    return float(tomllib.loads(path.read_text(encoding="utf-8"))["galaxies_per_second"])


def copy_record(report: Path, out: Path, *, without: Collection[str] = ()) -> None:
    """Copy the PDF figures and `numbers.json` of a page; leave out the figures named in `without`.

    What shows galaxies may not be published everywhere; the rest may. Raises DiskError.
    """
    numbers = json.loads((report / "numbers.json").read_text(encoding="utf-8"))
    for section in numbers["sections"].values():
        for name in set(section).intersection(without):
            del section[name]
    write_text(out / "numbers.json", json.dumps(numbers, allow_nan=False) + "\n")
    for figure in sorted(report.glob("*.pdf")):
        if figure.stem not in without:
            with replacing(out / figure.name) as temporary:
                shutil.copyfile(figure, temporary)
