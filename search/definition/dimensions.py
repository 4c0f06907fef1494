"""Dimensions as the file writes them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

from data_utils.wording import suggest
from search.definition.ranges import Choices, Range
from search.definition.settings import Setting, build, find_setting, require_mapping, validate
from search.definition.space import Condition, Dimension, Role
from search.errors import DefinitionError


def parse_dimension(name: str, setting: Setting, given: Any, where: str) -> Dimension:
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
        found.append(Condition(setting.key, tuple(validate(setting.annotation, one, place, where) for one in values)))
    return tuple(found)


def _choices(setting: Setting, given: Any, key: str, where: str) -> Choices:
    choices = build(Choices, given, key, where)
    if not choices.choices:
        raise DefinitionError(f"`{key}` has no choices", where=where, expected="choices: [...]")
    values = [validate(setting.annotation, value, f"{key}.choices", where) for value in choices.choices]
    if len(set(values)) < len(values):
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
    return replace(domain, low=low, high=high, step=step)  # 0 becomes 0.0 where a float is asked


def sort_by_conditions(space: Sequence[Dimension], fixed: Mapping[str, Any], where: str) -> tuple[Dimension, ...]:
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
