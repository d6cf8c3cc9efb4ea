"""Are two samples of galaxies alike, and how many peaks has a distribution?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import find_peaks
from scipy.stats import ks_2samp

LEVEL = 0.05
BINS = 25
PROMINENCE = 0.01


@dataclass(frozen=True)
class Difference:
    """A two-sample Kolmogorov-Smirnov test: the largest distance of the two cumulative distributions.

    `p_value` is that of this test by itself, `corrected` Holm's over all answers that were looked at;
    `galaxies` are how many there are of either sample.
    """

    distance: float
    p_value: float
    corrected: float
    galaxies: tuple[int, int]

    @property
    def significant(self) -> bool:
        """Whether the corrected p-value is below 0.05."""
        return self.corrected < LEVEL


def compare_distributions(first: NDArray, second: NDArray) -> tuple[Difference | None, ...]:
    """Test for every answer whether two samples, both (galaxy, answer), have one distribution.

    SciPy's two-sample Kolmogorov-Smirnov test with the asymptotic p-value, corrected for all answers at
    once by `holm`. Fractions are tied (many are exactly 0), which makes the test conservative. Missing
    labels are left out; None for an answer of which one sample has none.
    """
    pairs = [(a[~np.isnan(a)], b[~np.isnan(b)]) for a, b in zip(first.T, second.T, strict=True)]
    tests = [ks_2samp(a, b, method="asymp") if len(a) and len(b) else None for a, b in pairs]
    corrected = iter(holm([float(test.pvalue) for test in tests if test is not None]))
    return tuple(
        None
        if test is None
        else Difference(float(test.statistic), float(test.pvalue), next(corrected), (len(a), len(b)))
        for test, (a, b) in zip(tests, pairs, strict=True)
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number, in their order (Holm 1979, Scand. J. Statist. 6, 65).

    The k-th smallest of n is multiplied by n - k + 1, none below a smaller one's, none above 1: the
    chance of any false alarm stays below the level, however the tests depend on each other.
    """
    order = np.argsort(p_values, kind="stable")
    factors = len(order) - np.arange(len(order))
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(np.asarray(p_values, float)[order] * factors))
    return corrected.tolist()


def peaks(values: NDArray, *, bins: int = BINS, prominence: float = PROMINENCE) -> int:
    """Return how many peaks the histogram of values in [0, 1] has.

    A peak rises above the lower of the valleys beside it by at least that share of all values; the
    ends count as valleys of height 0. NaN is left out; 0 for no values.
    """
    known = values[~np.isnan(values)]
    if not len(known):
        return 0
    shares = np.histogram(known, bins, (0, 1))[0] / len(known)
    return len(find_peaks(np.pad(shares, 1), prominence=prominence)[0])
