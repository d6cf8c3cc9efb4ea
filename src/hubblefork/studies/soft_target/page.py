"""The page of the study: verdict, table, curves, cost, trainings, tuning, folds, how the time was divided."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from hubblefork.io import duration
from hubblefork.report.blocks import (
    Block,
    Listing,
    Missing,
    Paragraph,
    Picture,
    Section,
    Table,
    decimal,
    listed,
    unbroken,
)
from hubblefork.report.figures.costs import error_against_cost, errors_over_time
from hubblefork.report.oldpage import write_page
from hubblefork.stats import metrics
from hubblefork.studies.soft_target.inputs import Network, Study
from hubblefork.studies.soft_target.plan import FOLDS, SHARES, SIMPLE, TUNED, TUNING
from hubblefork.studies.tuned import trials

CLAIM = "simplicity performed better than complexity"
CLAIMED = 0.079


@dataclass(frozen=True)
class Verdict:
    """Whether the claim "holds", "does not hold" or "is undecided", why, and the differences behind it.

    `behind` maps each larger network to its RMSE minus that of the simple one, with its 95% interval.
    """

    word: str
    text: str
    behind: dict[str, metrics.Comparison]
    rank_correlation: float | None


def judge_claim(
    networks: dict[str, Network], *, mean_vote: float, resamples: int = metrics.RESAMPLES
) -> Verdict:
    """Judge the claim from the errors of the simple network and of those with more parameters.

    It holds when every larger network is worse than the simple one by more than the 95% interval of the
    paired difference leaves to chance; it does not when one is better by so much; else it is undecided. It is
    undecided also where the simple network itself is no better than `mean_vote`, the RMSE of that baseline.
    """
    simple = networks.get(SIMPLE)
    larger = {n: one for n, one in networks.items() if simple and one.parameters > simple.parameters}
    if simple is None or not larger:
        return Verdict("is undecided", f"{SIMPLE} or the networks to compare it with are missing.", {}, None)
    draws = metrics.draw(len(simple.votes), rng=np.random.default_rng(0), resamples=resamples)
    ours = _terms(simple)
    behind = {name: metrics.compare(_terms(one), ours, draws) for name, one in larger.items()}
    worse = [name for name, found in behind.items() if found.interval_95[0] > 0]
    better = [name for name, found in behind.items() if found.interval_95[1] < 0]
    word = "does not hold" if better else "holds" if len(worse) == len(behind) else "is undecided"
    word = word if simple.rmse < mean_vote else "is undecided"
    text = f"{_because(behind, better, worse)}{_untaught(networks, mean_vote)}"
    return Verdict(word, text, behind, _rank_correlation(networks))


def _untaught(networks: dict[str, Network], mean_vote: float) -> str:
    """Say which networks have not come below the mean vote, so that nothing can be said about them yet."""
    above = [name for name, one in networks.items() if one.rmse >= mean_vote]
    if not above:
        return ""
    return (
        f" When the time was over {listed(above)} had not come below the mean vote's {decimal(mean_vote)}: "
        "what more time would make of them, these numbers do not say."
    )


def _terms(network: Network) -> metrics.Terms:
    return metrics.in_total(metrics.error_terms(network.predicted, network.votes))


def _because(behind: dict[str, metrics.Comparison], better: list[str], worse: list[str]) -> str:
    differences = [
        f"{name} {'+' if found.difference >= 0 else '−'}{abs(found.difference):.4f} "
        f"({decimal(found.interval_95[0])} to {decimal(found.interval_95[1])})"
        for name, found in behind.items()
    ]
    text = (
        f"RMSE of each larger network minus that of {SIMPLE}, with the 95% interval of a paired bootstrap: "
        f"{listed(differences)}."
    )
    if better:
        return f"{text} {listed(better)} did better than {SIMPLE} by more than chance."
    if len(worse) == len(behind):
        return f"{text} All did worse than {SIMPLE} by more than chance."
    open_ones = [name for name in behind if name not in worse]
    return f"{text} Not to be told from {SIMPLE} by these galaxies: {listed(open_ones)}."


def _rank_correlation(networks: dict[str, Network]) -> float | None:
    """Return Spearman's correlation of parameters and RMSE: above 0, larger networks were worse."""
    if len(networks) < 3:
        return None
    sizes, errors = zip(*((one.parameters, one.rmse) for one in networks.values()), strict=True)
    found = float(spearmanr(sizes, errors).statistic)
    return None if np.isnan(found) else found


