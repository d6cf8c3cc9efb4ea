"""The mock sky that a study makes itself when it is to be quick and no data are given."""

from __future__ import annotations

from pathlib import Path

from hubblefork.data.ingest import ingest
from hubblefork.data.split import Split, write_split
from hubblefork.errors import CatalogueError
from hubblefork.io import Progress, silent
from hubblefork.mock import write_mock_sky
from hubblefork.zoo import load_tree


def mock_data(
    out: Path, *, quick: bool, galaxies: int, test_galaxies: int, split: Split, progress: Progress = silent
) -> Path:
    """Return the data folder OUT/data of the mock sky OUT/sky, each made when it is not there.

    Raises CatalogueError unless the study is `quick`: then it needs data, and the message says so.
    """
    if not quick:
        raise CatalogueError(
            "the study needs a data folder: --data data/, as `hubblefork ingest` writes it, or --quick for "
            "a mock sky"
        )
    sky, data = out / "sky", out / "data"
    if not (sky / "truth.parquet").exists():
        write_mock_sky(sky, galaxies=galaxies, test_galaxies=test_galaxies, seed=0, progress=progress)
    if not (data / "split.toml").exists():
        ingest([sky], data, tree=load_tree(), progress=progress)
        write_split(split, data)
    return data
