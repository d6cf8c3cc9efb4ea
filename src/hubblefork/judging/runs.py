"""A run judged: its predictions on galaxies it did not train on, against the volunteers and the baselines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hubblefork.errors import CatalogueError, RunError
from hubblefork.network.predict import predict_part
from hubblefork.network.runs import read_notes
from hubblefork.progress import Progress, silent
from hubblefork.science.evaluation import evaluate, evaluate_baselines, write_evaluation
from hubblefork.sky.catalogue import read_catalogue
from hubblefork.sky.split import Split, read_split
from hubblefork.zoo import load_tree


def evaluate_run(
    run: Path, part: str = "", *, device: str = "", progress: Progress = silent
) -> dict[str, Any]:
    """Judge a run on one part of its split; return what `evaluation.json` holds.

    Writes that file, and `predictions/validation.parquet` and `predictions/test.parquet`.

    `part` is "test" or "validation"; empty takes test, or validation when the split has no test
    galaxies (validation chose the weights, so its numbers flatter). Raises CatalogueError for
    another part or an empty one, RunError for a folder that holds no run.
    """
    split = read_split(run)
    part = _part(run, split, part)
    paths = {name: predict_part(run, name, device=device, progress=progress) for name in split.judges}
    volunteers = read_catalogue(Path(read_notes(run)["data"]) / "catalogue.parquet")
    rng = np.random.default_rng(0)
    found = evaluate(load_tree(), read_catalogue(paths[part]), volunteers, split, part, rng=rng)
    write_evaluation(found, run / "evaluation.json")
    return found


def baselines_of(place: Path, part: str = "") -> dict[str, Any]:
    """Judge the baselines alone, for the split of a data folder or of a run.

    `part` as for `evaluate_run`. Raises CatalogueError, RunError for a folder that is neither.
    """
    data = place if (place / "catalogue.parquet").exists() else _data_of(place)
    split = read_split(place)
    volunteers, rng = read_catalogue(data / "catalogue.parquet"), np.random.default_rng(0)
    return evaluate_baselines(load_tree(), volunteers, split, _part(place, split, part), rng=rng)


def _data_of(place: Path) -> Path:
    if not (place / "run.toml").exists():
        raise RunError(
            f"{place} is neither a data folder (catalogue.parquet) nor a run (run.toml): "
            "make one with `hubblefork ingest` or `hubblefork train`"
        )
    return Path(read_notes(place)["data"])


def _part(place: Path, split: Split, part: str) -> str:
    part = part or split.judges[-1]
    if part not in split.judges:
        raise CatalogueError(
            f'{place}: "{part}" is no part that can be judged on; '
            f"the split {split} has {', '.join(split.judges)}"
        )
    return part
