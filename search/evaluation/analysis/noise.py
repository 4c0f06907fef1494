"""Noise between trainings of equal settings, and the optimism that it causes when the best of many trials is chosen."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Noise:
    """The spread of the values of equal settings that differ only in their seed."""

    sd: float
    """Pooled standard deviation, in the unit of the values."""

    freedom: int
    """Degrees of freedom of `sd`."""

    low: float
    high: float
    """The 95% interval of the true standard deviation."""


def noise_from_repeats(groups: Sequence[Sequence[float]]) -> Noise | None:
    """Noise estimated from repeats: each group holds the values of one setting with different seeds.

    The variance is the sum of squares around each group's mean over the sum of (n - 1), the mean square within groups of a
    one-way analysis of variance. For normal values, freedom * sd^2 / true variance has a chi-square distribution, which gives
    the interval. Values that are not finite are left out. None if no group has two values.

    Source: Snedecor and Cochran, "Statistical methods", 8th edition, chapters 5 and 12.
    """
    squares, freedom = _squares_within(groups)
    if not freedom:
        return None
    from scipy.stats import chi2  # imported here because it takes half a second

    low, high = (math.sqrt(squares / float(chi2.ppf(share, freedom))) for share in (0.975, 0.025))
    return Noise(math.sqrt(squares / freedom), freedom, low, high)


def pooled_sd(groups: Sequence[Sequence[float]]) -> float | None:
    """Only the standard deviation of `noise_from_repeats`; None if no group has two values."""
    squares, freedom = _squares_within(groups)
    return math.sqrt(squares / freedom) if freedom else None


def _squares_within(groups: Sequence[Sequence[float]]) -> tuple[float, int]:
    """The sum of squares around each group's mean, and its degrees of freedom."""
    finite = [[value for value in group if math.isfinite(value)] for group in groups]
    repeated = [group for group in finite if len(group) > 1]
    squares = math.fsum(statistics.variance(group) * (len(group) - 1) for group in repeated)
    return squares, sum(len(group) - 1 for group in repeated)


def expected_optimism(n: int, noise: float) -> float:
    """How much better the best of n equal trials looks than it is, by luck alone. 0 or more, in noise's unit.

    `noise` times the expected maximum of n standard normal values, which is the integral of 1 - F(x)^n over x > 0 minus that
    of F(x)^n over x < 0, where F is the normal distribution function. The trials of a search differ by more than noise, so
    this much optimism is to be expected only if the n best settings are about equal.

    Raises:
        ValueError: n is below 1.

    Source: David and Nagaraja 2003, "Order statistics", 3rd edition, section 3.1.
    """
    from scipy.integrate import quad
    from scipy.special import log_ndtr

    if n < 1:
        raise ValueError(f"n must be 1 or more, not {n}")
    above = quad(lambda x: -math.expm1(n * log_ndtr(x)), 0, 40, limit=200)[0]
    below = quad(lambda x: math.exp(n * log_ndtr(x)), -40, 0, limit=200)[0]
    return noise * float(above - below)
