"""The whole judgement on a small sky whose every number is known."""

import json

import numpy as np
import pyarrow as pa
import pytest

from hubblefork.data.folders import RunFolder
from hubblefork.data.split import Split
from hubblefork.errors import CatalogueError, RunError, UnknownAnswer
from hubblefork.stats import baselines, metrics
from hubblefork.stats.conformal import fit_intervals
from hubblefork.stats.evaluation import Judge, calibrate, evaluate, within_by_chance, write_evaluation
from hubblefork.tables.catalogue import with_fractions
from hubblefork.zoo import to_joint

SPLIT = Split(salt="here", test=30, validation=15)
GALAXIES = 400


def catalogue(ids, values, tree, **columns):
    return with_fractions(pa.table({"galaxy_id": ids, **columns}), values, tree)


@pytest.fixture
def votes(tree):
    rng = np.random.default_rng(5)
    each = [rng.dirichlet(np.ones(len(question.answers)), GALAXIES) for question in tree.questions]
    return to_joint(tree, np.concatenate(each, axis=1))


@pytest.fixture
def volunteers(tree, votes):
    """The redder the centre, the smoother the galaxy."""
    red = (55 + 200 * votes[:, 0]).astype(np.uint8)
    other = np.full(GALAXIES, 100, dtype=np.uint8)
    colours = {"centre_red": red, "centre_green": other, "centre_blue": other}
    return catalogue(np.arange(GALAXIES), votes, tree, **colours)


@pytest.fixture
def predicted(tree, votes):
    """Predictions a little off, in another order than the volunteers' catalogue."""
    noise = np.random.default_rng(6).normal(0, 0.02, votes.shape)
    order = np.random.default_rng(7).permutation(GALAXIES)
    return catalogue(order, np.clip(votes + noise, 0, 1)[order], tree)


def judge(tree, predicted, volunteers, part="test", split=SPLIT, **options):
    rng = np.random.default_rng(8)
    return evaluate(tree, predicted, volunteers, split, part, rng=rng, **{"resamples": 100, **options})


def rows(part):
    return SPLIT.assign(range(GALAXIES)) == part


def values_by_id(table, tree):
    order = np.argsort(table.column("galaxy_id").to_numpy())
    return np.stack([table.column(name).to_numpy()[order] for name in tree.columns], axis=1)


def test_numbers_are_those_of_the_test_galaxies(tree, votes, volunteers, predicted):
    found = judge(tree, predicted, volunteers)
    joint, test = values_by_id(predicted, tree), rows("test")
    assert found["galaxies"] == test.sum() == found["rmse"]["galaxies"]
    assert found["training_galaxies"] == rows("train").sum()
    assert found["not_predicted"] == 0
    assert found["rmse"]["value"] == pytest.approx(metrics.rmse(joint[test], votes[test]))
    assert found["agreement"]["value"] == metrics.agreement(joint[test], votes[test])
    low, high = found["rmse"]["interval_95"]
    assert low < found["rmse"]["value"] < high
    per_answer = [found["answers"][name]["rmse"]["value"] for name in tree.columns]
    np.testing.assert_allclose(per_answer, metrics.rmse_per_answer(joint[test], votes[test]))
    per_question = [found["questions"][q.name]["rmse"]["value"] for q in tree.questions]
    np.testing.assert_allclose(
        per_question, metrics.per_question(tree, metrics.error_terms(joint[test], votes[test])).values()
    )
    expected = metrics.constraint_violation(tree, joint[test])
    assert found["constraint_violation"] == pytest.approx(expected)


