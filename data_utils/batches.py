"""Packed batches: clips of similar length share a block, so that little padding is needed.

A batch is drawn uniformly at random. Its clips are sorted by length and divided into blocks of similar length; each block is
padded to its own longest clip. Frame-wise operations run over all rows at once, attention runs per block.
"""

# B clips of a batch, M rows of a batch (concatenated blocks, each of `clips x frames` rows)

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from data_utils.prepared import ClipSet


@dataclass(frozen=True)
class BlockRule:
    """Which clips are similar enough in length to share a block: those that satisfy one of the two."""

    ratio: float
    """The longest clip of a block is at most this many times as long as its shortest ..."""

    extra: int
    """... or has at most this many frames more."""


NARROW = BlockRule(1.25, 2)
"""Less than a tenth of the rows are padding. For the CPU, where a frame costs more than a block."""

WIDE = BlockRule(3.0, 16)
"""Fewer and larger blocks. For a GPU, where a block costs more than its padding: each takes about 20 launches per layer."""


@dataclass(frozen=True)
class Block:
    """Clips of similar length, in rows `start` to `start + clips * frames` of a batch."""

    start: int
    clips: int
    frames: int

    @property
    def rows(self) -> slice:
        """The rows of the block within the batch."""
        return slice(self.start, self.start + self.clips * self.frames)


@dataclass(frozen=True)
class Batch:
    """The frames of a clip set that form a batch, and their arrangement."""

    clips_B: np.ndarray
    """int64 `[B]`: clip indices in the order of the batch (shortest first)."""

    source_M: np.ndarray
    """int64 `[M]`: for each row of the batch, the row of the clip set; 0 (the empty frame) for padding."""

    position_M: np.ndarray
    """int64 `[M]`: frame index within the clip, from 0."""

    blocks: tuple[Block, ...]

    frames_MF: np.ndarray | None = None
    """float32 `[M, 260]`: the augmented frames of the batch; None without augmentation: the rows `source_M` of the clip set."""


@dataclass(frozen=True)
class Views:
    """A span of each selected clip, and the number of frames to which it is resampled."""

    start_B: np.ndarray
    """int64 `[B]`: first frame of the span."""

    kept_B: np.ndarray
    """int64 `[B]`: length of the span in frames of the clip."""

    shown_B: np.ndarray
    """int64 `[B]`: frames after resampling; each is the nearest frame of the span."""


def batch_of(
    clips: ClipSet, selected: np.ndarray, frames_multiple: int = 1, views: Views | None = None, rule: BlockRule = NARROW
) -> Batch:
    """A batch of the selected clips, whole or as in `views`. Each block has a multiple of `frames_multiple` frames."""
    shown = clips.lengths_C[selected] if views is None else views.shown_B
    by_length = np.argsort(shown, kind="stable")
    order, lengths = selected[by_length], shown[by_length]
    sources, positions, blocks = [], [], []
    first = start = 0
    while first < len(order):
        limit = max(lengths[first] * rule.ratio, lengths[first] + rule.extra)
        last = int(np.searchsorted(lengths, limit, side="right"))
        frames = -(-int(lengths[last - 1]) // frames_multiple) * frames_multiple
        frame = np.arange(frames)
        begin = clips.starts_C[order[first:last], None]
        place = frame if views is None else _source_frames(views, by_length[first:last], frame)
        source = np.where(frame < lengths[first:last, None], begin + place, 0)
        sources.append(source.reshape(-1))
        positions.append(np.tile(frame, last - first))
        blocks.append(Block(start, last - first, frames))
        start += source.size
        first = last
    return Batch(order, np.concatenate(sources), np.concatenate(positions), tuple(blocks))


def _source_frames(views: Views, which: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """`[clips, frames]`: for each frame after resampling, its frame within the clip."""
    kept, shown = views.kept_B[which, None], views.shown_B[which, None]
    return views.start_B[which, None] + (2 * frame + 1) * kept // (2 * shown)  # the frame's midpoint, in integers


def index_batches(count: int, batch_size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """The indices 0 to count - 1 in random order, in batches."""
    order = rng.permutation(count)
    for first in range(0, count, batch_size):
        yield order[first : first + batch_size]


def shuffled_batches(
    clips: ClipSet, batch_size: int, rng: np.random.Generator, frames_multiple: int = 1, rule: BlockRule = NARROW
) -> Iterator[Batch]:
    """One epoch: every clip once, in random order; the last batch may be smaller."""
    for selected in index_batches(len(clips), batch_size, rng):
        yield batch_of(clips, selected, frames_multiple, rule=rule)


def ordered_batches(
    clips: ClipSet, max_rows: int = 16384, frames_multiple: int = 1, rule: BlockRule = NARROW
) -> Iterator[Batch]:
    """Every clip once, shortest first, which needs the least padding. About `max_rows` frames per batch."""
    order = np.argsort(clips.lengths_C, kind="stable")
    bounds = np.cumsum(clips.lengths_C[order]) // max_rows
    for part in np.split(order, np.flatnonzero(np.diff(bounds)) + 1):
        yield batch_of(clips, part, frames_multiple, rule=rule)
