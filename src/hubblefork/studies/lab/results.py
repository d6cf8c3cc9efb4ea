"""The lab report's sections 5.5 and 6: trainings, predictions, mergers; and what the report leaves open.

As in `studies.lab.sample`, a section returns the values of its text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from hubblefork.data.judged import JudgedGalaxies
from hubblefork.data.split import TRAIN, VALIDATION
from hubblefork.network.heads import LabHead
from hubblefork.pages import answers, comparisons
from hubblefork.pages.fractions import fraction_against_threshold
from hubblefork.pages.page import Page
from hubblefork.pages.sheets import image_sheet, prototype_rows
from hubblefork.pages.tables import Column, Table, counts_table, decimal, share, spread
from hubblefork.stats import metrics
from hubblefork.stats.baselines import mean_vote
from hubblefork.stats.estimators import MERGER, THRESHOLD, binomial_interval, count_above
from hubblefork.stats.samples import prototypes
from hubblefork.studies.lab.networks import (
    ALL,
    AUGMENTED,
    HEADS_RECIPE,
    NETWORKS,
    REPORT,
    Lab,
    Network,
    cutouts,
    gap,
    parameters,
    unlabelled_cutouts,
)
from hubblefork.studies.lab.sample import IMAGE_DPI, Values, images_or_missing
from hubblefork.zoo import DecisionTree, violations

EACH, NINE = 5, 9  # galaxies of a row of figures 14 to 17, of figure 18
REMEDY = "the same command with --test-images images_test_rev1.zip"
VANISHED, EPSILON = -120.0, 1e-12


def training(page: Page, lab: Lab) -> Values:
    """Section 5.5, figures 8 to 10, table 6: how the trainings went."""
    networks = lab.trained(*NETWORKS)
    if not networks:
        return {"order": []}
    curves = {name: network.rows for name, network in networks.items()}
    best = {name: network.best_epoch for name, network in networks.items()}
    page.figure("figure-08", *comparisons.training_of_networks(curves, best=best))
    page.figure("figure-09", *comparisons.networks_compared(curves, measure="loss"))
    page.figure("figure-10", *comparisons.networks_compared(curves, measure="agreement"))
    rows: Values = {}
    numbers: Values = {}
    for name, network in networks.items():
        stated = REPORT["networks"][name]
        ours = {"mean of all epochs": network.losses(), "epoch kept": network.losses(network.best_epoch)}
        rows |= {f"{name}: {which}": losses for which, losses in ours.items()}
        report = {key.replace("training", "train"): f"{value:g}" for key, value in stated["table_6"].items()}
        rows[f"report: {stated['name']}"] = report
        numbers[name] = {**ours, "report": stated["table_6"]}
    columns: list[Column] = [
        ("", "", ""),
        ("training loss", "train_loss", ".4f"),
        ("validation loss", "validation_loss", ".4f"),
        ("training agreement", "train_agreement", ".3f"),
        ("validation agreement", "validation_agreement", ".3f"),
    ]
    page.table("table-06", Table.of(rows, columns, numbers=numbers))
    order = sorted(numbers, key=lambda name: numbers[name]["epoch kept"]["validation_loss"])
    return {"order": order}


def scatter(page: Page, lab: Lab) -> Values:
    """Figures 11 to 13: predicted against volunteers' fractions, 37 panels a network."""
    values = {}
    for number, name in enumerate(NETWORKS, start=11):
        if name not in lab.networks:
            continue
        galaxies = lab.networks[name].judged[VALIDATION]
        drawing = answers.predicted_against_volunteers(lab.tree, galaxies.predicted, galaxies.volunteers)
        page.figure(f"figure-{number}", *drawing)
        values[name] = {
            "galaxies": len(galaxies.ids),
            "rmse": metrics.rmse(galaxies.predicted, galaxies.volunteers),
            "predicted_sd": _scatter_about_means(galaxies.predicted),
            "votes_sd": _scatter_about_means(galaxies.volunteers),
        }
    return values


def _scatter_about_means(values: NDArray) -> float:
    return float(np.sqrt(np.ma.masked_invalid(values).var(axis=0).mean()))


def prototype_sheets(page: Page, lab: Lab) -> None:
    """Figures 14 to 17: the five highest galaxies of seven answers, by volunteers and networks."""
    networks = lab.trained(*NETWORKS)
    for name, network in list(networks.items())[:1]:
        with images_or_missing(page, "figure-14", lab.data.ingest_command):
            galaxies = network.judged[VALIDATION]
            chosen = _highest(lab, galaxies, galaxies.volunteers, galaxies.predicted)
            drawing = prototype_rows(lab.tree, chosen, by="volunteers", other=name)
            page.figure("figure-14", *drawing, dpi=IMAGE_DPI)
    for name, network in networks.items():
        figure = f"figure-{15 + NETWORKS.index(name)}"
        with images_or_missing(page, figure, lab.data.ingest_command):
            galaxies = network.judged[VALIDATION]
            chosen = _highest(lab, galaxies, galaxies.predicted, galaxies.volunteers)
            drawing = prototype_rows(lab.tree, chosen, by=name, other="volunteers")
            page.figure(figure, *drawing, dpi=IMAGE_DPI)


