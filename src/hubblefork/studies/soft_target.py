"""The soft-target study: is a simple network better than larger ones that have the same time?

It is a comparison with a budget of time, a tuned network, a cross validation and a claim. Next to what every
study keeps below its folder OUT:

tuning      the trials of vgg7, with the best recipe
folds       the cross validation
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from hubblefork.api.training import crossval
from hubblefork.data.split import TRAIN
from hubblefork.io import Progress, duration, silent, write_text
from hubblefork.network.device import Hardware
from hubblefork.network.recipe import Recipe, load_recipe
from hubblefork.network.tuning import read_tuning, tune
from hubblefork.network.weights import read_recipe
from hubblefork.pages.comparisons import error_against_cost, errors_over_time
from hubblefork.pages.page import Page
from hubblefork.pages.tables import Table, decimal, unbroken
from hubblefork.stats import metrics
from hubblefork.studies.compare import baselines_by_error, paired_differences
from hubblefork.studies.results import Galaxies, Member, Results, read_results
from hubblefork.studies.study import TUNING, Key, Study, Training, load_study, settings_of, train_all
from hubblefork.studies.tuned import add_trials

SIMPLE, TUNED, FOLDS = "vgg7", "vgg7-tuned", "folds"


def run_soft_target(
    data: Path | None,
    out: Path,
    *,
    study: Study | None = None,
    command: Sequence[str] = (),
    progress: Progress = silent,
) -> Path:
    """Run the whole study on a data folder; return the page. Called again it goes on where it stopped.

    `command` is shown on the page. Raises CatalogueError where there are neither data nor `study.quick`,
    RunError where a folder holds a training of other settings (another budget is one), and as each stage
    does.
    """
    study = study or load_study("soft_target")
    tuned_from(study)
    galaxies = Galaxies.read(data or study.mock_sky(out, progress))
    trainings = study.trainings(len(galaxies.rows[TRAIN]))
    if not study.only_report:
        _train(study, trainings, galaxies.data, out, progress)
    trainings[TUNED, 1.0] = [Training(TUNED, _tuned(trainings, out) or _simple(trainings))]
    results = read_results(study, galaxies, trainings, out, progress=progress)
    return write_soft_target_page(results, out, command=command)


def _train(
    study: Study, trainings: Mapping[Key, Sequence[Training]], data: Path, out: Path, progress: Progress
) -> None:
    encoders = [
        replace(training, pretrained=training.recipe.architecture.startswith("encoder:"))
        for seeds in trainings.values()
        for training in seeds
    ]
    place = out / "runs"
    options: dict[str, Any] = {"device": study.device, "evaluate": True, "progress": progress}
    train_all(encoders, data, place, weights=study.weights, **options)
    hardware = Hardware(study.device)
    if not (out / TUNING / "spent").exists():
        tune(
            data,
            tuned_from(study),
            out / TUNING,
            trials=study.trials,
            seconds=study.seconds[TUNING],
            hardware=hardware,
            progress=progress,
        )
        write_text(out / TUNING / "spent", "")  # the time is spent once, not at every call
    tuned = _tuned(trainings, out)
    if tuned is not None:
        train_all([Training(TUNED, tuned)], data, place, **options)
    minutes = study.seconds[FOLDS] / study.folds / 60
    folded = replace(tuned or _simple(trainings), max_minutes=minutes)
    crossval(data, folded, out / FOLDS, folds=study.folds, hardware=hardware, progress=progress)


def tuned_from(study: Study) -> Recipe:
    """Return the recipe that is tuned: the simple one, with the settings addressed to the tuning."""
    settings = [
        text
        for group in (study.defaults, study.settings)
        for text in (*settings_of(SIMPLE, group), *settings_of(TUNING, group))
    ]
    return load_recipe(SIMPLE, settings)


def _simple(trainings: Mapping[Key, Sequence[Training]]) -> Recipe:
    return trainings[SIMPLE, 1.0][0].recipe


def _tuned(trainings: Mapping[Key, Sequence[Training]], out: Path) -> Recipe | None:
    """Return the recipe that tuning found, for as long a training as the others have."""
    path = out / TUNING / "best.toml"
    if not path.exists():
        return None
    simple = _simple(trainings)
    limits: dict[str, Any] = {
        "epochs": simple.epochs,
        "max_minutes": simple.max_minutes,
        "patience": simple.patience,
    }
    return replace(load_recipe(str(path)), name=TUNED, **limits)


@dataclass(frozen=True)
class Verdict:
    """Whether "simplicity performed better than complexity" holds, and the networks that decide it.

    `word` is "holds", "does not hold" or "is undecided". `behind` maps each larger network to its RMSE minus
    that of the simple one, of which `better` and `worse` differ by more than the 95% interval leaves to
    chance and `open` do not. `above` are the networks that are no better than the mean vote.
    """

    word: str
    behind: Mapping[str, metrics.Comparison]
    better: Sequence[str]
    worse: Sequence[str]
    above: Sequence[str]
    rank_correlation: float | None

    @property
    def open(self) -> list[str]:
        """The larger networks that these galaxies do not tell from the simple one."""
        return [name for name in self.behind if name not in (*self.better, *self.worse)]


def judge_claim(
    terms: Mapping[str, metrics.Terms],
    parameters: Mapping[str, int],
    *,
    mean_vote: float,
    resamples: int = metrics.RESAMPLES,
) -> Verdict:
    """Judge the claim from the squared errors of the simple network and of those with more parameters.

    It holds when every larger network is worse than the simple one by more than the 95% interval of the
    paired difference leaves to chance. It does not when one is better by so much. Else it is undecided, and
    also where the simple network is no better than `mean_vote`, the RMSE of that baseline.
    """
    errors = {name: values.only_value("the RMSE") for name, values in terms.items()}
    above = [name for name, error in errors.items() if error >= mean_vote]
    larger = [name for name in terms if parameters[name] > parameters.get(SIMPLE, np.inf)]
    if not larger:
        return Verdict("is undecided", {}, [], [], above, None)
    compared = {name: terms[name] for name in (SIMPLE, *larger)}
    behind = paired_differences(compared, SIMPLE, resamples=resamples)
    worse = [name for name, comparison in behind.items() if comparison.interval_95[0] > 0]
    better = [name for name, comparison in behind.items() if comparison.interval_95[1] < 0]
    word = "does not hold" if better else "holds" if len(worse) == len(behind) else "is undecided"
    word = "is undecided" if SIMPLE in above else word
    correlation = _rank_correlation([parameters[name] for name in terms], list(errors.values()))
    return Verdict(word, behind, better, worse, above, correlation)


def _rank_correlation(sizes: Sequence[int], errors: Sequence[float]) -> float | None:
    """Return Spearman's correlation of parameters and RMSE: above 0, larger networks are worse."""
    if len(sizes) < 3:
        return None
    value = float(spearmanr(sizes, errors).statistic)
    return None if np.isnan(value) else value


