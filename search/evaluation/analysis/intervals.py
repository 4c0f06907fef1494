"""95% intervals of means and of differences of means, by Student's t."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

COVERAGE = 0.95
"""Share of intervals that contain the true mean."""

EQUAL_WITHIN = 1e-9
"""Values whose relative difference is smaller count as equal."""


class Interval(NamedTuple):
    """Mean, standard deviation, and both ends of the mean's interval; None for what is unknown."""

    mean: float | None
    sd: float | None = None
    low: float | None = None
    high: float | None = None


def mean_interval(values: Sequence[float], comparisons: int = 1) -> Interval:
    """The interval of the true mean (Student 1908).

    With several comparisons it is widened so that all of them together contain the truth in 95% (Bonferroni).
    """
    if len(values) < 2:
        return Interval(values[0] if values else None)
    mean, sd = statistics.fmean(values), statistics.stdev(values)
    if sd <= EQUAL_WITHIN * abs(mean):  # a few equal values do not mean that there is no noise
        return Interval(mean, sd)
    half = _t(len(values) - 1, comparisons) * sd / math.sqrt(len(values))
    return Interval(mean, sd, mean - half, mean + half)


def difference_interval(one: Sequence[float], other: Sequence[float], comparisons: int = 1) -> Interval:
    """The interval of the difference of two true means, of values that do not belong together in pairs (Welch 1947)."""
    if len(one) < 2 or len(other) < 2:
        return Interval(statistics.fmean(one) - statistics.fmean(other) if one and other else None)
    mean = statistics.fmean(one) - statistics.fmean(other)
    squares = [statistics.variance(values) / len(values) for values in (one, other)]
    error = math.sqrt(sum(squares))
    if error <= EQUAL_WITHIN * abs(mean) or error == 0:
        return Interval(mean)
    freedom = sum(squares) ** 2 / sum(s**2 / (len(values) - 1) for s, values in zip(squares, (one, other), strict=True))
    half = _t(freedom, comparisons) * error
    return Interval(mean, None, mean - half, mean + half)


def _t(freedom: float, comparisons: int) -> float:
    from scipy.special import stdtrit  # loads in a fifth of the time of scipy.stats

    return float(stdtrit(freedom, 1 - (1 - COVERAGE) / 2 / comparisons))
