"""Training: one recipe on one data folder, into one run folder.

A run folder holds `recipe.toml`, `run.toml` (what was trained where on what), `split.toml`, `metrics.csv`
(one row an epoch), `weights.safetensors` (the epoch with the best monitored value), `last.ckpt` (the state
from which an interrupted run continues) and, until it ends, `previous.ckpt` (the state an epoch earlier).
"""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, LambdaCallback
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from hubblefork.data.folders import DataFolder, RunFolder
from hubblefork.data.split import TRAIN, VALIDATION, Split
from hubblefork.data.stamps import prepare
from hubblefork.errors import DivergedError, RecipeError, RunError
from hubblefork.io import Progress, alone_in, silent
from hubblefork.network.architectures import ENCODER
from hubblefork.network.architectures.encoder import fetch_encoder
from hubblefork.network.batches import GalaxyData
from hubblefork.network.callbacks import (
    MODES,
    Average,
    BestWeights,
    Checkpoints,
    Deadline,
    EpochLog,
    Frozen,
    Generators,
    LowerOnPlateau,
    sound_checkpoint,
)
from hubblefork.network.device import Hardware, compiled, enough_memory, keep_freed_memory, precision_of
from hubblefork.network.heads import DirichletHead, TreeHead, masked_rmse, squared_error, vote_loss
from hubblefork.network.model import VoteFractions, count_parameters
from hubblefork.network.postprocess import centre_weights
from hubblefork.network.recipe import ALL, Recipe, changed, differences, parse_recipe, recipe_text
from hubblefork.network.stages import frozen_by, stages_of
from hubblefork.network.weights import RANDOM, load_start
from hubblefork.zoo import DecisionTree

ONE_CYCLE_START, ONE_CYCLE_END, ONE_CYCLE_RISE = 1 / 25, 1e-4, 0.3


def train(
    data: Path,
    recipe: Recipe,
    out: Path,
    *,
    weights: Path | None = None,
    device: str = "",
    hardware: Hardware | None = None,
    split: Split | None = None,
    callbacks: Sequence[Callback] = (),
    progress: Progress = silent,
) -> Path:
    """Train a recipe on the labelled galaxies of a data folder; return the run folder.

    An interrupted run continues, a finished run is left as it is. `device` is short for a `hardware` with
    one device. `weights`: see `weights.load_start`. `split` replaces that of the data folder. `callbacks` are
    called after each epoch's row is written. Raises RunError if the folder holds a run of another recipe,
    split or data, or the weights do not fit; BusyError if another process trains it; CatalogueError if there
    is no galaxy to train or validate on; DownloadError if published weights or an encoder of the hub cannot
    be reached; RecipeError for a network that cannot be built or does not fit into memory; DivergedError,
    DiskError.
    """
    hardware = hardware or Hardware(device)
    folder, run = DataFolder(data), RunFolder(out)
    tree, split = folder.tree(), split or folder.split()
    _check_same_run(run, recipe, tree, folder, split)
    if run.is_finished():
        return out
    _check_launch(hardware, recipe)
    keep_freed_memory()
    fetch_encoder(recipe.architecture.removeprefix(ENCODER))
    galaxies = GalaxyData(data, recipe, tree, split=split, hardware=hardware)
    with alone_in(out, "working on this run") if is_first() else nullcontext(), enough_memory():
        _train(run, galaxies, weights, callbacks, progress)
    return out


