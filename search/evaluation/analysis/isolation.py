"""What was reached along one parameter, with the others at whatever suited each part of it."""

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
"""How surely the confident value of an isolation bin is reached."""

_SLACK = 1e-9  # a step is where it should be, whatever floats make of it


@dataclass(frozen=True)
class Point:
    """A complete trial as a point: where it lies on one parameter, and what it reached."""

    trial: int
    at: Any
    value: float


@dataclass(frozen=True)
class Part:
    """A part of a parameter's range, and the points in it."""

    low: Any
    high: Any
    """Its ends; the same for a part of one value."""

    points: tuple[Point, ...]

    @property
    def text(self) -> str:
        """The part as people read it."""
        return _part_text(self.low, self.high)


@dataclass(frozen=True)
class Bin:
    """The trials of one part of a parameter's range. The last three are None where there are none."""

    low: Any
    high: Any
    """Its ends; the same for a bin of one value."""

    count: int
    best: float | None
    trial: int | None
    """Which trial that was; the first of equals."""

    confident: float | None
    """What the best of `count` trials reaches in nine of ten cases; see `confident_value`."""

    @property
    def text(self) -> str:
        """The bin as people read it."""
        return _part_text(self.low, self.high)


def _part_text(low: Any, high: Any) -> str:
    first, last = (f"{end:.3g}" if isinstance(end, float) else str(end) for end in (low, high))
    return first if low == high else f"{first} .. {last}"


def points_of(trials: Sequence[FrozenTrial], name: str, value_of: Callable[[FrozenTrial], float]) -> list[Point]:
    """The complete trials that have a parameter, and a value that is a number (infinite ones are)."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE and name in trial.params]
    points = [Point(trial.number, trial.params[name], value_of(trial)) for trial in complete]
    return [point for point in points if not math.isnan(point.value)]


def isolation(points: Sequence[Point], *, domain: Range | Choices, bins: int = 6) -> list[Bin]:
    """The best that was reached along a scientific parameter, with the nuisance parameters at whatever suited each part of it.

    Its bins are the parts that `parts_of` makes; empty ones stay in.

    Raises:
        ValueError: no bins are asked for.

    Source: isolation plots, Godbole et al. 2023, "Deep learning tuning playbook".
    """
    return [_bin(part) for part in parts_of(points, domain=domain, most=bins)]


def parts_of(points: Sequence[Point], *, domain: Range | Choices, most: int = 6) -> list[Part]:
    """The range of a parameter in at most so many parts, each with its points.

    Parts of equal width on the parameter's scale, in order; each choice, and each step or whole number where there are no more
    than `most`, has its own. More steps are dealt out evenly, whole. A range with whole ends is one of whole numbers, as
    `space.dimension` makes them. Points outside the domain are in none.

    Raises:
        ValueError: no parts are asked for.
    """
    if most < 1:
        raise ValueError(f"there must be 1 part or more, not {most}")
    ends = _ends(domain, most)
    found: list[list[Point]] = [[] for _ in ends]
    for point in points:
        place = _place_of(domain, ends, point.at)
        if place is not None:
            found[place].append(point)
    return [Part(low, high, tuple(inside)) for (low, high), inside in zip(ends, found, strict=True)]


def confident_value(values: Sequence[float]) -> float:
    """What the best of as many trials, drawn anew from these with replacement, reaches in nine of ten cases. Lower is better.

    Of n values in order x_1 <= ... <= x_n, one draw lies above place m with probability (n - m)/n, and all n draws do so with
    ((n - m)/n)^n. So the best of them is x_m or lower with probability 1 - ((n - m)/n)^n, and the smallest m for which that
    is 0.9 gives the value; with equal values it is reached more often still. With one value it is that value.

    Raises:
        ValueError: there are no values.
    """
    n = len(values)
    if not n:
        raise ValueError("there are no values")
    place = next(m for m in range(1, n + 1) if 1 - ((n - m) / n) ** n >= CONFIDENCE)
    return sorted(values)[place - 1]


def _bin(part: Part) -> Bin:
    if not part.points:
        return Bin(part.low, part.high, 0, None, None, None)
    best = min(part.points, key=lambda point: (point.value, point.trial))
    confident = confident_value([point.value for point in part.points])
    return Bin(part.low, part.high, len(part.points), best.value, best.trial, confident)


def _has_steps(domain: Range) -> bool:
    return domain.step is not None or (isinstance(domain.low, int) and isinstance(domain.high, int))


def _ends(domain: Range | Choices, most: int) -> list[tuple[Any, Any]]:
    """First and last value of each part; ranges without steps share theirs with their neighbours."""
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


def _place_of(domain: Range | Choices, ends: Sequence[tuple[Any, Any]], at: Any) -> int | None:
    """The part that a value lies in; of two that meet there the upper one."""
    if isinstance(domain, Choices):
        return domain.choices.index(at) if at in domain.choices else None
    slack = _SLACK * abs(domain.high - domain.low) if domain.step is not None else 0.0  # steps are rarely exact
    if not domain.low - slack <= at <= domain.high + slack:
        return None
    return max(bisect_right([low for low, _ in ends], at + slack) - 1, 0)
