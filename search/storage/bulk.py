"""Adds and removes many trials at once, with their states, times and numbers.

Optuna's calls take one trial at a time, in about a hundred statements each. Where the schema is known, a batch takes one
transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from optuna.trial import FrozenTrial, TrialState

from search.storage.tables import Changes, Tables, tables_of, to_utc

if TYPE_CHECKING:
    import optuna


_BATCH = 100


def add_trials(storage: optuna.storages.BaseStorage, study: int, trials: Sequence[FrozenTrial]) -> Iterator[list[int]]:
    """Appends trials to a study, whose trials so far must be those before them. Yields the ids of each written batch."""
    tables = tables_of(storage)
    for start in range(0, len(trials), _BATCH):
        batch = trials[start : start + _BATCH]
        if tables is None:
            yield [storage.create_new_trial(study, trial) for trial in batch]
        else:
            yield _add_batch(tables, study, batch)


def remove_study(storage: optuna.storages.BaseStorage, study: int) -> None:
    """Deletes a study and its trials by the study's id. Reopen the storage afterwards: its cache may be outdated."""
    tables = tables_of(storage)
    if tables is None:
        storage.delete_study(study)
        return
    from optuna.storages._rdb import models

    trials: Any = models.TrialModel.__table__
    ids = trials.select().with_only_columns(trials.c.trial_id).where(trials.c.study_id == study)
    with tables.writing() as connection:
        for table in reversed(models.BaseModel.metadata.sorted_tables):  # referring tables first
            if "study_id" in table.c:
                connection.execute(table.delete().where(table.c.study_id == study))
            elif "trial_id" in table.c:
                connection.execute(table.delete().where(table.c.trial_id.in_(ids)))


def rename_study(storage: optuna.storages.BaseStorage, name: str, new: str) -> None:
    """Renames a study. Reopen the storage afterwards. Where only copying it helps, the study gets another number."""
    tables = tables_of(storage)
    if tables is None:
        import optuna

        optuna.copy_study(from_study_name=name, from_storage=storage, to_storage=storage, to_study_name=new)
        storage.delete_study(storage.get_study_id_from_name(name))
        return
    from optuna.storages._rdb import models

    studies: Any = models.StudyModel.__table__
    with tables.writing() as connection:
        connection.execute(studies.update().where(studies.c.study_name == name).values(study_name=new))


def _add_batch(tables: Tables, study: int, trials: Sequence[FrozenTrial]) -> list[int]:
    from optuna.storages._rdb import models

    table: Any = models.TrialModel.__table__
    rows = [
        {
            "study_id": study,
            "number": trial.number,
            "state": TrialState.RUNNING,  # until all of it is written
            "datetime_start": to_utc(trial.datetime_start),
        }
        for trial in trials
    ]
    with tables.writing() as connection:
        connection.execute(table.insert(), rows)
        numbers = [trial.number for trial in trials]
        added = table.select().where(table.c.study_id == study, table.c.number.in_(numbers))
        ids = {row.number: row.trial_id for row in connection.execute(added)}
        not_written = tables.write(connection, {ids[trial.number]: _changes(trial) for trial in trials})
        assert not not_written, "another transaction changed trials that it cannot see yet"
    return [ids[number] for number in numbers]


def _changes(trial: FrozenTrial) -> Changes:
    """Everything in a trial, as changes to an empty one."""
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
