"""Reads a clip from `.npy` and `.npz` files: one file, or a folder with one file per frame.

A `.npz` file holds one array, or one per part under names such as pose, face, left_hand or lh, right_hand or rh.
"""

# T frames, V values of a frame

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from data_utils.clips import check_shape, checked_landmarks, read_archive, read_array
from data_utils.errors import DataError
from data_utils.importing.arrays import Rows, joined, landmarks, rows_of
from data_utils.importing.readings import Order, Reading
from data_utils.landmarks import NUM_COORDINATES, NUM_LANDMARKS

SUFFIXES = (".npy", ".npz")

_MAX_MEDIAN = 5.0
"""Of x and y. A body that fills the picture reaches from 0 to about 2.5, where its legs are below the picture."""

_PART_NAMES = {
    "pose": ("pose", "body"),
    "face": ("face", "facemesh"),
    "left_hand": ("lefthand", "left", "lh", "handleft", "lhand", "handl"),
    "right_hand": ("righthand", "right", "rh", "handright", "rhand", "handr"),
}
_PART_OF = {name: part for part, names in _PART_NAMES.items() for name in names}
_ENDING = re.compile(r"(landmarks?|keypoints?|points?|kpts?|kps?|pts?|xyzv?|xyv?|coords?|coordinates|data|array|arr)+$")


