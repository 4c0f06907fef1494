"""Warnings about a data folder: files that are not read, and words that look alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from data_utils.checking.data_warning import DataWarning
from data_utils.folder import unread_files
from data_utils.wording import counted, some
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
                got=some(unread, _MAX_NAMED),
                hint="the files of a data set are named <signer>.hdf5, side by side: move others elsewhere, or import them",
            )
        )
    if odd := odd_words(words):
        warnings.append(
            DataWarning(
                "words are empty, or differ only by Unicode form, case or spaces",
                where="the dictionary",
                got=some(odd, _MAX_NAMED, "; "),
                hint="the model learns them as different words: give clips of one word one class number",
            )
        )
    return warnings
