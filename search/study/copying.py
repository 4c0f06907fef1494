"""`search copy`: a study moved to another storage, read back, and compared.

The copy bears a mark until all of it is there and was found to be the same: a copy that is cut off is no study to any command,
and the next one is made in its place.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import optuna
from optuna.exceptions import DuplicatedStudyError
from optuna.trial import TrialState

from data_utils.wording import counted
from search.errors import DefinitionError, NegativeAnswer, ResourceError
from search.storage.bulk import add_trials, remove_study
from search.storage.errors import database_errors
from search.storage.leases.choice import lease_of, observe
from search.storage.leases.lease import Lease, TurnLost
from search.storage.opening import open_storage
from search.storage.url import StorageUrl, parse_url
from search.study.companion import companion_name
from search.study.comparing import Snapshot, differences, snapshot, translated
from search.study.identity import COPIED, IDENTITY, is_whole, require_ours
from search.study.openings import all_openings
from search.study.study import load_study
from search.study.trials import owner

Tell = Callable[[str], None]

_QUIET_S = 5.0
_LINES = 5
"""Differences that are told."""

_PORTS = {"postgresql": 5432, "mysql": 3306}
_SECOND_S = 1.0
"""MySQL's tables keep the times of trials to the second."""


@dataclass(frozen=True, kw_only=True)
class Copied:
    """A study that has another home."""

    study: str
    source: str
    target: str
    """Both without passwords."""

    trials: int
    reports: int
    confirmed: int
    """Trainings of its confirmation; 0: it was not confirmed."""

    slack_s: float
    """By how many seconds times may differ."""


def copy_study(study: str, source: str, target: str, tell: Tell) -> Copied:
    """Copies a study with its confirmation to another storage, and compares. The source stays as it is.

    Raises:
        DefinitionError: there is no such study, it is there already, or both storages are one.
        NegativeAnswer: what is there is not the same.
        ResourceError: a run works on it, or a database cannot be used.
    """
    here, there = parse_url(source), parse_url(target)
    if _is_same_place(here, there):
        raise DefinitionError("a study cannot be copied to where it is", got=there.shown, hint="name another storage with --to")
    found = _read(source, study)
    _require_rest(source, found)
    with database_errors(target), _opened(target, create=True) as storage, lease_of(target, study) as lease:
        with _turn(lease, there):
            _make_room(target, study, lease.observer.num_runs() > 1, tell)
            mark = {"from": here.shown, "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")}
            ids = {name: _begin(storage, one, mark, there) for name, one in found.items()}
        for name, one in found.items():
            _write(storage, ids[name], one, tell)
        slack_s = _SECOND_S if there.kind == "mysql" else 0
        _compare(study, source, target, found, slack_s)
        for name in reversed(found):  # the study itself last
            storage.set_study_user_attr(ids[name], COPIED, {**mark, "whole": True})
    if opened := _opened_for_others(source, target, study):
        tell(f"the sealed signers were opened for {opened} too, which the new place does not know: copy that as well")
    companion = found.get(companion_name(study))
    return Copied(
        study=study,
        source=here.shown,
        target=there.shown,
        trials=len(found[study].trials),
        reports=found[study].num_reports,
        confirmed=len(companion.trials) if companion else 0,
        slack_s=slack_s,
    )


def copied_line(copied: Copied) -> str:
    """What was done, for people."""
    trials = f"{counted(copied.trials, 'trial')} with {counted(copied.reports, 'reported value')}"
    confirmed = f" and {counted(copied.confirmed, 'training')} of its confirmation" if copied.confirmed else ""
    same = f"the same, times to {copied.slack_s:g} s" if copied.slack_s else "the same"
    return f"copied {copied.study} to {copied.target}: {trials}{confirmed}; read back from both places and compared: {same}"


@contextlib.contextmanager
def _opened(url: str, *, create: bool = False) -> Iterator[optuna.storages.BaseStorage]:
    """A storage of its own, which remembers nothing; its connections end with the block."""
    storage = open_storage(url, create=create)
    try:
        yield storage
    finally:
        storage.remove_session()
        engine = getattr(getattr(storage, "_backend", None), "engine", None)
        if engine is not None:
            engine.dispose()


def _read(url: str, study: str) -> dict[str, Snapshot]:
    """The study and, if it was confirmed, the study that holds those trainings."""
    with database_errors(url), _opened(url) as storage:
        asked = load_study(storage, study)
        require_ours(asked)
        found = {study: snapshot(asked, storage)}
        companion = companion_name(study)
        if companion in optuna.get_all_study_names(storage):
            found[companion] = snapshot(optuna.load_study(study_name=companion, storage=storage), storage)
        return found


def _require_rest(url: str, found: Mapping[str, Snapshot]) -> None:
    with database_errors(url):
        for name, one in found.items():
            runs = observe(url, name)
            running = [owner(trial) for trial in one.trials if trial.state == TrialState.RUNNING]
            if runs.num_runs() or any(who is not None and runs.is_alive(who) for who in running):
                raise ResourceError(
                    f"a run is working on the study `{name}`, and would go on in the old place",
                    where=parse_url(url).name,
                    hint="end it (Ctrl-C keeps everything), copy, and go on in the new place: cut-off trials move along",
                )