def write_study_page(study: Study, out: Path, *, command: Sequence[str] = ()) -> Path:
    """Write the page and return its path."""
    verdict = judge_claim(study.trained, mean_vote=_mean_vote(study))
    facts = {
        "data": study.data.name,
        "verdict": verdict.word,
        "behind": {name: vars(found) for name, found in verdict.behind.items()},
        "rank_correlation": verdict.rank_correlation,
        "seconds": study.plan.seconds,
    }
    return write_page(
        out,
        _sections(study, verdict, command),
        title="Soft targets: simple and less simple networks",
        subtitle="Baselines, VGGs, ResNet-50, adapters, seven blocks, tuning and folds in one budget",
        facts=facts,
    )


def _sections(study: Study, verdict: Verdict, command: Sequence[str]) -> Iterator[Section]:
    yield _summary(study, verdict)
    yield _curves(study)
    yield _how(study)
    yield (
        trials(study.tuned)
        if not isinstance(study.tuned, Missing)
        else _only("tuning", "Tuning", study.tuned)
    )
    yield _folds(study)
    yield _budget(study, command)


def _only(anchor: str, title: str, block: Block) -> Section:
    return Section(anchor, title, [block])


def _summary(study: Study, verdict: Verdict) -> Section:
    missing = [one for one in study.networks.values() if isinstance(one, Missing)]
    return Section(
        "summary", "What came out", [Paragraph(_verdict_text(study, verdict)), _table(study), *missing]
    )


def _verdict_text(study: Study, verdict: Verdict) -> str:
    text = f"“{CLAIM.capitalize()}”: here this {verdict.word}. {verdict.text}"
    if verdict.rank_correlation is not None:
        text += (
            f" Over all {len(study.trained)} networks the rank correlation of parameters and RMSE is "
            f"{decimal(verdict.rank_correlation, 2)} (above 0: larger is worse)."
        )
    if study.trained:
        lowest = min(study.trained.values(), key=lambda one: one.rmse)
        text += (
            f" The lowest RMSE is {decimal(lowest.rmse)}, of {lowest.name}. The description's {CLAIMED} is "
            "from other galaxies and many more to train on, and does not compare."
        )
    same = "Each network had the same time and one seed: another seed or budget may turn a near tie."
    return f"{text} {same}"


def _table(study: Study) -> Table:
    rows, numbers = [], {}
    for name, one in sorted(study.trained.items(), key=lambda item: item[1].rmse):
        rows.append(_network_row(one))
        numbers[name] = _network_numbers(one)
    for name, found in sorted(
        study.baselines["baselines"].items(), key=lambda item: item[1]["rmse"]["value"]
    ):
        low, high = found["rmse"]["interval_68"]
        error = f"{decimal(found['rmse']['value'])} ± {decimal((high - low) / 2)}"
        rows.append([unbroken(name.replace("_", " ")), error, _agreement(found), *["–"] * 5])
        numbers[name] = {"rmse": found["rmse"]["value"], "sd": (high - low) / 2}
    header = ["", "RMSE ± s.d.", "agreement", "parameters", "trained", "galaxies/s training"]
    header += ["galaxies/s predicting", "seconds to best"]
    caption = (
        f"RMSE over all 37 answers on the same {study.baselines['galaxies']:,} {study.part} galaxies; ± is "
        "the standard deviation that the number of galaxies leaves (bootstrap), not that of other seeds. "
        "Trained: the share of the parameters that gradients change. Seconds are of training only, to the "
        "epoch kept."
    )
    return Table("networks", header, rows, caption, numbers)


def _network_row(one: Network) -> list[str]:
    share = one.notes["parameters"].get("trained_share", 1.0)
    return [
        unbroken(one.name),
        f"{decimal(one.rmse)} ± {decimal(one.sd)}",
        _agreement(one.evaluation),
        f"{one.parameters:,}",
        f"{share:.1%}",
        f"{one.notes['galaxies_per_second']:,.0f}",
        f"{one.speed:,.0f}",
        f"{one.seconds_to_best:,.0f}",
    ]


def _network_numbers(one: Network) -> dict[str, Any]:
    return {
        "rmse": one.rmse,
        "sd": one.sd,
        "parameters": one.parameters,
        "trained_share": one.notes["parameters"].get("trained_share", 1.0),
        "training_galaxies_per_second": one.notes["galaxies_per_second"],
        "predicting_galaxies_per_second": one.speed,
        "seconds_to_best": one.seconds_to_best,
        "epochs": len(one.rows),
        "start": one.notes["start"],
    }


def _mean_vote(study: Study) -> float:
    return float(study.baselines["baselines"]["mean_vote"]["rmse"]["value"])


def _agreement(found: dict[str, Any]) -> str:
    return decimal(found["agreement"]["value"], 3) if found["agreement"] else "–"


