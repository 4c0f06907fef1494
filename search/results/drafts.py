"""What optuna_dashboard shows beside trials, written in one go: notes and plots of a study, files of its trials.

optuna_dashboard writes a note or a plot as a dozen attributes, each in a transaction of its own, and Optuna takes no file for a
trial that is over. Here optuna_dashboard's own functions write to a draft, and what differs then goes into the database in one
transaction, so that nobody reads half a note, and a search that runs waits for moments.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import optuna

STUDY_TABLE, TRIAL_TABLE = "study_system_attributes", "trial_system_attributes"


class Draft:
    """The system attributes of a study, as optuna_dashboard's functions find them. It is storage, study and trial to them."""

    def __init__(self, study_id: int, attributes: Mapping[str, Any]) -> None:
        self.attributes = dict(attributes)
        self.storage = self.study = self._storage = self
        self._study_id, self._trial_id = study_id, None

    def of_trial(self, trial_id: int | None) -> Draft:
        """The same draft, as a trial of the study (None: the study)."""
        view = Draft(self._study_id, {})
        view.attributes, view._trial_id = self.attributes, trial_id  # type: ignore[assignment]
        return view

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """As a storage."""
        assert study_id == self._study_id, "a draft is of one study"
        return self.attributes

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """As a storage."""
        assert study_id == self._study_id, "a draft is of one study"
        self.attributes[key] = value


@contextlib.contextmanager
def drafting(storage: optuna.storages.BaseStorage, study_id: int) -> Iterator[Draft]:
    """The study's attributes to be changed; what differs at the end is written. Nobody else writes meanwhile: be quick."""
    with _writing(storage) as connection:
        found = connection.exec_driver_sql(f"SELECT key, value_json FROM {STUDY_TABLE} WHERE study_id = ?", (study_id,))
        before = {key: json.loads(value) for key, value in found}
        draft = Draft(study_id, before)
        yield draft
        after = draft.attributes
        for key in before.keys() - after.keys():
            connection.exec_driver_sql(f"DELETE FROM {STUDY_TABLE} WHERE study_id = ? AND key = ?", (study_id, key))
        for key, value in after.items():
            if key not in before or before[key] != value:
                _put(connection, STUDY_TABLE, "study_id", study_id, key, value)


def add_to_trial(storage: optuna.storages.BaseStorage, trial_id: int, attributes: Mapping[str, Any]) -> None:
    """Writes system attributes of a trial, be it over or not."""
    with _writing(storage) as connection:
        for key, value in attributes.items():
            _put(connection, TRIAL_TABLE, "trial_id", trial_id, key, value)


def trial_attributes(storage: optuna.storages.BaseStorage, study_id: int, start: str) -> dict[int, dict[str, Any]]:
    """System attributes whose names have this start, by the trial's id, as they are in the database now."""
    sql = (
        f"SELECT trial_id, key, value_json FROM {TRIAL_TABLE} JOIN trials USING (trial_id) "
        "WHERE study_id = ? AND substr(key, 1, ?) = ?"
    )
    found: dict[int, dict[str, Any]] = {}
    with _engine(storage).connect() as connection:
        for trial, key, value in connection.exec_driver_sql(sql, (study_id, len(start), start)):
            found.setdefault(trial, {})[key] = json.loads(value)
    return found


def _put(connection: Any, table: str, owner: str, owner_id: int, key: str, value: Any) -> None:
    sql = (
        f"INSERT INTO {table} ({owner}, key, value_json) VALUES (?, ?, ?) "
        f"ON CONFLICT ({owner}, key) DO UPDATE SET value_json = excluded.value_json"
    )
    connection.exec_driver_sql(sql, (owner_id, key, json.dumps(value)))


@contextlib.contextmanager
def _writing(storage: optuna.storages.BaseStorage) -> Iterator[Any]:
    """A connection that writes all or nothing."""
    with _engine(storage).begin() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # what is read in it stays true until it ends
        yield connection


def _engine(storage: optuna.storages.BaseStorage) -> Any:
    """The database behind Optuna's storage."""
    behind: Any = getattr(storage, "_backend", storage)
    return behind.engine
