"""Augmentation: what each kind changes and keeps, its probability, and its reproducibility."""

# B clips of a batch, M rows of a batch, T frames of a clip, P points (130)

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
from test_batches import realistic_lengths

from data_utils.augment import AugmentConfig, augmented_batches
from data_utils.batches import Batch, shuffled_batches
from data_utils.landmarks import FILE_PARTS, MIRROR_PAIRS, NUM_FEATURES, NUM_LANDMARKS, NUM_POINTS, PARTS, POINTS
from data_utils.normalize import PreprocessConfig, preprocess
from data_utils.prepared import ClipSet, clip_set

CHANGES = AugmentConfig(flip=1.0, crop=1.0, warp=1.0, affine=1.0, affine_scope="parts", noise=1.0)
EVERYTHING = replace(CHANGES, drop_frames=1.0, drop_parts=1.0)
SOMETIMES = AugmentConfig(flip=0.5, crop=0.5, warp=0.5, affine=0.5, drop_frames=0.5, drop_parts=0.5, noise=0.5)


@dataclass(frozen=True)
class Shown:
    """A clip as taken from a batch, without padding."""

    clip: int

    places_T: np.ndarray
    """Which frame of the clip each shown frame is."""

    before_T2P: np.ndarray
    """Those frames, unchanged."""

    after_T2P: np.ndarray


def random_clips(lengths: list[int], seed: int = 0, gaps: bool = True) -> ClipSet:
    """Random numbers; with gaps, each part is missing from a quarter of the frames."""
    rng = np.random.default_rng(seed)
    made = []
    for length in lengths:
        clip_T2P = rng.standard_normal((length, 2, NUM_POINTS), dtype=np.float32)
        for where in PARTS.values():
            clip_T2P[(rng.random(length) < 0.25) & gaps, :, where] = 0.0
        made.append(clip_T2P.reshape(length, NUM_FEATURES))
    clips = clip_set(made, np.arange(len(lengths)))
    clips.frames_NF.flags.writeable = False
    return clips


def epoch(
    clips: ClipSet, config: AugmentConfig, *, size: int = 16, multiple: int = 1, order: int = 0, seed: int = 1
) -> list[Batch]:
    """The batches of one epoch."""
    rngs = {"order_rng": np.random.default_rng(order), "augment_rng": np.random.default_rng(seed)}
    return list(augmented_batches(clips, size, config, **rngs, frames_multiple=multiple))


def padded(batch: Batch) -> Iterator[tuple[int, slice]]:
    """Each clip's number and its rows, padding included."""
    numbers = iter(batch.clips_B.tolist())
    for block in batch.blocks:
        for start in range(block.start, block.rows.stop, block.frames):
            yield next(numbers), slice(start, start + block.frames)


def shown(clips: ClipSet, batches: list[Batch]) -> list[Shown]:
    """Every clip of some batches."""
    result = []
    for batch in batches:
        assert batch.frames_MF is not None
        for clip, rows in padded(batch):
            source_T = batch.source_M[rows][batch.source_M[rows] > 0]
            before_T2P, after_T2P = (
                frames.reshape(-1, 2, NUM_POINTS)
                for frames in (clips.frames_NF[source_T], batch.frames_MF[rows][: len(source_T)])
            )
            result.append(Shown(clip, source_T - clips.starts_C[clip], before_T2P, after_T2P))
    return result


def mirrored_points(points: np.ndarray) -> np.ndarray:
    """The last axis with left and right points swapped."""
    result = points.copy()
    result[..., MIRROR_PAIRS[:, 0]] = points[..., MIRROR_PAIRS[:, 1]]
    result[..., MIRROR_PAIRS[:, 1]] = points[..., MIRROR_PAIRS[:, 0]]
    return result


def is_detected(points_T2P: np.ndarray) -> np.ndarray:
    """`[T, 1, P]`: points with a number other than 0."""
    return (points_T2P != 0).any(axis=1, keepdims=True)


def near_share(hits: int, count: int, probability: float) -> bool:
    """Whether the number of hits is plausible: within 4.5 standard deviations of a binomial distribution."""
    return abs(hits - count * probability) <= 4.5 * math.sqrt(count * probability * (1 - probability))


