"""The whole job on a sky whose truth is known: mock, ingest, train, evaluate, predict, mergers, report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hubblefork.api.runs import evaluate_run
from hubblefork.data.catalogue import fractions, matched, read_catalogue
from hubblefork.data.folders import RunFolder
from hubblefork.data.ingest import ingest
from hubblefork.data.split import Split, write_split
from hubblefork.io import Progress, silent
from hubblefork.mock import write_mock_sky
from hubblefork.network.predict import predict
from hubblefork.network.recipe import load_recipe
from hubblefork.network.training import train
from hubblefork.report import write_report
from hubblefork.stats.estimators import Count, Estimate, count_above
from hubblefork.stats.prevalence import fraction
from hubblefork.zoo import load_tree

SETTINGS = ("steps_per_epoch=0", "batch_size=32", "epochs=36", "plateau_patience=4")


@dataclass(frozen=True)
class DemoSummary:
    """What the demo found: errors, and the merger fraction counted, corrected, by votes and in truth."""

    evaluation: dict[str, Any]
    predicted: Count
    corrected: Estimate
    voted: Count
    true_fraction: float
    report: Path

    def __str__(self) -> str:
        """Return a few lines for the terminal."""
        rmse, mean = self.evaluation["rmse"], self.evaluation["baselines"]["mean_vote"]["rmse"]
        low, high = rmse["interval_95"]
        counted = f"{self.predicted.total} unlabelled galaxies at ≥ {self.predicted.threshold:g}"
        return (
            f"RMSE on {self.evaluation['galaxies']} test galaxies: {rmse['value']:.4f} "
            f"({low:.4f}–{high:.4f}); the mean vote has {mean['value']:.4f}\n"
            f"Merger fraction of {counted}: counted {_text(self.predicted)}, "
            f"corrected {_text(self.corrected)}, by votes {_text(self.voted)}; "
            f"true mergers {self.true_fraction:.4f}\n"
            f"Report: {self.report}"
        )


def run_demo(
    out: Path, *, galaxies: int, seed: int, settings: Sequence[str] = SETTINGS, progress: Progress = silent
) -> DemoSummary:
    """Run every stage on a mock sky in a folder; called again it goes on where it stopped.

    `settings` override fields of the recipe lab-cnn, as `key=value`.
    """
    sky, data, run, predictions = (
        out / "sky",
        out / "data",
        out / "runs" / "lab-cnn",
        out / "predictions.parquet",
    )
    if not (sky / "truth.parquet").exists():
        write_mock_sky(sky, galaxies=galaxies, seed=seed, progress=progress)
    ingest([sky], data, tree=load_tree(), progress=progress)
    write_split(Split(salt="demo", test=20, validation=15), data)
    train(data, load_recipe("lab-cnn", [*settings, f"seed={seed}"]), run, progress=progress)
    evaluation = evaluate_run(run, progress=progress)
    predict(run, sky / "images_test_rev1.zip", predictions, progress=progress)
    found, voted, true_fraction = _mergers(predictions, sky / "truth.parquet")
    corrected = _corrected(run, predictions)
    page = write_report(run, predictions=predictions, progress=progress)
    return DemoSummary(evaluation, found, corrected, voted, true_fraction, page)


def _mergers(predictions: Path, truth: Path) -> tuple[Count, Count, float]:
    tree = load_tree()
    found, true = matched(read_catalogue(predictions), read_catalogue(truth))
    predicted, voted = (count_above(tree, fractions(table, tree)) for table in (found, true))
    return predicted, voted, float(np.mean(true.column("is_merger").to_numpy(zero_copy_only=False)))


def _corrected(run: Path, predictions: Path) -> Estimate:
    tree, table = load_tree(), read_catalogue(predictions)
    return fraction(table, judged=RunFolder(run).judged(tree=tree), tree=tree).estimate


def _text(one: Count | Estimate) -> str:
    return f"{one.value:.4f} ({one.low:.4f}–{one.high:.4f})"
