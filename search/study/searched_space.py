"""The space of a study, read back from its storage: no study file is needed to judge what a search has found."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial

from search.definition.ranges import Choices, Range
from search.definition.settings import Setting, find_setting, settings
from search.definition.space import Dimension


def study_space(study: optuna.Study) -> tuple[Dimension, ...]:
    """The dimensions that trials have had, without their conditions: a trial has a parameter where they held.

    A range that became wider counts as it is now.
    """
    widest = _widest(study.get_trials(deepcopy=False))
    described = json.loads(study.user_attrs.get("space", "{}"))
    return tuple(
        Dimension(name, _setting(name, described), _domain(shape), described.get(name, {}).get("role", "nuisance"))
        for name, shape in _in_order(widest, described)
    )


def _in_order(widest: Mapping[str, BaseDistribution], described: Mapping[str, Any]) -> list[tuple[str, BaseDistribution]]:
    """As the study file has them; a study of the first version has kept no description, but its parameters bear the names."""
    return [(name, widest[name]) for name in described or widest if name in widest]


def _setting(name: str, described: Mapping[str, Any]) -> Setting:
    key = described.get(name, {}).get("key")
    return settings()[key] if key is not None else find_setting(name, "the study's space")


def _widest(trials: Sequence[FrozenTrial]) -> dict[str, BaseDistribution]:
    found: dict[str, BaseDistribution] = {}
    for trial in trials:
        for name, shape in trial.distributions.items():
            before = found.get(name)
            if before is None or _span(shape) > _span(before):
                found[name] = shape
    return found


def _span(shape: BaseDistribution) -> float:
    return shape.high - shape.low if isinstance(shape, FloatDistribution | IntDistribution) else 0.0


def _domain(shape: BaseDistribution) -> Range | Choices:
    match shape:
        case CategoricalDistribution():
            return Choices(choices=list(shape.choices))
        case IntDistribution():
            return Range(low=shape.low, high=shape.high, log=shape.log, step=None if shape.step == 1 else shape.step)
        case FloatDistribution():
            return Range(low=shape.low, high=shape.high, log=shape.log, step=shape.step)
    raise AssertionError(f"there is no dimension of this kind: {shape}")
