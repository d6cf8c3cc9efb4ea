"""The report's section 5.5: figures 8 to 10 and table 6."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hubblefork.report.blocks import Block, Paragraph, Picture, Section, Table, counted, decimal, listed
from hubblefork.report.figures.comparisons import networks_compared, training_of_networks
from hubblefork.studies.lab import paper
from hubblefork.studies.lab.inputs import Lab, Network
from hubblefork.studies.lab.trainings import NETWORKS

MEASURED = ("train", "validation")


@dataclass(frozen=True)
class Level:
    """Loss (MSE) and agreement of both parts: over all epochs, or at one."""

    train_loss: float
    validation_loss: float
    train_agreement: float
    validation_agreement: float

    @property
    def gap(self) -> float:
        """How much larger the validation RMSE is than that of the training."""
        return math.sqrt(self.validation_loss) - math.sqrt(self.train_loss)


def average(network: Network) -> Level:
    """Return the means over all epochs, as table 6 has them."""
    losses = [np.mean([row[f"{part}_rmse"] ** 2 for row in network.rows]) for part in MEASURED]
    agreements = [np.mean([row[f"{part}_agreement"] for row in network.rows]) for part in MEASURED]
    return Level(*map(float, (*losses, *agreements)))


def at(network: Network, epoch: int) -> Level:
    """Return what an epoch came to (counted from 0)."""
    row = next(row for row in network.rows if int(row["epoch"]) == epoch)
    losses = [row[f"{part}_rmse"] ** 2 for part in MEASURED]
    return Level(*losses, *(row[f"{part}_agreement"] for part in MEASURED))


def comparison(lab: Lab) -> Section:
    """Return section 5.5: how the three trainings went, and which network is best."""
    title = "5.5 · The three networks compared: figures 8–10, table 6"
    networks = lab.there(*NETWORKS)
    missing: list[Block] = [lab.networks[name] for name in NETWORKS if name not in networks]  # type: ignore[misc]
    if not networks:
        return Section("section-5-5", title, missing)
    curves = {name: network.rows for name, network in networks.items()}
    best = {name: network.best_epoch for name, network in networks.items()}
    blocks: list[Block] = [
        Picture("figure-08", training_of_networks(curves, best=best), _figure_8(networks)),
        Picture("figure-09", networks_compared(curves, measure="loss"), _figure_9(networks)),
        Picture("figure-10", networks_compared(curves, measure="agreement"), _figure_10(networks)),
        _table_6(networks),
        Paragraph(_verdict(networks)),
    ]
    return Section("section-5-5", title, [*missing, *blocks])


Networks = Mapping[str, Network]


def _figure_8(networks: Networks) -> str:
    texts = []
    for name, network in networks.items():
        last = at(network, int(network.rows[-1]["epoch"]))
        texts.append(
            f"{name} ends after {counted(len(network.rows), 'epoch')} with a training loss of "
            f"{decimal(last.train_loss)} and a validation loss of {decimal(last.validation_loss)}"
        )
    return (
        "Figure 8. Loss (mean squared error, logarithmic) and agreement on the highest of the 37 labels, "
        "against the epoch, for each network; the dotted line is the epoch whose weights were kept. "
        f"{'; '.join(texts)}. Training values are taken on the batches as they are learned, with dropout on."
    )


def _figure_9(networks: Networks) -> str:
    kept = {name: at(network, network.best_epoch).validation_loss for name, network in networks.items()}
    first = min(kept, key=lambda name: kept[name])
    texts = [f"{decimal(loss)} (RMSE {decimal(math.sqrt(loss))}) for {name}" for name, loss in kept.items()]
    best = f": {first} comes out best on it" if len(kept) > 1 else ""
    return f"Figure 9. Validation loss. At its lowest it is {listed(texts)}{best}."


def _figure_10(networks: Networks) -> str:
    high = {
        name: max(row["validation_agreement"] for row in network.rows) for name, network in networks.items()
    }
    texts = [f"{decimal(value, 3)} for {name}" for name, value in high.items()]
    return (
        f"Figure 10. Validation agreement, the report's “accuracy”. Its highest value is {listed(texts)}; "
        "see below for what this number measures."
    )


def _table_6(networks: Networks) -> Table:
    rows, numbers = [], {}
    for name, network in networks.items():
        levels = {"mean of all epochs": average(network), "epoch kept": at(network, network.best_epoch)}
        rows += [[f"{name}: {which}", *_cells(level)] for which, level in levels.items()]
        stated = paper.TABLE_6[name]
        rows.append([f"report: {paper.NAMES[name]}", *_cells(Level(*vars(stated).values()), digits=2)])
        numbers[name] = {which: vars(level) for which, level in levels.items()} | {"report": vars(stated)}
    caption = (
        "Table 6. Loss (MSE) and agreement of both parts. The report averages, it seems, over the epochs; "
        f"what a network is worth is what the kept epoch has. The report trained on {paper.TRAINING:,} "
        f"galaxies and judged on {paper.VALIDATION:,} others than these networks did: its rows and ours do "
        "not compare digit by digit."
    )
    header = ["", "training loss", "validation loss", "training agreement", "validation agreement"]
    return Table("table-06", header, rows, caption, numbers)


def _cells(level: Level, digits: int = 3) -> list[str]:
    losses = [f"{loss:.{digits}g}" for loss in (level.train_loss, level.validation_loss)]
    return losses + [decimal(share, digits) for share in (level.train_agreement, level.validation_agreement)]


def _verdict(networks: Networks) -> str:
    texts = []
    for name, network in networks.items():
        level = at(network, network.best_epoch)
        texts.append(f"{decimal(level.gap, 3)} for {name}")
    return (
        "How far a network has overfitted shows in how much larger its validation RMSE is than its training "
        f"RMSE at the epoch kept: {listed(texts)}. A chapter below tries a setting against it."
    )
