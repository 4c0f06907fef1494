"""The dimensions of a search: ranges and choices, and their Optuna distributions."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from search.errors import DefinitionError
from search.settings import Setting, build, checked, require_mapping

if TYPE_CHECKING:
    import optuna


_MOST_STEPS = 2**53  # beyond, a float cannot tell one step from the next


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
            raise ValueError("step must be positive, no wider than the range, and not with log")
        if self.step is not None and (self.high - self.low) / self.step > _MOST_STEPS:
            raise ValueError(f"there are too many steps of {self.step} from {self.low} to {self.high}")
        if self.step is not None and self._last != self.high:
            raise ValueError(f"steps of {self.step} from {self.low} do not meet {self.high}: the last is at {self._last}")

    @property
    def _last(self) -> int | float:
        """The last value of the grid, in decimals: 0.1 is a tenth."""
        low, high, step = (Decimal(str(number)) for number in (self.low, self.high, self.step))
        return type(self.high)(high - (high - low) % step)

    @property
    def size(self) -> int:
        """How many steps it has, both ends included; steps of 1 where it says nothing else."""
        low, high, step = (Decimal(str(number)) for number in (self.low, self.high, self.step or 1))
        return int((high - low) // step) + 1

    def text(self) -> str:
        """The range as people write it."""
        extra = " log" if self.log else "" if self.step is None else f" step {self.step}"
        return f"{self.low} .. {self.high}{extra}"

    @classmethod
    def from_text(cls, text: str) -> Range | None:
        """The range that `text` wrote; None if it did not write one."""
        found = _RANGE.fullmatch(text)
        if not found:
            return None
        try:
            step = _number(found["step"]) if found["step"] else None
            return cls(low=_number(found["low"]), high=_number(found["high"]), log=bool(found["log"]), step=step)
        except ValueError:
            return None

    def holds(self, other: Range) -> bool:
        """Whether every value of another range, which runs in the same way, is one of this."""
        same_way = (self.log, self.step) == (other.log, other.step)
        steps_meet = self.step is None or (Decimal(str(other.low)) - Decimal(str(self.low))) % Decimal(str(self.step)) == 0
        return same_way and steps_meet and self.low <= other.low and other.high <= self.high


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
        """The choices as people write them."""
        return " | ".join(str(choice) for choice in self.choices)


@dataclass(frozen=True)
class Dimension:
    """One searched setting."""

    name: str
    """As the study file writes it; Optuna and the dashboard show this name."""

    setting: Setting
    domain: Range | Choices

    @property
    def is_int(self) -> bool:
        """Whether it takes whole numbers."""
        return isinstance(self.domain, Range) and isinstance(self.setting.default, int)

    @property
    def size(self) -> float:
        """How many values it can take; infinite for a range of floats without steps."""
        domain = self.domain
        if isinstance(domain, Choices):
            return len(domain.choices)
        return math.inf if domain.step is None and not self.is_int else domain.size

    def values(self) -> list[Any]:
        """Every value, in order. Only where `size` is finite."""
        domain = self.domain
        if isinstance(domain, Choices):
            return domain.choices
        kind = int if self.is_int else float
        low, step = Decimal(str(domain.low)), Decimal(str(domain.step or 1))
        return [kind(low + number * step) for number in range(domain.size)]

    def contains(self, value: Any) -> bool:
        """Whether a value lies in the range (on its grid) or among the choices."""
        if isinstance(self.domain, Choices):
            return value in self.domain.choices
        try:
            return bool(self.distribution()._contains(value))
        except (TypeError, ValueError):  # not even a number
            return False

    def distribution(self) -> optuna.distributions.BaseDistribution:
        """The Optuna distribution."""
        import optuna

        domain = self.domain
        if isinstance(domain, Choices):
            return optuna.distributions.CategoricalDistribution(domain.choices)
        if self.is_int:
            return optuna.distributions.IntDistribution(
                int(domain.low), int(domain.high), log=domain.log, step=int(domain.step or 1)
            )
        return optuna.distributions.FloatDistribution(domain.low, domain.high, log=domain.log, step=domain.step)


def dimension(name: str, setting: Setting, given: Any, where: str) -> Dimension:
    """A checked dimension: `{low, high, log, step}` or `{choices: [...]}`.

    Raises:
        DefinitionError: it is neither, or holds values that the setting cannot take.
    """
    key = f"space.{name}"
    require_mapping(given, key, where)
    if "choices" in given:
        choices = build(Choices, given, key, where)
        if not choices.choices:
            raise DefinitionError(f"`{key}` has no choices", where=where, expected="choices: [...]")
        values = [checked(setting.annotation, value, f"{key}.choices", where) for value in choices.choices]
        if len(set(values)) < len(values):
            raise DefinitionError(
                f"`{key}` lists a choice twice", where=where, got=Choices(choices=values).text(), expected="each once"
            )
        return Dimension(name, setting, Choices(choices=values))
    if isinstance(setting.default, bool) or not isinstance(setting.default, int | float):
        raise DefinitionError(f"`{key}` is not a number", where=where, expected="choices: [...]")
    domain = build(Range, given, key, where)
    low = checked(setting.annotation, domain.low, f"{key}.low", where)
    high = checked(setting.annotation, domain.high, f"{key}.high", where)
    step = None if domain.step is None else checked(type(setting.default), domain.step, f"{key}.step", where)
    return Dimension(name, setting, replace(domain, low=low, high=high, step=step))  # 0 becomes 0.0 where a float is asked
