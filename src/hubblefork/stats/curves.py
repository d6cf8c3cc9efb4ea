"""Learning curves: how the error falls with the number of training galaxies, and where the fall leads.

A power law a + b n^-c is what learning curves follow (Cortes et al. 1994, NIPS 6, 327; Hestness et al.
2017, arXiv:1712.00409). Three numbers through a handful of points fit almost anything, so they are held to
what can be: neither the floor a nor the gain b is negative, and c is at most 1, since above its floor the
squared error of a regular estimator falls as 1/n, and its root no faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar, nnls

from hubblefork.errors import CatalogueError
from hubblefork.stats import metrics

RESAMPLES = 1000
EXPONENTS = (0.0, 1.0)


@dataclass(frozen=True)
class PowerLaw:
    """The law `floor` + `gain` (n / `scale`)^-`exponent`; `gain` is that of a above at n = `scale`."""

    floor: float
    gain: float
    exponent: float
    scale: float

    def at(self, galaxies: NDArray | float) -> NDArray:
        """Return the error after training on so many galaxies."""
        return self.floor + self.gain * (np.asarray(galaxies) / self.scale) ** -self.exponent


@dataclass(frozen=True)
class LearningCurve:
    """Errors (size,) of networks trained on `galaxies` (size,), and the power law through them.

    `sd` is over seeds, NaN where there is one; `through_zero` is the law without a floor, the most that more
    galaxies could give; `laws` are those of bootstrap samples of the judged galaxies and of the seeds.
    """

    galaxies: NDArray[np.int64]
    rmse: NDArray[np.float64]
    sd: NDArray[np.float64]
    seeds: NDArray[np.int64]
    law: PowerLaw
    through_zero: PowerLaw
    laws: tuple[PowerLaw, ...]

    def interval_95(self, galaxies: NDArray | float) -> NDArray[np.float64]:
        """Return the central 95% of the samples' laws after so many galaxies: low and high, (2, …)."""
        return np.quantile([law.at(galaxies) for law in self.laws], [0.025, 0.975], axis=0)


def fit_power_law(galaxies: NDArray, errors: NDArray, *, floor: bool = True) -> PowerLaw:
    """Fit a power law by least squares; without `floor` that is 0.

    For each exponent floor and gain are a linear problem with neither negative. Raises CatalogueError for
    fewer different sizes than the law has numbers.
    """
    needed = 2 + floor
    if len(np.unique(galaxies)) < needed:
        raise CatalogueError(f"a learning curve of {len(np.unique(galaxies))} sizes: it takes {needed}")
    scale = float(np.max(galaxies))

    def solved(exponent: float) -> tuple[NDArray, float]:
        falling = (np.asarray(galaxies) / scale) ** -exponent
        return nnls(np.stack([np.full(len(falling), float(floor)), falling], axis=1), np.asarray(errors))

    best = minimize_scalar(
        lambda exponent: solved(exponent)[1], bounds=EXPONENTS, method="bounded", options={"xatol": 1e-6}
    )
    found, gain = solved(best.x)[0]
    return PowerLaw(float(found), float(gain), float(best.x), scale)


def learning_curve(
    galaxies: Sequence[int],
    errors: Sequence[Sequence[metrics.Terms]],
    *,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
) -> LearningCurve:
    """Fit the power law to errors on the same judged galaxies, for each size those of each seed.

    A bootstrap sample draws the judged galaxies, the same for all sizes, and at each size the seeds. Few
    seeds drawn from themselves vary too little: their deviations are widened by √(k / (k - 1)) for k of them
    (Davison & Hinkley 1997, chapter 2). Raises CatalogueError as `fit_power_law` does.
    """
    sizes = np.asarray(galaxies)
    values = [np.array([terms.only_value("a learning curve") for terms in seeds]) for seeds in errors]
    means = np.array([one.mean() for one in values])
    draws = metrics.draw(len(errors[0][0].numerator), rng=rng, resamples=resamples)
    samples = np.stack([_sampled(seeds, draws, rng) for seeds in errors], axis=1)
    return LearningCurve(
        galaxies=sizes,
        rmse=means,
        sd=np.array([one.std(ddof=1) if len(one) > 1 else np.nan for one in values]),
        seeds=np.array([len(one) for one in values]),
        law=fit_power_law(sizes, means),
        through_zero=fit_power_law(sizes, means, floor=False),
        laws=tuple(fit_power_law(sizes, sample) for sample in samples),
    )


def _sampled(seeds: Sequence[metrics.Terms], draws: NDArray, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the mean error of drawn seeds on drawn galaxies, (resample,)."""
    each = np.concatenate([metrics.replicate(terms, draws) for terms in seeds], axis=1)
    mean = each.mean(axis=1)
    if len(seeds) == 1:
        return mean
    chosen = rng.integers(len(seeds), size=each.shape)
    drawn = np.take_along_axis(each, chosen, axis=1).mean(axis=1)
    return mean + np.sqrt(len(seeds) / (len(seeds) - 1)) * (drawn - mean)
