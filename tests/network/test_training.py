"""Training: it learns, it repeats itself, it survives being killed."""

import io
import os
import pickle
import resource
import signal
import socket
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from timm.optim.muon import Muon
from torch import nn

from hubblefork.data.folders import RunFolder
from hubblefork.data.split import Split, read_split, write_split
from hubblefork.errors import BusyError, CatalogueError, DiskError, RunError
from hubblefork.io import alone_in
from hubblefork.network.device import Hardware
from hubblefork.network.model import VoteFractions
from hubblefork.network.recipe import load_recipe, recipe_text
from hubblefork.network.training import EpochErrors, VoteFractionsModule, optimisation, schedule_factor, train
from hubblefork.network.weights import load_weights, read_recipe
from hubblefork.prediction.runs import predict_part
from hubblefork.tables.catalogue import fractions, labelled, matched, read_catalogue
from hubblefork.zoo import load_tree

from .conftest import write_data_folder


def metrics(run):
    return [
        {k: v for k, v in row.items() if k not in ("seconds", "galaxies_per_second")}
        for row in RunFolder(run).metrics()
    ]


def test_it_learns(trained):
    rows = RunFolder(trained).metrics()
    assert rows[-1]["validation_rmse"] < 0.6 * rows[0]["validation_rmse"]
    notes = RunFolder(trained).notes()
    assert notes["finished"] and notes["epochs"] == len(rows) == 30
    assert notes["best"]["validation_rmse"] == min(row["validation_rmse"] for row in rows)
    assert notes["parameters"]["keras"] == notes["parameters"]["learned"] + 64


def test_counts_are_of_labelled_galaxies_by_the_split(trained, data):
    parts = read_split(data).assign(range(1000, 1220))
    counts = RunFolder(trained).notes()["galaxies"]
    assert counts == {part: int((parts == part).sum()) for part in ("train", "validation", "test")}


def test_the_same_recipe_and_seed_give_the_same_run(data, quick, tmp_path):
    one, other = (train(data, quick, tmp_path / name, device="cpu") for name in ("one", "other"))
    different = train(data, replace(quick, seed=1), tmp_path / "different", device="cpu")
    assert metrics(one) == metrics(other)
    assert metrics(one) != metrics(different)


def test_weights_are_those_of_the_best_epoch_and_carry_their_recipe(trained):
    weights = load_weights(trained)
    assert weights.epoch == RunFolder(trained).notes()["best_epoch"]
    assert weights.recipe == read_recipe(trained)
    assert weights.tree.name == "galaxy_zoo_2"


def test_a_finished_run_is_left_alone(trained, data):
    before = (trained / "weights.safetensors").stat().st_mtime_ns
    train(data, read_recipe(trained), trained, device="cpu")
    assert (trained / "weights.safetensors").stat().st_mtime_ns == before


def test_a_run_of_another_recipe_is_refused(trained, data):
    other = replace(read_recipe(trained), batch_size=7, head="tree")
    with pytest.raises(RunError) as caught:
        train(data, other, trained, device="cpu")
    assert "batch_size: 7, not 8" in str(caught.value)
    assert "head: 'tree', not 'sigmoid'" in str(caught.value)


def test_a_run_on_other_data_is_refused(trained, tree, tmp_path):
    with pytest.raises(RunError, match="data: "):
        train(
            write_data_folder(tmp_path / "other", tree, galaxies=40),
            read_recipe(trained),
            trained,
            device="cpu",
        )


def test_a_split_without_validation_galaxies_is_refused(tree, quick, tmp_path):
    folder = write_data_folder(tmp_path / "data", tree, galaxies=40)
    write_split(Split(validation=0), folder)
    with pytest.raises(CatalogueError, match="no labelled galaxy is in the validation part"):
        train(folder, quick, tmp_path / "run", device="cpu")


def test_divergence_is_said_with_the_remedy(data, quick, tmp_path):
    with pytest.raises(RunError, match="lower the learning rate"):
        train(data, replace(quick, learning_rate=1e30), tmp_path / "run", device="cpu")


