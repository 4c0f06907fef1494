"""Finds pairs of clips that may show one recording: clips that share a key, found by k-d trees."""

# T frames, S clips, A and B frames of two clips, P points of a frame (9), K keys of a clip (16), D numbers of a key (10),
# N pairs of clips, last axis 2 = x y

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.spatial import cKDTree

from data_utils.checking.changes import frame_distances
from data_utils.checking.signature import MIRRORED_POINTS, NUM_POINTS, Signature, mirrored_points, smooth

_KEY_POINTS, _EXTREME_POINTS = 5, 4  # arms, elbows and face make up a key; where arms or elbows are extreme is a key
_KEY_WEIGHTS_5 = np.array([1, 1, 0.7, 0.7, 1], np.float32)  # elbows are single landmarks, with more noise
_KEY_RADIUS = 0.15
"""Largest distance of two keys of one recording. Noise of 1% of the picture's width gives up to 0.1."""

_SURE_RADIUS = 0.05  # one key is enough within it; beyond it, two keys must agree
_NEIGHBORS = 2  # of each key that are looked at
_FEW, _UNLIKE = 8, 0.08  # frames that are looked for first, and the median distance that rules a pair out
_BATCH, _LONG = 500, 1_000  # pairs that are compared together; frames of a clip that is left to the exact comparison


def candidates(signatures: Sequence[Signature], signers: Sequence[str] | None) -> Iterator[tuple[int, int, bool]]:
    """Pairs of clips with similar keys, and whether one is mirrored; the most similar first.

    With `signers`, the clips of a pair have different ones.
    """
    if not signatures:
        return
    keys_SKD = np.stack([_keys(one.points_TP2) for one in signatures])
    flipped_SKD = _mirrored_keys(keys_SKD)
    signer_S = None if signers is None else np.unique(np.array(signers), return_inverse=True)[1]
    pairs_N3 = _neighbors(keys_SKD, flipped_SKD, signer_S)
    nearest_N, agreeing_N = np.empty(len(pairs_N3), np.float32), np.empty(len(pairs_N3), np.int8)
    for start in range(0, len(pairs_N3), 10_000):
        part = slice(start, start + 10_000)
        one_N, other_N, mirrored_N = pairs_N3[part].T
        other_NKD = np.where(mirrored_N[:, None, None] == 1, flipped_SKD[other_N], keys_SKD[other_N])
        distance_NK = np.linalg.norm(keys_SKD[one_N].astype(np.float32) - other_NKD, axis=2)
        nearest_N[part], agreeing_N[part] = distance_NK.min(axis=1), (distance_NK < _KEY_RADIUS).sum(axis=1)
    worth_N = np.flatnonzero((agreeing_N > 1) | (nearest_N < _SURE_RADIUS))
    worth_N = worth_N[_alike([one.points_TP2 for one in signatures], pairs_N3[worth_N])]
    for number in worth_N[np.argsort(nearest_N[worth_N], kind="stable")]:
        one, other, mirrored = pairs_N3[number].tolist()
        yield one, other, bool(mirrored)


