"""After each epoch: the log, the best weights, their average, the learning rate, the time limit.

Every callback saves its state in the checkpoint: an interrupted run continues as if it had not been
interrupted. The names of the classes are keys in checkpoints.
"""

from __future__ import annotations

import math
import random
import shutil
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint, WeightAveraging
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.optim.swa_utils import get_ema_multi_avg_fn

from hubblefork.data.folders import RunFolder
from hubblefork.data.split import TRAIN, VALIDATION
from hubblefork.errors import RunError
from hubblefork.io import replacing
from hubblefork.network.device import wait_for
from hubblefork.network.recipe import HEAD, Recipe
from hubblefork.network.stages import freeze, frozen_by
from hubblefork.network.weights import write_weights
from hubblefork.zoo import DecisionTree

MODES: dict[str, Literal["min", "max"]] = {"validation_rmse": "min", "validation_agreement": "max"}


class StatefulCallback(Callback):
    """A callback whose attributes named in `kept` are part of the checkpoint."""

    kept: tuple[str, ...] = ()

    def state_dict(self) -> dict[str, Any]:
        """Return the state for the checkpoint."""
        return {name: getattr(self, name) for name in self.kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of the checkpoint."""
        for name in self.kept:
            setattr(self, name, state[name])


class Frozen(Callback):
    """Keeps the stages that a recipe does not train, and in its `frozen_epochs` all but the head."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.trained: list[nn.Parameter] = []

    def on_fit_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Note what is trained after these epochs."""
        self.trained = [parameter for parameter in module.network.parameters() if parameter.requires_grad]

    def on_train_epoch_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Freeze for the epoch."""
        only_head = trainer.current_epoch < self.recipe.frozen_epochs
        frozen = frozen_by(module.network, HEAD if only_head else self.recipe.unfreeze)
        for parameter in self.trained:
            parameter.requires_grad_(parameter not in frozen)
        freeze(module.network, frozen, batch_norm=self.recipe.freeze_batch_norm)


class Generators(Callback):
    """Keeps the states of the random generators, which dropout and stochastic depth draw from.

    Those of Python, NumPy, PyTorch, and PyTorch on the device. They are restored before the first epoch.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.restored: dict[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        """Return the states as tensors and numbers, which a checkpoint without pickle holds."""
        name, keys, *rest = cast(tuple[Any, ...], np.random.get_state())
        device = getattr(torch, self.device.type).get_rng_state() if self.device.type != "cpu" else None
        return {
            "python": random.getstate(),
            "numpy": (name, torch.from_numpy(keys.astype(np.int64)), *rest),
            "torch": torch.get_rng_state(),
            "device": device,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Keep the states of the checkpoint until the first epoch."""
        self.restored = state

    def on_train_epoch_start(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Restore the states of the checkpoint, once."""
        if not self.restored:
            return
        name, keys, *rest = self.restored["numpy"]
        random.setstate(self.restored["python"])
        np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
        torch.set_rng_state(self.restored["torch"])
        if self.restored["device"] is not None:
            getattr(torch, self.device.type).set_rng_state(self.restored["device"])
        self.restored = {}


class Checkpoints(Checkpoint):
    """Writes the state of training after each epoch, and keeps that of the epoch before."""

    def __init__(self, out: Path) -> None:
        self.last, self.previous = RunFolder(out).checkpoints

    def on_train_epoch_end(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Write. Every process takes part; the first one writes. Raises DiskError."""
        if not trainer.is_global_zero:
            trainer.save_checkpoint(self.last)
            return
        with replacing(self.last) as temporary:
            trainer.save_checkpoint(temporary)
            if self.last.exists():
                with replacing(self.previous) as second:
                    _link_or_copy(self.last, second)


def _link_or_copy(path: Path, second: Path) -> None:
    try:
        second.hardlink_to(path)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, second)


@dataclass(frozen=True)
class Resumed:
    """The checkpoint from which a training continues (None: a new training), its step, and what to remark."""

    checkpoint: Path | None = None
    step: int = 0
    remark: str = ""


def sound_checkpoint(run: RunFolder, module: lightning.LightningModule) -> Resumed:
    """Return the checkpoint from which the training of a module continues: the last sound one.

    Raises RunError where checkpoints are there and none of them is sound.
    """
    written = [path for path in run.checkpoints if path.exists()]
    for path in written:
        step = _step(path, module)
        if step is not None:
            damaged = path != written[0]
            remark = (
                f"{written[0].name} is damaged: training went on from the epoch before" if damaged else ""
            )
            return Resumed(path, step, remark)
    if written:
        raise RunError(
            f"{written[0]}: the checkpoint is damaged, and no sound one of an earlier epoch is beside it; "
            f"remove {run} and train again, or choose another --out"
        )
    return Resumed()


def _step(path: Path, module: lightning.LightningModule) -> int | None:
    """Return the training step of a checkpoint; None for a file that is damaged or of another network.

    A checkpoint is a zip file of tensors, each with a check sum, which PyTorch does not compare.
    No pickle is read but that of tensors and numbers.
    """
    try:
        with zipfile.ZipFile(path) as members:
            if members.testzip() is not None:
                return None
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        whole = state.keys() >= {
            "state_dict",
            "epoch",
            "optimizer_states",
            "lr_schedulers",
            "callbacks",
            "loops",
        }
        shapes = {name: tensor.shape for name, tensor in state["state_dict"].items()}
        same = shapes == {name: tensor.shape for name, tensor in module.state_dict().items()}
        return int(state["global_step"]) if same and whole else None
    except Exception:  # whatever bytes make of zipfile and torch.load
        return None


class EpochLog(StatefulCallback):
    """Writes `metrics.csv`, whole, after each epoch."""

    kept = ("rows",)

    def __init__(self, out: Path) -> None:
        self.out, self.rows = out, list[dict[str, float]]()
        self.started = self.seconds = 0.0

    def on_train_epoch_start(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Start the clock."""
        self.started = time.perf_counter()

    def on_validation_start(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Stop the clock after the last training step: validation is not training."""
        wait_for(trainer.strategy.root_device)
        self.seconds = time.perf_counter() - self.started

    def on_validation_end(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Add the row of the epoch."""
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
            RunFolder(self.out).write_metrics(self.rows)


class BestWeights(StatefulCallback):
    """Writes `weights.safetensors` after the epochs with the best monitored value until then."""

    kept = ("best",)

    def __init__(self, out: Path, recipe: Recipe, tree: DecisionTree) -> None:
        self.out, self.recipe, self.tree = out, recipe, tree
        self.best = math.inf

    def on_validation_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Compare, and write."""
        value = float(trainer.callback_metrics[self.recipe.monitor])
        loss = value if MODES[self.recipe.monitor] == "min" else -value
        if loss < self.best:
            self.best = loss
            if trainer.is_global_zero:
                epoch = trainer.current_epoch
                write_weights(self.out, module.network, self.recipe, self.tree, epoch=epoch)


class Average(WeightAveraging):
    """The exponential moving average of the weights (EMA), which is validated and written.

    Tarvainen & Valpola 2017 (arXiv:1703.01780). The decay of step n is at most (1 + n) / (10 + n), so that
    the first weights are soon forgotten. Lightning removes the average before `on_validation_end`; here it
    stays during that call, and this callback comes after the one that writes the weights.
    """

    def __init__(self, decay: float, device: torch.device) -> None:
        super().__init__(device=device)
        self.decay = decay

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, *_: Any
    ) -> None:
        """Update the average of all weights at once.

        PyTorch's own update asks the device at every step whether it is the first, and waits for the answer.
        """
        if trainer.global_step == 1:
            super().on_train_batch_end(trainer, module, *_)
            return
        assert self._average_model is not None
        update = get_ema_multi_avg_fn(min(self.decay, trainer.global_step / (9 + trainer.global_step)))
        update(_averaged(self._average_model.module), _averaged(module), None)

    def on_validation_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Keep the average in place."""

    def on_validation_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Continue training with the weights that the optimiser changes."""
        super().on_validation_epoch_end(trainer, module)


def _averaged(module: nn.Module) -> list[Tensor]:
    tensors = (*module.parameters(), *module.buffers())
    return [tensor.detach() for tensor in tensors if tensor.is_floating_point()]


class LowerOnPlateau(Callback):
    """Lowers the learning rate when the monitored value does not improve, if the schedule is "plateau".

    PyTorch's ReduceLROnPlateau, right after validation: Lightning's comes after the checkpoint is written, so
    that a resumed run would miss a step.
    """

    def __init__(self, recipe: Recipe, scale: float) -> None:
        self.recipe, self.scale = recipe, scale
        self.plateau: ReduceLROnPlateau | None = None
        self.state: dict[str, Any] = {}

    def on_train_start(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Begin, with the state of the checkpoint if there is one."""
        if self.recipe.schedule != "plateau":
            return
        self.plateau = ReduceLROnPlateau(
            trainer.optimizers[0],
            mode=MODES[self.recipe.monitor],
            factor=self.recipe.plateau_factor,
            patience=self.recipe.plateau_patience,
            min_lr=self.recipe.min_learning_rate,
            threshold=1e-4 * self.scale,
            threshold_mode="abs",
            eps=0,
        )
        if self.state:
            self.plateau.load_state_dict(self.state)

    def on_validation_end(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Compare, and lower."""
        if self.plateau is not None:
            self.plateau.step(float(trainer.callback_metrics[self.recipe.monitor]))

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the schedule."""
        return self.plateau.state_dict() if self.plateau is not None else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Keep the checkpoint's state until training starts."""
        self.state = state


class Deadline(StatefulCallback):
    """Stops training before an epoch that would end after the recipe's `max_minutes`, validation included."""

    kept = ("spent",)

    def __init__(self, recipe: Recipe) -> None:
        self.seconds = 60 * recipe.max_minutes or math.inf
        self.spent = self.began = 0.0

    def on_train_epoch_start(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Start the clock."""
        self.began = time.perf_counter()

    def on_validation_end(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Stop if another epoch of this length would end too late."""
        epoch = time.perf_counter() - self.began
        self.spent += epoch
        late = torch.tensor(float(self.spent + epoch > self.seconds))
        trainer.should_stop |= bool(trainer.strategy.broadcast(late) > 0)
