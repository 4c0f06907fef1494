"""What the numbers of a NumPy array stand for: MediaPipe landmarks of a body, in the many shapes in which people save them.

A frame holds some of pose, face, left hand and right hand, one after another, as a row of numbers or as points. The tutorial's
1662 numbers are the most common:

    pose 33 x (x, y, z, visibility), face 468 x (x, y, z), left hand 21 x (x, y, z), right hand 21 x (x, y, z)

Others leave out the face, the visibility or z, keep the first 25 points of the pose (to the hips), or have a face of 478
points, of which the last 10 are irises and are ignored.

Sources: `extract_keypoints` of the common tutorial, https://github.com/nicknochnack/ActionDetectionforSignLanguage;
FACEMESH_NUM_LANDMARKS (468), FACEMESH_NUM_LANDMARKS_WITH_IRISES (478) of mediapipe/python/solutions/face_mesh.py.
"""

# C coordinates, T frames, J landmarks (543), P points, V values of a frame

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from data_utils.errors import DataError
from data_utils.landmarks import FILE_PARTS, NUM_COORDINATES, NUM_LANDMARKS
from data_utils.wording import suggest

Order = tuple[str, ...]
"""Names of parts, as they follow each other in a frame."""

TUTORIAL: Order = ("pose", "face", "left_hand", "right_hand")
"""The usual order of rows."""

KAGGLE: Order = tuple(FILE_PARTS)
"""The usual order of all 543 points."""

ACCEPTED = (
    "frames of pose (33 or 25 points), face (468 or 478) and hands (21 each), or of some of these, 2 to 4 numbers per point: "
    "[frames, 1662], 1692, 1629, 258, 226, 225, 126 ...; [frames, 543, 3], [3, frames, 543], [frames, 75, 3] ..."
)

_POSES, _FACES, _HAND = (0, 33, 25), (0, 468, 478), 21
_DEPTHS = (2, 3, 4)  # numbers per point


@dataclass(frozen=True)
class Segment:
    """One part in a frame."""

    part: str
    points: int
    numbers: int
    """Per point."""

    coordinates: int
    """How many of the numbers are x, y and z."""


@dataclass(frozen=True)
class Reading:
    """The parts of a frame, in the usual order."""

    segments: tuple[Segment, ...]
    usual: Order
    """The order in which such frames usually hold all four parts."""

    named: bool = False
    """Whether the file names its parts: then no other order is possible."""

    @property
    def parts(self) -> Order:
        """The names of its parts, in the usual order."""
        return tuple(segment.part for segment in self.segments)

    @property
    def without_irises(self) -> tuple[Segment, ...]:
        """Its segments, with a face of 468 points if there is one of 478."""
        return tuple(replace(one, points=_FACES[1]) if one.part == "face" else one for one in self.segments)

    def described(self, order: Order | None = None) -> str:
        """`pose 33 x 4, left_hand 21 x 3, right_hand 21 x 3`, in an order of parts."""
        fixed = self.parts if order is None or self.named else order
        segments = sorted(self.segments, key=lambda one: fixed.index(one.part))
        return ", ".join(f"{one.part} {one.points} x {one.numbers}" for one in segments)


@dataclass(frozen=True)
class Rows:
    """Frames of one reading."""

    values_TV: np.ndarray
    reading: Reading

    @property
    def width(self) -> int:
        """Numbers per frame."""
        return int(self.values_TV.shape[1])


def parse_order(text: str) -> Order:
    """The order that a user typed: names of parts, separated by commas.

    Raises:
        DataError: a name is unknown or given twice.
    """
    order = tuple(name.strip().lower().replace("-", "_") for name in text.split(","))
    for name in order:
        if name not in FILE_PARTS:
            raise DataError(
                f"there is no such part: `{name}`", expected=f"some of {', '.join(TUTORIAL)}", hint=suggest(name, TUTORIAL)
            )
    if len(set(order)) < len(order):
        raise DataError("a part is given twice", got=",".join(order), expected=f"some of {', '.join(TUTORIAL)}, each once")
    return order


