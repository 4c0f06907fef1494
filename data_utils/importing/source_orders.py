"""The order of the parts in the clips of a source, for every signer."""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_utils.errors import DataError
from data_utils.importing.arrays import Rows
from data_utils.importing.corrections import Corrections
from data_utils.importing.order import FITS, FoundOrder, SampleClip, few_frames, find_order, mean_costs, parts_of, without_sides
from data_utils.importing.readings import KAGGLE, TUTORIAL, Order
from data_utils.importing.record import ListedClip, Notify, ReadClip
from data_utils.landmarks import FILE_PARTS
from data_utils.wording import some

_SAMPLE, _EACH, _MAX_SAMPLE = 24, 3, 200  # clips that are read to find the order: at least, of each signer, at most
_MAX_READINGS = 3  # that are told
_FAR = 0.2  # by which the order of a signer must be better than that of all


@dataclass(frozen=True)
class PartOrders:
    """The orders of the parts in the clips of a source, each by the usual order of the frames."""

    of_all: Mapping[Order, Order]
    of_signer: Mapping[str, Mapping[Order, Order]]
    """All orders of those signers for whom one differs."""

    options: Mapping[str, Any]
    """What identifies them in the record of an import: those that are not usual."""

    def readers(self, read: Callable[..., np.ndarray]) -> tuple[ReadClip, dict[str, ReadClip]]:
        """How the clips are read, and those of single signers. `read` takes a path and `orders`, pairs of orders."""
        own: dict[str, ReadClip] = {
            signer: functools.partial(read, orders=tuple(orders.items())) for signer, orders in self.of_signer.items()
        }
        return functools.partial(read, orders=tuple(self.of_all.items())), own


def orders_of_clips(
    clips: Sequence[ListedClip],
    read: Callable[[ListedClip], Sequence[Rows]],
    order: Order | None,
    corrections: Corrections,
    notify: Notify,
) -> PartOrders:
    """The order of the parts in the clips of a source; another one for signers whose clips fit the body in another one only.

    Tells what the frames hold. A given order is kept, and it is told if another one fits far better.

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
    of_all = {} if order is None else dict.fromkeys((TUTORIAL, KAGGLE), order)
    of_signer: dict[str, dict[Order, Order]] = {}
    for usual, own in by_usual.items():
        if order is not None:
            for better, signers in _by_order(strays_from(own, order, sides=True)).items():
                notify(unfit_text(order, better, some(signers)))
            continue
        found, strays = _found_orders(own)
        of_all[usual] = found.order
        notify(found.text)
        for signers in _by_order(strays).values():
            notify(f"{some(signers)}: {strays[signers[0]].text}")
        for signer, stray in strays.items():
            of_signer.setdefault(signer, {})[usual] = stray.order
    shapes = Counter(
        (rows.width, rows.reading.described({**of_all, **of_signer.get(clip.signer, {})}[rows.reading.usual]))
        for clip in sample
        for rows in clip.rows
    )
    for (width, text), _ in shapes.most_common(_MAX_READINGS):
        notify(f"numbers: {width:,} per frame: {text}")
    options = _options(of_all, of_signer, by_usual)
    if order is not None and len(order) < len(FILE_PARTS):  # it may decide what the numbers stand for
        options["parts"] = sorted(order)
    return PartOrders(of_all, {signer: {**of_all, **own} for signer, own in of_signer.items()}, options)


def _options(
    of_all: Mapping[Order, Order],
    of_signer: Mapping[str, Mapping[Order, Order]],
    by_usual: Mapping[Order, Sequence[SampleClip]],
) -> dict[str, Any]:
    """What identifies orders in the record of an import."""
    unusual = {}
    for usual, clips in by_usual.items():
        parts = parts_of(clips, usual)
        if (order := tuple(part for part in of_all[usual] if part in parts)) != parts:
            unusual[",".join(usual)] = ",".join(order)
    options: dict[str, Any] = {"order": unusual} if unusual else {}
    if of_signer:
        options["order_of"] = {
            signer: {",".join(usual): ",".join(order) for usual, order in own.items()} for signer, own in of_signer.items()
        }
    return options


def _found_orders(clips: Sequence[SampleClip]) -> tuple[FoundOrder, dict[str, FoundOrder]]:
    """The order of some clips, and of those signers who have another one."""
    found = find_order(clips)
    strays = strays_from(clips, found.order, sides=False)
    if strays:
        others = [clip for clip in clips if clip.signer not in strays]
        most = max(_by_order(strays).values(), key=len)[0]
        found = find_order(others) if others else strays[most]
    return found, {signer: stray for signer, stray in strays.items() if stray.order != found.order}


def strays_from(clips: Sequence[SampleClip], order: Order, *, sides: bool) -> dict[str, FoundOrder]:
    """Those signers whose clips fit the body in another order, and far better, with that order.

    Args:
        clips: of all signers.
        order: theirs.
        sides: whether an order may be another one by the sides of the hands only.
    """
    of_signer: dict[str, list[SampleClip]] = {}
    for clip in clips:
        of_signer.setdefault(clip.signer, []).append(clip)
    strays = {}
    for signer, own in of_signer.items():
        if mean_costs(own, order, order)[0] < _FAR:
            continue
        with contextlib.suppress(DataError):  # several orders fit
            found = find_order(own)
            cost, least = mean_costs(own, order, found.order)
            same = not sides and without_sides(found.order) == without_sides(parts_of(own, order))
            if not same and least < FITS and least + _FAR < cost:
                strays[signer] = found
    return strays


def unfit_text(order: Order, better: Order, whose: str) -> str:
    """What is told if a given order does not fit, in one line."""
    return f"--order {','.join(order)} does not fit the body of {whose}: {','.join(better)} does"


def _by_order(found: Mapping[str, FoundOrder]) -> dict[Order, list[str]]:
    signers: dict[Order, list[str]] = {}
    for signer, one in found.items():
        signers.setdefault(one.order, []).append(signer)
    return signers


def _sample(
    clips: Sequence[ListedClip], read: Callable[[ListedClip], Sequence[Rows]], corrections: Corrections
) -> Iterator[SampleClip]:
    of_signer: dict[str, list[ListedClip]] = {}
    for clip in clips:
        of_signer.setdefault(clip.signer, []).append(clip)
    each = max(_EACH, _SAMPLE // len(of_signer))
    chosen = [clip for own in of_signer.values() for clip in own[:: -(-len(own) // each)]]
    found, faults = False, []
    for clip in chosen[:: -(-len(chosen) // _MAX_SAMPLE)]:
        try:
            yield SampleClip(few_frames(read(clip)), functools.partial(corrections.apply, clip.signer), clip.signer)
            found = True
        except DataError as fault:
            faults.append(fault)
    if not found and len({fault.what for fault in faults}) == 1 and faults[0].hint is not None:
        raise faults[0]
