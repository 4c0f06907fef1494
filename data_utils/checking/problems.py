"""All problems of a data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_utils.checking.reading import Progress, Reading, no_progress, read_files
from data_utils.errors import DataError
from data_utils.folder import SignerFile, missing_originals, signer_files
from data_utils.words import read_words


def find_problems(folder: Path, *, workers: int = 1) -> list[DataError]:
    """Every problem of a data set; empty if it is valid."""
    return read_data(folder, workers=workers).faults


def read_data(folder: Path, *, workers: int, progress: Progress = no_progress) -> Reading:
    """Reads a whole data set: every problem, and the facts of every valid clip. Without a problem the data set is valid."""
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
    reading = read_files(files, num_words, workers=workers, progress=progress)
    reading.faults[:0] = faults
    return reading
