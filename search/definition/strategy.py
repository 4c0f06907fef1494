"""Samplers and pruners by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from data_utils.wording import suggest
from search.definition.pruners import PRUNERS, Pruner
from search.definition.samplers import SAMPLERS, Sampler
from search.definition.settings import build, require_mapping
from search.errors import DefinitionError

S = TypeVar("S", Sampler, Pruner)


def strategy_name(chosen: Sampler | Pruner) -> str:
    """The name of a sampler or pruner in a study file."""
    return next(name for name, kind in {**SAMPLERS, **PRUNERS}.items() if type(chosen) is kind)


def parse_sampler(given: Any, where: str) -> Sampler:
    """The sampler from `{name: tpe, ...}`.

    Raises:
        DefinitionError: the name or an option is unknown, or an option's value is wrong.
    """
    return _build_by_name(SAMPLERS, given, "sampler", where)


def parse_pruner(given: Any, where: str) -> Pruner:
    """The pruner from `{name: median, ...}`.

    Raises:
        DefinitionError: same as `parse_sampler`.
    """
    return _build_by_name(PRUNERS, given, "pruner", where)


def _build_by_name(kinds: Mapping[str, type[S]], given: Any, key: str, where: str) -> S:
    require_mapping(given, key, where)
    name = given.get("name")
    if not isinstance(name, str) or name not in kinds:
        raise DefinitionError(
            f"unknown {key}",
            where=where,
            got=str(name),
            expected=", ".join(kinds),
            hint=suggest(str(name), kinds) or f"write `{key}: {{name: {next(iter(kinds))}}}`",
        )
    return build(kinds[name], {option: value for option, value in given.items() if option != "name"}, key, where)
