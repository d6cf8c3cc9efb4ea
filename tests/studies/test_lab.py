"""The lab study, quickly and for real: a mock sky, eight trainings of a step, the whole page."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hubblefork.cli import app
from hubblefork.errors import RunError
from hubblefork.studies.lab import WITH_IMAGES, run_lab, write_record
from hubblefork.studies.lab.networks import ALL, plan
from hubblefork.studies.study import train_all

TOUR = (Path(__file__).parents[2] / "docs" / "tour.md").read_text(encoding="utf-8")
(COMMAND,) = re.findall(r"^hubblefork (study lab .+)$", TOUR, re.MULTILINE)
BRIEFLY = ["epochs=1", "steps_per_epoch=1", "batch_size=6", "heads:steps_per_epoch=2"]
QUICKLY = ["--galaxies", "72", "--seeds", "1", "--device", "cpu"]

pytestmark = pytest.mark.timeout(900)  # the study of the fixture: a minute and a half, on a busy machine many


@pytest.fixture(scope="module")
def done(tmp_path_factory, quickly):
    """The folder of the study, by the tour's command with smaller settings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("lab"))
        settings = [word for setting in BRIEFLY for word in ("--set", setting)]
        told = CliRunner().invoke(app, [*COMMAND.split(), *QUICKLY, *settings], catch_exceptions=False)
        assert told.exit_code == 0, told.output
        page = Path(told.output.splitlines()[-1]).resolve()
    return page.parents[1]


@pytest.fixture(scope="module")
def page(done):
    return (done / "report" / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def numbers(done):
    return json.loads((done / "report" / "numbers.json").read_text(encoding="utf-8"))


def test_every_figure_and_table_of_the_report_is_there_in_its_order(page):
    captions = re.findall(r"<(?:figcaption|caption)><b>(Figure|Table) (\d+)\.</b> ", page)
    figures = [int(number) for kind, number in captions if kind == "Figure"]
    tables = [int(number) for kind, number in captions if kind == "Table"]
    assert figures == list(range(1, 19))
    assert tables == list(range(1, 7))
    assert [page.index(text) for text in ("(1)  ρ_ij", "(2)  σ_i", "(3)  σ_j", "(4)  report")] == sorted(
        page.index(text) for text in ("(1)  ρ_ij", "(2)  σ_i", "(3)  σ_j", "(4)  report")
    )
    assert "To have it:" not in page  # nothing is missing


def test_figures_lie_beside_the_page_and_all_in_one_file(done):
    report = done / "report"
    names = {path.stem for path in report.glob("*.pdf")} - {"figures"}
    assert {f"figure-{number:02d}" for number in range(1, 19)} <= names
    pages = re.findall(rb"/Type /Page\b", (report / "figures.pdf").read_bytes())
    assert len(pages) == len(names)


def test_the_figures_that_show_galaxies_are_named(numbers):
    figures = {name: found for section in numbers["sections"].values() for name, found in section.items()}
    showing = {name for name, found in figures.items() if "galaxy_id" in json.dumps(found)}
    assert showing == set(WITH_IMAGES)


def test_a_record_shows_no_galaxy(done, numbers, tmp_path):
    write_record(done / "report", tmp_path)
    kept = {path.stem for path in tmp_path.iterdir()}
    everything = {path.stem for path in (done / "report").glob("*.pdf")}
    assert kept == everything - {*WITH_IMAGES, "figures"} | {"numbers"}
    text = (tmp_path / "numbers.json").read_text(encoding="utf-8")
    assert "galaxy_id" not in text and str(done) not in text
    assert json.loads(text)["networks"] == numbers["networks"]


def test_the_numbers_of_every_network_are_kept(numbers):
    for name in ALL:
        found = numbers["networks"][name]
        assert 0 < found["rmse"]["value"] < 1 and found["epochs"] == 1 and found["seconds_per_epoch"] > 0
        assert found["finished"] and found["start"].startswith("random weights")
        assert 0 <= found["merger_fraction"]["value"] <= 1 and found["merger_fraction"]["total"] == 18
    assert len(numbers["sections"]) == 21
    heads = numbers["sections"]["heads"]["heads"]
    assert (
        heads["tree"][0]["violation"] < 1e-6 < heads["lab"][0]["violation"] < heads["sigmoid"][0]["violation"]
    )
    assert numbers["sections"]["section-5-2"]["table-02"]["total"] == 1_652_453


def test_what_is_finished_is_not_done_again_and_other_settings_are_refused(done):
    files = {
        path: path.stat().st_mtime_ns
        for path in done.rglob("*")
        if path.suffix in (".safetensors", ".parquet")
    }
    assert sum(path.name == "weights.safetensors" for path in files) == 8
    quickly = ["steps_per_epoch=0", "batch_size=16", "plateau_patience=4", "pretrained="]
    again = plan(seeds=1, settings=BRIEFLY, defaults=quickly)
    train_all(again, done / "data", done / "runs", device="cpu")
    assert {path: path.stat().st_mtime_ns for path in files} == files
    with pytest.raises(RunError, match="epochs: 2, not 1"):
        run_lab(None, done, quick=True, settings=["epochs=2", *BRIEFLY[1:]], seeds=1, device="cpu")
