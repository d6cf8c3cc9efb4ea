"""The lab report's sections 2 to 5.4: the sample, its labels, and the networks layer by layer.

Every section adds its figures and tables to the page, and returns the values that the text in
`pages/templates/lab.md.j2` has under the function's name.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from hubblefork.data.split import TRAIN, VALIDATION
from hubblefork.data.stamps import prepare
from hubblefork.errors import ImageError
from hubblefork.network.model import VoteFractions, count_parameters, summarise
from hubblefork.network.recipe import load_recipe
from hubblefork.pages.answers import correlation_matrix, correlation_submatrices, histograms
from hubblefork.pages.page import Page
from hubblefork.pages.sheets import cutout_beside_stamp, image_sheet, prototype_of_every_answer
from hubblefork.pages.tables import Column, Table, decimal, listed
from hubblefork.stats import metrics
from hubblefork.stats.baselines import mean_vote
from hubblefork.stats.estimators import count_above
from hubblefork.stats.samples import compare_distributions, correlations, peaks, prototypes
from hubblefork.studies.lab.networks import (
    ALL,
    NETWORKS,
    REPORT,
    Lab,
    Network,
    cutouts,
    image_bytes,
    parameters,
)

Values = dict[str, Any]
IMAGE_DPI, SHOWN = 150, 25
KERAS = {  # Keras's names of the layers of PyTorch and timm
    "Conv2d": "Conv2D",
    "BatchNorm2d": "BatchNormalization",
    "ReLU": "Activation (relu)",
    "MaxPool2d": "MaxPooling2D",
    "Linear": "Dense",
    "Sigmoid": "Activation (sigmoid)",
    "LabHead": "Activation (sigmoid, re-weight)",
}


@contextmanager
def images_or_missing(page: Page, name: str, remedy: str) -> Iterator[None]:
    """Say that a figure is missing where its images are."""
    try:
        yield
    except ImageError as error:
        page.missing(name, f"No galaxies are shown: {error}", remedy)


def measured(lab: Lab, network: Network) -> Values:
    """Return the numbers of a network: its errors with bootstrap intervals, its training."""
    galaxies, validation = network.judged[lab.judged_on], network.judged[VALIDATION]
    draws = metrics.draw(len(galaxies.ids), rng=np.random.default_rng(0))
    errors = metrics.in_total(metrics.error_terms(galaxies.predicted, galaxies.volunteers))
    error = metrics.estimates(errors, draws)[0]
    agreed = metrics.estimates(metrics.agreement_terms(galaxies.predicted, galaxies.volunteers), draws)[0]
    entry = {
        "part": lab.judged_on,
        "galaxies": len(galaxies.ids),
        "validation_rmse": metrics.rmse(validation.predicted, validation.volunteers),
        "validation_agreement": metrics.agreement(validation.predicted, validation.volunteers),
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
        entry["merger_fraction"] = vars(count_above(lab.tree, lab.unlabelled[network.name].predicted))
    return entry


def headline(page: Page, lab: Lab) -> Values:
    """The numbers of every network next to those of the report."""
    networks = lab.trained(*ALL)
    for name in ALL:
        if name not in networks:
            remedy = f"the same command without --only-report trains it into {lab.runs / name}"
            page.missing(name, f"The network {name} is not trained yet.", remedy)
    numbers = {name: measured(lab, network) for name, network in networks.items()}
    rows: Values = {}
    for name, entry in numbers.items():
        rows[name] = entry
        if name in NETWORKS:
            rows[f"report: {REPORT['networks'][name]['name']}"] = _reported(name)
    columns: list[Column] = [
        ("", "", ""),
        ("validation RMSE", "validation_rmse", ".4f"),
        (f"{lab.judged_on} RMSE", "rmse.value", ".4f"),
        ("95% interval", "rmse.interval_95", ".4f"),
        ("agreement", "agreement.value", ".1%"),
        ("mergers", "merger_fraction.value", ".4f"),
        ("epochs × steps", _epochs, ""),
        ("s/epoch", "seconds_per_epoch", ".1f"),
    ]
    if networks:
        page.table("networks", Table.of(rows, columns, numbers=numbers))
    _warn(page, lab, networks)
    return {"trained_on": max((network.trained_on for network in networks.values()), default=0)}


def _warn(page: Page, lab: Lab, networks: Mapping[str, Network]) -> None:
    unfinished = [name for name, network in networks.items() if not network.finished]
    if unfinished:
        page.warn(f"These trainings have not finished; the numbers will change: {listed(unfinished)}.")
    shortened = [name for name, network in networks.items() if network.shortened]
    if shortened:
        what = f"Trained on fewer batches than the recipe says: {listed(shortened)}"
        page.warn(f"{what}. Do not rank these networks.")
    if not lab.split.test:
        page.warn(
            "There is no test part: the validation galaxies, which chose epochs, have too good numbers."
        )


def _epochs(entry: Values) -> str | None:
    return f"{entry['epochs']} × {entry['steps'] // entry['epochs']}" if "epochs" in entry else None


def _reported(name: str) -> Values:
    """Return what the report says of a network, as the table of all networks has it."""
    stated = REPORT["networks"][name]["table_6"]
    merger = REPORT["mergers"] / REPORT["test_images"] if name == "lab-cnn" else None
    return {
        "validation_rmse": f"{math.sqrt(stated['validation_loss']):.3f}",
        "agreement": {"value": f"{stated['validation_agreement']:.0%}"},
        "merger_fraction": {"value": merger},
    }


def questions(page: Page, lab: Lab) -> None:
    """Table 1: the questions and answers, with the volunteers' mean."""
    means = np.ma.masked_invalid(lab.votes).mean(axis=0).filled(0)
    rows = [
        [f"{question.task} {question.text}" * (k == 0), answer.column, answer.text, decimal(mean, 3)]
        for question, answers in zip(lab.tree.questions, lab.tree.slices, strict=True)
        for k, (answer, mean) in enumerate(zip(question.answers, means[answers], strict=True))
    ]
    numbers = dict(zip(lab.tree.columns, means, strict=True))
    page.table("table-01", Table(["question", "column", "answer", "mean fraction"], rows, numbers))


