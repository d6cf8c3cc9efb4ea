"""Every command of the tour runs, in the tour's order, on a mock sky."""

import re
import shlex
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hubblefork.cli import app
from hubblefork.data.catalogue import galaxy_ids, read_catalogue
from hubblefork.mock import write_mock_sky

TOUR = (Path(__file__).parents[1] / "docs" / "tour.md").read_text(encoding="utf-8")
# run, with smaller settings, in tests/studies
MINUTES = tuple(f"study {name}" for name in ("lab", "soft-target", "mergers", "compare"))
COMMANDS = [
    command
    for command in re.findall(r"^hubblefork (.+)$", TOUR, re.MULTILINE)
    if not command.startswith(MINUTES)
]
BRIEFLY = ["--set", "epochs=1", "--set", "steps_per_epoch=2", "--device", "cpu"]
SMALL = {  # what a command of the tour is given besides, where networks are large
    "vgg7": ["--set", "width=2"],
    "resnet50-lora": ["--set", "architecture=encoder:resnet10t", "--set", "pretrained="],
}
TRAINING = ("train", "tune", "crossval", "finetune")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder in which the tour's file names exist."""
    folder = tmp_path_factory.mktemp("tour")
    write_mock_sky(folder / "kaggle", galaxies=60, seed=2, processes=1)
    shutil.copy(folder / "kaggle" / "images_test_rev1.zip", folder)
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
    labels = [f"{Path(name).stem},{number % 2}\n" for number, name in enumerate(sorted(archive.namelist()))]
    (folder / "labels.csv").write_text("galaxy_id,ring\n" + "".join(labels))
    return folder


def test_there_is_a_tour():
    assert len(COMMANDS) >= 10


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_tour_runs(place, monkeypatch, command):
    monkeypatch.chdir(place)
    words = [word for part in shlex.split(command) for word in sorted(map(str, Path().glob(part))) or [part]]
    done = CliRunner().invoke(app, words + _briefly(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    if "--out" in words:
        assert Path(words[words.index("--out") + 1]).exists()


def _briefly(words):
    verb = words[2] if words[0] == "--networks" else words[0]
    if verb not in TRAINING:
        return []
    recipe = words[words.index("--recipe") + 1] if "--recipe" in words else ""
    fewer = {"tune": ["--trials", "1"], "crossval": ["--folds", "2"]}.get(verb, [])
    return [*BRIEFLY, *SMALL.get(recipe, []), *fewer]
