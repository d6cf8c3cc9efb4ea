"""The real labels of the Kaggle challenge, read once."""

import io
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pytest


def _labels(archive: Path) -> pa.Table:
    with zipfile.ZipFile(archive) as opened:
        table = pa.csv.read_csv(io.BytesIO(opened.read(opened.namelist()[0])))
    return table.rename_columns(["galaxy_id" if name == "GalaxyID" else name for name in table.column_names])


@pytest.fixture(scope="session")
def real_labels(kaggle: Path) -> pa.Table:
    return _labels(kaggle / "training_solutions_rev1.zip")


@pytest.fixture(scope="session")
def partial_labels(kaggle: Path) -> pa.Table:
    return _labels(kaggle / "solutions_partial.zip")
