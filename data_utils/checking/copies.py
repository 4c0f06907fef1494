"""Finds clips that occur again under another signer's name or their own, unchanged or changed.

A search that trains on such a clip and validates on its copy looks better than it is. The copy may have been mirrored, moved
or scaled in the picture, trimmed, padded, thinned out, rounded, or covered with noise. Two clips are copies if most frames of
the shorter one occur in the other.
"""

# A and B frames of two clips, P points of a frame (9), last axis 2 = x y

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from scipy.cluster.hierarchy import DisjointSet

from data_utils.checking.candidates import candidates
from data_utils.checking.changes import changes, chosen_frames, frame_distances
from data_utils.checking.signature import Signature, mirrored_points, signature, smooth

__all__ = ["Signature", "find_copies", "signature"]

_LIMITS = ((1, 0, 0.02), (3, 1, 0.02), (16, 3, 0.025))
"""From how many frames on, how often smoothed once more (against noise), and the largest median distance of the frames of a
copy, in body units (about shoulder widths), root mean square over the points. The closest of 5,000 synthetic clips of 50 signs
are 0.024, 0.024 and 0.040 apart, of real recordings by different signers 0.04."""

_ONE_PERSON = 0.5
"""By how much the distance must be smaller within one signer. The closest takes of one sign by one of 18 real signers are 0.017
apart, copies with noise of 0.2% of the picture at most 0.009."""

_ENOUGH = 10  # frames, less 2; the distance of shorter clips must be smaller, because they resemble each other more easily


def find_copies(signatures: Sequence[Signature], signers: Sequence[str] | None = None) -> list[tuple[int, int, str]]:
    """Pairs of clips under different signers that show one recording, and what was changed, such as `mirrored, trimmed`.

    Without `signers`, all clips are compared with each other, by limits for one person, who repeats a sign almost alike.

    `exact` means that x and y are the same. If a recording occurs more than twice, each copy appears in at least one pair, but
    not every pair is listed.
    """
    equal: dict[bytes, list[int]] = defaultdict(list)
    for number, signed in enumerate(signatures):
        if signed.digest:
            equal[signed.digest].append(number)
    pairs: list[tuple[int, int, str]] = []
    recordings = DisjointSet()
    chosen: list[int] = []
    for group in equal.values():
        same = list(_across_signers(group, range(len(signatures)) if signers is None else signers))
        pairs += [(one, other, "exact") for one, other in same]
        chosen += same[0] if same else group[:1]
        if same:
            _join(recordings, *same[0])
    nearer = _ONE_PERSON if signers is None else 1.0
    chosen_signers = None if signers is None else [signers[number] for number in chosen]
    for this, that, mirrored in candidates([signatures[number] for number in chosen], chosen_signers):
        one, other = sorted((chosen[this], chosen[that]))
        if _joined(recordings, one, other):
            continue
        if is_copy(signatures[one].points_TP2, signatures[other].points_TP2, mirrored, nearer):
            _join(recordings, one, other)
            pairs.append((one, other, changes(signatures[one], signatures[other], mirrored)))
    return sorted(pairs)


def _across_signers(group: list[int], signers: Sequence[object]) -> Iterator[tuple[int, int]]:
    """Each clip of a group of equal ones with the first clip of another signer."""
    first = group[0]
    others = [number for number in group if signers[number] != signers[first]]
    for number in group[1:]:
        if signers[number] != signers[first]:
            yield first, number
        elif others:
            yield min(number, others[0]), max(number, others[0])


def _joined(recordings: DisjointSet, one: int, other: int) -> bool:
    return one in recordings and other in recordings and bool(recordings.connected(one, other))


def _join(recordings: DisjointSet, one: int, other: int) -> None:
    recordings.add(one)
    recordings.add(other)
    recordings.merge(one, other)


def is_copy(one_AP2: np.ndarray, other_BP2: np.ndarray, mirrored: bool, nearer: float = 1.0) -> bool:
    """Whether most frames of the shorter clip also occur in the other one, as they are or without their noise.

    `nearer` scales the distances that are allowed.
    """
    short, long = sorted((one_AP2, mirrored_points(other_BP2) if mirrored else other_BP2), key=len)
    rows_A = chosen_frames(len(short))
    different = 1 + np.count_nonzero(np.any(np.diff(np.nan_to_num(short[rows_A]), axis=0), axis=(1, 2)))
    for frames, times, limit in _LIMITS:
        if different < frames:
            return False
        for _ in range(times):
            short, long = smooth(short), smooth(long)
        if np.median(frame_distances(short[rows_A], long).min(axis=1)) <= nearer * limit * min(1.0, (different + 2) / _ENOUGH):
            return True
    return False
