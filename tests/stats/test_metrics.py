"""Metrics against scikit-learn, plain loops and theory."""

from itertools import combinations

import numpy as np
import pytest
from scipy import stats
from scipy.stats import norm
from sklearn.metrics import (
    accuracy_score,
    log_loss,
    precision_score,
    recall_score,
    roc_auc_score,
    root_mean_squared_error,
)

from hubblefork.errors import CatalogueError
from hubblefork.stats import metrics
from hubblefork.stats.metrics import are_classes, binary, draw, is_binary, judged_classes, reliability_of
from hubblefork.zoo import to_joint, violations


def obeying(tree, rng, galaxies):
    each = [rng.dirichlet(np.ones(len(question.answers)), galaxies) for question in tree.questions]
    return to_joint(tree, np.concatenate(each, axis=1))


@pytest.fixture
def sides(tree, rng):
    return obeying(tree, rng, 200), obeying(tree, rng, 200)


@pytest.fixture
def rng():
    return np.random.default_rng(20)


def with_holes(votes, rng, share=0.3):
    return np.where(rng.random(votes.shape) < share, np.nan, votes)


def test_rmse_is_scikit_learns(sides):
    predicted, votes = sides
    expected = root_mean_squared_error(votes.ravel(), predicted.ravel())
    assert metrics.rmse(predicted, votes) == pytest.approx(expected)
    each = root_mean_squared_error(votes, predicted, multioutput="raw_values")
    np.testing.assert_allclose(metrics.rmse_per_answer(predicted, votes), each)


def test_missing_labels_are_masked_not_zero(sides, rng):
    predicted, votes = sides
    votes = with_holes(votes, rng)
    known = ~np.isnan(votes)
    expected = root_mean_squared_error(votes[known], predicted[known])
    assert metrics.rmse(predicted, votes) == pytest.approx(expected)
    as_zero = root_mean_squared_error(np.nan_to_num(votes).ravel(), predicted.ravel())
    assert abs(metrics.rmse(predicted, votes) - as_zero) > 0.005


def test_rmse_per_question_pools_its_answers(tree, sides, rng):
    predicted, votes = sides
    votes = with_holes(votes, rng)
    for number, answers in enumerate(tree.slices):
        known = ~np.isnan(votes[:, answers])
        expected = root_mean_squared_error(votes[:, answers][known], predicted[:, answers][known])
        assert metrics.per_question(tree, metrics.error_terms(predicted, votes)).values()[
            number
        ] == pytest.approx(expected)