def test_intervals_are_fitted_on_one_part_and_judged_on_another(tree, votes, volunteers, predicted):
    split = Split(salt="here", test=30, validation=40)
    fitted = calibrate(tree, predicted, volunteers, split, "validation", weights="ab", views=8)
    validation = split.assign(range(GALAXIES)) == "validation"
    assert (fitted.galaxies, fitted.weights, fitted.views) == (validation.sum(), "ab", 8)
    joint = values_by_id(predicted, tree)
    expected = fit_intervals(tree.name, tree.columns, joint[validation], votes[validation])
    low, high = fitted.bounds(joint, 0.9)
    for side, other in zip((low, high), expected.bounds(joint, 0.9), strict=True):
        np.testing.assert_allclose(side, other, atol=1e-9)
    found = judge(tree, predicted, volunteers, split=split, intervals=fitted)
    at_90 = found["intervals"]["coverages"][1]
    assert at_90["found"]["value"] == pytest.approx(0.9, abs=0.03)
    assert found["answers"]["merger"]["calibration_error"]["value"] < 0.03


def test_too_few_galaxies_to_calibrate_on(tree, volunteers, predicted):
    few = Split(salt="here", test=30, validation=5)
    missing = calibrate(tree, predicted, volunteers, few, "validation")
    assert "at least 50 are needed" in missing.reason
    none = calibrate(tree, predicted, volunteers, Split(salt="here", test=30, validation=0), "validation")
    assert "no labelled galaxies" in none.reason
    found = judge(tree, predicted, volunteers, intervals=missing)
    assert found["intervals"] == {"reason": missing.reason, "remedy": missing.remedy}
    assert judge(tree, predicted, volunteers)["intervals"]["reason"] == "no intervals were fitted"


def test_baselines_learn_from_the_training_part_alone(tree, votes, volunteers, predicted):
    found = judge(tree, predicted, volunteers)["baselines"]
    test, train = rows("test"), rows("train")
    assert list(found) == ["all_zeros", "all_ones", "mean_vote", "kaggle_central_pixel", "central_pixel"]
    expected = baselines.mean_vote(votes[train], test.sum())
    assert found["mean_vote"]["rmse"]["value"] == pytest.approx(metrics.rmse(expected, votes[test]))
    leaked = metrics.rmse(baselines.mean_vote(votes[test], test.sum()), votes[test])
    assert found["mean_vote"]["rmse"]["value"] > leaked
    assert found["all_ones"]["rmse"]["value"] == pytest.approx(np.sqrt(((1 - votes[test]) ** 2).mean()))
    assert found["central_pixel"]["rmse"]["value"] < found["mean_vote"]["rmse"]["value"] - 0.01
    assert found["kaggle_central_pixel"]["rmse"]["value"] < found["mean_vote"]["rmse"]["value"] - 0.005


def test_how_far_baselines_are_behind(tree, volunteers, predicted):
    found = judge(tree, predicted, volunteers)
    behind = found["baselines"]["mean_vote"]["behind"]
    mean_vote = found["baselines"]["mean_vote"]["rmse"]["value"]
    assert behind["difference"] == pytest.approx(mean_vote - found["rmse"]["value"])
    assert behind["interval_95"][0] > 0
    assert behind["p_value"] == pytest.approx(2 / 101)


def test_mergers_of_both_sides(tree, volunteers, predicted, votes):
    found = judge(tree, predicted, volunteers, answer="smooth", threshold=0.5)["mergers"]
    test = rows("test")
    assert found["volunteers"]["count"] == (votes[test, 0] >= 0.5).sum()
    assert found["predicted"]["count"] == (values_by_id(predicted, tree)[test, 0] >= 0.5).sum()
    assert found["predicted"]["total"] == found["volunteers"]["total"] == test.sum()
    assert found["predicted"]["answer"] == "smooth"
    with pytest.raises(UnknownAnswer):
        judge(tree, predicted, volunteers, answer="smoothie")


