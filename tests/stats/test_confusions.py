"""Numbers of calibration galaxies correct a count as the galaxies do, and say where they cannot."""

import json

import numpy as np
import pyarrow as pa
import pytest

from hubblefork.data.catalogue import with_fractions
from hubblefork.data.folders import VIEWING, JudgedGalaxies
from hubblefork.errors import CatalogueError, RunError
from hubblefork.stats.detection import (
    THRESHOLDS,
    Confusion,
    Confusions,
    confusions_of,
)
from hubblefork.stats.estimators import Estimate, Unavailable
from hubblefork.stats.prevalence import fraction


@pytest.fixture
def held_out(tree):
    rng = np.random.default_rng(0)
    votes = rng.beta(0.4, 1.5, (600, len(tree.columns)))
    predicted = np.clip(votes + rng.normal(0, 0.1, votes.shape), 0, 1)
    votes[:20, tree.column("merger")] = np.nan
    ids = np.arange(600)
    return JudgedGalaxies(
        ids, predicted, votes, pa.table({"galaxy_id": ids}), "validation and test galaxies of it", ids
    )


@pytest.fixture
def known(held_out, tree):
    return confusions_of(held_out, tree, weights="abc", views=16, origin="validation and test galaxies")


@pytest.fixture
def catalogue(tree):
    predicted = np.random.default_rng(1).beta(0.3, 2, (300, len(tree.columns)))
    return with_fractions(pa.table({"galaxy_id": 1000 + np.arange(300)}), predicted, tree)


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.7])
def test_numbers_correct_as_the_galaxies_do(held_out, known, catalogue, threshold):
    query = f"merger >= {threshold}"
    by_galaxies, by_numbers = (fraction(catalogue, query, one, resamples=5) for one in (held_out, known))
    for name in ("corrected", "bayesian", "rogan_gladen"):
        assert isinstance(by_numbers.estimates[name], Estimate)
        assert by_numbers.estimates[name] == by_galaxies.estimates[name]
    assert len(by_numbers.calibration.truth) == 580
    assert by_numbers.estimates["isotonic"].reason == "needs the calibration galaxies themselves"


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"query": "merger >= 0.35"}, "in tenths"),
        ({"query": "merger > 0.3"}, "in tenths"),
        ({"query": "merger >= 0.3 & something_odd > 0.5"}, "not of merger"),
        (
            {"query": "merger >= 0.2", "truth": "merger >= 0.3"},
            "alike for predictions and votes, not of merger ≥ 0.2 for merger ≥ 0.3",
        ),
        ({"clean": True}, "not of those that were well asked"),
    ],
)
def test_other_criteria_have_no_numbers(known, catalogue, asked, reason):
    lost = fraction(catalogue, judged=known, **asked).estimates["corrected"]
    assert isinstance(lost, Unavailable) and reason in lost.reason and "--calibrate-on" in lost.remedy


def test_they_come_back_as_they_were_written(known, tmp_path):
    known.write(tmp_path / "completeness.json")
    back = Confusions.read(tmp_path / "completeness.json")
    assert back == known
    assert (back.weights, back.views, back.viewing) == ("abc", 16, VIEWING)


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda told: told["answers"]["merger"].pop(), "merger has 8 thresholds, not 9"),
        (lambda told: told["answers"]["merger"].__setitem__(0, [1, 2, 3, 0]), "more galaxies are counted"),
        (lambda told: told["answers"]["merger"].__setitem__(0, [1, 2]), "missing"),
        (lambda told: told.pop("views"), "views"),
    ],
)
def test_a_spoilt_file_is_refused(known, tmp_path, spoil, complaint):
    path = tmp_path / "completeness.json"
    known.write(path)
    told = json.loads(path.read_text())
    spoil(told)
    path.write_text(json.dumps(told))
    with pytest.raises(RunError, match=f"{complaint}.*`hubblefork evaluate") as refused:
        Confusions.read(path)
    assert str(path) in str(refused.value)


def test_every_threshold_is_needed():
    with pytest.raises(CatalogueError, match="1 thresholds, not 9"):
        Confusions({"merger": (Confusion(1, 1, 1, 0),)}, views=1)
    assert THRESHOLDS[2] == 0.3
