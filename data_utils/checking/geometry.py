"""Whether the parts of a clip form one body.

Each check is true if the clip fails it, false if it passes, None if that cannot be told. The limits lie between what was
measured on sound recordings and on the same recordings after each fault; lengths are in units of about a shoulder width.
"""

# C coordinates (x, y, z), T frames, J landmarks (543), P points of a part

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from data_utils.body import (
    FACE_NOSE,
    LEFT_EYE,
    LEFT_HIP,
    LEFT_SHOULDER,
    LEFT_WRIST,
    NOSE,
    RIGHT_EYE,
    RIGHT_HIP,
    RIGHT_SHOULDER,
    RIGHT_WRIST,
    distance_T,
    median,
    shoulder_width,
)
from data_utils.landmarks import FILE_PARTS, LEFT_HAND_START, RIGHT_HAND_START

_ARMS = ((LEFT_HAND_START, LEFT_WRIST, RIGHT_WRIST), (RIGHT_HAND_START, RIGHT_WRIST, LEFT_WRIST))

_AT_WRIST, _CLEARLY = 0.4, 0.1
"""A hand is at one of two wrists if it is within 0.4 of it, and less than half as far as from the other, and 0.1 nearer."""

_HAND_AWAY = 0.7
"""Median distance of a hand from the nearer wrist; 1 in 1,000 sound clips has 0.6."""

_FACE_AWAY = 0.5
"""Median distance of the face's nose from the pose's; at most 0.17 in sound clips."""

_MIN_OFFSET = 0.3  # between left and right, or up and down, below which a clip does not tell

_NEAR_ZERO, _HAND_SPAN = 0.03, 0.3
"""World coordinates are in meters, around the middle of the hips or of the hand. In a picture, 0 is its corner."""


def sides_and_places(feature_CTJ: np.ndarray) -> dict[str, bool | None]:
    """Every check of a clip's body, by kind."""
    size = _size(feature_CTJ)
    if size is None:
        return {"eyes": _eyes(feature_CTJ), "world_hands": _world_hands(feature_CTJ)}
    return {name: check(feature_CTJ, size) for name, check in _CHECKS.items()} | {
        "eyes": _eyes(feature_CTJ),
        "world_body": _world_body(feature_CTJ),
        "world_hands": _world_hands(feature_CTJ),
    }


def _size(feature_CTJ: np.ndarray) -> float | None:
    """The shoulder width, or a share of the neck's length if that is more: a signer may be turned sideways."""
    width = shoulder_width(feature_CTJ)
    neck = median(np.abs(feature_CTJ[1, :, NOSE] - _shoulder_height_T(feature_CTJ)))
    return None if width is None else max(width, 0.7 * (neck or 0.0))


def _shoulder_height_T(feature_CTJ: np.ndarray) -> np.ndarray:
    return np.asarray(feature_CTJ[1, :, LEFT_SHOULDER] / 2 + feature_CTJ[1, :, RIGHT_SHOULDER] / 2)


def _hands(feature_CTJ: np.ndarray, size: float) -> bool | None:
    """Most frames in which a hand is clearly at one of the wrists have it at the other arm's."""
    votes = 0
    judged = False
    for hand, own, other in _ARMS:
        own_T, other_T = distance_T(feature_CTJ, hand, own) / size, distance_T(feature_CTJ, hand, other) / size
        near_T, far_T = np.minimum(own_T, other_T), np.maximum(own_T, other_T)
        clear_T = (near_T < _AT_WRIST) & (far_T > 2 * near_T) & (far_T - near_T > _CLEARLY)
        votes += int((clear_T & (own_T < other_T)).sum()) - int((clear_T & (own_T > other_T)).sum())
        judged = judged or bool(clear_T.any())
    return votes < 0 if judged and votes else None


def _hand_place(feature_CTJ: np.ndarray, size: float) -> bool | None:
    """A hand is at neither wrist."""
    away = [
        median(np.minimum(distance_T(feature_CTJ, hand, own), distance_T(feature_CTJ, hand, other)))
        for hand, own, other in _ARMS
    ]
    known = [one / size for one in away if one is not None]
    return max(known) > _HAND_AWAY if known else None


def _face_place(feature_CTJ: np.ndarray, size: float) -> bool | None:
    """The face's nose is far from the pose's."""
    away = median(distance_T(feature_CTJ, FACE_NOSE, NOSE))
    return None if away is None else away / size > _FACE_AWAY


def _shoulders(feature_CTJ: np.ndarray, size: float) -> bool | None:
    """The left shoulder is to the left of the right one: those who face the camera have it to the right, also in a mirror."""
    return _below(feature_CTJ[0, :, LEFT_SHOULDER] - feature_CTJ[0, :, RIGHT_SHOULDER], size)


def _head(feature_CTJ: np.ndarray, size: float) -> bool | None:
    """The nose is below the shoulders."""
    return _below(_shoulder_height_T(feature_CTJ) - feature_CTJ[1, :, NOSE], size / 10)


def _hips(feature_CTJ: np.ndarray, size: float) -> bool | None:
    """The hips are above the shoulders."""
    hips_TP = feature_CTJ[1][:, [LEFT_HIP, RIGHT_HIP]]
    hips_T = np.where((hips_TP == 0).any(axis=1), np.nan, hips_TP.mean(axis=1))
    return _below(hips_T - _shoulder_height_T(feature_CTJ), size)


def _below(offset_T: np.ndarray, size: float) -> bool | None:
    """Whether an offset that should be above 0 is below; None if it is small."""
    offset = median(offset_T)
    return None if offset is None or abs(offset) < _MIN_OFFSET * size else offset < 0


def _eyes(feature_CTJ: np.ndarray) -> bool | None:
    """The face's left eye is to the left of its right eye."""
    width = median(distance_T(feature_CTJ, LEFT_EYE, RIGHT_EYE))
    return None if not width else _below(feature_CTJ[0, :, LEFT_EYE] - feature_CTJ[0, :, RIGHT_EYE], width)


def _world_body(feature_CTJ: np.ndarray) -> bool | None:
    """The middle of the hips is at 0 in nearly every frame, as in MediaPipe's world coordinates."""
    hips_CTP = feature_CTJ[:2][:, :, [LEFT_HIP, RIGHT_HIP]]
    known_T = ~np.isnan(hips_CTP).any(axis=(0, 2)) & (hips_CTP != 0).any(axis=(0, 2))
    if not known_T.any():
        return None
    middle = median(np.abs(hips_CTP[:, known_T].sum(axis=2)).max(axis=0) / 2)
    return middle is not None and middle < _NEAR_ZERO


def _world_hands(feature_CTJ: np.ndarray) -> bool | None:
    """The middle of a hand is at 0 in nearly every frame, as in MediaPipe's world coordinates."""
    found = None
    for part in ("left_hand", "right_hand"):
        hand_CTP = feature_CTJ[:2, :, FILE_PARTS[part]]
        span = median(np.ptp(hand_CTP, axis=2))
        if span:
            middle = median(np.abs(hand_CTP.mean(axis=2)).max(axis=0))
            found = bool(found) or (middle is not None and middle < _NEAR_ZERO and span < _HAND_SPAN)
    return found


_CHECKS: dict[str, Callable[[np.ndarray, float], bool | None]] = {
    "hands": _hands,
    "shoulders": _shoulders,
    "hand_place": _hand_place,
    "face_place": _face_place,
    "head": _head,
    "hips": _hips,
}