def test_missing_votes_are_masked_and_become_null(tree, votes, predicted, tmp_path):
    votes[:, tree.slices[9]] = np.nan
    votes[::2, tree.column("merger")] = np.nan
    votes[::5] = np.nan
    volunteers = catalogue(np.arange(GALAXIES), votes, tree)
    found = judge(tree, predicted, volunteers)
    assert found["galaxies"] == (rows("test") & (np.arange(GALAXIES) % 5 > 0)).sum()
    assert found["agreement"] is None
    assert found["answers"]["arms_tight"]["rmse"] is None
    assert found["questions"]["arms_winding"] == {"rmse": None, "agreement": None}
    assert found["answers"]["smooth"]["rmse"]["value"] > 0
    for side in found["mergers"].values():
        assert side["total"] + side["missing"] == found["galaxies"]
        assert side["missing"] > 0
    write_evaluation(found, tmp_path / "evaluation.json")
    text = (tmp_path / "evaluation.json").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert "null" in text


def test_json_round_trip(tree, volunteers, predicted, tmp_path):
    found = judge(tree, predicted, volunteers)
    write_evaluation(found, tmp_path / "evaluation.json")
    assert RunFolder(tmp_path).evaluation() == found


def test_an_evaluation_that_is_not_there(tmp_path):
    with pytest.raises(RunError, match="hubblefork evaluate"):
        RunFolder(tmp_path).evaluation()
    (tmp_path / "evaluation.json").write_text('{"rmse": ')
    with pytest.raises(RunError, match=r"evaluation\.json cannot be read"):
        RunFolder(tmp_path).evaluation()


def test_same_generator_same_numbers(tree, volunteers, predicted):
    assert judge(tree, predicted, volunteers) == judge(tree, predicted, volunteers)


def test_a_perfect_prediction(tree, votes, volunteers):
    found = judge(tree, catalogue(np.arange(GALAXIES), votes, tree), volunteers)
    assert found["rmse"]["value"] == 0
    assert found["agreement"]["interval_95"] == [1, 1]
    assert found["mergers"]["predicted"] == found["mergers"]["volunteers"]


def test_galaxies_without_prediction_are_counted(tree, volunteers, predicted):
    some = predicted.slice(0, 300)
    found = judge(tree, some, volunteers)
    assert found["not_predicted"] > 0
    assert found["galaxies"] + found["not_predicted"] == rows("test").sum()


def test_without_colours_or_training_galaxies_the_baselines_that_need_them_are_left_out(
    tree, volunteers, predicted
):
    plain = volunteers.drop_columns(list(baselines.CENTRE))
    assert list(judge(tree, predicted, plain)["baselines"]) == ["all_zeros", "all_ones", "mean_vote"]
    found = judge(tree, predicted, volunteers, split=Split(test=100, validation=0))
    assert found["training_galaxies"] == 0
    assert list(found["baselines"]) == ["all_zeros", "all_ones"]


def test_a_baseline_never_trained_on_an_answer_is_left_out(tree, votes, predicted):
    votes[np.ix_(rows("train"), [36])] = np.nan
    found = judge(tree, predicted, catalogue(np.arange(GALAXIES), votes, tree))
    assert list(found["baselines"]) == ["all_zeros", "all_ones"]


def test_what_cannot_be_judged(tree, votes, volunteers, predicted):
    with pytest.raises(CatalogueError, match='no part "tests"'):
        judge(tree, predicted, volunteers, part="tests")
    with pytest.raises(CatalogueError, match=r"test part of the split has no labelled galaxies \(400 of 400"):
        judge(tree, predicted, volunteers, split=Split())
    with pytest.raises(CatalogueError, match="no galaxy_id in common"):
        judge(tree, catalogue(np.arange(1000, 1400), votes, tree), volunteers)
    votes[np.flatnonzero(rows("test"))[0], 4] = np.nan
    with pytest.raises(CatalogueError, match="1 predictions are no finite numbers"):
        judge(tree, catalogue(np.arange(GALAXIES), votes, tree), volunteers)


JUDGED = 600


@pytest.fixture(scope="module")
def sides(tree):
    rng = np.random.default_rng(0)
    each = [rng.dirichlet(np.full(len(question.answers), 0.3), JUDGED) for question in tree.questions]
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
