"""Changed copies of training clips: mirrored, cut, slowed, tilted, with gaps and noise. A batch at a time, on packed frames.

Source: the article series' later notebooks on augmentation, which tried each of these by itself (their ranges are the defaults
here). Horizontal flip was the only one that stood clear of the noise.
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

from data_utils.batches import Batch, Views, batch_of, batches_of_numbers, shuffled_batches
from data_utils.landmarks import MIRROR_PAIRS, NUM_POINTS, PARTS
from data_utils.prepared import ClipSet

Probability = Annotated[float, Ge(0), Le(1), Unit("share of clips")]
Factor = Annotated[float, Ge(1), Unit("factor")]
Degrees = Annotated[float, Ge(0), Lt(90), Unit("degrees")]
PartUnits = Annotated[float, Ge(0), Unit("part's units")]

_SHORT = 10
"""Clips of up to this many frames are neither cut nor slowed down nor sped up, as in the article's code."""


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How training clips are changed, anew in every epoch. Validation clips never are. All is off unless asked for."""

    flip: Probability = 0.0
    """Probability that a clip is mirrored: x changes its sign, left and right points change places. The same as preprocessing a
    mirrored recording where `right_hand_origin` is `mirror`, nearly the same otherwise."""

    crop: Probability = 0.0
    """Probability that only one span of a clip is kept."""

    crop_least: Annotated[float, Gt(0), Le(1), Unit("share of frames")] = 0.5
    """The shortest span. Its length is drawn evenly from here to the whole clip, then its place."""

    warp: Probability = 0.0
    """Probability that a clip is slowed down or sped up. Each new frame is the nearest old one: a blend of a detected and an
    undetected point would be neither."""

    warp_most: Factor = 2.0
    """Slowest and fastest: the factor is drawn evenly over its logarithm."""

    affine: Probability = 0.0
    """Probability that a clip is shifted, scaled, turned and skewed in the picture's plane."""

    affine_scope: Literal["body", "parts"] = "body"
    """One change for the whole clip, or one for each of face, hands and pose."""

    affine_shift: PartUnits = 0.1
    """Largest shift in each direction. Undetected points are not shifted."""

    affine_scale: Factor = 1.5
    """Largest magnification, and its inverse the smallest."""

    affine_rotate: Degrees = 30.0
    """Largest turn, either way."""

    affine_skew: Degrees = 30.0
    """Largest skew, either way."""

    drop_frames: Probability = 0.0
    """Probability that frames of a clip are emptied, as if nothing had been detected. They still count as frames: pooling by
    average needs neighbours."""

    drop_frames_share: Annotated[float, Ge(0), Le(1), Unit("share of frames")] = 0.2
    """How many of them: each by itself with this probability."""

    drop_parts: Probability = 0.0
    """Probability that one of the four parts (face, left hand, pose, right hand) is emptied for a whole clip."""

    noise: Probability = 0.0
    """Probability that each detected number of a clip is moved a little."""

    noise_sd: PartUnits = 0.01
    """Standard deviation of that."""

    @property
    def is_off(self) -> bool:
        """Whether no clip is ever changed."""
        return not any((self.flip, self.crop, self.warp, self.affine, self.drop_frames, self.drop_parts, self.noise))


def augmented_batches(
    clips: ClipSet,
    batch_size: int,
    config: AugmentConfig,
    *,
    order_rng: np.random.Generator,
    augment_rng: np.random.Generator,
    frames_multiple: int = 1,
) -> Iterator[Batch]:
    """One epoch: every clip once, in random order, changed as `config` says; the last batch may be smaller.

    The order depends on `order_rng` alone. Where nothing is to be changed, `augment_rng` stays as it is.
    """
    if config.is_off:
        yield from shuffled_batches(clips, batch_size, order_rng, frames_multiple)
        return
    for chosen in batches_of_numbers(len(clips), batch_size, order_rng):
        views = _views(clips.lengths_C[chosen], config, augment_rng)
        batch = batch_of(clips, chosen, frames_multiple, views)
        if config.crop or config.warp:
            batch = _with_something_to_see(clips, chosen, frames_multiple, views, batch)
        yield replace(batch, frames_MF=_changed(clips, batch, config, augment_rng))


