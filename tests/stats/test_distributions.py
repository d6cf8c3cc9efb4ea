import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from hubblefork.stats.metrics import holm
from hubblefork.stats.samples import compare_distributions, peaks


def step_down(p_values, level):
    """Holm's procedure as he words it: reject the smallest while each passes its own level."""
    rejected = set()
    for k, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[index] >= level / (len(p_values) - k):
            break
        rejected.add(index)
    return rejected


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0.001, 0.5))
def test_corrected_p_values_reject_what_the_step_down_procedure_rejects(p_values, level):
    corrected = holm(p_values)
    near = [abs(value - level) < 1e-9 for value in corrected]
    by_value = {k for k, value in enumerate(corrected) if value < level}
    assert any(near) or by_value == step_down(p_values, level)
    assert all(p <= c <= 1 for p, c in zip(p_values, corrected, strict=True))


def test_a_worked_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_every_answer_is_tested_and_the_one_that_differs_is_found():
    rng = np.random.default_rng(1)
    first, second = rng.random((400, 5)), rng.random((300, 5))
    second[:, 3] **= 2
    first[:50, 1] = np.nan
    first[:, 4] = np.nan
    tests = compare_distributions(first, second)
    assert tests[4] is None
    assert [test.significant for test in tests[:4]] == [False, False, False, True]
    by_hand = ks_2samp(first[50:, 1], second[:, 1], method="asymp")
    assert (tests[1].distance, tests[1].p_value) == pytest.approx((by_hand.statistic, by_hand.pvalue))
    assert tests[1].galaxies == (350, 300)


def test_one_distribution_seldom_differs_from_itself():
    rng = np.random.default_rng(2)
    alarms = [
        any(test.significant for test in compare_distributions(rng.random((200, 37)), rng.random((150, 37))))
        for _ in range(40)
    ]
    assert sum(alarms) <= 6  # 2 expected; more than 6 happen once in 300


@pytest.mark.parametrize(
    ("centres", "expected"), [((0.1,), 1), ((0.1, 0.9), 2), ((0.1, 0.5, 0.95), 3), ((), 0)]
)
def test_peaks_are_counted(centres, expected):
    rng = np.random.default_rng(3)
    values = np.concatenate([rng.normal(centre, 0.05, 20_000) for centre in centres] or [[np.nan]])
    assert peaks(np.clip(values, 0, 1)) == expected