def _neighbors(keys_SKD: np.ndarray, flipped_SKD: np.ndarray, signer_S: np.ndarray | None) -> np.ndarray:
    """`[N, 3]`: two clips, with `signer_S` of different signers, of which a key is near, and 1 if one of them is mirrored."""
    count, codes = len(keys_SKD), [np.empty(0, np.int64)]
    most = _NEIGHBORS + (signer_S is None)  # a clip is its own neighbor
    for these, those in _halves(signer_S) if signer_S is not None else [(np.arange(count),) * 2]:
        for key in range(keys_SKD.shape[1]):
            tree = cKDTree(keys_SKD[these, key], leafsize=32, balanced_tree=False, compact_nodes=False)
            for mirrored, query_SKD in enumerate((keys_SKD, flipped_SKD)):
                distance, neighbor = tree.query(query_SKD[those, key], k=most, distance_upper_bound=_KEY_RADIUS, workers=-1)
                near = np.isfinite(distance)
                near[near] = np.broadcast_to(those[:, None], near.shape)[near] != these[neighbor[near]]
                one, other = np.broadcast_to(those[:, None], near.shape)[near], these[neighbor[near]]
                codes.append(np.unique((one * count + other) * 2 + mirrored))
    code_N = np.unique(np.concatenate(codes))
    return np.stack([code_N // 2 // count, code_N // 2 % count, code_N % 2], axis=1).astype(np.int32)


def _halves(signer_S: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Signers are divided into halves again and again: the clips of both. Every two signers are in different halves once."""
    halves = [np.unique(signer_S)]
    while halves:
        signers = halves.pop()
        if len(signers) > 1:
            halves += [signers[: len(signers) // 2], signers[len(signers) // 2 :]]
            these, those = (np.flatnonzero(np.isin(signer_S, half)) for half in halves[-2:])
            yield these, those


def _keys(points_TP2: np.ndarray) -> np.ndarray:
    """`[16, 10]`: five points, 0 where not detected, in the frames with the extremes of each coordinate of arms and elbows.

    Which frames these are does not depend on where a clip was cut, unless they were cut away.
    """
    points_TP2 = smooth(points_TP2[:, :_KEY_POINTS])
    places_T8 = points_TP2[:, :_EXTREME_POINTS].reshape(len(points_TP2), -1)
    frames_K = np.concatenate([np.where(np.isnan(places_T8), -np.inf, sign * places_T8).argmax(axis=0) for sign in (1, -1)])
    points_K52 = np.nan_to_num(points_TP2[frames_K])
    return (points_K52 * _KEY_WEIGHTS_5[:, None]).reshape(len(frames_K), -1).astype(np.float16)


def _mirrored_keys(keys_SKD: np.ndarray) -> np.ndarray:
    """The keys of the mirrored clips: where the left arm was farthest to the left, the right arm is farthest to the right."""
    count, points = len(keys_SKD), MIRRORED_POINTS[:_KEY_POINTS]
    keys = keys_SKD.reshape(count, 2, _EXTREME_POINTS, 2, _KEY_POINTS, 2)[:, :, MIRRORED_POINTS[:_EXTREME_POINTS]].copy()
    keys[:, :, :, 0] = keys[:, ::-1, :, 0]
    return (keys[:, :, :, :, points] * np.array([-1, 1], keys.dtype)).reshape(keys_SKD.shape)


def _alike(clips: Sequence[np.ndarray], pairs_N3: np.ndarray) -> np.ndarray:
    """bool `[N]`: whether a few frames of the shorter clip occur in the longer one, roughly. Saves most exact comparisons."""
    lengths_S = np.array([len(points_TP2) for points_TP2 in clips])
    swapped_N = lengths_S[pairs_N3[:, 0]] > lengths_S[pairs_N3[:, 1]]
    short_N, long_N = np.where(swapped_N, pairs_N3[:, 1::-1].T, pairs_N3[:, :2].T)
    alike_N = lengths_S[long_N] > _LONG
    order = np.argsort(lengths_S[long_N], kind="stable")[: np.count_nonzero(~alike_N)]
    for batch in np.array_split(order, len(order) // _BATCH + 1):
        few = [clips[number][np.arange(_FEW) * (lengths_S[number] - 1) // (_FEW - 1)] for number in short_N[batch]]
        few = [mirrored_points(one) if mirrored else one for one, mirrored in zip(few, pairs_N3[batch, 2], strict=True)]
        all_NBP2 = np.full((len(batch), lengths_S[long_N[batch]].max(initial=1), NUM_POINTS, 2), np.nan, np.float16)
        for row, number in zip(all_NBP2, long_N[batch], strict=True):
            row[: lengths_S[number]] = clips[number]
        if few:
            alike_N[batch] = np.median(frame_distances(np.stack(few), all_NBP2).min(axis=2), axis=1) <= _UNLIKE
    return alike_N
