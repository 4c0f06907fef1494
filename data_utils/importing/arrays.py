"""Landmarks of a body from NumPy arrays, in the many shapes in which people save them. See `data_utils.importing.readings`."""

# C coordinates, T frames, J landmarks (543), P points, V values of a frame

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_utils.errors import DataError
from data_utils.importing.readings import (
    ACCEPTED,
    DEPTHS,
    HAND_POINTS,
    TUTORIAL,
    Order,
    Reading,
    are_points,
    reading_of_points,
    reading_of_row,
    readings_of_width,
)
from data_utils.landmarks import FILE_PARTS, NUM_COORDINATES, NUM_LANDMARKS


@dataclass(frozen=True)
class Rows:
    """Frames of one reading."""

    values_TV: np.ndarray
    reading: Reading

    @property
    def width(self) -> int:
        """Numbers per frame."""
        return int(self.values_TV.shape[1])


def rows_of(values: np.ndarray, order: Order | None, *, file: Path) -> Rows:
    """The frames of an array, and what their numbers stand for.

    Accepts `[T, V]`, `[T, P, C]`, `[T, C, P]` and `[C, T, P]`, one frame `[V]` or `[P, C]`, hands `[T, 2, 21, C]`, and axes of
    size 1 besides. `[3, T, P]` and `[2 or 4, 5 or more, P]` are channels first. An `order` decides between readings of the same
    width with other parts.

    Raises:
        DataError: the array has no such shape or is not of floats, or may stand for different things.
    """
    if values.dtype.kind in "iub":
        raise DataError(
            "the landmarks are whole numbers: pixels, in a picture of unknown size",
            file=file,
            got=f"{values.dtype} {list(values.shape)}",
            expected="floats, fractions of the picture's width and height",
            hint="divide x by the width and y by the height of the picture",
        )
    if values.dtype.kind != "f":
        raise DataError("the landmarks are not floats", file=file, got=str(values.dtype), expected=ACCEPTED)
    if not values.size:
        raise DataError("the clip has no frame", file=file, got=str(list(values.shape)), expected="at least one frame")
    values = values.reshape(_plain_shape(values.shape))
    if values.ndim == 2:
        return Rows(values, reading_of_row(values.shape[1], order, file))
    if values.ndim == 3 and values.shape[2] in DEPTHS and are_points(values.shape[1]):
        points_TPC = values
    elif _is_channels_first(values.shape):
        points_TPC = values.transpose(1, 2, 0)
    elif values.ndim == 3 and values.shape[1] in DEPTHS and are_points(values.shape[2]):
        points_TPC = values.transpose(0, 2, 1)
    else:
        raise _wrong_shape(values, file)
    reading = reading_of_points(points_TPC.shape[1], points_TPC.shape[2], order, file)
    return Rows(points_TPC.reshape(len(points_TPC), -1), reading)


def is_one_frame(shape: Sequence[int]) -> bool:
    """Whether an array of this shape holds one frame only."""
    flat = len(shape) == 1
    shape = _plain_shape(tuple(shape))
    if _is_channels_first(shape):
        return shape[1] == 1
    return len(shape) > 1 and shape[0] == 1 and (not flat or bool(readings_of_width(shape[1])))


def joined(parts: Iterable[Rows]) -> Rows:
    """Frames of several parts, each given by itself. All have the same number of frames."""
    rows = list(parts)
    segments = tuple(segment for one in rows for segment in one.reading.segments)
    return Rows(np.concatenate([one.values_TV for one in rows], axis=1), Reading(segments, TUTORIAL, named=True))


def landmarks(rows: Rows, order: Order | None = None) -> np.ndarray:
    """Converts frames to landmarks, float32 `[3, T, 543]`, not validated.

    Parts that are absent become NaN, and so does a part in a frame in which all its points are the same (zeros, for example):
    it was not detected. If there are only x and y, z is 0.

    Args:
        rows: the frames.
        order: the order of the parts; by default the usual one. It may name parts that the frames do not have.
    """
    reading = rows.reading
    wanted = reading.parts if order is None or reading.named else order
    segment_of = {segment.part: segment for segment in reading.segments}
    feature_CTJ = np.full((NUM_COORDINATES, len(rows.values_TV), NUM_LANDMARKS), np.nan, np.float32)
    start = 0
    with np.errstate(over="ignore"):  # values too large for float32 become infinite; `checked_landmarks` rejects them
        for part in (part for part in wanted if part in segment_of):
            one = segment_of[part]
            values_TV = rows.values_TV[:, start : start + one.points * one.numbers]
            start += one.points * one.numbers
            place = FILE_PARTS[part]
            place = slice(place.start, min(place.stop, place.start + one.points))
            part_CTP = values_TV.reshape(-1, one.points, one.numbers).transpose(2, 0, 1)[: one.coordinates]
            part_CTP = part_CTP[:, :, : place.stop - place.start]
            missing_T = (part_CTP[:2] == part_CTP[:2, :, :1]).all(axis=(0, 2))
            feature_CTJ[: one.coordinates, :, place] = np.where(missing_T[:, None], np.nan, part_CTP)
            if one.coordinates == 2:
                feature_CTJ[2, :, place] = np.where(np.isnan(feature_CTJ[0, :, place]), np.nan, 0)
    return feature_CTJ


def _plain_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape as `[T, V]`, `[T, P, C]` or `[C, T, P]` where axes of size 1 make that possible."""
    if len(shape) == 4 and shape[1:3] == (2, HAND_POINTS):  # both hands
        return (shape[0], 2 * HAND_POINTS, shape[3])
    if len(shape) > 3:
        shape = tuple(size for size in shape if size != 1)
    if len(shape) == 3 and 1 in shape[1:] and not _is_channels_first(shape):
        return (shape[0], shape[1] * shape[2])
    if len(shape) == 3 and shape[0] == 1 and not (are_points(shape[1]) and shape[2] in DEPTHS):
        return shape[1:]
    if len(shape) == 1 or (len(shape) == 2 and shape[1] in DEPTHS and are_points(shape[0])):
        return (1, *shape)
    return shape


def _is_channels_first(shape: Sequence[int]) -> bool:
    """Whether it is `[C, T, P]`, also if `[T, C, P]` has the same sizes."""
    if len(shape) != 3 or not are_points(shape[2]):
        return False
    return shape[0] == NUM_COORDINATES or (shape[0] in DEPTHS and shape[1] not in DEPTHS)


def _wrong_shape(values: np.ndarray, file: Path) -> DataError:
    *many, last = values.shape or (0,)
    if len(many) > 1 and (readings_of_width(last) or (last in DEPTHS and are_points(values.shape[-2]))):
        return DataError(
            "the array holds many clips",
            file=file,
            got=str(list(values.shape)),
            expected="one clip per file",
            hint="save each clip as its own file; import-npy reads SRC/<signer>/<word>/<clip>.npy",
        )
    return DataError("the landmarks have the wrong shape", file=file, got=str(list(values.shape)), expected=ACCEPTED)
