"""The space of a study, read from its storage, so that no study file is needed to analyze a search."""

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
from search.definition.trial_attributes import attribute


def study_space(study: optuna.Study) -> tuple[Dimension, ...]:
    """The dimensions that the trials have had, without conditions: a trial has a parameter if its conditions held.

    A range that was widened counts at its widest. The order is that of the study file; a study of the first version has no
    description, but its parameters have the names of settings.
    """
    widest = _widest(study.get_trials(deepcopy=False))
    described = json.loads(study.user_attrs.get("space", "{}"))
    return tuple(
        Dimension(name, _setting(name, described), _domain(widest[name]), described.get(name, {}).get("role", "nuisance"))
        for name in described or widest
        if name in widest
    )


def _setting(name: str, described: Mapping[str, Any]) -> Setting:
    key = described.get(name, {}).get("key")
    return settings()[key] if key is not None else find_setting(name, "the study's space")


def _widest(trials: Sequence[FrozenTrial]) -> dict[str, BaseDistribution]:
    widest: dict[str, BaseDistribution] = {}
    for trial in trials:
        for name, distribution in trial.distributions.items() if attribute(trial, "settings") is not None else ():
            if name not in widest or _span(distribution) > _span(widest[name]):
                widest[name] = distribution
    return widest


def _span(distribution: BaseDistribution) -> float:
    return distribution.high - distribution.low if isinstance(distribution, FloatDistribution | IntDistribution) else 0.0


def _domain(distribution: BaseDistribution) -> Range | Choices:
    match distribution:
        case CategoricalDistribution():
            return Choices(choices=list(distribution.choices))
        case IntDistribution(low=low, high=high, log=log, step=step):
            return Range(low=low, high=high, log=log, step=None if step == 1 else step)
        case FloatDistribution(low=low, high=high, log=log, step=step):
            return Range(low=low, high=high, log=log, step=step)
    raise AssertionError(f"there is no dimension of this kind: {distribution}")
