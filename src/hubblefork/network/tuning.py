"""Tuning: an Optuna study over one recipe, by any number of workers on one storage.

    out/study.db          the study, unless another storage is named
    out/trials/0007/      the run of a trial, as `train` leaves one
    out/trials.csv        every trial: state, value, settings, seconds, why it failed
    out/best.toml         the recipe of the best trial

A worker that is killed leaves its trial running; the next worker that looks marks it as failed and queues its
settings again, and whoever takes them goes on in the same run folder.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import socket
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from hubblefork.data.catalogue import fractions, galaxy_ids, read_catalogue
from hubblefork.data.split import read_split
from hubblefork.errors import DivergedError, ExtraMissing, RecipeError, RunError
from hubblefork.io import Advance, Progress, silent, write_text
from hubblefork.network import runs
from hubblefork.network.callbacks import MODES
from hubblefork.network.device import Hardware
from hubblefork.network.recipe import Recipe, differences, parse_recipe, recipe_text
from hubblefork.network.space import Dial, with_values
from hubblefork.network.training import train
from hubblefork.zoo import read_tree

if TYPE_CHECKING:
    import optuna

OPTUNA_MISSING = "tuning needs the package optuna, which is not installed: pip install 'hubblefork[tune]'"
HEARTBEAT, GRACE = 15, 60
RETRIES = 5
OTHER_CREATES = ("UNIQUE constraint", "duplicate key", "already exists", "database is locked")


class TrialFailed(Exception):
    """A trial whose settings cannot be trained: it diverged, or took more memory than there is."""


class OutOfTime(Exception):
    """A trial broken off because the budget is spent; it is queued again."""


@dataclass(frozen=True)
class Budget:
    """At most so many trials in the study, and so many seconds for this worker (None: no limit)."""

    trials: int = 20
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.trials < 1 or (self.seconds is not None and not self.seconds > 0):
            raise RecipeError(
                f"a budget of {self.trials} trials in {self.seconds} s: at least 1, and above 0 s"
            )


@dataclass(frozen=True)
class Tuned:
    """What a tuning came to so far: one row a trial, the best trial's recipe, what mattered.

    `importance` maps fields to their share of the spread of the results (Hutter et al. 2014's fANOVA); empty
    with too few finished trials.
    """

    name: str
    recipe: Recipe
    watch: str
    rows: list[dict[str, Any]]
    importance: dict[str, float]
    best: Recipe | None

    def count(self, state: str) -> int:
        """Return how many trials ended as "complete", "pruned" or "fail", or are "running" or "waiting"."""
        return sum(row["state"] == state for row in self.rows)


def tune(
    data: Path,
    recipe: Recipe,
    out: Path,
    *,
    space: Sequence[Dial],
    budget: Budget,
    storage: str = "",
    name: str = "",
    weights: Path | None = None,
    hardware: Hardware | None = None,
    progress: Progress = silent,
) -> Tuned:
    """Work on a study until it has its trials or this worker's time is spent; return what it came to.

    `storage` is a URL of SQLAlchemy (sqlite:///…, postgresql://…), or journal:PATH or redis://…; SQLite in
    `out` by itself. Several workers, on one machine or many, call this with the same storage and name (the
    recipe's by itself). Trials are pruned by the median of the others after each epoch. Raises ExtraMissing
    without Optuna, RunError where the name belongs to a study of another recipe, data set or space, or the
    storage cannot be opened.
    """
    with _quiet_optuna() as library:
        study = _opened(library, storage or _sqlite(out), name or recipe.name, recipe)
        _check_same_study(study, data, recipe, space)
        worker = _Worker(
            study, data, recipe, out, space, budget, weights, hardware or Hardware(), time.monotonic()
        )
        with progress(f"tuning {recipe.name}", budget.trials, worker.counted()) as advance:
            worker.work(advance)
        return _written(study, recipe, out)


def read_tuned(recipe: Recipe, out: Path, *, storage: str = "", name: str = "") -> Tuned:
    """Return what a study came to, without working on it. Raises RunError."""
    with _quiet_optuna() as library:
        return _summary(_opened(library, storage or _sqlite(out), name or recipe.name, recipe), recipe)


@dataclass
class _Worker:
    """One process that takes trials."""

    study: optuna.Study
    data: Path
    recipe: Recipe
    out: Path
    space: Sequence[Dial]
    budget: Budget
    weights: Path | None
    hardware: Hardware
    began: float

    def work(self, advance: Advance) -> None:
        """Take trials until there are enough or the time is spent; Ctrl-C queues the one at hand again."""
        _queue_dead_trials(self.study)
        while self._has_time() and self._is_work_left():
            before = self.counted()
            with suppress(OutOfTime):
                self.study.optimize(self._objective, n_trials=1, catch=(TrialFailed,))
            advance(self.counted() - before)
            _queue_dead_trials(self.study)

    def counted(self) -> int:
        """Return how many trials of the study are done or under way."""
        trials, again = self.study.get_trials(deepcopy=False), _queued_again(self.study)
        return sum(trial.state.name != "WAITING" and trial.number not in again for trial in trials)

    def _has_time(self) -> bool:
        return self.budget.seconds is None or time.monotonic() - self.began < self.budget.seconds

    def _is_work_left(self) -> bool:
        waiting = any(trial.state.name == "WAITING" for trial in self.study.get_trials(deepcopy=False))
        return waiting or self.counted() < self.budget.trials

    def _objective(self, trial: optuna.Trial) -> float:
        folder = trial.user_attrs.get("folder", f"{trial.number:04d}")
        trial.set_user_attr("folder", folder)
        trial.set_user_attr("worker", _worker_name())
        run = self.out / "trials" / folder
        try:
            return self._trained(trial, run)
        except (DivergedError, RecipeError, MemoryError, RuntimeError) as error:
            if not _is_the_trials_fault(error):
                raise
            trial.set_user_attr("failure", f"{type(error).__name__}: {error}"[:500])
            raise TrialFailed from error
        except (KeyboardInterrupt, OutOfTime):
            _queue_again(self.study, trial.number)
            raise
        finally:
            self._note(trial, run)

    def _trained(self, trial: optuna.Trial, run: Path) -> float:
        values = {dial.field: dial.turned(trial) for dial in self.space}
        recipe = replace(with_values(self.recipe, values), name=f"{self.recipe.name}-trial")
        watcher = Watcher(trial, recipe, self._has_time)
        train(self.data, recipe, run, weights=self.weights, hardware=self.hardware, callbacks=[watcher])
        return float(runs.read_notes(run)["best"][recipe.monitor])

    def _note(self, trial: optuna.Trial, run: Path) -> None:
        """Note how far the trial got; what only going on would need is removed once it has ended."""
        rows = runs.read_metrics(run)
        trial.set_user_attr("epochs", len(rows))
        trial.set_user_attr("seconds", sum(row["seconds"] for row in rows))
        if trial.number not in _queued_again(self.study):
            (run / "last.ckpt").unlink(missing_ok=True)


class Watcher(Callback):
    """Tells a trial what each epoch came to; ends it when others did better, or when the time is spent."""

    def __init__(self, trial: optuna.Trial, recipe: Recipe, has_time: Callable[[], bool]) -> None:
        self.trial, self.recipe, self.has_time = trial, recipe, has_time

    def on_train_epoch_start(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Break off, with all epochs before in the checkpoint, when the budget is spent."""
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
    """Return the SHA-256 of what a data folder teaches and judges: ids, labels, the part of each galaxy."""
    catalogue = read_catalogue(data / "catalogue.parquet")
    ids = galaxy_ids(catalogue).tolist()
    digest = hashlib.sha256("\n".join(map(str, ids)).encode())
    digest.update(np.ascontiguousarray(fractions(catalogue, read_tree(data)), dtype=np.float32).tobytes())
    digest.update("\n".join(read_split(data).assign(ids).tolist()).encode())
    return digest.hexdigest()


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ExtraMissing(OPTUNA_MISSING) from error
    return optuna


@contextmanager
def _quiet_optuna() -> Iterator[Any]:
    """Keep Optuna's lines about trials and its experimental parts off the terminal."""
    library = _optuna()
    level = library.logging.get_verbosity()
    library.logging.set_verbosity(library.logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=library.exceptions.ExperimentalWarning)
        try:
            yield library
        finally:
            library.logging.set_verbosity(level)


def _sqlite(out: Path) -> str:
    out.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{(out / 'study.db').resolve()}"


def _opened(library: Any, storage: str, name: str, recipe: Recipe) -> optuna.Study:
    """Open or create a study; where another worker is creating the same one, wait for it."""
    for _ in range(RETRIES):
        try:
            return _study(library, storage, name, recipe)
        except Exception as error:
            if not any(sign in str(error) for sign in OTHER_CREATES):
                raise _closed(storage, error) from error
            time.sleep(1)
    try:
        return _study(library, storage, name, recipe)
    except Exception as error:
        raise _closed(storage, error) from error


def _closed(storage: str, error: Exception) -> RunError:
    return RunError(f"the storage {storage} cannot be opened: {type(error).__name__}: {error}")


def _study(library: Any, storage: str, name: str, recipe: Recipe) -> optuna.Study:
    return library.create_study(
        study_name=name,
        storage=_storage(library, storage),
        direction={"min": "minimize", "max": "maximize"}[MODES[recipe.monitor]],
        sampler=library.samplers.TPESampler(n_startup_trials=6),
        pruner=library.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=recipe.epochs // 8),
        load_if_exists=True,
    )


def _storage(library: Any, storage: str) -> Any:
    journal = library.storages.journal
    if storage.startswith("journal:"):
        return library.storages.JournalStorage(journal.JournalFileBackend(storage.removeprefix("journal:")))
    if storage.startswith("redis"):
        return library.storages.JournalStorage(journal.JournalRedisBackend(storage))
    patience = {"connect_args": {"timeout": 60}} if storage.startswith("sqlite") else {}
    return library.storages.RDBStorage(
        storage,
        engine_kwargs=patience,
        heartbeat_interval=HEARTBEAT,
        grace_period=GRACE,
        heartbeat_stale_trial_callback=lambda study, trial: _queue_again(study, trial.number),
    )


def _check_same_study(study: optuna.Study, data: Path, recipe: Recipe, space: Sequence[Dial]) -> None:
    """Sign a new study; refuse one that is signed with another recipe, data set or space."""
    mine = {"recipe": recipe_text(recipe), "data": data_digest(data), "space": repr(tuple(space))}
    theirs = study.user_attrs
    if "recipe" not in theirs:
        for key, value in mine.items():
            study.set_user_attr(key, value)
        return
    unlike = differences(recipe, parse_recipe(theirs["recipe"], origin="the study"))
    unlike += ["other galaxies, labels or split"] if theirs.get("data", mine["data"]) != mine["data"] else []
    unlike += ["another space to search"] if theirs.get("space", mine["space"]) != mine["space"] else []
    if unlike:
        raise RunError(
            f'the study "{study.study_name}" is one of another kind; asked for now, not then: '
            f"{'; '.join(unlike)}. Choose another --name or --out."
        )


def _queued_again(study: optuna.Study) -> set[int]:
    """Return the numbers of the trials that were broken off and whose settings were queued again."""
    trials = study.get_trials(deepcopy=False)
    return {number for trial in trials for number in trial.system_attrs.get("retry_history", [])}


def _queue_dead_trials(study: optuna.Study) -> None:
    """Mark the trials of workers that are no more as failed, and queue their settings again."""
    import optuna

    optuna.storages.fail_stale_trials(study)
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        if _is_dead(trial.user_attrs.get("worker", "")):
            with suppress(ValueError):  # another worker was faster
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
                _queue_again(study, trial.number)


def _queue_again(study: optuna.Study, number: int) -> None:
    """Queue a trial's settings once more, to go on in its folder; at most `RETRIES` times."""
    from optuna.storages import RetryHeartbeatStaleTrialCallback

    found = next(trial for trial in study.get_trials() if trial.number == number)
    RetryHeartbeatStaleTrialCallback(max_retry=RETRIES)(study, found)


def _worker_name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def _is_dead(worker: str) -> bool:
    """Whether a worker was a process of this machine and is no more."""
    host, _, pid = worker.rpartition(":")
    if host != socket.gethostname() or not pid.isdigit() or int(pid) == os.getpid():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _is_the_trials_fault(error: Exception) -> bool:
    known = isinstance(error, DivergedError | RecipeError | MemoryError | torch.OutOfMemoryError)
    return known or "allocate memory" in str(error)


def _written(study: optuna.Study, recipe: Recipe, out: Path) -> Tuned:
    found = _summary(study, recipe)
    if found.best is not None:
        write_text(out / "best.toml", recipe_text(found.best))
    if found.rows:
        fields = list(dict.fromkeys(key for row in found.rows for key in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows(found.rows)
        write_text(out / "trials.csv", text.getvalue())
    return found


def _summary(study: optuna.Study, recipe: Recipe) -> Tuned:
    trials = study.get_trials(deepcopy=False)
    complete = [trial for trial in trials if trial.state.name == "COMPLETE"]
    best = None
    if complete:
        found = study.best_trial
        about = f"{recipe.description}; tuned: trial {found.number} of {len(trials)}, "
        about += f"{recipe.monitor} {found.value:.4f}"
        best = replace(with_values(recipe, found.params), name=f"{recipe.name}-tuned", description=about)
    importance = _importance(study) if len(complete) >= 4 else {}
    again = _queued_again(study)
    rows = [_row(trial, again=trial.number in again) for trial in trials]
    return Tuned(study.study_name, recipe, recipe.monitor, rows, importance, best)


def _importance(study: optuna.Study) -> dict[str, float]:
    import optuna

    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    try:
        shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    except (ValueError, RuntimeError):  # all trials came to the same
        return {}
    return {name: float(share) for name, share in shares.items()}


def _row(trial: optuna.trial.FrozenTrial, *, again: bool) -> dict[str, Any]:
    seen = list(trial.intermediate_values.values())
    noted = {key: trial.user_attrs.get(key) for key in ("folder", "epochs", "seconds", "failure")}
    return {
        "number": trial.number,
        "state": "queued again" if again else trial.state.name.lower(),
        "value": trial.value if trial.state.name == "COMPLETE" else None,
        "last": seen[-1] if seen else None,
        **noted,
        **trial.params,
    }