def test_flipping_twice_is_the_identity() -> None:
    """Mirroring changes a clip; mirroring it again restores it bit for bit."""
    clips = random_clips([5, 30, 17])
    once = sorted(shown(clips, epoch(clips, AugmentConfig(flip=1.0))), key=lambda one: one.clip)
    again = clip_set([one.after_T2P.reshape(-1, NUM_FEATURES) for one in once])
    for one in shown(again, epoch(again, AugmentConfig(flip=1.0))):
        assert (one.after_T2P == once[one.clip].before_T2P).all()
        assert (one.after_T2P != once[one.clip].after_T2P).any()


@pytest.mark.parametrize("scale", ["unique", "framewise"])
def test_flipping_equals_preprocessing_the_mirrored_recording(scale: str) -> None:
    """Mirroring before or after preprocessing gives the same numbers if both hands have the same origin."""
    rng = np.random.default_rng(0)
    raw_CTJ = rng.uniform(0.1, 0.9, (3, 12, NUM_LANDMARKS)).astype(np.float32)
    for frames, part in ((slice(0, 4), "left_hand"), (slice(3, 9), "right_hand"), (slice(11, 12), "face")):
        raw_CTJ[:, frames, FILE_PARTS[part]] = np.nan
    mirrored_CTJ = raw_CTJ.copy()
    mirrored_CTJ[:, :, POINTS] = mirrored_points(raw_CTJ[:, :, POINTS])
    mirrored_CTJ[0] = 1 - mirrored_CTJ[0]
    config = PreprocessConfig(right_hand_origin="mirror", scale=scale)  # type: ignore[arg-type]
    clips = clip_set([preprocess(raw_CTJ, config)])
    (batch,) = epoch(clips, AugmentConfig(flip=1.0))
    assert batch.frames_MF is not None
    np.testing.assert_allclose(batch.frames_MF, preprocess(mirrored_CTJ, config), rtol=1e-4, atol=1e-4)


def test_undetected_points_stay_empty() -> None:
    """After any augmentation, exactly the undetected points and the padding are 0."""
    clips = random_clips(realistic_lengths(60, 0))
    batches = epoch(clips, CHANGES, multiple=4)
    for one in shown(clips, batches):
        assert ((one.after_T2P != 0) == mirrored_points(is_detected(one.before_T2P))).all()
    assert any((batch.source_M == 0).any() for batch in batches)
    for batch in (*batches, *epoch(clips, EVERYTHING, multiple=4)):
        assert batch.frames_MF is not None
        assert (batch.frames_MF[batch.source_M == 0] == 0).all()


def test_dropping_only_sets_numbers_to_zero() -> None:
    """Dropped frames and parts set numbers to 0, on top of all other augmentations, and change nothing else."""
    clips = random_clips(realistic_lengths(60, 0))
    for one in shown(clips, epoch(clips, EVERYTHING)):
        assert (one.after_T2P[~np.broadcast_to(mirrored_points(is_detected(one.before_T2P)), one.after_T2P.shape)] == 0).all()


@pytest.mark.parametrize("least", [0.2, 0.5, 1.0])
def test_cropping_keeps_one_span(least: float) -> None:
    """A cropped clip is one span of the original, at least as long as requested, at any position; short clips stay whole."""
    clips = random_clips([*range(1, 41), *[100] * 150])
    spans = []
    for one in shown(clips, epoch(clips, AugmentConfig(crop=1.0, crop_least=least))):
        length = int(clips.lengths_C[one.clip])
        assert (one.after_T2P == one.before_T2P).all()
        assert (np.diff(one.places_T) == 1).all()
        assert 0 <= one.places_T[0] <= one.places_T[-1] < length
        assert len(one.places_T) >= (round(length * least) if length > 10 else length)
        if length == 100:
            spans.append((len(one.places_T), one.places_T[0], one.places_T[-1]))
    kept, first, last = np.array(spans).T
    assert kept.min() <= 100 * least + 5
    assert kept.max() >= 95
    assert abs(kept.mean() - 50 * (1 + least)) < 5
    assert first.min() == 0
    assert last.max() == 99
    assert least == 1 or abs(first.mean() - (99 - last).mean()) < 8


