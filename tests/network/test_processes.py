"""Processes that share a batch see what one would have seen, and learn what one would have learned."""

import os
import socket
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from hubblefork.data.folders import RunFolder
from hubblefork.errors import RunError
from hubblefork.network.augment import Augmentation, moved_views, random_moves
from hubblefork.network.batches import LabelledStamps, Share, ShuffledBatches
from hubblefork.network.device import Hardware
from hubblefork.network.recipe import load_recipe, recipe_text
from hubblefork.network.training import train

TRAIN = """
import sys
from pathlib import Path
from hubblefork.network.recipe import load_recipe
from hubblefork.network.device import Hardware
from hubblefork.network.training import train
train(Path(sys.argv[1]), load_recipe(sys.argv[2]), Path(sys.argv[3]), hardware=Hardware("cpu", devices=2))
"""
SETTINGS = [
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
MOVES = Augmentation(rotation=180, flip=0.5, shift=2, zoom=1.2)


def batches(share, batch_size=5, steps=0, galaxies=23):
    pixels = torch.arange(galaxies, dtype=torch.uint8).view(-1, 1, 1, 1).repeat(1, 8, 8, 3)
    pixels = pixels + torch.arange(8, dtype=torch.uint8).view(1, 1, 8, 1)
    rows = torch.arange(galaxies)
    stamps = LabelledStamps(pixels, rows, rows.float().unsqueeze(1))

    def draw(count, generator):
        return random_moves(count, 8, 6, MOVES, generator)

    def view(stamps, moves):
        return moved_views(stamps, 6, moves)

    return ShuffledBatches(stamps, view, batch_size, steps, seed=1, epoch=2, draw=draw, share=share)


@pytest.mark.parametrize(("steps", "galaxies"), [(0, 23), (4, 23), (0, 20)])
def test_two_shares_are_the_whole_batch(steps, galaxies):
    whole = list(batches(Share(), steps=steps, galaxies=galaxies))
    shares = [list(batches(Share(k, 2), steps=steps, galaxies=galaxies)) for k in range(2)]
    assert len(whole) == len(shares[0]) == len(shares[1])
    for (views, labels), *parts in zip(whole, *shares, strict=True):
        for number, (part_views, part_labels) in enumerate(parts):
            assert torch.equal(views[number::2], part_views)
            assert torch.equal(labels[number::2], part_labels)


def test_a_last_batch_without_a_galaxy_for_each_process_joins_the_one_before():
    sizes = [len(labels) for _, labels in batches(Share(0, 2), galaxies=21)]
    assert sizes == [3, 3, 3, 3]
    assert len(batches(Share(0, 2), galaxies=21)) == 4
    assert [len(labels) for _, labels in batches(Share(), galaxies=21)] == [5, 5, 5, 5, 1]


def test_processes_that_do_not_know_of_each_other_are_refused(data, quick, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RunError, match="started as 2 processes, but --devices 1 on --nodes 1 are 1"):
        train(data, quick, tmp_path / "run", device="cpu")


def test_a_batch_has_a_galaxy_for_each_process(data, quick, tmp_path):
    with pytest.raises(RunError, match="batch_size = 1, at least one galaxy for each of 2 processes"):
        train(data, replace(quick, batch_size=1), tmp_path / "run", hardware=Hardware("cpu", devices=2))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_learn_what_one_does(data, tmp_path):
    """A network without batch normalisation: on a CPU that would see each process's galaxies alone."""
    wanted = load_recipe("encoder:convnext_atto", SETTINGS)
    one = train(data, wanted, tmp_path / "one", device="cpu")
    two = _trained_by_two(data, wanted, tmp_path)
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
    command = [sys.executable, "-c", TRAIN, str(data), str(folder / "recipe.toml"), str(folder / "two")]
    processes = [
        subprocess.Popen(command, env={**os.environ, **shared, "RANK": str(k), "LOCAL_RANK": str(k)})
        for k in range(2)
    ]
    assert [process.wait(timeout=800) for process in processes] == [0, 0]
    return folder / "two"
