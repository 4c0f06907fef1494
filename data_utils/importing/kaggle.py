"""Kaggle's "Google - Isolated Sign Language Recognition" (asl-signs), as it is released. The only file that reads Parquet.

    SRC/train.csv                                             path, participant_id, sequence_id, sign
    SRC/sign_to_prediction_index_map.json                     {"TV": 0, "after": 1, ...}
    SRC/train_landmark_files/<participant>/<sequence>.parquet
        frame int16, type (face, left_hand, pose, right_hand), landmark_index int16, x, y, z float64; row_id is not read

Source: https://www.kaggle.com/competitions/asl-signs/data
"""

# R rows of a file, P parts of a body (4)

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_utils.clips import MAX_FRAMES, check_shape, checked_landmarks
from data_utils.errors import DataError
from data_utils.folder import check_plain_file
from data_utils.importing.importing import BAD_MARKS, check_name
from data_utils.importing.record import Request, Source
from data_utils.landmarks import FILE_PARTS, NUM_COORDINATES, NUM_LANDMARKS
from data_utils.wording import suggest
from data_utils.words import DICTIONARY_NAME, parse_words

_LIST = "train.csv"
_LISTED = ("path", "participant_id", "sequence_id", "sign")
_NUMBERS, _TYPE, _COORDINATES = ("frame", "landmark_index"), "type", ("x", "y", "z")
_COLUMNS = (*_NUMBERS, _TYPE, *_COORDINATES)
_DAMAGED = "the Parquet file cannot be read: it is damaged or cut short"
_COPY_AGAIN = "copy or download it again"


def plan(source: Path, *, top: int | None = None, signs: Sequence[str] | None = None) -> Request:
    """What there is to import: every sign, the `top` most frequent (of equally frequent ones the first by name), or `signs`.

    All signs keep the release's class numbers; some get new ones, 0 to K - 1 in alphabetical order.

    Raises:
        DataError: pyarrow is not installed, the list or the dictionary is not what it should be, or does not have these signs.
    """
    _arrow()
    if not source.is_dir():
        raise DataError("there is no such folder", file=source, hint="name the folder that holds train.csv")
    for name in (_LIST, DICTIONARY_NAME):
        if not (source / name).exists():
            hint = "name the folder into which the files of the competition asl-signs were unpacked"
            raise DataError("this is not the Kaggle release: a file is missing", file=source, expected=name, hint=hint)
    words = parse_words(source / DICTIONARY_NAME)
    rows = list(_rows(source / _LIST, frozenset(words)))
    if not rows:
        raise DataError("the list holds no clip", file=source / _LIST, hint=_COPY_AGAIN)
    if top is not None or signs is not None:
        words = _chosen(Counter(row.sign for row in rows), words, top, signs)
    numbers = {word: number for number, word in enumerate(words)}
    clips_of: dict[str, list[Source]] = {}
    for row in rows:
        if row.sign in numbers:
            clips_of.setdefault(row.signer, []).append(Source(row.clip, numbers[row.sign], row.file))
    return Request("kaggle", source, words, clips_of, read_clip)


