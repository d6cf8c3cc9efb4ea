"""What the lab study reads: its trainings, the networks with their predictions, the images."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import tomli_w
from numpy.typing import NDArray

from hubblefork.data.folders import DataFolder, RunFolder
from hubblefork.data.judged import JudgedGalaxies, joined
from hubblefork.data.split import TEST, TRAIN, VALIDATION
from hubblefork.errors import HubbleforkError, ImageError, RecipeError
from hubblefork.images.decoder import StampSpec, each, inspect, stream
from hubblefork.images.sources import open_source
from hubblefork.io import Progress, silent, write_text
from hubblefork.network.recipe import HEADS, Recipe, load_recipe
from hubblefork.network.training import MODES
from hubblefork.network.weights import read_recipe
from hubblefork.prediction.output import predict
from hubblefork.prediction.runs import predict_part
from hubblefork.studies.study import Training, check_addresses, labelled_catalogue, settings_of
from hubblefork.tables.catalogue import fractions, galaxy_ids, labelled, read_catalogue
from hubblefork.tables.names import galaxy_id_of
from hubblefork.zoo import load_tree

REPORT = tomllib.loads(files("hubblefork.studies.lab").joinpath("lab.toml").read_text(encoding="utf-8"))
NETWORKS = tuple(REPORT["networks"])
AUGMENTED = {"lab-resnet50": "lab-resnet50-augmented", "lab-cnn": "lab-cnn-augmented"}
ALL = (*NETWORKS, *AUGMENTED.values())
PRETRAINED = (*NETWORKS[1:], AUGMENTED["lab-resnet50"])
HEADS_FOLDER, HEADS_RECIPE = "heads", "lab-cnn-augmented"
SHOWN_SIDE = 212
Image = NDArray[np.uint8]


def plan(*, seeds: int, settings: Sequence[str] = (), defaults: Sequence[str] = ()) -> list[Training]:
    """Return the trainings of the study in the order in which they run.

    `settings` are `key=value` for all of them, or `RECIPE:key=value` for one; `heads:key=value` is for the
    comparison of heads, each trained with the seeds 0 to `seeds` - 1. They win over the `defaults`.
    Raises RecipeError for an unknown address, and as `load_recipe` does.
    """
    if seeds < 1:
        raise RecipeError(f"{seeds} seeds for each head: it takes at least 1")
    check_addresses(settings, (*ALL, HEADS_FOLDER))

    def chosen(name: str) -> list[str]:
        head = ["head=sigmoid"] if name == AUGMENTED["lab-cnn"] else []  # the head of lab-cnn
        return head + settings_of(name, defaults) + settings_of(name, settings)

    named = [Training(name, load_recipe(name, chosen(name)), name in PRETRAINED) for name in ALL]
    pairs = [(seed, head) for seed in range(seeds) for head in HEADS]
    return named + [
        Training(
            heads_folder(head, seed),
            load_recipe(HEADS_RECIPE, [*chosen(HEADS_FOLDER), f"head={head}", f"seed={seed}"]),
        )
        for seed, head in pairs
    ]


def parameters(name: str) -> int:
    """Return the total of a network's table in the report."""
    return sum(count for _, _, count in REPORT["networks"][name]["layers"])


def heads_folder(head: str, seed: int) -> str:
    """Return the folder of the run of a head with a seed, below that of all runs."""
    return f"{HEADS_FOLDER}/{head}-seed{seed}"


