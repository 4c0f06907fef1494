"""Samplers and pruners by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data_utils.wording import suggest
from search.definition.pruners import PRUNERS, Pruner
from search.definition.samplers import SAMPLERS, Sampler
from search.definition.settings import build, require_mapping
from search.errors import DefinitionError


def strategy_name(chosen: Sampler | Pruner) -> str:
    """The name that a study file calls it by."""
    return next(name for name, kind in {**SAMPLERS, **PRUNERS}.items() if type(chosen) is kind)


def sampler(given: Any, where: str) -> Sampler:
    """A checked sampler from `{name: tpe, ...}`.

    Raises:
        DefinitionError: an unknown name or option.
    """
    made: Sampler = _by_name(SAMPLERS, given, "sampler", where)
    return made


def pruner(given: Any, where: str) -> Pruner:
    """A checked pruner from `{name: median, ...}`.

    Raises:
        DefinitionError: an unknown name or option.
    """
    made: Pruner = _by_name(PRUNERS, given, "pruner", where)
    return made


def _by_name(kinds: Mapping[str, type], given: Any, key: str, where: str) -> Any:
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
