"""The lab report's sections 5.5 and 6: trainings, predictions, mergers; and what the report leaves open.

As in `studies.lab.sample`, a section returns the values of its text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

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
from hubblefork.pages.tables import Table, bounds, decimal, share
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
        return {"networks": {}}
    curves = {name: network.rows for name, network in networks.items()}
    best = {name: network.best_epoch for name, network in networks.items()}
    page.figure("figure-08", *comparisons.training_of_networks(curves, best=best))
    page.figure("figure-09", *comparisons.networks_compared(curves, measure="loss"))
    page.figure("figure-10", *comparisons.networks_compared(curves, measure="agreement"))
    rows, numbers = [], {}
    for name, network in networks.items():
        stated = REPORT["networks"][name]
        ours = {"mean of all epochs": network.losses(), "epoch kept": network.losses(network.best_epoch)}
        rows += [[f"{name}: {which}", *_loss_cells(losses)] for which, losses in ours.items()]
        rows.append([f"report: {stated['name']}", *_loss_cells(stated["table_6"], digits=2)])
        numbers[name] = {**ours, "report": stated["table_6"]}
    header = ["", "training loss", "validation loss", "training agreement", "validation agreement"]
    page.table("table-06", Table(header, rows, numbers))
    kept = {name: ours["epoch kept"] for name, ours in numbers.items()}
    order = sorted(kept, key=lambda name: kept[name]["validation_loss"])
    gaps = {name: gap(losses) for name, losses in kept.items()}
    return {"networks": networks, "kept": kept, "gaps": gaps, "order": order}


def _loss_cells(losses: Mapping[str, float], digits: int = 3) -> list[str]:
    return [
        f"{value:.{digits}g}" if "loss" in key else decimal(value, digits) for key, value in losses.items()
    ]


def scatter(page: Page, lab: Lab) -> Values:
    """Figures 11 to 13: predicted against volunteers' fractions, 37 panels a network."""
    values = {}
    for number, name in enumerate(NETWORKS, start=11):
        if name not in lab.networks:
            continue
        galaxies = lab.networks[name].judged[VALIDATION]
        drawing = answers.predicted_against_volunteers(lab.tree, galaxies.predicted, galaxies.volunteers)
        numbers = page.figure(f"figure-{number}", *drawing)
        r = [(lab.text(key), one["r"]) for key, one in numbers["answers"].items() if one["r"] is not None]
        values[name] = {
            "galaxies": len(galaxies.ids),
            "rmse": metrics.rmse(galaxies.predicted, galaxies.volunteers),
            "r": sorted(r, key=lambda pair: pair[1]),
            "median_r": float(np.median([value for _, value in r])) if r else None,
            "predicted_sd": _scatter_about_means(galaxies.predicted),
            "votes_sd": _scatter_about_means(galaxies.volunteers),
        }
    return values


def _scatter_about_means(values: NDArray) -> float:
    columns = [column[~np.isnan(column)] for column in values.T]
    return float(np.sqrt(np.mean([np.var(column) for column in columns if len(column)])))


def prototype_sheets(page: Page, lab: Lab) -> Values:
    """Figures 14 to 17: the five highest galaxies of seven answers, by volunteers and networks."""
    networks = lab.trained(*NETWORKS)
    values: Values = {}
    for name, network in list(networks.items())[:1]:
        galaxies = network.judged[VALIDATION]
        with images_or_missing(page, "figure-14", lab.data.ingest_command):
            chosen = _highest(lab, galaxies, galaxies.volunteers, galaxies.predicted)
            drawing = prototype_rows(lab.tree, chosen, by="volunteers", other=name)
            page.figure("figure-14", *drawing, dpi=IMAGE_DPI)
            low = min(chosen, key=lambda answer: chosen[answer][0][1])
            values["volunteers"] = {"low": lab.text(low), "low_value": chosen[low][0][1]}
    for name, network in networks.items():
        figure = f"figure-{15 + NETWORKS.index(name)}"
        with images_or_missing(page, figure, lab.data.ingest_command):
            values[name] = _prototypes_of(page, lab, figure, network)
    return values


