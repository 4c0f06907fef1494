"""Random signs and signers, and the performance of a sign by a signer.

A sign has a place, a path, handshapes, hand rotations and a mouth movement. Signs come in pairs that share most of these, so
that some are easily confused. Constants without a source were chosen so that a synthetic data set is about as hard as the
article's ten words: a fair baseline misclassifies a quarter of the clips of a new signer.
"""

# T frames, S sides (0 the dominant hand, 1 the other), last axes: 3 = x y z in shoulder widths or three angles, 5 = fingers

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from data_utils.synthetic.skeleton import Body, Posture

LEFT_HANDED = 0.3
"""Share of left-handed signers. Well above the 10% of the population: in Kaggle's data both hands are equally frequent."""

HABIT = 0.6
"""Scale of the differences between signers; 1 = the standard deviations below."""

DIALECT = 0.06
"""Share of a signer's signs whose form differs from the standard form."""

UNSTEADY = 2.3
"""Scale of the differences between clips of one signer and sign; 1 = the standard deviations below."""

_PLACES = np.array(  # of the wrist; x below 0 is the side of the dominant hand
    [
        [-0.25, -0.75, -0.9],  # forehead
        [-0.35, -0.50, -0.9],  # cheek
        [-0.12, -0.30, -0.9],  # chin
        [-0.15, 0.25, -0.7],  # chest
        [0.25, 0.15, -0.7],  # other shoulder
        [-0.65, 0.00, -0.9],  # beside the shoulder
        [-0.35, 0.55, -1.1],  # in front
        [-0.10, 0.85, -1.0],  # belly
    ]
)
_HANDSHAPES = np.array(  # bend of thumb, index, middle, ring, little finger: 0 straight, 1 closed
    [
        [0.9, 1.0, 1.0, 1.0, 1.0],  # fist
        [0.1, 0.0, 0.0, 0.0, 0.0],  # open hand
        [0.9, 0.0, 0.0, 0.0, 0.0],  # flat, thumb in
        [0.9, 0.0, 1.0, 1.0, 1.0],  # one finger
        [0.9, 0.0, 0.0, 1.0, 1.0],  # two fingers
        [0.1, 0.0, 1.0, 1.0, 1.0],  # thumb and index
        [0.0, 1.0, 1.0, 1.0, 0.0],  # thumb and little finger
        [0.6, 0.5, 0.5, 0.5, 0.5],  # claw
        [0.7, 0.6, 0.1, 0.0, 0.0],  # ring of thumb and index
        [0.0, 1.0, 1.0, 1.0, 1.0],  # thumb up
    ]
)
_REST = np.array([-0.62, 1.45, -0.3])
_RELAXED = np.array([0.3, 0.35, 0.4, 0.45, 0.5])
_HANGING = np.array([2.9, 0.9, 0.0])


@dataclass(frozen=True, kw_only=True)
class Sign:
    """The form of one word, with the right hand as the dominant hand."""

    place_3: np.ndarray
    path_3: np.ndarray
    """Vector from the start to the end of the movement."""
    bow_3: np.ndarray
    """Sideways deflection in the middle of the path."""
    beat_3: np.ndarray
    beats: int
    """A small repeated movement: amplitude (above) and number of repetitions."""
    shapes_25: np.ndarray
    """Finger bends at the start and at the end."""
    turns_23: np.ndarray
    """Hand angles at the start and at the end."""
    other: str
    """Action of the other hand: `rests`, `mirrors` or `holds`."""
    mouth_22: np.ndarray
    """Opening and width of the mouth in each half of the sign."""


@dataclass(frozen=True, kw_only=True)
class Signer:
    """One person's body and habits."""

    body: Body
    left_handed: bool
    size: float
    """Size of movements, 1 = average."""
    tempo: float
    """Logarithm of the clips' relative length."""
    place_3: np.ndarray
    turn_3: np.ndarray
    bend_5: np.ndarray
    """Constant offsets of places, angles and finger bends (these three fields)."""
    mouthing: float
    """Strength of mouth movements, 0 to 1.3."""
    head_3: np.ndarray
    unsteady: float
    """Variation between clips of the same sign, 1 = average."""


