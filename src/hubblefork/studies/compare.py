"""The comparison of networks on the same galaxies: errors, paired tests, costs, learning curves."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hubblefork.data.split import TRAIN
from hubblefork.io import Progress, duration, silent
from hubblefork.pages.comparisons import error_against_cost, errors_over_galaxies
from hubblefork.pages.page import Page
from hubblefork.pages.tables import Table, bounds, counted, decimal, listed, unbroken
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
    correction. `beaten` and `better` are the networks with a difference at p < `LEVEL`, `open` the others.
    """

    best: str
    differences: Mapping[str, metrics.Comparison]
    p_holm: Mapping[str, float]

    @property
    def beaten(self) -> list[str]:
        """The networks that are worse than the best."""
        return [name for name in self._sure() if self.differences[name].difference > 0]

    @property
    def better(self) -> list[str]:
        """The networks that are better than the one that the validation galaxies call best."""
        return [name for name in self._sure() if self.differences[name].difference < 0]

    @property
    def open(self) -> list[str]:
        """The networks whose difference from the best may be chance."""
        return [name for name in self.differences if name not in self._sure()]

    def _sure(self) -> list[str]:
        return [name for name, p_value in self.p_holm.items() if p_value < LEVEL]


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
    return Verdict(best, differences, dict(zip(differences, p_values, strict=True)))


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
    page, compared = Page(out), results.compared
    verdicts = {views: _verdict(results, views) for views in results.views} if compared else {}
    _add_networks(page, results)
    if len(compared) > 1:
        _add_differences(page, verdicts)
        points = {name: _cost(seeds, results) for name, seeds in list(compared.items())[:MOST_DRAWN]}
        drawing = error_against_cost(points, costs=COSTS, mean_vote=results.mean_vote)
        page.figure("error-against-cost", *drawing)
    if results.missing:
        remedy = "the same command without --only-report trains them; --runs DIR takes finished runs"
        page.missing("trainings-left", f"Not trained yet: {listed(results.missing)}.", remedy)
    _add_curves(page, results)
    _add_trainings(page, results)
    galaxies = results.galaxies
    facts = {
        "part": galaxies.part,
        "galaxies": len(galaxies.votes),
        "training_galaxies": len(galaxies.rows[TRAIN]),
        "resamples": RESAMPLES,
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
        facts=facts,
        **{key: value for key, value in facts.items() if key != "verdicts"},
        verdicts=dict(reversed(verdicts.items())),
        level=LEVEL,
        least_p=LEAST_P,
        whole=WHOLE,
        views=results.study.views,
        answers=len(galaxies.tree.columns),
        few=[name for name, seeds in compared.items() if len(seeds) < FEW_SEEDS],
        untrained=[n for n, seeds in compared.items() if results.mean_rmse(seeds) >= results.mean_vote],
        devices=sorted({member.device for seeds in compared.values() for member in seeds}),
        several=len(compared) > 1,
        curves=results.study.curves,
        starts={f"{name} began with": _starts(seeds) for name, seeds in compared.items()},
        command=shlex.join(command),
    )


def _starts(seeds: Sequence[Member]) -> str:
    return "; ".join(dict.fromkeys(str(member.notes.get("start", "–")) for member in seeds))


def _verdict(results: Results, views: int) -> Verdict:
    compared = results.compared
    return judge_networks(
        {name: [member.terms[views] for member in seeds] for name, seeds in compared.items()},
        {name: _mean([member.validation_rmse for member in seeds]) for name, seeds in compared.items()},
    )


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _add_networks(page: Page, results: Results) -> None:
    rows, numbers = [], {}
    for name, seeds in results.compared.items():
        rows.append(_network_row(name, seeds, results))
        numbers[name] = _network_numbers(seeds, results)
    for name in results.study.ensembles:
        seeds = results.compared.get(name, [])
        if len(seeds) > 1:
            numbers[f"{name} ensemble"] = entry = _ensemble_numbers(seeds, results)
            rows.append(_ensemble_row(name, seeds, entry))
    for name, baseline in baselines_by_error(results):
        error = decimal(baseline["rmse"]["value"])
        agreement = decimal(baseline["agreement"]["value"], 3) if baseline["agreement"] else "–"
        rows.append([name.replace("_", " "), *[error] * len(results.views), agreement, *["–"] * 3])
        numbers[name.replace("_", " ")] = {"rmse": baseline["rmse"]["value"]}
    header = ["", *(_rmse_header(views) for views in results.views), "agreement"]
    page.table("networks", Table([*header, "million parameters", "trained in", "galaxies/s"], rows, numbers))


