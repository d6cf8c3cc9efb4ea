"""A yes or no judged: against pairs counted one by one, and scikit-learn's precision and recall."""

import numpy as np
import pytest
from sklearn.metrics import precision_score, recall_score, roc_auc_score

from hubblefork.stats.metrics import binary, draw, is_binary


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
