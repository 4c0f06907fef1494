"""The 543 landmarks of a synthetic signer, computed from a few numbers per frame.

Lengths are in shoulder widths. The origin is between the shoulders; x points to the right of the picture, y down, z away from
the camera. Proportions were chosen by eye (outer eye corners .26, face height .6, upper arm .85, wrist to knuckles .36 shoulder
widths). Indices follow MediaPipe's face mesh, hands and pose. Of the face, oval, brows, eyes, nose and lips are modeled; the
other points only fill the oval.
"""

# T frames, S sides (0 the signer's right, left in the picture; 1 the signer's left), J landmarks (543), last axis x y z

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from data_utils.landmarks import FACE_START, LEFT_HAND_START, NUM_LANDMARKS, POSE_START, RIGHT_HAND_START

_SIDES = np.array([[1.0, 1.0, 1.0], [-1.0, 1.0, 1.0]])  # the left side mirrors the right side


@dataclass(frozen=True, kw_only=True)
class Body:
    """Proportions of a signer, in shoulder widths."""

    neck: float = 0.72
    """Height of the nose above the shoulders."""

    head: float = 1.0
    """Size of the face, 1 = average."""

    arm: float = 0.85
    """Shoulder to elbow; the forearm is a little shorter."""

    hand: float = 0.36
    """Wrist to the knuckle of the middle finger."""


@dataclass(frozen=True, kw_only=True)
class Posture:
    """Posture of hands, mouth and head per frame. Both sides are described as if they were the right side."""

    wrists_TS3: np.ndarray
    """Positions of the wrists; x below 0 is the arm's own side."""

    curls_TS5: np.ndarray
    """Bend of each finger, thumb first: 0 straight, 1 closed."""

    angles_TS3: np.ndarray
    """Radians: tilt in the picture plane, rotation about the forearm (0 shows the palm), pitch towards the camera."""

    mouth_T2: np.ndarray
    """Opening (0 to 1) and width (-1 to 1) of the mouth."""

    head_T3: np.ndarray
    """Radians: yaw, pitch and roll of the head."""


def landmarks(body: Body, posture: Posture) -> Float[np.ndarray, "T 543 3"]:
    """The 543 landmarks of each frame in shoulder widths, none missing."""
    points_TJ3 = np.zeros((len(posture.mouth_T2), NUM_LANDMARKS, 3))
    face_T3 = _face(body, posture)
    points_TJ3[:, FACE_START:LEFT_HAND_START] = face_T3
    hands_TSH3 = _hands(body, posture)
    points_TJ3[:, RIGHT_HAND_START:NUM_LANDMARKS] = hands_TSH3[:, 0]
    points_TJ3[:, LEFT_HAND_START:POSE_START] = hands_TSH3[:, 1]
    points_TJ3[:, POSE_START:RIGHT_HAND_START] = _pose(body, posture, face_T3, hands_TSH3)
    return points_TJ3


# --- face: contours are ellipses around the tip of the nose, the other points are spread evenly inside the oval

_RIGHT_EYE = "33 7 163 144 145 153 154 155 133 173 157 158 159 160 161 246"
_LEFT_EYE = "263 249 390 373 374 380 381 382 362 398 384 385 386 387 388 466"
_OUTER_LIPS = "61 146 91 181 84 17 314 405 321 375 291 409 270 269 267 0 37 39 40 185"
_INNER_LIPS = "78 95 88 178 87 14 317 402 318 324 308 415 310 311 312 13 82 81 80 191"
_OVAL = (
    "127 234 93 132 58 172 136 150 149 176 148 152 377 400 378 379 365 397 288 361 323 454 356 389 251 284 332 297 338 10 "
    "109 67 103 54 21 162"
)
_NOSE = {1: (0.0, 0.0), 2: (0.0, 0.045), 98: (-0.03, 0.035), 327: (0.03, 0.035)}
_BROWS = (  # points from left to right in the picture, center (x), height (y)
    ("46 53 52 65 55", -0.09, -0.155),
    ("70 63 105 66 107", -0.09, -0.172),
    ("285 295 282 283 276", 0.09, -0.155),
    ("336 296 334 293 300", 0.09, -0.172),
)
_CONTOURS = (  # points from the outer or right corner along the lower edge and back, center, half width, half height
    (_OVAL, (0.0, -0.04), 0.2, 0.3),
    (_RIGHT_EYE, (-0.09, -0.11), 0.042, 0.014),
    (_LEFT_EYE, (0.09, -0.11), -0.042, 0.014),
    (_OUTER_LIPS, (0.0, 0.125), 0.075, 0.028),
    (_INNER_LIPS, (0.0, 0.125), 0.06, 0.006),
)