def rows_of(values: np.ndarray, order: Order | None, *, file: Path) -> Rows:
    """The frames of an array, and what their numbers stand for.

    Accepts `[T, V]`, `[T, P, C]` and `[C, T, P]`, one frame `[V]` or `[P, C]`, hands `[T, 2, 21, C]`, and axes of size 1
    besides. An `order` decides between readings of the same width with other parts.

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
        return Rows(values, _reading_of_row(values.shape[1], order, file))
    if values.ndim == 3 and values.shape[2] in _DEPTHS and _are_points(values.shape[1]):
        points_TPC = values
    elif values.ndim == 3 and values.shape[0] in _DEPTHS and _are_points(values.shape[2]):
        points_TPC = values.transpose(1, 2, 0)
    else:
        raise _wrong_shape(values, file)
    reading = _reading_of_points(points_TPC.shape[1], points_TPC.shape[2], order, file)
    return Rows(points_TPC.reshape(len(points_TPC), -1), reading)


def is_one_frame(shape: Sequence[int]) -> bool:
    """Whether an array of this shape holds one frame only."""
    shape = _plain_shape(tuple(shape))
    if len(shape) == 3 and shape[0] in _DEPTHS and _are_points(shape[2]):
        return shape[1] == 1
    return len(shape) > 1 and shape[0] == 1


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
    if len(shape) == 4 and shape[1:3] == (2, _HAND):  # both hands
        return (shape[0], 2 * _HAND, shape[3])
    if len(shape) > 3:
        shape = tuple(size for size in shape if size != 1)
    channels_first = len(shape) == 3 and shape[0] in _DEPTHS and _are_points(shape[2])
    if len(shape) == 3 and shape[1] == 1 and not channels_first:
        return (shape[0], shape[2])
    if len(shape) == 3 and shape[0] == 1 and not _are_points(shape[1]):
        return shape[1:]
    if len(shape) == 1 or (len(shape) == 2 and shape[1] in _DEPTHS and _are_points(shape[0])):
        return (1, *shape)
    return shape


def _wrong_shape(values: np.ndarray, file: Path) -> DataError:
    *many, last = values.shape or (0,)
    if len(many) > 1 and (_rows_of_width(last) or (last in _DEPTHS and _are_points(values.shape[-2]))):
        return DataError(
            "the array holds many clips",
            file=file,
            got=str(list(values.shape)),
            expected="one clip per file",
            hint="save each clip as its own file, SRC/<signer>/<word>/<clip>.npy",
        )
    return DataError("the landmarks have the wrong shape", file=file, got=str(list(values.shape)), expected=ACCEPTED)


def _are_points(points: int) -> bool:
    return bool(_parts_of_points(points))


@functools.cache
def _parts_of_points(points: int) -> tuple[tuple[int, int, int], ...]:
    """Points of the pose, points of the face and number of hands that are so many points together."""
    return tuple(
        (pose, face, hands)
        for pose, face, hands in itertools.product(_POSES, _FACES, (0, 1, 2))
        if 0 < points == pose + face + _HAND * hands
    )


@functools.cache
def _rows_of_width(width: int) -> tuple[Reading, ...]:
    """All readings of a row of numbers."""
    found = []
    for pose, face, hands in itertools.product(_POSES, _FACES, (0, 1, 2)):
        for numbers in _DEPTHS:
            for of_pose in (numbers, numbers + 1) if pose and numbers < 4 else (numbers,):
                if 0 < width == pose * of_pose + (face + _HAND * hands) * numbers:
                    found += _readings(pose, face, hands, of_pose, numbers, TUTORIAL)
    return tuple(found)


def _readings(pose: int, face: int, hands: int, of_pose: int, numbers: int, usual: Order) -> list[Reading]:
    """Readings of a frame; two if it has one hand, which may be either."""
    coordinates = min(numbers, NUM_COORDINATES)
    one_of = {
        "pose": Segment("pose", pose, of_pose, coordinates),
        "face": Segment("face", face, numbers, coordinates),
        **{hand: Segment(hand, _HAND, numbers, coordinates) for hand in ("left_hand", "right_hand")},
    }
    kept = {name for name, points in (("pose", pose), ("face", face)) if points}
    sides = ([()], [("left_hand",), ("right_hand",)], [("left_hand", "right_hand")])[hands]
    return [Reading(tuple(one_of[part] for part in usual if part in kept or part in side), usual) for side in sides]


def _reading_of_row(width: int, order: Order | None, file: Path) -> Reading:
    return _only_reading(_rows_of_width(width), order, f"{width:,} numbers per frame", file)


def _reading_of_points(points: int, numbers: int, order: Order | None, file: Path) -> Reading:
    usual = KAGGLE if points >= NUM_LANDMARKS else TUTORIAL
    found = [
        one for pose, face, hands in _parts_of_points(points) for one in _readings(pose, face, hands, numbers, numbers, usual)
    ]
    return _only_reading(found, order, f"{points} points of {numbers} numbers per frame", file)


def _only_reading(found: Sequence[Reading], order: Order | None, got: str, file: Path) -> Reading:
    """The reading that is meant: the one with the parts of the order, or with both hands, or the only one."""
    if not found:
        raise DataError("the frames have another number of values", file=file, got=got, expected=ACCEPTED)
    if order is not None:
        kept = [one for one in found if set(one.parts) == set(order)] or [one for one in found if set(one.parts) < set(order)]
        if not kept:
            readings = "; or ".join(one.described() for one in found)
            raise DataError(
                "the frames have other parts than --order", file=file, got=f"{got}: {readings}", expected=", ".join(order)
            )
    else:
        kept = [one for one in found if {"left_hand", "right_hand"} <= set(one.parts)] or list(found)
    best: dict[tuple[tuple[str, int], ...], Reading] = {}
    for one in kept:  # x, y, z rather than x, y and the visibility
        points = tuple((segment.part, segment.points) for segment in one.segments)
        if points not in best or one.segments[0].coordinates > best[points].segments[0].coordinates:
            best[points] = one
    if len(best) > 1:
        readings = "; or ".join(dict.fromkeys(one.described() for one in best.values()))
        such = f"--order {','.join(next(iter(best.values())).parts)}"
        raise DataError(
            "the frames can be read in different ways",
            file=file,
            got=f"{got}: {readings}",
            expected=f"the parts, in their order, such as {such}",
            hint=f"name the parts that there are, in their order, such as {such}",
        )
    return next(iter(best.values()))
