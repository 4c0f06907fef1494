"""How well the parts of a clip fit one body.

Every body has its hands at the ends of its own arms and its face around its nose, and proportions within limits. Lengths are in
shoulder widths of the clip. In recordings of three sources, the median distance of a hand's wrist from its own arm's wrist is
0.05 to 0.10, that of the face's nose from the pose's nose 0.02 to 0.09.
"""

# C coordinates (x, y, z), T frames, J landmarks (543)

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from data_utils.landmarks import FACE_START, LEFT_HAND_START, POSE_START, RIGHT_HAND_START

NOSE = POSE_START
LEFT_SHOULDER, RIGHT_SHOULDER = POSE_START + 11, POSE_START + 12
LEFT_WRIST, RIGHT_WRIST = POSE_START + 15, POSE_START + 16
LEFT_HIP, RIGHT_HIP = POSE_START + 23, POSE_START + 24
FACE_NOSE = FACE_START + 1
"""The tip of the nose in the face mesh."""

RIGHT_EYE, LEFT_EYE = FACE_START + 33, FACE_START + 263
"""The outer corners of the eyes in the face mesh."""

_MIDDLE_KNUCKLE = 9  # of a hand
_JOINTS = (  # the same point of the body in two parts: of each hand, and of the face (nose, corners of the eyes and the mouth)
    ((LEFT_HAND_START, LEFT_WRIST),),
    ((RIGHT_HAND_START, RIGHT_WRIST),),
    (
        (FACE_NOSE, NOSE),
        (RIGHT_EYE, POSE_START + 6),
        (LEFT_EYE, POSE_START + 3),
        (FACE_START + 61, POSE_START + 10),
        (FACE_START + 291, POSE_START + 9),
    ),
)
_LENGTHS = (  # two points, and limits that hold from 0.4 to 2 times what was measured in recordings of three sources
    (RIGHT_EYE, LEFT_EYE, 0.2, 0.6),
    (LEFT_HAND_START, LEFT_HAND_START + _MIDDLE_KNUCKLE, 0.1, 0.8),
    (RIGHT_HAND_START, RIGHT_HAND_START + _MIDDLE_KNUCKLE, 0.1, 0.8),
)
_NECK = (0.35, 1.8)  # height of the nose above the middle of the shoulders; 0.41 to 1.38 in the same recordings


def body_misfit(feature_CTJ: Float[np.ndarray, "3 T 543"]) -> float | None:
    """How badly hands and face fit the pose, in shoulder widths.

    The distances of hands from their own arms' wrists, and of the face from the pose's nose, eyes and mouth (medians over the
    frames in which both are detected, averaged over each part and then over the parts), plus the logarithm of the factor by
    which the distance of the eyes, the lengths of the palms and the height of the nose are outside of what bodies have.

    About 0.1 as recorded; above 0.3 and mostly far more if parts are in the wrong order, hands are swapped, or a part is in
    other units. Hands that are close together fit either arm.

    Returns: None if there is nothing to compare: no pose, or neither hands nor a face.
    """
    width = shoulder_width(feature_CTJ)
    if width is None:
        return None
    known = []
    for pairs in _JOINTS:
        distances = [median(distance_T(feature_CTJ, one, other)) for one, other in pairs]
        if found := [distance for distance in distances if distance is not None]:
            known.append(sum(found) / len(found) / width)
    if not known:
        return None
    shoulders_T = feature_CTJ[1, :, LEFT_SHOULDER] / 2 + feature_CTJ[1, :, RIGHT_SHOULDER] / 2
    lengths = [(median(distance_T(feature_CTJ, one, other)), low, high) for one, other, low, high in _LENGTHS]
    lengths.append((median(shoulders_T - feature_CTJ[1, :, NOSE]), *_NECK))
    outside = sum(_outside(one / width, low, high) for one, low, high in lengths if one is not None)
    return sum(known) / len(known) + outside


def _outside(length: float, low: float, high: float) -> float:
    """Logarithm of the factor by which a length is outside its limits; 0 within them."""
    length = max(length, low / 100)
    return max(math.log(low / length), math.log(length / high), 0.0)


def shoulder_width(feature_CTJ: np.ndarray) -> float | None:
    """Median distance of the shoulders in picture widths; None without shoulders."""
    return median(distance_T(feature_CTJ, LEFT_SHOULDER, RIGHT_SHOULDER)) or None


def distance_T(feature_CTJ: np.ndarray, one: int, other: int) -> np.ndarray:
    """Distance of two landmarks in x and y per frame, `[T]`; NaN where one was not detected."""
    x_T, y_T = feature_CTJ[:2, :, one] - feature_CTJ[:2, :, other]
    return np.asarray(np.hypot(x_T, y_T))


def median(values: np.ndarray) -> float | None:
    """Median of the numbers that are not NaN; None if all are."""
    known = np.sort(values[~np.isnan(values)])  # np.median takes twice as long
    middle = len(known) // 2
    return float(known[middle] / 2 + known[middle - 1 + len(known) % 2] / 2) if len(known) else None
