"""What happens after each epoch: log, best weights, their average, learning rate, time limit, bar.

All of it is part of the checkpoint, so that an interrupted run goes on as if nothing had been.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any, Literal

import lightning
import torch
from lightning.pytorch.callbacks import Callback, WeightAveraging
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from hubblefork.data.split import TRAIN, VALIDATION
from hubblefork.io import Advance
from hubblefork.network import runs
from hubblefork.network.device import wait_for
from hubblefork.network.recipe import Recipe
from hubblefork.zoo import DecisionTree

MODES: dict[str, Literal["min", "max"]] = {"validation_rmse": "min", "validation_agreement": "max"}


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
        """Stop the clock when the last step is done: validation is not training."""
        wait_for(trainer.strategy.root_device)
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
        value = float(trainer.callback_metrics[self.recipe.monitor])
        loss = value if MODES[self.recipe.monitor] == "min" else -value
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


class Average(WeightAveraging):
    """Keeps an exponential moving average of the weights, which is what is validated and written.

    Tarvainen & Valpola 2017 (arXiv:1703.01780). The decay of step n is at most (1 + n) / (10 + n): the first
    weights, which have learned nothing, are soon forgotten. Lightning swaps the average out before
    `on_validation_end`; here it stays in place through that call, and this callback stands behind the one
    that writes the weights. `where` the training is, the average is too.
    """

    def __init__(self, decay: float, where: torch.device) -> None:
        super().__init__(device=where)
        self.decay = decay

    def on_train_batch_end(
        self, trainer: lightning.Trainer, lesson: lightning.LightningModule, *_: Any
    ) -> None:
        """Move the average, all weights at once.

        PyTorch's own way asks the device at every step whether it is the first, and waits for the answer.
        """
        if trainer.global_step == 1:
            super().on_train_batch_end(trainer, lesson, *_)
            return
        assert self._average_model is not None
        decay = min(self.decay, trainer.global_step / (9 + trainer.global_step))
        move = get_ema_multi_avg_fn(decay)
        move(_averaged(self._average_model.module), _averaged(lesson), None)

    def on_validation_epoch_end(self, trainer: lightning.Trainer, lesson: lightning.LightningModule) -> None:
        """Leave the average in place."""

    def on_validation_end(self, trainer: lightning.Trainer, lesson: lightning.LightningModule) -> None:
        """Go on training with the weights that gradients move."""
        super().on_validation_epoch_end(trainer, lesson)


def _averaged(module: nn.Module) -> list[Tensor]:
    return [one.detach() for one in (*module.parameters(), *module.buffers()) if one.is_floating_point()]


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
            mode=MODES[self.recipe.monitor],
            factor=self.recipe.plateau_factor,
            patience=self.recipe.plateau_patience,
            min_lr=self.recipe.min_learning_rate,
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
        self.plateau.step(float(trainer.callback_metrics[self.recipe.monitor]))

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the schedule."""
        return self.plateau.state_dict() if self.recipe.schedule == "plateau" else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Keep the checkpoint's state until training starts."""
        self.state = state


class Deadline(Callback):
    """Stops a training before an epoch that would end after the recipe's `minutes`, validation counted in."""

    def __init__(self, recipe: Recipe) -> None:
        self.seconds = 60 * recipe.max_minutes or math.inf
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


class Target(Callback):
    """Stops a training once the validation RMSE is at most `rmse`; `seconds` from its own birth until then.

    These are of the whole of it, setting up and validation included; None as long as it is not reached.
    """

    def __init__(self, rmse: float) -> None:
        self.rmse = rmse
        self.began = time.perf_counter()
        self.seconds: float | None = None

    def on_validation_end(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Compare, and stop."""
        if float(trainer.callback_metrics["validation_rmse"]) <= self.rmse:
            self.seconds = time.perf_counter() - self.began
            trainer.should_stop = True


class Bar(Callback):
    """Tells a progress bar of each step."""

    def __init__(self, advance: Advance) -> None:
        self.advance = advance

    def on_train_batch_end(self, *_: Any) -> None:
        """Move the bar by a step."""
        self.advance(1)