def _highest(lab: Lab, galaxies: JudgedGalaxies, values: NDArray, others: NDArray) -> dict[str, list[tuple]]:
    """Return the highest galaxies of each answer: id, value, the other side's value, image."""
    found = {}
    for answer in REPORT["prototypes"]:
        column = lab.tree.column(answer)
        best = prototypes(values, galaxies.ids, column, EACH)
        pictures = cutouts(lab.table, galaxies.rows[best])
        sides = values[best, column].tolist(), others[best, column].tolist()
        found[answer] = list(zip(galaxies.ids[best].tolist(), *sides, pictures, strict=True))
    return found


def mergers(page: Page, lab: Lab) -> Values:
    """Section 6.3, equation 4 and figure 18: the merger fraction of the test images."""
    if not lab.unlabelled:
        what = "There are no test images or no network: none were given, or all galaxies have labels."
        page.missing("figure-18", what, REMEDY)
    samples = _merger_samples(lab)
    values = {"report_interval": binomial_interval(REPORT["mergers"], REPORT["test_images"])}
    if not samples:
        return values
    counts = {name: count_above(lab.tree, joint) for name, joint in samples.items()}
    page.table("merger-fractions", counts_table(counts))
    main = ("test images, lab-cnn", f"{lab.judged_on} part, volunteers", f"{lab.judged_on} part, lab-cnn")
    shown = {name: samples[name] for name in main if name in samples} or dict(list(samples.items())[:3])
    page.figure("merger-thresholds", *fraction_against_threshold(lab.tree, shown))
    return {**values, "threshold": THRESHOLD, **_merger_images(page, lab)}


def _merger_samples(lab: Lab) -> dict[str, NDArray]:
    """Return joint fractions by sample: the test images by each network, the judged part by both sides."""
    samples = {f"test images, {name}": galaxies.predicted for name, galaxies in lab.unlabelled.items()}
    for name, network in lab.networks.items():
        galaxies = network.judged[lab.judged_on]
        asked = galaxies.chosen(~np.isnan(galaxies.volunteers[:, lab.tree.column(MERGER)]))
        if len(asked.ids):
            samples.setdefault(f"{lab.judged_on} part, volunteers", asked.volunteers)
            samples[f"{lab.judged_on} part, {name}"] = asked.predicted
    return samples


def _merger_images(page: Page, lab: Lab) -> Values:
    for name, galaxies in list(lab.unlabelled.items())[:1]:
        values = galaxies.predicted[:, lab.tree.column(MERGER)]
        above = np.flatnonzero(values >= THRESHOLD)
        if len(above) >= NINE:
            chosen = np.random.default_rng(REPORT["mergers"]).choice(above, NINE, replace=False)
        else:
            chosen = prototypes(galaxies.predicted, galaxies.ids, lab.tree.column(MERGER), NINE)
        some, notes = galaxies.chosen(chosen), [decimal(float(value), 2) for value in values[chosen]]
        with images_or_missing(page, "figure-18", REMEDY):
            pictures, ids = np.stack(unlabelled_cutouts(lab, some)), some.ids.tolist()
            page.figure("figure-18", *image_sheet(pictures, ids, notes=notes, columns=EACH), dpi=IMAGE_DPI)
        return {"network": name, "above": len(above), "drawn": len(chosen)}
    return {}


