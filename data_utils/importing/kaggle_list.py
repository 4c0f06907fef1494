"""Reads the list of clips of a data set in Kaggle's layout: `train.csv`, or the only other CSV file with the same columns.

path            the clip's file; relative to the list, or from another machine: what comes before the release is ignored
sign            its word
participant_id  its signer; without the column, the folder under train_landmark_files, or one signer for all clips
sequence_id     its name; without the column, the name of its file
"""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from data_utils.errors import DataError
from data_utils.folder import check_plain_file
from data_utils.importing.importing import FORBIDDEN_CHARACTERS, check_name
from data_utils.importing.record import ListedClip
from data_utils.wording import suggest

LIST_NAME = "train.csv"
COPY_AGAIN = "copy or download it again"
UNKNOWN_SIGNER = "unknown"
"""Signer of all clips of a list that names none. Were each clip a signer, the same person could be in two parts of a split."""

_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "path": ("path",),
    "sign": ("sign", "word", "gloss", "label"),
    "signer": ("participant_id", "participant", "signer_id", "signer"),
    "name": ("sequence_id",),
}
"""Names of the columns; the first that exists is read."""

_EXPECTED = "path, participant_id, sequence_id, sign"
_LANDMARK_FOLDER = "train_landmark_files"
_ABSOLUTE = re.compile(r"/|[A-Za-z]:/")


@dataclass(frozen=True)
class ClipList:
    """The file of a list, its delimiter and its columns."""

    path: Path
    delimiter: str
    column: Mapping[str, str]
    """Name of the column of each kind in `_COLUMNS`; missing kinds are left out."""


def find_list(source: Path) -> ClipList:
    """The list of a data set.

    Raises:
        DataError: there is none, or it is of the fingerspelling release.
    """
    delimiters = {path: _delimiter(path) for path in sorted(source.glob("*.csv")) if not path.name.startswith(".")}
    heads = {path: _head(path, delimiter) for path, delimiter in delimiters.items()}
    for path, head in heads.items():
        if "phrase" in head and "sign" not in head:
            raise DataError(
                "this is Kaggle's other release, asl-fingerspelling: its sequences are phrases spelled letter by letter",
                file=path,
                got=", ".join(head),
                expected="asl-signs, with one sign per clip",
            )
    usable = [path for path, head in heads.items() if not {"path", "sign"} - _columns(head).keys()]
    if source / LIST_NAME in heads:
        path = source / LIST_NAME
    elif len(usable) == 1:
        path = usable[0]
    else:
        hint = "name the folder with the unpacked files of the competition asl-signs, or of a data set in its layout"
        got = f"several lists: {', '.join(path.name for path in usable)}" if usable else None
        raise DataError("this is not Kaggle's layout: a file is missing", file=source, got=got, expected=LIST_NAME, hint=hint)
    if path not in usable:
        got, expected = ", ".join(heads[path]) or "an empty file", f"{_EXPECTED}; at least path and sign"
        raise DataError("the list lacks columns", file=path, got=got, expected=expected)
    return ClipList(path, delimiters[path], _columns(heads[path]))


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
    by_form = None if words is None else {_nfc(word): word for word in words}
    rows = list(_rows(found, by_form))
    if not rows:
        raise DataError("the list contains no clip", file=found.path, hint=COPY_AGAIN)
    if "signer" not in found.column:
        rows = _with_signers(rows, signer, notify)
    clips: dict[tuple[str, str], ListedClip] = {}
    files: dict[str, int] = {}
    locate = _Locator(found.path.parent)
    for row in rows:
        check_name(row.signer, "a signer", file=found.path)
        check_name(row.name, "a clip", file=found.path, may_end_in_swap=True)
        clip = ListedClip(row.signer, row.name, row.word, locate(row.file))
        line = f"line {row.line}"
        if (clip.signer, clip.name) in clips:
            got = f"{clip.name} of {clip.signer}"
            raise DataError("a signer has a sequence twice", file=found.path, path=line, got=got)
        if clip.file in files:
            raise DataError("a file is listed twice", file=found.path, path=line, got=clip.file, hint=COPY_AGAIN)
        clips[clip.signer, clip.name] = clip
        files[clip.file] = row.line
    return list(clips.values())