TRAIN = """
import signal, sys
from pathlib import Path
from hubblefork.network.device import Hardware
from hubblefork.network.recipe import load_recipe
from hubblefork.network.training import train
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job starts with it ignored
data, recipe, out, devices = sys.argv[1:]
train(Path(data), load_recipe(recipe), Path(out), hardware=Hardware("cpu", devices=int(devices)))
"""


class Recorder(Callback):
    """Remembers the trained weights after each step."""

    def __init__(self):
        self.steps = []

    def on_train_batch_end(self, trainer, module, *_):
        state = module.network.state_dict()
        self.steps.append({name: tensor.detach().clone().double() for name, tensor in state.items()})


def test_the_average_is_what_is_judged_and_kept(data, quick, tmp_path):
    recorder = Recorder()
    recipe = replace(quick, epochs=1, ema_decay=0.5, precision="32", batch_size=8)
    run = train(data, recipe, tmp_path / "run", device="cpu", callbacks=[recorder])
    expected = dict(recorder.steps[0])
    for number, step in enumerate(recorder.steps[1:], start=1):
        kept = min(0.5, (1 + number) / (10 + number))
        expected = {name: kept * mean + (1 - kept) * step[name] for name, mean in expected.items()}
    weights = load_weights(run)
    found = {
        name: tensor for name, tensor in weights.network.state_dict().items() if tensor.is_floating_point()
    }
    assert len(recorder.steps) > 8
    for name, tensor in found.items():
        assert torch.allclose(tensor.double(), expected[name], atol=1e-5), name
    assert not torch.allclose(
        next(iter(found.values())).double(), next(iter(recorder.steps[-1].values())), atol=1e-4
    )
    assert rmse_of_validation(run) == pytest.approx(metrics(run)[-1]["validation_rmse"], abs=1e-4)


def rmse_of_validation(run):
    catalogue = read_catalogue(predict_part(run, "validation", device="cpu"))
    table = RunFolder(run).data.catalogue()
    predicted, volunteers = matched(catalogue, table.filter(labelled(table, load_tree())))
    difference = fractions(predicted, load_tree()) - fractions(volunteers, load_tree())
    return float(np.sqrt(np.nanmean(difference**2)))


@pytest.mark.parametrize(("how", "average"), [(signal.SIGKILL, 0.0), (signal.SIGINT, 0.9)])
def test_an_interrupted_run_goes_on_as_if_nothing_had_been(data, quick, tmp_path, how, average):
    recipe = replace(quick, epochs=8, plateau_patience=1, patience=6, ema_decay=average)
    recipe = replace(recipe, architecture="vgg7", width=4, dropout=0.3)
    (tmp_path / "recipe.toml").write_text(recipe_text(recipe))
    run = tmp_path / "interrupted"
    command = [sys.executable, "-c", TRAIN, str(data), str(tmp_path / "recipe.toml"), str(run), "1"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(RunFolder(run).metrics()) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, how)
    assert process.wait() != 0
    assert 3 <= len(RunFolder(run).metrics()) < 8
    assert not RunFolder(run).is_finished()
    train(data, recipe, run, device="cpu")
    whole = train(data, recipe, tmp_path / "whole", device="cpu")
    assert [row["epoch"] for row in metrics(run)] == [row["epoch"] for row in metrics(whole)]
    assert metrics(run) == metrics(whole)
    first, second = (load_weights(path).network.state_dict() for path in (run, whole))
    assert all(torch.equal(first[name], second[name]) for name in second)


def stopped_after(epochs, data, recipe, run):
    """Train a few epochs of a run, as an interruption leaves it."""

    class Interrupted(Exception):
        pass

    class Stop(Callback):
        def on_train_epoch_start(self, trainer, module):
            if trainer.current_epoch == epochs:
                raise Interrupted

    with pytest.raises(Interrupted):
        train(data, recipe, run, device="cpu", callbacks=[Stop()])
    return run


DAMAGES = {
    "zeros in the middle": lambda data: data[:3000] + bytes(2000) + data[5000:],
    "cut short": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "no checkpoint": lambda data: b"not a checkpoint" * 99,
    "a zip of something else": lambda data: zip_of("readme.txt", b"hello"),
    "a pickle that calls": lambda data: pickle.dumps(Calls()),
    "a zip with a pickle that calls": lambda data: zip_of("archive/data.pkl", pickle.dumps(Calls())),
    "tensors of something else": lambda data: saved({"state_dict": {"layer": torch.zeros(3)}}),
    "no dictionary": lambda data: saved(torch.zeros(3)),
}
CALLED = []