def test_an_answer_nobody_has_is_nan_alone_and_an_error_in_total(tree, sides):
    predicted, votes = sides
    votes[:, 3] = np.nan
    per_answer = metrics.rmse_per_answer(predicted, votes)
    assert np.isnan(per_answer[3])
    assert np.isnan(per_answer).sum() == 1
    votes[:] = np.nan
    with pytest.raises(CatalogueError, match="none has the fractions"):
        metrics.rmse(predicted, votes)
    with pytest.raises(CatalogueError, match="agreement of 200 galaxies"):
        metrics.agreement(predicted, votes)
    with pytest.raises(CatalogueError, match="RMSE of 0 galaxies"):
        metrics.rmse(np.empty((0, 37)), np.empty((0, 37)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_prediction_that_is_no_number_is_an_error_where_volunteers_voted(sides, value):
    predicted, votes = sides
    predicted[5, 7] = value
    with pytest.raises(CatalogueError, match="row 5, answer 7"):
        metrics.rmse(predicted, votes)
    with pytest.raises(CatalogueError, match="row 5, answer 7"):
        metrics.agreement(predicted, votes)
    votes[5, 7] = np.nan
    assert np.isfinite(metrics.rmse(predicted, votes))


def test_shapes_must_match(sides):
    predicted, votes = sides
    with pytest.raises(CatalogueError, match="shape"):
        metrics.rmse(predicted[:-1], votes)


def test_agreement_is_the_accuracy_of_the_highest_answers(sides):
    predicted, votes = sides
    expected = accuracy_score(votes.argmax(axis=1), predicted.argmax(axis=1))
    assert metrics.agreement(predicted, votes) == pytest.approx(expected)
    assert metrics.agreement(votes, votes) == 1


def test_agreement_counts_complete_galaxies_only(sides):
    predicted, votes = sides
    votes[50:, 20] = np.nan
    assert metrics.agreement(predicted, votes) == metrics.agreement(predicted[:50], votes[:50])


def test_agreement_within_a_question_by_a_loop(tree, sides):
    predicted, votes = sides
    votes[::7, tree.slices[4]] = np.nan
    found = metrics.agreement_terms_per_question(tree, predicted, votes).values()
    for number, answers in enumerate(tree.slices):
        hits = []
        for p, v in zip(predicted, votes, strict=True):
            asked = sum(v[parent] for parent in tree.parents[number]) if tree.parents[number] else 1
            if asked >= 0.5 and not np.isnan(v[answers]).any():
                hits.append(p[answers].argmax() == v[answers].argmax())
        assert found[number] == pytest.approx(np.mean(hits) if hits else np.nan, nan_ok=True)


def test_agreement_within_a_question_needs_it_to_be_reached(tree):
    votes = np.zeros((2, len(tree.columns)))
    votes[:, tree.column("something_odd")] = 0.5, 0.49
    votes[:, tree.column("nothing_odd")] = 0.5, 0.51
    votes[:, tree.column("merger")] = 0.5, 0.49
    terms = metrics.agreement_terms_per_question(tree, votes, votes)
    number = [q.name for q in tree.questions].index("odd_feature")
    assert terms.denominator[:, number].tolist() == [1, 0]


def test_constraint_violation_is_what_the_checker_finds(tree, rng):
    wild = rng.normal(0.3, 0.5, (100, len(tree.columns)))
    excesses = sum(abs(v.excess) for v in violations(tree, wild, tolerance=0))
    expected = excesses / (100 * len(tree.questions))
    assert metrics.constraint_violation(tree, wild) == pytest.approx(expected)
    assert metrics.constraint_violation(tree, obeying(tree, rng, 100)) == pytest.approx(0, abs=1e-15)


def test_constraint_violation_of_a_known_break(tree, rng):
    joint = obeying(tree, rng, 10)
    joint[:, tree.column("merger")] += 0.11
    assert metrics.constraint_violation(tree, joint) == pytest.approx(0.11 / 11)
    with pytest.raises(CatalogueError, match="violation of 0 galaxies"):
        metrics.constraint_violation(tree, joint[:0])


def test_draws_are_bootstrap_samples_of_the_generator(rng):
    draws = metrics.draw(300, rng=rng, resamples=400)
    assert (draws.sum(axis=1, dtype=int) == 300).all()
    assert draws.mean() == 1
    assert draws.var() == pytest.approx(1 - 1 / 300, rel=0.02)
    again = metrics.draw(300, rng=np.random.default_rng(20), resamples=400)
    np.testing.assert_array_equal(draws, again)
    with pytest.raises(CatalogueError, match="at least 1"):
        metrics.draw(0, rng=rng)


def test_replicates_are_the_metric_of_the_galaxies_drawn(sides, rng):
    predicted, votes = sides
    votes = with_holes(votes, rng)
    draws = metrics.draw(200, rng=rng, resamples=250)
    replicates = metrics.replicate(metrics.error_terms(predicted, votes), draws)
    rows = np.repeat(np.arange(200), draws[249])
    np.testing.assert_allclose(replicates[249], metrics.rmse_per_answer(predicted[rows], votes[rows]))


def test_intervals_are_those_of_the_normal_law_for_a_mean(rng):
    values = rng.normal(5, 2, (3000, 1))
    (found,) = metrics.estimates(
        metrics.Terms(values, np.ones_like(values)), metrics.draw(3000, rng=rng, resamples=4000)
    )
    error = values.std() / np.sqrt(3000)
    for interval, level in ((found.interval_68, 0.68), (found.interval_95, 0.95)):
        expected = values.mean() + error * np.array(norm.interval(level))
        np.testing.assert_allclose(interval, expected, atol=0.1 * error)
    assert found.galaxies == 3000


def test_intervals_cover_the_true_rmse(rng):
    """Errors of known spread: the 68% and 95% intervals hold it in about so many of 300 skies."""
    covered = np.zeros(2)
    for _ in range(300):
        errors = rng.normal(0, 0.1, (150, 4)) * rng.gamma(4, 0.25, (150, 1))
        true = 0.1 * np.sqrt(0.25 + 1)
        terms = metrics.in_total(metrics.error_terms(errors, np.zeros_like(errors)))
        (found,) = metrics.estimates(terms, metrics.draw(150, rng=rng, resamples=300))
        covered += [low <= true <= high for low, high in (found.interval_68, found.interval_95)]
    assert covered / 300 == pytest.approx([0.68, 0.95], abs=0.07)


def test_no_galaxies_no_estimate(sides, rng):
    predicted, votes = sides
    votes[:, 3] = np.nan
    found = metrics.estimates(metrics.error_terms(predicted, votes), metrics.draw(200, rng=rng, resamples=50))
    assert found[3] is None
    assert found[4].interval_95[0] < found[4].interval_68[0] < found[4].value


def test_pairing_sees_a_difference_that_separate_intervals_hide(tree, rng):
    votes = obeying(tree, rng, 400)
    hard = rng.normal(0, 0.3, votes.shape) * rng.gamma(0.5, 2, (400, 1))
    better = metrics.in_total(metrics.error_terms(votes + hard, votes))
    worse = metrics.in_total(metrics.error_terms(votes + 1.03 * hard, votes))
    draws = metrics.draw(400, rng=rng)
    (first,), (second,) = metrics.estimates(worse, draws), metrics.estimates(better, draws)
    assert first.interval_95[0] < second.interval_95[1]
    found = metrics.compare(worse, better, draws)
    assert found.difference == pytest.approx(0.03 * second.value)
    assert found.interval_95[0] > 0
    assert found.p_value == pytest.approx(2 / 1001)
    assert metrics.compare(better, better, draws).p_value == 1


def test_p_values_are_uniform_when_nothing_differs(rng):
    """Two predictions, equally good: p below 0.1 in about a tenth of the skies, not in most of them."""
    p_values = []
    for _ in range(300):
        votes = rng.normal(0, 1, (100, 3))
        pair = [metrics.in_total(metrics.error_terms(rng.normal(0, 1, (100, 3)), votes)) for _ in range(2)]
        p_values.append(metrics.compare(*pair, metrics.draw(100, rng=rng, resamples=200)).p_value)
    assert np.mean(np.array(p_values) < 0.1) == pytest.approx(0.1, abs=0.06)
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.06)


def test_terms_and_draws_must_fit(sides, rng):
    with pytest.raises(CatalogueError, match="do not fit"):
        metrics.replicate(metrics.error_terms(*sides), metrics.draw(199, rng=rng, resamples=2))
    with pytest.raises(CatalogueError, match="hold NaN"):
        metrics.Terms(np.array([[np.nan]]), np.array([[1.0]]))
    with pytest.raises(CatalogueError, match=r"must be \(galaxy, column\)"):
        metrics.Terms(np.ones((2, 1)), np.ones((3, 1)))


@pytest.mark.parametrize("seed", range(5))
def test_holm_is_the_closed_procedure_of_bonferroni(seed):
    p_values = np.random.default_rng(seed).random(5) ** 3
    expected = [
        max(
            min(1.0, len(group) * min(p_values[list(group)]))
            for size in range(1, 6)
            for group in combinations(range(5), size)
            if one in group
        )
        for one in range(5)
    ]
    assert metrics.holm(p_values.tolist()) == pytest.approx(expected)


def test_holm_of_one_and_of_none():
    assert metrics.holm([0.03]) == [0.03]
    assert metrics.holm([]) == []


def test_averaged_terms_have_the_mean_squared_error():
    rng = np.random.default_rng(3)
    votes = rng.random((20, 5))
    votes[3, :2] = np.nan
    predicted = [rng.random((20, 5)) for _ in range(3)]
    terms = metrics.averaged([metrics.in_total(metrics.error_terms(one, votes)) for one in predicted])
    expected = np.sqrt(np.nanmean([(one - votes) ** 2 for one in predicted]))
    assert terms.only_value("") == pytest.approx(expected)
    assert terms.galaxies().tolist() == [20]


@pytest.fixture
def judged():
    rng = np.random.default_rng(0)
    votes = (rng.random(80) < 0.3).astype(float)
    predicted = np.clip(np.round(0.3 * votes + 0.7 * rng.random(80), 1), 0, 1)
    votes[::9] = np.nan
    return predicted, votes


def test_auc_is_the_share_of_pairs_in_the_right_order_a_tie_a_half(judged):
    predicted, votes = judged
    pairs = [(yes > no) + (yes == no) / 2 for yes in predicted[votes == 1] for no in predicted[votes == 0]]
    found = binary(predicted, votes, draw(80, rng=np.random.default_rng(1)))
    assert found.auc.value == pytest.approx(np.mean(pairs))
    assert found.auc.interval_95[0] < found.auc.interval_68[0] < found.auc.value < found.auc.interval_95[1]
    assert (found.yes, found.galaxies, found.auc.galaxies) == ((votes == 1).sum(), 71, 71)


def test_its_interval_is_that_of_scikit_learns_auc_over_the_same_draws(judged):
    predicted, votes = judged
    known = ~np.isnan(votes)
    draws = draw(80, rng=np.random.default_rng(1), resamples=40)
    weighted = [roc_auc_score(votes[known], predicted[known], sample_weight=one[known]) for one in draws]
    found = binary(predicted, votes, draws).auc
    assert found.interval_95 == pytest.approx(np.quantile(weighted, [0.025, 0.975]))


def test_completeness_and_purity_are_recall_and_precision(judged):
    predicted, votes = judged
    known = ~np.isnan(votes)
    found = binary(predicted, votes, draw(80, rng=np.random.default_rng(1)))
    assert found.completeness.value == pytest.approx(recall_score(votes[known], predicted[known] >= 0.5))
    assert found.purity.value == pytest.approx(precision_score(votes[known], predicted[known] >= 0.5))
    assert binary(predicted / 4, votes, draw(80, rng=np.random.default_rng(1))).purity is None


def test_the_interval_covers_what_an_infinite_sample_would_give():
    """AUC of two normal distributions one apart is Φ(1 / √2) = 0.7602; 95% intervals hold it."""
    rng, held = np.random.default_rng(2), 0
    for _ in range(40):
        votes = np.repeat([0.0, 1.0], 60)
        found = binary(rng.normal(votes), votes, draw(120, rng=rng, resamples=100)).auc
        held += found.interval_95[0] <= 0.7602 <= found.interval_95[1]
    assert held >= 34


@pytest.mark.parametrize(
    ("votes", "said"), [([0, 1, np.nan], True), ([0, 0.5, 1], False), ([1, 1], False), ([np.nan], False)]
)
def test_binary_are_columns_of_0_and_1_alone_both_of_them(votes, said):
    assert is_binary(np.array(votes, dtype=float)) is said


def test_bins_hold_as_many_galaxies_each_and_their_means():
    rng = np.random.default_rng(0)
    predicted, volunteers = rng.random(205), rng.random(205)
    volunteers[::41] = np.nan
    known = ~np.isnan(volunteers)
    x, y = predicted[known], volunteers[known]
    edges = np.quantile(x, np.linspace(0, 1, 11))
    found = reliability_of(predicted, volunteers)
    assert found.galaxies.tolist() == [20] * 10
    for statistic, measured in (("mean", found.volunteers), (stats.sem, found.standard_error)):
        np.testing.assert_allclose(measured, stats.binned_statistic(x, y, statistic, bins=edges).statistic)
    np.testing.assert_allclose(found.predicted, stats.binned_statistic(x, x, "mean", bins=edges).statistic)


def test_the_error_is_the_mean_distance_and_chance_explains_it_where_all_is_well():
    rng = np.random.default_rng(1)
    predicted = rng.beta(0.5, 3, 40_000).reshape(40, 1000)
    right = rng.binomial(10, predicted) / 10
    found = [reliability_of(*sides) for sides in zip(predicted, right, strict=True)]
    by_chance = np.mean([one.error_by_chance for one in found])
    assert np.mean([one.error for one in found]) == pytest.approx(by_chance, rel=0.1)
    shifted = [reliability_of(x, y + 0.1) for x, y in zip(predicted, right, strict=True)]
    assert np.mean([one.error for one in shifted]) == pytest.approx(0.1, abs=0.001)


def test_few_galaxies_and_none():
    found = reliability_of(np.array([0.2, 0.4]), np.array([0.3, 0.3]))
    assert found.galaxies.tolist() == [1, 1]
    assert found.error == pytest.approx(0.1)
    assert found.error_by_chance == 0
    none = reliability_of(np.array([0.2]), np.array([np.nan]))
    assert (none.error, none.error_by_chance, len(none.galaxies)) == (None, None, 0)


def test_classes_are_judged_as_by_scikit_learn():
    rng = np.random.default_rng(3)
    truth = rng.integers(3, size=200)
    votes = np.eye(4)[truth]
    predicted = rng.dirichlet([1, 1, 1, 0.2], 200)
    votes[::20] = np.nan
    known = ~np.isnan(votes[:, 0])
    loss, classes = judged_classes(
        predicted / 2, votes, draw(200, rng=rng)
    )  # half of the reach: the share counts
    assert loss.value == pytest.approx(log_loss(truth[known], predicted[known], labels=[0, 1, 2, 3]))
    assert loss.galaxies == known.sum() and loss.interval_95[0] < loss.value < loss.interval_95[1]
    recall = recall_score(truth[known], predicted[known].argmax(axis=1), average=None, labels=[0, 1, 2])
    assert [one.accuracy.value for one in classes[:3]] == pytest.approx(recall)
    own = known & (truth == 1)
    assert classes[1].log_loss.value == pytest.approx(-np.log(predicted[own, 1]).mean())
    assert classes[3] is None


def test_classes_are_told_from_fractions():
    votes = np.array([[1, 0], [0, 1], [np.nan, np.nan], [0, 0]])
    assert are_classes(votes)
    for other in ([0.9, 0.1], [1, 1]):
        assert not are_classes(np.concatenate([votes, [other]]))
    assert not are_classes(votes[[0, 2, 3]])
