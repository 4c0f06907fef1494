"""Reads the list of clips of a data set in Kaggle's layout: `train.csv`, or the only other CSV file with the same columns.

path            the clip's file; relative to the list, or from another machine: what comes before the release is ignored
sign            its word
participant_id  its signer; without the column, the folder under train_landmark_files, or one signer for all clips
sequence_id     its name; without the column, the name of its file
"""

from __future__ import annotations

import contextlib
import csv
import posixpath
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from data_utils.errors import DataError
from data_utils.folder import check_plain_file
from data_utils.importing.csv_list import (
    COPY_AGAIN,
    MISSING_VALUES,
    ClipList,
    Line,
    Locator,
    find_columns,
    header_of,
    inner_names,
    nfc,
    read_list,
)
from data_utils.importing.importing import check_name
from data_utils.importing.record import ListedClip
from data_utils.wording import suggest

LIST_NAME = "train.csv"
UNKNOWN_SIGNER = "unknown"
"""Signer of all clips of a list that names none. Were each clip a signer, the same person could be in two parts of a split."""

_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "path": ("path",),
    "word": ("sign", "word", "gloss", "label"),
    "signer": ("participant_id", "participant", "signer_id", "signer"),
    "sequence_id": ("sequence_id",),
}
"""Names of the columns; the first that exists is read."""

_NEEDED = {"path", "word"}
_EXPECTED = "path, participant_id, sequence_id, sign"
_LANDMARK_FOLDER = "train_landmark_files"


def find_list(source: Path) -> ClipList:
    """The list of a data set: `train.csv`, whatever else the folder contains.

    Raises:
        DataError: there is none, or it is of the fingerspelling release.
    """
    path = source / LIST_NAME
    if not path.exists():
        path = _only_list(source)
    check_plain_file(path)
    found = read_list(path, path.read_bytes(), _COLUMNS)
    if _is_fingerspelling(found.header):
        raise _other_release(path, found.header)
    if not found.column.keys() >= _NEEDED:
        got, expected = ", ".join(found.header) or "an empty file", f"{_EXPECTED}; at least path and sign"
        raise DataError("the list lacks columns", file=path, got=got, expected=expected)
    return found


def _only_list(source: Path) -> Path:
    """The list of a data set without `train.csv`."""
    heads = {path: _head(path) for path in sorted(source.glob("*.csv")) if path.is_file() and not path.name.startswith(".")}
    usable = [path for path, head in heads.items() if find_columns(head, _COLUMNS).keys() >= _NEEDED]
    if len(usable) == 1:
        return usable[0]
    for path, head in heads.items():
        if not usable and _is_fingerspelling(head):
            raise _other_release(path, head)
    hint = "name the folder with the unpacked files of the competition asl-signs, or of a data set in its layout"
    got = f"several lists: {', '.join(path.name for path in usable)}" if usable else None
    raise DataError("this is not Kaggle's layout: a file is missing", file=source, got=got, expected=LIST_NAME, hint=hint)


def _head(path: Path) -> tuple[str, ...]:
    """The names of the columns of any CSV file; empty if it is none."""
    with contextlib.suppress(csv.Error), path.open(encoding="utf-8-sig", errors="replace") as stream:
        return header_of(stream.readline())
    return ()


def _is_fingerspelling(head: Collection[str]) -> bool:
    return "phrase" in head and "sign" not in head


def _other_release(path: Path, head: Collection[str]) -> DataError:
    return DataError(
        "this is Kaggle's other release, asl-fingerspelling: its sequences are phrases spelled letter by letter",
        file=path,
        got=", ".join(head),
        expected="asl-signs, with one sign per clip",
    )


