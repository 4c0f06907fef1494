"""MediaPipe Holistic's results as they are often saved: one array a frame, all landmarks laid end to end.

    SRC/<signer>/<word>/<clip>/<frame>.npy      1662 floats
        pose 33 x (x, y, z, visibility), face 468 x (x, y, z), left hand 21 x (x, y, z), right hand 21 x (x, y, z)

A part that was not detected is all zeros. With refined face landmarks the face has 478 points, 1692 floats in all: the first
468 mean the same, the other 10 are irises and are left out.

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
from data_utils.importing.record import Request, Source
from data_utils.landmarks import FILE_PARTS, NUM_COORDINATES, NUM_LANDMARKS

_WIDTHS = {"pose": 4, "face": 3, "left_hand": 3, "right_hand": 3}  # numbers a landmark, in the order of the file
_FACE_END = 33 * 4 + 468 * 3
_IRISES = 10 * 3

NUM_VALUES = 1662
"""Numbers of a frame."""

_LAYOUT = "<signer>/<word>/<clip>/<frame>.npy"


def plan(source: Path) -> Request:
    """What there is to import. Words get class numbers in alphabetical order; a clip is called `<word>__<clip>`.

    Names are brought into one Unicode form (NFC): file systems differ in how they write the same letter.

    Raises:
        DataError: the folders are not laid as above, or two clips would get one name.
    """
    if not source.is_dir():
        raise DataError("there is no such folder", file=source, expected=f"a folder that holds {_LAYOUT}")
    _check_no_frames(source, "the levels of signers, words and clips are missing", "SRC", source)
    found: dict[tuple[str, str], tuple[str, Path]] = {}
    for signer, signer_folder in _folders(source):
        check_name(signer, "a signer", file=signer_folder)
        _check_no_frames(signer_folder, "the levels of signers and words are missing", "SRC/<clip>", source)
        for word, word_folder in _folders(signer_folder):
            _check_no_frames(word_folder, "the level of signers is missing", "SRC/<word>/<clip>", source)
            for clip, clip_folder in _folders(word_folder):
                name = f"{word}__{clip}"
                check_name(name, "a clip", file=clip_folder, may_end_in_swap=True)
                if (signer, name) in found:
                    got = f"{found[signer, name][1].relative_to(source)} and {clip_folder.relative_to(source)}"
                    raise DataError("two clips would get the same name", file=source, got=got, hint="rename one of them")
                found[signer, name] = word, clip_folder
    if not found:
        raise DataError("the folder holds no clip", file=source, expected=_LAYOUT)
    words = tuple(sorted({word for word, _ in found.values()}))
    numbers = {word: number for number, word in enumerate(words)}
    clips_of: dict[str, list[Source]] = {}
    for (signer, name), (word, folder) in found.items():
        clips_of.setdefault(signer, []).append(Source(name, numbers[word], folder.relative_to(source).as_posix()))
    return Request("holistic", source, words, clips_of, read_clip)


def read_clip(folder: Path) -> np.ndarray:
    """One clip, float32 `[3, T, 543]`, NaN = not detected. Frames in the order of their numbers: 2.npy before 10.npy.

    Numbers need not begin with 0, and a gap between them is closed. Hidden files and those of other kinds are left alone.

    Raises:
        DataError: there is no frame, one is named by no number or cannot be read, or they hold something else.
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
            "the clip holds folders instead of frames: one level is too many", file=folder, got=deeper[0], expected=_LAYOUT
        )
    check_shape((NUM_COORDINATES, len(path_of), NUM_LANDMARKS), np.dtype(np.float32), file=folder, path=None)
    vectors_TV = np.stack([_frame(path_of[number]) for number in sorted(path_of)])
    return checked_landmarks(landmarks(vectors_TV), file=folder)


def landmarks(vectors_TV: np.ndarray) -> np.ndarray:
    """The landmarks of frames, float32 `[3, T, 543]`, from `[T, 1662]`. Parts that are all zeros become NaN.

    Raises:
        ValueError: another shape.
    """
    if vectors_TV.ndim != 2 or vectors_TV.shape[1] != NUM_VALUES:
        raise ValueError(f"{list(vectors_TV.shape)} is not [T, {NUM_VALUES}]")
    feature_CTJ = np.empty((NUM_COORDINATES, len(vectors_TV), NUM_LANDMARKS), np.float32)
    start = 0
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, for `checked_landmarks` to refuse
        for part, width in _WIDTHS.items():
            points = FILE_PARTS[part].stop - FILE_PARTS[part].start
            part_CTP = vectors_TV[:, start : start + points * width].reshape(-1, points, width).transpose(2, 0, 1)[:3]
            lost_T = (part_CTP == 0).all(axis=(0, 2))
            feature_CTJ[:, :, FILE_PARTS[part]] = np.where(lost_T[:, None], np.nan, part_CTP)
            start += points * width
    return feature_CTJ


def without_irises(values: np.ndarray) -> np.ndarray:
    """Leaves out the ten points of refined irises: `[..., 1692]` becomes `[..., 1662]`; anything else stays as it is."""
    if values.shape[-1] == NUM_VALUES + _IRISES:
        return np.delete(values, slice(_FACE_END, _FACE_END + _IRISES), axis=-1)
    return values


def _frame(path: Path) -> np.ndarray:
    """One frame, `[1662]`.

    Frames of one recording may differ: where the face is lost, the tutorial's code writes zeros for 468 points, refined or not.
    """
    vector = read_array(path)
    if vector.dtype.kind != "f" or vector.ndim != 1:
        got, expected = f"{vector.dtype} {list(vector.shape)}", f"float64 [{NUM_VALUES}]"
        raise DataError("the frame is not a row of floats", file=path, got=got, expected=expected)
    vector = without_irises(vector)
    if len(vector) != NUM_VALUES:
        raise DataError(
            "the frame has another number of values",
            file=path,
            got=f"{len(vector):,}",
            expected=f"{NUM_VALUES}: pose 33 x 4, face 468 x 3, two hands 21 x 3; or {NUM_VALUES + _IRISES} with irises",
        )
    return vector


def _folders(folder: Path) -> Iterator[tuple[str, Path]]:
    """Name, in one Unicode form, and path of each folder in a folder, sorted; hidden ones are left alone."""
    paths = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return ((unicodedata.normalize("NFC", path.name), path) for path in paths)


def _check_no_frames(folder: Path, what: str, found: str, source: Path) -> None:
    frame = next((path for path in sorted(folder.glob("*.npy")) if not path.name.startswith(".")), None)
    if frame is not None:
        raise DataError(
            f"folders are not laid as they should be: {what}",
            file=source,
            got=f"{frame.relative_to(source)}, which is {found}/<frame>.npy",
            expected=f"SRC/{_LAYOUT}",
            hint="move the folders of words into one folder for each person who signs, such as SRC/anna/hello/0",
        )
