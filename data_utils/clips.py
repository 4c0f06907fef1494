"""Validation of a clip's landmarks, whatever file they come from."""

# C coordinates (3), T frames, J landmarks (543)

from __future__ import annotations

import contextlib
import hashlib
import shlex
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from data_utils.errors import DataError
from data_utils.landmarks import LEFT_HAND_START, NUM_COORDINATES, NUM_IRISES, NUM_LANDMARKS, POINTS

MAX_FRAMES = 10_000
"""Longest clip that is read: more than five minutes at 30 frames per second. Guards against files that declare huge sizes."""

_UNREADABLE = (
    *(OSError, ValueError, EOFError, MemoryError),
    *(SyntaxError, TypeError, OverflowError, tokenize.TokenError),  # a damaged header, which NumPy parses as Python literals
    *(zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, struct.error),  # a damaged or encrypted archive
)
"""What NumPy raises for a damaged file."""

_MAX_BYTES = MAX_FRAMES * (NUM_LANDMARKS + NUM_IRISES) * 4 * 8  # four float64 per landmark

_COUNTS = (NUM_LANDMARKS, NUM_LANDMARKS + NUM_IRISES)

_MAX_COORDINATE = 1e4  # in picture widths; float16 can hold it, and float32 its square


def checked_landmarks(values: np.ndarray, *, file: Path | str | None = None, path: str | None = None) -> np.ndarray:
    """The landmarks of one clip as float32 `[3, T, 543]`, NaN = not detected, after validation.

    The values may be `[T, 543, 3]` too. Of 553 landmarks, with a face of 478 points, the ten of the irises are left out.

    `file` and `path` are named in errors.

    Raises:
        DataError: wrong shape or type, an infinite or far too large number, or nothing detected in the whole clip.
    """
    check_shape(values.shape, values.dtype, file=file, path=path)
    values = _without_irises(values.transpose(2, 0, 1) if _is_frames_first(values.shape) else values)
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


def digest_of_values(feature_CTJ: np.ndarray) -> bytes:
    """16 bytes that are equal for equal numbers, although there are several NaNs and two zeros. `feature_CTJ` is float32."""
    content = np.ascontiguousarray(feature_CTJ) + np.float32(0)
    np.copyto(content, np.nan, where=np.isnan(content))
    return hashlib.sha256(content.data).digest()[:16]


def check_shape(shape: Sequence[int] | None, dtype: np.dtype, *, file: Path | str | None, path: str | None) -> int:
    """Checks the shape and type of a clip's landmarks. Returns the number of frames.

    Raises:
        DataError: they are not floats of shape `[3, T, 543]` or `[T, 543, 3]`, or 553 with irises, with 1 to 10,000 frames.
    """
    found = list(shape or ())
    if dtype.kind != "f":
        raise DataError("the landmarks are not floats", file=file, path=path, got=str(dtype), expected="float32")
    if not _is_frames_first(found) and (len(found) != 3 or found[0] != NUM_COORDINATES or found[2] not in _COUNTS):
        raise DataError(
            "the landmarks have the wrong shape",
            file=file,
            path=path,
            got=str(found),
            expected=f"[{NUM_COORDINATES}, frames, {NUM_LANDMARKS}] or [frames, {NUM_LANDMARKS}, {NUM_COORDINATES}]",
            hint=None
            if file is None or path is None
            else f"`islr-data import-hdf5 {shlex.quote(str(Path(file).parent))} NEW` reads other shapes too",
        )
    frames: int = found[0] if _is_frames_first(found) else found[1]
    if frames == 0:
        raise DataError("the clip has no frame", file=file, path=path, got=str(found), expected="at least one frame")
    if frames > MAX_FRAMES:
        raise DataError(
            "the clip is far too long for one sign",
            file=file,
            path=path,
            got=f"{frames:,} frames",
            expected=f"at most {MAX_FRAMES:,} frames",
        )
    return frames


def _is_frames_first(shape: Sequence[int]) -> bool:
    """Whether it is `[T, 543, 3]` instead of `[3, T, 543]`."""
    return len(shape) == 3 and shape[1] in _COUNTS and shape[2] == NUM_COORDINATES


def _without_irises(values: np.ndarray) -> np.ndarray:
    """Landmarks `[3, T, 543]` of `[3, T, 553]`; those of `[3, T, 543]` are returned unchanged."""
    if values.shape[2] == NUM_LANDMARKS:
        return values
    return np.delete(values, slice(LEFT_HAND_START, LEFT_HAND_START + NUM_IRISES), axis=2)


def read_array(path: Path) -> np.ndarray:
    """Reads the array of a `.npy` file without unpickling: an array of Python objects is an error.

    Raises:
        DataError: the file cannot be read, contains something else, or far more than a clip.
    """
    with _array_file(path), path.open("rb") as stream:
        _check_bytes(path.stat().st_size, path)
        return np.lib.format.read_array(stream, allow_pickle=False)


def array_shape(path: Path) -> tuple[int, ...]:
    """The shape of the array in a `.npy` file, from its header.

    Raises:
        DataError: the file cannot be read, or contains something else or Python objects.
    """
    with _array_file(path), path.open("rb") as stream:
        first = np.lib.format.read_magic(stream) == (1, 0)
        read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
        if dtype.hasobject:
            raise ValueError("an array of objects needs allow_pickle")
        return shape


def read_archive(path: Path) -> dict[str, np.ndarray]:
    """Reads the arrays of a `.npz` file by their names, without unpickling.

    Raises:
        DataError: the file cannot be read, contains something else, or far more than a clip.
    """
    arrays = {}
    with _array_file(path), zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
        _check_bytes(sum(member.file_size for member in members), path)
        for member in members:
            with archive.open(member) as stream:
                arrays[member.filename.removesuffix(".npy")] = np.lib.format.read_array(stream, allow_pickle=False)
    return arrays


@contextlib.contextmanager
def _array_file(path: Path) -> Iterator[None]:
    """Converts what NumPy raises for a damaged file to a DataError."""
    if not path.is_file():  # opening a pipe would block forever
        raise DataError("this is not a file", file=path)
    try:
        yield
    except _UNREADABLE as error:
        objects = "allow_pickle" in str(error)
        raise DataError(
            "the file is not a NumPy array, or is damaged",
            file=path,
            got="an array of Python objects" if objects else str(error),
            hint="save numbers, not objects: np.save(file, np.stack(frames))" if objects else None,
        ) from error


def _check_bytes(size: int, path: Path) -> None:
    if size > _MAX_BYTES:
        got, expected = f"{size / 1e6:,.0f} MB", f"one clip per file, at most {MAX_FRAMES:,} frames"
        raise DataError("the file is far too large for one sign", file=path, got=got, expected=expected)
