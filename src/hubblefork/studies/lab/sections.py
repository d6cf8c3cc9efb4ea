"""What each section of the lab study's page computes: figures and tables for the page, values for its text.

Every function takes the page and the `Lab`, and returns the values that `report/templates/lab.md.j2` has
under the function's name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hubblefork.data.split import TRAIN, VALIDATION
from hubblefork.data.stamps import prepare
from hubblefork.errors import ImageError
from hubblefork.network.heads import LabHead
from hubblefork.network.model import VoteFractions, count_parameters, summarise
from hubblefork.network.recipe import load_recipe
from hubblefork.report.figures.answers import label_histograms, predicted_against_volunteers
from hubblefork.report.figures.comparisons import (
    broken_constraints,
    networks_compared,
    training_of_networks,
)
from hubblefork.report.figures.correlations import correlation_matrix, correlation_submatrices
from hubblefork.report.figures.mergers import fraction_against_threshold
from hubblefork.report.figures.prototypes import (
    cutout_beside_stamp,
    prototype_of_every_answer,
    prototype_rows,
)
from hubblefork.report.figures.sheets import image_sheet
from hubblefork.report.page import Page
from hubblefork.report.tables import Table, bounds, decimal, share
from hubblefork.stats.baselines import mean_vote
from hubblefork.stats.estimators import MERGER, THRESHOLD, binomial_interval, count_above
from hubblefork.stats.metrics import (
    ASKED,
    agreement,
    agreement_terms,
    agreement_terms_per_question,
    constraint_terms,
    constraint_violation,
    draw,
    error_terms,
    estimates,
    in_total,
    rmse,
)
from hubblefork.stats.samples import compare_distributions, correlations, peaks, prototypes
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
    image_bytes,
    unlabelled_cutouts,
)
from hubblefork.zoo import DecisionTree, violations

Values = dict[str, Any]
Section = Callable[[Page, Lab], Values]
IMAGE_DPI = 150
SHOWN, EACH, NINE = 25, 5, 9  # galaxies of figure 1, of a row of figures 14 to 17, of figure 18
VANISHED, EPSILON = -120.0, 1e-12
KERAS = {  # Keras's names of the layers of PyTorch and timm
    "Conv2d": "Conv2D",
    "BatchNorm2d": "BatchNormalization",
    "ReLU": "Activation (relu)",
    "MaxPool2d": "MaxPooling2D",
    "Linear": "Dense",
    "SigmoidHead": "Activation (sigmoid)",
    "LabHead": "Activation (sigmoid, re-weight)",
}


@contextmanager
def _images(page: Page, lab: Lab, name: str) -> Iterator[None]:
    """Say that a figure is missing where its images are."""
    try:
        yield
    except ImageError as error:
        page.missing(name, f"No galaxies are shown: {error}", f"hubblefork ingest … --out {lab.data}")


def _parameters(name: str) -> int:
    """Return the total of a network's table in the report."""
    return sum(count for _, _, count in REPORT["networks"][name]["layers"])


def _spread(values: Sequence[float], digits: int = 4) -> str:
    mean = decimal(float(np.mean(values)), digits)
    return f"{mean} ± {decimal(float(np.std(values, ddof=1)), digits)}" if len(values) > 1 else mean


def measured(lab: Lab, network: Network) -> Values:
    """Return the numbers of a network: its errors with bootstrap intervals, its training."""
    galaxies, validation = network.judged[lab.judged_on], network.judged[VALIDATION]
    draws = draw(len(galaxies.ids), rng=np.random.default_rng(0))
    error = estimates(in_total(error_terms(galaxies.predicted, galaxies.volunteers)), draws)[0]
    agreed = estimates(agreement_terms(galaxies.predicted, galaxies.volunteers), draws)[0]
    found = {
        "part": lab.judged_on,
        "galaxies": len(galaxies.ids),
        "validation_rmse": rmse(validation.predicted, validation.volunteers),
        "validation_agreement": agreement(validation.predicted, validation.volunteers),
        "rmse": vars(error) if error else None,
        "agreement": vars(agreed) if agreed else None,
        "epochs": len(network.rows),
        "steps": network.steps,
        "best_epoch": network.best_epoch,
        "seconds_per_epoch": network.seconds,
        "device": network.notes.get("device"),
        "start": network.notes.get("start"),
        "finished": network.finished,
    }
    if network.name in lab.unlabelled:
        found["merger_fraction"] = vars(count_above(lab.tree, lab.unlabelled[network.name].predicted))
    return found


