"""Validation of a clip's landmarks, whatever file they come from."""

# C coordinates (3), T frames, J landmarks (543)

from __future__ import annotations

import tokenize
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_utils.errors import DataError
from data_utils.landmarks import NUM_COORDINATES, NUM_LANDMARKS, POINTS

MAX_FRAMES = 10_000
"""Longest clip that is read: more than five minutes at 30 frames per second. Guards against files that declare huge sizes."""

_UNREADABLE = (OSError, ValueError, EOFError, MemoryError, SyntaxError, TypeError, OverflowError, tokenize.TokenError)
"""What NumPy raises for a damaged file; the last four for a damaged header, which it parses as Python literals."""

_MAX_COORDINATE = 1e4  # in picture widths; float16 can hold it, and float32 its square


def checked_landmarks(values: np.ndarray, *, file: Path | str | None = None, path: str | None = None) -> np.ndarray:
    """The landmarks of one clip as float32 `[3, T, 543]`, NaN = not detected, after validation.

    `file` and `path` are named in errors.

    Raises:
        DataError: wrong shape or type, an infinite or far too large number, or nothing detected in the whole clip.
    """
    check_shape(values.shape, values.dtype, file=file, path=path)
    if (np.abs(values) > _MAX_COORDINATE).any():  # False for NaN
        raise DataError(
            "the landmarks contain an infinite or far too large number",
            file=file,
            path=path,
            got=str(values[np.abs(values) > _MAX_COORDINATE][0]),
            expected="fractions of the picture's size, or NaN where nothing was detected",
        )
    feature_CTJ = values.astype(np.float32, copy=False)
    shown = feature_CTJ[:2][:, :, POINTS]
    if not ((shown != 0) & ~np.isnan(shown)).any():
        raise DataError(
            "nothing was detected in the clip: all its frames are empty", file=file, path=path, hint="remove the clip"
        )
    return feature_CTJ


def check_shape(shape: Sequence[int] | None, dtype: np.dtype, *, file: Path | str | None, path: str | None) -> None:
    """Checks the shape and type of a clip's landmarks.

    Raises:
        DataError: they are not floats of shape `[3, T, 543]` with 1 to 10,000 frames.
    """
    found = list(shape or ())
    if dtype.kind != "f":
        raise DataError("the landmarks are not floats", file=file, path=path, got=str(dtype), expected="float32")
    if len(found) != 3 or found[0] != NUM_COORDINATES or found[2] != NUM_LANDMARKS:
        raise DataError(
            "the landmarks have the wrong shape",
            file=file,
            path=path,
            got=str(found),
            expected=f"[{NUM_COORDINATES}, frames, {NUM_LANDMARKS}]",
        )
    if found[1] == 0:
        raise DataError("the clip has no frame", file=file, path=path, got=str(found), expected="at least one frame")
    if found[1] > MAX_FRAMES:
        raise DataError(
            "the clip is far too long for one sign",
            file=file,
            path=path,
            got=f"{found[1]:,} frames",
            expected=f"at most {MAX_FRAMES:,} frames",
        )


def read_array(path: Path) -> np.ndarray:
    """Reads the array of a `.npy` file without unpickling: an array of Python objects is an error.

    Raises:
        DataError: the file cannot be read, or contains something else.
    """
    if not path.is_file():  # opening a pipe would block forever
        raise DataError("this is not a file", file=path)
    try:
        with path.open("rb") as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)
    except _UNREADABLE as error:
        raise DataError("the file is not a NumPy array, or is damaged", file=path, got=str(error)) from error
