"""A fast read-only storage for commands that only look at a study: a second for thousands of trials.

Optuna's database libraries take as long to import as the rest of such a command, and the values that finished trials reported,
100,000 for 5,000 trials of 20 epochs, are shown for one trial at most. `ReadOnlyStorage` is a storage for Optuna's `Study` that
needs neither (see `trial_rows.py`). A file with another `SCHEMA_VERSION` is read by Optuna itself.
"""

from __future__ import annotations

import contextlib
import copy
import json
import sqlite3
from collections.abc import Container, Iterator
from typing import Any, NoReturn, TypeVar

import optuna
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState

from search.storage.errors import database_errors
from search.storage.looking import Look
from search.storage.opening import has_studies, open_for_look, open_storage
from search.storage.sqlite import file_guard
from search.storage.tables import SCHEMA_VERSION
from search.storage.trial_rows import Query, count_trials, read_trials
from search.storage.url import parse_url, sqlite_path

_T = TypeVar("_T")


def open_read_only(url: str, *, curves: bool = False) -> optuna.storages.BaseStorage:
    """A storage for reading, which writes nothing: a `ReadOnlyStorage` if the file's schema is known, otherwise Optuna's own.

    `curves`: whether to include the values that finished trials reported.

    Raises:
        DefinitionError: the URL is not supported, or there is no database.
        ResourceError: the file is not a study database, or the server cannot be reached.
    """
    parsed = parse_url(url)
    if parsed.kind != "sqlite" or parsed.path is None or not has_studies(url):
        return open_storage(url, create=False)
    look = Look(parsed.path)
    with database_errors(url), contextlib.closing(look.connect()) as database:
        known = database.execute("SELECT count(*) FROM sqlite_master WHERE name = 'alembic_version'").fetchone() != (0,)
        if known and database.execute("SELECT version_num FROM alembic_version").fetchall() == [(SCHEMA_VERSION,)]:
            return ReadOnlyStorage(url, look, curves=curves)
    return open_for_look(parsed, look)


class ReadOnlyStorage(optuna.storages.BaseStorage):
    """A storage that can only be read.

    Without `curves`, `get_all_trials` includes reported values for running trials only.
    """

    def __init__(self, url: str, look: Look, *, curves: bool = False) -> None:
        self._url = url
        self._look = look
        self._reported_of = "" if curves else "state = 'RUNNING'"
        self._check_file = file_guard(sqlite_path(url))
        self._last_read: tuple[object, int, list[FrozenTrial]] = (None, 0, [])
        """What was read last: the state of the file before, the study, its trials."""

    def get_study_id_from_name(self, study_name: str) -> int:
        return int(self._one("SELECT study_id FROM studies WHERE study_name = ?", study_name))

    def get_study_name_from_id(self, study_id: int) -> str:
        return str(self._one("SELECT study_name FROM studies WHERE study_id = ?", study_id))

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        found = self._all("SELECT direction FROM study_directions WHERE study_id = ? ORDER BY objective", study_id)
        return [StudyDirection[name] for (name,) in found]

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return self._study_attributes("study_user_attributes", study_id) or self._nothing_of(study_id, {})

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return self._study_attributes("study_system_attributes", study_id)

    def get_all_studies(self) -> list[FrozenStudy]:
        return [
            FrozenStudy(
                study_name=name,
                direction=None,
                directions=self.get_study_directions(study),
                user_attrs=self.get_study_user_attrs(study),
                system_attrs=self.get_study_system_attrs(study),
                study_id=study,
            )
            for study, name in self._all("SELECT study_id, study_name FROM studies ORDER BY study_id")
        ]

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        found = self._all("SELECT trial_id FROM trials WHERE study_id = ? AND number = ?", study_id, trial_number)
        if not found:
            raise KeyError(trial_number)
        return int(found[0][0])

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """One trial with all of its reported values."""
        with self._reading() as database:
            found = read_trials(_query(database), f"trial_id = {int(trial_id)}")
        if not found:
            raise KeyError(trial_id)
        return found[0]

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        trials = self._trials(study_id)
        trials = [trial for trial in trials or self._nothing_of(study_id, trials) if states is None or trial.state in states]
        return copy.deepcopy(trials) if deepcopy else trials

    def _trials(self, study_id: int) -> list[FrozenTrial]:
        """All trials of a study, read again only if the file has changed: a command that prints uses them several times."""
        state, last = self._look.state(), self._last_read
        if last[:2] == (state, study_id):
            return last[2]
        with self._reading() as database:
            trials = read_trials(_query(database), f"study_id = {int(study_id)}", reported_of=self._reported_of)
        self._last_read = state, study_id, trials
        return trials

    def get_n_trials(self, study_id: int, state: tuple[TrialState, ...] | TrialState | None = None) -> int:
        with self._reading() as database:
            return count_trials(_query(database), study_id, state)

    def _nothing_of(self, study_id: int, nothing: _T) -> _T:
        """What was read of a study, which is nothing. Raises `KeyError` if there is no such study."""
        self.get_study_name_from_id(study_id)
        return nothing

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise NotImplementedError("this storage is read-only")

    create_new_study = delete_study = set_study_user_attr = set_study_system_attr = _refuse
    create_new_trial = set_trial_param = set_trial_state_values = set_trial_intermediate_value = _refuse
    set_trial_user_attr = set_trial_system_attr = _refuse

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """A connection with a snapshot of the database, whatever others write meanwhile."""
        self._check_file()
        with database_errors(self._url), contextlib.closing(self._look.connect()) as database:
            database.execute("BEGIN")
            yield database

    def _all(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._reading() as database:
            return database.execute(sql, values).fetchall()

    def _one(self, sql: str, value: Any) -> Any:
        found = self._all(sql, value)
        if not found:
            raise KeyError(value)
        return found[0][0]

    def _study_attributes(self, table: str, study: int) -> dict[str, Any]:
        found = self._all(f"SELECT key, value_json FROM {table} WHERE study_id = ?", study)
        return {key: json.loads(value) for key, value in found}


def _query(database: sqlite3.Connection) -> Query:
    return lambda sql: database.execute(sql).fetchall()
