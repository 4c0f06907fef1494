"""Writes notes and plots of a study to the database in one transaction.

optuna-dashboard's own functions write a note or a plot as a dozen attributes with a transaction each. Here they write to a
draft, and the differences go into the database at once: nobody reads half a note, and a running search is held up only briefly.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import optuna

from search.storage.tables import tables_of


class Draft:
    """The system attributes of a study. optuna-dashboard's functions use it as storage, study and trial."""

    def __init__(self, study_id: int, attributes: Mapping[str, Any]) -> None:
        self.attributes = dict(attributes)
        self.storage = self.study = self._storage = self
        self._study_id, self._trial_id = study_id, None

    def of_trial(self, trial_id: int | None) -> Draft:
        """The same attributes, seen as a trial of the study (None: as the study)."""
        view = Draft(self._study_id, {})
        view.attributes, view._trial_id = self.attributes, trial_id  # type: ignore[assignment]
        return view

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """The method of a storage."""
        assert study_id == self._study_id, "a draft belongs to one study"
        return self.attributes

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """The method of a storage."""
        assert study_id == self._study_id, "a draft belongs to one study"
        self.attributes[key] = value


@contextlib.contextmanager
def drafting(storage: optuna.storages.BaseStorage, study_id: int) -> Iterator[Draft]:
    """A draft of the study's attributes. The differences are written at the end; until then nobody else can write: be quick."""
    tables = tables_of(storage)
    if tables is None:  # a journal, or another version of Optuna's tables: one attribute at a time
        before = storage.get_study_system_attrs(study_id)
        draft = Draft(study_id, before)
        yield draft
        for key, value in _changed(before, draft.attributes).items():
            storage.set_study_system_attr(study_id, key, value)
        return
    with tables.writing() as connection:
        before = tables.study_attributes(connection, study_id)
        draft = Draft(study_id, before)
        yield draft
        new = _changed(before, draft.attributes)
        tables.update_study_attributes(connection, study_id, new, deleted=before.keys() - draft.attributes.keys())


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in after.items() if key not in before or before[key] != value}
