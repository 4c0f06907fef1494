"""The dimensions of a search: ranges, choices, conditions, and their Optuna distributions.

A parameter set holds a value for every dimension that applies, by the dimension's name. A dimension with a condition (`when`)
applies where its condition holds; where it does not, its setting keeps its default.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from data_utils.hdf5 import suggest
from search.errors import DefinitionError
from search.settings import Setting, build, checked, find_setting, require_mapping

if TYPE_CHECKING:
    import optuna


_EDGE = 0.05  # how much of a range, from either end, counts as its edge
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


Role = Literal["scientific", "nuisance"]
"""What a dimension is searched for: its own effect is the question (scientific), or it must be tuned for the comparison to be
fair (nuisance). Source: Godbole et al. 2023, "Deep learning tuning playbook"."""


@dataclass(frozen=True)
class Condition:
    """Another dimension has one of some values."""

    key: str
    """The full key of the setting that is looked at."""

    values: tuple[Any, ...]

    def text(self) -> str:
        """The condition as people read it."""
        return f"{self.key} is {' or '.join(str(value) for value in self.values)}"


@dataclass(frozen=True)
class Dimension:
    """One searched setting."""

    name: str
    """As the study file writes it; Optuna and the dashboard show this name."""

    setting: Setting
    domain: Range | Choices
    role: Role = "nuisance"
    when: tuple[Condition, ...] = ()
    """All of them must hold for the dimension to apply."""

    def text(self) -> str:
        """Range and conditions as people read them."""
        return f"{self.domain.text()} when {self.condition_text}" if self.when else self.domain.text()

    @property
    def condition_text(self) -> str:
        """When it applies; empty for always."""
        return " and ".join(condition.text() for condition in self.when)

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
        return [self._value(number) for number in range(int(self.size))]

    def _value(self, number: int) -> Any:
        """The value of that number, where `size` is finite."""
        if isinstance(self.domain, Choices):
            return self.domain.choices[number]
        value = Decimal(str(self.domain.low)) + number * Decimal(str(self.domain.step or 1))
        return int(value) if self.is_int else float(value)

    def draw(self, rng: np.random.Generator) -> Any:
        """A random value: evenly over the range, over its logarithm, or over the choices."""
        domain = self.domain
        if isinstance(domain, Range) and domain.log:
            value = math.exp(rng.uniform(math.log(domain.low), math.log(domain.high)))
            value = min(max(value, domain.low), domain.high)  # exp and log may miss an end by a hair
            return round(value) if self.is_int else float(value)
        if isinstance(domain, Range) and math.isinf(self.size):
            return float(rng.uniform(domain.low, domain.high))
        return self._value(int(rng.integers(int(self.size))))

    @property
    def highest(self) -> Any:
        """The largest value of a dimension of numbers."""
        return max(self.domain.choices) if isinstance(self.domain, Choices) else self.domain.high

    def place(self, value: Any) -> float:
        """Where a value lies in its range, on the scale that it is drawn on: 0 at `low`, 1 at `high`; of choices, its index."""
        domain = self.domain
        if isinstance(domain, Choices):
            return float(domain.choices.index(value))
        scale = math.log if domain.log else float
        low, high = scale(domain.low), scale(domain.high)
        return (scale(value) - low) / (high - low)

    def edge(self, value: Any) -> str:
        """Whether a value lies at the `lower` or `upper` end of its range, where better ones may lie beyond; else empty.

        At the end: the outermost twentieth of the range, on the scale that it is drawn on, or the last of its steps. An end
        that the setting itself cannot pass, such as a dropout of 0, is none; neither is a choice.
        """
        domain = self.domain
        if not isinstance(domain, Range):
            return ""
        place = self.place(value)
        near = _EDGE if math.isinf(self.size) else min(_EDGE, 0.5 / (self.size - 1))
        if place <= near and self._passes(domain.low, -1):
            return "lower"
        return "upper" if place >= 1 - near and self._passes(domain.high, 1) else ""

    def _passes(self, end: float, direction: int) -> bool:
        """Whether the setting may have values beyond an end of the range."""
        return self.may_be(int(end) + direction if self.is_int else float(end) + direction * 1e-9 * max(1.0, abs(end)))

    def may_be(self, value: Any) -> bool:
        """Whether the setting may have a value at all, in its range or not."""
        try:
            checked(self.setting.annotation, value, self.name, "")
        except DefinitionError:
            return False
        return True

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
    """A checked dimension: `{low, high, log, step}` or `{choices: [...]}`, either with `role` and `when`.

    Raises:
        DefinitionError: it is neither, or holds values that the setting cannot take.
    """
    key = f"space.{name}"
    require_mapping(given, key, where)
    role = _role(given.get("role", "nuisance"), key, where)
    when = _conditions(given.get("when", {}), key, where)
    kept = {word: value for word, value in given.items() if word not in ("role", "when")}
    domain = _choices(setting, kept, key, where) if "choices" in kept else _range(setting, kept, key, where)
    return Dimension(name, setting, domain, role, when)


def _role(given: Any, key: str, where: str) -> Role:
    for role in get_args(Role):
        if given == role:
            return role
    raise DefinitionError(
        f"`{key}.role` is unknown",
        where=where,
        got=repr(given)[:80],
        expected=" or ".join(get_args(Role)),
        hint=suggest(str(given), get_args(Role)),
    )


def _conditions(given: Any, key: str, where: str) -> tuple[Condition, ...]:
    require_mapping(given, f"{key}.when", where)
    found = []
    for name, value in given.items():
        setting = find_setting(name, f"{where}: {key}.when")
        values = value if isinstance(value, list) else [value]
        if not values:
            raise DefinitionError(f"`{key}.when` names no value of `{name}`", where=where, expected=f"{{{name}: value}}")
        place = f"{key}.when.{name}"
        found.append(Condition(setting.key, tuple(checked(setting.annotation, one, place, where) for one in values)))
    return tuple(found)


def _choices(setting: Setting, given: Any, key: str, where: str) -> Choices:
    choices = build(Choices, given, key, where)
    if not choices.choices:
        raise DefinitionError(f"`{key}` has no choices", where=where, expected="choices: [...]")
    values = [checked(setting.annotation, value, f"{key}.choices", where) for value in choices.choices]
    if len(set(values)) < len(values):
        raise DefinitionError(
            f"`{key}` lists a choice twice", where=where, got=Choices(choices=values).text(), expected="each once"
        )
    return Choices(choices=values)


def _range(setting: Setting, given: Any, key: str, where: str) -> Range:
    if isinstance(setting.default, bool) or not isinstance(setting.default, int | float):
        raise DefinitionError(f"`{key}` is not a number", where=where, expected="choices: [...]")
    domain = build(Range, given, key, where)
    low = checked(setting.annotation, domain.low, f"{key}.low", where)
    high = checked(setting.annotation, domain.high, f"{key}.high", where)
    step = None if domain.step is None else checked(type(setting.default), domain.step, f"{key}.step", where)
    return replace(domain, low=low, high=high, step=step)  # 0 becomes 0.0 where a float is asked


def in_order(space: Sequence[Dimension], fixed: Mapping[str, Any], where: str) -> tuple[Dimension, ...]:
    """The dimensions as written, but each behind those that its condition looks at.

    Raises:
        DefinitionError: a condition looks at what is not searched, can never hold, or goes in a circle.
    """
    by_key = {dim.setting.key: dim for dim in space}
    for dim in space:
        for condition in dim.when:
            _require_possible(dim, condition, by_key, fixed, where)
    ordered: dict[str, Dimension] = {}
    while len(ordered) < len(space):
        ready = [
            dim for dim in space if dim.setting.key not in ordered and all(condition.key in ordered for condition in dim.when)
        ]
        if not ready:
            names = [dim.name for dim in space if dim.setting.key not in ordered]
            raise DefinitionError(
                f"the conditions of {', '.join(f'`{name}`' for name in names)} go in a circle",
                where=where,
                hint="take one `when` away",
            )
        ordered[ready[0].setting.key] = ready[0]
    return tuple(ordered.values())


def _require_possible(
    dim: Dimension, condition: Condition, by_key: Mapping[str, Dimension], fixed: Mapping[str, Any], where: str
) -> None:
    what = f"the condition of `{dim.name}` can never hold"
    if condition.key not in by_key:
        state = f"fixed to {fixed[condition.key]}" if condition.key in fixed else "not searched"
        raise DefinitionError(
            f"the condition of `{dim.name}` looks at what is not searched",
            where=where,
            got=f"{condition.text()}, and it is {state}",
            expected="a dimension of this space",
            hint=f"take `when` away, or `{dim.name}` out of the space",
        )
    looked_at = by_key[condition.key]
    if math.isinf(looked_at.size):
        raise DefinitionError(
            what,
            where=where,
            got=f"{looked_at.name} is continuous: it is never exactly {condition.values[0]}",
            expected="a condition on choices, whole numbers or steps",
        )
    strange = [value for value in condition.values if not looked_at.contains(value)]
    if strange:
        raise DefinitionError(
            what if len(strange) == len(condition.values) else f"the condition of `{dim.name}` names a value that cannot be",
            where=where,
            got=f"{looked_at.name} {strange[0]}",
            expected=looked_at.domain.text(),
        )


def applies(dim: Dimension, values: Mapping[str, Any]) -> bool:
    """Whether a dimension's conditions hold, given the values of the dimensions before it, by full key."""
    return all(condition.key in values and values[condition.key] in condition.values for condition in dim.when)


