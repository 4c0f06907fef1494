"""Draws a clip as a strip of skeletons: SVG of body, hands and face, with x and y as in the picture (y downwards)."""

# T frames of a clip, F of them shown, J landmarks (543), N points, C coordinates (x, y, z)

from __future__ import annotations

import html
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from data_utils.landmarks import LEFT_HAND_START, NUM_LANDMARKS, POSE_START, RIGHT_HAND_START

_NUM_SKELETONS = 5  # per strip
_SIDE = 1000  # of a skeleton's square, in SVG units: one unit is about a sixth of a pixel
_MARGIN = 1.12  # size of the square relative to the points that must fit


def _rings(text: str) -> tuple[tuple[int, ...], ...]:
    """Closed lines through FaceMesh points, one per line of text."""
    rings = [tuple(int(n) for n in line.split()) for line in text.strip().splitlines()]
    return tuple((*ring, ring[0]) for ring in rings)


_OVAL = _rings(
    "10 338 297 332 284 251 389 356 454 323 361 288 397 365 379 378 400 377 152 148 176 149 150 136 172 58 132 93 234 127 162 "
    "21 54 103 67 109"
)
"""FACEMESH_FACE_OVAL of mediapipe/python/solutions/face_mesh_connections.py as one closed line."""

_FACE = (
    *_rings("""
61 146 91 181 84 17 314 405 321 375 291 409 270 269 267 0 37 39 40 185
78 95 88 178 87 14 317 402 318 324 308 415 310 311 312 13 82 81 80 191
33 7 163 144 145 153 154 155 133 173 157 158 159 160 161 246
263 249 390 373 374 380 381 382 362 398 384 385 386 387 388 466
"""),
    (98, 2, 327),
    (1, 2),
)
"""Lips (outer and inner), right eye and left eye as lines: FACEMESH_LIPS, FACEMESH_RIGHT_EYE and FACEMESH_LEFT_EYE of the same
file. The nose: from nostril to nostril below its tip (1). The model reads all of these points."""

_HAND = ((0, 1, 2, 3, 4), (0, 5, 6, 7, 8), (9, 10, 11, 12), (13, 14, 15, 16), (0, 17, 18, 19, 20), (5, 9, 13, 17))
"""HAND_CONNECTIONS of mediapipe/python/solutions/hands_connections.py as lines: thumb, fingers, knuckles."""

_BODY = ((15, 13, 11, 12, 14, 16), (11, 23, 24, 12))
"""Part of POSE_CONNECTIONS of mediapipe/python/solutions/pose_connections.py as lines: wrist to wrist through elbows and
shoulders, and the trunk."""


def _shifted(lines: Iterable[Sequence[int]], start: int) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(start + point for point in line) for line in lines)


_LINES = {
    "oval": _OVAL,
    "face": _FACE,
    "body": _shifted(_BODY, POSE_START),
    "left": _shifted(_HAND, LEFT_HAND_START),
    "right": _shifted(_HAND, RIGHT_HAND_START),
}
"""CSS class -> lines through landmarks, in drawing order."""

_LABELS = {"face": "face", "body": "body", "left": "left hand", "right": "right hand"}

_FITTED = (
    *_OVAL[0],
    POSE_START + 11,
    POSE_START + 12,
    *range(LEFT_HAND_START, POSE_START),
    *range(RIGHT_HAND_START, NUM_LANDMARKS),
)
"""Points that must fit into the square: face, shoulders, hands. Elbows, hips and legs may leave it."""

PICTURE_SHAPES = {"9:16": 9 / 16, "3:4": 3 / 4, "1:1": 1.0, "4:3": 4 / 3, "16:9": 16 / 9}
"""Common aspect ratios: width divided by height."""

_FACE_RATIO = 0.75
"""Width of a face (FaceMesh 234 to 454) divided by its height (10 to 152). With a known aspect ratio: .80 to .83 in two sets
of webcam and studio recordings (square, 4:3 and 16:9), .76 in portrait; .67 in synthetic clips."""


