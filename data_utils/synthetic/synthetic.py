"""Creates synthetic data sets that resemble real recordings, from a seed.

Lengths, missing parts, camera and movement follow statistics of real data, cited with the constants ("Kaggle": the asl-signs
release of 94,477 clips; "webcam": 921 clips recorded at desks).
"""

# T frames, J landmarks (543), C coordinates (3)

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from data_utils.errors import DataError
from data_utils.hdf5 import Clip, write_signer
from data_utils.landmarks import FILE_PARTS
from data_utils.synthetic.signing import Sign, Signer, draw_sign, draw_signer, own_form, perform, wander
from data_utils.synthetic.skeleton import landmarks
from data_utils.words import write_words

MAX_SIGNS = 250
"""Number of words in the Kaggle release."""

_WORDS = (
    "listen look shhh donkey mouse duck uncle hear pretend cow "
    "hello thanks please water milk mother father friend school book home tree rain snow sun bird cat dog horse fish "
    "apple bread red blue green happy sad tired hungry thirsty sleep wake open close give take"
)

_FRAMES_MEDIAN, _FRAMES_SIGMA, _FRAMES_RANGE = 23.0, 0.98, (2, 404)  # Kaggle: log-normal, median 23, sigma 1.0, 2 to 404
_WRONG_WORD = 0.04
"""Share of clips that show another sign than their label."""

_FACE_LOSS = 0.086  # Kaggle: share of clips in which the face is missing somewhere; 0.68% of frames
_HAND_RUNS = {True: (20.0, 5.0), False: (3.0, 25.0)}
"""Dominant hand or not -> mean lengths in frames of runs in which the hand is detected, and not. Webcam: 1 / 12 / 30 and
1 / 9 / 30 frames (10%, 50%, 90%)."""

_HAND_LOSS = 0.08
"""Share of clips in which a raised hand is detected in few frames only."""

_GRID = 8192.0
"""Coordinates are multiples of 1/8192 of the picture's size: files compress better, and float32 sums are exact."""

# Each random generator is seeded with [seed, purpose, indices ...], so that a signer does not depend on the others.
_SIGN, _SIGNER, _CAMERA, _VARIANT, _LABELS, _CLIP = range(6)


