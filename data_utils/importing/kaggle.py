"""Imports Kaggle's "Google - Isolated Sign Language Recognition" (asl-signs). No other file reads Parquet.

    SRC/train.csv                                             see `data_utils.importing.kaggle_list`
    SRC/sign_to_prediction_index_map.json                     {"TV": 0, "after": 1, ...}; own data sets may lack it
    SRC/train_landmark_files/<participant>/<sequence>.parquet
        frame int16, type (face, left_hand, pose, right_hand), landmark_index int16, x, y, z float64; row_id is ignored

Source: https://www.kaggle.com/competitions/asl-signs/data
"""

# R rows of a file, P body parts (4)

from __future__ import annotations

import itertools
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_utils.clips import MAX_FRAMES, check_shape, checked_landmarks
from data_utils.errors import DataError, not_installed
from data_utils.folder import check_plain_file
from data_utils.importing.csv_list import COPY_AGAIN
from data_utils.importing.kaggle_list import LIST_NAME, find_list, listed_clips
from data_utils.importing.record import ImportPlan, make_plan
from data_utils.landmarks import FILE_PARTS, LEFT_HAND_START, NUM_COORDINATES, NUM_IRISES, NUM_LANDMARKS
from data_utils.wording import suggest
from data_utils.words import DICTIONARY_NAME, parse_words

_NUMBERS, _TYPE, _COORDINATES = ("frame", "landmark_index"), "type", ("x", "y", "z")
_COLUMNS = (*_NUMBERS, _TYPE, *_COORDINATES)
_MAX_NAMED = 10  # columns
_DAMAGED = "the Parquet file cannot be read: it is damaged or cut short"


def plan_import(
    source: Path,
    *,
    top: int | None = None,
    signs: Sequence[str] | None = None,
    signer: str | None = None,
    notify: Callable[[str], None] = lambda text: None,
) -> ImportPlan:
    """Plans the import of every sign, of the `top` most frequent ones (ties by name), or of `signs`.

    With all signs, the release's class numbers are kept; otherwise, or without a dictionary, they are 0 to K - 1 in
    alphabetical order.

    Args:
        signer: who signs all clips, if the list does not say it.
        notify: receives a line about what the list does not say.

    Raises:
        DataError: pyarrow is not installed, the list or the dictionary is invalid or lacks a sign.
    """
    _import_pyarrow()
    if not source.is_dir():
        raise DataError("there is no such folder", file=source, hint=f"name the folder that contains {LIST_NAME}")
    try:
        found = find_list(source)
    except DataError:
        _refuse_fingerspelling(source)
        raise
    words = parse_words(source / DICTIONARY_NAME) if (source / DICTIONARY_NAME).exists() else None
    clips = listed_clips(found, words, signer, notify)
    if words is None:
        words = tuple(sorted({clip.word for clip in clips}))
    if top is not None or signs is not None:
        names = None if signs is None else [_as_in(words, sign) for sign in signs]
        words = _select_signs(Counter(clip.word for clip in clips), words, top, names)
    return make_plan("kaggle", source, words, clips, read_clip)


def _refuse_fingerspelling(source: Path) -> None:
    """Names the other release if the folder contains a file of it."""
    example = next(itertools.chain(source.glob("*.parquet"), source.glob("*/*.parquet")), None)
    if example is None:
        return
    arrow = _import_pyarrow()
    try:
        names = arrow.parquet.read_schema(example).names
    except (arrow.ArrowException, OSError, ValueError):
        return
    if _is_fingerspelling(names):
        raise _other_columns(names, example)


def _as_in(words: Sequence[str], sign: str) -> str:
    """A sign as the dictionary spells it: the same word in another Unicode form is found."""
    form = unicodedata.normalize("NFC", sign)
    return next((word for word in words if unicodedata.normalize("NFC", word) == form), sign)