def disagreements(page: Page, lab: Lab) -> Values:
    """Where the report contradicts itself, its data or arithmetic."""
    rows = {}
    for name, stated in REPORT["networks"].items():
        loss, table = stated["abstract_loss"], stated["table_6"]
        same = [part for part in ("training", "validation") if table[f"{part}_loss"] == loss]
        rows[name] = {"abstract": loss, **table, "is": "both" if len(same) == 2 else same[0]}
    columns: list[Column] = [
        ("", "", lambda name: REPORT["networks"][name]["name"]),
        ("abstract", "abstract", "g"),
        ("table 6, training", "training_loss", "g"),
        ("table 6, validation", "validation_loss", "g"),
        ("the abstract's is", "is", ""),
    ]
    page.table("abstract-losses", Table.of(rows, columns))
    full = lab.votes[~np.isnan(lab.votes).any(axis=1)]
    scores = np.zeros((1, len(lab.tree.columns)), np.float32)
    even = LabHead(lab.tree)(torch.from_numpy(scores))[0].numpy()
    scores[:, lab.tree.slices[0]] = VANISHED
    return {
        "rmses": {
            name: math.sqrt(row["table_6"]["validation_loss"]) for name, row in REPORT["networks"].items()
        },
        "parameters": parameters("lab-resnet50") / parameters("lab-cnn"),
        "full": len(full),
        "largest": metrics.constraint_terms(lab.tree, full).numerator.max() if len(full) else math.nan,
        "even_sum": float(even[lab.tree.slices[-1]].sum()),
        "even_reach": _reach_at_even_odds(lab.tree, len(lab.tree.questions) - 1),
        "vanished": VANISHED,
        "epsilon_from": math.log(EPSILON),
        "published_nan": int(np.count_nonzero(np.isnan(published_reweighting(lab.tree, scores)))),
        "ours_nan": int((~torch.isfinite(LabHead(lab.tree)(torch.from_numpy(scores)))).sum()),
    }


def _reach_at_even_odds(tree: DecisionTree, question: int) -> float:
    """Return the share of galaxies that reach a question where all answers of a question are as likely."""
    above = [tree.question_of[parent] for parent in tree.parents[question]]
    if not above:
        return 1.0
    return sum(_reach_at_even_odds(tree, one) / len(tree.questions[one].answers) for one in above)


