"""Training on a device: images a second, with and without what surrounds a step, beside the machine's peak.

    python benchmarks/train_gpu.py [--data DATA] [--recipe NAME …] [--set key=value …] [--record FOLDER]

Measured for each recipe, in images a second:

    train           `hubblefork train` itself, without validation: its metrics.csv, the first epoch left out
    train compiled  the same with the recipe's `compile`
    eager           the same augmentation, network and loss in a bare loop with a fused AdamW: no Lightning,
                    no metrics, no average; the order of the galaxies lies on the device, and all that the
                    host does is to start kernels
    graph           that step captured once as a CUDA graph and replayed: nothing of the host is left in it
    compiled        augmentation, network and loss compiled by torch.compile
    compiled graph  both
    augmentation    gathering and moving the stamps alone

`train` in the precision that it chooses, the bare ways in fp32, tf32 and bf16, channels-last. Beside them
stands the machine's own peak, measured in the same run: a large matrix product in each precision, a large
copy. The share of the matrix rate counts the operations of convolutions and products, forwards and backwards
(PyTorch's FlopCounterMode); that of the bandwidth, for the augmentation, the bytes that no way of doing it
saves: each stamp read once as uint8, each view written once in single precision.

Medians over rounds, warmed up, the device waited for at the ends of each. Without CUDA there are no graphs
and no tf32. Without `--data` a mock sky is made. What a device refuses is said in its row.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from hubblefork.data.folders import RunFolder
from hubblefork.data.ingest import ingest
from hubblefork.data.split import TRAIN, Split, read_split, write_split
from hubblefork.io import write_text
from hubblefork.network.augment import central_views, moved_views, random_moves
from hubblefork.network.batches import GalaxyData, LabelledStamps
from hubblefork.network.device import Hardware, device_of, wait_for
from hubblefork.network.heads import masked_rmse
from hubblefork.network.model import VoteFractions
from hubblefork.network.recipe import Recipe, load_recipe, recipe_names
from hubblefork.network.training import train
from hubblefork.zoo import load_tree
from measure import kaggle_files, processor

Step = Callable[[], object]
Found = dict[str, Any]
PRECISIONS = ("fp32", "tf32", "bf16")
TRAININGS = ("train", "train compiled")
BARE = ("eager", "graph", "compiled", "compiled graph")
NAME = "train-gpu"


def main(given: Sequence[str] | None = None) -> None:
    arguments = _arguments(given)
    device = torch.device(arguments.device) if arguments.device else device_of()
    arguments.ways = [way for way in arguments.ways if device.type == "cuda" or "graph" not in way]
    arguments.precisions = [one for one in arguments.precisions if device.type == "cuda" or one != "tf32"]
    with tempfile.TemporaryDirectory() as scratch:
        data = arguments.data or mock_data(Path(scratch), arguments.galaxies)
        found = {"machine": machine(device), "peaks": peaks(device, arguments), "recipes": {}}
        for name in arguments.recipe:
            recipe = replace(load_recipe(name, arguments.set), pretrained="")
            found["recipes"][name] = of_recipe(recipe, data, device, found["peaks"], arguments)
    print(table(found))
    if arguments.record:
        write_text(arguments.record / f"{NAME}.json", json.dumps(found, indent=1, allow_nan=False) + "\n")
        write_text(arguments.record / f"{NAME}.md", table(found) + "\n")


def mock_data(folder: Path, galaxies: int) -> Path:
    ingest([kaggle_files(None, folder, galaxies)], folder / "data", tree=load_tree())
    write_split(Split(salt="benchmark", test=0, validation=20), folder / "data")
    return folder / "data"


def machine(device: torch.device) -> Found:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    return {
        "device": device.type,
        "name": name,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


# What the machine can do


def peaks(device: torch.device, arguments: argparse.Namespace) -> Found:
    """Return multiplications and additions a second by precision, and bytes a second read and written."""
    side, length = (1024, 2**26) if device.type == "cpu" else (8192, 2**30)
    side, length = arguments.matrix or side, arguments.copied or length
    rates = {}
    for precision in arguments.precisions:
        kind = torch.bfloat16 if precision == "bf16" else torch.float32
        one, other = (torch.randn(side, side, device=device, dtype=kind) for _ in range(2))
        with arithmetic(precision):
            rates[precision] = 2 * side**3 / seconds(lambda a=one, b=other: a @ b, device, arguments)
    source = torch.zeros(length, dtype=torch.uint8, device=device)
    target = torch.ones_like(source)
    copied = 2 * length / seconds(lambda: target.copy_(source), device, arguments)
    return {"operations_per_second": rates, "bytes_per_second": copied}


@contextmanager
def arithmetic(precision: str):
    """Let single precision be computed as it is, or by matrix units that keep 10 bits of the mantissa."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def seconds(step: Step, device: torch.device, arguments: argparse.Namespace) -> float:
    """Return the median over rounds of a step's seconds, the first round left out."""
    taken = []
    for _ in range(arguments.rounds + 1):
        wait_for(device)
        started = time.perf_counter()
        for _ in range(arguments.steps):
            step()
        wait_for(device)
        taken.append((time.perf_counter() - started) / arguments.steps)
    return statistics.median(taken[1:])


