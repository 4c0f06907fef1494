"""Whether the frames of a clip are in the order of time: real movement is smoother than other orders of the same frames."""

# C coordinates (x, y), T frames, J landmarks (543), P points

from __future__ import annotations

import functools

import numpy as np

from data_utils.body import LEFT_SHOULDER, NOSE, RIGHT_WRIST, median, shoulder_width
from data_utils.landmarks import FILE_PARTS

_BODY = (NOSE, *range(LEFT_SHOULDER, RIGHT_WRIST + 1))
_MIN_FRAMES = 12
_MIN_MOVEMENT = 0.03  # mean distance of two frames in shoulder widths, below which steps are mostly noise

_SMOOTH = 0.8
"""Mean step, as a share of the mean distance of two frames drawn at random. Sound clips have at most 0.7, half of them 0.25;
95% of shuffled ones have more than 0.8, half of them 1."""

_SMOOTHER = 0.8
"""An order explains a clip if steps are at most 0.8 times as long in it. Sound clips: at least 0.97."""


def order_of_time(feature_CTJ: np.ndarray) -> dict[str, bool | None]:
    """Whether the frames are sorted by name as text (0, 1, 10, 11, 2), and whether they are shuffled.

    None where that cannot be told: the clip is short, or nothing moves in it.
    """
    place_TCP = _moving_points(feature_CTJ)
    if place_TCP is None:
        return {"text_order": None, "shuffled": None}
    count = len(place_TCP)
    step = _step(place_TCP, np.arange(count))
    between = _step(place_TCP, _random_order(count))
    if not between >= _MIN_MOVEMENT:
        return {"text_order": None, "shuffled": None}
    if count > _MIN_FRAMES and step > 0:
        by_number = min(_step(place_TCP, np.argsort(_text_order(count, first))) for first in (0, 1))
        if by_number < min(_SMOOTHER * step, _SMOOTH * between):
            return {"text_order": True, "shuffled": None}
    return {"text_order": False, "shuffled": step > _SMOOTH * between}


def _moving_points(feature_CTJ: np.ndarray) -> np.ndarray | None:
    """Places of the upper body, or of the hand that is seen most if there is no pose: `[T, C, P]`, in shoulder widths."""
    width = shoulder_width(feature_CTJ)
    if width is not None:
        place_CTP = feature_CTJ[:2][:, :, list(_BODY)] / width
    else:
        hands = [feature_CTJ[:2, :, FILE_PARTS[part]] for part in ("left_hand", "right_hand")]
        hand_CTP = min(hands, key=lambda one: int(np.isnan(one[0, :, 0]).sum()))
        palm = median(np.hypot(*(hand_CTP[:, :, 9] - hand_CTP[:, :, 0])))
        if not palm:
            return None
        place_CTP = hand_CTP[:, :, ::4] / (3 * palm)  # the wrist and the tips; a palm is about a third of a shoulder width
    seen = ~np.isnan(place_CTP).any(axis=(0, 2))
    if seen.sum() < _MIN_FRAMES:
        return None
    return np.ascontiguousarray(place_CTP.transpose(1, 0, 2))


def _step(place_TCP: np.ndarray, order_T: np.ndarray) -> float:
    """Mean distance of consecutive frames in an order, over the steps between frames in which all points are seen."""
    moved_SCP = np.diff(place_TCP[order_T], axis=0)
    step_S = np.hypot(moved_SCP[:, 0], moved_SCP[:, 1]).mean(axis=1)
    return float(step_S[~np.isnan(step_S)].mean()) if not np.isnan(step_S).all() else float("nan")


@functools.cache
def _random_order(count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.concatenate([rng.permutation(count) for _ in range(5)])


@functools.cache
def _text_order(count: int, first: int) -> np.ndarray:
    """The frames by the text of their numbers, which begin at `first`."""
    return np.array(sorted(range(count), key=lambda number: str(first + number)))
