"""Put the network of a run into the package: half precision, ONNX, intervals, completeness, card.

python benchmarks/embed.py NAME WORK RUN

WORK is a new run folder, evaluated with 1 and with 16 views; what the package holds is copied from there.
"""

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import hubblefork as hf
from hubblefork.data.folders import RunFolder
from hubblefork.data.trained import PACKAGED, network_file
from hubblefork.images.decoder import stamp
from hubblefork.io import digest_of
from hubblefork.network.export import write_network
from hubblefork.network.predictor import TorchNetwork
from hubblefork.network.weights import load_weights, read_recipe, save_weights
from hubblefork.prediction.predictor import Predictor
from hubblefork.tables.catalogue import read_catalogue

VIEWS, SIDE, PARTS = (1, 16), 424, ("validation", "test")


def spiral(side: int = SIDE) -> NDArray[np.uint8]:
    """Draw a galaxy without random numbers, (y, x, 3): a disk with a bulge and two arms, on a faint sky."""
    y, x = (np.mgrid[:side, :side] - (side - 1) / 2) / (side / 2)
    radius, angle = np.hypot(x, y / 0.8), np.arctan2(y / 0.8, x)
    arms = np.cos(2 * (angle - 3.5 * np.log(radius + 0.05))) ** 8
    light = np.exp(-radius / 0.04) + np.exp(-radius / 0.18) * (0.35 + 0.5 * arms)
    colour = np.stack([light * (1 - 0.15 * arms), light, light * (0.75 + 0.2 * arms)], axis=-1)
    return np.clip(255 * np.arcsinh(4 * colour) / np.arcsinh(5) + 8, 0, 255).astype(np.uint8)


def halved(run: Path, work: Path) -> None:
    """Write a run with its layers in half precision as the run folder `work`."""
    shutil.copytree(run, work, ignore=shutil.ignore_patterns("predictions", "*.ckpt", "*.json", "*.onnx"))
    weights = load_weights(run)
    tensors = weights.network.state_dict()
    halves = {name: tensor.half() if tensor.ndim > 1 else tensor for name, tensor in tensors.items()}
    kept = {"epoch": weights.epoch, "image_side": SIDE}
    save_weights(RunFolder(work).weights, halves, weights.recipe, weights.tree, **kept)


def drawn(work: Path) -> list[float]:
    """Return the fractions of the galaxy that the tests draw, in single precision."""
    weights = load_weights(work)
    single = replace(weights, recipe=replace(weights.recipe, precision="32"))
    shown = stamp(spiral(), weights.recipe.stamps)[None]
    fractions: list[float] = Predictor(TorchNetwork(single, device="cpu"))(shown)[0].tolist()
    return [round(fraction, 6) for fraction in fractions]


def main() -> None:
    """Halve, evaluate, copy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("work", type=Path)
    parser.add_argument("run", type=Path)
    asked = parser.parse_args()
    work, out = RunFolder(asked.work), PACKAGED / asked.name
    halved(asked.run, asked.work)
    write_network(asked.work)
    errors = {
        (part, views): hf.evaluate(asked.work, part, views=views)["rmse"]["value"]
        for views in VIEWS
        for part in PARTS
    }
    notes, recipe = work.notes(), read_recipe(asked.work)
    card = {
        "recipe": recipe.name,
        "seed": recipe.seed,
        "training_galaxies": notes["galaxies"]["train"],
        **{f"{part}_galaxies": len(read_catalogue(work.predictions(part))) for part in PARTS},
        **{f"{part}_rmse": {str(views): errors[part, views] for views in VIEWS} for part in PARTS},
        "sha256": digest_of(work.weights),
        "drawn_galaxy": drawn(asked.work),
    }
    out.mkdir(exist_ok=True)
    (out / "card.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    files = [work.weights, network_file(asked.work)]
    for path in [*files, *(of(views) for of in (work.intervals, work.confusions) for views in VIEWS)]:
        shutil.copy(path, out)
    print(json.dumps(card, indent=1))


if __name__ == "__main__":
    main()
