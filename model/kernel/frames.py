"""The real frames of clips, as the kernel takes them: masked frames and padding are left out, because they change no number."""

# C clips of a set, B clips of a batch, M real frames of a batch, R real frames of a set

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from data_utils.augment import AugmentConfig, augmented_batches
from data_utils.batches import Batch, index_batches
from data_utils.prepared import ClipSet
from model.kernel.binding import KernelBatch


class RealFrames:
    """Where the real frames of a clip set are."""

    def __init__(self, clips: ClipSet) -> None:
        self._clips = clips
        clip_R, self._position_R = _frames_of(clips.lengths_C)
        self._row_R = clips.starts_C[clip_R] + self._position_R
        real_R = clips.real_N[self._row_R]
        self._row_R, self._position_R = self._row_R[real_R], self._position_R[real_R]
        self._count_C = np.bincount(clip_R[real_R], minlength=len(clips))
        self._first_C = np.cumsum(self._count_C) - self._count_C

    def batch(self, selected: np.ndarray) -> KernelBatch:
        """The selected clips, in that order."""
        count_B = self._count_C[selected]
        clip_M, frame_M = _frames_of(count_B)
        index_M = self._first_C[selected][clip_M] + frame_M
        clips = self._clips
        return KernelBatch(
            clips.frames_NF, self._row_R[index_M], self._position_R[index_M], _first(count_B), clips.labels_C[selected]
        )

    def by_length(self, selected: np.ndarray) -> np.ndarray:
        """The selected clips, shortest first: clips of similar length share a panel."""
        return selected[np.argsort(self._count_C[selected], kind="stable")]

    def batches(
        self,
        batch_size: int,
        augment: AugmentConfig,
        *,
        order_rng: np.random.Generator,
        augment_rng: np.random.Generator,
    ) -> Iterator[KernelBatch]:
        """One epoch: the batches of `augmented_batches`."""
        if augment.is_off:
            for selected in index_batches(len(self._clips), batch_size, order_rng):
                yield self.batch(self.by_length(selected))
            return
        for batch in augmented_batches(self._clips, batch_size, augment, order_rng=order_rng, augment_rng=augment_rng):
            yield _augmented(self._clips, batch)


def _augmented(clips: ClipSet, batch: Batch) -> KernelBatch:
    """An augmented batch without its padding and its masked frames."""
    assert batch.frames_MF is not None, "augmentation makes new frames"
    row_M = np.flatnonzero(clips.real_N[batch.source_M])
    frames_B = np.repeat([block.frames for block in batch.blocks], [block.clips for block in batch.blocks])
    clip_M, _ = _frames_of(frames_B)
    count_B = np.bincount(clip_M[row_M], minlength=len(frames_B))
    return KernelBatch(batch.frames_MF, row_M, batch.position_M[row_M], _first(count_B), clips.labels_C[batch.clips_B])


def _frames_of(count_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`[M]`: the clip of each frame, and the frame's number within it."""
    clip_M = np.repeat(np.arange(len(count_B)), count_B)
    return clip_M, np.arange(len(clip_M)) - _first(count_B)[clip_M]


def _first(count_B: np.ndarray) -> np.ndarray:
    """`[B + 1]`: the first frame of each clip, and the number of all frames."""
    return np.concatenate([[0], np.cumsum(count_B)])
