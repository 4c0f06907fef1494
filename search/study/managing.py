"""Deletes and renames studies, with what belongs to them: the confirmation, and the files under `--runs`.

The record of openings of test signers stays: signers that were opened once are known to be opened for ever.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna

from data_utils.wording import counted
from search.errors import DefinitionError, ResourceError, os_errors
from search.storage.bulk import remove_study, rename_study
from search.storage.errors import database_errors
from search.storage.leases.choice import lease_of
from search.storage.opening import opened_storage
from search.storage.tables import tables_of
from search.study.artifacts import ARTIFACTS, artifact_folder, our_artifacts
from search.study.checked import Notify
from search.study.claiming import claim, folder_to_write
from search.study.companion import companion_name, companion_to_write, find_companion, is_companion, link_companion
from search.study.folder import claim_folder, find_folder
from search.study.identity import require_usable
from search.study.opening_record import add_missing
from search.study.openings import openings
from search.study.presence import all_studies, study_names
from search.study.study import load_study
from search.study.study_id import bind_id, study_id
from search.study.written_files import delete_each, delete_written


@dataclass(frozen=True)
class Belongings:
    """A study and all that goes with it."""

    study: str
    trials: int
    companion: str | None
    trainings: int
    folders: tuple[Path, ...]
    """Those under `--runs` that carry the id of the confirmation, and of the study, which comes last."""

    unmarked: Path | None
    """A folder of the study's name that does not carry its id: its files may be another study's."""

    artifacts: tuple[Path, ...]
    """The files that this tool has added to the dashboard's pages, without those that another study of the database shows."""

    openings: int
    """How often its test signers were opened, which stays on record."""

    def lines(self) -> list[str]:
        """What goes with the study, as text."""
        lines = [f"study `{self.study}` with {counted(self.trials, 'trial')}"]
        if self.companion is not None:
            lines.append(f"its confirmation `{self.companion}` with {counted(self.trainings, 'training')}")
        if self.folders:
            lines.append(f"its files in {self.folders[-1]}")
        if self.artifacts:
            lines.append(f"its {counted(len(self.artifacts), 'file')} for optuna-dashboard in {self.artifacts[0].parent}")
        return lines

    def kept(self) -> list[str]:
        """What stays when the study is deleted, as text."""
        lines = []
        if self.unmarked is not None:
            lines.append(f"{self.unmarked}, which does not carry the id of this study")
        if self.openings:
            times = "once" if self.openings == 1 else f"{self.openings} times"
            lines.append(f"the record that its test signers were opened {times}")
        return lines


def belongings(name: str, url: str, runs: Path, notify: Notify) -> Belongings:
    """What belongs to a study.

    Raises:
        DefinitionError: there is no such study, or this tool did not make it.
        ResourceError: the database cannot be used.
    """
    with database_errors(url), opened_storage(url, create=False) as storage:
        return _belongings(_load(storage, name, notify), storage, url, runs)


def _load(storage: optuna.storages.BaseStorage, name: str, notify: Notify) -> optuna.Study:
    if is_companion(name):
        raise DefinitionError(
            f"`{name}` is a confirmation, and belongs to its search", hint=f"name the search: {name.rpartition('/')[0]}"
        )
    study = load_study(storage, name, notify)
    require_usable(study)
    return study


def _belongings(study: optuna.Study, storage: optuna.storages.BaseStorage, url: str, runs: Path) -> Belongings:
    companion = find_companion(study, storage)
    own = [study] if companion is None else [companion, study]
    folders: list[Path] = []
    with contextlib.suppress(DefinitionError):  # the folder is another study's, or that of the original of this copy
        folder_to_write(runs, study, url)
        folders = [found.path for found in (find_folder(runs, one) for one in own) if found.is_marked]
    usual = runs / study.study_name
    return Belongings(
        study=study.study_name,
        trials=len(study.get_trials(deepcopy=False)),
        companion=None if companion is None else companion.study_name,
        trainings=0 if companion is None else len(companion.get_trials(deepcopy=False)),
        folders=tuple(folders),
        unmarked=usual if not folders and usual.exists() else None,
        artifacts=_artifacts({one._study_id for one in own}, storage, runs) if folders else (),
        openings=len(openings(study)),
    )


