"""Prediction: a trained network and images in, a catalogue of joint fractions out.

From a data folder the stamps are taken (made when missing); from archives and folders of images
they stream past, nothing kept, and finished parts of the catalogue lie beside the output until it is
whole, so that an interrupted prediction goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import torch
from numpy.typing import NDArray
from torch import Tensor

from hubblefork import __version__
from hubblefork.data.archives import open_source
from hubblefork.data.catalogue import (
    ID,
    check_format,
    galaxy_ids,
    read_catalogue,
    with_fractions,
    with_metadata,
    write_catalogue,
    write_pieces,
)
from hubblefork.data.split import VIEWING, predictions_file, read_split
from hubblefork.data.stamps import prepare, stream
from hubblefork.errors import CatalogueError, ImageError, RunError
from hubblefork.io import Progress, replacing, silent
from hubblefork.network import runs
from hubblefork.network.augment import even_views
from hubblefork.network.device import autocast, best_device, keep_freed_memory, precision_of
from hubblefork.network.folding import folded
from hubblefork.network.model import VoteFractions
from hubblefork.network.parts import Parts
from hubblefork.network.recipe import Recipe
from hubblefork.zoo import DecisionTree

BATCH = 256
PART = 4096


class Predictor:
    """Trained networks on a device: stamps (galaxy, y, x, band) uint8 in, joint fractions out.

    The fractions are the mean over all networks and over `views` of each galaxy: rotations around the
    circle, every other one mirrored; a network that never saw a galaxy unturned does not see one now.
    Raises RunError for networks that need other stamps or answer another tree than the first, and for a
    number of views that is neither 1 nor even.
    """

    def __init__(self, *members: runs.Weights, device: str = "", views: int = 1) -> None:
        keep_freed_memory()
        check_views(views)
        _check_members(members)
        self.device = torch.device(device) if device else best_device()
        self.views = views
        self.members = [(self._made_ready(member), member.recipe) for member in members]

    @torch.inference_mode()
    def __call__(self, stamps: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the joint fractions (galaxy, answer) of one batch of stamps."""
        pixels = torch.from_numpy(np.ascontiguousarray(stamps)).to(self.device)
        fractions = [self._seen(network, recipe, pixels) for network, recipe in self.members]
        return torch.stack(fractions).mean(dim=0).cpu().numpy()

    def _made_ready(self, member: runs.Weights) -> VoteFractions:
        return folded(member.network.to(self.device).eval(), member.recipe.input_size)

    def _seen(self, network: VoteFractions, recipe: Recipe, pixels: Tensor) -> Tensor:
        with autocast(self.device, precision_of(recipe.precision, self.device).name):
            views = even_views(pixels, recipe.input_size, self.views, recipe.augmentation)
            return torch.stack([network(view) for view in views]).mean(dim=0)


def check_views(views: int) -> None:
    """Raise RunError for a number of views that is neither 1 nor even."""
    if views < 1 or (views > 1 and views % 2):
        raise RunError(f"views = {views}: 1, or an even number (half of them are mirrored), such as 16")


def _check_members(members: Sequence[runs.Weights]) -> None:
    first = members[0]
    for member in members[1:]:
        if member.recipe.stamps != first.recipe.stamps or member.tree != first.tree:
            raise RunError(
                f"networks that predict together must see the same stamps and answer the same tree: "
                f"{member.recipe.name} has {member.recipe.stamps} and {member.tree.name}, "
                f"{first.recipe.name} {first.recipe.stamps} and {first.tree.name}"
            )


@dataclass(frozen=True)
class Predicted:
    """What a prediction came to: where it was written, of how many galaxies, what was unreadable."""

    path: Path
    galaxies: int
    rejects: list[tuple[str, str]] = field(default_factory=list)


