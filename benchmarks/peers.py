"""How other programs predict. `predict.py` runs this file by the Python of an environment that has them.

    python peers.py zoobot resnet18 FOLDER OUT.csv
    python peers.py keras ARCHIVE CROP SIZE

It prints galaxies, seconds and those of the processor as JSON: of the call alone, imports and the making of
the network left out. hubblefork is not needed.
Weights are random, since only time is compared.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
BATCH, SIDE = 128, 224


def zoobot(architecture: str, folder: str, out: str) -> tuple[Callable[[], object], int]:
    """Return Zoobot's `predict` on the images of a folder, as its docstring shows it, and their number."""
    import pandas
    from galaxy_datasets.shared import label_metadata as labels
    from torchvision.transforms.v2 import Compose, Resize, ToTensor
    from zoobot.pytorch.estimators.define_model import ZoobotTree
    from zoobot.pytorch.predictions import predict_on_catalog

    class Tree(ZoobotTree):
        def predict_step(
            self, batch, batch_idx, dataloader_idx=0
        ):  # galaxy-datasets 0.0.25 gives a dictionary
            return self(batch["image"])

    files = sorted(Path(folder).iterdir())
    catalog = pandas.DataFrame(
        {"id_str": [file.stem for file in files], "file_loc": [str(file) for file in files]}
    )
    model = Tree(
        output_dim=len(labels.gz2_ortho_label_cols),
        question_answer_pairs=labels.gz2_ortho_pairs,
        dependencies=labels.gz2_ortho_dependencies,
        architecture_name=architecture,
    )
    settings = {
        "inference_transform": Compose([Resize((SIDE, SIDE)), ToTensor()]),
        "datamodule_kwargs": {"batch_size": 64, "num_workers": CORES},
        "trainer_kwargs": {
            **{"accelerator": "cpu", "logger": False},
            **{"enable_progress_bar": False, "enable_model_summary": False},
        },
    }
    columns = labels.gz2_ortho_label_cols
    return lambda: predict_on_catalog.predict(catalog, model, out, columns, **settings), len(files)


def keras(archive: str, crop: str, size: str) -> tuple[Callable[[], object], int]:
    """Return Keras' `predict` of lab-cnn on an archive, loaded as in the lab, and the number of images."""
    import io
    import zipfile

    import keras
    import numpy
    from PIL import Image

    crop_side, side = int(crop), int(size)
    opened = zipfile.ZipFile(archive)
    names = opened.namelist()

    def stamp(name: str) -> numpy.ndarray:
        image = Image.open(io.BytesIO(opened.read(name)))
        left, top = (image.width - crop_side) // 2, (image.height - crop_side) // 2
        central = image.crop((left, top, left + crop_side, top + crop_side))
        return numpy.asarray(central.resize((side, side)))

    class Loading(keras.utils.PyDataset):
        def __len__(self) -> int:
            return -(-len(names) // BATCH)

        def __getitem__(self, number: int) -> numpy.ndarray:
            mine = names[number * BATCH : (number + 1) * BATCH]
            return numpy.stack([stamp(name) for name in mine])

    model = lab_cnn(side)
    model.predict(numpy.zeros((BATCH, side, side, 3), "uint8"), verbose=0)
    return lambda: model.predict(Loading(workers=CORES), verbose=0), len(names)


def lab_cnn(side: int):
    """Return the network of the lab report, not compiled for training."""
    import keras

    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((side, side, 3), dtype="uint8"),
            layers.Rescaling(1 / 255),
            layers.Conv2D(32, 3), layers.BatchNormalization(), layers.Activation("relu"),
            layers.MaxPooling2D(), layers.Dropout(0.2),
            layers.Conv2D(64, 3), layers.Activation("relu"), layers.MaxPooling2D(), layers.Dropout(0.2),
            layers.Conv2D(128, 6), layers.Activation("relu"), layers.Dropout(0.2), layers.Flatten(),
            layers.Dense(128, activation="relu"), layers.Dropout(0.2),
            layers.Dense(64, activation="relu"), layers.Dropout(0.2), layers.Dense(37, activation="sigmoid"),
        ]
    )  # fmt: skip


def processor_seconds() -> float:
    """Return the time of the processor that this process and its children that ended have had."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def main() -> None:
    peer, *words = sys.argv[1:]
    call, galaxies = {"zoobot": zoobot, "keras": keras}[peer](*words)
    began, before = time.perf_counter(), processor_seconds()
    call()
    seconds, busy = time.perf_counter() - began, processor_seconds() - before
    print(json.dumps({"seconds": seconds, "processor": busy, "galaxies": galaxies}))


if __name__ == "__main__":
    main()
