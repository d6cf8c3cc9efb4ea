import json

import numpy as np
import pyarrow as pa
import pytest
from strict import Strict

from hubblefork.data.split import read_split
from hubblefork.pages.run import write_report
from hubblefork.tables.catalogue import fractions, read_catalogue, write_catalogue

pytestmark = pytest.mark.usefixtures("quickly")


def test_the_mergers_are_counted_three_ways(whole, made, tree):
    _, page = whole
    path, _ = whole
    table = json.loads((path.parent / "numbers.json").read_text())["sections"]["mergers"]["merger-fractions"]
    test = read_split(made.run).assign(range(1000, 1060)) == "test"
    column = tree.column("merger")
    counts = [
        int((made.votes[:60][test, column] >= 0.3).sum()),
        int((made.guesses[:60][test, column] >= 0.3).sum()),
        int((made.guesses[60:, column] >= 0.3).sum()),
    ]
    assert [entry["count"] for entry in table.values()] == counts
    assert [entry["total"] for entry in table.values()] == [test.sum(), test.sum(), 12]
    assert "not wrong predictions" in page.text


def test_the_candidates_are_the_highest_of_the_catalogue_given(whole, made, tree):
    path, _ = whole
    shown = json.loads((path.parent / "numbers.json").read_text())["sections"]["mergers"]["merger-candidates"]
    values = fractions(read_catalogue(made.predictions), tree)[:, tree.column("merger")]
    assert shown["galaxy_ids"] == (1060 + np.argsort(-values, kind="stable")[:9]).tolist()


def test_predictions_of_unknown_galaxies_are_counted_but_not_shown(copied, made, tmp_path):
    table = read_catalogue(made.predictions)
    strangers = table.set_column(0, "galaxy_id", [[f"J{k}" for k in range(len(table))]])
    path = tmp_path / "strangers.csv"
    write_catalogue(strangers, path)
    page = Strict(write_report(copied[0], sections=["mergers"], predictions=path).read_text(encoding="utf-8"))
    assert "the data have no image of the catalogue given" in page.text
    assert "predicted, the catalogue given" in page.text
    assert "merger-candidates.pdf" not in page.all("a", "href")


def test_predictions_without_the_answer_are_left_out_of_the_calibration(copied, made):
    run, _ = copied
    path = run / "predictions" / "test.parquet"
    table = read_catalogue(path)
    nobody = pa.nulls(len(table), pa.float64())
    write_catalogue(table.set_column(table.column_names.index("merger"), "merger", nobody), path)
    page = write_report(run, sections=["mergers"], predictions=made.predictions)
    shown = json.loads(page.with_name("numbers.json").read_text())["sections"]["mergers"]
    assert list(shown["estimators"]["samples"]) == ["the catalogue given"]


def test_predictions_that_lack_the_answer_are_said(copied, made):
    run, _ = copied
    path = run / "predictions" / "test.parquet"
    write_catalogue(read_catalogue(path).drop_columns(["merger"]), path)
    page = Strict(write_report(run, sections=["mergers"], predictions=made.predictions).read_text())
    assert "merger" in page.text and "hubblefork evaluate" in page.text
