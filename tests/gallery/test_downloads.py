"""A selection becomes a file: tables as they stand in the catalogue, contact sheets for a paper."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from hubblefork.errors import CatalogueError
from hubblefork.gallery import downloads
from hubblefork.gallery.downloads import Pictured, contact_sheet, table_file
from hubblefork.tables.catalogue import read_catalogue, with_fractions, with_metadata
from hubblefork.tables.shards import CatalogueFolder, shard_table
from hubblefork.zoo import DecisionTree


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory, tree: DecisionTree) -> Path:
    folder = CatalogueFolder(tmp_path_factory.mktemp("downloads") / "catalogue")
    for name, ids in (("a", ["1", "007", "3"]), ("b", ["4", "5"])):
        table = with_fractions(pa.table({"galaxy_id": ids}), np.zeros((len(ids), len(tree.columns))), tree)
        folder.write_shard(name, shard_table(with_metadata(table, {"views": "16"}), tree))
    folder.finish()
    return folder.path


@pytest.mark.parametrize("kind", ["csv", "parquet", "vot"])
def test_a_selection_comes_back_from_every_format(catalogue: Path, tmp_path: Path, kind: str) -> None:
    whole = read_catalogue(catalogue)
    parts = list(table_file(iter([whole.slice(0, 0), whole.take([1]), whole.take([4])]), kind))
    (tmp_path / f"a.{kind}").write_bytes(b"".join(parts))
    back = read_catalogue(tmp_path / f"a.{kind}")
    assert back.cast(whole.schema).equals(whole.take([1, 4]))
    if kind != "vot":
        assert sum(map(bool, parts)) >= 3


def test_what_cannot_be_a_file_is_refused_before_its_first_bytes(
    catalogue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CatalogueError, match="csv, parquet, vot"):
        table_file(iter([]), "xlsx")
    monkeypatch.setattr(downloads, "MOST_OF_VOTABLE", 1)
    with pytest.raises(CatalogueError, match="at most 1 galaxies"):
        table_file(iter([read_catalogue(catalogue).take([0, 2])]), "vot")
    with pytest.raises(CatalogueError, match="not 0"):
        contact_sheet([])


def test_a_contact_sheet_has_pages_of_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "ROWS", 1)
    image = np.full((20, 20, 3), 128, np.uint8)
    sheet = contact_sheet([Pictured(str(n), image, "merger 0.83") for n in range(7)])
    assert sheet.startswith(b"%PDF-")
    assert sheet.count(b"/Type /Page ") == 2 and b"/Subtype /Image" in sheet