def headline(page: Page, lab: Lab) -> Values:
    """The numbers of every network next to those of the report."""
    networks = lab.trained(*ALL)
    for name in ALL:
        if name not in networks:
            remedy = f"the same command without --only-report trains it into {lab.runs / name}"
            page.missing(name, f"The network {name} is not trained yet.", remedy)
    numbers = {name: measured(lab, network) for name, network in networks.items()}
    rows = []
    for name, found in numbers.items():
        rows.append([name, *_headline_cells(found)])
        if name in NETWORKS:
            rows.append([f"report: {REPORT['networks'][name]['name']}", *_report_cells(name)])
    columns = ["validation RMSE", f"{lab.judged_on} RMSE", "95% interval", "agreement", "mergers"]
    if networks:
        page.table("networks", Table(["", *columns, "epochs × steps", "s/epoch"], rows, numbers))
    errors = {name: found["rmse"]["value"] for name, found in numbers.items() if found["rmse"]}
    return {
        "networks": numbers,
        "unfinished": [name for name, network in networks.items() if not network.finished],
        "shortened": [name for name, network in networks.items() if network.shortened],
        "errors": sorted(errors.items(), key=lambda pair: pair[1]),
        "trained_on": max((network.trained_on for network in networks.values()), default=0),
    }


def _headline_cells(found: Values) -> list[str]:
    error, agreed, merger = found["rmse"], found["agreement"], found.get("merger_fraction")
    return [
        decimal(found["validation_rmse"]),
        decimal(error and error["value"]),
        bounds(error["interval_95"]) if error else "–",
        share(agreed and agreed["value"]),
        decimal(merger and merger["value"]),
        f"{found['epochs']} × {found['steps'] // found['epochs']}",
        decimal(found["seconds_per_epoch"], 1),
    ]


def _report_cells(name: str) -> list[str]:
    stated = REPORT["networks"][name]["table_6"]
    merger = REPORT["mergers"] / REPORT["test_images"] if name == "lab-cnn" else None
    error = decimal(math.sqrt(stated["validation_loss"]), 3)
    return [error, "–", "–", f"{stated['validation_agreement']:.0%}", decimal(merger), "–", "–"]


