import json
import re
import shutil
import subprocess
import sys
import tomllib

import numpy as np
import pyarrow as pa
import pytest
import tomli_w
from strict import Strict

from hubblefork.data.split import Split, write_split
from hubblefork.errors import DiskError, RunError
from hubblefork.pages.run import write_report
from hubblefork.pages.tables import plain
from hubblefork.tables.catalogue import read_catalogue, with_fractions, with_metadata, write_catalogue
from hubblefork.tables.rejects import write_rejects

ANCHORS = [
    "headline",
    "training",
    "curves",
    "scatter",
    "errors",
    "questions",
    "reliability",
    "prototypes",
    "mergers",
    "tree",
    "again",
    "sources",
]


pytestmark = pytest.mark.usefixtures("quickly")


def test_the_page_is_whole_html_with_every_section(whole):
    path, page = whole
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert page.all("section", "id") == ANCHORS
    assert page.all("a", "href")[: len(ANCHORS)] == [f"#{anchor}" for anchor in ANCHORS]


def test_the_page_loads_nothing_from_elsewhere(whole):
    path, page = whole
    assert all(uri.startswith("data:image/png;base64,") for uri in page.all("img", "src"))
    assert page.all("link", "href") == ["data:,"]
    assert not {"script", "iframe", "object", "video"} & {tag for tag, _ in page.tags}
    assert not re.search(r"https?://|url\(|@import|//cdn", path.read_text(encoding="utf-8"))
    assert all((path.parent / href).exists() for href in page.all("a", "href") if href[0] != "#")


def test_every_picture_has_a_pdf_numbers_and_words(whole):
    path, page = whole
    numbers = json.loads((path.parent / "numbers.json").read_text(encoding="utf-8"))
    assert list(numbers["sections"]) == ANCHORS
    named = {name for section in numbers["sections"].values() for name in section}
    pdfs = {pdf.stem for pdf in path.parent.glob("*.pdf")}
    assert len(pdfs) == len(page.all("img", "src")) == 13 + 11
    assert pdfs <= named
    assert all(pdf.read_bytes().startswith(b"%PDF-") for pdf in path.parent.glob("*.pdf"))
    assert all(len(alt) > 40 for alt in page.all("img", "alt"))


def test_the_headline_is_the_evaluation(whole, made):
    found = json.loads((made.run / "evaluation.json").read_text())
    _, page = whole
    assert f"On {found['galaxies']} test galaxies the RMSE of the 37 joint fractions is" in page.text
    for shown in (found["rmse"], *(baseline["rmse"] for baseline in found["baselines"].values())):
        assert f"{shown['value']:.4f}" in page.text
        assert "{:.4f} to {:.4f}".format(*shown["interval_95"]) in page.text
    assert "validation galaxies: the epoch" not in page.text


def test_the_page_says_what_was_trained_on_what(whole, made):
    _, page = whole
    for words in (
        "60 of 72 galaxies have some",
        "train 36, validation 12, test 12",
        "1,652,389 are learned; 1,652,453 in Keras's way",
        "30% test, 20% validation, 50% train",
        "damaged <image>",
        'name = "small"',
        "what was changed is listed below",
        "epochs: 3, not 100 dropout: 0.2, not 0.5",
        "kind cpu, precision bf16-mixed, threads 2",
        "3.0 s for 3 epochs; 110 galaxies a second",
        "torch 9.9",
    ):
        assert words in page.text, words


def test_the_whole_recipe_is_folded(whole):
    """What differs from the recipe of that name is open."""
    text = whole[0].read_text(encoding="utf-8")
    folded = text[text.index("<details>") : text.index("</details>")]
    assert "All settings of the recipe" in folded and "stamp_size = 8" in folded
    assert "dropout: 0.2, not 0.5" not in folded


def test_the_coverage_of_the_intervals_is_the_evaluations(whole, made):
    path, page = whole
    found = json.loads((made.run / "evaluation.json").read_text())["intervals"]
    shown = json.loads((path.parent / "numbers.json").read_text())["sections"]["reliability"]["coverage"]
    assert shown == plain(found)
    for one in found["coverages"]:
        assert f"{one['within_by_chance']:.1f}" in page.text
        assert f"{one['answers']['merger']['found']['value']:.3f}" in page.text
    assert "calibrated on 60 galaxies" in page.text


