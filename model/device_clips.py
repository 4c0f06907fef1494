"""Batches on the device: the frames, and where each clip lies among them.

Everything about a batch is decided on the host and reaches a GPU by one copy that nothing waits for.
"""

# M rows of a batch, F features of a frame (260), B clips of a batch, C clips of a set, N rows of a clip set

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from data_utils.batches import NARROW, WIDE, Batch, Block, BlockRule
from data_utils.prepared import ClipSet
from model.device_errors import is_out_of_memory
from model.gpu_memory import available_memory
from model.layers import Layout

_ALIGNMENT = 16
"""Bytes at a multiple of which each array begins within a copy: the largest element and a load of four floats."""

_MASKED = np.finfo(np.float32).min

_MOST = 0.5
"""Share of the available memory that frames may take. The other half is for training: weights, optimizer states and what a
step keeps for its gradients, which grows with the width of the model, the batch and the number of trainings. Frames on the host
cost a step one copy of a few MB; too little memory costs a trial."""


class DeviceClips:
    """A clip set whose frames are on the device if they fit there."""

    def __init__(self, clips: ClipSet, device: torch.device) -> None:
        """Sets that were selected from the same one hold their frames once per device."""
        self.clips = clips
        self.device = device
        self._held = _hold(clips.frames_NF, device)

    @property
    def frames_NF(self) -> Float[Tensor, "N F"]:
        """The frames of the clip set, on the device, or on the CPU if they are too large for it."""
        return self._held.frames_NF

    @property
    def stays_on_host(self) -> bool:
        """Whether the frames are too large for the GPU, so that each batch is copied there."""
        return self._held.stays_on_host

    @property
    def rule(self) -> BlockRule:
        """Which clips batches for this device should put into one block."""
        return WIDE if self.device.type == "cuda" else NARROW

    def take(self, batch: Batch, pooling: str = "none") -> tuple[Float[Tensor, "M F"], Layout]:
        """The frames of a batch and their layout, on the device, for a model with this `ModelConfig.pooling`.

        Raises:
            ValueError: a clip has no frame left after pooling.
        """
        frames_MF, layout, _ = self.take_labeled(batch, pooling)
        return frames_MF, layout

    def take_labeled(self, batch: Batch, pooling: str = "none") -> tuple[Float[Tensor, "M F"], Layout, Int[Tensor, " B"]]:
        """Same as `take`, and the class numbers of the clips in the order of the batch."""
        plan = _Plan.of(batch.blocks, batch.position_M, self.clips.real_N[batch.source_M], pooling)
        frames = batch.frames_MF
        if frames is None and self.stays_on_host:
            frames = np.take(self.clips.frames_NF, batch.source_M, axis=0)
        first = batch.source_M if frames is None else frames
        sent = iter(_send([first, self.clips.labels_C[batch.clips_B], *plan.arrays], self.device))
        first_there, labels_B = next(sent), next(sent)
        return self.frames_NF[first_there] if frames is None else first_there, plan.layout(sent), labels_B


@dataclass(frozen=True)
class _Plan:
    """A layout on the host; its fields as in `Layout`."""

    blocks: tuple[Block, ...]
    position_M: np.ndarray
    real_M: np.ndarray
    count_B: np.ndarray
    pooled: _Plan | None

    padded: tuple[bool, ...]
    """For each block, whether a row of it is not real."""

    @classmethod
    def of(cls, blocks: tuple[Block, ...], position_M: np.ndarray, real_M: np.ndarray, pooling: str) -> _Plan:
        """Pooling by `average` keeps a pair of frames if both are real, by `max` if at least one is."""
        frames_B = np.repeat([block.frames for block in blocks], [block.clips for block in blocks])
        count_B = np.add.reduceat(real_M, np.cumsum(frames_B) - frames_B, dtype=np.int64)
        padded = ~np.logical_and.reduceat(real_M, [block.start for block in blocks])
        pooled = None
        if pooling != "none":
            halves = tuple(Block(block.start // 2, block.clips, block.frames // 2) for block in blocks)
            keep = np.logical_and if pooling == "average" else np.logical_or
            pooled = cls.of(halves, position_M[0::2] // 2, keep(real_M[0::2], real_M[1::2]), "none")
            if not pooled.count_B.all():
                what = f"a clip has no frame left after pooling by {pooling}"
                raise ValueError(f"{what}: it needs two consecutive real frames")
        return cls(blocks, position_M, real_M, count_B, pooled, tuple(padded.tolist()))

    @property
    def arrays(self) -> list[np.ndarray]:
        """What the device needs to know."""
        bias = [np.where(self.real_M, np.float32(0), _MASKED)] if any(self.padded) else []
        counts = np.maximum(self.count_B, 1).astype(np.float32)[:, None]
        return [self.position_M, self.real_M, counts, *bias, *([] if self.pooled is None else self.pooled.arrays)]

    def layout(self, sent: Iterator[Tensor]) -> Layout:
        """The layout, from `arrays` on the device."""
        position_M, real_M, count_B1 = next(sent), next(sent), next(sent)
        bias_M = next(sent) if any(self.padded) else None
        key_bias = tuple(
            bias_M[block.rows].view(block.clips, 1, 1, block.frames) if padded and bias_M is not None else None
            for block, padded in zip(self.blocks, self.padded, strict=True)
        )
        pooled = None if self.pooled is None else self.pooled.layout(sent)
        return Layout(self.blocks, position_M, real_M, key_bias, count_B1, pooled)


def _send(arrays: Sequence[np.ndarray], device: torch.device) -> list[Tensor]:
    """The arrays on the device. A GPU gets them by one copy from pinned memory, side by side; on the CPU nothing is copied."""
    if device.type == "cpu":
        return [torch.from_numpy(array) for array in arrays]
    ends = np.cumsum([-(-array.nbytes // _ALIGNMENT) * _ALIGNMENT for array in arrays]).tolist()
    places = [slice(start, start + array.nbytes) for start, array in zip([0, *ends], arrays, strict=False)]
    buffer = torch.empty(ends[-1], dtype=torch.uint8, pin_memory=True)
    for array, place in zip(arrays, places, strict=True):
        buffer[place].numpy().view(array.dtype).reshape(array.shape)[...] = array
    there = buffer.to(device, non_blocking=True)
    dtypes = [torch.from_numpy(array[:0]).dtype for array in arrays]
    return [there[place].view(dtype).view(array.shape) for array, place, dtype in zip(arrays, places, dtypes, strict=True)]


class _Held:
    """The frames of clip sets on a device."""

    def __init__(self, frames_NF: np.ndarray, device: torch.device) -> None:
        self.array = frames_NF  # kept, so that its id stays its own
        self.frames_NF = torch.from_numpy(frames_NF)
        self.stays_on_host = device.type != "cpu" and frames_NF.nbytes > _MOST * available_memory(device)
        if device.type == "cpu" or self.stays_on_host:
            return
        try:
            self.frames_NF = self.frames_NF.to(device)
        except RuntimeError as error:  # another process was faster, or the memory is in pieces
            if not is_out_of_memory(error):
                raise
            self.stays_on_host = True


_HELD: weakref.WeakValueDictionary[tuple[int, str, int], _Held] = weakref.WeakValueDictionary()
"""By the id of the array, and the device. An entry lives as long as a `DeviceClips` uses it."""


def _hold(frames_NF: np.ndarray, device: torch.device) -> _Held:
    key = (id(frames_NF), device.type, device.index or 0)
    held = _HELD.get(key)
    if held is None:
        held = _HELD[key] = _Held(frames_NF, device)
    return held