def is_array_name(name: str) -> bool:
    """Whether a file of this name is read: `.npy` or `.npz`, and not hidden."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def read_rows(path: Path, order: Order | None = None) -> Rows:
    """The frames in one file. An order may be needed to tell apart what the numbers stand for, see `rows_of`.

    Raises:
        DataError: the file cannot be read, or contains something else.
    """
    if path.suffix.lower() == ".npz":
        return _rows_of_archive(read_archive(path), order, path)
    return rows_of(read_array(path), order, file=path)


def read_frames(paths: Sequence[Path], order: Order | None = None) -> list[Rows]:
    """The frames in files of one frame each, in the order of the paths; those that follow each other in one reading together.

    Raises:
        DataError: a file cannot be read, or contains something else or more than a frame.
    """
    found: list[tuple[Reading, list[np.ndarray]]] = []
    for path in paths:
        rows = read_rows(path, order)
        if len(rows.values_TV) != 1:
            raise DataError(
                "the file does not hold one frame", file=path, got=f"{len(rows.values_TV):,} frames", expected="one per file"
            )
        same = bool(found) and found[-1][0] == rows.reading
        if found and not same and found[0][0].without_irises != rows.reading.without_irises:
            first = f"{paths[0].name} {found[0][1][0].shape[1]:,}"
            raise DataError(
                "the frames of the clip have different numbers of values",
                file=path,
                got=f"{rows.width:,}; {first}",
                expected="the same parts in every frame, with zeros or NaN for a part that was not detected",
            )
        if not found or not same or found[-1][1][-1].shape != rows.values_TV.shape:
            found.append((rows.reading, []))
        found[-1][1].append(rows.values_TV)
    return [Rows(np.concatenate(values), reading) for reading, values in found]


def frame_paths(folder: Path) -> list[Path]:
    """The files of frames in a folder, sorted by the numbers in their names: frame_2.npy before frame_10.npy.

    The numbers need not start at 0, and gaps are closed. Hidden files and other kinds of files are ignored.

    Raises:
        DataError: the folder holds no frame, too many, one without a number, or two of the same number.
    """
    if not folder.is_dir():
        raise DataError("there is no such folder", file=folder)
    names = sorted(path.name for path in folder.iterdir() if is_array_name(path.name))
    if not names:
        deeper = next((path.name for path in sorted(folder.iterdir()) if path.is_dir() and path.name[0] != "."), None)
        if deeper is not None:
            raise DataError("the folder contains folders instead of frames", file=folder, got=deeper, expected="<frame>.npy")
    check_shape((NUM_COORDINATES, len(names), NUM_LANDMARKS), np.dtype(np.float32), file=folder, path=None)
    return [folder / name for name in sorted_frames(names, folder)]


def sorted_frames(names: Iterable[str], folder: Path) -> list[str]:
    """Names of frames, sorted by the numbers in them.

    Raises:
        DataError: a name has no number, or two have the same.
    """
    name_of: dict[tuple[int, ...], str] = {}
    for name in names:
        numbers = tuple(map(int, re.findall(r"\d+", Path(name).stem)))
        if not numbers:
            expected = "names such as 0.npy, frame_1.npy or 0002.npy"
            raise DataError("a frame's name has no number", file=folder / name, expected=expected)
        if numbers in name_of:
            raise DataError("two frames have the same number", file=folder, got=f"{name_of[numbers]} and {name}")
        name_of[numbers] = name
    return [name_of[numbers] for numbers in sorted(name_of)]


def to_landmarks(clip: Sequence[Rows], orders: Mapping[Order, Order], *, file: Path) -> np.ndarray:
    """A clip's landmarks, float32 `[3, T, 543]`, NaN = not detected, validated.

    Args:
        clip: its frames.
        orders: the order of the parts, by the usual order of the frames; usual orders that are missing are kept.
        file: named in errors.

    Raises:
        DataError: a number is infinite or far too large, coordinates are pixels, or nothing was detected.
    """
    frames = sum(len(rows.values_TV) for rows in clip)
    check_shape((NUM_COORDINATES, frames, NUM_LANDMARKS), np.dtype(np.float32), file=file, path=None)
    feature_CTJ = np.concatenate([landmarks(rows, orders.get(rows.reading.usual)) for rows in clip], axis=1)
    feature_CTJ = checked_landmarks(feature_CTJ, file=file)
    values = np.abs(feature_CTJ[:2])
    if (middle := float(np.median(values[~np.isnan(values)]))) > _MAX_MEDIAN:
        raise DataError(
            "the landmarks are in pixels, of a picture of unknown size",
            file=file,
            got=f"x and y around {middle:,.0f}",
            expected="fractions of the picture's width and height",
            hint="divide x by the width and y by the height of the picture",
        )
    return feature_CTJ


def _rows_of_archive(arrays: Mapping[str, np.ndarray], order: Order | None, path: Path) -> Rows:
    """The frames in an archive of arrays. Arrays of parts are read by their names; single numbers and texts are ignored."""
    arrays = {name: values for name, values in arrays.items() if values.ndim and values.dtype.kind not in "US"}
    name_of = {part: name for name in arrays if (part := _part_of(name)) is not None}
    if name_of:
        unknown = [name for name, values in arrays.items() if name not in name_of.values() and _may_be_part(name, values)]
        if unknown:
            expected = "names such as pose, face, left_hand and right_hand, each once"
            hint = "rename it, or save the file without arrays that are no parts"
            raise DataError(
                "an array's name does not tell its part", file=path, got=", ".join(unknown), expected=expected, hint=hint
            )
        rows = {part: _rows_of_part(arrays[name], part, path) for part, name in name_of.items() if arrays[name].size}
        lengths = {part: len(one.values_TV) for part, one in rows.items()}
        if len(set(lengths.values())) > 1:
            got = ", ".join(f"{part} {frames}" for part, frames in lengths.items())
            raise DataError("the parts have different numbers of frames", file=path, got=got, expected="the same number")
        if rows:
            return joined(rows.values())
    readable = {name: values for name, values in arrays.items() if len(arrays) == 1 or _may_be_clip(values, order, path)}
    if len(readable) > 1:  # without times and labels
        readable = {name: values for name, values in readable.items() if values.ndim > 1}
    if len(readable) != 1:
        raise DataError(
            "the file does not hold one clip",
            file=path,
            got=f"arrays {', '.join(f'{name} {list(values.shape)}' for name, values in arrays.items())}" if arrays else "none",
            expected="one array, or one per part, named pose, face, left_hand and right_hand",
            hint="save each clip as its own file",
        )
    return rows_of(next(iter(readable.values())), order, file=path)


def _rows_of_part(values: np.ndarray, part: str, path: Path) -> Rows:
    try:
        return rows_of(values, (part,), file=path)
    except DataError as error:
        if values.dtype.kind != "f":
            raise
        points = {"pose": "33 or 25", "face": "468 or 478"}.get(part, "21")
        expected = f"{points} points, such as [frames, {points.split()[0]}, 3]"
        raise DataError(f"the {part} has another shape", file=path, got=str(list(values.shape)), expected=expected) from error


def _may_be_clip(values: np.ndarray, order: Order | None, path: Path) -> bool:
    """Whether an array can be read as frames, unlike labels and times."""
    try:
        rows_of(values, order, file=path)
    except DataError:
        return False
    return True


def _may_be_part(name: str, values: np.ndarray) -> bool:
    """Whether an array beside those of parts may be a part too, by its name or its shape. World coordinates are left out."""
    if "world" in name.lower():
        return False
    named = _part_of(name) is not None or re.search("hand|pose|face|land|point", name.lower()) is not None
    return named or (values.ndim > 1 and any(_may_be_clip(values, order, Path(name)) for order in (None, ("left_hand",))))


def _part_of(name: str) -> str | None:
    """The part for which the name of an array stands."""
    plain = re.sub(r"[^a-z]", "", name.lower())
    return _PART_OF.get(plain) or _PART_OF.get(_ENDING.sub("", plain))
