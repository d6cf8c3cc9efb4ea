"""A catalogue as a folder: written shard by shard, finished by a manifest, read as one table."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset
import pyarrow.parquet
import pytest
from astropy.io.votable.ucd import check_ucd

from hubblefork.errors import CatalogueError, DiskError
from hubblefork.tables.catalogue import metadata_of, read_catalogue, read_head, with_fractions, with_metadata
from hubblefork.tables.checks import check_folder
from hubblefork.tables.published import tree_of
from hubblefork.tables.shards import CatalogueFolder, described, is_catalogue_folder, shard_table
from hubblefork.zoo import DecisionTree, Number, number_column, plain_columns, reach, to_joint, tree_text


def joint_fractions(tree: DecisionTree, galaxies: int, seed: int = 0) -> np.ndarray:
    conditional = np.random.default_rng(seed).random((galaxies, len(tree.columns)))
    for answers in tree.slices:
        conditional[:, answers] /= conditional[:, answers].sum(axis=1, keepdims=True)
    return to_joint(tree, conditional).astype(np.float32)


def shard(tree: DecisionTree, ids: list, seed: int = 0, **notes: str) -> pa.Table:
    table = with_fractions(pa.table({"galaxy_id": ids}), joint_fractions(tree, len(ids), seed), tree)
    return shard_table(with_metadata(table, {"views": "1", "digest": "ab12", **notes}), tree)


@pytest.fixture
def folder(tree: DecisionTree, tmp_path: Path) -> CatalogueFolder:
    made = CatalogueFolder(tmp_path / "catalogue")
    made.write_shard("b", shard(tree, [3, 4], seed=1, marks="2", sides='{"424": 2}'))
    refused = [("bad,\n1.jpg", 'no "image"'), ("x", "y")]
    made.write_shard("a", shard(tree, [1, 2], marks="1", sides='{"424": 1, "120": 1}'), refused)
    return made


def test_other_programs_read_the_folder_as_one_table(folder: CatalogueFolder, tree: DecisionTree) -> None:
    folder.finish()
    table = pa.dataset.dataset(folder.path).to_table()
    assert table["galaxy_id"].to_pylist() == ["1", "2", "3", "4"]
    np.testing.assert_array_equal(
        np.stack([table[name] for name in tree.columns], axis=1),
        np.concatenate([joint_fractions(tree, 2, 0), joint_fractions(tree, 2, 1)]),
    )


def test_a_shard_has_conditional_fractions_and_reach(tree: DecisionTree) -> None:
    joint = joint_fractions(tree, 3)
    joint[0, tree.slices[0]] = [0, 0, 1]  # an artifact: nobody is asked more
    joint[0, 3:13] = joint[0, 15:] = 0
    table = shard_table(with_fractions(pa.table({"galaxy_id": [1, 2, 3]}), joint, tree), tree)
    asked = reach(tree, joint)
    np.testing.assert_allclose(table[f"{tree.questions[1].name}_reach"], asked[:, 1], atol=1e-6)
    conditional = table[f"{tree.columns[3]}_conditional"]
    assert conditional[0].as_py() is None
    assert conditional[1].as_py() == pytest.approx(joint[1, 3] / asked[1, 1], abs=1e-6)
    assert table.schema.field(tree.columns[3]).type == pa.float32()
    assert tree_of(table) == tree


def test_the_columns_of_a_shard_stand_in_the_order_of_the_specification(tree: DecisionTree) -> None:
    table = with_fractions(pa.table({"galaxy_id": [1]}), joint_fractions(tree, 1), tree)
    table = table.append_column("smooth_low", pa.array([0.1], pa.float32()))
    table = table.append_column("dec", pa.array([None], pa.float32())).append_column("ra", pa.array([359.5]))
    names = shard_table(table, tree).column_names
    assert names[:4] == ["galaxy_id", "ra", "dec", tree.columns[0]]
    assert names[-1] == "smooth_low"
    assert len(names) == 3 + 2 * len(tree.columns) + len(tree.questions) + 1


def test_an_answer_with_the_name_of_a_made_column_is_refused() -> None:
    tree = plain_columns(["ring", "ring_reach"])
    table = pa.table({"galaxy_id": ["a"], "ring": [0.1], "ring_reach": [0.2]})
    with pytest.raises(CatalogueError, match='an answer of plain_columns is named "ring_reach"'):
        shard_table(table, tree)


def test_a_folder_reads_as_a_catalogue(folder: CatalogueFolder, tree: DecisionTree) -> None:
    folder.finish(metadata={"scale": "small images"})
    table = read_catalogue(folder.path, only=["smooth", "SPIRAL"])
    assert table.schema.field("galaxy_id").type == pa.int64()
    assert table.column_names == ["galaxy_id", "smooth", "spiral"]
    for notes in (metadata_of(table), metadata_of(read_head(folder.path))):
        assert (notes["digest"], notes["scale"], notes["questions"]) == (
            "ab12",
            "small images",
            tree_text(tree),
        )
        assert json.loads(notes["sides"]) == {"424": 3, "120": 1}
        assert "marks" not in notes
    assert [len(piece) for piece in folder.batches(rows=1)] == [1, 1, 1, 1]


def test_the_run_is_found_again_where_catalogue_and_run_were_moved(
    tree: DecisionTree, tmp_path: Path
) -> None:
    (tmp_path / "then" / "run").mkdir(parents=True)
    made = CatalogueFolder(tmp_path / "then" / "catalogue")
    made.write_shard("a", shard(tree, [1], run=str(tmp_path / "then" / "run")))
    made.finish()
    (tmp_path / "then").rename(tmp_path / "now")
    for table in (read_catalogue(tmp_path / "now/catalogue"), read_head(tmp_path / "now/catalogue")):
        assert metadata_of(table)["run"] == str(tmp_path / "now" / "run")


def test_the_manifest_counts_and_describes(folder: CatalogueFolder, tree: DecisionTree) -> None:
    manifest = json.loads(folder.finish().read_text())
    assert (manifest["format"], manifest["share"]) == ("hubblefork catalogue 1", [1, 1])
    assert (manifest["galaxies"], manifest["rejects"], manifest["tree"]) == (4, 2, tree.name)
    assert [(entry["file"], entry["galaxies"]) for entry in manifest["shards"]] == [
        ("part-a.parquet", 2),
        ("part-b.parquet", 2),
    ]
    assert manifest["columns"]["smooth"]["type"] == "float"
    assert manifest["columns"]["galaxy_id"] == {
        **{"type": "string", "unit": "", "description": "name of the galaxy"},
        "ucd": "meta.id;meta.main",
    }


def test_each_column_of_a_shard_has_a_description_and_a_valid_ucd(tree: DecisionTree) -> None:
    table = pa.table({"galaxy_id": ["a"], "ra": [1.0], "dec": [2.0]})
    table = shard_table(with_fractions(table, joint_fractions(tree, 1), tree), tree)
    bounds = {f"smooth_{end}": pa.array([0.1], pa.float32()) for end in ("low", "high")}
    columns = described(pa.schema([*table.schema, *pa.table(bounds).schema]), tree)
    assert all(entry["description"] for entry in columns.values())
    assert [name for name, entry in columns.items() if not check_ucd(entry["ucd"], True, True)] == []


def test_a_number_has_its_unit_and_nothing_made_of_it(tmp_path: Path) -> None:
    tree = number_column("mass", Number(10.0, 0.5, "dex"))
    ends = {"mass_low": [9.0, 9.9], "mass_high": [11.0, 13.0]}
    bounds = {name: pa.array(values, pa.float32()) for name, values in ends.items()}
    table = pa.table(
        {"galaxy_id": ["a", "b"], "mass": [10.5, 12.0], **bounds, "ra": [1.0, 2.0], "dec": [1.0, 2.0]}
    )
    folder = CatalogueFolder(tmp_path / "catalogue")
    notes = {"interval_coverage": "0.9", "intervals": "conformal", "sides": '{"64": 2}'}
    folder.write_shard("a", with_metadata(shard_table(table, tree), notes))
    folder.finish()
    read = folder.read()
    assert [*read.column_names] == ["galaxy_id", "ra", "dec", "mass", "mass_low", "mass_high"]
    assert check_folder(folder.path).faults == []
    entries = described(read.schema, tree)
    assert [entries[name]["unit"] for name in ("mass", "mass_low", "ra")] == ["dex", "dex", "deg"]
    assert [check_ucd(entry["ucd"], True, True) for entry in entries.values()] == [True] * 6
    worse = table.set_column(1, "mass", pa.array([np.inf, 1.0]))
    folder.write_shard("a", with_metadata(shard_table(worse, tree), notes))
    folder.finish()
    assert any("mass is infinite" in fault for fault in check_folder(folder.path).faults)


def test_the_list_of_rejects_goes_with_its_shard(folder: CatalogueFolder, tree: DecisionTree) -> None:
    path = folder.path / "_rejects-a.csv"
    parsing = pa.csv.ParseOptions(newlines_in_values=True)
    assert pa.csv.read_csv(path, parse_options=parsing).to_pylist() == [
        {"member": "bad,\n1.jpg", "reason": 'no "image"'},
        {"member": "x", "reason": "y"},
    ]
    folder.write_shard("a", shard(tree, [1, 2]))
    assert not path.exists()


def test_what_a_killed_process_left_of_a_shard_is_cleared(
    folder: CatalogueFolder, tree: DecisionTree
) -> None:
    ours, others = folder.path / ".part-c.77.partial.parquet", folder.path / ".part-cc.77.partial.parquet"
    for path in (ours, others, folder.path / ".x.partial.txt"):
        path.write_bytes(b"")
    folder.write_shard("c", shard(tree, [5]))
    assert (ours.exists(), others.exists()) == (False, True)


def test_a_full_disk_leaves_the_former_shard(
    folder: CatalogueFolder, tree: DecisionTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(table: pa.Table, path: Path, **options: object) -> None:
        path.write_bytes(b"PAR1")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before, names = folder.read_shard(folder.shard_file("a")).notes, sorted(folder.path.iterdir())
    monkeypatch.setattr(pa.parquet, "write_table", full)
    with pytest.raises(DiskError, match=r"part-a\.parquet: could not be written"):
        folder.write_shard("a", shard(tree, [9]), [("x", "y")])
    assert folder.read_shard(folder.shard_file("a")).notes == before
    assert sorted(folder.path.iterdir()) == names


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a b"])
def test_a_name_that_could_lie_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="names no shard"):
        CatalogueFolder(tmp_path).shard_file(name)


def test_a_folder_without_a_manifest_is_not_read(folder: CatalogueFolder) -> None:
    with pytest.raises(
        CatalogueError, match="not finished: 2 shards and no manifest; run the command"
    ) as error:
        read_catalogue(folder.path)
    with pytest.raises(CatalogueError, match=str(error.value)[:60]):
        read_head(folder.path)


def test_the_shares_that_are_missing_are_named(folder: CatalogueFolder) -> None:
    folder.finish((2, 4), names=["a"])
    assert folder.manifest_file((2, 4)).name == "_manifest-2-of-4.json"
    with pytest.raises(CatalogueError, match=r"of 4 shares 3 are not finished: 1, 3, 4; .*--shard 1/4`"):
        read_head(folder.path)


def test_shares_are_read_as_one_catalogue(folder: CatalogueFolder) -> None:
    folder.finish((2, 2), names=["a"], metadata={"scale": "small"})
    folder.finish((1, 2), names=["b"], metadata={"scale": "other"})
    table = read_catalogue(folder.path, only=[])
    assert table["galaxy_id"].to_pylist() == [1, 2, 3, 4]
    assert metadata_of(table)["scale"] == "other small"
    assert json.loads(metadata_of(table)["sides"]) == {"424": 3, "120": 1}


def test_a_share_may_be_empty(folder: CatalogueFolder) -> None:
    folder.finish((1, 2))
    manifest = json.loads(folder.finish((2, 2), names=[], metadata={"scale": "small"}).read_text())
    assert (manifest["galaxies"], manifest["columns"], manifest["shards"]) == (0, {}, [])
    assert read_catalogue(folder.path, only=[])["galaxy_id"].to_pylist() == [1, 2, 3, 4]
    assert check_folder(folder.path).faults == []


def test_shards_of_other_weights_are_no_catalogue(folder: CatalogueFolder, tree: DecisionTree) -> None:
    folder.write_shard("c", shard(tree, [5], digest="cd34"))
    with pytest.raises(CatalogueError, match="its parts differ in digest: 'ab12' and 'cd34'"):
        folder.finish()


def test_shards_of_other_columns_are_no_catalogue(folder: CatalogueFolder, tree: DecisionTree) -> None:
    folder.write_shard("c", shard(tree, [5]).append_column("ra", pa.array([1.0])))
    with pytest.raises(CatalogueError, match=r"part-c\.parquet: other columns than part-a\.parquet"):
        folder.finish()


def test_a_shard_that_no_manifest_lists_is_not_read_over(folder: CatalogueFolder, tree: DecisionTree) -> None:
    folder.finish()
    folder.write_shard("c", shard(tree, [5]))
    with pytest.raises(CatalogueError, match=r"not those that its manifest lists.*catalogue check"):
        read_catalogue(folder.path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "hats"}, 'of format "hats", not "hubblefork catalogue 1"'),
        ({"share": [2, 1]}, "share: not as"),
        ({"metadata": {"views": 1}}, "metadata: not as"),
        ({"shards": ["part-a.parquet"]}, "shards: not as"),
        ({"galaxies": "4"}, "galaxies = '4' is of a wrong type"),
    ],
)
def test_a_manifest_of_another_kind_is_refused(folder: CatalogueFolder, change: dict, message: str) -> None:
    path = folder.finish()
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CatalogueError, match=message):
        read_head(folder.path)


def test_a_folder_of_images_is_no_catalogue(folder: CatalogueFolder, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "part-1.jpg").write_bytes(b"")
    assert is_catalogue_folder(folder.path)
    assert not is_catalogue_folder(tmp_path / "images")
    with pytest.raises(CatalogueError, match="images: this folder has no shards of a catalogue"):
        read_head(tmp_path / "images")
    with pytest.raises(CatalogueError, match="a catalogue has at least one shard"):
        CatalogueFolder(tmp_path / "images").finish()
