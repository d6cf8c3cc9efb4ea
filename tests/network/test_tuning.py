"""Tuning: the study goes on whatever happens to a trial. Training is stood in for by a formula, but once."""

import csv
import math
import os
import resource
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
import tomli_w

from hubblefork.data.folders import RunFolder
from hubblefork.errors import CatalogueError, DivergedError, RecipeError, RunError
from hubblefork.io import write_text
from hubblefork.network import tuning
from hubblefork.network.recipe import load_recipe, recipe_text
from hubblefork.network.space import load_space, parse_space
from hubblefork.network.tuning import tune

from .conftest import write_data_folder

SPACE = parse_space(
    "[learning_rate]\nlow = 1e-4\nhigh = 1e-2\nlog = true\n[batch_size]\nchoices = [32, 64]", "x"
)
RECIPE = load_recipe("lab-cnn", ["epochs=4", "batch_size=32", "steps_per_epoch=10"])


class Training:
    """Stands in for `train`: the closer the learning rate is to 1e-3 the better; notes what it was asked."""

    def __init__(self, happens=None):
        self.asked, self.happens = [], happens or {}

    def __call__(self, data, recipe, out, *, callbacks, **_):
        number = len(self.asked)
        self.asked.append((out.name, recipe))
        rows = RunFolder(out).metrics()
        for epoch in range(len(rows), recipe.epochs):
            value = 0.1 + 0.05 * abs(math.log10(recipe.learning_rate) + 3) + 0.01 / (epoch + 1)
            trainer = SimpleNamespace(callback_metrics={"validation_rmse": value}, current_epoch=epoch)
            callbacks[0].on_train_epoch_start(trainer, None)
            rows.append({"epoch": epoch, "validation_rmse": value, "seconds": 1.0})
            RunFolder(out).write_metrics(rows)
            if (number, epoch) in self.happens:
                raise self.happens[number, epoch]
            callbacks[0].on_validation_end(trainer, None)
        best = min(row["validation_rmse"] for row in rows)
        write_text(out / "run.toml", tomli_w.dumps({"best": {"validation_rmse": best}}))
        return out


@pytest.fixture
def trained_by(monkeypatch):
    def stand_in(**happens):
        training = Training(**happens)
        monkeypatch.setattr(tuning, "train", training)
        return training

    return stand_in


def work(data, out, recipe=RECIPE, **options):
    return tune(data, recipe, out, **{"space": SPACE, "trials": 8, **options})


def test_an_encoder_that_cannot_be_had_is_refused_before_any_trial(data, tmp_path, trained_by):
    training = trained_by()
    for name in ("efficientformer_l1", "resnet10x", "hf-hub:some/body"):
        recipe = replace(RECIPE, architecture=f"encoder:{name}", pretrained="")
        with pytest.raises(RecipeError, match=name):
            work(data, tmp_path / "tuning", recipe)
    assert not training.asked
    assert not (tmp_path / "tuning").exists()


