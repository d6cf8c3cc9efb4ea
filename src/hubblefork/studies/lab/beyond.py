"""Chapters beyond the report: its re-weighting beside two other heads, and what its accuracy measures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hubblefork.data.split import TRAIN, VALIDATION
from hubblefork.report.blocks import (
    Block,
    Missing,
    Paragraph,
    Picture,
    Section,
    Table,
    counted,
    decimal,
    listed,
    share,
)
from hubblefork.report.figures.comparisons import broken_constraints
from hubblefork.report.inputs import Galaxies
from hubblefork.stats.baselines import mean_vote
from hubblefork.stats.metrics import (
    ASKED,
    agreement,
    agreement_terms_per_question,
    constraint_terms,
    constraint_violation,
    rmse,
)
from hubblefork.studies.lab.inputs import Lab, Network
from hubblefork.studies.lab.trainings import HEADS_RECIPE, NETWORKS
from hubblefork.zoo import DecisionTree, violations

NOTABLE = 0.001
ABOUT = {
    "sigmoid": "37 sigmoids, nothing ties them",
    "lab": "the report's re-weighting, one level",
    "tree": "the product down the whole path",
}


def heads(lab: Lab) -> Section:
    """Return the comparison of the three heads: same network, data and seeds."""
    done = len(next(iter(lab.heads.values())))
    blocks: list[Block] = []
    if done < lab.seeds:
        what = f"Trained with every head: {done} of {counted(lab.seeds, 'seed')}."
        blocks.append(Missing(what, "the same command without --only-report"))
    if done:
        blocks += _heads_compared(lab, done)
    return Section("heads", "Three heads on one network", blocks)


def _heads_compared(lab: Lab, seeds: int) -> list[Block]:
    text = (
        f"The recipe {HEADS_RECIPE} with each of the three heads and everything else the same: galaxies, "
        f"schedule and {counted(seeds, 'seed')} each. RMSE, agreement and violation are of the "
        f"{lab.judged_on} galaxies"
        + (", mean ± standard deviation over the seeds." if seeds > 1 else ".")
        + " "
        + "; ".join(f"“{head}”: {about}" for head, about in ABOUT.items())
        + "."
    )
    measured = {
        head: [_measure(lab, network) for network in networks] for head, networks in lab.heads.items()
    }
    broken = {head: _broken(lab, networks) for head, networks in lab.heads.items()}
    drawing = broken_constraints(lab.tree, broken)
    picture = Picture("heads-violations", drawing, _violations_caption(drawing[1]))
    return [Paragraph(text), _heads_table(lab, measured), picture]


def _measure(lab: Lab, network: Network) -> dict[str, float]:
    galaxies, validation = network.judged[lab.judged_on], network.judged[VALIDATION]
    broken = violations(lab.tree, galaxies.predicted)
    return {
        "validation_rmse": rmse(validation.predicted, validation.volunteers),
        "rmse": rmse(galaxies.predicted, galaxies.volunteers),
        "agreement": agreement(galaxies.predicted, galaxies.volunteers),
        "violation": constraint_violation(lab.tree, galaxies.predicted),
        "galaxies_broken": len({one.row for one in broken}) / len(galaxies.ids),
        "largest_violation": max((abs(one.excess) for one in broken), default=0.0),
        "epochs": float(len(network.rows)),
    }


def _heads_table(lab: Lab, measured: Mapping[str, Sequence[Mapping[str, float]]]) -> Table:
    rows = []
    for head, some in measured.items():
        cells = [_spread([one[key] for one in some]) for key in ("validation_rmse", "rmse")]
        cells += [_spread([one["agreement"] for one in some], 3), _spread([one["violation"] for one in some])]
        cells.append(share(float(np.mean([one["galaxies_broken"] for one in some]))))
        rows.append([head, *cells, decimal(max(one["largest_violation"] for one in some), 3)])
    first = f"{lab.judged_on} RMSE"
    header = ["head", "validation RMSE", first, "agreement", "violation", "galaxies", "largest"]
    return Table(
        "heads",
        header,
        rows,
        _heads_caption(measured),
        {k: [dict(o) for o in v] for k, v in measured.items()},
    )


def _heads_caption(measured: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    errors = {head: [one["rmse"] for one in some] for head, some in measured.items()}
    means = {head: float(np.mean(values)) for head, values in errors.items()}
    order = sorted(means, key=means.__getitem__)
    apart = means[order[-1]] - means[order[0]]
    spread = max(float(np.std(values, ddof=1)) if len(values) > 1 else math.nan for values in errors.values())
    text = (
        "Violation is the mean of |sum of a question's answers − its reach| over galaxies and questions, "
        "both predicted; “galaxies” is the share that breaks any constraint by more than 10⁻⁴, “largest” "
        f"the largest break. {order[0]} has the smallest RMSE, {order[-1]} the largest, {decimal(apart)} "
        "apart"
    )
    if math.isnan(spread):
        return f"{text}; one seed each does not tell whether that is chance."
    return f"{text}; the largest standard deviation between seeds is {decimal(spread)}."


def _spread(values: Sequence[float], digits: int = 4) -> str:
    mean = decimal(float(np.mean(values)), digits)
    return f"{mean} ± {decimal(float(np.std(values, ddof=1)), digits)}" if len(values) > 1 else mean


def _broken(lab: Lab, networks: Sequence[Network]) -> NDArray[np.float64]:
    terms = [constraint_terms(lab.tree, network.judged[lab.judged_on].predicted) for network in networks]
    return np.mean([one.values() for one in terms], axis=0)


def _violations_caption(found: Mapping[str, Mapping[str, float]]) -> str:
    texts = []
    for head, values in found.items():
        worst = max(values, key=values.__getitem__)
        broken = [name.replace("_", " ") for name, value in values.items() if value > NOTABLE]
        often = f"breaks {len(broken)} of {counted(len(values), 'question')}" if broken else "breaks none"
        most = f", most {worst.replace('_', ' ')} ({decimal(values[worst], 3)})" if broken else ""
        texts.append(f"{head} {often}{most}")
    return (
        "By how much the predictions break each question's sum, on average over galaxies and seeds. By more "
        f"than {NOTABLE:g}, {'; '.join(texts)}. The report's head breaks where a path has a third question: "
        "it forgets what comes before the parent."
    )


def agreements(lab: Lab) -> Section:
    """Return what "accuracy" over 37 columns measures, with the agreement per question beside it."""
    title = "What the report's accuracy measures"
    networks = lab.there(*NETWORKS)
    if not networks:
        return Section("accuracy", title, [lab.networks[name] for name in NETWORKS])  # type: ignore[misc]
    judged = {name: network.judged[lab.judged_on] for name, network in networks.items()}
    first = next(iter(judged.values()))
    guess = mean_vote(lab.votes(TRAIN), len(first.ids))
    sides = {"mean vote": guess, **{name: galaxies.predicted for name, galaxies in judged.items()}}
    return Section(
        "accuracy",
        title,
        [
            Paragraph(_measured_text(lab, first, sides)),
            _highest_table(lab, first, sides),
            _per_question(lab, first, sides),
        ],
    )


def _measured_text(lab: Lab, galaxies: Galaxies, sides: Mapping[str, NDArray]) -> str:
    complete = ~np.isnan(galaxies.volunteers).any(axis=1)
    highest = np.bincount(galaxies.volunteers[complete].argmax(axis=1), minlength=len(lab.tree.columns))
    first = int(highest.argmax())
    shares = {name: agreement(values, galaxies.volunteers) for name, values in sides.items()}
    theirs = [f"{decimal(value, 3)} ({name})" for name, value in shares.items() if name != "mean vote"]
    return (
        "Keras's categorical accuracy takes the 37 columns for 37 classes of which one is right, and asks "
        "whether the highest predicted column is the highest label. But the columns answer eleven "
        "questions. Two of these are asked of every galaxy, so that the highest label is almost always one "
        f"of theirs: “{lab.tree.answers[first].text}” for {share(highest[first] / max(complete.sum(), 1))} "
        "of the galaxies. So the mean vote, the same for every galaxy, has an accuracy of "
        f"{decimal(shares['mean vote'], 3)}; the networks have {listed(theirs)}. It says nothing of bars, "
        "bulges or arms. What does is the agreement within each question, among the galaxies it was put to."
    )


def _highest_table(lab: Lab, galaxies: Galaxies, sides: Mapping[str, NDArray]) -> Table:
    complete = ~np.isnan(galaxies.volunteers).any(axis=1)
    everybody = {"volunteers": galaxies.volunteers, **sides}
    counts = {
        name: np.bincount(values[complete].argmax(axis=1), minlength=len(lab.tree.columns))
        for name, values in everybody.items()
    }
    total = max(int(complete.sum()), 1)
    ever = np.flatnonzero(sum(counts.values()))
    rows = [
        [lab.tree.answers[column].text, *(share(count[column] / total) for count in counts.values())]
        for column in sorted(ever, key=lambda column: -counts["volunteers"][column])
    ]
    caption = (
        f"How often each answer is the highest of all {len(lab.tree.columns)}, over {total:,} "
        f"{lab.judged_on} galaxies with all labels. Only {np.count_nonzero(counts['volunteers'])} of the "
        "answers ever are by the volunteers."
    )
    numbers = {
        name: dict(zip(lab.tree.columns, count / total, strict=True)) for name, count in counts.items()
    }
    return Table("highest-answers", ["highest answer", *everybody], rows, caption, numbers)


def _per_question(lab: Lab, galaxies: Galaxies, sides: Mapping[str, NDArray]) -> Table:
    terms = {
        name: agreement_terms_per_question(lab.tree, values, galaxies.volunteers)
        for name, values in sides.items()
    }
    asked = next(iter(terms.values())).galaxies()
    values = {name: one.values() for name, one in terms.items()}
    rows = [
        [
            f"{question.task} {question.text}",
            f"{asked[k]:,}",
            *(share(column[k]) for column in values.values()),
        ]
        for k, question in enumerate(lab.tree.questions)
    ]
    total = [share(agreement(found, galaxies.volunteers)) for found in sides.values()]
    rows.append(["all 37 columns (the report's accuracy)", f"{len(galaxies.ids):,}", *total])
    names = [question.name for question in lab.tree.questions]
    numbers = {name: dict(zip(names, column, strict=True)) for name, column in values.items()}
    caption = (
        f"Agreement on the highest answer of each question, among the {lab.judged_on} galaxies that reach "
        f"it with a probability of at least {ASKED:g} by the volunteers. {_least_gained(lab.tree, values)}"
    )
    return Table("agreements", ["question", "galaxies", *sides], rows, caption, numbers)


def _least_gained(tree: DecisionTree, values: Mapping[str, NDArray]) -> str:
    name = list(values)[1]
    gained = values[name] - values["mean vote"]
    if np.isnan(gained).all():
        return ""
    most, least = int(np.nanargmax(gained)), int(np.nanargmin(gained))
    points = [f"{100 * gained[question]:+.0f}".replace("-", "−") for question in (most, least)]
    return (
        f"Over the mean vote {name} gains most on “{tree.questions[most].text}” ({points[0]} points) and "
        f"least on “{tree.questions[least].text}” ({points[1]})."
    )