def test_intervals_that_cannot_be_judged_say_why(copied):
    run, _ = copied
    found = json.loads((run / "evaluation.json").read_text())
    found["intervals"] = {"reason": "12 labelled galaxies", "remedy": "hubblefork split data"}
    (run / "evaluation.json").write_text(json.dumps(found))
    page = Strict(write_report(run, sections=["reliability"]).read_text(encoding="utf-8"))
    assert "Intervals are not evaluated: 12 labelled galaxies." in page.text
    assert "hubblefork split data" in page.text


def test_captions_are_computed_from_the_numbers(whole, made):
    path, page = whole
    found = json.loads((path.parent / "numbers.json").read_text())["sections"]
    r = [entry["r"] for entry in found["scatter"]["predicted-against-volunteers"]["answers"].values()]
    assert f"its median over the answers is {np.median([x for x in r if x is not None]):.2f}" in page.text
    assert "The weights kept are those of epoch 1 of 3 epochs" in page.text
    assert "The learning rate changed 1 time" in page.text
    assert "once more, to the 30 training galaxies that judge_on.txt lists" in page.text
    assert "The validation RMSE after it is 0.1075." in page.text
    assert "resnet9.in1k of timm" in page.text


def test_commands_make_the_run_again(whole, made):
    _, page = whole
    assert f"hubblefork train {made.data} --recipe {made.run / 'recipe.toml'}" in page.text
    assert f"hubblefork split {made.data} --salt salt --test 30 --validation 20" in page.text


def test_commands_make_as_many_views_again(copied):
    run, _ = copied
    path = run / "predictions" / "test.parquet"
    write_catalogue(with_metadata(read_catalogue(path), {"views": "16"}), path)
    text = Strict(write_report(run, sections=["again"]).read_text(encoding="utf-8")).text
    assert f"hubblefork evaluate {run}-again --part test --views 16" in text


