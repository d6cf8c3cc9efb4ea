"""What one reads first, and last: our numbers beside the report's, and how to make all of it again."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from typing import Any

import numpy as np

from hubblefork.data.split import VALIDATION
from hubblefork.report.blocks import (
    Block,
    Listing,
    Missing,
    Paragraph,
    Section,
    Table,
    bounds,
    decimal,
    listed,
    share,
)
from hubblefork.report.method import SOURCES
from hubblefork.stats.estimators import count_above
from hubblefork.stats.metrics import agreement, agreement_terms, draw, error_terms, estimates, in_total, rmse
from hubblefork.studies.lab import paper
from hubblefork.studies.lab.inputs import Lab, Network, Unlabelled
from hubblefork.studies.lab.trainings import ALL

UNFAIR = (
    "The split has no test part: every number is of the validation galaxies, by which epochs and learning "
    "rates were chosen, and flatters."
)


def headline(lab: Lab) -> Section:
    """Return the numbers of every network beside those of the report."""
    networks = lab.there(*ALL)
    blocks: list[Block] = [one for one in lab.networks.values() if isinstance(one, Missing)]
    unfinished = [name for name, network in networks.items() if not network.finished]
    if unfinished:
        text = f"Not finished, so that the numbers are those of the moment: {listed(unfinished)}."
        blocks.append(Paragraph(text, warning=True))
    short = {name: network for name, network in networks.items() if network.shortened}
    if short:
        blocks.append(Paragraph(_short_text(short), warning=True))
    if not lab.split.test:
        blocks.append(Paragraph(UNFAIR, warning=True))
    if networks:
        blocks += [Paragraph(_verdict(lab, networks)), _table(lab, networks)]
    return Section("headline", "What came out", blocks)


def _short_text(short: Mapping[str, Network]) -> str:
    texts = [f"{name} {network.steps:,}" for name, network in short.items()]
    return (
        f"Short trainings: {listed(texts)} batches, less than the recipes allow. Their numbers say how "
        "far a network gets in that time, not how far it can get, and do not rank the networks."
    )


def numbers(lab: Lab) -> dict[str, Any]:
    """Return the numbers of every network, for the page's JSON twin."""
    return {name: _measured(lab, network) for name, network in lab.there(*ALL).items()}


def _measured(lab: Lab, network: Network) -> dict[str, Any]:
    judged, validation = network.judged[lab.judged_on], network.judged[VALIDATION]
    draws = draw(len(judged.ids), rng=np.random.default_rng(0))
    error = estimates(in_total(error_terms(judged.predicted, judged.volunteers)), draws)[0]
    agreed = estimates(agreement_terms(judged.predicted, judged.volunteers), draws)[0]
    found = {
        "part": lab.judged_on,
        "galaxies": len(judged.ids),
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
    if isinstance(lab.unlabelled, Unlabelled):
        found["merger_fraction"] = vars(
            count_above(lab.tree, lab.unlabelled.predicted[network.name].predicted)
        )
    return found


def _verdict(lab: Lab, networks: dict[str, Network]) -> str:
    first = next(iter(networks.values()))
    judged = {name: network.judged[lab.judged_on] for name, network in networks.items()}
    errors = {name: rmse(galaxies.predicted, galaxies.volunteers) for name, galaxies in judged.items()}
    trained = first.notes.get("galaxies", {}).get("train", 0)
    texts = [f"{decimal(errors[name])} ({name})" for name in sorted(errors, key=errors.__getitem__)]
    return (
        f"{paper.CITATION}, done again: every figure and table under its number, then what the report "
        f"leaves open. Trained on {trained:,} galaxies where the report has {paper.TRAINING:,}, the RMSE on "
        f"{len(first.judged[lab.judged_on].ids):,} {lab.judged_on} galaxies is {listed(texts)}. Numbers of "
        "the report stand beside ours wherever it states any; they are from other galaxies, and more of them."
    )


def _table(lab: Lab, networks: dict[str, Network]) -> Table:
    found = numbers(lab)
    rows = []
    for name in networks:
        rows.append([name, *_cells(found[name])])
        if name in paper.TABLE_6:
            rows.append([f"report: {paper.NAMES[name]}", *_report_cells(name)])
    caption = (
        "RMSE at the epoch kept on the validation galaxies and, with a 95% bootstrap interval, on the "
        f"{lab.judged_on} galaxies; agreement on the highest of the 37 labels, the report's accuracy "
        "(validation for the report); the merger fraction of the test images at 0.3; seconds an epoch. The "
        "report's RMSE is the root of table 6's average loss."
    )
    header = [
        "",
        "validation RMSE",
        f"{lab.judged_on} RMSE",
        "95% interval",
        "agreement",
        "mergers",
        "epochs × steps",
        "s/epoch",
    ]
    return Table("networks", header, rows, caption, found)


def _cells(found: dict[str, Any]) -> list[str]:
    error, agreed, merger = found["rmse"], found["agreement"], found.get("merger_fraction")
    return [
        decimal(found["validation_rmse"]),
        decimal(error["value"]) if error else "–",
        bounds(error["interval_95"]) if error else "–",
        share(agreed["value"]) if agreed else "–",
        decimal(merger["value"]) if merger else "–",
        f"{found['epochs']} × {found['steps'] // found['epochs']}",
        decimal(found["seconds_per_epoch"], 1),
    ]


def _report_cells(name: str) -> list[str]:
    stated = paper.TABLE_6[name]
    merger = decimal(paper.MERGERS / paper.TEST_IMAGES) if name == "lab-cnn" else "–"
    return [
        decimal(math.sqrt(stated.validation_loss), 3),
        "–",
        "–",
        f"{stated.validation_agreement:.0%}",
        merger,
        "–",
        "–",
    ]


def again(lab: Lab, command: list[str]) -> Section:
    """Return the command that makes the page, and where everything comes from."""
    blocks: list[Block] = [
        Paragraph(
            "The recipes of all trainings, seeds included, lie in their folders below runs/. The command of "
            "this page:"
        ),
        Listing(shlex.join(command)),
        Paragraph(f"{paper.CITATION}: the report that is done again here."),
        *(Paragraph(text) for text in SOURCES),
        Paragraph(
            "He, Zhang, Ren & Sun 2015, “Deep residual learning for image recognition”, arXiv:1512.03385: "
            "ResNet-50; Wightman, timm, doi:10.5281/zenodo.4414861: the code of it."
        ),
    ]
    return Section("again", "How to make it again, and sources", blocks)
