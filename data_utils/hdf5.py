"""The per-signer HDF5 layout. No other file opens HDF5.

    FOLDER/<signer>.hdf5              one file per signer; `<signer>_swap.hdf5` contains mirrored copies of their clips
        /<clip>/feature  float [3, T, 543]   x, y, z of 543 landmarks; NaN = the part was not detected in that frame
        /<clip>/token    int   [1]           class number of the word
        /<clip>          attribute `session`: the recording session, text; optional
    FOLDER/sign_to_prediction_index_map.json   {"word": class number, ...}, numbers 0 .. K-1

T is at most 10,000. Landmarks may also be stored as [T, 543, 3]. Of 553 landmarks, those of the irises (468 to 477) are left
out. Both datasets are stored in the file itself, not behind links to other files, so that a digest of the file covers
everything that is read. All values are validated while they are read.
"""

# C coordinates (3), T frames, J landmarks (543)

from __future__ import annotations

import contextlib
import math
import os
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from data_utils.clips import MAX_FRAMES, check_shape, checked_landmarks, digest_of_values
from data_utils.errors import DataError
from data_utils.folder import SignerFile, check_plain_file
from data_utils.landmarks import NUM_COORDINATES, NUM_LANDMARKS

_MAX_NUMBERS = NUM_COORDINATES * MAX_FRAMES * NUM_LANDMARKS
_COPY_AGAIN = "copy or download it again"
_UNREADABLE = (OSError, RuntimeError, ValueError, KeyError, TypeError)  # what h5py raises for a damaged file


@dataclass(frozen=True)
class Clip:
    """One recording of one sign."""

    name: str
    feature_CTJ: np.ndarray
    """float32 `[3, T, 543]`, NaN = not detected."""

    label: int
    session: str = ""
    """The recording session; empty if it is not known."""


class ClipIndex(NamedTuple):
    """What the catalog holds of a clip."""

    name: str
    label: int
    length: int
    """Frames."""

    session: str
    digest: str
    """Of the values of x and y, which are all that a model sees: equal for copies, however they are stored, whatever their z.
    Empty if it was not asked for."""


def read_clips(file: SignerFile, num_words: int, names: Collection[str] | None = None) -> Iterator[Clip]:
    """A signer's clips, sorted by name; with `names`, only these. No other clip's landmarks are read.

    Raises:
        DataError: at the first fault of the file or of a clip.
    """
    for result in read_clips_and_faults(file.path, num_words, names):
        if isinstance(result, DataError):
            raise result
        yield result


def read_clips_and_faults(path: Path, num_words: int, names: Collection[str] | None = None) -> Iterator[Clip | DataError]:
    """The clips of a file, sorted by name, and every fault of the file and of its clips. `names` as in `read_clips`."""
    try:
        with _open(path) as h5:
            for name in _clip_names(h5, path):
                if names is None or name in names:
                    yield from _clip_or_faults(h5, path, name, num_words)
    except DataError as fault:
        yield fault


def read_unlabeled(path: Path) -> Iterator[tuple[str, np.ndarray | DataError]]:
    """Name and landmarks (float32 `[3, T, 543]`) or fault of each clip of a file. Labels are not required.

    Raises:
        DataError: the file as a whole cannot be read.
    """
    with _open(path) as h5:
        for name in _clip_names(h5, path):
            try:
                yield name, _read_feature(h5, path, name)
            except DataError as fault:
                yield name, fault


def read_index(file: SignerFile, *, with_digests: bool = False) -> list[ClipIndex]:
    """What the catalog holds of each clip, sorted by name.

    The landmarks are not decoded, except for `with_digests`: a split by clip keeps exact copies in one part, so it must
    compare all clips, those included that it is going to seal. Nothing but their digests leaves this function.

    Class numbers are not compared with a dictionary here; see `label_outside`.

    Raises:
        DataError: at the first fault.
    """
    with _open(file.path) as h5:
        return [_index_of(h5, file.path, name, with_digests) for name in _clip_names(h5, file.path)]


