"""The page of the study: verdict, table, differences, cost, learning curves, every training."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hubblefork.data.split import TRAIN, VALIDATION
from hubblefork.io import duration
from hubblefork.report.blocks import (
    Block,
    Facts,
    Listing,
    Missing,
    Paragraph,
    Picture,
    Section,
    Table,
    bounds,
    counted,
    decimal,
    listed,
    unbroken,
)
from hubblefork.report.figures.costs import error_against_cost
from hubblefork.report.oldpage import write_page
from hubblefork.stats import metrics
from hubblefork.studies.compare.curves import curves
from hubblefork.studies.compare.inputs import Network, Study
from hubblefork.studies.compare.verdict import LEVEL, RESAMPLES, Verdict, judge_networks, signed

COSTS = (("seconds", "seconds of training"), ("speed", "galaxies/s predicting, one view"))
FEW_SEEDS = 3


def write_study_page(study: Study, out: Path, *, command: Sequence[str] = ()) -> Path:
    """Write the page and return its path."""
    verdicts = {views: _verdict(study, views) for views in study.views} if study.compared else {}
    return write_page(
        out,
        _sections(study, verdicts, command),
        title="Networks compared",
        subtitle="The same split, the same galaxies, the same views at prediction",
        facts=_facts(study, verdicts),
    )


def _verdict(study: Study, views: int) -> Verdict:
    terms = {name: [one.terms[views] for one in seeds] for name, seeds in study.compared.items()}
    validation = {
        name: float(np.mean([one.validation_rmse for one in seeds])) for name, seeds in study.compared.items()
    }
    return judge_networks(terms, validation)


def _facts(study: Study, verdicts: Mapping[int, Verdict]) -> dict[str, Any]:
    return {
        "part": study.sky.part,
        "galaxies": len(study.sky.votes),
        "training_galaxies": len(study.sky.rows[TRAIN]),
        "resamples": RESAMPLES,
        "verdicts": {views: verdict.text for views, verdict in verdicts.items()},
        "recipes": {name: asdict(seeds[0].training.recipe) for name, seeds in study.compared.items()},
    }


def _sections(study: Study, verdicts: Mapping[int, Verdict], command: Sequence[str]) -> Iterator[Section]:
    yield _summary(study, verdicts)
    if len(study.compared) > 1:
        yield _differences(study, verdicts)
        yield _costs(study)
    if study.plan.curves:
        yield curves(study)
    yield _trainings(study, command)


def _summary(study: Study, verdicts: Mapping[int, Verdict]) -> Section:
    texts = [f"With {_views(views)} at prediction {verdict.text}" for views, verdict in verdicts.items()]
    blocks: list[Block] = [Paragraph(text) for text in reversed(texts)]
    blocks = [*blocks, _table(study), *(Paragraph(text, warning=True) for text in _warnings(study))]
    return Section("summary", "What came out", [*blocks, *_missing(study)])


def _missing(study: Study) -> Iterator[Missing]:
    if study.missing:
        remedy = "the same command without --only-report trains them; --runs DIR takes finished runs"
        yield Missing(f"Not trained yet: {listed(study.missing)}.", remedy)


def _views(views: int) -> str:
    return counted(views, "view")


def _warnings(study: Study) -> Iterator[str]:
    if study.sky.part == VALIDATION:
        yield "There are no test galaxies: those judged here chose each network's weights, which flatters."
    few = [name for name, seeds in study.compared.items() if len(seeds) < FEW_SEEDS]
    if few:
        yield f"Of {listed(few)} there are fewer than {FEW_SEEDS} seeds: another seed may turn a near tie."
    above = [
        name
        for name, seeds in study.compared.items()
        if np.mean([one.rmse(study.views[-1]) for one in seeds]) >= _mean_vote(study)
    ]
    if above:
        yield f"{listed(above)} did no better than the mean vote: what more training makes of it is open."
    devices = {one.device for seeds in study.compared.values() for one in seeds}
    if len(devices) > 1:
        yield f"Trained on {listed(sorted(devices))}: the times of training do not compare."


def _mean_vote(study: Study) -> float:
    return float(study.baselines["baselines"]["mean_vote"]["rmse"]["value"])


def _table(study: Study) -> Table:
    rows, numbers = [], {}
    for name, seeds in study.compared.items():
        rows.append(_network_row(name, seeds, study))
        numbers[name] = _network_numbers(seeds, study)
    for name in study.plan.ensembles:
        members = study.compared.get(name, [])
        if len(members) > 1:
            rows.append(_ensemble_row(name, members, study))
            numbers[f"{name} ensemble"] = _ensemble_numbers(members, study)
    for name, found in _baselines(study):
        error = decimal(found["rmse"]["value"])
        rows.append([name, *[error] * len(study.views), _agreement(found), *["–"] * 3])
        numbers[name] = {"rmse": found["rmse"]["value"]}
    header = ["", *(f"RMSE, {_views(views)}" for views in study.views), "agreement"]
    header += ["million parameters", "trained in", "galaxies/s"]
    return Table("networks", header, rows, _caption(study), numbers)


def _caption(study: Study) -> str:
    return (
        f"RMSE over all {len(study.sky.tree.columns)} answers on the same {len(study.sky.votes):,} "
        f"{study.sky.part} galaxies, after training on {len(study.sky.rows[TRAIN]):,}; × n: mean ± standard "
        "deviation over n seeds; as one: the mean of their fractions. Views are rotated and mirrored copies "
        "of a stamp whose predictions are averaged; the agreement, over all answers too, is with "
        f"{_views(study.views[-1])}. The time is of a whole training, without validation; galaxies/s is "
        "prediction with one view, once loaded, timed where this page was made: n views take n times as long."
    )


def _network_row(name: str, seeds: Sequence[Network], study: Study) -> list[str]:
    return [
        _together(name, seeds),
        *(_spread([one.rmse(views) for one in seeds]) for views in study.views),
        decimal(float(np.mean([_agreement_of(one, study) for one in seeds])), 3),
        _millions(seeds[0].parameters),
        duration(float(np.mean([one.seconds for one in seeds]))),
        f"{np.median([one.speed for one in seeds]):,.0f}",
    ]


def _network_numbers(seeds: Sequence[Network], study: Study) -> dict[str, Any]:
    return {
        "rmse": {views: [one.rmse(views) for one in seeds] for views in study.views},
        "validation_rmse": [one.validation_rmse for one in seeds],
        "agreement": [_agreement_of(one, study) for one in seeds],
        "parameters": seeds[0].parameters,
        "seconds": [one.seconds for one in seeds],
        "predicting_galaxies_per_second": [one.speed for one in seeds],
        "device": [one.device for one in seeds],
    }


def _ensemble_row(name: str, members: Sequence[Network], study: Study) -> list[str]:
    found = _ensemble_numbers(members, study)
    return [
        f"{_together(name, members)}, as one",
        *(decimal(found["rmse"][views]) for views in study.views),
        decimal(found["agreement"], 3),
        _millions(found["parameters"]),
        duration(found["seconds"]),
        f"{found['predicting_galaxies_per_second']:,.0f}",
    ]


def _together(name: str, seeds: Sequence[Network]) -> str:
    return f"{unbroken(name)} × {len(seeds)}" if len(seeds) > 1 else unbroken(name)


def _millions(parameters: int) -> str:
    return f"{parameters / 1e6:.3g}"


def _ensemble_numbers(members: Sequence[Network], study: Study) -> dict[str, Any]:
    votes = study.sky.votes
    mean = {views: np.mean([one.predicted[views] for one in members], axis=0) for views in study.views}
    return {
        "members": len(members),
        "rmse": {views: metrics.rmse(values, votes) for views, values in mean.items()},
        "agreement": metrics.agreement(mean[study.views[-1]], votes),
        "parameters": sum(one.parameters for one in members),
        "seconds": sum(one.seconds for one in members),
        "predicting_galaxies_per_second": 1 / sum(1 / one.speed for one in members),
    }


def _agreement_of(one: Network, study: Study) -> float:
    return metrics.agreement(one.predicted[study.views[-1]], study.sky.votes)


def _baselines(study: Study) -> list[tuple[str, dict[str, Any]]]:
    found = study.baselines["baselines"].items()
    return [(name.replace("_", " "), one) for name, one in sorted(found, key=_rmse_of)]


def _rmse_of(item: tuple[str, dict[str, Any]]) -> float:
    return item[1]["rmse"]["value"]


def _agreement(found: Mapping[str, Any]) -> str:
    return decimal(found["agreement"]["value"], 3) if found["agreement"] else "–"


def _spread(values: Sequence[float]) -> str:
    """Return mean and standard deviation over seeds, the latter where there is more than one."""
    mean = decimal(float(np.mean(values)))
    return f"{mean} ± {decimal(float(np.std(values, ddof=1)))}" if len(values) > 1 else mean


def _differences(study: Study, verdicts: Mapping[int, Verdict]) -> Section:
    rows, numbers = [], {}
    for views, verdict in verdicts.items():
        for name, rival in verdict.rivals.items():
            found = rival.comparison
            rows.append(
                [
                    f"{unbroken(name)}, {_views(views)}",
                    signed(found.difference),
                    bounds(found.interval_95),
                    _p_value(found.p_value),
                    f"{rival.p_holm:.2g}",
                ]
            )
            numbers[f"{name}, {views}"] = {**vars(found), "p_holm": rival.p_holm}
    best = next(iter(verdicts.values())).best
    caption = (
        f"RMSE of each other single network minus that of {best}, which has the lowest validation RMSE and "
        "so was chosen without the galaxies that judge. Seeds are averaged galaxy by galaxy before a paired "
        f"bootstrap of the {len(study.sky.votes):,} galaxies, {RESAMPLES:,} samples; the interval therefore "
        "holds what chance of galaxies leaves, not that of seeds. p is two-sided and not to be resolved "
        f"below {_least():.2g}; Holm's correction is for all the networks of this table at one number of "
        f"views, and a network counts as beaten below {LEVEL:g} of it."
    )
    header = [f"against {unbroken(best)}", "difference", "95% interval", "p", "p, Holm"]
    return Section("differences", "How sure that is", [Table("differences", header, rows, caption, numbers)])


def _least() -> float:
    return 2 / (RESAMPLES + 1)


def _p_value(value: float) -> str:
    return f"≤ {_least():.2g}" if value <= _least() else f"{value:.2g}"


def _costs(study: Study) -> Section:
    views = study.views[-1]
    points = {
        name: {
            "seconds": float(np.mean([one.seconds for one in seeds])),
            "speed": float(np.median([one.speed for one in seeds])),
            "rmse": float(np.mean([one.rmse(views) for one in seeds])),
            "sd": float(np.std([one.rmse(views) for one in seeds], ddof=1)) if len(seeds) > 1 else 0.0,
        }
        for name, seeds in list(study.compared.items())[:7]
    }
    caption = (
        f"RMSE with {_views(views)} (± standard deviation over seeds) against the seconds of a whole "
        "training and against the speed of prediction. Dotted: the mean vote."
    )
    drawing = error_against_cost(points, costs=COSTS, mean_vote=_mean_vote(study))
    return Section("costs", "Error against cost", [Picture("error-against-cost", drawing, caption)])


def _trainings(study: Study, command: Sequence[str]) -> Section:
    rows, numbers = [], {}
    for one in (one for seeds in study.networks.values() for one in seeds):
        rows.append(
            [
                unbroken(one.training.folder),
                f"{one.notes['galaxies'][TRAIN]:,}",
                f"{len(one.rows)} ({one.notes['best_epoch']})",
                decimal(one.validation_rmse),
                *(decimal(one.rmse(views)) for views in study.views),
                one.device,
            ]
        )
        numbers[one.training.folder] = {
            "validation_rmse": one.validation_rmse,
            "rmse": {views: one.rmse(views) for views in study.views},
            "training_galaxies": one.notes["galaxies"][TRAIN],
        }
    header = ["", "galaxies", "epochs (kept)", "validation RMSE"]
    header += [*(f"RMSE, {_views(views)}" for views in study.views), "device"]
    caption = (
        "Every training: what it was trained on, its epochs (they count from 0; the weights are those of the "
        "one kept), how its seed came out."
    )
    blocks: list[Block] = [Table("trainings", header, rows, caption, numbers)] if rows else []
    starts = {
        name: "; ".join(dict.fromkeys(str(one.notes.get("start", "–")) for one in seeds))
        for name, seeds in study.compared.items()
    }
    blocks += [Facts({f"{name} began with": text for name, text in starts.items()})] if starts else []
    made = [Listing(shlex.join(command))] if command else []
    return Section("trainings", "The trainings", [*blocks, *made])