def synthesize(
    folder: Path,
    *,
    clips: int = 480,
    signs: int = 10,
    signers: int = 10,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes a synthetic data set atomically. The same arguments give the same bytes on one machine.

    `progress` receives the number of finished clips and their total; an exception that it raises stops the work.

    Raises:
        DataError: the numbers are out of range or inconsistent, or the folder exists and is not empty.
    """
    _check_numbers(clips, signs, signers, seed)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(
            "the folder for the synthetic data is not empty", file=folder, hint="name a new folder, or empty this one yourself"
        )
    folder = folder.resolve()
    if folder == Path.cwd():
        raise DataError("the current folder cannot be replaced", file=folder, hint="name a folder inside it, such as `data`")
    temporary = folder.with_name(f".{folder.name}.part-{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)  # left by a killed process with the same id
    temporary.mkdir(parents=True)
    try:
        write_words(temporary, _words(signs))
        forms = [_standard_form(seed, sign) for sign in range(signs)]
        for number in range(signers):
            labels = _labels(seed, number, clips, signs, signers)
            created = _signer_clips(seed, number, labels, forms)
            write_signer(temporary / f"{9001 + number}.hdf5", _reporting(created, progress, clips * number // signers, clips))
        if folder.exists():
            folder.rmdir()
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check_numbers(clips: int, signs: int, signers: int, seed: int) -> None:
    limits = (
        ("signs", signs, 2, MAX_SIGNS),
        ("signers", signers, 1, 999),
        ("clips", clips, 1, 999_999),
        ("seed", seed, 0, 2**63),
    )
    for name, number, low, high in limits:
        if not low <= number <= high:
            raise DataError(f"`{name}` is out of range", got=str(number), expected=f"{low:,} to {high:,}")
    enough = max(3 * signs, 2 * signers)
    if clips < enough:
        raise DataError(
            "too few clips for this many signs and signers",
            got=f"{clips:,} clips, {signs} signs, {signers} signers",
            expected=f"{enough:,} clips or more: three per sign, two per signer",
            hint=f"use --clips {enough}, or fewer signs or signers",
        )


def _words(signs: int) -> list[str]:
    names = _WORDS.split()
    return [*names, *(f"sign{number:03d}" for number in range(len(names), MAX_SIGNS))][:signs]


def _labels(seed: int, signer: int, clips: int, signs: int, signers: int) -> np.ndarray:
    """Class numbers of a signer's clips. Over the whole set, all words are equally frequent (plus or minus one)."""
    first, last = clips * signer // signers, clips * (signer + 1) // signers
    return _rng(seed, _LABELS, signer).permutation(np.arange(first, last) % signs)


def _standard_form(seed: int, sign: int) -> Sign:
    """The standard form of a sign. The second of each pair resembles the first."""
    like = draw_sign(_rng(seed, _SIGN, sign - 1)) if sign % 2 else None
    return draw_sign(_rng(seed, _SIGN, sign), like)


def _reporting(clips: Iterable[Clip], progress: Callable[[int, int], None] | None, done: int, total: int) -> Iterator[Clip]:
    for clip in clips:
        yield clip
        done += 1
        if progress is not None:
            progress(done, total)


def _signer_clips(seed: int, number: int, labels: np.ndarray, forms: list[Sign]) -> Iterator[Clip]:
    signer = draw_signer(_rng(seed, _SIGNER, number))
    variants: dict[int, tuple[Sign, np.ndarray]] = {}
    for index, label in enumerate(labels.tolist()):
        rng = _rng(seed, _CLIP, number, index)
        shown = label if rng.random() >= _WRONG_WORD else int(rng.integers(len(forms)))
        if shown not in variants:
            variant_rng = _rng(seed, _VARIANT, number, shown)
            other = draw_sign(variant_rng)
            variants[shown] = (
                own_form(forms[shown], other, variant_rng),
                _camera(_rng(seed, _CAMERA, number), variant_rng),
            )
        name = f"{9001 + number}{index:06d}"
        yield Clip(name, _clip(*variants[shown], signer, rng), label)


def _camera(signer_rng: np.random.Generator, word_rng: np.random.Generator) -> np.ndarray:
    """Position of the nose, shoulder width, aspect ratio and tilt (radians) of the picture.

    People move between words. Source: webcam, 5% / 50% / 95%: nose x .41 / .53 / .63, nose y .31 / .48 / .67, shoulder width
    .27 / .39 / .51.
    """
    mean, spread = np.array([0.53, 0.48, np.log(0.39), 0.0]), np.array([0.045, 0.075, 0.13, 0.03])
    nose_x, nose_y, log_width, tilt = mean + spread * (signer_rng.standard_normal(4) + word_rng.standard_normal(4))
    return np.array([nose_x, nose_y, np.exp(log_width), signer_rng.choice([3 / 4, 4 / 3, 4 / 3]), tilt])


def _clip(sign: Sign, camera: np.ndarray, signer: Signer, rng: np.random.Generator) -> np.ndarray:
    """One recording, float32 `[C, T, J]`."""
    draw = np.exp(np.log(_FRAMES_MEDIAN) + signer.tempo + rng.normal(0, _FRAMES_SIGMA))
    frames = int(np.clip(np.round(draw), *_FRAMES_RANGE))
    points_TJ3 = landmarks(signer.body, perform(sign, signer, frames, rng))
    if signer.left_handed:
        points_TJ3 = _mirror(points_TJ3)
    dominant = "left_hand" if signer.left_handed else "right_hand"
    detected = {part: _detected(rng, frames, part == dominant) for part in ("left_hand", "right_hand")}
    points_TJ3 = _with_noise(points_TJ3, detected, rng)
    points_TJ3 = _picture(points_TJ3, camera, signer, rng)
    for part, detected_T in detected.items():
        low_T = points_TJ3[:, FILE_PARTS[part].start, 1] > 1.03  # the wrist has left the picture
        points_TJ3[~detected_T | low_T, FILE_PARTS[part]] = np.nan
    if rng.random() < _FACE_LOSS:
        first = int(rng.integers(frames))
        points_TJ3[first : first + int(rng.geometric(1 / 4)), FILE_PARTS["face"]] = np.nan
    return np.ascontiguousarray((np.round(points_TJ3 * _GRID) / _GRID).transpose(2, 0, 1), dtype=np.float32)


def _mirror(points_TJ3: np.ndarray) -> np.ndarray:
    """Left-handed signing: hands and arms are swapped. The face is symmetric and keeps its numbering."""
    mirrored = points_TJ3.copy()
    mirrored[..., 0] *= -1
    left, right, pose = (FILE_PARTS[part] for part in ("left_hand", "right_hand", "pose"))
    result = mirrored.copy()
    result[:, left], result[:, right] = mirrored[:, right], mirrored[:, left]
    result[:, FILE_PARTS["face"]] = points_TJ3[:, FILE_PARTS["face"]]
    swapped = pose.start + np.arange(11, 33).reshape(-1, 2)
    result[:, swapped] = mirrored[:, swapped[:, ::-1]]
    result[:, pose.start : pose.start + 11] = points_TJ3[:, pose.start : pose.start + 11]
    return result


def _detected(rng: np.random.Generator, frames: int, dominant: bool) -> np.ndarray:
    """bool `[T]`: frames in which a raised hand is detected; detection and loss come in runs."""
    on, off = _HAND_RUNS[dominant]
    if rng.random() < _HAND_LOSS:
        on, off = 1.5, 30.0
    count = int(2 * frames / (on + off)) + 20
    runs = np.stack([rng.geometric(1 / on, count), rng.geometric(1 / off, count)], axis=1).reshape(-1)
    state = np.repeat(np.arange(2 * count) % 2 == 0, runs)
    state = state if rng.random() < on / (on + off) else ~state
    return state[:frames] if len(state) >= frames else np.resize(state, frames)


def _with_noise(points_TJ3: np.ndarray, detected: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Adds the detector's jitter. An arm is only guessed in frames in which its hand is not detected."""
    noisy = points_TJ3 + rng.normal(0, 1, points_TJ3.shape) * _JITTER_J[:, None]
    for part, detected_T in detected.items():
        arm = FILE_PARTS["pose"].start + (np.array([15, 17, 19, 21]) if part == "left_hand" else np.array([16, 18, 20, 22]))
        guess = wander(rng, len(noisy), 3, 0.08) + rng.normal(0, 0.03, (len(noisy), 3))
        noisy[:, arm] += np.where(detected_T[:, None], 0.0, guess)[:, None]
    return noisy


def _jitter() -> np.ndarray:
    """Standard deviation of each landmark's jitter, in shoulder widths.

    Source: median movement between frames of a Kaggle clip, as fractions of the picture: face .0007, hand .003, pose .0015.
    """
    jitter = np.empty(FILE_PARTS["right_hand"].stop)
    for part, size in (("face", 0.0006), ("left_hand", 0.003), ("pose", 0.0015), ("right_hand", 0.003)):
        jitter[FILE_PARTS[part]] = size
    jitter[FILE_PARTS["pose"].start + 23 : FILE_PARTS["pose"].stop] = 0.01  # hips and legs are outside the picture
    return jitter


_JITTER_J = _jitter()


def _picture(points_TJ3: np.ndarray, camera: np.ndarray, signer: Signer, rng: np.random.Generator) -> np.ndarray:
    """Converts shoulder widths to fractions of the picture's width (x, z) and height (y)."""
    nose_x, nose_y, width, aspect, tilt = camera
    width, tilt = width * np.exp(rng.normal(0, 0.05)), tilt + rng.normal(0, 0.02)
    sway_T2 = wander(rng, len(points_TJ3), 2, 0.003) + rng.normal(0, 0.02, 2)
    tilted = np.array([[np.cos(tilt), np.sin(tilt), 0.0], [-np.sin(tilt), np.cos(tilt), 0.0], [0.0, 0.0, 1.0]])
    points = points_TJ3 @ tilted * np.array([width, width * aspect, width])
    points[..., 0] += nose_x + sway_T2[:, :1]
    points[..., 1] += nose_y + signer.body.neck * width * aspect + sway_T2[:, 1:]
    for part in ("left_hand", "right_hand"):  # their depth is relative to the wrist, that of the face to its center
        points[:, FILE_PARTS[part], 2] -= points[:, FILE_PARTS[part].start, None, 2]
    points[:, FILE_PARTS["face"], 2] += 0.55 * width
    return points


def _rng(*purpose: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(purpose))
