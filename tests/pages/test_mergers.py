import numpy as np
import pytest
from scipy import stats

from hubblefork.errors import CatalogueError
from hubblefork.pages.fractions import fraction_against_threshold


def test_counts_and_intervals_at_every_threshold(tree, votes, predicted):
    _, numbers = fraction_against_threshold(tree, {"votes": votes, "predicted": predicted})
    for name, values in {"votes": votes, "predicted": predicted}.items():
        known = values[:, tree.column("merger")]
        known, found = known[~np.isnan(known)], numbers["samples"][name]
        assert found["total"] == len(known)
        for k in range(0, len(found["threshold"]), 7):
            count = int((known >= found["threshold"][k]).sum())
            expected = stats.binomtest(count, len(known)).proportion_ci(method="wilson")
            assert found["count"][k] == count
            assert found["low"][k] == pytest.approx(expected.low, abs=1e-6)
            assert found["high"][k] == pytest.approx(expected.high, abs=1e-6)


def test_a_curve_ends_where_nobody_is_left(tree, votes):
    figure, numbers = fraction_against_threshold(tree, {"votes": votes})
    drawn = next(line for line in figure.axes[0].lines if line.get_label().startswith("votes"))
    counts = np.array(numbers["samples"]["votes"]["count"])
    assert (counts == 0).any()
    np.testing.assert_array_equal(np.isnan(drawn.get_ydata()), counts == 0)


def test_another_answer_can_be_counted(tree, votes):
    figure, numbers = fraction_against_threshold(tree, {"votes": votes}, answer="smooth", thresholds=(0.5,))
    assert numbers["samples"]["votes"]["count"] == [int((votes[:, 0] >= 0.5).sum())]
    assert "smooth" in figure.axes[0].get_xlabel()


def test_a_sample_without_values_is_refused(tree, votes):
    with pytest.raises(CatalogueError, match="merger"):
        fraction_against_threshold(tree, {"votes": np.full_like(votes, np.nan)})