def read_clip(path: Path) -> np.ndarray:
    """One clip, float32 `[3, T, 543]`, NaN = not detected.

    Frames are laid in the order of their numbers. These need not begin with 0, and a gap between them is closed, as it is by
    the loader that the competition gives its entrants (543 rows on end are a frame, whatever its number). Rows may come in any
    order; a landmark without a row was not detected.

    Raises:
        DataError: pyarrow is not installed, the file cannot be read, or holds something else.
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
    place_R = frame_R * NUM_LANDMARKS + start_P[part_R] + index_R
    taken = np.zeros(len(frames) * NUM_LANDMARKS, bool)
    taken[place_R] = True
    if np.count_nonzero(taken) < len(place_R):
        twice = int(np.argmax(np.bincount(place_R) > 1))
        frame, landmark = frames[twice // NUM_LANDMARKS], twice % NUM_LANDMARKS
        raise DataError("a landmark has two rows in a frame", file=path, got=f"frame {frame}, landmark {landmark}")
    feature = np.full((NUM_COORDINATES, len(taken)), np.nan, np.float32)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused below
        for axis, name in enumerate(_COORDINATES):
            feature[axis, place_R] = table[name].to_numpy()
    return checked_landmarks(feature.reshape(shape), file=path)


def _arrow() -> Any:
    try:
        import pyarrow as arrow
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(
            "Kaggle's files are Parquet, and the package that reads it is not installed",
            got=str(error),
            expected="pyarrow",
            hint="pip install 'islr-search[kaggle]'",
        ) from error
    return arrow


def _read(path: Path) -> Any:
    """The columns that are needed, as a table of Arrow with types as dictionary codes, none of them null but coordinates."""
    arrow = _arrow()
    check_plain_file(path)
    if not path.exists():
        raise DataError("there is no such file", file=path)
    if path.stat().st_size == 0:
        raise DataError("the file is empty", file=path, hint=_COPY_AGAIN)
    try:
        with arrow.parquet.ParquetFile(path, read_dictionary=[_TYPE]) as file:
            _check_columns(arrow, file.schema_arrow, path)
            if file.metadata.num_rows > MAX_FRAMES * NUM_LANDMARKS:
                got, expected = f"{file.metadata.num_rows:,} rows", f"{MAX_FRAMES:,} frames of {NUM_LANDMARKS} rows, or fewer"
                raise DataError("the clip is far too long for one sign", file=path, got=got, expected=expected)
            table = file.read(columns=list(_COLUMNS), use_threads=False)
    except KeyError as error:  # of the one that is to be read as a dictionary
        raise _other_columns(path, f"none of the name `{_TYPE}`") from error
    except (arrow.ArrowException, OSError, ValueError, MemoryError) as error:
        raise DataError(_DAMAGED, file=path, got=str(error), hint=_COPY_AGAIN) from error
    for name in (*_NUMBERS, _TYPE):
        if table[name].null_count:
            raise DataError("a row says not where it belongs", file=path, got=f"no `{name}` in {table[name].null_count} rows")
    return table


def _check_columns(arrow: Any, schema: Any, path: Path) -> None:
    kinds = [
        (_NUMBERS, arrow.types.is_integer, "whole numbers"),
        ((_TYPE,), arrow.types.is_dictionary, "text"),  # as it was asked to be read
        (_COORDINATES, arrow.types.is_floating, "floats"),
    ]
    for names, is_right, kind in kinds:
        for name in names:
            if schema.names.count(name) != 1:
                raise _other_columns(path, ", ".join(schema.names))
            found = schema.field(name).type
            if not is_right(found):
                raise DataError(f"the column `{name}` is of another type", file=path, got=str(found), expected=kind)


def _other_columns(path: Path, got: str) -> DataError:
    return DataError("the file has other columns", file=path, got=got, expected=f"{', '.join(_COLUMNS)}, each once")


def _parts(table: Any, path: Path) -> np.ndarray:
    """Of each row which of `FILE_PARTS` it belongs to, int `[R]`."""
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


@dataclass(frozen=True)
class _Row:
    """One clip of the list."""

    file: str
    signer: str
    clip: str
    sign: str


def _rows(path: Path, words: frozenset[str]) -> Iterator[_Row]:
    """The clips of the list.

    Raises:
        DataError: at the first fault.
    """
    check_plain_file(path)
    seen: set[tuple[str, str]] = set()
    files: set[str] = set()
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            lacking = [name for name in _LISTED if name not in (reader.fieldnames or ())]
            if lacking:
                raise DataError(
                    "the list lacks columns",
                    file=path,
                    got=", ".join(reader.fieldnames or ()) or "an empty file",
                    expected=", ".join(_LISTED),
                )
            for fields in reader:
                row = _row(fields, path, f"line {reader.line_num}", words)
                if (row.signer, row.clip) in seen:
                    got = f"{row.clip} of {row.signer}"
                    raise DataError("a signer has a sequence twice", file=path, path=f"line {reader.line_num}", got=got)
                seen.add((row.signer, row.clip))
                if row.file in files:
                    got, line = row.file, f"line {reader.line_num}"
                    raise DataError("a file is listed twice", file=path, path=line, got=got, hint=_COPY_AGAIN)
                files.add(row.file)
                yield row
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(
            "the list cannot be read as CSV in UTF-8", file=path, got=str(error), expected=", ".join(_LISTED)
        ) from error


def _row(fields: dict[str, str | None], path: Path, line: str, words: frozenset[str]) -> _Row:
    where, signer, clip, sign = (fields[name] for name in _LISTED)
    if where is None or signer is None or clip is None or sign is None:
        raise DataError("a line of the list is cut short", file=path, path=line, hint=_COPY_AGAIN)
    if None in fields:  # where the reader puts what is too much
        raise DataError("a line of the list has too many fields", file=path, path=line, hint="quote what holds a comma")
    if not where or where.startswith("/") or ".." in where.split("/") or BAD_MARKS.search(where):
        expected = "train_landmark_files/<participant>/<sequence>.parquet"
        raise DataError("a path of the list leads out of the release", file=path, path=line, got=where, expected=expected)
    check_name(signer, "a signer", file=path)
    check_name(clip, "a clip", file=path, may_end_in_swap=True)
    if sign not in words:
        raise DataError(
            "the dictionary does not have a sign of the list", file=path, path=line, got=sign, hint=suggest(sign, words)
        )
    return _Row(where, signer, clip, sign)


def _chosen(clips: Counter[str], words: Sequence[str], top: int | None, signs: Sequence[str] | None) -> tuple[str, ...]:
    """The signs that are asked for, in alphabetical order. `clips` counts the clips of each."""
    if top is not None:
        if not 1 <= top <= len(clips):
            raise DataError("`top` is out of range", got=str(top), expected=f"1 to {len(clips)}, the number of signs")
        return tuple(sorted(sorted(clips, key=lambda sign: (-clips[sign], sign))[:top]))
    for sign in signs or ():
        if not clips[sign]:
            what = "there is no clip of the sign" if sign in words else "there is no such sign"
            hint = suggest(sign, clips) or f"there are {', '.join(sorted(clips)[:10])} and others"
            raise DataError(f"{what}: `{sign}`", hint=hint)
    return tuple(sorted(set(signs or ())))
