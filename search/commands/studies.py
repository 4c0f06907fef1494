"""The study a command is about, opened."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from search.errors import DefinitionError

if TYPE_CHECKING:
    import optuna


def opened_study(study: str, storage: str) -> optuna.Study:
    return opened_with_storage(study, storage)[0]


def opened_with_storage(study: str, storage: str) -> tuple[optuna.Study, optuna.storages.BaseStorage]:
    from search.storage.opening import open_storage

    return study_and_storage(study, storage, lambda url: open_storage(url, create=False))


def looked_at(study: str, storage: str) -> optuna.Study:
    """To be read only, and without the curves of trials that are over."""
    from search.storage.read_only import open_read_only

    return study_and_storage(study, storage, open_read_only)[0]


def study_and_storage(
    study: str, storage: str, opening: Callable[[str], optuna.storages.BaseStorage]
) -> tuple[optuna.Study, optuna.storages.BaseStorage]:
    """The study, and the storage that holds it."""
    from search.definition.study_file import study_name
    from search.study.identity import require_ours
    from search.study.study import load_study

    name = study_name(study)
    held = opening(storage)
    found = load_study(held, name)
    require_ours(found)
    return found, held


def trial_of(study: optuna.Study, number: int) -> optuna.trial.FrozenTrial:
    trials = study.get_trials(deepcopy=False)
    if number >= len(trials):
        raise DefinitionError(
            f"the study `{study.study_name}` has no trial {number}",
            expected=f"0 to {len(trials) - 1}" if trials else "a study with trials",
            hint=f"`python -m search trials {study.study_name}` lists them",
        )
    return trials[number]
