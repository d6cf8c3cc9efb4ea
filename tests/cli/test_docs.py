"""Every command of the README and of the documents runs, in their order, on a mock sky."""

import csv
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hubblefork.cli import app
from hubblefork.mock import write_mock_sky
from hubblefork.tables.catalogue import galaxy_ids, read_catalogue

ROOT = Path(__file__).parents[2]
DOCUMENTS = (
    "README.md",
    *(f"docs/{name}.md" for name in ("tour", "finetuning", "catalogue", "scale", "zooniverse", "surveys")),
)
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in DOCUMENTS}
TOUR = TEXTS["docs/tour.md"]
# run, with smaller settings, in tests/studies
MINUTES = tuple(f"study {name}" for name in ("lab", "soft-target", "mergers", "compare", "labels"))
COMMANDS = [
    (name, command)
    for name, text in TEXTS.items()
    for block in text.split("\n```")[1::2]
    for command in re.findall(
        r"^(?:\$ )?(?:hubblefork )?((?<=hubblefork ).+|python .+)$", block, re.MULTILINE
    )
    if not command.startswith(MINUTES)
]
BRIEFLY = ["--set", "epochs=1", "--set", "steps_per_epoch=2", "--device", "cpu"]
SMALL = {  # what a command of the tour is given besides, where networks are large
    "vgg7": ["--set", "width=2"],
    "resnet50-lora": ["--set", "architecture=encoder:resnet10t", "--set", "pretrained="],
}
TRAINING = ("train", "tune", "finetune")


@pytest.fixture(scope="module")
def sky(tmp_path_factory):
    """A folder in which the documents' file names exist."""
    folder = tmp_path_factory.mktemp("documents") / "sky"
    write_mock_sky(folder / "kaggle", galaxies=60, seed=2, processes=1)
    shutil.copy(folder / "kaggle" / "images_test_rev1.zip", folder)
    shutil.copy(folder / "images_test_rev1.zip", folder / "survey.zip")
    with zipfile.ZipFile(folder / "images_test_rev1.zip") as archive:
        (folder / "my_galaxy.jpg").write_bytes(archive.read(archive.namelist()[0]))
    ids = galaxy_ids(read_catalogue(folder / "kaggle" / "truth.parquet")).tolist()
    (folder / "unselected_ids.txt").write_text("\n".join(map(str, ids)))
    with zipfile.ZipFile(folder / "kaggle" / "images_training_rev1.zip") as archive:
        archive.extractall(folder / "cutouts")
    (folder / "tiles").mkdir()
    for number, name in enumerate(archive.namelist()[:2]):
        with tarfile.open(folder / "tiles" / f"{number}.tar", "w") as tile:
            tile.add(folder / "cutouts" / name, name)
    (folder / "my_network.py").write_text(re.search(r"```python\n(# my_network.+?)```", TOUR, re.DOTALL)[1])
    script = re.search(r"```python\n(# with_redshifts.+?)```", TEXTS["docs/surveys.md"], re.DOTALL)[1]
    (folder / "with_redshifts.py").write_text(script)
    own = TEXTS["docs/finetuning.md"]
    (folder / "rings.toml").write_text(re.search(r"```toml\n(.+?)```", own, re.DOTALL)[1])
    rows = [(Path(name).stem, number % 2) for number, name in enumerate(sorted(archive.namelist()))]
    _write(folder / "labels.csv", "galaxy_id,ring", (f"{name},{ring}" for name, ring in rows))
    _write(folder / "types.csv", "galaxy_id,type", (f"{name},{'ab'[ring]}" for name, ring in rows))
    _write(folder / "masses.csv", "galaxy_id,logmass", (f"{name},{ring + 9.5}" for name, ring in rows))
    nuclear = (f"{name},{ring},{1 - ring},{ring},0" for name, ring in rows)
    _write(folder / "votes.csv", "galaxy_id,ring,no_ring,nuclear,outer", nuclear)
    _write_classifications(folder / "classifications.csv", [name for name, _ in rows])
    tasks = re.search(r"```toml\n(.+?)```", TEXTS["docs/zooniverse.md"], re.DOTALL)[1]
    (folder / "tasks.toml").write_text(tasks)
    return folder


def _write_classifications(path, ids):
    """Write an export as Panoptes does: 3 volunteers' votes on each galaxy."""
    answers = json.dumps([{"task": "T0", "task_label": "", "value": "Smooth"}])
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["user_name", "workflow_id", "workflow_version", "annotations", "subject_data", "subject_ids"]
        )
        for number, name in enumerate(ids):
            data = json.dumps({number: {"galaxy_id": name, "retired": None}})
            writer.writerows([user, 6122, 66.425, answers, data, number] for user in ("ada", "bo", "cy"))


def _write(path, header, lines):
    path.write_text("\n".join([header, *lines, ""]))


@pytest.fixture(scope="module")
def places(sky):
    """A copy of that folder for each document."""
    return {name: Path(shutil.copytree(sky, sky.parent / Path(name).stem)) for name in DOCUMENTS}


def test_the_documents_have_commands():
    assert {name for name, _ in COMMANDS} == set(DOCUMENTS)
    assert len(COMMANDS) >= 35


@pytest.fixture
def cluster(command):
    """A running cluster for the commands that need one."""
    if "--address" not in command:
        yield
        return
    pytest.importorskip("ray")
    ray = Path(sys.executable).with_name("ray")
    subprocess.run([ray, "start", "--head", "--num-cpus", "2", "--include-dashboard", "false"], check=True)
    yield
    subprocess.run([ray, "stop", "--force"], check=True)


@pytest.mark.parametrize(
    ("name", "command"),
    [pytest.param(*each, marks=[pytest.mark.slow] * ("--engine ray" in each[1])) for each in COMMANDS],
)
@pytest.mark.usefixtures("cluster", "quickly")
def test_a_command_of_a_document_runs(places, monkeypatch, name, command):
    monkeypatch.chdir(places[name])
    if command.startswith("python "):
        runpy.run_path(command.removeprefix("python "))
        return
    if "--out runs/lab-cnn" not in command:  # seconds a network, which tests/network/test_export.py writes
        monkeypatch.setattr("hubblefork.api.training.write_network", lambda run: None)
    monkeypatch.setattr("hubblefork.gallery.server.serve", lambda *_, **__: None)
    words = [word for part in shlex.split(command) for word in sorted(map(str, Path().glob(part))) or [part]]
    done = CliRunner().invoke(app, words + _briefly(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    if "--out" in words:
        assert Path(words[words.index("--out") + 1]).exists()


def _briefly(words):
    verb = words[2] if words[0] == "--networks" else words[0]
    if verb == "mock":
        return ["--galaxies", "60"]
    if verb not in TRAINING:
        return []
    recipe = words[words.index("--recipe") + 1] if "--recipe" in words else ""
    fewer = ["--trials", "1"] if verb == "tune" else []
    return [*BRIEFLY, *SMALL.get(recipe, []), *fewer, *(["--folds", "2"] if "--folds" in words else [])]


@pytest.mark.parametrize(
    "name", ["README.md", *sorted(f"docs/{path.name}" for path in ROOT.glob("docs/*.md"))]
)
def test_lines_of_documents_are_short(name):
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    long = [number for number, line in enumerate(lines, 1) if len(line) > 120 and not line.startswith("|")]
    assert not [number for number in long if not lines[number - 1].startswith("hubblefork study")]
