"""What a command that writes to a study does first: the study gets its id, its folder, and what an earlier version has left."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import optuna

from search.errors import DefinitionError, os_errors
from search.storage.other_database import may_hold_study
from search.storage.url import is_same_file, parse_url
from search.study.companion import find_companion, link_companion
from search.study.folder import StudyFolder, claim_folder, copy_trials, find_folder, may_take_over, owning_storage
from search.study.opening_record import add_missing
from search.study.presence import study_names
from search.study.study_id import ID, assign_id, bind_id, is_foreign_copy, study_id

_ORIGINAL = "original"
"""The attribute that says where the files of a copy's original are, until they are copied."""


@dataclass(frozen=True)
class Claim:
    """A study's folder, and what a person should know, in sentences."""

    folder: StudyFolder
    notices: tuple[str, ...]


def claim(study: optuna.Study, storage: optuna.storages.BaseStorage, runs: Path, url: str) -> Claim:
    """Makes sure that a study has an id and a folder that carries it. Only in the study's turn.

    A study of an earlier version gets an id and keeps its folder, its confirmation and its openings. A copy that another
    program made, of the study or of the whole database, gets an id of its own, so that it shares no file with its original.

    Raises: same as `claim_folder` and `find_companion`.
    """
    notices = []
    own = study_id(study)
    if own is None:
        notices.append(_assign_first_id(study, storage))
    else:
        bind_id(study, own)
        if (original := _original(find_folder(runs, study), study, url)) is not None:
            notices.append(_separate(study, storage, runs, url, original))
    _copy_from_original(study, storage, runs, url)
    folder, more = claim_folder(runs, study, url)
    add_missing(study, storage, runs)
    return Claim(folder, (*notices, *more))


def folder_to_write(runs: Path, study: optuna.Study, url: str) -> Path:
    """The folder for a file about a study, for a command that leaves the study as it is.

    Raises:
        DefinitionError: the folder is another study's, or that of the study that this one is a copy of.
    """
    found = find_folder(runs, study)
    is_own = _original(found, study, url) is None if found.is_marked else may_take_over(found.path, study)
    if not is_own:
        raise DefinitionError(
            f"the folder {found.path} belongs to another study",
            hint="name a file with `--output`; the next `run` or `confirm` gives this study a folder of its own",
        )
    return found.path


def _assign_first_id(study: optuna.Study, storage: optuna.storages.BaseStorage) -> str:
    name = study.study_name
    if is_foreign_copy(study):
        assign_id(study)
        return f"`{name}` is a copy that another program made: it gets an id of its own, and no files of its original"
    companion = find_companion(study, storage)
    assign_id(study)
    if companion is not None:
        link_companion(companion, study)
    kept = "its files, its confirmation and its openings" if companion is not None else "its files and its openings"
    return f"`{name}` was made by an earlier version: it gets an id, and keeps {kept} under it"


def _original(found: StudyFolder, study: optuna.Study, url: str) -> str | None:
    """The database that still holds the study if this one is a copy of it, such as a copied file; None if it is none.

    The folder tells where its study was last worked on. A file that is gone has been moved or renamed. Of servers only the kind
    and the name of the database are compared, because one server can have several addresses.
    """
    storage, own = owning_storage(found.path) if found.is_marked else None, study_id(study)
    if storage is None or own is None:
        return None
    there, here = parse_url(storage), parse_url(url)
    if there.path is not None and here.path is not None:
        return None if is_same_file(there.path, here.path) or not may_hold_study(there, ID, own) else there.name
    if there.path is not None:
        return there.name if may_hold_study(there, ID, own) else None
    names = [urlsplit(place.redacted).path for place in (there, here)]
    return there.name if here.path is not None or there.kind != here.kind or names[0] != names[1] else None


def _separate(study: optuna.Study, storage: optuna.storages.BaseStorage, runs: Path, url: str, original: str) -> str:
    """Gives a copy a new id; `_copy_from_original` does the rest, also after it was interrupted."""
    companion = find_companion(study, storage)
    source = {
        "folder": str(find_folder(runs, study).path.absolute()),
        "companion": None if companion is None else companion.study_name,
        "of companion": None if companion is None else str(find_folder(runs, companion).path.absolute()),
    }
    study.set_user_attr(_ORIGINAL, source)
    assign_id(study)
    return (
        f"this database is a copy, and `{study.study_name}` also lives in {original}: it gets an id of its own, and copies of "
        f"its files"
    )


def _copy_from_original(study: optuna.Study, storage: optuna.storages.BaseStorage, runs: Path, url: str) -> None:
    """Links a copy's companion to it and copies the files of the trials of both, if that is still to be done."""
    source = study.user_attrs.get(_ORIGINAL)
    if not isinstance(source, dict):
        return
    copy_files(Path(str(source.get("folder"))), study, runs, url)
    if source.get("companion") in study_names(storage):
        companion = optuna.load_study(study_name=source["companion"], storage=storage)
        if find_companion(study, storage) is None:
            assign_id(companion)
            link_companion(companion, study)
        copy_files(Path(str(source.get("of companion"))), companion, runs, url)
    study.set_user_attr(_ORIGINAL, None)


def copy_files(source: Path, study: optuna.Study, runs: Path, url: str) -> None:
    """Copies the files of a study's trials from the folder of its original, `source`, to its own.

    Raises: same as `claim_folder`.
    """
    folder, _ = claim_folder(runs, study, url, apart=True)
    with os_errors("the files of trials cannot be copied", where=folder.path, hint="is the disk full or read-only?"):
        copy_trials(source, folder.path, study.get_trials(deepcopy=False))
