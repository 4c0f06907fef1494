"""Which study a command is about if none is named."""

from __future__ import annotations

import contextlib
import datetime

import optuna

from search.errors import DefinitionError
from search.storage.opening import closing_storage
from search.storage.read_only import open_read_only
from search.study.companion import study_of
from search.study.identity import IDENTITY
from search.study.openings import is_record
from search.study.presence import all_studies
from search.study.study_id import ID


def latest_in(url: str) -> tuple[str, int]:
    """The study of a storage that was active last, and how many there are. Raises: same as `latest_study`, `open_read_only`."""
    with closing_storage(open_read_only(url)) as storage:
        return latest_study(storage)


def latest_study(storage: optuna.storages.BaseStorage) -> tuple[str, int]:
    """The study that was active last, and how many there are.

    A study was active when its newest trial, or the newest training of its confirmation, started or ended. Studies of other
    programs do not count.

    Raises:
        DefinitionError: there is none.
    """
    studies = all_studies(storage)
    ours = [one for one in studies if IDENTITY in one.user_attrs and study_of(one) is None and not is_record(one.study_name)]
    if not ours:
        raise DefinitionError("the database holds no study of this tool", hint="start one with `islr-search run`")
    active = {one._study_id: [_last_active(storage, one._study_id)] for one in ours}
    for companion in studies:
        if (link := study_of(companion)) is None:
            continue
        name, own = link
        for one in ours:
            id = one.user_attrs.get(ID)
            if isinstance(id, dict) and id.get("id") == own if own else one.study_name == name:
                active[one._study_id].append(_last_active(storage, companion._study_id))
    latest = max(ours, key=lambda one: (max(active[one._study_id]), one._study_id))
    return latest.study_name, len(ours)


def _last_active(storage: optuna.storages.BaseStorage, study_id: int) -> datetime.datetime:
    """When the newest trial of a study started or ended; the earliest time if it has none."""
    with contextlib.suppress(KeyError, ValueError):  # deleted in this moment, or spoiled by another program
        if (count := storage.get_n_trials(study_id)) > 0:
            trial = storage.get_trial(storage.get_trial_id_from_study_id_trial_number(study_id, count - 1))
            return max(filter(None, (trial.datetime_start, trial.datetime_complete)), default=datetime.datetime.min)
    return datetime.datetime.min
