"""The 543 landmarks of MediaPipe Holistic and the 130 of them that the model reads.

Indices as in Kaggle's "Isolated Sign Language Recognition" release: face mesh 0..467, left hand 468..488, pose 489..521,
right hand 522..542. Within a part they follow FaceMesh, MediaPipe Hands (0 is the wrist, then four per finger from the thumb)
and MediaPipe Pose (11, 12 the shoulders ... 21, 22 the thumbs). "Left" and "right" are the signer's own.
"""

from __future__ import annotations

import numpy as np

NUM_LANDMARKS = 543
"""Landmarks per frame in a file."""

NUM_IRISES = 10
"""More points that refined face landmarks have, after the other 468. They are left out wherever landmarks are read."""

NUM_COORDINATES = 3
"""x and y as fractions of the picture's width and height, and z, a relative depth."""

FACE_START, LEFT_HAND_START, POSE_START, RIGHT_HAND_START = 0, 468, 489, 522

FILE_PARTS: dict[str, slice] = {
    "face": slice(FACE_START, LEFT_HAND_START),
    "left_hand": slice(LEFT_HAND_START, POSE_START),
    "pose": slice(POSE_START, RIGHT_HAND_START),
    "right_hand": slice(RIGHT_HAND_START, NUM_LANDMARKS),
}
"""Each body part's range among the 543 landmarks of a file. MediaPipe loses whole parts, never single points."""

_LIPS = (
    "0 13 14 17 37 39 40 61 78 80 81 82 84 87 88 91 95 146 178 181 185 191 "
    "267 269 270 291 308 310 311 312 314 317 318 321 324 375 402 405 409 415"
)
_NOSE = "1 2 98 327"
_RIGHT_EYE = "7 33 133 144 145 153 154 155 157 158 159 160 161 163 173 246"
_LEFT_EYE = "249 263 362 373 374 380 381 382 384 385 386 387 388 390 398 466"

FACE_POINTS: tuple[int, ...] = tuple(sorted(int(n) for n in " ".join([_LIPS, _NOSE, _RIGHT_EYE, _LEFT_EYE]).split()))
"""76 FaceMesh points: lips (40), nose (4) and eyes (16 each)."""

POSE_POINTS: tuple[int, ...] = tuple(range(POSE_START + 11, POSE_START + 23))
"""12 pose points: shoulders, elbows, wrists, little fingers, index fingers, thumbs; left before right."""

POINTS: np.ndarray = np.array(
    [*FACE_POINTS, *range(LEFT_HAND_START, POSE_START), *POSE_POINTS, *range(RIGHT_HAND_START, NUM_LANDMARKS)]
)
"""The 130 selected landmarks as ascending indices into the 543."""

NUM_POINTS = len(POINTS)
NUM_FEATURES = 2 * NUM_POINTS
"""Input features per frame: 130 x, then 130 y."""

PARTS: dict[str, slice] = {
    "face": slice(0, 76),
    "left_hand": slice(76, 97),
    "pose": slice(97, 109),
    "right_hand": slice(109, 130),
}
"""Each body part's range among the 130 selected points."""

_FACE_MIRROR = (
    "7-249 33-263 37-267 39-269 40-270 61-291 78-308 80-310 81-311 82-312 84-314 87-317 88-318 91-321 95-324 98-327 "
    "133-362 144-373 145-374 146-375 153-380 154-381 155-382 157-384 158-385 159-386 160-387 161-388 163-390 173-398 "
    "178-402 181-405 185-409 191-415 246-466"
)


def _mirror_pairs() -> np.ndarray:
    face = [tuple(int(n) for n in pair.split("-")) for pair in _FACE_MIRROR.split()]
    hands = [(LEFT_HAND_START + n, RIGHT_HAND_START + n) for n in range(21)]
    pose = [(n, n + 1) for n in POSE_POINTS[::2]]
    return np.searchsorted(POINTS, np.array(face + hands + pose))


MIRROR_PAIRS: np.ndarray = _mirror_pairs()
"""`[62, 2]`: pairs of the 130 points that swap places when a clip is mirrored. The six points on the midline (FaceMesh 0, 1,
2, 13, 14, 17) have no partner."""
