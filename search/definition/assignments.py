"""--set KEY=VALUE."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search.definition.settings import find_setting, require_mapping, settings
from search.definition.yaml_text import parse_yaml
from search.errors import DefinitionError

SECTIONS = (
    "about",
    "objective",
    "trials",
    "time",
    "stagnation",
    "repeats",
    "sampler",
    "pruner",
    "resources",
    "data",
    "fixed",
    "space",
    "baseline",
)


def value_paths(raw: Any, prefix: str = "") -> list[str]:
    """Dotted paths of the values that a mapping holds."""
    if not isinstance(raw, dict):
        return [prefix]
    return [path for key, value in raw.items() for path in value_paths(value, f"{prefix}.{key}" if prefix else str(key))]


def apply_assignment(raw: dict[str, Any], assignment: str, source: str) -> dict[str, str]:
    """Applies one `--set`, and says which paths it gave.

    A key that starts with a section's name is a place in the file; any other is a setting, which is then fixed.
    """
    key, equals, text = assignment.partition("=")
    where = f"--set {assignment}"
    if not equals or not key:
        raise DefinitionError("`--set` wants KEY=VALUE", got=assignment, hint="for example `--set train.epochs=20`")
    value = parse_yaml(text, where)
    steps = key.split(".")
    if steps[0] not in SECTIONS:
        setting = find_setting(key, where)
        for section in ("fixed", "space", "baseline"):  # no other spelling of it may stay
            written = _section(raw, section)
            require_mapping(written, section, source)
            for name in [name for name in written if find_setting(name, f"{source}: {section}") == setting]:
                del written[name]
        steps = ["fixed", setting.key]
    elif len(steps) > 2 and steps[0] in ("fixed", "space", "baseline"):
        steps = _join_setting(steps, raw)
    target = raw
    for step in steps[:-1]:
        target[step] = _section(target, step)
        target = target[step]
        require_mapping(target, step, where)
    target[steps[-1]] = value
    path = ".".join(steps)
    return {f"{path}{rest}": where for rest in [f".{p}" for p in value_paths(value) if p] or [""]}


def _join_setting(steps: list[str], raw: Mapping[str, Any]) -> list[str]:
    """`space.train.lr.low` -> space, train.lr, low: a setting's dotted key is one step."""
    dotted = f"{steps[1]}.{steps[2]}"
    section = raw.get(steps[0])
    if dotted in settings():
        name = dotted if not isinstance(section, dict) or steps[2] not in section else steps[2]
        return [steps[0], name, *steps[3:]]
    return steps


def _section(raw: Mapping[str, Any], key: str) -> Any:
    """What is written under a key; an empty mapping for nothing."""
    return {} if raw.get(key) is None else raw[key]
