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
from hubblefork.pages.comparisons import error_against_cost, errors_over_time
from hubblefork.pages.page import Page
from hubblefork.pages.tables import (
    BASELINES,
    Column,
    Table,
    decimal,
    folds_table,
    listed,
    ordered_baselines,
    unbroken,
    value_at,
)
from hubblefork.stats import metrics
from hubblefork.studies.compare import paired_differences
from hubblefork.studies.results import Galaxies, Member, Results, read_results
from hubblefork.studies.study import TUNING, Key, Study, Training, load_study, settings_of, train_all
from hubblefork.studies.tuned import add_trials

SIMPLE, TUNED, FOLDS = "vgg7", "vgg7-tuned", "folds"
MORE_TIME = "a larger --budget, in a new --out"


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
    recipe = _tuned(trainings, out) or trainings[SIMPLE, 1.0][0].recipe
    trainings[TUNED, 1.0] = [Training(TUNED, recipe)]
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
    folded = replace(tuned or trainings[SIMPLE, 1.0][0].recipe, max_minutes=minutes)
    crossval(data, folded, out / FOLDS, folds=study.folds, hardware=hardware, progress=progress)


def tuned_from(study: Study) -> Recipe:
    """Return the recipe that is tuned: the simple one, with the settings addressed to the tuning."""
    settings = [
        text
        for group in (study.defaults, study.settings)
        for text in (*settings_of(SIMPLE, group), *settings_of(TUNING, group))
    ]
    return load_recipe(SIMPLE, settings)


def _tuned(trainings: Mapping[Key, Sequence[Training]], out: Path) -> Recipe | None:
    """Return the recipe that tuning found, for as long a training as the others have."""
    path = out / TUNING / "best.toml"
    if not path.exists():
        return None
    simple = trainings[SIMPLE, 1.0][0].recipe
    limits: dict[str, Any] = {key: getattr(simple, key) for key in ("epochs", "max_minutes", "patience")}
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
    open: Sequence[str]
    above: Sequence[str]
    rank_correlation: float | None


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
        return Verdict("is undecided", {}, [], [], [], above, None)
    compared = {name: terms[name] for name in (SIMPLE, *larger)}
    behind = paired_differences(compared, SIMPLE, resamples=resamples)
    worse = [name for name, comparison in behind.items() if comparison.interval_95[0] > 0]
    better = [name for name, comparison in behind.items() if comparison.interval_95[1] < 0]
    chance = [name for name in behind if name not in (*better, *worse)]
    word = "does not hold" if better else "is undecided" if chance else "holds"
    word = "is undecided" if SIMPLE in above else word
    sizes = [parameters[name] for name in terms]  # above 0: larger networks are worse
    correlation = float(spearmanr(sizes, list(errors.values())).statistic) if len(sizes) > 2 else np.nan
    correlated = None if np.isnan(correlation) else correlation
    return Verdict(word, behind, better, worse, chance, above, correlated)


def write_soft_target_page(results: Results, out: Path, *, command: Sequence[str] = ()) -> Path:
    """Write the page below OUT/report and return its path."""
    study, page = results.study, Page(out / "report")
    networks = {name: seeds[0] for (name, _), seeds in results.members.items() if seeds}
    numbers = {name: _network_numbers(member) for name, member in networks.items()}
    verdict = judge_claim(
        {name: member.terms[1] for name, member in networks.items()},
        {name: member.parameters for name, member in networks.items()},
        mean_vote=results.mean_vote,
    )
    tuned = read_tuning(tuned_from(study), out / TUNING) if (out / TUNING / "study.db").exists() else None
    page.optional("error-against-cost", "trainings", "trial-history", "importance", "trials")
    if tuned is not None:
        add_trials(page, tuned, MORE_TIME)
    path = out / FOLDS / "crossval.json"
    folds = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    undone = {f"missing-{name}": name for name in results.missing}
    undone |= {name: name for name, found in ((TUNING, tuned), (FOLDS, folds)) if found is None}
    for name, what in undone.items():
        said = f"{what} is not done yet.", "the same command without --only-report does it"
        if what == TUNED and (out / TUNING / "spent").exists():
            time = duration(study.seconds[TUNING])
            said = f"{what}: no trial was trained to the end in {time}.", MORE_TIME
        page.missing(name, *said)
    if folds is not None:
        page.table(FOLDS, folds_table(folds))
    _add_networks(page, results, numbers, verdict)
    if networks:
        _add_curves(page, networks, numbers, results.mean_vote)
        _add_trainings(page, networks)
        _warn(page, networks)
    else:
        page.missing("learning-curves", "No network is trained.", "train one")
    spent = {name: float(_seconds(member)[-1]) for name, member in networks.items()}
    spent |= {} if tuned is None else {TUNING: sum(row["seconds"] or 0 for row in tuned.rows)}
    _add_budget(page, study, spent)
    return page.write(
        "soft_target.md.j2",
        title="Soft targets: simple and less simple networks",
        subtitle="Baselines, VGGs, ResNet-50, adapters, seven blocks, tuning and folds in one budget",
        facts={
            "data": results.galaxies.data.name,
            "verdict": verdict.word,
            "behind": verdict.behind,
            "rank_correlation": verdict.rank_correlation,
            "seconds": study.seconds,
        },
        verdict=verdict,
        simple=SIMPLE,
        part=results.galaxies.part,
        galaxies=results.baselines["galaxies"],
        mean_vote=results.mean_vote,
        undone=[name for name in undone if name.startswith("missing-")],
        command=shlex.join(command),
    )