def _index_of(h5: h5py.File, path: Path, name: str, with_digest: bool) -> ClipIndex:
    label, feature = _read_label(h5, path, name), _feature_dataset(h5, path, name)
    frames = check_shape(feature.shape, feature.dtype, file=path, path=feature.name)
    digest = digest_of_values(np.nan_to_num(_read_feature(h5, path, name)[:2])).hex() if with_digest else ""
    return ClipIndex(name, label, frames, _read_session(h5, path, name), digest)


def _read_session(h5: h5py.File, path: Path, name: str) -> str:
    with _reading("the session", path, f"/{name}"):
        session = h5[name].attrs.get("session", "")
    text = session.decode("utf-8", "replace") if isinstance(session, bytes) else str(session)
    return unicodedata.normalize("NFC", text).strip()


def read_labels(path: Path) -> list[tuple[str, int, str]]:
    """Name, class number and session of each clip, sorted by name, whatever the landmarks look like.

    Raises:
        DataError: at the first fault.
    """
    with _open(path) as h5:
        return [(name, _read_label(h5, path, name), _read_session(h5, path, name)) for name in _clip_names(h5, path)]


def read_unchecked(path: Path, clip: str) -> np.ndarray:
    """The landmarks of a clip as they are stored, in any shape and order.

    Raises:
        DataError: the file or the clip cannot be read.
    """
    with _open(path) as h5:
        return _read(_dataset(h5, path, clip, "feature"), path)


def list_clips(path: Path) -> list[str]:
    """The sorted names of a file's clips; none if it cannot be read."""
    try:
        with _open(path) as h5:
            return _clip_names(h5, path)
    except DataError:
        return []


def label_outside(path: Path, clip: str, label: int, num_words: int) -> DataError:
    """The error for a class number that the dictionary does not contain."""
    return DataError(
        "the label is outside the dictionary",
        file=path,
        path=f"/{clip}/token",
        got=str(label),
        expected=f"a class number from 0 to {num_words - 1}",
    )


