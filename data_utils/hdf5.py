"""The per-signer HDF5 layout: the only file that opens HDF5.

    FOLDER/<signer>.hdf5              one file a signer; `<signer>_swap.hdf5` holds mirrored copies of the same signer's clips
        /<clip>/feature  float [3, T, 543]   x, y, z of 543 landmarks; NaN = the part was not detected in that frame
        /<clip>/token    int   [1]           class number of the word
    FOLDER/sign_to_prediction_index_map.json   {"word": class number, ...}, numbers 0 .. K-1

T is 10,000 or less, and both datasets lie in the file itself, not behind links out of it: its digest stands for all that is
read. Everything is checked while it is read. `problems` goes on after a fault and lists them all.
"""

# C coordinates (3), T frames, J landmarks (543)

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from data_utils.clips import MAX_FRAMES, check_shape, checked_landmarks
from data_utils.errors import DataError
from data_utils.folder import SignerFile, check_plain_file
from data_utils.landmarks import NUM_COORDINATES, NUM_LANDMARKS

_MOST_NUMBERS = NUM_COORDINATES * MAX_FRAMES * NUM_LANDMARKS
_COPY_AGAIN = "copy or download it again"
_UNREADABLE = (OSError, RuntimeError, ValueError, KeyError, TypeError)  # what h5py raises for a damaged file


@dataclass(frozen=True)
class Clip:
    """One recording of one sign."""

    name: str
    feature_CTJ: np.ndarray
    """float32 `[3, T, 543]`, NaN = not detected."""

    label: int


def read_clips(file: SignerFile, num_words: int) -> Iterator[Clip]:
    """A signer's clips, in the order of their names.

    Raises:
        DataError: at the first fault of the file or of a clip.
    """
    for result in _clips_and_faults(file.path, num_words):
        if isinstance(result, DataError):
            raise result
        yield result


def read_unlabeled(path: Path) -> Iterator[tuple[str, np.ndarray | DataError]]:
    """Name and landmarks, float32 `[3, T, 543]`, of each clip of a file, or what is wrong with them. Labels need not be there.

    Raises:
        DataError: the file as a whole cannot be read.
    """
    with _open(path) as h5:
        for name in _clip_names(h5, path):
            try:
                yield name, _checked_feature(h5, path, name)
            except DataError as fault:
                yield name, fault


def read_index(file: SignerFile) -> list[tuple[str, int, int]]:
    """Name, class number and number of frames of each clip, in the order of the names. The landmarks are not read.

    Class numbers are not held against a dictionary here; see `label_outside`.

    Raises:
        DataError: at the first fault.
    """
    with _open(file.path) as h5:
        return [
            (name, _checked_label(h5, file.path, name), _checked_shape(_dataset(h5, file.path, name, "feature"), file.path)[1])
            for name in _clip_names(h5, file.path)
        ]


def label_outside(path: Path, clip: str, label: int, num_words: int) -> DataError:
    """The fault of a class number that the dictionary does not have."""
    return DataError(
        "the label is outside the dictionary",
        file=path,
        path=f"/{clip}/token",
        got=str(label),
        expected=f"a class number from 0 to {num_words - 1}",
    )


