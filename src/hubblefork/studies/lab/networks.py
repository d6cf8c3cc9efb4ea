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

from hubblefork.data.archives import ImageData, galaxy_id_of, open_source
from hubblefork.data.catalogue import fractions, galaxy_ids, labelled, read_catalogue
from hubblefork.data.cutouts import inspect_cutout
from hubblefork.data.split import TEST, TRAIN, VALIDATION, Split, read_split
from hubblefork.data.stamps import StampSpec, stream
from hubblefork.errors import HubbleforkError, ImageError, RecipeError
from hubblefork.io import Progress, silent, write_text
from hubblefork.network import runs
from hubblefork.network.predict import predict, predict_part
from hubblefork.network.recipe import HEADS, Recipe, load_recipe
from hubblefork.network.training import MODES
from hubblefork.report.inputs import Galaxies, Sky
from hubblefork.studies.settings import check_addresses, settings_of
from hubblefork.studies.trainings import Training
from hubblefork.zoo import DecisionTree, load_tree

REPORT = tomllib.loads(files("hubblefork.studies.lab").joinpath("lab.toml").read_text(encoding="utf-8"))
NETWORKS = tuple(REPORT["networks"])
AUGMENTED = {"lab-resnet50": "lab-resnet50-augmented", "lab-cnn": "lab-cnn-augmented"}
ALL = (*NETWORKS, *AUGMENTED.values())
PRETRAINED = (*NETWORKS[1:], AUGMENTED["lab-resnet50"])
HEADS_FOLDER, HEADS_RECIPE = "heads", "lab-cnn-augmented"
SHOWN_SIDE = 212


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


def heads_folder(head: str, seed: int) -> str:
    """Return the folder of the run of a head with a seed, below that of all runs."""
    return f"{HEADS_FOLDER}/{head}-seed{seed}"


@dataclass(frozen=True)
class Network:
    """A trained network: its run, its rows of `metrics.csv`, its predictions.

    `judged` maps "validation" and, where the split has one, "test" to the labelled galaxies of that part.
    """

    name: str
    run: Path
    recipe: Recipe
    notes: dict[str, Any]
    rows: list[dict[str, float]]
    judged: dict[str, Galaxies]

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


@dataclass(frozen=True)
class Lab:
    """What the page is made from.

    `networks` are the trained ones by name; `heads` maps a head to its finished networks, one for each seed
    that all heads have, of `seeds`; `unlabelled` maps a network to its predictions of the galaxies without
    labels, whose images are in `unlabelled_source`.
    """

    data: Path
    runs: Path
    tree: DecisionTree
    sky: Sky
    split: Split
    parts: NDArray[np.str_]
    networks: dict[str, Network]
    heads: dict[str, list[Network]]
    seeds: int
    unlabelled: dict[str, Galaxies]
    unlabelled_source: Path

    @property
    def judged_on(self) -> str:
        """The part for the final numbers: test, or validation where the split has no test galaxies."""
        return TEST if self.split.test else VALIDATION

    def trained(self, *names: str) -> dict[str, Network]:
        """Return those of the networks that are trained."""
        return {name: self.networks[name] for name in names if name in self.networks}

    def votes(self, part: str) -> NDArray:
        """Return the volunteers' fractions of the labelled galaxies of a part, (galaxy, answer)."""
        return self.sky.votes[self.sky.labelled & (self.parts == part)]

    def unselected_training(self) -> NDArray:
        """Return the volunteers' fractions of the training galaxies that nobody selected."""
        listed = self.split.judge_on
        fair = [listed is None or str(galaxy_id) in listed for galaxy_id in self.sky.ids.tolist()]
        return self.sky.votes[self.sky.labelled & (self.parts == TRAIN) & np.array(fair)]

    def text(self, answer: str | int) -> str:
        """Return the words of an answer, by its name or number."""
        return self.tree.answers[self.tree.column(answer) if isinstance(answer, str) else answer].text


def read_lab(
    data: Path,
    out: Path,
    *,
    seeds: int,
    test_images: Path | None = None,
    device: str = "",
    progress: Progress = silent,
) -> Lab:
    """Read what there is, and predict where predictions are missing or older than the weights."""
    tree, split = load_tree(), read_split(data)
    table = read_catalogue(data / "catalogue.parquet")
    sky = Sky(table, galaxy_ids(table), fractions(table, tree), labelled(table, tree))
    read = _Reading(sky, split, tree, out / "runs", device, progress)
    networks = {name: network for name in ALL if (network := read.network(name))}
    source = test_images or data
    outside = {}
    if not (source / "catalogue.parquet").exists() or not sky.labelled.all():
        outside = {
            name: read.unlabelled(network, source, out / "predictions" / f"{name}.parquet")
            for name, network in networks.items()
        }
    parts = split.assign(sky.ids.tolist())
    return Lab(
        data, out / "runs", tree, sky, split, parts, networks, read.heads(seeds), seeds, outside, source
    )