def predict_part(
    run: Path, part: str, *, views: int = 1, device: str = "", progress: Progress = silent
) -> Path:
    """Predict the labelled and unlabelled galaxies of one part of a run's own split and data.

    Writes `predictions/<part>.parquet` in the run folder (`<part>-<views>-views.parquet` where `views` of
    each galaxy are averaged) and returns its path. Raises CatalogueError when the part is empty.
    """
    weights = runs.load_weights(run)
    ids, rows, pixels = stamps_of_part(run, part, weights, progress=progress)
    predictor = Predictor(weights, device=device, views=views)
    values = in_batches(predictor, pixels, rows, f"predicting {part}", progress)
    path = predictions_file(run, part, views)
    write_catalogue(_signed(with_fractions(ids, values, weights.tree), [weights], [run], views), path)
    return path


def stamps_of_part(
    run: Path, part: str, weights: runs.Weights, *, progress: Progress = silent
) -> tuple[pa.Table, NDArray[np.intp], NDArray[np.uint8]]:
    """Return ids and rows of the galaxies of one part, and the stamps of all galaxies of the run's data.

    Raises CatalogueError when the part is empty.
    """
    data = Path(runs.read_notes(run)["data"])
    ids = read_catalogue(data / "catalogue.parquet").select([ID])
    rows = np.flatnonzero(read_split(run).assign(galaxy_ids(ids)) == part)
    if not len(rows):
        raise CatalogueError(f"{run}: no galaxy of {data} is in its {part} part")
    return ids.take(rows), rows, prepare(data, weights.recipe.stamps, progress=progress).pixels


def predict(
    run: Path,
    source: Path | str | Sequence[Path],
    out: Path,
    *,
    others: Sequence[Path] = (),
    views: int = 1,
    kaggle: bool = False,
    adding: Callable[[pa.Table], pa.Table] | None = None,
    device: str = "",
    progress: Progress = silent,
) -> Predicted:
    """Predict every image of a data folder, or of some archives and folders of images, into a catalogue.

    `run` is a run folder or a .safetensors file; with `others` their mean is predicted, and with `views` the
    mean over so many views of each galaxy. The format follows the suffix of `out` (.parquet,
    .csv, .fits, .vot); `kaggle` names the columns as Kaggle's submissions do (GalaxyID, Class1.1 …).
    `adding` is given the catalogue, a piece at a time, and returns it with more columns
    (`judging.adding_bounds`). Images that cannot be read are listed in `<out>.rejects.csv`. Raises RunError,
    ImageError, CatalogueError, DiskError.
    """
    check_format(out)
    if kaggle and adding:
        raise CatalogueError("Kaggle's submissions have no columns for intervals: ask for one or the other")
    sources = [Path(source)] if isinstance(source, str | Path) else list(source)
    if not sources:
        raise ImageError("no archive or folder of images was named: name at least one")
    members = [runs.load_weights(place) for place in (run, *others)]
    predictor, tree = Predictor(*members, device=device, views=views), members[0].tree

    def finished(table: pa.Table) -> pa.Table:
        if kaggle:
            return kaggle_names(table, tree)
        signed = _signed(table, members, [run, *others], views)
        return adding(signed) if adding else signed

    if _is_data(sources):
        table = _predict_data(predictor, members[0], sources[0], progress)
        return _written(iter([finished(table)]), out, len(table), [])
    parts = Parts.opened(out, [*(member.digest for member in members), str(views), VIEWING])
    defects = [
        defect
        for place in sources
        for defect in _predict_images(predictor, members[0], place, parts, progress)
    ]
    whole = parts.whole(sources)
    rejects = whole.rejects + defects
    if not len(whole):
        raise ImageError(
            f"{sources[0]}: none of its {len(rejects)} images could be read; the first: {rejects[0][1]}"
        )
    made = _written(map(finished, whole.tables(tree)), out, len(whole), rejects)
    parts.remove()
    return made


def _is_data(sources: Sequence[Path]) -> bool:
    """Say whether it is a data folder that is to be predicted. Raises ImageError for one among others."""
    data = [place for place in sources if (place / "catalogue.parquet").exists()]
    if data and len(sources) > 1:
        raise ImageError(f"{data[0]} is a data folder: it is predicted by itself, without other sources")
    return bool(data)


