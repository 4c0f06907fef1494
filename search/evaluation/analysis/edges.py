"""Whether a value lies at an edge of its range, and which range to try next."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, get_args

from annotated_types import Ge, Gt, Le, Lt

from search.definition.ranges import Range
from search.definition.space import Dimension

_MAX_EXPONENT = 700
"""exp of more overflows a float."""

_MAX_DIGITS = 17
"""Enough to tell any two floats apart."""


@dataclass(frozen=True)
class EdgeAdvice:
    """A value at an edge of its range, and the range to try next."""

    name: str
    edge: str
    """`lower` or `upper`."""

    value: int | float
    old: Range
    new: Range
    """Contains the old range, so that a study can be widened to it."""

    text: str
    """The argument of `--set`: `space.lr={low: 1e-05, high: 0.3, log: true}`."""


def edge_advice(dim: Dimension, value: Any) -> EdgeAdvice | None:
    """The range to try next if a value lies at an edge of its range that its setting can pass; else None.

    The range grows beyond that edge by half of its span, on its own scale, as far as the setting allows: up to an inclusive
    limit, or half of the way to an exclusive one (a dropout of 1). The new end has two significant digits, or more if those
    would not lie beyond the old end; whole numbers stay whole, steps stay on their grid. None if no whole step fits.
    """
    domain = dim.domain
    if not isinstance(domain, Range) or not dim.contains(value):
        return None
    edge = dim.edge(value)
    if not edge:
        return None
    end = _new_end(dim, domain, upper=edge == "upper")
    if end is None:
        return None
    new = replace(domain, high=end) if edge == "upper" else replace(domain, low=end)
    return EdgeAdvice(dim.name, edge, value, domain, new, f"space.{dim.name}={_flow_text(dim, new)}")


def _new_end(dim: Dimension, domain: Range, *, upper: bool) -> int | float | None:
    limit, is_inclusive = _limit(dim, upper=upper)
    if domain.step is not None:
        return _grid_end(domain, limit, is_inclusive, upper=upper)
    scale, back = (math.log, _exp) if domain.log else (float, float)
    low, high = scale(domain.low), scale(domain.high)
    half, old = (high - low) / 2, domain.high if upper else domain.low
    target = back(high + half) if upper else back(low - half)
    if not math.isfinite(target):
        return None
    if dim.is_int:
        target = math.ceil(target) if upper else math.floor(target)
    if target >= limit if upper else target <= limit:
        target = limit if is_inclusive else back((scale(old) + scale(limit)) / 2)
    for digits in range(2, _MAX_DIGITS + 1):
        end = float(f"{target:.{digits - 1}e}")
        is_beyond = end > old if upper else end < old
        if is_beyond and dim.is_allowed(int(end) if dim.is_int else end):
            return int(end) if dim.is_int else end
    return None


def _exp(exponent: float) -> float:
    return math.exp(min(max(exponent, -_MAX_EXPONENT), _MAX_EXPONENT))


def _grid_end(domain: Range, limit: float, is_inclusive: bool, *, upper: bool) -> int | float | None:
    """The end half as many steps further out, or as many as the limit allows. In decimals, where 0.1 is exact."""
    old, step = (Decimal(str(number)) for number in (domain.high if upper else domain.low, domain.step))
    steps = domain.size // 2
    if math.isfinite(limit):
        room = abs(Decimal(str(limit)) - old) / step
        steps = min(steps, int(room) - (not is_inclusive and room == int(room)))
    if steps < 1:
        return None
    return type(domain.high)(old + steps * step if upper else old - steps * step)


def _limit(dim: Dimension, *, upper: bool) -> tuple[float, bool]:
    """The limit of a setting by its annotation, infinite for none, and whether the setting may have that value."""
    limits: list[tuple[float, bool]] = []
    for constraint in get_args(dim.setting.annotation)[1:]:
        given: Any = constraint
        if isinstance(constraint, Le if upper else Ge):
            limits.append((given.le if upper else given.ge, True))
        elif isinstance(constraint, Lt if upper else Gt):
            limits.append((given.lt if upper else given.gt, False))
    sign = 1 if upper else -1
    limit, is_inclusive = min(limits, key=lambda one: (sign * one[0], one[1]), default=(sign * math.inf, True))
    if dim.is_int and not is_inclusive:
        return limit - sign, True
    return limit, is_inclusive


def _flow_text(dim: Dimension, new: Range) -> str:
    """The whole entry on one line, because `--set` replaces the old entry with it."""
    parts = [f"low: {new.low!r}", f"high: {new.high!r}"]
    parts += ["log: true"] if new.log else []
    parts += [f"step: {new.step!r}"] if new.step is not None else []
    parts += [f"role: {dim.role}"] if dim.role != "nuisance" else []
    if dim.when:
        parts.append(f"when: {json.dumps({one.key: list(one.values) for one in dim.when}, ensure_ascii=False)}")
    return f"{{{', '.join(parts)}}}"
