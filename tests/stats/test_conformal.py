"""Intervals on galaxies whose noise is known, against their definition, and through JSON."""

import json
import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from hubblefork.errors import CatalogueError, RunError
from hubblefork.stats.conformal import (
    LEAST,
    AnswerIntervals,
    Intervals,
    fit_intervals,
    score_bounds,
)

ANSWERS = ("common", "rare", "half")


def galaxies(number, rng, answers=len(ANSWERS)):
    """Predictions, and fractions of 40 volunteers around them: skewed, often exactly 0 or 1."""
    predicted = rng.beta(0.4, (1.0, 6.0, 0.4)[:answers], (number, answers))
    dispersed = rng.beta(8 * predicted + 1e-3, 8 * (1 - predicted) + 1e-3)
    return predicted, rng.binomial(40, dispersed) / 40


def continuous(number, rng):
    predicted = rng.uniform(0.1, 0.5, (number, 3))
    return predicted, predicted + 0.1 * predicted * (rng.exponential(size=predicted.shape) - 0.5)


def fit(predicted, volunteers, **options):
    return fit_intervals("some_tree", ANSWERS, predicted, volunteers, **options)


def held(intervals, predicted, volunteers, coverage):
    low, high = intervals.bounds(predicted, coverage)
    return (low <= volunteers) & (volunteers <= high)


@pytest.mark.parametrize("coverage", [0.68, 0.9, 0.95])
def test_skewed_noise_that_widens_is_covered_as_stated_everywhere(coverage):
    """Over many calibrations, the chance in which is part of the promise; one width for all must fail."""
    rng = np.random.default_rng(0)
    found, plain = [], []
    for _ in range(60):
        predicted, volunteers = continuous(600, rng)
        intervals = fit(predicted[:499], volunteers[:499])
        inside = held(intervals, predicted[499:], volunteers[499:], coverage)
        top = predicted[499:] > 0.46
        found.append([inside.mean(), inside[top].mean()])
        width = np.sort(np.abs(predicted[:499] - volunteers[:499]), axis=0)[math.ceil(500 * coverage) - 1]
        plain.append((np.abs(predicted[499:] - volunteers[499:]) <= width)[top].mean())
    error = np.std(found, axis=0) / np.sqrt(len(found))
    assert np.all(np.abs(np.mean(found, axis=0) - coverage) < 3 * error + 1 / 500)
    assert np.mean(plain) < coverage - 0.05


@pytest.mark.parametrize("coverage", [0.68, 0.9])
def test_volunteers_fractions_with_points_at_0_and_1(coverage):
    """Never less than stated; more only where one number alone, 0 or 1, is that common."""
    rng = np.random.default_rng(1)
    predicted, volunteers = galaxies(40_000, rng)
    intervals = fit(predicted[:20_000], volunteers[:20_000])
    low, high = intervals.bounds(predicted[20_000:], coverage)
    inside = (low <= volunteers[20_000:]) & (volunteers[20_000:] <= high)
    assert inside.mean(axis=0).min() > coverage - 0.01
    top = predicted[20_000:] > np.quantile(predicted, 0.9, axis=0)
    assert inside[top[:, 1], 1].mean() == pytest.approx(coverage, abs=0.03)
    single = low == high
    assert single.any()
    assert inside[single].mean() > coverage
    assert set(np.unique(low[single])) <= {0.0, 1.0}


def test_score_bounds_are_the_definition():
    """Among all bounds that hold enough of n + 1 galaxies: the fewest, half of the others below."""
    rng = np.random.default_rng(2)
    for number in (1, 5, 9, 10, 19, 20, 49, 50, 77, 99):
        scores = rng.permutation(np.arange(number)).astype(float)
        for coverage in (0.5, 0.68, 0.9, 0.95):
            low, high = score_bounds(scores, coverage)
            stated = Fraction(str(coverage)) * (number + 1)
            if stated > number:
                assert (low, high) == (-math.inf, math.inf)
                continue
            gaps = [
                number + 1 if high == math.inf else int(high) + 1,
                0 if low == -math.inf else int(low) + 1,
            ]
            assert gaps[0] - gaps[1] == math.ceil(stated)
            assert gaps[1] == (number + 1 - stated) // 2


