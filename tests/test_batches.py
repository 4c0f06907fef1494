"""Batches: every clip once, every row correct, little padding, reproducible by seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_utils.batches import NARROW, WIDE, Batch, BlockRule, batch_of, ordered_batches, shuffled_batches
from data_utils.landmarks import NUM_FEATURES
from data_utils.prepared import ClipSet, clip_set


def clips_of(lengths: list[int]) -> ClipSet:
    """Clips whose frames contain clip number and frame number, both from 1."""
    made = []
    for number, length in enumerate(lengths, start=1):
        frames = np.zeros((length, NUM_FEATURES), np.float32)
        frames[:, 0], frames[:, 1] = number, np.arange(1, length + 1)
        made.append(frames)
    return clip_set(made)


def realistic_lengths(count: int, seed: int) -> list[int]:
    draws = np.exp(np.random.default_rng(seed).normal(np.log(23), 1.0, count))
    return np.clip(np.round(draws), 2, 404).astype(int).tolist()


def check(clips: ClipSet, batch: Batch) -> None:
    """Checks that each row of a batch is the right frame of the right clip, or padding that points at row 0."""
    rows = 0
    at = 0
    for block in batch.blocks:
        assert block.start == rows
        source = batch.source_M[block.rows].reshape(block.clips, block.frames)
        position = batch.position_M[block.rows].reshape(block.clips, block.frames)
        for row in range(block.clips):
            clip = int(batch.clips_B[at])
            length = int(clips.lengths_C[clip])
            assert length <= block.frames
            frames = clips.frames_NF[source[row]]
            assert (frames[:length, 0] == clip + 1).all()
            assert frames[:length, 1].tolist() == list(range(1, length + 1))
            assert (source[row, length:] == 0).all()
            assert position[row].tolist() == list(range(block.frames))
            at += 1
        rows += block.clips * block.frames
    assert rows == len(batch.source_M) == len(batch.position_M)
    assert at == len(batch.clips_B)


lengths = st.lists(st.integers(1, 60), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(
    lengths=lengths,
    size=st.integers(1, 12),
    seed=st.integers(0, 99),
    multiple=st.sampled_from([1, 2, 4]),
    rule=st.sampled_from([NARROW, WIDE]),
)
def test_an_epoch_holds_every_clip_once(lengths: list[int], size: int, seed: int, multiple: int, rule: BlockRule) -> None:
    """For any lengths, an epoch has each clip once and every row is the right frame."""
    clips = clips_of(lengths)
    batches = list(shuffled_batches(clips, size, np.random.default_rng(seed), multiple, rule))
    assert sorted(np.concatenate([batch.clips_B for batch in batches]).tolist()) == list(range(len(lengths)))
    assert [len(batch.clips_B) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    for batch in batches:
        check(clips, batch)
        assert all(block.frames % multiple == 0 for block in batch.blocks)


@settings(max_examples=40, deadline=None)
@given(lengths=lengths, rows=st.integers(1, 500))
def test_ordered_batches_hold_every_clip_once(lengths: list[int], rows: int) -> None:
    """Batches ordered by length also have each clip once, and are about as large as requested."""
    clips = clips_of(lengths)
    batches = list(ordered_batches(clips, rows))
    assert sorted(np.concatenate([batch.clips_B for batch in batches]).tolist()) == list(range(len(lengths)))
    for batch in batches:
        check(clips, batch)
        assert int(clips.lengths_C[batch.clips_B].sum()) <= rows + max(lengths)


def test_the_order_depends_on_the_seed_alone() -> None:
    """The same seed gives the same batches; another seed or a second epoch gives another order."""
    clips = clips_of(realistic_lengths(100, 0))

    def order(rng: np.random.Generator) -> list[int]:
        return [clip for batch in shuffled_batches(clips, 8, rng) for clip in batch.clips_B.tolist()]

    rng = np.random.default_rng(5)
    first, second = order(rng), order(rng)
    assert first == order(np.random.default_rng(5))
    assert first != second
    assert first != order(np.random.default_rng(6))


def test_batches_mix_lengths() -> None:
    """Batches are drawn at random, not by length: the mean length of a batch is close to that of the whole set."""
    clips = clips_of(realistic_lengths(960, 1))
    means = [clips.lengths_C[batch.clips_B].mean() for batch in shuffled_batches(clips, 32, np.random.default_rng(0))]
    assert np.std(means) < 2 * clips.lengths_C.std() / np.sqrt(32)


def test_wide_blocks_are_few() -> None:
    """With realistic lengths, a batch of 32 has about 4 blocks for a GPU, and at most as many rows of padding as real ones."""
    clips = clips_of(realistic_lengths(640, 0))
    batches = list(shuffled_batches(clips, 32, np.random.default_rng(0), rule=WIDE))
    assert 3 <= np.mean([len(batch.blocks) for batch in batches]) < 4.5
    assert (np.concatenate([batch.source_M for batch in batches]) == 0).mean() < 0.5


@pytest.mark.parametrize("seed", range(3))
def test_there_is_little_padding(seed: int) -> None:
    """With realistic lengths, less than 10% of batches of 32 is padding."""
    clips = clips_of(realistic_lengths(640, seed))
    sources = np.concatenate([b.source_M for b in shuffled_batches(clips, 32, np.random.default_rng(seed))])
    assert (sources == 0).mean() < 0.10


def test_equal_lengths_make_one_block() -> None:
    """Clips of one length are one block without padding."""
    batch = batch_of(clips_of([7] * 5), np.arange(5))
    assert [(block.clips, block.frames) for block in batch.blocks] == [(5, 7)]
    assert (batch.source_M > 0).all()


def test_rows_of_a_clip_set_are_consistent() -> None:
    """Row 0 is empty and not real; the rows of each clip follow those of the previous clip."""
    clips = clips_of([3, 1, 4])
    assert not clips.frames_NF[0].any()
    assert clips.real_N.tolist() == [False] + [True] * 8
    assert clips.starts_C.tolist() == [1, 4, 5]
    assert len(clips) == 3


def test_the_articles_mask_excludes_empty_frames() -> None:
    """With `mask="detected"` a frame without any number is not real; by lengths it is."""
    frames = np.ones((3, NUM_FEATURES), np.float32)
    frames[1] = 0
    assert clip_set([frames], mask="detected").real_N.tolist() == [False, True, False, True]
    assert clip_set([frames]).real_N.tolist() == [False, True, True, True]


@pytest.mark.parametrize("shape", [(0, NUM_FEATURES), (3, NUM_FEATURES - 1), (NUM_FEATURES,)])
def test_a_clip_of_the_wrong_shape_is_refused(shape: tuple[int, ...]) -> None:
    """Clips must be `[frames, 260]` with at least one frame; the error says which clip is not."""
    with pytest.raises(ValueError, match="clip 1 has shape"):
        clip_set([np.zeros((2, NUM_FEATURES), np.float32), np.zeros(shape, np.float32)])
