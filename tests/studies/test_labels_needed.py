"""Labels in a new survey: who judges, who is labelled, what a worse survey does to an image, and the page."""

import io
import re

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from hubblefork.cli import app
from hubblefork.data.folders import DataFolder, RunFolder
from hubblefork.data.split import read_split
from hubblefork.errors import CatalogueError, RecipeError
from hubblefork.io import read_json
from hubblefork.network.finetuning import SETTINGS
from hubblefork.network.weights import load_weights, read_recipe
from hubblefork.studies.labels import (
    SEEING,
    Galaxies,
    degraded_jpeg,
    load_plan,
    run_labels,
    warnings_of_shift,
)

pytestmark = pytest.mark.usefixtures("quickly")
TINY = ["epochs=1", "crop=64", "stamp_size=48", "input_size=32"]


def test_so_many_labels_are_drawn_among_galaxies_that_do_not_judge(data):
    galaxies = Galaxies(DataFolder(data))
    judging, ids = set(galaxies.judging), [*galaxies.judging, *galaxies.labels]
    splits = [galaxies.split_for(60, seed) for seed in (0, 1)]
    for split in splits:
        parts = dict(zip(ids, split.assign(ids), strict=True))
        used = {name for name, part in parts.items() if part in ("train", "validation")}
        assert used == split.only and len(used) == 60
        assert {name for name, part in parts.items() if part == "test"} == judging
        assert 5 < sum(part == "validation" for part in parts.values()) < 30
    assert 20 < len(splits[0].only & splits[1].only) < 55
    assert galaxies.split_for(40, 0).only < splits[0].only
    with pytest.raises(CatalogueError, match="1000 labels, of 1"):
        galaxies.split_for(1000, 0)


def width(pixels):
    places = np.arange(len(pixels)) - (pixels @ np.arange(len(pixels))) / pixels.sum()
    return np.sqrt((pixels * places**2).sum() / pixels.sum())


def test_a_worse_survey_has_one_band_wider_light_and_larger_pixels():
    light = np.zeros((424, 424, 3), np.uint8)
    y, x = np.mgrid[:424, :424] - 212.0
    spot = np.exp(-(x**2 + y**2) / (2 * 8.0**2))
    light[..., 1], light[..., 0] = 250 * spot, 90
    file = io.BytesIO()
    Image.fromarray(light).save(file, "JPEG", quality=98, subsampling=0)
    found = np.asarray(Image.open(io.BytesIO(degraded_jpeg(file.getvalue()))), float)
    assert found.shape == (424, 424, 3) and np.ptp(found, axis=2).max() <= 2
    profile = np.clip(found[212, :, 1] - found[0, 0, 1], 0, None)
    assert width(profile) == pytest.approx(np.hypot(8, SEEING), rel=0.06)
    noise = np.random.default_rng(0).integers(0, 255, (424, 424, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    fine = np.asarray(Image.open(io.BytesIO(degraded_jpeg(file.getvalue()))), float)
    assert fine.std() < 8 < noise.std()


def test_warnings_are_counted_for_each_survey():
    rng = np.random.default_rng(2)
    scores = {"old": rng.normal(size=400), "new": rng.normal(0.8, 1, size=400)}
    compared = warnings_of_shift(scores, rng.normal(size=500), [20, 200, 900], 30)
    assert [*compared] == [20, 200]
    right = {size: sum(one.shifted for one in tests["new"]) for size, tests in compared.items()}
    wrong = {size: sum(one.shifted for one in tests["old"]) for size, tests in compared.items()}
    assert right[200] == 30 > right[20] and max(wrong.values()) <= 2


def test_the_study_trains_judges_and_goes_on(data, trained, tmp_path):
    plan = load_plan(
        quick=True,
        starts=["fork", "encoder:nothing_like_it", "nothing"],
        labels=[50],
        settings=TINY,
        drawn=[10],
    )
    page = run_labels(data, tmp_path, plan=plan, old=trained, device="cpu")
    run = RunFolder(tmp_path / "runs" / "fork" / "50-labels" / "seed-0")
    assert sum(run.notes()["galaxies"][part] for part in ("train", "validation")) == 50
    assert read_split(run.path).only == Galaxies(DataFolder(data)).split_for(50, 0).only
    assert read_recipe(run.path).learning_rate == 1e-4 and "learning_rate=2e-5" in SETTINGS
    assert read_recipe(run.path).freeze_batch_norm
    other = RunFolder(tmp_path / "runs" / "nothing" / "50-labels" / "seed-0")
    assert read_recipe(other.path).learning_rate == 1e-3
    assert not read_recipe(other.path).freeze_batch_norm
    assert load_weights(other.path).recipe.architecture == load_weights(run.path).recipe.architecture
    numbers = read_json(page.parent / "numbers.json", RecipeError, "")
    sections = numbers["sections"]
    assert sections["summary"]["errors"]["fork"]["labels"] == [50]
    assert sections["summary"]["errors"]["fork"]["mean"] == [
        pytest.approx(run.evaluation()["rmse"]["value"], rel=1e-5)
    ]
    shown = re.search("Settings</dt><dd>(.*?)</dd>", page.read_text(encoding="utf-8"))[1].split(", ")
    assert len({setting.partition("=")[0] for setting in shown}) == len(shown)
    (skipped,) = numbers["skipped"].items()
    assert 'timm has no encoder "nothing_like_it"' in skipped[0] and skipped[1] == [
        "encoder:nothing_like_it, 50 labels"
    ]
    assert sections["shift"]["shift"]["10"]["old"]["draws"] == 20
    before = run.weights.stat().st_mtime_ns
    again = ["study", "labels", "--data", str(data), "--quick", "--start", "fork", "--labels", "50"]
    again += [word for setting in TINY for word in ("--set", setting)] + ["--out", str(tmp_path)]
    said = CliRunner().invoke(app, [*again, "--device", "cpu"], catch_exceptions=False)
    assert said.exit_code == 0 and run.weights.stat().st_mtime_ns == before
