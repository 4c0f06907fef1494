"""Dimensions of a search space: domains, conditions, and their Optuna distributions.

A combination holds a value for every active dimension, by the dimension's name. A dimension with conditions (`when`) is active
where all of them hold; elsewhere its setting keeps its default.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from search.definition.ranges import Choices, Range
from search.definition.settings import Setting, validate
from search.errors import DefinitionError

if TYPE_CHECKING:
    import optuna


_EDGE = 0.05  # the share of a range, at either end, that counts as its edge
_ROUNDING = 1e-8  # the share of a step that arithmetic with floats may be off; Optuna's own tolerance

Role = Literal["scientific", "nuisance"]
"""Why a dimension is searched: its effect is the question (scientific), or it is tuned so that the comparison is fair
(nuisance). Source: Godbole et al. 2023, "Deep learning tuning playbook"."""


@dataclass(frozen=True)
class Condition:
    """Another dimension has one of the given values."""

    key: str
    """Full key of the other dimension's setting."""

    values: tuple[Any, ...]

    def text(self) -> str:
        """The condition as `key is a or b`."""
        return f"{self.key} is {' or '.join(str(value) for value in self.values)}"


@dataclass(frozen=True)
class Dimension:
    """One searched setting."""

    name: str
    """As in the study file; Optuna and the dashboard show this name."""

    setting: Setting
    domain: Range | Choices
    role: Role = "nuisance"
    when: tuple[Condition, ...] = ()
    """The dimension is active where all of them hold."""

    def text(self) -> str:
        """Domain and conditions, for display."""
        return f"{self.domain.text()} when {self.condition_text}" if self.when else self.domain.text()

    @property
    def condition_text(self) -> str:
        """The conditions, joined by `and`; empty if there are none."""
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
        """Every value, in order. Requires a finite `size`."""
        return [self._value_at(index) for index in range(int(self.size))]

    def _value_at(self, index: int) -> Any:
        if isinstance(self.domain, Choices):
            return self.domain.choices[index]
        value = Decimal(str(self.domain.low)) + index * Decimal(str(self.domain.step or 1))
        return int(value) if self.is_int else float(value)

    def rounded(self, value: Any) -> Any:
        """The dimension's own form of a value; the value itself if it has none.

        `0.1 + 0.2` is 0.3 on steps of a tenth, 2.0 is 2 where whole numbers are searched, and a choice is as it was listed.
        Samplers and other programs write one value in several forms, which would count as different settings.
        """
        domain = self.domain
        if isinstance(domain, Choices):
            return next((choice for choice in domain.choices if is_same(choice, value)), value)
        slack = domain.step or 0
        if isinstance(value, bool) or not isinstance(value, int | float):
            return value
        if not domain.low - slack <= value <= domain.high + slack:
            return value
        if self.is_int:
            return int(value) if value == int(value) else value
        if domain.step is None:
            return float(value)
        steps = (value - domain.low) / domain.step
        return self._value_at(round(steps)) if abs(steps - round(steps)) < _ROUNDING else float(value)

    def draw(self, rng: np.random.Generator) -> Any:
        """A random value, uniform over the range, its logarithm or the choices."""
        domain = self.domain
        if isinstance(domain, Range) and domain.log:
            value = math.exp(rng.uniform(math.log(domain.low), math.log(domain.high)))
            value = min(max(value, domain.low), domain.high)  # exp and log round
            return round(value) if self.is_int else float(value)
        if isinstance(domain, Range) and math.isinf(self.size):
            return float(rng.uniform(domain.low, domain.high))
        return self._value_at(int(rng.integers(int(self.size))))

    @property
    def highest(self) -> Any:
        """The largest value of a numeric dimension."""
        return max(self.domain.choices) if isinstance(self.domain, Choices) else self.domain.high

    def position(self, value: Any) -> float:
        """Position of a value on the range's own scale, from 0 at `low` to 1 at `high`; for choices, the index."""
        domain = self.domain
        if isinstance(domain, Choices):
            return float(domain.choices.index(self.rounded(value)))
        scale = math.log if domain.log else float
        low, high = scale(domain.low), scale(domain.high)
        return (scale(value) - low) / (high - low)

    def at_position(self, position: float) -> Any:
        """The value at a position, the nearest where there are steps: the inverse of `position`."""
        domain = self.domain
        if isinstance(domain, Choices):
            return domain.choices[int(position)]
        scale, back = (math.log, math.exp) if domain.log else (float, float)
        low, high = scale(domain.low), scale(domain.high)
        value = min(max(back(low + position * (high - low)), domain.low), domain.high)  # exp and log round
        if math.isinf(self.size):
            return float(value)
        step = domain.step or 1
        return self.rounded(self._value_at(min(max(round((value - domain.low) / step), 0), int(self.size) - 1)))

    def edge(self, value: Any) -> str:
        """`lower` or `upper` if a value lies at that end of its range and the setting allows values beyond it; else empty.

        An end is the outermost 5% of the range, on its own scale, or its last step. A limit of the setting itself, such as a
        dropout of 0, does not count as an end, and choices have none.
        """
        domain = self.domain
        if not isinstance(domain, Range):
            return ""
        position = self.position(value)
        margin = _EDGE if math.isinf(self.size) else min(_EDGE, 0.5 / (self.size - 1))
        if position <= margin and self._allows_beyond(domain.low, -1):
            return "lower"
        return "upper" if position >= 1 - margin and self._allows_beyond(domain.high, 1) else ""

    def _allows_beyond(self, end: float, direction: int) -> bool:
        return self.is_allowed(int(end) + direction if self.is_int else float(end) + direction * 1e-9 * max(1.0, abs(end)))

    def is_allowed(self, value: Any) -> bool:
        """Whether the setting itself allows a value, inside the searched range or not."""
        try:
            validate(self.setting.annotation, value, self.name, "")
        except DefinitionError:
            return False
        return True

    def contains(self, value: Any) -> bool:
        """Whether a value lies in the range (on its grid) or among the choices, apart from rounding errors."""
        domain, value = self.domain, self.rounded(value)
        if isinstance(domain, Choices):
            return any(is_same(choice, value) for choice in domain.choices)
        if isinstance(value, bool) or not isinstance(value, int | float) or not domain.low <= value <= domain.high:
            return False
        if self.is_int:
            return isinstance(value, int) and (value - domain.low) % (domain.step or 1) == 0
        return domain.step is None or value == self._value_at(round((value - domain.low) / domain.step))

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