def draw_sign(rng: np.random.Generator, like: Sign | None = None) -> Sign:
    """A random sign; with `like`, one that shares most of its form."""
    shapes = _HANDSHAPES[rng.choice(len(_HANDSHAPES), 2, replace=False)]
    turns = rng.normal(0, (0.5, 0.8, 0.4), 3)
    aim = rng.uniform(0, 2 * np.pi)
    path = np.array([np.cos(aim), np.sin(aim), rng.normal(0, 0.3)]) * rng.uniform(0.25, 0.7)
    sign = Sign(
        place_3=_PLACES[rng.integers(len(_PLACES))] + rng.normal(0, 0.06, 3),
        path_3=path,
        bow_3=np.array([-path[1], path[0], 0.0]) * rng.choice([-0.6, 0.0, 0.6]),
        beat_3=rng.normal(0, 0.09, 3) * rng.integers(0, 2),
        beats=int(rng.integers(2, 4)),
        shapes_25=np.stack([shapes[0], shapes[rng.integers(2)]]),
        turns_23=np.stack([turns, turns + rng.normal(0, 0.6, 3) * rng.integers(0, 2)]),
        other=str(rng.choice(["rests", "mirrors", "holds"], p=[0.6, 0.25, 0.15])),
        mouth_22=np.stack([rng.uniform(0, 0.8, 2), rng.uniform(-0.8, 0.8, 2)], axis=1),
    )
    if like is None:
        return sign
    kept = ["other", "mouth_22", *(("place_3", "shapes_25") if rng.random() < 0.5 else ("path_3", "bow_3", "turns_23"))]
    return replace(sign, **{name: getattr(like, name) for name in kept})


def draw_signer(rng: np.random.Generator) -> Signer:
    """A random signer."""
    return Signer(
        body=Body(
            neck=0.72 + rng.normal(0, 0.06),
            head=np.exp(rng.normal(0, 0.08)),
            arm=0.85 + rng.normal(0, 0.05),
            hand=0.36 * np.exp(rng.normal(0, 0.08)),
        ),
        left_handed=bool(rng.random() < LEFT_HANDED),
        size=np.exp(rng.normal(0, 0.25)),
        tempo=float(np.clip(rng.normal(0, 0.2), -0.4, 0.4)),
        place_3=rng.normal(0, HABIT * 0.13, 3),
        turn_3=rng.normal(0, HABIT * 0.25, 3),
        bend_5=rng.normal(0, HABIT * 0.12, 5),
        mouthing=rng.uniform(0, 1.3) * rng.integers(0, 2),
        head_3=rng.normal(0, 0.07, 3),
        unsteady=np.exp(rng.normal(0, 0.25)),
    )


def own_form(sign: Sign, other: Sign, rng: np.random.Generator) -> Sign:
    """A signer's own form of a sign: small deviations everywhere; for some signs, path or handshape are those of `other`."""
    if rng.random() < DIALECT:
        names = [("path_3", "bow_3", "place_3"), ("shapes_25", "turns_23"), ("other", "path_3", "beat_3", "beats")][
            rng.integers(3)
        ]
        sign = replace(sign, **{name: getattr(other, name) for name in names})
    return replace(
        sign,
        place_3=sign.place_3 + rng.normal(0, HABIT * 0.10, 3),
        path_3=sign.path_3 * np.exp(rng.normal(0, 0.2)) + rng.normal(0, HABIT * 0.06, 3),
        bow_3=sign.bow_3 * rng.uniform(0.4, 1.3),
        beat_3=sign.beat_3 * rng.uniform(0.2, 1.5),
        turns_23=sign.turns_23 + rng.normal(0, HABIT * 0.2, 3),
        shapes_25=sign.shapes_25 + rng.normal(0, HABIT * 0.08, 5),
    )


