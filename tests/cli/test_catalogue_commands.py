"""`hubblefork catalogue`: faults are listed with status 1; a catalogue is written in another format."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
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


def test_intervals_without_a_coverage_are_told(
    folder: CatalogueFolder, tree: DecisionTree, tmp_path: Path
) -> None:
    table = pa.parquet.read_table(folder.shards()[0])
    for name in tree.columns:
        for end in ("low", "high"):
            table = table.append_column(f"{name}_{end}", table[name])
    pa.csv.write_csv(table, tmp_path / "p.csv")
    code, said = run("convert", tmp_path / "p.csv", tmp_path / "new")
    assert code == 0 and "names neither the coverage of its intervals nor the network" in said
    code, said = run("check", tmp_path / "new")
    assert code == 0 and "note: part-00000.parquet: it names neither the coverage" in said


@pytest.mark.parametrize("name", ["one.parquet", "one.csv", "one.vot", "again"])
def test_a_catalogue_gives_one_fraction_in_every_format(
    folder: CatalogueFolder, tmp_path: Path, name: str
) -> None:
    assert run("convert", folder.path, tmp_path / name)[0] == 0
    for path in (folder.path, tmp_path / name):
        assert fraction(path, "merger >= 0.3").value == 0.5
