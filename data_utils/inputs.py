"""Clips to predict, without labels, from several file formats.

    <signer>.hdf5, .h5    many clips: the layout of `data_utils.hdf5`; labels are optional
    <sequence>.parquet    one clip of the Kaggle release
    <clip>.npy            one clip: [T, 543, 3], [3, T, 543], or [T, 1662], a common layout of MediaPipe Holistic results
    a folder of .npy      one clip, one file of 1662 numbers per frame
    <clip>.mp4, .mov ...  one clip: a video, see `data_utils.importing.video`

T frames; landmarks that were not detected are NaN, or zeros in rows of 1662 numbers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_utils.errors import DataError
from data_utils.hdf5 import read_unlabeled
from data_utils.importing.array_files import frame_paths, read_frames, read_rows, to_landmarks
from data_utils.importing.order import SampleClip, find_order
from data_utils.importing.video import KIND as VIDEOS
from data_utils.importing.video_process import VideoReader
from data_utils.importing.video_setup import check_set_up, interpreter

_HDF5 = (".hdf5", ".h5")
_KINDS = (*_HDF5, ".parquet", ".npy", *VIDEOS.suffixes)


@dataclass(frozen=True)
class Input:
    """One clip to predict."""

    file: Path
    clip: str
    """Its name in a file of many clips, otherwise the file's name."""

    landmarks: np.ndarray | DataError
    """float32 `[3, T, 543]`, NaN = not detected; or the error if the clip cannot be read."""


def check_inputs(paths: Sequence[Path]) -> None:
    """Checks that all files exist and have a supported format, and that videos can be read.

    Raises:
        DataError: for the first file that does not.
    """
    for path in paths:
        if not path.exists():
            raise DataError("there is no such file", file=path)
        if path.is_dir():
            if not any(path.glob("*.npy")):
                hint = f"name its files one by one, such as {path / '*.hdf5'}" if any(path.glob("*.hdf5")) else None
                raise DataError("the folder contains no frames", file=path, expected="files named <frame>.npy", hint=hint)
        elif path.suffix.lower() not in _KINDS:
            raise DataError("this file format is not supported", file=path, got=path.suffix, expected=", ".join(_KINDS))
        elif not path.is_file():
            raise DataError("this is not a file", file=path)
    if any(path.suffix.lower() in VIDEOS.suffixes for path in paths):
        check_set_up()


def read_inputs(paths: Sequence[Path]) -> Iterator[Input]:
    """Every clip of every file, one at a time, in the given order. A file that cannot be read is one clip with an error."""
    with contextlib.closing(VideoReader(interpreter())) as videos:
        for path in paths:
            try:
                if path.is_file() and path.suffix.lower() in _HDF5:
                    for name, found in read_unlabeled(path):
                        yield Input(path, name, found)
                else:
                    yield Input(path, path.stem, _read_one(path, videos))
            except DataError as fault:
                yield Input(path, path.stem, fault)


def _read_one(path: Path, videos: VideoReader) -> np.ndarray:
    if path.is_file() and path.suffix.lower() in VIDEOS.suffixes:
        return videos.read(path)
    if path.suffix.lower() == ".parquet":
        from data_utils.importing.kaggle import read_clip  # needs pyarrow

        return read_clip(path)
    return _read_arrays(path)


def _read_arrays(path: Path) -> np.ndarray:
    clip = read_frames(frame_paths(path)) if path.is_dir() else [read_rows(path)]
    orders = {clip[0].reading.usual: find_order([SampleClip(clip)]).order}
    return to_landmarks(clip, orders, file=path)
