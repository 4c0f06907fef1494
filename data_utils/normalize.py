"""Preprocessing: selects landmarks, fills missing values and normalizes each body part.

Source: the article's v0.1 code (`SelectLandmarksAndFeature`, `ReplaceNan`, `PartsBasedNormalization`). The defaults
reproduce it; its two peculiarities are options.
"""

# C channel (x, y), T frames, J landmarks of a file (543), P selected points (130), F features of a frame (260)

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from data_utils.landmarks import NUM_FEATURES, PARTS, POINTS

UNIT_RANGE = (1e-3, 5.0)
"""Range to which a part's unit of length is clipped (fractions of the picture's size), as in the article's code."""


@dataclass(frozen=True, kw_only=True)
class PreprocessConfig:
    """How the landmarks of a clip are converted to the model's input."""

    align: Literal["framewise", "unique"] = "framewise"
    """Origin of each part: per frame (framewise), or one per clip (unique)."""

    scale: Literal["framewise", "unique", "none"] = "unique"
    """Unit of length of each part: per frame (framewise), one per clip (unique), or none (fractions of the picture's size)."""

    missing: Literal["zero", "aware"] = "zero"
    """Coordinates that were not detected count as 0.0 when origins and units are computed (zero, as in the article), or are
    ignored (aware). This matters only where single points of a part are missing, or where a coordinate is exactly 0."""

    right_hand_origin: Literal["reference", "mirror"] = "reference"
    """The article's code computes the right hand's origin from points 0 2 3 9 13 17 (reference), probably a slip: the left
    hand's are 0 2 5 9 13 17. `mirror` uses the same points for both hands."""

    mask: Literal["lengths", "detected"] = "lengths"
    """Frames that the model attends to: all frames of the clip (lengths), or only those in which something was detected, as
    in the article (detected)."""


@dataclass(frozen=True)
class PartRule:
    """The points that define a part's origin and unit of length, as indices within the part."""

    origin: tuple[int, ...]
    unit_from: tuple[int, ...]
    unit_to: tuple[int, ...]


_PALM = (0, 2, 5, 9, 13, 17)
_KNUCKLES = (2, 5, 9, 13, 17)

_RULES: dict[str, PartRule] = {
    "face": PartRule(origin=(0, 2), unit_from=(7,), unit_to=(42,)),  # upper lip and below the nose; outer eye corners
    "left_hand": PartRule(origin=_PALM, unit_from=(0,), unit_to=_KNUCKLES),  # wrist to the mean of the knuckles
    "pose": PartRule(origin=(0, 1), unit_from=(0,), unit_to=(1,)),  # the shoulders
    "right_hand": PartRule(origin=(0, 2, 3, 9, 13, 17), unit_from=(0,), unit_to=_KNUCKLES),
}


def rule_of(part: str, config: PreprocessConfig) -> PartRule:
    """The rule of a part, by its name in `PARTS`."""
    mirrored = part == "right_hand" and config.right_hand_origin == "mirror"
    return _RULES["left_hand" if mirrored else part]


def preprocess(
    feature_CTJ: Float[np.ndarray, "3 T 543"], config: PreprocessConfig = PreprocessConfig()
) -> Float[np.ndarray, "T 260"]:
    """The model's input for one clip: per frame 130 x, then 130 y, each part relative to its own origin and unit of length.

    All numbers of a part are 0 in frames in which it was not detected.

    Shapes: `[3, T, 543]` float (x, y, z; NaN = not detected) -> `[T, 260]` float32.
    Units: multiples of the part's unit (distance of the eye corners, wrist to knuckles, shoulder width).
    """
    points_CTP = np.asarray(feature_CTJ[:2], dtype=np.float32)[:, :, POINTS]
    result_CTP = np.empty_like(points_CTP)
    for name, where in PARTS.items():
        result_CTP[:, :, where] = _normalize_part(points_CTP[:, :, where], rule_of(name, config), config)
    return np.ascontiguousarray(result_CTP.transpose(1, 0, 2)).reshape(-1, NUM_FEATURES)


def detected(frames_TF: Float[np.ndarray, "T 260"]) -> Bool[np.ndarray, " T"]:
    """Frames in which anything was detected, that is, with a number other than 0. The article's mask."""
    return np.asarray((frames_TF != 0).any(axis=1))


def _normalize_part(part_CTP: np.ndarray, rule: PartRule, config: PreprocessConfig) -> np.ndarray:
    filled_CTP = np.nan_to_num(part_CTP, nan=0.0)
    # Means are computed over the filled values (zero), or over detected values only (aware).
    known_CTP = filled_CTP if config.missing == "zero" else part_CTP
    origin_CT = _mean_points(known_CTP, rule.origin)
    offset_CT = _mean_points(known_CTP, rule.unit_from) - _mean_points(known_CTP, rule.unit_to)
    length_T = np.sqrt((offset_CT**2).sum(axis=0))

    if config.missing == "zero":
        detected_CTP = np.broadcast_to((filled_CTP != 0).any(axis=(0, 2))[None, :, None], filled_CTP.shape)
    else:
        detected_CTP = ~np.isnan(part_CTP)
        if config.align == "framewise":
            detected_CTP = detected_CTP & np.isfinite(origin_CT)[:, :, None]
    if config.align == "unique":
        origin_CT = _mean_of_nonzero(origin_CT)[:, None]
    result_CTP = (filled_CTP - np.nan_to_num(origin_CT)[:, :, None]) / _unit(length_T, config)[None, :, None]
    return np.where(detected_CTP, result_CTP, np.float32(0.0))


def _unit(length_T: np.ndarray, config: PreprocessConfig) -> np.ndarray:
    """The unit of length, `[T]` (framewise) or `[1]`; 1 where it is unknown."""
    if config.scale == "none":
        return np.ones(1, dtype=np.float32)
    if config.scale == "framewise":
        unit = np.where(length_T > 0, length_T, np.float32(1.0))  # False for NaN
    else:
        usable = length_T > 0
        unit = length_T[usable].mean(keepdims=True) if usable.any() else np.ones(1, dtype=np.float32)
    return np.clip(unit, *UNIT_RANGE).astype(np.float32)


def _mean_points(points_CTP: np.ndarray, indices: tuple[int, ...]) -> np.ndarray:
    """Mean over some points, `[C, T]`, ignoring NaN; NaN where all points are NaN."""
    selected = points_CTP[:, :, list(indices)]
    known = ~np.isnan(selected)
    count = known.sum(axis=2)
    total = np.where(known, selected, np.float32(0.0)).sum(axis=2)
    mean = total / np.maximum(count, 1).astype(np.float32)
    return np.where(count > 0, mean, np.float32(np.nan))


def _mean_of_nonzero(origin_CT: np.ndarray) -> np.ndarray:
    """One origin per channel: the mean over frames where it is known and not 0; 0 if there is no such frame."""
    usable = np.isfinite(origin_CT) & (origin_CT != 0)
    total = np.where(usable, origin_CT, np.float32(0.0)).sum(axis=1)
    return (total / np.maximum(usable.sum(axis=1), 1).astype(np.float32)).astype(np.float32)