def read_clip(path: Path) -> np.ndarray:
    """Reads one clip, float32 `[3, T, 543]`, NaN = not detected.

    Frames are sorted by number. The numbers need not start at 0, and gaps are closed, as in the loader that the competition
    provides (each 543 consecutive rows are a frame, whatever its number). Rows may be in any order; a landmark without a row
    was not detected. Of 478 face points the last ten are left out.

    Raises:
        DataError: pyarrow is not installed, or the file cannot be read or contains something else.
    """
    table = _read(path)
    part_R, index_R = _parts(table, path), table["landmark_index"].to_numpy().astype(np.int64)
    face_points = LEFT_HAND_START
    iris_R = (part_R == list(FILE_PARTS).index("face")) & (index_R >= face_points) & (index_R < face_points + NUM_IRISES)
    if iris_R.any():
        table, part_R, index_R = table.filter(~iris_R), part_R[~iris_R], index_R[~iris_R]
    start_P = np.array([part.start for part in FILE_PARTS.values()])
    size_P = np.array([part.stop for part in FILE_PARTS.values()]) - start_P
    outside_R = (index_R < 0) | (index_R >= size_P[part_R])
    if outside_R.any():
        row = int(np.argmax(outside_R))
        part, size = list(FILE_PARTS)[part_R[row]], size_P[part_R[row]]
        raise DataError(
            "a landmark's index is out of range", file=path, got=f"{part} {index_R[row]}", expected=f"0 to {size - 1}"
        )
    frames, frame_R = np.unique(table["frame"].to_numpy(), return_inverse=True)
    shape = (NUM_COORDINATES, len(frames), NUM_LANDMARKS)
    check_shape(shape, np.dtype(np.float32), file=path, path=None)
    position_R = frame_R * NUM_LANDMARKS + start_P[part_R] + index_R
    filled = np.zeros(len(frames) * NUM_LANDMARKS, bool)
    filled[position_R] = True
    if np.count_nonzero(filled) < len(position_R):
        duplicate = int(np.argmax(np.bincount(position_R) > 1))
        frame, landmark = frames[duplicate // NUM_LANDMARKS], duplicate % NUM_LANDMARKS
        raise DataError("a landmark has two rows in a frame", file=path, got=f"frame {frame}, landmark {landmark}")
    feature = np.full((NUM_COORDINATES, len(filled)), np.nan, np.float32)
    with np.errstate(over="ignore"):  # values too large for float32 become infinite and are rejected below
        for axis, name in enumerate(_COORDINATES):
            feature[axis, position_R] = table[name].to_numpy()
    return checked_landmarks(feature.reshape(shape), file=path)


def _import_pyarrow() -> Any:
    try:
        import pyarrow as arrow
        import pyarrow.parquet
    except ImportError as error:
        raise not_installed("Kaggle's files are in Parquet format", "pyarrow", "kaggle", error) from error
    return arrow


def _read(path: Path) -> Any:
    """An Arrow table of the needed columns, types as dictionary codes. Only coordinates may be null."""
    arrow = _import_pyarrow()
    check_plain_file(path)
    if not path.exists():
        raise DataError("there is no such file", file=path)
    if path.stat().st_size == 0:
        raise DataError("the file is empty", file=path, hint=COPY_AGAIN)
    try:
        with arrow.parquet.ParquetFile(path, read_dictionary=[_TYPE]) as file:
            _check_columns(arrow, file.schema_arrow, path)
            if file.metadata.num_rows > MAX_FRAMES * NUM_LANDMARKS:
                got, expected = f"{file.metadata.num_rows:,} rows", f"at most {MAX_FRAMES:,} frames of {NUM_LANDMARKS} rows"
                raise DataError("the clip is far too long for one sign", file=path, got=got, expected=expected)
            table = file.read(columns=list(_COLUMNS), use_threads=False)
    except KeyError as error:  # raised for the column that is read as a dictionary
        raise _other_columns(arrow.parquet.read_schema(path).names, path) from error
    except (arrow.ArrowException, OSError, ValueError, MemoryError) as error:
        raise DataError(_DAMAGED, file=path, got=str(error), hint=COPY_AGAIN) from error
    for name in (*_NUMBERS, _TYPE):
        if table[name].null_count:
            raise DataError("a row lacks a value", file=path, got=f"no `{name}` in {table[name].null_count} rows")
    return table


def _check_columns(arrow: Any, schema: Any, path: Path) -> None:
    kinds = [
        (_NUMBERS, arrow.types.is_integer, "whole numbers"),
        ((_TYPE,), arrow.types.is_dictionary, "text"),  # read as a dictionary
        (_COORDINATES, arrow.types.is_floating, "floats"),
    ]
    for names, is_right, kind in kinds:
        for name in names:
            if schema.names.count(name) != 1:
                raise _other_columns(schema.names, path)
            found = schema.field(name).type
            if not is_right(found):
                raise DataError(f"the column `{name}` has the wrong type", file=path, got=str(found), expected=kind)


def _is_fingerspelling(names: Sequence[str]) -> bool:
    return any(name.startswith("x_face_") for name in names)


def _other_columns(names: Sequence[str], path: Path) -> DataError:
    got = ", ".join(names) if len(names) <= _MAX_NAMED else f"{len(names):,} columns: {', '.join(names[:_MAX_NAMED])}, ..."
    if _is_fingerspelling(names):
        return DataError(
            "this is a file of Kaggle's other release, asl-fingerspelling: many sequences of spelled phrases, one column per "
            "coordinate",
            file=path,
            got=got,
            expected=f"asl-signs, with one sign per file: {', '.join(_COLUMNS)}",
        )
    return DataError("the file has the wrong columns", file=path, got=got, expected=f"{', '.join(_COLUMNS)}, each once")


def _parts(table: Any, path: Path) -> np.ndarray:
    """For each row the index of its part in `FILE_PARTS`, int `[R]`."""
    column = table[_TYPE].combine_chunks()
    if len(column) == 0:
        return np.zeros(0, np.int64)
    names, known = column.dictionary.to_pylist(), list(FILE_PARTS)
    part_of_code = np.array([known.index(name) if name in known else -1 for name in names])
    part_R = part_of_code[column.indices.to_numpy()]
    if (part_R < 0).any():
        got = str(names[column.indices[int(np.argmax(part_R < 0))].as_py()])
        raise DataError("a row is of an unknown type", file=path, got=got, expected=", ".join(known))
    return part_R


def _select_signs(clips: Counter[str], words: Sequence[str], top: int | None, signs: Sequence[str] | None) -> tuple[str, ...]:
    """The requested signs in alphabetical order. `clips` counts the clips of each sign."""
    if top is not None:
        if not 1 <= top <= len(clips):
            raise DataError("`top` is out of range", got=str(top), expected=f"1 to {len(clips)}, the number of signs")
        return tuple(sorted(sorted(clips, key=lambda sign: (-clips[sign], sign))[:top]))
    for sign in signs or ():
        if not clips[sign]:
            what = "there is no clip of the sign" if sign in words else "there is no such sign"
            hint = suggest(sign, clips) or f"for example {', '.join(sorted(clips)[:10])}"
            raise DataError(f"{what}: `{sign}`", hint=hint)
    return tuple(sorted(set(signs or ())))
