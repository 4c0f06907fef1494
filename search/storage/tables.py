"""Reads and writes Optuna's tables in batches: one transaction for many values, where Optuna's calls take one each.

The tables are those of `optuna.storages._rdb.models`. `tables_of` returns None for a storage that is not a database or whose
schema version is not `SCHEMA_VERSION`; callers then use Optuna's own calls.
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
"""Optuna's name of the schema that this module writes."""

Row = dict[str, Any]


@dataclass
class Changes:
    """What to write for one trial."""

    params: dict[str, tuple[float, BaseDistribution]] = field(default_factory=dict)
    """Value in Optuna's internal representation, and distribution, by name."""

    system: dict[str, Any] = field(default_factory=dict)
    user: dict[str, Any] = field(default_factory=dict)
    reported: dict[int, float] = field(default_factory=dict)
    """Intermediate values by step."""

    dropped: set[int] = field(default_factory=set)
    """Steps whose intermediate values are deleted."""

    state: TrialState | None = None
    """Its final state; None if it is not finished."""

    values: Sequence[float] | None = None
    ended: datetime.datetime | None = None
    """When it finished, local time."""


class Tables:
    """The tables of one database."""

    def __init__(self, engine: sqlalchemy.Engine) -> None:
        import sqlalchemy
        from optuna.storages._rdb import models

        self._engine = engine
        self._sql = sqlalchemy
        self._models = models
        self._tables: Mapping[str, Any] = models.BaseModel.metadata.tables
        self._upserts: dict[tuple[str, ...], Any] = {}
        """Statements by table and columns: building one takes longer than executing it."""

        studies, attributes = self._tables["studies"], self._tables["study_user_attributes"]
        is_id = (attributes.c.study_id == studies.c.study_id) & (attributes.c.key == "id")
        both = sqlalchemy.select(studies.c.study_name, attributes.c.value_json).join(attributes, is_id, isouter=True)
        self._study_mark = both.where(studies.c.study_id == sqlalchemy.bindparam("study"))

    @contextlib.contextmanager
    def writing(self, within: sqlalchemy.Connection | None = None) -> Iterator[sqlalchemy.Connection]:
        """A connection in a transaction. `within`: one that is in a transaction already, which the caller ends."""
        if within is not None:
            yield within
            return
        with self._engine.begin() as connection:
            if self._engine.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")  # what it reads stays true until it ends
            yield connection

    def reading(self) -> contextlib.AbstractContextManager[sqlalchemy.Connection]:
        """A connection for reading."""
        return self._engine.connect()

    def put(self, connection: sqlalchemy.Connection, table: str, rows: Sequence[Row], keys: tuple[str, str]) -> None:
        """Inserts rows; a row whose `keys` exist already is updated."""
        if not rows:
            return
        columns = (table, *keys, *rows[0])
        if columns not in self._upserts:
            self._upserts[columns] = self._upsert(self._tables[table], [name for name in rows[0] if name not in keys], keys)
        connection.execute(self._upserts[columns], rows)

    def _upsert(self, target: Any, values: Sequence[str], keys: tuple[str, str]) -> sqlalchemy.Executable:
        dialect = self._engine.dialect.name
        if dialect in ("mysql", "mariadb"):
            from sqlalchemy.dialects.mysql import insert as insert_mysql

            one = insert_mysql(target)
            return one.on_duplicate_key_update({name: one.inserted[name] for name in values})
        if dialect == "postgresql":
            from sqlalchemy.dialects.postgresql import insert
        else:
            from sqlalchemy.dialects.sqlite import insert  # type: ignore[assignment]
        new = insert(target)
        return new.on_conflict_do_update(index_elements=list(keys), set_={name: new.excluded[name] for name in values})

    def study_mark(self, connection: sqlalchemy.Connection, study: int) -> tuple[str, str] | None:
        """The name of a study and its attribute `id` (empty without); None if there is no study with this number."""
        row = connection.execute(self._study_mark, {"study": study}).one_or_none()
        return None if row is None else (row[0], row[1] or "")

    def study_attributes(self, connection: sqlalchemy.Connection, study: int) -> dict[str, Any]:
        """System attributes of a study. On a server, no other transaction can change them until this one ends."""
        studies, table = self._tables["studies"], self._tables["study_system_attributes"]
        connection.execute(self._sql.select(studies.c.study_id).where(studies.c.study_id == study).with_for_update())
        rows = connection.execute(self._sql.select(table.c.key, table.c.value_json).where(table.c.study_id == study))
        return {key: json.loads(value) for key, value in rows}

    def update_study_attributes(
        self, connection: sqlalchemy.Connection, study: int, new: Mapping[str, Any], *, deleted: Iterable[str] = ()
    ) -> None:
        """Writes system attributes of a study, and deletes others."""
        table = self._tables["study_system_attributes"]
        if keys := list(deleted):
            connection.execute(self._sql.delete(table).where(table.c.study_id == study, table.c.key.in_(keys)))
        self.put(connection, table.name, _attribute_rows({"study_id": study}, new), ("study_id", "key"))

    def trial_attributes(self, connection: sqlalchemy.Connection, study: int, prefix: str) -> dict[int, dict[str, Any]]:
        """System attributes of a study's trials whose keys start with `prefix`, by the trial's id."""
        table, trials = self._tables["trial_system_attributes"], self._tables["trials"]
        wanted = (trials.c.study_id == study, self._sql.func.substr(table.c.key, 1, len(prefix)) == prefix)
        rows = self._sql.select(table.c.trial_id, table.c.key, table.c.value_json).join(
            trials, trials.c.trial_id == table.c.trial_id
        )
        found: dict[int, dict[str, Any]] = {}
        for trial, key, value in connection.execute(rows.where(*wanted)):
            found.setdefault(trial, {})[key] = json.loads(value)
        return found

    def set_trial_attributes(self, connection: sqlalchemy.Connection, trial: int, attributes: Mapping[str, Any]) -> None:
        """Writes system attributes of a trial, finished or not."""
        rows = _attribute_rows({"trial_id": trial}, attributes)
        self.put(connection, "trial_system_attributes", rows, ("trial_id", "key"))

    def write(self, connection: sqlalchemy.Connection, changes: Mapping[int, Changes]) -> list[int]:
        """Writes changes by trial id. Returns the trials that others have ended, for which nothing is written."""
        trials = self._tables["trials"]
        wanted = self._sql.select(trials.c.trial_id, trials.c.state, trials.c.datetime_complete)
        rows = connection.execute(
            wanted.where(trials.c.trial_id.in_(list(changes))).order_by(trials.c.trial_id).with_for_update()
        )
        known: dict[int, tuple[TrialState, Any]] = {trial: (state, ended) for trial, state, ended in rows}
        running = {trial: change for trial, change in changes.items() if known.get(trial, (None,))[0] == TrialState.RUNNING}
        self._drop_reports(connection, running)
        self._put_all(connection, running)
        for trial, change in running.items():
            if change.state is not None:
                end = {"state": change.state, "datetime_complete": to_utc(change.ended)}
                connection.execute(self._sql.update(trials).where(trials.c.trial_id == trial).values(end))
        # A finished trial in the right state was written by us, just before the connection was lost.
        others = [trial for trial in changes if trial not in running]
        return [trial for trial in others if trial not in known or not self._was_written(known[trial], changes[trial])]

    def _was_written(self, known: tuple[TrialState, Any], change: Changes) -> bool:
        """Whether a trial ended in the state and at the time of the change. MySQL stores whole seconds only."""
        state, ended = known
        expected = to_utc(change.ended)
        if state != change.state or ended is None or expected is None:
            return False
        tolerance_s = 1.0 if self._engine.dialect.name in ("mysql", "mariadb") else 0.0
        return abs((ended - expected).total_seconds()) <= tolerance_s

    def _drop_reports(self, connection: sqlalchemy.Connection, changes: Mapping[int, Changes]) -> None:
        table = self._tables["trial_intermediate_values"]
        for trial, change in changes.items():
            if change.dropped:
                connection.execute(
                    self._sql.delete(table).where(table.c.trial_id == trial, table.c.step.in_(sorted(change.dropped)))
                )

    def _put_all(self, connection: sqlalchemy.Connection, changes: Mapping[int, Changes]) -> None:
        params, system, user, reported, values = [], [], [], [], []
        stored_value = self._models.TrialValueModel.value_to_stored_repr
        stored_step = self._models.TrialIntermediateValueModel.intermediate_value_to_stored_repr
        for trial, change in changes.items():
            of = {"trial_id": trial}
            for name, (value, shape) in change.params.items():
                params.append(
                    {**of, "param_name": name, "param_value": value, "distribution_json": distribution_to_json(shape)}
                )
            system += _attribute_rows(of, change.system)
            user += _attribute_rows(of, change.user)
            for step, value in change.reported.items():
                number, step_type = stored_step(value)
                reported.append({**of, "step": step, "intermediate_value": number, "intermediate_value_type": step_type})
            for objective, value in enumerate(change.values or ()):
                number, value_type = stored_value(value)
                values.append({**of, "objective": objective, "value": number, "value_type": value_type})
        self.put(connection, "trial_params", params, ("trial_id", "param_name"))
        self.put(connection, "trial_system_attributes", system, ("trial_id", "key"))
        self.put(connection, "trial_user_attributes", user, ("trial_id", "key"))
        self.put(connection, "trial_intermediate_values", reported, ("trial_id", "step"))
        self.put(connection, "trial_values", values, ("trial_id", "objective"))


def _attribute_rows(of: Row, attributes: Mapping[str, Any]) -> list[Row]:
    return [{**of, "key": key, "value_json": json.dumps(value)} for key, value in attributes.items()]


def to_utc(local: datetime.datetime | None) -> datetime.datetime | None:
    """A local time without a zone, as in Optuna's API, as Optuna stores it: UTC without a zone."""
    return None if local is None else local.astimezone(datetime.UTC).replace(tzinfo=None)


def uncached(storage: optuna.storages.BaseStorage) -> optuna.storages.BaseStorage:
    """The storage itself, without Optuna's cache in front of it."""
    return storage._backend if isinstance(storage, optuna.storages._CachedStorage) else storage


def tables_of(storage: optuna.storages.BaseStorage) -> Tables | None:
    """The tables of Optuna's storage; None if it has none, or an unknown schema version."""
    database = uncached(storage)
    if not isinstance(database, optuna.storages.RDBStorage) or database.get_current_version() != SCHEMA_VERSION:
        return None
    return Tables(database.engine)