def images(page: Page, lab: Lab) -> Values:
    """Figure 1: 25 random labelled galaxies."""
    rows = np.flatnonzero(lab.labelled)
    chosen = np.random.default_rng(REPORT["images"]).choice(rows, min(SHOWN, len(rows)), replace=False)
    with images_or_missing(page, "figure-01", lab.data.ingest_command):
        sheet = image_sheet(np.stack(cutouts(lab.table, chosen)), lab.ids[chosen].tolist(), columns=5)
        page.figure("figure-01", *sheet, dpi=IMAGE_DPI)
    first = lab.table.select(["width", "height"]).slice(int(chosen[0]), 1).to_pylist()[0]
    return {"shown": len(chosen), "labelled": len(rows), **first}


def labels(page: Page, lab: Lab) -> Values:
    """Figure 2: the histogram of every label."""
    votes = lab.votes[lab.labelled]
    several = [name for name, values in zip(lab.tree.columns, votes.T, strict=True) if peaks(values) > 1]
    lowest = np.array([np.mean(values[~np.isnan(values)] < 0.04) for values in votes.T])
    page.figure("figure-02", *histograms(lab.tree, {"labelled": votes}))
    return {
        "galaxies": len(votes),
        "several": [lab.text(name) for name in several],
        "named": [lab.text(name) for name in REPORT["several_peaks"]],
        "rare": int(np.count_nonzero(lowest > 0.5)),
    }


def highest(page: Page, lab: Lab) -> None:
    """Figure 3: the galaxy with the largest label of every answer."""
    votes, columns = lab.votes, range(len(lab.tree.columns))
    firsts = [prototypes(votes, lab.ids, column, 1) for column in columns]
    rows = [int(first[0]) if len(first) else None for first in firsts]
    values = np.array([np.nan if row is None else votes[row, column] for column, row in enumerate(rows)])
    there = [row for row in rows if row is not None]
    with images_or_missing(page, "figure-03", lab.data.ingest_command):
        shown = dict(zip(there, cutouts(lab.table, there), strict=True))
        pictures = [None if row is None else shown[row] for row in rows]
        ids = [None if row is None else lab.ids[row] for row in rows]
        page.figure("figure-03", *prototype_of_every_answer(lab.tree, pictures, ids, values))


def correlated(page: Page, lab: Lab) -> Values:
    """Figures 4 and 5: the correlations of labels."""
    pairs_of = correlations(lab.votes[lab.labelled])
    galaxies = {"fewest": int(pairs_of.galaxies.min()), "most": int(pairs_of.galaxies.max())}
    upper = np.where(np.triu(np.ones_like(pairs_of.rho, dtype=bool), k=1), pairs_of.rho, np.nan)
    if np.isnan(upper).all():
        for name in ("figure-04", "figure-05"):
            page.missing(name, "No pair of labels varies.", "more labelled galaxies")
        return galaxies
    page.figure("figure-04", *correlation_matrix(lab.tree, pairs_of.rho))
    page.figure("figure-05", *correlation_submatrices(lab.tree, pairs_of.rho))
    high, low = (np.unravel_index(pick(upper), upper.shape) for pick in (np.nanargmax, np.nanargmin))
    return {
        **galaxies,
        "high": [lab.text(int(column)) for column in high],
        "high_rho": float(upper[high]),
        "low": [lab.text(int(column)) for column in low],
        "low_rho": float(upper[low]),
    }


