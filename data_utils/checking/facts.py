"""What is kept of each clip that is read: a digest, a few numbers, and what is unusual about it."""

# C coordinates (x, y, z), T frames, J landmarks (543), P parts (4)

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from data_utils.body import body_misfit
from data_utils.checking.geometry import sides_and_places
from data_utils.checking.motion import order_of_time
from data_utils.checking.orders import FITS, PartOrder, fitting_order
from data_utils.checking.signature import Signature, signature
from data_utils.clips import digest_of_values
from data_utils.folder import SignerFile
from data_utils.hdf5 import Clip
from data_utils.landmarks import FILE_PARTS, LEFT_HAND_START, POSE_START, RIGHT_HAND_START

LONGEST_SIGN = 450
"""Frames. The longest of 1,192 clips of the Kaggle release has 404; 450 are 15 seconds at 30 frames per second."""

_INSIDE = (-1.0, 2.0)
"""Plausible range of x and y of hands and face: up to one picture size outside the picture. The pose is excluded, because
MediaPipe places hips and legs that it does not see far below."""

_PIXELS = 10.0
"""A median |x| or |y|, or a |z| of hands or face, above this is in pixels: fractions of a picture are of the order of 1."""

_STARTS_P = np.array([where.start for where in FILE_PARTS.values()])
_POSE = list(FILE_PARTS).index("pose")
_NUM_LEGS = 8
_LEGS = slice(RIGHT_HAND_START - _NUM_LEGS, RIGHT_HAND_START)
"""The last points of the pose, below the hips: many people save the first 25 alone, and the model reads none of them."""

_SIZES_P = np.array([where.stop - where.start for where in FILE_PARTS.values()])
_NEAR = (slice(0, POSE_START), slice(RIGHT_HAND_START, None))  # all parts but the pose
_CERTAIN = ("head", "hips", "world_body", "world_hands")
"""Checks of the body that no sound clip fails: single clips are named, however few."""


@dataclass(frozen=True, kw_only=True)
class ClipTrace:
    """By what a clip is recognized elsewhere."""

    signer: str
    file: str
    """The name of its file."""

    name: str
    mirrored: bool
    signature: Signature
    """By which changed copies are recognized."""

    @property
    def place(self) -> str:
        """Its file and its name in it."""
        return f"{self.file}: /{self.name}"


@dataclass(frozen=True, kw_only=True)
class ClipFacts(ClipTrace):
    """What is kept of one clip."""

    label: int
    session: str
    frames: int
    missing: dict[str, int]
    """Frames in which each part was not detected."""

    digest: bytes
    """Of its landmarks as float32: equal for equal clips."""

    warnings: tuple[str, ...]
    """Kinds of warnings that are certain, as in `CLIP_WARNINGS`."""

    judged: frozenset[str] = frozenset()
    """Checks, as in `data_utils.checking.body_warnings`, that can tell something about the clip. A few sound clips fail one."""

    failed: frozenset[str] = frozenset()
    """Those that it fails."""

    misfit: bool = False
    """Whether its parts do not fit one body, or it cannot be told."""

    order: PartOrder | None = None
    """The order of parts in which they would fit one body, if it was sought; `NO_ORDER` if there is none."""


def trace_clip(file: SignerFile, clip: Clip) -> ClipTrace:
    """The trace of a clip alone, which takes a fifth of the time."""
    traced = signature(clip.feature_CTJ)
    return ClipTrace(signer=file.signer, file=file.path.name, name=clip.name, mirrored=file.mirrored, signature=traced)


