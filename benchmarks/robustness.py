"""Errors of networks on the same galaxies in worse and in other light.

python benchmarks/robustness.py DATA OUT --network fork [--network RUN] [--views 1] [--part test]

The images of the part's labelled galaxies are changed in their own pixels, written as JPEG of quality 92 and
predicted as any images are. OUT/robustness-PART-VIEWS.json holds the RMSE over galaxies and answers, and the
share of known fractions that the intervals of `--interval` hold.
"""

import argparse
import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

import hubblefork as hf
from hubblefork.data.folders import DataFolder
from hubblefork.errors import CatalogueError
from hubblefork.io import replacing, write_text
from hubblefork.stats.metrics import rmse
from hubblefork.studies.labels import degraded_jpeg, encoded_images
from hubblefork.tables.catalogue import fractions, galaxy_ids, labelled, rows_of

QUALITY = 92
Pixels = NDArray[np.float32]
Light = Callable[[bytes, np.random.Generator], bytes]


def redrawn(change: Callable[[Pixels, np.random.Generator], Pixels], quality: int = QUALITY) -> Light:
    """Return what decodes an image (y, x, 3) of values from 0 to 255, changes it and encodes it as JPEG."""

    def light(encoded: bytes, random: np.random.Generator) -> bytes:
        with Image.open(io.BytesIO(encoded)) as image:
            pixels, file = change(np.asarray(image.convert("RGB"), np.float32), random), io.BytesIO()
        Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8)).save(file, "JPEG", quality=quality)
        return file.getvalue()

    return light


LIGHTS: dict[str, Light] = {
    "as they are": lambda encoded, _: encoded,
    "seeing: σ = 3.5 pixels": redrawn(lambda image, _: gaussian_filter(image, (3.5, 3.5, 0))),
    "seeing: σ = 7 pixels": redrawn(lambda image, _: gaussian_filter(image, (7, 7, 0))),
    "noise: σ = 10 of 255": redrawn(lambda image, random: image + random.normal(0, 10, image.shape)),
    "noise: σ = 20 of 255": redrawn(lambda image, random: image + random.normal(0, 20, image.shape)),
    "1.5 times as bright": redrawn(lambda image, _: image * 1.5),
    "1.5 times as faint": redrawn(lambda image, _: image / 1.5),
    "gamma 0.7": redrawn(lambda image, _: 255 * (image / 255) ** 0.7),
    "redder: 1.25, 1, 0.8": redrawn(lambda image, _: image * np.array([1.25, 1, 0.8], np.float32)),
    "grey": redrawn(lambda image, _: image.mean(axis=2, keepdims=True).repeat(3, axis=2)),
    "JPEG quality 30": redrawn(lambda image, _: image, quality=30),
    "all at once": lambda encoded, _: degraded_jpeg(encoded),
}


def relit(judged: pa.Table, name: str, out: Path, part: str) -> Path:
    """Return the archive of the galaxies' images in one of `LIGHTS`; it is made once for the same images."""
    images = judged.select(["galaxy_id", "source", "member"]).to_pylist()
    digest = hashlib.sha256(json.dumps(images).encode()).hexdigest()[:8]
    archive, random = out / f"{part}-{digest}-{name}.zip".replace(":", ""), np.random.default_rng(0)
    if not archive.exists():
        with replacing(archive) as unfinished, zipfile.ZipFile(unfinished, "w") as made:
            for galaxy_id, encoded in encoded_images(judged):
                made.writestr(f"{galaxy_id}.jpg", LIGHTS[name](encoded, random))
    return archive


def rows_predicted(ids: NDArray, predicted: NDArray, what: str) -> NDArray[np.int64]:
    """Return the row of each galaxy among those predicted. Raises CatalogueError where some are missing."""
    rows = rows_of(ids, predicted)
    missing = ids[rows < 0]
    if len(missing):
        raise CatalogueError(
            f"{what}: {len(missing)} of {len(ids)} galaxies are not predicted: {', '.join(missing[:5])}"
            f"{', …' if len(missing) > 5 else ''}; `hubblefork predict` says why; leave them out of DATA"
        )
    return rows


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--network", action="append", required=True, help="as `predict` takes it")
    parser.add_argument("--views", type=int, default=1)
    parser.add_argument("--part", default="validation")
    parser.add_argument("--interval", type=float)
    asked = parser.parse_args(words)
    data = DataFolder(asked.data)
    catalogue, tree = data.catalogue(), data.tree()
    parts = data.split().assign(galaxy_ids(catalogue).astype(str).tolist())
    judged = catalogue.filter(labelled(catalogue, tree) & (parts == asked.part))
    ids, votes, errors, held = galaxy_ids(judged).astype(str), fractions(judged, tree), {}, {}
    known = ~np.isnan(votes)
    for name in LIGHTS:
        archive = relit(judged, name, asked.out, asked.part)
        errors[name], held[name] = {}, {}
        for network in asked.network:
            predicted = hf.predict(network, archive, views=asked.views, interval=asked.interval)
            rows = rows_predicted(
                ids, np.asarray(predicted["galaxy_id"]).astype(str), f"{archive}, {network}"
            )
            joint, *bounds = (
                np.stack([predicted[column + end] for column in tree.columns], axis=1)[rows]
                for end in ("", *(("_low", "_high") if asked.interval else ()))
            )
            errors[name][network] = float(rmse(joint, votes))
            if bounds:
                held[name][network] = float(np.mean(((bounds[0] <= votes) & (votes <= bounds[1]))[known]))
        print(
            f"{name:24}",
            *(f"{value:8.4f}" for of in (errors, held) for value in of[name].values()),
            flush=True,
        )
    about = {"galaxies": len(judged), "views": asked.views, "rmse": errors, "held": held}
    write_text(asked.out / f"robustness-{asked.part}-{asked.views}.json", json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
