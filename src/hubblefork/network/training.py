"""Training: one recipe on one data folder, into one run folder; readable from top to bottom.

A run folder holds `recipe.toml`, `run.toml` (what was trained where on what), `split.toml`,
`metrics.csv` (one row an epoch), `weights.safetensors` (the epoch with the best watched value) and
`last.ckpt` (the state from which an interrupted run goes on).
"""

from __future__ import annotations

import logging
import math
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning
import numpy as np
import pyarrow as pa
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_only
from numpy.typing import NDArray
from torch import Tensor

from hubblefork.errors import CatalogueError, DivergedError, RunError
from hubblefork.network import runs
from hubblefork.network.device import best_device, compiled, keep_freed_memory, precision_of
from hubblefork.network.losses import masked_rmse, squared_error
from hubblefork.network.model import VoteFractions, count_parameters
from hubblefork.network.optimisers import Optimisation, optimisation
from hubblefork.network.pretrained import start
from hubblefork.network.recipe import Recipe, differences
from hubblefork.progress import Advance, Progress, silent
from hubblefork.sky.catalogue import fractions, galaxy_ids, labelled, read_catalogue
from hubblefork.sky.split import SPLITS, TRAIN, VALIDATION, Split, read_split
from hubblefork.stamps.augment import central_views, moved_views, random_moves
from hubblefork.stamps.batches import LabelledStamps, OrderedBatches, Share, ShuffledBatches, no_moves, place
from hubblefork.stamps.preprocess import prepare
from hubblefork.zoo import DecisionTree, load_tree

MODES: dict[str, Literal["min", "max"]] = {"validation_rmse": "min", "validation_agreement": "max"}


@dataclass(frozen=True)
class Machine:
    """Where a training runs, which the recipe does not decide.

    `device`: "cpu", "cuda" or "mps"; empty chooses. `devices` on each of `nodes` share every batch, started
    by torchrun or SLURM (or, on one node, by Lightning). `memory`: how many bytes of stamps may lie in it.
    """

    device: str = ""
    devices: int = 1
    nodes: int = 1
    memory: int | None = None

    @property
    def where(self) -> torch.device:
        """The device, chosen if it was not given."""
        return torch.device(self.device) if self.device else best_device()

    @property
    def processes(self) -> int:
        """How many processes share a batch."""
        return self.devices * self.nodes


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
    tree, split, where = load_tree(), split or read_split(data), machine.where
    _check_same_run(out, recipe, data, split)
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
    total = None if recipe.minutes else recipe.epochs * galaxies.steps
    with progress(f"training {recipe.name}", total, _steps_done(out)) as advance:
        ours = [log, BestWeights(out, recipe, tree), LowerOnPlateau(recipe), Deadline(recipe), Bar(advance)]
        with _quiet():
            trainer = _trainer(recipe, out, machine, [*ours, *callbacks])
            _fit(trainer, lesson, galaxies, out / "last.ckpt")
    if is_first():
        runs.finish(out, log.rows, MODES[recipe.watch], recipe.watch)
    return out


def _begin(out: Path, lesson: Lesson, galaxies: GalaxyData, weights: Path | None) -> None:
    """Load the weights that a new run starts from, and note what is known before training."""
    if (out / "last.ckpt").exists():
        return
    recipe = lesson.recipe
    started = start(lesson.network, recipe.pretrained, weights)
    notes = {"start": started, **_notes(lesson.network, galaxies, recipe, galaxies.machine)}
    runs.begin(out, recipe, data=galaxies.data, split=galaxies.split, notes=notes)


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