def _train(
    run: RunFolder,
    galaxies: GalaxyData,
    weights: Path | None,
    callbacks: Sequence[Callback],
    progress: Progress,
) -> None:
    recipe, hardware, where, out = galaxies.recipe, galaxies.hardware, galaxies.hardware.where, run.path
    lightning.seed_everything(recipe.seed, workers=False, verbose=False)
    steps = recipe.epochs * galaxies.steps
    module = VoteFractionsModule(recipe, galaxies.tree, steps=steps)
    resumed = sound_checkpoint(run, module)
    if is_first():
        new = resumed.checkpoint is None
        start = load_start(module.network, recipe.pretrained, weights) if new else ""
        if start == RANDOM and recipe.unfreeze != ALL:
            raise RecipeError(
                f"unfreeze = {recipe.unfreeze}, but the network begins with {RANDOM}, which would stay so: "
                f"give --weights FILE or --set pretrained=NAME, or train {ALL}"
            )
        prepare(galaxies.data, recipe.stamps, progress=progress)
        if new:
            _begin(run, module.network, galaxies, start)
    remark = compiled(module.network, recipe.input_size, where, recipe.bands) if recipe.compile else ""
    if is_first():
        run.add_remarks([resumed.remark, remark, precision_of(recipe.precision, where).remark])
    with progress(f"training {recipe.name}", None if recipe.max_minutes else steps, resumed.step) as advance:
        average = [Average(recipe.ema_decay, where)] if recipe.ema_decay else []
        every = [
            EpochLog(out),
            BestWeights(out, recipe, galaxies.tree),
            LowerOnPlateau(recipe, galaxies.tree.scale),
        ]
        every += [Deadline(recipe), LambdaCallback(on_train_batch_end=lambda *_: advance(1)), *average]
        every += [*callbacks, Frozen(recipe), Generators(where), Checkpoints(out)]
        with _quiet():
            trainer = _trainer(recipe, hardware, galaxies.tree.scale, every)
            _fit(trainer, module, galaxies, resumed.checkpoint)
    if is_first():
        selected_by_votes = recipe.fit_offsets and not galaxies.tree.number
        centred = centre_weights(out, galaxies) if selected_by_votes else {}
        run.finish(MODES[recipe.monitor], recipe.monitor, **centred)
        run.checkpoints[1].unlink(missing_ok=True)


def is_first() -> bool:
    """Whether this is the process that writes, of those that share the batches."""
    return bool(rank_zero_only.rank == 0)


def _begin(run: RunFolder, network: VoteFractions, galaxies: GalaxyData, start: str) -> None:
    """Write what is known before training; `start` names the weights that a new run starts from."""
    recipe, where = galaxies.recipe, galaxies.hardware.where
    parameters, display = count_parameters(network), DataFolder(galaxies.data).display()
    notes = {
        "recipe": recipe.name,
        "seed": recipe.seed,
        "changed": changed(recipe),
        "start": start,
        "galaxies": {part: len(rows) for part, rows in galaxies.rows.items()},
        "image_side": DataFolder(galaxies.data).image_side(),
        **({"display": display.entries()} if display else {}),
        "parameters": {
            "learned": parameters.learned,
            "keras": parameters.keras,
            "trained_share": parameters.trained_share,
        },
        "device": {
            "kind": where.type,
            "precision": precision_of(recipe.precision, where).name,
            "threads": torch.get_num_threads(),
            "processes": galaxies.hardware.processes,
        },
    }
    run.begin(recipe_text(recipe), network.tree, DataFolder(galaxies.data), galaxies.split, notes)


def _check_launch(hardware: Hardware, recipe: Recipe) -> None:
    started, processes = int(os.environ.get("WORLD_SIZE", hardware.processes)), hardware.processes
    if started != processes:
        raise RunError(
            f"started as {started} processes, but --devices {hardware.devices} on --nodes {hardware.nodes} "
            f"are {processes}: give torchrun's --nproc-per-node as --devices and its --nnodes as --nodes"
        )
    if recipe.batch_size < processes:
        raise RunError(
            f"batch_size = {recipe.batch_size}, at least one galaxy for each of {processes} processes"
        )


def _check_same_run(
    run: RunFolder, recipe: Recipe, tree: DecisionTree, data: DataFolder, split: Split
) -> None:
    if not run.recipe_file.exists():
        return
    unlike = differences(recipe, parse_recipe(run.recipe_text(), origin=str(run.recipe_file)))
    if not run.is_trained_on(data):
        unlike.append(f"data: {data.path.resolve()}, not {run.data}")
    if split != (there := run.split()):
        unlike.append(f"split: {split}, not {there}")
    if run.tree() != tree:
        unlike.append(f"tree: {tree.name}, not {run.tree().name}, or with other questions")
    if unlike:
        raise RunError(
            f"{run} holds another run; asked for now, not then: {'; '.join(unlike)}. "
            "Choose another --out, or remove the folder."
        )
    if is_first():
        run.find_data(data)


def _fit(
    trainer: lightning.Trainer, module: VoteFractionsModule, galaxies: GalaxyData, checkpoint: Path | None
) -> None:
    try:
        trainer.fit(module, datamodule=galaxies, ckpt_path=checkpoint, weights_only=True)
    except SystemExit as ended:
        raise KeyboardInterrupt from ended


