"""Optuna's tables, read and written in batches: one transaction for many values, where Optuna's own calls take one for each.

The tables are those of `optuna.storages._rdb.models`. `tables_of` answers None for a storage that is no database, and for
tables of another form than `SCHEMA_VERSION`: those are left to Optuna's calls.
"""

from __future__ import annotations

import contextlib
import datetime
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import optuna
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.trial import TrialState

if TYPE_CHECKING:
    import sqlalchemy


SCHEMA_VERSION = "v3.2.0.a"
"""What Optuna calls the form of its tables that is written here."""

Row = dict[str, Any]


@dataclass
class Changes:
    """What is to be written of one trial."""

    params: dict[str, tuple[float, BaseDistribution]] = field(default_factory=dict)
    """By name, each as Optuna stores it, with its distribution."""

    system: dict[str, Any] = field(default_factory=dict)
    user: dict[str, Any] = field(default_factory=dict)
    reported: dict[int, float] = field(default_factory=dict)
    """By step."""

    state: TrialState | None = None
    """That it ends in."""

    values: Sequence[float] | None = None
    ended: datetime.datetime | None = None
    """When it ended, local time."""


class Tables:
    """The tables of one database."""

    def __init__(self, engine: sqlalchemy.Engine) -> None:
        import sqlalchemy
        from optuna.storages._rdb import models

        self._engine = engine
        self._sql = sqlalchemy
        self._models = models
        self._tables: Mapping[str, Any] = models.BaseModel.metadata.tables

    @contextlib.contextmanager
    def writing(self, within: sqlalchemy.Connection | None = None) -> Iterator[sqlalchemy.Connection]:
        """A connection that writes all or nothing; or one that is in a transaction already, which somebody else ends."""
        if within is not None:
            yield within
            return
        with self._engine.begin() as connection:
            if self._engine.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")  # what is read in it stays true until it ends
            yield connection

    def reading(self) -> contextlib.AbstractContextManager[sqlalchemy.Connection]:
        """A connection that reads."""
        return self._engine.connect()

    def put(self, connection: sqlalchemy.Connection, table: str, rows: Sequence[Row], keys: tuple[str, str]) -> None:
        """Writes rows; those whose `keys` are there take the place of what was there."""
        if not rows:
            return
        found = self._tables[table]
        dialect = self._engine.dialect.name
        values = [name for name in rows[0] if name not in keys]
        if dialect in ("mysql", "mariadb"):
            from sqlalchemy.dialects.mysql import insert as insert_mysql

            one = insert_mysql(found)
            connection.execute(one.on_duplicate_key_update({name: one.inserted[name] for name in values}), rows)
            return
        if dialect == "postgresql":
            from sqlalchemy.dialects.postgresql import insert
        else:
            from sqlalchemy.dialects.sqlite import insert  # type: ignore[assignment]
        new = insert(found)
        connection.execute(
            new.on_conflict_do_update(index_elements=list(keys), set_={name: new.excluded[name] for name in values}), rows
        )

    def study_attributes(self, connection: sqlalchemy.Connection, study: int) -> dict[str, Any]:
        """System attributes of a study. On a server nobody else changes them until the transaction ends."""
        studies, table = self._tables["studies"], self._tables["study_system_attributes"]
        connection.execute(self._sql.select(studies.c.study_id).where(studies.c.study_id == study).with_for_update())
        found = connection.execute(self._sql.select(table.c.key, table.c.value_json).where(table.c.study_id == study))
        return {key: json.loads(value) for key, value in found}

    def change_study(
        self, connection: sqlalchemy.Connection, study: int, new: Mapping[str, Any], *, gone: Iterable[str] = ()
    ) -> None:
        """Writes system attributes of a study, and deletes some."""
        table = self._tables["study_system_attributes"]
        if gone := list(gone):
            connection.execute(self._sql.delete(table).where(table.c.study_id == study, table.c.key.in_(gone)))
        rows = [{"study_id": study, "key": key, "value_json": json.dumps(value)} for key, value in new.items()]
        self.put(connection, table.name, rows, ("study_id", "key"))

    def trial_attributes(self, connection: sqlalchemy.Connection, study: int, start: str) -> dict[int, dict[str, Any]]:
        """System attributes of a study's trials whose names have this start, by the trial's id."""
        table, trials = self._tables["trial_system_attributes"], self._tables["trials"]
        wanted = (trials.c.study_id == study, self._sql.func.substr(table.c.key, 1, len(start)) == start)
        rows = self._sql.select(table.c.trial_id, table.c.key, table.c.value_json).join(
            trials, trials.c.trial_id == table.c.trial_id
        )
        found: dict[int, dict[str, Any]] = {}
        for trial, key, value in connection.execute(rows.where(*wanted)):
            found.setdefault(trial, {})[key] = json.loads(value)
        return found

    def add_to_trial(self, connection: sqlalchemy.Connection, trial: int, attributes: Mapping[str, Any]) -> None:
        """Writes system attributes of a trial, be it over or not."""
        rows = [{"trial_id": trial, "key": key, "value_json": json.dumps(value)} for key, value in attributes.items()]
        self.put(connection, "trial_system_attributes", rows, ("trial_id", "key"))

    def write(self, connection: sqlalchemy.Connection, changes: Mapping[int, Changes]) -> list[int]:
        """Writes what has changed, by the trials' ids. Gives those that others have ended: nothing of them is written."""
        trials = self._tables["trials"]
        found = self._sql.select(trials.c.trial_id, trials.c.state, trials.c.datetime_complete)
        rows = connection.execute(
            found.where(trials.c.trial_id.in_(list(changes))).order_by(trials.c.trial_id).with_for_update()
        )
        known: dict[int, tuple[TrialState, Any]] = {trial: (state, ended) for trial, state, ended in rows}
        mine = {trial: change for trial, change in changes.items() if known.get(trial, (None,))[0] == TrialState.RUNNING}
        self._put_all(connection, mine)
        for trial, change in mine.items():
            if change.state is not None:
                end = {"state": change.state, "datetime_complete": _as_stored(change.ended)}
                connection.execute(self._sql.update(trials).where(trials.c.trial_id == trial).values(end))
        # One that is as it should be was written when the connection was lost before it could say so.
        strange = [trial for trial in changes if trial not in mine]
        return [trial for trial in strange if trial not in known or not self._is_as_told(known[trial], changes[trial])]

    def _is_as_told(self, known: tuple[TrialState, Any], change: Changes) -> bool:
        """Whether a trial ended in this state at this time. MySQL keeps no parts of a second."""
        state, ended = known
        told = _as_stored(change.ended)
        if state != change.state or ended is None or told is None:
            return False
        most = 1.0 if self._engine.dialect.name in ("mysql", "mariadb") else 0.0
        return abs((ended - told).total_seconds()) <= most

    def _put_all(self, connection: sqlalchemy.Connection, mine: Mapping[int, Changes]) -> None:
        params, attributes, reported, values = [], {"system": [], "user": []}, [], []  # type: ignore[var-annotated]
        number_of = self._models.TrialValueModel.value_to_stored_repr
        reported_as = self._models.TrialIntermediateValueModel.intermediate_value_to_stored_repr
        for trial, change in mine.items():
            of = {"trial_id": trial}
            for name, (value, shape) in change.params.items():
                params.append(
                    {**of, "param_name": name, "param_value": value, "distribution_json": distribution_to_json(shape)}
                )
            for kind, found in (("system", change.system), ("user", change.user)):
                attributes[kind] += [{**of, "key": key, "value_json": json.dumps(value)} for key, value in found.items()]
            for step, told in change.reported.items():
                number, kind_of = reported_as(told)
                reported.append({**of, "step": step, "intermediate_value": number, "intermediate_value_type": kind_of})
            for objective, result in enumerate(change.values or ()):
                number, kind_of_value = number_of(result)
                values.append({**of, "objective": objective, "value": number, "value_type": kind_of_value})
        self.put(connection, "trial_params", params, ("trial_id", "param_name"))
        for kind, rows in attributes.items():
            self.put(connection, f"trial_{kind}_attributes", rows, ("trial_id", "key"))
        self.put(connection, "trial_intermediate_values", reported, ("trial_id", "step"))
        self.put(connection, "trial_values", values, ("trial_id", "objective"))


def _as_stored(time: datetime.datetime | None) -> datetime.datetime | None:
    """A local time as Optuna stores it: UTC, without saying so."""
    return None if time is None else time.astimezone(datetime.UTC).replace(tzinfo=None)


def uncached(storage: optuna.storages.BaseStorage) -> optuna.storages.BaseStorage:
    """The storage itself, without Optuna's cache before it."""
    return storage._backend if isinstance(storage, optuna.storages._CachedStorage) else storage


def tables_of(storage: optuna.storages.BaseStorage) -> Tables | None:
    """The tables behind Optuna's storage, if their form is known here."""
    found = uncached(storage)
    if not isinstance(found, optuna.storages.RDBStorage) or found.get_current_version() != SCHEMA_VERSION:
        return None
    return Tables(found.engine)
