"""From evaluate to predict --intervals: the intervals of a run, its own and no other's."""

import json
import shutil

import numpy as np
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from hubblefork.api.intervals import adding_bounds, intervals_of
from hubblefork.api.judging import confusions_beside, evaluate
from hubblefork.cli import app
from hubblefork.cli.results import evaluation_tables
from hubblefork.data.folders import VIEWING, RunFolder
from hubblefork.data.split import Split, write_split
from hubblefork.errors import BusyError, CatalogueError, RunError
from hubblefork.io import alone_in, digest_of
from hubblefork.network.model import VoteFractions
from hubblefork.network.weights import load_weights, read_recipe, write_weights
from hubblefork.stats.conformal import LEAST
from hubblefork.stats.detection import confusion
from hubblefork.tables.catalogue import fractions, metadata_of, read_catalogue


@pytest.fixture(scope="module")
def evaluated(trained, tmp_path_factory):
    """A run whose split leaves many galaxies to calibrate on, and what its evaluation found."""
    run = tmp_path_factory.mktemp("evaluated") / "run"
    shutil.copytree(trained, run)
    write_split(Split(salt="tests", test=30, validation=60), run)
    return run, evaluate(run, device="cpu")


@pytest.fixture
def copied(evaluated, tmp_path):
    shutil.copytree(evaluated[0], tmp_path / "run")
    return tmp_path / "run"


def test_what_is_no_run_is_refused_and_no_folder_of_its_name_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("fork", "frok"):
        with pytest.raises(RunError, match=f"{name} is not the folder of a run"):
            evaluate(name)
    assert not [*tmp_path.iterdir()]


def test_evaluate_calibrates_on_validation_and_judges_on_test(evaluated):
    run, found = evaluated
    intervals = intervals_of(run)
    assert intervals.weights == load_weights(run).digest
    assert intervals.galaxies == len(read_catalogue(run / "predictions" / "validation.parquet")) - unlabelled(
        run
    )
    assert found["intervals"]["origin"] == f"{intervals.galaxies} validation galaxies"
    assert found["intervals"]["coverages"][1]["found"]["value"] == pytest.approx(0.9, abs=0.1)
    assert json.loads((run / "evaluation.json").read_text()) == found
    assert found["predictions"] == "predictions/test.parquet"


def test_a_second_evaluation_of_a_run_is_refused(copied):
    with (
        alone_in(copied / "predictions", "at work"),
        pytest.raises(BusyError, match="predictions: another process is evaluating this run"),
    ):
        evaluate(copied, device="cpu")


def test_a_folder_without_a_run_stays_as_it_was(tmp_path):
    with pytest.raises(RunError):
        evaluate(tmp_path, device="cpu")
    assert not any(tmp_path.iterdir())


def unlabelled(run):
    ids = read_catalogue(run / "predictions" / "validation.parquet").column("galaxy_id").to_numpy()
    return np.count_nonzero(ids >= 1000 + 240 - 20)


def test_predict_adds_the_bounds(evaluated, data, tree, tmp_path):
    run, _ = evaluated
    out = tmp_path / "out.parquet"
    command = ["predict", str(run), str(data), "--out", str(out), "--intervals", "0.9", "--device", "cpu"]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0
    table = read_catalogue(out)
    bounds = intervals_of(run).bounds(fractions(table, tree), 0.9)
    low, high = (bound.astype(np.float32) for bound in bounds)
    for column, name in enumerate(tree.columns):
        np.testing.assert_array_equal(table.column(f"{name}_low").to_numpy(), low[:, column])
        np.testing.assert_array_equal(table.column(f"{name}_high").to_numpy(), high[:, column])
    said = metadata_of(table)
    assert said["interval_coverage"] == "0.9"
    assert "validation galaxies" in said["intervals"]
    assert said["recipe"] == "lab-cnn"
    assert said["weights"] == digest_of(run / "weights.safetensors")


def test_the_weights_are_named_in_all_that_is_calibrated(evaluated):
    run, found = evaluated
    digest = digest_of(run / "weights.safetensors")
    assert found["weights"] == RunFolder(run).judged().weights == digest
    assert intervals_of(run).weights == confusions_beside(run, views=1, predicted=digest).weights == digest
    with pytest.raises(RunError, match="other weights"):
        confusions_beside(run, views=1, predicted="0" * 64)


