"""Data augmentation of training clips, applied to one packed batch at a time.

Source: the later notebooks of the article series, which tried each augmentation separately (their ranges are the defaults
here). Only the horizontal flip had an effect beyond the noise.
"""

# B clips of a batch, M rows of a batch, F features of a frame (260: 130 x, then 130 y), T frames of a clip, P points (130)

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Gt, Le, Lt, Unit
from jaxtyping import Float

from data_utils.batches import NARROW, Batch, BlockRule, Views, batch_of, index_batches, shuffled_batches
from data_utils.landmarks import MIRROR_PAIRS, NUM_POINTS, PARTS
from data_utils.prepared import ClipSet

Probability = Annotated[float, Ge(0), Le(1), Unit("share of clips")]
Factor = Annotated[float, Ge(1), Unit("factor")]
Degrees = Annotated[float, Ge(0), Lt(90), Unit("degrees")]
PartUnits = Annotated[float, Ge(0), Unit("part's units")]

_SHORT = 10
"""Clips of at most this many frames are neither cropped nor warped, as in the article's code."""


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How training clips are augmented, at random in every epoch. Validation clips never are. All off by default."""

    flip: Probability = 0.0
    """Probability that a clip is mirrored: x changes its sign, left and right points are swapped. With `right_hand_origin:
    mirror` this equals preprocessing a mirrored recording; otherwise it is nearly the same."""

    crop: Probability = 0.0
    """Probability that a clip is cropped to one span of its frames."""

    crop_least: Annotated[float, Gt(0), Le(1), Unit("share of frames")] = 0.5
    """Shortest span. The length is drawn uniformly from here to the whole clip, then the position."""

    warp: Probability = 0.0
    """Probability that a clip is slowed down or sped up. Frames are resampled to the nearest original frame: detected and
    undetected points cannot be interpolated."""

    warp_most: Factor = 2.0
    """Largest factor, and its inverse the smallest; drawn uniformly on a log scale."""

    affine: Probability = 0.0
    """Probability that a clip is shifted, scaled, rotated and skewed in the picture plane."""

    affine_scope: Literal["body", "parts"] = "body"
    """One transform for the whole clip (body), or one each for face, hands and pose (parts)."""

    affine_shift: PartUnits = 0.1
    """Largest shift in each direction. Undetected points are not shifted."""

    affine_scale: Factor = 1.5
    """Largest scale, and its inverse the smallest."""

    affine_rotate: Degrees = 30.0
    """Largest rotation in either direction."""

    affine_skew: Degrees = 30.0
    """Largest skew in either direction."""

    drop_frames: Probability = 0.0
    """Probability that some frames of a clip are set to 0, as if nothing had been detected. They still count as frames: average
    pooling needs neighbors."""

    drop_frames_share: Annotated[float, Ge(0), Le(1), Unit("share of frames")] = 0.2
    """Probability with which each frame of such a clip is set to 0."""

    drop_parts: Probability = 0.0
    """Probability that one of the four parts (face, left hand, pose, right hand) is set to 0 in a whole clip."""

    noise: Probability = 0.0
    """Probability that Gaussian noise is added to the detected numbers of a clip."""

    noise_sd: PartUnits = 0.01
    """Standard deviation of the noise."""

    @property
    def is_off(self) -> bool:
        """Whether no clip is ever augmented."""
        return not any((self.flip, self.crop, self.warp, self.affine, self.drop_frames, self.drop_parts, self.noise))


def augmented_batches(
    clips: ClipSet,
    batch_size: int,
    config: AugmentConfig,
    *,
    order_rng: np.random.Generator,
    augment_rng: np.random.Generator,
    frames_multiple: int = 1,
    rule: BlockRule = NARROW,
) -> Iterator[Batch]:
    """One epoch: every clip once, in random order, augmented; the last batch may be smaller.

    The order depends on `order_rng` alone. If all augmentations are off, `augment_rng` is not used.
    """
    if config.is_off:
        yield from shuffled_batches(clips, batch_size, order_rng, frames_multiple, rule)
        return
    for selected in index_batches(len(clips), batch_size, order_rng):
        views = _draw_views(clips.lengths_C[selected], config, augment_rng)
        batch = batch_of(clips, selected, frames_multiple, views, rule)
        if config.crop or config.warp:
            batch = _restore_blind_clips(clips, selected, frames_multiple, views, batch, rule)
        yield replace(batch, frames_MF=_augmented_frames(clips, batch, config, augment_rng))


def _draw_views(lengths_B: np.ndarray, config: AugmentConfig, rng: np.random.Generator) -> Views:
    """Draws the span of each clip and its speed."""
    count = len(lengths_B)
    long_B = lengths_B > _SHORT
    start_B, kept_B = np.zeros(count, np.int64), lengths_B
    if config.crop:
        hit_B = (rng.random(count) < config.crop) & long_B
        share_B = rng.uniform(config.crop_least, 1.0, count)
        kept_B = np.where(hit_B, np.maximum(1, np.rint(lengths_B * share_B)), lengths_B).astype(np.int64)
        start_B = np.floor(rng.random(count) * (lengths_B - kept_B + 1)).astype(np.int64)
    shown_B = kept_B
    if config.warp:
        hit_B = (rng.random(count) < config.warp) & long_B
        factor_B = np.exp(rng.uniform(-1.0, 1.0, count) * math.log(config.warp_most))
        shown_B = np.where(hit_B, np.maximum(1, np.rint(kept_B * factor_B)), kept_B).astype(np.int64)
    return Views(start_B, kept_B, shown_B)


def _restore_blind_clips(
    clips: ClipSet, selected: np.ndarray, frames_multiple: int, views: Views, batch: Batch, rule: BlockRule
) -> Batch:
    """The batch, with whole clips where the model would otherwise attend to no frame (to no pair, if it pools over time)."""
    real_M = clips.real_N[batch.source_M]
    visible = [real_M[block.rows].reshape(block.clips, -1, frames_multiple).all(axis=2).any(axis=1) for block in batch.blocks]
    blind = np.isin(selected, batch.clips_B[~np.concatenate(visible)])
    if not blind.any():
        return batch
    whole = clips.lengths_C[selected]
    views = Views(
        np.where(blind, 0, views.start_B), np.where(blind, whole, views.kept_B), np.where(blind, whole, views.shown_B)
    )
    return batch_of(clips, selected, frames_multiple, views, rule)


def _augmented_frames(
    clips: ClipSet, batch: Batch, config: AugmentConfig, rng: np.random.Generator
) -> Float[np.ndarray, "M 260"]:
    """The augmented frames of the batch, computed per clip to use the CPU cache. The clip set is not modified."""
    frames_MF = np.take(clips.frames_NF, batch.source_M, axis=0)
    clips_T2P: list[np.ndarray] = []  # views of the rows, padding included
    for block in batch.blocks:
        clips_T2P += list(frames_MF[block.rows].reshape(block.clips, block.frames, 2, NUM_POINTS))
    count = len(clips_T2P)

    def draw(probability: float) -> list[int]:
        """Draws the clips to augment, as indices within the batch."""
        return np.flatnonzero(rng.random(count) < probability).tolist()

    if config.flip:
        for clip in draw(config.flip):
            _mirror(clips_T2P[clip])
    if config.affine:
        matrix_B6P = _affine(count, config, rng)
        for clip in draw(config.affine):
            _transform(clips_T2P[clip], matrix_B6P[clip])
    if config.noise:
        for clip in draw(config.noise):
            _add_noise(clips_T2P[clip], config.noise_sd, rng)
    if config.drop_parts:
        parts = list(PARTS.values())
        part_B = rng.integers(len(parts), size=count)
        for clip in draw(config.drop_parts):
            clips_T2P[clip][:, :, parts[part_B[clip]]] = 0.0
    if config.drop_frames:
        for clip in draw(config.drop_frames):
            frames = clips_T2P[clip]
            frames[rng.random(len(frames)) < config.drop_frames_share] = 0.0
    return frames_MF


def _mirror_order() -> np.ndarray:
    """`[130]`: the source point of each point in a mirrored frame."""
    points = np.arange(NUM_POINTS)
    points[MIRROR_PAIRS[:, 0]], points[MIRROR_PAIRS[:, 1]] = MIRROR_PAIRS[:, 1], MIRROR_PAIRS[:, 0]
    return points


_MIRROR_ORDER = _mirror_order()
_PART_SIZES = [where.stop - where.start for where in PARTS.values()]


def _mirror(clip_T2P: np.ndarray) -> None:
    clip_T2P[:] = clip_T2P.take(_MIRROR_ORDER, axis=2)
    x_TP = clip_T2P[:, 0]
    np.subtract(np.float32(0.0), x_TP, out=x_TP)  # not negated: 0 must not become -0.0


def _affine(count: int, config: AugmentConfig, rng: np.random.Generator) -> Float[np.ndarray, "B 6 130"]:
    """For each clip and point, float32 a, b, c, d, e, f: x' = a x + b y + e, y' = c x + d y + f."""
    kinds = len(PARTS) if config.affine_scope == "parts" else 1
    draw = rng.uniform(-1.0, 1.0, (5, count, kinds))
    scale = np.exp(draw[0] * math.log(config.affine_scale))
    angle = draw[1] * math.radians(config.affine_rotate)
    skew = np.tan(draw[2] * math.radians(config.affine_skew))
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    shift = config.affine_shift * draw[3:]
    matrix = np.stack([cos, cos * skew - sin, sin, sin * skew + cos, shift[0], shift[1]], axis=1)  # rotation after skew
    return np.repeat(matrix.astype(np.float32), _PART_SIZES if kinds > 1 else NUM_POINTS, axis=2)


def _transform(clip_T2P: np.ndarray, matrix_6P: np.ndarray) -> None:
    x_TP, y_TP = clip_T2P[:, 0].copy(), clip_T2P[:, 1].copy()
    a, b, c, d, e, f = matrix_6P
    detected_TP = (x_TP != 0) | (y_TP != 0)
    clip_T2P[:, 0] = a * x_TP + b * y_TP + e * detected_TP
    clip_T2P[:, 1] = c * x_TP + d * y_TP + f * detected_TP


def _add_noise(clip_T2P: np.ndarray, sd: float, rng: np.random.Generator) -> None:
    noise_T2P = rng.standard_normal(clip_T2P.shape, np.float32)
    noise_T2P *= np.float32(sd)
    noise_T2P *= clip_T2P != 0
    clip_T2P += noise_T2P
