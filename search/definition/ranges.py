"""Domains of dimensions: `Range` and `Choices`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

_MAX_STEPS = 2**53  # beyond this a float cannot distinguish neighboring steps


@dataclass(frozen=True, kw_only=True)
class Range:
    """Numbers from `low` to `high`, both included."""

    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise ValueError("low and high must be finite")
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range cannot start at {self.low:g}")
        if self.step is not None and (self.log or not 0 < self.step <= self.high - self.low):
            raise ValueError("step must be positive, no larger than the range, and not combined with log")
        if self.step is not None and (self.high - self.low) / self.step > _MAX_STEPS:
            raise ValueError(f"too many steps of {self.step} from {self.low} to {self.high}")
        if self.step is not None and self._last != self.high:
            raise ValueError(f"steps of {self.step} from {self.low} do not reach {self.high}: the last is at {self._last}")

    @property
    def _last(self) -> int | float:
        """The last value of the grid, computed in decimals so that 0.1 is exactly a tenth."""
        low, high, step = (Decimal(str(number)) for number in (self.low, self.high, self.step))
        return type(self.high)(high - (high - low) % step)

    @property
    def size(self) -> int:
        """Number of values with steps of `step`, or of 1 if there is none; both ends included."""
        low, high, step = (Decimal(str(number)) for number in (self.low, self.high, self.step or 1))
        return int((high - low) // step) + 1

    def text(self) -> str:
        """The range as `low .. high`, with ` log` or ` step S`."""
        extra = " log" if self.log else "" if self.step is None else f" step {self.step}"
        return f"{self.low} .. {self.high}{extra}"

    @classmethod
    def from_text(cls, text: str) -> Range | None:
        """The range that `text` wrote; None for anything else."""
        found = _RANGE.fullmatch(text)
        if not found:
            return None
        try:
            step = _number(found["step"]) if found["step"] else None
            return cls(low=_number(found["low"]), high=_number(found["high"]), log=bool(found["log"]), step=step)
        except ValueError:
            return None

    def contains_range(self, other: Range) -> bool:
        """Whether every value of another range with the same `log` and `step` is in this one."""
        same_kind = (self.log, self.step) == (other.log, other.step)
        steps_meet = self.step is None or (Decimal(str(other.low)) - Decimal(str(self.low))) % Decimal(str(self.step)) == 0
        return same_kind and steps_meet and self.low <= other.low and other.high <= self.high


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)


_RANGE = re.compile(r"(?P<low>\S+) \.\. (?P<high>\S+?)(?P<log> log)?(?: step (?P<step>\S+))?")


@dataclass(frozen=True, kw_only=True)
class Choices:
    """One of a few values."""

    choices: list[Any]

    def text(self) -> str:
        """The choices as `a | b | c`."""
        return " | ".join(str(choice) for choice in self.choices)
