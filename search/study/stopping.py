"""Requests to stop, from another terminal or machine. The database passes them on, to runs by name: no later run obeys."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence

import optuna

from search.storage.errors import database_errors
from search.storage.leases.choice import observe
from search.storage.opening import opened_storage
from search.study.checked import Notify
from search.study.companion import find_companion
from search.study.study import load_study

_STOP = "stop"
"""The system attribute of a study with the names of the runs that are asked to stop."""

_POLL_S = 1.0

Runs = Mapping[str, Sequence[str]]
"""Names of runs by the study that they work on: a search, or its confirmation."""


def ask_to_stop(study: str, url: str, notify: Notify) -> Runs:
    """Asks all runs that work on a study or on its confirmation to stop. Returns them.

    Raises:
        DefinitionError: there is no such study.
        ResourceError: the database cannot be used.
    """
    asked = {}
    with database_errors(url), opened_storage(url, create=False) as storage:
        found = load_study(storage, study, notify)
        for one in (found, find_companion(found, storage)):
            if one is not None and (runs := observe(url, one.study_name).runs()):
                storage.set_study_system_attr(one._study_id, _STOP, runs)
                asked[one.study_name] = runs
    return asked


def is_asked_to_stop(storage: optuna.storages.BaseStorage, study: int, names: Collection[str]) -> bool:
    """Whether a run is asked to stop, under any of the names that it has had.

    Of what other programs may have stored under the key, only a list of names counts.
    """
    asked = storage.get_study_system_attrs(study).get(_STOP)
    return isinstance(asked, list) and any(name in asked for name in names)


def wait_for_end(asked: Runs, url: str) -> int:
    """Waits until these runs have ended. Returns how many others work on their studies then.

    Others began later, or are one of these that was out of touch with the database for so long that it got another name.

    Raises:
        ResourceError: the database cannot be used.
    """
    with database_errors(url):
        observers = {study: observe(url, study) for study in asked}
        while True:
            now = {study: set(observer.runs()) for study, observer in observers.items()}
            if not any(now[study] & set(runs) for study, runs in asked.items()):
                return sum(map(len, now.values()))
            time.sleep(_POLL_S)
