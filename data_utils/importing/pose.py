"""Imports `.pose` files, https://github.com/sign-language-processing/pose, from a folder or a ZIP archive such as a wheel.

    SRC/<signer>/<word>.pose, SRC/<signer>/<word>/<clip>.pose, or any layout with an index

An index is a CSV file with a header that lists one clip per line: its `path`, its signer (column `signer`, else
`signed_language`) and its word (column `word`, else `glosses`, else `words`). Other columns are ignored. That is the layout of
the lexicons of https://github.com/ZurichNLP/spoken-to-signed-translation, where a language stands for a signer.
"""

from __future__ import annotations

import csv
import io
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath

from data_utils.errors import DataError
from data_utils.importing.importing import check_name
from data_utils.importing.pose_file import exists, import_pose_format, names_in, read_bytes, read_clip
from data_utils.importing.record import ImportPlan, ListedClip, make_plan
from data_utils.wording import counted

INDEX_NAME = "index.csv"
"""An index of this name in the source is used without being named."""

_LAYOUTS = "<signer>/<word>.pose, <signer>/<word>/<clip>.pose or an index"
_COLUMNS = {"path": ("path",), "signer": ("signer", "signed_language"), "word": ("word", "glosses", "words")}
"""Names of the columns of an index; the first that exists is read."""


def plan_import(
    source: Path,
    *,
    index: Path | None = None,
    words: Collection[str] | None = None,
    min_signers: int = 1,
    notify: Callable[[str], None] = lambda text: None,
) -> ImportPlan:
    """Plans the import of all clips. Words are numbered in alphabetical order; clips are named `<word>__<file>`.

    A recording belongs to one signer: if an index lists it for others too, those lines are left out, because the same clip
    could otherwise be trained on and validated on.

    Args:
        index: the index; its paths are relative to `source`. By default the file index.csv in the source, if there is one.
        words: only these words.
        min_signers: only words that at least so many signers have.
        notify: receives a line about what was left out.

    Raises:
        DataError: pose-format is not installed, the files have another layout, or a word is missing.
    """
    import_pose_format()
    names = names_in(source)
    found = [name for name in names if PurePosixPath(name).name == INDEX_NAME]
    if index is not None:
        listed = _indexed(_text(index), "", index)
    elif len(found) == 1:
        listed = _indexed(_text(source / found[0]), str(PurePosixPath(found[0]).parent), source / found[0])
    elif not found:
        listed = (_by_folders(name, source) for name in names if name.endswith(".pose"))
    else:
        raise DataError(
            "the source contains several indexes", file=source, got=", ".join(found), hint="name one of them with --index"
        )
    clips = _without_repeats(listed, source, notify)
    if not clips:
        raise DataError("the source contains no .pose file", file=source, expected=_LAYOUTS)
    chosen = _chosen(clips, source, words, min_signers)
    return make_plan("pose", source, chosen, clips, read_clip, exists)


def _by_folders(name: str, source: Path) -> ListedClip:
    """A clip by the folders it is in."""
    parts = unicodedata.normalize("NFC", name.removesuffix(".pose")).split("/")
    if len(parts) not in (2, 3):
        raise DataError(
            "a file tells neither its signer nor its word", file=source, got=name, expected=_LAYOUTS, hint="give --index FILE"
        )
    return _clip(parts[0], parts[1], name, source)


def _indexed(text: str, folder: str, file: Path) -> Iterator[ListedClip]:
    """The clips that an index lists; their paths are relative to a folder of the source."""
    reader = csv.DictReader(io.StringIO(text, newline=None))
    try:
        header, rows = reader.fieldnames or [], list(reader)
    except csv.Error as error:
        raise DataError("the index is not a CSV file", file=file, got=str(error)) from error
    column = {what: next((name for name in names if name in header), "") for what, names in _COLUMNS.items()}
    for what, name in column.items():
        if not name:
            expected = f"a column {' or '.join(f'`{one}`' for one in _COLUMNS[what])}"
            raise DataError(f"the index does not tell the {what}", file=file, got=", ".join(header)[:200], expected=expected)
    for number, row in enumerate(rows, 1):
        path, signer, word = (
            unicodedata.normalize("NFC", (row[column[what]] or "").strip()) for what in ("path", "signer", "word")
        )
        if not (path and signer and word):
            raise DataError("a line of the index is incomplete", file=file, path=f"row {number}", got=str(row)[:200])
        yield _clip(signer, word, str(PurePosixPath(folder, (row[column["path"]] or "").strip())), file)


def _clip(signer: str, word: str, path: str, file: Path) -> ListedClip:
    name = f"{word}__{unicodedata.normalize('NFC', PurePosixPath(path).stem)}"
    check_name(signer, "a signer", file=file)
    check_name(name, "a clip", file=file, may_end_in_swap=True)
    return ListedClip(signer, name, word, path)


def _without_repeats(listed: Iterator[ListedClip], source: Path, notify: Callable[[str], None]) -> list[ListedClip]:
    """The clips without recordings that another signer has."""
    signer_of: dict[str, str] = {}
    clips: dict[tuple[str, str], ListedClip] = {}
    repeats: defaultdict[tuple[str, str], int] = defaultdict(int)
    for clip in listed:
        owner = signer_of.setdefault(clip.file, clip.signer)
        if owner != clip.signer:
            repeats[clip.signer, owner] += 1
            continue
        known = clips.setdefault((clip.signer, clip.name), clip)
        if known.file != clip.file:
            got = f"{known.file} and {clip.file}"
            raise DataError("two clips would get the same name", file=source, got=got, hint="rename one of them")
    for (signer, owner), count in repeats.items():
        notify(f"left out {counted(count, 'line')} of signer {signer}, which list recordings of signer {owner}")
    return list(clips.values())


def _chosen(clips: Sequence[ListedClip], source: Path, words: Collection[str] | None, min_signers: int) -> tuple[str, ...]:
    """The words to import, in alphabetical order."""
    signers_of: defaultdict[str, set[str]] = defaultdict(set)
    for clip in clips:
        signers_of[clip.word].add(clip.signer)
    wanted = set(signers_of) if words is None else {unicodedata.normalize("NFC", word) for word in words}
    if missing := sorted(wanted - set(signers_of)):
        there = sorted(signers_of)
        got = ", ".join(there[:30]) + (", ..." if len(there) > 30 else "")
        raise DataError(f"no clip shows {', '.join(missing)}", file=source, got=got, hint="spell words as in the source")
    enough = tuple(sorted(word for word in wanted if len(signers_of[word]) >= min_signers))
    if not enough:
        most = max(len(signers) for signers in signers_of.values())
        raise DataError(f"no word has {min_signers} signers", file=source, got=f"at most {most}", hint="lower --min-signers")
    return enough


def _text(path: Path) -> str:
    if not exists(path):
        raise DataError("there is no such file", file=path)
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError("the index is not UTF-8 text", file=path, got=str(error)) from error
