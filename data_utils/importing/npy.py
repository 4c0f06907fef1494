"""Imports landmarks saved by NumPy: a file per frame or per clip, `.npy` or `.npz`.

    SRC/<signer>/<word>/<clip>/<frame>.npy      files of one frame
    SRC/<signer>/<word>/<clip>.npy              files of one clip
    SRC/<word>/...                              all by one signer, who is named
    anything else                               described by a layout, see `data_utils.importing.layout`

Which of these it is, and the order of the parts in a frame, are found from the files. What the arrays may hold:
`data_utils.importing.readings`.
"""

# T frames, J landmarks (543)

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_utils.clips import array_shape
from data_utils.errors import DataError
from data_utils.importing.array_files import (
    SUFFIXES,
    frame_paths,
    is_array_name,
    read_frames,
    read_rows,
    sorted_frames,
    to_landmarks,
)
from data_utils.importing.arrays import Rows, is_one_frame
from data_utils.importing.corrections import NO_CORRECTIONS, Corrections
from data_utils.importing.layout import Layout, parse_layout
from data_utils.importing.listing import clips_by_folders, clips_by_layout, without_repeats
from data_utils.importing.readings import Order
from data_utils.importing.record import ImportPlan, Notify, make_plan
from data_utils.importing.scanning import Found, Kind, file_names, scan
from data_utils.importing.source_orders import orders_of_clips

_ARRAYS = Kind("array", SUFFIXES)
_SAMPLE = 24  # files whose shapes are read


def plan_import(
    source: Path,
    *,
    signer: str | None = None,
    layout: str | None = None,
    order: Order | None = None,
    corrections: Corrections = NO_CORRECTIONS,
    notify: Notify = lambda text: None,
) -> ImportPlan:
    """Plans the import of all clips. Words are numbered in alphabetical order; clips are named `<word>__<clip>`.

    Names are normalized to one Unicode form (NFC), because file systems encode the same letter differently. Folders without
    arrays are left out.

    Args:
        source: a folder.
        signer: who signs in all clips; then folders are words.
        layout: a pattern of paths, for other folders than those above.
        order: the order of the parts in a frame; by default the one that fits the body.
        corrections: what the plan's caller will correct: the order is found for corrected clips.
        notify: receives lines about what was found and left out.

    Raises:
        DataError: the files have another layout or are not what is read, or two clips would get the same name.
    """
    found = scan(source, _ARRAYS)
    if layout is None:
        levels = ("signer", "word", "clip", *(["frame"] if _hold_frames(source, found) else []))
        listed = clips_by_folders(source, found, levels, signer, notify)
    else:
        listed = clips_by_layout(source, found, parse_layout(layout, _ARRAYS), signer, notify)
    clips = without_repeats(listed, source)
    orders = orders_of_clips(clips, lambda clip: _rows(source / clip.file, order, layout), order, corrections, notify)
    words = tuple(sorted({clip.word for clip in clips}))
    read, reads = orders.readers(functools.partial(read_clip, order=order, layout=layout))
    return make_plan("holistic", source, words, clips, read, options=orders.options, reads=reads)


def read_clip(
    path: Path, *, order: Order | None = None, layout: str | None = None, orders: Sequence[tuple[Order, Order]] = ()
) -> np.ndarray:
    """Reads one clip, float32 `[3, T, 543]`, NaN = not detected: a file, a folder of frames, or the first of several frames.

    Args:
        path: the file or folder.
        order: the order of the parts if it was given; it may decide what the numbers stand for.
        layout: the layout by which other frames of the clip are found in the same folder.
        orders: the order of the parts, by the usual order.

    Raises:
        DataError: the clip cannot be read, or contains something else.
    """
    return to_landmarks(_rows(path, order, layout), dict(orders), file=path)


def _rows(path: Path, order: Order | None, layout: str | None) -> list[Rows]:
    pattern = None if layout is None else parse_layout(layout, _ARRAYS)
    if pattern is not None and pattern.frames and not pattern.frames_fill_folders:
        return read_frames(_frames_beside(path, pattern), order)
    if is_array_name(path.name) and not path.is_dir():
        return [read_rows(path, order)]
    return read_frames(frame_paths(path), order)


def _frames_beside(path: Path, layout: Layout) -> list[Path]:
    """All frames of the clip to which a frame belongs."""
    levels = path.parts[-layout.levels : -1]
    fields = layout.fields("/".join((*levels, path.name)))
    if fields is None:
        raise DataError("the file does not have the layout", file=path, expected=layout.text)
    names = _names_by_clip(path.parent, levels, layout)[layout.clip_key(fields)]
    return [path.parent / name for name in sorted_frames(names, path.parent)]


@functools.lru_cache(maxsize=2)
def _names_by_clip(folder: Path, levels: tuple[str, ...], layout: Layout) -> dict[tuple[str, ...], list[str]]:
    """Names of the frames of all clips in a folder. `levels`: its path within the source."""
    names_of: dict[tuple[str, ...], list[str]] = {}
    for name in file_names(folder, _ARRAYS):
        fields = layout.fields("/".join((*levels, name)))
        if fields is not None:
            names_of.setdefault(layout.clip_key(fields), []).append(name)
    return names_of


def _hold_frames(source: Path, found: Sequence[Found]) -> bool:
    """Whether most of the files hold one frame only.

    Raises:
        DataError: none of the files that were tried can be read.
    """
    holding = [folder for folder in found if folder.files]
    single, fault = [], None
    for folder in holding[:: -(-len(holding) // _SAMPLE)]:
        path = source / folder.path / folder.first
        try:
            shape = array_shape(path) if path.suffix.lower() == ".npy" else read_rows(path).values_TV.shape
            single.append(is_one_frame(shape))
        except DataError as error:
            fault = fault or error
    if not single and fault is not None:
        raise fault
    return sum(single) > len(single) / 2
