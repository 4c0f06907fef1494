"""What the numbers of a frame stand for: which parts there are, how many points, and how many numbers each.

A frame holds some of pose, face, left hand and right hand, one after another, as a row of numbers or as points. The tutorial's
1662 numbers are the most common:

    pose 33 x (x, y, z, visibility), face 468 x (x, y, z), left hand 21 x (x, y, z), right hand 21 x (x, y, z)

Others leave out the face, the visibility or z, keep the first 25 points of the pose (to the hips), or have a face of 478
points, of which the last 10 are irises and are ignored.

Sources: `extract_keypoints` of the common tutorial, https://github.com/nicknochnack/ActionDetectionforSignLanguage;
FACEMESH_NUM_LANDMARKS (468), FACEMESH_NUM_LANDMARKS_WITH_IRISES (478) of mediapipe/python/solutions/face_mesh.py.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

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

HAND_POINTS = 21
"""Points of a hand."""

DEPTHS = (2, 3, 4)
"""Numbers per point: x and y, perhaps z, perhaps a visibility."""

_POSES, _FACES = (0, 33, 25), (0, 468, 478)


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


def are_points(points: int) -> bool:
    """Whether some parts have so many points together."""
    return bool(_parts_of_points(points))


@functools.cache
def _parts_of_points(points: int) -> tuple[tuple[int, int, int], ...]:
    """Points of the pose, points of the face and number of hands that are so many points together."""
    return tuple(
        (pose, face, hands)
        for pose, face, hands in itertools.product(_POSES, _FACES, (0, 1, 2))
        if 0 < points == pose + face + HAND_POINTS * hands
    )


@functools.cache
def readings_of_width(width: int) -> tuple[Reading, ...]:
    """All readings of a row of numbers."""
    found = []
    for pose, face, hands in itertools.product(_POSES, _FACES, (0, 1, 2)):
        for numbers in DEPTHS:
            for of_pose in (numbers, numbers + 1) if pose and numbers < 4 else (numbers,):
                if 0 < width == pose * of_pose + (face + HAND_POINTS * hands) * numbers:
                    found += _readings(pose, face, hands, of_pose, numbers, TUTORIAL)
    return tuple(found)


def _readings(pose: int, face: int, hands: int, of_pose: int, numbers: int, usual: Order) -> list[Reading]:
    """Readings of a frame; two if it has one hand, which may be either."""
    coordinates = min(numbers, NUM_COORDINATES)
    one_of = {
        "pose": Segment("pose", pose, of_pose, coordinates),
        "face": Segment("face", face, numbers, coordinates),
        **{hand: Segment(hand, HAND_POINTS, numbers, coordinates) for hand in ("left_hand", "right_hand")},
    }
    kept = {name for name, points in (("pose", pose), ("face", face)) if points}
    sides = ([()], [("left_hand",), ("right_hand",)], [("left_hand", "right_hand")])[hands]
    return [Reading(tuple(one_of[part] for part in usual if part in kept or part in side), usual) for side in sides]


def reading_of_row(width: int, order: Order | None, file: Path) -> Reading:
    return _only_reading(readings_of_width(width), order, f"{width:,} numbers per frame", file)


def reading_of_points(points: int, numbers: int, order: Order | None, file: Path) -> Reading:
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
                "the frames have other parts than --order",
                file=file,
                got=f"{got}: {readings}",
                expected=", ".join(order),
                hint="name the parts that there are, in their order, or leave out --order",
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