@dataclass(frozen=True)
class _Reading:
    """What it takes to read a network's predictions."""

    sky: Sky
    split: Split
    tree: DecisionTree
    runs: Path
    device: str
    progress: Progress

    def network(self, folder: str) -> Network | None:
        """Return a network, or None: not trained, or not to its first weights."""
        run = self.runs / folder
        rows = runs.read_metrics(run)
        if not rows or not (run / "weights.safetensors").exists():
            return None
        parts = (VALIDATION, TEST) if self.split.test else (VALIDATION,)
        judged = {part: self.judged(self.part(run, part), labelled=True) for part in parts}
        return Network(folder, run, runs.read_recipe(run), runs.read_notes(run), rows, judged)

    def heads(self, seeds: int) -> dict[str, list[Network]]:
        """Return the finished networks of each head, with the seeds that all heads have."""
        found: dict[str, list[Network]] = {head: [] for head in HEADS}
        for seed in range(seeds):
            some = [self.network(heads_folder(head, seed)) for head in HEADS]
            finished = [network for network in some if network is not None and network.finished]
            if len(finished) == len(HEADS):
                for head, network in zip(HEADS, finished, strict=True):
                    found[head].append(network)
        return found

    def part(self, run: Path, part: str) -> Path:
        """Return the predictions of a part of the split, made again when the weights are younger."""
        path, weights = run / "predictions" / f"{part}.parquet", run / "weights.safetensors"
        if path.exists() and path.stat().st_mtime >= weights.stat().st_mtime:
            return path
        return predict_part(run, part, device=self.device, progress=self.progress)

    def judged(self, path: Path, *, labelled: bool) -> Galaxies:
        """Return the galaxies of a catalogue of predictions that have labels, or those that have none."""
        table = read_catalogue(path)
        ids, predicted = galaxy_ids(table), fractions(table, self.tree)
        place = {galaxy_id: row for row, galaxy_id in enumerate(self.sky.ids.tolist())}
        rows = np.array([place.get(galaxy_id, -1) for galaxy_id in ids.tolist()], dtype=np.int64)
        votes = np.full(predicted.shape, np.nan)
        votes[rows >= 0] = self.sky.votes[rows[rows >= 0]]
        return Galaxies(ids, predicted, votes, rows).chosen(np.isnan(votes).all(axis=1) != labelled)

    def unlabelled(self, network: Network, source: Path, path: Path) -> Galaxies:
        """Return the galaxies of `source` without labels, predicted unless the same weights did so before."""
        images = source / "catalogue.parquet" if (source / "catalogue.parquet").exists() else source
        origin = {
            "source": str(source.resolve()),
            "bytes": images.stat().st_size,
            "weights": (network.run / "weights.safetensors").stat().st_mtime_ns,
        }
        note = path.with_suffix(".toml")
        before = tomllib.loads(note.read_text(encoding="utf-8")) if note.exists() else None
        if not path.exists() or before != origin:
            predict(network.run, source, path, device=self.device, progress=self.progress)
            write_text(note, tomli_w.dumps(origin))
        return self.judged(path, labelled=False)


def cutouts(
    sky: Sky, rows: Sequence[int] | NDArray[np.int64], side: int = SHOWN_SIDE
) -> list[NDArray[np.uint8]]:
    """Return the whole images (y, x, band) of galaxies of the catalogue, at most `side` pixels wide.

    Raises ImageError where an archive of the catalogue is not there any more.
    """
    chosen = sky.table.select(["source", "member"]).take(list(rows)).to_pylist()
    images: dict[tuple[str, str], NDArray[np.uint8]] = {}
    for source in dict.fromkeys(row["source"] for row in chosen):
        members = [row["member"] for row in chosen if row["source"] == source]
        for name, pixels in _shown(Path(source), members, side).items():
            images[source, name] = pixels
    return [images[row["source"], row["member"]] for row in chosen]


def unlabelled_cutouts(lab: Lab, ids: Sequence[Any], side: int = SHOWN_SIDE) -> list[NDArray[np.uint8]]:
    """Return the images of some of the galaxies without labels, in their order. Raises ImageError."""
    if (lab.unlabelled_source / "catalogue.parquet").exists():
        place = {galaxy_id: row for row, galaxy_id in enumerate(lab.sky.ids.tolist())}
        return cutouts(lab.sky, [place[galaxy_id] for galaxy_id in ids], side)
    with open_source(lab.unlabelled_source) as source:
        members = {galaxy_id_of(name): name for name in source.names()}
    chosen = [members[str(galaxy_id)] for galaxy_id in ids]
    images = _shown(lab.unlabelled_source, chosen, side)
    return [images[name] for name in chosen]


def _shown(source: Path, members: list[str], side: int) -> dict[str, NDArray[np.uint8]]:
    """Return the central squares of images, as large as the smallest of them allows."""
    with open_source(source) as archive:
        crop = min(_smaller_side(source, *entry) for entry in archive.stream(members))
    found = {}
    for name, pixels in stream(source, StampSpec(crop, min(side, crop)), names=members, threads=1):
        if isinstance(pixels, HubbleforkError):
            raise pixels
        found[name] = pixels
    return found


def _smaller_side(source: Path, name: str, data: ImageData | ImageError) -> int:
    if isinstance(data, ImageError):
        raise data
    cutout = inspect_cutout(source, name, bytes(data))
    return min(cutout.width, cutout.height)


def image_bytes(table: pa.Table) -> tuple[int, int]:
    """Return the bytes of all images of a catalogue: decoded to 8 bits a band, and as their files are."""
    width, height = (table.column(name).to_numpy().astype(np.int64) for name in ("width", "height"))
    sources = [Path(source) for source in dict.fromkeys(table.column("source").to_pylist())]
    members = [path for source in sources for path in (source, *source.rglob("*")) if path.is_file()]
    return int((3 * width * height).sum()), sum(path.stat().st_size for path in members)
