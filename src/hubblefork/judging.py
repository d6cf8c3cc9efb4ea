"""A run judged: its predictions on galaxies it did not train on, against the volunteers and the baselines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hubblefork.errors import CatalogueError
from hubblefork.network.predict import predict_part
from hubblefork.network.runs import read_notes
from hubblefork.progress import Progress, silent
from hubblefork.science.evaluation import evaluate, write_evaluation
from hubblefork.sky.catalogue import read_catalogue
from hubblefork.sky.split import TEST, VALIDATION, read_split
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
    parts = (VALIDATION, TEST) if split.test else (VALIDATION,)
    part = part or parts[-1]
    if part not in parts:
        raise CatalogueError(
            f'{run}: "{part}" is no part that this run can be judged on; '
            f"its split {split} has {', '.join(parts)}"
        )
    paths = {name: predict_part(run, name, device=device, progress=progress) for name in parts}
    volunteers = read_catalogue(Path(read_notes(run)["data"]) / "catalogue.parquet")
    rng = np.random.default_rng(0)
    found = evaluate(load_tree(), read_catalogue(paths[part]), volunteers, split, part, rng=rng)
    write_evaluation(found, run / "evaluation.json")
    return found
