"""What to try next: a valid combination of settings that no trial of the study has tried.

The sampler comes first, several times if need be. If it keeps repeating tried combinations, as it does near the end of a small
space, one of the remaining combinations is drawn at random; when none remains, the space is exhausted. A grid is walked through
in order.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial

from search.definition.definition import StudyDefinition
from search.definition.samplers import Grid
from search.definition.settings import find_setting
from search.definition.space import (
    Dimension,
    active_dimensions,
    all_combinations,
    is_active,
    num_combinations,
    random_combination,
    rounded_params,
)
from search.errors import DefinitionError

FIXED = "fixed_params"
"""Optuna's attribute for enqueued values: a trial gets them instead of sampled ones."""

_SAMPLER_DRAWS = 20
"""Draws from the sampler per trial. One that repeats itself this often will keep doing so."""

_RANDOM_DRAWS = 1000
_MAX_LISTED = 100_000
"""Spaces of up to this many combinations are listed in full; larger ones are sampled."""


Key = tuple[tuple[str, Any], ...]


def key_of(params: Mapping[str, Any]) -> Key:
    """Parameters as a hashable value."""
    return tuple(sorted(params.items()))


class Tried:
    """The combinations of the space that trials have had, whatever their results. A complete combination never changes.

    A value counts once, however a sampler, another program or an earlier version has rounded it.
    """

    def __init__(self, definition: StudyDefinition) -> None:
        self._definition = definition
        self._numbers: dict[Key, list[int]] = {}
        """The trials that have had each combination."""

        self._num_seen = 0
        self._incomplete: list[int] = []
        """Places of trials that have not ended and had no complete combination yet."""

    def add(self, trials: Sequence[FrozenTrial]) -> None:
        """Adds those that are not known yet. `trials` are all trials of the study."""
        new, self._incomplete = [*self._incomplete, *range(self._num_seen, len(trials))], []
        self._num_seen = len(trials)
        for place in new:
            trial, params = trials[place], {}
            if trial.params and is_complete(trial.params, self._definition):
                params = rounded_params(self._definition.space, trial.params)
            if params and not why_outside(params, self._definition):
                self._numbers.setdefault(key_of(params), []).append(trial.number)
            elif not trial.state.is_finished():
                self._incomplete.append(place)

    def except_for(self, number: int) -> Container[Key]:
        """Those of all trials but this one."""
        return _Others(self._numbers, number)

    def first_with(self, params: Mapping[str, Any]) -> int:
        """Number of the first trial that had these parameters."""
        return min(self._numbers[key_of(params)])

    def __len__(self) -> int:
        return len(self._numbers)


class _Others:
    """The combinations of all trials but one."""

    def __init__(self, numbers: Mapping[Key, Sequence[int]], number: int) -> None:
        self._numbers, self._number = numbers, number

    def __contains__(self, key: object) -> bool:
        return any(number != self._number for number in self._numbers.get(key, ()))  # type: ignore[call-overload]


def is_complete(params: Mapping[str, Any], definition: StudyDefinition) -> bool:
    """Whether parameters hold a value for every active dimension, and nothing else."""
    return params.keys() == {dim.name for dim in active_dimensions(definition.space, params)}


def fixed_params(trial: FrozenTrial, definition: StudyDefinition) -> dict[str, Any]:
    """The parameters that a trial has already: enqueued by a person, or stored before its run was interrupted."""
    has = {dim.name: value for name, value in _given(trial).items() if (dim := _dimension(name, definition)) is not None}
    return rounded_params(definition.space, has)


def why_unusable(trial: FrozenTrial, definition: StudyDefinition) -> str:
    """Why the parameters that another program has given a trial cannot be used; empty if they can.

    A parameter has the name of a dimension or of its setting (`lr`, `train.lr`).
    """
    if not isinstance(enqueued := trial.system_attrs.get(FIXED, {}), dict):
        return f"it was enqueued with {enqueued!r} instead of parameters"
    named: dict[str, str] = {}
    for name in _given(trial):
        dim = _dimension(name, definition)
        if dim is None:
            return _why_unknown(name, definition)
        if dim.name in named:
            return f"{named[dim.name]} and {name} are the same parameter"
        named[dim.name] = name
    fixed = fixed_params(trial, definition)
    if reason := why_outside(fixed, definition):
        return reason
    active = active_dimensions(definition.space, fixed)
    unused = next((dim for dim in definition.space if dim.name in fixed and dim not in active), None)
    return f"{unused.name} applies only when {unused.condition_text}" if unused is not None else ""