@dataclass(frozen=True)
class Network:
    """A trained network: its run, its rows of `metrics.csv`, its predictions.

    `judged` maps "validation" and, where the split has one, "test" to the labelled galaxies of that part.
    """

    name: str
    run: RunFolder
    recipe: Recipe
    notes: dict[str, Any]
    rows: list[dict[str, float]]
    judged: dict[str, JudgedGalaxies]

    @property
    def best_epoch(self) -> int:
        """The epoch whose weights were kept, from 0."""
        best = min if MODES[self.recipe.monitor] == "min" else max
        return int(best(self.rows, key=lambda row: row[self.recipe.monitor])["epoch"])

    @property
    def seconds(self) -> float:
        """The mean time of an epoch, in seconds, without validation."""
        return float(np.mean([row["seconds"] for row in self.rows]))

    @property
    def finished(self) -> bool:
        """Whether the training has ended by itself."""
        return bool(self.notes.get("finished"))

    @property
    def steps(self) -> int:
        """The number of batches it was trained on."""
        return int(self.rows[-1]["step"])

    @property
    def trained_on(self) -> int:
        """The number of training galaxies."""
        return int(self.notes.get("galaxies", {}).get(TRAIN, 0))

    @property
    def shortened(self) -> bool:
        """Whether it was given fewer batches than the recipe of its name allows."""
        whole = load_recipe(self.recipe.name)
        given = self.recipe.epochs * (self.recipe.steps_per_epoch or self.steps // len(self.rows))
        return given < whole.epochs * whole.steps_per_epoch

    def galaxies_shown(self, row: dict[str, float] | None = None) -> float:
        """Return how many galaxies had been shown in training at the end of an epoch (default: the last)."""
        return (row or self.rows[-1])["step"] * self.recipe.batch_size

    def losses(self, epoch: int | None = None) -> dict[str, float]:
        """Return MSE and agreement of both parts at an epoch, or their means over all (as in table 6)."""
        rows = [row for row in self.rows if epoch in (None, int(row["epoch"]))]
        parts = (TRAIN, VALIDATION)
        mse = {f"{part}_loss": float(np.mean([row[f"{part}_rmse"] ** 2 for row in rows])) for part in parts}
        keys = [f"{part}_agreement" for part in parts]
        return mse | {key: float(np.mean([row[key] for row in rows])) for key in keys}


def gap(losses: dict[str, float]) -> float:
    """Return how much larger the validation RMSE is than that of the training."""
    return math.sqrt(losses["validation_loss"]) - math.sqrt(losses["train_loss"])


class Lab:
    """What the page is made from: data, trained networks, predictions; missing or old predictions are made.

    `table`, `ids`, `votes`, `labelled` and `parts` are the catalogue. `networks` are the trained ones by
    name; `heads` maps a head to its finished networks, one for each seed that all heads have, of `seeds`;
    `unlabelled` maps a network to its predictions of the galaxies without labels, whose images are in
    `test_images`: the data where none are given.
    """

    def __init__(
        self,
        data: Path,
        out: Path,
        *,
        seeds: int,
        test_images: Path | None = None,
        device: str = "",
        progress: Progress = silent,
    ) -> None:
        self.data, self.runs, self.seeds, self.tree = DataFolder(data), out / "runs", seeds, load_tree()
        self.table, self.split = labelled_catalogue(self.data), self.data.split()
        self.ids, self.votes = galaxy_ids(self.table), fractions(self.table, self.tree)
        self.labelled = labelled(self.table, self.tree)
        self.parts = self.split.assign(self.ids.tolist())
        self.test_images = DataFolder(test_images or data)
        self._predicting: Any = {"device": device, "progress": progress}
        self.networks = {name: network for name in ALL if (network := self._network(name))}
        self.heads = self._trained_heads()
        self.unlabelled: dict[str, JudgedGalaxies] = {}
        if not self.test_images.exists() or not self.labelled.all():
            for name, network in self.networks.items():
                self.unlabelled[name] = self._unlabelled(network, out / "predictions" / f"{name}.parquet")

    @property
    def judged_on(self) -> str:
        """The part for the final numbers: test, or validation where the split has no test galaxies."""
        return TEST if self.split.test else VALIDATION

    def trained(self, *names: str) -> dict[str, Network]:
        """Return those of the networks that are trained."""
        return {name: self.networks[name] for name in names if name in self.networks}

    def votes_of(self, part: str, *, unselected: bool = False) -> NDArray[np.float64]:
        """Return the volunteers' fractions of the labelled galaxies of a part, (galaxy, answer).

        With `unselected` only of those that the split may judge on: nobody selected them.
        """
        chosen = self.labelled & (self.parts == part)
        listed = self.split.judge_on
        if unselected and listed is not None:
            chosen &= np.array([str(galaxy_id) in listed for galaxy_id in self.ids.tolist()])
        return self.votes[chosen]

    def text(self, answer: str | int) -> str:
        """Return the words of an answer, by its name or number."""
        return self.tree.answers[self.tree.column(answer) if isinstance(answer, str) else answer].text

    def _network(self, folder: str) -> Network | None:
        """Return a network, or None: not trained, or not to its first weights."""
        run = RunFolder(self.runs / folder)
        rows = run.metrics()
        if not rows or not run.weights.exists():
            return None
        parts = (VALIDATION, TEST) if self.split.test else (VALIDATION,)
        judged = {part: self._judged(self._predicted(run, part)) for part in parts}
        return Network(folder, run, read_recipe(run.path), run.notes(), rows, judged)

    def _trained_heads(self) -> dict[str, list[Network]]:
        heads: dict[str, list[Network]] = {head: [] for head in HEADS}
        for seed in range(self.seeds):
            some = [self._network(heads_folder(head, seed)) for head in HEADS]
            finished = [network for network in some if network is not None and network.finished]
            if len(finished) == len(HEADS):
                for head, network in zip(HEADS, finished, strict=True):
                    heads[head].append(network)
        return heads

    def _predicted(self, run: RunFolder, part: str) -> Path:
        """Return the predictions of a part of the split, made again when the weights are younger."""
        path = run.predictions(part)
        if path.exists() and path.stat().st_mtime >= run.weights.stat().st_mtime:
            return path
        return predict_part(run.path, part, **self._predicting)

    def _judged(self, path: Path, *, with_labels: bool = True) -> JudgedGalaxies:
        """Return the galaxies of a catalogue of predictions that have labels, or those that have none."""
        galaxies = joined(read_catalogue(path), self.table, self.tree, str(path), unlabelled=True)
        return galaxies.chosen(galaxies.labelled() == with_labels)

    def _unlabelled(self, network: Network, path: Path) -> JudgedGalaxies:
        """Return the galaxies without labels, predicted unless the same weights did so before."""
        images = self.test_images
        file = images.catalogue_file if images.exists() else images.path
        origin = {
            "source": str(images.path.resolve()),
            "bytes": file.stat().st_size,
            "weights": network.run.weights.stat().st_mtime_ns,
        }
        note = path.with_suffix(".toml")
        before = tomllib.loads(note.read_text(encoding="utf-8")) if note.exists() else None
        if not path.exists() or before != origin:
            predict(network.run.path, images.path, path, overwrite=True, **self._predicting)
            write_text(note, tomli_w.dumps(origin))
        return self._judged(path, with_labels=False)


def cutouts(table: pa.Table, rows: Sequence[int] | NDArray, side: int = SHOWN_SIDE) -> list[Image]:
    """Return the whole images (y, x, band) of galaxies of a catalogue, at most `side` pixels wide.

    Raises ImageError where an archive of the catalogue is not there any more.
    """
    chosen = table.select(["source", "member"]).take(list(rows)).to_pylist()
    images: dict[tuple[str, str], Image] = {}
    for source in dict.fromkeys(row["source"] for row in chosen):
        members = [row["member"] for row in chosen if row["source"] == source]
        images |= {(source, name): image for name, image in _shown(Path(source), members, side).items()}
    return [images[row["source"], row["member"]] for row in chosen]


def unlabelled_cutouts(lab: Lab, galaxies: JudgedGalaxies) -> list[Image]:
    """Return the images of some of the galaxies without labels, in their order. Raises ImageError."""
    if lab.test_images.exists():
        return cutouts(lab.table, galaxies.rows)
    source = lab.test_images.path
    with open_source(source) as archive:
        members = {galaxy_id_of(name): name for name in archive.names()}
    chosen = [members[str(galaxy_id)] for galaxy_id in galaxies.ids.tolist()]
    images = _shown(source, chosen, SHOWN_SIDE)
    return [images[name] for name in chosen]


def _shown(source: Path, members: list[str], side: int) -> dict[str, Image]:
    """Return the central squares of images, as large as the smallest of them allows."""
    crop = 2**16
    with open_source(source) as archive:
        for _, cutout in each(archive, inspect, names=members):
            if isinstance(cutout, ImageError):
                raise cutout
            crop = min(crop, cutout.width, cutout.height)
    images = {}
    for name, pixels in stream(source, StampSpec(crop, min(side, crop)), names=members, threads=1):
        if isinstance(pixels, HubbleforkError):
            raise pixels
        images[name] = pixels
    return images


def image_bytes(table: pa.Table) -> tuple[int, int]:
    """Return the bytes of all images of a catalogue: decoded to 8 bits a band, and as their files are."""
    width, height = (table.column(name).to_numpy().astype(np.int64) for name in ("width", "height"))
    sources = [Path(source) for source in dict.fromkeys(table.column("source").to_pylist())]
    members = [path for source in sources for path in (source, *source.rglob("*")) if path.is_file()]
    return int((3 * width * height).sum()), sum(path.stat().st_size for path in members)
