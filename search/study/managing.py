"""Deletes and renames studies, with what belongs to them: the confirmation, and the files under `--runs`.

The record of openings of test signers stays: signers that were opened once are known to be opened for ever.
"""

from __future__ import annotations

import contextlib
import re
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
from search.study.checked import Notify
from search.study.claiming import claim, folder_to_write
from search.study.companion import companion_name, find_companion, is_companion, link_companion
from search.study.folder import CONFIRM, MARKER, TRIALS, claim_folder, find_folder
from search.study.identity import require_usable
from search.study.opening_record import add_missing
from search.study.openings import openings
from search.study.presence import study_names
from search.study.study import load_study
from search.study.study_id import bind_id, study_id

_ARTIFACT = "artifacts:"
"""How the keys of attributes begin in which Optuna keeps the artifacts of a trial."""

_TRIAL = re.compile(r"[0-9]+(\.other-[0-9a-f]+)?")


@dataclass(frozen=True)
class Belongings:
    """A study and all that goes with it."""

    study: str
    trials: int
    companion: str | None
    trainings: int
    folder: Path | None
    """Under `--runs`; None if there is none, or if it belongs to another study."""

    artifacts: tuple[str, ...]
    """Names of the files that the dashboard shows of its trials."""

    openings: int
    """How often its test signers were opened, which stays on record."""

    def lines(self) -> list[str]:
        """What goes with the study, as text."""
        lines = [f"study `{self.study}` with {counted(self.trials, 'trial')}"]
        if self.companion is not None:
            lines.append(f"its confirmation `{self.companion}` with {counted(self.trainings, 'training')}")
        if self.folder is not None:
            lines.append(f"its files in {self.folder}")
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
    trials = study.get_trials(deepcopy=False)
    trainings = [] if companion is None else companion.get_trials(deepcopy=False)
    keys = [key for trial in (*trials, *trainings) for key in trial.system_attrs if key.startswith(_ARTIFACT)]
    folder = None
    with contextlib.suppress(DefinitionError):  # it belongs to another study
        folder = folder_to_write(runs, study, url)
    return Belongings(
        study=study.study_name,
        trials=len(trials),
        companion=None if companion is None else companion.study_name,
        trainings=len(trainings),
        folder=folder if folder is not None and folder.exists() else None,
        artifacts=tuple(key.removeprefix(_ARTIFACT) for key in keys),
        openings=len(openings(study)),
    )


def delete_study(name: str, url: str, runs: Path, artifacts: Path, notify: Notify) -> Belongings:
    """Deletes a study, its confirmation and its files. Returns what there was.

    Args:
        artifacts: the folder of the files that the dashboard shows.

    Raises:
        DefinitionError: same as for `belongings`.
        ResourceError: a run works on the study, or the database or the files cannot be written.
    """
    with database_errors(url), opened_storage(url, create=False) as storage:
        study = _load(storage, name, notify)
        found = _belongings(study, storage, url, runs)
        with _alone(url, [one for one in (name, found.companion) if one is not None]):
            add_missing(study, storage, runs)
            for one in (found.companion, name):
                if one is not None:
                    remove_study(storage, storage.get_study_id_from_name(one))
    with os_errors("the files of the study cannot be deleted", where=runs, hint="delete them yourself: `doctor` lists them"):
        if found.folder is not None:
            _delete_files(found.folder)
        for file in found.artifacts:
            (artifacts / file).unlink(missing_ok=True)
    return found


def _delete_files(folder: Path) -> None:
    """Deletes what this tool has written to a study's folder, and the folder unless it holds anything else."""
    for part in (folder / CONFIRM, folder):
        trials = [one for one in (part / TRIALS).glob("*") if _TRIAL.fullmatch(one.name) and one.is_dir()]
        files = [file for one in trials for file in one.iterdir()] + list((part / "logs").glob("*.jsonl"))
        for file in (*files, part / "report.html", part / MARKER):
            file.unlink(missing_ok=True)
        for one in (*trials, part / TRIALS, part / "logs", part):
            with contextlib.suppress(OSError):  # it holds something else, or is not there
                one.rmdir()


def rename(name: str, new: str, url: str, runs: Path, notify: Notify) -> Path:
    """Gives a study, its confirmation and its folder a new name. It keeps its id, by which all are found. Returns the folder.

    Raises:
        DefinitionError: there is no such study, or the new name is taken.
        ResourceError: a run works on the study, or the database or the files cannot be written.
    """
    with database_errors(url), opened_storage(url, create=False) as storage:
        study = _load(storage, name, notify)
        found = _belongings(study, storage, url, runs)
        if new in study_names(storage):
            raise DefinitionError(f"there is a study `{new}` already", hint="choose another name")
        if (runs / new).exists():
            raise DefinitionError("the folder of the new name is taken", where=str(runs / new), hint="choose another name")
        with _alone(url, [one for one in (name, new, found.companion) if one is not None]):
            claim(study, storage, runs, url)
            own, companion = study_id(study), find_companion(study, storage)
            assert own is not None
            rename_study(storage, name, new)
            if companion is not None:
                rename_study(storage, companion.study_name, companion_name(new, own, study_names(storage)))
    with database_errors(url), opened_storage(url, create=False) as storage:
        study = load_study(storage, new, notify)
        bind_id(study, own)
        folder = find_folder(runs, study)
        with os_errors("the study's folder cannot be renamed", where=folder.path, hint="the study keeps it under the old name"):
            folder.path.rename(runs / new)
        claimed, _ = claim_folder(runs, study, url)
        if (companion := find_companion(study, storage)) is not None:
            link_companion(companion, study)
            claim_folder(runs, companion, url)
        return claimed.path


@contextlib.contextmanager
def _alone(url: str, names: Sequence[str]) -> Iterator[None]:
    """While the block lasts, no run works on any of these studies, and none can begin.

    Raises:
        ResourceError: one does.
    """
    with contextlib.ExitStack() as stack:
        for name in names:
            lease = stack.enter_context(lease_of(url, name))
            stack.enter_context(lease.wait_for_turn())
            if lease.observer.num_runs() > 1:
                hint = f"`islr-search stop {names[0]}` stops it"
                raise ResourceError(f"a run is working on the study `{name}`", hint=hint)
        yield