def test_score_bounds_hold_a_new_score_exactly_as_often():
    """Every one of n + 1 scores in turn is the new one: all of them are as likely."""
    scores = np.random.default_rng(3).normal(size=50)
    for coverage in (0.68, 0.9):
        inside = [
            low <= scores[new] <= high
            for new in range(50)
            for low, high in [score_bounds(np.delete(scores, new), coverage)]
        ]
        assert np.mean(inside) == pytest.approx(coverage)


def test_a_point_at_an_end_leaves_all_misses_to_the_other():
    scores = np.concatenate([np.full(30, -np.inf), np.arange(1.0, 70.0)])
    assert score_bounds(scores, 0.9) == (-math.inf, 60.0)
    assert score_bounds(-scores, 0.9) == (-60.0, math.inf)
    assert score_bounds(scores, 0.3) == (5.0, 35.0)
    assert score_bounds(np.full(99, -np.inf), 0.68) == (-math.inf, -math.inf)


def test_wider_coverage_is_nowhere_narrower_and_all_lies_between_0_and_1():
    rng = np.random.default_rng(4)
    predicted, volunteers = galaxies(600, rng)
    coverages = (0.1, 0.3, 0.5, 0.6, 0.68, 0.7, 0.8, 0.9, 0.93, 0.95, 0.999)
    intervals = fit(predicted, volunteers, coverages=coverages)
    fresh = np.concatenate([galaxies(300, rng)[0], [[0, 0, 0], [1, 1, 1], [1e-12, 0.5, 1 - 1e-12]]])
    bounds = [intervals.bounds(fresh, coverage) for coverage in coverages]
    for low, high in bounds:
        assert np.all((low >= 0) & (low <= high) & (high <= 1))
    for (low, high), (lower, higher) in pairwise(bounds):
        assert np.all((lower <= low) & (higher >= high))
    assert (bounds[-1][0].max(), bounds[-1][1].min()) == (0, 1)


def test_missing_labels_say_nothing():
    rng = np.random.default_rng(5)
    predicted, volunteers = galaxies(500, rng)
    holes = rng.random(volunteers.shape) < 0.3
    holes[:100] = True
    intervals = fit(predicted, np.where(holes, np.nan, volunteers))
    changed = fit(np.where(holes, 0.123, predicted), np.where(holes, np.nan, volunteers))
    assert intervals == changed
    assert intervals.galaxies == np.count_nonzero(~holes.all(axis=1))
    for column, answer in enumerate(intervals.answers.values()):
        own = ~holes[:, column]
        alone = fit_intervals("t", ["one"], predicted[own, column, None], volunteers[own, column, None])
        assert alone.answers["one"] == answer


def test_an_answer_of_few_galaxies_borrows_from_all():
    predicted, volunteers = galaxies(300, np.random.default_rng(6))
    volunteers[LEAST - 1 :, 1] = np.nan
    intervals = fit(predicted, volunteers)
    known = ~np.isnan(volunteers)
    pooled = fit_intervals("t", ["one"], predicted[known][:, None], volunteers[known][:, None])
    assert intervals.answers["rare"] == pooled.answers["one"]
    assert intervals.answers["common"].galaxies == 300


def test_spread_widens():
    rng = np.random.default_rng(7)
    spread = rng.uniform(0.01, 0.2, (3000, 3))
    predicted = rng.uniform(0.4, 0.6, (3000, 3))
    volunteers = predicted + spread * rng.normal(size=predicted.shape) / 2
    intervals = fit(predicted[:2000], volunteers[:2000], spread=spread[:2000])
    low, high = intervals.bounds(predicted[2000:], 0.9, spread=spread[2000:])
    width, apart = high - low, spread[2000:]
    assert width[apart > 0.15].mean() > 3 * width[apart < 0.05].mean()
    inside = (low <= volunteers[2000:]) & (volunteers[2000:] <= high)
    for chosen in (apart > 0.15, apart < 0.05):
        assert inside[chosen].mean() == pytest.approx(0.9, abs=0.04)
    with pytest.raises(CatalogueError, match="with a spread, and there is none"):
        intervals.bounds(predicted, 0.9)
    with pytest.raises(CatalogueError, match="without a spread"):
        fit(predicted, volunteers).bounds(predicted, 0.9, spread=spread)
    with pytest.raises(CatalogueError, match="not negative"):
        intervals.bounds(predicted, 0.9, spread=-spread)


