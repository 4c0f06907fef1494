"""`search copy`: copies a study to another storage, reads the copy back, and compares.

The copy is marked as incomplete until it has been compared. Every command refuses an incomplete copy, and the next
`search copy` replaces it.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError
from optuna.trial import TrialState

from data_utils.wording import counted
from search.errors import DefinitionError, NegativeAnswer, ResourceError
from search.storage.bulk import add_trials, remove_study
from search.storage.errors import database_errors
from search.storage.leases.choice import lease_of, observe
from search.storage.leases.lease import Lease, TurnLost
from search.storage.opening import closing_storage, opened_storage
from search.storage.read_only import open_read_only
from search.storage.url import StorageUrl, is_same_database, parse_url
from search.study.checked import Notify
from search.study.claiming import copy_files
from search.study.companion import find_companion, is_companion, link_companion
from search.study.comparing import Snapshot, differences, snapshot, with_trial_ids
from search.study.folder import find_folder
from search.study.identity import COPIED, IDENTITY, is_complete, require_usable
from search.study.opening_record import openings_of_signers, record_openings
from search.study.presence import study_names
from search.study.study import load_study
from search.study.study_id import assign_id
from search.study.trials import owner
from search.wording import utc_now

_PROGRESS_EVERY_S = 5.0
_MAX_DIFFERENCES = 5
"""Differences that an error lists."""

_MYSQL_SLACK_S = 1.0
"""MySQL stores the times of trials to the second."""


@dataclass(frozen=True, kw_only=True)
class CopyResult:
    """A copied study."""

    study: str
    target: str
    """URL without password."""

    trials: int
    reports: int
    confirmed: int
    """Trainings of its confirmation; 0 if it was not confirmed."""

    slack_s: float
    """Seconds by which times may differ."""


def copy_study(study: str, source: str, target: str, runs: Path, notify: Notify) -> CopyResult:
    """Copies a study with its confirmation to another storage, and compares both. The source is not changed.

    The copy has an id and a folder of its own, with copies of the files under `runs`, and the record of openings.

    Raises:
        DefinitionError: the study does not exist, the target already has it, or both storages are the same.
        NegativeAnswer: the copy differs.
        ResourceError: a run is working on the study, or a database cannot be used.
    """
    here, there = parse_url(source), parse_url(target)
    if is_same_database(here, there):
        raise DefinitionError(
            "source and target are the same storage", got=there.redacted, hint="name another storage with --to"
        )
    originals = _read_study(source, study, notify)
    _require_idle(source, originals)
    with database_errors(target), opened_storage(target, create=True) as storage, lease_of(target, study) as lease:
        with _turn(lease, there):
            _remove_incomplete_copy(target, study, list(originals), runs, lease.observer.num_runs() > 1, notify)
            mark = {"from": here.redacted, "time": utc_now()}
            ids = {name: _create_marked(storage, one, mark, there) for name, one in originals.items()}
        for name, one in originals.items():
            _write(storage, ids[name], one, notify)
        slack_s = _MYSQL_SLACK_S if there.kind == "mysql" else 0
        _compare(study, source, target, originals, slack_s, notify)
        _separate(study, source, storage, list(originals), target, runs, notify)
        for name in reversed(originals):  # the study itself last
            storage.set_study_user_attr(ids[name], COPIED, {**mark, "whole": True})
    companion = next((one for name, one in originals.items() if name != study), None)
    return CopyResult(
        study=study,
        target=there.redacted,
        trials=len(originals[study].trials),
        reports=originals[study].num_reports,
        confirmed=len(companion.trials) if companion else 0,
        slack_s=slack_s,
    )


def copy_summary(result: CopyResult) -> str:
    """A line that says what was copied."""
    trials = f"{counted(result.trials, 'trial')} with {counted(result.reports, 'reported value')}"
    confirmed = f" and {counted(result.confirmed, 'training')} of its confirmation" if result.confirmed else ""
    same = f"identical, times within {result.slack_s:g} s" if result.slack_s else "identical"
    return f"copied {result.study} to {result.target}: {trials}{confirmed}; read back and compared: {same}"


def _read_study(url: str, name: str, notify: Notify) -> dict[str, Snapshot]:
    """The study and, if it was confirmed, its companion."""
    with database_errors(url), closing_storage(open_read_only(url, curves=True)) as storage:
        study = load_study(storage, name, notify)
        require_usable(study)
        snapshots = {name: snapshot(study, storage)}
        if (companion := find_companion(study, storage)) is not None:
            snapshots[companion.study_name] = snapshot(companion, storage)
        return snapshots


def _require_idle(url: str, originals: Mapping[str, Snapshot]) -> None:
    with database_errors(url):
        for name, one in originals.items():
            runs = observe(url, name)
            owners = [owner(trial) for trial in one.trials if trial.state == TrialState.RUNNING]
            if runs.num_runs() or any(who is not None and runs.is_alive(who) for who in owners):
                raise ResourceError(
                    f"a run is working on the study `{name}`, and would continue in the source",
                    where=parse_url(url).name,
                    hint="stop it (Ctrl-C keeps everything), copy, continue in the target: interrupted trials are copied too",
                )


@contextlib.contextmanager
def _turn(lease: Lease, there: StorageUrl) -> Iterator[None]:
    """This copy's turn among those who work on the study in the target."""
    try:
        with lease.wait_for_turn():
            yield
    except TurnLost as error:
        raise ResourceError(
            "the target was unreachable for too long",
            where=there.name,
            hint="once it is back, the same command copies everything again",
        ) from error