# What a recipe makes of it


def of_recipe(
    recipe: Recipe, data: Path, device: torch.device, peak: Found, arguments: argparse.Namespace
) -> Found:
    galaxies = GalaxyData(data, recipe, load_tree(), split=read_split(data), hardware=Hardware(device.type))
    galaxies.setup("fit")
    operations, stamps = operations_per_image(recipe), galaxies.parts[TRAIN]
    rows = [by_train(recipe, way, data, device, arguments) for way in TRAININGS if way in arguments.ways]
    for precision in arguments.precisions:
        ways = [way for way in BARE if way in arguments.ways]
        rows += [bare(recipe, stamps, way, precision, arguments) for way in ways]
    for row in rows:
        best = peak["operations_per_second"].get(row["precision"])
        if best and "images_per_second" in row:
            row["share_of_matrix_rate"] = row["images_per_second"] * operations / best
    return {
        "batch_size": recipe.batch_size,
        "operations_per_image": operations,
        "augmentation": augmentation(recipe, stamps, peak["bytes_per_second"], arguments),
        "measured": rows,
    }


def operations_per_image(recipe: Recipe) -> float:
    """Count those of two images' convolutions and products, forwards and backwards, on the CPU."""
    network = VoteFractions(recipe, load_tree())
    views, labels = torch.rand(2, 3, recipe.input_size, recipe.input_size), torch.rand(2, 37)
    return operations(lambda: masked_rmse(network(views), labels).backward()) / 2


def operations(work: Step) -> int:
    """Count the multiplications and additions of convolutions and products."""
    ours = {torch.ops.aten.convolution_backward: of_gradients}
    with FlopCounterMode(display=False, custom_mapping=ours) as counter:
        work()
    return counter.get_total_flops()


def of_gradients(scores: Sequence[int], _: Sequence[int], weights: Sequence[int], *others, out_shape) -> int:
    """Count those of a convolution's gradients, as many for the weights and for the inputs as forwards.

    PyTorch's own count takes no notice of groups, of which a depthwise convolution has as many as bands.
    """
    by_inputs, by_weights, _ = others[-1]
    return 2 * prod(scores) * prod(weights[1:]) * (by_inputs + by_weights)


def by_train(
    recipe: Recipe, way: str, data: Path, device: torch.device, arguments: argparse.Namespace
) -> Found:
    epochs = arguments.rounds + 1
    short = replace(
        recipe,
        epochs=epochs,
        steps_per_epoch=arguments.steps,
        patience=epochs,
        max_minutes=0.0,
        warmup_epochs=0.0,
    )
    short = replace(short, compile=way == "train compiled")
    forget_memory(device)
    with tempfile.TemporaryDirectory() as folder:
        run = train(data, short, Path(folder) / "run", device=device.type)
        rows, notes = RunFolder(run).metrics(), RunFolder(run).notes()
    rate = statistics.median(float(row["galaxies_per_second"]) for row in rows[1:])
    precision = "bf16" if notes["device"]["precision"] == "bf16-mixed" else "fp32"
    return {"way": way, "precision": precision, **measured(rate, device)}


def augmentation(
    recipe: Recipe, stamps: LabelledStamps, bandwidth: float, arguments: argparse.Namespace
) -> Found:
    device = stamps.labels.device
    draw = batches(recipe, stamps)

    def step() -> Tensor:
        pixels, moves, _ = draw()
        return views_of(recipe, pixels, moves)

    rate = recipe.batch_size / seconds(step, device, arguments)
    least = 3 * recipe.stamp_size**2 + 4 * 3 * recipe.input_size**2
    return {
        "images_per_second": rate,
        "bytes_per_image_at_least": least,
        "share_of_bandwidth": rate * least / bandwidth,
    }