def test_commands_calibrate_a_catalogue_of_other_views_too(copied, tmp_path):
    run, _ = copied
    path = tmp_path / "sixteen.parquet"
    write_catalogue(
        with_metadata(read_catalogue(run / "predictions" / "test.parquet"), {"views": "16"}), path
    )
    text = Strict(write_report(run, sections=["again"], predictions=path).read_text(encoding="utf-8")).text
    sixteen, one, predicted = (
        text.index(f"hubblefork {command} hubblefork ")
        for command in (
            f"evaluate {run}-again --part test --views 16",
            f"evaluate {run}-again --part test",
            f"predict {run}-again IMAGES --out predictions.parquet --views 16",
        )
    )
    assert sixteen < one < predicted


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"run\.toml"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_anything_else_still_gets_its_page(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.toml").write_text('data = "/nowhere"\nrecipe = "small"\nseed = 1\n')
    page = Strict(write_report(run, predictions=tmp_path / "none.parquet").read_text(encoding="utf-8"))
    assert page.all("section", "id") == ANCHORS
    assert len(page.all("img", "src")) == 1  # the decision tree
    for command in ("evaluate", "train", "ingest", "predict"):
        assert f"hubblefork {command} " in page.text
    assert "This run has not finished" in page.text


@pytest.mark.parametrize(
    ("lost", "section", "command"),
    [
        ("run/evaluation.json", "headline", "hubblefork evaluate"),
        ("run/evaluation.json", "errors", "hubblefork evaluate"),
        ("run/evaluation.json", "questions", "hubblefork evaluate"),
        ("run/metrics.csv", "curves", "hubblefork train"),
        ("run/predictions", "scatter", "hubblefork evaluate"),
        ("run/predictions", "reliability", "hubblefork evaluate"),
        ("run/recipe.toml", "training", "hubblefork train"),
        ("run/split.toml", "training", "hubblefork train"),
        ("data/rejects.csv", "training", "hubblefork ingest"),
        ("data/catalogue.parquet", "training", "hubblefork ingest"),
        ("data/stamps", "prototypes", "hubblefork evaluate"),
    ],
)
@pytest.mark.parametrize("damage", ["gone", "garbled"])
def test_what_is_missing_is_said_with_the_command(copied, lost, section, command, damage):
    run, data = copied
    path = run.parent / lost
    if path.is_dir():
        shutil.rmtree(path)
    elif damage == "gone":
        path.unlink()
    else:
        path.write_bytes(b"\xff\x00 garbled")
    page = Strict(write_report(run, sections=[section]).read_text(encoding="utf-8"))
    assert any("missing" in attributes.get("class", "") for tag, attributes in page.tags if tag == "p")
    assert command in page.text
    assert data.exists()


def test_validation_numbers_are_said_to_flatter(copied):
    run, _ = copied
    found = json.loads((run / "evaluation.json").read_text())
    (run / "evaluation.json").write_text(json.dumps({**found, "part": "validation"}))
    text = Strict(write_report(run, sections=["headline"]).read_text(encoding="utf-8")).text
    assert "flatters" in text
    assert f"hubblefork evaluate {run} --part test" in text


def test_a_mean_over_views_is_said_to_be_one(copied):
    run, _ = copied
    found = json.loads((run / "evaluation.json").read_text())
    (run / "evaluation.json").write_text(json.dumps({**found, "views": 16}))
    text = Strict(write_report(run, sections=["headline"]).read_text(encoding="utf-8")).text
    assert "Each prediction is the mean over 16 views of the galaxy." in text


def test_a_split_of_listed_galaxies_is_said(copied):
    run, _ = copied
    write_split(Split("salt", 30, 20, frozenset({"1001", "1002"})), run)
    assert (
        "only the 2 galaxies of judge_on.txt are judged on"
        in Strict(write_report(run, sections=["training"]).read_text()).text
    )


def test_names_with_markup_are_shown_not_run(copied):
    run, _ = copied
    notes = tomllib.loads((run / "run.toml").read_text())
    (run / "run.toml").write_text(tomli_w.dumps({**notes, "recipe": "<script>alert(1)</script>"}))
    page = Strict(write_report(run, sections=["training"]).read_text(encoding="utf-8"))
    assert "<script>alert(1)</script>" in page.text
    assert "script" not in {tag for tag, _ in page.tags}


def test_a_report_needs_no_torch():
    code = "import hubblefork.pages, sys; sys.exit('torch' in sys.modules or 'lightning' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


DAMAGE = {
    "evaluation.json": (
        ("{}", "part: Field required"),
        ("[]", "it holds a list, not a table of fields"),
        ("[" * 3000, "maximum recursion depth exceeded"),
        ("", "Expecting value"),
    ),
    "metrics.csv": (
        ("", "no epoch has ended yet"),
        ("epoch,step\n0,1\n", "0.train_rmse: Field required"),
        ("epoch,train_rmse\nnan,0.1\n", "0.epoch: Input should be"),
        ("epoch,train_rmse\n0\n", "cannot be read"),
    ),
}


@pytest.mark.parametrize(
    ("name", "text", "words"), [(n, *case) for n, cases in DAMAGE.items() for case in cases]
)
def test_a_damaged_file_of_the_run_is_said_on_the_page(copied, name, text, words):
    run, _ = copied
    (run / name).write_text(text)
    sections = ["curves"] if name == "metrics.csv" else ["headline", "errors", "questions"]
    page = Strict(write_report(run, sections=sections).read_text(encoding="utf-8"))
    assert words in page.text
    assert f"{run / name}" in page.text
    assert page.all("section", "id") == sections
    assert not page.all("img", "src")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            'galaxies = "x"',
            r"run\.toml: galaxies: Input should be a valid dictionary, not 'x'; mend the entry",
        ),
        ("device = {kind = []}", r"run\.toml: device\.kind\.str: Input should be a valid string, not '\[\]'"),
        ("best_epoch = []", r"run\.toml: best_epoch: Input should be a valid integer"),
    ],
)
def test_an_entry_of_the_wrong_type_in_the_notes_is_refused_in_a_line(made, tmp_path, line, words):
    (tmp_path / "run.toml").write_text(f'data = "{made.data}"\n{line}\n')
    with pytest.raises(RunError, match=words) as error:
        write_report(tmp_path)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["run.toml"]


