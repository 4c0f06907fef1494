"""Reads a clip from a `.pose` file that holds MediaPipe Holistic landmarks, https://github.com/sign-language-processing/pose.

Such a file holds pixels: `component_points` in pose_format/utils/holistic.py multiplies x and y by the width and the height
of the picture, which the header keeps, and stores z as MediaPipe gives it. Here x and y are divided by them again. Where a
confidence is 0 nothing was detected. With refined face landmarks the face has 478 points: the last 10 are irises, and ignored.

The lexicon of spoken-to-signed was centered in its picture, z too, as if it had a depth (`scale_normalized_pose`, called in
spoken_to_signed/assets/fingerspelling_lexicon/preprocess_files.py). Such a z is moved back to around 0.

pose-format is imported when a file is read: it is optional.
"""

# C coordinates (3), T frames, J landmarks of ours (543), P points of the file

from __future__ import annotations

import functools
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data_utils.clips import check_shape, checked_landmarks
from data_utils.errors import DataError, not_installed
from data_utils.landmarks import FILE_PARTS, NUM_COORDINATES, NUM_IRISES, NUM_LANDMARKS

COMPONENTS: Mapping[str, str] = {
    "FACE_LANDMARKS": "face",
    "LEFT_HAND_LANDMARKS": "left_hand",
    "POSE_LANDMARKS": "pose",
    "RIGHT_HAND_LANDMARKS": "right_hand",
}
"""The components that are read, by the name of their part. Others, such as POSE_WORLD_LANDMARKS, are ignored."""

_UNREADABLE = (OSError, ValueError, EOFError, MemoryError, LookupError, TypeError, OverflowError, struct.error)
"""What pose-format raises for a damaged file."""


def read_clip(path: Path) -> np.ndarray:
    """Reads one clip, float32 `[3, T, 543]`, NaN = not detected. The path may lead into a ZIP archive.

    Raises:
        DataError: pose-format is not installed, or the file cannot be read or contains something else.
    """
    pose_class = import_pose_format()
    if not exists(path):
        raise DataError("there is no such file", file=path)
    try:
        pose = pose_class.read(read_bytes(path))
        components = [(one.name, tuple(one.points)) for one in pose.header.components]
        size = float(pose.header.dimensions.width), float(pose.header.dimensions.height)
        data_TPC, confidence_TP = _one_person(pose.body, path)
    except _UNREADABLE as error:
        raise DataError("the file is not a .pose file, or is damaged", file=path, got=str(error)) from error
    if min(size) <= 0:
        got, expected = f"{size[0]:g} x {size[1]:g}", "the width and the height of the picture, in pixels"
        raise DataError("the file does not say how large the picture is", file=path, got=got, expected=expected)
    check_shape((NUM_COORDINATES, len(data_TPC), NUM_LANDMARKS), np.dtype(np.float32), file=path, path=None)
    return checked_landmarks(_landmarks(components, data_TPC, confidence_TP, size, path), file=path)


def exists(path: Path) -> bool:
    """Whether there is a file, also inside a ZIP archive."""
    archive = _archive_of(path)
    return path.is_file() if archive is None else path.relative_to(archive).as_posix() in _opened(archive).NameToInfo


def read_bytes(path: Path) -> bytes:
    """The contents of a file, also inside a ZIP archive.

    Raises:
        DataError: the archive is damaged.
    """
    archive = _archive_of(path)
    if archive is None:
        return path.read_bytes()
    try:
        return _opened(archive).read(path.relative_to(archive).as_posix())
    except (zipfile.BadZipFile, RuntimeError, EOFError, NotImplementedError) as error:  # damaged, or encrypted
        raise DataError("a file in the archive cannot be read", file=path, got=str(error)) from error


def names_in(archive: Path) -> list[str]:
    """The paths of the files in a ZIP archive.

    Raises:
        DataError: it is none.
    """
    return [one.filename for one in _opened(archive).infolist() if not one.is_dir()]


