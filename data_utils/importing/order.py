"""The order of the parts in a frame, where nobody says it: the one in which hands and face fit the body.

In a wrong order, the numbers of one part are read as another: hands are far from the wrists of their own arms, or the
proportions of the body are wrong.
"""

# C coordinates, T frames, J landmarks (543), O orders, K clips

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_utils.body import body_misfit
from data_utils.errors import DataError
from data_utils.importing.arrays import Order, Rows, landmarks

_MAX_COST = 1.0  # of one clip: one that fits nothing does not outweigh the others
_FITS = 0.3  # see `body_misfit`
_MARGIN = 0.02  # by which the best order must be better than another
_MAX_FRAMES = 60


@dataclass(frozen=True)
class FoundOrder:
    """The order of the parts in the frames of some clips."""

    order: Order
    text: str
    """How it was found, in one line."""

    usual: bool


def find_order(clips: Sequence[Sequence[Rows]]) -> FoundOrder:
    """Finds the order of the parts of some clips that have the same usual order.

    The usual order is kept if no other fits better, or if there is nothing to compare: no pose, or neither hands nor face.

    Raises:
        DataError: another order fits better, but not one alone.
    """
    usual = next(rows.reading.usual for clip in clips for rows in clip)
    parts = tuple(part for part in usual if any(part in rows.reading.parts for clip in clips for rows in clip))
    name = ", ".join(parts)
    if len(parts) == 1 or all(rows.reading.named for clip in clips for rows in clip):
        return FoundOrder(parts, f"parts: {name}", usual=True)
    orders = list(itertools.permutations(parts))
    costs_OK = np.array([[_cost(clip, order) for clip in clips] for order in orders])
    costs_OK = np.where(np.isnan(costs_OK), _MAX_COST, costs_OK)[:, ~np.isnan(costs_OK).all(axis=0)]
    if not costs_OK.shape[1]:
        why = "the usual one; nothing to check it with, because it takes a pose and hands or a face"
        return FoundOrder(parts, f"order of the parts: {name} ({why})", usual=True)
    best = int(np.argmin(costs_OK.mean(axis=1)))
    close = [order for order, costs_K in zip(orders, costs_OK, strict=True) if _excess(costs_K, costs_OK[best]) <= _MARGIN]
    if parts in close:
        return FoundOrder(parts, f"order of the parts: {name} (the usual one, and it fits the body)", usual=True)
    if costs_OK[best].mean() >= _FITS:
        why = "the usual one; hands and face do not fit the body in any order"
        return FoundOrder(parts, f"order of the parts: {name} ({why})", usual=True)
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
    return FoundOrder(close[0], f"order of the parts: {', '.join(close[0])} ({why})", usual=False)


def _without_sides(order: Order) -> list[str]:
    return ["hand" if part.endswith("hand") else part for part in order]


def _excess(costs_K: np.ndarray, best_K: np.ndarray) -> float:
    """By how much an order fits worse than the best: the mean over the clips in which they differ at all."""
    differ_K = costs_K != best_K
    return float((costs_K - best_K)[differ_K].mean()) if differ_K.any() else 0.0


def _cost(clip: Sequence[Rows], order: Order) -> float:
    """How badly the parts of a clip fit one body in this order; NaN if there is nothing to compare."""
    feature_CTJ = np.concatenate([landmarks(rows, order) for rows in clip], axis=1)
    feature_CTJ = feature_CTJ[:, :: -(-feature_CTJ.shape[1] // _MAX_FRAMES)]
    misfit = body_misfit(feature_CTJ)
    return math.nan if misfit is None or not math.isfinite(misfit) else min(misfit, _MAX_COST)