def listed_clips(
    found: ClipList, words: Collection[str] | None, signer: str | None, notify: Callable[[str], None]
) -> list[ListedClip]:
    """The clips in a list.

    Args:
        words: the dictionary; None if there is none. Words are equal if they are in Unicode form NFC.
        signer: who signs all clips, if the list does not say it.
        notify: receives a line about what the list does not say.

    Raises:
        DataError: at the first fault.
    """
    if signer is not None and "signer" in found.column:
        got = f"--signer {signer}, and a column `{found.column['signer']}`"
        raise DataError("the list itself names the signers", file=found.path, got=got, hint="leave out --signer")
    by_form = None if words is None else {nfc(word): word for word in words}
    rows = list(_rows(found, by_form))
    if not rows:
        raise DataError("the list contains no clip", file=found.path, hint=COPY_AGAIN)
    if "signer" not in found.column:
        rows = _with_signers(rows, signer, notify)
    clips: dict[tuple[str, str], ListedClip] = {}
    files: dict[str, int] = {}
    locate = Locator(found.path.parent)
    for row in rows:
        check_name(row.signer, "a signer", file=found.path if signer is None else "--signer")
        check_name(row.name, "a clip", file=found.path, may_end_in_swap=True)
        clip = ListedClip(row.signer, row.name, row.word, locate(row.file))
        if (clip.signer, clip.name) in clips:
            raise row.line.fault("a signer has a sequence twice", got=f"{clip.name} of {clip.signer}")
        file = posixpath.normpath(clip.file)
        if file in files:
            raise row.line.fault("a file is listed twice", got=f"{file}, also in line {files[file]}", hint=COPY_AGAIN)
        clips[clip.signer, clip.name] = clip
        files[file] = row.line.number
    return list(clips.values())


@dataclass
class _Row:
    line: Line
    file: str
    signer: str
    name: str
    word: str


def _rows(found: ClipList, by_form: Mapping[str, str] | None) -> Iterator[_Row]:
    column = found.column
    hint = "fill it in; or remove the column `{}`: then {}"
    signer_hint = hint.format(column.get("signer"), "the folders or --signer NAME tell the signer")
    name_hint = hint.format(column.get("sequence_id"), "clips are named after their files")
    for line in found.lines():
        file = line.file_path()
        names = inner_names(file)
        if not names or ".." in names:
            expected = f"{_LANDMARK_FOLDER}/<participant>/<sequence>.parquet"
            raise line.fault("a path in the list is outside the release", got=file, expected=expected)
        word = line.text("word")
        if by_form is not None:
            if word not in by_form:
                raise line.fault("the dictionary lacks a sign of the list", got=word, hint=suggest(word, by_form))
            word = by_form[word]
        signer = line.text("signer", empty=MISSING_VALUES, hint=signer_hint) if "signer" in column else ""
        name = nfc(PurePosixPath(file).stem)
        if "sequence_id" in column:
            name = line.text("sequence_id", empty=MISSING_VALUES, hint=name_hint)
        yield _Row(line, file, signer, name, word)


def _with_signers(rows: list[_Row], signer: str | None, notify: Callable[[str], None]) -> list[_Row]:
    """The rows of a list without signers: `signer`, the folder under train_landmark_files, or one signer for all."""
    if signer is None and (folders := _participants(rows)) is not None:
        notify(f"the list names no signers: the folders under {_LANDMARK_FOLDER} are taken as signers")
        signers = folders
    else:
        if signer is None:
            notify(
                f"the list names no signers: all clips count as one, `{UNKNOWN_SIGNER}`; "
                "add a column `participant_id`, or give --signer NAME if it is one person"
            )
        signers = [UNKNOWN_SIGNER if signer is None else nfc(signer)] * len(rows)
    names = {(one, row.name) for one, row in zip(signers, rows, strict=True)}
    for one, row in zip(signers, rows, strict=True):
        row.signer = one
        if len(names) < len(rows):  # files of equal names in different folders
            row.name = f"{row.word}__{row.name}"
    return rows


def _participants(rows: Sequence[_Row]) -> list[str] | None:
    """For each row the folder under train_landmark_files; None if there is none, or if the folders are words."""
    folders = []
    for row in rows:
        parts = row.file.split("/")
        place = parts.index(_LANDMARK_FOLDER) + 1 if _LANDMARK_FOLDER in parts else len(parts)
        if place != len(parts) - 2:
            return None
        folders.append(nfc(parts[place]))
    return folders if any(folder != row.word for folder, row in zip(folders, rows, strict=True)) else None
