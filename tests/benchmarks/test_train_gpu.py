"""The benchmark for GPUs, on a CPU at its smallest: what it writes, not how fast anything is."""

import json
from dataclasses import replace

import pytest
import torch

import train_gpu
from hubblefork.network.recipe import load_recipe

SMALLEST = [
    *("--device", "cpu", "--galaxies", "12", "--steps", "2", "--rounds", "1", "--matrix", "64"),
    *("--copied", "65536", "--recipe", "lab-cnn", "--set", "batch_size=4", "flip=0.5"),
]


def test_it_measures_and_writes_what_a_device_can_do(tmp_path, capsys):
    ways = ["--ways", "train", "eager", "graph", "--precisions", "fp32", "tf32", "bf16"]
    train_gpu.main([*SMALLEST, *ways, "--record", str(tmp_path)])
    found = json.loads((tmp_path / "train-gpu.json").read_text())
    assert found["peaks"]["bytes_per_second"] > 0
    assert set(found["peaks"]["operations_per_second"]) == {"fp32", "bf16"}
    recipe = found["recipes"]["lab-cnn"]
    assert recipe["batch_size"] == 4
    assert recipe["augmentation"]["bytes_per_image_at_least"] == 64 * 64 * 3 * (1 + 4)
    assert recipe["augmentation"]["share_of_bandwidth"] > 0
    measured = {(row["way"], row["precision"]): row for row in recipe["measured"]}
    assert len(measured) == 3 and {("eager", "fp32"), ("eager", "bf16")} < set(measured)
    assert all(row["images_per_second"] > 0 for row in measured.values())
    eager = measured["eager", "fp32"]
    share = eager["images_per_second"] * recipe["operations_per_image"]
    share /= found["peaks"]["operations_per_second"]["fp32"]
    assert eager["share_of_matrix_rate"] == pytest.approx(share)
    shown = capsys.readouterr().out
    assert shown == (tmp_path / "train-gpu.md").read_text()
    assert shown.count("| lab-cnn | 4 |") == 4


def test_operations_are_those_of_the_layers_thrice():
    """Forwards, by the weights, by the inputs; the first layer's inputs need no gradient."""
    first = 62 * 62 * 32 * 27
    others = 29 * 29 * 64 * 9 * 32 + 9 * 9 * 128 * 36 * 64 + 10368 * 128 + 128 * 64 + 64 * 37
    found = train_gpu.operations_per_image(load_recipe("lab-cnn"))
    assert found == 2 * (2 * first + 3 * others)


def test_operations_of_a_depthwise_convolution_are_those_of_each_band_alone():
    network = torch.nn.Sequential(
        torch.nn.Conv2d(8, 6, 1), torch.nn.Conv2d(6, 6, 3, groups=6), torch.nn.Conv2d(6, 4, 3, stride=2)
    )
    found = train_gpu.operations(lambda: network(torch.rand(2, 8, 9, 9)).sum().backward())
    assert found == 2 * 2 * (2 * 81 * 6 * 8 + 3 * 49 * 6 * 9 + 3 * 9 * 4 * 9 * 6)


def test_what_is_refused_is_said_and_the_rest_goes_on(monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("no kernel | image\nand more")

    monkeypatch.setattr(train_gpu, "bare_step", refuse)
    stamps = train_gpu.LabelledStamps(torch.zeros(2, 64, 64, 3), torch.arange(2), torch.zeros(2, 37))
    row = train_gpu.bare(load_recipe("lab-cnn"), stamps, "eager", "fp32", None)
    assert row["refused"] == "RuntimeError: no kernel | image"
    assert "refused: RuntimeError: no kernel / image" in train_gpu.cells(row)


def test_galaxies_go_round_in_a_fixed_order_that_lies_on_the_device():
    numbers = torch.arange(6)
    stamps = train_gpu.LabelledStamps(
        numbers.to(torch.uint8).view(6, 1, 1, 1).expand(6, 64, 64, 3), numbers, numbers.float().view(6, 1)
    )
    draw = train_gpu.batches(replace(load_recipe("lab-cnn"), batch_size=4, rotation=90.0), stamps)
    drawn = [draw() for _ in range(3)]
    order = torch.cat([labels.flatten() for _, _, labels in drawn])
    assert sorted(order[:6].tolist()) == list(range(6))
    assert torch.equal(order[6:], order[:6])
    assert all(torch.equal(pixels[:, 0, 0, 0].float(), labels[:, 0]) for pixels, _, labels in drawn)
    assert not torch.equal(drawn[0][1], drawn[1][1])
