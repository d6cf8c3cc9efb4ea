"""A chapter beyond the report: its networks overfit; the same ones with stamps that are moved at random."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from hubblefork.report.blocks import Block, Paragraph, Picture, Section, Table, decimal
from hubblefork.report.figures.comparisons import training_of_networks
from hubblefork.stats.metrics import rmse
from hubblefork.studies.lab.inputs import Lab, Network
from hubblefork.studies.lab.training import Level, at
from hubblefork.studies.lab.trainings import ALL, CURES

TEXT = (
    "The report leaves open what would keep its ResNets from overfitting. Tried here is augmentation alone: "
    "the network of section 5.3, its head, schedule and start, with stamps that are rotated by any angle, "
    "reflected and zoomed by up to a fifth at random. A galaxy has no preferred orientation and no "
    "preferred distance, so its labels stay true, and no picture comes twice to be learned by heart. The "
    "same goes for the custom CNN."
)


def overfitting(lab: Lab) -> Section:
    """Return the networks that overfit beside the same ones that never see a galaxy twice the same."""
    networks = lab.there(*ALL)
    shown = {name: networks[name] for pair in CURES.items() for name in pair if name in networks}
    absent = [name for pair in CURES.items() for name in pair if name not in shown]
    blocks: list[Block] = [lab.networks[name] for name in absent]  # type: ignore[misc]
    blocks.append(Paragraph(TEXT))
    if shown:
        best = {name: network.best_epoch for name, network in shown.items()}
        drawing = training_of_networks({name: network.rows for name, network in shown.items()}, best=best)
        caption = (
            "Each network as the report trains it, and below it with augmentation: a gap that opens between "
            "the curves is overfitting."
        )
        blocks.append(Picture("overfitting", drawing, caption))
    if networks:
        blocks.append(_gaps(lab, networks))
    return Section("overfitting", "Overfitting, and a cure", blocks)


def _gaps(lab: Lab, networks: Mapping[str, Network]) -> Table:
    numbers = {name: _gap(lab, network) for name, network in networks.items()}
    keys = ("train_rmse", "validation_rmse", "gap", "gap_last_epoch", "rmse")
    rows = [
        [
            name,
            "yes" if networks[name].recipe.augments else "no",
            f"{networks[name].best_epoch} of {len(networks[name].rows)}",
            decimal(found["passes"], 1),
            *(decimal(found[key]) for key in keys),
        ]
        for name, found in numbers.items()
    ]
    caption = (
        "The gap is how much larger the validation RMSE is than the training RMSE, at the epoch kept "
        f"(counted from 0) and at the last one; beside them the RMSE on the {lab.judged_on} galaxies. "
        "“Moved” says whether stamps are rotated and reflected in training, “passes” how often each galaxy "
        f"was shown. {' '.join(_verdicts(networks))}"
    )
    header = ["network", "moved", "epoch", "passes", "training", "validation", "gap", "at the end"]
    return Table("gaps", [*header, f"{lab.judged_on} RMSE"], rows, caption.strip(), numbers)


def _gap(lab: Lab, network: Network) -> dict[str, Any]:
    kept, last = at(network, network.best_epoch), at(network, int(network.rows[-1]["epoch"]))
    galaxies = network.judged[lab.judged_on]
    return {
        "augmented": network.recipe.augments,
        "passes": _passes(network),
        "train_rmse": math.sqrt(kept.train_loss),
        "validation_rmse": math.sqrt(kept.validation_loss),
        "gap": kept.gap,
        "gap_last_epoch": last.gap,
        "rmse": rmse(galaxies.predicted, galaxies.volunteers),
    }


def _passes(network: Network) -> float:
    """Return how often each training galaxy was shown."""
    return _shown(network, network.rows[-1]) / max(network.notes.get("galaxies", {}).get("train", 0), 1)


def _shown(network: Network, row: Mapping[str, float]) -> float:
    return row["step"] * network.recipe.batch_size


def _verdicts(networks: Mapping[str, Network]) -> list[str]:
    """Compare the networks of a pair after they have been shown as many galaxies."""
    texts = []
    for plain, moved in CURES.items():
        if plain in networks and moved in networks:
            pair = networks[plain], networks[moved]
            most = min(_shown(network, network.rows[-1]) for network in pair)
            gaps = [_after(network, most).gap for network in pair]
            texts.append(
                f"After {most:,.0f} galaxies the gap of {plain} is {decimal(gaps[0])}, with augmentation "
                f"{decimal(gaps[1])}."
            )
    return texts


def _after(network: Network, galaxies: float) -> Level:
    """Return what the last epoch that ends by so many galaxies came to, or the first where all end later."""
    before = [row for row in network.rows if _shown(network, row) <= galaxies]
    return at(network, int((before or network.rows[:1])[-1]["epoch"]))