@pytest.mark.parametrize("most", [1.0, 2.0, 3.5])
def test_warping_keeps_order_and_extent(most: float) -> None:
    """A warped clip shows the nearest frames at even steps from beginning to end; short clips stay whole."""
    clips = random_clips([*range(1, 41), *[60] * 150])
    logs = []
    for one in shown(clips, epoch(clips, AugmentConfig(warp=1.0, warp_most=most))):
        length, count = int(clips.lengths_C[one.clip]), len(one.places_T)
        assert (one.after_T2P == one.before_T2P).all()
        assert length > 10 or count == length
        assert round(length / most) <= count <= round(length * most)
        middle_T = (np.arange(count) + 0.5) * length / count
        assert (abs(one.places_T + 0.5 - middle_T) <= 0.5 + 1e-9).all()
        assert (np.diff(one.places_T) >= 0).all()
        if length == 60:
            logs.append(math.log(count / length))
    assert abs(np.mean(logs)) < 0.2 * math.log(most) + 1e-9
    assert np.std(logs) == pytest.approx(math.log(most) / math.sqrt(3), rel=0.15)


def test_a_cropped_clip_can_be_warped() -> None:
    """A clip that is cropped and warped shows a span of itself in order, with steps no longer than the speed allows."""
    clips = random_clips([50] * 100)
    for one in shown(clips, epoch(clips, AugmentConfig(crop=1.0, warp=1.0))):
        assert 0 <= one.places_T[0] <= one.places_T[-1] < 50
        assert set(np.diff(one.places_T).tolist()) <= {0, 1, 2}
        assert 12 <= len(one.places_T) <= 100
    spans = [one.places_T[-1] - one.places_T[0] + 1 for one in shown(clips, epoch(clips, AugmentConfig(crop=1.0, warp=1.0)))]
    assert 23 <= min(spans) < 30
    assert 45 < max(spans) <= 50


def fitted(one: Shown, where: slice) -> np.ndarray:
    """`[2, 3]`: the matrix and shift that transformed a part; checked to fit every point."""
    detected = (one.before_T2P[:, :, where] != 0).any(axis=1)
    before, after = (
        points.transpose(0, 2, 1)[:, where][detected].astype(np.float64) for points in (one.before_T2P, one.after_T2P)
    )
    known = np.column_stack([before, np.ones(len(before))])
    matrix, *_ = np.linalg.lstsq(known, after, rcond=None)
    np.testing.assert_allclose(known @ matrix, after, atol=1e-5)
    return np.asarray(matrix.T)


@pytest.mark.parametrize("scope", ["body", "parts"])
def test_affine_scope_is_body_or_parts(scope: str) -> None:
    """All frames of a part go through one matrix and shift; `body` has one for all parts, `parts` has one for each."""
    clips = random_clips([20] * 12)
    seen = []
    for one in shown(clips, epoch(clips, AugmentConfig(affine=1.0, affine_scope=scope))):  # type: ignore[arg-type]
        first, *others = (fitted(one, where) for where in PARTS.values())
        seen.append(first)
        for other in others:
            assert np.allclose(first, other, atol=1e-4) == (scope == "body")
    assert np.ptp(np.array(seen), axis=0).min() > 0.01  # each clip has its own


STILL = AugmentConfig(affine=1.0, affine_shift=0.0, affine_scale=1.0, affine_rotate=0.0, affine_skew=0.0)


def affine_matrices(config: AugmentConfig) -> np.ndarray:
    """`[clips, 2, 3]`: the transforms of 150 clips."""
    clips = random_clips([3] * 150)
    return np.array([fitted(one, slice(0, NUM_POINTS)) for one in shown(clips, epoch(clips, config))])


def test_the_identity_transform_changes_nothing() -> None:
    """Without shift, scale, rotation and skew the numbers stay the same."""
    clips = random_clips([20] * 12)
    for one in shown(clips, epoch(clips, STILL)):
        np.testing.assert_allclose(one.after_T2P, one.before_T2P, rtol=1e-6)


