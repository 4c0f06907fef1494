"""What to try next: parameters that go together and that no trial of the study has had.

The sampler is asked first, several times if need be. If it keeps naming what was there already, as it will towards the end
of a small space, the settings that are left are drawn at random; when none is left, the space is exhausted.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial

from search.definition import StudyDefinition
from search.errors import DefinitionError

FIXED = "fixed_params"
"""Where Optuna keeps what a person enqueues: a trial gets these values instead of drawn ones."""

_DRAWS = 20
"""How often the sampler is asked for a trial. One that has said the same twenty times will say it again."""

_RANDOM_DRAWS = 1000
_LISTED = 100_000
"""Spaces of up to this many settings are looked through one by one; larger ones are sampled."""


def key_of(params: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Parameters as something that can stand in a set."""
    return tuple(sorted(params.items()))


def taken(trials: Iterable[FrozenTrial], definition: StudyDefinition) -> set[tuple[tuple[str, Any], ...]]:
    """The parameter sets that trials have had, whatever came of them."""
    names = {dim.name for dim in definition.space}
    return {key_of(trial.params) for trial in trials if trial.params.keys() == names}


def given_to(trial: FrozenTrial, definition: StudyDefinition) -> dict[str, Any]:
    """The parameters that a trial has already: enqueued by a person, or stored before a run was cut off."""
    has = {**trial.system_attrs.get(FIXED, {}), **trial.params}
    return {dim.name: has[dim.name] for dim in definition.space if dim.name in has}


def outside(params: Mapping[str, Any], definition: StudyDefinition) -> str:
    """Which of some parameters lies outside the space; empty if none does."""
    for dim in definition.space:
        if dim.name in params and not dim.contains(params[dim.name]):
            return f"{dim.name} {params[dim.name]} is outside the space: {dim.domain.text()}"
    return ""


def why_not(params: Mapping[str, Any], definition: StudyDefinition) -> str:
    """Why parameters cannot be tried; empty if they can."""
    if reason := outside(params, definition):
        return reason
    try:
        definition.configs(params)
    except DefinitionError as error:
        return error.got or error.what
    return ""


def propose(
    study: optuna.Study,
    trial: FrozenTrial,
    definition: StudyDefinition,
    seen: set[tuple[tuple[str, Any], ...]],
    seed: int,
) -> dict[str, Any] | None:
    """Parameters for a trial that the study has just got; None if the space holds nothing more that goes with what it has.

    What the trial has already stays. If it has everything, it gets that, whether or not it can be tried: see `why_not`.
    """
    given = given_to(trial, definition)
    if len(given) == len(definition.space):
        return given
    for params in _drawn(study, trial, definition, np.random.default_rng(seed)):
        whole = {**params, **given}
        if key_of(whole) not in seen and not why_not(whole, definition):
            return whole
    return None


def _drawn(
    study: optuna.Study, trial: FrozenTrial, definition: StudyDefinition, rng: np.random.Generator
) -> Iterator[dict[str, Any]]:
    for _ in range(_DRAWS):
        yield _asked(study, trial, definition)
    if num_settings(definition) <= _LISTED:
        everything = list(itertools.product(*(dim.values() for dim in definition.space)))
        for chosen in rng.permutation(len(everything)):
            yield dict(zip((dim.name for dim in definition.space), everything[chosen], strict=True))
        return
    random = optuna.samplers.RandomSampler(seed=int(rng.integers(1 << 32)))
    for _ in range(_RANDOM_DRAWS):
        yield {dim.name: random.sample_independent(study, trial, dim.name, dim.distribution()) for dim in definition.space}


def _asked(study: optuna.Study, trial: FrozenTrial, definition: StudyDefinition) -> dict[str, Any]:
    """What the sampler says, as Optuna itself asks it: for all dimensions that it sees together, then one by one."""
    sampler = study.sampler
    together = sampler.sample_relative(study, trial, sampler.infer_relative_search_space(study, trial))
    params = {}
    for dim in definition.space:
        value = together.get(dim.name)
        if dim.name not in together or not dim.contains(value):  # contains: it may know of values outside a narrower choice
            value = sampler.sample_independent(study, trial, dim.name, dim.distribution())
        params[dim.name] = value
    return params


def num_settings(definition: StudyDefinition) -> float:
    """How many parameter sets the space holds; infinite where a dimension is continuous."""
    return math.prod(dim.size for dim in definition.space)
