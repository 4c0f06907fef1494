"""Clips to predict, without labels, from several file formats.

    <signer>.hdf5, .h5, .hdf    many clips: the layout of `data_utils.hdf5`; labels are optional
    <sequence>.parquet          one clip of the Kaggle release
    <clip>.npy, .npz            one clip, in most of the ways in which people save one: `data_utils.importing.readings`
    a folder of .npy or .npz    one clip, one file per frame
    <clip>.pose                 one clip of MediaPipe Holistic landmarks
    <clip>.mp4, .mov ...        one clip: a video, see `data_utils.importing.video`

Landmarks that were not detected are NaN, or as in `data_utils.importing.readings`.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_utils.errors import DataError
from data_utils.hdf5 import read_unlabeled
from data_utils.importing.array_files import SUFFIXES, frame_paths, is_array_name, read_frames, read_rows, to_landmarks
from data_utils.importing.order import SampleClip, find_order
from data_utils.importing.readings import Order
from data_utils.importing.source_orders import strays_from, unfit_text
from data_utils.importing.video import KIND as VIDEOS
from data_utils.importing.video_process import VideoReader
from data_utils.importing.video_setup import check_set_up, interpreter

_HDF5 = (".hdf5", ".h5", ".hdf")
_KINDS = (*_HDF5, ".parquet", *SUFFIXES, ".pose", *VIDEOS.suffixes)


@dataclass(frozen=True)
class Input:
    """One clip to predict."""

    file: Path
    clip: str
    """Its name in a file of many clips, otherwise the file's name."""

    landmarks: np.ndarray | DataError
    """float32 `[3, T, 543]`, NaN = not detected; or the error if the clip cannot be read."""

    note: str = ""
    """What to tell about how it was read, in one line; mostly empty."""


def check_inputs(paths: Sequence[Path]) -> None:
    """Checks that all files exist and have a supported format, and that videos can be read.

    Raises:
        DataError: for the first file that does not.
    """
    for path in paths:
        if not path.exists():
            raise DataError("there is no such file", file=path)
        if path.is_dir():
            _check_folder(path)
        elif path.suffix.lower() not in _KINDS:
            raise DataError("this file format is not supported", file=path, got=path.suffix, expected=", ".join(_KINDS))
        elif not path.is_file():
            raise DataError("this is not a file", file=path)
    if any(path.suffix.lower() in VIDEOS.suffixes for path in paths):
        check_set_up()


def _check_folder(folder: Path) -> None:
    """Checks that a folder holds frames, or says how to name what it holds."""
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    arrays = [name for name in names if is_array_name(name)]
    suffix = next((Path(name).suffix for name in names if Path(name).suffix.lower() in _KINDS), None)
    hint = None if suffix is None else f"name its files one by one: {shlex.quote(str(folder))}/*{suffix}"
    if not arrays:
        inside = next((name for name in names if (folder / name).is_dir()), None)
        if hint is None and inside is not None:
            hint = f"name one of the folders in it, such as {shlex.quote(str(folder / inside))}"
        expected = "files of one frame each, such as 0.npy, 1.npy, 2.npy"
        raise DataError("the folder contains no frames", file=folder, expected=expected, hint=hint)
    try:
        rows = read_rows(folder / arrays[0])
    except DataError:
        return  # told as a clip that cannot be read
    if len(rows.values_TV) > 1:
        got = f"{arrays[0]}: {len(rows.values_TV):,} frames"
        raise DataError("the files in the folder are clips, not frames", file=folder, got=got, hint=hint)


def read_inputs(paths: Sequence[Path], order: Order | None = None) -> Iterator[Input]:
    """Every clip of every file, one at a time, in the given order. A file that cannot be read is one clip with an error.

    Args:
        paths: files, and folders of frames.
        order: the order of the parts in NumPy arrays; by default the one that fits the body.
    """
    with contextlib.closing(VideoReader(interpreter())) as videos:
        for path in paths:
            try:
                if path.is_file() and path.suffix.lower() in _HDF5:
                    for name, found in read_unlabeled(path):
                        yield Input(path, name, found)
                else:
                    yield _read_one(path, order, videos)
            except DataError as fault:
                yield Input(path, path.stem, fault)


def _read_one(path: Path, order: Order | None, videos: VideoReader) -> Input:
    if path.is_file() and path.suffix.lower() in VIDEOS.suffixes:
        return Input(path, path.stem, videos.read(path))
    if path.suffix.lower() == ".parquet":
        from data_utils.importing.kaggle import read_clip as read_parquet  # needs pyarrow

        return Input(path, path.stem, read_parquet(path))
    if path.suffix.lower() == ".pose":
        from data_utils.importing.pose_file import read_clip as read_pose  # needs pose-format

        return Input(path, path.stem, read_pose(path))
    clip = read_frames(frame_paths(path), order) if path.is_dir() else [read_rows(path, order)]
    usual, note, sample = clip[0].reading.usual, "", [SampleClip(clip)]
    if order is None:
        found = find_order(sample)
        order, note = found.order, "" if found.sure else found.text
    else:
        for found in strays_from(sample, order, sides=False).values():
            note = unfit_text(order, found.order, path.name)
    return Input(path, path.stem, to_landmarks(clip, {usual: order}, file=path), note)
