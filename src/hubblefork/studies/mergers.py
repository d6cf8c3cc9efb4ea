"""The merger fraction proved on skies whose truth is known: recovery, coverage, and surveys that differ.

    training/ run/      a mock sky and a network trained on it
    pools/              mergers and other galaxies that it never saw, predicted once
    recovery/           realisations drawn from the pools, one file a fraction
    surveys/            skies seen worse than the training survey
    report/             the page

Every file is made once: the same command goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubblefork.data.catalogue import fractions, matched, read_catalogue
from hubblefork.data.folders import RunFolder
from hubblefork.data.ingest import ingest
from hubblefork.data.split import Split, write_split
from hubblefork.io import Progress, silent
from hubblefork.mock import write_mock_sky
from hubblefork.network.predict import predict, predict_part
from hubblefork.network.recipe import load_recipe
from hubblefork.network.training import train
from hubblefork.report.oldpage import write_page
from hubblefork.stats.detection import Calibration
from hubblefork.stats.estimators import Estimate, Unavailable
from hubblefork.stats.prevalence import Sample, estimate_all
from hubblefork.stats.shift import compare
from hubblefork.studies.injection import Pools, Scenario, run_scenario
from hubblefork.studies.mergers_page import Findings, sections
from hubblefork.studies.shift import reference, scores_of
from hubblefork.zoo import load_tree

THRESHOLD, CALIBRATION_FRACTION = 0.3, 0.06
IMAGES = "images_training_rev1.zip"
AS_TRAINED = "as trained"
DEGRADED: dict[str, dict[str, float]] = {
    AS_TRAINED: {},
    "seeing × 1.25": {"seeing": 1.25},
    "seeing × 1.5": {"seeing": 1.5},
    "seeing × 2": {"seeing": 2.0},
    "seeing × 4": {"seeing": 4.0},
    "noise × 1.5": {"noise": 1.5},
    "noise × 2": {"noise": 2.0},
    "noise × 3": {"noise": 3.0},
    "noise × 6": {"noise": 6.0},
    "pixels × 1.5": {"pixel": 1.5},
    "pixels × 2": {"pixel": 2.0},
    "pixels × 3": {"pixel": 3.0},
    "pixels × 6": {"pixel": 6.0},
}


@dataclass(frozen=True)
class Size:
    """How large the study is: galaxies of each sky, realisations, settings of the recipe lab-cnn."""

    training: int = 2500
    mergers: int = 1500
    others: int = 4500
    survey: int = 500
    realisations: int = 200
    settings: tuple[str, ...] = (
        "steps_per_epoch=0",
        "batch_size=32",
        "epochs=36",
        "plateau_patience=4",
        "seed=1",
    )


QUICK = Size(120, 60, 120, 64, 20, ("steps_per_epoch=0", "batch_size=16", "epochs=2", "seed=1"))


@dataclass(frozen=True)
class Truth:
    """A predicted sky: predicted fraction of "merger", the volunteers', and the truth, each (galaxy,)."""

    score: NDArray[np.float64]
    votes: NDArray[np.float64]
    is_merger: NDArray[np.bool_]


def run_mergers(
    out: Path,
    *,
    quick: bool = False,
    run: Path | None = None,
    device: str = "",
    processes: int | None = None,
    progress: Progress = silent,
) -> Path:
    """Run the study in a folder, or go on with it, and return its page.

    `quick` is for trying it out. `run` names another run, on real galaxies say: its labelled validation and
    test galaxies become pools of their own, with the volunteers' word as truth. Raises RunError,
    CatalogueError, DiskError.
    """
    size = QUICK if quick else Size()
    skies = _Skies(out, size, device, processes, progress)
    skies.train()
    scenarios = [*_mock_scenarios(skies), *([] if run is None else _labelled_scenarios(run))]
    recovery = {
        scenario: run_scenario(scenario, out / "recovery", realisations=size.realisations, progress=progress)
        for scenario in scenarios
    }
    surveys, scores = _surveys(skies)
    found = Findings(recovery, surveys, scores, AS_TRAINED, size.realisations, _known(out / "run", run))
    facts = {"size": asdict(size), "threshold": THRESHOLD}
    title, subtitle = "The merger fraction, proved", "Mergers put into mock skies and counted again"
    return write_page(out / "report", sections(found), title=title, subtitle=subtitle, facts=facts)


@dataclass(frozen=True)
class _Skies:
    """The skies of the study and the network that looks at them."""

    out: Path
    size: Size
    device: str
    processes: int | None
    progress: Progress

    @property
    def run(self) -> Path:
        return self.out / "run"

    def train(self) -> None:
        """Train on a sky that is rich in mergers, as training galaxies that somebody selected are."""
        sky, data = self.out / "training" / "sky", self.out / "training" / "data"
        self._draw(sky, self.size.training, seed=1, merger_fraction=0.12)
        ingest([sky], data, tree=load_tree(), progress=self.progress)
        write_split(Split(salt="merger-study", test=0, validation=20), data)
        recipe = load_recipe("lab-cnn", list(self.size.settings))
        train(data, recipe, self.run, device=self.device, progress=self.progress)
        _predict_validation(self.run, self.device, self.progress)

    def predicted(
        self, name: str, galaxies: int, *, seed: int, merger_fraction: float, **dials: float
    ) -> Truth:
        """Return a sky as the network sees it, drawn and predicted when that has not been done."""
        folder = self.out / name
        self._draw(folder, galaxies, seed=seed, merger_fraction=merger_fraction, **dials)
        if not (folder / "predictions.parquet").exists():
            predict(
                self.run, folder / IMAGES, folder / "predictions.parquet", device=self.device,
                progress=self.progress,
            )  # fmt: skip
        return _truth(folder)

    def _draw(self, folder: Path, galaxies: int, *, seed: int, **dials: float) -> None:
        if not (folder / "truth.parquet").exists():
            write_mock_sky(
                folder, galaxies=galaxies, test_galaxies=0, seed=seed, processes=self.processes,
                progress=self.progress, **dials,
            )  # fmt: skip


