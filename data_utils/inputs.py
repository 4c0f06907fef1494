"""Clips without labels from the files that people have: what a finished model is asked about.

    <signer>.hdf5, .h5    many clips: the layout of `data_utils.hdf5`; labels need not be there
    <sequence>.parquet    one clip of the Kaggle release
    <clip>.npy            one clip: [T, 543, 3], [3, T, 543], or [T, 1662] as results of MediaPipe Holistic are often laid out
    a folder of .npy      one clip, a file of 1662 numbers a frame

T frames; what was not detected is NaN, or zeros in the rows of 1662 numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_utils.clips import checked_landmarks, read_array
from data_utils.errors import DataError
from data_utils.hdf5 import read_unlabeled
from data_utils.importing.holistic import NUM_VALUES, landmarks, without_irises
from data_utils.importing.holistic import read_clip as read_frames
from data_utils.landmarks import NUM_COORDINATES, NUM_LANDMARKS

_HDF5 = (".hdf5", ".h5")
_KINDS = (*_HDF5, ".parquet", ".npy")


@dataclass(frozen=True)
class Input:
    """One clip that was asked about."""

    file: Path
    clip: str
    """Its name in a file of many clips, else the file's own."""

    landmarks: np.ndarray | DataError
    """float32 `[3, T, 543]`, NaN = not detected; or what is wrong with the clip."""


def check_inputs(paths: Sequence[Path]) -> None:
    """Looks whether files are there and of a kind that is known, before work begins.

    Raises:
        DataError: at the first that is not.
    """
    for path in paths:
        if not path.exists():
            raise DataError("there is no such file", file=path)
        if path.is_dir():
            if not any(path.glob("*.npy")):
                hint = f"name its files one by one, such as {path / '*.hdf5'}" if any(path.glob("*.hdf5")) else None
                raise DataError("the folder holds no frames", file=path, expected="files named <frame>.npy", hint=hint)
        elif path.suffix.lower() not in _KINDS:
            raise DataError("this kind of file is not read", file=path, got=path.suffix, expected=", ".join(_KINDS))
        elif not path.is_file():
            raise DataError("this is not a file", file=path)


def read_inputs(paths: Sequence[Path]) -> Iterator[Input]:
    """Every clip of every file, one at a time, in the order given. A file that cannot be read is one clip with a fault."""
    for path in paths:
        if path.is_file() and path.suffix.lower() in _HDF5:
            try:
                for name, found in read_unlabeled(path):
                    yield Input(path, name, found)
            except DataError as fault:
                yield Input(path, path.stem, fault)
        else:
            try:
                yield Input(path, path.stem, _one_clip(path))
            except DataError as fault:
                yield Input(path, path.stem, fault)


def _one_clip(path: Path) -> np.ndarray:
    if path.is_dir():
        return read_frames(path)
    if path.suffix.lower() == ".parquet":
        from data_utils.importing.kaggle import read_clip  # it needs a package that others do without

        return read_clip(path)
    return _read_array(path)


def _read_array(path: Path) -> np.ndarray:
    found = read_array(path)
    if found.dtype.kind != "f":
        raise DataError("the landmarks are not floats", file=path, got=str(found.dtype), expected="float32")
    found = without_irises(found) if found.ndim == 2 else found
    if found.ndim == 2 and found.shape[1] == NUM_VALUES:
        return checked_landmarks(landmarks(found), file=path)
    if found.ndim == 3 and found.shape[1:] == (NUM_LANDMARKS, NUM_COORDINATES):
        return checked_landmarks(found.transpose(2, 0, 1), file=path)
    if found.ndim == 3 and (found.shape[0], found.shape[2]) == (NUM_COORDINATES, NUM_LANDMARKS):
        return checked_landmarks(found, file=path)
    raise DataError(
        "the landmarks have the wrong shape",
        file=path,
        got=str(list(found.shape)),
        expected=f"[frames, {NUM_LANDMARKS}, {NUM_COORDINATES}], [{NUM_COORDINATES}, frames, {NUM_LANDMARKS}] "
        f"or [frames, {NUM_VALUES}]",
    )
