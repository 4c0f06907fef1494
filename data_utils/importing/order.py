"""The order of the parts in a frame, where nobody says it: the one in which hands and face fit the body.

In a wrong order, the numbers of one part are read as another: hands are far from the wrists of their own arms, or the
proportions of the body are wrong.
"""

# C coordinates, T frames, J landmarks (543), O orders, K clips

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_utils.body import body_misfit
from data_utils.errors import DataError
from data_utils.importing.arrays import Rows, landmarks
from data_utils.importing.corrections import Corrections
from data_utils.importing.readings import KAGGLE, TUTORIAL, Order
from data_utils.importing.record import ListedClip

Notify = Callable[[str], None]
"""Receives a line for the user."""

_SAMPLE, _MAX_SAMPLE = 24, 60  # clips that are read to find the order
_MAX_READINGS = 3  # that are told
_CLEAR = 0.15  # mean cost of an order that needs no comparison with all others; those of wrong orders are above `_FITS`
_MAX_COST = 1.0  # of one clip: one that fits nothing does not outweigh the others
_FITS = 0.3  # see `body_misfit`
_MOST = 0.8  # share of clips in which the hands are swapped if that is the order of the files
_MARGIN = 0.02  # by which the best order must be better than another
_MAX_FRAMES = 60


@dataclass(frozen=True)
class SampleClip:
    """A clip from which the order is found."""

    rows: Sequence[Rows]
    correct: Callable[[np.ndarray], np.ndarray] = lambda feature_CTJ: feature_CTJ
    """Corrects its landmarks, `[3, T, 543]`."""


@dataclass(frozen=True)
class FoundOrder:
    """The order of the parts in the frames of some clips."""

    order: Order
    text: str
    """How it was found, in one line."""

    sure: bool
    """Whether it is the usual one, and was checked."""


def orders_of_clips(
    clips: Sequence[ListedClip],
    read: Callable[[ListedClip], Sequence[Rows]],
    order: Order | None,
    corrections: Corrections,
    notify: Notify,
) -> tuple[dict[Order, Order], dict[str, Any]]:
    """The order of the parts in the clips of a source, by the usual order of their frames. Tells what the frames hold.

    Returns: the orders, and what identifies them in the record of an import: those that are not usual.

    Args:
        clips: all clips; some of every signer are read, or of some signers if there are many.
        read: reads the frames of a clip.
        order: the order, if it is known.
        corrections: applied before hands and face are compared with the body.
        notify: receives lines about the order and about the numbers of a frame.

    Raises:
        DataError: several orders fit the body, or none of the clips can be read, all for the same reason.
    """
    sample = list(_sample(clips, read, corrections))
    by_usual: dict[Order, list[SampleClip]] = {}
    for clip in sample:
        by_usual.setdefault(clip.rows[0].reading.usual, []).append(clip)
    orders = {} if order is None else dict.fromkeys((TUTORIAL, KAGGLE), order)
    for usual, own in by_usual.items():
        if order is None:
            found = find_order(own)
            orders[usual] = found.order
            notify(found.text)
    unusual = {}
    for usual, own in by_usual.items():
        parts = {part for clip in own for rows in clip.rows for part in rows.reading.parts}
        found_order = [part for part in orders[usual] if part in parts]
        if found_order != [part for part in usual if part in parts]:
            unusual[",".join(usual)] = ",".join(found_order)
    shapes = Counter((rows.width, rows.reading.described(orders[rows.reading.usual])) for clip in sample for rows in clip.rows)
    for (width, text), _ in shapes.most_common(_MAX_READINGS):
        notify(f"numbers: {width:,} per frame: {text}")
    return orders, {"order": unusual} if unusual else {}


