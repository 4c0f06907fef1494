"""Imports MediaPipe Holistic results saved as one array per frame, with all landmarks concatenated.

    SRC/<signer>/<word>/<clip>/<frame>.npy      1662 floats
        pose 33 x (x, y, z, visibility), face 468 x (x, y, z), left hand 21 x (x, y, z), right hand 21 x (x, y, z)

A part that was not detected is all zeros. With refined face landmarks the face has 478 points, 1692 floats in total: the
first 468 are the same, the other 10 are irises and are ignored.

Sources: `extract_keypoints` of the common tutorial, https://github.com/nicknochnack/ActionDetectionforSignLanguage;
FACEMESH_NUM_LANDMARKS (468), FACEMESH_NUM_LANDMARKS_WITH_IRISES (478), FACEMESH_RIGHT_IRIS (469 to 472) and
FACEMESH_LEFT_IRIS (474 to 477) of mediapipe/python/solutions/face_mesh.py and face_mesh_connections.py.
"""

# C coordinates (3), T frames, J landmarks (543), V values of a frame (1662)

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_utils.clips import check_shape, checked_landmarks, read_array
from data_utils.errors import DataError
from data_utils.importing.importing import check_name
from data_utils.importing.record import ImportPlan, ListedClip, make_plan
from data_utils.landmarks import FILE_PARTS, NUM_COORDINATES, NUM_LANDMARKS

_WIDTHS = {"pose": 4, "face": 3, "left_hand": 3, "right_hand": 3}  # numbers per landmark, in the order of the file
_FACE_END = 33 * 4 + 468 * 3
_IRISES = 10 * 3

NUM_VALUES = 1662
"""Numbers per frame."""

_LAYOUT = "<signer>/<word>/<clip>/<frame>.npy"


def plan_import(source: Path) -> ImportPlan:
    """Plans the import of all clips. Words are numbered in alphabetical order; clips are named `<word>__<clip>`.

    Names are normalized to one Unicode form (NFC), because file systems encode the same letter differently.

    Raises:
        DataError: the folders have another layout, or two clips would get the same name.
    """
    if not source.is_dir():
        raise DataError("there is no such folder", file=source, expected=f"a folder with {_LAYOUT}")
    _check_no_frames(source, "the levels of signers, words and clips are missing", "SRC", source)
    clips: dict[tuple[str, str], ListedClip] = {}
    for signer, signer_folder in _folders(source):
        check_name(signer, "a signer", file=signer_folder)
        _check_no_frames(signer_folder, "the levels of signers and words are missing", "SRC/<clip>", source)
        for word, word_folder in _folders(signer_folder):
            _check_no_frames(word_folder, "the level of signers is missing", "SRC/<word>/<clip>", source)
            for clip, clip_folder in _folders(word_folder):
                name = f"{word}__{clip}"
                check_name(name, "a clip", file=clip_folder, may_end_in_swap=True)
                file = clip_folder.relative_to(source).as_posix()
                if (signer, name) in clips:
                    got = f"{clips[signer, name].file} and {file}"
                    raise DataError("two clips would get the same name", file=source, got=got, hint="rename one of them")
                clips[signer, name] = ListedClip(signer, name, word, file)
    if not clips:
        raise DataError("the folder contains no clip", file=source, expected=_LAYOUT)
    words = tuple(sorted({clip.word for clip in clips.values()}))
    return make_plan("holistic", source, words, clips.values(), read_clip)