def _predict_validation(run: Path, device: str, progress: Progress) -> None:
    if not (run / "predictions" / "validation.parquet").exists():
        predict_part(run, "validation", device=device, progress=progress)


def _truth(folder: Path) -> Truth:
    tree = load_tree()
    column = tree.column("merger")
    predicted, truth = matched(
        read_catalogue(folder / "predictions.parquet"), read_catalogue(folder / "truth.parquet")
    )
    is_merger = truth.column("is_merger").to_numpy(zero_copy_only=False)
    return Truth(fractions(predicted, tree)[:, column], fractions(truth, tree)[:, column], is_merger)


def _mock_scenarios(skies: _Skies) -> list[Scenario]:
    mergers = skies.predicted("pools/mergers", skies.size.mergers, seed=2, merger_fraction=1.0)
    others = skies.predicted("pools/others", skies.size.others, seed=3, merger_fraction=0.0)
    pools = Pools(mergers.score, others.score)
    about = (
        f"Mock: {len(mergers.score):,} mergers and {len(others.score):,} other galaxies; a true one is a "
        f"true merger. Volunteers put {np.mean(mergers.votes >= THRESHOLD):.1%} of the mergers and "
        f"{np.nanmean(others.votes >= THRESHOLD):.2%} of the others at {THRESHOLD:g} or above."
    )
    return _both("mock", about, pools)


def _labelled_scenarios(run: Path) -> list[Scenario]:
    tree = load_tree()
    column, held = tree.column("merger"), RunFolder(run).judged(tree=tree)
    score, votes = held.predicted[:, column], held.volunteers[:, column]
    true = votes >= THRESHOLD
    pools = Pools(score[true], score[~np.isnan(votes) & ~true])
    about = (
        f"Labelled: {len(pools.true)} galaxies that volunteers put at {THRESHOLD:g} or above, "
        f"{len(pools.others):,} that they do not; none was trained on. A true one is one by the volunteers."
    )
    return _both("labelled", about, pools)


def _both(name: str, about: str, pools: Pools) -> list[Scenario]:
    shifted = f"calibrated at {CALIBRATION_FRACTION:g}"
    return [
        Scenario(f"{name}, same sky", about, pools, None),
        Scenario(f"{name}, {shifted}", about, pools, CALIBRATION_FRACTION),
    ]


def _surveys(skies: _Skies) -> tuple[dict[str, dict[str, Any]], dict[str, NDArray]]:
    """Return for every degraded sky what is found there, and the scores of its galaxies."""
    against = reference(skies.run, device=skies.device, progress=skies.progress)
    scores: dict[str, NDArray] = {"held out": against.held_out}
    known = _calibration(skies)
    found = {}
    for name, dials in DEGRADED.items():
        folder = "surveys/" + name.replace(" × ", "-").replace(" ", "-")
        sky = skies.predicted(folder, skies.size.survey, seed=4, merger_fraction=0.1, **dials)
        _, scores[name] = scores_of(
            skies.out / folder / IMAGES, against, device=skies.device, progress=skies.progress
        )
        found[name] = {**_fractions(sky, known), **_comparison(scores[name], against.held_out)}
    return found, scores


def _calibration(skies: _Skies) -> Calibration:
    """Return galaxies of the training survey, a tenth of them mergers, with the truth about them."""
    pools = (
        skies.predicted("pools/mergers", skies.size.mergers, seed=2, merger_fraction=1.0),
        skies.predicted("pools/others", skies.size.others, seed=3, merger_fraction=0.0),
    )
    mergers = pools[0].score[: len(pools[1].score) // 9]
    score = np.concatenate([mergers, pools[1].score])
    return Calibration(score >= THRESHOLD, np.arange(len(score)) < len(mergers), score, "training survey")


def _fractions(sky: Truth, known: Calibration) -> dict[str, Any]:
    sample = Sample(sky.score >= THRESHOLD, sky.score)
    estimators = estimate_all(sample, known, rng=np.random.default_rng(0), resamples=50)
    here = Calibration(sample.counts, sky.is_merger).confusion()
    return {
        "true": float(sky.is_merger.mean()),
        "completeness": here.completeness,
        "false_positive_rate": here.false_positive_rate,
        **{name: _bounds(estimators[name]) for name in ("count", "corrected")},
    }


def _bounds(one: Estimate | Unavailable) -> dict[str, float]:
    if isinstance(one, Unavailable):
        return {"value": float("nan"), "low": float("nan"), "high": float("nan")}
    return {"value": one.value, "low": one.low, "high": one.high}


def _comparison(scores: NDArray, held_out: NDArray) -> dict[str, Any]:
    found = compare(scores, held_out)
    return {**asdict(found), "shifted": found.shifted}


def _known(mock: Path, run: Path | None) -> Mapping[str, tuple[NDArray, NDArray]]:
    """Return predicted and volunteers' fractions of "merger" of labelled galaxies off training, by title."""
    tree = load_tree()
    column = tree.column("merger")
    found = {}
    for title, folder in {"mock sky": mock, **({} if run is None else {"labelled galaxies": run})}.items():
        held = RunFolder(folder).judged(tree=tree)
        there = ~np.isnan(held.volunteers[:, column])
        found[title] = held.predicted[there, column], held.volunteers[there, column]
    return found