def questions(page: Page, lab: Lab) -> Values:
    """Table 1: the questions and answers, with the volunteers' mean."""
    known = ~np.isnan(lab.sky.votes)
    means = np.where(known, lab.sky.votes, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    rows = []
    for question, answers in zip(lab.tree.questions, lab.tree.slices, strict=True):
        for column in range(answers.start, answers.stop):
            first = f"{question.task} {question.text}" if column == answers.start else ""
            answer = lab.tree.answers[column]
            rows.append([first, answer.column, answer.text, decimal(means[column], 3)])
    numbers = dict(zip(lab.tree.columns, means, strict=True))
    page.table("table-01", Table(["question", "column", "answer", "mean fraction"], rows, numbers))
    return {"most": lab.text(int(np.nanargmax(means))), "least": lab.text(int(np.nanargmin(means)))}


def images(page: Page, lab: Lab) -> Values:
    """Figure 1: 25 random labelled galaxies."""
    rows = np.flatnonzero(lab.sky.labelled)
    chosen = np.random.default_rng(REPORT["images"]).choice(rows, min(SHOWN, len(rows)), replace=False)
    with _images(page, lab, "figure-01"):
        sheet = image_sheet(np.stack(cutouts(lab.sky, chosen)), lab.sky.ids[chosen].tolist(), columns=5)
        page.figure("figure-01", *sheet, dpi=IMAGE_DPI)
    width, height = (lab.sky.table.column(name)[int(chosen[0])].as_py() for name in ("width", "height"))
    return {"shown": len(chosen), "labelled": len(rows), "width": width, "height": height}


def labels(page: Page, lab: Lab) -> Values:
    """Figure 2: the histogram of every label."""
    votes = lab.sky.votes[lab.sky.labelled]
    several = [name for name, values in zip(lab.tree.columns, votes.T, strict=True) if peaks(values) > 1]
    lowest = np.array([np.mean(values[~np.isnan(values)] < 0.04) for values in votes.T])
    page.figure("figure-02", *label_histograms(lab.tree, {"labelled": votes}))
    return {
        "galaxies": len(votes),
        "several": [lab.text(name) for name in several],
        "named": [lab.text(name) for name in REPORT["several_peaks"]],
        "both": sum(name in several for name in REPORT["several_peaks"]),
        "rare": int(np.count_nonzero(lowest > 0.5)),
    }


def highest(page: Page, lab: Lab) -> Values:
    """Figure 3: the galaxy with the largest label of every answer."""
    votes, columns = lab.sky.votes, range(len(lab.tree.columns))
    firsts = [prototypes(votes, lab.sky.ids, column, 1) for column in columns]
    rows = [int(first[0]) if len(first) else None for first in firsts]
    values = np.array([np.nan if row is None else votes[row, column] for column, row in enumerate(rows)])
    there = [row for row in rows if row is not None]
    with _images(page, lab, "figure-03"):
        shown = dict(zip(there, cutouts(lab.sky, there), strict=True))
        pictures = [None if row is None else shown[row] for row in rows]
        ids = [None if row is None else lab.sky.ids[row] for row in rows]
        page.figure("figure-03", *prototype_of_every_answer(lab.tree, pictures, ids, values))
    low = int(np.nanargmin(values))
    return {"full": int(np.count_nonzero(values > 0.95)), "low": lab.text(low), "low_value": values[low]}


def correlated(page: Page, lab: Lab) -> Values:
    """Figures 4 and 5: the correlations of labels."""
    found = correlations(lab.sky.votes[lab.sky.labelled])
    page.figure("figure-04", *correlation_matrix(lab.tree, found.rho))
    page.figure("figure-05", *correlation_submatrices(lab.tree, found.rho))
    upper = np.where(np.triu(np.ones_like(found.rho, dtype=bool), k=1), found.rho, np.nan)
    high, low = (np.unravel_index(pick(upper), upper.shape) for pick in (np.nanargmax, np.nanargmin))
    pairs = [
        (question.name.replace("_", " "), float(found.rho[answers.start, answers.start + 1]))
        for question, answers in zip(lab.tree.questions, lab.tree.slices, strict=True)
        if len(question.answers) == 2
    ]
    return {
        "fewest": int(found.galaxies.min()),
        "most": int(found.galaxies.max()),
        "high": [lab.text(int(column)) for column in high],
        "high_rho": float(upper[high]),
        "low": [lab.text(int(column)) for column in low],
        "low_rho": float(upper[low]),
        "near_zero": int(np.count_nonzero(np.abs(upper) < 0.05)),
        "pairs": int(np.isfinite(upper).sum()),
        "opposites": pairs,
    }


def differences(page: Page, lab: Lab) -> Values:
    """Figure 6: training against validation labels, with a test for every answer."""
    train, validation, fair = lab.votes(TRAIN), lab.votes(VALIDATION), lab.unselected_training()
    if not len(train) or not len(validation):
        for name in ("figure-06", "figure-06-tests"):
            page.missing(name, "A part of the split is empty.", "hubblefork split DATA")
        return {}
    samples = {"training": train}
    if 0 < len(fair) < len(train):
        samples["unselected"] = fair
    tests = {name: compare_distributions(values, validation) for name, values in samples.items()}
    notes = ["" if test is None else f"p {_p(test.corrected)}" for test in tests["training"]]
    shown = {"training": train, "validation": validation}
    if "unselected" in samples:
        shown["training, unselected"] = fair
    page.figure("figure-06", *label_histograms(lab.tree, shown, notes=notes))
    rows, numbers = [], {}
    for column, name in enumerate(lab.tree.columns):
        each = {sample: some[column] for sample, some in tests.items()}
        rows.append([lab.text(column), *(cell for test in each.values() for cell in _test_cells(test))])
        numbers[name] = {sample: None if test is None else vars(test) for sample, test in each.items()}
    header = ["answer", "distance", "p", "p, Holm"]
    more = ["unselected: distance", "p", "p, Holm"] if "unselected" in samples else []
    page.table("figure-06-tests", Table(header + more, rows, numbers))
    differ = {name: sum(test is not None and test.significant for test in t) for name, t in tests.items()}
    return {
        "tests": sum(test is not None for test in tests["training"]),
        "differ": differ,
        "sizes": next((test.galaxies for test in tests["training"] if test is not None), (0, 0)),
        "train": len(train),
        "unselected": len(fair),
    }


def _test_cells(test: Any) -> list[str]:
    if test is None:
        return ["–", "–", "–"]
    return [decimal(test.distance, 3), _p(test.p_value), _p(test.corrected)]


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def downsizing(page: Page, lab: Lab) -> Values:
    """Figure 7: a stamp next to its original, and the size of the images."""
    spec = next((network.recipe.stamps for network in lab.trained(*NETWORKS).values()), None)
    if spec is None:
        for name in ("figure-07", "section-4-sizes"):
            page.missing(name, "No network is trained: its recipe has the size of stamps.", "train one")
        return {}
    example = np.flatnonzero(lab.sky.ids == REPORT["example"])
    row = int(example[0]) if len(example) else int(np.flatnonzero(lab.sky.labelled)[0])
    with _images(page, lab, "figure-07"):
        image = cutouts(lab.sky, [row], side=10_000)[0]
        stamp = np.asarray(prepare(lab.data, spec).pixels[row])
        drawing = cutout_beside_stamp(image, stamp, galaxy_id=lab.sky.ids[row], crop=spec.crop)
        page.figure("figure-07", *drawing, dpi=IMAGE_DPI)
    values = {"galaxy_id": lab.sky.ids[row], "is_example": len(example) > 0}
    return values | {"size": spec.size, "crop": spec.crop, **_sizes(page, lab, spec.size)}


def _sizes(page: Page, lab: Lab, size: int) -> Values:
    table = lab.sky.table.filter(lab.sky.labelled)
    decoded, files = image_bytes(table)[0], image_bytes(lab.sky.table)[1]
    count, total = len(table), len(lab.sky.ids)
    each, stamp = decoded / count, 3 * size**2
    rows = [
        ["one image, decoded", f"{each / 1e3:,.1f} kB", f"{REPORT['image_kilobytes']} kB"],
        ["one stamp", f"{stamp / 1e3:,.1f} kB", f"{REPORT['stamp_kilobytes']} kB"],
        [f"the {count:,} labelled images, decoded", _gigabytes(decoded), f"{REPORT['images_gigabytes']} GB"],
        [f"their stamps ({count:,})", _gigabytes(count * stamp), f"{REPORT['stamps_gigabytes']} GB"],
        [f"all {total:,} images as files", _gigabytes(files), "–"],
    ]
    numbers = {"image": each, "stamp": stamp, "images": decoded, "stamps": count * stamp, "files": files}
    page.table("section-4-sizes", Table(["", "here", "report"], rows, numbers))
    return {"smaller": each / stamp, "compressed": each / max(files / total, 1)}


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:,.3f} GB"