def _seconds(member: Member) -> NDArray[np.float64]:
    """Return the seconds of training at the end of each epoch, (epoch,)."""
    return np.cumsum([row["seconds"] for row in member.epochs])


def _judged(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Return the RMSE, its standard deviation over samples of galaxies (half the 68% interval), agreement."""
    low, high = evaluation["rmse"]["interval_68"]
    agreement = value_at(evaluation, "agreement.value")
    return {"rmse": float(evaluation["rmse"]["value"]), "sd": (high - low) / 2, "agreement": agreement}


def _network_numbers(member: Member) -> dict[str, Any]:
    notes, kept = member.notes, [int(row["epoch"]) for row in member.epochs].index(member.best_epoch)
    return {
        **_judged(member.run.evaluation()),
        "parameters": member.parameters,
        "trained_share": notes["parameters"].get("trained_share", 1.0),
        "training_galaxies_per_second": notes["galaxies_per_second"],
        "predicting_galaxies_per_second": member.speed,
        "seconds_to_best": float(_seconds(member)[kept]),
        "epochs": len(member.epochs),
        "start": notes["start"],
    }


def _add_networks(
    page: Page, results: Results, numbers: Mapping[str, dict[str, Any]], verdict: Verdict
) -> None:
    baselines = ordered_baselines(results.baselines)
    rows = dict(sorted(numbers.items(), key=lambda item: item[1]["rmse"]))
    rows |= {name: _judged(baseline) for name, baseline in baselines.items()}
    behind = {name: {**entry, "behind": verdict.behind.get(name)} for name, entry in rows.items()}
    columns: list[Column] = [
        ("", "", lambda name: unbroken(BASELINES.get(name, name))),
        ("RMSE ± s.d.", lambda row: f"{decimal(row['rmse'])} ± {decimal(row['sd'])}", ""),
        (f"behind {unbroken(SIMPLE)}", "behind.difference", "+.4f"),
        ("95% interval", "behind.interval_95", ".4f"),
        ("agreement", "agreement", ".3f"),
        ("million parameters", "parameters", lambda number: f"{number / 1e6:.3g}"),
        ("galaxies/s", "predicting_galaxies_per_second", ",.0f"),
        ("seconds to best", "seconds_to_best", ",.0f"),
    ]
    page.table("networks", Table.of(behind, columns, numbers=rows))


def _add_curves(
    page: Page, networks: Mapping[str, Member], numbers: Mapping[str, Any], mean_vote: float
) -> None:
    validation = {
        name: {
            "seconds": _seconds(member),
            "rmse": np.array([row["validation_rmse"] for row in member.epochs]),
        }
        for name, member in networks.items()
    }
    page.figure("learning-curves", *errors_over_time(validation))
    points = {
        name: {"seconds": own["seconds_to_best"], **{key: own[key] for key in ("parameters", "rmse", "sd")}}
        for name, own in numbers.items()
    }
    page.figure("error-against-cost", *error_against_cost(points, mean_vote=mean_vote))


def _add_trainings(page: Page, networks: Mapping[str, Member]) -> None:
    columns: list[Column] = [
        ("", "", unbroken),
        ("started from", lambda member: member.notes["start"], ""),
        ("optimiser, rate, schedule", lambda member: _optimiser(member.recipe), ""),
        ("batch", "recipe.batch_size", ""),
        ("epochs (kept)", lambda member: f"{len(member.epochs)} ({member.best_epoch})", ""),
        ("galaxies/s", "notes.galaxies_per_second", ",.0f"),
        ("trained", lambda member: member.notes["parameters"].get("trained_share", 1.0), ".1%"),
        ("device", lambda member: "{kind}, {precision}".format(**member.notes["device"]), ""),
        ("weights", _bytes, lambda size: f"{size / 1e6:.1f} MB"),
    ]
    numbers = {name: {"start": own.notes["start"], "bytes": _bytes(own)} for name, own in networks.items()}
    page.table("trainings", Table.of(networks, columns, numbers=numbers))


def _warn(page: Page, networks: Mapping[str, Member]) -> None:
    for remark in dict.fromkeys(text for own in networks.values() for text in own.notes.get("remarks", [])):
        page.warn(remark)
    starts = {name: own.notes["start"] for name, own in networks.items() if own.recipe.adapter_rank}
    random = [name for name, start in starts.items() if "random" in start]
    if random:
        what = f"Without published weights to begin with: {listed(random)}"
        page.warn(f"{what}. --weights FILE gives them; adapters need them.")


def _optimiser(recipe: Recipe) -> str:
    return f"{recipe.optimiser}, {recipe.learning_rate:.2g}, {recipe.schedule}"


def _bytes(member: Member) -> int:
    return member.run.weights.stat().st_size


def _add_budget(page: Page, study: Study, spent: Mapping[str, float]) -> None:
    rows = {
        name: {"share": study.parts[name], "seconds": seconds, "spent": spent.get(name)}
        for name, seconds in study.seconds.items()
    }
    columns: list[Column] = [
        ("part", "", ""),
        ("share", "share", ".0%"),
        ("time", "seconds", duration),
        ("of it training", "spent", duration),
    ]
    page.table("budget", Table.of(rows, columns, numbers=study.seconds))
