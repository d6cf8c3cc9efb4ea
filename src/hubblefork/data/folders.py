"""Data folders and run folders: the only place that knows the names of their files.

A data folder is written by `ingest`, a run folder by `train`. A run names the data that it was trained on, as
seen from the run: both may be moved.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import platform
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import tomli_w
from numpy.typing import NDArray

from hubblefork import __version__
from hubblefork.data.judged import JudgedGalaxies, check_weights, joined, views_of, votes_in, weights_of
from hubblefork.data.split import TEST, TRAIN, VALIDATION, Split, read_split, write_split
from hubblefork.data.stamps import open_stamps
from hubblefork.errors import CatalogueError, RunError
from hubblefork.images.cutouts import READING, Reading
from hubblefork.images.decoder import StampSpec
from hubblefork.images.surveys import Display
from hubblefork.io import Fields, digest_of, placed, read_json, read_toml, relative, write_text
from hubblefork.tables.catalogue import (
    ID,
    IMAGES,
    Catalogue,
    fractions,
    galaxy_ids,
    head_of,
    ids_among,
    labelled,
    metadata_of,
    read_catalogue,
    read_head,
    with_fractions,
    with_metadata,
)
from hubblefork.tables.names import POSITION
from hubblefork.tables.rejects import Reject, read_rejects
from hubblefork.zoo import DecisionTree, read_tree, write_tree

PACKAGES = ("torch", "lightning", "numpy", "pillow", "simplejpeg")
KINDS = {"data": str, "folder": str, "catalogue": str, "finished": bool, "remarks": list, "best": dict}
"""The types of the entries of `run.toml` that a run goes by."""
VIEWING = "2"
"""How galaxies are seen at prediction (`network.augment.even_views`); any other number is made anew."""


@dataclass(frozen=True)
class Folder:
    """A folder by its path, which may be text; it stands for its path where one is asked for."""

    path: Path

    def __init__(self, path: str | os.PathLike[str]) -> None:
        object.__setattr__(self, "path", Path(path))

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def tree(self) -> DecisionTree:
        """Read the decision tree. Raises TreeError."""
        return read_tree(self.path)

    def split(self) -> Split:
        """Read the split. Raises CatalogueError."""
        return read_split(self.path)


class DataFolder(Folder):
    """The folder of a catalogue, its tree, its split, what was refused, and stamps."""

    @property
    def catalogue_file(self) -> Path:
        """The catalogue: one row a galaxy."""
        return self.path / "catalogue.parquet"

    def exists(self) -> bool:
        """Whether the folder holds a catalogue."""
        return self.catalogue_file.exists()

    def catalogue(self, only: Sequence[str] | None = None) -> pa.Table:
        """Read the catalogue; with `only`, the ids and these columns. Raises CatalogueError."""
        if not self.exists():
            raise CatalogueError(
                f"{self.catalogue_file}: there is no such catalogue. If the data folder was moved, say where "
                f"it is now with --data FOLDER; else make it with `{self.ingest_command}`"
            )
        return read_catalogue(self.catalogue_file, only)

    def digest(self) -> str:
        """Return the SHA-256 of ids, labels and images, wherever they are. Raises CatalogueError."""
        table = self.catalogue()
        digest = hashlib.sha256("\n".join(map(str, galaxy_ids(table).tolist())).encode())
        digest.update(metadata_of(table).get(IMAGES, "").encode())
        for field in table.schema:
            if pa.types.is_floating(field.type) and field.name not in POSITION:
                values = table.column(field.name).cast(pa.float64()).to_numpy()
                digest.update(field.name.encode() + np.where(np.isnan(values), np.nan, values).tobytes())
        return digest.hexdigest()

    def image_sides(self) -> NDArray[np.int32]:
        """Return the shorter side of each image in pixels, shape (galaxy,). Raises CatalogueError."""
        catalogue = self.catalogue(["width", "height"])
        return np.minimum(*(catalogue.column(name).to_numpy() for name in ("width", "height")))

    def image_side(self) -> int:
        """Return the shorter side that all images have, in pixels; 0 where they differ."""
        display = self.display()
        if display and display.side:
            return display.side
        sides = np.unique(self.image_sides())
        return int(sides[0]) if len(sides) == 1 else 0

    def display(self) -> Display | None:
        """Return what its images show; None where it is not stated. Raises CatalogueError."""
        return Reading.noted(metadata_of(read_head(self.catalogue_file)).get(READING, "")).display

    @property
    def rejects_file(self) -> Path:
        """What was refused, and why."""
        return self.path / "rejects.csv"

    def rejects(self) -> list[Reject]:
        """Read what was refused. Raises CatalogueError for a file that is not there or damaged."""
        try:
            return read_rejects(self.rejects_file)
        except (OSError, ValueError, TypeError, LookupError) as error:
            why = str(error).splitlines()[0]
            raise CatalogueError(f"{self.rejects_file} cannot be read: {why}; ingest anew") from error

    def stamps(self, spec: StampSpec) -> np.memmap:
        """Open the finished stamps of all galaxies, in the catalogue's order. Raises StampError."""
        return open_stamps(self.path, spec)

    @property
    def ingest_command(self) -> str:
        """The command that makes the folder."""
        return f"hubblefork ingest … --out {self.path}"