def mean_votes(page: Page, lab: Lab) -> Values:
    """Section 5.1: the mean label as a prediction."""
    train, parts = lab.votes(TRAIN), dict.fromkeys((TRAIN, VALIDATION, lab.judged_on))
    votes = {part: lab.votes(part) for part in parts if len(lab.votes(part))}
    errors = {part: rmse(mean_vote(train, len(some)), some) for part, some in votes.items()}
    report = dict.fromkeys((TRAIN, VALIDATION), f"{REPORT['mean_vote_rmse']}")
    rows = [
        [part, decimal(error), decimal(error**2), report.get(part, "–")] for part, error in errors.items()
    ]
    page.table("section-5-1", Table(["galaxies", "RMSE", "MSE", "report's RMSE"], rows, errors))
    return {"trained_on": len(train)}


def architectures(page: Page, lab: Lab) -> Values:
    """Tables 2, 3 and 5: the networks layer by layer; table 4: the gates of the re-weighting."""
    values = {name: _layers(page, lab, name) for name in NETWORKS}
    rows, gates = [], {}
    for question, answers, gate in zip(lab.tree.questions, lab.tree.slices, lab.tree.gates, strict=True):
        task = question.answers[0].column.partition(".")[0]
        source = None if gate is None else lab.tree.answers[gate]
        gates[task] = None if source is None else source.column
        name = f"{task.removeprefix('Class')}: {', '.join(answer.text for answer in question.answers)}"
        factor = ["1", "–", "–"] if source is None else [source.column, source.text, str(gate)]
        rows.append([name, f"{answers.start}–{answers.stop - 1}", *factor])
    header = ["question: answers", "indices", "times", "which is", "index"]
    page.table("table-04", Table(header, rows, gates))
    same = {task: gate for task, gate in gates.items() if gate is not None} == REPORT["gates"]
    return {"networks": values, "same_gates": same}