def _prototypes_of(page: Page, lab: Lab, figure: str, network: Network) -> Values:
    galaxies = network.judged[VALIDATION]
    chosen = _highest(lab, galaxies, galaxies.predicted, galaxies.volunteers)
    drawing = prototype_rows(lab.tree, chosen, by=network.name, other="volunteers")
    page.figure(figure, *drawing, dpi=IMAGE_DPI)
    shared, votes = [], {}
    for answer, some in chosen.items():
        theirs = prototypes(galaxies.volunteers, galaxies.ids, lab.tree.column(answer), EACH)
        both = {galaxy[0] for galaxy in some} & set(galaxies.ids[theirs].tolist())
        shared.append((lab.text(answer), len(both)))
        votes[answer] = float(np.nanmean([galaxy[2] for galaxy in some]))
    worst = min(votes, key=votes.__getitem__)
    return {"shared": shared, "worst": lab.text(worst), "worst_votes": votes[worst]}


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
    if not samples:
        return {"samples": {}}
    counts = {name: count_above(lab.tree, joint) for name, joint in samples.items()}
    rows = [
        [
            name,
            f"{estimate.count:,}",
            f"{estimate.total:,}",
            decimal(estimate.value),
            bounds((estimate.low, estimate.high)),
        ]
        for name, estimate in counts.items()
    ]
    header = ["sample", "mergers", "galaxies", "fraction", "interval"]
    page.table(
        "merger-fractions", Table(header, rows, {name: vars(estimate) for name, estimate in counts.items()})
    )
    main = ("test images, lab-cnn", f"{lab.judged_on} part, volunteers", f"{lab.judged_on} part, lab-cnn")
    shown = {name: samples[name] for name in main if name in samples} or dict(list(samples.items())[:3])
    curves = page.figure("merger-thresholds", *fraction_against_threshold(lab.tree, shown))
    part, half = f"{lab.judged_on} part, ", curves["samples"][next(iter(shown))]["threshold"].index(0.5)
    return {
        "samples": counts,
        "threshold": THRESHOLD,
        "report_interval": binomial_interval(REPORT["mergers"], REPORT["test_images"]),
        "here": counts.get("test images, lab-cnn"),
        "votes": counts.get(f"{part}volunteers"),
        "by_networks": [
            estimate.count for name, estimate in counts.items() if name in {part + key for key in ALL}
        ],
        "at_half": {name: curve["value"][half] for name, curve in curves["samples"].items()},
        **_merger_images(page, lab),
    }


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
        return {"network": name, "above": len(above), "drawn": len(chosen), "low": min(values[chosen])}
    return {}


def disagreements(page: Page, lab: Lab) -> Values:
    """Where the report contradicts itself, its data or arithmetic."""
    rows, numbers = [], {}
    for name, stated in REPORT["networks"].items():
        loss, table = stated["abstract_loss"], stated["table_6"]
        same = [part for part in ("training", "validation") if table[f"{part}_loss"] == loss]
        losses = [f"{value:g}" for value in (loss, table["training_loss"], table["validation_loss"])]
        rows.append([stated["name"], *losses, "both" if len(same) == 2 else same[0]])
        numbers[name] = {"abstract": loss, **table}
    header = ["", "abstract", "table 6, training", "table 6, validation", "the abstract's is"]
    page.table("abstract-losses", Table(header, rows, numbers))
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
        "columns": len(lab.tree.columns),
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
    rows, broken = [], {}
    for head, some in numbers.items():
        columns = {key: [one[key] for one in some] for key in some[0]}
        cells = [_spread(columns["validation_rmse"]), _spread(columns["rmse"])]
        cells += [_spread(columns["agreement"], 3), _spread(columns["violation"])]
        cells += [
            share(float(np.mean(columns["galaxies_broken"]))),
            decimal(max(columns["largest_violation"]), 3),
        ]
        rows.append([head, *cells])
        judged = [network.judged[lab.judged_on].predicted for network in lab.heads[head]]
        broken[head] = np.mean([metrics.constraint_terms(lab.tree, one).values() for one in judged], axis=0)
    header = [
        "head",
        "validation RMSE",
        f"{lab.judged_on} RMSE",
        "agreement",
        "violation",
        "galaxies",
        "largest",
    ]
    page.table("heads", Table(header, rows, numbers))
    sums = page.figure("heads-violations", *comparisons.broken_constraints(lab.tree, broken))
    errors = {head: [one["rmse"] for one in some] for head, some in numbers.items()}
    means = {head: float(np.mean(some)) for head, some in errors.items()}
    deviations = [float(np.std(some, ddof=1)) for some in errors.values() if len(some) > 1]
    return values | {
        "means": sorted(means.items(), key=lambda pair: pair[1]),
        "sd": max(deviations, default=None),
        "broken": {head: sum(value > 0.001 for value in some.values()) for head, some in sums.items()},
        "worst": {head: max(some.items(), key=lambda pair: pair[1]) for head, some in sums.items()},
    }


