"""Which network is best, and which others it beats for sure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hubblefork.report.blocks import bounds, decimal, listed
from hubblefork.stats import metrics

RESAMPLES = 10_000
LEVEL = 0.01


@dataclass(frozen=True)
class Rival:
    """How much larger the RMSE of another network is than that of the best; `p_holm` is Holm's p-value."""

    comparison: metrics.Comparison
    p_holm: float

    @property
    def is_beaten(self) -> bool:
        """Whether the best beats it for sure."""
        return self.comparison.difference > 0 and self.p_holm < LEVEL

    @property
    def is_better(self) -> bool:
        """Whether it beats for sure the one that the validation galaxies call best."""
        return self.comparison.difference < 0 and self.p_holm < LEVEL


@dataclass(frozen=True)
class Verdict:
    """The best network, by the validation galaxies, and each other one by name."""

    best: str
    rivals: Mapping[str, Rival]

    @property
    def text(self) -> str:
        """Whom it beats, in a sentence."""
        if not self.rivals:
            return f"{self.best} is the only network, with nothing to compare it with."
        beaten = [name for name, rival in self.rivals.items() if rival.is_beaten]
        others = [
            f"{name} ({signed(rival.comparison.difference)}, {bounds(rival.comparison.interval_95)}, "
            f"p = {rival.p_holm:.2g})"
            for name, rival in self.rivals.items()
            if not rival.is_beaten
        ]
        if not others:
            return f"{self.best} beats every other single network at p < {LEVEL:g}."
        some = f"beats {listed(beaten)} at p < {LEVEL:g}, but not" if beaten else "does not beat"
        better = [name for name, rival in self.rivals.items() if rival.is_better]
        than = f" {listed(better)} did better at p < {LEVEL:g}." if better else ""
        return f"{self.best} {some} {listed(others)}.{than}"


def judge_networks(
    terms: Mapping[str, Sequence[metrics.Terms]],
    validation: Mapping[str, float],
    *,
    resamples: int = RESAMPLES,
) -> Verdict:
    """Compare the network with the lowest `validation` RMSE with each other one on the judged galaxies.

    `terms` are the squared errors of each seed of each network; seeds are averaged galaxy by galaxy. The best
    is chosen by galaxies that do not judge, so that the choice does not flatter it. The bootstrap draws the
    same galaxies for all; p-values are two-sided, at least 2 / (resamples + 1), and corrected for the number
    of rivals.
    """
    best = min(terms, key=lambda name: validation[name])
    means = {name: metrics.averaged(seeds) for name, seeds in terms.items()}
    galaxies = len(means[best].numerator)
    draws = metrics.draw(galaxies, rng=np.random.default_rng(0), resamples=resamples)
    rivals = [name for name in terms if name != best]
    found = [metrics.compare(means[name], means[best], draws) for name in rivals]
    corrected = metrics.holm([comparison.p_value for comparison in found])
    return Verdict(best, dict(zip(rivals, map(Rival, found, corrected), strict=True)))


def signed(value: float) -> str:
    """Return a difference for reading, always with its sign."""
    return f"{'+' if value >= 0 else '−'}{decimal(abs(value))}"