def write_soft_target_page(results: Results, out: Path, *, command: Sequence[str] = ()) -> Path:
    """Write the page below OUT/report and return its path."""
    study, page = results.study, Page(out / "report")
    networks = {name: seeds[0] for (name, _), seeds in results.members.items() if seeds}
    verdict = judge_claim(
        {name: member.terms[1] for name, member in networks.items()},
        {name: member.parameters for name, member in networks.items()},
        mean_vote=results.mean_vote,
    )
    remedy = "the same command without --only-report does it"
    for name in results.missing:
        page.missing(f"missing-{name}", f"{name} is not done yet.", remedy)
    _add_networks(page, results, networks)
    if networks:
        _add_curves(page, networks, results.mean_vote)
        _add_trainings(page, networks)
    else:
        page.missing("curves", "No network is trained.", "train one")
    tuned = read_tuning(tuned_from(study), out / TUNING) if (out / TUNING / "study.db").exists() else None
    trials = {"tuned": None} if tuned is None else add_trials(page, tuned)
    if tuned is None:
        page.missing(TUNING, f"{TUNING} is not done yet.", remedy)
    folds = _add_folds(page, out / FOLDS / "crossval.json", remedy)
    spent = {name: float(_seconds(member)[-1]) for name, member in networks.items()}
    spent |= {} if tuned is None else {TUNING: sum(row["seconds"] or 0 for row in tuned.rows)}
    _add_budget(page, study, spent)
    facts = {
        "data": results.galaxies.data.name,
        "verdict": verdict.word,
        "behind": {name: vars(comparison) for name, comparison in verdict.behind.items()},
        "rank_correlation": verdict.rank_correlation,
        "seconds": study.seconds,
    }
    random = [
        name for name, m in networks.items() if _recipe(m).adapter_rank and "random" in m.notes["start"]
    ]
    return page.write(
        "soft_target.md.j2",
        title="Soft targets: simple and less simple networks",
        subtitle="Baselines, VGGs, ResNet-50, adapters, seven blocks, tuning and folds in one budget",
        facts=facts,
        verdict=verdict,
        lowest=min(networks, key=lambda name: _rmse(networks[name]), default=None),
        first=min(networks, key=lambda name: _seconds_to_best(networks[name]), default=None),
        simple=SIMPLE,
        part=results.galaxies.part,
        galaxies=results.baselines["galaxies"],
        mean_vote=results.mean_vote,
        left=results.missing,
        remarks=dict.fromkeys(text for m in networks.values() for text in m.notes.get("remarks", [])),
        random=random,
        folds=folds,
        seconds=study.seconds,
        **trials,
        command=shlex.join(command),
    )


def _recipe(member: Member) -> Recipe:
    return read_recipe(member.run.path)


def _rmse(member: Member) -> float:
    return float(member.run.evaluation()["rmse"]["value"])


def _sd(evaluation: Mapping[str, Any]) -> float:
    """Return half the 68% interval of the RMSE: its standard deviation over samples of galaxies."""
    low, high = evaluation["rmse"]["interval_68"]
    return (high - low) / 2


def _seconds(member: Member) -> NDArray[np.float64]:
    """Return the seconds of training at the end of each epoch, (epoch,)."""
    return np.cumsum([row["seconds"] for row in member.epochs])


