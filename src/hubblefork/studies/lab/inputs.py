"""What the study is told from: the catalogue, the networks with their predictions, the test images."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import tomli_w
from numpy.typing import NDArray

from hubblefork.data.archives import ImageData, galaxy_id_of, open_source
from hubblefork.data.catalogue import fractions, galaxy_ids, labelled, read_catalogue
from hubblefork.data.images import StampSpec, inspect_cutout, stream
from hubblefork.data.split import TEST, TRAIN, VALIDATION, Split, read_split
from hubblefork.errors import HubbleforkError, ImageError
from hubblefork.io import Progress, silent, write_text
from hubblefork.network import runs
from hubblefork.network.predict import predict, predict_part
from hubblefork.network.recipe import HEADS, Recipe, load_recipe
from hubblefork.network.training import MODES
from hubblefork.report.blocks import Missing
from hubblefork.report.inputs import Galaxies, Sky
from hubblefork.studies.lab.trainings import ALL, NETWORKS, heads_folder
from hubblefork.zoo import DecisionTree, load_tree

SHOWN_SIDE = 212


@dataclass(frozen=True)
class Network:
    """A trained network: its run, its rows of `metrics.csv`, its predictions of the parts it is judged on.

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
        """The epoch whose weights were kept."""
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
        """How many batches it was trained on."""
        return int(self.rows[-1]["step"])

    @property
    def shortened(self) -> bool:
        """Whether it was given fewer batches than its recipe, as it comes, allows."""
        whole = load_recipe(self.recipe.name)
        given = self.recipe.epochs * (self.recipe.steps_per_epoch or self.steps // len(self.rows))
        return given < whole.epochs * whole.steps_per_epoch


@dataclass(frozen=True)
class Unlabelled:
    """Unlabelled galaxies: where their images are, and what each network predicts of them."""

    source: Path
    predicted: dict[str, Galaxies]


@dataclass(frozen=True)
class Lab:
    """Everything the study's page is told from.

    `heads` maps a head to its finished networks, one for each seed that all heads have; `seeds` is how many
    were asked for.
    """

    data: Path
    tree: DecisionTree
    sky: Sky
    split: Split
    parts: NDArray[np.str_]
    networks: dict[str, Network | Missing]
    heads: dict[str, list[Network]]
    seeds: int
    unlabelled: Unlabelled | Missing

    @property
    def judged_on(self) -> str:
        """The part for the final numbers: test, or validation where the split has no test galaxies."""
        return TEST if self.split.test else VALIDATION

    def there(self, *names: str) -> dict[str, Network]:
        """Return those of the networks (default: the paper's three) that are trained."""
        found = {name: self.networks[name] for name in names or NETWORKS}
        return {name: network for name, network in found.items() if isinstance(network, Network)}

    def votes(self, part: str) -> NDArray:
        """Return the volunteers' fractions of the labelled galaxies of a part, (galaxy, answer)."""
        return self.sky.votes[self.sky.labelled & (self.parts == part)]

    def fair_training(self) -> NDArray:
        """Return the volunteers' fractions of the training galaxies that nobody selected."""
        listed = self.split.judge_on
        fair = [listed is None or str(galaxy_id) in listed for galaxy_id in self.sky.ids.tolist()]
        return self.sky.votes[self.sky.labelled & (self.parts == TRAIN) & np.array(fair)]


def read_lab(
    data: Path,
    out: Path,
    *,
    seeds: int,
    test_images: Path | None = None,
    device: str = "",
    progress: Progress = silent,
) -> Lab:
    """Read what there is, predicting where predictions are missing or older than the weights."""
    tree, split = load_tree(), read_split(data)
    table = read_catalogue(data / "catalogue.parquet")
    sky = Sky(table, galaxy_ids(table), fractions(table, tree), labelled(table, tree))
    read = _Reading(sky, split, tree, out / "runs", device, progress)
    networks = {name: read.network(name) for name in ALL}
    heads = _of_heads(read, seeds)
    outside = _unlabelled(
        test_images or data, out, {name: n for name, n in networks.items() if isinstance(n, Network)}, read
    )
    return Lab(data, tree, sky, split, split.assign(sky.ids.tolist()), networks, heads, seeds, outside)


@dataclass(frozen=True)
class _Reading:
    """What it takes to read a network's predictions."""

    sky: Sky
    split: Split
    tree: DecisionTree
    runs: Path
    device: str
    progress: Progress

    def network(self, folder: str) -> Network | Missing:
        """Return a network, or that it is missing: not trained, or not to its first weights."""
        run = self.runs / folder
        rows = runs.read_metrics(run)
        if not rows or not (run / "weights.safetensors").exists():
            remedy = f"the same command without --only-report trains it into {run}"
            return Missing(f"The network {folder} is not trained yet.", remedy)
        parts = (VALIDATION, TEST) if self.split.test else (VALIDATION,)
        judged = {part: self.labelled(self.galaxies(self.part(run, part))) for part in parts}
        return Network(folder, run, runs.read_recipe(run), runs.read_notes(run), rows, judged)

    def part(self, run: Path, part: str) -> Path:
        """Return the predictions of a part of the split, made anew when the weights are younger."""
        path, weights = run / "predictions" / f"{part}.parquet", run / "weights.safetensors"
        if path.exists() and path.stat().st_mtime >= weights.stat().st_mtime:
            return path
        return predict_part(run, part, device=self.device, progress=self.progress)

    def galaxies(self, path: Path) -> Galaxies:
        """Return the galaxies of a catalogue of predictions, with what volunteers said of them."""
        table = read_catalogue(path)
        ids, predicted = galaxy_ids(table), fractions(table, self.tree)
        place = {galaxy_id: row for row, galaxy_id in enumerate(self.sky.ids.tolist())}
        rows = np.array([place.get(galaxy_id, -1) for galaxy_id in ids.tolist()], dtype=np.int64)
        votes = np.full(predicted.shape, np.nan)
        votes[rows >= 0] = self.sky.votes[rows[rows >= 0]]
        return Galaxies(ids, predicted, votes, rows)

    def labelled(self, galaxies: Galaxies) -> Galaxies:
        """Return the galaxies of which volunteers said anything."""
        return galaxies.chosen(~np.isnan(galaxies.volunteers).all(axis=1))


def _of_heads(read: _Reading, seeds: int) -> dict[str, list[Network]]:
    found: dict[str, list[Network]] = {head: [] for head in HEADS}
    for seed in range(seeds):
        some = {head: read.network(heads_folder(head, seed)) for head in HEADS}
        done = {head: one for head, one in some.items() if isinstance(one, Network) and one.finished}
        if len(done) == len(HEADS):
            for head, one in done.items():
                found[head].append(one)
    return found


def _unlabelled(
    source: Path, out: Path, networks: dict[str, Network], read: _Reading
) -> Unlabelled | Missing:
    """Predict the test images; where `source` is the data folder, its galaxies without labels."""
    if (source / "catalogue.parquet").exists() and read.sky.labelled.all():
        return Missing("There are no test images: none were given, and all galaxies have labels.", REMEDY)
    found = {}
    for name, network in networks.items():
        path = out / "predictions" / f"{name}.parquet"
        _predict_once(network.run, source, path, read)
        galaxies = read.galaxies(path)
        found[name] = galaxies.chosen(np.isnan(galaxies.volunteers).all(axis=1))
    return Unlabelled(source, found)


REMEDY = "the same command with --test-images images_test_rev1.zip"


def _predict_once(run: Path, source: Path, path: Path, read: _Reading) -> None:
    """Predict unless the same weights have predicted the same images before."""
    origin = {
        "source": str(source.resolve()),
        "bytes": _bytes(source),
        "weights": (run / "weights.safetensors").stat().st_mtime_ns,
    }
    note = path.with_suffix(".toml")
    if path.exists() and note.exists() and tomllib.loads(note.read_text(encoding="utf-8")) == origin:
        return
    predict(run, source, path, device=read.device, progress=read.progress)
    write_text(note, tomli_w.dumps(origin))


def _bytes(source: Path) -> int:
    path = source / "catalogue.parquet" if (source / "catalogue.parquet").exists() else source
    return path.stat().st_size


def cutouts(sky: Sky, rows: Sequence[int] | NDArray, side: int = SHOWN_SIDE) -> list[NDArray[np.uint8]]:
    """Return the whole images of some galaxies of the catalogue, at most `side` pixels wide, for showing.

    Raises ImageError where an archive of the catalogue is not there any more.
    """
    chosen = sky.table.select(["source", "member", "width", "height"]).take(list(rows)).to_pylist()
    found: dict[tuple[str, str], NDArray[np.uint8]] = {}
    for source in dict.fromkeys(row["source"] for row in chosen):
        here = [row for row in chosen if row["source"] == source]
        crop = min(min(row["width"], row["height"]) for row in here)
        for name, pixels in _shown(Path(source), [row["member"] for row in here], crop, side):
            found[source, name] = pixels
    return [found[row["source"], row["member"]] for row in chosen]


def unlabelled_cutouts(
    images: Unlabelled, sky: Sky, ids: Sequence[Any], side: int = SHOWN_SIDE
) -> list[NDArray[np.uint8]]:
    """Return the images of some of the test galaxies, in their order. Raises ImageError."""
    if (images.source / "catalogue.parquet").exists():
        place = {galaxy_id: row for row, galaxy_id in enumerate(sky.ids.tolist())}
        return cutouts(sky, [place[galaxy_id] for galaxy_id in ids], side)
    wanted = {str(galaxy_id) for galaxy_id in ids}
    with open_source(images.source) as source:
        members = {galaxy_id_of(name): name for name in source.names() if galaxy_id_of(name) in wanted}
        crop = min(_side(images.source, *member) for member in source.stream(list(members.values())))
    found = dict(_shown(images.source, list(members.values()), crop, side))
    return [found[members[str(galaxy_id)]] for galaxy_id in ids]


def _side(source: Path, name: str, data: ImageData | ImageError) -> int:
    if isinstance(data, ImageError):
        raise data
    found = inspect_cutout(source, name, bytes(data))
    return min(found.width, found.height)


def _shown(source: Path, members: list[str], crop: int, side: int) -> list[tuple[str, NDArray[np.uint8]]]:
    found = []
    for name, pixels in stream(source, StampSpec(crop, min(side, crop)), names=members, threads=1):
        if isinstance(pixels, HubbleforkError):
            raise pixels
        found.append((name, pixels))
    return found


def image_bytes(table: pa.Table) -> tuple[int, int]:
    """Return the bytes of all images of a catalogue: decoded to 8 bits a band, and as their files are."""
    width, height = (table.column(name).to_numpy().astype(np.int64) for name in ("width", "height"))
    sources = [Path(source) for source in dict.fromkeys(table.column("source").to_pylist())]
    files = sum(_file_bytes(source) for source in sources if source.exists())
    return int((3 * width * height).sum()), files


def _file_bytes(source: Path) -> int:
    if source.is_file():
        return source.stat().st_size
    return sum(path.stat().st_size for path in source.rglob("*") if path.is_file())