def write_signer(path: Path, clips: Iterable[Clip]) -> None:
    """Writes one signer's file atomically (a temporary file that is renamed).

    Equal clips give equal bytes with the same HDF5 library.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with h5py.File(temporary, "w") as h5:
            for clip in clips:
                group = h5.create_group(clip.name)
                feature = np.asarray(clip.feature_CTJ, dtype=np.float32)
                chunk = (1, *feature.shape[1:])
                group.create_dataset(
                    "feature", data=feature, chunks=chunk, compression="gzip", compression_opts=1, shuffle=True
                )
                group.create_dataset("token", data=np.array([clip.label], dtype=np.int64))
                if clip.session:
                    group.attrs["session"] = clip.session
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _clip_or_faults(h5: h5py.File, path: Path, name: str, num_words: int) -> list[Clip | DataError]:
    faults: list[Clip | DataError] = []
    try:
        label = _read_label(h5, path, name)
        if not 0 <= label < num_words:
            raise label_outside(path, name, label, num_words)
    except DataError as fault:
        faults.append(fault)
    try:
        feature_CTJ = _read_feature(h5, path, name)
    except DataError as fault:
        # If a clip is not a group, or lacks both datasets, both faults name the same place: the first is enough.
        if not any(isinstance(known, DataError) and known.path == fault.path for known in faults):
            faults.append(fault)
    return faults or [Clip(name, feature_CTJ, label, _read_session(h5, path, name))]


@contextlib.contextmanager
def _open(path: Path) -> Iterator[h5py.File]:
    check_plain_file(path)
    try:
        h5 = h5py.File(path, "r")
    except _UNREADABLE as error:
        if "truncated" in str(error):
            raise DataError("the file is cut short", file=path, got=str(error), hint=_COPY_AGAIN) from error
        if not os.access(path, os.R_OK):
            raise DataError("the file cannot be opened", file=path, got=str(error), hint="check its permissions") from error
        raise DataError("the file is not HDF5, or is damaged", file=path, got=str(error), hint=_COPY_AGAIN) from error
    with h5:
        yield h5


@contextlib.contextmanager
def _reading(what: str, path: Path, place: str | None = None) -> Iterator[None]:
    """Converts what h5py raises for a damaged file to a DataError."""
    try:
        yield
    except _UNREADABLE as error:
        message = f"{what} cannot be read: the file is damaged"
        raise DataError(message, file=path, path=place, got=str(error), hint=_COPY_AGAIN) from error


def _clip_names(h5: h5py.File, path: Path) -> list[str]:
    with _reading("the list of clips", path):
        names = list(h5)
    if not names:
        raise DataError("the file contains no clip", file=path, expected="one group per clip, with `feature` and `token`")
    for name in names:
        if not isinstance(name, str):  # h5py returns bytes for a name that it cannot decode
            raise DataError("a clip's name is not UTF-8", file=path, got=repr(name), hint="rename the group")
    return sorted(names)


def _dataset(h5: h5py.File, path: Path, clip: str, name: str) -> h5py.Dataset:
    with _reading("the clip", path, f"/{clip}"):
        group = h5[clip]
        if not isinstance(group, h5py.Group):
            raise DataError("a clip is not a group", file=path, path=f"/{clip}", expected="a group with `feature` and `token`")
        dataset = group.get(name)
        if isinstance(dataset, h5py.Dataset):
            _check_storage(h5, dataset, path, f"/{clip}/{name}")
            return dataset
        found = ", ".join(sorted(map(str, group)))
    raise DataError(
        f"the clip has no dataset `{name}`",
        file=path,
        path=f"/{clip}",
        got=found or "nothing",
        expected="`feature` and `token`",
    )


def _check_storage(h5: h5py.File, dataset: h5py.Dataset, path: Path, place: str) -> None:
    """Rejects a dataset stored outside the file, which the file's digest would not cover, or one too large for memory.

    Raises:
        DataError: it is one of these.
        OSError, RuntimeError, ValueError, KeyError, TypeError: the file is damaged.
    """
    assert dataset.dtype is not None  # a type that NumPy does not know raises
    stored = dataset.id.get_create_plist()
    layout = stored.get_layout()
    elsewhere = layout == h5py.h5d.VIRTUAL or stored.get_external_count()
    if elsewhere or h5py.h5f.get_name(dataset.id) != h5py.h5f.get_name(h5.id):
        raise DataError(
            "the dataset is stored in another file",
            file=path,
            path=place,
            hint="copy it into this file: links to other files are not followed",
        )
    chunk = stored.get_chunk() if layout == h5py.h5d.CHUNKED else ()
    for what, shape in (("shape", dataset.shape), ("a chunk of", chunk)):
        if math.prod(shape or ()) > _MAX_NUMBERS:
            raise DataError(
                "the dataset is far too large for one sign",
                file=path,
                path=place,
                got=f"{what} {list(shape)}",
                expected=f"at most {MAX_FRAMES:,} frames",
            )


def _read(dataset: h5py.Dataset, path: Path) -> np.ndarray:
    with _reading("the dataset", path, dataset.name):
        return np.asarray(dataset[()])


def _read_label(h5: h5py.File, path: Path, clip: str) -> int:
    dataset = _dataset(h5, path, clip, "token")
    if dataset.dtype.kind not in "iu" or dataset.size != 1:
        raise DataError(
            "the label is not one whole number",
            file=path,
            path=f"/{clip}/token",
            got=f"{dataset.dtype} {list(dataset.shape or ())}",
            expected="int64 [1]",
        )
    return int(_read(dataset, path).reshape(-1)[0])


def _feature_dataset(h5: h5py.File, path: Path, clip: str) -> h5py.Dataset:
    dataset = _dataset(h5, path, clip, "feature")
    check_shape(dataset.shape, dataset.dtype, file=path, path=dataset.name)
    return dataset


def _read_feature(h5: h5py.File, path: Path, clip: str) -> np.ndarray:
    return checked_landmarks(_read(_feature_dataset(h5, path, clip), path), file=path, path=f"/{clip}/feature")
