"""Batches without padding to the longest clip: clips of like length share a block.

A batch is drawn uniformly at random. Inside it the clips are sorted by length and cut into blocks of nearly equal
length; each block is padded to its own longest clip. Everything frame-wise then runs over all rows at once, attention block
by block.
"""

# B clips of a batch, M rows of a batch (blocks laid end to end, each `clips x frames` rows)

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from data_utils.prepared import ClipSet

_STRETCH = 1.25  # a block's longest clip is at most this much longer than its shortest ...
_SLACK = 2  # ... or this many frames


@dataclass(frozen=True)
class Block:
    """Clips of like length, as rows `start` to `start + clips * frames` of a batch."""

    start: int
    clips: int
    frames: int

    @property
    def rows(self) -> slice:
        """Its rows in the batch."""
        return slice(self.start, self.start + self.clips * self.frames)


@dataclass(frozen=True)
class Batch:
    """Which frames of a clip set make up a batch, and where each lies."""

    clips_B: np.ndarray
    """int64 `[B]`: clip numbers in the batch's order (shortest first)."""

    source_M: np.ndarray
    """int64 `[M]`: the clip set's row for each row of the batch; 0 (the empty frame) where there is padding."""

    position_M: np.ndarray
    """int64 `[M]`: frame number within the clip, from 0."""

    blocks: tuple[Block, ...]

    frames_MF: np.ndarray | None = None
    """float32 `[M, 260]`: the batch's frames where augmentation has changed them; None: they are the clip set's rows."""


@dataclass(frozen=True)
class Views:
    """Which stretch of each chosen clip is shown, and in how many frames."""

    start_B: np.ndarray
    """int64 `[B]`: first frame of the stretch."""

    kept_B: np.ndarray
    """int64 `[B]`: its length in frames of the clip."""

    shown_B: np.ndarray
    """int64 `[B]`: frames that are made of it; each is the nearest one of the stretch."""


def batch_of(clips: ClipSet, chosen: np.ndarray, frames_multiple: int = 1, views: Views | None = None) -> Batch:
    """The batch made of the chosen clips. Every block has a multiple of `frames_multiple` frames.

    With `views` each clip is shown as they say, else whole.
    """
    shown = clips.lengths_C[chosen] if views is None else views.shown_B
    by_length = np.argsort(shown, kind="stable")
    order, lengths = chosen[by_length], shown[by_length]
    sources, positions, blocks = [], [], []
    first = start = 0
    while first < len(order):
        limit = max(lengths[first] * _STRETCH, lengths[first] + _SLACK)
        last = int(np.searchsorted(lengths, limit, side="right"))
        frames = -(-int(lengths[last - 1]) // frames_multiple) * frames_multiple
        frame = np.arange(frames)
        begin = clips.starts_C[order[first:last], None]
        place = frame if views is None else _places(views, by_length[first:last], frame)
        source = np.where(frame < lengths[first:last, None], begin + place, 0)
        sources.append(source.reshape(-1))
        positions.append(np.tile(frame, last - first))
        blocks.append(Block(start, last - first, frames))
        start += source.size
        first = last
    return Batch(order, np.concatenate(sources), np.concatenate(positions), tuple(blocks))


def _places(views: Views, which: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """`[clips, frames]`: the frame of the clip that each shown frame is."""
    kept, shown = views.kept_B[which, None], views.shown_B[which, None]
    return views.start_B[which, None] + (2 * frame + 1) * kept // (2 * shown)  # the middle of the shown frame, in whole numbers


def batches_of_numbers(count: int, batch_size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """The numbers 0 to count - 1 in random order, in batches."""
    order = rng.permutation(count)
    for first in range(0, count, batch_size):
        yield order[first : first + batch_size]


def shuffled_batches(clips: ClipSet, batch_size: int, rng: np.random.Generator, frames_multiple: int = 1) -> Iterator[Batch]:
    """One epoch: every clip once, in random order; the last batch may be smaller."""
    for chosen in batches_of_numbers(len(clips), batch_size, rng):
        yield batch_of(clips, chosen, frames_multiple)


def ordered_batches(clips: ClipSet, max_rows: int = 16384, frames_multiple: int = 1) -> Iterator[Batch]:
    """Every clip once, shortest first: the cheapest order where order does not matter. About `max_rows` frames a batch."""
    order = np.argsort(clips.lengths_C, kind="stable")
    bounds = np.cumsum(clips.lengths_C[order]) // max_rows
    for part in np.split(order, np.flatnonzero(np.diff(bounds)) + 1):
        yield batch_of(clips, part, frames_multiple)
