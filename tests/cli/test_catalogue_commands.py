"""`hubblefork catalogue`: faults are listed with status 1; a catalogue is written in another format."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from hubblefork import cli
from hubblefork.api.fractions import fraction
from hubblefork.tables.catalogue import with_fractions
from hubblefork.tables.shards import CatalogueFolder, shard_table
from hubblefork.zoo import DecisionTree


@pytest.fixture
def folder(tree: DecisionTree, tmp_path: Path) -> CatalogueFolder:
    values = np.zeros((4, len(tree.columns)), np.float32)
    values[:, tree.column("smooth")] = 1
    values[:, tree.column("merger")] = [0, 0.2, 0.4, 0.6]
    whole = CatalogueFolder(tmp_path / "catalogue")
    for number, ids in enumerate((["1", "2"], ["3", "4"])):
        table = with_fractions(pa.table({"galaxy_id": ids}), values[2 * number : 2 * number + 2], tree)
        whole.write_shard(str(number), shard_table(table, tree))
    whole.finish()
    return whole


def run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(cli.app, ["-q", "catalogue", *map(str, arguments)])
    return done.exit_code, " ".join(done.output.split())


def test_a_whole_catalogue_is_counted(folder: CatalogueFolder) -> None:
    code, said = run("check", folder.path)
    assert code == 0
    assert said.endswith("galaxies 4, shards 2, rejects 0, faults 0")
    assert "note: part-0.parquet:" in said


def test_all_faults_are_listed_with_status_1(folder: CatalogueFolder) -> None:
    folder.shard_file("0").unlink()
    (folder.path / "x.txt").touch()
    code, said = run("check", folder.path)
    assert code == 1
    assert "part-0.parquet is listed and not there" in said and "x.txt: no shard" in said
    assert said.endswith("galaxies 2, shards 1, rejects 0, faults 2")


@pytest.mark.parametrize("name", ["one.parquet", "one.csv", "one.vot", "again"])
def test_a_catalogue_gives_one_fraction_in_every_format(
    folder: CatalogueFolder, tmp_path: Path, name: str
) -> None:
    assert run("convert", folder.path, tmp_path / name)[0] == 0
    for path in (folder.path, tmp_path / name):
        assert fraction(path, "merger >= 0.3").value == 0.5
