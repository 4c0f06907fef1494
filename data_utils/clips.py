"""What the landmarks of a clip must be, wherever they come from."""

# C coordinates (3), T frames, J landmarks (543)

from __future__ import annotations

import tokenize
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_utils.errors import DataError
from data_utils.landmarks import NUM_COORDINATES, NUM_LANDMARKS, POINTS

MAX_FRAMES = 10_000
"""Of one sign: more than five minutes at 30 frames a second. What a file declares may be of any size."""

_UNREADABLE = (OSError, ValueError, EOFError, MemoryError, SyntaxError, TypeError, OverflowError, tokenize.TokenError)
"""What NumPy raises for a damaged file; the last four for a damaged head, which it reads as Python's literals."""

_FAR = 1e4  # no coordinate lies so many pictures away; float16 holds it, and float32 its square


def checked_landmarks(found: np.ndarray, *, file: Path | str | None = None, path: str | None = None) -> np.ndarray:
    """The landmarks of one clip, float32 `[3, T, 543]`, NaN = not detected.

    `file` and `path` say in an error where they come from.

    Raises:
        DataError: they are no floats of this shape, or hold what no camera sees, or nothing at all.
    """
    check_shape(found.shape, found.dtype, file=file, path=path)
    if (np.abs(found) > _FAR).any():  # NaN is not
        raise DataError(
            "the landmarks hold an infinite or far too large number",
            file=file,
            path=path,
            got=str(found[np.abs(found) > _FAR][0]),
            expected="fractions of the picture, or NaN where nothing was detected",
        )
    feature_CTJ = found.astype(np.float32, copy=False)
    shown = feature_CTJ[:2][:, :, POINTS]
    if not ((shown != 0) & ~np.isnan(shown)).any():
        raise DataError(
            "nothing was detected in the clip: all its frames are empty", file=file, path=path, hint="leave the clip out"
        )
    return feature_CTJ


def check_shape(shape: Sequence[int] | None, dtype: np.dtype, *, file: Path | str | None, path: str | None) -> None:
    """Holds shape and type of a clip's landmarks against what they should be.

    Raises:
        DataError: see above.
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
        raise DataError("the clip has no frame", file=file, path=path, got=str(found), expected="one frame or more")
    if found[1] > MAX_FRAMES:
        raise DataError(
            "the clip is far too long for one sign",
            file=file,
            path=path,
            got=f"{found[1]:,} frames",
            expected=f"{MAX_FRAMES:,} frames or fewer",
        )


def read_array(path: Path) -> np.ndarray:
    """The array of a `.npy` file. Nothing in it can run code: arrays of Python objects are refused.

    Raises:
        DataError: the file cannot be read, or holds no numbers.
    """
    if not path.is_file():  # to open a pipe is to wait for ever
        raise DataError("this is not a file", file=path)
    try:
        with path.open("rb") as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)
    except _UNREADABLE as error:
        raise DataError("the file is not an array of NumPy, or is damaged", file=path, got=str(error)) from error
