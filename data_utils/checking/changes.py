"""What was changed between two clips of one recording."""

# A and B frames of two clips, P points of a frame (9), N their numbers (18), last axis 2 = x y

from __future__ import annotations

import numpy as np

from data_utils.checking.signature import Signature, mirrored_points

_ROUNDED, _NOISED = 0.0004, 0.002  # distances of frames above which they differ by more than rounding, and by noise
_FEWEST = 6  # numbers that both frames have, to be compared
_FAR = 9.0
_SAME_PLACE, _NEAR_PLACE = 0.02, 0.08  # of the picture's size
_MOST_FRAMES = 64  # of the shorter clip that are compared


def frame_distances(one_AP2: np.ndarray, other_BP2: np.ndarray) -> np.ndarray:
    """`[A, B]`: root mean square difference of the numbers that two frames have both; `_FAR` if they have too few.

    Both may have further axes in front, the same.
    """
    (one_AN, known_AN), (other_BN, known_BN) = _numbers(one_AP2), _numbers(other_BP2)
    other_NB, known_NB = np.swapaxes(other_BN, -1, -2), np.swapaxes(known_BN, -1, -2)
    square_AB = (one_AN * one_AN) @ known_NB + known_AN @ (other_NB * other_NB) - 2 * one_AN @ other_NB
    count_AB = known_AN @ known_NB
    return np.where(count_AB < _FEWEST, _FAR, np.sqrt(np.maximum(square_AB, 0) / np.maximum(count_AB, 1)))


def _numbers(points_TP2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`[T, N]`, 0 where not detected, and 1 where detected."""
    numbers_TN = points_TP2.reshape(*points_TP2.shape[:-2], -1).astype(np.float32)
    missing_TN = np.isnan(numbers_TN)
    numbers_TN[missing_TN] = 0
    return numbers_TN, 1 - missing_TN.astype(np.float32)


def chosen_frames(length: int) -> np.ndarray:
    """Numbers of at most `_MOST_FRAMES` frames of a clip, evenly chosen."""
    return np.linspace(0, length - 1, min(length, _MOST_FRAMES)).round().astype(int)


def changes(one: Signature, other: Signature, mirrored: bool) -> str:
    """What distinguishes two clips of one recording, as a list of words: `mirrored, trimmed`."""
    short, long = sorted((one.points_TP2, mirrored_points(other.points_TP2) if mirrored else other.points_TP2), key=len)
    rows_A = chosen_frames(len(short))
    distance_AB = frame_distances(short[rows_A], long)
    distance = float(np.median(distance_AB.min(axis=1)))
    found = _changes_of_place(one, other, mirrored) + _changes_in_time(distance_AB, rows_A, long)
    if distance > _NOISED * (1 if not {"every second frame", "at another speed"} & set(found) else 5):
        found.append("noised")
    return ", ".join(found or ["rounded"])


def _changes_of_place(one: Signature, other: Signature, mirrored: bool) -> list[str]:
    """Mirrored, moved or scaled in the picture."""
    first_32, second_32 = one.place_6.reshape(3, 2), other.place_6.reshape(3, 2)
    turned = np.linalg.det(first_32[1:]) * np.linalg.det(second_32[1:]) < 0
    if mirrored and turned:
        return ["left and right parts swapped"]
    if mirrored or turned:
        second_32 = second_32 * [-1, 1] + [[1, 0], [0, 0], [0, 0]]
    if mirrored:
        second_32 = second_32 * [[1], [-1], [1]]
    cut = len(one.points_TP2) != len(other.points_TP2)  # people move, so that the usual place depends on it
    moved = np.abs(first_32 - second_32).max() > (_NEAR_PLACE if cut else _SAME_PLACE)
    return ["mirrored"] * bool(mirrored or turned) + ["moved or scaled"] * bool(moved)


def _changes_in_time(distance_AB: np.ndarray, rows_A: np.ndarray, long: np.ndarray) -> list[str]:
    """Another speed, reversed, trimmed or padded, from the distances of frames `rows_A` of the shorter clip to the longer."""
    nearest_A, distance_A = distance_AB.argmin(axis=1), distance_AB.min(axis=1)
    alike_A = distance_A <= max(3 * float(np.median(distance_A)), _NOISED)
    close = max(1.5 * float(np.median(distance_A)), _NOISED)
    for speed in (1, 2, -1):
        start = float(np.median((nearest_A - speed * rows_A)[alike_A]))
        there_A = np.clip(np.rint(start + speed * rows_A).astype(int), 0, len(long) - 1)
        if np.median(np.take_along_axis(distance_AB, there_A[:, None], axis=1)[alike_A]) <= close:
            break
    else:
        return ["at another speed"]
    name = {1: [], 2: ["every second frame"], -1: ["reversed"]}[speed]
    first, last = sorted((start, start + speed * rows_A[-1]))
    tail = long[max(0, round(last)) + 1 :]
    if max(-first, last - len(long) + 1, first, len(long) - 1 - last) <= abs(speed):  # both show the whole
        return name or ["trimmed"] * bool(len(long) > rows_A[-1] + 1)
    still = len(tail) > 1 and frame_distances(tail, long[-1:]).max() <= _ROUNDED
    return [*name, "padded" if still and first <= 1 else "trimmed"]