def _curves(study: Study) -> Section:
    title = "Error over time, error against cost"
    if not study.trained:
        return _only("curves", title, Missing("No network is trained.", "train one"))
    validation = {
        name: {"seconds": one.seconds, "rmse": np.array([row["validation_rmse"] for row in one.rows])}
        for name, one in study.trained.items()
    }
    points = {
        name: {"seconds": one.seconds_to_best, "parameters": one.parameters, "rmse": one.rmse, "sd": one.sd}
        for name, one in study.trained.items()
    }
    mean = _mean_vote(study)
    first = min(points, key=lambda name: points[name]["seconds"])
    over_time = (
        "Validation RMSE against seconds of training (logarithmic), each epoch and the best so far. The "
        "vertical axis leaves out the first epochs of networks that begin far off."
    )
    against = (
        "Test RMSE (± its standard deviation over galaxies) against the seconds to the epoch kept and "
        f"against the parameters. {first} was first at its best, after {points[first]['seconds']:,.0f} s. "
        "Dotted: the mean vote."
    )
    return Section(
        "curves",
        title,
        [
            Picture("learning-curves", errors_over_time(validation), over_time),
            Picture("error-against-cost", error_against_cost(points, mean_vote=mean), against),
        ],
    )


def _how(study: Study) -> Section:
    rows = [
        [
            unbroken(name),
            one.notes["start"],
            f"{one.recipe.optimiser}, {one.recipe.learning_rate:.2g}, {one.recipe.schedule}",
            str(one.recipe.batch_size),
            f"{len(one.rows)} ({one.best_epoch})",
            f"{one.notes['device']['kind']}, {one.notes['device']['precision']}",
            f"{one.file_bytes / 1e6:.1f} MB",
        ]
        for name, one in study.trained.items()
    ]
    header = ["", "started from", "optimiser, rate, schedule", "batch", "epochs (kept)", "device", "weights"]
    caption = (
        "How each network was trained. Epochs count from 0. The file of a network with adapters holds "
        "these, the statistics of its normalisations and its dense layers alone."
    )
    remarks = [remark for one in study.trained.values() for remark in one.notes.get("remarks", [])]
    random = [
        n for n, one in study.trained.items() if one.recipe.adapter_rank and "random" in one.notes["start"]
    ]
    if random:
        remarks.append(
            f"{listed(random)} had no published weights to begin with: adapters beside random weights are no "
            "test of adapters. --weights FILE gives them."
        )
    blocks: list[Block] = [Table("trainings", header, rows, caption, _trainings(study))]
    return Section(
        "trainings", "The trainings", [*blocks, *(Paragraph(text) for text in dict.fromkeys(remarks))]
    )


def _trainings(study: Study) -> dict[str, Any]:
    return {
        name: {"start": one.notes["start"], "bytes": one.file_bytes} for name, one in study.trained.items()
    }


def _folds(study: Study) -> Section:
    title = "Cross validation"
    if isinstance(study.folds, Missing):
        return _only("folds", title, study.folds)
    found = study.folds
    columns = found["judged_galaxies"], found["training_galaxies"], found["rmse"]["folds"]
    rows = [
        [str(number), f"{judged:,}", f"{trained:,}", decimal(error)]
        for number, (judged, trained, error) in enumerate(zip(*columns, strict=True))
    ]
    mean, spread = found["rmse"]["mean"], found["rmse"]["sd"]
    rows.append(["mean ± s.d.", "", "", f"{decimal(mean)} ± {decimal(spread)}"])
    caption = (
        f"{found['recipe']} in {found['folds']} folds, {duration(study.plan.seconds[FOLDS])} for all of "
        "them: every galaxy that may be judged, test galaxies left out, judged once by the network that did "
        f"not see it ({found['galaxies']:,} galaxies, RMSE {decimal(found['out_of_fold_rmse'])} over all of "
        "them together). The standard deviation is over folds."
    )
    header = ["fold", "judged", "trained on", "RMSE"]
    return Section("folds", title, [Table("folds", header, rows, caption, found)])


def _budget(study: Study, command: Sequence[str]) -> Section:
    spent = {name: float(one.seconds[-1]) for name, one in study.trained.items()}
    if not isinstance(study.tuned, Missing):
        spent[TUNING] = sum(row["seconds"] or 0 for row in study.tuned.rows)
    rows = [
        [name, f"{SHARES[name]:.0%}", duration(seconds), duration(spent[name]) if name in spent else "–"]
        for name, seconds in study.plan.seconds.items()
    ]
    caption = (
        "How the budget was divided, and the seconds of training alone that came of it: a training stops "
        "before an epoch that would end too late, and validation counts as time but not as training. "
        f"{FOLDS} is the time of all folds together; {TUNED} is trained after {TUNING}."
    )
    table = Table("budget", ["part", "share", "time", "of it training"], rows, caption, study.plan.seconds)
    made = [Listing(shlex.join(command))] if command else []
    return Section("budget", "The budget", [table, *made])