class GalaxyData(lightning.LightningDataModule):
    """The labelled galaxies of a data folder, split, with their stamps on the device.

    Raises CatalogueError when a part to train or to choose on is empty.
    """

    def __init__(
        self,
        data: Path,
        recipe: Recipe,
        tree: DecisionTree,
        *,
        split: Split,
        machine: Machine,
    ) -> None:
        super().__init__()
        self.data, self.recipe, self.split, self.machine = data, recipe, split, machine
        catalogue = read_catalogue(data / "catalogue.parquet")
        self.rows = {part: labelled_rows(catalogue, tree, split, part) for part in SPLITS}
        self.labels = fractions(catalogue, tree).astype(np.float32)
        self.parts: dict[str, LabelledStamps] = {}
        for part in (TRAIN, VALIDATION):
            if not len(self.rows[part]):
                raise CatalogueError(f"{data}: no labelled galaxy is in the {part} part of {split}")

    def setup(self, stage: str) -> None:
        """Put stamps and labels where this process trains."""
        where = self.trainer.strategy.root_device if self.trainer else self.machine.where
        pixels = place(prepare(self.data, self.recipe.stamps).pixels, where, self.machine.memory)
        self.parts = {
            part: LabelledStamps(
                pixels, torch.from_numpy(rows), torch.from_numpy(self.labels[rows]).to(where)
            )
            for part, rows in self.rows.items()
        }

    @property
    def steps(self) -> int:
        """The number of batches in an epoch."""
        return self.recipe.steps or max(1, -(-len(self.rows[TRAIN]) // self.recipe.batch_size))

    @property
    def share(self) -> Share:
        """Which galaxies of a batch are this process's."""
        return Share(self.trainer.global_rank, self.trainer.world_size) if self.trainer else Share()

    def train_dataloader(self) -> ShuffledBatches:
        """Return the batches of the current epoch."""
        recipe, size = self.recipe, self.recipe.input_size

        def draw(galaxies: int, generator: torch.Generator) -> Tensor:
            return random_moves(galaxies, recipe.stamp_size, size, recipe.augmentation, generator)

        def view(stamps: Tensor, moves: Tensor) -> Tensor:
            return moved_views(stamps, size, moves) if recipe.augments else central_views(stamps, size)

        return ShuffledBatches(
            self.parts[TRAIN],
            view,
            recipe.batch_size,
            recipe.steps,
            recipe.seed,
            epoch=self.trainer.current_epoch if self.trainer else 0,
            draw=draw if recipe.augments else no_moves,
            share=self.share,
        )

    def val_dataloader(self) -> OrderedBatches:
        """Return the validation galaxies in order."""
        size = self.recipe.input_size
        return OrderedBatches(
            self.parts[VALIDATION],
            lambda stamps: central_views(stamps, size),
            self.recipe.batch_size,
            self.share,
        )


def labelled_rows(catalogue: pa.Table, tree: DecisionTree, split: Split, part: str) -> NDArray[np.intp]:
    """Return the rows of one part of the split that have any label at all."""
    in_part = split.assign(galaxy_ids(catalogue).tolist()) == part
    return np.flatnonzero(in_part & labelled(catalogue, tree))


class EpochLog(Callback):
    """Writes `metrics.csv`, whole, after each epoch; its rows are part of the checkpoint."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.rows: list[dict[str, float]] = []
        self.started = 0.0
        self.seconds = 0.0

    def on_train_epoch_start(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Start the clock."""
        self.started = time.perf_counter()

    def on_validation_start(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Stop the clock: validation is not training."""
        self.seconds = time.perf_counter() - self.started

    def on_validation_end(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Add the epoch's row."""
        names = [f"{part}_{what}" for what in ("rmse", "agreement") for part in (TRAIN, VALIDATION)]
        row = {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            **{name: float(trainer.callback_metrics[name]) for name in names},
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            "seconds": self.seconds,
            "galaxies_per_second": trainer.train_dataloader.galaxies / self.seconds,
        }
        self.rows = [*self.rows[: trainer.current_epoch], row]
        if trainer.is_global_zero:
            runs.write_metrics(self.out, self.rows)

    def state_dict(self) -> dict[str, Any]:
        """Return the rows so far."""
        return {"rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the rows of the checkpoint."""
        self.rows = state["rows"]


class BestWeights(Callback):
    """Writes `weights.safetensors` whenever the watched value is the best so far."""

    def __init__(self, out: Path, recipe: Recipe, tree: DecisionTree) -> None:
        self.out, self.recipe, self.tree = out, recipe, tree
        self.best = math.inf

    def on_validation_end(self, trainer: lightning.Trainer, lesson: lightning.LightningModule) -> None:
        """Compare, and write."""
        value = float(trainer.callback_metrics[self.recipe.watch])
        loss = value if MODES[self.recipe.watch] == "min" else -value
        if loss < self.best:
            self.best = loss
            if not trainer.is_global_zero:
                return
            runs.write_weights(self.out, lesson.network, self.recipe, self.tree, epoch=trainer.current_epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return the best value so far."""
        return {"best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the best value of the checkpoint."""
        self.best = state["best"]


class LowerOnPlateau(Callback):
    """Lowers the learning rate when the watched value stands still, where that is the recipe's schedule.

    PyTorch's ReduceLROnPlateau, stepped right after validation: Lightning steps its own after the
    checkpoint is written, so that a resumed run would miss a step.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.state: dict[str, Any] = {}

    def on_train_start(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Watch the optimiser, from the state of the checkpoint if there is one."""
        if self.recipe.schedule != "plateau":
            return
        self.plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            trainer.optimizers[0],
            mode=MODES[self.recipe.watch],
            factor=self.recipe.plateau_factor,
            patience=self.recipe.plateau_patience,
            min_lr=self.recipe.plateau_floor,
            threshold=1e-4,
            threshold_mode="abs",
            eps=0,
        )
        if self.state:
            self.plateau.load_state_dict(self.state)

    def on_validation_end(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Take a step."""
        if self.recipe.schedule != "plateau":
            return
        self.plateau.step(float(trainer.callback_metrics[self.recipe.watch]))

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the schedule."""
        return self.plateau.state_dict() if self.recipe.schedule == "plateau" else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Keep the checkpoint's state until training starts."""
        self.state = state


class Deadline(Callback):
    """Stops a training before an epoch that would end after the recipe's `minutes`, validation counted in."""

    def __init__(self, recipe: Recipe) -> None:
        self.seconds = 60 * recipe.minutes or math.inf
        self.spent = self.began = 0.0

    def on_train_epoch_start(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Start the clock."""
        self.began = time.perf_counter()

    def on_validation_end(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Stop when another epoch as long as this one would be too much."""
        epoch = time.perf_counter() - self.began
        self.spent += epoch
        late = torch.tensor(float(self.spent + epoch > self.seconds))
        trainer.should_stop |= bool(trainer.strategy.broadcast(late) > 0)

    def state_dict(self) -> dict[str, Any]:
        """Return the seconds so far."""
        return {"spent": self.spent}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the seconds of the checkpoint."""
        self.spent = state["spent"]


class Bar(Callback):
    """Tells a progress bar of each step."""

    def __init__(self, advance: Advance) -> None:
        self.advance = advance

    def on_train_batch_end(self, *_: Any) -> None:
        """Move the bar by a step."""
        self.advance(1)


def _trainer(recipe: Recipe, out: Path, machine: Machine, callbacks: list[Callback]) -> lightning.Trainer:
    where, several = machine.where, machine.processes > 1
    stop = EarlyStopping(
        recipe.watch,
        mode=MODES[recipe.watch],
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


def _check_same_run(out: Path, recipe: Recipe, data: Path, split: Split) -> None:
    if not (out / "recipe.toml").exists():
        return
    unlike = differences(recipe, runs.read_recipe(out))
    if runs.read_notes(out)["data"] != str(data.resolve()):
        unlike.append(f"data: {data.resolve()}, not {runs.read_notes(out)['data']}")
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
