"""A small data folder whose galaxies can be learned in seconds: rounder blobs got more "smooth" votes."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

import hubblefork.network  # noqa: F401 - declares what torchvision lacks here, before a test imports timm
from hubblefork.data.split import Split, write_split
from hubblefork.tables.catalogue import with_fractions, write_catalogue
from hubblefork.zoo import to_joint

QUICK = [
    "crop=64",
    "stamp_size=32",
    "input_size=32",
    "batch_size=32",
    "steps_per_epoch=0",
    "epochs=3",
    "patience=50",
]


def blob(roundness: float) -> bytes:
    y, x = np.mgrid[:64, :64] - 31.5
    light = 220 * np.exp(-(x**2 + (y / (0.3 + 0.7 * roundness)) ** 2) / 200)
    file = io.BytesIO()
    Image.fromarray(np.stack([light] * 3, axis=-1).astype(np.uint8)).save(file, "JPEG", quality=95)
    return file.getvalue()


def write_data_folder(folder: Path, tree, galaxies: int = 240) -> Path:
    rng = np.random.default_rng(5)
    roundness = rng.random(galaxies)
    conditional = np.stack(
        [np.full(galaxies, 1 / len(q.answers)) for q in tree.questions for _ in q.answers], axis=1
    )
    smooth = tree.slices[0]
    conditional[:, smooth] = np.stack([roundness, 0.9 * (1 - roundness), 0.1 * (1 - roundness)], axis=1)
    labels = to_joint(tree, conditional)
    labels[::10, tree.slices[2]] = np.nan
    labels[-20:] = np.nan
    archive = folder / "images.zip"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(archive, "w") as file:
        for number, value in enumerate(roundness):
            file.writestr(f"images/{1000 + number}.jpg", blob(value))
    columns = {
        "galaxy_id": np.arange(1000, 1000 + galaxies),
        "source": [str(archive)] * galaxies,
        "member": [f"images/{1000 + number}.jpg" for number in range(galaxies)],
        "width": np.full(galaxies, 64, np.int32),
        "height": np.full(galaxies, 64, np.int32),
        **{f"centre_{band}": np.full(galaxies, 220, np.uint8) for band in ("red", "green", "blue")},
    }
    write_catalogue(with_fractions(pa.table(columns), labels, tree), folder / "catalogue.parquet")
    write_split(Split(salt="tests", test=20, validation=20), folder)
    return folder
