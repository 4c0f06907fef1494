"""A study as its storage has it, and what is different between two of them. Ids may differ: each storage gives its own."""

from __future__ import annotations

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

from search.study.identity import COPIED

_OF_TRIAL = re.compile(r"(dashboard:(?:artifacts:)?)(\d+)(:.*)", re.DOTALL)
"""The dashboard keeps a person's notes on a trial with the study, under the trial's id."""

_LONGEST = 60
"""Letters of a value in a difference."""


@dataclass(frozen=True)
class Snapshot:
    """Everything that a storage holds of a study."""

    name: str
    directions: Sequence[StudyDirection]
    user: Mapping[str, Any]
    """Its attributes, without the record of how it came here."""

    system: Mapping[str, Any]
    """Optuna's: the metrics' names among them, and what the dashboard keeps."""

    trials: Sequence[FrozenTrial]

    @property
    def num_reports(self) -> int:
        """Reported values of all trials."""
        return sum(len(trial.intermediate_values) for trial in self.trials)

    @property
    def ids(self) -> list[int]:
        """The trials' ids in this storage, by number."""
        return [trial._trial_id for trial in self.trials]


def snapshot(study: optuna.Study, storage: optuna.storages.BaseStorage) -> Snapshot:
    """Reads a study whole."""
    user = {key: value for key, value in study.user_attrs.items() if key != COPIED}
    system = storage.get_study_system_attrs(study._study_id)
    return Snapshot(study.study_name, study.directions, user, dict(system), study.get_trials(deepcopy=False))


def translated(system: Mapping[str, Any], before: Sequence[int], now: Sequence[int]) -> dict[str, Any]:
    """A study's system attributes where its trials, which had the ids `before`, have the ids `now`."""
    ids = dict(zip(before, now, strict=True))

    def key_of(key: str) -> str:
        found = _OF_TRIAL.fullmatch(key)
        if found is None or int(found[2]) not in ids:
            return key
        return f"{found[1]}{ids[int(found[2])]}{found[3]}"

    return {key_of(key): value for key, value in system.items()}


def differences(one: Snapshot, other: Snapshot, *, slack_s: float = 0) -> Iterator[str]:
    """What is not the same, in words, as far as it is asked for. Times may differ by `slack_s` seconds.

    Numbers are the same bit for bit, but for the sign of a zero, which SQLite does not keep. NaN is the same as NaN.
    """
    yield from _difference("directions", [d.name for d in one.directions], [d.name for d in other.directions])
    yield from _by_key("attribute", one.user, other.user)
    if len(one.trials) != len(other.trials):
        yield f"{len(one.trials)} trials, {len(other.trials)} trials"
        return
    yield from _by_key("system attribute", translated(one.system, one.ids, other.ids), other.system)
    for number, (a, b) in enumerate(zip(one.trials, other.trials, strict=True)):
        for text in _of_trial(a, b, slack_s):
            yield f"trial {number}: {text}"


def _of_trial(a: FrozenTrial, b: FrozenTrial, slack_s: float) -> Iterator[str]:
    yield from _difference("number", a.number, b.number)
    yield from _difference("state", a.state.name, b.state.name)
    yield from _difference("values", a.values, b.values)
    yield from _difference("order of parameters", list(a.params), list(b.params))
    yield from _by_key("parameter", a.params, b.params)
    shapes = [{name: distribution_to_json(shape) for name, shape in trial.distributions.items()} for trial in (a, b)]
    yield from _by_key("distribution", *shapes)
    yield from _by_key("reported value", a.intermediate_values, b.intermediate_values)
    yield from _by_key("attribute", a.user_attrs, b.user_attrs)
    yield from _by_key("system attribute", a.system_attrs, b.system_attrs)
    for what, one, other in (
        ("start", a.datetime_start, b.datetime_start),
        ("end", a.datetime_complete, b.datetime_complete),
    ):
        if not _is_same_time(one, other, slack_s):
            yield f"{what}: {one} -> {other}"


def _by_key(what: str, one: Mapping[Any, Any], other: Mapping[Any, Any]) -> Iterator[str]:
    for key in [*one, *(key for key in other if key not in one)]:
        if key not in one or key not in other:
            yield f"{what} `{key}` is only {'there' if key in one else 'here'}"
        else:
            yield from _difference(f"{what} `{key}`", one[key], other[key])


def _difference(what: str, one: Any, other: Any) -> Iterator[str]:
    if not is_same(one, other):
        yield f"{what}: {_short(one)} -> {_short(other)}"


def is_same(one: Any, other: Any) -> bool:
    """Whether two plain values are equal, of the same types, through and through."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(is_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(is_same, one, other))
    return bool(one == other)


def _is_same_time(one: datetime.datetime | None, other: datetime.datetime | None, slack_s: float) -> bool:
    if one is None or other is None:
        return one is other
    return abs((one.astimezone() - other.astimezone()).total_seconds()) <= slack_s


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}.."