def differences(page: Page, lab: Lab) -> Values:
    """Figure 6: training against validation labels, with a test for every answer."""
    train, validation = lab.votes_of(TRAIN), lab.votes_of(VALIDATION)
    fair = lab.votes_of(TRAIN, unselected=True)
    if not len(train) or not len(validation):
        for name in ("figure-06", "figure-06-tests"):
            page.missing(name, "A part of the split is empty.", "hubblefork split DATA")
        return {}
    samples, shown = {"training": train}, {"training": train, "validation": validation}
    if 0 < len(fair) < len(train):
        samples["unselected"] = shown["training, unselected"] = fair
    tests = {name: compare_distributions(values, validation) for name, values in samples.items()}
    notes = ["" if test is None else f"p {_p(test.corrected)}" for test in tests["training"]]
    page.figure("figure-06", *histograms(lab.tree, shown, notes=notes))
    rows = {
        name: dict(zip(tests, own, strict=True))
        for name, own in zip(lab.tree.columns, zip(*tests.values(), strict=True), strict=True)
    }
    columns: list[Column] = [("answer", "", lab.text)]
    for name in tests:
        start = "distance" if name == "training" else f"{name}: distance"
        columns += [(start, f"{name}.distance", ".3f"), ("p", f"{name}.p_value", _p)]
        columns += [("p, Holm", f"{name}.corrected", _p)]
    page.table("figure-06-tests", Table.of(rows, columns))
    return {
        "tests": sum(test is not None for test in tests["training"]),
        "differ": {
            name: sum(test is not None and test.significant for test in some) for name, some in tests.items()
        },
        "train": len(train),
        "unselected": len(fair),
    }


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def downsizing(page: Page, lab: Lab) -> Values:
    """Figure 7: a stamp next to its original, and the size of the images."""
    spec = next((network.recipe.stamps for network in lab.trained(*NETWORKS).values()), None)
    if spec is None:
        for name in ("figure-07", "section-4-sizes"):
            page.missing(name, "No network is trained: its recipe has the size of stamps.", "train one")
        return {}
    example = np.flatnonzero(lab.ids == REPORT["example"])
    row = int(example[0]) if len(example) else int(np.flatnonzero(lab.labelled)[0])
    with images_or_missing(page, "figure-07", lab.data.ingest_command):
        image = cutouts(lab.table, [row], side=10_000)[0]
        stamp = np.asarray(prepare(lab.data.path, spec)[row])
        drawing = cutout_beside_stamp(image, stamp, galaxy_id=lab.ids[row], crop=int(spec.extent[0]))
        page.figure("figure-07", *drawing, dpi=IMAGE_DPI)
    _sizes(page, lab, spec.size)
    example_of = {"galaxy_id": lab.ids[row], "is_example": len(example) > 0}
    return {**example_of, "size": spec.size, "crop": spec.crop}


def _sizes(page: Page, lab: Lab, size: int) -> None:
    table = lab.table.filter(lab.labelled)
    decoded, files = image_bytes(table)[0], image_bytes(lab.table)[1]
    count, total = len(table), len(lab.ids)
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


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:,.3f} GB"


def mean_votes(page: Page, lab: Lab) -> None:
    """Section 5.1: the mean label as a prediction."""
    train, parts = lab.votes_of(TRAIN), dict.fromkeys((TRAIN, VALIDATION, lab.judged_on))
    votes = {part: lab.votes_of(part) for part in parts if len(lab.votes_of(part))}
    errors = {part: metrics.rmse(mean_vote(train, len(some)), some) for part, some in votes.items()}
    report = dict.fromkeys((TRAIN, VALIDATION), f"{REPORT['mean_vote_rmse']}")
    rows = [
        [part, decimal(error), decimal(error**2), report.get(part, "–")] for part, error in errors.items()
    ]
    page.table("section-5-1", Table(["galaxies", "RMSE", "MSE", "report's RMSE"], rows, errors))


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
        count, shape = layer.parameters.keras, list(layer.output_shape)
        stated_count = f"{next(theirs, 0):,}" if count else "0"
        rows.append([KERAS.get(layer.kind, layer.kind), str(tuple(shape)), f"{count:,}", stated_count])
        shown.append({"type": layer.kind, "shape": shape, "parameters": count})
    rows.append(["total", "", f"{counts.keras:,}", f"{parameters(name):,}"])
    numbers = {
        "layers": shown,
        "total": counts.keras,
        "learned": counts.learned,
        "statistics": counts.statistics,
        "report": parameters(name),
    }
    header = ["layer", "output shape", "parameters", "report"]
    page.table(f"table-0{stated['table']}", Table(header, rows, numbers))
    speed = np.median([row["galaxies_per_second"] for row in network.rows]) if network else 0
    return {"network": network, "recipe": recipe, "speed": float(speed)}
