"""Many trials at once: put into a study as they are, with their states, times and numbers, and removed with their study.

Optuna's own calls take one trial after another, each in about a hundred statements. Where the form of its tables is known, many
go in one transaction.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from optuna.trial import FrozenTrial, TrialState

from search.storage.tables import Changes, Tables, tables_of

if TYPE_CHECKING:
    import optuna


_BATCH = 100


def add_trials(storage: optuna.storages.BaseStorage, study: int, trials: Sequence[FrozenTrial]) -> Iterator[list[int]]:
    """Puts trials into a study that holds those before them, or none. Gives the ids of each batch when it is written."""
    tables = tables_of(storage)
    for start in range(0, len(trials), _BATCH):
        batch = trials[start : start + _BATCH]
        if tables is None:
            yield [storage.create_new_trial(study, trial) for trial in batch]
        else:
            yield _at_once(tables, study, batch)


def remove_study(storage: optuna.storages.BaseStorage, study: int) -> None:
    """Deletes a study with its trials, by its id. The storage is to be opened anew: it may remember what was there."""
    tables = tables_of(storage)
    if tables is None:
        storage.delete_study(study)
        return
    from optuna.storages._rdb import models

    trials: Any = models.TrialModel.__table__
    those = trials.select().with_only_columns(trials.c.trial_id).where(trials.c.study_id == study)
    with tables.writing() as connection:
        for table in reversed(models.BaseModel.metadata.sorted_tables):  # what refers to others goes first
            if "study_id" in table.c:
                connection.execute(table.delete().where(table.c.study_id == study))
            elif "trial_id" in table.c:
                connection.execute(table.delete().where(table.c.trial_id.in_(those)))


def _at_once(tables: Tables, study: int, trials: Sequence[FrozenTrial]) -> list[int]:
    from optuna.storages._rdb import models

    table: Any = models.TrialModel.__table__
    rows = [
        {
            "study_id": study,
            "number": trial.number,
            "state": TrialState.RUNNING,  # until all of it is there
            "datetime_start": _utc(trial.datetime_start),
        }
        for trial in trials
    ]
    with tables.writing() as connection:
        connection.execute(table.insert(), rows)
        numbers = [trial.number for trial in trials]
        those = table.select().where(table.c.study_id == study, table.c.number.in_(numbers))
        ids = {row.number: row.trial_id for row in connection.execute(those)}
        not_written = tables.write(connection, {ids[trial.number]: _whole(trial) for trial in trials})
        assert not not_written, "trials that nobody else can see were changed"
    return [ids[number] for number in numbers]


def _whole(trial: FrozenTrial) -> Changes:
    shapes = trial.distributions
    return Changes(
        params={name: (shapes[name].to_internal_repr(value), shapes[name]) for name, value in trial.params.items()},
        system=trial.system_attrs,
        user=trial.user_attrs,
        reported=trial.intermediate_values,
        state=None if trial.state == TrialState.RUNNING else trial.state,
        values=trial.values,
        ended=trial.datetime_complete,
    )


def _utc(local: datetime.datetime | None) -> datetime.datetime | None:
    """Optuna tells times as local ones without a zone, and stores them as UTC."""
    return None if local is None else local.astimezone(datetime.UTC).replace(tzinfo=None)
