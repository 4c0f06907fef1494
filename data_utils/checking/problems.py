"""Every fault of a data set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from data_utils.errors import DataError
from data_utils.folder import SignerFile, orphans, signer_files
from data_utils.hdf5 import Clip, _clips_and_faults
from data_utils.words import read_words


def find_problems(folder: Path, seen: Callable[[SignerFile, Clip], None] | None = None) -> list[DataError]:
    """Every fault of a data set; an empty list for a sound one. `seen` is shown every clip that is sound."""
    faults: list[DataError] = []
    words: tuple[str, ...] | None = None
    files: list[SignerFile] = []
    try:
        words = read_words(folder)
    except DataError as fault:
        faults.append(fault)
    try:
        files = signer_files(folder)
    except DataError as fault:
        if fault.render() not in {known.render() for known in faults}:
            faults.append(fault)
    faults.extend(orphans(files))
    for file in files:
        # Without a dictionary, labels cannot be too large; everything else can still be checked.
        num_words = len(words) if words is not None else np.iinfo(np.int64).max
        for result in _clips_and_faults(file.path, int(num_words)):
            if isinstance(result, DataError):
                faults.append(result)
            elif seen is not None:
                seen(file, result)
    return faults