class Calls:
    """Unpickling it notes that it was unpickled."""

    def __reduce__(self):
        return CALLED.append, (1,)


def zip_of(name, content):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, content)
    return file.getvalue()


def saved(thing):
    file = io.BytesIO()
    torch.save(thing, file)
    return file.getvalue()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_said_and_the_epoch_before_continues(data, quick, tmp_path, damage):
    recipe = replace(quick, epochs=3, steps_per_epoch=2)
    run = stopped_after(2, data, recipe, tmp_path / "run")
    last, previous = RunFolder(run).checkpoints
    last.write_bytes(DAMAGES[damage](last.read_bytes()))
    train(data, recipe, run, device="cpu")
    assert metrics(run) == metrics(train(data, recipe, tmp_path / "whole", device="cpu"))
    assert "last.ckpt is damaged: training went on from the epoch before" in RunFolder(run).notes()["remarks"]
    assert last.exists() and not previous.exists()
    assert not CALLED


def test_a_full_disk_ends_a_training_in_one_line_and_it_goes_on_later(data, quick, tmp_path):
    recipe = replace(quick, epochs=2, steps_per_epoch=1, precision="32")
    whole = train(data, recipe, tmp_path / "whole", device="cpu")
    largest = max(file.stat().st_size for file in whole.iterdir())
    refused, run, limits = set(), tmp_path / "run", resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (20, 3000, largest // 10, largest - 1):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
        try:
            with pytest.raises(DiskError, match="could not be written") as caught:
                train(data, recipe, run, device="cpu")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        refused.add(Path(str(caught.value).partition(":")[0]).name)
        assert not [path for path in run.iterdir() if "partial" in path.name]
    assert refused >= {"split.toml", "tree.toml", "weights.safetensors", "last.ckpt"}
    assert metrics(train(data, recipe, run, device="cpu")) == metrics(whole)


def test_without_a_sound_checkpoint_the_remedy_is_said(data, quick, tmp_path):
    recipe = replace(quick, epochs=3, steps_per_epoch=2)
    run = stopped_after(1, data, recipe, tmp_path / "run")
    last, _ = RunFolder(run).checkpoints
    last.write_bytes(last.read_bytes()[:3000])
    with pytest.raises(
        RunError, match=r"last\.ckpt: the checkpoint is damaged.*remove .*run and train again"
    ):
        train(data, recipe, run, device="cpu")


def test_two_trainings_of_a_run_are_refused(data, quick, tmp_path):
    with (
        alone_in(tmp_path / "run", "at it"),
        pytest.raises(BusyError, match="run: another process is working"),
    ):
        train(data, quick, tmp_path / "run", device="cpu")


def test_tally_is_the_formula():
    rng = np.random.default_rng(0)
    predicted, volunteers = rng.random((2, 30, 37)).astype(np.float32)
    volunteers[:5, 3:5] = np.nan
    errors = EpochErrors()
    for part in np.array_split(np.arange(30), 4):
        errors.add(torch.from_numpy(predicted[part]), torch.from_numpy(volunteers[part]))
    rmse, agreement = errors.result()
    assert rmse == pytest.approx(np.sqrt(np.nanmean((predicted - volunteers) ** 2)), rel=1e-5)
    assert agreement == pytest.approx(np.mean(predicted[5:].argmax(1) == volunteers[5:].argmax(1)))


# Optimisers and schedules


STEPS = 40


def network():
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))


def recipe(*settings):
    return load_recipe("lab-cnn", ["epochs=10", *settings])