def perform(sign: Sign, signer: Signer, frames: int, rng: np.random.Generator) -> Posture:
    """One clip of a sign in the signer's own form, with the right hand as the dominant hand."""
    variation = UNSTEADY * signer.unsteady
    time_T = np.linspace(rng.uniform(-0.3, 0.2), rng.uniform(0.8, 1.3), frames)
    time_T = time_T + 0.05 * np.sin(2 * np.pi * (time_T + rng.random()))
    raised_T = _ease(time_T / 0.25 + 0.8) * _ease((1 - time_T) / 0.25 + 0.8)
    u_T = np.clip(time_T, 0, 1)
    wrists, curls, angles = [], [], []
    for side in range(2):
        place, curl, angle, up = _hand_movement(sign, signer, u_T, side, variation, rng)
        up_T1 = (raised_T * up)[:, None]
        wrists.append(_REST + up_T1 * (place - _REST))
        curls.append(np.clip(_RELAXED + up_T1 * (curl - _RELAXED), -0.05, 1.05))
        angles.append(_HANGING + up_T1 * (angle - _HANGING))
    half_T1 = _ease((u_T - 0.3) / 0.4)[:, None]
    mouth_T2 = (sign.mouth_22[0] * (1 - half_T1) + sign.mouth_22[1] * half_T1) * raised_T[:, None] * signer.mouthing
    mouth_T2 = mouth_T2 + rng.normal(0, 0.05, 2) + wander(rng, frames, 2, 0.04)
    return Posture(
        wrists_TS3=np.stack(wrists, axis=1) + wander(rng, frames, 6, 0.02 * variation).reshape(frames, 2, 3),
        curls_TS5=np.stack(curls, axis=1),
        angles_TS3=np.stack(angles, axis=1) + wander(rng, frames, 6, 0.06 * variation).reshape(frames, 2, 3),
        mouth_T2=np.stack([np.clip(mouth_T2[:, 0], 0, 1), mouth_T2[:, 1]], axis=1),
        head_T3=signer.head_3 + rng.normal(0, 0.04, 3) + wander(rng, frames, 3, 0.015),
    )


def _hand_movement(
    sign: Sign, signer: Signer, u_T: np.ndarray, side: int, variation: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Places, finger bends and angles of one raised hand, and how far it is raised (0 to 1)."""
    u_T1 = u_T[:, None]
    still = side == 1 and sign.other == "holds"
    size = 0.0 if still else signer.size * np.exp(rng.normal(0, 0.15 * variation))
    course = (u_T1 - 0.5) * sign.path_3 + np.sin(np.pi * u_T1) * sign.bow_3
    course = course + np.sin(2 * np.pi * sign.beats * u_T1) * sign.beat_3
    place = sign.place_3 + signer.place_3 + size * course + rng.normal(0, 0.06 * variation, 3)
    change_T1 = _ease((u_T1 - 0.25) / 0.5)
    curl = sign.shapes_25[0] * (1 - change_T1) + sign.shapes_25[1] * change_T1
    angle = sign.turns_23[0] * (1 - change_T1) + sign.turns_23[1] * change_T1
    curl = curl + signer.bend_5 + rng.normal(0, 0.08 * variation, 5)
    angle = angle + signer.turn_3 + rng.normal(0, 0.14 * variation, 3)
    if still:
        place, curl = place * 0.3 + 0.7 * _PLACES[6], _HANDSHAPES[1] + 0 * curl
    raised = 1.0 if side == 0 or sign.other != "rests" else 0.35 * float(rng.random() < 0.25)
    return place, curl, angle, raised


def wander(rng: np.random.Generator, frames: int, numbers: int, size: float) -> np.ndarray:
    """`[frames, numbers]`: slow oscillating drift of about `size`."""
    period = rng.uniform(12, 60, (2, numbers))
    phase = rng.uniform(0, 2 * np.pi, (2, numbers))
    return np.asarray(size * np.sin(np.arange(frames)[:, None, None] * 2 * np.pi / period + phase).sum(axis=1))


def _ease(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0, 1)
    return np.asarray(x * x * (3 - 2 * x))
