"""The judgement of intervals against counting by hand, and its chance against simulation."""

import json

import numpy as np
import pytest

from hubblefork.stats import metrics
from hubblefork.stats.conformal import fit_intervals
from hubblefork.stats.evaluation import Judge, within_by_chance
from hubblefork.zoo import to_joint

GALAXIES = 600


@pytest.fixture(scope="module")
def sides(tree):
    rng = np.random.default_rng(0)
    each = [rng.dirichlet(np.full(len(question.answers), 0.3), GALAXIES) for question in tree.questions]
    predicted = to_joint(tree, np.concatenate(each, axis=1))
    volunteers = rng.binomial(40, rng.beta(8 * predicted + 1e-3, 8 * (1 - predicted) + 1e-3)) / 40
    volunteers[rng.random(volunteers.shape) < 0.1] = np.nan
    volunteers[:, tree.column("dust_lane")] = np.nan
    volunteers[:200, tree.column("dust_lane")] = 0.0
    return predicted, volunteers


@pytest.fixture(scope="module")
def found(tree, sides):
    (known, judged), (votes, asked) = ((side[:300], side[300:]) for side in sides)
    intervals = fit_intervals(tree.name, tree.columns, known, votes, origin="300 galaxies")
    draws = metrics.draw(300, rng=np.random.default_rng(1), resamples=50)
    return intervals, judged, asked, Judge(tree, asked, draws).intervals(judged, intervals)


def test_coverage_is_what_one_counts(tree, found):
    intervals, predicted, volunteers, judged = found
    known = ~np.isnan(volunteers)
    assert [one["stated"] for one in judged["coverages"]] == [0.68, 0.9, 0.95]
    for one in judged["coverages"]:
        low, high = intervals.bounds(predicted, one["stated"])
        inside = (low <= volunteers) & (volunteers <= high)
        assert one["found"]["value"] == pytest.approx(inside[known].mean())
        assert one["found_wide"]["value"] == pytest.approx(inside[known & (high > low)].mean())
        assert one["width"] == pytest.approx((high - low)[known].mean())
        assert one["single"] == pytest.approx((high == low)[known].mean())
        column = tree.column("merger")
        own = known[:, column]
        merger = one["answers"]["merger"]
        assert merger["found"]["value"] == pytest.approx(inside[own, column].mean())
        top = own & (predicted[:, column] >= np.quantile(predicted[own, column], 0.9))
        assert merger["found_top"]["value"] == pytest.approx(inside[top, column].mean())
        assert merger["found_top"]["galaxies"] == top.sum() == pytest.approx(own.sum() / 10, abs=1)


def test_every_answer_is_counted_once(tree, found):
    *_, judged = found
    for one in judged["coverages"]:
        assert one["within"] + one["below"] + one["above"] == len(tree.columns) - 1
        off = [
            answer["found"]["value"] - one["stated"] for answer in one["answers"].values() if answer["found"]
        ]
        assert one["within"] == sum(abs(value) <= 0.02 for value in off)
        assert one["above"] == sum(value > 0.02 for value in off)
    silent = judged["coverages"][0]["answers"]["dust_lane"]
    assert silent == {"found": None, "found_top": None, "width": None, "single": None}
    json.dumps(judged, allow_nan=False)


@pytest.mark.parametrize(
    ("stated", "calibration", "judged"), [(0.9, 472, 933), (0.68, 472, 933), (0.9, 60, 30)]
)
def test_chance_is_that_of_the_simulation(stated, calibration, judged):
    """Uniform scores, whose intervals are those below the least sufficient order statistic."""
    rng = np.random.default_rng(2)
    inside = int(np.ceil(stated * (calibration + 1)))
    near = []
    for _ in range(4000):
        bound = np.sort(rng.random(calibration))[inside - 1]
        near.append(abs(np.mean(rng.random(judged) <= bound) - stated) <= 0.02)
    error = np.std(near) / np.sqrt(len(near))
    assert abs(within_by_chance(stated, calibration, judged) - np.mean(near)) < 3 * error
