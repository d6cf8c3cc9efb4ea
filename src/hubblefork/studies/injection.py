"""Injection and recovery: estimators on surveys that are drawn with a known fraction of true galaxies.

Galaxies come from two pools, true ones and others; the network trained on none of them. A realisation draws
a survey with the fraction put in, and calibration galaxies with a fraction of their own, both with
replacement. The pools are the population: the true fraction is exact and the draws are independent.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubblefork.errors import CatalogueError
from hubblefork.io import Progress, silent, write_text
from hubblefork.stats.detection import Calibration
from hubblefork.stats.estimators import Estimate, Sums
from hubblefork.stats.prevalence import estimate_all

FRACTIONS = (0.005, 0.01, 0.03, 0.08, 0.2)
LEVELS = (0.68, 0.95)
BOOTSTRAPS = 80


@dataclass(frozen=True, eq=False)
class Pools:
    """Predicted fractions of true galaxies and of others, each (galaxy,). Raises CatalogueError for none."""

    true: NDArray[np.float64]
    others: NDArray[np.float64]

    def __post_init__(self) -> None:
        if not len(self.true) or not len(self.others):
            raise CatalogueError(f"pools of {len(self.true)} and {len(self.others)} galaxies: one is empty")

    def drawn(
        self, galaxies: int, fraction: float, rng: np.random.Generator
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Draw galaxies, each true with the given chance: predicted fractions and truth."""
        truth = rng.random(galaxies) < fraction
        score = np.where(truth, rng.choice(self.true, galaxies), rng.choice(self.others, galaxies))
        return score, truth


@dataclass(frozen=True, eq=False)
class Scenario:
    """Pools, and how large a calibration sample is drawn with which fraction; None: the survey's own."""

    name: str
    pools: Pools
    calibration_fraction: float | None
    survey_galaxies: int = 2000
    calibration_galaxies: int = 1400
    threshold: float = 0.3

    @property
    def slug(self) -> str:
        """A name for files, another one when the galaxies of the pools are others."""
        galaxies = np.concatenate([self.pools.true, self.pools.others]).tobytes()
        digest = hashlib.sha256(galaxies).hexdigest()[:8]
        return f"{self.name.replace(',', '').replace(' ', '-')}-{digest}"


def recovered(
    scenario: Scenario, fraction: float, realisations: int, *, seed: int
) -> dict[str, dict[str, list[Any]]]:
    """Return the value of every estimator, and the coverage and width of its intervals.

    By estimator: "value" and, for each level, "covers_0.68" (whether the interval has the fraction put in)
    and "width_0.68", one entry for each realisation; None where the estimator was unavailable.
    """
    columns: dict[str, dict[str, list[Any]]] = {}
    put_in = fraction if scenario.calibration_fraction is None else scenario.calibration_fraction
    for number in range(realisations):
        rng = np.random.default_rng([seed, round(1e6 * fraction), number])
        known, truth = scenario.pools.drawn(scenario.calibration_galaxies, put_in, rng)
        score, _ = scenario.pools.drawn(scenario.survey_galaxies, fraction, rng)
        sums = Sums.of(score >= scenario.threshold, score, known=known)
        calibration = Calibration(known >= scenario.threshold, truth, known, scenario.name)
        for level in LEVELS:
            estimates = estimate_all(sums, calibration, rng=rng, level=level, resamples=BOOTSTRAPS)
            for name, result in estimates.items():
                estimate = result if isinstance(result, Estimate) else None
                entries = {
                    f"covers_{level:.2f}": estimate and estimate.low <= fraction <= estimate.high,
                    f"width_{level:.2f}": estimate and estimate.high - estimate.low,
                }
                if level == LEVELS[-1]:
                    entries["value"] = estimate and estimate.value
                for key, value in entries.items():
                    columns.setdefault(name, {}).setdefault(key, []).append(value)
    return columns


def summary(fraction: float, columns: dict[str, list[Any]]) -> dict[str, Any]:
    """Return bias and coverage of one estimator at one fraction, with their Monte Carlo errors."""
    values = np.array([value for value in columns["value"] if value is not None], dtype=float)
    result: dict[str, Any] = {"fraction": fraction, "realisations": len(values), "of": len(columns["value"])}
    if not len(values):
        return result
    result |= {"mean": values.mean(), "median": np.median(values), "sd": values.std()}
    result |= {"bias": values.mean() - fraction, "bias_error": values.std() / np.sqrt(len(values))}
    for level in LEVELS:
        covers = [value for value in columns[f"covers_{level:.2f}"] if value is not None]
        widths = [value for value in columns[f"width_{level:.2f}"] if value is not None]
        error = np.sqrt(level * (1 - level) / len(covers))
        result |= {f"coverage_{level:.0%}": np.mean(covers), f"coverage_error_{level:.0%}": error}
        result |= {f"width_{level:.0%}": np.median(widths)}
    return result


def halved(
    score: NDArray, truth: NDArray, *, threshold: float, splits: int
) -> dict[str, tuple[float, float]]:
    """Calibrate on one random half of labelled galaxies, count in the other; `splits` times.

    Returns for each estimator that is always to be had the mean of its value minus the other half's own true
    share, and the standard deviation of that difference. `score` and `truth` have shape (galaxy,).
    """
    apart: dict[str, list[float]] = {}
    for number in range(splits):
        rng = np.random.default_rng([0, number])
        here, there = np.array_split(rng.permutation(len(score)), 2)
        calibration = Calibration(score[there] >= threshold, truth[there], score[there])
        sums = Sums.of(score[here] >= threshold, score[here], known=calibration.score)
        for name, estimate in estimate_all(sums, calibration, rng=rng, resamples=1).items():
            if isinstance(estimate, Estimate):
                apart.setdefault(name, []).append(estimate.value - truth[here].mean())
    whole = {name: values for name, values in apart.items() if len(values) == splits}
    return {name: (float(np.mean(values)), float(np.std(values))) for name, values in whole.items()}


def run_scenario(
    scenario: Scenario,
    folder: Path,
    *,
    realisations: int,
    fractions: Sequence[float] = FRACTIONS,
    progress: Progress = silent,
) -> dict[str, list[dict[str, Any]]]:
    """Return the summaries of every estimator at every fraction; what is finished is read from `folder`."""
    summaries_of: dict[str, list[dict[str, Any]]] = {}
    with progress(scenario.name, len(fractions)) as advance:
        for fraction in fractions:
            path = folder / f"{scenario.slug}-{fraction:g}-{realisations}.json"
            if not path.exists():
                estimators = recovered(scenario, fraction, realisations, seed=0)
                summaries = {name: summary(fraction, columns) for name, columns in estimators.items()}
                write_text(path, json.dumps(summaries, indent=1, default=float) + "\n")
            for name, entry in json.loads(path.read_text(encoding="utf-8")).items():
                summaries_of.setdefault(name, []).append(entry)
            advance(1)
    return summaries_of