def _trainer(
    recipe: Recipe, hardware: Hardware, scale: float, callbacks: list[Callback]
) -> lightning.Trainer:
    where, several, monitor = hardware.where, hardware.processes > 1, recipe.monitor
    least = recipe.min_delta * scale
    stop = EarlyStopping(
        monitor, mode=MODES[monitor], patience=recipe.patience, min_delta=least, verbose=False
    )
    return lightning.Trainer(
        accelerator="gpu" if where.type == "cuda" else where.type,
        devices=hardware.devices if where.index is None else [where.index],
        num_nodes=hardware.nodes,
        strategy=_strategy(recipe) if several else "auto",
        sync_batchnorm=several and where.type == "cuda",
        precision=precision_of(recipe.precision, where).name,
        max_epochs=recipe.epochs,
        callbacks=[*callbacks, stop],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
    )


def _strategy(recipe: Recipe) -> str:
    return "ddp_find_unused_parameters_true" if recipe.frozen_epochs else "ddp"


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress Lightning's advice about data loaders, devices and services."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        yield
    logger.setLevel(level)


class VoteFractionsModule(lightning.LightningModule):
    """The loss, the optimiser and the metrics of a training of `steps` steps in all."""

    def __init__(self, recipe: Recipe, tree: DecisionTree, *, steps: int) -> None:
        super().__init__()
        self.recipe, self.steps = recipe, steps
        self.network = VoteFractions(recipe, tree)
        for parameter in frozen_by(self.network, recipe.unfreeze):
            parameter.requires_grad_(False)
        _pool_before_relu(self.network)
        self.errors = {TRAIN: EpochErrors(), VALIDATION: EpochErrors()}

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """Return the loss of a batch; the RMSE of a number in units of its width."""
        (views, labels), head, answers = batch, self.network.head, len(self.network.tree.columns)
        if self.recipe.loss == "rmse":
            predicted = self.network(views)
            self.errors[TRAIN].add(predicted.detach(), labels)
            return masked_rmse(predicted, labels) / self.network.tree.scale
        assert isinstance(head, TreeHead)
        scores = self.network.scores(views)
        self.errors[TRAIN].add(head(scores.detach())[:, :answers], labels[:, :answers])
        concentration = head.concentration(scores) if isinstance(head, DirichletHead) else None
        return vote_loss(head.shares(scores), concentration, labels[:, answers:], head.tree)

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        """Add the errors of a batch."""
        (views, labels), answers = batch, len(self.network.tree.columns)
        self.errors[VALIDATION].add(self.network(views)[:, :answers], labels[:, :answers])

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the epoch. Raises DivergedError if the RMSE is not finite."""
        for part, errors in self.errors.items():
            errors.sums = self.trainer.strategy.reduce(errors.sums.to(self.device), reduce_op="sum")
            rmse, agreement = errors.result()
            agreement = math.nan if self.network.tree.is_plain else agreement
            self.log_dict({f"{part}_rmse": rmse, f"{part}_agreement": agreement}, batch_size=1)
            self.errors[part] = EpochErrors()
            if not math.isfinite(rmse):
                raise DivergedError(
                    f"training diverged: the {part} RMSE of epoch {self.current_epoch} is {rmse}; "
                    f"lower the learning rate (now {self.recipe.learning_rate}): --set learning_rate=…"
                )

    def configure_optimizers(self) -> Optimizer | dict[str, Any]:
        """Return the recipe's optimiser, with its schedule if that goes by the step."""
        return optimisation(self.network, self.recipe, self.steps)


def _pool_before_relu(network: nn.Module) -> None:
    """Exchange each ReLU with the maximum pooling after it: same values and gradients from fewer pixels."""
    for layers in network.modules():
        if isinstance(layers, nn.Sequential):
            for place, (first, second) in enumerate(pairwise(list(layers))):
                if isinstance(first, nn.ReLU) and isinstance(second, nn.MaxPool2d):
                    layers[place], layers[place + 1] = second, first


class EpochErrors:
    """Sums of squared errors and of agreements over the batches of an epoch, kept on the device."""

    def __init__(self) -> None:
        self.sums = torch.zeros(4)

    def add(self, predicted: Tensor, volunteers: Tensor) -> None:
        """Add one batch, both (galaxy, answer); the agreement is that of galaxies without a missing label."""
        errors, labels = squared_error(predicted, volunteers)
        complete = ~torch.isnan(volunteers).any(dim=1)
        agree = predicted.argmax(dim=1) == torch.nan_to_num(volunteers).argmax(dim=1)
        counts = [errors, labels.float(), (agree & complete).sum().float(), complete.sum().float()]
        self.sums = self.sums.to(errors.device) + torch.stack(counts)

    def result(self) -> tuple[float, float]:
        """Return the RMSE and the agreement; the latter NaN if every galaxy has a missing label."""
        errors, labels, agree, complete = self.sums.tolist()
        return math.sqrt(errors / labels), agree / complete if complete else math.nan


