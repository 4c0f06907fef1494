"""All problems of a data set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from data_utils.errors import DataError
from data_utils.folder import SignerFile, missing_originals, signer_files
from data_utils.hdf5 import Clip, read_clips_and_faults
from data_utils.words import read_words


def find_problems(folder: Path, on_clip: Callable[[SignerFile, Clip], None] | None = None) -> list[DataError]:
    """Every problem of a data set; empty if it is valid. `on_clip` is called for every valid clip."""
    faults: list[DataError] = []
    num_words = int(np.iinfo(np.int64).max)  # without a dictionary no label is too large; the rest is still checked
    files: list[SignerFile] = []
    try:
        num_words = len(read_words(folder))
    except DataError as fault:
        faults.append(fault)
    try:
        files = signer_files(folder)
    except DataError as fault:
        if fault.render() not in {known.render() for known in faults}:
            faults.append(fault)
    faults.extend(missing_originals(files))
    for file in files:
        for result in read_clips_and_faults(file.path, num_words):
            if isinstance(result, DataError):
                faults.append(result)
            elif on_clip is not None:
                on_clip(file, result)
    return faults