def _views(lengths_B: np.ndarray, config: AugmentConfig, rng: np.random.Generator) -> Views:
    """Which stretch of each clip is shown, and how fast."""
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


def _with_something_to_see(clips: ClipSet, chosen: np.ndarray, frames_multiple: int, views: Views, batch: Batch) -> Batch:
    """The batch, with clips shown whole of which the model would else attend to no frame (to no pair, where time is pooled)."""
    real_M = clips.real_N[batch.source_M]
    seen = [real_M[block.rows].reshape(block.clips, -1, frames_multiple).all(axis=2).any(axis=1) for block in batch.blocks]
    blind = np.isin(chosen, batch.clips_B[~np.concatenate(seen)])
    if not blind.any():
        return batch
    whole = clips.lengths_C[chosen]
    views = Views(
        np.where(blind, 0, views.start_B), np.where(blind, whole, views.kept_B), np.where(blind, whole, views.shown_B)
    )
    return batch_of(clips, chosen, frames_multiple, views)


def _changed(clips: ClipSet, batch: Batch, config: AugmentConfig, rng: np.random.Generator) -> Float[np.ndarray, "M 260"]:
    """The batch's frames, changed clip by clip, each while it is in the cache. The clip set's own are not touched."""
    frames_MF = np.take(clips.frames_NF, batch.source_M, axis=0)
    clips_T2P: list[np.ndarray] = []  # views of the rows, padding included
    for block in batch.blocks:
        clips_T2P += list(frames_MF[block.rows].reshape(block.clips, block.frames, 2, NUM_POINTS))
    count = len(clips_T2P)

    def hit(probability: float) -> list[int]:
        """The clips that are changed, by their place in the batch."""
        return np.flatnonzero(rng.random(count) < probability).tolist()

    if config.flip:
        for clip in hit(config.flip):
            _mirror(clips_T2P[clip])
    if config.affine:
        matrix_B6P = _affine(count, config, rng)
        for clip in hit(config.affine):
            _transform(clips_T2P[clip], matrix_B6P[clip])
    if config.noise:
        for clip in hit(config.noise):
            _add_noise(clips_T2P[clip], config.noise_sd, rng)
    if config.drop_parts:
        parts = list(PARTS.values())
        part_B = rng.integers(len(parts), size=count)
        for clip in hit(config.drop_parts):
            clips_T2P[clip][:, :, parts[part_B[clip]]] = 0.0
    if config.drop_frames:
        for clip in hit(config.drop_frames):
            frames = clips_T2P[clip]
            frames[rng.random(len(frames)) < config.drop_frames_share] = 0.0
    return frames_MF


def _mirror_order() -> np.ndarray:
    """`[130]`: which point takes each place in a mirrored frame."""
    points = np.arange(NUM_POINTS)
    points[MIRROR_PAIRS[:, 0]], points[MIRROR_PAIRS[:, 1]] = MIRROR_PAIRS[:, 1], MIRROR_PAIRS[:, 0]
    return points


_MIRROR_ORDER = _mirror_order()
_PART_SIZES = [where.stop - where.start for where in PARTS.values()]


def _mirror(clip_T2P: np.ndarray) -> None:
    clip_T2P[:] = clip_T2P.take(_MIRROR_ORDER, axis=2)
    x_TP = clip_T2P[:, 0]
    np.subtract(np.float32(0.0), x_TP, out=x_TP)  # not negated: an undetected 0 stays 0.0


def _affine(count: int, config: AugmentConfig, rng: np.random.Generator) -> Float[np.ndarray, "B 6 130"]:
    """For each clip and point, float32 a, b, c, d, e, f: x' = a x + b y + e, y' = c x + d y + f."""
    kinds = len(PARTS) if config.affine_scope == "parts" else 1
    draw = rng.uniform(-1.0, 1.0, (5, count, kinds))
    scale = np.exp(draw[0] * math.log(config.affine_scale))
    turn = draw[1] * math.radians(config.affine_rotate)
    skew = np.tan(draw[2] * math.radians(config.affine_skew))
    cos, sin = scale * np.cos(turn), scale * np.sin(turn)
    shift = config.affine_shift * draw[3:]
    matrix = np.stack([cos, cos * skew - sin, sin, sin * skew + cos, shift[0], shift[1]], axis=1)  # turn after skew
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
