"""Training: one recipe on one data folder, into one run folder; readable from top to bottom.

A run folder holds `recipe.toml`, `run.toml` (what was trained where on what), `split.toml`,
`metrics.csv` (one row an epoch), `weights.safetensors` (the epoch with the best watched value) and
`last.ckpt` (the state from which an interrupted run goes on).
"""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import lightning
import numpy as np
import pyarrow as pa
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from torch import Tensor

from hubblefork.errors import CatalogueError, RunError
from hubblefork.network import runs
from hubblefork.network.device import best_device, best_precision, keep_freed_memory
from hubblefork.network.losses import masked_rmse, squared_error
from hubblefork.network.model import VoteFractions, count_parameters
from hubblefork.network.pretrained import start
from hubblefork.network.recipe import Recipe, differences
from hubblefork.progress import Advance, Progress, silent
from hubblefork.sky.catalogue import fractions, galaxy_ids, labelled, read_catalogue
from hubblefork.sky.split import SPLITS, TRAIN, VALIDATION, Split, read_split
from hubblefork.stamps.augment import Augmentation, augmented_views, central_views
from hubblefork.stamps.batches import LabelledStamps, OrderedBatches, ShuffledBatches, place
from hubblefork.stamps.preprocess import prepare
from hubblefork.zoo import DecisionTree, load_tree

MODES: dict[str, Literal["min", "max"]] = {"validation_rmse": "min", "validation_agreement": "max"}


def train(
    data: Path,
    recipe: Recipe,
    out: Path,
    *,
    weights: Path | None = None,
    device: str = "",
    progress: Progress = silent,
) -> Path:
    """Train a recipe on the labelled galaxies of a data folder; return the run folder.

    Called again on the same folder it goes on where it stopped, and does nothing when the run is
    finished. `device`: "cpu", "cuda" or "mps"; empty chooses. `weights`: see `pretrained.start`. Raises
    RunError when the folder holds a run of another recipe or other data or the weights do not fit,
    CatalogueError when there is nothing to train or judge on.
    """
    tree = load_tree()
    _check_same_run(out, recipe, data)
    if runs.is_finished(out):
        return out
    keep_freed_memory()
    where = torch.device(device) if device else best_device()
    galaxies = GalaxyData(data, recipe, tree, where, progress)
    lightning.seed_everything(recipe.seed, workers=False, verbose=False)
    lesson = Lesson(recipe, tree)
    if not (out / "last.ckpt").exists():
        started = start(lesson.network, recipe.pretrained, weights)
        notes = {"start": started, **_notes(lesson.network, galaxies, where)}
        runs.begin(out, recipe, data=data, split=galaxies.split, notes=notes)
    log = EpochLog(out)
    with progress(f"training {recipe.name}", recipe.epochs * galaxies.steps, _steps_done(out)) as advance:
        callbacks = [log, BestWeights(out, recipe, tree), LowerOnPlateau(recipe), Bar(advance)]
        with _quiet():
            trainer = _trainer(recipe, out, where, callbacks)
            _fit(trainer, lesson, galaxies, out / "last.ckpt")
    runs.finish(out, log.rows, MODES[recipe.watch], recipe.watch)
    return out


def _fit(trainer: lightning.Trainer, lesson: Lesson, galaxies: GalaxyData, last: Path) -> None:
    try:
        trainer.fit(lesson, datamodule=galaxies, ckpt_path=last if last.exists() else None, weights_only=True)
    except SystemExit as ended:
        raise KeyboardInterrupt from ended


