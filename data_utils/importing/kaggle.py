"""Imports Kaggle's "Google - Isolated Sign Language Recognition" (asl-signs). No other file reads Parquet.

    SRC/train.csv                                             path, participant_id, sequence_id, sign
    SRC/sign_to_prediction_index_map.json                     {"TV": 0, "after": 1, ...}
    SRC/train_landmark_files/<participant>/<sequence>.parquet
        frame int16, type (face, left_hand, pose, right_hand), landmark_index int16, x, y, z float64; row_id is ignored

Source: https://www.kaggle.com/competitions/asl-signs/data
"""

# R rows of a file, P body parts (4)

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_utils.clips import MAX_FRAMES, check_shape, checked_landmarks
from data_utils.errors import DataError, not_installed
from data_utils.folder import check_plain_file
from data_utils.importing.importing import FORBIDDEN_CHARACTERS, check_name
from data_utils.importing.record import ImportPlan, ListedClip, make_plan
from data_utils.landmarks import FILE_PARTS, NUM_COORDINATES, NUM_LANDMARKS
from data_utils.wording import suggest
from data_utils.words import DICTIONARY_NAME, parse_words

_LIST = "train.csv"
_LIST_COLUMNS = ("path", "participant_id", "sequence_id", "sign")
_NUMBERS, _TYPE, _COORDINATES = ("frame", "landmark_index"), "type", ("x", "y", "z")
_COLUMNS = (*_NUMBERS, _TYPE, *_COORDINATES)
_DAMAGED = "the Parquet file cannot be read: it is damaged or cut short"
_COPY_AGAIN = "copy or download it again"


def plan_import(source: Path, *, top: int | None = None, signs: Sequence[str] | None = None) -> ImportPlan:
    """Plans the import of every sign, of the `top` most frequent ones (ties by name), or of `signs`.

    With all signs, the release's class numbers are kept; otherwise they are 0 to K - 1 in alphabetical order.

    Raises:
        DataError: pyarrow is not installed, the list or the dictionary is invalid or lacks a sign.
    """
    _import_pyarrow()
    if not source.is_dir():
        raise DataError("there is no such folder", file=source, hint="name the folder that contains train.csv")
    for name in (_LIST, DICTIONARY_NAME):
        if not (source / name).exists():
            hint = "name the folder with the unpacked files of the competition asl-signs"
            raise DataError("this is not the Kaggle release: a file is missing", file=source, expected=name, hint=hint)
    words = parse_words(source / DICTIONARY_NAME)
    clips = list(_listed_clips(source / _LIST, frozenset(words)))
    if not clips:
        raise DataError("the list contains no clip", file=source / _LIST, hint=_COPY_AGAIN)
    if top is not None or signs is not None:
        words = _select_signs(Counter(clip.word for clip in clips), words, top, signs)
    return make_plan("kaggle", source, words, clips, read_clip)


def read_clip(path: Path) -> np.ndarray:
    """Reads one clip, float32 `[3, T, 543]`, NaN = not detected.

    Frames are sorted by number. The numbers need not start at 0, and gaps are closed, as in the loader that the competition
    provides (each 543 consecutive rows are a frame, whatever its number). Rows may be in any order; a landmark without a row
    was not detected.

    Raises:
        DataError: pyarrow is not installed, or the file cannot be read or contains something else.
    """
    table = _read(path)
    part_R, index_R = _parts(table, path), table["landmark_index"].to_numpy().astype(np.int64)
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
        raise DataError("the file is empty", file=path, hint=_COPY_AGAIN)
    try:
        with arrow.parquet.ParquetFile(path, read_dictionary=[_TYPE]) as file:
            _check_columns(arrow, file.schema_arrow, path)
            if file.metadata.num_rows > MAX_FRAMES * NUM_LANDMARKS:
                got, expected = f"{file.metadata.num_rows:,} rows", f"at most {MAX_FRAMES:,} frames of {NUM_LANDMARKS} rows"
                raise DataError("the clip is far too long for one sign", file=path, got=got, expected=expected)
            table = file.read(columns=list(_COLUMNS), use_threads=False)
    except KeyError as error:  # raised for the column that is read as a dictionary
        raise _other_columns(path, f"no column `{_TYPE}`") from error
    except (arrow.ArrowException, OSError, ValueError, MemoryError) as error:
        raise DataError(_DAMAGED, file=path, got=str(error), hint=_COPY_AGAIN) from error
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
                raise _other_columns(path, ", ".join(schema.names))
            found = schema.field(name).type
            if not is_right(found):
                raise DataError(f"the column `{name}` has the wrong type", file=path, got=str(found), expected=kind)


def _other_columns(path: Path, got: str) -> DataError:
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


def _listed_clips(path: Path, words: frozenset[str]) -> Iterator[ListedClip]:
    """The clips in the list.

    Raises:
        DataError: at the first fault.
    """
    check_plain_file(path)
    names: set[tuple[str, str]] = set()
    files: set[str] = set()
    expected = ", ".join(_LIST_COLUMNS)
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            columns = reader.fieldnames or ()
            if not set(_LIST_COLUMNS) <= set(columns):
                got = ", ".join(columns) or "an empty file"
                raise DataError("the list lacks columns", file=path, got=got, expected=expected)
            for fields in reader:
                line = f"line {reader.line_num}"
                clip = _listed_clip(fields, path, line, words)
                if (clip.signer, clip.name) in names:
                    got = f"{clip.name} of {clip.signer}"
                    raise DataError("a signer has a sequence twice", file=path, path=line, got=got)
                if clip.file in files:
                    raise DataError("a file is listed twice", file=path, path=line, got=clip.file, hint=_COPY_AGAIN)
                names.add((clip.signer, clip.name))
                files.add(clip.file)
                yield clip
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError("the list is not valid CSV in UTF-8", file=path, got=str(error), expected=expected) from error


def _listed_clip(fields: dict[str, str | None], path: Path, line: str, words: frozenset[str]) -> ListedClip:
    file, signer, name, word = (fields[column] for column in _LIST_COLUMNS)
    if file is None or signer is None or name is None or word is None:
        raise DataError("a line of the list is cut short", file=path, path=line, hint=_COPY_AGAIN)
    if None in fields:  # the reader's key for surplus fields
        raise DataError("a line of the list has too many fields", file=path, path=line, hint="quote fields with a comma")
    if not file or file.startswith("/") or ".." in file.split("/") or FORBIDDEN_CHARACTERS.search(file):
        expected = "train_landmark_files/<participant>/<sequence>.parquet"
        raise DataError("a path in the list is outside the release", file=path, path=line, got=file, expected=expected)
    check_name(signer, "a signer", file=path)
    check_name(name, "a clip", file=path, may_end_in_swap=True)
    if word not in words:
        hint = suggest(word, words)
        raise DataError("the dictionary lacks a sign of the list", file=path, path=line, got=word, hint=hint)
    return ListedClip(signer, name, word, file)


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
