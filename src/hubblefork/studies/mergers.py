"""The merger fraction tested on skies whose truth is known: recovery, coverage, and surveys that differ.

    training/ run/      a mock sky and a network trained on it
    pools/              mergers and other galaxies, not trained on, predicted once
    recovery/           realisations drawn from the pools, one file a fraction
    surveys/            skies seen worse than the training survey
    report/             the page

Every file is made once: the same command goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubblefork.data.folders import RunFolder
from hubblefork.data.ingest import ingest
from hubblefork.data.split import Split, write_split
from hubblefork.io import Progress, silent
from hubblefork.mock import write_mock_sky
from hubblefork.network.device import Hardware, device_of
from hubblefork.network.finetuning import finetune_folder
from hubblefork.network.recipe import load_recipe
from hubblefork.network.training import train
from hubblefork.network.weights import load_weights
from hubblefork.pages.fractions import (
    bias_of_estimators,
    coverage_of_intervals,
    degraded_surveys,
    regression_to_the_mean,
)
from hubblefork.pages.page import Page
from hubblefork.pages.tables import Column, Table
from hubblefork.prediction.output import predict
from hubblefork.prediction.runs import predict_part
from hubblefork.stats.detection import Calibration
from hubblefork.stats.estimators import LABELS, Sums
from hubblefork.stats.prevalence import estimate_all
from hubblefork.stats.rates import UNCALIBRATED
from hubblefork.stats.samples import compare
from hubblefork.studies.injection import Pools, Scenario, halved, run_scenario
from hubblefork.studies.shift import reference, scores_of
from hubblefork.tables.catalogue import fractions, matched, read_catalogue
from hubblefork.zoo import load_tree

THRESHOLD, CALIBRATION_FRACTION, SPLITS = 0.3, 0.06, 200
IMAGES = "images_training_rev1.zip"
AS_TRAINED, HELD_OUT = "as trained", "held out"
DEGRADED: dict[str, dict[str, float]] = {
    AS_TRAINED: {},
    **{f"seeing × {factor:g}": {"seeing": factor} for factor in (1.25, 1.5, 2.0, 4.0)},
    **{f"noise × {factor:g}": {"noise": factor} for factor in (1.5, 2.0, 3.0, 6.0)},
    **{f"pixels × {factor:g}": {"pixel": factor} for factor in (1.5, 2.0, 3.0, 6.0)},
}
LONG = ("steps_per_epoch=0", "batch_size=32", "epochs=36", "plateau_patience=4", "seed=1")
Summaries = Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True)
class Size:
    """How large the study is: galaxies of each sky, realisations, settings of the training.

    With a `start` that trained network is fine-tuned; else lab-cnn is trained.
    """

    training: int = 2500
    mergers: int = 1500
    others: int = 4500
    survey: int = 500
    realisations: int = 200
    settings: tuple[str, ...] = LONG
    start: str = ""


QUICK = Size(120, 60, 120, 64, 20, ("epochs=1",), start="fork-fast")


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

    `quick`: small skies, few realisations. `run` is another run, on real galaxies for example: its labelled
    validation and test galaxies become pools of their own, with the votes as truth. Raises RunError,
    CatalogueError, DiskError.
    """
    device_of(device)
    real = None if run is None else _held_out(run)
    size = QUICK if quick else Size()
    skies = _Skies(out, size, device, processes, progress)
    skies.train()
    sky = skies.pools()
    labelled = {"mock sky": _held_out(skies.run)}
    pools = {"mock": Pools(sky["mergers"].score, sky["others"].score)}
    if real is not None:
        labelled["labelled galaxies"] = score, votes = real
        pools["labelled"] = Pools(score[votes >= THRESHOLD], score[votes < THRESHOLD])
    scenarios = [
        Scenario(f"{name}, {manner}", pool, fraction)
        for name, pool in pools.items()
        for manner, fraction in (
            ("same sky", None),
            (f"calibrated at {CALIBRATION_FRACTION:g}", CALIBRATION_FRACTION),
        )
    ]
    recovery = {
        scenario: run_scenario(scenario, out / "recovery", realisations=size.realisations, progress=progress)
        for scenario in scenarios
    }
    page = Page(out / "report")
    _recovery(page, recovery)
    return page.write(
        "mergers.md.j2",
        title="The merger fraction, tested",
        subtitle="Mergers put into mock skies and counted again",
        facts={"size": asdict(size), "threshold": THRESHOLD},
        size=size,
        threshold=THRESHOLD,
        scenario=scenarios[0],
        scenarios=scenarios,
        pools=pools,
        votes_reach={name: float(np.mean(pool.votes >= THRESHOLD)) for name, pool in sky.items()},
        regression={
            title: _regression(page, title, score, votes)
            for title, (score, votes) in labelled.items()
            if (votes >= THRESHOLD).any()
        },
        uncalibrated=UNCALIBRATED,
        warned=_surveys(page, skies, sky),
        as_trained=AS_TRAINED,
    )


