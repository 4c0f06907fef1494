"""Finds clips that occur again under another signer's name, unchanged or changed.

A search that trains on such a clip and validates on its copy looks better than it is. The copy may have been mirrored, moved
or scaled in the picture, trimmed, padded, thinned out, rounded, or covered with noise. Clips that share a key are candidates,
found by k-d trees. They are copies if the frames of the shorter one, or most of them, occur in the other.
"""

# T frames, S clips, A and B frames of two clips, P points of a frame (9), K keys of a clip (8), D numbers of a key (10),
# N pairs, last axis 2 = x y

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from scipy.cluster.hierarchy import DisjointSet
from scipy.spatial import cKDTree

from data_utils.checking.changes import changes, chosen_frames, frame_distances
from data_utils.checking.signature import Signature, mirrored_keys, mirrored_points, signature, smooth

__all__ = ["Signature", "find_copies", "signature"]

_NEAR = 0.02
"""Largest median distance of the frames of a copy, in body units (about shoulder widths), root mean square over the points. The
closest of 5,000 synthetic clips of 50 signs are 0.024 apart, of real recordings by different signers 0.04 and 0.06."""

_ENOUGH = 10  # frames, less 2; the distance of shorter clips must be smaller, because they resemble each other more easily
_KEY_RADIUS = 0.15
"""Largest distance of two keys of one recording. Noise of 1% of the picture's width gives up to 0.1."""

_SURE_RADIUS = 0.05  # one key is enough within it; beyond it, two keys must agree
_NEIGHBORS = 2  # of each key that are looked at
_KEY_WEIGHTS_D = np.repeat(np.array([1, 1, 0.7, 0.7, 1], np.float32), 2)  # elbows are single points, with more noise


def find_copies(signatures: Sequence[Signature], signers: Sequence[str]) -> list[tuple[int, int, str]]:
    """Pairs of clips under different signers that show one recording, and what was changed, such as `mirrored, trimmed`.

    `exact` means that nothing was changed. If a recording occurs more than twice, each copy appears in at least one pair, but
    not every pair is listed.
    """
    equal: dict[bytes, list[int]] = defaultdict(list)
    for number, one in enumerate(signatures):
        if one.digest:
            equal[one.digest].append(number)
    pairs = [(*pair, "exact") for group in equal.values() for pair in _across_signers(group, signers)]
    found = DisjointSet()
    chosen: list[int] = []
    for group in equal.values():
        others = [number for number in group if signers[number] != signers[group[0]]]
        chosen += [group[0], *others[:1]]
        if others:
            _join(found, group[0], others[0])
    candidates = _candidates([signatures[number] for number in chosen], [signers[number] for number in chosen])
    for this, that, mirrored in candidates:
        first, second = sorted((chosen[this], chosen[that]))
        if _joined(found, first, second):
            continue
        if is_copy(signatures[first].points_TP2, signatures[second].points_TP2, mirrored):
            _join(found, first, second)
            pairs.append((first, second, changes(signatures[first], signatures[second], mirrored)))
    return sorted(pairs)


def _across_signers(group: list[int], signers: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Each clip of a group of equal ones with the first clip of another signer."""
    first = group[0]
    others = [number for number in group if signers[number] != signers[first]]
    for number in group[1:]:
        if signers[number] != signers[first]:
            yield first, number
        elif others:
            yield min(number, others[0]), max(number, others[0])


def _joined(found: DisjointSet, one: int, other: int) -> bool:
    return one in found and other in found and bool(found.connected(one, other))


def _join(found: DisjointSet, one: int, other: int) -> None:
    found.add(one)
    found.add(other)
    found.merge(one, other)


def _candidates(signatures: Sequence[Signature], signers: Sequence[str]) -> Iterator[tuple[int, int, bool]]:
    """Pairs of clips of different signers with similar keys, and whether one is mirrored; the most similar first.

    Signers are numbered. Two different numbers differ in a binary digit, so that it is enough to look, for every digit, for the
    nearest neighbors of the clips with a 1 among those with a 0.
    """
    if not signatures:
        return
    code_S = np.unique(np.array(signers), return_inverse=True)[1]
    keys_SKD = np.stack([one.keys_KD for one in signatures]).astype(np.float32) * _KEY_WEIGHTS_D
    flipped_SKD = mirrored_keys(keys_SKD)
    found: list[np.ndarray] = []
    for digit in range(int(code_S.max()).bit_length()):
        ones, zeros = (np.flatnonzero((code_S >> digit) & 1 == side) for side in (1, 0))
        for key in range(keys_SKD.shape[1]):
            tree = cKDTree(keys_SKD[zeros, key], leafsize=32, balanced_tree=False, compact_nodes=False)
            for mirrored, query_SKD in enumerate((keys_SKD, flipped_SKD)):
                distance, neighbor = tree.query(query_SKD[ones, key], k=_NEIGHBORS, distance_upper_bound=_KEY_RADIUS)
                near = np.isfinite(distance)
                pair = np.broadcast_to(ones[:, None], near.shape)[near], zeros[neighbor[near]]
                found.append(np.stack([np.maximum(*pair), np.minimum(*pair), np.full(len(pair[0]), mirrored)], axis=1))
    pairs_N3 = np.unique(np.concatenate(found), axis=0) if found else np.empty((0, 3), np.int64)
    distances = [_key_distances(keys_SKD, flipped_SKD, part) for part in np.array_split(pairs_N3, len(pairs_N3) // 10_000 + 1)]
    distance_NK = np.concatenate(distances)
    nearest_N, agreeing_N = distance_NK.min(axis=1), (distance_NK < _KEY_RADIUS).sum(axis=1)
    worth = np.flatnonzero((agreeing_N > 1) | (nearest_N < _SURE_RADIUS))
    for number in worth[np.argsort(nearest_N[worth], kind="stable")]:
        one, other, mirrored = pairs_N3[number].tolist()
        yield one, other, bool(mirrored)


def _key_distances(keys_SKD: np.ndarray, flipped_SKD: np.ndarray, pairs_N3: np.ndarray) -> np.ndarray:
    """`[N, 8]`: distance of each key of the first clip from that of the second, which may be mirrored."""
    one_N, other_N, mirrored_N = pairs_N3.T
    other_NKD = np.where(mirrored_N[:, None, None] == 1, flipped_SKD[other_N], keys_SKD[other_N])
    return np.asarray(np.linalg.norm(keys_SKD[one_N] - other_NKD, axis=2))


def is_copy(one_AP2: np.ndarray, other_BP2: np.ndarray, mirrored: bool) -> bool:
    """Whether most frames of the shorter clip also occur in the other one, as they are or without their noise."""
    short, long = sorted((one_AP2, mirrored_points(other_BP2) if mirrored else other_BP2), key=len)
    rows_A = chosen_frames(len(short))
    different = 1 + np.count_nonzero(np.any(np.diff(np.nan_to_num(short[rows_A]), axis=0), axis=(1, 2)))
    most = _NEAR * min(1.0, (different + 2) / _ENOUGH)
    if np.median(frame_distances(short[rows_A], long).min(axis=1)) <= most:
        return True
    return len(short) > 2 and bool(np.median(frame_distances(smooth(short)[rows_A], smooth(long)).min(axis=1)) <= most)