def inspect_clip(file: SignerFile, clip: Clip, *, seek_order: bool = True) -> ClipFacts:
    """Reduces a clip to its facts. `seek_order`: where parts do not fit one body, look for the order of parts that does."""
    feature_CTJ = np.ascontiguousarray(clip.feature_CTJ)
    missing_TJ = np.isnan(feature_CTJ[0])
    lost_TP = np.add.reduceat(missing_TJ, _STARTS_P, axis=1, dtype=np.int32)
    found = list(_unusual(feature_CTJ, missing_TJ, lost_TP))
    digest = digest_of_values(feature_CTJ)
    if constant := list(_constant_parts(feature_CTJ)):
        found += sorted({kind for kind, _, _ in constant}, reverse=True)
        feature_CTJ = feature_CTJ.copy()
        for _, part, constant_T in constant:
            feature_CTJ[:, constant_T, part] = np.nan
    checks: dict[str, bool | None] = {}
    misfit = False
    if "pixels" not in found:
        checks = sides_and_places(feature_CTJ)
        misfit = ("partly" in found or any(checks.values())) and _misfits(feature_CTJ, checks)
        if checks.get("world_body") or checks.get("world_hands"):
            checks |= dict.fromkeys(("hands", "hand_place", "face_place"))
        if checks.get("hand_place"):
            checks["hands"] = None
        checks |= order_of_time(feature_CTJ)
        if checks.get("head"):
            checks.pop("hips", None)  # the same, once more
        found += [kind for kind in _CERTAIN if checks.pop(kind, None)]
        checks["outside"] = "outside" in found
        found = [kind for kind in found if kind != "outside"]
    return ClipFacts(
        signer=file.signer,
        mirrored=file.mirrored,
        file=file.path.name,
        name=clip.name,
        label=clip.label,
        session=clip.session,
        frames=feature_CTJ.shape[1],
        missing=dict(zip(FILE_PARTS, map(int, (lost_TP == _SIZES_P).sum(axis=0)), strict=True)),
        digest=digest,
        warnings=tuple(found),
        signature=signature(feature_CTJ),
        judged=frozenset(kind for kind, failed in checks.items() if failed is not None),
        failed=frozenset(kind for kind, failed in checks.items() if failed),
        misfit=misfit,
        order=fitting_order(feature_CTJ) if misfit and seek_order else None,
    )


def _misfits(feature_CTJ: np.ndarray, checks: dict[str, bool | None]) -> bool:
    """Whether the parts do not fit one body, nor with swapped hands or upside down, although all are in the same units."""
    if checks.get("world_body") or checks.get("world_hands"):
        return False
    misfit = body_misfit(feature_CTJ)
    if misfit is not None and misfit > FITS and (checks.get("hands") or checks.get("head")):
        other_CTJ = feature_CTJ.copy()
        if checks.get("hands"):
            other_CTJ[:, :, LEFT_HAND_START:POSE_START] = feature_CTJ[:, :, RIGHT_HAND_START:]
            other_CTJ[:, :, RIGHT_HAND_START:] = feature_CTJ[:, :, LEFT_HAND_START:POSE_START]
        if checks.get("head"):
            other_CTJ[1] *= -1
        misfit = body_misfit(other_CTJ)
    return misfit is None or misfit > FITS


def _unusual(feature_CTJ: np.ndarray, missing_TJ: np.ndarray, lost_TP: np.ndarray) -> Iterator[str]:
    """Kinds of warnings about the numbers as such."""
    largest = [float(np.fmax.reduce(np.abs(feature_CTJ[c]), axis=None)) for c in (0, 1)]
    if max(largest) > _PIXELS and float(np.nanmedian(np.abs(feature_CTJ[:2]), axis=(1, 2)).max()) > _PIXELS:
        yield "pixels"
    else:
        near = [feature_CTJ[:, :, where] for where in _NEAR]
        low = min(float(np.fmin.reduce(one[:2], axis=None)) for one in near)
        high = max(float(np.fmax.reduce(one[:2], axis=None)) for one in near)
        if low < _INSIDE[0] or high > _INSIDE[1]:
            yield "outside"
        if max(float(np.fmax.reduce(np.abs(one[2]), axis=None)) for one in near) > _PIXELS:
            yield "depth"
    partly_TP = (lost_TP > 0) & (lost_TP < _SIZES_P)
    if partly_TP.any():
        partly_TP[:, _POSE] &= (lost_TP[:, _POSE] > _NUM_LEGS) | ~missing_TJ[:, _LEGS].all(axis=1)
        if partly_TP.any():
            yield "partly"
    frames = feature_CTJ.shape[1]
    if frames == 1:
        yield "one_frame"
    elif all(np.array_equal(feature_CTJ[:, t], feature_CTJ[:, 0], equal_nan=True) for t in range(1, frames)):
        yield "still"
    if frames > LONGEST_SIGN:
        yield "long"


def _constant_parts(feature_CTJ: np.ndarray) -> Iterator[tuple[str, slice, np.ndarray]]:
    """Frames (as a mask) in which all points of a part are at exactly one place: 0 (`zeros`) or another (`constant`)."""
    for where in FILE_PARTS.values():
        first_CT, second_CT = feature_CTJ[:2, :, where.start], feature_CTJ[:2, :, where.start + 1]
        if (first_CT == second_CT).all(axis=0).any():  # two points first: it is rarely more
            part_CTP = feature_CTJ[:2, :, where]
            constant_T = (part_CTP == part_CTP[:, :, :1]).all(axis=(0, 2))
            if constant_T.any():
                yield "constant" if part_CTP[:, constant_T].any() else "zeros", where, constant_T
