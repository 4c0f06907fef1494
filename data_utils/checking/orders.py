"""Finds the order of parts in which a clip should have been read, where hands and face do not fit the body."""

# C coordinates (x, y, z), T frames, J landmarks (543)

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from data_utils.body import body_misfit
from data_utils.landmarks import FILE_PARTS, LEFT_HAND_START, NUM_LANDMARKS, POSE_START, RIGHT_HAND_START

_NUMPY_ORDER = ("pose", "face", "left_hand", "right_hand")  # of the common tutorial, in which files of frames are read
_HANDS = {"left_hand": "right_hand", "right_hand": "left_hand"}

FITS = 0.3
"""A `body_misfit` below this shows that an order is right: 99% of sound clips, and no clip in an order that is wrong."""

_MAX_FRAMES = 6  # looked at


class PartOrder(NamedTuple):
    """The order in which the parts of a clip should have been read."""

    parts: str
    """Such as `pose,left_hand,right_hand,face`."""

    landmarks: bool
    """Whether the clip's points are in this order; else numbers were, which were read as pose, face, left hand, right hand."""


NO_ORDER = PartOrder("", False)


def fitting_order(feature_CTJ: np.ndarray) -> PartOrder:
    """The order of parts that makes a body of a clip, far better than its own order; `NO_ORDER` if none does.

    None is sought where the face fits the pose: these two are in their places then, so that only the hands can be wrong.
    """
    head_CTJ = feature_CTJ.copy()
    head_CTJ[:, :, [*range(LEFT_HAND_START, POSE_START), *range(RIGHT_HAND_START, NUM_LANDMARKS)]] = np.nan
    head = body_misfit(head_CTJ)
    if head is not None and head < FITS:
        return NO_ORDER
    frames = np.unique(np.linspace(0, feature_CTJ.shape[1] - 1, _MAX_FRAMES).astype(int))
    found = [(body_misfit(clip), order) for order, clip in _reordered(feature_CTJ[:, frames])]
    own = body_misfit(feature_CTJ)
    most = FITS if own is None else min(FITS, own / 2)
    fitting = [(misfit, order) for misfit, order in found if misfit is not None and misfit < most]
    return min(fitting, key=lambda one: one[0])[1] if fitting else NO_ORDER


def _reordered(feature_CTJ: np.ndarray) -> Iterator[tuple[PartOrder, np.ndarray]]:
    """The clip in every order that differs in more than the side of the hands, and the name of the order."""
    for read_as, pose_width in ((tuple(FILE_PARTS), 3), (_NUMPY_ORDER, 3), (_NUMPY_ORDER, 4)):
        numbers_TV = _numbers(feature_CTJ, read_as, pose_width)
        swapped = tuple(_HANDS.get(part, part) for part in read_as)
        for order in itertools.permutations(_NUMPY_ORDER):
            if order not in (read_as, swapped):
                landmarks = read_as == tuple(FILE_PARTS)
                yield PartOrder(",".join(order), landmarks), _landmarks(numbers_TV, order, pose_width)


def _numbers(feature_CTJ: np.ndarray, order: Sequence[str], pose_width: int) -> np.ndarray:
    """The numbers of each frame, `[T, V]`; of 4 per point of the pose, the visibility is unknown (NaN)."""
    rows = []
    for part in order:
        points_TPC = feature_CTJ[:, :, FILE_PARTS[part]].transpose(1, 2, 0)
        if part == "pose":
            points_TPC = np.pad(points_TPC, ((0, 0), (0, 0), (0, pose_width - 3)), constant_values=np.nan)
        rows.append(points_TPC.reshape(len(points_TPC), -1))
    return np.concatenate(rows, axis=1)


def _landmarks(numbers_TV: np.ndarray, order: Sequence[str], pose_width: int) -> np.ndarray:
    """Landmarks `[3, T, 543]` of frames in an order. Parts without a number other than 0 are missing."""
    feature_CTJ = np.empty((3, len(numbers_TV), NUM_LANDMARKS), np.float32)
    start = 0
    for part in order:
        where = FILE_PARTS[part]
        points, width = where.stop - where.start, pose_width if part == "pose" else 3
        part_CTP = numbers_TV[:, start : start + points * width].reshape(-1, points, width).transpose(2, 0, 1)[:3]
        missing_T = ~(np.nan_to_num(part_CTP) != 0).any(axis=(0, 2))
        feature_CTJ[:, :, where] = np.where(missing_T[:, None], np.nan, part_CTP)
        start += points * width
    return feature_CTJ
