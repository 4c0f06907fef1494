"""Opening the study that a command is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search.errors import DefinitionError

if TYPE_CHECKING:
    import optuna

    from search.study.checked import CheckedStudy


def open_study(study: str, storage: str) -> tuple[CheckedStudy, optuna.storages.BaseStorage]:
    """An existing study for reading, by name or path of its file, and its storage.

    On SQLite, the curves of ended trials are left out of lists of trials.

    Raises:
        DefinitionError: there is no such study, or it was not made by this tool.
    """
    from search.commands.console import print_note
    from search.definition.study_file import study_name
    from search.storage.read_only import open_read_only
    from search.study.identity import require_usable
    from search.study.study import load_study

    name = study_name(study)
    opened = open_read_only(storage)
    found = load_study(opened, name, print_note)
    require_usable(found)
    return found, opened


def get_trial(study: CheckedStudy, number: int) -> optuna.trial.FrozenTrial:
    """A trial by its number, with its curve. No other trial is read.

    Raises:
        DefinitionError: the study has no such trial.
    """
    found = study.trial(number)
    if found is None:
        count = study._storage.get_n_trials(study._study_id)
        raise DefinitionError(
            f"the study `{study.study_name}` has no trial {number}",
            expected=f"0 to {count - 1}" if count else "a study with trials",
            hint=f"list them with `islr-search trials {study.study_name}`",
        )
    return found