def published_reweighting(tree: DecisionTree, scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the report's re-weighting as it is printed, in single precision; shapes (galaxy, answer).

    It only shows where the formula fails: a network's head is `network.heads.LabHead`.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        outputs = (1 / (1 + np.exp(-scores.astype(np.float32)))).astype(np.float32)
        sums = np.stack([outputs[:, answers].sum(axis=1) for answers in tree.slices], axis=1)
        shares = outputs / (sums[:, list(tree.question_of)] + np.float32(EPSILON))
        one = shares[:, 1] / shares[:, 1]
    gates = [tree.gates[question] for question in tree.question_of]
    factors = np.stack([one if gate is None else shares[:, gate] for gate in gates], axis=1)
    return (shares * factors).astype(np.float32)


def heads(page: Page, lab: Lab) -> Values:
    """Three heads: the same network, data and seeds."""
    done = len(next(iter(lab.heads.values())))
    values: Values = {"recipe": HEADS_RECIPE, "done": done}
    if done < lab.seeds:
        what = f"Trained with every head: {done} of {lab.seeds} seeds."
        page.missing("heads-seeds", what, "the same command without --only-report")
    if not done:
        return values
    numbers = {name: [_head_numbers(lab, network) for network in some] for name, some in lab.heads.items()}
    columns: list[Column] = [
        ("head", "", ""),
        ("validation RMSE", _over_seeds("validation_rmse"), spread),
        (f"{lab.judged_on} RMSE", _over_seeds("rmse"), spread),
        ("agreement", _over_seeds("agreement"), partial(spread, digits=3)),
        ("violation", _over_seeds("violation"), spread),
        ("galaxies", lambda seeds: np.mean([one["galaxies_broken"] for one in seeds]), ".1%"),
        ("largest", lambda seeds: max(one["largest_violation"] for one in seeds), ".3f"),
    ]
    page.table("heads", Table.of(numbers, columns))
    broken = {
        head: np.mean(
            [
                metrics.constraint_terms(lab.tree, one.judged[lab.judged_on].predicted).values()
                for one in some
            ],
            axis=0,
        )
        for head, some in lab.heads.items()
    }
    page.figure("heads-violations", *comparisons.broken_constraints(lab.tree, broken))
    return values


def _over_seeds(key: str) -> Callable[[Sequence[Mapping[str, float]]], list[float]]:
    return lambda seeds: [one[key] for one in seeds]


def _head_numbers(lab: Lab, network: Network) -> dict[str, float]:
    galaxies, validation = network.judged[lab.judged_on], network.judged[VALIDATION]
    broken = violations(lab.tree, galaxies.predicted)
    return {
        "validation_rmse": metrics.rmse(validation.predicted, validation.volunteers),
        "rmse": metrics.rmse(galaxies.predicted, galaxies.volunteers),
        "agreement": metrics.agreement(galaxies.predicted, galaxies.volunteers),
        "violation": metrics.constraint_violation(lab.tree, galaxies.predicted),
        "galaxies_broken": len({one.row for one in broken}) / len(galaxies.ids),
        "largest_violation": max((abs(one.excess) for one in broken), default=0.0),
        "epochs": float(len(network.rows)),
    }


def accuracy(page: Page, lab: Lab) -> Values:
    """What "accuracy" over 37 columns measures, and the agreement per question."""
    networks = lab.trained(*NETWORKS)
    if not networks:
        return {}
    judged = {name: network.judged[lab.judged_on] for name, network in networks.items()}
    first = next(iter(judged.values()))
    sides = {"mean vote": mean_vote(lab.votes_of(TRAIN), len(first.ids))}
    sides |= {name: galaxies.predicted for name, galaxies in judged.items()}
    _highest_answers(page, lab, {"volunteers": first.volunteers, **sides})
    terms = {
        name: metrics.agreement_terms_per_question(lab.tree, some, first.volunteers)
        for name, some in sides.items()
    }
    asked = next(iter(terms.values())).galaxies()
    agreed = {name: one.values() for name, one in terms.items()}
    rows = [
        [f"{question.task} {question.text}", f"{asked[k]:,}", *(share(some[k]) for some in agreed.values())]
        for k, question in enumerate(lab.tree.questions)
    ]
    shares = [share(metrics.agreement(values, first.volunteers)) for values in sides.values()]
    rows.append(["all 37 columns (the report's accuracy)", f"{len(first.ids):,}", *shares])
    names = [question.name for question in lab.tree.questions]
    numbers = {name: dict(zip(names, some, strict=True)) for name, some in agreed.items()}
    page.table("agreements", Table(["question", "galaxies", *sides], rows, numbers))
    return {"asked": metrics.ASKED}


def _highest_answers(page: Page, lab: Lab, sides: Mapping[str, NDArray]) -> None:
    """Add the table of how often each answer is the highest of all."""
    complete = ~np.isnan(sides["volunteers"]).any(axis=1)
    total, answers = max(int(complete.sum()), 1), len(lab.tree.columns)
    shares = {
        name: np.bincount(some[complete].argmax(axis=1), minlength=answers) / total
        for name, some in sides.items()
    }
    rows = [
        [lab.text(int(column)), *(share(some[column]) for some in shares.values())]
        for column in sorted(np.flatnonzero(sum(shares.values())), key=lambda k: -shares["volunteers"][k])
    ]
    numbers = {name: dict(zip(lab.tree.columns, some, strict=True)) for name, some in shares.items()}
    page.table("highest-answers", Table(["highest answer", *sides], rows, numbers))


def overfitting(page: Page, lab: Lab) -> Values:
    """The networks as the report trains them, and with augmentation."""
    networks = lab.trained(*ALL)
    shown = lab.trained(*(name for pair in AUGMENTED.items() for name in pair))
    if shown:
        best = {name: network.best_epoch for name, network in shown.items()}
        curves = {name: network.rows for name, network in shown.items()}
        page.figure("overfitting", *comparisons.training_of_networks(curves, best=best))
    columns: list[Column] = [
        ("network", "", ""),
        ("augmented", lambda row: "yes" if row["augmented"] else "no", ""),
        ("epoch", "epoch", ""),
        ("passes", "passes", ".1f"),
        ("training", "train_rmse", ".4f"),
        ("validation", "validation_rmse", ".4f"),
        ("gap", "gap", ".4f"),
        ("gap at the end", "gap_last_epoch", ".4f"),
        (f"{lab.judged_on} RMSE", "rmse", ".4f"),
    ]
    if networks:
        rows = {name: _gaps(lab, network) for name, network in networks.items()}
        page.table("gaps", Table.of(rows, columns))
    pairs = []
    for plain, augmented in AUGMENTED.items():
        if plain in networks and augmented in networks:
            pair = networks[plain], networks[augmented]
            galaxies = min(network.galaxies_shown() for network in pair)
            pairs.append((plain, galaxies, *(_gap_after(network, galaxies) for network in pair)))
    return {"pairs": pairs, "absent": [n for p in AUGMENTED.items() for n in p if n not in shown]}


def _gaps(lab: Lab, network: Network) -> Values:
    kept, last = network.losses(network.best_epoch), network.losses(int(network.rows[-1]["epoch"]))
    galaxies = network.judged[lab.judged_on]
    return {
        "augmented": network.recipe.augments,
        "epoch": f"{network.best_epoch} of {len(network.rows)}",
        "passes": network.galaxies_shown() / max(network.trained_on, 1),
        "train_rmse": math.sqrt(kept["train_loss"]),
        "validation_rmse": math.sqrt(kept["validation_loss"]),
        "gap": gap(kept),
        "gap_last_epoch": gap(last),
        "rmse": metrics.rmse(galaxies.predicted, galaxies.volunteers),
    }


def _gap_after(network: Network, galaxies: float) -> float:
    """Return the gap at the last epoch that ends by so many galaxies, or at the first one."""
    before = [row for row in network.rows if network.galaxies_shown(row) <= galaxies]
    return gap(network.losses(int((before or network.rows[:1])[-1]["epoch"])))