def test_a_date_in_the_notes_is_text_in_the_numbers(made, tmp_path):
    (tmp_path / "run.toml").write_text("started = 2026-01-02\n")
    path = write_report(tmp_path, sections=["sources"])
    assert json.loads(path.with_name("numbers.json").read_text())["run"] == {"started": "2026-01-02"}


def test_a_monitor_that_is_no_column_of_the_metrics_does_not_stop_the_page(copied):
    run, _ = copied
    (run / "run.toml").write_text((run / "run.toml").read_text().replace("best_epoch = 1\n", ""))
    (run / "recipe.toml").write_text("monitor = 7\n")
    text = Strict(write_report(run, sections=["curves"]).read_text(encoding="utf-8")).text
    assert "The weights kept are those of epoch 1 of 3 epochs" in text


def test_a_folder_that_cannot_be_written_is_said_in_a_line(copied):
    run, _ = copied
    (run / "report").write_text("in the way")
    with pytest.raises(DiskError, match="report") as error:
        write_report(run, sections=["headline"])
    assert "\n" not in str(error.value)
    assert (run / "report").read_text() == "in the way"


def _fewer(path, count):
    write_catalogue(read_catalogue(path).slice(0, count), path)


def test_a_run_of_a_single_galaxy_has_its_page(copied, made, tmp_path):
    run, _ = copied
    shutil.copy(made.predictions, tmp_path / "predictions.parquet")
    for path in (tmp_path / "predictions.parquet", *(run / "predictions").iterdir()):
        _fewer(path, 1)
    page = Strict(write_report(run, predictions=tmp_path / "predictions.parquet").read_text(encoding="utf-8"))
    assert page.all("section", "id") == ANCHORS


def test_a_run_whose_data_have_no_labels_has_its_page(copied, tree):
    run, data = copied
    path = data / "catalogue.parquet"
    table = read_catalogue(path)
    write_catalogue(with_fractions(table, np.full((len(table), len(tree.columns)), np.nan), tree), path)
    text = Strict(write_report(run).read_text(encoding="utf-8")).text
    assert "None of the judged galaxies has labels in the catalogue of the data." in text
    assert "0 of 72 galaxies have some" in text


def test_a_run_whose_images_are_gone_has_its_page(copied):
    run, data = copied
    shutil.rmtree(data)
    page = Strict(write_report(run).read_text(encoding="utf-8"))
    assert page.all("section", "id") == ANCHORS
    assert "No galaxies are shown" in page.text


def test_a_catalogue_without_sources_and_colours_has_its_page(copied):
    run, data = copied
    path = data / "catalogue.parquet"
    table = read_catalogue(path)
    texts = pa.array(["red"] * len(table))
    table = table.drop_columns(["source"])
    write_catalogue(table.set_column(table.column_names.index("centre_red"), "centre_red", texts), path)
    text = Strict(
        write_report(run, sections=["training", "errors", "again"]).read_text(encoding="utf-8")
    ).text
    assert "hubblefork ingest IMAGES --labels LABELS" in text
    assert "rmse-per-answer" in text or "RMSE" in text


ODD = "$\\frac{}$ [red]<script>alert(1)</script> \"'& \n "


def test_odd_ids_and_paths_are_shown_as_they_are(copied, tmp_path):
    run, data = copied
    for path in (data / "catalogue.parquet", *(run / "predictions").iterdir()):
        table = read_catalogue(path)
        ids = pa.array([f"{ODD}{galaxy_id}" for galaxy_id in table.column("galaxy_id").to_pylist()])
        write_catalogue(table.set_column(0, "galaxy_id", ids), path)
    odd = tmp_path / "<script> $x^{$ [b]"
    run.rename(odd)
    page = Strict(write_report(odd, sections=["training", "prototypes", "again"]).read_text(encoding="utf-8"))
    assert "<script> $x^{$ [b]" in page.text
    assert "script" not in {tag for tag, _ in page.tags}
    assert len(page.all("img", "src")) == 12


def test_a_table_without_refused_images_says_so(copied):
    run, data = copied
    write_rejects([], data / "rejects.csv")
    path = write_report(run, sections=["training"])
    assert "nothing was refused0" in Strict(path.read_text(encoding="utf-8")).text
    assert json.loads(path.with_name("numbers.json").read_text())["sections"]["training"]["rejects"] == {}
