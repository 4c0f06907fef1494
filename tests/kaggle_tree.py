"""Writes given clips in the layout of Kaggle's asl-signs release."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as arrow
import pyarrow.compute as compute
import pyarrow.parquet as parquet

from data_utils.hdf5 import Clip
from data_utils.landmarks import FILE_PARTS
from data_utils.words import DICTIONARY_NAME

COLUMNS = ("path", "participant_id", "sequence_id", "sign")
_SIZES = [part.stop - part.start for part in FILE_PARTS.values()]
_TYPES = np.repeat(np.array(list(FILE_PARTS)), _SIZES)
_INDICES = np.concatenate([np.arange(size) for size in _SIZES]).astype(np.int16)


def table_of(feature_CTJ: np.ndarray, *, first_frame: int = 20) -> arrow.Table:
    """The rows of a clip as in the release: 543 rows per frame, null where nothing was detected."""
    frames = feature_CTJ.shape[1]
    numbers = arrow.array(np.repeat(np.arange(first_frame, first_frame + frames, dtype=np.int16), len(_TYPES)))
    types, indices = arrow.array(np.tile(_TYPES, frames)), arrow.array(np.tile(_INDICES, frames))
    row_ids = compute.binary_join_element_wise(numbers.cast("string"), types, indices.cast("string"), "-")
    columns = {"frame": numbers, "row_id": row_ids, "type": types, "landmark_index": indices}
    for name, values in zip("xyz", feature_CTJ.reshape(3, -1).astype(np.float64), strict=True):
        columns[name] = arrow.array(values, from_pandas=True)
    return arrow.table(columns)


def write_clip(path: Path, feature_CTJ: np.ndarray, *, first_frame: int = 20) -> None:
    """One clip's file, as pandas would write it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table_of(feature_CTJ, first_frame=first_frame), path, compression="snappy")


def write_kaggle_tree(folder: Path, clips: Mapping[str, Sequence[Clip]], words: Sequence[str]) -> None:
    """Writes `clips` (by signer) as a release: the list, the dictionary and one Parquet file per clip."""
    rows = []
    for signer, own in clips.items():
        for clip in own:
            path = f"train_landmark_files/{signer}/{clip.name}.parquet"
            write_clip(folder / path, clip.feature_CTJ)
            rows.append((path, signer, clip.name, words[clip.label]))
    write_list(folder, rows)
    numbers = {word: number for number, word in enumerate(words)}
    (folder / DICTIONARY_NAME).write_text(json.dumps(numbers, ensure_ascii=False), encoding="utf-8")


def write_list(folder: Path, rows: Sequence[Sequence[str]], heads: Sequence[str] = COLUMNS, name: str = "train.csv") -> None:
    """Writes `train.csv`, or a list of another name."""
    with (folder / name).open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([heads, *rows])