def import_pose_format() -> Any:
    """The class `Pose` of pose-format.

    Raises:
        DataError: it is not installed.
    """
    try:
        from pose_format import Pose
    except ImportError as error:
        raise not_installed("these are .pose files", "pose-format", "pose", error) from error
    return Pose


def _one_person(body: Any, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks `[T, P, 2 or 3]` and their confidences `[T, P]`."""
    data, confidence = np.asarray(body.data.data), np.asarray(body.confidence)
    if data.shape[1] != 1:
        got = f"{data.shape[1]} people"
        raise DataError("the clip does not show one person", file=path, got=got, hint="leave the clip out with --skip-broken")
    return data[:, 0], confidence[:, 0]


def _landmarks(
    components: list[tuple[str, tuple[str, ...]]],
    data_TPC: np.ndarray,
    confidence_TP: np.ndarray,
    size: tuple[float, float],
    path: Path,
) -> np.ndarray:
    _check_components(components, path)
    feature_CTJ = np.full((NUM_COORDINATES, len(data_TPC), NUM_LANDMARKS), np.nan, np.float32)
    start = 0
    for name, points in components:
        part_TPC, seen_TP = data_TPC[:, start : start + len(points)], confidence_TP[:, start : start + len(points)] > 0
        start += len(points)
        if name in COMPONENTS:
            place = FILE_PARTS[COMPONENTS[name]]
            count = place.stop - place.start
            for channel in range(min(NUM_COORDINATES, part_TPC.shape[-1])):
                values_TP = part_TPC[:, :count, channel] / (*size, 1.0)[channel]
                feature_CTJ[channel, :, place] = np.where(seen_TP[:, :count], values_TP, np.nan)
    if data_TPC.shape[-1] == 2:  # the model reads x and y alone
        feature_CTJ[2] = np.where(np.isnan(feature_CTJ[0]), np.nan, 0)
    elif not np.isnan(feature_CTJ[2]).all() and np.nanmedian(feature_CTJ[2]) > size[0] / 4:
        feature_CTJ[2] -= size[0] / 2
    return feature_CTJ


def _check_components(components: list[tuple[str, tuple[str, ...]]], path: Path) -> None:
    """Checks that there are parts of MediaPipe Holistic, with all their points.

    Raises:
        DataError: there are none, or some lack points.
    """
    expected = []
    for name, part in COMPONENTS.items():
        count = FILE_PARTS[part].stop - FILE_PARTS[part].start
        expected.append(f"{name} {count}" + (f" or {count + NUM_IRISES}" if part == "face" else ""))
    wrong = []
    for name, points in components:
        if name in COMPONENTS:
            place = FILE_PARTS[COMPONENTS[name]]
            lacking = place.stop - place.start - len(points)
            if lacking > 0:
                wrong.append(f"{name} {len(points)} points: lacks {lacking}")
            elif lacking not in (0, -NUM_IRISES):
                wrong.append(f"{name} {len(points)} points")
    if not any(name in COMPONENTS for name, _ in components):
        raise DataError(
            "the file holds landmarks of another program",
            file=path,
            got=", ".join(name for name, _ in components) or "nothing",
            expected=f"MediaPipe Holistic: {', '.join(COMPONENTS)}",
            hint="extract the landmarks with `video_to_pose --format mediapipe`",
        )
    if wrong:
        raise DataError(
            f"{wrong[0].split()[0]} has other points than MediaPipe Holistic",
            file=path,
            got=", ".join(wrong),
            expected=", ".join(expected),
            hint="take the file as `video_to_pose --format mediapipe` writes it",
        )


def _archive_of(path: Path) -> Path | None:
    """The archive that a path leads into; None if it is a path of the file system."""
    return next((parent for parent in path.parents if parent.is_file()), None)


@functools.lru_cache(maxsize=4)
def _opened(archive: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(archive)
    except (zipfile.BadZipFile, OSError) as error:
        expected = "a folder, or a ZIP archive such as a wheel"
        raise DataError("the source cannot be read", file=archive, got=str(error), expected=expected) from error