def _sample(
    clips: Sequence[ListedClip], read: Callable[[ListedClip], Sequence[Rows]], corrections: Corrections
) -> Iterator[SampleClip]:
    of_signer: dict[str, list[ListedClip]] = {}
    for clip in clips:
        of_signer.setdefault(clip.signer, []).append(clip)
    each = max(1, _SAMPLE // len(of_signer))
    chosen = [clip for own in of_signer.values() for clip in own[:: -(-len(own) // each)]]
    found, faults = False, []
    for clip in chosen[:: -(-len(chosen) // _MAX_SAMPLE)]:
        try:
            yield SampleClip(read(clip), functools.partial(corrections.apply, clip.signer))
            found = True
        except DataError as fault:
            faults.append(fault)
    if not found and len({fault.what for fault in faults}) == 1 and faults[0].hint is not None:
        raise faults[0]


def find_order(clips: Sequence[SampleClip]) -> FoundOrder:
    """Finds the order of the parts of some clips that have the same usual order.

    The usual order is kept if no other fits better, or if there is nothing to compare: no pose, or neither hands nor face. It
    is also kept if hands are swapped in some clips only: then not the order is wrong.

    Raises:
        DataError: another order fits better, but not one alone.
    """
    usual = next(rows.reading.usual for clip in clips for rows in clip.rows)
    parts = tuple(part for part in usual if any(part in rows.reading.parts for clip in clips for rows in clip.rows))
    name = ", ".join(parts)
    if len(parts) == 1 or all(rows.reading.named for clip in clips for rows in clip.rows):
        return FoundOrder(parts, f"parts: {name}", sure=True)
    fits = f"order of the parts: {name} (the usual one; no other fits the body better)"
    if _clearly_fits(clips, parts):
        return FoundOrder(parts, fits, sure=True)
    orders = list(itertools.permutations(parts))
    costs_OK = np.array([[_cost(clip, order) for clip in clips] for order in orders])
    costs_OK = np.where(np.isnan(costs_OK), _MAX_COST, costs_OK)[:, ~np.isnan(costs_OK).all(axis=0)]
    if not costs_OK.shape[1]:
        why = "the usual one; it cannot be checked without a pose and hands or a face"
        return FoundOrder(parts, f"order of the parts: {name} ({why})", sure=False)
    best = int(np.argmin(costs_OK.mean(axis=1)))
    close = [order for order, costs_K in zip(orders, costs_OK, strict=True) if _excess(costs_K, costs_OK[best]) <= _MARGIN]
    if parts in close:
        return FoundOrder(parts, fits, sure=True)
    if _without_sides(orders[best]) == _without_sides(parts):
        better_K = (costs_OK[best] < costs_OK[orders.index(parts)])[costs_OK[best] != costs_OK[orders.index(parts)]]
        if better_K.mean() < _MOST:
            why = f"the usual one, but the hands are swapped in {better_K.sum()} of {len(better_K)} clips that were looked at"
            return FoundOrder(parts, f"order of the parts: {name} ({why})", sure=False)
    if costs_OK[best].mean() >= _FITS:
        why = "the usual one; hands and face do not fit the body in any order"
        return FoundOrder(parts, f"order of the parts: {name} ({why})", sure=False)
    if len({tuple(costs_OK[orders.index(one)]) for one in close}) == 1 and len(set(map(_without_sides, close))) == 1:
        close = close[:1]  # no hand was detected
    if len(close) > 1:
        raise DataError(
            "the order of the parts cannot be found: several fit the body",
            got="\n".join(", ".join(order) for order in close[:4]),
            expected=f"the usual order, {name}, or one that fits better than all others",
            hint=f"name it, such as --order {','.join(orders[best])}",
        )
    swapped = _without_sides(close[0]) == _without_sides(parts)
    why = "the usual order with the hands swapped" if swapped else "not the usual one"
    why = f"{why}; found by how hands and face fit the body"
    return FoundOrder(close[0], f"order of the parts: {', '.join(close[0])} ({why})", sure=False)


def _without_sides(order: Order) -> Order:
    return tuple("hand" if part.endswith("hand") else part for part in order)


def _clearly_fits(clips: Sequence[SampleClip], order: Order) -> bool:
    """Whether an order fits so well that no other is better, not even that with the hands swapped. It saves time."""
    costs_K = np.array([_cost(clip, order) for clip in clips])
    known_K = ~np.isnan(costs_K)
    if not known_K.any() or costs_K[known_K].mean() > _CLEAR:
        return False
    sides = {"left_hand": "right_hand", "right_hand": "left_hand"}
    swapped_K = np.array([_cost(clip, tuple(sides.get(part, part) for part in order)) for clip in clips])
    return _excess(costs_K[known_K], swapped_K[known_K]) <= _MARGIN


def _excess(costs_K: np.ndarray, best_K: np.ndarray) -> float:
    """By how much an order fits worse than the best: the mean over the clips in which they differ at all."""
    differ_K = costs_K != best_K
    return float((costs_K - best_K)[differ_K].mean()) if differ_K.any() else 0.0


def _cost(clip: SampleClip, order: Order) -> float:
    """How badly the parts of a clip fit one body in this order; NaN if there is nothing to compare."""
    feature_CTJ = np.concatenate([landmarks(rows, order) for rows in clip.rows], axis=1)
    feature_CTJ = feature_CTJ[:, :: -(-feature_CTJ.shape[1] // _MAX_FRAMES)]
    feature_CTJ = clip.correct(feature_CTJ)
    misfit = body_misfit(feature_CTJ)
    return math.nan if misfit is None or not math.isfinite(misfit) else min(misfit, _MAX_COST)
