"""The folder of a study under `--runs`, found by the study's id.

It holds the study's trials, logs and report, and the folder of its confirmation. `study.json` in it names its owner. Usually
it has the study's name; if that folder belongs to another study of the name, eight digits of the id are added.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from data_utils.errors import ExplainedError
from data_utils.files import write_atomically
from search.definition.trial_attributes import attribute
from search.definition.yaml_text import parse_yaml
from search.errors import DefinitionError, os_errors
from search.storage.url import parse_url
from search.study.companion import study_of
from search.study.study_id import SHORT, study_id
from search.study.trials import settings_differences, trial_settings

MARKER = "study.json"
TRIALS = "trials"
CONFIRM = "confirm"
_CONTENTS = (TRIALS, "logs", CONFIRM)
"""What a study's folder of an earlier version, which has no marker, may hold."""


@dataclass(frozen=True)
class Marker:
    """The owner of a folder."""

    id: str
    study: str
    """Its name when the folder was made."""

    storage: str
    """Its database, without a password. A file's path is relative to the folder if both lie in one project folder, so that it
    can be moved or copied as a whole."""


@dataclass(frozen=True)
class StudyFolder:
    """The folder of one study."""

    path: Path
    is_marked: bool
    """Whether it carries the study's id. If not, its files may be those of another study of the same name."""

    def of_trial(self, trial: FrozenTrial) -> Path:
        """The folder of a trial's files, `trials/0007`, if they are this study's; else one that does not exist."""
        folder = trial_folder(self.path, trial.number)
        return folder if self.is_marked or is_of_trial(folder, trial) else self.path / TRIALS / "none"

    def files_of(self, trial: FrozenTrial) -> list[Path]:
        """The existing files of a trial."""
        folder = self.of_trial(trial)
        return sorted(folder.iterdir()) if folder.is_dir() else []


def trial_folder(folder: Path, trial: int) -> Path:
    """The folder of a trial in its study's folder."""
    return folder / TRIALS / f"{trial:04d}"


def find_folder(runs: Path, study: optuna.Study) -> StudyFolder:
    """The folder of a study or of a companion, for reading. It need not exist."""
    parent, name = _place(runs, study)
    return _find(parent, name, study_id(study))


def _place(runs: Path, study: optuna.Study) -> tuple[Path, str]:
    """The folder around a study's folder, and the name that is tried first."""
    searched = study_of(study)
    if searched is None:
        return runs, study.study_name
    name, own = searched
    return _find(runs, name, own).path, CONFIRM


def _find(parent: Path, name: str, own: str | None) -> StudyFolder:
    usual = parent / name
    if own is None:  # of an earlier version
        return StudyFolder(usual if not (usual / MARKER).exists() else parent / f"{name}-unknown", False)
    spare = parent / f"{name}-{own[:SHORT]}"
    for folder in (usual, spare, *sorted(marker.parent for marker in parent.glob(f"*/{MARKER}"))):
        marker = read_marker(folder)
        if marker is not None and marker.id == own:
            return StudyFolder(folder, True)
    return StudyFolder(spare if (usual / MARKER).exists() else usual, False)