class RunFolder(Folder):
    """The folder of a training: recipe, notes, split, metrics, weights, predictions, evaluation."""

    def exists(self) -> bool:
        """Whether a training began in the folder."""
        return (self.path / "run.toml").exists()

    def begin(
        self, recipe: str, tree: DecisionTree, data: DataFolder, split: Split, notes: Mapping[str, Any]
    ) -> None:
        """Write what is known before training, `recipe` as TOML; a resumed run keeps its first notes."""
        if self.exists():
            return
        write_split(split, self.path)
        write_tree(tree, self.path)
        write_text(self.recipe_file, recipe)
        versions = {"hubblefork": __version__, "python": platform.python_version()}
        versions |= {name: metadata.version(name) for name in PACKAGES}
        entries = {**self._place(data), **notes, "versions": versions}
        self._write_notes({"finished": False, **entries})

    def finish(self, mode: str, monitor: str, **notes: float) -> None:
        """Note how the training ended: its best epoch has the least (mode "min") or most `monitor`."""
        rows = self.metrics()
        best = (min if mode == "min" else max)(rows, key=lambda row: row[monitor])
        self.update_notes(
            finished=True,
            epochs=len(rows),
            best_epoch=int(best["epoch"]),
            best={monitor: best[monitor]},
            **notes,
            training_seconds=sum(row["seconds"] for row in rows),
            galaxies_per_second=float(np.median([row["galaxies_per_second"] for row in rows])),
        )

    def notes(self) -> Fields:
        """Read `run.toml`: what is known of the training. Raises RunError."""
        if not self.exists():
            raise RunError(
                f"{self.path} is not the folder of a run: no run.toml; train one with `hubblefork train`"
            )
        remedy = "copy it anew, or train again with `hubblefork train`"
        notes = read_toml(self.path / "run.toml", RunError, remedy)
        notes.check(KINDS)
        return notes

    def update_notes(self, **entries: Any) -> None:
        """Add entries to `run.toml`. Raises RunError, DiskError."""
        self._write_notes({**self.notes(), **entries})

    def add_remarks(self, remarks: Sequence[str]) -> None:
        """Add what did not go as the recipe asks; an empty remark is none, and none is added twice."""
        before = self.notes().get("remarks", [])
        new = [remark for remark in remarks if remark and remark not in before]
        if new:
            self.update_notes(remarks=[*before, *new])

    def _write_notes(self, notes: Mapping[str, Any]) -> None:
        write_text(self.path / "run.toml", tomli_w.dumps(notes))

    def is_finished(self) -> bool:
        """Whether the training ended by itself."""
        return self.exists() and bool(self.notes().get("finished"))

    @property
    def data(self) -> DataFolder:
        """The data folder that the run was trained on. Raises RunError where `run.toml` cannot be read.

        It is sought as seen from the run, then where it lay; elsewhere only the same catalogue is taken.
        """
        notes = self.notes()
        place, then = notes["data"], notes.get("folder", "")
        noted = placed(place, Path(then or self.path), then)
        data = DataFolder(placed(place, self.path, then))
        try:
            same = data.path.resolve() == noted.resolve() or self._is_same(data)
        except (OSError, ValueError) as error:
            raise RunError(f"{self.path}/run.toml: data = {place[:60]!r} is no path: {error}") from error
        return data if same else DataFolder(noted)

    def _place(self, data: DataFolder) -> dict[str, str]:
        """Return what `run.toml` says of the place and the content of the data."""
        place = {"data": relative(data.path, self.path), "folder": str(self.path.resolve())}
        return place | ({"catalogue": data.digest()} if data.exists() else {})

    def _is_same(self, data: DataFolder) -> bool:
        """Whether a folder has the catalogue that the run was trained on, as far as the run knows it."""
        known = self.notes().get("catalogue", "")
        return data.exists() and known in ("", data.digest())

    def is_trained_on(self, data: DataFolder) -> bool:
        """Whether a folder holds the data of the run, which then lie there or have been moved there."""
        before = self.data
        return before.path.resolve() == data.path.resolve() or (
            self._is_same(data) and ("catalogue" in self.notes() or not before.exists())
        )

    def find_data(self, data: DataFolder) -> None:
        """Note that the data of the run are in this folder now. Raises RunError for other data, DiskError."""
        if data.path.resolve() == self.data.path.resolve():
            return
        if not self._is_same(data):
            raise RunError(
                f"{data}: not the data of {self.path}, whose catalogue.parquet is another one; "
                f"it was in {self.data}"
            )
        self.update_notes(**self._place(data))

    @property
    def recipe_file(self) -> Path:
        """The recipe as TOML."""
        return self.path / "recipe.toml"

    def recipe_text(self) -> str:
        """Read the recipe as TOML. Raises RunError."""
        try:
            return self.recipe_file.read_text(encoding="utf-8")
        except OSError as error:
            raise RunError(
                f"{self.path} is not the folder of a run: recipe.toml cannot be read: {error}"
            ) from error

    def metrics(self) -> list[dict[str, float]]:
        """Read `metrics.csv`, one row an epoch; none before the first epoch has ended. Raises RunError."""
        path = self.metrics_file
        if not path.exists():
            return []
        remedy, rows = "copy it anew, or train again with `hubblefork train`", list[dict[str, float]]()
        try:
            with path.open(encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file):
                    numbers = {key: float(value) for key, value in row.items()}
                    rows.append(Fields(numbers, path, RunError, remedy))
        except (OSError, ValueError, TypeError, csv.Error) as error:
            raise RunError(f"{path} cannot be read: row {len(rows) + 1}: {error}; {remedy}") from error
        return rows

    def write_metrics(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Write `metrics.csv`. Raises DiskError."""
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.metrics_file, text.getvalue())

    @property
    def checkpoints(self) -> tuple[Path, Path]:
        """The state of training after the last epoch, and after the epoch before it."""
        return self.path / "last.ckpt", self.path / "previous.ckpt"

    @property
    def weights(self) -> Path:
        """The file of the weights."""
        return self.path / "weights.safetensors"

    @property
    def metrics_file(self) -> Path:
        """One row an epoch."""
        return self.path / "metrics.csv"

    @property
    def evaluation_file(self) -> Path:
        """What the predictions of a part are worth against its votes."""
        return self.path / "evaluation.json"

    def evaluation(self) -> dict[str, Any]:
        """Read `evaluation.json`. Raises RunError."""
        return read_json(self.evaluation_file, RunError, f"run `{self.evaluate_command()}` first")

    def is_evaluated(self) -> bool:
        """Whether `evaluation.json` is of these weights, one view and the part that is judged by default."""
        if not (self.evaluation_file.exists() and self.weights.exists()):
            return False
        made, part = self.evaluation(), self.split().judges[-1]
        found = [made.get(name) for name in ("weights", "views", "part")]
        return found == [digest_of(self.weights), 1, part]

    def predictions(self, part: str, views: int = 1) -> Path:
        """Return the file of the predictions of a part, made from so many views of each galaxy."""
        return self.path / "predictions" / named_by_views(f"{part}.parquet", views)

    def intervals(self, views: int = 1) -> Path:
        """Return the file of the conformal intervals for predictions from so many views."""
        return self.path / named_by_views("intervals.json", views)

    def confusions(self, views: int = 1) -> Path:
        """Return the file of completeness and false-positive rate, for predictions from so many views."""
        return self.path / named_by_views("completeness.json", views)

    def evaluate_command(self, views: int = 1) -> str:
        """Return the command that makes the predictions from so many views, and the intervals for them."""
        return evaluate_command(self.path, views)

    def judged(
        self,
        parts: str | Sequence[str] = (VALIDATION, TEST),
        *,
        views: int = 1,
        labels: Path | None = None,
        missing: Collection[float] = (),
        layout: str = "",
        tree: DecisionTree | None = None,
        weights: str = "",
    ) -> JudgedGalaxies:
        """Return the labelled galaxies of some parts with their predictions from so many views.

        What one view misses is not what the mean of several misses: a catalogue is calibrated by predictions
        made like its own. Labels are those of the run's data, or of a table `labels` in which the numbers
        `missing` stand for missing values and `layout` says which of several layouts is read. Training
        galaxies are never taken. `weights` is the SHA-256 of the weights that predicted what is to be
        corrected; galaxies of other weights are refused. Raises RunError where the folder is no run, no part
        is predicted, or the weights differ, CatalogueError for tables that cannot be read or have no galaxy
        in common.
        """
        data, tree = self.data, tree or self.tree()
        parts = (parts,) if isinstance(parts, str) else parts
        paths = [path for part in parts if (path := self.predictions(part, views)).exists()]
        if not paths:
            manner = f" from {views} views of each, as the catalogue is" if views > 1 else ""
            raise RunError(f"{self.path}: its {' and '.join(parts)} galaxies are not predicted yet{manner}")
        tables = [self._predicted(path, views, tree) for path in paths]
        digests = {weights_of(table) for table in tables}
        if len(digests) > 1:
            raise RunError(
                f"{self.path}: its {' and '.join(parts)} galaxies were predicted by different weights; "
                f"`{self.evaluate_command(views)}` predicts them anew"
            )
        check_weights(self.path, digests.pop(), weights, self.evaluate_command(views))
        predicted = pa.concat_tables(
            table.replace_schema_metadata(tables[0].schema.metadata) for table in tables
        )
        predicted = with_metadata(predicted, {"views": str(views)})
        trained = self.split().assign(galaxy_ids(predicted).tolist()) == TRAIN
        origin = f"{' and '.join(path.stem for path in paths)} galaxies of {self.path}"
        votes, said = (
            votes_in(labels, tree, missing=missing, layout=layout) if labels else (data.catalogue(), "")
        )
        origin, where = f"{origin}{said}", labels or data.catalogue_file
        return joined(predicted.filter(~trained), votes, tree, origin, where=where)

    def _predicted(self, path: Path, views: int, tree: DecisionTree) -> pa.Table:
        table = read_catalogue(path)
        check_viewing(table, str(path), self.evaluate_command(views))
        return with_fractions(table.select([ID]), fractions(table, tree), tree)

    def trained_on(self, catalogue: Catalogue, tree: DecisionTree) -> int:
        """Return how many of a catalogue's galaxies trained the run that predicted it.

        Raises RunError also where the run now has other weights than those that predicted it, CatalogueError.
        """
        head = head_of(catalogue)
        if weights_of(head) and self.weights.exists():
            remedy = self.evaluate_command(views_of(head))
            check_weights(self.path, digest_of(self.weights), weights_of(head), remedy)
        data = self.data.catalogue()
        ids = galaxy_ids(data)[labelled(data, tree)]
        return int(ids_among(catalogue, ids[self.split().assign(ids.tolist()) == TRAIN]).sum())


def named_run(table: pa.Table) -> Path:
    """Return the run that a catalogue of predictions names. Raises CatalogueError for one that names none."""
    run = metadata_of(table).get("run")
    if not run:
        raise CatalogueError("the catalogue names no run (metadata key `run`; CSV keeps none)")
    return Path(run)


def check_viewing(table: pa.Table, what: str, remedy: str) -> None:
    """Raise CatalogueError for predictions of a version that looked at galaxies in another way than this."""
    metadata = metadata_of(table)
    if "views" in metadata and metadata.get("viewing") != VIEWING:
        raise CatalogueError(
            f"{what}: predictions of an earlier hubblefork, which looked at galaxies in another way: {remedy}"
        )


def named_by_views(name: str, views: int) -> str:
    """Return a file's name for predictions from so many views: "test.csv" is "test-16-views.csv" for 16."""
    stem, dot, suffix = name.partition(".")
    return name if views == 1 else f"{stem}-{views}-views{dot}{suffix}"


def evaluate_command(run: Path | str, views: int = 1) -> str:
    """Return the command that makes a run's predictions from so many views, and its intervals for them."""
    return f"hubblefork evaluate {run}{f' --views {views}' if views > 1 else ''}"
