"""A run folder with its data, made by hand: everything a report reads, and no network."""

import io
import shutil
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import tomli_w
from PIL import Image
from strict import Strict
from tests.conftest import coarse

from hubblefork.data.split import Split, write_split
from hubblefork.data.stamps import prepare
from hubblefork.images.decoder import StampSpec
from hubblefork.pages.run import write_report
from hubblefork.stats.conformal import fit_intervals
from hubblefork.stats.evaluation import evaluate, write_evaluation
from hubblefork.tables.catalogue import read_catalogue, with_fractions, with_metadata, write_catalogue
from hubblefork.tables.rejects import Reject, write_rejects
from hubblefork.zoo import to_joint

GALAXIES, UNLABELLED = 60, 12
IDS = list(range(1000, 1000 + GALAXIES + UNLABELLED))


@pytest.fixture(scope="session")
def made(tree, tmp_path_factory):
    """A whole run: copy `run` and `data` before breaking them."""
    folder = tmp_path_factory.mktemp("made")
    data, run, predictions = folder / "data", folder / "run", folder / "predictions.parquet"
    rng = np.random.default_rng(0)
    votes = _votes(tree, rng)
    _write_data(tree, data, folder / "images", votes, rng)
    _write_run(run, data)
    guesses = np.clip(np.nan_to_num(votes, nan=0.3) + rng.normal(0, 0.05, votes.shape), 0, 1)
    _write_predictions(tree, run, data, predictions, guesses, votes)
    return SimpleNamespace(data=data, run=run, predictions=predictions, votes=votes, guesses=guesses)


def _votes(tree, rng):
    conditional = np.hstack([rng.dirichlet(np.ones(len(q.answers)), size=len(IDS)) for q in tree.questions])
    votes = to_joint(tree, conditional)
    votes[GALAXIES:] = np.nan
    return votes


def _write_data(tree, data, images, votes, rng):
    images.mkdir()
    for galaxy_id in IDS:
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(buffer, "JPEG")
        (images / f"{galaxy_id}.jpg").write_bytes(buffer.getvalue())
    columns = {"galaxy_id": IDS, "source": [str(images)] * len(IDS), "member": [f"{i}.jpg" for i in IDS]}
    columns |= {side: pa.array([24] * len(IDS), pa.int32()) for side in ("width", "height")}
    for band in ("centre_red", "centre_green", "centre_blue"):
        columns[band] = rng.integers(0, 256, len(IDS), dtype=np.uint8)
    write_catalogue(with_fractions(pa.table(columns), votes, tree), data / "catalogue.parquet")
    write_rejects(
        [Reject("a.zip", f"{k}.jpg", str(k), "damaged <image>", "no") for k in range(3)], data / "rejects.csv"
    )
    prepare(data, StampSpec(16, 8), threads=1)


def _write_run(run, data):
    recipe = {"name": "small", "about": "nothing", "crop": 16, "stamp_size": 8, "watch": "validation_rmse"}
    notes = {
        "data": str(data),
        "recipe": "small",
        "seed": 5,
        "finished": True,
        "changed": ["epochs: 3, not 100", "dropout: 0.2, not 0.5"],
        "start": "resnet9.in1k of timm",
        "centred_on": 30,
        "centred_rmse": 0.1075,
        "galaxies": {"train": 36, "validation": 12, "test": 12},
        "parameters": {"learned": 1652389, "keras": 1652453},
        "device": {"kind": "cpu", "precision": "bf16-mixed", "threads": 2},
        "best_epoch": 1,
        "best": {"validation_rmse": 0.11},
        "versions": {"hubblefork": "0.1.0", "torch": "9.9"},
    }
    run.mkdir()
    (run / "recipe.toml").write_text(tomli_w.dumps(recipe))
    (run / "run.toml").write_text(tomli_w.dumps(notes))
    write_split(Split("salt", test=30, validation=20), run)
    (run / "metrics.csv").write_text(
        "epoch,step,train_rmse,validation_rmse,train_agreement,validation_agreement,"
        "learning_rate,seconds,galaxies_per_second\n"
        "0,1,0.3,0.2,0.4,0.5,0.001,1.0,100\n1,2,0.2,0.11,0.5,0.6,0.001,1.0,120\n2,3,0.1,0.12,0.6,0.6,0.0005,1.0,110\n"
    )


def _write_predictions(tree, run, data, predictions, guesses, votes):
    split, table = Split("salt", test=30, validation=20), read_catalogue(data / "catalogue.parquet")
    everything = with_fractions(table.select(["galaxy_id"]), guesses, tree)
    everything = with_metadata(everything, {"quantity": "joint_fraction"})
    parts = split.assign(IDS)
    for part in ("validation", "test"):
        write_catalogue(everything.filter(parts == part), run / "predictions" / f"{part}.parquet")
    test = read_catalogue(run / "predictions" / "test.parquet")
    rng = np.random.default_rng(1)
    intervals = fit_intervals(
        tree.name, tree.columns, guesses[:GALAXIES], votes[:GALAXIES], origin="60 galaxies"
    )
    found = evaluate(tree, test, table, split, "test", rng=rng, resamples=50, intervals=intervals)
    write_evaluation(found, run / "evaluation.json")
    write_catalogue(everything.slice(GALAXIES), predictions)


@pytest.fixture(scope="session")
def votes(tree):
    rng = np.random.default_rng(1)
    conditional = np.hstack([rng.dirichlet(np.ones(len(q.answers)), size=60) for q in tree.questions])
    joint = to_joint(tree, conditional)
    joint[:7, tree.slices[tree.questions.index(tree.question("odd_feature"))]] = np.nan
    return joint


@pytest.fixture(scope="session")
def predicted(votes):
    noise = np.random.default_rng(2).normal(0, 0.1, votes.shape)
    return np.clip(np.nan_to_num(votes, nan=0.2) + noise, 0, 1)


@pytest.fixture
def copied(made, tmp_path):
    """A run and data to break."""
    run, data = tmp_path / "run", tmp_path / "data"
    shutil.copytree(made.run, run, ignore=shutil.ignore_patterns("report"))
    shutil.copytree(made.data, data)
    (run / "run.toml").write_text((run / "run.toml").read_text().replace(str(made.data), str(data)))
    return run, data


@pytest.fixture(scope="session")
def whole(made):
    with coarse():
        path = write_report(made.run, predictions=made.predictions)
    return path, Strict(path.read_text(encoding="utf-8"))
