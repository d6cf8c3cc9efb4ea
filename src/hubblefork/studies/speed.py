"""How fast a trained network predicts, timed once and kept."""

from __future__ import annotations

import time
import tomllib
from pathlib import Path

import numpy as np
import tomli_w

from hubblefork.data.stamps import prepare
from hubblefork.io import write_text
from hubblefork.network import runs
from hubblefork.network.predict import Predictor

TIMED, TIMED_BATCHES = 128, 3


def predicting_speed(run: Path, data: Path, path: Path, *, device: str = "") -> float:
    """Return how many galaxies a second a run predicts once it is loaded, one view each.

    Timed the first time, on stamps of a data folder, and then read from `path`.
    """
    if not path.exists():
        predictor = Predictor(runs.load_weights(run), device=device)
        pixels = np.array(prepare(data, runs.read_recipe(run).stamps).pixels[:TIMED])
        predictor(pixels)
        began = time.perf_counter()
        for _ in range(TIMED_BATCHES):
            predictor(pixels)
        speed = TIMED_BATCHES * len(pixels) / (time.perf_counter() - began)
        write_text(path, tomli_w.dumps({"galaxies_per_second": speed, "batch": len(pixels)}))
    return float(tomllib.loads(path.read_text(encoding="utf-8"))["galaxies_per_second"])