def _seconds_to_best(member: Member) -> float:
    """Return the seconds of training to the epoch that was kept."""
    return float(_seconds(member)[[int(row["epoch"]) for row in member.epochs].index(member.best_epoch)])


def _add_networks(page: Page, results: Results, networks: Mapping[str, Member]) -> None:
    rows, numbers = [], {}
    for name, member in sorted(networks.items(), key=lambda item: _rmse(item[1])):
        numbers[name] = entry = _network_numbers(member)
        rows.append(
            [
                unbroken(name),
                *_error_and_agreement(member.run.evaluation()),
                f"{entry['parameters']:,}",
                f"{entry['trained_share']:.1%}",
                f"{entry['training_galaxies_per_second']:,.0f}",
                f"{member.speed:,.0f}",
                f"{entry['seconds_to_best']:,.0f}",
            ]
        )
    for name, baseline in baselines_by_error(results):
        rows.append([unbroken(name.replace("_", " ")), *_error_and_agreement(baseline), *["–"] * 5])
        numbers[name] = {"rmse": baseline["rmse"]["value"], "sd": _sd(baseline)}
    header = ["", "RMSE ± s.d.", "agreement", "parameters", "trained", "galaxies/s training"]
    page.table("networks", Table([*header, "galaxies/s predicting", "seconds to best"], rows, numbers))


def _error_and_agreement(evaluation: Mapping[str, Any]) -> list[str]:
    error = f"{decimal(evaluation['rmse']['value'])} ± {decimal(_sd(evaluation))}"
    agreement = evaluation["agreement"]
    return [error, decimal(agreement["value"], 3) if agreement else "–"]


def _network_numbers(member: Member) -> dict[str, Any]:
    evaluation, notes = member.run.evaluation(), member.notes
    return {
        "rmse": float(evaluation["rmse"]["value"]),
        "sd": _sd(evaluation),
        "parameters": member.parameters,
        "trained_share": notes["parameters"].get("trained_share", 1.0),
        "training_galaxies_per_second": notes["galaxies_per_second"],
        "predicting_galaxies_per_second": member.speed,
        "seconds_to_best": _seconds_to_best(member),
        "epochs": len(member.epochs),
        "start": notes["start"],
    }


def _add_curves(page: Page, networks: Mapping[str, Member], mean_vote: float) -> None:
    validation = {
        name: {
            "seconds": _seconds(member),
            "rmse": np.array([row["validation_rmse"] for row in member.epochs]),
        }
        for name, member in networks.items()
    }
    page.figure("learning-curves", *errors_over_time(validation))
    points = {
        name: {
            "seconds": _seconds_to_best(member),
            "parameters": member.parameters,
            "rmse": _rmse(member),
            "sd": _sd(member.run.evaluation()),
        }
        for name, member in networks.items()
    }
    page.figure("error-against-cost", *error_against_cost(points, mean_vote=mean_vote))


def _add_trainings(page: Page, networks: Mapping[str, Member]) -> None:
    rows, numbers = [], {}
    for name, member in networks.items():
        recipe, notes, size = _recipe(member), member.notes, member.run.weights.stat().st_size
        rows.append(
            [
                unbroken(name),
                notes["start"],
                f"{recipe.optimiser}, {recipe.learning_rate:.2g}, {recipe.schedule}",
                str(recipe.batch_size),
                f"{len(member.epochs)} ({member.best_epoch})",
                f"{notes['device']['kind']}, {notes['device']['precision']}",
                f"{size / 1e6:.1f} MB",
            ]
        )
        numbers[name] = {"start": notes["start"], "bytes": size}
    header = ["", "started from", "optimiser, rate, schedule", "batch", "epochs (kept)", "device", "weights"]
    page.table("trainings", Table(header, rows, numbers))


def _add_folds(page: Page, path: Path, remedy: str) -> dict[str, Any] | None:
    """Add the cross validation and return what its file holds, where there is any."""
    if not path.exists():
        page.missing(FOLDS, f"{FOLDS} is not done yet.", remedy)
        return None
    folds = json.loads(path.read_text(encoding="utf-8"))
    columns = zip(folds["judged_galaxies"], folds["training_galaxies"], folds["rmse"]["folds"], strict=True)
    rows = [
        [str(number), f"{judged:,}", f"{trained:,}", decimal(error)]
        for number, (judged, trained, error) in enumerate(columns)
    ]
    total = f"{decimal(folds['rmse']['mean'])} ± {decimal(folds['rmse']['sd'])}"
    rows.append(["mean ± s.d.", "", "", total])
    page.table(FOLDS, Table(["fold", "judged", "trained on", "RMSE"], rows, folds))
    return folds


def _add_budget(page: Page, study: Study, spent: Mapping[str, float]) -> None:
    rows = [
        [
            name,
            f"{study.parts[name]:.0%}",
            duration(seconds),
            duration(spent[name]) if name in spent else "–",
        ]
        for name, seconds in study.seconds.items()
    ]
    page.table("budget", Table(["part", "share", "time", "of it training"], rows, study.seconds))
