"""Batches: every galaxy its turn, the same order for the same seed and epoch."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from hubblefork.network.augment import (
    Augmentation,
    central_views,
    moved_views,
    random_light,
    random_moves,
    relit,
)
from hubblefork.network.batches import LabelledStamps, OrderedBatches, Share, ShuffledBatches, Streamed, place


def galaxies(count=10):
    """Galaxies whose every pixel and label is their number, at odd rows of a larger store."""
    pixels = np.repeat(np.arange(2 * count, dtype=np.uint8), 8 * 8 * 3).reshape(-1, 8, 8, 3)
    rows = torch.arange(1, 2 * count, 2)
    return LabelledStamps(torch.from_numpy(pixels), rows, rows.float().unsqueeze(1).repeat(1, 37))


def shuffled(steps=0, batch_size=4, seed=0, epoch=0):
    return ShuffledBatches(
        galaxies(), lambda stamps: central_views(stamps, 8), batch_size, steps, seed, epoch
    )


def drawn(batches):
    return torch.cat([labels[:, 0] for _, labels in batches]).int().tolist()


def test_stamps_and_labels_stay_together():
    for views, labels in shuffled(steps=5):
        assert torch.equal((views[:, 0, 0, 0] * 255).round(), labels[:, 0])


def test_one_pass_shows_each_galaxy_once():
    batches = shuffled()
    assert sorted(drawn(batches)) == list(range(1, 20, 2))
    assert len(batches) == len(list(batches)) == 3
    assert batches.galaxies == 10


def test_an_epoch_of_steps_goes_round_evenly():
    batches = shuffled(steps=10)
    counts = np.unique(drawn(batches), return_counts=True)[1]
    assert len(batches) == len(list(batches)) == 10
    assert batches.galaxies == counts.sum() == 40
    assert (counts == 4).all()


def test_order_depends_on_seed_and_epoch_alone():
    assert drawn(shuffled(seed=1, epoch=2)) == drawn(shuffled(seed=1, epoch=2))
    assert drawn(shuffled(seed=1, epoch=2)) != drawn(shuffled(seed=1, epoch=3))
    assert drawn(shuffled(seed=1, epoch=2)) != drawn(shuffled(seed=2, epoch=2))


def test_ordered_batches_keep_the_order():
    batches = OrderedBatches(galaxies(), lambda stamps: central_views(stamps, 8), 4)
    assert drawn(batches) == list(range(1, 20, 2))
    assert len(batches) == 3


def test_a_read_only_memory_map_is_used_in_place(tmp_path):
    path = tmp_path / "stamps.npy"
    np.save(path, np.arange(48, dtype=np.uint8).reshape(1, 4, 4, 3))
    mapped = np.load(path, mmap_mode="r")
    placed = place(mapped, torch.device("cpu"))
    assert placed.data_ptr() == mapped.ctypes.data


GALAXIES = 1365


@pytest.fixture
def on_disk(tmp_path):
    """16 MB of stamps, memory-mapped; each pixel is the number of its galaxy modulo 251."""
    path = tmp_path / "stamps.npy"
    numbers = (np.arange(GALAXIES) % 251).astype(np.uint8)
    np.save(path, np.broadcast_to(numbers[:, None, None, None], (GALAXIES, 64, 64, 3)))
    return np.load(path, mmap_mode="r")


def test_stamps_beyond_the_budget_are_streamed_and_the_same(on_disk):
    assert isinstance(place(on_disk, torch.device("cpu"), on_disk.nbytes), torch.Tensor)
    streamed = place(on_disk, torch.device("cpu"), on_disk.nbytes - 1)
    assert isinstance(streamed, Streamed)
    rows = torch.tensor([1300, 3, 3, 777])
    assert torch.equal(streamed[rows], torch.from_numpy(np.asarray(on_disk))[rows])


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="Linux says what of a file is in memory")
def test_streaming_keeps_memory_flat(on_disk):
    streamed = place(on_disk, torch.device("cpu"), 2_000_000)
    for rows in torch.arange(GALAXIES).split(64):
        assert int(streamed[rows][0, 0, 0, 0]) == int(rows[0]) % 251
        assert resident(on_disk.filename) <= 2_000_000
    whole = place(on_disk, torch.device("cpu"))
    assert int(whole[torch.arange(GALAXIES)].sum()) > 0
    assert resident(on_disk.filename) > 15_000_000


def resident(path):
    """Bytes of a file's mapping that are in memory."""
    lines = Path("/proc/self/smaps").read_text().splitlines()
    found, inside = 0, False
    for line in lines:
        if "-" in line.split(" ")[0] and ":" not in line.split(" ")[0]:
            inside = line.endswith(str(path))
        if inside and line.startswith("Rss:"):
            found += 1024 * int(line.split()[1])
    return found


class Transfers(TorchDispatchMode):
    """Counts the tensors that go from one device to another."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        named = named or {}
        if function is torch.ops.aten._to_copy.default:
            self.count += named.get("device", arguments[0].device) != arguments[0].device
        return function(*arguments, **named)


@pytest.fixture
def devices_of_generators(monkeypatch):
    """Where generators were asked for; PyTorch's meta device, which stands for a GPU here, has none."""
    asked, generator = [], torch.Generator
    monkeypatch.setattr(
        torch, "Generator", lambda device="cpu": asked.append(torch.device(device).type) or generator()
    )
    return asked


@pytest.mark.parametrize("steps", [2, 9])
def test_the_order_goes_to_the_device_once_an_epoch(steps, devices_of_generators):
    pixels, rows = torch.empty(20, 8, 8, 3, dtype=torch.uint8, device="meta"), torch.arange(10, device="meta")
    stamps = LabelledStamps(pixels, rows, torch.empty(10, 37, device="meta"))
    with Transfers() as transfers:
        batches = list(
            ShuffledBatches(stamps, lambda stamps: central_views(stamps, 8), 4, steps, seed=0, epoch=0)
        )
    assert {tensor.device.type for batch in batches for tensor in batch} == {"meta"}
    assert devices_of_generators == ["cpu", "meta"]
    assert len(batches) == steps
    assert transfers.count == 1


def test_in_order_nothing_is_sent():
    pixels, rows = torch.empty(20, 8, 8, 3, dtype=torch.uint8, device="meta"), torch.arange(10, device="meta")
    stamps = LabelledStamps(pixels, rows, torch.empty(10, 37, device="meta"))
    with Transfers() as transfers:
        views = [views for views, _ in OrderedBatches(stamps, lambda stamps: central_views(stamps, 8), 4)]
    assert [tuple(some.shape) for some in views] == [(4, 3, 8, 8), (4, 3, 8, 8), (2, 3, 8, 8)]
    assert transfers.count == 0


# Processes that share a batch

CHANGES = Augmentation(
    *(180, 0.5, 2, 1.2), light_probability=0.7, blur=0.5, brightness=1.2, colour=1.1, grey=0.2, noise=0.1
)


def batches(share, batch_size=5, steps=0, galaxies=23):
    pixels = torch.arange(galaxies, dtype=torch.uint8).view(-1, 1, 1, 1).repeat(1, 8, 8, 3)
    pixels = pixels + torch.arange(8, dtype=torch.uint8).view(1, 1, 8, 1)
    rows = torch.arange(galaxies)
    stamps = LabelledStamps(pixels, rows, rows.float().unsqueeze(1))

    def draw(count, generator):
        return random_moves(count, 8, 6, CHANGES, generator), *random_light(count, 6, CHANGES, generator)

    def view(stamps, moves, *light):
        return relit(moved_views(stamps, 6, moves), CHANGES, *light)

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