def test_few_galaxies_are_refused():
    predicted, volunteers = galaxies(LEAST - 1, np.random.default_rng(8))
    with pytest.raises(CatalogueError, match=r"49 labelled galaxies .* at least 50"):
        fit(predicted, volunteers)


def test_predictions_that_are_none_are_refused():
    predicted, volunteers = galaxies(100, np.random.default_rng(9))
    intervals = fit(predicted, volunteers)
    with pytest.raises(CatalogueError, match=r"coverage 0\.8; these have 0\.68, 0\.9, 0\.95"):
        intervals.bounds(predicted, 0.8)
    with pytest.raises(CatalogueError, match=r"shape \(100, 2\) for 3 answers"):
        intervals.bounds(predicted[:, :2], 0.9)
    predicted[5, 1] = np.nan
    with pytest.raises(CatalogueError, match="finite numbers"):
        intervals.bounds(predicted, 0.9)


@pytest.mark.parametrize("coverages", [(), (0.9, 0.68), (0.0, 0.5), (0.5, 1.0)])
def test_coverages_rise_between_0_and_1(coverages):
    predicted, volunteers = galaxies(100, np.random.default_rng(10))
    with pytest.raises(CatalogueError, match="coverages of"):
        fit(predicted, volunteers, coverages=coverages)


def test_json_round_trip(tmp_path):
    predicted, volunteers = galaxies(200, np.random.default_rng(11))
    intervals = fit(predicted, volunteers, origin="200 galaxies", weights="ab" * 32)
    intervals.write(tmp_path / "intervals.json")
    text = (tmp_path / "intervals.json").read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert Intervals.read(tmp_path / "intervals.json") == intervals
    assert '"-inf"' in text


def broken(intervals):
    """Every way in which a file may not be what it says."""
    entries = json.loads(intervals.to_json())
    yield "{"
    yield "[]"
    yield json.dumps({**entries, "surprise": 1})
    yield json.dumps({key: entry for key, entry in entries.items() if key != "coverages"})
    yield json.dumps({**entries, "coverages": [0.9]})
    yield json.dumps({**entries, "coverages": ["many", 0.9, 0.95]})
    for change in (
        {"edges": [0.5, 0.2]},
        {"variance": [1.0]},
        {"variance": [-1, 0, 0]},
        {"low": [[0.0]] * 3},
        {"low": [["inf", "inf", "nan"]] * 3},
        {"high": "wide"},
        {"galaxies": None},
    ):
        yield json.dumps({**entries, "answers": {"common": {**entries["answers"]["common"], **change}}})


def test_broken_files_are_refused_by_name(tmp_path):
    path = tmp_path / "intervals.json"
    with pytest.raises(RunError, match=r"intervals\.json: no readable intervals.*hubblefork evaluate"):
        Intervals.read(path)
    predicted, volunteers = galaxies(200, np.random.default_rng(12))
    for text in broken(fit(predicted, volunteers)):
        path.write_text(text)
        with pytest.raises(RunError, match=r"intervals\.json: no readable intervals"):
            Intervals.read(path)


def test_bounds_that_cross_are_no_intervals():
    with pytest.raises(CatalogueError, match="lower bounds above"):
        AnswerIntervals(60, (0.1, 0.0, 0.0), (), ((0.5,),), ((0.1,),))
    with pytest.raises(CatalogueError, match="1 of 2 coverages"):
        one = AnswerIntervals(60, (0.1, 0.0, 0.0), (), ((-0.5,),), ((0.1,),))
        Intervals("tree", (0.5, 0.9), 60, {"one": one})


def test_bounds_of_a_number_may_lie_anywhere(tmp_path):
    rng = np.random.default_rng(1)
    predicted = rng.normal(0, 30, (4000, 3))
    volunteers = predicted + rng.normal(0, 5, predicted.shape)
    intervals = fit(predicted[:2000], volunteers[:2000], bounded=False)
    low, high = intervals.bounds(predicted[2000:], 0.9)
    inside = (low <= volunteers[2000:]) & (volunteers[2000:] <= high)
    assert inside.mean() == pytest.approx(0.9, abs=0.02)
    assert low.min() < -60 and high.max() > 60 and np.median(high - low) == pytest.approx(16.4, abs=1)
    intervals.write(tmp_path / "intervals.json")
    assert Intervals.read(tmp_path / "intervals.json") == intervals and not intervals.bounded
