"""Synthetic signs: a data set that looks like real recordings, made from a seed.

Lengths, missing parts, camera and movement follow what is known of real data; sources stand beside the constants
("Kaggle": the asl-signs release of 94,477 clips; "webcam": 921 clips recorded at desks).
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
from data_utils.synthetic.signing import Sign, Signer, accent, draw_sign, draw_signer, perform, wander
from data_utils.synthetic.skeleton import landmarks
from data_utils.words import write_words

MAX_SIGNS = 250
"""As many words as the Kaggle release has."""

_WORDS = (
    "listen look shhh donkey mouse duck uncle hear pretend cow "
    "hello thanks please water milk mother father friend school book home tree rain snow sun bird cat dog horse fish "
    "apple bread red blue green happy sad tired hungry thirsty sleep wake open close give take"
)

_FRAMES_MEDIAN, _FRAMES_SIGMA, _FRAMES_RANGE = 23.0, 0.98, (2, 404)  # Kaggle: log-normal, median 23, sigma 1.0, 2 to 404
_WRONG_WORD = 0.04
"""Share of clips that show another sign than their label says."""

_FACE_LOST = 0.086  # Kaggle: share of clips in which the face is missing somewhere; 0.68 % of frames
_HAND_RUNS = {
    True: (20.0, 5.0),
    False: (3.0, 25.0),
}  # mean frames shown and lost; webcam: 1 / 12 / 30 and 1 / 9 / 30 (10, 50, 90 %)
_HAND_LOST_CLIPS = 0.08
_GRID = 8192.0
"""Coordinates are multiples of 2^-13 of the picture: files compress better, and sums of float32 are exact."""

# Purposes of random numbers: every draw comes from [seed, purpose, which ...], so that a signer does not depend on the others.
_OF_SIGN, _OF_SIGNER, _OF_CAMERA, _OF_HABIT, _OF_LABELS, _OF_CLIP = range(6)


def synthesize(
    folder: Path,
    *,
    clips: int = 480,
    signs: int = 10,
    signers: int = 10,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes a synthetic data set in the per-signer layout, whole or not at all. Same arguments, same bytes on one machine.

    `progress` is called with the number of clips made and their total; what it raises stops the work.

    Raises:
        DataError: the numbers do not fit together, or the folder is there and not empty.
    """
    _check_numbers(clips, signs, signers, seed)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(
            "the folder for the synthetic data is not empty", file=folder, hint="name a new folder, or empty this one yourself"
        )
    folder = folder.resolve()
    if folder == Path.cwd():
        raise DataError(
            "the working folder itself cannot be replaced", file=folder, hint="name a folder inside it, such as `data`"
        )
    aside = folder.with_name(f".{folder.name}.part-{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)  # left by a killed run that had our number
    aside.mkdir(parents=True)
    try:
        write_words(aside, _words(signs))
        forms = [_form(seed, sign) for sign in range(signs)]
        for number in range(signers):
            labels = _labels(seed, number, clips, signs, signers)
            made = _signer_clips(seed, number, labels, forms)
            write_signer(aside / f"{9001 + number}.hdf5", _reporting(made, progress, clips * number // signers, clips))
        if folder.exists():
            folder.rmdir()
        aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


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
            "too few clips for so many signs and signers",
            got=f"{clips:,} clips, {signs} signs, {signers} signers",
            expected=f"{enough:,} clips or more: three a sign, two a signer",
            hint=f"use --clips {enough}, or fewer signs or signers",
        )


def _words(signs: int) -> list[str]:
    names = _WORDS.split()
    return [*names, *(f"sign{number:03d}" for number in range(len(names), MAX_SIGNS))][:signs]


def _labels(seed: int, signer: int, clips: int, signs: int, signers: int) -> np.ndarray:
    """Class number of each of a signer's clips: all words equally often over the whole set, within one."""
    first, last = clips * signer // signers, clips * (signer + 1) // signers
    return _rng(seed, _OF_LABELS, signer).permutation(np.arange(first, last) % signs)


def _form(seed: int, sign: int) -> Sign:
    """The common form of a sign. The second of each pair resembles the first."""
    like = draw_sign(_rng(seed, _OF_SIGN, sign - 1)) if sign % 2 else None
    return draw_sign(_rng(seed, _OF_SIGN, sign), like)


def _reporting(clips: Iterable[Clip], progress: Callable[[int, int], None] | None, done: int, total: int) -> Iterator[Clip]:
    for clip in clips:
        yield clip
        done += 1
        if progress is not None:
            progress(done, total)


def _signer_clips(seed: int, number: int, labels: np.ndarray, forms: list[Sign]) -> Iterator[Clip]:
    signer = draw_signer(_rng(seed, _OF_SIGNER, number))
    own: dict[int, tuple[Sign, np.ndarray]] = {}
    for index, label in enumerate(labels.tolist()):
        rng = _rng(seed, _OF_CLIP, number, index)
        shown = label if rng.random() >= _WRONG_WORD else int(rng.integers(len(forms)))
        if shown not in own:
            habit = _rng(seed, _OF_HABIT, number, shown)
            variant = draw_sign(habit)
            own[shown] = (accent(forms[shown], variant, habit), _camera(_rng(seed, _OF_CAMERA, number), habit))
        name = f"{9001 + number}{index:06d}"
        yield Clip(name, _clip(*own[shown], signer, rng), label)


def _camera(signer_rng: np.random.Generator, word_rng: np.random.Generator) -> np.ndarray:
    """Place of the nose and shoulder width in the picture, its width over its height, and its tilt in radians.

    People sit differently from word to word. Source: webcam, 5 / 50 / 95 %: nose x .41 / .53 / .63, nose y .31 / .48 / .67,
    shoulder width .27 / .39 / .51.
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
    shown = {part: _shown(rng, frames, part == dominant) for part in ("left_hand", "right_hand")}
    points_TJ3 = _with_noise(points_TJ3, shown, rng)
    points_TJ3 = _picture(points_TJ3, camera, signer, rng)
    for part, shown_T in shown.items():
        low_T = points_TJ3[:, FILE_PARTS[part].start, 1] > 1.03  # the wrist has left the picture
        points_TJ3[~shown_T | low_T, FILE_PARTS[part]] = np.nan
    if rng.random() < _FACE_LOST:
        first = int(rng.integers(frames))
        points_TJ3[first : first + int(rng.geometric(1 / 4)), FILE_PARTS["face"]] = np.nan
    return np.ascontiguousarray((np.round(points_TJ3 * _GRID) / _GRID).transpose(2, 0, 1), dtype=np.float32)


def _mirror(points_TJ3: np.ndarray) -> np.ndarray:
    """Left-handed signing: hands and arms change sides. The face keeps its numbering; it is symmetrical but for its turn."""
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


def _shown(rng: np.random.Generator, frames: int, dominant: bool) -> np.ndarray:
    """bool `[T]`: frames in which a raised hand is detected, in runs."""
    on, off = _HAND_RUNS[dominant]
    if rng.random() < _HAND_LOST_CLIPS:
        on, off = 1.5, 30.0
    count = int(2 * frames / (on + off)) + 20
    runs = np.stack([rng.geometric(1 / on, count), rng.geometric(1 / off, count)], axis=1).reshape(-1)
    state = np.repeat(np.arange(2 * count) % 2 == 0, runs)
    state = state if rng.random() < on / (on + off) else ~state
    return state[:frames] if len(state) >= frames else np.resize(state, frames)


def _with_noise(points_TJ3: np.ndarray, shown: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """The detector's jitter. Arms are guessed where the hand is not seen."""
    noisy = points_TJ3 + rng.normal(0, 1, points_TJ3.shape) * _JITTER_J[:, None]
    for part, shown_T in shown.items():
        arm = FILE_PARTS["pose"].start + (np.array([15, 17, 19, 21]) if part == "left_hand" else np.array([16, 18, 20, 22]))
        guess = wander(rng, len(noisy), 3, 0.08) + rng.normal(0, 0.03, (len(noisy), 3))
        noisy[:, arm] += np.where(shown_T[:, None], 0.0, guess)[:, None]
    return noisy


def _jitter() -> np.ndarray:
    """Of each landmark, in shoulder widths.

    Source: median movement from frame to frame in a Kaggle clip, in parts of the picture: face .0007, hand .003, pose .0015.
    """
    jitter = np.empty(FILE_PARTS["right_hand"].stop)
    for part, size in (("face", 0.0006), ("left_hand", 0.003), ("pose", 0.0015), ("right_hand", 0.003)):
        jitter[FILE_PARTS[part]] = size
    jitter[FILE_PARTS["pose"].start + 23 : FILE_PARTS["pose"].stop] = 0.01  # hips and legs are guessed below the picture
    return jitter


_JITTER_J = _jitter()


def _picture(points_TJ3: np.ndarray, camera: np.ndarray, signer: Signer, rng: np.random.Generator) -> np.ndarray:
    """From shoulder widths to fractions of the picture's width (x, z) and height (y)."""
    nose_x, nose_y, width, aspect, tilt = camera
    width, tilt = width * np.exp(rng.normal(0, 0.05)), tilt + rng.normal(0, 0.02)
    sway_T2 = wander(rng, len(points_TJ3), 2, 0.003) + rng.normal(0, 0.02, 2)
    tilted = np.array([[np.cos(tilt), np.sin(tilt), 0.0], [-np.sin(tilt), np.cos(tilt), 0.0], [0.0, 0.0, 1.0]])
    points = points_TJ3 @ tilted * np.array([width, width * aspect, width])
    points[..., 0] += nose_x + sway_T2[:, :1]
    points[..., 1] += nose_y + signer.body.neck * width * aspect + sway_T2[:, 1:]
    for part in ("left_hand", "right_hand"):  # their depth counts from the wrist, the face's from its middle
        points[:, FILE_PARTS[part], 2] -= points[:, FILE_PARTS[part].start, None, 2]
    points[:, FILE_PARTS["face"], 2] += 0.55 * width
    return points


def _rng(*purpose: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(purpose))
