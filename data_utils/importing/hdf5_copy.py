"""Copies a data set of HDF5 files and corrects it: the order of axes and parts, irises, swapped hands, mirrored pictures."""

# T frames

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_utils.folder import MIRRORED_SUFFIX, signer_files, unread_files
from data_utils.hdf5 import label_outside, read_labels, read_unchecked
from data_utils.importing.array_files import to_landmarks
from data_utils.importing.arrays import Rows, rows_of
from data_utils.importing.corrections import NO_CORRECTIONS, Corrections
from data_utils.importing.readings import Order
from data_utils.importing.record import ImportPlan, ListedClip, Notify, make_plan
from data_utils.importing.source_orders import orders_of_clips
from data_utils.words import read_words


def plan_import(
    source: Path,
    *,
    order: Order | None = None,
    corrections: Corrections = NO_CORRECTIONS,
    notify: Notify = lambda text: None,
) -> ImportPlan:
    """Plans a copy of all clips with their names and class numbers. Files of mirrored copies are copied as such.

    Args:
        source: the folder of a data set; `feature` may be any array that `data_utils.importing.readings` can read.
        order: the order of the parts in a frame; by default the one that fits the body.
        corrections: what the plan's caller will correct: the order is found for corrected clips.
        notify: receives lines about what was found.

    Raises:
        DataError: the data set, a file or a label cannot be read, or the order of the parts cannot be found.
    """
    words = read_words(source)
    if unread := unread_files(source):
        notify(f"not read: {', '.join(unread[:10])}" + (f", ... {len(unread):,} in total" if len(unread) > 10 else ""))
    clips = []
    for file in signer_files(source):
        name = file.signer + MIRRORED_SUFFIX * file.mirrored
        for clip, label, session in read_labels(file.path):
            if not 0 <= label < len(words):
                raise label_outside(file.path, clip, label, len(words))
            clips.append(ListedClip(name, clip, words[label], f"{file.path.name}/{clip}", session))
    orders = orders_of_clips(clips, lambda clip: [_rows(source / clip.file, order)], order, corrections, notify)
    read, reads = orders.readers(functools.partial(read_clip, order=order))
    return make_plan("hdf5", source, words, clips, read, exists=_exists, options=orders.options, reads=reads)


def read_clip(path: Path, *, order: Order | None, orders: Sequence[tuple[Order, Order]]) -> np.ndarray:
    """Reads one clip, float32 `[3, T, 543]`, NaN = not detected.

    Args:
        path: `<file>/<clip>`.
        order: the order of the parts if it was given; it may decide what the numbers stand for.
        orders: the order of the parts, by the usual order.

    Raises:
        DataError: the clip cannot be read, or contains something else.
    """
    return to_landmarks([_rows(path, order)], dict(orders), file=path)


def _rows(path: Path, order: Order | None) -> Rows:
    return rows_of(read_unchecked(path.parent, path.name), order, file=path)


def _exists(path: Path) -> bool:
    return path.parent.is_file()