def _indices(text: str) -> list[int]:
    return [int(n) for n in text.split()]


def _resting_face() -> np.ndarray:
    """`[468, 3]`: a face with the mouth closed."""
    count = LEFT_HAND_START - FACE_START
    turn, radius = np.arange(count) * np.pi * (3 - np.sqrt(5)), np.sqrt(np.arange(count) / count)
    face = np.stack([0.19 * radius * np.cos(turn), 0.28 * radius * np.sin(turn) - 0.04, np.zeros(count)], axis=1)
    for names, (x, y), half_width, half_height in _CONTOURS:
        points = _indices(names)
        angle = np.arange(len(points)) * 2 * np.pi / len(points)
        face[points, 0] = x - half_width * np.cos(angle)
        face[points, 1] = y + half_height * np.sin(angle)
    for names, middle, height in _BROWS:
        points, across = _indices(names), np.linspace(-0.06, 0.06, 5)
        face[points, 0], face[points, 1] = middle + across, height - 0.02 * np.cos(across * np.pi / 0.12)
    for point, place in _NOSE.items():
        face[point, :2] = place
    face[:, 2] = 0.15 * ((face[:, 0] / 0.2) ** 2 + 0.5 * (face[:, 1] / 0.3) ** 2) - 0.03
    face[list(_NOSE), 2] -= 0.06
    return face


def _mouth_moves() -> np.ndarray:
    """`[2, 468, 3]`: displacement of the points when the mouth opens, and when it widens."""
    moves = np.zeros((2, LEFT_HAND_START - FACE_START, 3))
    for names, opens in ((_OUTER_LIPS, 0.045), (_INNER_LIPS, 0.055)):
        points = _indices(names)
        angle = np.arange(len(points)) * 2 * np.pi / len(points)
        moves[0, points, 1] = opens * np.where(np.sin(angle) > 0, 1.0, 0.35) * np.sin(angle)
        moves[1, points, 0] = -0.02 * np.cos(angle)
    chin = _indices(_OVAL)[5:17]
    moves[0, chin, 1] = 0.03
    return moves


_FACE = _resting_face()
_MOUTH_MOVES = _mouth_moves()


def _face(body: Body, posture: Posture) -> np.ndarray:
    face_TJ3 = _FACE + np.einsum("tk,kjc->tjc", posture.mouth_T2, _MOUTH_MOVES)
    rotation_T33 = _rotation(posture.head_T3[:, [2, 0, 1]])
    neck = np.array([0.0, -body.neck, -0.55])
    return np.asarray(body.head * np.einsum("tdc,tjc->tjd", rotation_T33, face_TJ3) + neck)


# --- hands, in multiples of the distance from wrist to middle knuckle: across (to the thumb), along, out of the palm

_KNUCKLES = np.array([[0.30, 0.22, 0.12], [0.27, 0.97, 0.0], [0.06, 1.0, 0.0], [-0.14, 0.93, 0.0], [-0.31, 0.82, 0.0]])
_SPREAD = np.radians([0.0, 8.0, 1.0, -6.0, -14.0])  # directions of the straight fingers
_BONES = np.array([[0.44, 0.36, 0.28], [0.46, 0.28, 0.22], [0.50, 0.31, 0.23], [0.46, 0.29, 0.22], [0.36, 0.22, 0.19]])
_BENDS = np.radians([80.0, 95.0, 65.0])  # of the three joints of a finger in the fist
_THUMB_OUT = np.array([0.80, 0.58, 0.15])
_THUMB_IN = np.array([[0.25, 0.75, 0.61], [-0.45, 0.72, 0.53], [-0.85, 0.35, 0.40]])


