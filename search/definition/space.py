"""The dimensions of a search: ranges, choices, conditions, and their Optuna distributions.

A parameter set holds a value for every dimension that applies, by the dimension's name. A dimension with a condition (`when`)
applies where its condition holds; where it does not, its setting keeps its default.
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


_EDGE = 0.05  # how much of a range, from either end, counts as its edge


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

    def position(self, value: Any) -> float:
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
        place = self.position(value)
        near = _EDGE if math.isinf(self.size) else min(_EDGE, 0.5 / (self.size - 1))
        if place <= near and self._passes(domain.low, -1):
            return "lower"
        return "upper" if place >= 1 - near and self._passes(domain.high, 1) else ""

    def _passes(self, end: float, direction: int) -> bool:
        """Whether the setting may have values beyond an end of the range."""
        return self.is_allowed(int(end) + direction if self.is_int else float(end) + direction * 1e-9 * max(1.0, abs(end)))

    def is_allowed(self, value: Any) -> bool:
        """Whether the setting may have a value at all, in its range or not."""
        try:
            validate(self.setting.annotation, value, self.name, "")
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


def is_active(dim: Dimension, values: Mapping[str, Any]) -> bool:
    """Whether a dimension's conditions hold, given the values of the dimensions before it, by full key."""
    return all(condition.key in values and values[condition.key] in condition.values for condition in dim.when)


def active_dimensions(space: Sequence[Dimension], params: Mapping[str, Any]) -> tuple[Dimension, ...]:
    """The dimensions that apply to parameters. One whose condition looks at a missing parameter does not."""
    values: dict[str, Any] = {}
    found = []
    for dim in space:
        if is_active(dim, values):
            found.append(dim)
            if dim.name in params:
                values[dim.setting.key] = params[dim.name]
    return tuple(found)


def num_combinations(space: Sequence[Dimension], values: Mapping[str, Any] | None = None) -> float:
    """How many parameter sets a space holds; infinite where a dimension that applies is continuous."""
    values = values or {}
    if not space:
        return 1
    dim, rest = space[0], space[1:]
    if not is_active(dim, values):
        return num_combinations(rest, values)
    decides = any(condition.key == dim.setting.key for later in rest for condition in later.when)
    if not decides or math.isinf(dim.size):
        return dim.size * num_combinations(rest, values)
    return sum(num_combinations(rest, {**values, dim.setting.key: value}) for value in dim.values())


def random_combination(space: Sequence[Dimension], rng: np.random.Generator) -> dict[str, Any]:
    """A random parameter set."""
    values: dict[str, Any] = {}
    params = {}
    for dim in space:
        if is_active(dim, values):
            params[dim.name] = values[dim.setting.key] = dim.draw(rng)
    return params


def all_combinations(space: Sequence[Dimension], values: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
    """Every parameter set of a finite space, the last dimension changing fastest."""
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
