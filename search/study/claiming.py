"""What a command that writes to a study does first: the study gets its id, its folder, and what an earlier version has left."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import optuna

from search.errors import os_errors
from search.storage.mentions import may_hold_study
from search.storage.url import parse_url
from search.study.companion import find_companion, link_companion
from search.study.folder import StudyFolder, claim_folder, copy_trials, find_folder, owning_storage
from search.study.opening_record import add_missing
from search.study.study_id import ID, assign_id, bind_id, is_foreign_copy, study_id


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
    if (own := study_id(study)) is not None:
        bind_id(study, own)
    if own is None:
        notices.append(_assign_first_id(study, storage))
    elif (original := _original(find_folder(runs, study), study, url)) is not None:
        notices.append(_separate(study, storage, runs, url, original))
    folder, more = claim_folder(runs, study, url)
    add_missing(study, storage, runs)
    return Claim(folder, (*notices, *more))


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
        is_same = there.path.resolve() == here.path.resolve()
        return None if is_same or not may_hold_study(there, ID, own) else there.name
    if there.path is not None:
        return there.name if may_hold_study(there, ID, own) else None
    names = [urlsplit(place.redacted).path for place in (there, here)]
    return there.name if here.path is not None or there.kind != here.kind or names[0] != names[1] else None


def _separate(study: optuna.Study, storage: optuna.storages.BaseStorage, runs: Path, url: str, original: str) -> str:
    """Gives a copy, and the copy of its companion, new ids and folders with the files of their trials."""
    companion, before = find_companion(study, storage), find_folder(runs, study)
    companion_before = None if companion is None else find_folder(runs, companion)
    assign_id(study)
    copy_files(before, study, runs, url)
    if companion is not None and companion_before is not None:
        assign_id(companion)
        link_companion(companion, study)
        copy_files(companion_before, companion, runs, url)
    return (
        f"this database is a copy, and `{study.study_name}` also lives in {original}: it gets an id of its own, and copies of "
        f"its files in {find_folder(runs, study).path}"
    )


def copy_files(source: StudyFolder, study: optuna.Study, runs: Path, url: str) -> None:
    """Copies the files of a study's trials from the folder of its original to its own.

    Raises: same as `claim_folder`.
    """
    folder, _ = claim_folder(runs, study, url, apart=True)
    with os_errors("the files of trials cannot be copied", where=folder.path, hint="is the disk full or read-only?"):
        copy_trials(StudyFolder(source.path, is_marked=False), folder, study.get_trials(deepcopy=False))