def read_marker(folder: Path) -> Marker | None:
    """The owner of a folder; None if it names none that can be read."""
    try:
        stored = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        return Marker(id=str(stored["id"]), study=str(stored["study"]), storage=str(stored["storage"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def claim_folder(runs: Path, study: optuna.Study, url: str, *, apart: bool = False) -> tuple[StudyFolder, list[str]]:
    """The folder of a study with an id, for writing; it is made if there is none.

    A folder of an earlier version is taken over if its trials are this study's.

    Args:
        apart: take over no folder with trials, for a copy, whose trials are those of its original.

    Returns:
        The folder, and what a person should know, in sentences.

    Raises:
        DefinitionError: the folder has the name of a file.
        ResourceError: it cannot be written.
    """
    own = study_id(study)
    assert own is not None
    parent, name = _place(runs, study)
    found = _find(parent, name, own)
    with os_errors("the study's folder cannot be written", where=found.path, hint="name another one with --runs"):
        if found.is_marked:
            _write_marker(found.path, _marker(own, study, url, found.path, runs))  # the database may have moved
            return found, []
        notices: list[str] = []
        usual, spare = parent / name, parent / f"{name}-{own[:SHORT]}"
        if not (usual / MARKER).exists() and may_take_over(usual, study, apart=apart):
            notices = _set_strangers_aside(usual, study)
            if _mark_first(usual, _marker(own, study, url, usual, runs)):
                return StudyFolder(usual, True), notices
        owner = read_marker(usual)
        whose = (
            "another study of this name"
            if owner is None
            else f"another study, `{owner.study}` in {owning_storage(usual) or owner.storage}"
        )
        notices.append(f"{usual} holds files of {whose}: they are left alone, and this study's files go to {spare}")
        _mark_first(spare, _marker(own, study, url, spare, runs))
        return StudyFolder(spare, True), notices


def require_free_folder(runs: Path, study: str, database: Path | None) -> None:
    """Checks that the study's folder is no existing file, and none of the files that the database uses.

    Raises:
        DefinitionError: it is.
    """
    folder = runs / study
    files = [f"{database}{ending}" for ending in ("", "-wal", "-shm", "-journal") if database is not None]
    is_database = os.path.realpath(folder).casefold() in {os.path.realpath(file).casefold() for file in files}
    if is_database or (folder.exists() and not folder.is_dir()):
        raise _file_error(folder)


def _file_error(folder: Path) -> DefinitionError:
    hint = "give the study another name with `--as NAME`"
    return DefinitionError("the study's folder has the name of a file", where=str(folder), hint=hint)


def may_take_over(folder: Path, study: optuna.Study, *, apart: bool = False) -> bool:
    """Whether a folder without an owner can be this study's: it holds no trials, or at least one that is the study's own."""
    if folder.exists() and not folder.is_dir():
        raise _file_error(folder)
    if not any((folder / name).exists() for name in _CONTENTS):
        return True
    if apart:
        return False
    trials = _by_number(study.get_trials(deepcopy=False))
    return any(_is_known(one, trials) for one in trial_folders(folder) if (one / "config.yaml").exists())


def _set_strangers_aside(folder: Path, study: optuna.Study) -> list[str]:
    """Renames the folders of trials that are not this study's. Returns a sentence if there are any."""
    trials = _by_number(study.get_trials(deepcopy=False))
    strangers = [one for one in trial_folders(folder) if not _is_known(one, trials)]
    for one in strangers:
        one.rename(one.with_name(f"{one.name}.other-{uuid.uuid4().hex[:4]}"))
    if not strangers:
        return []
    numbers = ", ".join(one.name for one in strangers[:5]) + (", ..." if len(strangers) > 5 else "")
    return [f"{folder / TRIALS} also holds trials of another study ({numbers}): kept as NUMBER.other-..., and not used"]


def trial_folders(folder: Path) -> list[Path]:
    """The folders of trials in a study's folder, without those of another study's trials, which were set aside."""
    return sorted(one for one in (folder / TRIALS).glob("*") if one.name.isdecimal() and one.is_dir())


def _by_number(trials: Sequence[FrozenTrial]) -> dict[int, FrozenTrial]:
    return {trial.number: trial for trial in trials}


def _is_known(folder: Path, trials: Mapping[int, FrozenTrial]) -> bool:
    trial = trials.get(int(folder.name))
    return trial is not None and is_of_trial(folder, trial)


def is_of_trial(folder: Path, trial: FrozenTrial) -> bool:
    """Whether the files in a folder can be a trial's: their settings and seed are those stored with the trial.

    A folder without settings belongs to a trial that has not ended; its checkpoint is checked before it is used.
    """
    if trial.state == TrialState.WAITING:
        return False
    try:
        text = (folder / "config.yaml").read_text(encoding="utf-8")
        written = parse_yaml(text, str(folder))
        stored = trial_settings(trial)
    except FileNotFoundError:
        return True
    except (OSError, ValueError, DefinitionError, TypeError, AttributeError):  # another program wrote it
        return False
    is_same_seed = isinstance(written, dict) and written.get("seed") == attribute(trial, "seed")
    return is_same_seed and not settings_differences(written, stored)


def copy_trials(source: Path, target: Path, trials: Sequence[FrozenTrial]) -> None:
    """Copies the files of trials from the folder of one study to that of another. Files of other trials are left out.

    Raises:
        OSError: they cannot be copied.
    """
    for trial in trials:
        folder = trial_folder(source, trial.number)
        if folder.is_dir() and is_of_trial(folder, trial):
            shutil.copytree(folder, trial_folder(target, trial.number), dirs_exist_ok=True)


def owning_storage(folder: Path) -> str | None:
    """The database that the owner of a folder was last written in, without a password; None if unknown."""
    marker = read_marker(folder)
    if marker is None:
        return None
    try:
        place = parse_url(marker.storage)
    except ExplainedError:  # a later version wrote it
        return None
    if place.path is None or place.path.is_absolute():
        return marker.storage
    return f"{place.kind}:///{os.path.normpath(folder.absolute() / place.path)}"


def _marker(own: str, study: optuna.Study, url: str, folder: Path, runs: Path) -> Marker:
    place = parse_url(url)
    if place.path is None:
        return Marker(own, study.study_name, place.redacted)
    path, project = place.path.absolute(), runs.absolute().parent
    relative = path.is_relative_to(project) and project != project.parent
    return Marker(own, study.study_name, f"{place.kind}:///{os.path.relpath(path, folder.absolute()) if relative else path}")


def _write_marker(folder: Path, marker: Marker) -> None:
    if read_marker(folder) != marker:
        write_atomically(folder / MARKER, _as_json(marker))


def _mark_first(folder: Path, marker: Marker) -> bool:
    """Writes a marker unless there is one already: of two studies that begin at the same time, one gets the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{MARKER}.{uuid.uuid4().hex[:8]}"
    try:
        temporary.write_text(_as_json(marker), encoding="utf-8")
        with contextlib.suppress(FileExistsError):
            os.link(temporary, folder / MARKER)
            return True
    except OSError:  # a file system without hard links
        with contextlib.suppress(FileExistsError), (folder / MARKER).open("x", encoding="utf-8") as stream:
            stream.write(_as_json(marker))
            return True
    finally:
        temporary.unlink(missing_ok=True)
    current = read_marker(folder)
    return current is not None and current.id == marker.id


def _as_json(marker: Marker) -> str:
    return json.dumps(dataclasses.asdict(marker), ensure_ascii=False, indent=2) + "\n"