class _Skies:
    """The skies of the study and the network that predicts them."""

    def __init__(self, out: Path, size: Size, device: str, processes: int | None, progress: Progress) -> None:
        self.out, self.size, self.run = out, size, out / "run"
        self.how: Any = {"device": device, "progress": progress}
        self.processes, self.progress = processes, progress

    def train(self) -> None:
        """Train on a sky that is rich in mergers, as selected training galaxies are."""
        sky, data = self.out / "training" / "sky", self.out / "training" / "data"
        self._draw(sky, self.size.training, seed=1, merger_fraction=0.12)
        ingest([sky], data, tree=load_tree(), progress=self.progress)
        split, settings = Split(salt="merger-study", test=0, validation=20), list(self.size.settings)
        write_split(split, data)
        if self.size.start:
            weights, hardware = load_weights(Path(self.size.start)), Hardware(self.how["device"])
            how: Any = {"settings": settings, "hardware": hardware, "progress": self.progress}
            finetune_folder(weights, data, self.run, split=split, **how)
        else:
            train(data, load_recipe("lab-cnn", settings), self.run, **self.how)
        if not RunFolder(self.run).predictions("validation").exists():
            predict_part(self.run, "validation", **self.how)

    def pools(self) -> dict[str, Truth]:
        """Return a sky of mergers and one of other galaxies."""
        return {
            "mergers": self.predicted("pools/mergers", self.size.mergers, seed=2, merger_fraction=1.0),
            "others": self.predicted("pools/others", self.size.others, seed=3, merger_fraction=0.0),
        }

    def predicted(self, name: str, galaxies: int, **settings: Any) -> Truth:
        """Return a predicted sky; draw and predict it where that has not been done."""
        folder = self.out / name
        self._draw(folder, galaxies, **settings)
        path = folder / "predictions.parquet"
        if not path.exists():
            predict(self.run, folder / IMAGES, path, **self.how)
        tree = load_tree()
        predicted, truth = matched(read_catalogue(path), read_catalogue(folder / "truth.parquet"))
        column, is_merger = tree.column("merger"), truth.column("is_merger").to_numpy(zero_copy_only=False)
        return Truth(fractions(predicted, tree)[:, column], fractions(truth, tree)[:, column], is_merger)

    def _draw(self, folder: Path, galaxies: int, **settings: Any) -> None:
        if not (folder / "truth.parquet").exists():
            how: Any = {"processes": self.processes, "progress": self.progress}
            write_mock_sky(folder, galaxies=galaxies, test_galaxies=0, **settings, **how)