def _given(trial: FrozenTrial) -> dict[str, Any]:
    enqueued = trial.system_attrs.get(FIXED, {})
    return {**(enqueued if isinstance(enqueued, dict) else {}), **trial.params}


def _dimension(name: str, definition: StudyDefinition) -> Dimension | None:
    """The dimension with a name, or else the one of the setting with this key."""
    by_name = [dim for dim in definition.space if dim.name == name]
    by_key = [dim for dim in definition.space if name in (dim.setting.key, dim.setting.field)]
    found = by_name or by_key
    return found[0] if len(found) == 1 else None


def _why_unknown(name: str, definition: StudyDefinition) -> str:
    try:
        setting = find_setting(name, definition.source)
    except DefinitionError as error:
        return f"unknown parameter `{name}`: {error.hint or f'expected {error.expected}'}"
    return f"{name} is not searched: it is {definition.fixed.get(setting.key, setting.default)} in every trial"


def why_outside(params: Mapping[str, Any], definition: StudyDefinition) -> str:
    """The parameter that lies outside the space, in words; empty if none does."""
    for dim in definition.space:
        if dim.name in params and not dim.contains(params[dim.name]):
            return f"{dim.name} {params[dim.name]} is outside the space: {dim.domain.text()}"
    return ""


def why_rejected(params: Mapping[str, Any], definition: StudyDefinition) -> str:
    """Why parameters cannot be tried; empty if they can."""
    if reason := why_outside(params, definition):
        return reason
    try:
        definition.configs(params)
    except DefinitionError as error:
        return error.got or error.what
    return ""


def propose(
    study: optuna.Study, trial: FrozenTrial, definition: StudyDefinition, tried: Container[Key], seed: int
) -> dict[str, Any] | None:
    """Parameters for a new trial; None if no untried combination is left that agrees with its fixed values.

    Fixed values stay. If they are complete they are returned as they are, even if they cannot be tried: see `why_rejected`.
    """
    fixed = only_active(fixed_params(trial, definition), definition)
    if fixed and is_complete(fixed, definition):
        return fixed
    for params in _candidates(study, trial, definition, fixed, np.random.default_rng(seed)):
        complete = only_active({**params, **fixed}, definition)
        if is_complete(complete, definition) and key_of(complete) not in tried and not why_rejected(complete, definition):
            return complete
    return None


def only_active(params: Mapping[str, Any], definition: StudyDefinition) -> dict[str, Any]:
    """The parameters of active dimensions."""
    return {dim.name: params[dim.name] for dim in active_dimensions(definition.space, params) if dim.name in params}


def _candidates(
    study: optuna.Study,
    trial: FrozenTrial,
    definition: StudyDefinition,
    fixed: Mapping[str, Any],
    rng: np.random.Generator,
) -> Iterator[dict[str, Any]]:
    if isinstance(definition.sampler, Grid):
        yield from all_combinations(definition.space)
        return
    for _ in range(_SAMPLER_DRAWS):
        yield _sampled(study, trial, definition, fixed)
    if num_combinations(definition.space) <= _MAX_LISTED:
        everything = list(all_combinations(definition.space))
        for chosen in rng.permutation(len(everything)):
            yield everything[chosen]
        return
    for _ in range(_RANDOM_DRAWS):
        yield random_combination(definition.space, rng)


def _sampled(study: optuna.Study, trial: FrozenTrial, definition: StudyDefinition, fixed: Mapping[str, Any]) -> dict[str, Any]:
    """One draw from the sampler, made as Optuna makes it: first jointly for the dimensions it models, then one by one."""
    sampler = study.sampler
    joint = sampler.sample_relative(study, trial, sampler.infer_relative_search_space(study, trial))
    params: dict[str, Any] = {}
    values: dict[str, Any] = {}
    for dim in definition.space:
        if not is_active(dim, values):
            continue
        value = joint.get(dim.name)
        if dim.name in fixed:
            value = fixed[dim.name]
        elif dim.name not in joint or not dim.contains(value):  # the sampler may know values outside a narrower choice
            value = sampler.sample_independent(study, trial, dim.name, dim.distribution())
        params[dim.name] = values[dim.setting.key] = dim.rounded(value)
    return params
