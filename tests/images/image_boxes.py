"""Small boxes of images and labels for the tests of this room."""

import io
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from hubblefork.zoo import DecisionTree, to_joint

FORMS = ("zip", "tar", "tar.gz", "tgz", "folder")


def picture(seed: int, form: str = "JPEG", mode: str = "RGB", size: tuple[int, int] = (24, 20)) -> bytes:
    """An image of smooth colours, another for every seed."""
    corners = np.random.default_rng(seed).integers(0, 256, (3, 3, 3), dtype=np.uint8)
    image = Image.fromarray(corners).resize(size, Image.Resampling.BILINEAR).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, form)
    return buffer.getvalue()


def pictures(ids: Sequence, folder: str = "images_training_rev1") -> dict[str, bytes]:
    return {f"{folder}/{galaxy_id}.jpg": picture(number) for number, galaxy_id in enumerate(ids)}


def box(path: Path, members: Mapping[str, bytes]) -> Path:
    """Write members as the archive that the path's suffix names, or as a folder."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members.items():
                archive.writestr(name, data)
    elif ".t" in path.name:
        with tarfile.open(path, "w" if path.suffix == ".tar" else "w:gz") as archive:
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    else:
        for name, data in members.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
    return path


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """The bytes with a few of them changed, taken out or put in, or the end cut off."""
    changed = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        place, way = int(rng.integers(len(changed) + 1)), rng.integers(6)
        if way < 3:
            changed[place : place + 1] = bytes([rng.integers(256)])
        elif way == 3:
            del changed[place : place + int(rng.integers(1, 40))]
        elif way == 4:
            changed[place:place] = rng.bytes(int(rng.integers(1, 20)))
        elif rng.random() < 0.3:
            del changed[place:]
    return bytes(changed)


def box_of(form: str, folder: Path, members: Mapping[str, bytes], name: str = "images_training_rev1") -> Path:
    return box(folder / (name if form == "folder" else f"{name}.{form}"), members)


def volunteers(tree: DecisionTree, galaxies: int, seed: int = 0) -> np.ndarray:
    """Joint fractions that obey the tree, shape (galaxy, answer)."""
    rng = np.random.default_rng(seed)
    parts = [rng.dirichlet(np.ones(s.stop - s.start), galaxies) for s in tree.slices]
    return to_joint(tree, np.concatenate(parts, axis=1))


def label_lines(tree: DecisionTree, ids: Sequence, joint: np.ndarray | None = None) -> list[str]:
    """The lines of a label table in Kaggle's form; NaN is an empty cell."""
    joint = volunteers(tree, len(ids)) if joint is None else joint
    rows = [
        [str(i), *("" if np.isnan(v) else repr(float(v)) for v in row)]
        for i, row in zip(ids, joint, strict=True)
    ]
    return [",".join(row) for row in [["GalaxyID", *tree.source_columns], *rows]]


def label_table(path: Path, lines: Sequence[str]) -> Path:
    text = "\n".join(lines) + "\n"
    if path.suffix == ".zip":
        return box(path, {path.with_suffix(".csv").name: text.encode()})
    path.write_text(text)
    return path
