"""Whether the best lies at an edge of its range, and what range to try next."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, get_args

from annotated_types import Ge, Gt, Le, Lt

from search.definition.ranges import Range
from search.definition.space import Dimension

_FARTHEST_EXPONENT = 700  # exp of more does not fit a float
_MOST_DIGITS = 17  # that many tell any two floats apart


@dataclass(frozen=True)
class EdgeAdvice:
    """A value lies at the edge of its range, and where to look next."""

    name: str
    edge: str
    """`lower` or `upper`."""

    value: int | float
    old: Range
    new: Range
    """Holds the old one, so that a study can be widened to it."""

    text: str
    """What `--set` takes: `space.lr={low: 1e-05, high: 0.3, log: true}`."""


def edge_advice(dim: Dimension, value: Any) -> EdgeAdvice | None:
    """The range to try next if a value lies at an edge of its range that its setting can pass; else None.

    The range grows beyond that edge by half of its span, on the scale that it is drawn on, as far as the setting may go: up to
    a limit that it may take, half of the way to one that it may not (a dropout of 1). The new end has two significant digits,
    more only where these would not lie beyond the old end; whole numbers stay whole, steps stay on their grid. None too where
    no whole step is left.
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
    limit, is_allowed = _limit(dim, upper=upper)
    if domain.step is not None:
        return _grid_end(domain, limit, is_allowed, upper=upper)
    scale, back = (math.log, _exp) if domain.log else (float, float)
    low, high = scale(domain.low), scale(domain.high)
    half, old = (high - low) / 2, domain.high if upper else domain.low
    wished = back(high + half) if upper else back(low - half)
    if not math.isfinite(wished):
        return None
    if dim.is_int:
        wished = math.ceil(wished) if upper else math.floor(wished)
    if wished >= limit if upper else wished <= limit:
        wished = limit if is_allowed else back((scale(old) + scale(limit)) / 2)
    for digits in range(2, _MOST_DIGITS + 1):
        end = float(f"{wished:.{digits - 1}e}")
        is_beyond = end > old if upper else end < old
        if is_beyond and dim.is_allowed(int(end) if dim.is_int else end):
            return int(end) if dim.is_int else end
    return None


def _exp(exponent: float) -> float:
    return math.exp(min(max(exponent, -_FARTHEST_EXPONENT), _FARTHEST_EXPONENT))


def _grid_end(domain: Range, limit: float, is_allowed: bool, *, upper: bool) -> int | float | None:
    """The end half as many steps further out, or as many as the limit leaves. In decimals: 0.1 is a tenth."""
    old, step = (Decimal(str(number)) for number in (domain.high if upper else domain.low, domain.step))
    steps = domain.size // 2
    if math.isfinite(limit):
        room = abs(Decimal(str(limit)) - old) / step
        steps = min(steps, int(room) - (not is_allowed and room == int(room)))
    if steps < 1:
        return None
    return type(domain.high)(old + steps * step if upper else old - steps * step)


def _limit(dim: Dimension, *, upper: bool) -> tuple[float, bool]:
    """The last value that a setting may have by its annotation, infinite for none, and whether it may have that value."""
    limits: list[tuple[float, bool]] = []
    for mark in get_args(dim.setting.annotation)[1:]:
        given: Any = mark
        if isinstance(mark, Le if upper else Ge):
            limits.append((given.le if upper else given.ge, True))
        elif isinstance(mark, Lt if upper else Gt):
            limits.append((given.lt if upper else given.gt, False))
    sign = 1 if upper else -1
    limit, is_allowed = min(limits, key=lambda one: (sign * one[0], one[1]), default=(sign * math.inf, True))
    if dim.is_int and not is_allowed:
        return limit - sign, True
    return limit, is_allowed


def _flow_text(dim: Dimension, new: Range) -> str:
    """The whole entry on one line, since `--set` puts it in the place of the old one."""
    parts = [f"low: {new.low!r}", f"high: {new.high!r}"]
    parts += ["log: true"] if new.log else []
    parts += [f"step: {new.step!r}"] if new.step is not None else []
    parts += [f"role: {dim.role}"] if dim.role != "nuisance" else []
    if dim.when:
        parts.append(f"when: {json.dumps({one.key: list(one.values) for one in dim.when}, ensure_ascii=False)}")
    return f"{{{', '.join(parts)}}}"
