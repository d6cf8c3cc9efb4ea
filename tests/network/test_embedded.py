"""The weights that come with hubblefork: what they say of a drawn galaxy; what their card says of them."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hubblefork
from hubblefork.api.judging import intervals_of
from hubblefork.data.archives import galaxy_id_of, open_source
from hubblefork.data.images import stream
from hubblefork.data.labels import read_labels
from hubblefork.data.split import Split, read_ids
from hubblefork.errors import RunError
from hubblefork.network.predict import BATCH, Predictor
from hubblefork.network.weights import EMBEDDED, load_weights, weights_file

MEGABYTES_25 = 25e6


@pytest.fixture(scope="module")
def card():
    return json.loads(EMBEDDED.with_suffix(".json").read_text(encoding="utf-8"))


def spiral(side=424):
    """Draw a galaxy without random numbers: a disc with a bulge and two arms, on a faint sky."""
    y, x = (np.mgrid[:side, :side] - (side - 1) / 2) / (side / 2)
    radius, angle = np.hypot(x, y / 0.8), np.arctan2(y / 0.8, x)
    arms = np.cos(2 * (angle - 3.5 * np.log(radius + 0.05))) ** 8
    light = np.exp(-radius / 0.04) + np.exp(-radius / 0.18) * (0.35 + 0.5 * arms)
    colour = np.stack([light * (1 - 0.15 * arms), light, light * (0.75 + 0.2 * arms)], axis=-1)
    return np.clip(255 * np.arcsinh(4 * colour) / np.arcsinh(5) + 8, 0, 255).astype(np.uint8)


def test_all_weights_of_the_package_are_small():
    files = list(EMBEDDED.parent.glob("*.safetensors"))
    assert sum(file.stat().st_size for file in files) <= MEGABYTES_25


def test_the_card_is_of_these_weights(card):
    assert card["sha256"] == hashlib.sha256(EMBEDDED.read_bytes()).hexdigest()
    assert card["recipe"] == load_weights(EMBEDDED).recipe.name


def test_a_drawn_galaxy_has_the_fractions_it_had(card, tmp_path):
    weights = load_weights(EMBEDDED)
    single = replace(weights, recipe=replace(weights.recipe, precision="32"))
    Image.fromarray(spiral()).save(tmp_path / "spiral.png")
    [(_, stamp)] = stream(tmp_path, weights.recipe.stamps, threads=1)
    found = Predictor(single, device="cpu")(stamp[None])[0]
    np.testing.assert_allclose(found, card["drawn_galaxy"], atol=1e-4)


def test_the_first_command_needs_no_run(tmp_path):
    Image.fromarray(spiral()).save(tmp_path / "spiral.png")
    galaxy = hubblefork.classify(tmp_path / "spiral.png", device="cpu")
    assert galaxy["features_or_disk"] > 0.5
    assert galaxy["spiral"] > 0.4
    assert "spiral" in str(galaxy)


def test_they_have_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fork = Path("fork")
    assert weights_file(fork) == EMBEDDED
    assert intervals_of(fork, views=16).weights == load_weights(fork).digest
    fork.mkdir()
    with pytest.raises(RunError, match="fork: there are no weights"):
        weights_file(fork)


def test_the_test_galaxies_have_the_error_of_the_card(card, kaggle, tree):
    split = Split(
        salt="kaggle-split-1", test=30, validation=15, judge_on=read_ids(kaggle / "unselected_ids.txt")
    )
    labels = read_labels([kaggle / "training_solutions_rev1.zip"], tree)
    archive = kaggle / "images_training_rev1.zip"
    with open_source(archive) as source:
        names = source.names()
    parts = split.assign([int(galaxy_id_of(name)) for name in names])
    chosen = [name for name, part in zip(names, parts, strict=True) if part == "test"]
    weights = load_weights(EMBEDDED)
    predictor = Predictor(weights, device="cpu")
    stamps = dict(stream(archive, weights.recipe.stamps, names=chosen))
    pixels = np.stack([stamps[name] for name in chosen])
    batches = [pixels[start : start + BATCH] for start in range(0, len(pixels), BATCH)]
    found = np.concatenate([predictor(batch) for batch in batches])
    difference = found - labels.joint[[labels.row_of[galaxy_id_of(name)] for name in chosen]]
    assert len(chosen) == card["test_galaxies"]
    assert np.sqrt(np.mean(difference**2)) == pytest.approx(card["test_rmse"]["1"], abs=3e-4)
