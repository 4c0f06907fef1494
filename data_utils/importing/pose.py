"""Imports `.pose` files, https://github.com/sign-language-processing/pose, from a folder or a ZIP archive such as a wheel.

    SRC/<signer>/<word>/<clip>.pose, SRC/<signer>/<word>.pose, or any layout with a pattern of paths or an index

An index is a CSV file with a header that lists one clip per line: its `path`, its signer (column `signer`, else
`signed_language`) and its word (column `word`, else `glosses`, else `words`). Other columns are ignored. That is the layout of
the lexicons of https://github.com/ZurichNLP/spoken-to-signed-translation, where a language stands for a signer.
"""

from __future__ import annotations

import posixpath
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from data_utils.errors import DataError
from data_utils.importing.clip_files import clips_in_files
from data_utils.importing.csv_list import MISSING_VALUES, ClipList, Locator, is_absolute, nfc, read_list
from data_utils.importing.importing import check_name
from data_utils.importing.pose_file import exists, import_pose_format, names_in, read_bytes, read_clip
from data_utils.importing.record import ImportPlan, ListedClip, make_plan
from data_utils.importing.scanning import Found, Kind, scan, scan_archive
from data_utils.wording import counted

INDEX_NAME = "index.csv"
"""An index of this name in the source is used without being named."""

_KIND = Kind(".pose file", (".pose",), name_clips=True)
_COLUMNS = {"path": ("path",), "signer": ("signer", "signed_language"), "word": ("word", "glosses", "words")}
"""Names of the columns of an index; the first that exists is read."""


def plan_import(
    source: Path,
    *,
    index: Path | None = None,
    signer: str | None = None,
    layout: str | None = None,
    words: Collection[str] | None = None,
    min_signers: int = 1,
    notify: Callable[[str], None] = lambda text: None,
) -> ImportPlan:
    """Plans the import of all clips. Words are numbered in alphabetical order; clips are named `<word>__<file>`.

    A recording belongs to one signer: if an index lists it for others too, those lines are left out, because the same clip
    could otherwise be trained on and validated on.

    Args:
        source: a folder or an archive.
        index: the index; its paths are relative to `source`. By default the file index.csv in the source, if there is one.
        signer: who signs in all clips; then folders are words.
        layout: a pattern of paths, see `data_utils.importing.layout`, instead of an index.
        words: only these words.
        min_signers: only words that at least so many signers have.
        notify: receives lines about what was found and left out.

    Raises:
        DataError: pose-format is not installed, the files have another layout, or a word is missing.
    """
    import_pose_format()
    if not source.exists():
        raise DataError("there is no such folder or archive", file=source)
    if index is not None and layout is not None:
        raise DataError("--index and --layout both tell signers and words", hint="leave out one of them")
    folder, found = "", [] if index is not None else _scan(source)
    if index is None and layout is None and (folders := [one.path for one in found if exists(source / one.path / INDEX_NAME)]):
        if len(folders) > 1:
            got = ", ".join(str(PurePosixPath(one, INDEX_NAME)) for one in folders)
            raise DataError("the source contains several indexes", file=source, got=got, hint="name one of them with --index")
        folder = folders[0]
        index = source / folder / INDEX_NAME
    if index is not None:
        listed: Iterable[ListedClip] = _indexed(_read_index(index, signer), folder, source, signer)
    else:
        listed = clips_in_files(source, found, layout, signer, notify)
    clips = _without_repeats(listed, source, notify)
    if not clips:
        raise DataError("the index lists no .pose file", file=index or source)
    chosen = _chosen(clips, source, words, min_signers)
    return make_plan("pose", source, chosen, clips, read_clip, exists)


def _scan(source: Path) -> list[Found]:
    return scan(source, _KIND) if source.is_dir() else scan_archive(source, names_in(source), _KIND)


def _read_index(file: Path, signer: str | None) -> ClipList:
    """An index that tells all that is needed.

    Raises:
        DataError: it does not, or it cannot be read.
    """
    if not exists(file):
        raise DataError("there is no such file", file=file)
    index = read_list(file, read_bytes(file), _COLUMNS)
    if signer is not None and "signer" in index.column:
        got = f"--signer {signer}, and a column `{index.column['signer']}`"
        hint = "leave out --signer, or describe the paths with --layout instead"
        raise DataError("the index itself names the signers", file=file, got=got, hint=hint)
    for what, names in _COLUMNS.items():
        if what not in index.column and not (what == "signer" and signer is not None):
            raise DataError(
                f"the index does not tell the {what}",
                file=file,
                got=", ".join(index.header)[:200],
                expected=f"a column {' or '.join(f'`{name}`' for name in names)}",
                hint="or --signer NAME if one person signs in all clips" if what == "signer" else None,
            )
    return index


def _indexed(index: ClipList, folder: str, source: Path, signer: str | None) -> Iterator[ListedClip]:
    """The clips that an index lists; its paths are relative to a folder of the source."""
    locate = Locator(source, exists)
    for line in index.lines():
        file = line.file_path()
        if not is_absolute(file):
            file = str(PurePosixPath(folder, file))
            file = posixpath.normpath(file) if ".." in file.split("/") else file
        word = line.text("word", hint="fill it in")
        who = nfc(signer) if signer is not None else line.text("signer", empty=MISSING_VALUES, hint="fill it in")
        name = f"{word}__{unicodedata.normalize('NFC', PurePosixPath(file).stem)}"
        check_name(who, "a signer", file=index.path if signer is None else "--signer")
        check_name(name, "a clip", file=index.path, may_end_in_swap=True)
        yield ListedClip(who, name, word, locate(file))


def _without_repeats(listed: Iterable[ListedClip], source: Path, notify: Callable[[str], None]) -> list[ListedClip]:
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