def baselines_by_error(results: Results) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the baselines with their evaluations, the lowest error first."""
    return sorted(results.baselines["baselines"].items(), key=lambda item: item[1]["rmse"]["value"])


def _rmse_header(views: int) -> str:
    return f"RMSE, {counted(views, 'view')}"


def _network_row(name: str, seeds: Sequence[Member], results: Results) -> list[str]:
    return [
        _together(name, seeds),
        *(_spread([member.rmse(views) for member in seeds]) for views in results.views),
        decimal(_mean([_agreement(member, results) for member in seeds]), 3),
        f"{seeds[0].parameters / 1e6:.3g}",
        duration(_mean([member.seconds for member in seeds])),
        f"{np.median([member.speed for member in seeds]):,.0f}",
    ]


def _together(name: str, seeds: Sequence[Member]) -> str:
    return f"{unbroken(name)} × {len(seeds)}" if len(seeds) > 1 else unbroken(name)


def _spread(values: Sequence[float]) -> str:
    """Return mean and standard deviation over seeds, the latter where there is more than one."""
    mean = decimal(_mean(values))
    return f"{mean} ± {decimal(float(np.std(values, ddof=1)))}" if len(values) > 1 else mean


def _network_numbers(seeds: Sequence[Member], results: Results) -> dict[str, Any]:
    return {
        "rmse": {views: [member.rmse(views) for member in seeds] for views in results.views},
        "validation_rmse": [member.validation_rmse for member in seeds],
        "agreement": [_agreement(member, results) for member in seeds],
        "parameters": seeds[0].parameters,
        "seconds": [member.seconds for member in seeds],
        "predicting_galaxies_per_second": [member.speed for member in seeds],
        "device": [member.device for member in seeds],
    }


def _agreement(member: Member, results: Results) -> float:
    return metrics.agreement(member.predicted[results.study.views], results.galaxies.votes)


def _ensemble_numbers(seeds: Sequence[Member], results: Results) -> dict[str, Any]:
    votes = results.galaxies.votes
    mean = {views: np.mean([member.predicted[views] for member in seeds], axis=0) for views in results.views}
    return {
        "members": len(seeds),
        "rmse": {views: metrics.rmse(values, votes) for views, values in mean.items()},
        "agreement": metrics.agreement(mean[results.study.views], votes),
        "parameters": sum(member.parameters for member in seeds),
        "seconds": sum(member.seconds for member in seeds),
        "predicting_galaxies_per_second": 1 / sum(1 / member.speed for member in seeds),
    }


def _ensemble_row(name: str, seeds: Sequence[Member], entry: Mapping[str, Any]) -> list[str]:
    return [
        f"{_together(name, seeds)}, as one",
        *map(decimal, entry["rmse"].values()),
        decimal(entry["agreement"], 3),
        f"{entry['parameters'] / 1e6:.3g}",
        duration(entry["seconds"]),
        f"{entry['predicting_galaxies_per_second']:,.0f}",
    ]


def _add_differences(page: Page, verdicts: Mapping[int, Verdict]) -> None:
    rows, numbers = [], {}
    for views, verdict in verdicts.items():
        for name, comparison in verdict.differences.items():
            p_value = comparison.p_value
            rows.append(
                [
                    f"{unbroken(name)}, {counted(views, 'view')}",
                    signed(comparison.difference),
                    bounds(comparison.interval_95),
                    f"≤ {LEAST_P:.2g}" if p_value <= LEAST_P else f"{p_value:.2g}",
                    f"{verdict.p_holm[name]:.2g}",
                ]
            )
            numbers[f"{name}, {views}"] = {**vars(comparison), "p_holm": verdict.p_holm[name]}
    best = next(iter(verdicts.values())).best
    header = [f"against {unbroken(best)}", "difference", "95% interval", "p", "p, Holm"]
    page.table("differences", Table(header, rows, numbers))


def signed(value: float) -> str:
    """Return a difference with its sign."""
    return f"{'+' if value >= 0 else '−'}{decimal(abs(value))}"


def _cost(seeds: Sequence[Member], results: Results) -> dict[str, float]:
    errors = [member.rmse(results.study.views) for member in seeds]
    return {
        "seconds": _mean([member.seconds for member in seeds]),
        "speed": float(np.median([member.speed for member in seeds])),
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
        [
            unbroken(name),
            f"{galaxies:,}",
            str(seeds),
            decimal(rmse) + (f" ± {decimal(sd)}" if sd == sd else ""),
        ]
        for name, curve in curves.items()
        for galaxies, seeds, rmse, sd in zip(curve.galaxies, curve.seeds, curve.rmse, curve.sd, strict=True)
    ]
    numbers = {
        name: {"galaxies": curve.galaxies, "rmse": curve.rmse, "sd": curve.sd}
        for name, curve in curves.items()
    }
    page.table("points", Table(["", "training galaxies", "seeds", "RMSE ± s.d."], rows, numbers))


def _add_laws(page: Page, curves: Mapping[str, LearningCurve]) -> None:
    rows, numbers = [], {}
    for name, curve in curves.items():
        law, interval = curve.law, curve.interval_95(WHOLE)
        value, no_floor = float(law.at(WHOLE)), float(curve.through_zero.at(WHOLE))
        rows.append(
            [
                unbroken(name),
                decimal(law.floor, 3),
                f"{law.gain * law.scale**law.exponent:.3g}",
                decimal(law.exponent, 2),
                decimal(value),
                bounds(interval.tolist()),
                decimal(no_floor),
            ]
        )
        numbers[name] = {
            **vars(law), "at": WHOLE, "value": value, "interval_95": interval, "no_floor": no_floor
        }  # fmt: skip
    header = ["", "a", "b", "c", f"at {WHOLE:,}", "95% interval", "without a floor"]
    page.table("laws", Table(header, rows, numbers))


def _add_trainings(page: Page, results: Results) -> None:
    rows, numbers = [], {}
    for member in (member for seeds in results.members.values() for member in seeds):
        galaxies, errors = member.notes["galaxies"][TRAIN], {v: member.rmse(v) for v in results.views}
        rows.append(
            [
                unbroken(member.training.folder),
                f"{galaxies:,}",
                f"{len(member.epochs)} ({member.best_epoch})",
                decimal(member.validation_rmse),
                *map(decimal, errors.values()),
                member.device,
            ]
        )
        numbers[member.training.folder] = {
            "validation_rmse": member.validation_rmse,
            "rmse": errors,
            "training_galaxies": galaxies,
        }
    header = ["", "galaxies", "epochs (kept)", "validation RMSE"]
    header += [*(_rmse_header(views) for views in results.views), "device"]
    if rows:
        page.table("trainings", Table(header, rows, numbers))
