"""What to try next: parameters that go together and that no trial of the study has had.

The sampler is asked first, several times if need be. If it keeps naming what was there already, as it will towards the end
of a small space, the settings that are left are drawn at random; when none is left, the space is exhausted. A grid is walked
through in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial

from search.definition.definition import StudyDefinition
from search.definition.samplers import Grid
from search.definition.space import active_dimensions, all_combinations, is_active, num_combinations, random_combination
from search.errors import DefinitionError

FIXED = "fixed_params"
"""Where Optuna keeps what a person enqueues: a trial gets these values instead of drawn ones."""

_DRAWS = 20
"""How often the sampler is asked for a trial. One that has said the same twenty times will say it again."""

_RANDOM_DRAWS = 1000
_LISTED = 100_000
"""Spaces of up to this many settings are looked through one by one; larger ones are sampled."""


Key = tuple[tuple[str, Any], ...]


def key_of(params: Mapping[str, Any]) -> Key:
    """Parameters as something that can stand in a set."""
    return tuple(sorted(params.items()))


class Tried:
    """The parameter sets that trials have had, whatever came of them. A trial's do not change once they are whole."""

    def __init__(self, definition: StudyDefinition) -> None:
        self._definition = definition
        self._keys: dict[int, Key] = {}

    def learn(self, trials: Iterable[FrozenTrial]) -> None:
        """Takes in what is new."""
        for trial in trials:
            if trial.number not in self._keys and trial.params and is_whole(trial.params, self._definition):
                self._keys[trial.number] = key_of(trial.params)

    def before(self, number: int) -> set[Key]:
        """Those of all other trials than this one."""
        return {key for other, key in self._keys.items() if other != number}

    def first_with(self, params: Mapping[str, Any]) -> int:
        """The first trial that had these parameters."""
        return min(number for number, key in self._keys.items() if key == key_of(params))

    def __len__(self) -> int:
        return len(set(self._keys.values()))


def is_whole(params: Mapping[str, Any], definition: StudyDefinition) -> bool:
    """Whether parameters hold a value for every dimension that applies, and no other."""
    return params.keys() == {dim.name for dim in active_dimensions(definition.space, params)}


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
    seen: set[Key],
    seed: int,
) -> dict[str, Any] | None:
    """Parameters for a trial that the study has just got; None if the space holds nothing more that goes with what it has.

    What the trial has already stays. If it has everything, it gets that, whether or not it can be tried: see `why_not`.
    """
    given = only_applying(given_to(trial, definition), definition)
    if given and is_whole(given, definition):
        return given
    for params in _drawn(study, trial, definition, given, np.random.default_rng(seed)):
        whole = only_applying({**params, **given}, definition)
        if is_whole(whole, definition) and key_of(whole) not in seen and not why_not(whole, definition):
            return whole
    return None


def only_applying(params: Mapping[str, Any], definition: StudyDefinition) -> dict[str, Any]:
    """Parameters without those of dimensions that do not apply."""
    return {dim.name: params[dim.name] for dim in active_dimensions(definition.space, params) if dim.name in params}


def _drawn(
    study: optuna.Study,
    trial: FrozenTrial,
    definition: StudyDefinition,
    given: Mapping[str, Any],
    rng: np.random.Generator,
) -> Iterator[dict[str, Any]]:
    if isinstance(definition.sampler, Grid):
        yield from all_combinations(definition.space)
        return
    for _ in range(_DRAWS):
        yield _asked(study, trial, definition, given)
    if num_combinations(definition.space) <= _LISTED:
        everything = list(all_combinations(definition.space))
        for chosen in rng.permutation(len(everything)):
            yield everything[chosen]
        return
    for _ in range(_RANDOM_DRAWS):
        yield random_combination(definition.space, rng)


def _asked(study: optuna.Study, trial: FrozenTrial, definition: StudyDefinition, given: Mapping[str, Any]) -> dict[str, Any]:
    """What the sampler says, as Optuna itself asks it: for all dimensions that it sees together, then one by one."""
    sampler = study.sampler
    together = sampler.sample_relative(study, trial, sampler.infer_relative_search_space(study, trial))
    params: dict[str, Any] = {}
    values: dict[str, Any] = {}
    for dim in definition.space:
        if not is_active(dim, values):
            continue
        value = together.get(dim.name)
        if dim.name in given:
            value = given[dim.name]
        elif dim.name not in together or not dim.contains(value):  # it may know of values outside a narrower choice
            value = sampler.sample_independent(study, trial, dim.name, dim.distribution())
        params[dim.name] = values[dim.setting.key] = value
    return params
