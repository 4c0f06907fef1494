"""Settings by name, and validation of the values that study files and `--set` give them.

A setting is a field of `ModelConfig`, `TrainConfig`, `PreprocessConfig` or `AugmentConfig`. Its key is dotted (`train.lr`) or,
where only one configuration has a field of that name, bare (`lr`).
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from data_utils.augment import AugmentConfig
from data_utils.normalize import PreprocessConfig
from data_utils.wording import closest, suggest
from model.config import ModelConfig, TrainConfig
from search.errors import DefinitionError

if TYPE_CHECKING:
    from pydantic import TypeAdapter  # imported where values are checked: workers check none

T = TypeVar("T")

GROUPS: dict[str, type] = {
    "model": ModelConfig,
    "train": TrainConfig,
    "preprocess": PreprocessConfig,
    "augment": AugmentConfig,
}

LEGACY_DEFAULTS: dict[str, Any] = {"train.patience": 0}
"""Values that settings had in effect before they existed, where that is not their default."""

_SWITCHES = {"yes": True, "on": True, "no": False, "off": False}
"""Other words for true and false, where a setting is one of the two."""

_LIKE_NUMBER = re.compile(r"[-+]?[0-9.][0-9a-fA-FxXo_:.+-]*")
"""Numbers in quotes, and notations that readers of YAML disagree about: 010, 1:30, 1_000, 0x1F."""

_ALIASES = {  # names from other tools and papers, for hints only
    "learning_rate": "train.lr",
    "smoothing": "train.label_smoothing",
    "eps": "train.label_smoothing",
    "num_epochs": "train.epochs",
    "batch": "train.batch_size",
    "dim_model": "model.width",
    "num_layers": "model.layers",
    "num_heads": "model.heads",
    "dim_ffw": "model.ffn_width",
}


@dataclass(frozen=True)
class Setting:
    """One field of one configuration."""

    group: str
    field: str
    annotation: Any
    default: Any

    @property
    def key(self) -> str:
        """Its full dotted name."""
        return f"{self.group}.{self.field}"


@dataclass(frozen=True, kw_only=True)
class Configs:
    """Everything that determines one training, except for the data and the seed."""

    model: ModelConfig
    train: TrainConfig
    preprocess: PreprocessConfig
    augment: AugmentConfig

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Plain values by group and field."""
        return dataclasses.asdict(self)


@functools.cache
def settings() -> dict[str, Setting]:
    """Every setting by its full key."""
    found = [
        Setting(group, field.name, get_type_hints(config, include_extras=True)[field.name], field.default)
        for group, config in GROUPS.items()
        for field in dataclasses.fields(config)
    ]
    return {setting.key: setting for setting in found}


def find_setting(key: str, where: str) -> Setting:
    """The setting with a dotted or bare key.

    Raises:
        DefinitionError: there is no such setting, or several groups have a field of this name.
    """
    known = settings()
    if key in known:
        return known[key]
    matches = [setting for setting in known.values() if setting.field == key]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise DefinitionError(f"`{key}` is ambiguous", where=where, expected=" or ".join(setting.key for setting in matches))
    raise DefinitionError(f"unknown key `{key}`", where=where, hint=_hint(key))


def build_configs(values: Mapping[str, Any], where: str) -> Configs:
    """Configurations with the given values by key, and defaults for the rest.

    Raises:
        DefinitionError: an unknown key, a value of the wrong type or out of range, or values that are not compatible.
    """
    by_group: dict[str, dict[str, Any]] = {group: {} for group in GROUPS}
    for key, value in values.items():
        setting = find_setting(key, where)
        by_group[setting.group][setting.field] = validate(setting.annotation, value, key, where)
    try:
        return Configs(**{group: GROUPS[group](**fields) for group, fields in by_group.items()})
    except ValueError as error:
        raise DefinitionError(
            "the settings are not compatible", where=where, got=str(error), hint="change one of them, for example with --set"
        ) from error