def _layers(page: Page, lab: Lab, name: str) -> Values:
    network, stated = lab.networks.get(name), REPORT["networks"][name]
    recipe = network.recipe if network else load_recipe(name)
    built = VoteFractions(recipe, lab.tree)
    layers, counts = summarise(built, recipe.input_size), count_parameters(built)
    theirs = iter([count for _, _, count in stated["layers"] if count])
    rows, shown = [], []
    for layer in layers:
        count, shape = layer.parameters.keras, ", ".join(map(str, layer.output_shape))
        shape = f"({shape})" if len(layer.output_shape) > 1 else f"({shape},)"
        stated_count = f"{next(theirs, 0):,}" if count else "0"
        rows.append([KERAS.get(layer.kind, layer.kind), shape, f"{count:,}", stated_count])
        shown.append({"type": layer.kind, "shape": list(layer.output_shape), "parameters": count})
    rows.append(["total", "", f"{counts.keras:,}", f"{_parameters(name):,}"])
    numbers = {
        "layers": shown,
        "total": counts.keras,
        "learned": counts.learned,
        "statistics": counts.statistics,
        "report": _parameters(name),
    }
    page.table(
        f"table-0{stated['table']}", Table(["layer", "output shape", "parameters", "report"], rows, numbers)
    )
    speed = np.median([row["galaxies_per_second"] for row in network.rows]) if network else 0
    return {"redundant": counts.redundant, "network": network, "recipe": recipe, "speed": float(speed)}


def training(page: Page, lab: Lab) -> Values:
    """Section 5.5, figures 8 to 10, table 6: how the trainings went."""
    networks = lab.trained(*NETWORKS)
    if not networks:
        return {"networks": {}}
    curves = {name: network.rows for name, network in networks.items()}
    best = {name: network.best_epoch for name, network in networks.items()}
    page.figure("figure-08", *training_of_networks(curves, best=best))
    page.figure("figure-09", *networks_compared(curves, measure="loss"))
    page.figure("figure-10", *networks_compared(curves, measure="agreement"))
    rows, numbers, values = [], {}, {}
    for name, network in networks.items():
        stated, kept = REPORT["networks"][name], network.losses(network.best_epoch)
        ours = {"mean of all epochs": network.losses(), "epoch kept": kept}
        rows += [[f"{name}: {which}", *_loss_cells(losses)] for which, losses in ours.items()]
        rows.append([f"report: {stated['name']}", *_loss_cells(stated["table_6"], digits=2)])
        numbers[name] = {**ours, "report": stated["table_6"]}
        last = network.losses(int(network.rows[-1]["epoch"]))
        high = max(row["validation_agreement"] for row in network.rows)
        values[name] = {
            "kept": kept,
            "gap": gap(kept),
            "last": last,
            "high": high,
            "epochs": len(network.rows),
        }
    header = ["", "training loss", "validation loss", "training agreement", "validation agreement"]
    page.table("table-06", Table(header, rows, numbers))
    order = sorted(values, key=lambda name: values[name]["kept"]["validation_loss"])
    return {"networks": values, "order": order}


def _loss_cells(losses: Mapping[str, float], digits: int = 3) -> list[str]:
    return [
        f"{value:.{digits}g}" if key.endswith("loss") else decimal(value, digits)
        for key, value in losses.items()
    ]


