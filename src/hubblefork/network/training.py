"""Training: one recipe on one data folder, into one run folder; readable from top to bottom.

A run folder holds `recipe.toml`, `run.toml` (what was trained where on what), `split.toml`,
`metrics.csv` (one row an epoch), `weights.safetensors` (the epoch with the best watched value) and
`last.ckpt` (the state from which an interrupted run goes on).
"""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from hubblefork.data.split import TRAIN, VALIDATION, Split, read_split
from hubblefork.data.stamps import prepare
from hubblefork.errors import DivergedError, RunError
from hubblefork.io import Progress, silent
from hubblefork.network import runs
from hubblefork.network.callbacks import (
    MODES,
    Average,
    Bar,
    BestWeights,
    Deadline,
    EpochLog,
    LowerOnPlateau,
)
from hubblefork.network.centring import centre_weights
from hubblefork.network.device import Machine, compiled, keep_freed_memory, precision_of
from hubblefork.network.galaxies import GalaxyData
from hubblefork.network.losses import masked_rmse, squared_error
from hubblefork.network.model import VoteFractions, count_parameters
from hubblefork.network.optimisers import Optimisation, optimisation
from hubblefork.network.pretrained import start
from hubblefork.network.recipe import Recipe, differences
from hubblefork.zoo import DecisionTree, read_tree


def train(
    data: Path,
    recipe: Recipe,
    out: Path,
    *,
    weights: Path | None = None,
    device: str = "",
    machine: Machine | None = None,
    split: Split | None = None,
    callbacks: Sequence[Callback] = (),
    progress: Progress = silent,
) -> Path:
    """Train a recipe on the labelled galaxies of a data folder; return the run folder.

    Called again on the same folder it goes on where it stopped, and does nothing when the run is
    finished. `device` is short for a `machine` of one. `weights`: see `pretrained.start`. `split` stands
    instead of the data folder's own. `callbacks` are called after each epoch's row is written. Raises
    RunError when the folder holds a run of another recipe, split or other data or the weights do not fit,
    CatalogueError when there is nothing to train or judge on, DivergedError.
    """
    machine = machine or Machine(device)
    tree, split, where = read_tree(data), split or read_split(data), machine.where
    _check_same_run(out, recipe, tree, data, split)
    if runs.is_finished(out):
        return out
    _check_launch(machine, recipe)
    keep_freed_memory()
    galaxies = GalaxyData(data, recipe, tree, split=split, machine=machine)
    lightning.seed_everything(recipe.seed, workers=False, verbose=False)
    lesson = Lesson(recipe, tree, steps=recipe.epochs * galaxies.steps)
    if is_first():
        prepare(data, recipe.stamps, progress=progress)
        _begin(out, lesson, galaxies, weights)
    remark = compiled(lesson.network, recipe.input_size, where) if recipe.compile else ""
    if is_first():
        runs.add_remarks(out, [remark, precision_of(recipe.precision, where).remark])
    log = EpochLog(out)
    total = None if recipe.max_minutes else recipe.epochs * galaxies.steps
    with progress(f"training {recipe.name}", total, _steps_done(out)) as advance:
        ours = [log, BestWeights(out, recipe, tree), LowerOnPlateau(recipe), Deadline(recipe), Bar(advance)]
        ours += [Average(recipe.ema_decay, where)] if recipe.ema_decay else []
        with _quiet():
            trainer = _trainer(recipe, out, machine, [*ours, *callbacks])
            _fit(trainer, lesson, galaxies, out / "last.ckpt")
    if is_first():
        centred = centre_weights(out, galaxies) if recipe.fit_offsets else {}
        runs.finish(out, log.rows, MODES[recipe.monitor], recipe.monitor, centred)
    return out


def _begin(out: Path, lesson: Lesson, galaxies: GalaxyData, weights: Path | None) -> None:
    """Load the weights that a new run starts from, and note what is known before training."""
    if (out / "last.ckpt").exists():
        return
    recipe = lesson.recipe
    started = start(lesson.network, recipe.pretrained, weights)
    notes = {"start": started, **_notes(lesson.network, galaxies, recipe, galaxies.machine)}
    runs.begin(out, recipe, lesson.network.tree, data=galaxies.data, split=galaxies.split, notes=notes)


def is_first() -> bool:
    """Whether this is the process that writes, of those that share the batches."""
    return bool(rank_zero_only.rank == 0)


def _check_launch(machine: Machine, recipe: Recipe) -> None:
    started = int(os.environ.get("WORLD_SIZE", machine.processes))
    if started != machine.processes:
        raise RunError(
            f"started as {started} processes, but --devices {machine.devices} on --nodes {machine.nodes} are "
            f"{machine.processes}: give torchrun's --nproc-per-node as --devices and its --nnodes as --nodes"
        )
    if recipe.batch_size < machine.processes:
        raise RunError(
            f"batch_size = {recipe.batch_size}, at least one galaxy for each of {machine.processes} processes"
        )


def _fit(trainer: lightning.Trainer, lesson: Lesson, galaxies: GalaxyData, last: Path) -> None:
    try:
        trainer.fit(lesson, datamodule=galaxies, ckpt_path=last if last.exists() else None, weights_only=True)
    except SystemExit as ended:
        raise KeyboardInterrupt from ended


