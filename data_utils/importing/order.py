"""The order of the parts in a frame, where nobody says it: the one in which hands and face fit the body.

In a wrong order, the numbers of one part are read as another: hands are far from the wrists of their own arms, or the
proportions of the body are wrong.
"""

# C coordinates, T frames, J landmarks (543), O orders, K clips

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from data_utils.body import body_misfit
from data_utils.errors import DataError
from data_utils.importing.arrays import Rows, landmarks
from data_utils.importing.readings import Order

_MAX_COMPARED = 60  # clips in which all orders are compared
_CLEAR = 0.15  # mean cost of an order that needs no comparison with all others; those of wrong orders are above `FITS`
_MAX_COST = 1.0  # of one clip: one that fits nothing does not outweigh the others
_MOST = 0.8  # share of clips in which the hands are swapped if that is the order of the files
_MARGIN = 0.02  # by which the best order must be better than another
_MAX_FRAMES = 24

FITS = 0.3
"""A cost below this shows that an order is right, see `body_misfit`."""


@dataclass(frozen=True)
class SampleClip:
    """A clip from which the order is found."""

    rows: Sequence[Rows]
    correct: Callable[[np.ndarray], np.ndarray] = lambda feature_CTJ: feature_CTJ
    """Corrects its landmarks, `[3, T, 543]`."""

    signer: str = ""
    _known: dict[Order, float] = field(default_factory=dict)

    def cost(self, order: Order) -> float:
        """How badly its parts fit one body in an order; NaN if there is nothing to compare."""
        if order not in self._known:
            feature_CTJ = np.concatenate([landmarks(rows, order) for rows in few_frames(self.rows)], axis=1)
            misfit = body_misfit(self.correct(feature_CTJ))
            self._known[order] = math.nan if misfit is None or not math.isfinite(misfit) else min(misfit, _MAX_COST)
        return self._known[order]


@dataclass(frozen=True)
class FoundOrder:
    """The order of the parts in the frames of some clips."""

    order: Order
    text: str
    """How it was found, in one line."""

    sure: bool
    """Whether it is the usual one, and was checked."""


def find_order(clips: Sequence[SampleClip]) -> FoundOrder:
    """Finds the order of the parts of some clips that have the same usual order.

    The usual order is kept if no other fits better, or if there is nothing to compare: no pose, or neither hands nor face. It
    is also kept if hands are swapped in some clips only: then not the order is wrong.

    Raises:
        DataError: another order fits better, but not one alone.
    """
    usual = next(rows.reading.usual for clip in clips for rows in clip.rows)
    parts = parts_of(clips, usual)
    name = ", ".join(parts)
    if len(parts) == 1 or all(rows.reading.named for clip in clips for rows in clip.rows):
        return FoundOrder(parts, f"parts: {name}", sure=True)
    fits = f"order of the parts: {name} (the usual one; no other fits the body better)"
    if _clearly_fits(clips, parts):
        return FoundOrder(parts, fits, sure=True)
    orders = list(itertools.permutations(parts))
    compared = clips[:: -(-len(clips) // _MAX_COMPARED)]
    costs_OK = np.array([[clip.cost(order) for clip in compared] for order in orders])
    costs_OK = np.where(np.isnan(costs_OK), _MAX_COST, costs_OK)[:, ~np.isnan(costs_OK).all(axis=0)]
    if not costs_OK.shape[1]:
        why = "the usual one; it cannot be checked without a pose and hands or a face"
        return FoundOrder(parts, f"order of the parts: {name} ({why})", sure=False)
    best = int(np.argmin(costs_OK.mean(axis=1)))
    close = [order for order, costs_K in zip(orders, costs_OK, strict=True) if _excess(costs_K, costs_OK[best]) <= _MARGIN]
    if parts in close:
        return FoundOrder(parts, fits, sure=True)
    if without_sides(orders[best]) == without_sides(parts):
        better_K = (costs_OK[best] < costs_OK[orders.index(parts)])[costs_OK[best] != costs_OK[orders.index(parts)]]
        if better_K.mean() < _MOST:
            why = f"the usual one, but the hands are swapped in {better_K.sum()} of {len(better_K)} clips that were looked at"
            return FoundOrder(parts, f"order of the parts: {name} ({why})", sure=False)
    if costs_OK[best].mean() >= FITS:
        why = "the usual one; hands and face do not fit the body in any order"
        return FoundOrder(parts, f"order of the parts: {name} ({why})", sure=False)
    if len({tuple(costs_OK[orders.index(one)]) for one in close}) == 1 and len(set(map(without_sides, close))) == 1:
        close = close[:1]  # no hand was detected
    if len(close) > 1:
        raise DataError(
            "the order of the parts cannot be found: several fit the body",
            got="\n".join(", ".join(order) for order in close[:4]),
            expected=f"the usual order, {name}, or one that fits better than all others",
            hint=f"name it, such as --order {','.join(orders[best])}",
        )
    swapped = without_sides(close[0]) == without_sides(parts)
    why = "the usual order with the hands swapped" if swapped else "not the usual one"
    why = f"{why}; found by how hands and face fit the body"
    return FoundOrder(close[0], f"order of the parts: {', '.join(close[0])} ({why})", sure=False)


def parts_of(clips: Sequence[SampleClip], order: Order) -> Order:
    """The parts that some clips have, in an order."""
    return tuple(part for part in order if any(part in rows.reading.parts for clip in clips for rows in clip.rows))


def few_frames(clip: Sequence[Rows]) -> list[Rows]:
    """A clip with some of its frames only. A copy, so that the others need no memory."""
    step = -(-sum(len(rows.values_TV) for rows in clip) // _MAX_FRAMES)
    return [replace(rows, values_TV=rows.values_TV[::step].copy()) for rows in clip]


def mean_costs(clips: Sequence[SampleClip], one: Order, other: Order) -> tuple[float, float]:
    """The mean costs of two orders in those clips in which there is something to compare; NaN if there is none."""
    costs_OK = np.array([[clip.cost(order) for clip in clips] for order in (one, other)])
    known_OK = costs_OK[:, ~np.isnan(costs_OK).all(axis=0)]
    means = np.where(np.isnan(known_OK), _MAX_COST, known_OK).mean(axis=1) if known_OK.size else [math.nan, math.nan]
    return float(means[0]), float(means[1])


def without_sides(order: Order) -> Order:
    return tuple("hand" if part.endswith("hand") else part for part in order)


def _clearly_fits(clips: Sequence[SampleClip], order: Order) -> bool:
    """Whether an order fits so well that no other is better, not even that with the hands swapped. It saves time."""
    costs_K = np.array([clip.cost(order) for clip in clips])
    known_K = ~np.isnan(costs_K)
    if not known_K.any() or costs_K[known_K].mean() > _CLEAR:
        return False
    sides = {"left_hand": "right_hand", "right_hand": "left_hand"}
    swapped_K = np.array([clip.cost(tuple(sides.get(part, part) for part in order)) for clip in clips])
    return _excess(costs_K[known_K], swapped_K[known_K]) <= _MARGIN


def _excess(costs_K: np.ndarray, best_K: np.ndarray) -> float:
    """By how much an order fits worse than the best: the mean over the clips in which they differ at all."""
    differ_K = costs_K != best_K
    return float((costs_K - best_K)[differ_K].mean()) if differ_K.any() else 0.0