def _artifacts(own: set[int], storage: optuna.storages.BaseStorage, runs: Path) -> tuple[Path, ...]:
    tables = tables_of(storage)
    if tables is None:  # the dashboard adds none to a journal: those there are another study's
        return ()
    ids: dict[bool, set[str]] = {True: set(), False: set()}
    studies = all_studies(storage)
    with tables.reading() as connection:
        for study in studies:
            for attributes in tables.trial_attributes(connection, study._study_id, ARTIFACTS).values():
                ids[study._study_id in own] |= our_artifacts(attributes).keys()
    files = [artifact_folder(runs) / id for id in sorted(ids[True] - ids[False])]
    return tuple(file for file in files if file.is_file())


def delete_study(name: str, url: str, runs: Path, notify: Notify) -> tuple[Belongings, list[str]]:
    """Deletes a study, its confirmation and its files. Returns what there was, and what files could not be deleted and why.

    Files go first and the study last: what was interrupted can be repeated.

    Raises:
        DefinitionError: same as for `belongings`.
        ResourceError: a run works on the study, or the database cannot be written.
    """
    with _alone(name, url), database_errors(url), opened_storage(url, create=False) as storage:
        study = _load(storage, name, notify)
        found = _belongings(study, storage, url, runs)
        add_missing(study, storage, runs)
        problems = [text for folder in found.folders for text in delete_written(folder)] + delete_each(found.artifacts)
        for one in (found.companion, name):
            if one is not None:
                remove_study(storage, storage.get_study_id_from_name(one))
    return found, problems


def rename(name: str, new: str, url: str, runs: Path, notify: Notify) -> Path:
    """Gives a study, its confirmation and its folder a new name. It keeps its id, by which all are found. Returns the folder.

    Raises:
        DefinitionError: there is no such study, or the new name is taken.
        ResourceError: a run works on the study, or the database or the files cannot be written.
    """
    with _alone(name, url, new), database_errors(url):
        with opened_storage(url, create=False) as storage:
            study = _load(storage, name, notify)
            if new in study_names(storage):
                raise DefinitionError(f"there is a study `{new}` already", hint="choose another name")
            if (runs / new).exists():
                raise DefinitionError("the folder of the new name is taken", where=str(runs / new), hint="choose another name")
            claim(study, storage, runs, url)
            own, companion = study_id(study), find_companion(study, storage)
            assert own is not None
            rename_study(storage, name, new)
            if companion is not None:
                rename_study(storage, companion.study_name, companion_name(new, own, study_names(storage)))
        with opened_storage(url, create=False) as storage:
            study = load_study(storage, new, notify)
            bind_id(study, own)
            folder = find_folder(runs, study)
            hint = "the study keeps it under the old name"
            with os_errors("the study's folder cannot be renamed", where=folder.path, hint=hint):
                folder.path.rename(runs / new)
            claimed, _ = claim_folder(runs, study, url)
            if (companion := find_companion(study, storage)) is not None:
                link_companion(companion, study)
                claim_folder(runs, companion, url)
            return claimed.path


@contextlib.contextmanager
def _alone(name: str, url: str, *others: str) -> Iterator[None]:
    """While the block lasts, no run works on a study, on its confirmation or under these other names, and none can begin.

    Raises:
        DefinitionError: there is no such study, or this tool did not make it.
        ResourceError: a run does, or the database cannot be used.
    """
    names = {*others, *_names(name, url)}
    with contextlib.ExitStack() as stack, database_errors(url):
        for one in sorted(names):  # two commands that need the same turns take them in the same order
            lease = stack.enter_context(lease_of(url, one))
            stack.enter_context(lease.wait_for_turn())
            if lease.observer.num_runs() > 1:
                raise ResourceError(f"a run is working on the study `{one}`", hint=f"`islr-search stop {name}` stops it")
            stack.callback(lease.forget_study)
        if not names.issuperset(_names(name, url)):
            raise ResourceError(f"the confirmation of `{name}` has just begun or got another name", hint="try again")
        yield


def _names(name: str, url: str) -> Sequence[str]:
    """The names of a study and of its confirmation, also of one that is yet to begin."""
    with database_errors(url), opened_storage(url, create=False) as storage:
        study = _load(storage, name, lambda text: None)  # whoever asks for the names loads the study again
        if study_id(study) is not None:
            return name, companion_to_write(study, storage)[0]
        companion = find_companion(study, storage)
        return name, companion_name(name, "", ()) if companion is None else companion.study_name