def guess_picture_shapes(clips: Iterable[tuple[str, np.ndarray]]) -> dict[str, str]:
    """Guesses each signer's aspect ratio, a key of `PICTURE_SHAPES`: that in which their median face is closest to normal.

    Files do not contain the size of the picture. `clips`: signers and landmarks `[3, T, 543]`.
    """
    faces: dict[str, list[np.ndarray]] = defaultdict(list)
    for signer, feature_CTJ in clips:
        x_TJ, y_TJ = feature_CTJ[:2]
        wide_T, high_T = np.abs(x_TJ[:, 234] - x_TJ[:, 454]), np.abs(y_TJ[:, 10] - y_TJ[:, 152])
        known_T = (wide_T > 0) & (high_T > 0)  # False for NaN
        faces[signer].append(wide_T[known_T] / high_T[known_T])
    found = {}
    for signer, ratios in faces.items():
        known = np.concatenate(ratios)
        ratio = float(np.median(known)) if len(known) else _FACE_RATIO
        off = {name: abs(math.log(shape * ratio / _FACE_RATIO)) for name, shape in PICTURE_SHAPES.items()}
        found[signer] = min(PICTURE_SHAPES, key=off.__getitem__)
    return found


def draw_strip(word: str, feature_CTJ: np.ndarray, shape: str) -> Iterator[str]:
    """Five skeletons at evenly spaced frames, from the first to the last, each above its frame number: lines of HTML.

    Shapes: `[3, T, 543]`, NaN = not detected. `shape` is a key of `PICTURE_SHAPES`.
    """
    num_frames = feature_CTJ.shape[1]
    frames = np.unique(np.linspace(0, num_frames - 1, _NUM_SKELETONS).round().astype(int))
    for frame, points_J2 in zip(frames, _to_square(feature_CTJ[:2, frames], PICTURE_SHAPES[shape]), strict=True):
        drawn = {name: path for name, lines in _LINES.items() if (path := _path(points_J2, lines))}
        parts = ", ".join(_LABELS[name] for name in drawn if name in _LABELS) or "nothing detected"
        label = html.escape(f"{word}, frame {frame + 1} of {num_frames}: {parts}")
        paths = "".join(f'<path class="{name}" d="{path}"/>' for name, path in drawn.items())
        below = f"{frame + 1:,}" if drawn else f"{frame + 1:,} nothing detected"
        yield (
            f'<div><svg viewBox="0 0 {_SIDE} {_SIDE}" role="img" aria-label="{label}">{paths}</svg><small>{below}</small></div>'
        )


def _to_square(shown_CFJ: np.ndarray, picture: float) -> np.ndarray:
    """Coordinates of landmarks in their square, y downwards; NaN where they were not detected.

    Shapes: x and y `[2, F, 543]` -> `[F, 543, 2]`. All frames have the same scale, which fits the points that must be visible
    except those far outside the picture. Points at exactly 0 count as not detected.
    """
    points_FJ2 = np.moveaxis(shown_CFJ, 0, -1).astype(np.float64)
    points_FJ2[(points_FJ2 == 0).all(axis=-1)] = np.nan
    fitted_N2 = points_FJ2[:, list(_FITTED)].reshape(-1, 2)
    fitted_N2 = fitted_N2[~np.isnan(fitted_N2).any(axis=1)]
    near_N = (np.abs(fitted_N2 - 0.5) < 1).all(axis=1)
    fitted_N2 = (fitted_N2[near_N] if near_N.any() else fitted_N2) * [picture, 1.0]
    if not len(fitted_N2):
        return np.full_like(points_FJ2, np.nan)
    low, high = fitted_N2.min(axis=0), fitted_N2.max(axis=0)
    size = _MARGIN * float((high - low).max()) or 1.0
    left = (low[0] + high[0] - size) / 2
    top = low[1] - (1 - 1 / _MARGIN) / 2 * size  # extra space goes below, where the body is
    return (points_FJ2 * [picture, 1.0] - [left, top]) * (_SIDE / size)


def _path(points_J2: np.ndarray, lines: Iterable[Sequence[int]]) -> str:
    """Lines through the detected landmarks, as the `d` attribute of an SVG path."""
    pieces = []
    for line in lines:
        detected = [tuple(points_J2[point].round().astype(int)) for point in line if not np.isnan(points_J2[point]).any()]
        if len(detected) > 1:
            pieces.append("M" + " ".join(f"{x} {y}" for x, y in detected))
    return "".join(pieces)