def read_clip(folder: Path) -> np.ndarray:
    """Reads one clip, float32 `[3, T, 543]`, NaN = not detected. Frames are sorted by number: 2.npy before 10.npy.

    The numbers need not start at 0, and gaps are closed. Hidden files and other kinds of files are ignored.

    Raises:
        DataError: there is no frame, a frame's name is not a number, or a frame cannot be read or contains something else.
    """
    if not folder.is_dir():
        raise DataError("there is no such folder", file=folder)
    path_of: dict[int, Path] = {}
    for path in sorted(folder.glob("*.npy")):
        if path.name.startswith("."):
            continue
        if not path.stem.isdecimal():
            raise DataError("a frame's name is not a number", file=path, expected="names such as 0.npy, 1.npy, 2.npy")
        number = int(path.stem)
        if number in path_of:
            raise DataError("two frames have the same number", file=folder, got=f"{path_of[number].name} and {path.name}")
        path_of[number] = path
    deeper = next(_folders(folder), None) if not path_of else None
    if deeper is not None:
        raise DataError(
            "the clip contains folders instead of frames: one level too many",
            file=folder,
            got=deeper[0],
            expected=_LAYOUT,
        )
    check_shape((NUM_COORDINATES, len(path_of), NUM_LANDMARKS), np.dtype(np.float32), file=folder, path=None)
    vectors_TV = np.stack([_frame(path_of[number]) for number in sorted(path_of)])
    return checked_landmarks(landmarks(vectors_TV), file=folder)


def landmarks(vectors_TV: np.ndarray) -> np.ndarray:
    """Converts frames `[T, 1662]` to landmarks, float32 `[3, T, 543]`. Parts that are all zeros become NaN.

    Raises:
        ValueError: the frames have another shape.
    """
    if vectors_TV.ndim != 2 or vectors_TV.shape[1] != NUM_VALUES:
        raise ValueError(f"{list(vectors_TV.shape)} is not [T, {NUM_VALUES}]")
    feature_CTJ = np.empty((NUM_COORDINATES, len(vectors_TV), NUM_LANDMARKS), np.float32)
    start = 0
    with np.errstate(over="ignore"):  # values too large for float32 become infinite; `checked_landmarks` rejects them
        for part, width in _WIDTHS.items():
            points = FILE_PARTS[part].stop - FILE_PARTS[part].start
            part_CTP = vectors_TV[:, start : start + points * width].reshape(-1, points, width).transpose(2, 0, 1)[:3]
            missing_T = (part_CTP == 0).all(axis=(0, 2))
            feature_CTJ[:, :, FILE_PARTS[part]] = np.where(missing_T[:, None], np.nan, part_CTP)
            start += points * width
    return feature_CTJ


def without_irises(values: np.ndarray) -> np.ndarray:
    """Removes the ten points of refined irises: `[..., 1692]` becomes `[..., 1662]`. Other shapes are returned unchanged."""
    if values.shape[-1] == NUM_VALUES + _IRISES:
        return np.delete(values, slice(_FACE_END, _FACE_END + _IRISES), axis=-1)
    return values


def _frame(path: Path) -> np.ndarray:
    """Reads one frame, `[1662]`.

    Frames of one recording may differ: without a face, the tutorial's code writes zeros for 468 points, refined or not.
    """
    vector = read_array(path)
    if vector.dtype.kind != "f" or vector.ndim != 1:
        got, expected = f"{vector.dtype} {list(vector.shape)}", f"float64 [{NUM_VALUES}]"
        raise DataError("the frame is not one row of floats", file=path, got=got, expected=expected)
    vector = without_irises(vector)
    if len(vector) != NUM_VALUES:
        raise DataError(
            "the frame has the wrong number of values",
            file=path,
            got=f"{len(vector):,}",
            expected=f"{NUM_VALUES}: pose 33 x 4, face 468 x 3, two hands 21 x 3; or {NUM_VALUES + _IRISES} with irises",
        )
    return vector


def _folders(folder: Path) -> Iterator[tuple[str, Path]]:
    """Name (in Unicode form NFC) and path of each folder in a folder, sorted, without hidden ones."""
    paths = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return ((unicodedata.normalize("NFC", path.name), path) for path in paths)


def _check_no_frames(folder: Path, what: str, found: str, source: Path) -> None:
    frame = next((path for path in sorted(folder.glob("*.npy")) if not path.name.startswith(".")), None)
    if frame is not None:
        raise DataError(
            f"the folders have the wrong layout: {what}",
            file=source,
            got=f"{frame.relative_to(source)}, which is {found}/<frame>.npy",
            expected=f"SRC/{_LAYOUT}",
            hint="create one folder per signer and move the folders of words into it, such as SRC/anna/hello/0",
        )
