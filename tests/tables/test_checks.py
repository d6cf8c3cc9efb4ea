"""Every fault of a catalogue in a folder is found and said, each by itself and all of several at once."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from hubblefork.tables.catalogue import with_fractions, with_metadata
from hubblefork.tables.checks import PREDICTED, Checked, check_folder
from hubblefork.tables.shards import CatalogueFolder, shard_table
from hubblefork.zoo import DecisionTree, to_joint

NOTES = {**dict.fromkeys(PREDICTED, "x"), "interval_coverage": "0.9", "intervals": "conformal"}
RA, DEC = [10.0, None, 359.0], [-90.0, None, 5.0]
Change = Callable[[pa.Table], pa.Table]


def made(tree: DecisionTree, ids: list[str], **notes: str) -> pa.Table:
    values = np.random.default_rng(len(ids)).random((len(ids), len(tree.columns)))
    for answers in tree.slices:
        values[:, answers] /= values[:, answers].sum(axis=1, keepdims=True)
    values[0, tree.slices[0]] = [0, 0, 1]
    table = pa.table({"galaxy_id": ids, "ra": RA[: len(ids)], "dec": DEC[: len(ids)]})
    table = with_fractions(table, to_joint(tree, values).astype(np.float32), tree)
    for name in ("smooth_low", "smooth_high"):
        table = table.append_column(name, pa.array([0.1] * len(ids), pa.float32()))
    return shard_table(with_metadata(table, NOTES | {"sides": json.dumps({"424": len(ids)})} | notes), tree)


@pytest.fixture
def folder(tree: DecisionTree, tmp_path: Path) -> CatalogueFolder:
    whole = CatalogueFolder(tmp_path / "catalogue")
    whole.write_shard("a", made(tree, ["1", "2", "3"]), [("x.jpg", "broken")])
    whole.write_shard("b", made(tree, ["4", "5"]))
    whole.finish()
    return whole


def changed(folder: CatalogueFolder, change: Change, name: str = "b") -> list[str]:
    """Return the faults of a folder of which one shard was changed before it was finished."""
    path = folder.shard_file(name)
    pa.parquet.write_table(change(pa.parquet.read_table(path)), path)
    folder.finish()
    return check_folder(folder.path).faults


def with_values(name: str, values: list, kind: pa.DataType | None = None) -> Change:
    def change(table: pa.Table) -> pa.Table:
        place = table.column_names.index(name)
        column = pa.array(values, kind or table.schema.field(name).type)
        return table.set_column(place, name, column)

    return change


def without_note(key: str) -> Change:
    return lambda table: table.replace_schema_metadata(
        {name: text for name, text in table.schema.metadata.items() if name != key.encode()}
    )


def test_a_catalogue_as_specified_has_no_faults(folder: CatalogueFolder) -> None:
    (folder.path / ".DS_Store").touch()
    checked = check_folder(folder.path)
    assert (checked.faults, checked.notes) == ([], [])
    assert str(checked) == f"{folder.path}: galaxies 5, shards 2, rejects 1, faults 0"


def test_shares_are_one_catalogue(folder: CatalogueFolder) -> None:
    folder.manifest_file().unlink()
    folder.finish((1, 2), names=["a"])
    assert check_folder(folder.path).faults == [
        "of 2 shares 1 are not finished: 2",
        "part-b.parquet: no manifest lists this shard",
    ]
    folder.finish((2, 2), names=["b"])
    assert check_folder(folder.path).faults == []


@pytest.mark.parametrize(
    ("name", "values", "fault"),
    [
        ("smooth", [1.5, 0.5], "smooth is outside 0 to 1: 1 of the galaxies, first galaxy_id 4"),
        ("smooth", [np.nan, 0.5], "smooth is NaN, and not null: 1 of the galaxies, first galaxy_id 4"),
        ("ra", [10.0, 400.0], "ra is outside 0 to 360: 1 of the galaxies, first galaxy_id 5"),
        ("ra", [None, None], "ra without dec, or dec without ra: 1 of the galaxies, first galaxy_id 4"),
        ("smooth_low", [0.1, 0.2], "smooth_low is above smooth_high: 1 of the galaxies, first galaxy_id 5"),
        ("edge_on_reach", [0.5, 0.5], "edge_on_reach is not what the fractions give: 2 of the galaxies"),
        ("barred_conditional", [0.5, 7], "barred_conditional is not what the fractions give: 2 of"),
        ("barred_conditional", [0.5, None], "barred_conditional is not what the fractions give: 2 of"),
        ("galaxy_id", ["4", ""], "no galaxy_id: 1 of the galaxies"),
        ("galaxy_id", ["4", "3"], "galaxy_id 3 stands 2 times: part-a.parquet, part-b.parquet"),
        ("galaxy_id", ["4", "4"], "galaxy_id 4 stands 2 times: part-b.parquet"),
    ],
)
def test_values_that_break_the_specification(
    folder: CatalogueFolder, name: str, values: list, fault: str
) -> None:
    faults = changed(folder, with_values(name, values))
    assert any(fault in line for line in faults), faults


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (with_values("smooth", [0.5, 0.5], pa.float64()), "smooth is double, not float"),
        (
            lambda table: table.drop_columns(["spiral_conditional"]),
            "the column spiral_conditional is missing",
        ),
        (lambda table: table.drop_columns(["ra"]), "the column ra is missing"),
        (lambda table: table.drop_columns(["smooth_high"]), "the column smooth_high is missing"),
        (lambda table: table.select(table.column_names[::-1]), "its columns stand in another order"),
        (lambda table: table.append_column("ra", table["ra"]), "the column ra stands twice"),
        (without_note("stamps"), "metadata: stamps is missing"),
        (without_note("intervals"), "metadata: intervals is missing"),
        (without_note("tree"), "metadata: tree is missing"),
        (lambda table: with_metadata(table, {"questions": "?"}), "metadata: questions are no decision tree"),
        (
            lambda table: with_metadata(table, {"sides": '{"424": 1}'}),
            "sides are of 1 images, and there are 2",
        ),
        (lambda table: with_metadata(table, {"sides": "many"}), "sides are no JSON of numbers"),
    ],
)
def test_columns_and_metadata_that_break_it(folder: CatalogueFolder, change: Change, fault: str) -> None:
    """In all shards alike, since the manifest of different ones cannot be written."""
    for path in folder.shards():
        table = pa.parquet.read_table(path)
        pa.parquet.write_table(change(table.slice(0, 2)) if path.name == "part-b.parquet" else table, path)
    faults = check_folder(folder.path).faults
    assert any(line.startswith("part-b.parquet") and fault in line for line in faults), faults


@pytest.mark.parametrize("left", [*PREDICTED, "interval_coverage", "intervals"])
def test_intervals_of_which_something_is_named_need_all_of_it(folder: CatalogueFolder, left: str) -> None:
    """Where nothing is named, as in a CSV, that is a note; where something is, the rest was lost."""
    for path in folder.shards():
        table = pa.parquet.read_table(path)
        for key in {*PREDICTED, "interval_coverage", "intervals"} - {left}:
            table = without_note(key)(table)
        pa.parquet.write_table(table, path)
    folder.finish()
    checked = check_folder(folder.path)
    missing = {"interval_coverage", "intervals"} - {left}
    assert {f"part-b.parquet: metadata: {key} is missing" for key in missing} <= {*checked.faults}
    assert checked.notes == []


def test_sums_that_the_tree_forbids_are_a_note(folder: CatalogueFolder, tree: DecisionTree) -> None:
    table = pa.table({"galaxy_id": ["8"]})
    table = with_fractions(table, np.full((1, len(tree.columns)), 0.25, np.float32), tree)
    other = CatalogueFolder(folder.path.parent / "other")
    other.write_shard("a", shard_table(table, tree))
    other.finish()
    checked = check_folder(other.path)
    assert checked.faults == []
    assert [note[:32] for note in checked.notes] == ["part-a.parquet: 10 questions abo"]


def damage(folder: CatalogueFolder, *what: str) -> Checked:
    shard, manifest = folder.shard_file("b"), json.loads(folder.manifest_file().read_text())
    manifest |= {"galaxies": 7, "rejects": 4, "tree": "other"}
    manifest["metadata"]["views"] = "16"
    damages = {
        "removed": folder.shard_file("a").unlink,
        "renamed": lambda: shard.rename(folder.shard_file("c")),
        "changed": lambda: pa.parquet.write_table(pa.parquet.read_table(shard).slice(1), shard),
        "truncated": lambda: shard.write_bytes(b"PAR1"),
        "foreign": (folder.path / "notes.txt").touch,
        "left": (folder.path / ".part-z.12.partial.parquet").touch,
        "counts": lambda: folder.manifest_file().write_text(json.dumps(manifest)),
        "manifest": lambda: folder.manifest_file().write_text("{"),
    }
    for name in what:
        damages[name]()
    return check_folder(folder.path)


@pytest.mark.parametrize(
    ("what", "faults"),
    [
        (
            "removed",
            ["_rejects-a.csv: rejects of a shard", "_manifest.json: part-a.parquet is listed and not"],
        ),
        (
            "renamed",
            ["part-c.parquet: no manifest lists", "_manifest.json: part-b.parquet is listed and not"],
        ),
        (
            "changed",
            ["part-b.parquet: galaxies is not 2", "part-b.parquet: sha256 is not", "galaxies is 5, and"],
        ),
        ("truncated", ["part-b.parquet: not a readable shard"]),
        ("foreign", ["notes.txt: no shard, but programs"]),
        ("left", [".part-z.12.partial.parquet: left by a process"]),
        (
            "counts",
            ["galaxies is 7, and", "rejects is 4, and", "tree is other, and", "metadata: views differs"],
        ),
        ("manifest", ["_manifest.json cannot be read", "there is no manifest that can be read"]),
    ],
)
def test_files_that_break_it(folder: CatalogueFolder, what: str, faults: list[str]) -> None:
    found = damage(folder, what).faults
    for fault in faults:
        assert any(fault in line for line in found), found


def test_all_faults_are_found_at_once(folder: CatalogueFolder) -> None:
    found = "\n".join(damage(folder, "removed", "changed", "foreign", "left", "counts").faults)
    for fault in ("rejects of", "listed and not", "sha256 is not", "notes.txt", "left by", "views differs"):
        assert fault in found


def test_no_folder_and_an_empty_one(tmp_path: Path) -> None:
    assert "there is no such folder" in check_folder(tmp_path / "nothing").faults[0]
    assert len(check_folder(tmp_path).faults) == 2