def bare(
    recipe: Recipe, stamps: LabelledStamps, way: str, precision: str, arguments: argparse.Namespace
) -> Found:
    """Measure one way in one precision; where the device or the compiler refuses, say so."""
    device = stamps.labels.device
    forget_memory(device)
    row: Found = {"way": way, "precision": precision}
    try:
        with arithmetic(precision):
            step = bare_step(recipe, stamps, precision, compiled="compiled" in way)
            step = captured(step) if "graph" in way else step
            rate = recipe.batch_size / seconds(step, device, arguments)
    except Exception as error:
        return {**row, "refused": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
    return {**row, **measured(rate, device)}


def measured(rate: float, device: torch.device) -> Found:
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return {"images_per_second": rate, "peak_memory_bytes": peak}


def forget_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


# A step without the host


def bare_step(recipe: Recipe, stamps: LabelledStamps, precision: str, *, compiled: bool) -> Step:
    device = stamps.labels.device
    network = VoteFractions(recipe, load_tree()).to(device, memory_format=torch.channels_last)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-4, fused=True, capturable=device.type == "cuda")
    draw = batches(recipe, stamps)

    def loss(pixels: Tensor, moves: Tensor, labels: Tensor) -> Tensor:
        views = views_of(recipe, pixels, moves)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16", cache_enabled=False):
            return masked_rmse(network(views), labels)

    if compiled:
        torch.compiler.reset()
        mode = "max-autotune-no-cudagraphs" if device.type == "cuda" else None
        loss = torch.compile(loss, mode=mode, dynamic=False)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        loss(*draw()).backward()
        optimiser.step()

    return step


def batches(recipe: Recipe, stamps: LabelledStamps) -> Callable[[], tuple[Tensor, Tensor, Tensor]]:
    """Return what draws stamps, moves and labels of the next galaxies: order and place are on the device."""
    device = stamps.labels.device
    order = torch.randperm(len(stamps), device=device)
    place = torch.zeros((), dtype=torch.int64, device=device)
    numbers = torch.arange(recipe.batch_size, device=device)
    index = torch.cuda.current_device() if device.type == "cuda" else 0
    generator = torch.cuda.default_generators[index] if device.type == "cuda" else torch.default_generator
    shape = recipe.batch_size, recipe.stamp_size, recipe.input_size
    none = torch.empty(recipe.batch_size, 0, device=device)

    def draw() -> tuple[Tensor, Tensor, Tensor]:
        pixels, labels = stamps.batch(order[(place + numbers) % len(order)])
        place.add_(recipe.batch_size)
        moves = random_moves(*shape, recipe.augmentation, generator) if recipe.augments else none
        return pixels, moves, labels

    return draw


def views_of(recipe: Recipe, pixels: Tensor, moves: Tensor) -> Tensor:
    size = recipe.input_size
    return moved_views(pixels, size, moves) if recipe.augments else central_views(pixels, size)


def captured(step: Step) -> Step:
    """Capture a step as a CUDA graph, after three on a side stream."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


# What is shown


def table(found: Found) -> str:
    """Return the numbers as Markdown."""
    rates, moved = found["peaks"]["operations_per_second"].items(), found["peaks"]["bytes_per_second"]
    lines = [
        f"{found['machine']['name']}, PyTorch {found['machine']['torch']}. Peak, 10¹² operations a second: "
        + ", ".join(f"{name} {rate / 1e12:.2f}" for name, rate in rates)
        + f"; GB a second, read and written: {moved / 1e9:.0f}.",
        "",
        "| recipe | batch | 10⁹ operations an image | precision | way | images/s | of peak | memory, GB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, recipe in found["recipes"].items():
        start = f"| {name} | {recipe['batch_size']} | {recipe['operations_per_image'] / 1e9:.2f} |"
        lines += [f"{start} {row['precision']} | {row['way']} | {cells(row)} |" for row in recipe["measured"]]
        alone = recipe["augmentation"]
        share = f"{alone['share_of_bandwidth']:.1%} of bandwidth"
        lines += [f"{start} fp32 | augmentation | {alone['images_per_second']:.0f} | {share} | |"]
    return "\n".join(lines)


def cells(row: Found) -> str:
    if "refused" in row:
        return f"refused: {row['refused'].replace('|', '/')} | |"
    share, memory = row.get("share_of_matrix_rate"), row["peak_memory_bytes"]
    return " | ".join(
        [
            f"{row['images_per_second']:.0f}",
            f"{share:.1%}" if share else "",
            f"{memory / 1e9:.2f}" if memory else "",
        ]
    )


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    known = [name for name in ("lab-cnn", "vgg7", "resnet50", "fork") if name in recipe_names()]
    parser.add_argument("--data", type=Path, help="a data folder; default: a mock sky")
    parser.add_argument("--galaxies", type=int, default=1000, help="of the mock sky")
    parser.add_argument("--recipe", nargs="+", default=known)
    parser.add_argument("--set", nargs="+", default=[], metavar="key=value", help="for every recipe")
    parser.add_argument("--device", default="", help="default: the best there is")
    parser.add_argument("--ways", nargs="+", choices=(*TRAININGS, *BARE), default=(*TRAININGS, *BARE))
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("--steps", type=int, default=100, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--matrix", type=int, default=0, help="of the matrices of the peak; 0: by device")
    parser.add_argument("--copied", type=int, default=0, help="bytes of the copy of the peak; 0: by device")
    parser.add_argument("--record", type=Path, help="folder for the table and its JSON")
    return parser.parse_args(given)


if __name__ == "__main__":
    main()
