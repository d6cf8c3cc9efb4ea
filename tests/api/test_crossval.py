"""Cross validation and baselines alone, against what their parts say one by one."""

import json
import shutil

import numpy as np
import pytest
from tests.network.conftest import QUICK, write_data_folder

from hubblefork.api.judging import evaluate_baselines
from hubblefork.api.training import crossval
from hubblefork.data.folders import RunFolder
from hubblefork.data.split import Split, read_split, write_split
from hubblefork.errors import CatalogueError, RunError
from hubblefork.network.recipe import load_recipe
from hubblefork.stats.baselines import mean_vote
from hubblefork.stats.metrics import rmse
from hubblefork.tables.catalogue import fractions, galaxy_ids, labelled, read_catalogue

RECIPE = load_recipe("lab-cnn", [*QUICK, "epochs=1", "steps_per_epoch=2"])


@pytest.fixture(scope="module")
def galaxies(tmp_path_factory, tree):
    folder = write_data_folder(tmp_path_factory.mktemp("folds") / "data", tree, galaxies=120)
    write_split(Split("tests", 25, 20, frozenset(map(str, range(1000, 1080)))), folder)
    return folder


@pytest.fixture(scope="module")
def crossed(galaxies, tmp_path_factory):
    out = tmp_path_factory.mktemp("folds") / "out"
    return out, crossval(galaxies, RECIPE, out, folds=2)


def votes_of(data, tree, ids):
    table = read_catalogue(data / "catalogue.parquet")
    place = {galaxy_id: row for row, galaxy_id in enumerate(galaxy_ids(table).tolist())}
    return fractions(table, tree)[[place[galaxy_id] for galaxy_id in ids]]


def test_the_folds_are_the_judged_galaxies_without_the_test_ones(crossed, galaxies, tree):
    table = read_catalogue(crossed[0] / "out_of_fold.parquet")
    ids = galaxy_ids(table).tolist()
    split = read_split(galaxies)
    expected = [i for i in range(1000, 1080) if split.of(i) != "test"]
    assert sorted(ids) == expected
    assert set(table.column("fold").to_pylist()) == {0, 1}
    for galaxy_id, number in zip(ids, table.column("fold").to_pylist(), strict=True):
        assert read_split(crossed[0] / f"fold-{number}").of(galaxy_id) == "test"


def test_the_numbers_are_those_of_the_catalogue(crossed, galaxies, tree):
    out, found = crossed
    table = read_catalogue(out / "out_of_fold.parquet")
    joint, number = fractions(table, tree), np.array(table.column("fold").to_pylist())
    votes = votes_of(galaxies, tree, galaxy_ids(table).tolist())
    errors = [rmse(joint[number == k], votes[number == k]) for k in range(2)]
    assert found["rmse"]["folds"] == pytest.approx(errors)
    assert found["rmse"]["mean"] == pytest.approx(np.mean(errors))
    assert found["rmse"]["sd"] == pytest.approx(abs(errors[0] - errors[1]) / np.sqrt(2))
    assert found["out_of_fold_rmse"] == pytest.approx(rmse(joint, votes))
    assert json.loads((out / "crossval.json").read_text()) == found


def test_no_fold_was_trained_on_what_it_judges(crossed, galaxies, tree):
    out, found = crossed
    table = read_catalogue(galaxies / "catalogue.parquet")
    known = galaxy_ids(table.filter(labelled(table, tree))).tolist()
    for k in range(2):
        parts = read_split(out / f"fold-{k}").assign(known)
        assert RunFolder(out / f"fold-{k}").notes()["galaxies"]["train"] == (parts == "train").sum()
        assert found["training_galaxies"][k] == (parts == "train").sum()


def test_done_folds_are_left_alone_and_the_rest_is_made(crossed, galaxies):
    out, found = crossed
    before = (out / "fold-0" / "weights.safetensors").stat().st_mtime_ns
    (out / "fold-1" / "evaluation.json").unlink()
    assert crossval(galaxies, RECIPE, out, folds=2) == found
    assert (out / "fold-0" / "weights.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize("entry", [{"part": "validation"}, {"views": 16}, {"weights": "0" * 64}])
def test_a_fold_that_was_judged_otherwise_is_judged_anew(crossed, galaxies, entry):
    out, found = crossed
    file = RunFolder(out / "fold-0").evaluation_file
    wrong = {"rmse": {"value": 9.0}, **entry}
    file.write_text(json.dumps(json.loads(file.read_text()) | wrong))
    assert crossval(galaxies, RECIPE, out, folds=2) == found


def test_other_folds_into_the_same_folder_are_refused(crossed, galaxies, tmp_path):
    out, _ = crossed
    with pytest.raises(RunError, match="split: "):
        crossval(galaxies, RECIPE, out, folds=3)
    for folds in (-1, 0, 1):
        with pytest.raises(RunError, match=f"{folds} folds: cross validation needs at least 2"):
            crossval(galaxies, RECIPE, tmp_path, folds=folds)
    shutil.copytree(out / "fold-1", out / "fold-2")
    with pytest.raises(RunError, match="1 folds more than --folds 2"):
        crossval(galaxies, RECIPE, out, folds=2)
    shutil.rmtree(out / "fold-2")


def test_baselines_alone_are_those_of_the_split(galaxies, tree):
    found = evaluate_baselines(galaxies)
    table = read_catalogue(galaxies / "catalogue.parquet")
    known = table.filter(labelled(table, tree))
    parts, votes = read_split(galaxies).assign(galaxy_ids(known).tolist()), fractions(known, tree)
    test, train = votes[parts == "test"], votes[parts == "train"]
    assert found["part"] == "test"
    assert found["galaxies"] == len(test)
    expected = rmse(mean_vote(train, len(test)), test)
    assert found["baselines"]["mean_vote"]["rmse"]["value"] == pytest.approx(expected)
    assert set(found["baselines"]) == {
        "all_zeros",
        "all_ones",
        "mean_vote",
        "central_pixel",
        "kaggle_central_pixel",
    }
    assert evaluate_baselines(galaxies, "validation")["part"] == "validation"


def test_baselines_of_a_run_are_those_of_its_own_split(crossed):
    out, found = crossed
    own = evaluate_baselines(out / "fold-0")["baselines"]["mean_vote"]["rmse"]["value"]
    assert own == pytest.approx(found["mean_vote"]["folds"][0])


def test_baselines_of_nothing_are_refused(tmp_path, galaxies):
    with pytest.raises(RunError, match=r"neither a data folder .* nor a run"):
        evaluate_baselines(tmp_path)
    with pytest.raises(CatalogueError, match='"train" is no part that can be judged on'):
        evaluate_baselines(galaxies, "train")
