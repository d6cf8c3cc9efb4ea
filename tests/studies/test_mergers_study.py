"""The merger study, quickly: a page with its pictures, and nothing drawn twice; shifted surveys."""

import json
import re

import numpy as np
import pytest
from typer.testing import CliRunner

from hubblefork.cli import app
from hubblefork.mock import write_mock_sky
from hubblefork.stats.detection import Calibration
from hubblefork.studies import mergers
from hubblefork.studies.mergers import AS_TRAINED, Size, Truth, _fractions, run_mergers
from hubblefork.studies.shift import judge_survey
from hubblefork.tables.catalogue import read_catalogue

TINY = Size(70, 24, 60, 24, 2, ("epochs=1",), start=mergers.QUICK.start)


@pytest.fixture(scope="module")
def done(tmp_path_factory, quickly):
    out = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mergers, "QUICK", TINY)
        patch.setattr(mergers, "DEGRADED", {AS_TRAINED: {}, "pixels × 3": {"pixel": 3.0}})
        page = run_mergers(out, quick=True, processes=1)
        drawn = {path: path.stat().st_mtime_ns for path in out.rglob("truth.parquet")}
        again = run_mergers(out, quick=True, run=out / "run", processes=1)
    return out, page, drawn, again


def test_the_page_has_its_sections_and_numbers(done):
    out, page, _, _ = done
    assert page == out / "report" / "index.html"
    numbers = json.loads((out / "report" / "numbers.json").read_text(encoding="utf-8"))
    assert list(numbers["sections"]) == ["question", "regression", "bias", "coverage", "surveys", "sources"]
    assert set(numbers["sections"]["surveys"]["degraded"]["skies"]) == {AS_TRAINED, "pixels × 3"}
    text = page.read_text(encoding="utf-8")
    assert 0 <= numbers["sections"]["surveys"]["surveys"][AS_TRAINED]["corrected"]["value"] < 0.5
    recovered = numbers["sections"]["bias"]["bias"]["mock, same sky"]
    assert all(row["realisations"] for row in recovered["corrected"])
    assert "<td>nan" not in text
    assert re.search(r"<b>Table \d\.</b> Mock, same sky: mean", text)
    assert {"bias", "coverage", "degraded"} <= {path.stem for path in (out / "report").glob("*.pdf")}


def test_a_network_that_sees_nothing_has_no_corrected_count():
    blind = Truth(np.full(20, 0.46), np.full(20, 0.1), np.arange(20) < 5)
    found = _fractions(blind, Calibration(blind.score >= 0.3, blind.is_merger, blind.score, "blind"))
    assert found["count"]["value"] == 1 and np.isnan(found["corrected"]["value"])


def test_it_goes_on_where_it_stopped(done):
    out, page, drawn, again = done
    assert again == page
    assert {path: path.stat().st_mtime_ns for path in out.rglob("truth.parquet")} == drawn
    assert len(drawn) == 5


def test_another_run_becomes_a_scenario(done):
    numbers = json.loads((done[0] / "report" / "numbers.json").read_text(encoding="utf-8"))
    assert len(numbers["sections"]["bias"]["bias"]) == 4


def test_a_survey_is_scored_galaxy_by_galaxy(done, tmp_path):
    out = done[0]
    found = judge_survey(
        out / "run", out / "surveys" / "pixels-3" / "images_training_rev1.zip", tmp_path / "s.parquet"
    )
    scores = read_catalogue(tmp_path / "s.parquet")
    assert len(scores) == found.galaxies == TINY.survey
    assert min(scores.column("score").to_pylist()) > 0
    write_mock_sky(tmp_path / "sky", galaxies=8, test_galaxies=0, seed=9, processes=1)
    images = tmp_path / "sky/images_training_rev1.zip"
    words = ["evaluate", str(out / "run"), "--shift", str(images), "--out"]
    told = CliRunner().invoke(app, [*words, str(tmp_path / "t.parquet")], catch_exceptions=False)
    assert told.exit_code == 0 and "8 galaxies against" in told.stdout
