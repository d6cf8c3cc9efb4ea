"""Tuning: an Optuna study over the settings of one recipe, by any number of workers on one storage.

    out/study.db          the study, unless another storage is named
    out/trials/0007/      the run of a trial, as `train` leaves it
    out/trials.csv        every trial: state, value, settings, seconds, why it failed
    out/best.toml         the recipe of the best trial

A worker that is killed leaves its trial in the state "running". The next worker that looks marks it as
failed and queues its settings again; the worker that takes them continues in the same run folder.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import socket
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning
import numpy as np
from lightning.pytorch.callbacks import Callback

from hubblefork.data.folders import DataFolder, RunFolder
from hubblefork.errors import DivergedError, RecipeError, RunError, extras
from hubblefork.io import Progress, silent, write_text
from hubblefork.network.architectures import ENCODER
from hubblefork.network.architectures.encoder import fetch_encoder
from hubblefork.network.callbacks import MODES
from hubblefork.network.device import Hardware, enough_memory
from hubblefork.network.model import VoteFractions
from hubblefork.network.recipe import (
    Recipe,
    differences,
    parse_recipe,
    recipe_text,
    with_new_names,
)
from hubblefork.network.space import SearchRange, load_space, with_values
from hubblefork.network.training import train
from hubblefork.tables.catalogue import fractions, galaxy_ids

if TYPE_CHECKING:
    import optuna

HEARTBEAT, GRACE = 15, 60  # seconds
RETRIES = 5
SEEDS = 2**32  # as many as a sampler takes
OTHER_WORKER_CREATES = ("UNIQUE constraint", "duplicate key", "already exists", "database is locked")


class TrialFailed(Exception):
    """A trial whose settings cannot be trained: it diverged, or needed more memory than there is."""


class OutOfTime(Exception):
    """A trial that was stopped because the time is over; it is queued again."""


@dataclass(frozen=True)
class TuningResult:
    """The trials until now, one row each; the recipe of the best one; the importance of the settings.

    `importance` maps fields to their share of the variance of the results (fANOVA, Hutter et al. 2014); it is
    empty if too few trials have finished. The states of trials are "complete", "pruned", "fail", "queued
    again", "running" and "waiting".
    """

    name: str
    recipe: Recipe
    rows: list[dict[str, Any]]
    importance: dict[str, float]
    best: Recipe | None

    def count(self, state: str) -> int:
        """Return the number of trials in a state."""
        return sum(row["state"] == state for row in self.rows)


def tune(
    data: Path,
    recipe: Recipe,
    out: Path,
    *,
    space: Sequence[SearchRange] = (),
    trials: int = 20,
    seconds: float | None = None,
    storage: str = "",
    name: str = "",
    weights: Path | None = None,
    hardware: Hardware | None = None,
    progress: Progress = silent,
) -> TuningResult:
    """Work on a study until it has its `trials` or this worker has used its `seconds`; return the result.

    `space` is the default one (`load_space`) if it is empty. `storage` is a URL of SQLAlchemy (sqlite:///…,
    postgresql://…), journal:PATH or redis://…; the default is SQLite in `out`. Several workers, on one or
    many computers, call this with the same storage and name (default: the recipe's). The recipe's seed and
    the number of a trial seed its settings. A trial is pruned if after an epoch it is worse than the median
    of the others. Raises ExtraMissing without Optuna; RecipeError for a budget of nothing and a network that
    cannot be built; RunError if the name belongs to a study of another recipe, data set or space, or the
    storage cannot be opened.
    """
    if trials < 1 or (seconds is not None and not seconds > 0):
        raise RecipeError(f"a budget of {trials} trials in {seconds} s: at least 1, and above 0 s")
    space, tree = space or load_space(recipe), DataFolder(data).tree()
    fetch_encoder(recipe.architecture.removeprefix(ENCODER))
    with enough_memory():
        VoteFractions(recipe, tree)  # a network that cannot be built is no failed trial
    with _quiet_optuna() as library:
        study = _opened(library, out, storage, name or recipe.name, recipe)
        _check_same_study(study, data, recipe, space)
        worker = _Worker(study, recipe, out / "trials", space, trials, seconds)
        begun = worker.begun()
        with progress(f"tuning {recipe.name}", max(trials, begun), begun) as advance:
            for finished in worker.work(data, weights=weights, hardware=hardware):
                advance(finished)
        result = _result(study, recipe)
    if result.best is not None:
        write_text(out / "best.toml", recipe_text(result.best))
    if result.rows:
        text = io.StringIO()
        fields = dict.fromkeys(key for row in result.rows for key in row)
        writer = csv.DictWriter(text, fieldnames=list(fields), lineterminator="\n")
        writer.writeheader()
        writer.writerows(result.rows)
        write_text(out / "trials.csv", text.getvalue())
    return result


def read_tuning(recipe: Recipe, out: Path, *, storage: str = "", name: str = "") -> TuningResult:
    """Return the result of a study until now, without working on it. Raises RunError."""
    with _quiet_optuna() as library:
        return _result(_opened(library, out, storage, name or recipe.name, recipe), recipe)


class _Worker:
    """One process that takes trials of a study."""

    def __init__(
        self,
        study: optuna.Study,
        recipe: Recipe,
        folder: Path,
        space: Sequence[SearchRange],
        trials: int,
        seconds: float | None,
    ) -> None:
        self.study, self.recipe, self.folder, self.space = study, recipe, folder, space
        self.trials, self.end = trials, None if seconds is None else time.monotonic() + seconds

    def work(self, data: Path, **options: Any) -> Iterator[int]:
        """Take trials until there are enough or the time is over; yield how many more have begun.

        `options` are those of `train`. Ctrl-C queues the current trial again.
        """

        def objective(trial: optuna.Trial) -> float:
            return self._value(trial, data, options)

        most = self.begun()
        _queue_dead_trials(self.study)
        while self._has_time() and self._is_work_left():
            before = most
            with suppress(OutOfTime):
                self.study.optimize(objective, n_trials=1, catch=(TrialFailed,))
            most = max(before, self.begun())  # a trial that is queued again begins twice, and counts once
            yield most - before
            _queue_dead_trials(self.study)

    def begun(self) -> int:
        """Return how many trials of the study are finished or running."""
        trials, again = self.study.get_trials(deepcopy=False), _queued_again(self.study)
        return sum(trial.state.name != "WAITING" and trial.number not in again for trial in trials)

    def _has_time(self) -> bool:
        return self.end is None or time.monotonic() < self.end

    def _is_work_left(self) -> bool:
        waiting = any(trial.state.name == "WAITING" for trial in self.study.get_trials(deepcopy=False))
        return waiting or self.begun() < self.trials

    def _value(self, trial: optuna.Trial, data: Path, options: Mapping[str, Any]) -> float:
        """Train a trial; return its best monitored value. Its number seeds its settings."""
        import optuna

        folder = trial.user_attrs.get("folder", f"{trial.number:04d}")
        trial.set_user_attr("folder", folder)
        trial.set_user_attr("worker", f"{socket.gethostname()}:{os.getpid()}")
        run, seed = self.folder / folder, (self.recipe.seed + trial.number) % SEEDS
        trial.study.sampler = optuna.samplers.TPESampler(n_startup_trials=6, seed=seed)
        try:
            values = {entry.field: entry.suggested(trial) for entry in self.space}
            recipe = replace(with_values(self.recipe, values), name=f"{self.recipe.name}-trial")
            train(data, recipe, run, callbacks=[TrialCallback(trial, recipe, self._has_time)], **options)
            return float(RunFolder(run).notes()["best"][recipe.monitor])
        except (DivergedError, RecipeError) as error:
            trial.set_user_attr("failure", f"{type(error).__name__}: {error}"[:500])
            raise TrialFailed from error
        except (KeyboardInterrupt, OutOfTime):
            _queue_again(self.study, trial.number)
            raise
        finally:
            rows = RunFolder(run).metrics()
            trial.set_user_attr("epochs", len(rows))
            trial.set_user_attr("seconds", sum(row["seconds"] for row in rows))
            if trial.number not in _queued_again(self.study):
                for checkpoint in RunFolder(run).checkpoints:
                    checkpoint.unlink(missing_ok=True)


class TrialCallback(Callback):
    """Reports each epoch to the trial; ends it if others were better, or if the time is over."""

    def __init__(self, trial: optuna.Trial, recipe: Recipe, has_time: Callable[[], bool]) -> None:
        self.trial, self.recipe, self.has_time = trial, recipe, has_time

    def on_train_epoch_start(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Stop if the time is over; all epochs before are in the checkpoint."""
        if not self.has_time():
            raise OutOfTime

    def on_validation_end(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Report the epoch, and prune unless it was the last."""
        import optuna

        with warnings.catch_warnings(action="ignore", category=UserWarning):  # an epoch reported before
            self.trial.report(float(trainer.callback_metrics[self.recipe.monitor]), trainer.current_epoch)
        if trainer.current_epoch + 1 < self.recipe.epochs and self.trial.should_prune():
            raise optuna.TrialPruned


def data_digest(data: Path) -> str:
    """Return the SHA-256 of the ids, the labels and the split of a data folder."""
    folder = DataFolder(data)
    catalogue = folder.catalogue()
    ids = galaxy_ids(catalogue).tolist()
    digest = hashlib.sha256("\n".join(map(str, ids)).encode())
    digest.update(np.ascontiguousarray(fractions(catalogue, folder.tree()), dtype=np.float32).tobytes())
    digest.update("\n".join(folder.split().assign(ids).tolist()).encode())
    return digest.hexdigest()


@contextmanager
def _quiet_optuna() -> Iterator[Any]:
    """Import Optuna; suppress its messages about trials and experimental functions.

    Raises ExtraMissing; RunError for a storage that cannot be read or written.
    """
    with extras("tuning"):
        import optuna
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        try:
            yield optuna
        except optuna.exceptions.StorageInternalError as error:
            reason = f"{error.__cause__ or error}".splitlines()[0]
            raise RunError(
                f"the storage of the study cannot be read or written: {reason}; free space or restore it, "
                "then run the same command again"
            ) from error
        finally:
            optuna.logging.set_verbosity(level)


def _opened(library: Any, out: Path, storage: str, name: str, recipe: Recipe) -> optuna.Study:
    """Open or create a study; if another worker is creating it, wait."""
    folder, storage = (None, storage) if storage else (out, f"sqlite:///{(out / 'study.db').resolve()}")
    for attempt in range(RETRIES + 1):
        try:
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
            return library.create_study(
                study_name=name,
                storage=_storage(library, storage),
                direction={"min": "minimize", "max": "maximize"}[MODES[recipe.monitor]],
                pruner=library.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=recipe.epochs // 8),
                load_if_exists=True,
            )
        except Exception as error:
            if attempt == RETRIES or not any(text in str(error) for text in OTHER_WORKER_CREATES):
                message = f"the storage {storage} cannot be opened: {type(error).__name__}: {error}"
                raise RunError(message) from error
        time.sleep(1)
    raise AssertionError("the last attempt returns or raises")


def _storage(library: Any, storage: str) -> Any:
    journal = library.storages.journal
    if storage.startswith("journal:"):
        return library.storages.JournalStorage(journal.JournalFileBackend(storage.removeprefix("journal:")))
    if storage.startswith("redis"):
        return library.storages.JournalStorage(journal.JournalRedisBackend(storage))
    return library.storages.RDBStorage(
        storage,
        engine_kwargs={"connect_args": {"timeout": 60}} if storage.startswith("sqlite") else {},
        heartbeat_interval=HEARTBEAT,
        grace_period=GRACE,
        heartbeat_stale_trial_callback=lambda study, trial: _queue_again(study, trial.number),
    )


def _check_same_study(study: optuna.Study, data: Path, recipe: Recipe, space: Sequence[SearchRange]) -> None:
    """Mark a new study with recipe, data and space; refuse a study that is marked with others."""
    asked = {"recipe": recipe_text(recipe), "data": data_digest(data), "space": repr(tuple(space))}
    there = study.user_attrs
    if "recipe" not in there:
        for key, value in asked.items():
            study.set_user_attr(key, value)
        return
    unlike = differences(recipe, parse_recipe(there["recipe"], origin="the study"))
    unlike += ["other galaxies, labels or split"] if there.get("data", asked["data"]) != asked["data"] else []
    unlike += ["another search space"] if there.get("space", asked["space"]) != asked["space"] else []
    if unlike:
        raise RunError(
            f'the study "{study.study_name}" is another study; asked for now, not then: '
            f"{'; '.join(unlike)}. Choose another --name or --out."
        )


def _queued_again(study: optuna.Study) -> set[int]:
    """Return the numbers of the trials that were stopped and whose settings were queued again."""
    trials = study.get_trials(deepcopy=False)
    return {number for trial in trials for number in trial.system_attrs.get("retry_history", [])}


def _queue_dead_trials(study: optuna.Study) -> None:
    """Mark the trials of dead workers as failed, and queue their settings again.

    Optuna's heartbeat finds workers on any computer after `GRACE` seconds; those of this computer are found
    at once by their process, also with storages that have no heartbeat.
    """
    import optuna

    optuna.storages.fail_stale_trials(study)
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        if _is_dead(trial.user_attrs.get("worker", "")):
            with suppress(ValueError):  # another worker was faster
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
                _queue_again(study, trial.number)


def _queue_again(study: optuna.Study, number: int) -> None:
    """Queue a trial's settings again, to continue in its folder; at most `RETRIES` times."""
    from optuna.storages import RetryHeartbeatStaleTrialCallback

    RetryHeartbeatStaleTrialCallback(max_retry=RETRIES)(study, study.get_trials()[number])


def _is_dead(worker: str) -> bool:
    """Whether a worker was a process of this computer that has ended."""
    host, _, pid = worker.rpartition(":")
    if host != socket.gethostname() or not pid.isdigit():
        return False
    with suppress(PermissionError):
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            return True
    return False


def _result(study: optuna.Study, recipe: Recipe) -> TuningResult:
    trials, best, again = study.get_trials(deepcopy=False), None, _queued_again(study)
    complete = [trial for trial in trials if trial.state.name == "COMPLETE"]
    if complete:
        trial = study.best_trial
        tuned = f"tuned: trial {trial.number} of {len(trials)}, {recipe.monitor} {trial.value:.4f}"
        best = replace(
            with_values(recipe, trial.params),
            name=f"{recipe.name}-tuned",
            description=f"{recipe.description}; {tuned}",
        )
    rows = [
        {
            "number": trial.number,
            "state": "queued again" if trial.number in again else trial.state.name.lower(),
            "value": trial.value if trial.state.name == "COMPLETE" else None,
            "last": list(trial.intermediate_values.values())[-1] if trial.intermediate_values else None,
            **{key: trial.user_attrs.get(key) for key in ("folder", "epochs", "seconds", "failure")},
            **with_new_names(trial.params),
        }
        for trial in trials
    ]
    importance = _importance(study) if len(complete) >= 4 else {}
    return TuningResult(study.study_name, recipe, rows, importance, best)


def _importance(study: optuna.Study) -> dict[str, float]:
    import optuna

    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    try:
        shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    except (ValueError, RuntimeError):  # all trials have the same value
        return {}
    return {name: float(share) for name, share in shares.items()}