def is_same(one: Any, other: Any) -> bool:
    """Whether two values of a setting are the same apart from rounding errors. True is not 1."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-12)
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def rounded_params(space: Sequence[Dimension], params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a space in the form that its dimensions give them (see `Dimension.rounded`)."""
    return {dim.name: dim.rounded(params[dim.name]) for dim in space if dim.name in params}


def is_active(dim: Dimension, values: Mapping[str, Any]) -> bool:
    """Whether a dimension's conditions hold, given the values of earlier dimensions by full key."""
    return all(condition.key in values and values[condition.key] in condition.values for condition in dim.when)


def active_dimensions(space: Sequence[Dimension], params: Mapping[str, Any]) -> tuple[Dimension, ...]:
    """The dimensions that are active for these parameters. A condition on a missing parameter does not hold."""
    values: dict[str, Any] = {}
    found = []
    for dim in space:
        if is_active(dim, values):
            found.append(dim)
            if dim.name in params:
                values[dim.setting.key] = dim.rounded(params[dim.name])
    return tuple(found)


def num_combinations(space: Sequence[Dimension], values: Mapping[str, Any] | None = None) -> float:
    """Number of combinations in a space; infinite if an active dimension is continuous."""
    values = values or {}
    if not space:
        return 1
    dim, rest = space[0], space[1:]
    if not is_active(dim, values):
        return num_combinations(rest, values)
    is_condition = any(condition.key == dim.setting.key for later in rest for condition in later.when)
    if not is_condition or math.isinf(dim.size):
        return dim.size * num_combinations(rest, values)
    return sum(num_combinations(rest, {**values, dim.setting.key: value}) for value in dim.values())


def random_combination(space: Sequence[Dimension], rng: np.random.Generator) -> dict[str, Any]:
    """A random combination."""
    values: dict[str, Any] = {}
    params = {}
    for dim in space:
        if is_active(dim, values):
            params[dim.name] = values[dim.setting.key] = dim.draw(rng)
    return params


def all_combinations(space: Sequence[Dimension], values: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
    """Every combination of a finite space; the last dimension changes fastest."""
    values = values or {}
    if not space:
        yield {}
        return
    dim, rest = space[0], space[1:]
    if not is_active(dim, values):
        yield from all_combinations(rest, values)
        return
    for value in dim.values():
        for others in all_combinations(rest, {**values, dim.setting.key: value}):
            yield {dim.name: value, **others}