def _separate(
    study: str, source: str, storage: optuna.storages.BaseStorage, names: Sequence[str], target: str, runs: Path, notify: Notify
) -> None:
    """Gives the copies their own ids, folders with copies of the original's files, and the record of openings."""
    copies = {name: optuna.load_study(study_name=name, storage=storage) for name in names}
    for name, copy in copies.items():
        assign_id(copy)
        if name != study:
            link_companion(copy, copies[study])
    with database_errors(source), closing_storage(open_read_only(source)) as original_storage:
        originals = {name: optuna.load_study(study_name=name, storage=original_storage) for name in names}
        recorded = openings_of_signers(originals[study], original_storage, runs)
        folders = {name: find_folder(runs, original) for name, original in originals.items()}
    record_openings(copies[study], storage, None, recorded)
    for name, folder in folders.items():
        if folder.path.is_dir():
            copy_files(folder.path, copies[name], runs, target)


def _remove_incomplete_copy(
    target: str, name: str, names: Sequence[str], runs: Path, has_other_runs: bool, notify: Notify
) -> None:
    """Removes what an interrupted copy has left, also its folder.

    Raises:
        DefinitionError: the target has a study of this name.
        ResourceError: another process is copying the study.
    """
    there = parse_url(target)
    with opened_storage(target, create=False) as storage:
        present = [one for one in study_names(storage) if one in names or (is_companion(one) and one.startswith(f"{name}/"))]
        found = [  # the study itself is removed last
            optuna.load_study(study_name=one, storage=storage) for one in sorted(present, key=name.__eq__)
        ]
        found = [one for one in found if one.study_name in names or _is_left_over(one)]
        if not found:
            return
        for one in found:
            if not _is_left_over(one):
                raise _already_exists(one.study_name, there)
        if has_other_runs:
            raise ResourceError(
                f"another process is copying the study `{name}`", where=there.name, hint="wait until it has finished"
            )
        notify(f"the target holds an incomplete copy of `{name}`: it is replaced")
        for study in found:
            if (folder := find_folder(runs, study)).is_marked:
                shutil.rmtree(folder.path, ignore_errors=True)
            remove_study(storage, study._study_id)


def _is_left_over(study: optuna.Study) -> bool:
    """Whether it is an incomplete copy, or was interrupted even before it was marked as one. Companions are whole first."""
    is_copy = COPIED in study.user_attrs and (is_companion(study.study_name) or not is_complete(study))
    return is_copy or not (study.user_attrs or study.metric_names or study.get_trials(deepcopy=False))


def _already_exists(study: str, there: StorageUrl) -> DefinitionError:
    return DefinitionError(
        f"the target already holds a study `{study}`",
        where=there.name,
        hint="nothing is overwritten: name another database with --to",
    )


def _create_marked(storage: optuna.storages.BaseStorage, original: Snapshot, mark: Mapping[str, Any], there: StorageUrl) -> int:
    """Creates an empty study that is marked as incomplete. Returns its id."""
    try:
        study = storage.create_new_study(original.directions, original.name)
    except DuplicatedStudyError:
        raise _already_exists(original.name, there) from None
    storage.set_study_user_attr(study, COPIED, {**mark, "whole": False})
    return study


def _write(storage: optuna.storages.BaseStorage, study: int, original: Snapshot, notify: Notify) -> None:
    ids: list[int] = []
    notified = time.monotonic()
    for batch in add_trials(storage, study, original.trials):
        ids += batch
        if time.monotonic() - notified > _PROGRESS_EVERY_S:
            notify(f"{original.name}: {len(ids):,} of {len(original.trials):,} trials copied")
            notified = time.monotonic()
    for key, value in with_trial_ids(original.system, original.ids, ids).items():
        storage.set_study_system_attr(study, key, value)
    for key in sorted(original.user, key=lambda key: key == IDENTITY):  # the identity last
        storage.set_study_user_attr(study, key, original.user[key])


def _compare(study: str, source: str, target: str, originals: Mapping[str, Snapshot], slack_s: float, notify: Notify) -> None:
    """Reads both sides again and compares them.

    Raises:
        NegativeAnswer: they differ.
        ResourceError: the source has changed.
    """
    now = _read_study(source, study, notify)
    if now.keys() != originals.keys() or any(True for name in now for _ in differences(originals[name], now[name])):
        raise ResourceError(
            f"the study `{study}` changed while it was copied",
            where=parse_url(source).name,
            hint="stop what works on it; the same command copies it again",
        )
    with opened_storage(target, create=False) as storage:
        for name, one in now.items():
            copy = snapshot(optuna.load_study(study_name=name, storage=storage), storage)
            found = list(itertools.islice(differences(one, copy, slack_s=slack_s), _MAX_DIFFERENCES + 1))
            if found:
                raise NegativeAnswer(
                    f"the copy of `{name}` differs from the original, and stays marked as incomplete",
                    where=parse_url(target).name,
                    got="\n     ".join([*found[:_MAX_DIFFERENCES], *(["..."] if len(found) > _MAX_DIFFERENCES else [])]),
                    hint="the original is unchanged; try another kind of storage",
                )
    _require_idle(source, now)