def write_signer(path: Path, clips: Iterable[Clip]) -> None:
    """Writes one signer's file, whole or not at all (written aside, then renamed).

    Equal clips give equal bytes with the same HDF5 library.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with h5py.File(aside, "w") as h5:
            for clip in clips:
                group = h5.create_group(clip.name)
                feature = np.asarray(clip.feature_CTJ, dtype=np.float32)
                chunk = (1, *feature.shape[1:])
                group.create_dataset(
                    "feature", data=feature, chunks=chunk, compression="gzip", compression_opts=1, shuffle=True
                )
                group.create_dataset("token", data=np.array([clip.label], dtype=np.int64))
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _clips_and_faults(path: Path, num_words: int) -> Iterator[Clip | DataError]:
    try:
        with _open(path) as h5:
            for name in _clip_names(h5, path):
                yield from _clip_or_faults(h5, path, name, num_words)
    except DataError as fault:
        yield fault


def _clip_or_faults(h5: h5py.File, path: Path, name: str, num_words: int) -> list[Clip | DataError]:
    faults: list[Clip | DataError] = []
    try:
        label = _checked_label(h5, path, name)
        if not 0 <= label < num_words:
            raise label_outside(path, name, label, num_words)
    except DataError as fault:
        faults.append(fault)
    try:
        feature_CTJ = _checked_feature(h5, path, name)
    except DataError as fault:
        # Where a clip is no group, or lacks both datasets, the two faults are of one place: the first says enough.
        if not any(isinstance(known, DataError) and known.path == fault.path for known in faults):
            faults.append(fault)
    return faults or [Clip(name, feature_CTJ, label)]


@contextlib.contextmanager
def _open(path: Path) -> Iterator[h5py.File]:
    check_plain_file(path)
    try:
        h5 = h5py.File(path, "r")
    except _UNREADABLE as error:
        if "truncated" in str(error):
            raise DataError("the file is cut short", file=path, got=str(error), hint=_COPY_AGAIN) from error
        if not os.access(path, os.R_OK):
            raise DataError("the file cannot be opened", file=path, got=str(error), hint="may you read it?") from error
        raise DataError("the file is not HDF5, or is damaged", file=path, got=str(error), hint=_COPY_AGAIN) from error
    with h5:
        yield h5


def _clip_names(h5: h5py.File, path: Path) -> list[str]:
    try:
        names = list(h5)
    except _UNREADABLE as error:
        raise DataError(
            "the list of clips cannot be read: the file is damaged", file=path, got=str(error), hint=_COPY_AGAIN
        ) from error
    if not names:
        raise DataError("the file holds no clip", file=path, expected="one group a clip, with `feature` and `token`")
    for name in names:
        if not isinstance(name, str):  # h5py leaves as bytes what it cannot decode
            raise DataError("a clip's name is not UTF-8", file=path, got=repr(name), hint="rename the group")
    return sorted(names)


def _dataset(h5: h5py.File, path: Path, clip: str, name: str) -> h5py.Dataset:
    try:
        group = h5[clip]
        if not isinstance(group, h5py.Group):
            raise DataError("a clip is not a group", file=path, path=f"/{clip}", expected="a group with `feature` and `token`")
        dataset = group.get(name)
        if isinstance(dataset, h5py.Dataset):
            _refuse_odd(h5, dataset, path, f"/{clip}/{name}")
            return dataset
        found = ", ".join(sorted(map(str, group)))
    except _UNREADABLE as error:
        raise DataError(
            "the clip cannot be read: the file is damaged", file=path, path=f"/{clip}", got=str(error), hint=_COPY_AGAIN
        ) from error
    raise DataError(
        f"the clip has no dataset `{name}`",
        file=path,
        path=f"/{clip}",
        got=found or "nothing",
        expected="`feature` and `token`",
    )


def _refuse_odd(h5: h5py.File, dataset: h5py.Dataset, path: Path, where: str) -> None:
    """Refuses a dataset that is not in the file itself, whose digest would then not cover it, or that would take all memory.

    Raises:
        DataError: see above.
        OSError, RuntimeError, ValueError, KeyError, TypeError: the file is damaged.
    """
    assert dataset.dtype is not None  # a type that numpy does not know raises
    stored = dataset.id.get_create_plist()
    layout = stored.get_layout()
    elsewhere = layout == h5py.h5d.VIRTUAL or stored.get_external_count()
    if elsewhere or h5py.h5f.get_name(dataset.id) != h5py.h5f.get_name(h5.id):
        raise DataError(
            "the dataset lies in another file",
            file=path,
            path=where,
            hint="copy it into this one: links out of it are not followed",
        )
    chunk = stored.get_chunk() if layout == h5py.h5d.CHUNKED else ()
    for what, shape in (("shape", dataset.shape), ("a chunk of", chunk)):
        if math.prod(shape or ()) > _MOST_NUMBERS:
            raise DataError(
                "the dataset is far too large for one sign",
                file=path,
                path=where,
                got=f"{what} {list(shape)}",
                expected=f"{MAX_FRAMES:,} frames or fewer",
            )


def _read(dataset: h5py.Dataset, path: Path) -> np.ndarray:
    try:
        return np.asarray(dataset[()])
    except _UNREADABLE as error:
        raise DataError(
            "the dataset cannot be read: the file is damaged", file=path, path=dataset.name, got=str(error), hint=_COPY_AGAIN
        ) from error


def _checked_label(h5: h5py.File, path: Path, clip: str) -> int:
    dataset = _dataset(h5, path, clip, "token")
    where = f"/{clip}/token"
    if dataset.dtype.kind not in "iu" or dataset.size != 1:
        raise DataError(
            "the label is not one whole number",
            file=path,
            path=where,
            got=f"{dataset.dtype} {list(dataset.shape or ())}",
            expected="int64 [1]",
        )
    return int(_read(dataset, path).reshape(-1)[0])


def _checked_shape(dataset: h5py.Dataset, path: Path) -> tuple[int, int, int]:
    check_shape(dataset.shape, dataset.dtype, file=path, path=dataset.name)
    return dataset.shape


def _checked_feature(h5: h5py.File, path: Path, clip: str) -> np.ndarray:
    dataset = _dataset(h5, path, clip, "feature")
    _checked_shape(dataset, path)
    return checked_landmarks(_read(dataset, path), file=path, path=f"/{clip}/feature")