def _held_out(run: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return predicted and volunteers' fractions of "merger" of a run's labelled galaxies off training."""
    tree = load_tree()
    column, held_out = tree.column("merger"), RunFolder(run).judged(tree=tree)
    asked = ~np.isnan(held_out.volunteers[:, column])
    return held_out.predicted[asked, column], held_out.volunteers[asked, column]


def _regression(page: Page, title: str, score: NDArray, votes: NDArray) -> dict[str, Any]:
    """Add votes against predictions, and the estimators on random halves of the galaxies."""
    slug = title.replace(" ", "-")
    galaxies = Calibration(score >= THRESHOLD, votes >= THRESHOLD, score, title)
    page.figure(f"regression-{slug}", *regression_to_the_mean(galaxies, votes, threshold=THRESHOLD))
    halves = halved(score, galaxies.truth, threshold=THRESHOLD, splits=SPLITS)
    columns: list[Column] = [
        ("estimator", "", LABELS.__getitem__),
        ("mean", itemgetter(0), "+.4f"),
        ("s.d.", itemgetter(1), ".4f"),
    ]
    shown = {name: found for name, found in halves.items() if name != "sum"}
    page.table(f"halves-{slug}", Table.of(shown, columns, numbers=halves))
    return {
        "slug": slug,
        "galaxies": len(votes),
        "predicted_sd": score.std(),
        "votes_sd": votes.std(),
        "by_votes": galaxies.truth.mean(),
        "by_predictions": galaxies.counts.mean(),
    }


def _recovery(page: Page, recovery: Mapping[Scenario, Summaries]) -> None:
    """Add bias, coverage and widths."""
    titles = {scenario.name: summaries for scenario, summaries in recovery.items()}
    page.figure("bias", *bias_of_estimators(titles))
    page.figure("coverage", *coverage_of_intervals(titles))
    counts = next(iter(recovery.values()))["count"]
    header = ["estimator", *(f"{row['fraction']:g}" for row in counts)]
    widths = []
    for scenario, summaries in recovery.items():
        means = [[LABELS[name], *map(_mean, rows)] for name, rows in summaries.items()]
        page.table(f"bias-{scenario.slug}", Table(header, means, dict(summaries)))
        covers = [[LABELS[name], *map(_coverage, rows)] for name, rows in summaries.items() if name != "sum"]
        page.table(f"coverage-{scenario.slug}", Table(header, covers, {}))
        for name in ("corrected", "bayesian", "isotonic", "count"):
            widths.append([f"{scenario.name}: {LABELS[name]}", *map(_width, summaries[name])])
    page.table("widths", Table(header, widths, {}))


def _mean(row: Mapping[str, Any]) -> str:
    if not row["realisations"]:
        return "–"
    some = f" ({row['realisations']})" if row["realisations"] < row["of"] else ""
    return f"{row['mean']:.4f} ± {row['bias_error']:.4f}{some}"


def _coverage(row: Mapping[str, Any]) -> str:
    return f"{row['coverage_68%']:.3f}, {row['coverage_95%']:.3f}" if row["realisations"] else "–"


def _width(row: Mapping[str, Any]) -> str:
    return f"{row['width_95%']:.4f}" if row["realisations"] else "–"


def _surveys(page: Page, skies: _Skies, pools: Mapping[str, Truth]) -> list[str]:
    """Add what is measured on every degraded sky; return the skies of which the two-sample test warns.

    The calibration galaxies are of the training survey, with the truth about them: a tenth are mergers.
    """
    mergers, others = pools["mergers"].score, pools["others"].score
    mergers = mergers[: len(others) // 9]
    score = np.concatenate([mergers, others])
    truth = np.arange(len(score)) < len(mergers)
    calibration = Calibration(score >= THRESHOLD, truth, score, "training survey")
    against = reference(skies.run, **skies.how)
    scores, measured = {HELD_OUT: against.held_out}, {}
    for name, settings in DEGRADED.items():
        folder = "surveys/" + name.replace(" × ", "-").replace(" ", "-")
        sky = skies.predicted(folder, skies.size.survey, seed=4, merger_fraction=0.1, **settings)
        _, scores[name] = scores_of(skies.out / folder / IMAGES, against, **skies.how)
        comparison = compare(scores[name], against.held_out)
        measured[name] = {**_fractions(sky, calibration), **asdict(comparison), "shifted": comparison.shifted}
    page.figure("degraded", *degraded_surveys(measured, scores, held_out=HELD_OUT))
    columns: list[Column] = [
        ("sky", "", ""),
        ("KS distance", "distance", ".3f"),
        ("p", "p_value", ".2g"),
        ("true", "true", ".3f"),
        ("count", "count.value", ".3f"),
        ("corrected", "corrected.value", ".3f"),
        ("95% interval", lambda row: itemgetter("low", "high")(row["corrected"]), ".3f"),
        ("completeness", "completeness", ".3f"),
        ("false-positive rate", "false_positive_rate", ".4f"),
    ]
    page.table("surveys", Table.of(measured, columns))
    return [name for name, sky in measured.items() if sky["shifted"]]


def _fractions(sky: Truth, calibration: Calibration) -> dict[str, Any]:
    counts = sky.score >= THRESHOLD
    sums = Sums.of(counts, sky.score, known=calibration.score)
    estimates = estimate_all(sums, calibration, rng=np.random.default_rng(0), resamples=50)
    here = Calibration(counts, sky.is_merger).confusion()
    nothing = dict.fromkeys(("value", "low", "high"), np.nan)
    return {
        "true": float(sky.is_merger.mean()),
        "completeness": here.completeness,
        "false_positive_rate": here.false_positive_rate,
        **{
            name: {key: getattr(estimates[name], key, none) for key, none in nothing.items()}
            for name in ("count", "corrected")
        },
    }