class Lesson(lightning.LightningModule):
    """The loss, the optimiser and what is measured in an epoch."""

    def __init__(self, recipe: Recipe, tree: DecisionTree) -> None:
        super().__init__()
        self.recipe = recipe
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
            rmse, agreement = tally.result()
            self.log_dict({f"{part}_rmse": rmse, f"{part}_agreement": agreement}, batch_size=1)
            self.tallies[part] = Tally()
            if not math.isfinite(rmse):
                raise RunError(
                    f"training diverged: the {part} RMSE of epoch {self.current_epoch} is {rmse}; "
                    f"lower the learning rate (now {self.recipe.learning_rate}): --set learning_rate=…"
                )

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return Adam."""
        return torch.optim.Adam(self.network.parameters(), lr=self.recipe.learning_rate)


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
        self, data: Path, recipe: Recipe, tree: DecisionTree, device: torch.device, progress: Progress
    ) -> None:
        super().__init__()
        self.recipe, self.split = recipe, read_split(data)
        catalogue = read_catalogue(data / "catalogue.parquet")
        pixels = place(prepare(data, recipe.stamps, progress=progress).pixels, device)
        self.parts = {
            part: labelled_stamps(catalogue, tree, self.split, part, pixels=pixels, device=device)
            for part in SPLITS
        }
        for part in (TRAIN, VALIDATION):
            if not len(self.parts[part]):
                raise CatalogueError(f"{data}: no labelled galaxy is in the {part} part of {self.split}")

    @property
    def steps(self) -> int:
        """The number of batches in an epoch."""
        return self.recipe.steps or -(-len(self.parts[TRAIN]) // self.recipe.batch_size)

    def train_dataloader(self) -> ShuffledBatches:
        """Return the batches of the current epoch."""
        recipe = self.recipe
        moved = Augmentation(recipe.rotation, recipe.flip, recipe.shift, recipe.zoom)

        def view(stamps: Tensor, generator: torch.Generator) -> Tensor:
            if recipe.augments:
                return augmented_views(stamps, recipe.input_size, moved, generator)
            return central_views(stamps, recipe.input_size)

        epoch = self.trainer.current_epoch if self.trainer else 0
        return ShuffledBatches(self.parts[TRAIN], view, recipe.batch_size, recipe.steps, recipe.seed, epoch)

    def val_dataloader(self) -> OrderedBatches:
        """Return the validation galaxies in order."""
        size = self.recipe.input_size
        return OrderedBatches(
            self.parts[VALIDATION], lambda stamps: central_views(stamps, size), self.recipe.batch_size
        )


def labelled_stamps(
    catalogue: pa.Table, tree: DecisionTree, split: Split, part: str, *, pixels: Tensor, device: torch.device
) -> LabelledStamps:
    """Return the galaxies of one part of the split that have any label at all."""
    labels = fractions(catalogue, tree)
    in_part = split.assign(galaxy_ids(catalogue).tolist()) == part
    chosen = np.flatnonzero(in_part & labelled(catalogue, tree))
    return LabelledStamps(
        pixels, torch.from_numpy(chosen), torch.from_numpy(labels[chosen].astype(np.float32)).to(device)
    )


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
            runs.write_weights(self.out, lesson.network, self.recipe, self.tree, epoch=trainer.current_epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return the best value so far."""
        return {"best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the best value of the checkpoint."""
        self.best = state["best"]


class LowerOnPlateau(Callback):
    """Lowers the learning rate when the watched value stands still.

    PyTorch's ReduceLROnPlateau, stepped right after validation: Lightning steps its own after the
    checkpoint is written, so that a resumed run would miss a step.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.state: dict[str, Any] = {}

    def on_train_start(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Watch the optimiser, from the state of the checkpoint if there is one."""
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
        self.plateau.step(float(trainer.callback_metrics[self.recipe.watch]))

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the schedule."""
        return self.plateau.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Keep the checkpoint's state until training starts."""
        self.state = state


class Bar(Callback):
    """Tells a progress bar of each step."""

    def __init__(self, advance: Advance) -> None:
        self.advance = advance

    def on_train_batch_end(self, *_: Any) -> None:
        """Move the bar by a step."""
        self.advance(1)


def _trainer(recipe: Recipe, out: Path, device: torch.device, callbacks: list[Callback]) -> lightning.Trainer:
    stop = EarlyStopping(
        recipe.watch,
        mode=MODES[recipe.watch],
        patience=recipe.patience,
        min_delta=recipe.min_delta,
        verbose=False,
    )
    last = ModelCheckpoint(out, filename="last", save_on_train_epoch_end=True, enable_version_counter=False)
    return lightning.Trainer(
        accelerator="gpu" if device.type == "cuda" else device.type,
        devices=1,
        precision=best_precision(device),
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


def _notes(network: VoteFractions, galaxies: GalaxyData, device: torch.device) -> dict[str, Any]:
    parameters = count_parameters(network)
    return {
        "galaxies": {part: len(stamps) for part, stamps in galaxies.parts.items()},
        "parameters": {"learned": parameters.learned, "keras": parameters.keras},
        "device": {
            "kind": device.type,
            "precision": best_precision(device),
            "threads": torch.get_num_threads(),
        },
    }


def _check_same_run(out: Path, recipe: Recipe, data: Path) -> None:
    if not (out / "recipe.toml").exists():
        return
    before = runs.read_recipe(out)
    unlike = differences(recipe, before)
    if runs.read_notes(out)["data"] != str(data.resolve()):
        unlike.append(f"data: {data.resolve()}, not {runs.read_notes(out)['data']}")
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
