"""Training lab-cnn: hubblefork beside Keras on TensorFlow, the lab report's own tool.

Same architecture, batch, optimiser, loss and galaxies; the two in turn, each in a fresh process, so
that a machine whose speed drifts treats both alike. Keras reads the same stamps, as uint8 from memory,
through `tf.data` and converts them in the network's first layer. Reported: galaxies per second of the
steps after the first 20, the ratio, and the share of a step that data loading and augmentation take here.

    python benchmarks/train_lab_cnn.py [--keras-python KERAS/bin/python] [--data DATA] [--record FOLDER]

KERAS is a virtual environment with `pip install tensorflow-cpu==2.21.0 keras==3.15.0`; without it
hubblefork alone is measured. Without `--data` the stamps are random numbers, which train as fast.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

GALAXIES, BATCH, WARM_UP = 4096, 128, 20


def main(words: Sequence[str] | None = None) -> None:
    arguments = _arguments(words)
    if arguments.side:
        print(json.dumps({"hubblefork": ours, "keras": keras}[arguments.side](arguments)))
        return
    from measure import keep

    with tempfile.TemporaryDirectory() as folder:
        stamps = Path(folder) / "stamps.npz"
        np.savez(stamps, **_galaxies(arguments.data))
        rounds = [_round(stamps, arguments) for _ in range(arguments.rounds)]
    keep("train lab-cnn", rounds, arguments.record)


def ours(arguments: argparse.Namespace) -> dict[str, float]:
    """Train with hubblefork's own pieces: the loop that Lightning runs, without its epoch ends."""
    from hubblefork.network import training  # isort: skip - before Lightning: see network/__init__.py
    import lightning
    import torch

    from hubblefork.network.augment import central_views, moved_views, random_moves
    from hubblefork.network.batches import LabelledStamps, ShuffledBatches
    from hubblefork.network.device import best_precision, keep_freed_memory
    from hubblefork.network.recipe import load_recipe
    from hubblefork.zoo import load_tree

    keep_freed_memory()
    given = np.load(arguments.stamps)
    recipe = load_recipe(arguments.recipe)
    pixels, labels = torch.from_numpy(given["stamps"]), torch.from_numpy(given["labels"])
    galaxies = LabelledStamps(pixels, torch.arange(len(pixels)), labels)

    def draw(count: int, generator: torch.Generator) -> torch.Tensor:
        return random_moves(count, recipe.stamp_size, recipe.input_size, recipe.augmentation, generator)

    def view(stamps: torch.Tensor, moves: torch.Tensor) -> torch.Tensor:
        if recipe.augments:
            return moved_views(stamps, recipe.input_size, moves)
        return central_views(stamps, recipe.input_size)

    batches = ShuffledBatches(galaxies, view, BATCH, arguments.steps + WARM_UP, 0, 0, draw)
    clock = _clock(lightning)
    trainer = lightning.Trainer(
        accelerator="cpu", precision=best_precision(torch.device("cpu")), max_epochs=1, callbacks=[clock],
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        limit_val_batches=0,
    )  # fmt: skip
    module = training.VoteFractionsModule(recipe, load_tree(), steps=arguments.steps + WARM_UP)
    trainer.fit(module, train_dataloaders=batches)
    loading = _seconds_a_batch(batches, arguments.steps)
    step = (clock.times[-1] - clock.times[WARM_UP]) / (len(clock.times) - 1 - WARM_UP)
    return {"rate": BATCH / step, "data_share": loading / step}


def keras(arguments: argparse.Namespace) -> dict[str, float]:
    """Train the same network in Keras; runs in the peer's environment, without hubblefork."""
    import keras
    import tensorflow as tf

    from peers import lab_cnn

    given = np.load(arguments.stamps)
    model = lab_cnn(64)
    model.compile(keras.optimizers.Adam(1e-3), loss="mse")
    assert model.count_params() == 1_652_453
    data = tf.data.Dataset.from_tensor_slices(
        (
            given["stamps"][:, 16:80, 16:80] if given["stamps"].shape[1] > 64 else given["stamps"],
            given["labels"],
        )
    )
    data = data.shuffle(GALAXIES).repeat().batch(BATCH).prefetch(tf.data.AUTOTUNE)
    times: list[float] = []
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: times.append(time.perf_counter())
    )
    model.fit(data, steps_per_epoch=arguments.steps + WARM_UP, epochs=1, verbose=0, callbacks=[note])
    step = (times[-1] - times[WARM_UP]) / (len(times) - 1 - WARM_UP)
    return {"rate": BATCH / step}


def _clock(lightning):
    class Clock(lightning.Callback):
        times: list[float] = []  # noqa: RUF012 - one clock a process

        def on_train_batch_end(self, *_):
            self.times.append(time.perf_counter())

    return Clock()


def _seconds_a_batch(batches, steps: int) -> float:
    started = time.perf_counter()
    for number, _ in enumerate(batches):
        if number == steps:
            break
    return (time.perf_counter() - started) / steps


def _galaxies(data: Path | None) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.random((GALAXIES, 37), dtype=np.float32)
    if data is None:
        return {"stamps": rng.integers(0, 255, (GALAXIES, 64, 64, 3), dtype=np.uint8), "labels": labels}
    from hubblefork.data.stamps import prepare
    from hubblefork.images.decoder import StampSpec

    return {"stamps": np.array(prepare(data, StampSpec(212, 64))[:GALAXIES]), "labels": labels}


def _round(stamps: Path, arguments: argparse.Namespace) -> dict[tuple[str, str], float]:
    from measure import run

    pythons = {"hubblefork": sys.executable, "keras": arguments.keras_python}
    words = ["--stamps", stamps, "--steps", arguments.steps, "--recipe", arguments.recipe]
    done = {
        side: run([python, __file__, "--side", side, *words], environment={"TF_CPP_MIN_LOG_LEVEL": "3"}).found
        for side, python in pythons.items()
        if python
    }
    found = {(f"{side} {arguments.recipe}", "galaxies/s"): one["rate"] for side, one in done.items()}
    found["loading and augmentation", "share of a step"] = done["hubblefork"]["data_share"]
    if "keras" in done:
        found["hubblefork / Keras", "times"] = done["hubblefork"]["rate"] / done["keras"]["rate"]
    return found


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keras-python", help="python of an environment with Keras")
    parser.add_argument("--data", type=Path, help="a data folder; random stamps without it")
    parser.add_argument("--recipe", default="lab-cnn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--record", type=Path, help="folder for the table and its JSON")
    parser.add_argument("--side", choices=["hubblefork", "keras"], help=argparse.SUPPRESS)
    parser.add_argument("--stamps", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