def optimisation(network: nn.Module, recipe: Recipe, steps: int) -> Optimizer | dict[str, Any]:
    """Return the optimiser of a network, with its schedule if that goes by the step, in Lightning's form.

    `steps` is the number of steps of the whole training.
    """
    optimiser = _optimiser(network, recipe)
    if recipe.schedule == "plateau":  # a callback: it waits for the validation
        return optimiser
    rise = recipe.warmup_epochs / recipe.epochs

    def factor(step: int) -> float:
        return schedule_factor(recipe.schedule, (step + 0.5) / steps, rise)

    schedule = {"scheduler": LambdaLR(optimiser, factor), "interval": "step"}
    return {"optimizer": optimiser, "lr_scheduler": schedule}


def schedule_factor(schedule: str, done: float, rise: float) -> float:
    """Return the factor of the learning rate when a fraction `done` of the training is over.

    "cosine" (Loshchilov & Hutter 2016, arXiv:1608.03983, without restarts) rises linearly for the fraction
    `rise`, then falls to zero. "one-cycle" (Smith & Topin 2017, arXiv:1708.07120, with cosines as in fastai)
    rises from 1/25 for the fraction `rise` (0: 0.3), then falls to 1/10,000.
    """
    done = min(done, 1.0)
    if schedule == "cosine":
        return done / rise if done < rise else _half_cosine(1.0, 0.0, (done - rise) / (1 - rise))
    rise = rise or ONE_CYCLE_RISE
    if done < rise:
        return _half_cosine(ONE_CYCLE_START, 1.0, done / rise)
    return _half_cosine(1.0, ONE_CYCLE_END, (done - rise) / (1 - rise))


def _half_cosine(begin: float, end: float, fraction: float) -> float:
    return end + (begin - end) * (1 + math.cos(math.pi * fraction)) / 2


def _optimiser(network: nn.Module, recipe: Recipe) -> Optimizer:
    """Return the optimiser; its first group is the head's. Biases and normalisations have no weight decay."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    layers = reversed(stages_of(network, coarse=False))
    depth = {parameter: depth for depth, layer in enumerate(layers) for parameter in layer}
    by_rates: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in trained:
        decay = recipe.weight_decay if parameter.ndim > 1 else 0.0
        rates = recipe.learning_rate * recipe.layer_decay ** depth[parameter], decay
        by_rates.setdefault(rates, []).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": by_rates[rate, decay], "lr": rate, "weight_decay": decay}
        for rate, decay in sorted(by_rates, reverse=True)
    ]
    if recipe.optimiser == "muon":
        return _muon(groups, trained, recipe.learning_rate)
    rate, momentum = recipe.learning_rate, recipe.momentum
    if recipe.optimiser == "sgd":
        fused = not recipe.frozen_epochs  # PyTorch's fused SGD fails where some weights have no momentum yet
        return SGD(groups, lr=rate, momentum=momentum, nesterov=momentum > 0, fused=fused)
    return {"adam": Adam, "adamw": AdamW}[recipe.optimiser](groups, lr=rate, weight_decay=0, fused=True)


def _muon(groups: list[dict[str, Any]], trained: list[nn.Parameter], learning_rate: float) -> Optimizer:
    """Return Muon (Jordan 2024, kellerjordan.github.io/posts/muon) for the matrices of the hidden layers.

    Its steps have the size of AdamW's (Liu et al. 2025, arXiv:2502.16982, eq. 4), so that learning rates can
    be compared. AdamW updates the rest: biases, normalisations, depthwise filters, and the last layer.
    """
    from timm.optim.muon import Muon  # takes seconds to import

    *hidden, _last = [weight for weight in trained if weight.ndim > 1]
    muon = {id(weight) for weight in hidden if not (weight.ndim == 4 and weight.shape[1] == 1)}
    split = []
    for group in groups:
        for fallback in (False, True):
            weights = [weight for weight in group["params"] if (id(weight) not in muon) == fallback]
            if weights:
                split.append({**group, "params": weights, "use_fallback": fallback})
    return Muon(split, lr=learning_rate, betas=(0.9, 0.999))
