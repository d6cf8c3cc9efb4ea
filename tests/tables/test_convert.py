"""A catalogue goes through every format and comes back; programs of others read what is written."""

import io
import subprocess
import sys
from pathlib import Path
from shutil import which

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet
import pytest
from astropy.io import fits, votable
from astropy.table import Table

from hubblefork.errors import CatalogueError, ExtraMissing
from hubblefork.tables.catalogue import metadata_of, read_catalogue, with_fractions, with_metadata
from hubblefork.tables.checks import check_folder
from hubblefork.tables.published import convert, tree_of
from hubblefork.tables.shards import CatalogueFolder, shard_table
from hubblefork.zoo import DecisionTree, plain_columns, to_joint

POSITIONS = {"ra": [10.25, 359.5, 200.0, 0.0, 180.0], "dec": [-90.0, 89.5, 0.0, 1e-3, 45.0]}
IDS = ["1", "587722981742084096", "3", "4", "5"]


def made(tree: DecisionTree, path: Path, ids: list[str] = IDS, **columns: list) -> CatalogueFolder:
    values = np.random.default_rng(3).random((len(ids), len(tree.columns)))
    for answers in tree.slices:
        values[:, answers] /= values[:, answers].sum(axis=1, keepdims=True)
    values[0, tree.slices[0]] = np.arange(len(tree.questions[0].answers)) == 0
    joint = to_joint(tree, values).astype(np.float32)
    table = with_fractions(pa.table({"galaxy_id": ids, **columns}), joint, tree)
    table = table.append_column(f"{tree.columns[0]}_low", pa.array(joint[:, 0] / 2))
    table = table.append_column(f"{tree.columns[0]}_high", pa.array(joint[:, 0]))
    notes = {"views": "16", "sources": "a b\tc", "interval_coverage": "0.9", "intervals": "conformal"}
    whole, folder = shard_table(with_metadata(table, notes), tree), CatalogueFolder(path)
    folder.write_shard("a", whole.slice(0, 2))
    folder.write_shard("b", whole.slice(2))
    folder.finish()
    return folder


@pytest.fixture
def folder(tree: DecisionTree, tmp_path: Path) -> CatalogueFolder:
    return made(tree, tmp_path / "catalogue", **POSITIONS)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".fits", ".vot"])
def test_a_folder_comes_back_from_every_format(
    folder: CatalogueFolder, tree: DecisionTree, tmp_path: Path, suffix: str
) -> None:
    there, back = tmp_path / f"there{suffix}", tmp_path / "back"
    convert(folder.path, there)
    assert read_catalogue(there).schema.field("galaxy_id").type == pa.int64()
    convert(there, back)
    before, after = read_catalogue(folder.path), read_catalogue(back)
    assert after.cast(before.schema).equals(before)
    assert check_folder(back).faults == ([] if suffix != ".csv" else check_folder(back).faults)
    if suffix != ".csv":
        assert metadata_of(after) == metadata_of(before)
    assert tree_of(after) == tree


def test_ids_that_are_text_stay_text(tree: DecisionTree, tmp_path: Path) -> None:
    convert(made(tree, tmp_path / "catalogue", ["1", "007", "3"]).path, tmp_path / "a.fits")
    assert Table.read(tmp_path / "a.fits")["galaxy_id"].tolist() == ["1", "007", "3"]


