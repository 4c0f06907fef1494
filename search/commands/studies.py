"""Opening the study that a command is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search.commands.waiting import doing

if TYPE_CHECKING:
    import optuna

    from search.study.checked import CheckedStudy


def chosen_study(study: str | None, storage: str) -> str:
    """The name of the study that a command is about: the given one, or else the latest in the storage, which is then printed.

    Raises:
        DefinitionError: none is given, and the storage holds none.
    """
    from search.commands.console import print_note
    from search.definition.study_file import study_name
    from search.study.latest import latest_in

    if study is not None:
        return study_name(study)
    name, count = latest_in(storage)
    print_note(f"study {name}: {'the only one' if count == 1 else f'the latest of {count:,}'} in the storage")
    return name


def open_study(study: str | None, storage: str) -> tuple[CheckedStudy, optuna.storages.BaseStorage]:
    """An existing study for reading, by name or path of its file, and its storage. Without a name: same as `chosen_study`.

    On SQLite, the curves of ended trials are left out of lists of trials.

    Raises:
        DefinitionError: there is no such study, or it was not made by this tool.
    """
    from search.api import Study
    from search.commands.console import print_note

    doing("reading the study")
    return Study(chosen_study(study, storage), storage=storage, notify=print_note).opened()