def _spread(values: Sequence[float], digits: int = 4) -> str:
    mean = decimal(float(np.mean(values)), digits)
    return f"{mean} ± {decimal(float(np.std(values, ddof=1)), digits)}" if len(values) > 1 else mean


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
        return {"shares": {}}
    judged = {name: network.judged[lab.judged_on] for name, network in networks.items()}
    first = next(iter(judged.values()))
    sides = {"mean vote": mean_vote(lab.votes_of(TRAIN), len(first.ids))}
    sides |= {name: galaxies.predicted for name, galaxies in judged.items()}
    shares = {name: metrics.agreement(values, first.volunteers) for name, values in sides.items()}
    values = {"shares": shares, **_highest_answers(page, lab, {"volunteers": first.volunteers, **sides})}
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
    rows.append(
        ["all 37 columns (the report's accuracy)", f"{len(first.ids):,}", *map(share, shares.values())]
    )
    names = [question.name for question in lab.tree.questions]
    numbers = {name: dict(zip(names, some, strict=True)) for name, some in agreed.items()}
    page.table("agreements", Table(["question", "galaxies", *sides], rows, numbers))
    name = next(iter(networks))
    gains = [
        (question.text, 100 * gain)
        for question, gain in zip(lab.tree.questions, agreed[name] - agreed["mean vote"], strict=True)
        if not np.isnan(gain)
    ]
    return values | {
        "network": name,
        "gains": sorted(gains, key=lambda pair: -pair[1]),
        "asked": metrics.ASKED,
    }


def _highest_answers(page: Page, lab: Lab, sides: Mapping[str, NDArray]) -> Values:
    """Add the table of how often each answer is the highest of all."""
    complete = ~np.isnan(sides["volunteers"]).any(axis=1)
    total, answers = max(int(complete.sum()), 1), len(lab.tree.columns)
    counts = {
        name: np.bincount(some[complete].argmax(axis=1), minlength=answers) for name, some in sides.items()
    }
    volunteers = counts["volunteers"]
    rows = [
        [lab.text(int(column)), *(share(count[column] / total) for count in counts.values())]
        for column in sorted(np.flatnonzero(sum(counts.values())), key=lambda column: -volunteers[column])
    ]
    numbers = {
        name: dict(zip(lab.tree.columns, count / total, strict=True)) for name, count in counts.items()
    }
    page.table("highest-answers", Table(["highest answer", *sides], rows, numbers))
    return {
        "first": lab.text(int(volunteers.argmax())),
        "first_share": volunteers.max() / total,
        "complete": total,
        "ever": int(np.count_nonzero(volunteers)),
    }


def overfitting(page: Page, lab: Lab) -> Values:
    """The networks as the report trains them, and with augmentation."""
    networks = lab.trained(*ALL)
    shown = lab.trained(*(name for pair in AUGMENTED.items() for name in pair))
    if shown:
        best = {name: network.best_epoch for name, network in shown.items()}
        curves = {name: network.rows for name, network in shown.items()}
        page.figure("overfitting", *comparisons.training_of_networks(curves, best=best))
    numbers = {name: _gaps(lab, network) for name, network in networks.items()}
    keys = ("train_rmse", "validation_rmse", "gap", "gap_last_epoch", "rmse")
    rows = []
    for name, entry in numbers.items():
        epoch = f"{networks[name].best_epoch} of {len(networks[name].rows)}"
        cells = ["yes" if entry["augmented"] else "no", epoch, decimal(entry["passes"], 1)]
        rows.append([name, *cells, *(decimal(entry[key]) for key in keys)])
    header = ["network", "augmented", "epoch", "passes", "training", "validation", "gap", "gap at the end"]
    if networks:
        page.table("gaps", Table([*header, f"{lab.judged_on} RMSE"], rows, numbers))
    pairs = []
    for plain, augmented in AUGMENTED.items():
        if plain in networks and augmented in networks:
            pair = networks[plain], networks[augmented]
            galaxies = min(network.galaxies_shown() for network in pair)
            pairs.append((plain, galaxies, *(_gap_after(network, galaxies) for network in pair)))
    return {
        "networks": numbers,
        "pairs": pairs,
        "absent": [n for p in AUGMENTED.items() for n in p if n not in shown],
    }


def _gaps(lab: Lab, network: Network) -> Values:
    kept, last = network.losses(network.best_epoch), network.losses(int(network.rows[-1]["epoch"]))
    galaxies = network.judged[lab.judged_on]
    return {
        "augmented": network.recipe.augments,
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
