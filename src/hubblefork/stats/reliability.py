"""What predicted fractions turn out to mean: the volunteers' mean fraction in bins of the predicted one.

A reliability diagram (Murphy & Winkler 1977, J. R. Stat. Soc. C 26, 41) with as many galaxies in every bin,
since most fractions are near 0, and the expected calibration error (Naeini et al. 2015, AAAI, 2901), its sum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 10


@dataclass(frozen=True)
class Reliability:
    """Bins of the predicted fraction of one answer, all of shape (bin,), rising.

    `galaxies` are in a bin, `predicted` and `volunteers` are their mean fractions, `standard_error` is that
    of the volunteers' mean; NaN for a single galaxy.
    """

    galaxies: NDArray[np.int64]
    predicted: NDArray[np.float64]
    volunteers: NDArray[np.float64]
    standard_error: NDArray[np.float64]

    @property
    def error(self) -> float | None:
        """The expected calibration error: the mean distance of the bins' means, weighted by galaxies."""
        return self._mean(np.abs(self.predicted - self.volunteers))

    @property
    def error_by_chance(self) -> float | None:
        """What that error would be on average where the means are the same: E|N(0, σ)| = σ √(2/π)."""
        return self._mean(np.nan_to_num(self.standard_error) * np.sqrt(2 / np.pi))

    def _mean(self, values: NDArray) -> float | None:
        return float(np.average(values, weights=self.galaxies)) if len(values) else None


def reliability_of(predicted: NDArray, volunteers: NDArray, bins: int = BINS) -> Reliability:
    """Bin the galaxies of one answer by their predicted fraction, both arrays (galaxy,).

    A galaxy without a volunteers' fraction is left out; without any left there are no bins.
    """
    known = np.flatnonzero(~np.isnan(volunteers))
    ordered = known[np.argsort(predicted[known], kind="stable")]
    parts = [part for part in np.array_split(ordered, bins) if len(part)]
    return Reliability(
        np.array([len(part) for part in parts], dtype=np.int64),
        np.array([predicted[part].mean() for part in parts]),
        np.array([volunteers[part].mean() for part in parts]),
        np.array([_standard_error(volunteers[part]) for part in parts]),
    )


def _standard_error(values: NDArray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.nan
