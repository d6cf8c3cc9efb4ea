"""How answers go together: their correlation matrix, missing labels left out pair by pair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Correlations:
    """`rho` and the number of `galaxies` behind each of its elements, both (answer, answer)."""

    rho: NDArray[np.float64]
    galaxies: NDArray[np.int64]


def correlations(values: NDArray) -> Correlations:
    """Return the correlation of every pair of columns of (galaxy, answer).

    The lab report's equations 1 to 3: ρ_ij = (⟨ij⟩ - ⟨i⟩⟨j⟩) / (σ_i σ_j), σ_i² = ⟨i²⟩ - ⟨i⟩². All means of a
    pair are over the galaxies in which both are known, so that a missing label counts neither way. NaN
    where fewer than two galaxies have both, or one of the two does not vary among them.
    """
    known = (~np.isnan(values)).astype(float)
    filled = np.where(known > 0, values - _centres(values, known), 0.0)
    galaxies = known.T @ known
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (filled.T @ known) / galaxies
        variance = (filled**2).T @ known / galaxies - mean**2
        covariance = filled.T @ filled / galaxies - mean * mean.T
        varies = (variance > 1e-12) & (variance.T > 1e-12)
        rho = np.where(varies, covariance / np.sqrt(variance * variance.T), np.nan)
    return Correlations(np.clip(rho, -1.0, 1.0), galaxies.astype(np.int64))


def _centres(values: NDArray, known: NDArray) -> NDArray:
    """Return the mean of each column: subtracting it first keeps digits, and changes no correlation."""
    return np.where(known > 0, values, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