def test_a_shift_moves_detected_points_alike() -> None:
    """A pure shift adds the same, up to the maximum in either direction, to every detected point of a clip."""
    clips = random_clips([12] * 150)
    shifts = []
    for one in shown(clips, epoch(clips, replace(STILL, affine_shift=0.1))):
        moved_T2P = one.after_T2P - one.before_T2P
        detected_T1P = is_detected(one.before_T2P)
        shift_2 = moved_T2P.sum(axis=(0, 2)) / detected_T1P.sum()
        np.testing.assert_allclose(moved_T2P, shift_2[None, :, None] * detected_T1P, atol=1e-5)
        shifts.append(shift_2)
    low, high = np.min(shifts, axis=0), np.max(shifts, axis=0)
    assert ((low > -0.1001) & (low < -0.09) & (high > 0.09) & (high < 0.1001)).all()
    assert abs(np.corrcoef(np.array(shifts).T)[0, 1]) < 0.4


def test_a_scale_magnifies_both_directions_alike() -> None:
    """A pure scale is the same for x and y, between the maximum and its inverse, and enlarges as often as it shrinks."""
    matrix_C23 = affine_matrices(replace(STILL, affine_scale=1.5))
    log_C = np.log(matrix_C23[:, 0, 0])
    np.testing.assert_allclose(matrix_C23, np.exp(log_C)[:, None, None] * np.eye(2, 3), atol=1e-4)
    assert log_C.min() == pytest.approx(-math.log(1.5), abs=0.03)
    assert log_C.max() == pytest.approx(math.log(1.5), abs=0.03)
    assert abs(log_C.mean()) < 0.1


def test_a_rotation_keeps_lengths_and_right_angles() -> None:
    """A pure rotation turns by up to the maximum angle in either direction."""
    matrix_C22 = affine_matrices(replace(STILL, affine_rotate=30.0))[:, :, :2]
    np.testing.assert_allclose(
        matrix_C22 @ matrix_C22.transpose(0, 2, 1), np.broadcast_to(np.eye(2), matrix_C22.shape), atol=1e-4
    )
    np.testing.assert_allclose(np.linalg.det(matrix_C22), 1.0, atol=1e-4)
    degrees_C = np.degrees(np.arctan2(matrix_C22[:, 1, 0], matrix_C22[:, 0, 0]))
    assert -30.01 < degrees_C.min() < -28
    assert 28 < degrees_C.max() < 30.01


def test_a_skew_slides_rows_sideways() -> None:
    """A pure skew moves x in proportion to y by up to the maximum angle in either direction; y stays."""
    matrix_C22 = affine_matrices(replace(STILL, affine_skew=30.0))[:, :, :2]
    degrees_C = np.degrees(np.arctan(matrix_C22[:, 0, 1]))
    matrix_C22[:, 0, 1] = 0.0
    np.testing.assert_allclose(matrix_C22, np.broadcast_to(np.eye(2), matrix_C22.shape), atol=1e-4)
    assert -30.01 < degrees_C.min() < -28
    assert 28 < degrees_C.max() < 30.01


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_dropped_frames_are_zeroed_completely(share: float) -> None:
    """About the requested share of frames is set to 0, the others are unchanged, and all still count as frames."""
    clips = random_clips([20] * 100, gaps=False)
    dropped = []
    for one in shown(clips, epoch(clips, AugmentConfig(drop_frames=1.0, drop_frames_share=share))):
        assert len(one.places_T) == 20
        empty_T = (one.after_T2P == 0).all(axis=(1, 2))
        assert (one.after_T2P[~empty_T] == one.before_T2P[~empty_T]).all()
        dropped.append(empty_T)
    assert near_share(int(np.sum(dropped)), 2000, share)
    assert near_share(int(np.sum([empty_T[0] for empty_T in dropped])), 100, share)


def test_one_part_is_dropped_for_a_whole_clip() -> None:
    """Exactly one of the four parts is set to 0 in all frames of a clip, each equally often; the others are unchanged."""
    clips = random_clips([3] * 400, gaps=False)
    count = dict.fromkeys(PARTS, 0)
    for one in shown(clips, epoch(clips, AugmentConfig(drop_parts=1.0))):
        empty = [name for name, where in PARTS.items() if (one.after_T2P[:, :, where] == 0).all()]
        (name,) = empty
        count[name] += 1
        expected_T2P = one.before_T2P.copy()
        expected_T2P[:, :, PARTS[name]] = 0.0
        assert (one.after_T2P == expected_T2P).all()
    assert all(near_share(hits, 400, 0.25) for hits in count.values())


