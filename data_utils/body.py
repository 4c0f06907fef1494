"""How well the parts of a clip fit one body, from what every body has: a hand is at the end of its own arm, a face around its nose.

Distances are in shoulder widths of the clip. Measured on recordings of three sources, the median distance of a hand's wrist from
its own arm's wrist is 0.05 to 0.10, that of the face's nose from the pose's nose 0.02 to 0.09.
"""

# C coordinates (x, y, z), T frames, J landmarks (543)

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from data_utils.landmarks import FACE_START, LEFT_HAND_START, POSE_START, RIGHT_HAND_START

NOSE = POSE_START
LEFT_SHOULDER, RIGHT_SHOULDER = POSE_START + 11, POSE_START + 12
LEFT_WRIST, RIGHT_WRIST = POSE_START + 15, POSE_START + 16
FACE_NOSE = FACE_START + 1
"""The tip of the nose in the face mesh."""

_JOINTS = ((LEFT_HAND_START, LEFT_WRIST), (RIGHT_HAND_START, RIGHT_WRIST), (FACE_NOSE, NOSE))


def body_misfit(feature_CTJ: Float[np.ndarray, "3 T 543"]) -> float | None:
    """How badly hands and face fit the pose: their distance from their own arms' wrists and from the nose, in shoulder widths.

    The mean over the parts, of medians over the frames in which both are detected. About 0.1 as recorded; far more if parts are
    in the wrong order, hands are swapped, or a part is in other units.

    Returns: None if there is nothing to compare: no pose, or neither hands nor a face.
    """
    width = shoulder_width(feature_CTJ)
    if width is None:
        return None
    distances = [median(distance(feature_CTJ, own, other)) for own, other in _JOINTS]
    known = [one for one in distances if one is not None]
    return sum(known) / len(known) / width if known else None


def shoulder_width(feature_CTJ: np.ndarray) -> float | None:
    """Median distance of the shoulders in picture widths; None without shoulders."""
    return median(distance(feature_CTJ, LEFT_SHOULDER, RIGHT_SHOULDER)) or None


def distance(feature_CTJ: np.ndarray, one: int, other: int) -> np.ndarray:
    """Distance of two landmarks in x and y per frame, `[T]`; NaN where one was not detected."""
    x_T, y_T = feature_CTJ[:2, :, one] - feature_CTJ[:2, :, other]
    return np.asarray(np.hypot(x_T, y_T))


def median(values: np.ndarray) -> float | None:
    """Median of the numbers that are not NaN; None if all are."""
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else None