def scatter(page: Page, lab: Lab) -> Values:
    """Figures 11 to 13: predicted against volunteers' fractions, 37 panels a network."""
    values = {}
    for number, name in enumerate(NETWORKS, start=11):
        if name not in lab.networks:
            continue
        galaxies = lab.networks[name].judged[VALIDATION]
        drawing = predicted_against_volunteers(lab.tree, galaxies.predicted, galaxies.volunteers)
        numbers = page.figure(f"figure-{number}", *drawing)
        r = {lab.text(key): one["r"] for key, one in numbers["answers"].items() if one["r"] is not None}
        values[name] = {
            "galaxies": len(galaxies.ids),
            "rmse": rmse(galaxies.predicted, galaxies.volunteers),
            "r": sorted(r.items(), key=lambda pair: pair[1]),
            "median_r": float(np.median(list(r.values()))) if r else None,
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
        with _images(page, lab, "figure-14"):
            chosen = _highest(lab, galaxies, galaxies.volunteers, galaxies.predicted)
            drawing = prototype_rows(lab.tree, chosen, by="volunteers", other=name)
            page.figure("figure-14", *drawing, dpi=IMAGE_DPI)
            low = min(chosen, key=lambda answer: chosen[answer][0][1])
            values["volunteers"] = {"low": lab.text(low), "low_value": chosen[low][0][1]}
    for name, network in networks.items():
        figure = f"figure-{15 + NETWORKS.index(name)}"
        with _images(page, lab, figure):
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


def _highest(lab: Lab, galaxies: Any, values: NDArray, others: NDArray) -> dict[str, list[tuple]]:
    """Return the highest galaxies of each answer: id, value, the other side's value, image."""
    found = {}
    for answer in REPORT["prototypes"]:
        column = lab.tree.column(answer)
        best = prototypes(values, galaxies.ids, column, EACH)
        pictures = cutouts(lab.sky, galaxies.rows[best])
        sides = values[best, column].tolist(), others[best, column].tolist()
        found[answer] = list(zip(galaxies.ids[best].tolist(), *sides, pictures, strict=True))
    return found


def mergers(page: Page, lab: Lab) -> Values:
    """Section 6.3, equation 4 and figure 18: the merger fraction of the test images."""
    remedy = "the same command with --test-images images_test_rev1.zip"
    if not lab.unlabelled:
        what = "There are no test images or no network: none were given, or all galaxies have labels."
        page.missing("figure-18", what, remedy)
    samples = _merger_samples(lab)
    if not samples:
        return {"samples": {}}
    counts = {name: count_above(lab.tree, joint) for name, joint in samples.items()}
    rows = [
        [name, f"{one.count:,}", f"{one.total:,}", decimal(one.value), bounds((one.low, one.high))]
        for name, one in counts.items()
    ]
    header = ["sample", "mergers", "galaxies", "fraction", "interval"]
    page.table("merger-fractions", Table(header, rows, {name: vars(one) for name, one in counts.items()}))
    main = ("test images, lab-cnn", f"{lab.judged_on} part, volunteers", f"{lab.judged_on} part, lab-cnn")
    shown = {name: samples[name] for name in main if name in samples} or dict(list(samples.items())[:3])
    page.figure("merger-thresholds", *fraction_against_threshold(lab.tree, shown))
    part = f"{lab.judged_on} part, "
    return {
        "samples": counts,
        "threshold": THRESHOLD,
        "report_interval": binomial_interval(REPORT["mergers"], REPORT["test_images"]),
        "here": counts.get("test images, lab-cnn"),
        "votes": counts.get(f"{part}volunteers"),
        "by_networks": [one.count for name, one in counts.items() if name in {part + key for key in ALL}],
        "at_half": {name: count_above(lab.tree, joint, threshold=0.5).value for name, joint in shown.items()},
        **_merger_images(page, lab),
    }


def _merger_samples(lab: Lab) -> dict[str, NDArray]:
    """Return joint fractions by sample: the test images by each network, the judged part by both sides."""
    samples = {f"test images, {name}": galaxies.predicted for name, galaxies in lab.unlabelled.items()}
    for name, network in lab.networks.items():
        galaxies = network.judged[lab.judged_on]
        known = galaxies.chosen(~np.isnan(galaxies.volunteers[:, lab.tree.column(MERGER)]))
        if len(known.ids):
            samples.setdefault(f"{lab.judged_on} part, volunteers", known.volunteers)
            samples[f"{lab.judged_on} part, {name}"] = known.predicted
    return samples


def _merger_images(page: Page, lab: Lab) -> Values:
    for name, galaxies in list(lab.unlabelled.items())[:1]:
        values = galaxies.predicted[:, lab.tree.column(MERGER)]
        above = np.flatnonzero(values >= THRESHOLD)
        if len(above) >= NINE:
            chosen = np.random.default_rng(REPORT["mergers"]).choice(above, NINE, replace=False)
        else:
            chosen = prototypes(galaxies.predicted, galaxies.ids, lab.tree.column(MERGER), NINE)
        ids, notes = galaxies.ids[chosen].tolist(), [decimal(float(value), 2) for value in values[chosen]]
        with _images(page, lab, "figure-18"):
            pictures = np.stack(unlabelled_cutouts(lab, ids))
            page.figure("figure-18", *image_sheet(pictures, ids, notes=notes, columns=EACH), dpi=IMAGE_DPI)
        return {"network": name, "above": len(above), "drawn": len(ids), "low": min(values[chosen])}
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
    full = lab.sky.votes[~np.isnan(lab.sky.votes).any(axis=1)]
    scores = np.zeros((1, len(lab.tree.columns)), np.float32)
    even = LabHead(lab.tree)(torch.from_numpy(scores))[0].numpy()
    scores[:, lab.tree.slices[0]] = VANISHED
    return {
        "rmses": {
            name: math.sqrt(row["table_6"]["validation_loss"]) for name, row in REPORT["networks"].items()
        },
        "parameters": _parameters("lab-resnet50") / _parameters("lab-cnn"),
        "full": len(full),
        "largest": constraint_terms(lab.tree, full).numerator.max() if len(full) else math.nan,
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
        broken[head] = np.mean([constraint_terms(lab.tree, one).values() for one in judged], axis=0)
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
    sums = page.figure("heads-violations", *broken_constraints(lab.tree, broken))
    errors = {head: [one["rmse"] for one in some] for head, some in numbers.items()}
    means = {head: float(np.mean(some)) for head, some in errors.items()}
    deviations = [float(np.std(some, ddof=1)) for some in errors.values() if len(some) > 1]
    return values | {
        "means": sorted(means.items(), key=lambda pair: pair[1]),
        "sd": max(deviations, default=None),
        "broken": {head: sum(value > 0.001 for value in some.values()) for head, some in sums.items()},
        "worst": {head: max(some.items(), key=lambda pair: pair[1]) for head, some in sums.items()},
    }


def _head_numbers(lab: Lab, network: Network) -> dict[str, float]:
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


def accuracy(page: Page, lab: Lab) -> Values:
    """What "accuracy" over 37 columns measures, and the agreement per question."""
    networks = lab.trained(*NETWORKS)
    if not networks:
        return {"shares": {}}
    judged = {name: network.judged[lab.judged_on] for name, network in networks.items()}
    first = next(iter(judged.values()))
    sides = {"mean vote": mean_vote(lab.votes(TRAIN), len(first.ids))}
    sides |= {name: galaxies.predicted for name, galaxies in judged.items()}
    shares = {name: agreement(values, first.volunteers) for name, values in sides.items()}
    values = {"shares": shares, **_highest_answers(page, lab, {"volunteers": first.volunteers, **sides})}
    terms = {
        name: agreement_terms_per_question(lab.tree, some, first.volunteers) for name, some in sides.items()
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
    return values | {"network": name, "gains": sorted(gains, key=lambda pair: -pair[1]), "asked": ASKED}


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
    first = int(volunteers.argmax())
    ever = int(np.count_nonzero(volunteers))
    return {
        "first": lab.text(first),
        "first_share": volunteers[first] / total,
        "complete": total,
        "ever": ever,
    }


def overfitting(page: Page, lab: Lab) -> Values:
    """The networks as the report trains them, and with augmentation."""
    networks = lab.trained(*ALL)
    shown = lab.trained(*(name for pair in AUGMENTED.items() for name in pair))
    if shown:
        best = {name: network.best_epoch for name, network in shown.items()}
        curves = {name: network.rows for name, network in shown.items()}
        page.figure("overfitting", *training_of_networks(curves, best=best))
    numbers = {name: _gaps(lab, network) for name, network in networks.items()}
    keys = ("train_rmse", "validation_rmse", "gap", "gap_last_epoch", "rmse")
    rows = []
    for name, found in numbers.items():
        epoch = f"{networks[name].best_epoch} of {len(networks[name].rows)}"
        cells = ["yes" if found["augmented"] else "no", epoch, decimal(found["passes"], 1)]
        rows.append([name, *cells, *(decimal(found[key]) for key in keys)])
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
        "rmse": rmse(galaxies.predicted, galaxies.volunteers),
    }


def _gap_after(network: Network, galaxies: float) -> float:
    """Return the gap at the last epoch that ends by so many galaxies, or at the first one."""
    before = [row for row in network.rows if network.galaxies_shown(row) <= galaxies]
    return gap(network.losses(int((before or network.rows[:1])[-1]["epoch"])))


SECTIONS: tuple[Section, ...] = (
    headline,
    questions,
    images,
    labels,
    highest,
    correlated,
    differences,
    downsizing,
    mean_votes,
    architectures,
    training,
    scatter,
    prototype_sheets,
    mergers,
    disagreements,
    heads,
    accuracy,
    overfitting,
)
