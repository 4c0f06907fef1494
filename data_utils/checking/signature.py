"""What is kept of a clip to recognize it under another name, whatever was done to it.

Every frame is reduced to a few points in the coordinates of its own body: no affine change of the picture alters them, and they
do not depend on where the clip was cut.
"""

# C coordinates (x, y, z), T frames, J landmarks (543), U landmarks that are read, P points of a frame (9), last axis 2 = x y

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from data_utils.body import LEFT_SHOULDER, RIGHT_SHOULDER
from data_utils.landmarks import FACE_START, FILE_PARTS, LEFT_HAND_START, NUM_LANDMARKS, POSE_START, RIGHT_HAND_START

_TIPS = (4, 8, 12, 16, 20)
_POINTS = (  # landmarks that are averaged: their noise is averaged, too
    [POSE_START + n for n in (15, 17, 19, 21)],  # the left arm's end: wrist, knuckles, thumb
    [POSE_START + n for n in (16, 18, 20, 22)],
    [POSE_START + 13],  # the left elbow
    [POSE_START + 14],
    [FACE_START + 17, FACE_START + 152],  # lower lip and chin
    list(range(LEFT_HAND_START, LEFT_HAND_START + 21)),
    list(range(RIGHT_HAND_START, RIGHT_HAND_START + 21)),
    [LEFT_HAND_START + n for n in _TIPS],
    [RIGHT_HAND_START + n for n in _TIPS],
    list(range(POSE_START, POSE_START + 11)),  # the head; only to measure the other points by
    [LEFT_SHOULDER],
    [RIGHT_SHOULDER],
)
_HEAD, _LEFT_SHOULDER, _RIGHT_SHOULDER = 9, 10, 11
NUM_POINTS = 9
MIRRORED_POINTS = [1, 0, 3, 2, 4, 6, 5, 8, 7]

_READ = np.array(sorted({number for point in _POINTS for number in point}))
_AVERAGE_UP = np.stack([np.isin(_READ, point) / len(point) for point in _POINTS], axis=1).astype(np.float32)
_PART_OF_U = np.array([next(n for n, part in enumerate(FILE_PARTS.values()) if part.start <= one < part.stop) for one in _READ])
_PICTURE_UNIT = 0.3  # of clips without shoulders: about a shoulder width
_FARTHEST = 20.0  # body units; farther is where the shoulders are too close together to measure by
_SAMPLE = slice(0, NUM_LANDMARKS, 7)  # landmarks that the digest covers


@dataclass(frozen=True)
class Signature:
    """What is kept of one clip, 1.4 kB for 38 frames."""

    digest: bytes
    """Equal for clips that are equal in x and y, wherever they are detected. Empty if nothing is."""

    points_TP2: Float[np.ndarray, "T 9 2"]
    """float16, NaN = not detected. The shoulders are at (0.5, 0) and (-0.5, 0), the head at (0, 1)."""

    place_6: np.ndarray
    """float32 `[6]`, in the picture: middle of the shoulders, vector between them (to the left one), vector to the head."""


def signature(feature_CTJ: Float[np.ndarray, "3 T 543"]) -> Signature:
    """Reduces a clip, NaN = not detected, to what is kept of it. Points with constants instead of NaN, such as (0, 0),
    count as not detected."""
    points_PT2 = _points(feature_CTJ[:2])
    own_PT2, place_6 = _in_body_coordinates(points_PT2)
    points_TP2 = np.ascontiguousarray(own_PT2.transpose(1, 0, 2), dtype=np.float16)
    sample = np.nan_to_num(feature_CTJ[:2, :, _SAMPLE]) + np.float32(0)
    return Signature(
        digest=hashlib.blake2b(sample.tobytes(), digest_size=16).digest() if sample.any() else b"",
        points_TP2=points_TP2,
        place_6=place_6,
    )


def _points(xy_2TJ: np.ndarray) -> np.ndarray:
    """`[12, T, 2]`: averages of landmarks in the picture, NaN where one of them was not detected."""
    xy_2TU = xy_2TJ[:, :, _READ]
    x_TU, y_TU = xy_2TU
    filled_TU = ((x_TU == 0) | (x_TU == 1)) & (y_TU == 0) | (x_TU == -1) & (y_TU == -1)
    missing_TU = np.isnan(x_TU) | filled_TU
    points = np.where(missing_TU, np.float32(0), xy_2TU) @ _AVERAGE_UP
    points[:, (missing_TU.astype(np.float32) @ _AVERAGE_UP) > 0] = np.nan
    return points.transpose(2, 1, 0)


def _in_body_coordinates(points_PT2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The points by the shoulders and the head of each frame (means of three frames, against noise), and their usual place."""
    body_3T2 = smooth(points_PT2[[_LEFT_SHOULDER, _RIGHT_SHOULDER, _HEAD]].transpose(1, 0, 2)).transpose(1, 0, 2)
    middle_T2, across_T2 = (body_3T2[0] + body_3T2[1]) / 2, body_3T2[0] - body_3T2[1]
    up_T2 = body_3T2[2] - middle_T2
    points = points_PT2[:NUM_POINTS].copy()
    if np.isnan(across_T2).all():  # no pose: by the picture, with the hands in place of the arms
        points[[0, 1]] = points[[5, 6]]
        return (points - np.float32(0.5)) / np.float32(_PICTURE_UNIT), np.zeros(6, np.float32)
    if np.isnan(up_T2).all():  # a pose without a head
        up_T2 = np.stack([across_T2[:, 1], -across_T2[:, 0]], axis=1)
    (x, y), (across_x, across_y), (up_x, up_y) = np.moveaxis(points - middle_T2, 2, 0), across_T2.T, up_T2.T
    with np.errstate(divide="ignore", invalid="ignore"):
        area_T = across_x * up_y - across_y * up_x
        own = np.stack([(x * up_y - y * up_x) / area_T, (y * across_x - x * across_y) / area_T], axis=2)
    own[~(np.abs(own) < _FARTHEST)] = np.nan
    place = np.concatenate([middle_T2, across_T2, up_T2], axis=1)
    return own, _median(place)


def _median(place_T6: np.ndarray) -> np.ndarray:
    known_T6 = place_T6[~np.isnan(place_T6).any(axis=1)]
    return np.median(known_T6, axis=0).astype(np.float32) if len(known_T6) else np.zeros(6, np.float32)


def smooth(points_TP2: np.ndarray) -> np.ndarray:
    """Means of three frames, or two at the ends, of those that are known."""
    known = ~np.isnan(points_TP2)
    total, count = np.where(known, points_TP2, 0).astype(np.float32), known.astype(np.float32)
    sums, counts = total.copy(), count.copy()
    for mean, each in ((sums, total), (counts, count)):
        mean[1:] += each[:-1]
        mean[:-1] += each[1:]
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def mirrored_points(points_TP2: np.ndarray) -> np.ndarray:
    """The points of the mirrored clip, with left and right renamed."""
    return points_TP2[:, MIRRORED_POINTS] * np.array([-1, 1], points_TP2.dtype)