def applying(space: Sequence[Dimension], params: Mapping[str, Any]) -> tuple[Dimension, ...]:
    """The dimensions that apply to parameters. One whose condition looks at a missing parameter does not."""
    values: dict[str, Any] = {}
    found = []
    for dim in space:
        if applies(dim, values):
            found.append(dim)
            if dim.name in params:
                values[dim.setting.key] = params[dim.name]
    return tuple(found)


def num_settings(space: Sequence[Dimension], values: Mapping[str, Any] | None = None) -> float:
    """How many parameter sets a space holds; infinite where a dimension that applies is continuous."""
    values = values or {}
    if not space:
        return 1
    dim, rest = space[0], space[1:]
    if not applies(dim, values):
        return num_settings(rest, values)
    decides = any(condition.key == dim.setting.key for later in rest for condition in later.when)
    if not decides or math.isinf(dim.size):
        return dim.size * num_settings(rest, values)
    return sum(num_settings(rest, {**values, dim.setting.key: value}) for value in dim.values())


def random_setting(space: Sequence[Dimension], rng: np.random.Generator) -> dict[str, Any]:
    """A random parameter set."""
    values: dict[str, Any] = {}
    params = {}
    for dim in space:
        if applies(dim, values):
            params[dim.name] = values[dim.setting.key] = dim.draw(rng)
    return params


def every_setting(space: Sequence[Dimension], values: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
    """Every parameter set of a finite space, the last dimension changing fastest."""
    values = values or {}
    if not space:
        yield {}
        return
    dim, rest = space[0], space[1:]
    if not applies(dim, values):
        yield from every_setting(rest, values)
        return
    for value in dim.values():
        for others in every_setting(rest, {**values, dim.setting.key: value}):
            yield {dim.name: value, **others}