@pytest.mark.parametrize("name", ["a.parquet", "a.vot", "a"])
def test_the_run_is_found_from_the_new_place(
    folder: CatalogueFolder, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where another run lies as seen from the working directory."""
    for path in (tmp_path / "run", tmp_path / "other" / "run", tmp_path / "other" / "x" / "y"):
        path.mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "other" / "x" / "y")
    first, then = (tmp_path / place for place in ("one/first", f"far/away/{name}"))
    noted = with_metadata(pa.parquet.read_table(folder.shard_file("a")), {"run": str(tmp_path / "run")})
    CatalogueFolder(first).write_shard("a", noted)
    CatalogueFolder(first).finish()
    convert(first, then)
    for path in (first, then):
        assert metadata_of(read_catalogue(path))["run"] == str(tmp_path / "run")


def test_a_catalogue_without_galaxies_is_written(folder: CatalogueFolder, tmp_path: Path) -> None:
    empty = pa.parquet.read_table(folder.shard_file("a")).slice(0, 0)
    CatalogueFolder(tmp_path / "empty").write_shard("a", empty)
    CatalogueFolder(tmp_path / "empty").finish()
    convert(tmp_path / "empty", tmp_path / "a.parquet")
    assert pa.parquet.read_schema(tmp_path / "a.parquet").names == empty.column_names


@pytest.mark.parametrize("own", [False, True])
def test_a_votable_is_valid_with_units_and_ucds(tree: DecisionTree, tmp_path: Path, own: bool) -> None:
    tree = plain_columns(["ring", "bar"]) if own else tree
    convert(made(tree, tmp_path / "catalogue", **POSITIONS).path, tmp_path / "a.vot")
    said = io.StringIO()
    assert votable.validate(tmp_path / "a.vot", output=said), said.getvalue()
    columns = {column.name: column for column in votable.parse(tmp_path / "a.vot").get_first_table().fields}
    assert (columns["ra"].unit, columns["ra"].ucd) == ("deg", "pos.eq.ra;meta.main")
    assert columns[tree.columns[0]].ucd == "stat.probability"
    assert columns[f"{tree.columns[0]}_high"].ucd == "stat.probability;stat.max"
    assert all(column.description for column in columns.values())
    assert tree_of(read_catalogue(tmp_path / "a.vot")) == tree


@pytest.mark.skipif(which("stilts") is None, reason="STILTS is not installed")
def test_stilts_finds_no_fault_in_a_votable(folder: CatalogueFolder, tmp_path: Path) -> None:
    path = tmp_path / "a.vot"
    convert(folder.path, path)
    assert _votlint(path) == ""
    path.write_text(path.read_text(encoding="utf-8").replace('datatype="float"', 'datatype="real"', 1))
    assert "Unknown datatype 'real'" in _votlint(path)


def _votlint(path: Path) -> str:
    command = ["stilts", "votlint", f"votable={path}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def test_a_fits_table_has_units_and_ucds(folder: CatalogueFolder, tmp_path: Path) -> None:
    convert(folder.path, tmp_path / "a.fits")
    header = fits.getheader(tmp_path / "a.fits", 1)
    number = next(k for k in range(1, header["TFIELDS"] + 1) if header[f"TTYPE{k}"] == "dec")
    assert (header[f"TUNIT{number}"], header[f"TUCD{number}"]) == ("deg", "pos.eq.dec;meta.main")
    assert header[f"TCOMM{number}"] == "declination (ICRS)"
    with fits.open(tmp_path / "a.fits") as file:
        file.verify("exception")


def test_a_table_of_kaggles_columns_becomes_a_folder(tree: DecisionTree, tmp_path: Path) -> None:
    values = to_joint(tree, np.full((3, len(tree.columns)), 0.5))
    columns = dict(zip(tree.source_columns, np.clip(values, 0, 1).T, strict=True))
    pa.csv.write_csv(pa.table({"GalaxyID": [7, 8, 9], **columns, "z": [0.1, None, 0.3]}), tmp_path / "a.csv")
    convert(tmp_path / "a.csv", tmp_path / "b")
    table = pa.parquet.read_table(CatalogueFolder(tmp_path / "b").shards()[0])
    assert table["galaxy_id"].to_pylist() == ["7", "8", "9"]
    assert table.column_names[-1] == "z" and "Class1.1" not in table.column_names
    assert check_folder(tmp_path / "b").faults == []


def test_intervals_of_a_csv_have_the_types_of_a_shard(tree: DecisionTree, tmp_path: Path) -> None:
    columns = dict(zip(tree.columns, to_joint(tree, np.full((2, 37), 0.5)).clip(0, 1).T, strict=True))
    ends = {
        f"{name}_{end}": [0, value] for name in tree.columns for end, value in (("low", 0), ("high", 0.9))
    }
    pa.csv.write_csv(pa.table({"galaxy_id": [7, 8], **columns, **ends}), tmp_path / "a.csv")
    unsaid = "it names neither the coverage of its intervals nor the network that made them"
    assert convert(tmp_path / "a.csv", tmp_path / "b") == (f"{tmp_path / 'a.csv'}: {unsaid}",)
    table = pa.parquet.read_table(CatalogueFolder(tmp_path / "b").shards()[0])
    assert {table.schema.field(name).type for name in ends} == {pa.float32()}
    checked = check_folder(tmp_path / "b")
    assert not checked.faults and f"part-00000.parquet: {unsaid}" in checked.notes


def test_a_catalogue_that_names_its_coverage_is_converted_without_a_word(folder, tmp_path: Path) -> None:
    assert convert(folder.path, tmp_path / "a.parquet") == ()
    assert len(convert(folder.path, tmp_path / "a.csv")) == 0


def test_a_table_without_fractions_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    pa.csv.write_csv(pa.table({"galaxy_id": [7], "z": [0.1]}), tmp_path / "a.csv")
    with pytest.raises(CatalogueError, match="37 of the 37 columns of galaxy_zoo_2 are missing"):
        convert(tmp_path / "a.csv", tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_what_is_there_is_not_replaced(folder: CatalogueFolder, tmp_path: Path) -> None:
    (tmp_path / "a.csv").touch()
    for target in (tmp_path / "a.csv", folder.path):
        with pytest.raises(CatalogueError, match="is there already: choose another name"):
            convert(folder.path, target)
    with pytest.raises(CatalogueError, match=r'ends in \.parquet, .*\.hats or nothing, not in "\.xls"'):
        convert(folder.path, tmp_path / "a.xls")


def test_hats_needs_positions(tree: DecisionTree, tmp_path: Path) -> None:
    without = made(tree, tmp_path / "without")
    with pytest.raises(CatalogueError, match="the catalogue has no ra"):
        convert(without.path, tmp_path / "a.hats")
    some = made(tree, tmp_path / "some", ["1", "2"], ra=[1.0, None], dec=[2.0, None])
    with pytest.raises(CatalogueError, match="1 galaxies have none"):
        convert(some.path, tmp_path / "a.hats")


def test_hats_without_its_package_says_what_to_install(
    folder: CatalogueFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "hats_import.catalog", None)
    monkeypatch.setitem(sys.modules, "dask.distributed", None)
    with pytest.raises(ExtraMissing, match=r"pip install 'hubblefork\[hats\]'"):
        convert(folder.path, tmp_path / "a.hats")


@pytest.mark.slow
@pytest.mark.parametrize("single", [False, True])
def test_hats_is_cross_matched_by_lsdb(folder: CatalogueFolder, tmp_path: Path, single: bool) -> None:
    pytest.importorskip("hats_import", reason="hats-import is not installed: pip install 'hubblefork[hats]'")
    lsdb = pytest.importorskip("lsdb", reason="lsdb is not installed: pip install lsdb")
    pandas = pytest.importorskip("pandas")
    from hats.io.validation import is_valid_catalog

    source = tmp_path / "a.parquet" if single else folder.path
    if single:
        convert(folder.path, source)
    convert(source, tmp_path / "a.hats")
    assert is_valid_catalog(tmp_path / "a.hats", strict=True)
    near = pandas.DataFrame({"name": ["x"], "ra": [359.5001], "dec": [89.5]})
    matched = lsdb.open_catalog(tmp_path / "a.hats").crossmatch(lsdb.from_dataframe(near), radius_arcsec=2)
    (row,) = matched.compute().to_dict("records")
    assert str(next(value for name, value in row.items() if name.startswith("galaxy_id"))) == IDS[1]
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []
