"""Finds the clips in a folder whose files are a clip each: in folders of signers and words, or named after words."""

from __future__ import annotations

import itertools
import re
import shlex
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

from data_utils.errors import DataError
from data_utils.importing.layout import parse_layout
from data_utils.importing.listing import clips_by_folders, clips_by_layout, usual_depth
from data_utils.importing.record import ListedClip, Notify
from data_utils.importing.scanning import Found

_DIGITS = re.compile(r"\d+")


def clips_in_files(
    source: Path, found: Sequence[Found], layout: str | None, signer: str | None, notify: Notify
) -> list[ListedClip]:
    """The clips in `<signer>/<word>/<clip>`, in `<signer>/<word>` where the names of files can be words, or by a layout.

    Args:
        source: the folder or archive.
        found: what is in it.
        layout: a pattern of paths, see `data_utils.importing.layout`.
        signer: who signs in all clips; then the level of signers is left out.
        notify: receives lines about what was found and left out.

    Raises:
        DataError: the files have another layout, or it is not clear what is a word or a signer.
    """
    if layout is not None:
        kind = found[0].kind
        pattern = parse_layout(layout, kind)
        if pattern.frames:
            raise DataError(f"--layout: a {kind.noun} is not a frame", got=layout, hint="leave out {frame}")
        return clips_by_layout(source, found, pattern, signer, notify)
    depth = usual_depth(found)
    holding = [folder for folder in found if len(folder.names) == depth and folder.files]
    are_words = depth == (1 if signer is None else 0)
    if are_words:
        _check_words(source, holding, signer)
    elif signer is None and depth == 2:
        _check_top(source, holding)
    return clips_by_folders(source, found, ("signer", "word", *([] if are_words else ["clip"])), signer, notify)


def _check_words(source: Path, holding: Sequence[Found], signer: str | None) -> None:
    """Checks that files may be named after words. They could as well be clips, in folders of words.

    Raises:
        DataError: names differ only by numbers, each has a number, or no name is in two folders.
    """
    why = _not_words(_names_of(source, holding))
    if why is not None:
        ending = holding[0].kind.suffixes[0]
        pattern = "{signer}/{word}" if signer is None else "{word}"
        others = "add --signer NAME if the folders are words; else " if signer is None else "make a folder per word, or "
        raise DataError(
            f"the names of the files are hardly words: {why}",
            file=source,
            got=_first_file(holding),
            expected=f"SRC/{'<signer>/' if signer is None else ''}<word>/<clip>{ending}",
            hint=f"{others}describe the paths: --layout '{pattern}_{{clip}}{ending}', "
            f"or --layout '{pattern}{ending}' if they are words after all",
        )


def _check_top(source: Path, holding: Sequence[Found]) -> None:
    """Checks that the folder at the top may be a signer, if it is the only one. It could as well contain the signers.

    Raises:
        DataError: several files are named alike in the folders below, as words are.
    """
    tops = {folder.names[0] for folder in holding}
    if len(tops) > 1:
        return
    (top,) = tops
    names_of = _names_of(source, holding)
    if len(holding) > 1 and len(set(itertools.chain(*names_of))) > 1 and _not_words(names_of) is None:
        ending = holding[0].kind.suffixes[0]
        raise DataError(
            "it is not clear what is a signer: there is one folder at the top, and below it the same names of files again",
            file=source,
            got=_first_file(holding),
            expected=f"SRC/<signer>/<word>/<clip>{ending} or SRC/<signer>/<word>{ending}",
            hint=f"--layout {shlex.quote(f'{top}/{{signer}}/{{word}}{ending}')} if the files are named after words, "
            f"or --layout '{{signer}}/{{word}}/{{clip}}{ending}' if {top} is the only signer",
        )


def _names_of(source: Path, holding: Sequence[Found]) -> list[set[str]]:
    """For each folder the names of its files, in lower case and without endings."""
    return [{PurePosixPath(name).stem.lower() for name in folder.file_names(source)} for folder in holding]


def _not_words(names_of: Sequence[Collection[str]]) -> str | None:
    """Why the names of the files in some folders are hardly words; None if they can be."""
    if any(len({_DIGITS.sub("0", name) for name in names}) < len(names) for names in names_of):
        return "they differ by numbers only"
    if all(_DIGITS.search(name) for name in itertools.chain(*names_of)):
        return "each has a number"
    if len(names_of) > 1 and max(Counter(itertools.chain(*names_of)).values()) == 1:
        return "each is in one folder only"
    return None


def _first_file(holding: Sequence[Found]) -> str:
    return "/".join((*holding[0].names, holding[0].first))
