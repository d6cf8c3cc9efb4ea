"""What studies share: values that no stage can work with are refused before anything is made."""

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from hubblefork.cli import app
from hubblefork.data.folders import DataFolder
from hubblefork.data.ingest import ingest
from hubblefork.data.split import write_split
from hubblefork.errors import CatalogueError, HubbleforkError, RecipeError, RunError
from hubblefork.mock import write_mock_sky
from hubblefork.pages.page import Page
from hubblefork.studies.compare import run_compare
from hubblefork.studies.lab import run_lab, sample
from hubblefork.studies.lab.networks import Lab
from hubblefork.studies.study import MOCK_SPLIT, load_study
from hubblefork.tables.catalogue import read_catalogue, write_catalogue


@pytest.mark.parametrize("name", ["compare", "soft_target"])
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"folds": 0}, RecipeError, "0 folds: at least 1 trial and 2 folds"),
        ({"folds": 1}, RecipeError, "1 folds: "),
        ({"trials": 0}, RecipeError, "0 trials, "),
        ({"shares": "half"}, RecipeError, "written as 1/8,1/4"),
        ({"shares": "1/8,2"}, RecipeError, "above 0 and at most 1"),
        ({"views": 3}, RunError, "views = 3: 1, or an even number"),
        ({"device": "cuda:9"}, RunError, 'no device "cuda:9"'),
        ({"budget": -1.0}, RecipeError, "a budget of -1.0 s: above 0"),
    ],
)
def test_a_study_refuses_what_no_stage_can_work_with(name, changes, error, message):
    with pytest.raises(error, match=message):
        load_study(name, **changes)


@pytest.mark.parametrize("name", ["lab", "compare", "soft-target"])
@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_refused_before_anything_is_made(tmp_path, name, seed):
    words = ["study", name, "--quick", "--out", str(tmp_path / "out"), "--set", f"seed={seed}"]
    with pytest.raises(RecipeError, match=f"seed = {seed}"):
        CliRunner().invoke(app, words, catch_exceptions=False, standalone_mode=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["lab", "--device", "cuda:9"],
        ["compare", "--device", "cuda:9"],
        ["soft-target", "--device", "cuda:9"],
        ["mergers", "--device", "cuda:9"],
        ["soft-target", "--folds", "0"],
        ["lab", "--seeds", "0"],
        ["lab", "--test-images", "nowhere.zip"],
        ["mergers", "--run", "nowhere"],
        ["mergers", "--processes", "0"],
        ["compare", "--shares", "half"],
    ],
)
def test_what_cannot_work_ends_in_one_line_before_anything_is_made(tmp_path, words):
    out = tmp_path / "out"
    done = CliRunner().invoke(app, ["study", words[0], "--quick", "--out", str(out), *words[1:]])
    assert isinstance(done.exception, HubbleforkError)
    assert "\n" not in str(done.exception) and words[-1] in str(done.exception)
    assert not out.exists()


@pytest.fixture
def data(tmp_path, tree):
    """A data folder of a mock sky."""
    write_mock_sky(tmp_path / "sky", galaxies=12, test_galaxies=0, seed=4, processes=1)
    ingest([tmp_path / "sky"], tmp_path / "data", tree=tree)
    write_split(MOCK_SPLIT, tmp_path / "data")
    return DataFolder(tmp_path / "data")


def without_labels(data, columns, galaxies):
    """Remove some labels of the first galaxies of a data folder."""
    table = read_catalogue(data.catalogue_file)
    for name in columns:
        values = table.column(name).to_numpy().astype(float)
        values[:galaxies] = np.nan
        place = table.column_names.index(name)
        column = pa.array(values, table.schema.field(name).type, from_pandas=True)
        table = table.set_column(place, table.schema.field(name), column)
    write_catalogue(table, data.catalogue_file)


def test_a_study_of_galaxies_without_labels_is_refused(data, tree, tmp_path):
    without_labels(data, tree.columns, 12)
    with pytest.raises(CatalogueError, match="data: no galaxy has a label"):
        run_lab(data.path, tmp_path / "lab", only_report=True)
    with pytest.raises(CatalogueError, match="data: no galaxy has a label"):
        run_compare(data.path, tmp_path / "compare", study=load_study("compare", only_report=True))


def test_labels_that_are_rare_are_no_fault_of_the_lab_page(data, tree, tmp_path):
    page = Page(tmp_path / "report")
    without_labels(data, tree.columns[tree.slices[0]], 12)
    sample.highest(page, Lab(data.path, tmp_path, seeds=1))
    assert any((one["value"] or 0) > 0.95 for one in page.numbers["figure-03"].values())
    without_labels(data, tree.columns, 11)
    assert set(sample.correlated(page, Lab(data.path, tmp_path, seeds=1))) == {"fewest", "most"}
    assert not page.has("figure-04")