@pytest.mark.parametrize(
    ("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)]
)
def test_the_optimiser_is_the_recipes(name, kind):
    optimiser = optimisation(network(), recipe(f"optimiser={name}", "learning_rate=0.02"), STEPS)
    assert type(optimiser) is kind
    assert optimiser.param_groups[0]["lr"] == 0.02


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_a_step_of_the_optimiser_is_one_kernel(name):
    assert optimisation(network(), recipe(f"optimiser={name}"), STEPS).defaults["fused"] is True


@pytest.mark.parametrize("architecture", ["lab-cnn", "vgg7"])
def test_training_pools_before_relu_with_the_same_gradients(tree, architecture):
    asked = recipe(f"architecture={architecture}")
    torch.manual_seed(0)
    whole = VoteFractions(asked, tree)
    pooled = VoteFractionsModule(asked, tree, steps=STEPS).network
    pooled.load_state_dict(whole.state_dict())
    views, found = torch.rand(4, 3, asked.input_size, asked.input_size), []
    for one in (whole, pooled):
        torch.manual_seed(1)
        loss = one(views).square().sum()
        loss.backward()
        found.append([loss, *(parameter.grad for parameter in one.parameters())])
    assert [type(layer) for layer in pooled.features] != [type(layer) for layer in whole.features]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*found, strict=True))


def test_sgd_has_nesterovs_momentum():
    group = optimisation(network(), recipe("optimiser=sgd", "momentum=0.8"), STEPS).param_groups[0]
    assert (group["nesterov"], group["momentum"]) == (True, 0.8)


def test_biases_and_normalisations_do_not_decay():
    groups = optimisation(network(), recipe("optimiser=adamw", "weight_decay=0.1"), STEPS).param_groups
    shapes = {group["weight_decay"]: [tuple(p.shape) for p in group["params"]] for group in groups}
    assert shapes == {0.1: [(3, 4), (2, 3)], 0.0: [(3,), (3,), (3,), (2,)]}


def test_muon_is_for_the_matrices_of_hidden_layers():
    given = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 5, groups=4), *network())
    optimiser = optimisation(given, recipe("optimiser=muon", "weight_decay=0.1", "learning_rate=0.02"), STEPS)
    assert type(optimiser) is Muon
    assert all(group["lr"] == 0.02 for group in optimiser.param_groups)
    shapes = {
        (group["use_fallback"], group["weight_decay"]): [tuple(p.shape) for p in group["params"]]
        for group in optimiser.param_groups
    }
    assert shapes == {
        (False, 0.1): [(4, 3, 3, 3), (3, 4)],
        (True, 0.1): [(4, 1, 5, 5), (2, 3)],
        (True, 0.0): [(4,), (4,), (3,), (3,), (3,), (2,)],
    }


def test_a_step_of_muon_is_orthogonal_and_as_large_as_adamws():
    given = nn.Sequential(nn.Linear(16, 8, bias=False), nn.Linear(8, 2))
    optimiser = optimisation(given, recipe("optimiser=muon", "learning_rate=0.01"), STEPS)
    before = given[0].weight.detach().clone()
    given(torch.randn(32, 16, generator=torch.Generator().manual_seed(0))).square().sum().backward()
    optimiser.step()
    step = (given[0].weight.detach() - before) / 0.01
    singular = torch.linalg.svdvals(step)[:2] / (0.2 * 16**0.5)
    assert singular == pytest.approx(torch.ones(2), abs=0.35)


def test_what_is_frozen_is_not_optimised():
    given = network()
    given[0].requires_grad_(False)
    (group,) = optimisation(given, recipe(), STEPS).param_groups
    assert len(group["params"]) == 4


def test_cosine_is_pytorchs():
    optimiser = torch.optim.SGD(network().parameters(), lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=STEPS)
    for step in range(STEPS):
        assert schedule_factor("cosine", step / STEPS, 0.0) == pytest.approx(optimiser.param_groups[0]["lr"])
        optimiser.step()
        theirs.step()


def test_one_cycle_is_pytorchs():
    """Theirs counts its turning points one step earlier, so the comparison is in shares of the training."""
    optimiser = torch.optim.SGD(network().parameters(), lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, 1.0, total_steps=1001, pct_start=0.3, div_factor=25, final_div_factor=400
    )
    for step in range(1000):
        ours = schedule_factor("one-cycle", step / 1000, 0.0)
        assert ours == pytest.approx(optimiser.param_groups[0]["lr"], abs=6e-3)
        optimiser.step()
        theirs.step()


