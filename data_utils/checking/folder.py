"""Warnings about a data folder: files that are not read, and words that look alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from data_utils.checking.data_warning import DataWarning
from data_utils.folder import unread_files
from data_utils.wording import counted
from data_utils.words import odd_words

_MAX_NAMED = 10  # files or words


def folder_warnings(folder: Path, words: Sequence[str]) -> list[DataWarning]:
    """Warnings that need no clip."""
    warnings = []
    if unread := unread_files(folder):
        warnings.append(
            DataWarning(
                f"{counted(len(unread), 'file')} in the data folder {'is' if len(unread) == 1 else 'are'} not read",
                where=str(folder),
                got=_some(unread),
                hint="the files of a data set are named <signer>.hdf5, side by side: move others elsewhere, or import them",
            )
        )
    if odd := odd_words(words):
        warnings.append(
            DataWarning(
                "words are empty, or differ only by Unicode form, case or spaces",
                where="the dictionary",
                got=_some(odd, "; "),
                hint="the model learns them as different words: give clips of one word one class number",
            )
        )
    return warnings


def _some(texts: Sequence[str], separator: str = ", ") -> str:
    rest = len(texts) - _MAX_NAMED
    return separator.join(texts[:_MAX_NAMED]) + (f" and {rest:,} more" if rest > 0 else "")
