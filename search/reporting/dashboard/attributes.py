"""What optuna_dashboard shows beside trials, written in one go: notes and plots of a study, files of its trials.

optuna_dashboard writes a note or a plot as a dozen attributes, each in a transaction of its own, and Optuna takes no file for a
trial that is over. Here optuna_dashboard's own functions write to a draft, and what differs then goes into the database in one
transaction, so that nobody reads half a note, and a search that runs waits for moments.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import optuna

from search.storage.tables import tables_of


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
    tables = tables_of(storage)
    if tables is None:  # a journal, or tables of another form: one by one
        before = storage.get_study_system_attrs(study_id)
        draft = Draft(study_id, before)
        yield draft
        for key, value in draft.attributes.items():
            if key not in before or before[key] != value:
                storage.set_study_system_attr(study_id, key, value)
        return
    with tables.writing() as connection:
        before = tables.study_attributes(connection, study_id)
        draft = Draft(study_id, before)
        yield draft
        after = draft.attributes
        new = {key: value for key, value in after.items() if key not in before or before[key] != value}
        tables.change_study(connection, study_id, new, gone=before.keys() - after.keys())


def add_to_trial(storage: optuna.storages.BaseStorage, trial_id: int, attributes: Mapping[str, Any]) -> None:
    """Writes system attributes of a trial, be it over or not.

    Raises:
        UpdateFinishedTrialError: it is over, and the storage takes nothing for it then (a journal).
    """
    tables = tables_of(storage)
    if tables is None:
        for key, value in attributes.items():
            storage.set_trial_system_attr(trial_id, key, value)
        return
    with tables.writing() as connection:
        tables.add_to_trial(connection, trial_id, attributes)


def takes_files(storage: optuna.storages.BaseStorage) -> bool:
    """Whether `add_to_trial` can write to trials that are over: a journal cannot."""
    return tables_of(storage) is not None


def trial_attributes(storage: optuna.storages.BaseStorage, study_id: int, start: str) -> dict[int, dict[str, Any]]:
    """System attributes whose names have this start, by the trial's id, as they are in the database now."""
    tables = tables_of(storage)
    if tables is None:
        trials = storage.get_all_trials(study_id, deepcopy=False)
        found = {t._trial_id: {key: value for key, value in t.system_attrs.items() if key.startswith(start)} for t in trials}
        return {trial: attributes for trial, attributes in found.items() if attributes}
    with tables.reading() as connection:
        return tables.trial_attributes(connection, study_id, start)