@dataclass
class _Row:
    line: int
    file: str
    signer: str
    name: str
    word: str


def _delimiter(path: Path) -> str:
    """What separates the columns of a CSV file: spreadsheets write semicolons where the comma is in numbers, or tabs."""
    check_plain_file(path)
    with path.open(encoding="utf-8-sig", errors="replace") as stream:
        line = stream.readline()
    return max(",;\t", key=line.count)


def _head(path: Path, delimiter: str) -> list[str]:
    """The column names of a CSV file."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            return [name.strip() for name in next(csv.reader(stream, delimiter=delimiter, strict=True), [])]
    except (csv.Error, UnicodeDecodeError) as error:
        raise _not_csv(path, error) from error


def _columns(head: Sequence[str]) -> dict[str, str]:
    found = {kind: next((name for name in names if name in head), None) for kind, names in _COLUMNS.items()}
    return {kind: name for kind, name in found.items() if name is not None}


def _not_csv(path: Path, error: Exception) -> DataError:
    return DataError("the list is not valid CSV in UTF-8", file=path, got=str(error), expected=_EXPECTED)


def _rows(found: ClipList, by_form: Mapping[str, str] | None) -> Iterator[_Row]:
    try:
        with found.path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, delimiter=found.delimiter, strict=True)
            reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
            for fields in reader:
                yield _row(fields, found, reader.line_num, by_form)
    except (csv.Error, UnicodeDecodeError) as error:
        raise _not_csv(found.path, error) from error


def _row(fields: dict[str, str | None], found: ClipList, line: int, by_form: Mapping[str, str] | None) -> _Row:
    place = f"line {line}"
    values = {kind: fields[column] for kind, column in found.column.items()}
    if None in values.values():
        raise DataError("a line of the list is cut short", file=found.path, path=place, hint=COPY_AGAIN)
    if None in fields:  # the reader's key for surplus fields
        raise DataError("a line of the list has too many fields", file=found.path, path=place, hint="quote fields with a comma")
    file = str(values["path"]).strip().replace("\\", "/")
    if not file:
        raise DataError("a line of the list has no path", file=found.path, path=place)
    if ".." in file.split("/") or FORBIDDEN_CHARACTERS.search(file):
        expected = f"{_LANDMARK_FOLDER}/<participant>/<sequence>.parquet"
        raise DataError("a path in the list is outside the release", file=found.path, path=place, got=file, expected=expected)
    word = _nfc(str(values["sign"]))
    if not word:
        raise DataError("a line of the list has no word", file=found.path, path=place)
    if by_form is not None:
        if word not in by_form:
            hint = suggest(word, by_form)
            raise DataError("the dictionary lacks a sign of the list", file=found.path, path=place, got=word, hint=hint)
        word = by_form[word]
    name = values.get("name")
    stem = PurePosixPath(file).stem
    return _Row(line, file, values.get("signer") or "", _nfc(stem) if name is None else name, word)


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
        signers = [UNKNOWN_SIGNER if signer is None else signer] * len(rows)
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
        folders.append(_nfc(parts[place]))
    return folders if any(folder != row.word for folder, row in zip(folders, rows, strict=True)) else None


class _Locator:
    """Finds the file of a path: of an absolute one below the source too, where the release was copied to.

    A file is also found under another Unicode form of its name, which archives made on macOS have.
    """

    def __init__(self, source: Path) -> None:
        self._source = source
        self._skip = 0  # leading components that the latest path does not share with the source

    def __call__(self, file: str) -> str:
        """The path, relative to the source unless the file lies elsewhere on this machine."""
        if not _ABSOLUTE.match(file):
            return file if file.isascii() else self._below_source(file) or file
        if Path(file).exists():
            return file
        parts = file.split("/")
        for skip in (self._skip, *range(1, len(parts))):
            tail = "/".join(parts[skip:])
            if skip and tail and (below := self._below_source(tail)):
                self._skip = skip
                return below
        return "/".join(parts[-3:])  # missing: told as such, with all others

    def _below_source(self, file: str) -> str | None:
        forms = dict.fromkeys((file, *(unicodedata.normalize(form, file) for form in ("NFC", "NFD"))))
        return next((form for form in forms if (self._source / form).exists()), None)


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text.strip())