def test_noise_has_its_standard_deviation() -> None:
    """Noise of the requested standard deviation is added to each detected number independently; undetected ones stay 0."""
    clips = random_clips([20] * 30)
    all_shown = shown(clips, epoch(clips, AugmentConfig(noise=1.0, noise_sd=0.05)))
    moved = np.concatenate([(one.after_T2P - one.before_T2P)[one.before_T2P != 0] for one in all_shown])
    assert moved.std() == pytest.approx(0.05, rel=0.02)
    assert abs(moved.mean()) < 0.001
    assert abs(np.corrcoef(moved[1:], moved[:-1])[0, 1]) < 0.02
    assert all((one.after_T2P[one.before_T2P == 0] == 0).all() for one in all_shown)


@pytest.mark.parametrize("kind", ["flip", "crop", "warp", "affine", "drop_frames", "drop_parts", "noise"])
@pytest.mark.parametrize("probability", [0.3, 0.8])
def test_augmentations_have_the_requested_probability(kind: str, probability: float) -> None:
    """The share of augmented clips is close to the probability, drawn for every batch; other clips are unchanged."""
    clips = random_clips([40] * 400, gaps=False)
    config = AugmentConfig(**{kind: probability}, crop_least=0.1, warp_most=4.0)
    hits = [
        len(one.places_T) != 40 or bool((one.after_T2P != one.before_T2P).any())
        for one in shown(clips, epoch(clips, config, size=8))
    ]
    assert near_share(sum(hits), 400, probability)


def test_augmentations_are_independent() -> None:
    """Flip and noise are drawn independently: each of the four cases has its expected share."""
    clips = random_clips([2] * 400, gaps=False)
    cases = []
    for one in shown(clips, epoch(clips, AugmentConfig(flip=0.5, noise=0.5, noise_sd=1e-4))):
        flipped = not np.allclose(one.after_T2P, one.before_T2P, atol=0.01)
        plain_T2P = mirrored_points(one.before_T2P) * np.array([[-1], [1]], np.float32) if flipped else one.before_T2P
        cases.append(2 * flipped + bool((one.after_T2P != plain_T2P).any()))
    assert all(near_share(hits, 400, 0.25) for hits in np.bincount(cases, minlength=4).tolist())


def test_without_augmentation_it_is_the_plain_epoch() -> None:
    """With all probabilities 0 the batches are those of `shuffled_batches`, and the augmentation generator is not used."""
    clips = random_clips(realistic_lengths(50, 0))
    config = AugmentConfig(crop_least=0.1, warp_most=4.0, noise_sd=1.0, drop_frames_share=1.0)
    assert config.is_off
    ours, plain, augment = (np.random.default_rng(seed) for seed in (3, 3, 4))
    before = augment.bit_generator.state
    pairs = zip(
        augmented_batches(clips, 8, config, order_rng=ours, augment_rng=augment, frames_multiple=2),
        shuffled_batches(clips, 8, plain, frames_multiple=2),
        strict=True,
    )
    for batch, expected in pairs:
        assert batch.frames_MF is None
        assert same(batch, expected)
    assert augment.bit_generator.state == before
    assert ours.bit_generator.state == plain.bit_generator.state


@pytest.mark.parametrize("kind", ["flip", "crop", "warp", "affine", "drop_frames", "drop_parts", "noise"])
def test_any_probability_switches_augmentation_on(kind: str) -> None:
    """Augmentation is off only if every probability is 0."""
    assert AugmentConfig().is_off
    assert not AugmentConfig(**{kind: 0.01}).is_off


def same(one: Batch, other: Batch) -> bool:
    """Whether two batches are equal bit for bit."""
    if (one.frames_MF is None) != (other.frames_MF is None) or one.blocks != other.blocks:
        return False
    arrays = [
        [batch.clips_B, batch.source_M, batch.position_M] + ([] if batch.frames_MF is None else [batch.frames_MF])
        for batch in (one, other)
    ]
    return all(a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in zip(*arrays, strict=True))