def _written(
    tables: Iterator[pa.Table], out: Path, galaxies: int, rejects: list[tuple[str, str]]
) -> Predicted:
    write_pieces(tables, out)
    _write_rejects(out, rejects)
    return Predicted(out, galaxies, rejects)


def _predict_data(predictor: Predictor, weights: runs.Weights, data: Path, progress: Progress) -> pa.Table:
    catalogue = read_catalogue(data / "catalogue.parquet")
    pixels = prepare(data, weights.recipe.stamps, progress=progress).pixels
    values = in_batches(predictor, pixels, np.arange(len(catalogue)), "predicting", progress)
    return with_fractions(catalogue.select([ID]), values, weights.tree)


def in_batches(
    compute: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    pixels: NDArray[np.uint8],
    rows: NDArray[np.intp],
    what: str,
    progress: Progress,
) -> NDArray[np.float32]:
    """Compute something of the stamps in some rows, a batch at a time: (galaxy, …)."""
    values = []
    with progress(what, len(rows)) as advance:
        for start in range(0, len(rows), BATCH):
            chosen = rows[start : start + BATCH]
            values.append(compute(pixels[chosen]))
            advance(len(chosen))
    return np.concatenate(values)


def _predict_images(
    predictor: Predictor, weights: runs.Weights, source: Path, parts: Parts, progress: Progress
) -> list[tuple[str, str]]:
    """Predict what is left of an archive or a folder into parts; return what is wrong with it as a whole."""
    with open_source(source) as images:
        names, defects = images.names(), [(defect.member, str(defect)) for defect in images.defects]
    if not names:
        raise ImageError(f"{source}: there are no images in it (.jpg, .jpeg, .png)")
    done = parts.done(source)
    left = [name for name in names if name not in done]
    with progress(f"predicting {source.name}", len(names), len(names) - len(left)) as advance:
        stamps = stream(source, weights.recipe.stamps, names=left)
        while some := list(islice(stamps, PART)):
            parts.add(source, *predict_members(predictor, some))
            advance(len(some))
    return defects


def predict_members(
    predictor: Predictor, members: list[tuple[str, NDArray[np.uint8] | ImageError]]
) -> tuple[list[str], NDArray[np.float32], list[tuple[str, str]]]:
    """Predict the images that gave stamps; return their names and fractions, and the others with the reason.

    The fractions have the shape (galaxy, answer); (0, 0) where no image gave a stamp.
    """
    good = [(name, stamp) for name, stamp in members if not isinstance(stamp, ImageError)]
    rejects = [(name, str(stamp)) for name, stamp in members if isinstance(stamp, ImageError)]
    batches = (good[start : start + BATCH] for start in range(0, len(good), BATCH))
    values = [predictor(np.stack([stamp for _, stamp in batch])) for batch in batches]
    none = np.empty((0, 0), np.float32)
    return [name for name, _ in good], np.concatenate(values) if values else none, rejects


def _signed(table: pa.Table, members: Sequence[runs.Weights], places: Sequence[Path], views: int) -> pa.Table:
    weights = members[0]
    return with_metadata(
        table,
        {
            "run": " ".join(str(place) for place in places),
            "recipe": weights.recipe.name,
            "tree": weights.tree.name,
            "views": str(views),
            "viewing": VIEWING,
            "quantity": "joint_fraction",
            "version": __version__,
        },
    )


def kaggle_names(table: pa.Table, tree: DecisionTree) -> pa.Table:
    """Return a catalogue of ids and fractions under the names of Kaggle's submissions."""
    return table.rename_columns(["GalaxyID", *tree.source_columns])


def _write_rejects(out: Path, rejects: list[tuple[str, str]]) -> None:
    path = out.with_name(f"{out.name}.rejects.csv")
    if rejects:
        members, reasons = zip(*rejects, strict=True)
        with replacing(path) as temporary:
            pa.csv.write_csv(pa.table({"member": list(members), "reason": list(reasons)}), temporary)
    else:
        path.unlink(missing_ok=True)