def _hands(body: Body, posture: Posture) -> np.ndarray:
    """`[T, S, 21, 3]`."""
    curl = posture.curls_TS5
    hand = np.zeros((*curl.shape[:2], 21, 3))
    bend = np.cumsum(curl[:, :, 1:, None] * _BENDS, axis=3)
    fingers = np.stack(
        [np.cos(bend) * np.sin(_SPREAD[1:, None]), np.cos(bend) * np.cos(_SPREAD[1:, None]), np.sin(bend)], axis=4
    )
    thumb_curl = curl[:, :, 0, None, None]
    thumb = (1 - thumb_curl) * _THUMB_OUT + thumb_curl * _THUMB_IN
    thumb /= np.linalg.norm(thumb, axis=3, keepdims=True)
    bones = np.concatenate([thumb[:, :, None], fingers], axis=2) * _BONES[:, :, None]
    joints = np.concatenate([np.broadcast_to(_KNUCKLES[:, None], (*curl.shape, 1, 3)), bones], axis=3).cumsum(axis=3)
    hand[:, :, 1:] = joints.reshape(*curl.shape[:2], 20, 3)
    hand *= np.array([1.0, -1.0, -1.0])  # fingers up, palm towards the camera
    rotation = _rotation(posture.angles_TS3)
    turned = np.einsum("tsdc,tsjc->tsjd", rotation, hand) * body.hand
    return np.asarray((turned + posture.wrists_TS3[:, :, None]) * _SIDES[:, None])


def _rotation(angles: np.ndarray) -> np.ndarray:
    """`[..., 3]` -> `[..., 3, 3]`: rotation about y, then about x, then in the picture plane (the first angle)."""
    (tilt, turn, nod) = np.moveaxis(angles, -1, 0)
    zero, one = np.zeros_like(tilt), np.ones_like(tilt)
    in_picture = np.stack([np.cos(tilt), -np.sin(tilt), zero, np.sin(tilt), np.cos(tilt), zero, zero, zero, one], axis=-1)
    nodded = np.stack([one, zero, zero, zero, np.cos(nod), -np.sin(nod), zero, np.sin(nod), np.cos(nod)], axis=-1)
    turned = np.stack([np.cos(turn), zero, np.sin(turn), zero, one, zero, -np.sin(turn), zero, np.cos(turn)], axis=-1)
    shape = (*tilt.shape, 3, 3)
    return np.asarray(in_picture.reshape(shape) @ nodded.reshape(shape) @ turned.reshape(shape))


# --- pose: 33 points; in MediaPipe's order each right point follows the left one

_FACE_OF_POSE = (1, 362, 374, 263, 133, 145, 33, 454, 234, 308, 78)  # nose, eyes, ears, mouth as face mesh indices
_SHOULDER = np.array([-0.5, 0.0, -0.35])
_LEG = np.array(  # hip, knee, ankle, heel, toes
    [[-0.33, 1.72, 0.0], [-0.30, 3.1, 0.05], [-0.28, 4.4, 0.7], [-0.27, 4.6, 0.75], [-0.18, 4.8, 0.2]]
)
_ELBOW_DIRECTION = np.array([-0.45, 1.0, 0.15])


def _pose(body: Body, posture: Posture, face_TJ3: np.ndarray, hands_TSH3: np.ndarray) -> np.ndarray:
    pose_TJ3 = np.zeros((len(face_TJ3), RIGHT_HAND_START - POSE_START, 3))
    pose_TJ3[:, : len(_FACE_OF_POSE)] = face_TJ3[:, list(_FACE_OF_POSE)]
    elbows_TS3 = _elbows(body, posture.wrists_TS3) * _SIDES
    for side, first in ((0, 12), (1, 11)):
        pose_TJ3[:, first] = _SHOULDER * _SIDES[side]
        pose_TJ3[:, first + 2] = elbows_TS3[:, side]
        pose_TJ3[:, first + 4 : first + 11 : 2] = hands_TSH3[:, side, [0, 17, 5, 3]]  # wrist, little, index, thumb
        pose_TJ3[:, first + 12 : 33 : 2] = _LEG * _SIDES[side]
    return pose_TJ3


def _elbows(body: Body, wrists_TS3: np.ndarray) -> np.ndarray:
    """Positions of the elbows, given the shoulders and wrists."""
    upper, lower = body.arm, 0.88 * body.arm
    reach = wrists_TS3 - _SHOULDER
    distance = np.linalg.norm(reach, axis=2, keepdims=True)
    direction = reach / np.maximum(distance, 1e-6)
    distance = np.clip(distance, abs(upper - lower) + 1e-3, upper + lower - 1e-3)
    along = (upper**2 - lower**2 + distance**2) / (2 * distance)
    aside = _ELBOW_DIRECTION - (direction * _ELBOW_DIRECTION).sum(axis=2, keepdims=True) * direction
    aside /= np.maximum(np.linalg.norm(aside, axis=2, keepdims=True), 1e-6)
    height = np.sqrt(np.maximum(upper**2 - along**2, 0))
    return np.asarray(_SHOULDER + along * direction + height * aside)
