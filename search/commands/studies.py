"""Opening the study that a command is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search.errors import DefinitionError

if TYPE_CHECKING:
    import optuna


def open_study(study: str, storage: str, *, curves: bool = True) -> tuple[optuna.Study, optuna.storages.BaseStorage]:
    """An existing study, by name or path of its file, and its storage, for reading.

    Without the `curves` of ended trials it is faster on SQLite.

    Raises:
        DefinitionError: there is no such study, or it was not made by this tool.
    """
    from search.commands.console import print_note
    from search.definition.study_file import study_name
    from search.storage.read_only import open_read_only
    from search.study.identity import require_usable
    from search.study.study import load_study

    name = study_name(study)
    opened = open_read_only(storage, curves=curves)
    found = load_study(opened, name, print_note)
    require_usable(found)
    return found, opened


def get_trial(study: optuna.Study, number: int) -> optuna.trial.FrozenTrial:
    """A trial by its number.

    Raises:
        DefinitionError: the study has no such trial.
    """
    from search.study.trials import trial_with

    trials = study.get_trials(deepcopy=False)
    found = trial_with(trials, number)
    if found is None:
        raise DefinitionError(
            f"the study `{study.study_name}` has no trial {number}",
            expected=f"0 to {trials[-1].number}" if trials else "a study with trials",
            hint=f"list them with `python -m search trials {study.study_name}`",
        )
    return found
