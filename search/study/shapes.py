"""The shapes of the attributes that this tool stores with studies and trials. Other programs can write anything there."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, make_dataclass
from typing import Annotated, Any

from annotated_types import Ge, Lt
from pydantic import Field, TypeAdapter, ValidationError

from data_utils.splits import ClipSplit
from search.definition.definition import RESOURCES, Plan, Resources
from search.definition.objectives import StudyObjective
from search.definition.settings import GROUPS, settings
from search.storage.leases.lease import Owner
from search.study.attempts import ATTEMPTS
from search.study.confirmed import Confirmed
from search.study.openings import Opening
from search.study.order import FIRST_ORDER, ORDER_SEED, STACK

Check = Callable[[Any], object]
"""Raises `ValueError`, `TypeError` or `LookupError` if a value does not have the shape."""

NonNegative = Annotated[int, Ge(0), Lt(2**63)]
Time = Annotated[float, Ge(0), Lt(1e11)]
"""Seconds since 1970, in years that a calendar knows."""

_ABSENT: Any = None
"""The default of what earlier versions have not written. Defaults are not checked."""

_RUN_NAME = re.compile(r"[\w.:-]{1,200}")
_MAX_PID = 2**31


@dataclass
class _Dimension:
    key: str
    range: str
    role: str


@dataclass
class _Data:
    folder: Annotated[str, Field(pattern=r"^[^\x00]+$")]
    fingerprint: str
    words: list[str]
    train: list[str]
    validation: list[str]
    test: list[str]
    folds: list[list[str]] = _ABSENT
    clips: ClipSplit = _ABSENT


@dataclass
class _WarmStart:
    study: str
    trials: list[int]
    seen: list[str] = _ABSENT


@dataclass
class _Training:
    fold: int
    value: float
    temperature: float = _ABSENT


@dataclass
class _Result:
    epoch: int
    epochs: int
    seconds: float
    val_loss: float
    val_top1: float
    val_top5: float
    val_ece: float
    values: dict[str, float] = _ABSENT
    all_values: dict[str, float] = _ABSENT
    trainings: list[_Training] = _ABSENT
    temperature: float = _ABSENT
    parameters: int | None = _ABSENT
    latency_ms: float | None = _ABSENT
    models: list[str] = _ABSENT


@dataclass
class _MadeWith:
    device: str = _ABSENT


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)  # cached: slower to create than to use


def plain(kind: Any) -> Check:
    """A check for plain values as the database returns them."""
    return lambda value: _check_json(kind, json.dumps(value))


def json_text(kind: Any) -> Check:
    """A check for text that holds JSON."""

    def check(text: Any) -> object:
        if not isinstance(text, str):
            raise TypeError(f"{text!r} is not text")
        return _check_json(kind, text)

    return check


@functools.lru_cache(maxsize=256)
def _check_json(kind: Any, text: str) -> None:
    """Checks JSON against a type. Thousands of trials have the same owner and machine; what was right is not checked again."""
    _adapter(kind).validate_json(text, strict=True)


def _goals(stored: Any) -> None:
    plain(list[StudyObjective])(stored)
    if not any(StudyObjective(**one).curve_objective for one in stored):
        raise ValueError("no objective measures the model's quality")


def _plan(stored: Any) -> None:
    plain(Plan)(stored)
    Plan(**stored)


def _resources(stored: Any) -> None:
    plain(Resources)(stored)
    Resources(**stored)


def _space(stored: Any) -> None:
    json_text(dict[str, _Dimension])(stored)
    for dim in json.loads(stored).values():
        if dim["key"] not in settings():
            raise ValueError(f"there is no setting `{dim['key']}`")


def _owner(stored: Any) -> None:
    owner = _adapter(Owner).validate_json(json.dumps(stored), strict=True)
    Owner(**stored)
    if not _RUN_NAME.fullmatch(owner.run) or not 0 < owner.pid < _MAX_PID:
        raise ValueError(f"no run has this name or process: {owner.run[:80]!r}, {owner.pid}")


@functools.cache
def _settings_kind() -> type:
    """Settings by group and field. Unknown ones are ignored: another version knew them."""
    groups = []
    for group in GROUPS:
        fields = [(one.field, one.annotation, _ABSENT) for one in settings().values() if one.group == group]
        groups.append((group, make_dataclass(group, fields), _ABSENT))
    return make_dataclass("Settings", groups)


def _settings(stored: Any) -> None:
    json_text(_settings_kind())(stored)


OF_STUDY: Mapping[str, Check] = {
    "identity": json_text(dict[str, str]),
    "seed": plain(NonNegative),
    "goals": _goals,
    "plan": _plan,
    "space": _space,
    "data": json_text(_Data),
    "openings": json_text(list[Opening]),
    "warm_start": plain(_WarmStart),
    "confirms": plain(str),
    "copied": plain(dict[str, Any]),
    ORDER_SEED: plain(NonNegative),
}
"""What a study cannot be used without if another program has spoiled it: an error."""

OPTIONAL_OF_STUDY: Mapping[str, Check] = {
    "about": plain(str),
    "target": plain(NonNegative),
    "confirmed": json_text(Confirmed),
    "exhausted": plain(bool),
    "shares_seeds": plain(bool),
    "widened": plain(list[dict[str, Any]]),
    RESOURCES: _resources,
}
"""What a study can be used without: it is left out, with a notice."""

OF_TRIAL: Mapping[str, Check] = {
    "owner": _owner,
    "seed": plain(NonNegative),
    "settings": _settings,
    "result": json_text(_Result),
    "reason": plain(str),
    "deaths": plain(list[str]),
    ATTEMPTS: plain(list[tuple[str, int, Time, Time | None]]),
    "made_with": json_text(_MadeWith),
    "pruned_at": plain(int),
    FIRST_ORDER: plain(NonNegative),
    STACK: plain(NonNegative | None),
    "from": plain(str),
}
"""What a trial can be shown without: it is left out, with a notice."""


def why_unreadable(check: Check, value: Any) -> str:
    """Why a stored value does not have its shape; empty if it has."""
    try:
        check(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        return f"{place}: {first['msg']}" if place else first["msg"]
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return ""