def test_the_warm_up_rises_in_a_line_and_its_length_is_the_recipes():
    both = optimisation(network(), recipe("schedule=cosine", "warmup_epochs=2", "learning_rate=1"), STEPS)
    schedule = both["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(STEPS):
        rates.append(schedule.get_last_lr()[0])
        both["optimizer"].step()
        schedule.step()
    assert rates[:8] == pytest.approx([(step + 0.5) / 8 for step in range(8)])
    assert max(rates) == pytest.approx(1, abs=0.01)
    assert rates[-1] < 0.01


@pytest.mark.parametrize(
    "settings",
    [
        ["schedule=cosine", "warmup_epochs=1", "optimiser=muon"],
        ["schedule=one-cycle", "optimiser=sgd", "weight_decay=0.01"],
    ],
)
def test_a_schedule_goes_on_exactly_where_it_was(data, quick, tmp_path, settings):
    sizes = {name: getattr(quick, name) for name in ("crop", "stamp_size", "input_size")}
    kept = ["epochs=4", "steps_per_epoch=2", "batch_size=8"]
    recipe = replace(load_recipe("lab-cnn", [*settings, *kept]), **sizes)
    broken = train(data, recipe, stopped_after(2, data, recipe, tmp_path / "broken"), device="cpu")
    whole = train(data, recipe, tmp_path / "whole", device="cpu")
    assert metrics(broken) == metrics(whole)
    rise = recipe.warmup_epochs / 4
    factors = [schedule_factor(recipe.schedule, (2 * epoch + 2.5) / 8, rise) for epoch in range(4)]
    expected = [factor * recipe.learning_rate for factor in factors]
    assert [row["learning_rate"] for row in metrics(broken)] == pytest.approx(expected)


# Processes that share a batch

SHARED = [
    *(
        "crop=64",
        "stamp_size=48",
        "input_size=32",
        "pretrained=",
        "hidden_layers=0",
        "head=tree",
        "precision=32",
    ),
    *("batch_size=15", "steps_per_epoch=3", "epochs=2", "optimiser=sgd", "learning_rate=0.05"),
]


def test_processes_that_do_not_know_of_each_other_are_refused(data, quick, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RunError, match="started as 2 processes, but --devices 1 on --nodes 1 are 1"):
        train(data, quick, tmp_path / "run", device="cpu")


def test_a_batch_has_a_galaxy_for_each_process(data, quick, tmp_path):
    with pytest.raises(RunError, match="batch_size = 1, at least one galaxy for each of 2 processes"):
        train(data, replace(quick, batch_size=1), tmp_path / "run", hardware=Hardware("cpu", devices=2))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("setting", ["frozen_epochs=0", "frozen_epochs=1"])
def test_two_processes_learn_what_one_does(data, tmp_path, setting):
    """A network without batch normalisation: on a CPU that would see each process's galaxies alone."""
    recipe = load_recipe("encoder:convnext_atto", [*SHARED, setting])
    one = train(data, recipe, tmp_path / "one", device="cpu")
    two = _trained_by_two(data, recipe, tmp_path)
    for alone, shared in zip(RunFolder(one).metrics(), RunFolder(two).metrics(), strict=True):
        for key in ("train_rmse", "validation_rmse", "train_agreement", "validation_agreement", "step"):
            assert shared[key] == pytest.approx(alone[key], rel=1e-4)
    assert RunFolder(two).notes()["device"]["processes"] == 2
    assert RunFolder(two).is_finished()


def _trained_by_two(data, recipe, folder):
    (folder / "recipe.toml").write_text(recipe_text(recipe))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "NODE_RANK": "0"}
    shared |= {
        "LOCAL_WORLD_SIZE": "2",
        "GROUP_RANK": "0",
        "TORCHELASTIC_RUN_ID": "tests",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-c", TRAIN, str(data), str(folder / "recipe.toml"), str(folder / "two"), "2"]
    processes = [
        subprocess.Popen(command, env={**os.environ, **shared, "RANK": str(k), "LOCAL_RANK": str(k)})
        for k in range(2)
    ]
    assert [process.wait(timeout=800) for process in processes] == [0, 0]
    return folder / "two"
