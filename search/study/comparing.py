"""Snapshots of studies, and the differences between two of them. Ids may differ: each storage assigns its own."""

from __future__ import annotations

import copy
import datetime
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import distribution_to_json
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from search.study.artifacts import without_our_artifacts
from search.study.companion import CONFIRMED_STUDY
from search.study.identity import COPIED
from search.study.presence import reading
from search.study.study_id import ID

_NOTE_ON_TRIAL = re.compile(r"(dashboard:(?:artifacts:)?)(\d+)(:.*)", re.DOTALL)
"""The dashboard stores a person's notes on a trial with the study, under the trial's id."""

_MAX_VALUE_LENGTH = 60
"""Characters of a value in the text of a difference."""


@dataclass(frozen=True)
class Snapshot:
    """Everything that a storage holds of a study."""

    name: str
    directions: Sequence[StudyDirection]
    user: Mapping[str, Any]
    """Its user attributes, without the record of a copy and the ids, which a copy gets anew."""

    system: Mapping[str, Any]
    """Its system attributes: among them the names of the objectives, and what the dashboard stores."""

    trials: Sequence[FrozenTrial]
    """Without the files that the dashboard shows of them: it adds new ones to a copy."""

    @property
    def num_reports(self) -> int:
        """Number of reported values of all trials."""
        return sum(len(trial.intermediate_values) for trial in self.trials)

    @property
    def ids(self) -> list[int]:
        """The trials' ids in this storage, by number."""
        return [trial._trial_id for trial in self.trials]


def snapshot(study: optuna.Study, storage: optuna.storages.BaseStorage) -> Snapshot:
    """Reads everything of a study."""
    with reading(storage, study._study_id, study.study_name):  # unchecked: a copy holds what the original holds
        attributes = storage.get_study_user_attrs(study._study_id)
        user = {key: value for key, value in attributes.items() if key not in (COPIED, ID, CONFIRMED_STUDY)}
        system = storage.get_study_system_attrs(study._study_id)
        trials = [_without_artifacts(one) for one in storage.get_all_trials(study._study_id, deepcopy=False)]
    return Snapshot(study.study_name, study.directions, user, dict(system), trials)


def _without_artifacts(trial: FrozenTrial) -> FrozenTrial:
    bare = copy.copy(trial)  # the storage keeps the trial itself
    bare._system_attrs = without_our_artifacts(trial.system_attrs)
    return bare


def with_trial_ids(system: Mapping[str, Any], old_ids: Sequence[int], new_ids: Sequence[int]) -> dict[str, Any]:
    """A study's system attributes with the trials' old ids, which occur in keys, replaced by new ones."""
    ids = dict(zip(old_ids, new_ids, strict=True))

    def new_key(key: str) -> str:
        note = _NOTE_ON_TRIAL.fullmatch(key)
        if note is None or int(note[2]) not in ids:
            return key
        return f"{note[1]}{ids[int(note[2])]}{note[3]}"

    return {new_key(key): value for key, value in system.items()}


def differences(one: Snapshot, other: Snapshot, *, slack_s: float = 0) -> Iterator[str]:
    """Every difference in words, computed one by one. Times may differ by `slack_s` seconds.

    Numbers are compared bit for bit, except for the sign of zero, which SQLite does not keep. NaN equals NaN.
    """
    yield from _difference("directions", [d.name for d in one.directions], [d.name for d in other.directions])
    yield from _by_key("attribute", one.user, other.user)
    if len(one.trials) != len(other.trials):
        yield f"{len(one.trials)} trials, {len(other.trials)} trials"
        return
    yield from _by_key("system attribute", with_trial_ids(one.system, one.ids, other.ids), other.system)
    for a, b in zip(one.trials, other.trials, strict=True):
        for text in _trial_differences(a, b, slack_s):
            yield f"trial {a.number}: {text}"


def _trial_differences(a: FrozenTrial, b: FrozenTrial, slack_s: float) -> Iterator[str]:
    yield from _difference("number", a.number, b.number)
    yield from _difference("state", a.state.name, b.state.name)
    yield from _difference("values", a.values, b.values)
    yield from _difference("order of parameters", list(a.params), list(b.params))
    yield from _by_key("parameter", a.params, b.params)
    one, other = ({name: distribution_to_json(kind) for name, kind in t.distributions.items()} for t in (a, b))
    yield from _by_key("distribution", one, other)
    yield from _by_key("reported value", a.intermediate_values, b.intermediate_values)
    yield from _by_key("attribute", a.user_attrs, b.user_attrs)
    yield from _by_key("system attribute", a.system_attrs, b.system_attrs)
    yield from _time_difference("start", a.datetime_start, b.datetime_start, slack_s)
    yield from _time_difference("end", a.datetime_complete, b.datetime_complete, slack_s)


def _by_key(what: str, one: Mapping[Any, Any], other: Mapping[Any, Any]) -> Iterator[str]:
    for key in [*one, *(key for key in other if key not in one)]:
        if key not in one or key not in other:
            yield f"{what} `{key}` is only in the {'copy' if key in other else 'original'}"
        else:
            yield from _difference(f"{what} `{key}`", one[key], other[key])


def _difference(what: str, one: Any, other: Any) -> Iterator[str]:
    if not are_equal(one, other):
        yield f"{what}: {_shortened(one)} -> {_shortened(other)}"


def _time_difference(
    what: str, one: datetime.datetime | None, other: datetime.datetime | None, slack_s: float
) -> Iterator[str]:
    if one is None or other is None:
        are_equal = one is other
    else:
        are_equal = abs((one.astimezone() - other.astimezone()).total_seconds()) <= slack_s
    if not are_equal:
        yield f"{what}: {one} -> {other}"


def are_equal(one: Any, other: Any) -> bool:
    """Whether two plain values and all their elements are equal and of the same types."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(are_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(are_equal, one, other))
    return bool(one == other)


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_VALUE_LENGTH else f"{text[:_MAX_VALUE_LENGTH]}.."