def test_intervals_belong_to_one_run_its_weights_and_its_views(copied, data, tree, tmp_path):
    with pytest.raises(RunError, match="calibrated for one run, and 2 predict together"):
        intervals_of(copied, others=[copied])
    with pytest.raises(RunError, match=r"no intervals-8-views\.json; `hubblefork .* --views 8` makes"):
        intervals_of(copied, views=8)
    with pytest.raises(CatalogueError, match=r"coverage 0\.8; these have 0\.68, 0\.9, 0\.95"):
        adding_bounds(copied, 0.8)
    assert intervals_of(copied / "weights.safetensors") == intervals_of(copied)
    recipe = read_recipe(copied)
    write_weights(copied, VoteFractions(recipe, tree), recipe, tree, epoch=0)
    with pytest.raises(RunError, match=r"of other weights .*; `hubblefork evaluate .*run` makes it anew"):
        intervals_of(copied)
    (copied / "intervals.json").unlink()
    labelled = f"from at least {LEAST} labelled validation galaxies"
    with pytest.raises(RunError, match=rf"there is no intervals\.json; `hubblefork evaluate .*{labelled}"):
        intervals_of(copied)
    (copied / "completeness.json").unlink()
    with pytest.raises(RunError, match=r"no completeness\.json; `hubblefork evaluate \S+` makes it$"):
        confusions_beside(copied, views=1, predicted="")


def test_intervals_of_galaxies_seen_otherwise_are_not_taken(copied):
    path = copied / "intervals.json"
    for earlier in ({"viewing": "1"}, {}):
        said = json.loads(path.read_text())
        del said["viewing"]
        path.write_text(json.dumps(said | earlier))
        with pytest.raises(RunError, match=r"intervals\.json was made by an earlier hubblefork, .*anew"):
            intervals_of(copied)
        path.write_text(json.dumps(said | {"viewing": VIEWING}))
    assert intervals_of(copied).viewing == VIEWING


def test_a_tree_of_ones_own_is_bounded_too(copied, data):
    path = copied / "intervals.json"
    path.write_text(path.read_text().replace('"galaxy_zoo_2"', '"my_own"'))
    table = read_catalogue(copied / "predictions" / "test.parquet")
    assert "merger_high" in adding_bounds(copied, 0.9)(table).column_names


def test_kaggles_submissions_have_no_place_for_them(evaluated, data, tmp_path):
    run, _ = evaluated
    command = [
        "predict",
        str(run),
        str(data),
        "--out",
        str(tmp_path / "out.csv"),
        "--intervals",
        "0.9",
        "--columns",
        "kaggle",
    ]
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, CatalogueError)
    assert "one or the other" in str(done.exception)


def test_views_have_intervals_of_their_own(copied):
    found = evaluate(copied, views=2, device="cpu")
    assert found["predictions"] == "predictions/test-2-views.parquet"
    assert (copied / found["predictions"]).exists()
    assert [intervals_of(copied, views=views).views for views in (1, 2)] == [1, 2]
    assert [confusions_beside(copied, views=views).views for views in (1, 2)] == [1, 2]
    assert evaluation_tables(found)[0].title.endswith(", 2 views of each")


def test_completeness_lies_beside_the_weights(copied, tree):
    held_out = RunFolder(copied).judged(tree=tree)
    found = confusions_beside(copied, views=1)
    merger = tree.column("merger")
    counts, truth = held_out.predicted[:, merger] >= 0.1, held_out.volunteers[:, merger] >= 0.1
    assert found.answers["merger"][0] == confusion(counts, truth)
    assert found.origin.startswith(f"validation and test galaxies of {copied}")
    with pytest.raises(RunError, match=r"no completeness-2-views\.json; `hubblefork .* --views 2` makes"):
        confusions_beside(copied, views=2)
    recipe = read_recipe(copied)
    write_weights(copied, VoteFractions(recipe, tree), recipe, tree, epoch=0)
    with pytest.raises(RunError, match=r"completeness\.json is of other weights"):
        confusions_beside(copied, views=1)


def test_galaxies_that_calibrate_do_not_judge(copied):
    write_split(Split(salt="tests", test=0, validation=60), copied)
    found = evaluate(copied, device="cpu")
    assert "calibrated on" in found["intervals"]["reason"]
    assert intervals_of(copied).galaxies > 50


def test_too_few_galaxies_leave_no_earlier_intervals(copied):
    write_split(Split(salt="tests", test=30, validation=5), copied)
    found = evaluate(copied, device="cpu")
    assert "at least 50 are needed" in found["intervals"]["reason"]
    assert found["rmse"]["value"] > 0
    assert not (copied / "intervals.json").exists()
    assert pyarrow.parquet.read_table(copied / "predictions" / "test.parquet").num_rows > 0