def test_a_folder_or_storage_that_cannot_be_written_is_said_in_one_line(data, tmp_path, trained_by):
    trained_by()
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"study\.db cannot be opened: .*Error"):
        work(data, tmp_path / "file")
    work(data, tmp_path / "tuning", trials=1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(RunError, match=r"^[^\n]*(cannot be read or written|cannot be opened)[^\n]*$"):
            work(data, tmp_path / "tuning", trials=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert work(data, tmp_path / "tuning", trials=3).count("complete") >= 2


def test_the_best_trial_becomes_a_recipe(data, tmp_path, trained_by):
    training = trained_by()
    found = work(data, tmp_path, trials=10)
    values = [row["value"] for row in found.rows if row["state"] == "complete"]
    best = load_recipe(str(tmp_path / "best.toml"))
    assert len(found.rows) == len(training.asked) == 10
    assert best == found.best
    assert best.name == "lab-cnn-tuned"
    chosen = next(row for row in found.rows if row["value"] == min(values))
    assert (best.learning_rate, best.batch_size) == (chosen["learning_rate"], chosen["batch_size"])
    assert best.batch_size * best.steps_per_epoch == RECIPE.batch_size * RECIPE.steps_per_epoch
    assert 0 < found.importance["learning_rate"] <= 1


def test_the_same_study_tries_the_same_settings(data, tmp_path, trained_by):
    trained_by()
    first, second = (work(data, tmp_path / name, trials=10) for name in ("first", "second"))
    assert [row["learning_rate"] for row in first.rows] == [row["learning_rate"] for row in second.rows]
    assert len({row["learning_rate"] for row in first.rows}) == 10


def test_the_largest_seed_is_one(data, tmp_path, trained_by):
    trained_by()
    assert work(data, tmp_path, replace(RECIPE, seed=2**32 - 1), trials=3).count("complete") == 3


def test_what_is_worse_than_the_others_is_pruned_by_its_epochs(data, tmp_path, trained_by):
    trained_by()
    found = work(data, tmp_path, trials=14)
    pruned = [row for row in found.rows if row["state"] == "pruned"]
    assert pruned
    assert all(row["epochs"] < RECIPE.epochs for row in pruned)
    done = [row["value"] for row in found.rows if row["state"] == "complete"]
    assert min(row["last"] for row in pruned) > min(done)


@pytest.mark.parametrize("error", [DivergedError("training diverged"), RecipeError("not enough memory")])
def test_a_trial_that_cannot_be_trained_is_failed_and_the_study_goes_on(data, tmp_path, trained_by, error):
    trained_by(happens={(1, 0): error})
    found = work(data, tmp_path, trials=4)
    failed = [row for row in found.rows if row["state"] == "fail"]
    assert [row["number"] for row in failed] == [1]
    assert str(error)[:20] in failed[0]["failure"]
    assert len(found.rows) == 4
    with (tmp_path / "trials.csv").open() as file:
        assert [row["state"] for row in csv.DictReader(file)].count("fail") == 1


def test_what_is_not_the_trials_fault_is_raised(data, tmp_path, trained_by):
    trained_by(happens={(1, 0): CatalogueError("the data are gone")})
    with pytest.raises(CatalogueError, match="the data are gone"):
        work(data, tmp_path)


def test_an_interrupted_trial_goes_on_in_its_folder_with_its_settings(data, tmp_path, trained_by):
    training = trained_by(happens={(2, 1): KeyboardInterrupt()})
    with pytest.raises(KeyboardInterrupt):
        work(data, tmp_path, trials=4)
    found = work(data, tmp_path, trials=4)
    (folder, before), (again, after) = training.asked[2:4]
    assert folder == again == "0002"
    assert before == after
    assert [row["state"] for row in found.rows].count("queued again") == 1
    assert found.count("complete") + found.count("pruned") == 4
    resumed = next(row for row in found.rows if row["folder"] == "0002" and row["state"] != "queued again")
    assert resumed["epochs"] == 4 or resumed["state"] == "pruned"


def test_the_trial_of_a_worker_that_is_no_more_is_failed_and_queued_again(data, tmp_path, trained_by):
    training = trained_by()
    work(data, tmp_path, trials=1)
    study = optuna.load_study(study_name="lab-cnn", storage=f"sqlite:///{tmp_path / 'study.db'}")
    dead = study.ask()
    dead.suggest_float("learning_rate", 1e-4, 1e-2, log=True)
    dead.suggest_categorical("batch_size", (32, 64))
    dead.set_user_attr("folder", f"{dead.number:04d}")
    dead.set_user_attr("worker", f"{socket.gethostname()}:{_free_pid()}")
    shown = []

    @contextmanager
    def progress(_, total, done=0):
        shown[:] = [total, done]
        yield shown.append

    found = work(data, tmp_path, trials=3, progress=progress)
    assert shown[0] == 3 == sum(shown[1:])
    assert study.trials[dead.number].state.name == "FAIL"
    assert [name for name, _ in training.asked] == ["0000", "0001", "0003"]
    assert training.asked[1][1].learning_rate == dead.params["learning_rate"]
    assert found.count("queued again") == 1


def _free_pid():
    return next(pid for pid in range(4_000_000, 1, -1) if not Path(f"/proc/{pid}").exists())


def test_the_trials_of_workers_that_live_are_left_to_them(data, tmp_path, trained_by):
    trained_by()
    work(data, tmp_path, trials=1)
    study = optuna.load_study(study_name="lab-cnn", storage=f"sqlite:///{tmp_path / 'study.db'}")
    theirs = study.ask()
    theirs.set_user_attr("worker", f"{socket.gethostname()}:{os.getppid()}")
    found = work(data, tmp_path, trials=3)
    assert study.trials[theirs.number].state.name == "RUNNING"
    assert len(found.rows) == 3


def test_a_trial_that_outlasts_the_budget_is_queued_again(data, tmp_path, trained_by, monkeypatch):
    training = trained_by()
    clock = iter(range(10_000))
    monkeypatch.setattr(tuning.time, "monotonic", lambda: float(next(clock)))
    found = work(data, tmp_path, trials=3, seconds=9)
    assert found.count("waiting") == found.count("queued again") == 1
    monkeypatch.setattr(tuning.time, "monotonic", lambda: 0.0)
    found = work(data, tmp_path, trials=3, seconds=9)
    assert found.count("waiting") == 0
    assert found.count("complete") + found.count("pruned") == 3
    names = [name for name, _ in training.asked]
    assert len(set(names)) == 3 and len(names) == 4


def test_a_study_of_another_recipe_data_set_or_space_is_refused(data, tmp_path, trained_by, tree):
    trained_by()
    work(data, tmp_path, trials=1)
    with pytest.raises(RunError, match=r'study "lab-cnn" is another one.*epochs: 4, not 5|epochs: 5, not 4'):
        work(
            data, tmp_path, recipe=load_recipe("lab-cnn", ["epochs=5", "batch_size=32", "steps_per_epoch=10"])
        )
    with pytest.raises(RunError, match="other galaxies, labels or split"):
        work(write_data_folder(tmp_path / "other", tree, galaxies=60), tmp_path)
    with pytest.raises(RunError, match="another search space"):
        work(data, tmp_path, space=SPACE[:1])
    assert len(work(data, tmp_path, trials=1).rows) == 1


def test_a_journal_is_a_storage_too(data, tmp_path, trained_by):
    trained_by()
    storage = f"journal:{tmp_path / 'journal.log'}"
    assert len(work(data, tmp_path / "one", trials=2, storage=storage).rows) == 2
    assert len(work(data, tmp_path / "two", trials=3, storage=storage).rows) == 3
    assert not (tmp_path / "one" / "study.db").exists()


def test_workers_that_begin_at_the_same_moment_wait_for_the_one_that_creates(
    data, tmp_path, trained_by, monkeypatch
):
    trained_by()
    create, tried = optuna.create_study, []

    def racing(**ways):
        tried.append(ways)
        if len(tried) < 3:
            raise RuntimeError(
                "(sqlite3.IntegrityError) UNIQUE constraint failed: alembic_version.version_num"
            )
        return create(**ways)

    monkeypatch.setattr(optuna, "create_study", racing)
    monkeypatch.setattr(tuning.time, "sleep", lambda seconds: None)
    assert len(work(data, tmp_path, trials=1).rows) == 1
    assert len(tried) == 3


def test_a_storage_that_cannot_be_opened_is_named(data, tmp_path):
    with pytest.raises(RunError, match=r"the storage sqlite:////nowhere/at/all\.db cannot be opened"):
        work(data, tmp_path, storage="sqlite:////nowhere/at/all.db")


def test_a_tuning_trains_for_real(data, tmp_path, quick):
    wanted = load_recipe(
        "vgg7", ["crop=64", "stamp_size=32", "input_size=32", "width=2", "steps_per_epoch=1", "epochs=1"]
    )
    found = tune(data, wanted, tmp_path, trials=1)
    assert found.count("complete") == 1
    assert RunFolder(tmp_path / "trials" / "0000").is_finished()
    assert not (tmp_path / "trials" / "0000" / "last.ckpt").exists()
    assert found.best.name == "vgg7-tuned"


def test_hubbleforks_own_space_leaves_out_what_the_network_does_not_leave_open():
    fields = {entry.field for entry in load_space(load_recipe("lab-cnn"))}
    assert {"learning_rate", "zoom", "batch_size"} <= fields
    assert not fields & {"dropout", "hidden_layers", "hidden_units"}
    assert {"dropout", "hidden_layers"} <= {entry.field for entry in load_space(load_recipe("vgg7"))}


def test_a_table_is_checked_as_a_whole(tmp_path):
    path = tmp_path / "space.toml"
    path.write_text(
        "[learning_rat]\nlow = 1\nhigh = 2\n[head]\nchoices = ['tre', 'tree']\n[zoom]\nlow = 0.5\nhigh = 1.5"
    )
    with pytest.raises(RecipeError) as caught:
        load_space(RECIPE, path)
    for complaint in (
        'no field "learning_rat" (did you mean "learning_rate"?)',
        "head = 'tre'",
        "zoom = 0.5",
    ):
        assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[zoom]\nlow = 2\nhigh = 1", "low is below high"),
        ("[learning_rate]\nlow = 0\nhigh = 1\nlog = true", "above 0 with log"),
        ("[zoom]\nlow = 1", "low and high are numbers: 1, None"),
        ("[zoom]\nlowest = 1", "nothing else"),
        ("[head]\nchoices = []", "at least one value"),
        ("zoom = 1", "nothing else"),
        ("", "there is no field in it"),
        ("[zoom", "not readable as TOML"),
    ],
)
def test_a_malformed_table_is_refused(text, complaint):
    with pytest.raises(RecipeError, match=complaint):
        parse_space(text, "space.toml")


