"""The benchmark of prediction: what it runs and writes, not how fast anything is."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import predict
from measure import Measured

RATES = {"stamps": 300.0, "network": 150.0}


@pytest.fixture
def archive(tmp_path):
    rng = np.random.default_rng(1)
    with zipfile.ZipFile(tmp_path / "cutouts.zip", "w") as made:
        for name in ("a", "b"):
            pixels = Image.fromarray(rng.integers(0, 256, (424, 424, 3), dtype=np.uint8))
            written = io.BytesIO()
            pixels.save(written, "JPEG")
            made.writestr(f"folder/{name}.jpg", written.getvalue())
    return tmp_path / "cutouts.zip"


def test_images_are_repeated_under_other_names(archive, tmp_path):
    with zipfile.ZipFile(predict.repeated(archive, 5, tmp_path)) as made, zipfile.ZipFile(archive) as given:
        assert made.namelist() == ["0-a.jpg", "0-b.jpg", "1-a.jpg", "1-b.jpg", "2-a.jpg"]
        assert made.read("2-a.jpg") == given.read("folder/a.jpg")
        assert {info.compress_type for info in made.infolist()} == {zipfile.ZIP_STORED}


def test_a_prediction_is_measured_as_a_process_of_its_own(archive, tmp_path):
    found = predict.found_of_prediction("fork", {2: archive}, tmp_path)
    assert 0.05 < found["fork, 2 images", "GB at most"] < 10
    assert 0 < found["fork, 2 images", "galaxies/s"] < 2 / 0.1
    assert not list(tmp_path.glob("catalogue.parquet*"))


@pytest.mark.parametrize("side", ["stamps", "network"])
def test_a_bound_is_a_rate(side, archive, capsys):
    predict.main([str(archive), "--model", "fork", "--side", side])
    assert json.loads(capsys.readouterr().out)["rate"] > 0


def test_ratios_are_taken_within_a_round_and_kept(archive, tmp_path, monkeypatch, capsys):
    """Predictions take 2 s, then 4 s; other programs do 10 galaxies/s; classifying takes as long."""
    commands = []

    def pretended(command, **_):
        words = [str(word) for word in command]
        commands.append(words)
        seconds = 2.0 if len([one for one in commands if "predict" in one]) <= 3 else 4.0
        if "predict" in words:
            out = words[words.index("--out") + 1]
            Path(out).touch()
        rate = RATES.get(words[words.index("--side") + 1] if "--side" in words else "", 0)
        said = json.dumps({"rate": rate, "seconds": 0.2, "processor": 0.4, "galaxies": 2})
        return Measured(seconds, 1.0, 0.5, said, None)

    monkeypatch.setattr(predict, "run", pretended)
    monkeypatch.setattr(predict, "random_lab_cnn", lambda folder: folder / "lab-cnn.safetensors")
    words = ["--images", "4", "--rounds", "2", "--zoobot-python", "py", "--zoobot-images", "2"]
    predict.main([str(archive), *words, "--keras-python", "py", "--record", str(tmp_path / "record")])
    kept = json.loads((tmp_path / "record" / "predict.json").read_text())
    numbers = {(number["what"], number["unit"]): number["values"] for number in kept["numbers"]}
    assert numbers["fork, 4 images", "galaxies/s"] == [2.0, 1.0]
    assert numbers["Zoobot resnet18, 2 images", "galaxies/s"] == [10.0, 10.0]
    assert numbers["fork, 4 images / Zoobot resnet18, 2 images", "times"] == [0.2, 0.1]
    ratio = "fork, 4 images / Zoobot resnet18, 2 images", "times of the processor"
    assert numbers[ratio] == [4 / 1 / (2 / 0.4)] * 2
    assert numbers["lab-cnn, 4 images / Keras lab-cnn, 4 images", "times"] == [0.2, 0.1]
    assert numbers["fork-fast, both in turn", "galaxies/s"] == [100.0, 100.0]
    assert numbers["fork, 4 images / the slower half alone", "share"] == pytest.approx([2 / 150, 1 / 150])
    assert numbers["fork, 4 images / both in turn", "share"] == [0.02, 0.01]
    page = (tmp_path / "record" / "README.md").read_text()
    assert "| predict | fork, 4 images | 1.5 | galaxies/s | 1 to 2 | 2 |" in page
    assert kept["machine"] in page and kept["machine"] in capsys.readouterr().out
