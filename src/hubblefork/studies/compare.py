"""The comparison of networks on the same galaxies: errors, paired tests, costs, learning curves."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hubblefork.data.split import TRAIN, VALIDATION
from hubblefork.io import Progress, duration, silent
from hubblefork.pages.comparisons import error_against_cost, errors_over_galaxies
from hubblefork.pages.page import Page
from hubblefork.pages.tables import (
    BASELINES,
    Column,
    Table,
    counted,
    decimal,
    listed,
    ordered_baselines,
    spread,
    unbroken,
    value_at,
)
from hubblefork.stats import metrics
from hubblefork.stats.curves import LearningCurve, learning_curve
from hubblefork.studies.results import Galaxies, Member, Results, find_runs, read_results
from hubblefork.studies.study import Study, load_study, parse_shares, train_all

RESAMPLES = 10_000
LEVEL = 0.01
LEAST_P = 2 / (RESAMPLES + 1)
FEW_SEEDS = 3
WHOLE = 55_420  # 90% of the 61,578 galaxies of Kaggle's training set; the others choose and judge
LEAST_SHARES = 3
MOST_DRAWN = 7
COSTS = (("seconds", "seconds of training"), ("speed", "galaxies/s predicting, one view"))


def run_compare(
    data: Path | None,
    out: Path,
    *,
    study: Study | None = None,
    command: Sequence[str] = (),
    progress: Progress = silent,
) -> Path:
    """Run the whole study on a data folder; return the page. Called again it goes on where it stopped.

    `command` is shown on the page. Raises CatalogueError where there are neither data nor `study.quick`,
    RunError where OUT/runs holds a training of other settings, and as each stage does.
    """
    study = study or load_study("compare")
    galaxies = Galaxies.read(data or study.mock_sky(out, progress))
    trainings = study.trainings(len(galaxies.rows[TRAIN]))
    planned = [training for seeds in trainings.values() for training in seeds]
    elsewhere = find_runs(study, planned, galaxies)
    if not study.only_report:
        left = [training for training in planned if training.folder not in elsewhere]
        options: dict[str, Any] = {"weights": study.weights, "device": study.device}
        train_all(left, galaxies.data, out / "runs", **options, progress=progress)
    results = read_results(study, galaxies, trainings, out, elsewhere=elsewhere, progress=progress)
    return write_compare_page(results, out / "report", command=command)


@dataclass(frozen=True)
class Verdict:
    """The best network by the validation galaxies, and the other networks compared with it.

    `differences` are RMSE minus that of the best, by name, and `p_holm` their p-values after Holm's
    correction. At p < `LEVEL` those `beaten` are worse than the best and those `better` are better; `open`
    are those whose difference may be chance.
    """

    best: str
    differences: Mapping[str, metrics.Comparison]
    p_holm: Mapping[str, float]
    beaten: Sequence[str]
    better: Sequence[str]
    open: Sequence[str]


def judge_networks(
    terms: Mapping[str, Sequence[metrics.Terms]],
    validation: Mapping[str, float],
    *,
    resamples: int = RESAMPLES,
) -> Verdict:
    """Compare the network with the lowest `validation` RMSE with each other one on the judged galaxies.

    `terms` are the squared errors of each seed of each network; seeds are averaged galaxy by galaxy. The best
    is chosen by galaxies that do not judge, so that the choice does not flatter it. The paired bootstrap
    draws the same galaxies for all; p-values are two-sided, at least 2 / (resamples + 1).
    """
    best = min(terms, key=lambda name: validation[name])
    differences = paired_differences(
        {name: metrics.averaged(seeds) for name, seeds in terms.items()}, best, resamples=resamples
    )
    p_values = metrics.holm([comparison.p_value for comparison in differences.values()])
    p_holm = dict(zip(differences, p_values, strict=True))
    sure = {name: differences[name].difference for name, p_value in p_holm.items() if p_value < LEVEL}
    beaten, better = ([name for name in sure if sign * sure[name] > 0] for sign in (1, -1))
    return Verdict(best, differences, p_holm, beaten, better, [name for name in p_holm if name not in sure])


def paired_differences(
    terms: Mapping[str, metrics.Terms], reference: str, *, resamples: int
) -> dict[str, metrics.Comparison]:
    """Return the RMSE of each other network minus that of the reference, by a paired bootstrap."""
    galaxies = len(terms[reference].numerator)
    draws = metrics.draw(galaxies, rng=np.random.default_rng(0), resamples=resamples)
    others = [name for name in terms if name != reference]
    return {name: metrics.compare(terms[name], terms[reference], draws) for name in others}


def write_compare_page(results: Results, out: Path, *, command: Sequence[str] = ()) -> Path:
    """Write the page and return its path."""
    page, compared, galaxies = Page(out), results.compared, results.galaxies
    verdicts = {views: _verdict(results, views) for views in results.views} if compared else {}
    page.optional("learning-curves", "points", "laws", "trainings")
    numbers = _add_networks(page, results)
    if len(compared) > 1:
        _add_differences(page, verdicts)
        points = {name: _cost(numbers[name], results) for name in list(compared)[:MOST_DRAWN]}
        drawing = error_against_cost(points, costs=COSTS, mean_vote=results.mean_vote)
        page.figure("error-against-cost", *drawing)
    if results.missing:
        remedy = "the same command without --only-report trains them; --runs DIR takes finished runs"
        page.missing("trainings-left", f"Not trained yet: {listed(results.missing)}.", remedy)
    _add_curves(page, results)
    _add_trainings(page, results)
    _warn(page, results)
    facts: dict[str, Any] = {
        "part": galaxies.part,
        "galaxies": len(galaxies.votes),
        "training_galaxies": len(galaxies.rows[TRAIN]),
        "resamples": RESAMPLES,
    }
    judged = {
        "verdicts": {
            views: {key: getattr(verdict, key) for key in ("best", "beaten", "better", "open")}
            for views, verdict in verdicts.items()
        },
        "recipes": {name: asdict(seeds[0].training.recipe) for name, seeds in compared.items()},
    }
    return page.write(
        "compare.md.j2",
        title="Networks compared",
        subtitle="The same split, the same galaxies, the same views at prediction",
        facts={**facts, **judged},
        **facts,
        verdicts=dict(reversed(verdicts.items())),
        level=LEVEL,
        least_p=LEAST_P,
        whole=WHOLE,
        views=results.study.views,
        several=len(compared) > 1,
        curves=results.study.curves,
        starts={
            f"{name} began with": "; ".join(dict.fromkeys(str(own.notes.get("start", "–")) for own in seeds))
            for name, seeds in compared.items()
        },
        command=shlex.join(command),
    )


def _warn(page: Page, results: Results) -> None:
    compared = results.compared
    few = [name for name, seeds in compared.items() if len(seeds) < FEW_SEEDS]
    untrained = [n for n, seeds in compared.items() if results.mean_rmse(seeds) >= results.mean_vote]
    devices = sorted({member.device for seeds in compared.values() for member in seeds})
    if results.galaxies.part == VALIDATION:
        what = "There are no test galaxies. Those judged here chose each network's weights"
        page.warn(f"{what}: the errors are too low.")
    if few:
        page.warn(f"Fewer than {FEW_SEEDS} seeds: {listed(few)}. Another seed may turn a near tie.")
    if untrained:
        page.warn(f"No better than the mean vote: {listed(untrained)}. More training may give more.")
    if len(devices) > 1:
        page.warn(f"Trained on {listed(devices)}: the times of training do not compare.")


def _verdict(results: Results, views: int) -> Verdict:
    compared = results.compared
    return judge_networks(
        {name: [member.terms[views] for member in seeds] for name, seeds in compared.items()},
        {name: _mean([member.validation_rmse for member in seeds]) for name, seeds in compared.items()},
    )


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _add_networks(page: Page, results: Results) -> dict[str, Any]:
    """Add the errors and costs of all networks; return them by name."""
    rows: dict[str, Any] = {}
    numbers: dict[str, Any] = {}
    for name, seeds in results.compared.items():
        rows[_together(name, seeds)] = numbers[name] = _network_numbers(seeds, results)
    for name in results.study.ensembles:
        seeds = results.compared.get(name, [])
        if len(seeds) > 1:
            numbers[f"{name} ensemble"] = _ensemble_numbers(seeds, results)
            rows[f"{_together(name, seeds)}, as one"] = numbers[f"{name} ensemble"]
    for name, baseline in ordered_baselines(results.baselines).items():
        words, error = BASELINES[name], baseline["rmse"]["value"]
        errors = {str(views): error for views in results.views}
        rows[words] = {"rmse": errors, "agreement": value_at(baseline, "agreement.value")}
        numbers[words] = {"rmse": error}
    columns: list[Column] = [
        ("", "", ""),
        *((f"RMSE, {counted(views, 'view')}", f"rmse.{views}", spread) for views in results.views),
        ("agreement", "agreement", lambda seeds: decimal(_mean(seeds), 3)),
        ("million parameters", "parameters", lambda number: f"{number / 1e6:.3g}"),
        ("trained in", "seconds", lambda seeds: duration(_mean(seeds))),
        ("galaxies/s", "predicting_galaxies_per_second", lambda seeds: f"{np.median(seeds):,.0f}"),
    ]
    page.table("networks", Table.of(rows, columns, numbers=numbers))
    return numbers


def _together(name: str, seeds: Sequence[Member]) -> str:
    return f"{unbroken(name)} × {len(seeds)}" if len(seeds) > 1 else unbroken(name)


def _network_numbers(seeds: Sequence[Member], results: Results) -> dict[str, Any]:
    views, votes = results.study.views, results.galaxies.votes
    return {
        "rmse": {str(views): [member.rmse(views) for member in seeds] for views in results.views},
        "validation_rmse": [member.validation_rmse for member in seeds],
        "agreement": [metrics.agreement(member.predicted[views], votes) for member in seeds],
        "parameters": seeds[0].parameters,
        "seconds": [member.seconds for member in seeds],
        "predicting_galaxies_per_second": [member.speed for member in seeds],
        "device": [member.device for member in seeds],
    }


def _ensemble_numbers(seeds: Sequence[Member], results: Results) -> dict[str, Any]:
    votes = results.galaxies.votes
    mean = {views: np.mean([member.predicted[views] for member in seeds], axis=0) for views in results.views}
    return {
        "members": len(seeds),
        "rmse": {str(views): metrics.rmse(values, votes) for views, values in mean.items()},
        "agreement": metrics.agreement(mean[results.study.views], votes),
        "parameters": sum(member.parameters for member in seeds),
        "seconds": sum(member.seconds for member in seeds),
        "predicting_galaxies_per_second": 1 / sum(1 / member.speed for member in seeds),
    }


def _add_differences(page: Page, verdicts: Mapping[int, Verdict]) -> None:
    rows, numbers = {}, {}
    for views, verdict in verdicts.items():
        for name, comparison in verdict.differences.items():
            entry = {**vars(comparison), "p_holm": verdict.p_holm[name]}
            rows[f"{unbroken(name)}, {counted(views, 'view')}"] = numbers[f"{name}, {views}"] = entry
    columns: list[Column] = [
        (f"against {unbroken(next(iter(verdicts.values())).best)}", "", ""),
        ("difference", "difference", "+.4f"),
        ("95% interval", "interval_95", ".4f"),
        ("p", "p_value", ".2g"),
        ("p, Holm", "p_holm", ".2g"),
    ]
    page.table("differences", Table.of(rows, columns, numbers=numbers))


def _cost(numbers: Mapping[str, Any], results: Results) -> dict[str, float]:
    errors = numbers["rmse"][str(results.study.views)]
    return {
        "seconds": _mean(numbers["seconds"]),
        "speed": float(np.median(numbers["predicting_galaxies_per_second"])),
        "rmse": _mean(errors),
        "sd": float(np.std(errors, ddof=1)) if len(errors) > 1 else 0.0,
    }


def _add_curves(page: Page, results: Results) -> None:
    names = results.study.curves
    curves = {name: curve for name in names if (curve := _curve(results, name)) is not None}
    short = [name for name in names if name not in curves]
    if short:
        what = f"Fewer than {LEAST_SHARES} shares are trained, too few for a curve: {', '.join(short)}."
        page.missing("short-curves", what, "the same command without --only-report trains them")
    if curves:
        page.figure("learning-curves", *errors_over_galaxies(curves, at=WHOLE))
        _add_points(page, curves)
        _add_laws(page, curves)


def _curve(results: Results, name: str) -> LearningCurve | None:
    """Return the curve of a recipe from its shares, smallest first; None where too few are trained."""
    views = results.study.views
    points = [
        (int(seeds[0].notes["galaxies"][TRAIN]), [member.terms[views] for member in seeds])
        for share in parse_shares(results.study.shares)
        if (seeds := results.members.get((name, share)))
    ]
    if len(points) < LEAST_SHARES:
        return None
    return learning_curve(*zip(*points, strict=True), rng=np.random.default_rng(0))


def _add_points(page: Page, curves: Mapping[str, LearningCurve]) -> None:
    rows = [
        {"name": name, "galaxies": galaxies, "seeds": seeds, "rmse": rmse, "sd": sd}
        for name, curve in curves.items()
        for galaxies, seeds, rmse, sd in zip(curve.galaxies, curve.seeds, curve.rmse, curve.sd, strict=True)
    ]
    columns: list[Column] = [
        ("", "name", unbroken),
        ("training galaxies", "galaxies", ","),
        ("seeds", "seeds", ""),
        ("RMSE", "rmse", ".4f"),
        ("s.d.", "sd", ".4f"),
    ]
    numbers = {
        name: {key: getattr(curve, key) for key in ("galaxies", "rmse", "sd")}
        for name, curve in curves.items()
    }
    page.table("points", Table.of(rows, columns, numbers=numbers))


def _add_laws(page: Page, curves: Mapping[str, LearningCurve]) -> None:
    rows = {
        name: {
            **vars(curve.law),
            "at": WHOLE,
            "value": float(curve.law.at(WHOLE)),
            "interval_95": curve.interval_95(WHOLE).tolist(),
            "no_floor": float(curve.through_zero.at(WHOLE)),
        }
        for name, curve in curves.items()
    }
    columns: list[Column] = [
        ("", "", unbroken),
        ("a", "floor", ".3f"),
        ("b", lambda law: law["gain"] * law["scale"] ** law["exponent"], ".3g"),
        ("c", "exponent", ".2f"),
        (f"at {WHOLE:,}", "value", ".4f"),
        ("95% interval", "interval_95", ".4f"),
        ("without a floor", "no_floor", ".4f"),
    ]
    page.table("laws", Table.of(rows, columns))


def _add_trainings(page: Page, results: Results) -> None:
    rows = {
        member.training.folder: {
            "training_galaxies": member.notes["galaxies"][TRAIN],
            "epochs": f"{len(member.epochs)} ({member.best_epoch})",
            "validation_rmse": member.validation_rmse,
            "rmse": {str(views): member.rmse(views) for views in results.views},
            "device": member.device,
        }
        for seeds in results.members.values()
        for member in seeds
    }
    columns: list[Column] = [
        ("", "", unbroken),
        ("galaxies", "training_galaxies", ","),
        ("epochs (kept)", "epochs", ""),
        ("validation RMSE", "validation_rmse", ".4f"),
        *((f"RMSE, {counted(views, 'view')}", f"rmse.{views}", ".4f") for views in results.views),
        ("device", "device", ""),
    ]
    if rows:
        page.table("trainings", Table.of(rows, columns))
