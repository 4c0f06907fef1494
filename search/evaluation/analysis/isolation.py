"""Isolation: the best values along one parameter, with the other parameters as they were."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from search.definition.ranges import Choices, Range

CONFIDENCE = 0.9
"""The share of bootstrap resamples that reach the confident value of a bin."""

_SLACK = 1e-9
"""Tolerance for steps that floats do not represent exactly, as a share of the range."""


@dataclass(frozen=True)
class Point:
    """A complete trial: its value of one parameter, and of the objective."""

    trial: int
    at: Any
    value: float


@dataclass(frozen=True)
class _Span:
    low: Any
    high: Any
    """Both ends; equal if it holds one value only."""

    @property
    def text(self) -> str:
        """`0.1 .. 0.2`, or the only value."""
        first, last = (f"{end:.3g}" if isinstance(end, float) else str(end) for end in (self.low, self.high))
        return first if self.low == self.high else f"{first} .. {last}"


@dataclass(frozen=True)
class Segment(_Span):
    """A segment of a parameter's range, and the points in it."""

    points: tuple[Point, ...]


@dataclass(frozen=True)
class Bin(_Span):
    """The trials in one segment of a parameter's range. The last three fields are None if there are none."""

    count: int
    best: float | None
    trial: int | None
    """The trial with the best value; the first of equals."""

    confident: float | None
    """See `confident_value`."""


def trial_points(trials: Sequence[FrozenTrial], name: str, value_of: Callable[[FrozenTrial], float]) -> list[Point]:
    """Points of the complete trials that have a parameter, except where the value is NaN."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE and name in trial.params]
    points = [Point(trial.number, trial.params[name], value_of(trial)) for trial in complete]
    return [point for point in points if not math.isnan(point.value)]


def isolation_bins(points: Sequence[Point], *, domain: Range | Choices, bins: int = 6) -> list[Bin]:
    """The best values along a scientific parameter, with the nuisance parameters at whatever values the trials had.

    One bin for each of the `segments`, including empty ones.

    Raises:
        ValueError: `bins` is below 1.

    Source: isolation plots, Godbole et al. 2023, "Deep learning tuning playbook".
    """
    return [_bin(segment) for segment in segments(points, domain=domain, most=bins)]


def segments(points: Sequence[Point], *, domain: Range | Choices, most: int = 6) -> list[Segment]:
    """A parameter's range in at most `most` segments, each with its points.

    Segments have equal width on the parameter's scale, and are in order. Each choice has its own; so does each step or whole
    number if there are at most `most`; more steps are divided evenly. A range with whole ends is one of whole numbers, as
    `space.dimension` creates them. Points outside the domain are in no segment.

    Raises:
        ValueError: `most` is below 1.
    """
    if most < 1:
        raise ValueError(f"there must be at least 1 segment, not {most}")
    ends = _ends(domain, most)
    found: list[list[Point]] = [[] for _ in ends]
    for point in points:
        index = _index_of(domain, ends, point.at)
        if index is not None:
            found[index].append(point)
    return [Segment(low, high, tuple(inside)) for (low, high), inside in zip(ends, found, strict=True)]


def confident_value(values: Sequence[float]) -> float:
    """The value that the best of a bootstrap resample reaches in 90% of resamples. Lower is better.

    Of n values in order x_1 <= ... <= x_n, one draw lies above place m with probability (n - m)/n, and all n draws do so with
    ((n - m)/n)^n. So the best of them is x_m or lower with probability 1 - ((n - m)/n)^n, and the smallest m for which that
    is at least 0.9 gives the value. With equal values it is reached more often. A single value is its own confident value.

    Raises:
        ValueError: there are no values.
    """
    n = len(values)
    if not n:
        raise ValueError("there are no values")
    place = next(m for m in range(1, n + 1) if 1 - ((n - m) / n) ** n >= CONFIDENCE)
    return sorted(values)[place - 1]


def _bin(segment: Segment) -> Bin:
    if not segment.points:
        return Bin(segment.low, segment.high, 0, None, None, None)
    best = min(segment.points, key=lambda point: (point.value, point.trial))
    confident = confident_value([point.value for point in segment.points])
    return Bin(segment.low, segment.high, len(segment.points), best.value, best.trial, confident)


def _has_steps(domain: Range) -> bool:
    return domain.step is not None or (isinstance(domain.low, int) and isinstance(domain.high, int))


def _ends(domain: Range | Choices, most: int) -> list[tuple[Any, Any]]:
    """The first and the last value of each segment; in ranges without steps, neighbors share an end."""
    if isinstance(domain, Choices):
        return [(choice, choice) for choice in domain.choices]
    if _has_steps(domain) and (not domain.log or domain.size <= most):
        size, step = domain.size, Decimal(str(domain.step or 1))
        count = min(most, size)
        first = [-(-number * size // count) for number in range(count + 1)]
        low, kind = Decimal(str(domain.low)), type(domain.high)
        return [(kind(low + start * step), kind(low + (after - 1) * step)) for start, after in itertools.pairwise(first)]
    space = np.geomspace if domain.log else np.linspace
    edges = [domain.low, *(float(edge) for edge in space(domain.low, domain.high, most + 1)[1:-1]), domain.high]
    return list(itertools.pairwise(edges))


def _index_of(domain: Range | Choices, ends: Sequence[tuple[Any, Any]], at: Any) -> int | None:
    """The segment that a value lies in; where two share an end, the upper one."""
    if isinstance(domain, Choices):
        return domain.choices.index(at) if at in domain.choices else None
    slack = _SLACK * abs(domain.high - domain.low) if domain.step is not None else 0.0
    if not domain.low - slack <= at <= domain.high + slack:
        return None
    return max(bisect_right([low for low, _ in ends], at + slack) - 1, 0)