def validate(annotation: Any, value: Any, key: str, where: str, expected: str | None = None) -> Any:
    """The value, if it has the annotated type and range.

    Raises:
        DefinitionError: it has not. `expected` replaces pydantic's wording.
    """
    from pydantic import ValidationError

    try:
        return _adapter(annotation).validate_python(value, strict=True)
    except ValidationError as error:
        switch = _SWITCHES.get(value.lower()) if isinstance(value, str) else None
        if switch is not None and _accepts(annotation, switch):
            return switch
        reasons = [one["msg"].removeprefix("Input should be ").removeprefix("a valid ") for one in error.errors()]
        hint = _notation_hint(annotation, value, reasons)
        expected = expected or " or ".join(dict.fromkeys(reasons))  # several for a union of types
        what = f"`{key}` has a wrong value"
        raise DefinitionError(what, where=where, got=repr(value)[:80], expected=expected, hint=hint) from error


def _accepts(annotation: Any, value: Any) -> bool:
    from pydantic import ValidationError

    try:
        _adapter(annotation).validate_python(value, strict=True)
    except ValidationError:
        return False
    return True


def _notation_hint(annotation: Any, value: Any, reasons: Sequence[str]) -> str | None:
    """How to write a value that YAML reads as something else than what is expected; None for any other wrong value."""
    if isinstance(value, str) and _LIKE_NUMBER.fullmatch(value) and {"integer", "number"} & set(reasons):
        return "write a number in decimal digits and without quotes: 10, -3, 0.5 or 1e-3"
    if isinstance(value, float) and value.is_integer() and "integer" in reasons:
        return f"write it as {int(value)}"
    text = [str(one) for one in value] if isinstance(value, list) else None if isinstance(value, dict) else str(value)
    return "put it in quotes if it is meant as text" if text != value and _accepts(annotation, text) else None


@functools.cache
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    from pydantic import ConfigDict, TypeAdapter

    return TypeAdapter(annotation, config=ConfigDict(allow_inf_nan=False))  # cached: slower to create than to use


def build(kind: type[T], given: Any, key: str, where: str) -> T:
    """A small configuration dataclass from a mapping.

    Raises:
        DefinitionError: an unknown or missing key, or a value of the wrong type or out of range.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]  # T is a dataclass
    require_mapping(given, key, where, fields)
    for name, field in fields.items():
        if name not in given and field.default is field.default_factory is dataclasses.MISSING:
            raise DefinitionError(f"`{key}` lacks `{name}`", where=where, expected=", ".join(fields))
    hints = get_type_hints(kind, include_extras=True)
    values = {name: validate(hints[name], value, f"{key}.{name}", where) for name, value in given.items()}
    try:
        return kind(**values)
    except ValueError as error:
        raise DefinitionError(
            f"`{key}` has wrong values", where=where, got=str(error), expected=f"compatible values of {', '.join(fields)}"
        ) from error


def require_mapping(given: Any, key: str, where: str, known: Iterable[str] | None = None) -> None:
    """Checks that a value is a mapping with text keys, all of them `known`.

    Raises:
        DefinitionError: it is not.
    """
    if not isinstance(given, dict):
        raise DefinitionError(f"`{key}` is not a mapping", where=where, got=repr(given)[:80], expected="key: value pairs")
    for name in given:
        if not isinstance(name, str):
            raise DefinitionError(f"a key under `{key}` is not text", where=where, got=repr(name)[:80], expected="a name")
        if known is not None and name not in known:
            raise DefinitionError(
                f"unknown key `{name}`",
                where=f"{where}: {key}" if key != "the study" else where,
                expected=", ".join(known),
                hint=suggest(name, known),
            )


def _hint(key: str) -> str:
    close = closest_setting(key)
    return "`islr-search run --dry-run` lists every setting" if close is None else f"did you mean `{close}`?"


def closest_setting(key: str) -> str | None:
    """The dotted key of the setting that a misspelt key, or a name from another tool, may stand for."""
    names = _ALIASES | {setting.key: setting.key for setting in settings().values()}
    names |= {setting.field: setting.key for setting in settings().values()}
    group, _, field = key.rpartition(".")
    for name in (key, field):
        if name in names:
            return names[name]
        close = closest(name, [other for other in names if not group or "." in other or names[other].startswith(group)])
        if close:
            return names[close]
    return None
