"""Parses dimensions from a study file."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from search.definition.ranges import Choices, Range
from search.definition.settings import Setting, build, find_setting, require_mapping, validate
from search.definition.space import Condition, Dimension, Role, is_same
from search.errors import DefinitionError


def parse_dimension(name: str, setting: Setting, given: Any, where: str) -> Dimension:
    """A dimension from `{low, high, log, step}` or `{choices: [...]}`, either with `role` and `when`.

    Raises:
        DefinitionError: it is neither, or holds values that the setting does not allow.
    """
    key = f"space.{name}"
    require_mapping(given, key, where)
    role: Role = validate(Role, given.get("role", "nuisance"), f"{key}.role", where)
    when = _conditions(given.get("when", {}), f"{key}.when", where)
    kept = {word: value for word, value in given.items() if word not in ("role", "when")}
    domain = _choices(setting, kept, key, where) if "choices" in kept else _range(setting, kept, key, where)
    return Dimension(name, setting, domain, role, when)


def _conditions(given: Any, key: str, where: str) -> tuple[Condition, ...]:
    require_mapping(given, key, where)
    conditions = []
    for name, value in given.items():
        setting = find_setting(name, f"{where}: {key}")
        values = value if isinstance(value, list) else [value]
        if not values:
            raise DefinitionError(f"`{key}` lists no value of `{name}`", where=where, expected=f"{{{name}: value}}")
        allowed = tuple(validate(setting.annotation, one, f"{key}.{name}", where) for one in values)
        conditions.append(Condition(setting.key, allowed))
    return tuple(conditions)


def _choices(setting: Setting, given: Any, key: str, where: str) -> Choices:
    choices = build(Choices, given, key, where)
    if not choices.choices:
        raise DefinitionError(f"`{key}` has no choices", where=where, expected="choices: [...]")
    values = [validate(setting.annotation, value, f"{key}.choices", where) for value in choices.choices]
    if any(is_same(one, other) for one, other in itertools.combinations(values, 2)):
        raise DefinitionError(
            f"`{key}` lists a choice twice", where=where, got=Choices(choices=values).text(), expected="each once"
        )
    return Choices(choices=values)


def _range(setting: Setting, given: Any, key: str, where: str) -> Range:
    if isinstance(setting.default, bool) or not isinstance(setting.default, int | float):
        raise DefinitionError(f"`{key}` is not a number", where=where, expected="choices: [...]")
    domain = build(Range, given, key, where)
    low = validate(setting.annotation, domain.low, f"{key}.low", where)
    high = validate(setting.annotation, domain.high, f"{key}.high", where)
    step = None if domain.step is None else validate(type(setting.default), domain.step, f"{key}.step", where)
    return replace(domain, low=low, high=high, step=step)  # 0 becomes 0.0 where the setting is a float


def sort_by_conditions(space: Sequence[Dimension], fixed: Mapping[str, Any], where: str) -> tuple[Dimension, ...]:
    """The dimensions in the given order, except that each follows the dimensions of its conditions.

    Raises:
        DefinitionError: a condition is on a setting that is not searched, can never hold, or depends on itself.
    """
    by_key = {dim.setting.key: dim for dim in space}
    for dim in space:
        for condition in dim.when:
            _require_satisfiable(dim, condition, by_key, fixed, where)
    space = [replace(dim, when=tuple(_rounded(condition, by_key) for condition in dim.when)) for dim in space]
    ordered: dict[str, Dimension] = {}
    while len(ordered) < len(space):
        waiting = [dim for dim in space if dim.setting.key not in ordered]
        ready = next((dim for dim in waiting if all(condition.key in ordered for condition in dim.when)), None)
        if ready is None:
            raise DefinitionError(
                f"the conditions of {', '.join(f'`{dim.name}`' for dim in waiting)} are circular",
                where=where,
                hint="remove one `when`",
            )
        ordered[ready.setting.key] = ready
    return tuple(ordered.values())


def _rounded(condition: Condition, by_key: Mapping[str, Dimension]) -> Condition:
    return replace(condition, values=tuple(map(by_key[condition.key].rounded, condition.values)))


def _require_satisfiable(
    dim: Dimension, condition: Condition, by_key: Mapping[str, Dimension], fixed: Mapping[str, Any], where: str
) -> None:
    if condition.key not in by_key:
        state = f"fixed to {fixed[condition.key]}" if condition.key in fixed else "not searched"
        raise DefinitionError(
            f"the condition of `{dim.name}` is on a setting that is not searched",
            where=where,
            got=f"{condition.text()}, but it is {state}",
            expected="a dimension of this space",
            hint=f"remove `when`, or remove `{dim.name}` from the space",
        )
    other = by_key[condition.key]
    impossible = f"the condition of `{dim.name}` can never hold"
    if math.isinf(other.size):
        raise DefinitionError(
            impossible,
            where=where,
            got=f"{other.name} is continuous: it is never exactly {condition.values[0]}",
            expected="a condition on choices, whole numbers or steps",
        )
    missing = [value for value in condition.values if not other.contains(value)]
    if missing:
        all_missing = len(missing) == len(condition.values)
        raise DefinitionError(
            impossible if all_missing else f"the condition of `{dim.name}` lists a value outside the space",
            where=where,
            got=f"{other.name} {missing[0]}",
            expected=other.domain.text(),
        )
