"""Data folders and run folders: their files, and the one join of votes with predictions."""

import re
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import tomli_w

from hubblefork.data.folders import DataFolder, RunFolder
from hubblefork.data.judged import joined
from hubblefork.data.split import Split
from hubblefork.errors import CatalogueError, HubbleforkError, RunError
from hubblefork.tables.catalogue import ID, ids_among, with_fractions, with_metadata, write_catalogue
from hubblefork.zoo import plain_columns, write_tree

PARTS = ("validation", "test")


@pytest.fixture(scope="module")
def tree():
    return plain_columns(["merger", "ring"])


@pytest.fixture(scope="module")
def votes(tree):
    """Fractions of six galaxies; the last has none."""
    values = np.random.default_rng(0).random((6, len(tree.columns)))
    values[5] = np.nan
    return values


def catalogue(ids, values, tree):
    """Return a catalogue with fractions and one more column."""
    table = pa.table({ID: ids, "z": np.arange(len(ids)) / 10})
    return with_fractions(table, values, tree)


@pytest.fixture
def run(tmp_path, tree, votes):
    """A run judged on all galaxies: integers in the catalogue of the data, text in the predictions."""
    data = DataFolder(tmp_path / "data")
    write_catalogue(catalogue([7, 8, 9, 10, 11, 12], votes, tree), data.catalogue_file)
    run = RunFolder(tmp_path / "run")
    run.begin('name = "a"\n', tree, data, Split(test=100, validation=0), {"seed": 3})
    write_catalogue(
        catalogue(["12", "007", "9", "7"], np.full((4, len(tree.columns)), 0.5), tree), predictions(run)
    )
    return run


def predictions(run):
    return run.predictions("test")


def test_integers_and_text_meet_in_the_one_join(run, tree, votes):
    judged = run.judged()
    assert judged.ids.tolist() == ["9", "7"]
    assert judged.rows.tolist() == [2, 0]
    np.testing.assert_array_equal(judged.volunteers, votes[[2, 0]])
    assert judged.columns.column("z").to_pylist() == [0.2, 0.0]
    assert judged.origin == f"test galaxies of {run.path}" and judged.views == 1
    assert judged.chosen(np.array([False, True])).ids.tolist() == ["7"]
    assert judged.apart_from(ids_among(pa.table({ID: [9]}), judged.ids)).ids.tolist() == ["7"]


def test_galaxies_without_votes_stay_where_they_are_asked_for(run, tree):
    table = pa.parquet.read_table(predictions(run))
    everything = joined(table, run.data.catalogue(), tree, "all", unlabelled=True)
    assert everything.rows.tolist() == [5, -1, 2, 0]
    assert everything.labelled().tolist() == [False, False, True, True]
    assert everything.columns.column(ID).to_pylist() == [12, None, 9, 7]
    with pytest.raises(CatalogueError, match="labels of none of the left"):
        joined(table.slice(1, 1), run.data.catalogue(), tree, "left")


def test_views_name_the_files(run):
    assert run.predictions("test", 16).name == "test-16-views.parquet"
    assert run.intervals(16).name == "intervals-16-views.json"
    assert run.confusions().name == "completeness.json"
    with pytest.raises(RunError, match="validation and test galaxies are not predicted yet from 16 views"):
        run.judged(PARTS, views=16)
    assert run.evaluate_command(16) == f"hubblefork evaluate {run.path} --views 16"


def test_notes_are_added_to_and_a_second_beginning_changes_none(run, tree):
    run.add_remarks(["slow", ""])
    run.add_remarks(["slow", "late"])
    run.begin('name = "b"\n', tree, DataFolder(run.path), Split(), {"seed": 4})
    notes = run.notes()
    assert notes["remarks"] == ["slow", "late"] and notes["seed"] == 3 and not run.is_finished()
    assert run.recipe_text() == 'name = "a"\n' and run.split() == Split(test=100, validation=0)
    rows = [
        {"epoch": 0, "loss": 2, "seconds": 1, "galaxies_per_second": 5},
        {"epoch": 1, "loss": 3, "seconds": 2, "galaxies_per_second": 7},
    ]
    run.write_metrics(rows)
    assert run.metrics() == rows
    run.finish("min", "loss", centred_on=4)
    expected = {"best_epoch": 0, "epochs": 2, "best": {"loss": 2.0}, "centred_on": 4, "training_seconds": 3.0}
    assert run.is_finished() and expected.items() <= run.notes().items()


def test_what_is_no_folder_of_a_run_says_so(tmp_path):
    assert RunFolder(tmp_path).metrics() == [] and not RunFolder(tmp_path).is_finished()
    with pytest.raises(RunError, match=r"not the folder of a run.* train one with `hubblefork train`"):
        RunFolder(tmp_path).notes()
    with pytest.raises(RunError, match=r"evaluation\.json cannot be read.* run `hubblefork evaluate"):
        RunFolder(tmp_path).evaluation()
    with pytest.raises(RunError, match=r"recipe\.toml cannot be read"):
        RunFolder(tmp_path).recipe_text()