def test_which_clips_make_a_batch_depends_on_the_order_alone() -> None:
    """Other augmentations or draws leave the clips of each batch unchanged; another order generator does not."""
    clips = random_clips(realistic_lengths(50, 0))

    def members(config: AugmentConfig, order: int = 0, augment: int = 1) -> list[list[int]]:
        rngs = {"order_rng": np.random.default_rng(order), "augment_rng": np.random.default_rng(augment)}
        return [sorted(batch.clips_B.tolist()) for _ in range(2) for batch in augmented_batches(clips, 8, config, **rngs)]

    plain = members(AugmentConfig())
    assert plain == members(EVERYTHING) == members(SOMETIMES, augment=9)
    assert plain != members(EVERYTHING, order=2)


@pytest.mark.parametrize("config", [SOMETIMES, EVERYTHING], ids=["sometimes", "everything"])
def test_generators_decide_every_bit(config: AugmentConfig) -> None:
    """The same generators give the same epochs, also from midway in a run; the next epoch and other generators differ."""
    clips = random_clips(realistic_lengths(40, 0))

    def run(order: np.random.Generator, augment: np.random.Generator) -> list[Batch]:
        return list(augmented_batches(clips, 8, config, order_rng=order, augment_rng=augment))

    order, augment = np.random.default_rng(0), np.random.default_rng(1)
    first = run(order, augment)
    states = order.bit_generator.state, augment.bit_generator.state
    second = run(order, augment)
    assert all(map(same, first, epoch(clips, config, size=8)))
    assert not any(map(same, first, epoch(clips, config, size=8, seed=2)))
    assert not any(map(same, first, second))
    order, augment = np.random.default_rng(5), np.random.default_rng(6)
    order.bit_generator.state, augment.bit_generator.state = states
    assert all(map(same, second, run(order, augment)))


def test_an_augmented_epoch_contains_every_clip_once() -> None:
    """Each clip of a selection occurs once, with its own frames and label, and positions count from 0."""
    everyone = random_clips(realistic_lengths(60, 0))
    clips = everyone.select(np.arange(len(everyone)) % 3 == 0)
    batches = epoch(clips, SOMETIMES, size=8, multiple=2)
    assert sorted(np.concatenate([batch.clips_B for batch in batches]).tolist()) == list(range(len(clips)))
    assert [len(batch.clips_B) for batch in batches] == [8, 8, 4]
    for batch in batches:
        assert batch.frames_MF is not None
        assert batch.frames_MF.shape == (len(batch.source_M), NUM_FEATURES)
        assert batch.frames_MF.dtype == np.float32
        for _, rows in padded(batch):
            assert batch.position_M[rows].tolist() == list(range(rows.stop - rows.start))
            real = batch.source_M[rows] > 0
            assert real[: real.sum()].all()
            assert real[0]
    for one in shown(clips, batches):
        assert ((one.places_T >= 0) & (one.places_T < clips.lengths_C[one.clip])).all()


def test_the_clip_set_is_never_modified() -> None:
    """All augmentations together, over several epochs, leave the data unchanged; batches own the frames they change."""
    clips = random_clips(realistic_lengths(20, 0))
    assert not clips.frames_NF.flags.writeable
    before = clips.frames_NF.tobytes()
    for seed in range(3):
        for batch in epoch(clips, EVERYTHING, seed=seed):
            assert batch.frames_MF is not None
            assert not np.shares_memory(batch.frames_MF, clips.frames_NF)
    assert clips.frames_NF.tobytes() == before


@pytest.mark.parametrize(("multiple", "frames"), [(1, slice(0, 1)), (2, slice(2, 4))])
def test_a_clip_never_loses_its_only_detected_frame(multiple: int, frames: slice) -> None:
    """One detected frame (with pooling, one pair) among forty survives every crop and warp."""
    clip = np.zeros((40, NUM_FEATURES), np.float32)
    clip[frames] = 1.0
    clips = clip_set([clip] * 64, mask="detected")
    config = AugmentConfig(crop=1.0, crop_least=0.01, warp=1.0)
    for batch in epoch(clips, config, multiple=multiple):
        for _, rows in padded(batch):
            assert clips.real_N[batch.source_M[rows]].reshape(-1, multiple).all(axis=1).any()
