"""A fast read-only storage for the commands that only look at a study: a second for thousands of trials.

Optuna loads every reported value of a study, 100,000 for 5,000 trials of 20 epochs, and its database libraries take as long to
import as the rest of a command. `ReadOnlyStorage` is a storage for Optuna's `Study` that reads the same tables with a few plain
statements, and leaves out the values that finished trials reported.

The tables are those of `optuna.storages._rdb.models`. A file with another `SCHEMA_VERSION` is read by Optuna itself. A test
compares everything that is read here with what Optuna reads.
"""

from __future__ import annotations

import contextlib
import copy
import datetime
import json
import math
import sqlite3
from collections import defaultdict
from collections.abc import Container, Iterator
from typing import Any, NoReturn, TypeVar

import optuna
from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState

from search.storage.errors import database_errors
from search.storage.looking import Look
from search.storage.opening import has_studies, open_for_look, open_storage
from search.storage.sqlite import file_guard
from search.storage.tables import SCHEMA_VERSION
from search.storage.url import parse_url, sqlite_path

_T = TypeVar("_T")
_NOT_FINITE = {"INF_POS": math.inf, "INF_NEG": -math.inf, "NAN": math.nan}
_STUDY, _TRIAL = "study_id = ?", "trial_id = ?"


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
        self._reported_of = "" if curves else "AND state = 'RUNNING'"
        self._check_file = file_guard(sqlite_path(url))

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

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """One trial with all of its reported values."""
        with self._reading() as database:
            found = _trials(database, _TRIAL, trial_id, reported_of="")
        if not found:
            raise KeyError(trial_id)
        return found[0]

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        with self._reading() as database:
            trials = _trials(database, _STUDY, study_id, reported_of=self._reported_of)
        trials = [trial for trial in trials or self._nothing_of(study_id, trials) if states is None or trial.state in states]
        return copy.deepcopy(trials) if deepcopy else trials

    def get_n_trials(self, study_id: int, state: tuple[TrialState, ...] | TrialState | None = None) -> int:
        counts = dict(self._all("SELECT state, count(*) FROM trials WHERE study_id = ? GROUP BY state", study_id))
        wanted = TrialState if state is None else (state,) if isinstance(state, TrialState) else state
        return sum(counts.get(one.name, 0) for one in wanted)

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


def _trials(database: sqlite3.Connection, which: str, value: int, *, reported_of: str) -> list[FrozenTrial]:
    """The trials that match a condition, by number."""

    def rows(names: str, table: str, rest: str = "") -> list[tuple[Any, ...]]:
        """Rows of these trials; the first column is the trial's id."""
        sql = f"SELECT trial_id, {names} FROM {table} JOIN trials USING (trial_id) WHERE {which} {rest}"
        return database.execute(sql, (value,)).fetchall()

    trials = database.execute(
        f"SELECT trial_id, number, state, datetime_start, datetime_complete FROM trials WHERE {which} ORDER BY number", (value,)
    ).fetchall()
    values = _numbers(rows("objective, value, value_type", "trial_values", "ORDER BY objective"))
    params, shapes = _params(rows("param_name, param_value, distribution_json", "trial_params", "ORDER BY param_id"))
    user = _attributes(rows("key, value_json", "trial_user_attributes"))
    system = _attributes(rows("key, value_json", "trial_system_attributes"))
    reported = _numbers(rows("step, intermediate_value, intermediate_value_type", "trial_intermediate_values", reported_of))
    return [
        FrozenTrial(
            number=number,
            state=TrialState[state],
            value=None,
            values=list(values[trial].values()) or None,
            datetime_start=_local(start),
            datetime_complete=_local(complete),
            params=params[trial],
            distributions=shapes[trial],
            user_attrs=user[trial],
            system_attrs=system[trial],
            intermediate_values=reported[trial],
            trial_id=trial,
        )
        for trial, number, state, start, complete in trials
    ]


def _numbers(rows: list[tuple[Any, ...]]) -> dict[int, dict[int, float]]:
    """Numbers by trial and index (objective or step). Those that are not finite are stored as words."""
    found: dict[int, dict[int, float]] = defaultdict(dict)
    for trial, index, number, kind in rows:
        found[trial][index] = number if kind == "FINITE" else _NOT_FINITE[kind]
    return found


def _attributes(rows: list[tuple[Any, ...]]) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = defaultdict(dict)
    values = json.loads(f"[{','.join(text for _, _, text in rows)}]")  # parsing all at once takes half the time
    for (trial, key, _), value in zip(rows, values, strict=True):
        found[trial][key] = value
    return found


def _params(rows: list[tuple[Any, ...]]) -> tuple[dict[int, dict[str, Any]], dict[int, dict[str, BaseDistribution]]]:
    """Parameters by trial, in the order in which they were suggested, and their distributions."""
    params: dict[int, dict[str, Any]] = defaultdict(dict)
    shapes: dict[int, dict[str, BaseDistribution]] = defaultdict(dict)
    known: dict[str, BaseDistribution] = {}  # thousands of trials share a few distributions
    for trial, name, value, text in rows:
        if text not in known:
            known[text] = json_to_distribution(text)
        shapes[trial][name] = known[text]
        params[trial][name] = known[text].to_external_repr(value)
    return params, shapes


def _local(stored: str | None) -> datetime.datetime | None:
    """A stored UTC time as in Optuna's API: local time without a zone. The inverse of `tables.to_utc`."""
    if stored is None:
        return None
    return datetime.datetime.fromisoformat(stored).replace(tzinfo=datetime.UTC).astimezone().replace(tzinfo=None)