@contextlib.contextmanager
def _turn(lease: Lease, there: StorageUrl) -> Iterator[None]:
    """The turn of this copy among those that work on the study in its new place."""
    try:
        with lease.wait_for_turn():
            yield
    except TurnLost as error:
        raise ResourceError(
            "the target was away for too long", where=there.name, hint="once it is back, the same command copies anew"
        ) from error


def _make_room(target: str, study: str, is_at_work: bool, tell: Tell) -> None:
    """Removes what a copy that was cut off has left.

    Raises:
        DefinitionError: the target has a study of this name.
        ResourceError: another copy is just being made.
    """
    there = parse_url(target)
    with _opened(target) as storage:
        names = optuna.get_all_study_names(storage)
        left = [  # the study itself goes last
            optuna.load_study(study_name=name, storage=storage) for name in (companion_name(study), study) if name in names
        ]
        if not left:
            return
        if not _is_left_over(left[-1]):
            raise _is_there(left[-1].study_name, there)
        if is_at_work:
            raise ResourceError(f"somebody else is just copying the study `{study}`", where=there.name, hint="wait for its end")
        tell(f"a copy of `{study}` that was cut off is there: it is made anew")
        for one in left:
            remove_study(storage, one._study_id)


def _is_left_over(study: optuna.Study) -> bool:
    """Whether it is the beginning of a copy; be it that not even the mark was written."""
    return not is_whole(study) or not (study.user_attrs or study.metric_names or study.get_trials(deepcopy=False))


def _is_there(study: str, there: StorageUrl) -> DefinitionError:
    return DefinitionError(
        f"the target holds a study `{study}` already",
        where=there.name,
        hint="nothing is overwritten: name another database with --to",
    )


def _begin(storage: optuna.storages.BaseStorage, found: Snapshot, mark: Mapping[str, Any], there: StorageUrl) -> int:
    """An empty study that bears the mark. Its id."""
    try:
        study = storage.create_new_study(found.directions, found.name)
    except DuplicatedStudyError:
        raise _is_there(found.name, there) from None
    storage.set_study_user_attr(study, COPIED, {**mark, "whole": False})
    return study


def _write(storage: optuna.storages.BaseStorage, study: int, found: Snapshot, tell: Tell) -> None:
    ids: list[int] = []
    spoke = time.monotonic()
    for batch in add_trials(storage, study, found.trials):
        ids += batch
        if time.monotonic() - spoke > _QUIET_S:
            tell(f"{found.name}: {len(ids):,} of {len(found.trials):,} trials are copied")
            spoke = time.monotonic()
    for key, value in translated(found.system, found.ids, ids).items():
        storage.set_study_system_attr(study, key, value)
    for key in sorted(found.user, key=lambda key: key == IDENTITY):  # which comes last
        storage.set_study_user_attr(study, key, found.user[key])


def _compare(study: str, source: str, target: str, found: Mapping[str, Snapshot], slack_s: float) -> None:
    """Reads both sides once more, from their storages alone.

    Raises:
        NegativeAnswer: they are not the same.
        ResourceError: the source is not what it was.
    """
    now = _read(source, study)
    changed = now.keys() != found.keys() or any(True for name in found for _ in differences(found[name], now[name]))
    if changed:
        raise ResourceError(
            f"the study `{study}` went on while it was copied",
            where=parse_url(source).name,
            hint="end what works on it; the same command copies it anew",
        )
    with _opened(target) as storage:
        for name, one in now.items():
            copy = snapshot(optuna.load_study(study_name=name, storage=storage), storage)
            wrong = list(itertools.islice(differences(one, copy, slack_s=slack_s), _LINES + 1))
            if wrong:
                raise NegativeAnswer(
                    f"the copy of `{name}` is not the same, and stays marked as not whole",
                    where=parse_url(target).name,
                    got="\n     ".join([*wrong[:_LINES], *(["..."] if len(wrong) > _LINES else [])]),
                    hint="the study in the old place is as it was; try another kind of storage",
                )
    _require_rest(source, now)


def _opened_for_others(source: str, target: str, study: str) -> str:
    """Studies of the old place for which these sealed signers were opened, and which the new place does not hold; in words."""
    with database_errors(source), _opened(source) as storage:
        looks = {name for name, _ in all_openings(load_study(storage, study), storage)} - {study}
    with database_errors(target), _opened(target) as storage:
        missing = sorted(looks - set(optuna.get_all_study_names(storage)))
    return ", ".join(f"`{name}`" for name in missing)


def _is_same_place(one: StorageUrl, other: StorageUrl) -> bool:
    """Whether two storages are one, as far as their URLs tell."""
    if one.path is not None and other.path is not None:
        return one.path.resolve() == other.path.resolve() or (
            one.path.exists() and other.path.exists() and one.path.samefile(other.path)
        )
    return _address(one) == _address(other)


def _address(place: StorageUrl) -> tuple[str | int | None, ...]:
    """Where a server's database is. Other spellings than these meet a study that is there already."""
    parts = urlsplit(place.shown)
    host = "localhost" if parts.hostname in ("127.0.0.1", "::1") else parts.hostname
    return place.kind, host, parts.port or _PORTS.get(place.kind), parts.path.rstrip("/"), parts.query