class Lesson(lightning.LightningModule):
    """The loss, the optimiser and what is measured in an epoch; `steps` are all of a training."""

    def __init__(self, recipe: Recipe, tree: DecisionTree, *, steps: int) -> None:
        super().__init__()
        self.recipe, self.steps = recipe, steps
        self.network = VoteFractions(recipe, tree)
        self.tallies = {TRAIN: Tally(), VALIDATION: Tally()}

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """Return the masked RMSE of a batch. Raises RunError when it is no longer a number."""
        views, labels = batch
        predicted = self.network(views)
        self.tallies[TRAIN].add(predicted.detach(), labels)
        return masked_rmse(predicted, labels)

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        """Count the errors of a batch."""
        views, labels = batch
        self.tallies[VALIDATION].add(self.network(views), labels)

    def on_validation_epoch_end(self) -> None:
        """Log what the epoch came to."""
        if self.trainer.sanity_checking:
            return
        for part, tally in self.tallies.items():
            tally.sums = self.trainer.strategy.reduce(tally.sums.to(self.device), reduce_op="sum")
            rmse, agreement = tally.result()
            agreement = math.nan if self.network.tree.is_plain else agreement
            self.log_dict({f"{part}_rmse": rmse, f"{part}_agreement": agreement}, batch_size=1)
            self.tallies[part] = Tally()
            if not math.isfinite(rmse):
                raise DivergedError(
                    f"training diverged: the {part} RMSE of epoch {self.current_epoch} is {rmse}; "
                    f"lower the learning rate (now {self.recipe.learning_rate}): --set learning_rate=…"
                )

    def configure_optimizers(self) -> Optimisation:
        """Return the recipe's optimiser, with its schedule where that goes by the step."""
        return optimisation(self.network, self.recipe, self.steps)


class Tally:
    """Running sums of squared errors and of agreements over the batches of an epoch, kept on the device."""

    def __init__(self) -> None:
        self.sums = torch.zeros(4)

    def add(self, predicted: Tensor, volunteers: Tensor) -> None:
        """Count one batch; agreement among the galaxies of which every answer is known."""
        errors, known = squared_error(predicted, volunteers)
        complete = ~torch.isnan(volunteers).any(dim=1)
        agree = predicted.argmax(dim=1) == torch.nan_to_num(volunteers).argmax(dim=1)
        counts = torch.stack(
            [errors, known.float(), (agree & complete).sum().float(), complete.sum().float()]
        )
        self.sums = self.sums.to(counts.device) + counts

    def result(self) -> tuple[float, float]:
        """Return the RMSE and the agreement; NaN for an agreement without a complete galaxy."""
        errors, known, agree, complete = self.sums.tolist()
        return math.sqrt(errors / known), agree / complete if complete else math.nan


def _trainer(recipe: Recipe, out: Path, machine: Machine, callbacks: list[Callback]) -> lightning.Trainer:
    where, several = machine.where, machine.processes > 1
    stop = EarlyStopping(
        recipe.monitor,
        mode=MODES[recipe.monitor],
        patience=recipe.patience,
        min_delta=recipe.min_delta,
        verbose=False,
    )
    last = ModelCheckpoint(out, filename="last", save_on_train_epoch_end=True, enable_version_counter=False)
    return lightning.Trainer(
        accelerator="gpu" if where.type == "cuda" else where.type,
        devices=machine.devices,
        num_nodes=machine.nodes,
        strategy="ddp" if several else "auto",
        sync_batchnorm=several and where.type == "cuda",
        precision=precision_of(recipe.precision, where).name,
        max_epochs=recipe.epochs,
        callbacks=[*callbacks, stop, last],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
    )


def _steps_done(out: Path) -> int:
    rows = runs.read_metrics(out)
    return int(rows[-1]["step"]) if rows else 0


def _notes(network: VoteFractions, galaxies: GalaxyData, recipe: Recipe, machine: Machine) -> dict[str, Any]:
    parameters, where = count_parameters(network), machine.where
    return {
        "galaxies": {part: len(rows) for part, rows in galaxies.rows.items()},
        "parameters": {
            "learned": parameters.learned,
            "keras": parameters.keras,
            "trained_share": parameters.trained_share,
        },
        "device": {
            "kind": where.type,
            "precision": precision_of(recipe.precision, where).name,
            "threads": torch.get_num_threads(),
            "processes": machine.processes,
        },
    }


def _check_same_run(out: Path, recipe: Recipe, tree: DecisionTree, data: Path, split: Split) -> None:
    if not (out / "recipe.toml").exists():
        return
    unlike = differences(recipe, runs.read_recipe(out))
    if runs.read_notes(out)["data"] != str(data.resolve()):
        unlike.append(f"data: {data.resolve()}, not {runs.read_notes(out)['data']}")
    if read_tree(out) != tree:
        unlike.append(f"tree: {tree.name}, not {read_tree(out).name}, or of other questions")
    if read_split(out) != split:
        unlike.append(f"split: {split}, not {read_split(out)}")
    if unlike:
        raise RunError(
            f"{out} holds a run of another kind; asked for now, not then: {'; '.join(unlike)}. "
            "Choose another --out, or remove the folder."
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's advice about data loaders, devices and services off the terminal."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        yield
    logger.setLevel(level)
