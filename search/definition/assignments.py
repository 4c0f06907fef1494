"""Applies `--set KEY=VALUE` to the values of a study file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search.definition.settings import closest_setting, find_setting, require_mapping, settings
from search.definition.yaml_text import parse_yaml
from search.errors import DefinitionError

_BY_SETTING = ("fixed", "space", "baseline")
"""Sections whose keys are settings."""

SECTIONS = (
    *("about", "objective", "trials", "time", "stagnation", "repeats", "sampler", "pruner", "resources", "data"),
    *_BY_SETTING,
)


def value_paths(raw: Any, prefix: str = "") -> list[str]:
    """Dotted paths of all values in nested mappings."""
    if not isinstance(raw, dict):
        return [prefix]
    return [path for key, value in raw.items() for path in value_paths(value, f"{prefix}.{key}" if prefix else str(key))]


def apply_assignment(raw: dict[str, Any], assignment: str, source: str) -> dict[str, str]:
    """Applies one `--set` to `raw`, and returns the origin of each path that it set.

    A key that starts with the name of a section is a path in the file. Any other key is a setting, which becomes fixed.

    Raises:
        DefinitionError: the assignment is malformed, or its key does not exist.
    """
    key, equals, text = assignment.partition("=")
    where = f"--set {assignment}"
    if not equals or not key:
        raise DefinitionError("`--set` needs KEY=VALUE", got=assignment, hint="for example `--set train.epochs=20`")
    value = parse_yaml(text, where, key=key)
    steps = key.split(".")
    if steps[0] not in SECTIONS:
        setting = find_setting(key, where)
        for section in _BY_SETTING:  # the setting may be there under its other spelling
            written = section_of(raw, section)
            require_mapping(written, section, source)
            for name in [name for name in written if find_setting(name, f"{source}: {section}") == setting]:
                del written[name]
        steps = ["fixed", setting.key]
    elif len(steps) > 2 and steps[0] in _BY_SETTING:
        steps = _join_setting(steps, raw)
    target = raw
    for step in steps[:-1]:
        target[step] = section_of(target, step)
        target = target[step]
        require_mapping(target, step, where)
    target[steps[-1]] = value
    path = ".".join(steps)
    return {f"{path}{rest}": where for rest in [f".{p}" for p in value_paths(value) if p] or [""]}


def _join_setting(steps: list[str], raw: Mapping[str, Any]) -> list[str]:
    """Makes a setting's dotted key one step: `space.train.lr.low` -> `space`, `train.lr`, `low`."""
    dotted = f"{steps[1]}.{steps[2]}"
    section = raw.get(steps[0])
    if dotted in settings():
        name = dotted if not isinstance(section, dict) or steps[2] not in section else steps[2]
        return [steps[0], name, *steps[3:]]
    return steps


def assignment_for(option: str, value: str, *, exactly: bool) -> str | None:
    """The `--set` for an option that does not exist: `epochs=20` for `--epochs 20`.

    None if no key has its name or, unless `exactly`, one like it.
    """
    key = option.lstrip("-").replace("-", "_")
    if key in SECTIONS:
        return f"{key}.name={value}" if key in ("sampler", "pruner") else f"{key}={value}"
    try:
        find_setting(key, option)
    except DefinitionError:
        close = None if exactly else closest_setting(key)
        return None if close is None else f"{close}={value}"
    return f"{key}={value}"


def section_of(raw: Mapping[str, Any], key: str) -> Any:
    """The value of a key; an empty mapping if it is missing or empty."""
    return {} if raw.get(key) is None else raw[key]
