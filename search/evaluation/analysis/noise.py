"""How far equal settings lie apart, and how far luck reaches."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Noise:
    """How far the values of equal settings lie apart when only their seed differs."""

    sd: float
    """Pooled standard deviation, in the unit of the values."""

    freedom: int
    """Its degrees of freedom."""

    low: float
    high: float
    """The interval that holds the true one in 95 of 100 cases."""


def noise_of_repeats(groups: Sequence[Sequence[float]]) -> Noise:
    """Trial noise from repeats: each group holds the values of one setting with other seeds.

    The variance is the sum of squares around each group's mean over the sum of (n - 1), the mean square within groups of a
    one-way analysis of variance. For normal values, freedom * sd^2 / true variance has a chi-square distribution, which gives
    the interval. Values that are not finite are left out.

    Raises:
        ValueError: no group has two values.

    Source: Snedecor and Cochran, "Statistical methods", 8th edition, chapters 5 and 12.
    """
    from scipy.stats import chi2  # half a second to import, and only this needs it

    squares, freedom = _within(groups)
    if not freedom:
        raise ValueError("no setting has two values: noise is seen only where something was repeated")
    low, high = (math.sqrt(squares / float(chi2.ppf(share, freedom))) for share in (0.975, 0.025))
    return Noise(math.sqrt(squares / freedom), freedom, low, high)


def pooled_sd(groups: Sequence[Sequence[float]]) -> float | None:
    """The standard deviation alone, as in `noise_of_repeats`; None if no group has two values."""
    squares, freedom = _within(groups)
    return math.sqrt(squares / freedom) if freedom else None


def _within(groups: Sequence[Sequence[float]]) -> tuple[float, int]:
    """The sum of squares around each group's mean, and its degrees of freedom."""
    finite = [[value for value in group if math.isfinite(value)] for group in groups]
    repeated = [group for group in finite if len(group) > 1]
    squares = math.fsum(statistics.variance(group) * (len(group) - 1) for group in repeated)
    return squares, sum(len(group) - 1 for group in repeated)


def best_of(n: int, noise: float) -> float:
    """How far the best of n equal trials lies below what it would give again, by luck alone. 0 or more, in noise's unit.

    `noise` times the expected largest of n standard normal values, which is the integral of 1 - F(x)^n over x > 0 less that
    of F(x)^n over x < 0, F being their distribution. The search's own trials differ in more than luck, so the best of n is
    flattered by this much only where the n best settings are about equal.

    Raises:
        ValueError: n is not 1 or more.

    Source: David and Nagaraja 2003, "Order statistics", 3rd edition, section 3.1.
    """
    from scipy.integrate import quad
    from scipy.special import log_ndtr

    if n < 1:
        raise ValueError(f"n must be 1 or more, not {n}")
    above = quad(lambda x: -math.expm1(n * log_ndtr(x)), 0, 40, limit=200)[0]
    below = quad(lambda x: math.exp(n * log_ndtr(x)), -40, 0, limit=200)[0]
    return noise * float(above - below)