def test_without_optuna_the_command_to_install_it_is_named(data, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(RecipeError, match=r"pip install 'hubblefork\[tune\]'"):
        work(data, tmp_path)


WORKER = """
import sys
from pathlib import Path
from hubblefork.network.recipe import load_recipe
from hubblefork.network.space import parse_space
from hubblefork.network.tuning import tune
space = parse_space("[learning_rate]\\nlow = 1e-4\\nhigh = 1e-2\\nlog = true", "tests")
tune(Path(sys.argv[1]), load_recipe(sys.argv[2]), Path(sys.argv[3]), space=space, trials=5)
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_workers_share_a_study_and_one_may_be_killed(data, quick, tmp_path):
    """The killed worker's trial is gone on with; in the end every trial was done once."""
    recipe = replace(quick, epochs=6, batch_size=8, steps_per_epoch=20)
    (tmp_path / "recipe.toml").write_text(recipe_text(recipe))
    out = tmp_path / "tuning"
    command = [sys.executable, "-c", WORKER, str(data), str(tmp_path / "recipe.toml"), str(out)]
    one = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    while len(RunFolder(out / "trials" / "0000").metrics()) < 2 and one.poll() is None:
        time.sleep(0.02)
    other = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    one.kill()
    assert other.wait(timeout=800) == 0
    found = tuning.read_tuning(recipe, out)
    assert found.count("queued again") == 1
    assert found.count("complete") + found.count("pruned") == 5
    assert found.count("running") == found.count("waiting") == 0
    resumed = next(row for row in found.rows if row["folder"] == "0000" and row["state"] != "queued again")
    assert resumed["epochs"] == len(RunFolder(out / "trials" / "0000").metrics())