def test_a_catalogue_keeps_how_its_galaxies_were_seen(run, tree):
    table = pa.parquet.read_table(predictions(run))
    write_catalogue(with_metadata(table, {"views": "1", "viewing": "1"}), predictions(run))
    with pytest.raises(CatalogueError, match=r"in another way: hubblefork evaluate"):
        run.judged("test")


@pytest.mark.parametrize(
    ("moved", "data"),
    [
        (["data", "run"], "new/data"),
        (["run"], "data"),
        (["data"], None),
        (["copy"], "new/data"),
        (["run", "other"], "data"),
    ],
)
def test_a_run_and_its_data_may_be_moved(run, tmp_path, votes, tree, moved, data):
    """Both together, either alone, a copy beside the old ones, and where other data lie beside the run."""
    new = tmp_path / "new"
    new.mkdir()
    if moved == ["copy"]:
        shutil.copytree(tmp_path / "run", new / "run")
        shutil.copytree(tmp_path / "data", new / "data")
    if "other" in moved:
        write_catalogue(catalogue([7, 8], votes[:2], tree), new / "data" / "catalogue.parquet")
    for name in {"data", "run"}.intersection(moved):
        (tmp_path / name).rename(new / name)
    here = RunFolder(new / "run") if (new / "run").exists() else run
    if data is not None:
        assert here.data.path.resolve() == tmp_path / data
        assert here.judged().ids.tolist() == ["9", "7"]
        return
    with pytest.raises(CatalogueError, match=r"say where it is now with --data FOLDER"):
        here.judged()
    here.find_data(DataFolder(new / "data"))
    assert here.judged().ids.tolist() == ["9", "7"]


def test_other_data_are_not_taken_for_those_of_a_run(run, tmp_path, votes, tree):
    write_tree(tree, tmp_path / "other")
    write_catalogue(catalogue([7, 8, 9, 10, 11, 12], votes[::-1], tree), tmp_path / "other/catalogue.parquet")
    with pytest.raises(RunError, match=r"other: not the data of .*run, whose catalogue\.parquet is another"):
        run.find_data(DataFolder(tmp_path / "other"))
    assert not run.is_trained_on(DataFolder(tmp_path / "other"))


def test_runs_of_earlier_versions_name_their_data_by_an_absolute_path(run, tmp_path):
    notes = {**run.notes(), "data": str(tmp_path / "data")}
    del notes["folder"], notes["catalogue"]
    (run.path / "run.toml").write_text(tomli_w.dumps(notes))
    assert run.data.path == tmp_path / "data" and run.is_trained_on(DataFolder(tmp_path / "data"))
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    assert run.is_trained_on(DataFolder(tmp_path / "elsewhere"))
    run.find_data(DataFolder(tmp_path / "elsewhere"))
    assert run.judged().ids.tolist() == ["9", "7"]


DIGITS, NESTED = "9" * 5000, "a = " + "[" * 9999


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(
            ("run.toml", text)
            for text in ("", "data = 3", "data", "= =", f"data = {DIGITS}", "a = " + "[" * 9999)
        ),
        ("run.toml", 'data = "d"\nfinished = "yes"'),
        *(("evaluation.json", text) for text in ("[]", "{", "NaN", '{"a": NaN}', DIGITS, "[" * 99999)),
        *(("metrics.csv", text) for text in ("epoch,loss\n0,1\n1", "epoch\n0,1\n", "epoch\nx\n")),
        *(
            ("split.toml", text)
            for text in ("", "salt = 1", 'salt = "a"', f"salt = {DIGITS}", "a = " + "[" * 9999)
        ),
        *(("tree.toml", text) for text in ("", "name = 1", f"name = {DIGITS}", NESTED)),
        ("tree.toml", 'name = "a"\nquestions = [{name = 1, text = "", answers = [], root = true}]'),
    ],
)
def test_a_broken_file_of_a_run_is_named_with_the_remedy(run, name, text):
    (run.path / name).write_text(text)
    readers = {
        "run.toml": lambda: (run.data, run.is_finished()),
        "evaluation.json": lambda: run.evaluation()["part"],
        "metrics.csv": lambda: run.metrics()[0]["loss"],
        "split.toml": run.split,
        "tree.toml": run.tree,
    }
    with pytest.raises(HubbleforkError, match=rf"{re.escape(name)}") as caught:
        readers[name]()
    assert len(str(caught.value)) < 600 and "\n" not in str(caught.value)


def test_a_field_that_is_missing_is_named(run):
    (run.path / "evaluation.json").write_text("{}")
    with pytest.raises(
        RunError, match=r'evaluation\.json: the field "part" is missing; run `hubblefork evaluate'
    ):
        run.evaluation()["part"]
